"""The monitor records what layers put out, in every mode of torch, and answers from it."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr.storage
from torch import nn

from networks import Outputs, Threshold, network, on_store, run
from processes import collect_garbage
from recorder import SpikeOutput
from recorder.monitor import NothingRecordedError
from recorder.stores import Folder
from recorder.tape import TapeReader


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


def test_the_package_names_what_it_offers() -> None:
    import recorder

    assert set(recorder.__all__) <= set(dir(recorder))
    with pytest.raises(AttributeError, match="no attribute 'Tape'"):
        _ = recorder.Tape
