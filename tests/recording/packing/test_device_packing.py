"""Frames packed on a device that works late come back as they were, and outputs of no spikes do not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import analysis
from devices import DEVICES, make_ring
from recorder import Monitor, SpikeOutput, SpikeValueError
from recorder.capture.device.packing import DevicePacker, PackFrames, Verdict, choose_packing, pack_with_torch
from recorder.capture.device.transfer import TransferRings
from recorder.capture.packers import Packers
from recorder.format.bits import Bools

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int64]
ON = "cuda" if torch.cuda.is_available() else "cpu"
BAD_VALUES = [0.5, -1.0, 2.0, float("nan"), float("inf"), 1e-40, 1.0000001, 1e30]


def collected(packer: DevicePacker, pieces: list[np.ndarray], verdicts: list[Verdict], *, wait: bool) -> None:
    verdicts += packer.collect(wait=wait)
    pieces += packer.ready
    packer.ready = []


def frames_in(pieces: list[np.ndarray], pending: Bools) -> np.ndarray:
    rows = np.concatenate([np.empty((0, pending.shape[1]), np.uint8), *pieces])
    return np.concatenate([np.unpackbits(rows, axis=0).astype(np.bool_), pending])


@pytest.mark.parametrize("device", DEVICES)
@given(
    neurons=st.sampled_from([1, 7, 33]),
    outputs=st.lists(
        st.tuples(
            st.sampled_from([1, 1, 3, 7, 8, 9, 16, 40]),
            st.sampled_from(["push", "wait", "drain"]),
            st.sampled_from([None, None, None, *BAD_VALUES]),
        ),
        max_size=12,
    ),
    dtype=st.sampled_from(DTYPES),
    pending=st.integers(0, 7),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_frames_come_out_as_they_went_in_without_the_bad_outputs(
    device: str,
    neurons: int,
    outputs: list[tuple[int, str, float | None]],
    dtype: torch.dtype,
    pending: int,
    seed: int,
) -> None:
    ring, where = make_ring(device, 300)
    generator = np.random.default_rng(seed)
    first = generator.random((pending, neurons)) < 0.3
    packer = DevicePacker(first, where, ring)
    kept, pieces, verdicts, expected = [first], [], [], []
    others: list[tuple[int, int]] = []
    for count, then, bad in outputs:
        frames = generator.random((count, neurons)) < 0.3
        tensor = torch.from_numpy(frames).to(where, dtype, copy=True)
        if bad is not None and dtype in (torch.float32, torch.float64):
            places = generator.integers(count * neurons, size=3)
            tensor.view(-1)[torch.from_numpy(places).to(where)] = bad
            expected.append(bad)
            others.append((len(np.unique(places)), int(places.min())))
        else:
            kept.append(frames)
            expected.append(0.0)
            others.append((0, 0))
        packer.push(tensor)
        # As after a hook, the network is free to overwrite its output.
        tensor.zero_()
        collected(packer, pieces, verdicts, wait=then == "wait")
        if then == "drain":
            collected(packer, pieces, verdicts, wait=True)
            packer.drain()
    collected(packer, pieces, verdicts, wait=True)
    left = packer.drain()
    assert np.array_equal(frames_in(pieces, left), np.concatenate(kept))
    assert [(verdict.others, verdict.first) for verdict in verdicts] == others
    for verdict, value in zip(verdicts, expected, strict=True):
        assert verdict.value == pytest.approx(value, rel=1e-6, abs=1e-37, nan_ok=True)


@pytest.fixture(scope="module")
def kernel() -> PackFrames:
    """The compiled kernel; without a GPU, Triton interprets it."""
    pytest.importorskip("triton", reason="no Triton")
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"
    from recorder.capture.device.kernel import pack_with_triton

    return pack_with_triton


def packed(pack: PackFrames, frames: torch.Tensor, waiting: int, before: torch.Tensor) -> list[np.ndarray]:
    whole, rest = divmod(waiting + len(frames), 8)
    rows = torch.empty((whole, len(before)), dtype=torch.uint8, device=frames.device)
    after, verdict = torch.zeros_like(before), torch.zeros((), device=frames.device)
    others = torch.zeros(2, dtype=torch.int64, device=frames.device)
    pack(frames, waiting, before, rows, after, verdict, others)
    left = after.cpu().numpy() if rest else np.zeros(0)
    return [rows.cpu().numpy(), left, verdict.cpu().numpy(), others.cpu().numpy()]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("waiting", "count", "neurons"), [(0, 1, 7), (0, 8, 1), (5, 2, 33), (3, 14, 1025)])
def test_the_kernel_does_the_same_as_plain_torch(
    kernel: PackFrames, dtype: torch.dtype, waiting: int, count: int, neurons: int
) -> None:
    frames = (torch.rand(count, neurons, device=ON) < 0.3).to(dtype)
    before = (torch.rand(neurons, device=ON) < 0.5).to(torch.uint8) * 128
    for one, other in zip(
        packed(kernel, frames, waiting, before), packed(pack_with_torch, frames, waiting, before), strict=True
    ):
        assert np.array_equal(one, other)


def test_the_kernel_reads_other_memory_layouts_in_logical_order(kernel: PackFrames) -> None:
    frames = torch.rand(6, 40, device=ON) < 0.5
    for view in (frames, frames.T.contiguous().T, frames[:, ::2], frames[::2], frames[:1].expand(6, 40)):
        before = torch.zeros(view.shape[1], dtype=torch.uint8, device=ON)
        _, after, verdict, _ = packed(kernel, view, 0, before)
        assert np.array_equal(after, np.packbits(view.cpu().numpy(), axis=0)[0])
        assert verdict == 0


@pytest.mark.parametrize("value", [0.5, -1.0, float("nan"), float("inf"), 1e-40, -1e-300, 1.0000001])
def test_both_tell_a_value_that_is_no_spike_even_if_it_rounds_to_nothing(
    kernel: PackFrames, value: float
) -> None:
    frames = torch.zeros(9, 3, dtype=torch.float64, device=ON)
    frames[4, 1] = 1
    frames[8, 2] = value
    for pack in (kernel, pack_with_torch):
        verdict = packed(pack, frames, 3, torch.zeros(3, dtype=torch.uint8, device=ON))[2]
        assert verdict == pytest.approx(value, rel=1e-6, abs=1e-37, nan_ok=True)
        assert verdict != 0


def test_the_kernel_is_chosen_on_cuda_only() -> None:
    assert choose_packing("cpu") is pack_with_torch
    assert choose_packing("cuda") is not pack_with_torch


# -- through the monitor -----------------------------------------------------------------------------


IS_ON_HOST = Packers.is_on_host


class Relay(nn.Module):
    """Puts out what it is given, as a new tensor that the next module overwrites."""

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        return spikes.clone()


class Overwrite(nn.Module):
    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        return spikes.zero_()


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A device whose outputs are packed there: CUDA, or the CPU made to look like one that works late."""
    monkeypatch.setattr("recorder.capture.device.transfer.RING_BYTES", 2000)
    ring, where = make_ring(request.param, 2000)
    if request.param == "late":
        monkeypatch.setattr(Packers, "is_on_host", lambda *_: False)
        monkeypatch.setattr(TransferRings, "of", lambda *_: ring)
    return where


def network() -> nn.Module:
    return nn.Sequential(Relay(), Overwrite(), nn.Identity(), Relay(), Overwrite())


def monitor_of(net: nn.Module, store: Path, **arguments: Any) -> Monitor:
    return Monitor(net, store=store, layers={Relay: SpikeOutput(axes="N")}, **arguments)


def inputs(device: torch.device, steps: int, batch: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.rand(batch, 37, generator=generator) < 0.3).float().to(device) for _ in range(steps)]


def test_a_run_is_recorded_bit_for_bit(device: torch.device, tmp_path: Path) -> None:
    net, given = network(), inputs(device, 50)
    with monitor_of(net, tmp_path / "run.zarr") as monitor, torch.inference_mode():
        for step, spikes in enumerate(given):
            net(spikes)
            if step == 20:
                monitor.flush()
    recorded = analysis.open_recording(tmp_path / "run.zarr")
    assert recorded["3"].spike_count() == 0
    expected = torch.stack(given).cpu().numpy()
    assert np.array_equal(np.stack(monitor.s["0"]), expected)
    assert recorded["0"].firing_rate() == expected.mean(dtype=np.float64)
    assert monitor.stats.frames == {"0": 250, "3": 250}


def test_a_resumed_run_goes_on_with_the_frames_that_fill_no_byte(
    device: torch.device, tmp_path: Path
) -> None:
    net, given = network(), inputs(device, 9)
    with monitor_of(net, tmp_path / "run.zarr"):
        for spikes in given[:5]:
            net(spikes)
    with monitor_of(net, tmp_path / "run.zarr", resume=True) as monitor:
        for spikes in given[5:]:
            net(spikes)
    assert np.array_equal(np.stack(monitor.s["0"]), torch.stack(given).cpu().numpy())


def test_other_values_are_told_with_the_next_commit_at_the_latest_and_left_out(
    device: torch.device, tmp_path: Path
) -> None:
    net, given = network(), inputs(device, 12)
    monitor = monitor_of(net, tmp_path / "run.zarr")
    monitor.enable()
    for spikes in given[:4]:
        net(spikes)
    net(given[4] * 0.25)
    with pytest.raises(SpikeValueError, match=r"layer '0'.*values such as 0.25, dtype float32, at step 4"):
        monitor.flush()
    for spikes in given[5:]:
        net(spikes)
    monitor.close()
    recorded = analysis.open_recording(tmp_path / "run.zarr")["0"]
    steps = [0, 1, 2, 3, *range(5, 12)]
    assert list(recorded.firing_rate(per="step").step) == steps
    expected = torch.stack(given).cpu().numpy()[steps].reshape(-1, 37).astype(bool)
    assert np.array_equal(recorded.spikes.values, expected)


def test_a_layer_moves_to_the_host_and_loses_nothing_whatever_it_puts_out_there(
    device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, given = network(), inputs(torch.device("cpu"), 12)
    with monitor_of(net, tmp_path / "run.zarr") as monitor:
        for spikes in given[:5]:
            net(spikes.to(device))
        if device.type == "cpu":  # the one that only looks like another
            monkeypatch.setattr(Packers, "is_on_host", IS_ON_HOST)
            for recorder, *_ in monitor._session.layers.by_name.values():
                recorder._device = torch.device("meta")
        with pytest.raises(SpikeValueError, match=r"layer '0'.*at step 5"):
            net(given[5] * 0.5)
        for spikes in given[6:]:
            net(spikes)
    recorded = analysis.open_recording(tmp_path / "run.zarr")["0"]
    assert recorded.firing_rate(per="step").step.values.tolist() == list(range(11))
    good = torch.cat([*given[:5], *given[6:]])
    assert np.array_equal(recorded.spikes.values, good.numpy() == 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_device_memory_is_bounded_by_the_plan(tmp_path: Path) -> None:
    net = network()
    spikes = (torch.rand(64, 100_000, device="cuda") < 0.1).float()
    net(spikes.clone())
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        net(spikes)
    without = torch.cuda.max_memory_allocated()
    with monitor_of(net, tmp_path / "run.zarr") as monitor:
        for _ in range(200):
            net(spikes)
        plan = monitor.plan
    assert torch.cuda.max_memory_allocated() <= without + plan.device_bytes_limit


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_network_may_change_its_stream(tmp_path: Path) -> None:
    net, given = network(), inputs(torch.device("cuda"), 40)
    streams = [torch.cuda.Stream() for _ in range(3)]
    with monitor_of(net, tmp_path / "run.zarr") as monitor:
        for step, spikes in enumerate(given):
            streams[step % 3].wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(streams[step % 3]):
                net(spikes)
    assert np.array_equal(np.stack(monitor.s["0"]), torch.stack(given).cpu().numpy())


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
def test_layers_on_several_devices(tmp_path: Path) -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = Relay(), Relay()

        def forward(self, spikes: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(spikes).to("cuda:1"))

    given = inputs(torch.device("cuda:0"), 20)
    net = Halves()
    with monitor_of(net, tmp_path / "run.zarr") as monitor:
        for spikes in given:
            net(spikes)
    for name in ("first", "second"):
        assert np.array_equal(np.stack(monitor.s[name]), torch.stack(given).cpu().numpy())
