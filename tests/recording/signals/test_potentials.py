"""``"v"`` is the membrane potential after each step, as each library itself says what it is.

References are the libraries' own probes and records: SpikingJelly's and snnTorch's monitors, norse's and
sinabs' ``record_states``. What has to be switched on for it is off again behind each forward.
"""

from __future__ import annotations

import copy
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from frameworks import FEATURES, N, T, currents, framework, norse_neuron
from recorder import Monitor, Signal, SignalError
from recorder.frameworks.potentials import KEPT
from recorder.stores import Folder
from recorder.tape import TapeReader

CALLS = 3


def values_of(store: Path, layer: str, name: str = "v") -> np.ndarray:
    """Values of a signal at each step, [steps, N, *neuron]."""
    found = TapeReader.open(Folder(store)).layers[layer]
    signal = found.signals[name]
    np.testing.assert_array_equal(signal.segments().rows, found.segments().rows)
    values = signal.values(0, signal.frames)
    return values.reshape(-1, N, *values.shape[1:])


def spikingjelly_monitors(monkeypatch: pytest.MonkeyPatch) -> Any:
    """SpikingJelly's monitors, whose file also has one of GPUs that wants tensorboard."""
    tensorboard = types.ModuleType("torch.utils.tensorboard")
    tensorboard.SummaryWriter = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", tensorboard)
    return framework("spikingjelly.activation_based.monitor")


def array(steps: list[torch.Tensor]) -> np.ndarray:
    return torch.stack([step.detach() for step in steps]).numpy()


@pytest.mark.parametrize("name", ["IFNode", "LIFNode", "ParametricLIFNode", "EIFNode"])
def test_clock_driven_single_and_multi_step(tmp_path: Path, name: str) -> None:
    neuron = framework("spikingjelly.clock_driven.neuron")
    x = currents(CALLS * T, N, FEATURES)
    single, several = (
        nn.Sequential(getattr(neuron, name)()),
        nn.Sequential(getattr(neuron, f"MultiStep{name}")()),
    )
    seen, seen_several = [], []
    with Monitor(single, store=tmp_path / "single", signals="v"), torch.no_grad():
        for step in x:
            single(step)
            seen.append(single[0].v.clone())
    with Monitor(several, store=tmp_path / "several", signals="v"), torch.no_grad():
        for steps in x.split(T):
            several(steps)
            seen_several.append(several[0].v_seq.clone())
    np.testing.assert_array_equal(values_of(tmp_path / "single", "0"), array(seen))
    np.testing.assert_array_equal(values_of(tmp_path / "several", "0"), torch.cat(seen_several).numpy())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["IFNode", "LIFNode", "ParametricLIFNode"])
def test_activation_based_single_step_equals_the_attribute_monitor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, training: bool
) -> None:
    neuron, monitors = framework("spikingjelly.activation_based.neuron"), spikingjelly_monitors(monkeypatch)
    net = nn.Sequential(nn.Linear(FEATURES, FEATURES), getattr(neuron, name)()).train(training)
    probes = [
        monitors.AttributeMonitor("v", False, net, instance=type(net[1])),
        monitors.InputMonitor(net, instance=type(net[1])),
        monitors.OutputMonitor(net, instance=type(net[1])),
    ]
    with Monitor(net, store=tmp_path / "run", signals=["v", "input", "output"]), torch.no_grad():
        for step in currents(CALLS * T, N, FEATURES):
            net(step)
    for signal, probe in zip(("v", "input", "output"), probes, strict=True):
        assert len(probe.records) == CALLS * T
        np.testing.assert_array_equal(values_of(tmp_path / "run", "1", signal), array(probe.records))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["IFNode", "LIFNode", "ParametricLIFNode"])
def test_activation_based_multi_step_equals_the_attribute_monitor_and_leaves_nothing_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, training: bool
) -> None:
    neuron, monitors = framework("spikingjelly.activation_based.neuron"), spikingjelly_monitors(monkeypatch)
    net = nn.Sequential(nn.Linear(FEATURES, FEATURES), getattr(neuron, name)(step_mode="m")).train(training)
    asked = copy.deepcopy(net)
    asked[1].store_v_seq = True
    probe = monitors.AttributeMonitor("v_seq", False, asked, instance=type(net[1]))
    outputs = monitors.OutputMonitor(asked, instance=type(net[1]))
    forward = type(net[1]).forward
    with Monitor(net, store=tmp_path / "run", signals=["v", "output"]), torch.no_grad():
        for steps in currents(CALLS * T, N, FEATURES).split(T):
            assert torch.equal(net(steps), asked(steps))
            assert net[1].store_v_seq is False
            assert getattr(net[1], "v_seq", None) is None
            assert copy.deepcopy(net)[1].forward.__func__ is forward
    assert "forward" not in net[1].__dict__
    assert not [key for key in net[1].__dict__ if "spiketape" in key]
    np.testing.assert_array_equal(values_of(tmp_path / "run", "1"), torch.cat(probe.records).numpy())
    np.testing.assert_array_equal(
        values_of(tmp_path / "run", "1", "output"), torch.cat(outputs.records).numpy()
    )


def test_in_a_compiled_network_potentials_of_each_step_are_kept(tmp_path: Path) -> None:
    neuron = framework("spikingjelly.activation_based.neuron")
    net = nn.Sequential(nn.Linear(FEATURES, FEATURES), neuron.LIFNode(step_mode="m"))
    plain = copy.deepcopy(net)
    plain[1].store_v_seq = True
    compiled, seen = torch.compile(net, backend="eager"), []
    with Monitor(net, store=tmp_path / "run", signals="v"), torch.no_grad():
        for steps in currents(CALLS * T, N, FEATURES).split(T):
            compiled(steps)
            plain(steps)
            seen.append(plain[1].v_seq.clone())
    np.testing.assert_array_equal(values_of(tmp_path / "run", "1"), torch.cat(seen).numpy())


def test_activation_based_several_signals_and_monitors_see_the_same_potential(tmp_path: Path) -> None:
    neuron = framework("spikingjelly.activation_based.neuron")
    net = nn.Sequential(neuron.LIFNode(step_mode="m"))
    plain = copy.deepcopy(net)
    plain[0].store_v_seq = True
    one = Monitor(net, store=tmp_path / "one", signals=["v", Signal("v", dtype="float64", name="wide")])
    seen = []
    with one, Monitor(net, store=tmp_path / "other", signals="v"), torch.no_grad():
        for steps in currents(CALLS * T, N, FEATURES).split(T):
            net(steps)
            plain(steps)
            seen.append(plain[0].v_seq.clone())
    expected = torch.cat(seen).numpy()
    np.testing.assert_array_equal(values_of(tmp_path / "one", "0"), expected)
    np.testing.assert_array_equal(values_of(tmp_path / "one", "0", "wide"), expected.astype(np.float64))
    np.testing.assert_array_equal(values_of(tmp_path / "other", "0"), expected)
    assert net[0] not in KEPT
    assert "forward" not in net[0].__dict__


def test_activation_based_states_that_the_user_keeps_stay(tmp_path: Path) -> None:
    neuron = framework("spikingjelly.activation_based.neuron")
    net = nn.Sequential(neuron.LIFNode(step_mode="m", store_v_seq=True))
    seen = []
    with Monitor(net, store=tmp_path / "run", signals="v"), torch.no_grad():
        for steps in currents(CALLS * T, N, FEATURES).split(T):
            net(steps)
            seen.append(net[0].v_seq.clone())
    assert net[0].store_v_seq is True
    np.testing.assert_array_equal(values_of(tmp_path / "run", "0"), torch.cat(seen).numpy())


def test_activation_based_is_off_again_behind_a_forward_that_raises(tmp_path: Path) -> None:
    neuron = framework("spikingjelly.activation_based.neuron")
    net = nn.Sequential(neuron.LIFNode(step_mode="m"))
    with Monitor(net, store=tmp_path / "run", signals="v"), torch.no_grad():
        with pytest.raises((AttributeError, TypeError), match="NoneType"):
            net(None)
        assert net[0].store_v_seq is False
        net(currents(T, N, FEATURES))


def test_activation_based_neurons_without_a_potential_are_refused_by_name(tmp_path: Path) -> None:
    neuron = framework("spikingjelly.activation_based.neuron")
    if not hasattr(neuron, "PSN"):
        pytest.skip("this version of SpikingJelly has no PSN")
    net = nn.Sequential(neuron.PSN(T=T))
    with (
        Monitor(net, store=tmp_path / "run", signals="v"),
        torch.no_grad(),
        pytest.raises(SignalError, match="No membrane potential of each step is known of PSN"),
    ):
        net(currents(T, N, FEATURES))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Leaky", {"beta": 0.8}),
        ("Leaky", {"beta": 0.8, "reset_mechanism": "zero", "reset_delay": False}),
        ("Lapicque", {"beta": 0.8}),
        ("Synaptic", {"alpha": 0.7, "beta": 0.8}),
        ("Alpha", {"alpha": 0.8, "beta": 0.7}),
        ("RLeaky", {"beta": 0.8, "linear_features": FEATURES}),
        ("RSynaptic", {"alpha": 0.7, "beta": 0.8, "linear_features": FEATURES}),
    ],
)
@pytest.mark.parametrize("hidden", ["in a tuple", "in the neuron", "in both"])
def test_snntorch_equals_its_probe(tmp_path: Path, name: str, settings: dict[str, Any], hidden: str) -> None:
    snn, probe = framework("snntorch"), framework("snntorch.functional.probe")
    kept = {} if hidden == "in a tuple" else {"init_hidden": True, "output": hidden == "in both"}
    module = getattr(snn, name)(**settings, **kept)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = module

        def forward(self, x: torch.Tensor, states: Any) -> Any:
            return self.neuron(x, *states)

    net = Net()
    monitor = probe.AttributeMonitor("mem", False, net, instance=type(module))
    states: Any = ()
    with Monitor(net, store=tmp_path / "run", signals="v"), torch.no_grad():
        for step in currents(CALLS * T, N, FEATURES) / 4:
            found = net(step, states)
            if hidden == "in a tuple":
                states = found[1:] if not name.startswith("R") else found
    np.testing.assert_array_equal(values_of(tmp_path / "run", "neuron"), array(monitor.records))


def test_snntorch_neurons_that_put_out_all_steps(tmp_path: Path) -> None:
    snn = framework("snntorch")
    net = nn.Sequential(snn.StateLeaky(beta=0.9, channels=FEATURES))
    with Monitor(net, store=tmp_path / "run", signals="v"), torch.no_grad():
        _, potential = net(currents(T, N, FEATURES))
    np.testing.assert_array_equal(values_of(tmp_path / "run", "0"), potential.numpy())


@pytest.mark.parametrize(
    "name", ["LIFCell", "LIFRecurrentCell", "LSNNCell", "LIFRefracCell", "IzhikevichCell"]
)
def test_norse_cells_equal_their_state(tmp_path: Path, name: str) -> None:
    cell = norse_neuron(name)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = cell

        def forward(self, x: torch.Tensor, state: Any) -> Any:
            return self.cell(x, state)

    net, state, seen = Net(), None, []
    with Monitor(net, store=tmp_path / "run", signals="v"), torch.no_grad():
        for step in currents(CALLS * T, N, FEATURES):
            _, state = net(step, state)
            seen.append(getattr(state, "lif", state).v.clone())
    np.testing.assert_array_equal(values_of(tmp_path / "run", "cell"), array(seen))


@pytest.mark.parametrize("name", ["LIF", "LIFRecurrent", "LSNN"])
def test_norse_layers_equal_their_own_record_and_put_out_what_they_did(tmp_path: Path, name: str) -> None:
    layer = norse_neuron(name)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: torch.Tensor, state: Any) -> Any:
            return self.layer(x, state)

    net = Net()
    asked, plain = copy.deepcopy(net), copy.deepcopy(net)
    asked.layer.record_states = True
    states: list[Any] = [None, None, None]
    seen = []
    with Monitor(net, store=tmp_path / "run", signals="v"), torch.no_grad():
        for steps in currents(CALLS * T, N, FEATURES).split(T):
            outputs = [
                module(steps, state) for module, state in zip((net, asked, plain), states, strict=True)
            ]
            assert torch.equal(outputs[0][0], outputs[2][0])
            for one, other in zip(outputs[0][1], outputs[2][1], strict=True):
                assert torch.equal(one, other)
            assert type(outputs[0][1]) is type(outputs[2][1])
            assert net.layer.record_states is False
            seen.append(outputs[1][1].v)
            last = type(outputs[1][1])(*(part[-1] for part in outputs[1][1]))
            states = [outputs[0][1], last, outputs[2][1]]
    np.testing.assert_array_equal(values_of(tmp_path / "run", "layer"), torch.cat(seen).numpy())


@pytest.mark.parametrize("name", ["IAF", "LIF", "ALIF", "IAFSqueeze", "LIFSqueeze"])
def test_sinabs_equals_its_own_record(tmp_path: Path, name: str) -> None:
    layers, activation = framework("sinabs.layers"), framework("sinabs.activation")
    settings: dict[str, Any] = {"spike_fn": activation.SingleSpike}
    settings |= {} if name.startswith("IAF") else {"tau_mem": 10.0}
    settings |= {"tau_adapt": 20.0} if name == "ALIF" else {}
    settings |= {"batch_size": N} if "Squeeze" in name else {}
    net = nn.Sequential(getattr(layers, name)(**settings))
    asked = copy.deepcopy(net)
    asked[0].record_states = True
    seen = []
    with Monitor(net, store=tmp_path / "run", signals="v"), torch.no_grad():
        for steps in currents(CALLS * T, N, FEATURES).split(T):
            given = steps.transpose(0, 1)
            given = given.flatten(0, 1) if "Squeeze" in name else given
            assert torch.equal(net(given), asked(given))
            assert net[0].record_states is False
            assert net[0].recordings == {}
            seen.append(asked[0].recordings["v_mem"].transpose(0, 1))
    np.testing.assert_array_equal(values_of(tmp_path / "run", "0"), torch.cat(seen).numpy())
