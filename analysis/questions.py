"""The grammar of ``per``: what a statistic is asked to keep apart, and by which names.

A question is a product of independent choices: whether recordings and layers are kept apart, the axes along
which frames are, and the places within a layer. ``per="step"`` makes one of them, ``per=("label", "neuron")``
two.

Columns of the trials are asked for by their own names, and shown under these. But answers have names, axes
and coordinates of their own, such as ``firing_rate``, ``step``, ``lag`` or ``defined``. A column that has
such a name is shown as ``trial_step``, and asked for by that name, so that neither hides the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from analysis.arguments import QuestionError, listed, texts, whole_number
from analysis.kernels.counting.tallying import Place
from recorder.format.columns import KEYS

Per = str | Sequence[str]

# What frames have besides the columns of the trials, which users name.
FRAME_WORDS: Final = ("step", "window", "time", "trial", "sample", "presentation")
PER: Final = ("network", "layer", "neuron", "channel", *FRAME_WORDS, "recording")

# Axes of neurons, of values that statistics tell apart, and of what they are made of inside.
_AXES: Final = (
    *("depth", "height", "width", "length", r"axis_\d+", "frame"),
    *("interval", "lag", "rate_bin", "active", "bin", "weight_layer", "kind", "column"),
)
# What stands beside figures, and names of lazy arrays.
_BESIDE: Final = (
    *("defined", "longer", "rate_bin_end", "lower", "upper", "outside", "ties", "presentations"),
    *("input_layer", "spikes", "values"),
)
# Figures, which are called as the statistics are that give them.
_FIGURES: Final = (
    *("accuracy", "active_histogram", "autocorrelation", "correlation", "counted_operations", "energy"),
    *("fano_factor", "features", "firing_rate", "information", "isi_cv", "isi_cv2", "isi_histogram"),
    *("isi_lv", "isi_mean", "latency", "latency_censored", "participation_ratio", "rate_histogram"),
    *("saturated_ratio", "selectivity", "silent_ratio", "similarity", "sparseness", "spike_count"),
    *("synaptic_operations", "synchrony"),
    *("mean", "std", "min", "max", "histogram", "spike_triggered_average"),
)
_DURATIONS: Final = r"(?:step|window|time|interval|lag)_(?:s|ms|us|µs|μs|ns)"
_WORDS: Final = [word for word in PER if word not in KEYS]
_TAKEN: Final = re.compile("|".join([*_WORDS, *_AXES, *_BESIDE, *_FIGURES, _DURATIONS]))


@dataclass(frozen=True)
class Question:
    """The parts that a question keeps apart.

    Attributes
    ----------
    recordings : bool
        Recordings that were opened together; otherwise they are pooled.
    layers : bool
        Layers; likewise.
    along : tuple of str
        Axes of frames, in the order in which they were asked for: some of `FRAME_WORDS`, or names of columns
        of the trials.
    window : int
        Steps in a window.
    place : {"all", "channel", "neuron"}
        Places within a layer.
    columns : mapping of str to str
        Where an axis is a column, the name under which it is stored.
    """

    recordings: bool
    layers: bool
    along: tuple[str, ...]
    window: int
    place: Place
    columns: Mapping[str, str] = field(default_factory=dict)


def parse_question(per: Per, window: int | None, columns: Mapping[str, str] | None = None) -> Question:
    """Read what a user passed as ``per`` and ``window``.

    Parameters
    ----------
    per, window
        As in `analysis.statistics.activity.Activity.firing_rate`.
    columns : mapping of str to str, optional
        Columns of the trials: the names by which they are asked for, and those under which they are stored.

    Raises
    ------
    QuestionError
        Naming what is unknown, twice there, or missing, and what is valid.
    """
    words = words_of(per)
    columns = columns or {}
    for word in words:
        _check_word(word, per, columns)
    doubled = [word for word in dict.fromkeys(words) if words.count(word) > 1]
    if doubled:
        raise QuestionError(f"per={per!r} asks for {doubled[0]!r} twice")
    places: list[Place] = [word for word in get_args(Place) if word in words]
    for several in (places, [word for word in ("step", "window") if word in words]):
        if len(several) > 1:
            raise QuestionError(f"per={per!r} asks for {listed(several, 'and')} at once; choose one of them")
    if "presentation" in words and {"trial", "sample"} & set(words):
        raise QuestionError(
            f"per={per!r}: a presentation is a trial and a sample already; leave the other words out"
        )
    along = tuple(word for word in words if word in FRAME_WORDS or word in columns)
    return Question(
        recordings="recording" in words,
        layers="layer" in words,
        along=along,
        window=_check_window(window, words, per),
        place=places[0] if places else "all",
        columns={word: columns[word] for word in along if word in columns},
    )


def words_of(per: Per) -> tuple[str, ...]:
    """The words of ``per``; ArgumentTypeError if these are not all text."""
    return texts(per, "per", 'what to keep apart: a word such as "layer", or several')


def _check_word(word: str, per: Per, columns: Mapping[str, str]) -> None:
    if word in PER or word in columns:
        return
    if word == "label":
        raise QuestionError(
            'per="label": no labels were recorded; record with `with monitor.trial(label=...):`'
        )
    there = (
        f"a column of the trials, which are {listed([*columns])}"
        if columns
        else "a column of the trials, of which there is none"
    )
    raise QuestionError(
        f"per={per!r}: {word!r} is unknown; expected {', '.join(map(repr, PER))}, {there}; or several of them"
    )


def _check_window(window: Any, words: Sequence[str], per: Per) -> int:
    if "window" not in words:
        if window is None:
            return 1
        raise QuestionError(f'window={window!r} was given, but per={per!r}; pass per="window" with it')
    if window is None:
        raise QuestionError('per="window" needs the length of a window in steps: window=1000, for instance')
    return whole_number(window, "window", "a number of steps", least=1)


class UnknownLayerError(KeyError):
    """The recording has no layer of this name.

    Attributes
    ----------
    name : object
        What was asked for.
    valid : tuple of str
        Names of the layers there are.
    """

    def __init__(self, name: object, valid: Iterable[str]) -> None:
        self.name = name
        self.valid = tuple(valid)
        super().__init__(name, self.valid)

    def __str__(self) -> str:
        # KeyError itself would show the message as a quoted literal.
        names = ", ".join(map(repr, self.valid)) or "none: nothing was recorded"
        return f"no layer is named {self.name!r}; the layers are: {names}"


class UncoveredOperationsWarning(UserWarning):
    """Weight layers are left out, as spikes alone do not tell how many operations they do."""


class PooledPartsWarning(UserWarning):
    """Layers are pooled of which not the same samples or trials were kept."""


class ManyUnitsWarning(UserWarning):
    """More units than tools for NWB are made for."""


def shown_name(stored: str) -> str:
    """Name under which a column is shown: its own, or ``trial_`` before one that is taken.

    Examples
    --------
    >>> shown_name("epoch"), shown_name("step"), shown_name("trial_step")
    ('epoch', 'trial_step', 'trial_trial_step')
    """
    return _told_apart(stored, lambda name: _TAKEN.fullmatch(name) is not None)


def free_name(name: str, taken: Collection[Hashable]) -> str:
    """Name of a column in a table that has others: its own, or ``trial_`` before one that is taken.

    Examples
    --------
    >>> free_name("epoch", ["step"]), free_name("step", ["step"]), free_name("trial_step", ["step"])
    ('epoch', 'trial_step', 'trial_trial_step')
    """
    return _told_apart(name, lambda each: each in taken)


def _told_apart(name: str, is_taken: Callable[[str], bool]) -> str:
    bare = name
    while bare.startswith("trial_") and not is_taken(bare):
        bare = bare.removeprefix("trial_")
    return f"trial_{name}" if is_taken(bare) else name
