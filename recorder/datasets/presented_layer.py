"""Presentations of one layer, gathered bit by bit out of chunks that are decoded once."""

from __future__ import annotations

import copy
import os
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from recorder.format.bits import Packed, trains_to_rows, unpack_rows
from recorder.format.planes.values import join_levels, scale_levels
from recorder.format.segments import Segments
from recorder.tape import LayerReader

Integers = NDArray[np.int64]
# In ascending order; a range where they follow each other.
Frames: TypeAlias = range | Integers

# A byte for each slot of so many is in the processor's cache at a time.
_SCRATCH_BYTES: Final = 2**20


class PresentedLayer:
    """One layer, asked for presentations."""

    def __init__(self, reader: LayerReader, dtype: torch.dtype) -> None:
        self.reader, self.dtype = reader, dtype
        self.shape = reader.plan.neuron_shape
        self._stored, self._kept = (_by_trial(s) for s in (reader.segments(), reader.kept_segments()))
        self._kept_trials = np.ascontiguousarray(self._kept.trial)

    def is_kept(self, trial: Integers, sample: Integers) -> NDArray[np.bool_]:
        """True for each presentation that is not left out of the part of the layer that was kept."""
        part = self.reader.commit.part
        if part is None:
            return np.ones(len(trial), np.bool_)
        kept: NDArray[np.bool_] = trial % part.trials_every == 0
        return kept if part.samples is None else kept & (sample < part.samples)

    def extents(self, trial: Integers, sample: Integers) -> tuple[Integers, Integers]:
        """First step, and the one behind the last, of presentations, be they lost or not."""
        first = np.full(len(trial), np.iinfo(np.int64).max)
        last = np.zeros(len(trial), np.int64)
        for rows, segments in _matches(self._stored, trial, sample):
            np.minimum.at(first, rows, segments.first_step)
            np.maximum.at(last, rows, segments.last_step)
        return first, last

    def kept_steps(self, trial: Integers, sample: Integers) -> Integers:
        """Numbers of steps of presentations that are there."""
        steps = np.zeros(len(trial), np.int64)
        for rows, segments in _matches(self._kept, trial, sample):
            np.add.at(steps, rows, segments.steps)
        return steps

    def read(self, trial: int, sample: int, first: int, out: torch.Tensor, cache: ChunkCache) -> torch.Tensor:
        """Read spikes of samples from ``sample`` on, from step ``first`` on, into ``out``.

        Parameters
        ----------
        trial, sample, first : int
        out : tensor, shape [steps, samples, *neuron]
        cache : ChunkCache

        Returns
        -------
        bool tensor, shape [steps, samples]
            Which were recorded; others are zeros.
        """
        begin, end = np.searchsorted(self._kept_trials, [trial, trial + 1])
        neurons = self.reader.plan.neurons
        out = out.view(*out.shape[:2], neurons)
        recorded = torch.zeros(out.shape[:2], dtype=torch.bool)
        for first_frame, first_step, steps, batch, _ in self._kept.rows[begin:end].tolist():
            samples = min(batch - sample, out.shape[1])
            if samples < 1:
                continue
            # So many steps at a time that their bits stay in the processor's cache.
            some = max(_SCRATCH_BYTES // (samples * neurons), 1)
            for step in range(0, steps, some):
                count = min(some, steps - step)
                frames = _frames(first_frame + step * batch + sample, count, samples, batch)
                place = first_step - first + step
                into = out[place : place + count, :samples]
                self._read_frames(frames, into, cache)
                recorded[place : place + count, :samples] = True
        if not recorded.all():
            out[~recorded] = 0
        return recorded

    def _read_frames(self, frames: Frames, out: torch.Tensor, cache: ChunkCache) -> None:
        """Write frames, in ascending order, as they were put out, to ``out``, [steps, samples, neurons]."""
        values, neurons = self.reader.commit.values, self.reader.plan.neurons
        if values is None and out.dtype in (torch.bool, torch.uint8) and out.is_contiguous():
            self._read_bits(frames, [out.view(torch.uint8).numpy().reshape(-1, neurons)], cache)
            return
        # Asking the reader for its planes would make it larger for whoever sends it to workers.
        planes = [plane.name for plane in values.planes] if values else []
        bits = [*cache.scratch(1 + len(planes), len(frames), neurons)]
        self._read_bits(frames, bits, cache)
        if values is None:
            out[...] = torch.from_numpy(bits[0]).view(out.shape)
            return
        events, *of_planes = (each.view(np.bool_) for each in bits)
        levels = join_levels(events, dict(zip(planes, of_planes, strict=True)))
        out[...] = torch.from_numpy(scale_levels(levels, values.scale, self.reader.commit.dtype)).view(
            out.shape
        )

    def _read_bits(self, frames: Frames, out: Sequence[Packed], cache: ChunkCache) -> None:
        """Write bits of frames as zeros and ones, uint8 [frames, neurons], each to its own ``out``."""
        size = self.reader.plan.chunk_frames
        begin = 0
        while begin < len(frames):
            chunk, inside = divmod(int(frames[begin]), size)
            end = bisect_left(frames, (chunk + 1) * size)
            for rows, bits in zip(cache.rows(self.reader, chunk), out, strict=True):
                if isinstance(frames, range):
                    _unpack_run(rows, inside, bits[begin:end])
                else:
                    _unpack_some(rows, frames[begin:end] - chunk * size, bits[begin:end])
            begin = end


def _frames(first: int, steps: int, samples: int, batch: int) -> Frames:
    """Frames of some samples in some steps, from frame ``first`` on; all samples of a step are ``batch``."""
    if samples == batch or steps == 1:
        return range(first, first + steps * samples)
    return (first + np.arange(steps)[:, None] * batch + np.arange(samples)).ravel()


def _unpack_run(rows: Packed, first: int, out: Packed) -> None:
    """Unpack frames from ``first`` on to ``out``, uint8 [frames, neurons]."""
    last = first + len(out)
    some = rows[first // 8 : -(-last // 8)]
    if first % 8 or last % 8:
        out[...] = unpack_rows(some)[first % 8 : first % 8 + len(out)]
    else:
        unpack_rows(some, out)


def _unpack_some(rows: Packed, frames: Integers, out: Packed) -> None:
    """Unpack frames, in ascending order, to ``out``, uint8 [frames, neurons]."""
    # All places are inside; what could raise would be buffered.
    rows.take(frames // 8, axis=0, out=out, mode="clip")
    np.right_shift(out, (7 - frames % 8).astype(np.uint8)[:, None], out=out)
    np.bitwise_and(out, 1, out=out)


def check_dtype(reader: LayerReader, dtype: torch.dtype) -> None:
    """Raise ValueError unless a data type has the values that a layer has put out."""
    values = reader.commit.values
    if values is None or dtype.is_floating_point:
        return
    is_whole = values.scale == 1 and dtype != torch.bool
    limits = torch.iinfo(dtype) if is_whole else None
    if limits is None or not limits.min <= values.least <= values.most <= limits.max:
        raise ValueError(
            f"layer {reader.name!r} has put out {values.least} to {values.most} times {values.scale:g}, "
            f"which {dtype} does not have: give another dtype, such as torch.float32"
        )


class ChunkCache:
    """Decoded chunks, those that were used last; each process has its own."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._chunks: OrderedDict[tuple[str, int], list[Packed]] = OrderedDict()
        self._readers: dict[str, LayerReader] = {}
        self._process = 0
        self._scratch = np.empty(0, np.uint8)

    def __reduce__(self) -> tuple[type[ChunkCache], tuple[int]]:
        return ChunkCache, (self._limit_bytes,)

    def scratch(self, arrays: int, frames: int, neurons: int) -> Packed:
        """Memory for a byte each slot of some arrays, used again: the system has to clear fresh memory."""
        size = arrays * frames * neurons
        if self._scratch.size < size:
            self._scratch = np.empty(size, np.uint8)
        return self._scratch[:size].reshape(arrays, frames, neurons)

    def rows(self, reader: LayerReader, chunk: int) -> list[Packed]:
        """A chunk of all bits of a layer, each as rows of eight frames: uint8 [rows, neurons]."""
        key = reader.name, chunk
        found = self._chunks.get(key)
        if found is not None:
            self._chunks.move_to_end(key)
            return found
        if self._process != os.getpid():
            # Connections and open files of the store are not shared with the process that was forked.
            self._process, self._readers = os.getpid(), {}
        own = self._readers.get(reader.name)
        if own is None:
            own = self._readers[reader.name] = copy.deepcopy(reader)
        found = [*map(trains_to_rows, own.bits_of_chunk(chunk))]
        self._chunks[key] = found
        self._size_bytes += _bytes_of(found)
        while self._size_bytes > self._limit_bytes and len(self._chunks) > 1:
            self._size_bytes -= _bytes_of(self._chunks.popitem(last=False)[1])
        return found


def _bytes_of(arrays: Iterable[Packed]) -> int:
    return sum(array.nbytes for array in arrays)


def _by_trial(segments: Segments) -> Segments:
    """Segments in trials, in the order of trials."""
    inside = segments.rows[segments.trial >= 0]
    return Segments(inside[np.argsort(inside[:, 4], kind="stable")])


def _matches(segments: Segments, trial: Integers, sample: Integers) -> list[tuple[Integers, Segments]]:
    """Pairs of rows of the table of trials, and of segments that these presentations are in.

    One pair for the first segment of each trial, one for the second, and so on, each of the same length.
    """
    pairs = []
    begin, end = (np.searchsorted(segments.trial, trial, side=side) for side in ("left", "right"))
    rows = np.arange(len(trial))
    while len(rows := rows[begin[rows] < end[rows]]):
        found = segments.rows[begin[rows]]
        has_sample = found[:, 3] > sample[rows]
        pairs.append((rows[has_sample], Segments(found[has_sample])))
        begin[rows] += 1
    return pairs
