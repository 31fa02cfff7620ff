"""Frames of a layer that is compared with another one, looked up in any order: as booleans, and as values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.selecting.source import Source, frames_of, kept_neurons, reader_of
from recorder.format.bits import Bools, Integers, unpack_trains
from recorder.format.planes.values import join_levels, scale_levels
from recorder.tape import LayerReader


class ComparedFrames:
    """The selected frames and neurons of a layer, looked up in any order; a few decoded chunks are kept.

    Chunks that are asked for in the order in which they are ``expected`` are read ahead.
    """

    def __init__(self, source: Source, expected: Sequence[int]) -> None:
        self._reader: LayerReader = reader_of(source)
        self._frames = frames_of(source)
        self._neurons = kept_neurons(source)
        self.segments = self._frames.segments
        self.size = self._reader.plan.chunk_frames
        self._kept: dict[int, NDArray[np.uint8]] = {}
        chunks = self._reader.plan.chunk_count(self._reader.frames)
        there = [chunk for chunk in expected if chunk < chunks and not self._reader.is_lost(chunk)]
        self._expected = iter(there)
        self._ahead = self._reader.chunks(there, passing=True)

    def selected_only(self, frames: Integers) -> Integers:
        """The same frames, -1 for those that are not selected."""
        if not self._frames.masked.any():
            return frames
        before = self._frames.frames_before
        is_selected = before(frames + 1) > before(frames)
        return np.where((frames >= 0) & is_selected, frames, -1)

    def next_chunk(self, chunk: int) -> NDArray[np.uint8]:
        """Packed trains of a chunk among those expected, valid until the next; none is asked for twice."""
        for expected, trains in zip(self._expected, self._ahead, strict=False):
            if expected == chunk:
                return self._of_neurons(trains)
        raise ValueError(f"chunk {chunk} is not expected any more")

    def chunk(self, chunk: int) -> NDArray[np.uint8]:
        """Packed trains of any chunk."""
        if chunk not in self._kept:
            while len(self._kept) > 1:
                self._kept.pop(next(iter(self._kept)))
            self._kept[chunk] = self._of_neurons(self._reader.chunk(chunk))
        return self._kept[chunk]

    def _of_neurons(self, trains: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return trains if self._neurons is None else trains[self._neurons]

    def bits(self, frames: Integers) -> Bools:
        """Frames as booleans, shape [frames, neurons]; silence for -1."""
        neurons = self._reader.plan.neurons if self._neurons is None else len(self._neurons)
        bits = np.zeros((len(frames), neurons), np.bool_)
        for chunk in np.unique(frames[frames >= 0] // self.size).tolist():
            here = np.flatnonzero((frames >= 0) & (frames // self.size == chunk))
            inside = frames[here] - chunk * self.size
            low = int(inside.min())
            bits[here] = unpack_trains(self.chunk(chunk), low, int(inside.max()) + 1)[inside - low]
        return bits


class ComparedValues:
    """Values of two layers, in the slots where both have fired."""

    def __init__(self, one: Source, other: Source) -> None:
        self._sides = [(source, _planes_of(source)) for source in (one, other)]

    def differ(self, one: Bools, other: Bools, frames: Integers, partners: Integers) -> Bools:
        """Where both fired and values differ; frames of the one layer and of the other, as booleans."""
        values = []
        sides = zip(self._sides, (one, other), (frames, partners), strict=True)
        for (source, planes), events, wanted in sides:
            levels = join_levels(events, {name: plane.bits(wanted) for name, plane in planes.items()})
            scale = source.commit.values.scale if source.commit.values else 1.0
            values.append(scale_levels(levels, scale, source.commit.dtype).astype(np.float64))
        unlike: Bools = one & other & (values[0] != values[1])
        return unlike


def _planes_of(source: Source) -> dict[str, ComparedFrames]:
    values = source.commit.values
    names = [plane.name for plane in values.planes] if values else []
    return {name: ComparedFrames(source.of_bits((name,)), []) for name in names}
