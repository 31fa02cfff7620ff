"""Sums of products of the counts of each two neurons, of which correlations are made.

An *observation* is a bin of so many steps of one sequence, or a single step: the spikes of each neuron, or of
each channel, in it. Only whole bins are observed, counted from the first step of the sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from analysis.formulas.correlation import pearson
from analysis.formulas.integers import Floats, matrix_product
from analysis.kernels.counting.tasks import chunks_with_frames
from analysis.kernels.events.by_group import labels_of
from analysis.kernels.selecting.coding import Axis, CodedGroups
from analysis.kernels.selecting.grouping import Grouping, count_up
from analysis.kernels.selecting.pieces import LaneRuns, Pieces
from analysis.kernels.selecting.sequences import Boundary, sequences_of
from analysis.kernels.selecting.source import Source, frames_of, read_trains, reader_of
from recorder.format.bits import Counts, Integers, Packed, count_per_frame

# Counts of each neuron in each frame are made for so many elements at a time.
SLAB_ELEMENTS = 2**24
_WORD_FRAMES = 64


@dataclass(frozen=True)
class Observed:
    """The things of which pairs are looked at, and their bins.

    Attributes
    ----------
    series : int
        Number of neurons or channels.
    chosen : tuple of int, optional
        Places of neurons among those that are selected; None for all, or for channels.
    channels : bool
        Whether spikes of the neurons of a channel are added up.
    window : int
        Steps in a bin.
    boundary : int, "none" or None
        The end of sequences outside of trials, see `analysis.kernels.selecting.sequences`.
    """

    series: int
    chosen: tuple[int, ...] | None
    channels: bool
    window: int
    boundary: Boundary

    def counts(self, trains: Packed, first: int, last: int) -> NDArray[np.integer]:
        """Spikes in frames ``first`` to ``last``, multiples of 8, of packed trains: [series, frames]."""
        some = trains[:, first // 8 : last // 8]
        if not self.channels:
            return np.unpackbits(np.ascontiguousarray(some), axis=1)
        per_channel = np.ascontiguousarray(some).reshape(self.series, -1, some.shape[1])
        return np.stack([count_per_frame(channel) for channel in per_channel])


def sum_products(source: Source, first: int, last: int, observed: Observed) -> Counts:
    """Sums over the observations that begin in frames ``first`` to ``last`` (exclusive) of a layer.

    Returns
    -------
    int64 array, shape [series + 2, series]
        Products of each two, then sums of each, then the number of observations, again and again.

    Raises
    ------
    RecordingFormatError
        If a chunk is missing or damaged; it names file, layer and frames.
    """
    return sum_products_of_several(observed, [(first, last)], source)


def sum_products_of_several(
    observed: Observed, bounds: Sequence[tuple[int, int]], *sources: Source
) -> Counts:
    """`sum_products` of a part of each of several recordings, added up."""
    sums = np.zeros((observed.series + 2, observed.series), np.int64)
    for source, (first, last) in zip(sources, bounds, strict=True):
        for observations in _observations(source, first, last, observed):
            _add_products(sums[:-2], observations)
            sums[-2] += observations.sum(axis=1, dtype=np.int64)
            sums[-1] += observations.shape[1]
    return sums


def correlations(sums: Counts, first: int, last: int) -> Floats:
    """Rows ``first`` to ``last`` (exclusive) of the matrix of correlations.

    See `analysis.formulas.correlation.correlation_matrix`, of which these are some rows.
    """
    products, total, n = sums[first:last], sums[-2], sums[-1]
    squares = np.diagonal(sums)
    return pearson(n, total[first:last, None], total, squares[first:last, None], squares, products)


def observations_of(sums: Counts) -> Integers:
    """Number of observations, int64 []."""
    return np.array(sums[-1, 0])


def _add_products(total: Counts, observations: NDArray[np.integer]) -> None:
    """Add the products of each two rows, summed up over columns, exactly in any order of adding."""
    bound = int(observations.max(initial=0)) ** 2 * observations.shape[1]
    if bound < 2**24:
        rows = observations.astype(np.float32)
    elif bound < 2**53:
        rows = observations.astype(np.float64)
    else:
        whole = observations.astype(np.int64)
        total += matrix_product(whole, whole.T)
        return
    # Of a matrix and its own transpose BLAS computes one half.
    # Added to integers, floats would make floats of these first, which the sums may outgrow.
    for place, products in enumerate(rows @ rows.T):
        total[place] += products.astype(np.int64)


def _observations(source: Source, first: int, last: int, observed: Observed) -> Iterator[NDArray[np.integer]]:
    """Counts of the observations that begin in a range of frames: [series, observations], some at a time."""
    reader, frames = reader_of(source), frames_of(source)
    sequences = sequences_of(source, observed.boundary)
    groups = CodedGroups.along([Axis(1)])
    size = reader.plan.chunk_frames
    width = max(SLAB_ELEMENTS // max(observed.series, 1) // _WORD_FRAMES, 1) * _WORD_FRAMES
    open_bins = _OpenBins(observed, int(frames.segments.batch.max(initial=0)))
    behind = _behind(source, first, last, observed.window)
    chunks = chunks_with_frames(reader, frames, first, behind)
    for chunk, trains in zip(chunks, read_trains(source, chunks), strict=True):
        chosen = trains if observed.chosen is None else trains[list(observed.chosen)]
        for begin in range(0, size, width):
            frame = chunk * size + begin
            # Bins must begin before ``last``, and may end behind it.
            for since, until, begins in ((first, last, True), (last, behind, False)):
                low, high = max(since, frame), min(until, frame + width, (chunk + 1) * size)
                if low >= high:
                    continue
                pieces = groups.pieces(source, low, high, frame, sequences)
                if len(pieces) == 0:
                    continue
                counts = observed.counts(chosen, begin, min(begin + width, size))
                if observed.window > 1:
                    yield open_bins.add(counts, pieces, begins=begins)
                    continue
                inside = np.flatnonzero(labels_of(pieces) >= 0)
                yield counts if len(inside) == counts.shape[1] else counts[:, inside]


def _behind(source: Source, first: int, last: int, window: int) -> int:
    """The frame behind all bins that begin in a range of frames."""
    frames = frames_of(source)
    row, _, end = frames.runs(first, last)
    if window == 1 or len(row) == 0:
        return last
    step = frames.segments.steps_of(end[-1:] - 1, row[-1:])
    _, behind = Grouping("steps").frames_of(frames.segments, step, step + window)
    return max(int(behind[0]), last)


@dataclass(eq=False)
class _OpenBins:
    """Counts of bins, of which at most one of each sample has begun and not ended.

    Attributes
    ----------
    observed : Observed
    samples : int
        The largest batch.
    """

    observed: Observed
    samples: int
    _begin: Integers = field(init=False)
    _seen: Integers = field(init=False)
    _counts: Counts = field(init=False)

    def __post_init__(self) -> None:
        self._begin = np.full(self.samples, -1, np.int64)
        self._seen = np.zeros(self.samples, np.int64)
        self._counts = np.zeros((self.observed.series, self.samples), np.int64)

    def add(self, counts: NDArray[np.integer], pieces: Pieces, *, begins: bool) -> Counts:
        """Add the frames of pieces that follow those before; the counts of the bins that end in them.

        Bins of which an earlier frame was not added, or that begin here although none may, are left out.
        """
        frame, sample, step, begin = _places(pieces, self.observed.window)
        order = np.lexsort((step, sample))
        frame, sample, step, begin = frame[order], sample[order], step[order], begin[order]
        changes = (sample[1:] != sample[:-1]) | (begin[1:] != begin[:-1])
        heads = np.flatnonzero(np.concatenate([[True], changes])[: len(frame)])
        if len(heads) == 0:
            return np.zeros((self.observed.series, 0), np.int64)
        found = np.add.reduceat(counts[:, frame], heads, axis=1, dtype=np.int64)
        seen = np.diff(np.append(heads, len(frame)))
        sample, begin, is_new = sample[heads], begin[heads], step[heads] == begin[heads]
        goes_on = self._begin[sample] == begin
        found[:, goes_on] += self._counts[:, sample[goes_on]]
        seen[goes_on] += self._seen[sample[goes_on]]
        known = goes_on | (is_new & begins)
        ended = known & (seen == self.observed.window)
        # Of a sample only the last bin can be left without its end.
        stays = known & ~ended
        self._begin[sample[known]] = -1
        self._begin[sample[stays]] = begin[stays]
        self._seen[sample[stays]] = seen[stays]
        self._counts[:, sample[stays]] = found[:, stays]
        return found[:, ended]


def _places(pieces: Pieces, window: int) -> tuple[Integers, Integers, Integers, Integers]:
    """Every frame that is in a whole bin: its place, its sample, its step, and the first step of the bin."""
    runs: LaneRuns = pieces.lanes()
    kept = runs.group >= 0
    steps = (runs.last - runs.first + 1)[kept]
    at = np.repeat(np.flatnonzero(kept), steps)
    step = runs.first[at] + count_up(steps)
    piece, start = runs.piece[at], runs.start[at]
    place = (step - pieces.first_step[piece]) * pieces.batch[piece] + runs.sample[at]
    frame = pieces.begin[piece] - pieces.skipped[piece] + place
    begin = start + (step - start) // window * window
    whole = begin + window <= runs.end[at]
    return frame[whole], runs.sample[at][whole], step[whole], begin[whole]
