"""Connections of networks of the libraries, as their users write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from frameworks import framework
from recorder import Monitor
from recorder.format.connections import Connections
from recorder.stores import Folder
from recorder.tape import TapeReader

N, T = 3, 4


def connections_of(path: Path, net: nn.Module, *inputs: Any, **options: Any) -> Connections:
    with Monitor(net, store=path / "run.zarr", durability="process", **options), torch.no_grad():
        net(*inputs)
    found = TapeReader.open(Folder(path / "run.zarr")).metadata.connections
    assert found is not None
    return found


def who(connections: Connections) -> dict[str, list[tuple[str, int]]]:
    return {
        layer: [(one.name, one.fan_out.times) for one in readers]
        for layer, readers in connections.layers.items()
    }


def test_spikingjelly_folds_time_into_the_batch_inside_containers(tmp_path: Path) -> None:
    neuron, layer = (
        framework("spikingjelly.clock_driven.neuron"),
        framework("spikingjelly.clock_driven.layer"),
    )
    net = nn.Sequential(
        layer.SeqToANNContainer(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2)),
        neuron.MultiStepIFNode(),
        layer.SeqToANNContainer(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)),
        neuron.MultiStepIFNode(),
        layer.SeqToANNContainer(nn.Flatten(), nn.Linear(60, 5)),
        neuron.MultiStepIFNode(),
    ).eval()
    found = connections_of(tmp_path, net, torch.rand(T, N, 1, 5, 4))
    assert who(found) == {"1": [("2.0", 3)], "3": [("4.1", 5)], "5": []}
    assert [(one.name, one.frames) for one in found.inputs] == [("0.0", N * T)]
    assert not found.uncovered


def test_snntorch_in_a_loop_and_what_is_fed_back_inside_its_neurons(tmp_path: Path) -> None:
    snn = framework("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.lif1 = nn.Linear(6, 5), snn.Leaky(beta=0.9)
            self.fc2, self.lif2 = nn.Linear(5, 4), snn.RLeaky(beta=0.9, linear_features=4)
            self.fc3, self.lif3 = nn.Linear(4, 2), snn.Leaky(beta=0.9)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mem1, (spk2, mem2), mem3 = self.lif1.init_leaky(), self.lif2.init_rleaky(), self.lif3.init_leaky()
            spikes = []
            for step in x:
                spk1, mem1 = self.lif1(self.fc1(step), mem1)
                spk2, mem2 = self.lif2(self.fc2(spk1), spk2, mem2)
                spk3, mem3 = self.lif3(self.fc3(spk2), mem3)
                spikes.append(spk3)
            return torch.stack(spikes)

    found = connections_of(tmp_path, Net(), torch.rand(T, N, 6))
    assert who(found) == {"lif1": [("fc2", 4)], "lif2": [("fc3", 2)], "lif3": []}
    assert list(found.uncovered) == ["lif2.recurrent"]
    assert [one.name for one in found.inputs] == ["fc1"]


def test_norse_states_beside_spikes(tmp_path: Path) -> None:
    norse = framework("norse.torch")
    net = norse.SequentialState(nn.Linear(6, 5), norse.LIFCell(), nn.Linear(5, 4), norse.LIFCell())
    found = connections_of(tmp_path, net, torch.rand(N, 6))
    assert [[name for name, _ in readers] for readers in who(found).values()] == [["2"], []]
    assert not found.uncovered


def test_sinabs_with_time_second_and_in_the_batch(tmp_path: Path) -> None:
    layers, activation = framework("sinabs.layers"), framework("sinabs.activation")
    net = nn.Sequential(
        nn.Linear(6, 5),
        layers.IAF(spike_fn=activation.SingleSpike),
        nn.Linear(5, 4),
        layers.LIF(tau_mem=10.0, spike_fn=activation.SingleSpike),
    )
    assert who(connections_of(tmp_path / "a", net, torch.rand(N, T, 6))) == {"1": [("2", 4)], "3": []}
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3),
        layers.IAFSqueeze(batch_size=N, spike_fn=activation.SingleSpike),
        nn.Conv2d(2, 3, 1),
        layers.IAFSqueeze(batch_size=N, spike_fn=activation.SingleSpike),
    )
    assert who(connections_of(tmp_path / "b", net, torch.rand(N * T, 1, 5, 4))) == {"1": [("2", 3)], "3": []}
