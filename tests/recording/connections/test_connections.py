"""Which weight layers read which layers, and the fan-out of each neuron, as one forward shows them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from networks import Threshold, on_store
from recorder import SpikeOutput
from recorder.connections import ForwardGraph
from recorder.format.connections import FanOut
from seen_connections import found, readers, recorded


def fan_out_by_gradient(reader: nn.Module, shape: tuple[int, ...], *, nonzero: bool = False) -> np.ndarray:
    """Fan-out of each place of one input: what the sum of outputs gains from it where all weights are 1."""
    counting = copy.deepcopy(reader).double()
    with torch.no_grad():
        counting.weight.copy_((counting.weight != 0) if nonzero else torch.ones_like(counting.weight))
        if counting.bias is not None:
            counting.bias.zero_()
    spikes = torch.zeros(1, *shape, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(counting(spikes).sum(), spikes)
    return gradient[0].long().numpy()


GEOMETRIES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(7, 5), (7,)),
    "linear behind two axes": (lambda: nn.Linear(7, 5, bias=False), (3, 7)),
    "1d": (lambda: nn.Conv1d(4, 6, 3), (4, 9)),
    "stride": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1), (4, 9, 8)),
    "stride beyond the kernel": (lambda: nn.Conv2d(4, 6, 2, stride=3), (4, 9, 8)),
    "dilation": (lambda: nn.Conv2d(4, 6, 3, dilation=(2, 3), padding=(2, 1)), (4, 9, 8)),
    "groups": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding=2), (4, 9, 8)),
    "depthwise": (lambda: nn.Conv2d(4, 8, (1, 3), groups=4, padding=(0, 1)), (4, 5, 6)),
    "same": (lambda: nn.Conv2d(4, 6, (4, 3), padding="same", dilation=(1, 2)), (4, 9, 8)),
    "valid": (lambda: nn.Conv2d(4, 6, 4, padding="valid"), (4, 9, 8)),
    "circular": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (4, 5, 6)),
    "reflect": (lambda: nn.Conv2d(4, 6, 3, padding=2, stride=2, padding_mode="reflect"), (4, 5, 6)),
    "replicate": (lambda: nn.Conv1d(4, 6, 5, padding=2, padding_mode="replicate"), (4, 7)),
    "3d": (lambda: nn.Conv3d(2, 3, (1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 1)), (2, 3, 5, 4)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, groups=2), (4, 5, 6)),
    "transposed, wider": (
        lambda: nn.ConvTranspose1d(4, 6, 4, stride=3, padding=2, output_padding=1, dilation=2),
        (4, 5),
    ),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("zeros", [False, True])
def test_fan_out_is_exact_at_borders_with_any_stride_padding_dilation_and_groups(
    name: str, zeros: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    make, shape = GEOMETRIES[name]
    reader = make()
    if zeros:
        with torch.no_grad():
            reader.weight.mul_(torch.rand_like(reader.weight) < 0.5)
    connections = recorded(tmp_path, nn.Sequential(Threshold(), reader), torch.rand(3, *shape))
    (one,) = connections.layers["0"]
    expected = fan_out_by_gradient(reader, shape)
    assert np.array_equal(one.fan_out.array(shape), expected)
    assert one.nonzero_fan_out is not None
    assert np.array_equal(one.nonzero_fan_out.array(shape), fan_out_by_gradient(reader, shape, nonzero=True))
    assert not one.fan_out.stored  # a product, whatever the geometry
    assert (one.name, one.kind) == ("1", type(reader).__name__)
    assert one.weight_shape == tuple(reader.weight.shape)
    assert not connections.uncovered
    assert not connections.inputs


class Network(nn.Module):
    """Two layers of spikes, and whatever lies between them and a weight layer."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor], reader: nn.Module) -> None:
        super().__init__()
        self.spikes, self.reader, self.between = Threshold(), reader, between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.reader(self.between(self.spikes(x)))


def scaled(x: torch.Tensor) -> torch.Tensor:
    x *= 1.5
    return x


SAME = {
    "nothing": lambda x: x,
    "a view": lambda x: x.view(len(x), 4, 9),
    "flattened": lambda x: x.flatten(0, 1),
    "exchanged": lambda x: x.permute(0, 3, 2, 1)[..., :3].transpose(1, 3),
    "copied by reshape": lambda x: x.permute(0, 1, 3, 2).reshape(len(x), 4, 9),
    "copied, then seen otherwise": lambda x: x.transpose(1, 3).contiguous().flatten(1, 2).transpose(1, 2),
    "detached": lambda x: x.detach(),
    "cloned": lambda x: x.clone(),
    "another dtype": lambda x: x.to(torch.float64).to(torch.float32),
    "some of it": lambda x: x[:, :, 1:, ::2],
    "repeated": lambda x: x.unsqueeze(1).expand(-1, 2, -1, -1, -1).flatten(0, 1),
}
OTHERS = {
    "pooled": lambda x: nn.functional.max_pool2d(x, 2, 1),
    "added to": lambda x: x + x.roll(1, 0),
    "changed in place": scaled,
    "dropped": lambda x: nn.functional.dropout(x, 0.5),
    "joined": lambda x: torch.cat([x, x], 1),
    "some samples": lambda x: x[:2],
    "copied, then changed": lambda x: scaled(x.clone()),
    "changed, then copied": lambda x: scaled(x).flatten(2).transpose(1, 2).contiguous(),
    "other bits": lambda x: x.view(torch.int32).float(),
}


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("name", SAME)
def test_views_and_copies_of_spikes_are_followed(name: str, inference: bool, tmp_path: Path) -> None:
    x = torch.rand(3, 4, 3, 3)
    net = Network(SAME[name], nn.Linear(SAME[name](x).shape[-1], 2))
    with on_store(tmp_path, net, durability="process") as monitor, torch.inference_mode(inference):
        net(x)
    connections = found(monitor)
    assert readers(connections) == {"spikes": ["reader"]}
    # How often each slot is read, times two outputs.
    ones = torch.zeros(3, 4, 3, 3, requires_grad=True)
    (times,) = torch.autograd.grad(SAME[name](ones).sum(), ones) if name != "detached" else (torch.ones(3),)
    (one,) = connections.layers["spikes"]
    expected = torch.broadcast_to(times[0].long() * 2, (4, 3, 3)).numpy()
    assert np.array_equal(one.fan_out.array((4, 3, 3)), expected)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_longer_the_spikes_is_listed_and_not_taken_for_them(
    name: str, inference: bool, tmp_path: Path
) -> None:
    x = torch.rand(3, 4, 3, 3)
    net = Network(OTHERS[name], nn.Linear(OTHERS[name](x.clone()).shape[-1], 2))
    with on_store(tmp_path, net, durability="process") as monitor, torch.inference_mode(inference):
        net(x)
    connections = found(monitor)
    assert readers(connections) == {"spikes": []}
    assert list(connections.uncovered) == ["reader"]


def test_convolution_over_exchanged_axes_has_the_fan_out_of_each_neuron_at_its_place(tmp_path: Path) -> None:
    reader = nn.Conv2d(5, 2, 3, padding=1)
    net = Network(lambda x: x.permute(0, 3, 1, 2), reader)  # neurons are [height, width, channel]
    connections = recorded(tmp_path, net, torch.rand(3, 4, 6, 5))
    (one,) = connections.layers["spikes"]
    expected = fan_out_by_gradient(reader, (5, 4, 6)).transpose(1, 2, 0)
    assert np.array_equal(one.fan_out.array((4, 6, 5)), expected)


def test_flat_neurons_that_a_convolution_reads_have_fan_outs_of_their_own(tmp_path: Path) -> None:
    reader = nn.Conv2d(2, 3, 3, padding=1)
    net = Network(lambda x: x.unflatten(1, (2, 4, 6)), reader)
    connections = recorded(tmp_path, net, torch.rand(3, 48))
    (one,) = connections.layers["spikes"]
    assert one.fan_out.stored or one.fan_out.along
    assert np.array_equal(one.fan_out.array((48,)), fan_out_by_gradient(reader, (2, 4, 6)).ravel())


class Looped(nn.Module):
    """Runs over time inside its forward; what comes back, comes back a step later."""

    def __init__(self, *, recurrent: bool) -> None:
        super().__init__()
        self.first, self.spikes, self.last = nn.Linear(4, 6), Threshold(), nn.Linear(6, 3)
        self.back = nn.Linear(6, 6) if recurrent else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes, outputs = torch.zeros(x.shape[1], 6), []
        for step in x:
            current = self.first(step)
            current = current if self.back is None else current + self.back(spikes)
            spikes = self.spikes(current)
            outputs.append(self.last(spikes))
        return torch.stack(outputs)


def test_steps_inside_a_forward_are_steps_and_the_input_layer_is_apart(tmp_path: Path) -> None:
    connections = recorded(tmp_path, Looped(recurrent=False), torch.rand(5, 3, 4))
    assert readers(connections) == {"spikes": ["last"]}
    (one,) = connections.layers["spikes"]
    assert one.fan_out == FanOut(3)
    (apart,) = connections.inputs
    assert (apart.name, apart.operations, apart.frames, apart.is_binary) == (
        "first",
        5 * 3 * 4 * 6,
        15,
        False,
    )


def test_what_is_fed_back_is_listed_as_it_does_not_read_every_step(tmp_path: Path) -> None:
    connections = recorded(tmp_path, Looped(recurrent=True), torch.rand(5, 3, 4))
    assert readers(connections) == {"spikes": ["last"]}
    assert list(connections.uncovered) == ["back"]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.spikes, self.out = nn.Linear(4, 4), Threshold(), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = self.spikes(self.q(x))
        return self.out(q @ q.transpose(1, 2) @ q)


def test_products_of_attention_are_listed_by_the_module_that_makes_them(tmp_path: Path) -> None:
    net = nn.Sequential(Attention(), nn.MultiheadAttention(4, 2)).eval()

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> Any:
            x = self.net[0](x)
            return self.net[1](x, x, x)

    connections = recorded(tmp_path, Both(), torch.rand(3, 5, 4))
    listed = set(connections.uncovered)
    assert {"net.0: matmul", "net.0.out"} <= listed
    assert any(name.startswith("net.1: ") for name in listed)
    assert [reader.name for reader in connections.inputs] == ["net.0.q"]


def test_two_readers_of_one_layer_and_one_reader_of_two(tmp_path: Path) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = Threshold(), Threshold()
            self.shared, self.own = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            spikes = self.a(x)
            return self.shared(self.b(self.shared(spikes))) + self.own(spikes).sum()

    connections = recorded(tmp_path, Shared(), torch.rand(3, 4))
    assert readers(connections) == {"a": ["shared", "own"], "b": ["shared"]}


def test_inputs_are_followed_and_those_of_zeros_and_ones_are_said_to_be(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), Threshold())

    class Repeated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x.unsqueeze(0).repeat(4, 1, 1, 1, 1).flatten(0, 1))

    layers = {"net.1": SpikeOutput("(t n) ...", num_steps=4)}
    connections = recorded(tmp_path, Repeated(), torch.ones(3, 1, 5, 6), layers=layers)
    (apart,) = connections.inputs
    expected = int(fan_out_by_gradient(net[0], (1, 5, 6)).sum()) * 12
    assert (apart.name, apart.operations, apart.frames, apart.is_binary) == ("net.0", expected, 12, True)


class Doubled(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.cat([x, x], -2))


def test_a_subclass_that_makes_other_shapes_is_listed(tmp_path: Path) -> None:
    connections = recorded(tmp_path, nn.Sequential(Threshold(), Doubled(4, 2)), torch.rand(3, 5, 4))
    assert list(connections.uncovered) == ["1"]


def test_readers_and_writers_agree_on_what_a_commit_record_holds(tmp_path: Path) -> None:
    net = Network(lambda x: x.unflatten(1, (2, 4, 6)), nn.Conv2d(2, 3, 3))
    with torch.no_grad():
        net.reader.weight[0, 0] = 0
    with on_store(tmp_path, net) as monitor:
        net(torch.rand(3, 48))
        written = monitor._session.layers.connections
    assert found(monitor) == written
    assert written is not None
    assert written.layers["spikes"][0].nonzero_fan_out is not None


def test_layers_whose_events_are_not_ones_are_no_accumulates(tmp_path: Path) -> None:
    class Rounded(Threshold):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * 0.999

    net = nn.Sequential(Rounded(), nn.Linear(4, 2))
    with on_store(tmp_path, net, threshold=0.5) as monitor, torch.no_grad():
        net(torch.rand(3, 4))
    assert "threshold" in found(monitor).uncovered["1"]
    graph = ForwardGraph(net, monitor._layers.values())
    graph.run(net, (torch.ones(3, 4),), {})
    seen = graph.connections()
    assert seen is not None
    # What they cost is told by the values that were recorded, not by those of the first forward.
    assert [reader.name for reader in seen.layers["0"]] == ["1"]


def test_what_reads_a_layer_at_some_steps_only_is_listed(tmp_path: Path) -> None:
    class Seldom(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spikes, self.always, self.seldom = Threshold(), nn.Linear(4, 2), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> None:
            for number, step in enumerate(x):
                spikes = self.spikes(step)
                self.always(spikes)
                if number % 2 == 0:
                    self.seldom(spikes)

    connections = recorded(tmp_path, Seldom(), torch.rand(5, 3, 4))
    assert readers(connections) == {"spikes": ["always"]}
    assert "at some of its steps only" in connections.uncovered["seldom"]
