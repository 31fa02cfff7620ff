"""The grammar of ``per``: what a statistic is asked to keep apart.

A question is a product of independent choices: whether recordings and layers are kept apart, the axes along
which frames are, and the places within a layer. ``per="step"`` makes one of them, ``per=("label", "neuron")``
two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from analysis.arguments import QuestionError, listed, texts, whole_number
from analysis.kernels.counting.tallying import Place

Per = str | Sequence[str]

# What frames have besides the columns of the trials, which users name.
FRAME_WORDS: Final = ("step", "window", "time", "trial", "sample", "presentation")
PER: Final = ("network", "layer", "neuron", "channel", *FRAME_WORDS, "recording")


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
