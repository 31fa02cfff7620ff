"""Synaptic operations equal what SpikingJelly 2, NeuroBench and sinabs count on the same run."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import analysis
from analysis.arguments import QuestionError
from frameworks import framework
from networks import Threshold
from recorder import Monitor

N, T = 3, 4


def geometries() -> dict[str, list[nn.Module]]:
    """Weight layers behind a layer of shape [4, 9, 8], whose borders, strides and groups all matter."""
    return {
        "padding": [nn.Conv2d(4, 6, 3, padding=(1, 2))],
        "no padding": [nn.Conv2d(4, 6, (2, 3))],
        "stride": [nn.Conv2d(4, 6, 3, stride=(2, 3), padding=1)],
        "dilation": [nn.Conv2d(4, 6, 3, dilation=(2, 1), padding=(2, 0))],
        "groups": [nn.Conv2d(4, 6, 3, groups=2, padding=1, stride=2)],
        "depthwise": [nn.Conv2d(4, 4, 3, groups=4)],
        "linear": [nn.Flatten(), nn.Linear(288, 7)],
    }


def thinned(net: nn.Module) -> nn.Module:
    """Strong weights, a good part of which is 0."""
    torch.manual_seed(3)
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            with torch.no_grad():
                module.weight.copy_(torch.randn_like(module.weight))
                module.weight.mul_(torch.rand_like(module.weight) > 0.3)
    return net.eval()


def images() -> torch.Tensor:
    return torch.rand(T, N, 2, 9, 8, generator=torch.Generator().manual_seed(5)) + 0.1


# -- SpikingJelly 2 -----------------------------------------------------------------------------------------


@pytest.fixture
def counter() -> Any:
    try:
        module = importlib.import_module("spikingjelly.activation_based.op_counter")
    except ModuleNotFoundError:
        pytest.skip("this SpikingJelly counts no operations")
    return module


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("name", geometries())
def test_jelly_counter(counter: Any, tmp_path: Path, step_mode: str, name: str) -> None:
    from spikingjelly.activation_based import functional, layer, neuron

    readers: list[nn.Module] = []
    for module in geometries()[name]:
        if isinstance(module, nn.Conv2d):
            settings = {key: getattr(module, key) for key in ("stride", "padding", "dilation", "groups")}
            readers.append(
                layer.Conv2d(module.in_channels, module.out_channels, module.kernel_size, **settings)
            )
        else:
            readers.append(layer.Flatten() if isinstance(module, nn.Flatten) else layer.Linear(288, 7))
    net = thinned(nn.Sequential(layer.Conv2d(2, 4, 3, padding=1), neuron.IFNode(), *readers, neuron.IFNode()))
    functional.set_step_mode(net, step_mode)
    synops = counter.SynOpCounter()
    with Monitor(net, store=tmp_path / "run.zarr"), torch.no_grad(), counter.DispatchCounterMode([synops]):
        for step in [images()] if step_mode == "m" else images():
            net(step)
    recording = analysis.open_recording(tmp_path / "run.zarr")
    assert recording.synaptic_operations().values == synops.get_total() > 0


def test_jelly_counter_of_transposed_convolutions(counter: Any, tmp_path: Path) -> None:
    from spikingjelly.activation_based import functional, layer, neuron

    net = thinned(
        nn.Sequential(
            layer.Conv2d(2, 4, 3, padding=1),
            neuron.LIFNode(),
            layer.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
            neuron.LIFNode(),
            layer.Flatten(),
            layer.Linear(6 * 18 * 16, 5),
        )
    )
    functional.set_step_mode(net, "m")
    synops = counter.SynOpCounter()
    with Monitor(net, store=tmp_path / "run.zarr"), torch.no_grad(), counter.DispatchCounterMode([synops]):
        net(images())
    recording = analysis.open_recording(tmp_path / "run.zarr")
    assert recording.synaptic_operations().values == synops.get_total() > 0
    assert recording.energy().values == synops.get_total() * 9 / 10


# -- NeuroBench ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", geometries())
def test_operations_equal_effective_accumulates_of_neurobench(tmp_path: Path, name: str) -> None:
    models, workload = framework("neurobench.models"), framework("neurobench.metrics.workload")
    net = thinned(nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), Threshold(), *geometries()[name]))
    model, metric = models.TorchModel(net), workload.SynapticOperations()
    model.register_hooks()
    with Monitor(net, store=tmp_path / "run.zarr", layers=[Threshold]), torch.no_grad():
        outputs = [model(step) for step in images()]
    with torch.no_grad():
        found = metric(model, outputs, (images()[0], torch.zeros(N)))
    recording = analysis.open_recording(tmp_path / "run.zarr")
    operations = recording.synaptic_operations(weights="nonzero")
    assert operations.values == round(found["Effective_ACs"] * N) > 0
    assert operations.values < recording.synaptic_operations().values  # weights of 0 are no operations there
    energy = recording.energy(weights="nonzero", accumulate=1, multiply_accumulate=1)
    assert energy.input_layer.values == round(found["Effective_MACs"] * N) > 0
    connections = recording.metadata.connections
    assert connections is not None
    (reader,), (apart,) = connections.layers["1"], connections.inputs
    dense = int(reader.fan_out.array((4, 9, 8)).sum()) * N + apart.operations
    assert dense * T == round(found["Dense"] * N)


# -- sinabs -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:SNNAnalyzer is deprecated:DeprecationWarning")
@pytest.mark.parametrize("spikes", ["SingleSpike", "MultiSpike"])
@pytest.mark.parametrize("name", geometries())
def test_operations_equal_the_analyser_of_sinabs(tmp_path: Path, name: str, spikes: str) -> None:
    layers, activation = framework("sinabs.layers"), framework("sinabs.activation")
    synops, hooks = framework("sinabs.synopcounter"), framework("sinabs.hooks")

    def spiking() -> nn.Module:
        return layers.IAFSqueeze(batch_size=N, spike_fn=getattr(activation, spikes))

    net = thinned(nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), spiking(), *geometries()[name], spiking()))
    assert isinstance(net, nn.Sequential)
    of = "events" if spikes == "SingleSpike" else "magnitude"
    if of == "magnitude":
        net[0].weight.data *= 8  # so that neurons fire several times
    analyser = synops.SNNAnalyzer(net)
    hooks.register_synops_hooks(net)
    with Monitor(net, store=tmp_path / "run.zarr"), torch.no_grad():
        net(images().transpose(0, 1).flatten(0, 1))
    recording = analysis.open_recording(tmp_path / "run.zarr")
    if of == "magnitude":
        assert recording["1"].value_range[1] > 1
        with pytest.raises(QuestionError, match="of='magnitude' takes a value of 3 for three spikes"):
            recording.synaptic_operations()
    operations = int(recording.synaptic_operations(of=of))
    assert operations > 0
    energies = recording.energy(("step", "sample"), of=of, accumulate=1)
    assert energies.sum() == recording["1"].synaptic_operations("channel", of=of).sum() == operations
    last = str(1 + len(geometries()[name]))
    said = analyser.get_layer_statistics()["parameter"][last]["synops"]
    np.testing.assert_allclose(float(said) * N, operations, rtol=1e-6)  # a mean of float32 over samples
    per_frame = net.hook_data["synops_per_timestep"][int(last)]
    np.testing.assert_allclose(float(per_frame) * N * T, operations, rtol=1e-6)
