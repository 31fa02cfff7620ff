"""Tally the values of a signal in groups of frames: moments, extremes, histograms, averages around spikes.

Work goes chunk by chunk. Sums of a task are those of the values that it reads; sums of tasks are joined in
the order of their frames, so that a result is the same wherever it is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.counting.tallying import Place
from analysis.kernels.events.by_group import labels_of
from analysis.kernels.selecting.coding import CodedGroups
from analysis.kernels.selecting.sequences import Boundary
from analysis.kernels.selecting.source import Source, frames_of, signal_of
from analysis.kernels.signals.neurons import neurons_of
from analysis.kernels.signals.triggering import around_spikes
from recorder.format.bits import Integers

Floats = NDArray[np.float64]
# Values that are looked at at once.
SLAB_BYTES = 8 * 2**20


@dataclass(frozen=True)
class SignalTallied:
    """The thing that is tallied of values.

    Attributes
    ----------
    what : {"moments", "extremes", "histogram", "triggered", "total"}
        Number, sum, and sum of squared deviations from the mean; number, least and largest; numbers in bins;
        sums and numbers at lags from spikes; the sum of whole numbers, exactly.
    edges : tuple of float
        Edges of bins.
    before, after : int
        Steps around a spike.
    boundary : "none", int or None
        Where sequences of steps end outside of trials; see `analysis.statistics.sequences`.
    """

    what: Literal["moments", "extremes", "histogram", "triggered", "total"]
    edges: tuple[float, ...] = ()
    before: int = 0
    after: int = 0
    boundary: Boundary = None

    @property
    def lags(self) -> int:
        """Number of lags."""
        return self.before + self.after + 1

    @property
    def columns(self) -> int:
        """Numbers for each group and place."""
        return {"histogram": len(self.edges), "triggered": 2 * self.lags, "total": 1}.get(self.what, 3)

    @property
    def dtype(self) -> type[np.float64 | np.int64]:
        """Data type of the numbers."""
        return np.int64 if self.what == "total" else np.float64

    def nothing(self, groups: int, places: int) -> NDArray[Any]:
        """The tally of no values, [groups, places, columns]."""
        sums = np.zeros((groups, places, self.columns), self.dtype)
        if self.what == "extremes":
            sums[..., 1], sums[..., 2] = np.inf, -np.inf
        return sums


def tally_values(
    source: Source, groups: CodedGroups, first: int, last: int, place: Place, tallied: SignalTallied
) -> Floats:
    """Tally frames ``first`` to ``last`` (exclusive) of the signal that a source stands for.

    Returns
    -------
    float64 or int64 array, shape [groups, places, columns]

    Raises
    ------
    RecordingFormatError
        If a chunk is missing or damaged; it names file, layer, signal and frames.
    """
    neurons = neurons_of(source)
    codes, _ = neurons.codes(place)
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]])[: len(codes)])
    total = tallied.nothing(len(groups), len(starts))
    if len(starts) == 0:
        return total
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinities are values like others
        for values, frames, labels in _slabs(source, groups, first, last):
            sorted_by = _Sorted.by(labels)
            if tallied.what == "triggered":
                around = tallied.before, tallied.after, tallied.boundary
                for lag, (shown, spikes) in enumerate(around_spikes(source, values, frames, *around)):
                    for column, part in ((lag, shown), (tallied.lags + lag, spikes)):
                        total[sorted_by.present, :, column] += sorted_by.reduce(np.add, part, starts)
                continue
            present, part = sorted_by.present, _tally_slab(values, sorted_by, starts, tallied)
            total[present] = join_two(total[present], part, tallied)
    return total


def _slabs(
    source: Source, groups: CodedGroups, first: int, last: int
) -> Iterator[tuple[NDArray[Any], Integers, Integers]]:
    """Values of selected frames that are in a group, [neurons, frames]; these frames; their groups."""
    signal, frames, neurons = signal_of(source), frames_of(source), neurons_of(source)
    _, begin, end = frames.runs(first, last)
    size = signal.plan.chunk_frames
    chunks = [
        chunk
        for chunk in range(first // size, -(-last // size))
        if ((begin < (chunk + 1) * size) & (end > chunk * size)).any()
    ]
    for chunk, trains in zip(chunks, signal.trains(chunks), strict=True):
        kept = trains if len(neurons.stored) == len(trains) else trains[neurons.stored]
        step = max(SLAB_BYTES // (8 * max(len(kept), 1)), 1)
        for at in range(max(first, chunk * size), min(last, (chunk + 1) * size, signal.frames), step):
            behind = min(at + step, last, (chunk + 1) * size, signal.frames)
            labels = labels_of(groups.pieces(source, at, behind, at))
            inside = np.flatnonzero(labels >= 0)
            if len(inside):
                yield kept[:, at - chunk * size + inside], at + inside, labels[inside]


@dataclass(frozen=True, eq=False)
class _Sorted:
    """Frames sorted by their group.

    Attributes
    ----------
    order : int64 array, optional
        None where they come sorted.
    begins : int64 array, shape [groups that occur]
        Where each of these begins.
    lengths : int64 array, likewise
    present : int64 array, likewise
    """

    order: Integers | None
    begins: Integers
    lengths: Integers
    present: Integers

    @classmethod
    def by(cls, labels: Integers) -> _Sorted:
        order = None
        if (labels[1:] < labels[:-1]).any():
            order = np.argsort(labels, kind="stable")
            labels = labels[order]
        begins = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]]))
        return cls(order, begins, np.diff(np.append(begins, len(labels))), labels[begins])

    def reduce(self, by: np.ufunc, values: NDArray[Any], starts: Integers) -> NDArray[Any]:
        """Values [neurons, frames] reduced to [groups that occur, places], which begin at ``starts``."""
        ordered = values if self.order is None else values[:, self.order]
        reduced: NDArray[Any] = by.reduceat(by.reduceat(ordered, self.begins, axis=1), starts, axis=0)
        return reduced.T

    def spread(self, figures: Floats) -> Floats:
        """Figures [groups that occur, neurons] laid on the frames that were sorted, [neurons, frames]."""
        laid = np.repeat(figures.T, self.lengths, axis=1)
        if self.order is None:
            return laid
        out = np.empty_like(laid)
        out[:, self.order] = laid
        return out


def _tally_slab(values: NDArray[Any], frames: _Sorted, starts: Integers, tallied: SignalTallied) -> Floats:
    if tallied.what == "total":
        return frames.reduce(np.add, values.astype(np.int64), starts)[..., None]
    wide = values.astype(np.float64)
    lengths = np.diff(np.append(starts, len(wide)))
    number = np.outer(frames.lengths, lengths).astype(np.float64)
    if tallied.what == "extremes":
        least, most = (frames.reduce(by, wide, starts) for by in (np.minimum, np.maximum))
        return np.stack([number, least, most], axis=-1)
    if tallied.what == "histogram":
        edges = np.array(tallied.edges)
        bins = np.searchsorted(edges, wide, side="right") - 1
        bins[wide == edges[-1]] = len(edges) - 2  # the last bin has both of its edges
        bins[(bins < 0) | (bins >= len(edges) - 1) | np.isnan(wide)] = len(edges) - 1
        each = [
            frames.reduce(np.add, (bins == place).astype(np.float64), starts) for place in range(len(edges))
        ]
        return np.stack(each, axis=-1)
    sums = frames.reduce(np.add, wide, starts)
    # Second pass: deviations from the mean of each group and place, which rounding does not hide.
    mean = np.repeat(sums / number, lengths, axis=1)
    wide -= mean.T if len(mean) == 1 else frames.spread(mean)
    squares = frames.reduce(np.add, np.square(wide, out=wide), starts)
    return np.stack([number, sums, squares], axis=-1)


def join_two(one: Floats, other: Floats, tallied: SignalTallied) -> Floats:
    """The tally of the values of two; deviations as in Chan, Golub & LeVeque (1979)."""
    if tallied.what in ("histogram", "triggered", "total"):
        return one + other
    if tallied.what == "extremes":
        return np.stack(
            [
                one[..., 0] + other[..., 0],
                np.minimum(one[..., 1], other[..., 1]),
                np.maximum(one[..., 2], other[..., 2]),
            ],
            axis=-1,
        )
    n, m = one[..., 0], other[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        between = np.where((n > 0) & (m > 0), (other[..., 1] / m - one[..., 1] / n) ** 2 * n * m / (n + m), 0)
    return np.stack([n + m, one[..., 1] + other[..., 1], one[..., 2] + other[..., 2] + between], axis=-1)


def join_tallies(several: Sequence[Floats], tallied: SignalTallied) -> Floats:
    """Tallies of tasks whose frames follow each other."""
    joined: Floats = reduce(lambda one, other: join_two(one, other, tallied), several)
    return joined


def shaped(sums: Floats, groups: tuple[int, ...], places: tuple[int, ...]) -> Floats:
    """A tally in the shape of a result, [*groups, *places, columns]."""
    return sums.reshape((*groups, *places, sums.shape[-1]))


def mean_of(sums: Floats) -> Floats:
    """Mean of moments, [..., 3]; NaN of nothing."""
    return _quotient(sums[..., 1], sums[..., 0])


def std_of(sums: Floats) -> Floats:
    """Standard deviation, ddof 0, of moments, [..., 3]; NaN of nothing."""
    return np.sqrt(_quotient(sums[..., 2], sums[..., 0]))


def least_of(sums: Floats) -> Floats:
    """Least of extremes, [..., 3]; NaN of nothing."""
    return np.where(sums[..., 0] > 0, sums[..., 1], np.nan)


def largest_of(sums: Floats) -> Floats:
    """Largest of extremes, [..., 3]; NaN of nothing."""
    return np.where(sums[..., 0] > 0, sums[..., 2], np.nan)


def counts_of(sums: Floats) -> Integers:
    """Whole numbers that were tallied."""
    return sums.astype(np.int64)


def triggered_average(sums: Floats) -> Floats:
    """Sums over numbers of values, the first half of the columns over the second."""
    lags = sums.shape[-1] // 2
    return _quotient(sums[..., :lags], sums[..., lags:])


def _quotient(part: Floats, whole: Floats) -> Floats:
    out = np.full(part.shape, np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out
