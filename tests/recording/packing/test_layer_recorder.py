"""Calls like the one before are only counted, small outputs gathered; nothing else changes by that."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from zarr.storage import MemoryStore

from recorder import Monitor, SpikeValueError
from recorder.capture.calls import GATHER_BYTES
from recorder.capture.layer_recorder import LOOK_AFTER_CALLS
from recorder.format import RecordingWriteError
from recorder.stores import Folder, open_store
from recorder.tape import TapeReader

MANY = LOOK_AFTER_CALLS + 700
# Batch, data type, and whether in a trial.
KINDS = [
    (1, torch.float32, False),
    (1, torch.bool, False),
    (2, torch.float32, True),
    (7, torch.bfloat16, False),
    (90, torch.float64, True),
    (300, torch.float64, False),
]


class Given(nn.Module):
    """Puts out what it is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Two(nn.Module):
    """Two layers, of which the second is left out where told so."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Given(), Given()

    def forward(self, x: torch.Tensor, both: bool = True, fail: bool = False) -> torch.Tensor:
        x = self.first(x)
        if fail:
            raise ArithmeticError("half way")
        return self.second(x) if both else x


def monitored(tmp_path: Path, net: nn.Module, **options: Any) -> Monitor:
    return Monitor(net, store=tmp_path / "run.zarr", layers=[Given], durability="process", **options)


def some_steps(count: int, *shape: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(*shape, generator=generator) < 0.3).float() for _ in range(count)]


def steps_of(monitor: Monitor, name: str) -> list[int]:
    segments = TapeReader.open(Folder(monitor.store)).layers[name].segments()
    return [step for row in segments for step in range(row[1], row[1] + row[2])]


@pytest.mark.parametrize("shape", [(1, 1), (1, 100), (3, 7), (1, 2, 3), (2,)])
def test_many_small_outputs_are_recorded_in_order(tmp_path: Path, shape: tuple[int, ...]) -> None:
    net = nn.Sequential(Given(), Given())
    steps = some_steps(MANY, *shape)
    with monitored(tmp_path, net) as monitor:
        for number, step in enumerate(steps):
            output = net(step)
            output.zero_()  # after it has been recorded
            if number in (LOOK_AFTER_CALLS + 5, MANY - 1):
                assert len(monitor.s["1"]) == number + 1
    expected = some_steps(MANY, *shape)
    for name in ("0", "1"):
        assert all(np.array_equal(a, b.numpy()) for a, b in zip(monitor.s[name], expected, strict=True))
        rate = sum(int(s.sum()) for s in expected) / sum(s.numel() for s in expected)
        assert monitor.get_avg_firing_rate(False, name) == rate
        assert len(TapeReader.open(Folder(monitor.store)).layers[name].segments()) == 1


def test_trials_batches_and_large_outputs_end_the_gathering(tmp_path: Path) -> None:
    net = Given()
    steps = []
    with monitored(tmp_path, net) as monitor:
        for repeat in range(4):
            with monitor.trial(label=repeat):
                steps += some_steps(MANY, 2, 5, seed=repeat)
                for step in steps[-MANY:]:
                    net(step)
            odd = [*some_steps(3, 3, 5), *some_steps(2, GATHER_BYTES, 5), *some_steps(1, 0, 5)]
            for step in odd:
                net(step)
            steps += odd[:-1]
        assert len(monitor.s[""]) == len(steps)
        assert all(np.array_equal(a, b.numpy()) for a, b in zip(monitor.s[""], steps, strict=True))
        segments = TapeReader.open(Folder(monitor.store)).layers[""].segments()
    assert [(batch, trial) for *_, batch, trial in segments][:4] == [
        (2, 0),
        (3, -1),
        (GATHER_BYTES, -1),
        (2, 1),
    ]


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 40), st.booleans()), max_size=12))
@settings(deadline=None, max_examples=30)
def test_calls_alike_and_others_are_recorded_one_after_the_other(
    runs: list[tuple[tuple[int, torch.dtype, bool], int, bool]],
) -> None:
    """Outputs that fill the stage, fill it partly or are gathered; of other batches, types and trials."""
    net = Given()
    store = MemoryStore()
    expected, trials = [], []
    with Monitor(net, store=store, layers=[Given]) as monitor, pytest.MonkeyPatch.context() as patch:
        patch.setattr("recorder.capture.layer_recorder.LOOK_AFTER_CALLS", 20)
        patch.setattr("recorder.capture.calls.GATHER_BYTES", 3000)
        patch.setattr("recorder.capture.host.host_packing.STAGE_BYTES", 2000)
        patch.setattr("recorder.capture.host.host_packing.PUT_BYTES", 5000)
        patch.setattr("recorder.session.rows.PUT_BYTES", 5000)
        for seed, ((batch, dtype, in_trial), calls, is_bad_inside) in enumerate(runs):
            with monitor.trial(number=seed) if in_trial else nullcontext():
                for number, step in enumerate(some_steps(calls, batch, 9, seed=seed)):
                    spikes = step.to(dtype)
                    if is_bad_inside and number == 30 and dtype.is_floating_point:
                        # Of outputs that are gathered the second tells.
                        with pytest.raises(SpikeValueError, match=r"values from 0"):  # noqa: PT012
                            net(spikes * 0.5 + 0.25)
                            monitor.flush()
                    net(spikes)
                    expected.append(step)
                    trials.append(seed if in_trial else -1)
            assert monitor.stats.frames.get("", 0) == sum(map(len, expected))
        recorded = monitor.s[""] if expected else []
        assert all(np.array_equal(a, b.numpy()) for a, b in zip(recorded, expected, strict=True))
    reader = TapeReader.open(open_store(store, read_only=True))
    rows = list(reader.layers[""].segments()) if expected else []
    of_steps = [(first + n, batch, trial) for _, first, steps, batch, trial in rows for n in range(steps)]
    assert [batch for _, batch, _ in of_steps] == [len(step) for step in expected]
    numbers = {trial: number for number, trial in enumerate(dict.fromkeys(t for t in trials if t >= 0))}
    assert [trial for *_, trial in of_steps] == [numbers.get(trial, -1) for trial in trials]
    if not any(is_bad for *_, is_bad in runs):
        assert [step for step, *_ in of_steps] == list(range(len(expected)))


def test_a_label_for_each_sample_is_checked_against_gathered_batches_too(tmp_path: Path) -> None:
    net = Given()
    with monitored(tmp_path, net) as monitor:
        for step in some_steps(MANY, 2, 5):
            net(step)
        with pytest.raises(ValueError, match="label has 3 values"), monitor.trial(label=[1, 2, 3]):
            net(torch.zeros(2, 5))


@pytest.mark.parametrize("noticed", ["by a later step", "by a question", "by close"])
def test_another_value_is_told_of_later_and_left_out_alone(tmp_path: Path, noticed: str) -> None:
    net = Given()
    steps = some_steps(MANY, 1, 100)
    bad = LOOK_AFTER_CALLS + 20
    steps[bad][0, 7] = 0.5
    monitor = monitored(tmp_path, net)
    monitor.enable()
    for step in steps[: bad + 3]:
        net(step)

    def run_on() -> None:
        for step in some_steps(1000, 1, 100):
            net(step)

    notice = {"by close": monitor.close, "by a question": monitor.get_avg_firing_rate}.get(noticed, run_on)
    message = rf"values from 0 to 1, dtype float32, at step {bad}; spikes are 0 or 1"
    with pytest.raises(SpikeValueError, match=message):
        notice()
    monitor.close()
    recorded = steps_of(monitor, "")
    assert bad not in recorded
    assert recorded[: bad + 2] == [step for step in range(bad + 3) if step != bad]
    expected = np.stack([step.numpy() for number, step in enumerate(steps[: bad + 3]) if number != bad])
    assert np.array_equal(np.stack(monitor.s[""][: bad + 2]), expected)


def test_a_bad_value_found_while_the_network_rests_does_not_end_the_recording(tmp_path: Path) -> None:
    net = Given()
    with monitored(tmp_path, net, commit_interval=0.05) as monitor:
        for step in some_steps(MANY, 1, 3):
            net(step)
        monitor.flush()
        net(torch.zeros(1, 3))
        net(torch.full((1, 3), float("nan")))
        deadline = time.monotonic() + 60
        while not monitor._session.layers.late_errors and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(SpikeValueError, match=f"at step {MANY + 1}"):
            net(torch.zeros(1, 3))
        net(torch.zeros(1, 3))
    assert steps_of(monitor, "")[-2:] == [MANY, MANY + 2]


def test_steps_stay_aligned_while_gathering(tmp_path: Path) -> None:
    net = Two()
    behaviours = [{}] * MANY + [{"both": False}] + [{}] * 9 + [{"fail": True}] + [{}] * 9
    with monitored(tmp_path, net) as monitor:
        for behaviour in behaviours:
            try:
                net(torch.zeros(1, 3), **behaviour)
            except ArithmeticError:
                assert behaviour == {"fail": True}
        assert len(monitor.s["first"]) == len(behaviours)
        missed = {number for number, behaviour in enumerate(behaviours) if behaviour}
        assert steps_of(monitor, "second") == [s for s in range(len(behaviours)) if s not in missed]
        assert steps_of(monitor, "first") == list(range(len(behaviours)))


def test_gathered_outputs_keep_no_graph_and_may_need_gradients(tmp_path: Path) -> None:
    net = nn.Sequential(Given())
    with monitored(tmp_path, net) as monitor:
        for step in some_steps(MANY, 1, 3):
            output = net(step.requires_grad_() * 1)
            assert output.requires_grad
        recorder = monitor._session.layers.by_name["0"].recorder
        assert not torch.from_numpy(recorder.alike.gathered).requires_grad


def test_a_failing_disk_is_told_while_gathering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Given()
    monitor = monitored(tmp_path, net, commit_interval=0.01)
    monitor.enable()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Folder, "write", fail)

    def run_for_long() -> None:
        for step in some_steps(100, 1, 100) * 1000:
            net(step)

    with pytest.raises(RecordingWriteError, match="No space left"):
        run_for_long()
    # From the first hook of the next forward on: one exception, and no warning of another.
    with pytest.raises(RecordingWriteError, match="No space left"):
        net(some_steps(100, 1, 100)[0])
    with pytest.raises(RecordingWriteError, match="No space left"):
        monitor.close()
