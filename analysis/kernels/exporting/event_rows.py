"""Events of a layer as rows: neuron after neuron, and of each neuron frame after frame.

Trains are stored neuron by neuron, so rows come in this order without being sorted. Some are made at a time,
so that memory does not grow with the number of events.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.counting.tasks import chunks_with_frames
from analysis.kernels.events.by_group import loops
from analysis.kernels.selecting.grouping import count_up
from analysis.kernels.selecting.pieces import Runs
from analysis.kernels.selecting.selected_frames import SelectedFrames
from analysis.kernels.selecting.source import Source, frames_of, read_trains, reader_of, real_neurons
from recorder.format.bits import Integers, Packed, count_per_neuron
from recorder.format.planes.values import SIGN, scale_levels

# Rows made at a time, about: those of whole neurons, or some of one neuron that has more.
ROWS: Final = 2**20


class EventRows(NamedTuple):
    """Events of a layer; arrays of shape [events], ascending by neuron, then by frame.

    Attributes
    ----------
    neuron : int32, or int64 where that does not hold all of the layer
        Flat index in the whole layer, in C order.
    segment : int32
        Index of the segment among those of the selected frames, see `frames_of`.
    sample : int32, or int64 of batches that are larger
    step : int64
    value : array, optional
        What the layer put out, see `value_dtype`; of layers with values other than 0 and 1, if asked for.
    """

    neuron: NDArray[np.signedinteger[Any]]
    segment: NDArray[np.signedinteger[Any]]
    sample: NDArray[np.signedinteger[Any]]
    step: Integers
    value: NDArray[Any] | None


def value_dtype(source: Source) -> np.dtype[Any] | None:
    """Data type of the values of events; None for a layer of zeros and ones.

    That of the layer's output, and float32 for half precision, which few tools read; it holds all of it.
    """
    if source.commit.values is None:
        return None
    dtype = source.commit.dtype
    return np.dtype("float32" if dtype in ("float16", "bfloat16") else dtype)


def event_rows(
    source: Source, first: int, last: int, neurons: slice = slice(None), *, values: bool = False
) -> Iterator[EventRows]:
    """Events in the selected ones of frames ``first`` to ``last`` (exclusive), some at a time.

    Parameters
    ----------
    source : Source
    first, last : int
    neurons : slice
        Some of the selected neurons.
    values : bool
        Whether values are wanted, too, where the layer has others than 0 and 1.

    Raises
    ------
    RecordingFormatError
        If a chunk is missing or damaged; it names file, layer and frames.
    """
    frames = frames_of(source)
    planes = source.commit.values.planes if values and source.commit.values else ()
    names = [plane.name for plane in planes]
    joined = _join_chunks(source, frames, first, last, neurons, names)
    if not joined.chunks:
        return
    number = real_neurons(source)[neurons].astype(_smallest(math.prod(source.commit.shape)))
    counts = count_per_neuron(joined.trains)
    for begin, end in pairwise(_bounds(counts)):
        # One neuron may have more events than are wanted at a time: then some frames come after the others.
        step = joined.frames if end - begin > 1 else ROWS
        for some in range(0, joined.frames, step):
            runs, segment = joined.runs(frames, some, min(some + step, joined.frames))
            room = int(counts[begin:end].sum())
            rows = _list(joined, runs, begin, end, min(room, (end - begin) * step))
            if not len(rows.neuron):
                continue
            value = _values(source, joined, runs, begin, rows) if values else None
            yield EventRows(number[begin:end][rows.neuron], segment[rows.segment], *rows[2:4], value)


def _bounds(counts: Integers) -> list[int]:
    """Neurons where rows are cut, the first is 0 and the last their number."""
    bounds, sums = [0], np.cumsum(counts)
    while bounds[-1] < len(counts):
        begin = bounds[-1]
        before = int(sums[begin - 1]) if begin else 0
        bounds.append(max(int(np.searchsorted(sums, before + ROWS, side="right")), begin + 1))
    return bounds


@dataclass(frozen=True, eq=False)
class _Joined:
    """Trains of some chunks of a layer, one behind the other.

    Attributes
    ----------
    trains : uint8 array, shape [neurons, bytes]
    planes : dict of str to such an array
        Planes of the layer's values.
    chunks : list of int
    chunk_frames : int
    first, last : int
        Frames ``first`` to ``last`` (exclusive) are meant.
    """

    trains: Packed
    planes: dict[str, Packed]
    chunks: list[int]
    chunk_frames: int
    first: int
    last: int

    @property
    def frames(self) -> int:
        """Frames in the trains, meant or not."""
        return len(self.chunks) * self.chunk_frames

    def runs(self, frames: SelectedFrames, begin: int, end: int) -> tuple[Runs, Integers]:
        """Runs of selected frames in frames ``begin`` to ``end`` of the trains, and their segments."""
        parts = []
        for place in range(begin // self.chunk_frames, -(-end // self.chunk_frames)):
            origin = (self.chunks[place] - place) * self.chunk_frames
            begins = max(begin, place * self.chunk_frames) + origin
            ends = min(end, (place + 1) * self.chunk_frames) + origin
            row, first, last = frames.runs(max(begins, self.first), min(ends, self.last))
            inside = first < last
            parts.append(np.stack([row, first, last, np.full(len(row), origin)])[:, inside])
        row, first, last, origin_of = np.concatenate([np.empty((4, 0), np.int64), *parts], axis=1)
        segments = frames.segments
        batch = segments.batch[row]
        masked = frames.masked[row]
        samples = np.where(masked, batch, 0)
        chosen = frames.has_samples(np.repeat(row, samples), count_up(samples))
        runs = Runs(
            begin=first - origin_of,
            end=last - origin_of,
            first_step=segments.steps_of(first, row),
            skipped=segments.samples_of(first, row),
            batch=np.ascontiguousarray(batch),
            chosen_at=np.where(masked, np.cumsum(samples) - samples, -1),
            chosen=chosen,
        )
        return runs, row.astype(np.int32)


def _join_chunks(
    source: Source, frames: SelectedFrames, first: int, last: int, neurons: slice, planes: Sequence[str]
) -> _Joined:
    reader = reader_of(source)
    chunks = chunks_with_frames(reader, frames, first, last)
    size = reader.plan.chunk_frames
    width = len(range(*neurons.indices(source.neurons)))

    def joined(bits: Source) -> Packed:
        trains = np.empty((width, len(chunks) * size // 8), np.uint8)
        for place, some in enumerate(read_trains(bits, chunks)):
            trains[:, place * size // 8 : (place + 1) * size // 8] = some[neurons]
        return trains

    of_planes = {name: joined(source.of_bits((name,))) for name in planes}
    return _Joined(joined(source), of_planes, chunks, size, first, last)


def _list(joined: _Joined, runs: Runs, begin: int, end: int, room: int) -> EventRows:
    """Events of neurons ``begin`` to ``end`` of the trains; neurons count from there, segments are runs."""
    neuron, run = np.empty((2, room + 1), np.int32)
    sample = np.empty(room + 1, _smallest(int(runs.batch.max(initial=0))))
    step = np.empty(room + 1, np.int64)
    events = loops().list_in_runs(joined.trains[begin:end], runs, neuron, run, step, sample)
    return EventRows(neuron[:events], run[:events], sample[:events], step[:events], None)


def _smallest(numbers: int) -> type[np.signedinteger[Any]]:
    """Data type of so many numbers from 0 on."""
    return np.int32 if numbers < 2**31 else np.int64


def _values(source: Source, joined: _Joined, runs: Runs, begin: int, rows: EventRows) -> NDArray[Any] | None:
    """Values of events as `_list` gives them."""
    dtype, values = value_dtype(source), source.commit.values
    if dtype is None or values is None:
        return None
    run = rows.segment
    place = (rows.step - runs.first_step[run]) * runs.batch[run] + rows.sample
    frame = place - runs.skipped[run] + runs.begin[run]

    def bits(plane: str) -> Integers:
        found: Integers = joined.planes[plane][begin + rows.neuron, frame >> 3].astype(np.int64)
        found >>= 7 - (frame & 7)
        return found & 1

    levels = np.ones(len(run), np.int64)
    for plane in joined.planes.keys() - {SIGN}:
        levels += bits(plane) << int(plane)
    if SIGN in joined.planes:
        levels[bits(SIGN) == 1] *= -1
    return scale_levels(levels, values.scale, source.commit.dtype).astype(dtype)
