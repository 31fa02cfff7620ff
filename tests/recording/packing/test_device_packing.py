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
from devices import DEVICES, LateLane, make_ring
from recorder import Monitor, SpikeOutput, SpikeValueError
from recorder.capture.device import packing
from recorder.capture.device.gathering import GATHER_AFTER
from recorder.capture.device.packing import (
    VERDICT_NUMBERS,
    DevicePacker,
    PackFrames,
    Verdict,
    choose_packing,
    pack_with_torch,
)
from recorder.capture.device.transfer import TransferRing, TransferRings
from recorder.capture.packers import Packers
from recorder.format.bits import Bools

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int64]
ON = "cuda" if torch.cuda.is_available() else "cpu"
BAD_VALUES = [0.5, -1.0, 2.0, float("nan"), float("inf"), 1e-40, 1.0000001, 1e30]


def collected(packer: DevicePacker, pieces: list[np.ndarray], verdicts: list[Verdict], *, wait: bool) -> None:
    packer.collect(wait=wait)
    verdicts += packer.verdicts
    packer.verdicts.clear()
    assert not wait or packer.undecided == 0
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


def packed(
    pack: PackFrames, frames: torch.Tensor, waiting: int, before: torch.Tensor, outputs: int = 1
) -> list[np.ndarray]:
    whole, rest = divmod(waiting + len(frames), 8)
    rows = torch.empty((whole, len(before)), dtype=torch.uint8, device=frames.device)
    after = torch.zeros_like(before)
    verdicts = torch.zeros((outputs, VERDICT_NUMBERS), dtype=torch.int64, device=frames.device)
    pack(frames, waiting, before, rows, after, verdicts)
    left = after.cpu().numpy() if rest else np.zeros(0)
    numbers = verdicts.cpu().numpy()
    return [rows.cpu().numpy(), left, numbers.view(np.float32)[:, 0], numbers[:, 1:]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("waiting", "count", "neurons", "outputs"),
    [(0, 1, 7, 1), (0, 8, 1, 1), (5, 2, 33, 2), (3, 14, 1025, 1), (6, 21, 70, 7), (7, 24, 9, 3)],
)
def test_the_kernel_does_the_same_as_plain_torch(
    kernel: PackFrames, dtype: torch.dtype, waiting: int, count: int, neurons: int, outputs: int
) -> None:
    frames = (torch.rand(count, neurons, device=ON) < 0.3).to(dtype)
    if dtype.is_floating_point:
        frames.view(-1)[torch.randperm(frames.numel(), device=ON)[:3]] = -0.25
    before = (torch.rand(neurons, device=ON) < 0.5).to(torch.uint8) * 128
    packs = kernel, pack_with_torch
    one, other = (packed(pack, frames, waiting, before, outputs) for pack in packs)
    assert all(map(np.array_equal, one, other))
    numbers = frames.float().cpu().numpy().reshape(outputs, -1)
    is_bad = (numbers != 0) & (numbers != 1)
    found, others = one[2:]
    assert np.array_equal(found, np.where(is_bad.any(axis=1), np.float32(-0.25), 0))
    assert np.array_equal(others[:, 0], is_bad.sum(axis=1))
    behind = is_bad.shape[1] - is_bad.argmax(axis=1)
    assert np.array_equal(others[:, 1], np.where(is_bad.any(axis=1), behind, 0))


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


class Streams(LateLane):
    """A late device of several streams, of which one is the current one; notes what follows what."""

    def __init__(self) -> None:
        super().__init__()
        self.current = "first"
        self.followed: list[tuple[str, int]] = []

    def mark(self) -> Any:
        return self.current

    def follow(self, mark: Any, *tensors: torch.Tensor) -> None:
        if mark != self.current:
            self.followed += [(mark, tensor.data_ptr()) for tensor in tensors]


def counting(calls: list[int]) -> PackFrames:
    def pack(frames: torch.Tensor, *others: Any) -> None:
        calls.append(len(frames))
        pack_with_torch(frames, *others)

    return pack


def test_small_outputs_are_packed_many_at_a_time_and_the_first_ones_soon() -> None:
    lane, calls = LateLane(), list[int]()
    packer = DevicePacker(
        np.zeros((0, 40), np.bool_), torch.device("cpu"), TransferRing(lane), counting(calls)
    )
    given = torch.rand(2000, 2, 40) < 0.3
    for output in given.float():
        packer.push(output)
    # Two frames each; 2**20 bytes are room for more than 1024 outputs.
    assert [count // 2 for count in calls] == [1] * 8 + [8, 16, 32, 64, 128, 256, 512]
    packer.collect(wait=True)
    assert calls[-1] // 2 == 2000 - 8 - 1016
    assert [verdict.others for verdict in packer.verdicts] == [0] * 2000
    rows = np.concatenate(packer.ready)
    assert np.array_equal(np.unpackbits(rows, axis=0).astype(bool), given.reshape(-1, 40).numpy())


def test_large_outputs_are_packed_at_once() -> None:
    calls: list[int] = []
    ring = TransferRing(LateLane())
    packer = DevicePacker(np.zeros((0, 40_000), np.bool_), torch.device("cpu"), ring, counting(calls))
    for _ in range(20):
        packer.push(torch.zeros(1, 40_000))
    assert calls == [1] * 20


@pytest.mark.parametrize("bad", [0, 9, 20, 39])
def test_of_outputs_that_are_packed_together_the_bad_ones_alone_are_left_out(bad: int) -> None:
    packer = DevicePacker(np.zeros((3, 5), np.bool_), torch.device("cpu"), TransferRing(LateLane()))
    given = (torch.rand(40, 3, 5) < 0.3).float()
    given[bad, 1, 2] = given[bad, 2, 4] = -1.5
    for output in given:
        packer.push(output)
    packer.collect(wait=True)
    assert [(one.value, one.others, one.first) for one in packer.verdicts] == [
        (-1.5, 2, 7) if number == bad else (0, 0, 0) for number in range(40)
    ]
    kept = np.concatenate([np.zeros((3, 5)), np.delete(given.numpy(), bad, axis=0).reshape(-1, 5)])
    assert np.array_equal(frames_in([*packer.ready], packer.drain()), kept.astype(bool))


def test_outputs_of_another_stream_shape_or_type_come_behind_those_that_wait() -> None:
    lane = Streams()
    packer = DevicePacker(np.zeros((0, 6), np.bool_), torch.device("cpu"), TransferRing(lane))
    given = [torch.rand(4, 6) < 0.3 for _ in range(60)]
    for number, spikes in enumerate(given):
        if number == 12:
            lane.current = "second"
        gathered = packer._gathered
        output = spikes.double() if 30 <= number < 33 else spikes.float()
        packer.push(output.reshape(2, 2, 6) if number == 40 else output)
        if number == 12:
            assert gathered is not None
            # What waited is read on the second stream behind what the first one does; nothing is added to it.
            assert ("first", gathered.memory.data_ptr()) in lane.followed
            assert packer._gathered is None
    assert packer._gathered is not None
    packer.collect(wait=True)
    assert np.array_equal(frames_in([*packer.ready], packer.drain()), torch.cat(given).numpy())


def test_an_output_counts_for_nothing_if_memory_to_gather_in_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packer = DevicePacker(np.zeros((0, 6), np.bool_), torch.device("cpu"), TransferRing(LateLane()))

    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(packing, "Gathered", no_memory)
    for _ in range(GATHER_AFTER - 1):
        packer.push(torch.ones(4, 6))
    with pytest.raises(torch.OutOfMemoryError):
        packer.push(torch.ones(4, 6))
    assert packer.undecided == GATHER_AFTER - 1


def test_an_output_of_another_type_is_not_made_one_of_those_that_wait() -> None:
    packer = DevicePacker(np.zeros((0, 6), np.bool_), torch.device("cpu"), TransferRing(LateLane()))
    for _ in range(12):
        packer.push(torch.ones(4, 6))
    packer.push(torch.full((4, 6), 1 + 1e-12, dtype=torch.float64))  # in float32 it would be 1
    packer.collect(wait=True)
    assert [verdict.others for verdict in packer.verdicts] == [0] * 12 + [24]


def test_memory_that_is_short_while_outputs_are_packed_loses_none() -> None:
    calls: list[int] = []
    pack = counting(calls)

    def fails_once(*arguments: Any) -> None:
        pack(*arguments)
        if len(calls) == 9:
            raise torch.OutOfMemoryError("no memory")

    packer = DevicePacker(
        np.zeros((0, 6), np.bool_), torch.device("cpu"), TransferRing(LateLane()), fails_once
    )
    given = [(torch.rand(4, 6) < 0.3).float() for _ in range(40)]
    for number, output in enumerate(given):
        if number == 16:
            with pytest.raises(torch.OutOfMemoryError):
                packer.push(output)
        else:
            packer.push(output)
    assert packer.undecided == 39
    packer.collect(wait=True)
    del given[16]
    assert np.array_equal(frames_in([*packer.ready], packer.drain()), torch.cat(given).numpy())


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
