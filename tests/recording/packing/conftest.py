"""Recording as on an accelerator, on machines without one."""

from __future__ import annotations

import pytest

from devices import LateLane
from recorder.capture.device.transfer import TransferRing, TransferRings
from recorder.capture.packers import Packers


@pytest.fixture
def on_late_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is packed as on an accelerator, and arrives late."""
    monkeypatch.setattr(Packers, "is_on_host", lambda *_: False)
    monkeypatch.setattr(TransferRings, "of", lambda *_: TransferRing(LateLane()))
