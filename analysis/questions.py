"""The grammar of ``per``: what a statistic is asked to keep apart.

A question is a product of independent choices: whether recordings and layers are kept apart, how time is cut
into groups, and which places within a layer are kept apart. ``per="step"`` makes one of them, ``per=("label",
"neuron")`` two.
"""

from __future__ import annotations

import math
import operator
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from analysis.kernels.selection import Labels, Selection
from analysis.kernels.tallying import Place
from recorder.format.columns import Value, identity

Time = Literal["step", "window", "trial", "label"]
Per = str | Sequence[str]

PER = ("network", "layer", "neuron", "channel", "step", "window", "trial", "label", "recording")


@dataclass(frozen=True)
class Question:
    """The parts that a question keeps apart.

    Attributes
    ----------
    recordings : bool
        Recordings that were opened together; otherwise they are pooled.
    layers : bool
        Layers; likewise.
    time : {None, "step", "window", "trial", "label"}
        Groups of frames.
    window : int
        Steps in a window.
    place : {"all", "channel", "neuron"}
        Places within a layer.
    """

    recordings: bool
    layers: bool
    time: Time | None
    window: int
    place: Place


def parse_question(per: Per, window: int | None) -> Question:
    """Read what a user passed as ``per`` and ``window``.

    Raises
    ------
    QuestionError
        Naming what is unknown, twice there, or missing, and what is valid.
    TypeError
        If ``window`` is no integer.
    """
    words = [per] if isinstance(per, str) else list(per)
    for word in words:
        if word not in PER:
            raise QuestionError(
                f"per={per!r}: {word!r} is unknown; expected {_listed(PER)}, or several of them"
            )
    times: list[Time] = [word for word in get_args(Time) if word in words]
    places: list[Place] = [word for word in get_args(Place) if word in words]
    for several in (times, places):
        if len(several) > 1:
            raise QuestionError(f"per={per!r} asks for {_listed(several, 'and')} at once; choose one of them")
    if "window" not in words and window is not None:
        raise QuestionError(f'window={window!r} was given, but per={per!r}; pass per="window" with it')
    if "window" in words:
        if window is None:
            raise QuestionError(
                'per="window" needs the length of a window in steps: window=1000, for instance'
            )
        try:
            window = operator.index(window)
        except TypeError:
            raise TypeError(
                f"window is {window!r} ({type(window).__name__}); expected a number of steps"
            ) from None
        if window < 1:
            raise QuestionError(f"window={window} steps; expected 1 or more")
    return Question(
        recordings="recording" in words,
        layers="layer" in words,
        time=times[0] if times else None,
        window=window or 1,
        place=places[0] if places else "all",
    )


def _listed(words: Sequence[str], last: str = "or") -> str:
    quoted = [repr(word) for word in words]
    return f"{', '.join(quoted[:-1])} {last} {quoted[-1]}"


def narrow_steps(
    selection: Selection, steps: slice | None, recorded_steps: Callable[[], int], end: Callable[[], int]
) -> Selection:
    """A selection narrowed to some steps.

    Parameters
    ----------
    selection : Selection
    steps : slice or None
        As in Python, without a stride; negative bounds count from the last recorded step.
    recorded_steps : callable
        Returns the number of steps recorded, for a bound that is left out.
    end : callable
        Returns the number of steps that negative bounds are counted back from.
    """
    if steps is None:
        return selection
    if not isinstance(steps, slice):
        raise TypeError(
            f"steps is {steps!r} ({type(steps).__name__}); expected a slice such as slice(1000, 2000)"
        )
    if steps.step not in (None, 1):
        raise QuestionError(f"steps={steps!r} has a stride of {steps.step}; only every step can be selected")
    first = _bound(0 if steps.start is None else steps.start, end)
    last = recorded_steps() if steps.stop is None else _bound(steps.stop, end)
    if selection.steps is not None:
        first, last = max(first, selection.steps[0]), min(last, selection.steps[1])
    return Selection((first, max(first, last)), selection.trials, selection.labels)


def _bound(given: Any, end: Callable[[], int]) -> int:
    try:
        bound = operator.index(given)
    except TypeError:
        raise TypeError(
            f"steps has the bound {given!r} ({type(given).__name__}); expected whole numbers"
        ) from None
    # Nothing is recorded that late; a bound beyond would not fit the integers that steps are kept in.
    return min(bound, 2**62) if bound >= 0 else max(bound + end(), 0)


def narrow_trials(selection: Selection, trials: int | slice | Iterable[int] | None, begun: int) -> Selection:
    """A selection narrowed to some trials, of which ``begun`` have been begun."""
    if trials is None:
        return selection
    chosen: tuple[int, ...] | range
    if isinstance(trials, slice):
        chosen = range(begun)[trials]
        chosen = chosen if chosen.step > 0 else chosen[::-1]
    else:
        listed = _as_list(trials)
        try:
            chosen = tuple(sorted({operator.index(trial) for trial in listed}))
        except TypeError:
            raise TypeError(f"trials is {trials!r}; expected numbers of trials, or a slice of them") from None
        unknown = [trial for trial in chosen if not 0 <= trial < begun]
        if unknown:
            there = (
                f"0 to {begun - 1}" if begun else "none: nothing was recorded inside `with monitor.trial():`"
            )
            raise QuestionError(f"there is no trial {unknown[0]}; the trials are {there}")
    if selection.trials is not None:
        chosen = _in_both(chosen, selection.trials)
    return Selection(selection.steps, chosen, selection.labels)


def _in_both(one: tuple[int, ...] | range, other: tuple[int, ...] | range) -> tuple[int, ...] | range:
    """Numbers in both, ascending as each of the two is; ranges are never written out."""
    if isinstance(one, tuple) or isinstance(other, tuple):
        listed, rest = (one, other) if isinstance(one, tuple) else (other, one)
        known = rest if isinstance(rest, range) else set(rest)
        return tuple(number for number in listed if number in known)
    wide, narrow = sorted((one, other), key=lambda numbers: numbers.step, reverse=True)
    first = bisect_left(wide, narrow.start)
    # If there is a common number, one is among the next so many.
    common = next((number for number in wide[first : first + narrow.step] if number in narrow), None)
    if common is None:
        return range(0)
    return range(common, min(one.stop, other.stop), math.lcm(one.step, other.step))


def narrow_labels(
    selection: Selection, labels: Value | Iterable[Value] | None, recorded: Callable[[], Sequence[Value]]
) -> Selection:
    """A selection narrowed to samples with some labels; ``recorded`` returns the labels there are."""
    if labels is None:
        return selection
    valid = recorded()
    given = [value.item() if hasattr(value, "item") else value for value in _as_list(labels)]
    if all(type(value) is float for value in valid):
        # As the recorder does with whole numbers that come to a column of floats.
        given = [float(value) if type(value) is int else value for value in given]
    chosen = set(map(identity, given))
    known = set(map(identity, valid))
    for value in given:
        if identity(value) not in known:
            there = ", ".join(map(repr, valid[:50])) + (", …" if len(valid) > 50 else "")
            there = there or "none: record them with `with monitor.trial(label=...):`"
            raise QuestionError(f"no sample is labelled {value!r}; the labels are {there}")
    kept = Labels(value for value in valid if identity(value) in chosen)
    if selection.labels is not None:
        kept = Labels(value for value in kept if value in selection.labels)
    return Selection(selection.steps, selection.trials, kept)


def narrow_recordings(names: Sequence[str], recordings: str | Iterable[str] | None) -> list[int]:
    """Places of the chosen ones among the recordings of these names, in their order."""
    if recordings is None:
        return list(range(len(names)))
    chosen = _as_list(recordings)
    unknown = [name for name in chosen if name not in names]
    if unknown or not chosen:
        there = ", ".join(map(repr, names[:50])) + (", …" if len(names) > 50 else "")
        what = f"no recording is named {unknown[0]!r}" if unknown else "no recording is selected"
        raise QuestionError(f"{what}; the recordings are {there}")
    return [place for place, name in enumerate(names) if name in chosen]


def _as_list(given: Any) -> list[Any]:
    """Several values as a list, a single one as a list of it."""
    if isinstance(given, str) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:
        return [given]
    return list(given)


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


class QuestionError(ValueError):
    """A statistic or a selection was asked for that this recording cannot give."""
