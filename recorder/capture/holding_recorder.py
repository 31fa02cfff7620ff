"""A recorder of a layer whose frames can be withdrawn, to wait in memory, and put back into another one."""

from __future__ import annotations

import math

import numpy as np
import torch

from recorder.capture.held_rows import HeldRows
from recorder.capture.host.host_packing import HostPacker
from recorder.capture.host.value_packing import ValuePacker
from recorder.capture.layer_recorder import LayerRecorder
from recorder.format.segments import SegmentLog


class HoldingRecorder(LayerRecorder):
    """Does what `LayerRecorder` does; what one has checked and packed, another one can go on with."""

    def withdraw(self) -> HeldRows | None:
        """Take all frames away, as if none had come; None if there are none. It must be settled."""
        if self._packer is None or self.segments.frames == 0:
            return None
        pending = self.drain()
        held = HeldRows(self.ready, pending, np.concatenate(self.segments.look()))
        # Scale and range stay: later values are multiples of the same scale.
        self._has_fired |= getattr(self._packer, "has_fired", True)
        self._values = self.values
        self._packer = self._packers.make(self._device, pending[:0], self.dtype, self._values)
        self.segments, self.alike = SegmentLog(), None
        return held

    def begin_like(self, other: LayerRecorder) -> None:
        """Be ready for frames that another recorder of the same layer has checked and packed."""
        values = other.values
        if self._packer is None:
            self.neuron_shape, self.dtype = other.neuron_shape, other.dtype
            nothing = np.empty((0, math.prod(other.neuron_shape or ())), np.bool_)
            self._packer = self._packers.make(self._device, nothing, self.dtype, None)
        if values is not None and isinstance(self._packer, HostPacker):
            if not isinstance(self._packer, ValuePacker):
                self._packer = self._packers.follow(self._packer, self.dtype, values)
            self._packer.scale = values.scale

    def put_back(self, held: HeldRows) -> None:
        """Record the next whole steps of what another recorder has withdrawn; after `begin_like`."""
        packer, (first, call) = self._packer, held.calls[0]
        frames = torch.from_numpy(held.frames(first, call.steps * call.batch))
        if not isinstance(packer, HostPacker):
            raise TypeError(f"held frames are packed on the host, and not by {packer!r}")
        if isinstance(packer, ValuePacker):
            packer.push_levels(frames)
        else:
            packer.push(frames)
        self.segments.extend(*call)
        packer.undo = None
        del held.calls[0]
