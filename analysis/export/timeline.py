"""Presentations laid end to end on one line of time, and spikes as positions on it.

Tools of neuroscience know one line of time for all neurons, where a network sees many inputs side by side.
So presentations are laid behind each other: recording after recording, by first step, sample after sample.
Each takes the steps from its first to its last; positions count steps from 0 on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from dask.delayed import delayed

from analysis.arguments import QuestionError, real_number, text
from analysis.export.contents import Contents, Run
from analysis.export.cutting import part_bounds
from analysis.export.presentations import Presentations
from analysis.kernels.counting.tasks import add_up, count_each
from analysis.kernels.exporting.positions import Offsets, find_positions
from analysis.kernels.selecting.grouping import count_up
from analysis.kernels.selecting.source import Source, frames_of, real_neurons
from analysis.statistics.answers.durations import SECONDS
from recorder.format.bits import Integers
from recorder.format.segments import merge_ranges
from spiketape_worker import Parcel

# Events in memory at a time, or those of one neuron.
SLAB_EVENTS: Final = 2**22
PART_BYTES: Final = 16 * 2**20
# Positions that float64 has exactly.
_MOST_STEPS: Final = 2**53


@dataclass(frozen=True, eq=False)
class Timeline:
    """Presentations of recordings, laid end to end.

    Attributes
    ----------
    presentations : sequence of Presentations
        Those of each recording.
    starts : sequence of int64 array
        Position at which each of them begins.
    steps : int
        Length of the whole line.
    seconds : float
        Duration of a step.
    """

    presentations: Sequence[Presentations]
    starts: Sequence[Integers]
    steps: int
    seconds: float

    def observed(self, sources: Sequence[Source]) -> Integers:
        """Positions at which a layer was recorded, int64 [ranges, 2], the second of each exclusive.

        They are cut where the layer was not called, and at lost steps, not where presentations touch.
        """
        parts = [np.empty((0, 2), np.int64)]
        for member, source in enumerate(sources):
            frames = frames_of(source)
            segments, slot_at, offset = frames.segments, *self._slots(member, source)
            row, sample = np.repeat(np.arange(len(segments)), segments.batch), count_up(segments.batch)
            kept = frames.has_samples(row, sample)
            row = row[kept]
            at = offset[slot_at[row] + sample[kept]]
            parts.append(np.stack([at + segments.first_step[row], at + segments.last_step[row]], axis=1))
        return merge_ranges(np.concatenate(parts))

    def offsets(self, member: int, source: Source, first: int, last: int) -> Offsets:
        """What turns steps in a range of frames of a layer into positions."""
        slot_at, offset = self._slots(member, source)
        row = frames_of(source).runs(first, last)[0]
        if not len(row):
            return Offsets(0, slot_at[:0], offset[:0])
        batch = frames_of(source).segments.batch[row]
        begin, end = int(slot_at[row].min()), int((slot_at[row] + batch).max())
        return Offsets(int(row[0]), slot_at[row] - begin, offset[begin:end])

    def _slots(self, member: int, source: Source) -> tuple[Integers, Integers]:
        """For each segment of the selected frames where its samples begin, and the offset of each sample."""
        found = self.presentations[member]
        offset = np.zeros(len(found.place), np.int64)
        kept = found.place >= 0
        offset[kept] = (self.starts[member] - found.first_step)[found.place[kept]]
        return found.place_at[found.stretches_of(frames_of(source).segments)], offset


def timeline_of(contents: Contents, dt: float | None, dt_unit: str | None) -> Timeline:
    """Lay the selected presentations end to end.

    Raises
    ------
    QuestionError
        If nobody knows how long a step is, two durations are given, or the line would be too long.
    """
    seconds = _seconds(contents, dt, dt_unit)
    starts, total = [], 0
    for found in contents.presentations:
        if sum(map(int, found.steps)) + total > _MOST_STEPS:
            raise QuestionError("these presentations have more than 2 ** 53 steps; select some of them")
        ends = total + np.cumsum(found.steps)
        starts.append(ends - found.steps)
        total = int(ends[-1]) if len(ends) else total
    return Timeline(contents.presentations, starts, total, seconds)


def _seconds(contents: Contents, dt: float | None, dt_unit: str | None) -> float:
    """Duration of a step in seconds."""
    given = None
    if dt is not None:
        unit = "s" if dt_unit is None else text(dt_unit, "dt_unit", "a unit of time")
        given = float(real_number(dt, "dt", "the duration of a step")), unit
    if dt is None and dt_unit is not None:
        raise QuestionError(f"dt_unit={dt_unit!r} was given without dt; pass the duration of a step, too")
    recorded = contents.members.step_duration
    duration = recorded or given
    if duration is None:
        raise QuestionError(
            "how long a step is was not recorded, or differs between these recordings, and times are in "
            'seconds here; pass it, as in dt=1.0, dt_unit="ms", and record with Monitor(..., dt=, dt_unit=)'
        )
    length, unit = duration
    if unit not in SECONDS:
        raise QuestionError(
            f"a step takes {length:g} {unit!r}; expected a unit of time: {', '.join(map(repr, SECONDS))}"
        )
    if not 0 < length < float("inf"):
        raise QuestionError(f"dt={length!r}; expected a positive duration")
    seconds = length * SECONDS[unit]
    if given is not None and given[1] in SECONDS and given[0] * SECONDS[given[1]] != seconds:
        raise QuestionError(
            f"dt={given[0]:g} {given[1]!r} was given, and {length:g} {unit!r} was recorded; leave dt out"
        )
    return seconds


def count_events(sources: Sequence[Source], run: Run) -> Integers:
    """Events of each selected neuron of a layer in all recordings: int64 [neurons]."""
    tasks = [delayed(Parcel(count_each))(Parcel([source])) for source in sources]
    return add_up([counts for (counts,) in run(*tasks)])


def spike_positions(
    timeline: Timeline, sources: Sequence[Source], counts: Integers, run: Run
) -> Iterator[tuple[Integers, Integers]]:
    """Positions of the events of a layer, ascending for each neuron: some neurons at a time.

    Every chunk is read once for each `SLAB_EVENTS` events.

    Parameters
    ----------
    timeline : Timeline
    sources : sequence of Source
    counts : int64 array, shape [neurons]
        As from `count_events`.
    run : callable
        Function that computes, as `dask.compute` does.

    Yields
    ------
    neurons, positions : int64 array
        Indices in the whole layer, ascending, and the positions of all of them, one neuron behind the other.
    """
    number = real_neurons(sources[0])
    parts = [
        (Parcel(source), first, last, Parcel(timeline.offsets(member, source, first, last)))
        for member, source in enumerate(sources)
        for first, last in part_bounds(source, PART_BYTES)
    ]
    find = delayed(Parcel(find_positions))
    for begin, end in pairwise(_slabs(counts)):
        some = slice(begin, end)
        found = run(*(find(source, first, last, some, offsets) for source, first, last, offsets in parts))
        neuron, position = (np.concatenate(column) for column in zip(*found, strict=True))
        yield number[some], _in_order(np.searchsorted(number[some], neuron), position, timeline.steps)


def _in_order(neuron: Integers, position: Integers, steps: int) -> Integers:
    """Positions below ``steps``, ascending for each neuron, one neuron behind the other."""
    if (int(neuron.max(initial=0)) + 1) * steps >= 2**63:
        return position[np.lexsort((position, neuron))]
    # One number for both is sorted several times as fast.
    both = neuron * steps + position
    both.sort()
    return both % max(steps, 1)


def _slabs(counts: Integers) -> list[int]:
    """Neurons where slabs begin, and their number."""
    bounds, ends = [0], np.cumsum(counts)
    while bounds[-1] < len(counts):
        before = int(ends[bounds[-1] - 1]) if bounds[-1] else 0
        bounds.append(max(int(np.searchsorted(ends, before + SLAB_EVENTS, side="right")), bounds[-1] + 1))
    return bounds
