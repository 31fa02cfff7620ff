"""Recording as on an accelerator, on machines without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from devices import LateLane
from recorder.capture import layer_recorder
from recorder.capture.device_packing import DevicePacker, pack_with_torch
from recorder.capture.transfer import TransferRing


@pytest.fixture
def on_late_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is packed as on an accelerator, and arrives late."""

    def make(self: Any, device: torch.device, pending: Any) -> DevicePacker:
        self._device = device
        return DevicePacker(pending, device, TransferRing(LateLane()), pack_with_torch)

    monkeypatch.setattr(layer_recorder.LayerRecorder, "_make_packer", make)
