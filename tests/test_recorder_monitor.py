"""The monitor records what layers put out, answers from it, and says what to do when used wrongly."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import re
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr.storage
from processes import collect_garbage
from torch import nn

from recorder import Monitor, NeuronShapeError, SpikeOutput, SpikeValueError
from recorder.format import RecordingExistsError, RecordingFormatError, RecordingWriteError
from recorder.keeping import plan_recovery, recover
from recorder.keeping.verification import check_blocks
from recorder.monitor import NothingRecordedError, UnknownLayerError
from recorder.stores import Folder
from recorder.tape import TapeReader


class Threshold(nn.Module):
    """Spikes wherever its input exceeds 0.5."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0.5).to(x.dtype)


def network(neurons: int = 9) -> nn.Sequential:
    return nn.Sequential(Threshold(), nn.Linear(neurons, 5), Threshold())


class Outputs:
    """What each spiking layer put out, kept in memory."""

    def __init__(self, net: nn.Module, kind: type[nn.Module] = Threshold) -> None:
        self.kept: dict[str, list[torch.Tensor]] = {}
        for name, module in net.named_modules():
            if isinstance(module, kind):
                module.register_forward_hook(self.keep(name))

    def keep(self, name: str) -> Any:
        return lambda _module, _input, output: self.kept.setdefault(name, []).append(output.detach().clone())

    def check(self, monitor: Monitor) -> None:
        assert list(monitor.s) == list(self.kept)
        for name, outputs in self.kept.items():
            recorded = monitor.s[name]
            assert len(recorded) == len(outputs)
            for step, output in enumerate(outputs):
                assert torch.equal(torch.as_tensor(recorded[step]), output)
                assert torch.as_tensor(recorded[step]).dtype == output.dtype
        slots = [torch.cat([o.flatten(1) for o in outputs]).bool() for outputs in self.kept.values()]
        spikes = sum(int(s.sum()) for s in slots)
        assert_ratio(monitor.get_avg_firing_rate(), spikes, sum(s.numel() for s in slots))
        silent = sum(int((~s.any(0)).sum()) for s in slots)
        assert_ratio(monitor.get_nonfire_ratio(), silent, sum(s.shape[1] for s in slots))
        for name, s in zip(self.kept, slots, strict=True):
            assert_ratio(monitor.get_avg_firing_rate(False, name), int(s.sum()), s.numel())
            assert_ratio(monitor.get_nonfire_ratio(False, name), int((~s.any(0)).sum()), s.shape[1])


def assert_ratio(found: Any, numerator: int, denominator: int) -> None:
    """Exact; a tensor has torch's default precision."""
    exact = numerator / denominator
    assert found == (torch.tensor(exact) if isinstance(found, torch.Tensor) else exact)


def on_store(tmp_path: Path, net: nn.Module, **options: Any) -> Monitor:
    return Monitor(net, **{"store": tmp_path / "run.zarr", "layers": [Threshold], **options})


def run(net: nn.Module, batches: tuple[int, ...] = (4, 4, 4, 3), neurons: int = 9) -> None:
    with torch.no_grad():
        for batch in batches:
            net(torch.rand(batch, neurons))


def test_what_layers_put_out_is_what_is_read_back_at_any_time(tmp_path: Path) -> None:
    net = network()
    outputs = Outputs(net)
    with on_store(tmp_path, net) as monitor:
        run(net)
        outputs.check(monitor)  # while recording
        run(net, (1, 1, 70))
        outputs.check(monitor)
        monitor.disable()
        outputs.check(monitor)
    outputs.check(monitor)  # closed


@pytest.mark.parametrize("store", ["folder", "memory"])
def test_any_zarr_store_will_do(tmp_path: Path, store: str) -> None:
    net = network()
    outputs = Outputs(net)
    zarr_store = (
        zarr.storage.MemoryStore() if store == "memory" else zarr.storage.LocalStore(tmp_path / "run.zarr")
    )
    with on_store(tmp_path, net, store=zarr_store) as monitor:
        run(net)
    outputs.check(monitor)


def test_nothing_is_recorded_before_enable_and_after_disable(tmp_path: Path) -> None:
    net = network()
    monitor = on_store(tmp_path, net)
    run(net, (1,))
    monitor.enable()
    monitor.enable()
    run(net, (2, 2))
    monitor.disable()
    monitor.disable()
    run(net, (3,))
    monitor.enable()
    run(net, (4,))
    monitor.close()
    monitor.close()
    monitor.disable()
    run(net, (5,))
    assert [len(step) for step in monitor.s["0"]] == [2, 2, 4]
    monitor.enable()
    run(net, (6,))
    assert [len(step) for step in monitor.s["0"]] == [2, 2, 4, 6]
    monitor.close()


def test_nothing_is_left_on_the_modules(tmp_path: Path) -> None:
    net = network()
    before = {name: dict(module.__dict__) for name, module in net.named_modules()}
    monitor = on_store(tmp_path, net)
    monitor.enable()
    run(net)
    monitor.close()
    for name, module in net.named_modules():
        assert module.__dict__.keys() == before[name].keys()
        for attribute, value in module.__dict__.items():
            if attribute.startswith("_forward"):
                assert not value


def test_reset_discards_and_starts_again_from_step_0(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        run(net)
        monitor.reset()
        with pytest.raises(NothingRecordedError):
            monitor.get_avg_firing_rate()
        outputs = Outputs(net)
        run(net, (2, 2))
        outputs.check(monitor)
    segments = TapeReader.open(Folder(tmp_path / "run.zarr")).layers["0"].segments()
    assert segments.rows.tolist() == [[0, 0, 2, 2, -1]]
    monitor.reset()
    monitor.close()


def test_the_torch_backend_returns_tensors_on_the_device(tmp_path: Path) -> None:
    net = network()
    for number, device in enumerate([None, "cpu", torch.device("cpu")]):
        with on_store(
            tmp_path, net, device=device, backend="torch", store=tmp_path / f"{number}.zarr"
        ) as monitor:
            run(net)
            for value in (
                monitor.get_avg_firing_rate(),
                monitor.get_nonfire_ratio(False, "0"),
                monitor.s["0"][0],
            ):
                assert isinstance(value, torch.Tensor)
                assert value.device == torch.device("cpu")
            assert monitor.get_avg_firing_rate().dtype == torch.get_default_dtype()


def test_the_numpy_backend_returns_numpy(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        run(net)
        assert isinstance(monitor.get_avg_firing_rate(), np.floating)
        assert isinstance(monitor.get_nonfire_ratio(all=False, module_name="2"), np.floating)
        assert isinstance(monitor.s["0"][0], np.ndarray)
        assert np.stack(monitor.s["0"][:3]).shape == (3, 4, 9)


def test_steps_are_a_sequence(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net, backend="torch") as monitor:
        run(net)
        steps = monitor.s["0"]
        assert torch.equal(steps[-1], steps[3])
        assert [s.shape[0] for s in steps[::-1]] == [3, 4, 4, 4]
        assert torch.stack(steps[:3]).shape == (3, 4, 9)
        assert len(monitor.s) == 2
        assert repr(steps) == "<4 steps of layer '0', each [batch, 9] float32>"
        assert "'2': <4 steps" in repr(monitor.s)
        with pytest.raises(IndexError, match="step 4 of layer '0', which has 4 recorded steps"):
            steps[4]


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.bool, torch.uint8, torch.int64]
)
def test_the_dtype_of_the_output_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    class Cast(Threshold):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).to(dtype)

    net = Cast()
    outputs = Outputs(net)
    with on_store(tmp_path, net, backend="torch") as monitor:
        run(net)
        outputs.check(monitor)
    with on_store(tmp_path, net, resume=True) as monitor:
        assert monitor.s[""][0].dtype == np.dtype("float32" if dtype == torch.bfloat16 else str(dtype)[6:])


def test_time_axes_become_steps(tmp_path: Path) -> None:
    class TimeFirst(Threshold):
        pass

    class TimeSecondInATuple(Threshold):
        def forward(self, x: Any) -> Any:
            return x.mean(), super().forward(x)

    net = nn.ModuleDict({"a": TimeFirst(), "b": TimeSecondInATuple()})
    layers = {TimeFirst: SpikeOutput("TN"), "b": SpikeOutput("NT", item=1)}
    with on_store(tmp_path, net, layers=layers, backend="torch") as monitor:
        x, y = torch.rand(5, 2, 3), torch.rand(2, 5, 3)
        net["a"](x)
        net["b"](y)
        assert torch.equal(torch.stack(monitor.s["a"][:]), (x > 0.5).float())
        assert torch.equal(torch.stack(monitor.s["b"][:], dim=1), (y > 0.5).float())


def test_a_network_that_is_itself_one_neuron_module(tmp_path: Path) -> None:
    net = Threshold()
    outputs = Outputs(net)
    with on_store(tmp_path, net) as monitor:
        run(net)
        outputs.check(monitor)
        assert "(the network itself)" in repr(monitor)


def test_a_layer_used_twice_in_a_step_records_its_calls_in_order(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spike = Threshold()
            self.other = Threshold()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.other(self.spike(1 - self.spike(x)))

    net = Twice()
    outputs = Outputs(net)
    with on_store(tmp_path, net) as monitor:
        run(net)
        outputs.check(monitor)
        assert (len(monitor.s["spike"]), len(monitor.s["other"])) == (8, 4)


def test_shared_modules_have_one_name(tmp_path: Path) -> None:
    shared = Threshold()
    net = nn.Sequential(shared, nn.Linear(9, 9), shared)
    with on_store(tmp_path, net) as monitor:
        run(net)
        assert monitor.layers == ("0",)
        assert len(monitor.s["0"]) == 8


def test_an_in_place_operation_behind_the_layer_changes_nothing(tmp_path: Path) -> None:
    class Fill(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.fill_(0.25)

    net = nn.Sequential(Threshold(), Fill())
    x = torch.rand(4, 9)
    with on_store(tmp_path, net) as monitor:
        assert (net(x) == 0.25).all()
        assert np.array_equal(monitor.s["0"][0], x.numpy() > 0.5)


def test_training_is_unchanged_and_keeps_no_graph_alive(tmp_path: Path) -> None:
    class Surrogate(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return (x > 0.5).float()

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
            return gradients[0] * 0.3

    class Trained(Threshold):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            spikes: torch.Tensor = Surrogate.apply(x)
            return spikes

    def gradients(net: nn.Module, x: torch.Tensor) -> list[torch.Tensor | None]:
        net.zero_grad()
        output = net(x)
        graph = weakref.ref(output.grad_fn)
        output.square().sum().backward()
        del output
        gc.collect()
        assert graph() is None
        return [None if p.grad is None else p.grad.clone() for p in net.parameters()]

    net = nn.Sequential(nn.Linear(9, 9), Trained(), nn.Linear(9, 9), Trained())
    x = torch.rand(4, 9)
    bare = gradients(net, x)
    with on_store(tmp_path, net):
        monitored = gradients(net, x)
    assert all(torch.equal(a, b) for a, b in zip(bare, monitored, strict=True))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_every_autograd_mode(tmp_path: Path, mode: Any) -> None:
    net = network()
    outputs = Outputs(net)
    with on_store(tmp_path, net) as monitor:
        with mode():
            net(torch.rand(4, 9))
        outputs.check(monitor)


def test_autocast(tmp_path: Path) -> None:
    net = network()
    outputs = Outputs(net)
    with on_store(tmp_path, net, backend="torch") as monitor:
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
            net(torch.rand(4, 9))
        outputs.check(monitor)
        assert monitor.s["2"][0].dtype == torch.bfloat16


def pickled(net: nn.Module) -> Any:
    return pickle.loads(pickle.dumps(net))  # noqa: S301 - our own


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled, copy.copy])
def test_copies_of_a_monitored_network_are_not_recorded(tmp_path: Path, copied: Any) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        run(net, (2,))
        other = copied(net) if copied is not copy.copy else nn.Sequential(*map(copy.copy, net))
        run(other, (3,))
        run(net, (2,))
        assert [len(step) for step in monitor.s["0"]] == [2, 2]


def test_a_forgotten_monitor_is_freed_and_its_recording_finished(tmp_path: Path) -> None:
    net = network()
    outputs = Outputs(net)
    monitor = on_store(tmp_path, net)
    monitor.enable()
    run(net)
    reference = weakref.ref(monitor)
    del monitor
    collect_garbage()
    assert reference() is None
    run(net, (9,))
    metadata = TapeReader.open(Folder(tmp_path / "run.zarr")).metadata
    assert metadata.state == "closed"
    assert metadata.layers[0].frames == 15 == sum(len(o) for o in outputs.kept["0"][:4])
    # Only the test's own hooks are left.
    assert [len(module._forward_hooks) for module in net] == [1, 0, 1]


# -- resume, overwrite -----------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [(8,), (3, 3), (4, 4, 4, 3), (200,)])
def test_resuming_goes_on_to_the_bit(tmp_path: Path, batches: tuple[int, ...]) -> None:
    net = network()
    outputs = Outputs(net)
    for _ in range(3):
        with on_store(tmp_path, net, resume=True) as monitor:
            run(net, batches)
            outputs.check(monitor)
    segments = TapeReader.open(Folder(tmp_path / "run.zarr")).layers["0"].segments()
    steps = len(batches) * 3
    assert int(segments.last_step[-1]) == steps
    assert segments.frames == sum(batches) * 3


def test_resuming_keeps_layers_that_the_network_has_no_longer(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold(), Threshold())
    with on_store(tmp_path, net):
        run(net)
    shorter = nn.Sequential(Threshold())
    with on_store(tmp_path, shorter, resume=True) as monitor:
        run(shorter)
        assert [len(monitor.s["0"]), len(monitor.s)] == [8, 2]


def test_a_recording_is_refused_unless_told_what_to_do_with_it(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        run(net)
    with pytest.raises(
        RecordingExistsError, match=r"run\.zarr already holds a recording.*resume=True.*overwrite=True"
    ):
        on_store(tmp_path, net)
    with pytest.raises(ValueError, match="choose one"):
        on_store(tmp_path, net, resume=True, overwrite=True)
    with on_store(tmp_path, net, overwrite=True) as monitor:
        run(net, (2,))
        assert len(monitor.s["0"]) == 1


def test_without_a_store_a_new_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    net = network()
    stores = []
    for _ in range(2):
        with Monitor(net, layers=[Threshold]) as monitor:
            run(net)
        stores.append(monitor.store)
    assert stores[0] != stores[1]
    assert all(re.search(r"recordings/[-0-9]+_[-0-9]+(_2)?\.zarr$", store) for store in stores)


# -- trials ----------------------------------------------------------------------------------------


def trials_of(monitor: Monitor) -> dict[str, list[Any]]:
    monitor.flush()
    return {name: values.tolist() for name, values in TapeReader.open(Folder(monitor.store)).trials().items()}


def test_trials_label_samples(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        with monitor.trial(label=torch.tensor([7, 8, 9, 7]), epoch=2):
            run(net, (4, 4))
        run(net, (4,))
        with monitor.trial(label=5, weather=["sun", "rain"]):
            run(net, (2,))
        with monitor.trial():
            run(net, (1,))
        trials = trials_of(monitor)
    assert trials["trial"] == [0, 0, 0, 0, 1, 1, 2]
    assert trials["sample"] == [0, 1, 2, 3, 0, 1, 0]
    assert trials["label"][:6] == [7, 8, 9, 7, 5, 5]
    assert trials["weather"][4:6] == ["sun", "rain"]
    assert trials["epoch"][:4] == [2, 2, 2, 2]
    segments = TapeReader.open(Folder(monitor.store)).layers["2"].segments()
    assert segments.rows.tolist() == [[0, 0, 2, 4, 0], [8, 2, 1, 4, -1], [12, 3, 1, 2, 1], [14, 4, 1, 1, 2]]


def test_trials_are_counted_on_after_resuming(tmp_path: Path) -> None:
    net = network()
    for label in ("a", "b"):
        with on_store(tmp_path, net, resume=True) as monitor, monitor.trial(label=label):
            run(net, (2,))
    assert trials_of(monitor)["trial"] == [0, 0, 1, 1]
    assert trials_of(monitor)["label"] == ["a", "a", "b", "b"]


def test_a_trial_without_frames_leaves_no_trace(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        with monitor.trial(label=[1, 2, 3]):
            pass
        with monitor.trial(label=1):
            run(net, (1,))
        assert trials_of(monitor)["trial"] == [0]


def test_the_label_of_an_open_trial_is_committed_with_its_frames(tmp_path: Path) -> None:
    net = network()
    monitor = on_store(tmp_path, net)
    monitor.enable()
    with monitor.trial(label=7, epoch=1):
        run(net, (2, 3))
        assert trials_of(monitor) == {
            "trial": [0] * 3,
            "sample": [0, 1, 2],
            "label": [7] * 3,
            "epoch": [1] * 3,
        }
        run(net, (4,))
        monitor.close()
        monitor.enable()
        run(net, (5,))
    monitor.close()
    assert trials_of(monitor)["label"] == [7] * 4


def test_a_recording_is_not_reset_inside_a_trial(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        with monitor.trial(label=7):
            run(net, (2,))
            with pytest.raises(RuntimeError, match="trial 0 is still open; reset the recording outside"):
                monitor.reset()
            run(net, (2,))
        assert len(monitor.s["0"]) == 2


def test_wrong_trials_are_refused(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        with (
            pytest.raises(ValueError, match=r"trial 0, layer '0', step 0: label has 3 values.* a batch of 4"),
            monitor.trial(label=[1, 2, 3]),
        ):
            run(net, (4,))
        with pytest.raises(RuntimeError, match=r"trial 0 is still open"), monitor.trial(), monitor.trial():
            pass
        with (
            pytest.raises(TypeError, match=r"label holds \{\} \(dict\); expected text"),
            monitor.trial(label={}),
        ):
            pass
        with (
            pytest.raises(ValueError, match="'sample' is a column of every recording"),
            monitor.trial(sample=1),
        ):
            pass
        with monitor.trial(label=1):
            run(net, (4,))
        kinds = r"label is 'x', a value of kind category.*holds kind int64"
        with pytest.raises(TypeError, match=kinds), monitor.trial(label="x"):
            pass
        assert len(monitor.s["0"]) == 1


# -- steps stay aligned ----------------------------------------------------------------------------


class Branching(nn.Module):
    """Fails, or leaves its second layer out, when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = Threshold(), Threshold(), Threshold()
        self.behaviour = "normal"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        if self.behaviour == "interrupt":
            raise KeyboardInterrupt
        if self.behaviour == "fail":
            raise ArithmeticError("half way")
        if self.behaviour != "leave out":
            x = self.second(x)
        return self.third(x)


def steps_of(monitor: Monitor, name: str) -> list[int]:
    monitor.flush()
    segments = TapeReader.open(Folder(monitor.store)).layers[name].segments()
    return [
        step
        for first, last in zip(segments.first_step, segments.last_step, strict=True)
        for step in range(first, last)
    ]


@pytest.mark.parametrize("behaviour", ["fail", "interrupt", "leave out"])
def test_a_layer_that_a_forward_did_not_reach_misses_that_step_only(tmp_path: Path, behaviour: str) -> None:
    net = Branching()
    with on_store(tmp_path, net) as monitor:
        for net.behaviour in ("normal", behaviour, "normal"):
            try:
                run(net, (2,))
            except (ArithmeticError, KeyboardInterrupt):
                assert net.behaviour == behaviour
        assert steps_of(monitor, "first") == [0, 1, 2]
        assert steps_of(monitor, "second") == [0, 2]
        assert steps_of(monitor, "third") == ([0, 1, 2] if behaviour == "leave out" else [0, 2])


def test_a_recording_that_ends_in_an_exception_is_finished(tmp_path: Path) -> None:
    net = Branching()
    monitor = on_store(tmp_path, net)

    def interrupted() -> None:
        with monitor:
            run(net, (2,))
            net.behaviour = "interrupt"
            run(net, (2,))

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert TapeReader.open(Folder(monitor.store)).metadata.state == "closed"
    assert len(monitor.s["first"]) == 2


def test_layers_called_on_their_own_are_recorded(tmp_path: Path) -> None:
    net = nn.ModuleList([Threshold(), Threshold()])
    with on_store(tmp_path, net) as monitor:
        for _ in range(3):
            net[1](net[0](torch.rand(2, 3)))
        assert [steps_of(monitor, name) for name in ("0", "1")] == [[0, 1, 2]] * 2


def test_a_commit_inside_a_forward_is_refused(tmp_path: Path) -> None:
    net = Branching()
    with on_store(tmp_path, net) as monitor:
        net.third.register_forward_pre_hook(lambda *_: monitor.flush())
        with pytest.raises(RuntimeError, match="inside a forward of the monitored network"):
            run(net, (2,))


# -- commits ---------------------------------------------------------------------------------------


def test_frames_are_committed_while_the_network_runs_and_when_it_rests(tmp_path: Path) -> None:
    net = network()
    monitor = on_store(tmp_path, net, commit_interval=0.05)
    monitor.enable()
    store = Folder(tmp_path / "run.zarr")

    def committed() -> int:
        layers = TapeReader.open(store).layers
        assert len({layer.frames for layer in layers.values()}) <= 1
        return layers["0"].frames if layers else 0

    for _ in range(3):
        before = committed()
        run(net, (4,))
        deadline = time.monotonic() + 20
        while committed() < before + 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert committed() == before + 4
    monitor.close()


def test_flush_commits(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net, commit_interval=1e6) as monitor:
        run(net, (3,))
        assert TapeReader.open(Folder(monitor.store)).layers == {}
        monitor.flush()
        assert TapeReader.open(Folder(monitor.store)).layers["0"].frames == 3


def test_many_chunks_are_written_and_read_back(tmp_path: Path, small_chunks: None) -> None:
    net = network()
    outputs = Outputs(net)
    with on_store(tmp_path, net) as monitor:
        for _ in range(20):
            run(net, (7, 64, 33))
        outputs.check(monitor)
    outputs.check(monitor)


def test_the_plan_is_known_and_logged_from_the_first_step_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = network()
    caplog.set_level("INFO", "recorder")
    with on_store(tmp_path, net) as monitor:
        with pytest.raises(NothingRecordedError):
            _ = monitor.plan
        run(net, (16,))
        logged = monitor.plan
        run(net, (16,))
        plan = monitor.plan
    assert plan.bytes_per_step == 16 * (9 + 5) / 8
    assert plan.files(10**6) == -(-16 * 10**6 // plan.layers[0].chunks.chunk_frames) + -(
        -16 * 10**6 // plan.layers[1].chunks.chunk_frames
    )
    assert plan.host_bytes_limit > plan.queue_limit_bytes + 2 * 4_000_000
    assert plan.device_bytes_limit == 0
    assert plan.steps_per_hour > 0
    assert plan.bytes_per_hour == plan.steps_per_hour * plan.bytes_per_step
    assert plan.files_per_hour == plan.files(round(plan.steps_per_hour))
    said = [record.getMessage() for record in caplog.records if record.levelname == "INFO"]
    assert said == [f"recording to {monitor.store}: {logged}"]
    assert str(plan).startswith("2 layers, 224 slots a step: at most 0.0 kB a step, 0.0 GB and ")


def test_stats_say_what_was_recorded(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        run(net, (16, 16))
        monitor.flush()
        stats = monitor.stats
    assert (stats.steps, stats.frames, stats.packed_bytes) == (2, {"0": 32, "2": 32}, 4 * (9 + 5))
    assert stats.commits >= 1
    assert stats.seconds_waited == 0


# -- wrong use -------------------------------------------------------------------------------------


def test_a_network_without_spiking_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?s)no spiking layer.*Linear"):
        Monitor(nn.Sequential(nn.Linear(2, 2)), store=tmp_path / "run.zarr")
    assert not (tmp_path / "run.zarr").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backend": "jax"}, ValueError, "backend is 'jax'; expected 'numpy' or 'torch'"),
        ({"device": "abacus"}, ValueError, "device is 'abacus'; expected None, a torch.device or a name"),
        ({"device": 1.5}, ValueError, "device is 1.5"),
        ({"device": "meta:7x"}, ValueError, "device is 'meta:7x'"),
        ({"commit_interval": 0}, ValueError, "commit_interval is 0; expected a positive number of seconds"),
        ({"commit_interval": "a"}, ValueError, "commit_interval is 'a'; expected a positive number"),
        ({"durability": "hope"}, ValueError, "durability is 'hope'; expected 'power' or 'process'"),
        ({"store": 3}, TypeError, "store is 3"),
        ({"metadata": {"a": object()}}, TypeError, r"metadata\['a'\] is <object"),
        ({"layers": ["9"]}, ValueError, "'9'"),
    ],
)
def test_wrong_options_are_refused_by_name(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        on_store(tmp_path, network(), **options)
    assert not (tmp_path / "run.zarr").exists()


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(TypeError, match=r"net is 'net' \(str\); expected a torch\.nn\.Module"):
        Monitor("net")  # type: ignore[arg-type]


def test_questions_before_anything_was_recorded(tmp_path: Path) -> None:
    net = Branching()
    monitor = on_store(tmp_path, net)
    with pytest.raises(NothingRecordedError, match=r"nothing has been recorded yet: call enable\(\)"):
        monitor.get_avg_firing_rate()
    with pytest.raises(NothingRecordedError):
        _ = monitor.s
    monitor.enable()
    with pytest.raises(
        NothingRecordedError, match="the monitor is enabled, but none of its layers has been called"
    ):
        monitor.get_nonfire_ratio()
    assert "nothing recorded yet" in repr(monitor)
    net.behaviour = "leave out"
    run(net, (2,))
    with pytest.raises(NothingRecordedError, match="layer 'second' has not been called"):
        monitor.get_avg_firing_rate(all=False, module_name="second")
    assert monitor.get_avg_firing_rate() >= 0
    monitor.close()


def test_unknown_layers_are_named_with_the_valid_ones(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        run(net)
        for ask in (
            lambda: monitor.get_avg_firing_rate(all=False, module_name="1"),
            lambda: monitor.get_nonfire_ratio(all=False),
            lambda: monitor.s["1"],
        ):
            with pytest.raises(
                UnknownLayerError, match=r"module_name is .*; the monitored layers are '0', '2'"
            ):
                ask()


@pytest.mark.parametrize(
    ("value", "range_"),
    [(0.5, "values from 0.5 to 0.5"), (-1, "values from -1 to -1"), (float("nan"), "NaN")],
)
def test_other_values_are_refused_with_layer_step_range_and_dtype(
    tmp_path: Path, value: float, range_: str
) -> None:
    class Graded(nn.Module):
        value = 0.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(x > 2, x, torch.tensor(self.value))

    net = nn.Sequential(nn.Identity(), Graded())
    with on_store(tmp_path, net, layers=[Graded]) as monitor:
        net(torch.zeros(2, 3))
        net[1].value = value
        message = rf"layer '1' \(.*Graded\) put out {range_}.* dtype float32, at step 1; spikes are 0 or 1"
        with pytest.raises(SpikeValueError, match=message):
            net(torch.zeros(2, 3))
        net[1].value = 0.0
        net(torch.zeros(2, 3))
        assert [step.tolist() for step in monitor.s["1"]] == [[[0] * 3] * 2] * 2


def test_what_cannot_be_recorded_is_refused_at_the_first_step(tmp_path: Path) -> None:
    class Odd(nn.Module):
        output: torch.Tensor

        def forward(self, _: torch.Tensor) -> torch.Tensor:
            return self.output

    net = nn.Sequential(Odd())
    with on_store(tmp_path, net, layers=[Odd]) as monitor:
        for output, error, message in [
            (torch.zeros(2, 3, dtype=torch.complex64), SpikeValueError, "put out dtype torch.complex64"),
            (torch.zeros(2, 0), NeuronShapeError, r"neuron shape \(0,\); expected at least one neuron"),
            (torch.zeros(2, *[1] * 17), NeuronShapeError, "at most 16 axes"),
        ]:
            net[0].output = output
            with pytest.raises(error, match=message):
                net(torch.zeros(1))
        net[0].output = torch.zeros(0, 3)
        net(torch.zeros(1))
        net[0].output = torch.ones(1, 3)
        net(torch.zeros(1))
        assert [step.tolist() for step in monitor.s["0"]] == [[[1] * 3]]


def test_a_neuron_shape_that_changes_is_refused(tmp_path: Path) -> None:
    net = Threshold()
    with on_store(tmp_path, net) as monitor:
        run(net, (2, 2))
        with pytest.raises(
            NeuronShapeError, match=r"layer '' put out frames of neuron shape \(4,\) at step 2, but \(9,\)"
        ):
            run(net, (2,), neurons=4)
        run(net, (2,))
        assert len(monitor.s[""]) == 3


def test_a_store_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecordingWriteError, match=r"cannot record to .*file/run\.zarr.*choose another store"):
        on_store(tmp_path, network(), store=tmp_path / "file" / "run.zarr")


def test_a_failing_disk_is_told_at_the_next_step_and_at_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network()
    outputs = Outputs(net)
    monitor = on_store(tmp_path, net)
    monitor.enable()
    run(net)
    monitor.flush()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Folder, "write", fail)
    run(net, (1,))
    with pytest.raises(RecordingWriteError, match="No space left on device"):
        monitor.flush()
    with pytest.raises(RecordingWriteError, match="No space left on device"):
        run(net, (100_000,))
    with pytest.raises(RecordingWriteError, match="No space left on device"):
        monitor.close()
    monitor.close()
    monkeypatch.undo()
    assert (
        TapeReader.open(Folder(monitor.store)).layers["0"].frames
        == 15
        == sum(map(len, outputs.kept["0"][:4]))
    )
    with on_store(tmp_path, net, resume=True) as monitor:
        run(net)
        assert len(monitor.s["0"]) == 8


@pytest.mark.usefixtures("small_chunks")
def test_lost_frames_are_in_no_answer_of_a_resumed_monitor(tmp_path: Path) -> None:
    net = network()
    outputs = Outputs(net)
    inputs = torch.rand(120, 3, 9, generator=torch.Generator().manual_seed(1))
    with on_store(tmp_path, net):
        for step in range(100):
            net(inputs[step])
    store = Folder(tmp_path / "run.zarr")
    # Of layer "0" frames 64 to 127, which lie in steps 21 to 42; of layer "2" the last, from step 85 on.
    (tmp_path / "run.zarr/layers/0/spikes/c/1/0").unlink()
    (tmp_path / "run.zarr/layers/2/spikes/c/4/0").unlink()
    reader = TapeReader.open(store)
    problems = [problem for layer in reader.layers.values() for problem in check_blocks(layer, 0, 1)]
    recover(store, plan_recovery(reader, problems, mark_lost=True), reader.metadata.commit_number)
    del outputs.kept["0"][21:43]
    del outputs.kept["2"][85:]
    with on_store(tmp_path, net, resume=True) as monitor:
        for step in range(100, 120):
            net(inputs[step])
        outputs.check(monitor)
    outputs.check(monitor)


def test_what_is_lost_altogether_is_not_silent(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net):
        net(torch.ones(3, 9))
    store = Folder(tmp_path / "run.zarr")
    for layers in (["0"], ["2"]):
        for name in layers:
            (tmp_path / f"run.zarr/layers/{name}/spikes/c/0/0").unlink()
        reader = TapeReader.open(store)
        problems = [problem for layer in reader.layers.values() for problem in check_blocks(layer, 0, 1)]
        recover(store, plan_recovery(reader, problems, mark_lost=True), reader.metadata.commit_number)
        with on_store(tmp_path, net, resume=True) as monitor:
            if layers == ["0"]:
                alone = monitor.get_nonfire_ratio(all=False, module_name="2")
                assert monitor.get_nonfire_ratio() == alone
            assert np.isnan(monitor.get_avg_firing_rate(all=False, module_name="0"))
            assert len(monitor.s["0"]) == 0
    assert np.isnan(monitor.get_nonfire_ratio())


def test_a_foreign_folder_is_not_resumed(tmp_path: Path) -> None:
    (tmp_path / "run.zarr").mkdir()
    (tmp_path / "run.zarr/zarr.json").write_text("{}")
    with pytest.raises(RecordingFormatError, match="not a recording made by spiketape"):
        on_store(tmp_path, network(), resume=True)


def test_provenance_is_kept(tmp_path: Path) -> None:
    metadata = {
        "dt": 0.001,
        "unit": "s",
        "seeds": np.arange(2),
        "none": None,
        "bad": float("nan"),
        "deep": {1: (2,)},
    }
    with on_store(tmp_path, network(), metadata=metadata):
        pass
    provenance = TapeReader.open(Folder(tmp_path / "run.zarr")).metadata.provenance
    assert provenance["network"] == "torch.nn.modules.container.Sequential"
    assert provenance["packages"]["torch"] == torch.__version__
    assert provenance["metadata"] == {
        "dt": 0.001, "unit": "s", "seeds": [0, 1], "none": None, "bad": "nan", "deep": {"1": [2]},
    }  # fmt: skip


def test_data_parallel_replicas_are_refused(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        replica = net[0]._replicate_for_data_parallel()
        with pytest.raises(RuntimeError, match="DistributedDataParallel"):
            replica(torch.rand(1, 9))
        with pytest.raises(NothingRecordedError):
            monitor.get_avg_firing_rate()


@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)  # from Python 3.12 on
def test_a_forked_child_records_nothing_and_does_not_hang(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        run(net, (2,))
        child = os.fork()
        if child == 0:
            try:
                run(net, (3, 3))
                del monitor
                gc.collect()
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        run(net, (4,))
        assert [len(step) for step in monitor.s["0"]] == [2, 4]


def test_the_package_names_what_it_offers() -> None:
    import recorder

    assert set(recorder.__all__) <= set(dir(recorder))
    with pytest.raises(AttributeError, match="no attribute 'Tape'"):
        _ = recorder.Tape
