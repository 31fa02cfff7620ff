"""Values of the libraries' graded neurons are recorded as they were put out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from frameworks import currents, framework
from given_back import check
from recorder import Monitor

T, N = 5, 3


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("name", ["ILIFNode", "TernaryIFNode", "STBIFNode"])
def test_spikingjelly_graded_neurons(tmp_path: Path, name: str, step_mode: str) -> None:
    neurons = framework("spikingjelly.activation_based.neuron")
    if not hasattr(neurons, name):
        pytest.skip(f"this SpikingJelly has no {name}")
    torch.manual_seed(0)
    arguments = {"q_threshold": torch.tensor(0.5), "level": 8, "sym": True} if name == "STBIFNode" else {}
    neuron = getattr(neurons, name)(step_mode=step_mode, **arguments)
    net = nn.Sequential(neuron)
    x = torch.randn(T, N, 7) * 4
    put_out: list[torch.Tensor] = []
    neuron.register_forward_hook(lambda _, __, output: put_out.append(output.detach().clone()))
    path = tmp_path / "run.zarr"
    with Monitor(net, store=path, durability="process") as monitor:
        for step in [x] if step_mode == "m" else x:
            net(step)
    given = [*put_out[0]] if step_mode == "m" else put_out
    assert len(set(torch.stack(given).flatten().tolist())) > 2
    check(monitor, path, "0", given)


def test_a_monitor_equals_spikingjellys_on_graded_values(tmp_path: Path) -> None:
    """Its mean is one of values, whatever they are."""
    theirs = framework("spikingjelly.clock_driven.monitor")
    neurons = framework("spikingjelly.clock_driven.neuron")

    class Graded(neurons.IFNode):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * torch.randint(1, 4, x.shape)

    torch.manual_seed(0)
    net = nn.Sequential(Graded(), Graded())
    reference = theirs.Monitor(net, torch.device("cpu"), "numpy")
    reference.enable()
    with Monitor(net, store=tmp_path / "run.zarr", durability="process") as monitor:
        for step in torch.rand(20, N, 7) * 2:
            net(step)
        for arguments in ({}, {"all": False, "module_name": "1"}):
            ours = monitor.get_avg_firing_rate(**arguments)
            np.testing.assert_allclose(ours, reference.get_avg_firing_rate(**arguments), rtol=1e-6)
            ours = monitor.get_nonfire_ratio(**arguments)
            np.testing.assert_allclose(ours, reference.get_nonfire_ratio(**arguments), rtol=1e-6)


def test_sinabs_puts_out_several_spikes_a_step(tmp_path: Path) -> None:
    layers = framework("sinabs.layers")
    net = nn.Sequential(layers.IAF())
    given = net(currents(N, T, 8) * 4).detach()
    net[0].reset_states()
    with Monitor(net, store=tmp_path / "run.zarr", durability="process") as monitor:
        net(currents(N, T, 8) * 4)
    assert given.max() > 2
    check(monitor, tmp_path / "run.zarr", "0", [*given.movedim(1, 0)])


def test_rockpool_puts_out_several_spikes_a_step(tmp_path: Path) -> None:
    modules = framework("rockpool.nn.modules")
    torch.manual_seed(0)
    net = modules.LIFTorch(4, dt=1e-3, tau_mem=1e-3, tau_syn=1e-3, max_spikes_per_dt=8)
    x = torch.rand(N, T, 4) * 20
    put_out: list[torch.Tensor] = []
    net.register_forward_hook(
        lambda _, __, output: put_out.append(output[0] if isinstance(output, tuple) else output)
    )
    with Monitor(net, store=tmp_path / "run.zarr", durability="process") as monitor:
        net(x)
    (given,) = put_out
    assert given.max() > 1
    (name,) = monitor.layers
    check(monitor, tmp_path / "run.zarr", name, [*given.detach().movedim(1, 0)])
