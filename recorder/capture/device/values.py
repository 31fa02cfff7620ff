"""Copy outputs with other values than 0 and 1 from an accelerator to the host, as levels of a byte or two."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
import torch

from recorder.capture.device.packing import Verdict, on_device
from recorder.capture.device.transfer import Transfer, TransferRing
from recorder.capture.host.host_packing import WholeRows
from recorder.capture.host.value_packing import ValuePacker
from recorder.format.planes.values import Pending
from recorder.format.record.metadata import ValuesCommit

# Levels so far that are packed in one byte: there is room for four times as large ones.
_BYTE_LEVELS = 31


class _Sent(NamedTuple):
    """An output on its way: its frames, their levels, and what was found among its values."""

    frames: int
    dtype: torch.dtype
    levels: Transfer
    verdict: Transfer


class DeviceValuePacker:
    """Makes levels of the frames of one layer on the device where they are; the host packs them.

    `push` queues work on the stream of the network, and does not wait for it. `collect` has the levels that
    have arrived packed by a `ValuePacker`, to events and planes. An output of which a value is no multiple of
    the scale, or a level too large for what is sent, is left out as a whole; larger levels can be sent then.

    Parameters
    ----------
    host : ValuePacker
        Goes on behind the frames that it has.
    device : torch.device
    ring : TransferRing
        Ring of this device.
    dtype : torch.dtype
        Of the layer's outputs, in which values are given back.
    """

    def __init__(
        self, host: ValuePacker, device: torch.device, ring: TransferRing, dtype: torch.dtype
    ) -> None:
        self._host = host
        self._device = device
        self._ring = ring
        self._dtype = dtype
        self.verdicts: deque[Verdict] = deque()
        self._sent: deque[_Sent] = deque()
        most = max(host.values.most, -host.values.least)
        self._level_dtype = torch.int8 if most <= _BYTE_LEVELS else torch.int16

    @property
    def ready(self) -> list[WholeRows]:
        """Whole rows in order, for somebody to take."""
        return self._host.ready

    @property
    def values(self) -> ValuesCommit:
        """Scale, and range of the levels so far."""
        return self._host.values

    def push(self, frames: torch.Tensor) -> None:
        """Add the frames of one output, shape [..., *neuron]; `collect` returns the verdict."""
        with torch.inference_mode(mode=False), torch.no_grad(), on_device(self._device):
            frames = frames.reshape(-1, self._host.neurons)
            levels = self._levels_of(frames)
            verdict = self._judge(frames, levels)
            mark = self._ring.lane.mark()
            sent = _Sent(
                len(frames),
                levels.dtype,
                self._ring.send(levels.view(torch.uint8), mark),
                self._ring.send(verdict.view(torch.uint8), mark),
            )
            self._sent += (sent,)

    def _levels_of(self, frames: torch.Tensor) -> torch.Tensor:
        if self._host.scale != 1:
            frames = torch.round(frames.double() / self._host.scale)
        if frames.is_floating_point():
            limits = torch.iinfo(self._level_dtype)
            frames = frames.clamp(limits.min, limits.max)
        return frames.to(self._level_dtype)

    def _judge(self, frames: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """Number of values that levels do not give back, the place of the first, and that value."""
        scaled = levels if self._host.scale == 1 else levels.double() * self._host.scale
        is_other = (scaled.to(self._dtype) != frames).flatten()
        first = is_other.view(torch.uint8).argmax(keepdim=True)
        value = frames.flatten().gather(0, first).double()
        return torch.stack([is_other.sum().double(), first[0].double(), value[0]])

    @property
    def undecided(self) -> int:
        """How many outputs were pushed about which nothing was taken from ``verdicts``."""
        return len(self.verdicts) + len(self._sent)

    def collect(self, *, wait: bool) -> None:
        """Pack the outputs that have arrived since the last call; put what was found into ``verdicts``.

        Parameters
        ----------
        wait : bool
            Wait for everything pushed so far.
        """
        if not wait:
            self._ring.poll()
        while self._sent and (wait or (self._sent[0].levels.arrived and self._sent[0].verdict.arrived)):
            sent = self._sent[0]
            self._ring.wait(sent.levels)
            self._ring.wait(sent.verdict)
            others, first, value = sent.verdict.data.view(np.float64).tolist()
            verdict = Verdict(value, int(others), int(first) if others else 0)
            if others == 0:
                levels = torch.from_numpy(sent.levels.data).view(sent.dtype)
                self._host.push_levels(levels.view(sent.frames, self._host.neurons))
                self._host.undo = None
            else:
                self._level_dtype = torch.int16
            self.verdicts += (verdict,)
            del self._sent[0]

    def drain(self) -> Pending:
        """Have all whole rows in ``ready``; return the frames that fill none. All must be collected."""
        pending: Pending = self._host.drain()
        return pending


def puts_out_values(spikes: torch.Tensor) -> bool:
    """True if there are other values than 0 and 1; this waits for the device."""
    with torch.no_grad():
        return bool(((spikes != 0) & (spikes != 1)).any())
