"""Neurons inside wrappers that call a function of theirs are recorded at the wrapper.

SpikingJelly 2 has such wrappers, and is installed apart: its tests run in a process of their own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from networks import Threshold
from recorder import Monitor, SpikeOutput
from recorder.frameworks import find_spiking_layers

ROOT = Path(__file__).parents[3]
T, N = 3, 2


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("chosen", ["found", "by name", "by type", "by name of the neuron"])
def test_memory_optimisation(tmp_path: Path, step_mode: str, chosen: str) -> None:
    checkpointing = pytest.importorskip("spikingjelly.activation_based.memopt.checkpointing")
    from spikingjelly.activation_based import functional, layer, neuron

    lif = neuron.LIFNode(v_threshold=0.2)
    net = nn.Sequential(
        layer.Linear(5, 6),
        checkpointing.checkpoint_module(lif),
        checkpointing.checkpoint_module(nn.Sequential(layer.Linear(6, 4), neuron.IFNode())),
    )
    functional.set_step_mode(net, step_mode)
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    layers = {
        "found": None,
        "by name": ["1", "2"],
        "by type": neuron.BaseNode,
        "by name of the neuron": ["1._checkpoint_wrapped_module", "2._checkpoint_wrapped_module.1"],
    }[chosen]
    put_out: dict[str, list[torch.Tensor]] = {"1": [], "2": []}
    for name, outputs in put_out.items():
        net.get_submodule(name).register_forward_hook(
            lambda _module, _input, output, outputs=outputs: outputs.append(output.detach())
        )
    with Monitor(net, store=tmp_path / "run.zarr", layers=layers) as monitor:
        x = torch.rand(T, N, 5) * 40
        for step in [x] if step_mode == "m" else x:
            net(step).sum().backward()
            functional.detach_net(net)
    assert list(monitor.s) == ["1", "2"]
    for name, outputs in put_out.items():
        expected = torch.cat(outputs) if step_mode == "m" else torch.stack(outputs)
        np.testing.assert_array_equal(np.stack(list(monitor.s[name])), expected.numpy())
        assert expected.any()


def test_nir(tmp_path: Path) -> None:
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    from spikingjelly.activation_based import layer, neuron

    source = nn.Sequential(layer.Linear(5, 6), neuron.LIFNode(tau=2.0), layer.Linear(6, 4), neuron.IFNode())
    graph = exchange.export_to_nir(source, torch.rand(1, 5), dt=1e-4)
    net = exchange.import_from_nir(graph, dt=1e-4)
    names = [name for name, module in net.named_modules() if type(module).__name__ == "_NIRStatefulModule"]
    assert len(names) == 2
    put_out: list[torch.Tensor] = []
    net.get_submodule(names[0]).register_forward_hook(
        lambda _module, _input, output: put_out.append(output[0].detach())
    )
    with Monitor(net, store=tmp_path / "run.zarr") as monitor:
        state = None
        for step in torch.rand(T, N, 5) * 40:
            _, state = net(step, state)
    assert list(monitor.s) == names
    np.testing.assert_array_equal(np.stack(list(monitor.s[names[0]])), torch.stack(put_out).numpy())


def test_wrappers_of_torch_call_the_neuron_which_is_recorded_itself(tmp_path: Path) -> None:
    net = nn.Sequential(checkpoint_wrapper(Threshold()))
    inner = "0._checkpoint_wrapped_module"
    assert list(find_spiking_layers(net, Threshold)) == [inner]
    with Monitor(net, store=tmp_path / "run.zarr", layers={Threshold: SpikeOutput()}) as monitor:
        net(torch.rand(N, 3))
    assert len(monitor.s[inner]) == 1
