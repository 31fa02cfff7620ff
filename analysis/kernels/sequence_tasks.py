"""Tally intervals, latencies and lags over a range of frames: the functions that run inside Dask tasks.

A sequence may go over the border between two tasks. So a task gives its sums and what its neighbours must
know of it; sums of neighbours are joined in order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final, Literal

import numpy as np

from analysis.formulas.integers import Floats
from analysis.kernels.counting.tallying import Place, places_of
from analysis.kernels.counting.tasks import chunks_with_frames, slices_of
from analysis.kernels.events.interval_tally import IntervalSums, IntervalTally, Kind, join_intervals
from analysis.kernels.events.lag_tally import LagSums, LagTally, join_lags
from analysis.kernels.events.latency_tally import LatencySums, LatencyTally, join_latencies
from analysis.kernels.selecting.coding import CodedGroups
from analysis.kernels.selecting.grouping import frames_of_steps
from analysis.kernels.selecting.pieces import Pieces
from analysis.kernels.selecting.sequences import Boundary, Sequences, sequences_of
from analysis.kernels.selecting.source import Source, frames_of, read_trains, reader_of
from recorder.format.bits import Counts, Integers, Packed

Sums = IntervalSums | LatencySums | LagSums

# Trains of sequences wait for the rest of them up to this size, that of some chunks.
KEPT_BYTES: Final = 16 * 2**20


@dataclass(frozen=True)
class Tallied:
    """The thing that is tallied: what of it, and how far.

    Attributes
    ----------
    what : {"moments", "histogram", "cv2", "lv", "latency", "lags"}
        The first four are of intervals.
    most : int
        The longest interval that has a bin of its own, or the largest lag.
    """

    what: Kind | Literal["latency", "lags"]
    most: int = 0

    @property
    def columns(self) -> int:
        """Numbers for each group and place."""
        return {"histogram": self.most + 1, "latency": 4, "lags": 4 * self.most}.get(self.what, 3)


def tally_frames(
    source: Source,
    groups: CodedGroups,
    first: int,
    last: int,
    place: Place,
    tallied: Tallied,
    boundary: Boundary,
) -> Sums:
    """Tally frames ``first`` to ``last`` (exclusive) of a source, in groups and places.

    Raises
    ------
    RecordingFormatError
        If a chunk is missing or damaged; it names file, layer and frames.
    """
    places = math.prod(places_of(source.neuron_shape, place))
    place_of_neuron = np.arange(source.neurons, dtype=np.int64) // (source.neurons // places)
    samples = int(frames_of(source).segments.batch.max(initial=1))
    room = place_of_neuron, len(groups), places, samples
    if tallied.what == "lags":
        lags = LagTally(*room, tallied.most)
        for trains, pieces in _pieces(
            source, groups, _halo(source, first, tallied.most, boundary), first, boundary
        ):
            lags.add(trains, pieces, counting=False)
        for trains, pieces in _pieces(source, groups, first, last, boundary, KEPT_BYTES):
            lags.add(trains, pieces)
        return lags.result()
    tally = (
        LatencyTally(*room) if tallied.what == "latency" else IntervalTally(*room, tallied.what, tallied.most)
    )
    # Pairs of intervals are looked at event by event in any case.
    kept_bytes = 0 if tallied.what in ("cv2", "lv") else KEPT_BYTES
    for trains, pieces in _pieces(source, groups, first, last, boundary, kept_bytes):
        tally.add(trains, pieces)
    return tally.result()


def _pieces(
    source: Source, groups: CodedGroups, first: int, last: int, boundary: Boundary, kept_bytes: int = 0
) -> Iterator[tuple[Packed, Pieces]]:
    """Trains of a range of frames with the pieces of frames in them, chunk by chunk.

    Frames of sequences that go on in the next chunk wait for it, if the trains of a whole sequence take no
    more bytes than this: loops over words want whole sequences.
    """
    reader, frames, sequences = reader_of(source), frames_of(source), sequences_of(source, boundary)
    chunks = chunks_with_frames(reader, frames, first, last)
    waiting, start, done = np.zeros((source.neurons, 0), np.uint8), 0, first
    for chunk, trains in zip(chunks, read_trains(source, chunks), strict=True):
        for frame, asked_first, asked_last, some in slices_of(reader, chunk, trains, first, last):
            behind = start + waiting.shape[1] * 8
            if waiting.shape[1] and behind != frame:
                yield waiting, groups.pieces(source, done, behind, start, sequences)
                waiting = waiting[:, :0]
            joined = np.concatenate([waiting, some], axis=1) if waiting.shape[1] else some
            if not waiting.shape[1]:
                start, done = frame, asked_first
            cut = asked_last
            if kept_bytes and asked_last < last:
                cut = max(_unfinished_from(source, sequences, asked_last, kept_bytes), done)
            if done < cut:
                yield joined, groups.pieces(source, done, cut, start, sequences)
            word = (cut - start) // 64
            # Trains are valid until the next.
            waiting = joined[:, word * 8 :].copy() if cut < asked_last else joined[:, :0]
            start, done = start + word * 64, cut
    if waiting.shape[1]:
        yield waiting, groups.pieces(source, done, start + waiting.shape[1] * 8, start, sequences)


def _unfinished_from(source: Source, sequences: Sequences, frame: int, kept_bytes: int) -> int:
    """First frame of the sequences that go on at a frame; that frame itself if none does or they are long."""
    frames, segments = frames_of(source), frames_of(source).segments
    row, _, end = frames.runs(frame - 1, frame)
    if len(row) == 0:
        return frame
    step = segments.steps_of(end - 1, row)
    # Of the samples of a step, the first one's sequence began first.
    begin, behind = sequences.bounds(row, np.zeros_like(row), step)
    size = int((behind - begin)[0]) * int(segments.batch[row[0]]) * source.neurons // 8
    is_finished = int(frames_of_steps(segments, behind)[0]) <= frame
    return frame if is_finished or size > kept_bytes else int(frames_of_steps(segments, begin)[0])


def _halo(source: Source, first: int, steps: int, boundary: Boundary) -> int:
    """Frame from which on events matter for those from frame ``first`` on, that are so many steps later.

    None in front of the sequences that the frame is in do.
    """
    segments = frames_of(source).segments
    row, begin, _ = frames_of(source).runs(first, first + 1)
    if len(row) == 0:
        return first
    step = segments.steps_of(begin, row)
    # Of the samples of a step, the first one's sequence began first.
    start, _ = sequences_of(source, boundary).bounds(row, np.zeros_like(row), step)
    earliest = np.maximum(step - steps, start)
    return min(int(frames_of_steps(segments, earliest)[0]), first)


def join_sums(several: Sequence[Sums]) -> Sums:
    """Sums of tasks whose frames follow each other."""
    join: Any = {IntervalSums: join_intervals, LatencySums: join_latencies, LagSums: join_lags}[
        type(several[0])
    ]
    joined: Sums = reduce(join, several)
    return joined


def columns_of_sums(sums: Sums, groups: tuple[int, ...], places: tuple[int, ...]) -> Counts:
    """Sums as an array, int64 [*groups, *places, columns].

    Columns are, of intervals, as in `analysis.kernels.events.plain_loops.add_intervals`; of latencies their
    number, sum, sum of squares, and the number of presentations without one; of lags, one behind the other
    for each lag: pairs of events, events of the first marginal, of the second, and pairs of slots.
    """
    if isinstance(sums, IntervalSums):
        columns = sums.sums
    elif isinstance(sums, LatencySums):
        columns = np.concatenate([sums.moments, sums.censored()[..., None]], axis=-1)
    else:
        columns = np.concatenate([sums.pairs, sums.earlier, sums.later, sums.slots], axis=-1)
    return columns.reshape((*groups, *places, -1))


def figure_of_columns(sums: Counts, formula: Callable[..., Floats], columns: tuple[int, ...]) -> Floats:
    """A formula of some columns of sums, int64 [..., columns]: float64 [...]."""
    return formula(*(sums[..., column] for column in columns))


def largest_batch(source: Source) -> int:
    """Largest batch of the selected frames."""
    batch: Integers = frames_of(source).segments.batch
    return int(batch.max(initial=0))
