"""Pack tensors in host memory to rows of bits with the compiled pass, which looks at every value once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recorder.capture.host.host_packing import (
    HostPacker,
    StagePool,
    as_array,
    contiguous,
    refuse_others,
    stage_frames,
)
from recorder.format.bits import Packed
from recorder.format.planes.values import Pending
from recorder.native.loading import WORDS, CompiledPass, Pack, Word

# With fewer neurons, there is too little to do side by side.
LEAST_NEURONS = 64


class NativePacker(HostPacker):
    """Does what `HostPacker` does, but packs at once: its stages hold rows of bits, whole when they are full.

    Bits of a row behind the frames that wait may be anything: frames which do not count are taken back by
    counting them no more.

    Parameters
    ----------
    pending : bool array, shape [fewer than 8, neurons]
    pool : StagePool
    compiled : CompiledPass
    dtype : str
        Data type for which the pass is ready. Outputs of others are converted until it is ready for these.
    """

    _frames_each = 8

    def __init__(self, pending: Pending, pool: StagePool, compiled: CompiledPass, dtype: str) -> None:
        self._compiled = compiled
        pack = compiled.ready(dtype)
        if pack is None:
            raise ValueError(f"the compiled pass is not ready for {dtype}")
        self._pack: Pack = pack
        # Of ones and zeros as whole numbers, for data types that the pass is not ready for.
        self._numbers = Word.of(WORDS[dtype].dtype.itemsize)
        self._word = self._numbers
        super().__init__(pending, pool)

    def _new_stage(self) -> Packed:
        # Memory of its own, as it goes to the writer.
        return np.empty((stage_frames(self.neurons) // 8, self.neurons), np.uint8)

    def _begin(self, pending: Pending) -> None:
        if len(pending):
            self._stage[:1] = np.packbits(pending, axis=0)

    def push(self, frames: torch.Tensor) -> None:
        """Add frames as `HostPacker.push` does."""
        try:
            self._push_array(self._words_of(frames))
        except _OthersError:
            self.roll_back()
            values = as_array(frames).reshape(-1, self.neurons)
            refuse_others(values, values == 1)
            # Of a boolean, any byte but 0 is true: here it is made a 1.
            self._push_array(self._words_of(frames.view(torch.uint8) != 0))

    def _words_of(self, frames: torch.Tensor) -> NDArray[Any]:
        dtype = str(frames.dtype).removeprefix("torch.")
        pack = self._compiled.ready(dtype)
        if pack is None:
            values = as_array(frames).reshape(-1, self.neurons)
            ones = np.equal(values, 1)
            refuse_others(values, ones)
            self._compiled.note(values.size, dtype)
            self._word = self._numbers
            converted: NDArray[Any] = ones.astype(self._word.dtype)
            return converted
        self._pack, self._word = pack, WORDS[dtype]
        if frames.requires_grad:
            frames = frames.detach()
        if frames.dtype == torch.bfloat16:  # which numpy lacks
            frames = frames.view(torch.int16)
        words: NDArray[Any] = contiguous(frames).numpy().reshape(-1, self.neurons).view(self._word.dtype)
        return words if words.flags.aligned else words.copy()

    def drain(self) -> Pending:
        """Put the whole rows of the stage into ``ready``; return the frames that fill none."""
        self.roll_back()
        whole, left = divmod(self._waiting, 8)
        rows, begun = self._stage[:whole].copy(), self._stage[whole : whole + 1].copy()
        pending: Pending = np.unpackbits(begun, axis=0, count=left).view(np.bool_)
        if whole:
            # No call, at which an exception from outside could come up, from here on.
            self._stage[:1] = begun
            self._waiting = left
            self.ready += [rows]
        return pending

    def _put_full(self, *, leave: bool) -> None:  # noqa: ARG002 - nothing is left to be packed
        """Put the rows of the full stage into ``ready``, and begin an empty one."""
        stage, empty = self._stage, self._new_stage()
        self.ready += [stage]
        self._stage, self._waiting = empty, 0

    def _add(self, values: NDArray[Any]) -> None:
        word = self._word
        others, fired = self._pack(values, self._stage, self._waiting, word.one, word.zero, word.significant)
        if others:
            raise _OthersError
        if fired:
            self.has_fired = True
        self._waiting += len(values)


class _OthersError(Exception):
    """There is a word that is neither 0 nor 1."""
