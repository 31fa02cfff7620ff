"""Compare the values of a signal in two recordings: what runs inside tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.comparing import Alignment
from analysis.kernels.selecting.source import Source, frames_of, signal_of
from analysis.kernels.signals.neurons import neurons_of
from recorder.format.bits import Integers

# Bytes of values that are compared at a time.
_SLAB_BYTES: Final = 8 * 2**20
# Decoded chunks of the other signal that are kept, as partners may come in another order.
_KEPT_CHUNKS: Final = 2


@dataclass(frozen=True)
class ValueDifferences:
    """Differences between frames of two signals that stand for each other.

    Attributes
    ----------
    frames : int
        Frames that have a partner.
    differing : int
        Values that differ; NaN equals NaN.
    largest : float
        Greatest absolute difference of values that differ and are both numbers; NaN if there are none.
    first : tuple of int, or None
        Frame of the one signal, and place among its selected neurons, of the first difference.
    """

    frames: int = 0
    differing: int = 0
    largest: float = float("nan")
    first: tuple[int, int] | None = None


def add_value_differences(parts: Sequence[ValueDifferences]) -> ValueDifferences:
    """Sum of differences of several ranges of frames; the first is that of the smallest frame."""
    return ValueDifferences(
        sum(part.frames for part in parts),
        sum(part.differing for part in parts),
        float(np.fmax.reduce([part.largest for part in parts], initial=np.nan)),
        min((part.first for part in parts if part.first is not None), default=None),
    )


def compare_values(
    one: Source, other: Source, alignment: Alignment, first: int, last: int
) -> ValueDifferences:
    """Compare frames ``first`` to ``last`` (exclusive) of the signal ``one`` stands for with the other's.

    Both have the same neurons and data type.

    Raises
    ------
    RecordingFormatError
        If a chunk is missing or damaged; it names file, layer, signal and frames.
    """
    signal, frames, neurons = signal_of(one), frames_of(one), neurons_of(one)
    size, others = signal.plan.chunk_frames, _OtherValues(other)
    found = [ValueDifferences()]
    _, begin, end = frames.runs(first, last)
    touched = {
        chunk
        for low, high in zip(begin.tolist(), end.tolist(), strict=True)
        for chunk in range(low // size, -(-high // size))
    }
    chosen = sorted(touched)
    for chunk, trains in zip(chosen, signal.trains(chosen), strict=True):
        selected = frames.selected_frames(max(first, chunk * size), min(last, (chunk + 1) * size))
        partners = others.selected_only(alignment.frames_for(frames.segments, others.segments, selected))
        selected, partners = selected[partners >= 0], partners[partners >= 0]
        slab = max(_SLAB_BYTES // (trains.itemsize * max(len(neurons.stored), 1)), 1)
        for at in range(0, len(selected), slab):
            part = slice(at, at + slab)
            ours = trains[np.ix_(neurons.stored, selected[part] - chunk * size)].T
            found.append(_differences(ours, others.values(partners[part]), selected[part]))
    return add_value_differences(found)


def _differences(ours: NDArray[Any], theirs: NDArray[Any], frames: Integers) -> ValueDifferences:
    differing = ours != theirs
    if ours.dtype.kind == "f":
        differing &= ~(np.isnan(ours) & np.isnan(theirs))
    at = np.flatnonzero(differing)
    if len(at) == 0:
        return ValueDifferences(len(frames))
    frame, neuron = divmod(int(at[0]), differing.shape[1])
    a, b = ours[differing], theirs[differing]
    if ours.dtype.kind == "f":
        with np.errstate(invalid="ignore", over="ignore"):
            far = np.abs(a.astype(np.float64) - b.astype(np.float64))
        largest = float(np.fmax.reduce(far, initial=np.nan))
    else:
        # Without sign, the difference of any two whole numbers of 64 bits is exact.
        wide = np.uint64 if ours.dtype.kind == "u" else np.int64
        more, less = np.maximum(a, b).astype(wide), np.minimum(a, b).astype(wide)
        largest = float((more.view(np.uint64) - less.view(np.uint64)).max())
    return ValueDifferences(len(frames), len(at), largest, (int(frames[frame]), neuron))


class _OtherValues:
    """The selected frames of a signal, looked up in any order; a few decoded chunks are kept."""

    def __init__(self, source: Source) -> None:
        self._signal, self._frames, self._neurons = signal_of(source), frames_of(source), neurons_of(source)
        self.segments = self._frames.segments
        self._kept: dict[int, NDArray[Any]] = {}

    def selected_only(self, frames: Integers) -> Integers:
        """The same frames, -1 for those that are not selected."""
        if not self._frames.masked.any():
            return frames
        before = self._frames.frames_before
        return np.where((frames >= 0) & (before(frames + 1) > before(frames)), frames, -1)

    def values(self, frames: Integers) -> NDArray[Any]:
        """Values of frames, shape [frames, selected neurons]."""
        size, stored = self._signal.plan.chunk_frames, self._neurons.stored
        found = np.empty((len(frames), len(stored)), self._signal.commit.dtype)
        for chunk in np.unique(frames // size).tolist():
            here = np.flatnonzero(frames // size == chunk)
            found[here] = self._chunk(chunk)[np.ix_(stored, frames[here] - chunk * size)].T
        return found

    def _chunk(self, chunk: int) -> NDArray[Any]:
        if chunk not in self._kept:
            while len(self._kept) >= _KEPT_CHUNKS:
                self._kept.pop(next(iter(self._kept)))
            self._kept[chunk] = next(self._signal.trains([chunk]))
        return self._kept[chunk]


def value_bounds(source: Source, task_bytes: int) -> Iterator[tuple[int, int]]:
    """Ranges of frames of a signal, whole chunks, of about so many bytes each."""
    signal = signal_of(source)
    chunk_bytes = signal.plan.chunk_frames * signal.plan.neurons * signal.commit.itemsize
    step = max(task_bytes // max(chunk_bytes, 1), 1) * signal.plan.chunk_frames
    for first in range(0, signal.frames, step):
        yield first, min(first + step, signal.frames)
