"""Compare the signals of two layers that have the same names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from dask.delayed import delayed

from analysis.comparison.results import Divergence, SignalComparison
from analysis.display import shape_text
from analysis.kernels.compared_signals import (
    ValueDifferences,
    add_value_differences,
    compare_values,
    value_bounds,
)
from analysis.kernels.comparing import Alignment
from analysis.kernels.selecting.source import Source, frames_of
from analysis.kernels.signals.neurons import commit_of, neurons_of
from spiketape_worker import Parcel


class SignalWork:
    """The tasks that compare one signal of one layer in all recordings, and what they have found.

    Parameters
    ----------
    name : str
    ones, others : sequence of Source
        The layer in each recording, and in its counterpart.
    pairings : sequence of Alignment
        Of each recording.
    task_bytes : int
        Bytes that a task should read.
    """

    def __init__(
        self,
        name: str,
        ones: Sequence[Source],
        others: Sequence[Source],
        pairings: Sequence[Alignment],
        task_bytes: int,
    ) -> None:
        self.name = name
        self._ones = [source.of_signal(name) for source in ones]
        self._others = [source.of_signal(name) for source in others]
        self._pairings = pairings
        self._found: list[ValueDifferences] = []
        self._why_not = _unlike(self._ones, self._others)
        sides = [] if self._why_not else list(zip(self._ones, self._others, pairings, strict=True))
        self._tasks = [
            [
                delayed(Parcel(compare_values))(Parcel(one), Parcel(other), Parcel(alignment), *bounds)
                for bounds in value_bounds(one, task_bytes)
            ]
            for one, other, alignment in sides
        ]

    @property
    def tasks(self) -> list[Any]:
        """All tasks, in the order in which `take` takes their results."""
        return [task for each in self._tasks for task in each]

    def take(self, results: Iterator[ValueDifferences]) -> None:
        """Take the results of the tasks."""
        self._found = [add_value_differences([*islice(results, len(each))]) for each in self._tasks]

    def result(self, names: Sequence[str]) -> SignalComparison:
        """The outcome; ``names`` are those of the recordings."""
        total = add_value_differences(self._found or [ValueDifferences()])
        frames = [sum(frames_of(source).frames for source in side) for side in (self._ones, self._others)]
        neurons = len(neurons_of(self._ones[0]).flat)
        firsts = [self._divergence(member, names) for member in range(len(self._found))]
        return SignalComparison(
            layer=self._ones[0].layer,
            name=self.name,
            frames=total.frames,
            unmatched=(frames[0] - total.frames, frames[1] - total.frames),
            values=total.frames * neurons,
            differing=total.differing,
            largest=total.largest,
            first=min((each for each in firsts if each is not None), key=lambda at: at.step, default=None),
            why_not=self._why_not,
        )

    def _divergence(self, member: int, names: Sequence[str]) -> Divergence | None:
        first = self._found[member].first
        if first is None:
            return None
        source = self._ones[member]
        frame, place = first
        flat, shape = int(neurons_of(source).flat[place]), commit_of(source).shape
        neuron = tuple(int(index) for index in np.unravel_index(flat, shape)) if shape else ()
        return divergence_at(source, frame, neuron, self._pairings[member], names[member])


def divergence_at(
    source: Source, frame: int, neuron: tuple[int, ...], alignment: Alignment, recording: str
) -> Divergence:
    """The place of a slot, or of a value, in words that people use."""
    segments, frames = frames_of(source).segments, np.array([frame], np.int64)
    row = segments.segment_of(frames)
    places = segments.steps_of(frames, row), segments.trial[row], segments.samples_of(frames, row)
    step, trial, sample = (int(place[0]) for place in places)
    return Divergence(
        layer=source.layer,
        step=step,
        trial=trial if trial >= 0 else None,
        time=step - int(alignment.starts[0][trial]) if trial >= 0 else step,
        sample=sample,
        neuron=neuron,
        recording=recording,
    )


def _unlike(ones: Sequence[Source], others: Sequence[Source]) -> str:
    """Why no value of the one stands for one of the other; empty if they do."""
    for source, other in zip(ones, others, strict=True):
        one, two = commit_of(source), commit_of(other)
        if one.dtype != two.dtype:
            return f"{one.dtype} in a, {two.dtype} in b"
        if one.shape != two.shape:
            return f"values of {shape_text(one.shape)} in a, of {shape_text(two.shape)} in b"
        if not np.array_equal(neurons_of(source).flat, neurons_of(other).flat):
            return "of other neurons in a than in b"
    return ""


def common_signals(
    ones: Sequence[Source], others: Sequence[Source]
) -> tuple[list[str], tuple[str, ...], tuple[str, ...]]:
    """Signals that all recordings of both sides have, and those of a alone and of b alone."""
    sides = []
    for side in (ones, others):
        every = [[signal.name for signal in source.commit.signals] for source in side]
        sides.append([name for name in every[0] if all(name in names for names in every)])
    a, b = sides
    only_a, only_b = (tuple(n for n in one if n not in two) for one, two in ((a, b), (b, a)))
    return [name for name in a if name in b], only_a, only_b
