"""Neurons of SpikingJelly are taken, and their spikes read as ``[T, N, *neuron]``.

Every neuron class is built and run; what a forward hook is given is read, and compared with the raw output.
Frameworks that are not installed are skipped one by one.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from frameworks import (
    FEATURES,
    N,
    T,
    assert_read,
    currents,
    first_single_step,
    framework,
    hooked_output,
    multi_step,
    single_step,
)
from networks import Spiker
from recorder.frameworks import SpikingLayerError, find_spiking_layers

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["IFNode", "LIFNode", "ParametricLIFNode", "QIFNode", "EIFNode"])
def test_clock_driven_single_step_neurons_are_read_as_one_step(name: str) -> None:
    """clock_driven: [N, *neuron] becomes [1, N, *neuron]."""
    neuron = framework("spikingjelly.clock_driven.neuron")
    assert_read(getattr(neuron, name)(), currents(N, FEATURES, 2), single_step)


@pytest.mark.parametrize(
    "name", ["MultiStepIFNode", "MultiStepLIFNode", "MultiStepParametricLIFNode", "MultiStepEIFNode"]
)
def test_clock_driven_multi_step_neurons_are_read_as_they_are(name: str) -> None:
    """clock_driven: MultiStep* put out [T, N, *neuron]."""
    neuron = framework("spikingjelly.clock_driven.neuron")
    assert_read(getattr(neuron, name)(), currents(T, N, FEATURES), multi_step)


def test_clock_driven_general_node_is_a_neuron() -> None:
    """GeneralNode of 0.0.0.0.14 cannot run as built (its buffers become None); mended, it is read."""
    neuron = framework("spikingjelly.clock_driven.neuron")
    module = neuron.GeneralNode(1.0, 1.0, 0.0)
    module.a, module.b, module.c = torch.tensor(1.0), torch.tensor(1.0), torch.tensor(0.0)
    assert_read(module, currents(N, FEATURES), single_step)


def test_clock_driven_subclass_of_a_multi_step_neuron_is_multi_step_whatever_its_name() -> None:
    """SpikingJelly's own monitor goes by the class name and takes such a subclass for a single step."""
    neuron = framework("spikingjelly.clock_driven.neuron")

    class MyNeuron(neuron.MultiStepLIFNode):  # type: ignore[misc, name-defined]
        pass

    assert_read(MyNeuron(), currents(T, N, FEATURES), multi_step)


def test_clock_driven_analog_neuron_and_recurrent_cells_are_not_taken() -> None:
    """LIAFNode is analog; rnn cells are left to layers=, as in SpikingJelly's monitor."""
    neuron = framework("spikingjelly.clock_driven.neuron")
    rnn = framework("spikingjelly.clock_driven.rnn")
    net = nn.Sequential(neuron.LIAFNode(torch.relu, True), rnn.SpikingLSTM(5, 6, 1), neuron.IFNode())
    assert list(find_spiking_layers(net)) == ["2"]


def test_clock_driven_container_is_not_a_neuron_and_calls_its_neuron_once_per_step() -> None:
    """MultiStepContainer: the neuron inside is taken once, under its own name, as a single-step module."""
    neuron = framework("spikingjelly.clock_driven.neuron")
    containers = framework("spikingjelly.clock_driven.layer")
    net = nn.Sequential(nn.Linear(5, 5), containers.MultiStepContainer(neuron.IFNode()))
    layers = find_spiking_layers(net)
    assert list(layers) == ["1.0"]
    steps: list[torch.Tensor] = []
    layers["1.0"].module.register_forward_hook(
        lambda _module, _inputs, output: steps.append(layers["1.0"].read_spikes(output))
    )
    out = net(currents(T, N, FEATURES))
    assert len(steps) == T
    assert torch.equal(torch.cat(steps), out)
    assert find_spiking_layers(net, ["1"])["1"].output.axes == "t n ..."


def test_cext_neurons_are_recognised_by_name() -> None:
    """cext needs a CUDA extension; classes of its names stand in for it."""
    cext = types.ModuleType("spikingjelly.cext.neuron")
    base = type("BaseNode", (Spiker,), {"__module__": cext.__name__})
    multi = type("MultiStepLIFNode", (base,), {"__module__": cext.__name__})
    net = nn.Sequential(base(), multi())
    layers = find_spiking_layers(net)
    assert [layer.output.axes for layer in layers.values()] == ["n ...", "t n ..."]


def activation_based_neuron(name: str, **settings: Any) -> Any:
    """Build a neuron of whichever SpikingJelly is importable."""
    neuron = framework("spikingjelly.activation_based.neuron")
    positional: dict[str, tuple[Any, ...]] = {
        "SimpleLIFNode": (2.0, True),
        "PSN": (T,),
        "MaskedPSN": (2, T, 1.0),
        "SlidingPSN": (2,),
        "GatedLIFNode": (T,),
        "FlexSN": (lambda x, v: ((x + v > 1).float(), v), 1),
        "ILCIFNode": (1, FEATURES),
        "ILCLIFNode": (1, FEATURES),
        "ILCCUBALIFNode": (1, FEATURES),
        "NoisyCUBALIFNode": (FEATURES, 0.5, 0.75, False, T),
        "NoisyILCCUBALIFNode": (1, FEATURES, 0.5, 0.75, False, T),
        "DSRIFNode": (T,),
        "DSRLIFNode": (T,),
        "STBIFNode": (0.5, 4),
    }
    if name == "MPBNLIFNode":
        settings["out_features"] = FEATURES
    if name == "FewSpikeNode":
        positional[name] = (neuron.FewSpikeTable(*[[1.0, 0.5, 0.25, 0.125]] * 3),)
    return getattr(neuron, name)(*positional.get(name, ()), **settings)


IN_BOTH_MODES = [
    *("IFNode", "LIFNode", "ParametricLIFNode", "QIFNode", "EIFNode", "IzhikevichNode", "KLIFNode"),
    *("SimpleIFNode", "SimpleLIFNode", "HalfThresholdIFNode", "ActivationAwareIFNode", "RAFNode"),
    *("ComplementaryLIFNode", "MPBNLIFNode", "MaskedPSN", "SlidingPSN", "FlexSN"),
    *("ILIFNode", "TernaryIFNode", "TernaryLIFNode", "STBIFNode", "FewSpikeNode"),
]
MULTI_STEP_ONLY = [
    *("PSN", "GatedLIFNode", "DSRIFNode", "DSRLIFNode", "ILCIFNode", "ILCLIFNode", "ILCCUBALIFNode"),
    *("NoisyCUBALIFNode", "NoisyILCCUBALIFNode"),
]


NEW_IN_2 = {
    *("ActivationAwareIFNode", "ComplementaryLIFNode", "CUBALIFNode", "DSRIFNode", "DSRLIFNode"),
    *("FewSpikeNode", "FlexSN", "GatedLIFNode", "HalfThresholdIFNode", "ILCCUBALIFNode", "ILCIFNode"),
    *("ILCLIFNode", "ILIFNode", "MPBNLIFNode", "MaskedPSN", "NoisyCUBALIFNode", "NoisyILCCUBALIFNode"),
    *("NoisyNonSpikingIFNode", "NonSpikingIFNode", "NonSpikingLIFNode", "OTTTLIFNode", "PSN", "RAFNode"),
    *("SLTTLIFNode", "STBIFNode", "SimpleIFNode", "SimpleLIFNode", "SlidingPSN", "TernaryIFNode"),
    "TernaryLIFNode",
}


def offered(names: list[str]) -> list[str]:
    """Those of the names that the installed SpikingJelly has; the others are tested with SpikingJelly 2."""
    try:
        old = importlib.metadata.version("spikingjelly").startswith("0")
    except importlib.metadata.PackageNotFoundError:
        old = False
    return [name for name in names if not (old and name in NEW_IN_2)]


@pytest.mark.parametrize("name", offered(IN_BOTH_MODES))
def test_activation_based_neurons_are_read_by_their_step_mode(name: str) -> None:
    """activation_based: [N, *neuron] in mode "s", [T, N, *neuron] in mode "m"."""
    assert_read(activation_based_neuron(name, step_mode="s"), currents(N, FEATURES), single_step)
    assert_read(activation_based_neuron(name, step_mode="m"), currents(T, N, FEATURES), multi_step)


@pytest.mark.parametrize("name", offered(MULTI_STEP_ONLY))
def test_activation_based_multi_step_only_neurons_are_read_as_they_are(name: str) -> None:
    """activation_based: some neurons know no single step, and some of those have no step_mode at all."""
    axes = (2, 2) if name == "GatedLIFNode" else ()
    assert_read(activation_based_neuron(name), currents(T, N, FEATURES, *axes), multi_step)


def test_activation_based_cuba_neuron_of_lava_exchange_is_a_neuron() -> None:
    """A neuron outside of the neuron module is found as a subclass."""
    lava_exchange = framework("spikingjelly.activation_based.lava_exchange")
    assert_read(lava_exchange.CubaLIFNode(0.5, 0.5, step_mode="m"), currents(T, N, FEATURES), multi_step)


def test_activation_based_step_mode_may_be_switched_after_finding() -> None:
    """The mode is asked when spikes are read, not when the layer is found."""
    module = activation_based_neuron("LIFNode", step_mode="s")
    layer = find_spiking_layers(module)[""]
    assert layer.read_spikes(module(currents(N, FEATURES))).shape == (1, N, FEATURES)
    module.reset()
    module.step_mode = "m"
    assert layer.read_spikes(module(currents(T, N, FEATURES))).shape == (T, N, FEATURES)


@pytest.mark.parametrize("name", offered(["OTTTLIFNode"]))
def test_activation_based_ottt_neuron_puts_out_a_list_while_training(name: str) -> None:
    """OTTTLIFNode: [spikes, trace] in training, spikes alone in evaluation; both are read the same."""
    module = activation_based_neuron(name)
    assert_read(module.train(), currents(N, FEATURES), first_single_step)
    module.reset()
    assert_read(module.eval(), currents(N, FEATURES), single_step)


@pytest.mark.parametrize("name", offered(["SLTTLIFNode", "CUBALIFNode"]))
def test_activation_based_single_step_neurons(name: str) -> None:
    """Neurons whose constructor knows only the single step."""
    assert_read(activation_based_neuron(name), currents(N, FEATURES), single_step)


@pytest.mark.parametrize("name", offered(["NonSpikingIFNode", "NonSpikingLIFNode", "NoisyNonSpikingIFNode"]))
def test_activation_based_read_outs_are_not_taken(name: str) -> None:
    """NonSpiking* put out the membrane."""
    neuron = framework("spikingjelly.activation_based.neuron")
    module = getattr(neuron, name)(*((FEATURES,) if "Noisy" in name else ()))
    net = nn.Sequential(neuron.IFNode(), module)
    assert list(find_spiking_layers(net)) == ["0"]


def test_activation_based_liaf_neuron_is_analog_and_not_taken() -> None:
    """LIAFNode puts out act(membrane)."""
    neuron = framework("spikingjelly.activation_based.neuron")
    # Its constructor in 0.0.0.0.14 asks for an attribute that does not exist: a shell of the class will do.
    net = nn.Sequential(neuron.IFNode(), neuron.LIAFNode.__new__(neuron.LIAFNode))
    nn.Module.__init__(net[1])
    assert list(find_spiking_layers(net)) == ["0"]


@pytest.mark.parametrize(
    "name", offered(["ILIFNode", "TernaryIFNode", "DSRIFNode", "STBIFNode", "FewSpikeNode"])
)
def test_activation_based_neurons_with_other_values_than_0_and_1_have_a_hint(name: str) -> None:
    """They are taken, so that none is left out unnoticed; the hint is another than a plain neuron's."""
    layer = find_spiking_layers(activation_based_neuron(name))[""]
    assert layer.hint
    assert layer.is_graded or layer.hint != find_spiking_layers(activation_based_neuron("IFNode"))[""].hint


def test_activation_based_containers_and_encoders_are_not_neurons_but_their_layout_is_known() -> None:
    """Containers are passed by; chosen by name, they and encoders are read by their step mode."""
    containers = framework("spikingjelly.activation_based.layer")
    encoding = framework("spikingjelly.activation_based.encoding")
    net = nn.Sequential(
        encoding.PoissonEncoder(step_mode="m"),
        containers.MultiStepContainer(containers.Linear(5, 5), activation_based_neuron("IFNode")),
        containers.ElementWiseRecurrentContainer(activation_based_neuron("IFNode"), torch.add, step_mode="m"),
    )
    assert list(find_spiking_layers(net)) == ["1.1", "2.sub_module"]
    chosen = find_spiking_layers(net, ["0", "1", "2"])
    assert [layer.output.axes for layer in chosen.values()] == ["t n ...", "t n ...", "t n ..."]


def test_activation_based_module_that_never_set_a_step_mode_is_a_single_step() -> None:
    """SpikingJelly's own single-step modules have no step_mode; a user's neuron may have none either."""
    base = framework("spikingjelly.activation_based.base")

    class MyNeuron(Spiker, base.StepModule):  # type: ignore[misc, name-defined]
        pass

    assert find_spiking_layers(MyNeuron(), MyNeuron)[""].output.axes == "n ..."


def test_activation_based_recurrent_layers_are_not_taken_but_their_layout_is_known() -> None:
    """Cells put out a step, (h, c) for the LSTM; the layer around them puts out (all steps, states)."""
    rnn = framework("spikingjelly.activation_based.rnn")
    net = rnn.SpikingLSTM(FEATURES, 6, 1)
    with pytest.raises(SpikingLayerError, match="no spiking layer"):
        find_spiking_layers(net)
    layers = find_spiking_layers(net, [rnn.SpikingLSTM, rnn.SpikingLSTMCell])
    assert list(layers) == ["", "cells.0"]
    steps: list[torch.Tensor] = []
    layers["cells.0"].module.register_forward_hook(
        lambda _module, _inputs, output: steps.append(layers["cells.0"].read_spikes(output))
    )
    whole = layers[""].read_spikes(hooked_output(layers[""], net, currents(T, N, FEATURES)))
    assert whole.shape == (T, N, 6)
    assert torch.equal(torch.cat(steps), whole)
