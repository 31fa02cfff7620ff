"""Torch tensor in host memory → packed bytes; `recorder.capture.device_packing` is for those on accelerators.

A packer takes what one layer puts out, call by call, checks that it holds only zeros and ones, and gives back
rows: eight frames to a byte, the first in the most significant bit. Frames that do not fill a byte yet wait
in it, so that what leaves is whole bytes whatever the batch size.

The thread that runs the network compares frames with 1, which makes booleans, into a *stage*. To pack a full
one is left to whoever takes it, as that can be another thread.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recorder.format.bits import Bools, Packed, pack_frames

# Booleans of a layer that wait for their stage to be full.
STAGE_BYTES = 2**20
# Rows handed to the writer at once. One output leaves so much to be packed there; the rest it packs itself.
PUT_BYTES = 4 * 2**20
# Memory of stages that is kept for the next ones.
SPARE_BYTES = 8 * 2**20
# Values compared at once; they are still in the core's cache when they are counted.
COMPARE_BYTES = 2**20

# NumPy has no bfloat16, and compares half precision in software.
_WIDENED = (torch.float16, torch.bfloat16)
# What values are seen as to count those that are not zero, where that is faster or says more.
_BITS: dict[np.dtype[Any], np.dtype[Any]] = {
    np.dtype(np.float32): np.dtype(np.int32),
    np.dtype(np.float64): np.dtype(np.int64),
    np.dtype(np.bool_): np.dtype(np.uint8),
}


class NotSpikesError(ValueError):
    """A layer's output holds values other than 0 and 1."""


def stage_bytes(neurons: int) -> int:
    """Memory that a stage of so many neurons takes: at least eight frames."""
    return max(STAGE_BYTES, 8 * neurons)


class StagePool:
    """Memory for stages, used again and again: fresh memory is slow, as the system has to clear it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spare: defaultdict[int, list[Bools]] = defaultdict(list)
        self._spare_bytes = 0

    def take(self, neurons: int) -> Bools:
        """Take a stage: bool array, shape [frames, neurons], a multiple of eight frames."""
        size = stage_bytes(neurons)
        frames = size // neurons // 8 * 8
        with self._lock:
            if spare := self._spare[size]:
                self._spare_bytes -= size
                # That given back last is the likeliest to be in a cache.
                memory = spare.pop()
            else:
                memory = np.empty(size, np.bool_)
        return memory[: frames * neurons].reshape(frames, neurons)

    def give_back(self, stage: Bools) -> None:
        """Take the memory of a stage that nobody looks at any more, in any thread."""
        memory = stage.base
        with self._lock:
            if memory is not None and self._spare_bytes + memory.nbytes <= SPARE_BYTES:
                self._spare[memory.nbytes].append(memory)
                self._spare_bytes += memory.nbytes


class FullStage(NamedTuple):
    """Rows that are yet to be packed, once, in any thread.

    Attributes
    ----------
    frames : bool array, shape [8 x rows, neurons]
    pool : StagePool
        Gets the memory back.
    """

    frames: Bools
    pool: StagePool

    @property
    def nbytes(self) -> int:
        """Memory that is held until they are packed."""
        return stage_bytes(self.frames.shape[1])

    def pack(self) -> Packed:
        """Return the rows: uint8 array, shape [rows, neurons]."""
        rows = _pack_rows(self.frames)
        self.pool.give_back(self.frames)
        return rows


WholeRows = Packed | FullStage


def pack_whole(rows: WholeRows) -> Packed:
    """Return rows packed, whether they are yet or not."""
    return rows.pack() if isinstance(rows, FullStage) else rows


class HostPacker:
    """Packs the frames of one layer with numpy, several rows at a time.

    Parameters
    ----------
    pending : bool array, shape [fewer than 8, neurons]
        Frames to begin with.
    pool : StagePool

    Attributes
    ----------
    frames : int
        Those pushed so far.
    """

    def __init__(self, pending: Bools, pool: StagePool) -> None:
        self.frames = 0
        self._pool = pool
        self._neurons = pending.shape[1]
        self._stage = pool.take(self._neurons)
        self._waiting = len(pending)
        self._stage[: self._waiting] = pending
        self._one: NDArray[Any] = np.ones((), np.bool_)
        self._bits = self._one.dtype

    def push(self, frames: torch.Tensor) -> list[WholeRows]:
        """Add frames and take the whole rows that result.

        Parameters
        ----------
        frames : tensor, shape [..., *neuron]
            All frames in logical order; any real dtype, every value 0 or 1.

        Returns
        -------
        list of FullStage or uint8 arrays, shape [rows, neurons]
            In order; often empty.

        Raises
        ------
        NotSpikesError
            If there are other values; none of ``frames`` has then been added.
        """
        values = _as_array(frames).reshape(-1, self._neurons)
        if values.dtype is not self._one.dtype:
            self._one = np.ones((), values.dtype)
            self._bits = _BITS.get(values.dtype, values.dtype)
        total = len(values)
        if total < len(self._stage) - self._waiting:
            self._add(values)
            self.frames += total
            return []
        stage, waiting = self._stage, self._waiting
        full: list[WholeRows] = []
        first = 0
        try:
            while first < total:
                taken = min(len(self._stage) - self._waiting, total - first)
                self._add(values[first : first + taken])
                first += taken
                if self._waiting == len(self._stage):
                    full.append(self._take_full(leave=len(full) * stage_bytes(self._neurons) < PUT_BYTES))
        except BaseException:
            # The first full stage is left, never packed here: what was waiting lies in it as it was.
            self._stage, self._waiting = stage, waiting
            raise
        self.frames += total
        return full

    def drain(self) -> tuple[Packed, Bools]:
        """Take the whole rows that are waiting, and look at the frames (fewer than 8) that fill none.

        Returns
        -------
        rows : uint8 array, shape [rows, neurons]
        pending : bool array, shape [fewer than 8, neurons]
            They go on waiting.
        """
        whole = self._waiting // 8 * 8
        rows = _pack_rows(self._stage[:whole])
        pending = self._stage[whole : self._waiting].copy()
        self._stage[: len(pending)] = pending
        self._waiting = len(pending)
        return rows, pending

    def _take_full(self, *, leave: bool) -> WholeRows:
        """Empty the stage, which is full; pack it, or leave that to others."""
        stage, self._waiting = self._stage, 0
        if not leave:
            return _pack_rows(stage)
        self._stage = self._pool.take(self._neurons)
        return FullStage(stage, self._pool)

    def _add(self, values: NDArray[np.generic]) -> None:
        ones = self._stage[self._waiting : self._waiting + len(values)]
        if values.nbytes <= COMPARE_BYTES:
            self._compare(values, ones)
        else:
            at_once = max(COMPARE_BYTES // (self._neurons * values.itemsize), 1)
            for first in range(0, len(values), at_once):
                self._compare(values[first : first + at_once], ones[first : first + at_once])
        self._waiting += len(values)

    def _compare(self, values: NDArray[np.generic], ones: Bools) -> None:
        """Find the ones; where as many values are 1 as are not zero, every other is zero."""
        np.equal(values, self._one, out=ones)
        if np.count_nonzero(values.view(self._bits)) != np.count_nonzero(ones):
            _refuse_others(values, ones)


def _as_array(spikes: torch.Tensor) -> NDArray[np.generic]:
    """A tensor in host memory as an array, its memory in logical order; copied only where it has to be."""
    if spikes.requires_grad:
        spikes = spikes.detach()
    if spikes.dtype in _WIDENED:
        spikes = spikes.float()
    if not spikes.is_contiguous():
        spikes = spikes.contiguous()
    array: NDArray[np.generic] = spikes.numpy()
    return array


def _refuse_others(values: NDArray[np.generic], ones: Bools) -> None:
    """Raise NotSpikesError if any value is neither 0 nor 1; minus zero, whose bits are not zero, is 0."""
    is_other = (values != 0) ^ ones
    if is_other.any():
        raise NotSpikesError(describe_values(torch.from_numpy(values[is_other.any(axis=1)])))


def describe_values(values: torch.Tensor) -> str:
    """What range of values, and of what dtype, was found where spikes were expected."""
    wide = values.double()
    if wide.isnan().any():
        return f"NaN among values of dtype {str(values.dtype).removeprefix('torch.')}"
    dtype = str(values.dtype).removeprefix("torch.")
    return f"values from {wide.min().item():g} to {wide.max().item():g}, dtype {dtype}"


def _pack_rows(frames: Bools) -> Packed:
    """Pack a multiple of eight frames by doubling and or-ing whole rows, which runs at memory speed."""
    if frames.shape[1] < 8:
        return pack_frames(frames)
    eights = frames.view(np.uint8).reshape(-1, 8, frames.shape[1])
    # Added to itself rather than shifted: numpy has vector instructions for sums of bytes, not for shifts.
    rows: Packed = np.add(eights[:, 0], eights[:, 0])
    for place in range(1, 7):
        np.bitwise_or(rows, eights[:, place], rows)
        np.add(rows, rows, rows)
    return np.bitwise_or(rows, eights[:, 7], rows)
