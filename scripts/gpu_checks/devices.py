"""Where networks run: on a GPU, or on the CPU that is made to look like a device that works late."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from unittest.mock import patch

import torch
from torch import nn

from devices import LateLane
from recorder import SpikeOutput
from recorder.capture.device.transfer import TransferRing, TransferRings
from recorder.capture.packers import Packers

LATE_RING_BYTES = 2**20


class Device:
    """A device to record from.

    Attributes
    ----------
    is_real : bool
        Whether it is a GPU.
    torch : torch.device
        Where its tensors are.
    lanes : list of LateLane
        The ways of late devices to the host, as many as there are recordings; none of a GPU.
    """

    def __init__(self, *, is_real: bool) -> None:
        self.is_real = is_real
        self.torch = torch.device("cuda" if is_real else "cpu")
        self.lanes: list[LateLane] = []

    def synchronize(self) -> None:
        """Wait for all work of the device."""
        if self.is_real:
            torch.cuda.synchronize()

    def on_stream(self) -> AbstractContextManager[object]:
        """Run on a stream of one's own inside a ``with`` block."""
        if not self.is_real:
            return nullcontext()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        return torch.cuda.stream(stream)


@contextmanager
def device_to_check() -> Iterator[Device]:
    """A GPU where there is one, else the late device inside the ``with`` block."""
    if torch.cuda.is_available():
        yield Device(is_real=True)
        return
    device = Device(is_real=False)

    def ring_of(rings: TransferRings, _: torch.device) -> TransferRing:
        if "late" not in vars(rings):
            device.lanes.append(LateLane())
            vars(rings)["late"] = TransferRing(device.lanes[-1], LATE_RING_BYTES)
        ring: TransferRing = vars(rings)["late"]
        return ring

    with patch.object(Packers, "is_on_host", lambda *_: False), patch.object(TransferRings, "of", ring_of):
        yield device


class Relay(nn.Module):
    """A layer that puts out the spikes that it is given, in memory of their own and in their layout."""

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        """Copy."""
        return spikes.clone()


class Overwrite(nn.Module):
    """What comes behind a layer and overwrites its output in place."""

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        """Write zeros over all of it."""
        return spikes.zero_()


class Fire(nn.Module):
    """Integrate-and-fire neurons, whose output has zeros and ones: `steps` outputs a call, or one."""

    def __init__(self, *, has_steps: bool = False) -> None:
        super().__init__()
        self.has_steps = has_steps
        self.potential: torch.Tensor | None = None

    def forward(self, current: torch.Tensor) -> torch.Tensor:
        """Spikes of one step, [N, ...], or of several, [T, N, ...]."""
        if self.has_steps:
            return torch.stack([self._fire(one) for one in current])
        return self._fire(current)

    def _fire(self, current: torch.Tensor) -> torch.Tensor:
        potential = current if self.potential is None else self.potential * 0.5 + current
        spikes = (potential >= 1).to(current.dtype)
        self.potential = potential - spikes
        return spikes


def layers_of(kind: type[nn.Module], *, has_steps: bool = False) -> dict[type[nn.Module], SpikeOutput]:
    """What to tell the monitor of such layers."""
    return {kind: SpikeOutput("TN" if has_steps else "N")}
