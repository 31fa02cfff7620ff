"""Torch tensor in host memory → packed bytes; `recorder.device_packing` is for those on accelerators.

A packer takes what one layer puts out, call by call, checks that it holds only zeros and ones, and gives back
rows of packed bits: eight frames to a byte, the first in the most significant bit. Frames that do not fill a
byte yet wait in it, so that what leaves is whole bytes whatever the batch size.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from recorder.format.bits import Bools, Packed, pack_frames

# Booleans waiting to be packed; small enough to stay in a core's cache between writing and packing.
STAGE_BYTES = 256 * 1024
# Values compared at once; the second comparison finds them in the core's cache.
COMPARE_BYTES = 1024 * 1024

# NumPy has no bfloat16, and compares half precision in software.
_WIDENED = (torch.float16, torch.bfloat16)


class NotSpikesError(ValueError):
    """A layer's output holds values other than 0 and 1."""


class HostPacker:
    """Packs the frames of one layer with numpy, several rows at a time.

    Parameters
    ----------
    pending : bool array, shape [fewer than 8, neurons]
        Frames to begin with.
    """

    def __init__(self, pending: Bools) -> None:
        neurons = pending.shape[1]
        frames = max(STAGE_BYTES // max(neurons, 1) // 8, 1) * 8
        self._stage = np.empty((frames, neurons), np.bool_)
        self._others = np.empty((frames, neurons), np.bool_)
        self._no_rows = np.empty((0, neurons), np.uint8)
        self._waiting = len(pending)
        self._stage[: self._waiting] = pending

    def push(self, frames: torch.Tensor) -> Packed:
        """Add frames and take the whole rows that result.

        Parameters
        ----------
        frames : tensor, shape [..., *neuron]
            All frames in logical order; any real dtype, every value 0 or 1.

        Returns
        -------
        uint8 array, shape [rows, neurons]
            Possibly no rows.

        Raises
        ------
        NotSpikesError
            If there are other values; none of ``frames`` has then been added.
        """
        stage, neurons = self._stage, self._stage.shape[1]
        values = _as_array(frames).reshape(-1, neurons)
        total, room = len(values), len(stage) - self._waiting
        if total < room:
            self._add(values)
            return self._no_rows
        if total == room:
            self._add(values)
            rows = _pack_rows(stage)
            self._waiting = 0
            return rows
        before = stage[: self._waiting].copy()
        packed = []
        first = 0
        try:
            while first < total:
                taken = min(len(stage) - self._waiting, total - first)
                self._add(values[first : first + taken])
                first += taken
                if self._waiting == len(stage):
                    packed.append(_pack_rows(stage))
                    self._waiting = 0
        except NotSpikesError:
            stage[: len(before)] = before
            self._waiting = len(before)
            raise
        return packed[0] if len(packed) == 1 else np.concatenate(packed)

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

    def _add(self, values: NDArray[np.generic]) -> None:
        """Compare values into the stage; two comparisons agree exactly where a value is 0 or 1."""
        at_once = max(COMPARE_BYTES // (values.shape[1] * values.itemsize), 1)
        for first in range(0, len(values), at_once):
            some = values[first : first + at_once]
            place = self._waiting + first
            ones, others = self._stage[place : place + len(some)], self._others[: len(some)]
            np.equal(some, 1, out=ones)
            np.not_equal(some, 0, out=others)
            others ^= ones
            if others.any():
                raise NotSpikesError(describe_values(torch.from_numpy(some[others.any(axis=1)])))
        self._waiting += len(values)


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
    rows = eights[:, 0] + eights[:, 0]
    for place in range(1, 7):
        rows |= eights[:, place]
        rows += rows
    rows |= eights[:, 7]
    return rows
