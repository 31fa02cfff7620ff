"""Networks of each framework are recorded without telling where their spikes are; the real packages run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from frameworks import framework
from recorder import Monitor

ROOT = Path(__file__).parents[3]
T, N = 6, 3


Steps = Callable[[Any], list[torch.Tensor]]


def check_recording(
    tmp_path: Path, net: nn.Module, spiking: dict[str, Steps], present: Callable[[], object]
) -> Monitor:
    """Record a network and compare with what forward hooks on its layers were given.

    ``spiking`` names the layers expected, each with how its output falls into steps ``[N, *neuron]``.
    """
    put_out: dict[str, list[torch.Tensor]] = {name: [] for name in spiking}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: put_out[name].extend(
            s.detach().clone() for s in spiking[name](output)
        )

    monitor = Monitor(net, "cpu", "torch", store=tmp_path / "run.zarr")
    assert monitor.layers == tuple(spiking)
    for name, module in net.named_modules():
        if name in spiking:
            module.register_forward_hook(keep(name))
    with monitor:
        present()
    for name, steps in put_out.items():
        assert 0 < float(torch.cat(steps).float().mean()) < 1, (
            "a layer that neither rests nor fires shows nothing"
        )
        recorded = monitor.s[name]
        assert len(recorded) == len(steps)
        for found, expected in zip(recorded, steps, strict=True):
            assert torch.equal(found, expected)
            assert found.dtype == expected.dtype
    return monitor


def one_step(output: torch.Tensor) -> list[torch.Tensor]:
    return [output]


def time_first(output: torch.Tensor) -> list[torch.Tensor]:
    return list(output)


def time_second(output: torch.Tensor) -> list[torch.Tensor]:
    return list(output.transpose(0, 1))


def first_item(steps: Steps) -> Steps:
    return lambda output: steps(output[0])


def currents(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 3


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


# -- SpikingJelly's own monitor ----------------------------------------------------------------------


def dense(neuron: Any, _layer: Any, multi_step: bool) -> nn.Module:
    node = neuron.MultiStepLIFNode if multi_step else neuron.LIFNode
    return nn.Sequential(nn.Linear(10, 33), node(), nn.Linear(33, 7), node())


def convolutional(neuron: Any, layer: Any, multi_step: bool) -> nn.Module:
    if not multi_step:
        return nn.Sequential(
            nn.Conv2d(1, 4, 3),
            neuron.IFNode(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(4, 9),
            neuron.LIFNode(),
        )
    return nn.Sequential(
        layer.SeqToANNContainer(nn.Conv2d(1, 4, 3)),
        neuron.MultiStepIFNode(),
        layer.SeqToANNContainer(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 9)),
        neuron.MultiStepLIFNode(),
    )


@pytest.mark.parametrize("backend", ["torch", "numpy"])
@pytest.mark.parametrize("multi_step", [False, True], ids=["single-step", "multi-step"])
@pytest.mark.parametrize(("build", "features"), [(dense, (10,)), (convolutional, (1, 5, 4))])
@pytest.mark.parametrize("batches", [(1,), (5, 5, 3), (32, 32, 7)], ids=str)
def test_rates_and_silent_ratios_are_those_of_spikingjelly(
    tmp_path: Path,
    backend: Any,
    multi_step: bool,
    build: Any,
    features: tuple[int, ...],
    batches: tuple[int, ...],
) -> None:
    neuron, layer, functional, monitor = (
        framework(f"spikingjelly.clock_driven.{name}")
        for name in ("neuron", "layer", "functional", "monitor")
    )
    net = build(neuron, layer, multi_step)
    names = [name for name, module in net.named_modules() if isinstance(module, neuron.BaseNode)]
    theirs = monitor.Monitor(net, torch.device("cpu"), backend)
    ours = Monitor(net, torch.device("cpu"), backend, store=tmp_path / "run.zarr")
    theirs.enable()
    ours.enable()
    spikes: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    for name in names:
        net.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: spikes[name].append(out.clone())
        )
    with torch.no_grad():
        for batch in batches:
            functional.reset_net(net)
            x = currents(T, batch, *features)
            if multi_step:
                net(x)
            else:
                for step in x:
                    net(step)

    def agree(our: Any, their: Any, exact: float) -> None:
        if backend == "torch":
            assert our.dtype == their.dtype
            assert torch.equal(our, their)
        else:
            assert our == exact
            assert np.float32(our) == np.float32(their)

    ours.disable()
    raw = {
        name: np.concatenate([out.flatten(0, int(multi_step)).flatten(1).numpy() for out in outputs])
        for name, outputs in spikes.items()
    }
    for name in names:
        rate, silent = raw[name].astype(bool).mean(), (raw[name].sum(axis=0) == 0).mean()
        agree(ours.get_avg_firing_rate(False, name), theirs.get_avg_firing_rate(False, name), rate)
        agree(ours.get_nonfire_ratio(False, name), theirs.get_nonfire_ratio(False, name), silent)
    everything = sum(int(frames.sum()) for frames in raw.values()) / sum(
        frames.size for frames in raw.values()
    )
    nowhere = sum(int((frames.sum(axis=0) == 0).sum()) for frames in raw.values())
    agree(ours.get_avg_firing_rate(all=True), theirs.get_avg_firing_rate(all=True), everything)
    agree(
        ours.get_nonfire_ratio(), theirs.get_nonfire_ratio(), nowhere / sum(f.shape[1] for f in raw.values())
    )
    ours.close()


def test_the_tutorial_of_spikingjelly_runs_with_only_its_import_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    neuron, functional = (framework(f"spikingjelly.clock_driven.{name}") for name in ("neuron", "functional"))
    monkeypatch.chdir(tmp_path)
    for multi_step in (False, True):
        node = neuron.MultiStepIFNode if multi_step else neuron.IFNode
        net = nn.Sequential(nn.Linear(8, 16), node(), nn.Linear(16, 4), node())
        monitor = Monitor(net, device="cpu", backend="torch")
        x = currents(T, N, 8)

        def forward(net: nn.Module = net, x: torch.Tensor = x, multi_step: bool = multi_step) -> None:
            with torch.no_grad():
                for step in [x] if multi_step else x:
                    net(step)
            functional.reset_net(net)

        forward()
        monitor.enable()
        forward()
        assert [list(step.shape) for step in monitor.s["1"]] == [[N, 16]] * T
        rate = monitor.get_avg_firing_rate(all=True)
        assert 0 < monitor.get_avg_firing_rate(all=False, module_name="1") < 1
        assert 0 <= monitor.get_nonfire_ratio(all=True) < 1
        assert 0 <= monitor.get_nonfire_ratio(all=False, module_name="1") < 1
        monitor.reset()
        forward()
        assert monitor.get_avg_firing_rate(all=True) == rate
        monitor.disable()
        forward()
        assert len(monitor.s["1"]) == T
        monitor.close()


# -- each framework ----------------------------------------------------------------------------------


def test_clock_driven_nested_containers(tmp_path: Path) -> None:
    neuron, layer = (framework(f"spikingjelly.clock_driven.{name}") for name in ("neuron", "layer"))
    # The inner neuron is called once for each step; the one behind gets all steps at once.
    net = nn.Sequential(
        nn.Sequential(layer.MultiStepContainer(nn.Linear(8, 9), neuron.LIFNode())),
        layer.SeqToANNContainer(nn.Linear(9, 7)),
        neuron.MultiStepParametricLIFNode(v_threshold=0.05),
    )
    check_recording(tmp_path, net, {"0.0.1": one_step, "2": time_first}, lambda: net(currents(T, N, 8) * 2))


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_activation_based_step_modes(tmp_path: Path, step_mode: str) -> None:
    neuron, layer, functional = (
        framework(f"spikingjelly.activation_based.{name}") for name in ("neuron", "layer", "functional")
    )
    net = nn.Sequential(
        layer.Conv2d(2, 4, 3), neuron.LIFNode(), layer.Flatten(), layer.Linear(4 * 6, 7), neuron.IFNode()
    )
    functional.set_step_mode(net, step_mode)
    x = currents(T, N, 2, 4, 5) * 3

    def present() -> None:
        for part in (x[:4], x[4:]):
            functional.reset_net(net)
            for step in [part] if step_mode == "m" else part:
                net(step)

    steps = time_first if step_mode == "m" else one_step
    monitor = check_recording(tmp_path, net, {"1": steps, "4": steps}, present)
    assert len(monitor.s["1"]) == T


@pytest.mark.parametrize("init_hidden", [False, True])
def test_snntorch(tmp_path: Path, init_hidden: bool) -> None:
    snn = framework("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(8, 9), nn.Linear(9, 7)
            self.leaky = snn.Leaky(beta=0.9, init_hidden=init_hidden)
            self.synaptic = snn.Synaptic(alpha=0.9, beta=0.8, init_hidden=init_hidden, output=init_hidden)

        def forward(self, x: torch.Tensor) -> None:
            if init_hidden:
                for step in x:
                    self.synaptic(self.fc2(self.leaky(self.fc1(step))))
                return
            membrane, (current, potential) = self.leaky.init_leaky(), self.synaptic.init_synaptic()
            for step in x:
                spikes, membrane = self.leaky(self.fc1(step), membrane)
                _, current, potential = self.synaptic(self.fc2(spikes), current, potential)

    net = Net()
    spiking = {"leaky": one_step if init_hidden else first_item(one_step), "synaptic": first_item(one_step)}
    check_recording(tmp_path, net, spiking, lambda: net(currents(T, N, 8) * 2))


def test_norse(tmp_path: Path) -> None:
    norse = framework("norse.torch")
    parameters = norse.LIFParameters(v_th=torch.tensor(0.2))
    net = norse.SequentialState(
        norse.Lift(nn.Linear(8, 9)),
        norse.LIF(parameters),
        norse.LSNNRecurrent(9, 7, p=norse.LSNNParameters(v_th=torch.tensor(0.05))),
        norse.LI(),
    )
    spiking = {"1": first_item(time_first), "2": first_item(time_first)}
    check_recording(tmp_path, net, spiking, lambda: net(currents(20, N, 8) * 4))


def test_norse_cells(tmp_path: Path) -> None:
    norse = framework("norse.torch")
    net = norse.SequentialState(nn.Linear(8, 9), norse.LIFCell(norse.LIFParameters(v_th=torch.tensor(0.2))))

    def present() -> None:
        state = None
        for step in currents(20, N, 8) * 4:
            _, state = net(step, state)

    check_recording(tmp_path, net, {"1": first_item(one_step)}, present)


def test_sinabs(tmp_path: Path) -> None:
    layers, activation = framework("sinabs.layers"), framework("sinabs.activation")
    single = {"spike_fn": activation.SingleSpike}
    net = nn.Sequential(
        nn.Linear(8, 9),
        layers.LIF(tau_mem=20.0, **single),
        nn.Flatten(0, 1),
        nn.Linear(9, 7),
        layers.IAFSqueeze(batch_size=N, **single),
    )

    def unfold(output: torch.Tensor) -> list[torch.Tensor]:
        return time_second(output.unflatten(0, (N, -1)))

    check_recording(tmp_path, net, {"1": time_second, "4": unfold}, lambda: net(currents(N, 20, 8) * 4))
