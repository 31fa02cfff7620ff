"""Neurons of snnTorch, norse and sinabs are taken, and their spikes read as ``[T, N, *neuron]``.

Every neuron class is built and run; what a forward hook is given is read, and compared with the raw output.
Frameworks that are not installed are skipped one by one.
"""

from __future__ import annotations

from collections.abc import Callable
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
    first_multi_step,
    first_single_step,
    framework,
    hooked_output,
    multi_step,
    norse_neuron,
    single_step,
)
from recorder.frameworks import SpikingLayerError, find_spiking_layers

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


NORSE_STEP = ["LIFCell", "LIFAdExCell", "LIFAdExRefracCell", "LIFBoxCell", "LIFExCell", "LIFRefracCell"]
NORSE_STEP += ["LSNNCell", "IAFCell", "IzhikevichCell", "LIFRecurrentCell", "LIFAdExRecurrentCell"]
NORSE_STEP += ["LIFAdExRefracRecurrentCell", "LIFExRecurrentCell", "LIFRefracRecurrentCell"]
NORSE_STEP += ["LIFMCRecurrentCell", "LIFMCRefracRecurrentCell", "LSNNRecurrentCell", "CobaLIFCell"]
NORSE_STEP += ["IzhikevichRecurrentCell"]
NORSE_STEPS = ["LIF", "LIFAdEx", "LIFEx", "LSNN", "Izhikevich", "LIFRecurrent", "LIFAdExRecurrent"]
NORSE_STEPS += ["LIFAdExRefracRecurrent", "LIFExRecurrent", "LIFRefracRecurrent", "LSNNRecurrent"]
NORSE_STEPS += ["IzhikevichRecurrent"]


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


def test_sinabs_default_puts_out_several_spikes_per_step_and_is_known_to() -> None:
    layers = framework("sinabs.layers")
    module = layers.IAF()
    assert assert_read(module, currents(N, T, FEATURES), batch_first).max() > 1
    assert find_spiking_layers(module)[""].is_graded


def test_sinabs_converted_network_is_found_inside_its_wrapper() -> None:
    """sinabs.from_model keeps the analog network beside the spiking one; only neurons are taken."""
    sinabs = framework("sinabs")
    net = sinabs.from_model(nn.Sequential(nn.Linear(FEATURES, 6), nn.ReLU()), batch_size=N)
    assert list(find_spiking_layers(net)) == ["spiking_model.1"]
