"""Compare frames of two layers bit by bit: the functions that run inside Dask tasks.

Frames that have the same number in both, as in two runs of one program, are compared as they are stored: one
XOR of packed bits. Others are looked up one by one, and compared as booleans, some at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.compared_frames import ComparedFrames, ComparedValues
from analysis.kernels.selecting.source import Source, frames_of, read_trains, reader_of
from recorder.format.bits import (
    Bools,
    Counts,
    Integers,
    count_per_frame,
    count_per_neuron,
    mask_trains,
    pack_mask,
    unpack_trains,
)
from recorder.format.segments import Segments

# Slots that are compared as booleans at a time.
SLAB_SLOTS: Final = 2**24
_LOOKED_UP_FRAMES: Final = 2**20
# Packed bits that are compared at a time, so that they stay in the cache of a core.
_BLOCK_BYTES: Final = 2**18


@dataclass(frozen=True, eq=False)
class Alignment:
    """The rule by which a frame of one recording stands for one of another.

    A frame in a trial stands for that with the same time in the trial, which is its step minus the first step
    of the trial; frames outside of trials for those of the same step.

    Attributes
    ----------
    starts : tuple of two int64 arrays, shape [trials]
        First step of each trial, in the one and in the other recording; -1 where it was not presented.
    first_row : int64 array, shape [trials], or None
        Where samples are known by a column: the row of each trial's sample 0 in the next two arrays; -1 where
        there is none. None where samples of equal trial and number stand for each other.
    partners : int64 array, shape [2, rows], or None
        For each row the trial and the sample of the other recording; -1 where there is none.
    """

    starts: tuple[Integers, Integers]
    first_row: Integers | None = None
    partners: Integers | None = None

    def frames_for(self, one: Segments, other: Segments, frames: Integers, shift: int = 0) -> Integers:
        """Frames of the other layer that stand for frames of the one, ``shift`` steps later; -1 for none."""
        row = one.segment_of(frames)
        trial, sample = one.trial[row], one.samples_of(frames, row)
        step = one.steps_of(frames, row)
        in_trial = trial >= 0
        wanted_trial, wanted_sample = np.where(in_trial, trial, -1), sample
        is_known = np.ones(len(frames), np.bool_)
        if self.first_row is not None and self.partners is not None:
            first_row = _look_up(self.first_row, trial)
            at = np.where(first_row >= 0, first_row + sample, -1)
            wanted_trial = np.where(in_trial, _look_up(self.partners[0], at), -1)
            wanted_sample = np.where(in_trial, _look_up(self.partners[1], at), sample)
            is_known = ~in_trial | (wanted_trial >= 0)
        time = step - _look_up(self.starts[0], trial)
        start = _look_up(self.starts[1], wanted_trial)
        wanted_step = np.where(in_trial, start + time, step) + shift
        is_known &= ~in_trial | (start >= 0)
        if len(other) == 0:
            return np.full(len(frames), -1, np.int64)
        place = np.minimum(np.searchsorted(other.last_step, wanted_step, side="right"), len(other) - 1)
        inside = wanted_step - other.first_step[place]
        is_there = is_known & (inside >= 0) & (wanted_step < other.last_step[place])
        is_there &= (wanted_sample < other.batch[place]) & (other.trial[place] == wanted_trial)
        found = other.first_frame[place] + inside * other.batch[place] + wanted_sample
        return np.where(is_there, found, -1)


def _look_up(values: Integers, places: Integers) -> Integers:
    """Values at places; -1 for places that there are not, such as -1."""
    padded = np.append(values, -1)
    found: Integers = padded[np.where((places >= 0) & (places < len(values)), places, len(values))]
    return found


@dataclass(frozen=True, eq=False)
class Differences:
    """Differences between frames of two layers that stand for each other.

    Attributes
    ----------
    frames : int
        Frames that have a partner.
    only_one, only_other : int64 array, shape [neurons]
        Spikes of each neuron in one layer where the other has none, and the other way round.
    spikes : tuple of two int
        Spikes of the one and of the other layer in frames that have a partner.
    near : int
        Spikes of the one layer near which the same neuron of the other has one in the same presentation.
    by_time, by_sample : int64 array, shape [times], [samples]
        Differing slots; time as in `Alignment`, of frames outside of trials the step.
    first : tuple of int, or None
        Frame of the one layer, and neuron, of the first difference.
    unlike : int64 array, shape [neurons]
        Slots in which both fired, with values that differ; they count as differing slots, too.
    """

    frames: int
    only_one: Counts
    only_other: Counts
    spikes: tuple[int, int]
    near: int
    by_time: Counts
    by_sample: Counts
    first: tuple[int, int] | None
    unlike: Counts

    @classmethod
    def nothing(cls, neurons: int) -> Differences:
        """No differences, of no frames."""
        of_neurons, along = np.zeros(neurons, np.int64), np.zeros(0, np.int64)
        return cls(0, of_neurons, of_neurons, (0, 0), 0, along, along, None, of_neurons)


def add_differences(parts: Sequence[Differences]) -> Differences:
    """Sum of differences of several ranges of frames; the first is that of the smallest frame."""
    return Differences(
        sum(part.frames for part in parts),
        _sum([part.only_one for part in parts]),
        _sum([part.only_other for part in parts]),
        (sum(part.spikes[0] for part in parts), sum(part.spikes[1] for part in parts)),
        sum(part.near for part in parts),
        _sum([part.by_time for part in parts]),
        _sum([part.by_sample for part in parts]),
        min((part.first for part in parts if part.first is not None), default=None),
        _sum([part.unlike for part in parts]),
    )


def _sum(several: Sequence[Counts]) -> Counts:
    """Sum of arrays, the shorter ones continued by zeros."""
    total = np.zeros(max(map(len, several)), np.int64)
    for values in several:
        total[: len(values)] += values
    return total


def compare_frames(
    one: Source,
    other: Source,
    alignment: Alignment,
    first: int,
    last: int,
    times: int,
    samples: int,
    within: int = 0,
) -> Differences:
    """Compare frames ``first`` to ``last`` (exclusive) of one layer with those of the other.

    Parameters
    ----------
    one, other : Source
        Of the same selected neurons.
    alignment : Alignment
    first, last : int
    times, samples : int
        Lengths of `Differences.by_time` and `Differences.by_sample`.
    within : int
        Steps by which a spike may be off to count as near.

    Raises
    ------
    RecordingFormatError
        If a chunk is missing or damaged; it names file, layer and frames.
    """
    reader, frames = reader_of(one), frames_of(one)
    found = _Found(one.neurons, times, samples)
    size = reader.plan.chunk_frames
    chosen = _chunks_of(one, first, last)
    others = ComparedFrames(other, chosen)
    values = ComparedValues(one, other) if one.commit.values or other.commit.values else None
    for chunk, trains in zip(chosen, read_trains(one, chosen), strict=True):
        begin, end = max(first, chunk * size), min(last, (chunk + 1) * size)
        selected = frames.selected_frames(begin, end)
        partners = others.selected_only(alignment.frames_for(frames.segments, others.segments, selected))
        selected, partners = selected[partners >= 0], partners[partners >= 0]
        if len(selected) == 0:
            continue
        row = frames.segments.segment_of(selected)
        time = frames.segments.steps_of(selected, row)
        time = time - np.maximum(_look_up(alignment.starts[0], frames.segments.trial[row]), 0)
        sample = frames.segments.samples_of(selected, row)
        if values is None and within == 0 and others.size == size and (partners == selected).all():
            inside = selected - chunk * size
            found.add_packed(trains, others.next_chunk(chunk), inside, selected, time, sample)
            continue
        slab = max(SLAB_SLOTS // one.neurons, 1)
        for some in range(0, len(selected), slab):
            part = slice(some, some + slab)
            inside = selected[part] - chunk * size
            ones = unpack_trains(trains, int(inside[0]), int(inside[-1]) + 1)[inside - inside[0]]
            theirs = others.bits(partners[part])
            unlike = None if values is None else values.differ(ones, theirs, selected[part], partners[part])
            found.add(ones, theirs, selected[part], time[part], sample[part], unlike)
            if within:
                near = others.bits(partners[part])
                for shift in (*range(-within, 0), *range(1, within + 1)):
                    shifted = alignment.frames_for(frames.segments, others.segments, selected[part], shift)
                    near |= others.bits(others.selected_only(shifted))
                found.near += int(np.count_nonzero(ones & near))
    return found.result()


def first_unmatched(one: Source, other: Source, alignment: Alignment, first: int, last: int) -> int | None:
    """First selected one of frames ``first`` to ``last`` (exclusive) that stands for none of the other."""
    frames, others = frames_of(one), ComparedFrames(other, [])
    for begin in range(first, last, _LOOKED_UP_FRAMES):
        selected = frames.selected_frames(begin, min(begin + _LOOKED_UP_FRAMES, last))
        partners = others.selected_only(alignment.frames_for(frames.segments, others.segments, selected))
        alone = selected[partners < 0]
        if len(alone):
            return int(alone[0])
    return None


def _chunks_of(source: Source, first: int, last: int) -> list[int]:
    """Chunks with selected frames among ``first`` to ``last`` (exclusive)."""
    size = source.commit.plan.chunk_frames
    _, begin, end = frames_of(source).runs(first, last)
    touched = {
        chunk
        for low, high in zip(begin.tolist(), end.tolist(), strict=True)
        for chunk in range(low // size, -(-high // size))
    }
    return sorted(touched)


class _Found:
    """Differences found so far."""

    def __init__(self, neurons: int, times: int, samples: int) -> None:
        self._frames = 0
        self._only_one = np.zeros(neurons, np.int64)
        self._only_other = np.zeros(neurons, np.int64)
        self._spikes = [0, 0]
        self.near = 0
        self._by_time = np.zeros(times, np.int64)
        self._by_sample = np.zeros(samples, np.int64)
        self._first: tuple[int, int] | None = None
        self._unlike = np.zeros(neurons, np.int64)
        # Memory for the differing bits of a chunk: fresh one takes as long to come by as to fill.
        self._differing = np.empty((0, 0), np.uint8)

    def add_packed(
        self,
        one: NDArray[np.uint8],
        other: NDArray[np.uint8],
        inside: Integers,
        frames: Integers,
        time: Integers,
        sample: Integers,
    ) -> None:
        """Add frames ``inside`` of a chunk, given as packed trains, shape [neurons, bytes]."""
        length = one.shape[1] * 8
        if len(inside) < length:
            kept = np.zeros(length, np.bool_)
            kept[inside] = True
            mask = pack_mask(kept)
            one, other = mask_trains(one, mask), mask_trains(other, mask)
        self._frames += len(frames)
        if self._differing.shape != one.shape:
            self._differing = np.empty_like(one)
        differs = False
        beside = max(_BLOCK_BYTES // one.shape[1], 1)
        for first in range(0, len(one), beside):
            some = slice(first, first + beside)
            ones, differing = one[some], np.bitwise_xor(one[some], other[some], out=self._differing[some])
            spikes, per_neuron = int(count_per_neuron(ones).sum()), count_per_neuron(differing)
            self._spikes[0] += spikes
            self._spikes[1] += spikes
            if per_neuron.any():
                differs = True
                only_one = count_per_neuron(differing & ones)
                only_other = per_neuron - only_one
                self._only_one[some] += only_one
                self._only_other[some] += only_other
                self._spikes[1] += int(only_other.sum() - only_one.sum())
        if differs:
            per_frame = count_per_frame(self._differing)[inside]
            self._note(
                *(per_frame, frames, time, sample),
                lambda at: _neuron_at(self._differing, int(inside[at])),
            )

    def add(
        self,
        one: Bools,
        other: Bools,
        frames: Integers,
        time: Integers,
        sample: Integers,
        unlike: Bools | None = None,
    ) -> None:
        """Add frames, given as booleans, shape [frames, neurons]; ``unlike`` where values differ."""
        self._frames += len(frames)
        self._spikes[0] += int(np.count_nonzero(one))
        self._spikes[1] += int(np.count_nonzero(other))
        self._only_one += (one & ~other).sum(axis=0, dtype=np.int64)
        self._only_other += (other & ~one).sum(axis=0, dtype=np.int64)
        differing = one ^ other
        if unlike is not None:
            differing |= unlike
            self._unlike += unlike.sum(axis=0, dtype=np.int64)
        per_frame = differing.sum(axis=1, dtype=np.int64)
        self._note(per_frame, frames, time, sample, lambda place: int(np.argmax(differing[place])))

    def _note(
        self,
        per_frame: Counts,
        frames: Integers,
        time: Integers,
        sample: Integers,
        neuron_at: Callable[[int], int],
    ) -> None:
        differing = np.flatnonzero(per_frame)
        if len(differing) == 0:
            return
        np.add.at(self._by_time, time[differing], per_frame[differing])
        np.add.at(self._by_sample, sample[differing], per_frame[differing])
        if self._first is None:
            self._first = int(frames[differing[0]]), neuron_at(int(differing[0]))

    def result(self) -> Differences:
        """The sum."""
        return Differences(
            self._frames,
            self._only_one,
            self._only_other,
            (self._spikes[0], self._spikes[1]),
            self.near,
            self._by_time,
            self._by_sample,
            self._first,
            self._unlike,
        )


def _neuron_at(trains: NDArray[np.uint8], frame: int) -> int:
    """First neuron that spikes in a frame of packed trains."""
    return int(np.argmax(trains[:, frame // 8] & (128 >> frame % 8)))


def bounds_of(source: Source, task_bytes: int) -> Iterator[tuple[int, int]]:
    """Ranges of frames of a layer, whole chunks, of about so many packed bytes each."""
    plan, frames = source.commit.plan, reader_of(source).frames
    step = max(task_bytes // max(plan.chunk_bytes * plan.neurons, 1), 1) * plan.chunk_frames
    for first in range(0, frames, step):
        yield first, min(first + step, frames)
