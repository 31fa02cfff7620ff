"""Signals come from accelerators whole and in order, while nothing waits for the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from devices import DEVICES, make_ring
from recorder import Monitor, Signal
from recorder.capture import signal_recorder
from recorder.capture.device.transfer import TransferRings
from recorder.capture.signal_recorder import Arriving, SignalRecorder
from recorder.stores import Folder
from recorder.tape import TapeReader


class Changing(nn.Module):
    """Changes its state in place after each step, as networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.v = torch.zeros(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.v.shape != x.shape:
            self.v = torch.zeros_like(x)
        self.v.mul_(0.5).add_(x)
        return (x > 0.5).float()


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A device that works late, which stands for the CPU where there is no other."""
    ring, where = make_ring(request.param, 4000)
    if request.param == "late":
        made = signal_recorder._DeviceStage

        def new_stage(self: SignalRecorder) -> Any:
            assert self.about is not None
            return made(self.stage_frames, self.about.plan.neurons, self.about.dtype, where, ring)

        monkeypatch.setattr(SignalRecorder, "_new_stage", new_stage)
    else:
        monkeypatch.setattr(TransferRings, "of", lambda *_: ring)
    return where


@pytest.mark.parametrize("stage_bytes", [100, 2000, 2**20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_values_arrive_as_they_were(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: torch.device,
    stage_bytes: int,
    dtype: torch.dtype,
) -> None:
    monkeypatch.setattr(signal_recorder, "STAGE_BYTES", stage_bytes)
    net = nn.Sequential(Changing()).to(device)
    steps = (torch.rand(40, 5, 3, 4, generator=torch.Generator().manual_seed(0)) * 3).to(dtype).float()
    signals = [
        "v",
        Signal(lambda *seen: seen[1][0].to(dtype), name="given"),
        Signal("v", neurons=[1, 7], samples=2, every=3, dtype="float16", name="few"),
    ]
    seen = []
    monitor = Monitor(net, store=tmp_path / "run", layers=[Changing], signals=signals, threshold=0.5)
    with monitor, torch.no_grad():
        for number, x in enumerate(steps):
            net(x.to(device))
            seen.append(net[0].v.cpu().clone())
            if number % 9 == 0:
                monitor.flush()
    found = TapeReader.open(Folder(tmp_path / "run")).layers["0"].signals
    expected = torch.stack(seen)
    np.testing.assert_array_equal(found["v"].values(0, 200), expected.flatten(0, 1).numpy())
    given = steps.to(dtype).flatten(0, 1)
    np.testing.assert_array_equal(found["given"].values(0, 200).astype(np.float64), given.double().numpy())
    few = expected[::3, :2].flatten(2)[..., [1, 7]].to(torch.float16)
    np.testing.assert_array_equal(found["few"].values(0, 28), few.flatten(0, 1).numpy())


def test_nobody_waits_for_values_before_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    if device.type != "cpu":
        pytest.skip("asks the device that works late")
    monkeypatch.setattr(signal_recorder, "STAGE_BYTES", 100)
    waits: list[int] = []
    net = nn.Sequential(Changing())
    with Monitor(net, store=tmp_path / "run", layers=[Changing], signals="v") as monitor:
        for _ in range(3):
            net(torch.rand(5, 3))
        recorder = monitor._session.layers.by_name["0"].signals.recorders[0]
        assert any(isinstance(piece, Arriving) and not piece.transfer.arrived for piece in recorder.ready)
        waits.append(len(recorder.ready))
        monitor.flush()
        assert recorder.ready == []
    assert waits[0] > 0


def test_a_network_that_moves_keeps_the_order_of_its_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the host and a device that works late, which is told by the data type of the moment."""
    ring, where = make_ring("late", 4000)
    made, is_late = signal_recorder._DeviceStage, [False]
    on_host = SignalRecorder._new_stage

    def new_stage(self: SignalRecorder) -> Any:
        assert self.about is not None
        if not is_late[0]:
            return on_host(self)
        return made(self.stage_frames, self.about.plan.neurons, self.about.dtype, where, ring)

    monkeypatch.setattr(SignalRecorder, "_new_stage", new_stage)
    net = nn.Sequential(Changing())
    steps = torch.rand(12, 5, 3)
    with Monitor(net, store=tmp_path / "run", layers=[Changing], signals="input") as monitor:
        recorder = monitor._session.layers.by_name["0"].signals.recorders[0]
        for number, x in enumerate(steps):
            is_late[0] = number % 4 > 1
            if recorder.about is not None:
                recorder._put_stage()  # as a change of device does
            net(x)
    found = TapeReader.open(Folder(tmp_path / "run")).layers["0"].signals["input"]
    np.testing.assert_array_equal(found.values(0, 60), steps.flatten(0, 1).numpy())
