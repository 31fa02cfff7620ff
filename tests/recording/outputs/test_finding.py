"""Which modules of a network are recorded, and which networks cannot be."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from frameworks import framework, norse_neuron
from networks import Spiker
from recorder.frameworks import SpikeOutput, SpikingLayerError, find_spiking_layers, refuse_unrecordable

ROOT = Path(__file__).parents[3]


class OtherSpiker(Spiker):
    pass


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
