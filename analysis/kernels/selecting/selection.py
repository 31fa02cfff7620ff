"""The part of a recording that a question is about, as a few plain values that travel with every task.

The frames that a selection stands for are worked out where they are needed, from the segments and the table
of trials: see `analysis.kernels.selecting.selected_frames`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recorder.format.bits import Integers
from recorder.format.columns import Value, identity
from recorder.format.segments import Segments

Indices = tuple[int, ...] | range


class Labels(tuple[Value, ...]):
    """Some labels, in order, of which ``True``, ``1``, ``1.0`` and ``"1"`` are four.

    To Python three of them are equal, and so would be two selections, or sources, that differ in no more.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, tuple) and [*map(identity, self)] == [*map(identity, other)]

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(tuple(map(identity, self)))

    def __contains__(self, value: object) -> bool:
        return any(type(label) is type(value) and label == value for label in self)

    @classmethod
    def different(cls, values: Iterable[Value]) -> Labels:
        """Each of the values once, in order of first appearance."""
        return cls({identity(value): value for value in values}.values())

    @classmethod
    def numbers_ascending(cls, values: Iterable[Value]) -> Labels:
        """Each of the values once: numbers ascending; in order of first appearance if there are others."""
        labels = cls.different(values)
        numbers = [label for label in labels if type(label) in (int, float)]
        if len(numbers) < len(labels):
            return labels
        return cls(sorted(numbers, key=lambda number: (number, type(number) is float)))


Condition = tuple[str, Labels]

_ALL_FRAMES = (None, None, None, None, ())


@dataclass(frozen=True)
class Selection:
    """The part to which a user has narrowed a recording; None stands for everything.

    Attributes
    ----------
    steps : tuple of int, optional
        First step and the step behind the last one.
    trials : tuple of int or range, optional
        Numbers of trials, ascending. A range takes no memory, however many trials a stranger's recording
        claims.
    times : tuple of int, optional
        First time, and the time behind the last one: steps since the first step of the trial. Frames outside
        of trials have no time, and are left out.
    samples : tuple of int or range, optional
        Numbers of samples in the batch, ascending.
    where : tuple of (str, Labels)
        Columns of the trials, and values of each, of which a sample has one in every column.
    neurons : tuple of (tuple of int or range), optional
        Indices along each neuron axis, ascending.
    """

    steps: tuple[int, int] | None = None
    trials: Indices | None = None
    times: tuple[int, int] | None = None
    samples: Indices | None = None
    where: tuple[Condition, ...] = ()
    neurons: tuple[Indices, ...] | None = None

    def cut(self, segments: Segments, starts: Callable[[Integers], Integers]) -> Segments:
        """The part of the segments in the selected steps, trials and times.

        ``starts`` gives the first step of each trial that it is given the number of.
        """
        if self.steps is not None:
            segments = segments.select_steps(*self.steps)
        if self.trials is not None:
            segments = segments.select(contains(self.trials, segments.trial))
        if self.times is not None:
            segments = segments.select(segments.trial >= 0)
            start = starts(segments.trial)
            segments = segments.select_steps(start + self.times[0], start + self.times[1])
        return segments

    @property
    def has_all_frames(self) -> bool:
        """True if no frame is left out; neurons may be."""
        # Compared as a whole: asked of each layer of a thousand recordings.
        return (self.steps, self.trials, self.times, self.samples, self.where) == _ALL_FRAMES

    def parts(self) -> dict[str, Sequence[Value]]:
        """What frames are selected by, as it is shown: names, and bounds or values."""
        where = {f"{name}s" if name == "label" else name: values for name, values in self.where}
        parts = {"steps": self.steps, "times": self.times, "trials": self.trials, "samples": self.samples}
        return {name: values for name, values in (parts | where).items() if values is not None}

    def token(self) -> tuple[object, ...]:
        """Plain values that stand for the selection, in the names of arrays."""
        where = [(column, tuple(values)) for column, values in self.where]
        return self.steps, self.trials, self.times, self.samples, where, self.neurons

    def has_trials(self, numbers: Integers) -> NDArray[np.bool_]:
        """True for each number of a trial that is selected."""
        return np.ones(len(numbers), np.bool_) if self.trials is None else contains(self.trials, numbers)

    def with_condition(self, column: str, values: Labels) -> Selection:
        """A selection that also asks for one of these values in a column."""
        before = dict(self.where).get(column)
        kept = values if before is None else Labels(value for value in values if value in before)
        return replace(self, where=tuple(sorted({**dict(self.where), column: kept}.items())))


def contains(indices: Indices, numbers: Integers) -> NDArray[np.bool_]:
    """True for each number that is one of the indices."""
    if isinstance(indices, range):
        inside = (numbers >= indices.start) & (numbers < indices.stop)
        chosen: NDArray[np.bool_] = inside & ((numbers - indices.start) % indices.step == 0)
        return chosen
    return np.isin(numbers, np.array(indices, np.int64))


def count_below(indices: Indices, numbers: Integers) -> Integers:
    """Number of indices, ascending, that are smaller than each number."""
    if isinstance(indices, range):
        below = -(-(numbers - indices.start) // indices.step)
        return np.clip(below, 0, len(indices))
    return np.searchsorted(np.array(indices, np.int64), numbers, side="left").astype(np.int64)
