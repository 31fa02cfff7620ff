"""Spiking layers: which modules are taken, and that their spikes are read as ``[T, N, *neuron]``.

Every neuron class of each framework is built and run; what a forward hook is given is read, and compared with
the raw output. Frameworks that are not installed are skipped one by one.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from frameworks import framework
from torch import nn

from recorder.frameworks import (
    SpikeOutput,
    SpikingLayer,
    SpikingLayerError,
    find_spiking_layers,
    refuse_unrecordable,
)

ROOT = Path(__file__).parent.parent
# Awkward on purpose: all sizes differ, so that no transposition goes unnoticed.
T, N, FEATURES = 4, 3, 5


def hooked_output(layer: SpikingLayer, net: nn.Module, *inputs: Any, **settings: Any) -> Any:
    """What a forward hook on the layer is given, when the network runs once."""
    outputs: list[Any] = []
    with layer.module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output)):
        net(*inputs, **settings)
    assert len(outputs) == 1
    return outputs[0]


def currents(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 8


def assert_read(
    module: nn.Module, inputs: torch.Tensor, expected: Callable[[Any], torch.Tensor], **settings: Any
) -> torch.Tensor:
    """Find the module, run it, and compare what is read with ``expected(raw output)``."""
    layer = find_spiking_layers(module)[""]
    output = hooked_output(layer, module, inputs, **settings)
    spikes = layer.read_spikes(output)
    raw = output[0] if isinstance(output, (tuple, list)) else output
    assert torch.equal(spikes, expected(output))
    assert spikes.untyped_storage().data_ptr() == raw.untyped_storage().data_ptr(), "a copy, not a view"
    assert not spikes.requires_grad
    return spikes


def single_step(output: Any) -> torch.Tensor:
    return output[None]


def multi_step(output: Any) -> torch.Tensor:
    return output


def first_single_step(output: Any) -> torch.Tensor:
    return output[0][None]


def first_multi_step(output: Any) -> torch.Tensor:
    return output[0]


class Spiker(nn.Module):
    """A module of no known framework that puts out what it is told."""

    def __init__(self, output: Any = None) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: torch.Tensor) -> Any:
        return (x > 4).float() if self.output is None else self.output


class OtherSpiker(Spiker):
    pass


def read(output: Any, where: SpikeOutput | None = None) -> torch.Tensor:
    return find_spiking_layers(Spiker(), {"": where})[""].read_spikes(output)


# --- SpikingJelly, clock_driven -----------------------------------------------------------------------------


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


# --- SpikingJelly, activation_based -------------------------------------------------------------------------


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
    assert layer.hint != find_spiking_layers(activation_based_neuron("IFNode"))[""].hint


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


def test_activation_based_works_with_spikingjelly_2(tmp_path: Path) -> None:
    """The activation_based tests pass again under the SpikingJelly 2 in $SPIKETAPE_SPIKINGJELLY_2.

    Fill that folder by: pip install --no-deps --target "$SPIKETAPE_SPIKINGJELLY_2" spikingjelly==2.0.0 loguru
    """
    folder = os.environ.get("SPIKETAPE_SPIKINGJELLY_2")
    if not folder:
        pytest.skip("SPIKETAPE_SPIKINGJELLY_2 names no folder with SpikingJelly 2")
    environment = {name: value for name, value in os.environ.items() if name != "SPIKETAPE_SPIKINGJELLY_2"}
    environment["PYTHONPATH"] = os.pathsep.join([folder, str(ROOT)])
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(Path(__file__)),
        "-k",
        "activation_based",
        "-v",
        "-W",
        "error",
    ]
    run = subprocess.run(
        [*command, "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'pytest'}", f"--rootdir={ROOT}"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    for name in (*IN_BOTH_MODES, *MULTI_STEP_ONLY):
        assert f"[{name}] PASSED" in run.stdout, f"{name} did not run under SpikingJelly 2"
    assert " 1 skipped" in run.stdout  # this test itself


# --- snnTorch -----------------------------------------------------------------------------------------------

SNNTORCH: dict[str, Callable[[Any, dict[str, bool]], Any]] = {
    "Leaky": lambda snn, kw: snn.Leaky(0.9, **kw),
    "Leaky without reset delay": lambda snn, kw: snn.Leaky(0.9, reset_delay=False, **kw),
    "RLeaky": lambda snn, kw: snn.RLeaky(0.9, linear_features=FEATURES, **kw),
    "RLeaky one to one": lambda snn, kw: snn.RLeaky(0.9, all_to_all=False, **kw),
    "Synaptic": lambda snn, kw: snn.Synaptic(0.9, 0.8, **kw),
    "RSynaptic": lambda snn, kw: snn.RSynaptic(0.9, 0.8, linear_features=FEATURES, **kw),
    "Alpha": lambda snn, kw: snn.Alpha(0.9, 0.8, threshold=0.1, **kw),
    "Lapicque": lambda snn, kw: snn.Lapicque(0.5, **kw),
    "SLSTM": lambda snn, kw: snn.SLSTM(FEATURES, 6, threshold=0.1, **kw),
}


@pytest.mark.parametrize("output", [False, True])
@pytest.mark.parametrize("init_hidden", [False, True])
@pytest.mark.parametrize("name", SNNTORCH)
def test_snntorch_neurons_put_out_a_tensor_or_a_tuple_by_their_settings(
    name: str, init_hidden: bool, output: bool
) -> None:
    """snnTorch: a bare tensor with init_hidden=True and output=False, else a tuple with the spikes first."""
    snn = framework("snntorch")
    module = SNNTORCH[name](snn, {"init_hidden": init_hidden, "output": output})
    is_tensor = init_hidden and not output
    assert isinstance(module(currents(N, FEATURES)), torch.Tensor) is is_tensor
    assert_read(module, currents(N, FEATURES), single_step if is_tensor else first_single_step)


def test_snntorch_convolutional_lstm_puts_out_pooled_spikes() -> None:
    """SConv2dLSTM with max_pool: neurons are positions after pooling."""
    snn = framework("snntorch")
    module = snn.SConv2dLSTM(1, 2, 3, max_pool=2, threshold=0.01)
    assert assert_read(module, currents(N, 1, 4, 6), first_single_step).shape == (1, N, 2, 2, 3)


def test_snntorch_delta_leaky_always_puts_out_a_tuple() -> None:
    """DeltaLeaky: (spikes, (membrane, membrane before)) even with init_hidden=True."""
    snn = framework("snntorch")
    assert_read(snn.DeltaLeaky(0.5, beta=0.9, init_hidden=True), currents(N, FEATURES), first_single_step)


def test_snntorch_state_space_neurons_put_out_all_steps() -> None:
    """StateLeaky and LinearLeaky: (spikes, membrane), both [T, N, *neuron]."""
    snn = framework("snntorch")
    assert_read(snn.StateLeaky(0.9, FEATURES), currents(T, N, FEATURES), first_multi_step)
    assert_read(snn.LinearLeaky(0.9, FEATURES, 6), currents(T, N, FEATURES), first_multi_step)


def test_snntorch_state_space_neuron_without_output_is_a_read_out() -> None:
    """StateLeaky(output=False) puts out the membrane as a bare tensor: not taken, never read as spikes."""
    snn = framework("snntorch")
    net = nn.Sequential(snn.StateLeaky(0.9, FEATURES, output=False), snn.StateLeaky(0.9, FEATURES))
    layers = find_spiking_layers(net)
    assert list(layers) == ["1"]
    layers["1"].module.output = False
    with pytest.raises(SpikingLayerError, match="expected a tuple"):
        layers["1"].read_spikes(layers["1"].module(currents(T, N, FEATURES)))


def test_snntorch_parallel_neurons_put_out_a_tensor_of_all_steps() -> None:
    """LeakyParallel, and LeakyKernel, which extends nn.Module just so."""
    snn = framework("snntorch")
    kernel = framework("snntorch._neurons.leakykernel")
    assert_read(snn.LeakyParallel(FEATURES, 6, threshold=0.1), currents(T, N, FEATURES), multi_step)
    assert_read(kernel.LeakyKernel(FEATURES, 6, threshold=0.1), currents(T, N, FEATURES), multi_step)


def test_snntorch_associative_neuron_spikes_only_without_projection() -> None:
    """AssociativeLeaky projects its spikes by default; what comes out is analog."""
    snn = framework("snntorch")
    module = snn.AssociativeLeaky(FEATURES, 2, 3, 6, use_q_projection=False)
    assert_read(module, currents(T, N, FEATURES), multi_step)
    net = nn.Sequential(snn.AssociativeLeaky(FEATURES, 2, 2, 4), snn.Leaky(0.9))
    assert list(find_spiking_layers(net)) == ["1"]


@pytest.mark.filterwarnings("ignore:Inhibition is an unstable feature:UserWarning")  # snnTorch says so itself
def test_snntorch_inhibition_and_graded_spikes_are_read_like_others() -> None:
    """Inhibition leaves one spike per sample; graded spikes are read unchanged, the hint names the factor."""
    snn = framework("snntorch")
    spikes = assert_read(snn.Leaky(0.9, inhibition=True), currents(N, FEATURES), first_single_step)
    assert torch.all(spikes.sum(-1) <= 1)
    graded = snn.Leaky(0.9, graded_spikes_factor=0.5)
    assert assert_read(graded, currents(N, FEATURES), first_single_step).max() == 0.5
    assert "graded_spikes_factor" in find_spiking_layers(graded)[""].hint


def test_snntorch_subclass_by_the_user_may_put_out_spikes_alone() -> None:
    """A subclass that drops the membrane is read as what it puts out: a tensor."""
    snn = framework("snntorch")

    class Quiet(snn.Leaky):  # type: ignore[misc, name-defined]
        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x)[0]

    assert_read(Quiet(0.9), currents(N, FEATURES), single_step)


# --- norse --------------------------------------------------------------------------------------------------

NORSE_STEP = ["LIFCell", "LIFAdExCell", "LIFAdExRefracCell", "LIFBoxCell", "LIFExCell", "LIFRefracCell"]
NORSE_STEP += ["LSNNCell", "IAFCell", "IzhikevichCell", "LIFRecurrentCell", "LIFAdExRecurrentCell"]
NORSE_STEP += ["LIFAdExRefracRecurrentCell", "LIFExRecurrentCell", "LIFRefracRecurrentCell"]
NORSE_STEP += ["LIFMCRecurrentCell", "LIFMCRefracRecurrentCell", "LSNNRecurrentCell", "CobaLIFCell"]
NORSE_STEP += ["IzhikevichRecurrentCell"]
NORSE_STEPS = ["LIF", "LIFAdEx", "LIFEx", "LSNN", "Izhikevich", "LIFRecurrent", "LIFAdExRecurrent"]
NORSE_STEPS += ["LIFAdExRefracRecurrent", "LIFExRecurrent", "LIFRefracRecurrent", "LSNNRecurrent"]
NORSE_STEPS += ["IzhikevichRecurrent"]


def norse_neuron(name: str) -> Any:
    norse = framework("norse.torch")
    if not hasattr(norse, name):
        pytest.skip(f"this version of norse has no {name}")
    sizes = (FEATURES, 6) if "Recurrent" in name or name == "CobaLIFCell" else ()
    if not name.startswith("Izhikevich"):
        return getattr(norse, name)(*sizes)
    tonic_spiking = framework("norse.torch.functional.izhikevich").tonic_spiking
    return getattr(norse, name)(*sizes, spiking_method=tonic_spiking)


@pytest.mark.parametrize("name", NORSE_STEP)
def test_norse_cells_put_out_one_step_and_their_state(name: str) -> None:
    """norse: cells put out (z, state), z of shape [N, *neuron]."""
    assert_read(norse_neuron(name), currents(N, FEATURES) * 50, first_single_step)


@pytest.mark.parametrize("name", NORSE_STEPS)
def test_norse_layers_put_out_all_steps_and_their_state(name: str) -> None:
    """norse: layers put out (z, state), z of shape [T, N, *neuron]."""
    assert_read(norse_neuron(name), currents(T, N, FEATURES) * 50, first_multi_step)


def test_norse_correlation_neuron_is_a_neuron() -> None:
    """LIFCorrelation of norse 1.0 cannot run (its state does not fit its TorchScript): found all the same."""
    norse = framework("norse.torch")
    layer = find_spiking_layers(norse.LIFCorrelation(FEATURES, 6))[""]
    assert layer.read_spikes((torch.ones(N, 6), None)).shape == (1, N, 6)


def test_norse_leaky_integrators_and_encoders_are_not_taken() -> None:
    """LI* put out the membrane, encoders are input; in SequentialState the neurons keep their names."""
    norse = framework("norse.torch")
    net = norse.SequentialState(
        norse.PoissonEncoder(T), nn.Linear(5, 5), norse.LIF(), norse.LI(), norse.Lift(nn.Linear(5, 5))
    )
    layers = find_spiking_layers(net)
    assert list(layers) == ["2"]
    output = hooked_output(layers["2"], net, torch.rand(N, FEATURES))
    assert layers["2"].read_spikes(output).shape == (T, N, FEATURES)
    cells = nn.Sequential(norse.LICell(), norse.LILinearCell(5, 5), norse.LIFCell())
    assert list(find_spiking_layers(cells)) == ["2"]
    chosen = find_spiking_layers(net, ["0", "3", "4"])
    assert [layer.output.axes for layer in chosen.values()] == ["t n ...", "t n ...", "t n ..."]


def test_norse_output_that_is_a_bare_tensor_is_an_error() -> None:
    """norse always puts out tuples: out[0] of a bare tensor would be step 0, so it is refused."""
    layer = find_spiking_layers(norse_neuron("LIF"))[""]
    with pytest.raises(SpikingLayerError, match=r"a tensor of shape \[4, 3, 5\], expected a tuple"):
        layer.read_spikes(torch.zeros(T, N, FEATURES))


# --- sinabs -------------------------------------------------------------------------------------------------


def batch_first(output: torch.Tensor) -> torch.Tensor:
    return output.permute(1, 0, *range(2, output.ndim))


@pytest.mark.parametrize("name", ["IAF", "LIF", "ALIF", "IAFRecurrent", "LIFRecurrent", "ALIFRecurrent"])
def test_sinabs_layers_put_the_batch_first(name: str) -> None:
    """sinabs: [N, T, *neuron]."""
    layers = framework("sinabs.layers")
    settings: dict[str, Any] = {"spike_fn": framework("sinabs.activation").SingleSpike}
    settings |= {} if "IAF" in name else {"tau_mem": 5.0}
    settings |= {"tau_adapt": 5.0} if "ALIF" in name else {}
    settings |= {"rec_connect": nn.Linear(FEATURES, FEATURES)} if "Recurrent" in name else {}
    spikes = assert_read(getattr(layers, name)(**settings), currents(N, T, FEATURES), batch_first)
    assert spikes.shape == (T, N, FEATURES)


@pytest.mark.parametrize(
    "sizes", [{"batch_size": N}, {"num_timesteps": T}, {"batch_size": N, "num_timesteps": T}]
)
@pytest.mark.parametrize("name", ["IAFSqueeze", "LIFSqueeze", "ALIFSqueeze"])
def test_sinabs_squeezed_layers_are_unfolded(name: str, sizes: dict[str, int]) -> None:
    """sinabs: *Squeeze put out [N*T, *neuron], of which the layer knows one size or both."""
    framework("sinabs.layers")
    module_of = {"IAFSqueeze": "iaf", "LIFSqueeze": "lif", "ALIFSqueeze": "alif"}
    taus = {"IAFSqueeze": (), "LIFSqueeze": ("tau_mem",), "ALIFSqueeze": ("tau_mem", "tau_adapt")}[name]
    neuron = getattr(framework(f"sinabs.layers.{module_of[name]}"), name)
    module = neuron(**sizes, **dict.fromkeys(taus, 5.0))
    spikes = assert_read(
        module, currents(N * T, FEATURES), lambda output: batch_first(output.reshape(N, T, FEATURES))
    )
    assert spikes.shape == (T, N, FEATURES)


def test_sinabs_squeezed_layer_follows_a_change_of_batch_size() -> None:
    """sinabs.set_batch_size sets the layer's attribute; a batch size that divides no output is refused."""
    layers = framework("sinabs.layers")
    module = layers.IAFSqueeze(batch_size=N)
    layer = find_spiking_layers(module)[""]
    module.batch_size = 2
    assert layer.read_spikes(torch.zeros(12, FEATURES)).shape == (6, 2, FEATURES)
    with pytest.raises(SpikingLayerError, match=r"shape \[13, 5\].*N = 2"):
        layer.read_spikes(torch.zeros(13, FEATURES))


def test_sinabs_leaks_are_not_taken_nor_layers_without_spike_function() -> None:
    """ExpLeak and its squeezed form do not spike."""
    layers = framework("sinabs.layers")
    net = nn.Sequential(
        layers.ExpLeak(5.0),
        layers.ExpLeakSqueeze(batch_size=N, tau_mem=5.0),
        layers.IAF(),
        layers.IAF(spike_fn=None),
    )
    assert list(find_spiking_layers(net)) == ["2"]


def test_sinabs_default_puts_out_several_spikes_per_step_and_the_hint_says_so() -> None:
    """The values are read unchanged: it is for the recorder to refuse them, with this hint."""
    layers = framework("sinabs.layers")
    module = layers.IAF()
    assert assert_read(module, currents(N, T, FEATURES), batch_first).max() > 1
    assert "SingleSpike" in find_spiking_layers(module)[""].hint


def test_sinabs_converted_network_is_found_inside_its_wrapper() -> None:
    """sinabs.from_model keeps the analog network beside the spiking one; only neurons are taken."""
    sinabs = framework("sinabs")
    net = sinabs.from_model(nn.Sequential(nn.Linear(FEATURES, 6), nn.ReLU()), batch_size=N)
    assert list(find_spiking_layers(net)) == ["spiking_model.1"]


# --- Tuples and tensors -------------------------------------------------------------------------------------


def test_a_bare_tensor_is_never_taken_for_a_tuple() -> None:
    """out[0] of a tensor [N, *neuron] would be sample 0; the whole batch is read."""
    assert torch.equal(read(torch.ones(N, FEATURES)), torch.ones(1, N, FEATURES))
    with pytest.raises(SpikingLayerError, match=r"a tensor of shape \[3, 5\], expected a tuple whose item 0"):
        read(torch.ones(N, FEATURES), SpikeOutput(item=0))


def test_a_tuple_is_never_taken_for_a_tensor() -> None:
    """item=None: a tuple is refused, with its items named."""
    with pytest.raises(
        SpikingLayerError, match=r"layer '' \(Spiker\) put out a tuple of 2 \(a tensor of shape"
    ):
        read((torch.ones(N, FEATURES), None), SpikeOutput(item=None))


def test_item_k_is_read_from_a_tuple_or_list() -> None:
    """SpikeOutput(item=1) reads the second, and refuses an output that has none."""
    membrane, spikes = torch.zeros(N, T, FEATURES), torch.ones(N, T, FEATURES)
    assert read((membrane, spikes), SpikeOutput("NT", item=1)).sum() == spikes.numel()
    assert read([membrane, spikes], SpikeOutput("NT", item=1)).shape == (T, N, FEATURES)
    with pytest.raises(SpikingLayerError, match="a tuple of 1"):
        read((membrane,), SpikeOutput("NT", item=1))


@pytest.mark.parametrize("output", [None, 1.0, (), ("spikes",), {"spikes": torch.ones(1)}, torch.tensor(1.0)])
def test_output_without_a_tensor_of_spikes_is_refused(output: Any) -> None:
    """No tensor first, no tuple, or no batch axis."""
    with pytest.raises(SpikingLayerError, match=r"say where its spikes are|nothing in it"):
        read(output)


@pytest.mark.parametrize("axes", ["TN", "NT"])
def test_multi_step_output_needs_two_axes(axes: str) -> None:
    """[N] cannot be [T, N]."""
    with pytest.raises(SpikingLayerError, match=r"shape \[3\], expected"):
        read(torch.ones(N), SpikeOutput(axes))


def test_neurons_may_have_no_shape_of_their_own() -> None:
    """[N] in a single step is one neuron, of shape ()."""
    assert read(torch.ones(N)).shape == (1, N)
    assert read(torch.ones(T, N), SpikeOutput("TN")).shape == (T, N)


@pytest.mark.parametrize(
    "spikes",
    [
        torch.ones(N, FEATURES, dtype=torch.bool),
        torch.ones(N, FEATURES, dtype=torch.bfloat16),
        torch.ones(N, FEATURES, dtype=torch.int8),
        torch.ones(1, FEATURES).expand(N, FEATURES),
        torch.ones(FEATURES, N).t(),
        torch.ones(N, 2, 3, 4).to(memory_format=torch.channels_last),
        torch.ones(N, FEATURES, requires_grad=True) * 1,
        torch.ones(0, FEATURES),
    ],
    ids=[
        "bool",
        "bfloat16",
        "int8",
        "expanded",
        "transposed",
        "channels_last",
        "with gradient",
        "no samples",
    ],
)
def test_any_tensor_is_read_as_a_view_in_logical_order(spikes: torch.Tensor) -> None:
    """dtype and values stay; nothing is copied; no graph is kept."""
    layer = find_spiking_layers(Spiker(), [Spiker])[""]
    result = layer.read_spikes(spikes)
    assert result.dtype == spikes.dtype
    assert torch.equal(result, spikes.detach()[None])
    assert result.untyped_storage().data_ptr() == spikes.untyped_storage().data_ptr()
    assert result.grad_fn is None
    assert not result.requires_grad


def test_folded_output_is_a_view_whatever_its_strides() -> None:
    """Unfolding [N*T] copies nothing, contiguous or not, inference tensor or not."""
    where = SpikeOutput("N*T", batch_size=N)
    with torch.inference_mode():
        spikes = torch.arange(N * T * FEATURES).reshape(FEATURES, N * T).t()
        result = read(spikes, where)
        assert torch.equal(result, spikes.reshape(N, T, FEATURES).transpose(0, 1))
        assert result.untyped_storage().data_ptr() == spikes.untyped_storage().data_ptr()


def test_sparse_output_is_refused_with_what_to_do() -> None:
    """norse puts out sparse tensors for sparse input; they have no bits to pack."""
    with pytest.raises(SpikingLayerError, match=r"to_dense"):
        read(torch.ones(N, FEATURES).to_sparse())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"axes": "NTC"}, "axes is 'NTC'"),
        ({"item": -1}, "item is -1"),
        ({"item": True}, "item is True"),
        ({"item": ""}, "item is ''"),
        ({"axes": "N*T"}, "cannot be unfolded"),
        ({"axes": "N*T", "batch_size": 0}, "batch_size is 0"),
        ({"axes": "N*T", "num_steps": -1}, "num_steps is -1"),
    ],
)
def test_spike_output_refuses_what_it_cannot_mean(settings: dict[str, Any], message: str) -> None:
    """The error gives field, value and what is expected."""
    with pytest.raises(ValueError, match=message):
        SpikeOutput(**settings)


# --- Choosing layers ----------------------------------------------------------------------------------------


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 5), Spiker(), nn.Sequential(OtherSpiker(), nn.ReLU()), Spiker())


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ("2.0", ["2.0"]),
        (["3", "1"], ["1", "3"]),
        (Spiker, ["1", "2.0", "3"]),
        ([OtherSpiker, "1"], ["1", "2.0"]),
        (iter(["2.1", "2.0"]), ["2.0", "2.1"]),
        (lambda name, module: isinstance(module, Spiker) and name != "1", ["2.0", "3"]),
        ({"3": SpikeOutput("TN"), OtherSpiker: None}, ["2.0", "3"]),
    ],
    ids=["one name", "names", "a type", "types and names", "an iterator", "a predicate", "a mapping"],
)
def test_chosen_layers_keep_the_order_of_the_network(layers: Any, names: list[str]) -> None:
    """Names, types, predicate or mapping: the order is that of the network."""
    found = find_spiking_layers(network(), layers)
    assert list(found) == names
    assert [layer.name for layer in found.values()] == names


def test_a_mapping_says_where_the_spikes_are_names_before_types_and_near_types_before_far() -> None:
    """Each module follows the most particular entry."""
    layers = {Spiker: SpikeOutput("TN"), OtherSpiker: SpikeOutput("NT"), "3": SpikeOutput(item=1)}
    found = find_spiking_layers(network(), layers)
    assert [layer.output for layer in found.values()] == [
        SpikeOutput("TN"),
        SpikeOutput("NT"),
        SpikeOutput(item=1),
    ]


def test_a_mapping_overrules_what_is_known_of_a_framework() -> None:
    """And None leaves it as known."""
    net = nn.Sequential(norse_neuron("LIF"), norse_neuron("LIF"))
    found = find_spiking_layers(net, {"0": SpikeOutput("NT", item=0), "1": None})
    assert [layer.output.axes for layer in found.values()] == ["NT", "t n ..."]


def test_a_name_that_is_not_there_is_refused_with_those_that_are() -> None:
    """The error lists the names."""
    with pytest.raises(
        SpikingLayerError, match=r"no module '4' in the network, expected one of '0', '1', '2'"
    ):
        find_spiking_layers(network(), ["1", "4"])


def test_a_type_that_is_not_there_is_refused() -> None:
    """Even if other entries match."""
    with pytest.raises(SpikingLayerError, match=r"no Conv2d in the network, expected one of Linear, Other"):
        find_spiking_layers(network(), [Spiker, nn.Conv2d])


@pytest.mark.parametrize("layers", [[], lambda _name, _module: False])
def test_a_choice_of_nothing_is_refused(layers: Any) -> None:
    """A predicate that never holds, or no names at all."""
    with pytest.raises(SpikingLayerError, match="no spiking layer found"):
        find_spiking_layers(network(), layers)


@pytest.mark.parametrize("layers", [3, [3], network()[1], [network()[1]], {"1": "TN"}])
def test_a_choice_of_another_type_is_refused(layers: Any) -> None:
    """A module itself is neither a name nor a type; a layout is a SpikeOutput."""
    with pytest.raises(TypeError, match="expected"):
        find_spiking_layers(network(), layers)


def test_a_network_that_is_none_is_refused() -> None:
    """The first argument is a module."""
    with pytest.raises(TypeError, match=r"net is of type list, expected torch\.nn\.Module"):
        find_spiking_layers([])  # type: ignore[arg-type]


def test_a_network_without_spiking_layers_is_refused_with_what_was_seen() -> None:
    """The error counts the types of modules and names layers=."""
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with pytest.raises(
        SpikingLayerError, match=r"in Sequential, but 2 Linear, 1 Sequential, 1 ReLU.*layers="
    ):
        find_spiking_layers(net)


def test_a_module_under_two_names_is_taken_once_under_the_first() -> None:
    """Its other name is refused with the one to use."""
    net = nn.Module()
    net.first = net.second = Spiker()
    assert list(find_spiking_layers(net, Spiker)) == ["first"]
    with pytest.raises(SpikingLayerError, match="'second' is the same as 'first'"):
        find_spiking_layers(net, ["second"])


def test_a_neuron_module_that_contains_another_must_be_chosen_between() -> None:
    """A user's wrapper may pass the same spikes on: neither is dropped or doubled unasked."""
    snn = framework("snntorch")

    class Wrapper(snn.Leaky):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__(0.9)
            self.inner = snn.Leaky(0.9)

    net = nn.Sequential(nn.Linear(5, 5), Wrapper())
    with pytest.raises(SpikingLayerError, match=r"'1' \(Wrapper\) contains '1.inner'"):
        find_spiking_layers(net)
    assert list(find_spiking_layers(net, ["1.inner"])) == ["1.inner"]


def test_the_network_is_left_as_it_was() -> None:
    """No hook, attribute or mode is touched by finding."""
    net = network()
    before = {name: dict(vars(module)) for name, module in net.named_modules()}
    find_spiking_layers(net, Spiker)
    assert {name: dict(vars(module)) for name, module in net.named_modules()} == before


def test_no_framework_is_imported() -> None:
    """A fresh interpreter that finds layers has none of the frameworks in sys.modules."""
    program = """
import sys, torch
from torch import nn
from recorder.frameworks import find_spiking_layers
assert list(find_spiking_layers(nn.Sequential(nn.ReLU()), layers=nn.ReLU)) == ["0"]
try:
    find_spiking_layers(nn.Sequential(nn.ReLU()))
except ValueError:
    pass
print([name for name in ("spikingjelly", "snntorch", "norse", "sinabs") if name in sys.modules])
"""
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert run.stdout.strip() == "[]"


# --- Networks that cannot be recorded -----------------------------------------------------------------------


def test_data_parallel_is_refused_wherever_it_is() -> None:
    """The error names module and reason."""
    net = nn.Sequential(nn.DataParallel(nn.Sequential(Spiker())))
    with pytest.raises(SpikingLayerError, match=r"module '0' \(DataParallel\).*threads"):
        refuse_unrecordable(net)
    with pytest.raises(SpikingLayerError, match="DataParallel"):
        find_spiking_layers(net, Spiker)


def test_scripted_and_traced_modules_are_refused_wherever_they_are() -> None:
    """TorchScript skips hooks."""
    with warnings.catch_warnings():
        # torch 2.13 warns of TorchScript itself, which users have all the same.
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        scripted = torch.jit.script(nn.Linear(2, 2))
        traced = torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2))
    for module in (scripted, traced):
        with pytest.raises(SpikingLayerError, match=r"module '1' .* scripted or traced"):
            refuse_unrecordable(nn.Sequential(nn.ReLU(), module))


def test_ordinary_networks_are_not_refused() -> None:
    """A network of plain modules passes."""
    refuse_unrecordable(network())
