"""Libraries whose neurons are found without `layers=`: BrainCog, BindsNET, rockpool, lava-dl, matterhorn.

The real packages are run where they are installed. They ask for much that their neurons do not need; what a
test cannot import of a package is passed by. lava-dl is in no package index: stand-ins of the names, places
and output shapes of its classes stand for it.
"""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from frameworks import framework
from recorder import Monitor
from recorder.frameworks import SpikingLayerError, find_spiking_layers
from recorder.stores import Folder
from recorder.tape import TapeReader

T, N = 6, 3


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def keep_outputs(
    net: nn.Module, names: list[str], steps: Callable[[Any], Any]
) -> dict[str, list[np.ndarray]]:
    kept: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for name in names:
        net.get_submodule(name).register_forward_hook(
            lambda _m, _i, output, name=name: kept[name].extend(np.asarray(s) for s in steps(output.detach()))
        )
    return kept


def assert_recorded(monitor: Monitor, kept: dict[str, list[np.ndarray]]) -> None:
    assert list(monitor.layers) == list(kept)
    for name, steps in kept.items():
        assert 0 < np.mean(np.concatenate(steps)) < 1, "a layer that neither rests nor fires shows nothing"
        recorded = monitor.s[name][:]
        assert len(recorded) == len(steps)
        assert all(np.array_equal(one, other) for one, other in zip(recorded, steps, strict=True))


def potentials(store: Path, layer: str) -> np.ndarray:
    signal = TapeReader.open(Folder(store)).layers[layer].signals["v"]
    return signal.values(0, signal.frames)


# -- BrainCog ----------------------------------------------------------------------------------------


BRAINCOG = "braincog", "braincog.base", "braincog.base.strategy"


@pytest.fixture
def nodes(bare: Callable[..., Any]) -> Any:
    return bare("braincog.base.node.node", *BRAINCOG)


def test_braincog_nodes_of_one_step(tmp_path: Path, nodes: Any) -> None:
    net = nn.Sequential(
        nn.Linear(8, 9), nodes.LIFNode(), nn.Linear(9, 7), nodes.PLIFNode(threshold=0.1), nodes.ReLUNode()
    )
    kept = keep_outputs(net, ["1", "3"], lambda output: [output])
    with Monitor(net, store=tmp_path / "run.zarr") as monitor:
        for _ in range(T):
            net(torch.rand(N, 8) * 9)
    assert_recorded(monitor, kept)


def test_braincog_nodes_that_fold_time_into_the_batch(tmp_path: Path, nodes: Any) -> None:
    net = nn.Sequential(nn.Linear(8, 9), nodes.LIFNode(step=T, layer_by_layer=True))
    kept = keep_outputs(net, ["1"], lambda output: output.unflatten(0, (T, -1)))
    with Monitor(net, store=tmp_path / "run.zarr") as monitor:
        net(torch.rand(T * N, 8) * 4)
    assert_recorded(monitor, kept)
    assert monitor.s["1"][0].shape == (N, 9)


def test_braincog_nodes_that_fold_time_into_the_channels(tmp_path: Path, nodes: Any) -> None:
    net = nn.Sequential(nodes.LIFNode(step=T, n_groups=2))
    kept = keep_outputs(net, ["0"], lambda output: output.unflatten(1, (-1, T)).permute(2, 0, 1, 3, 4))
    with Monitor(net, store=tmp_path / "run.zarr") as monitor:
        net(torch.rand(N, 5 * T, 4, 2))
    assert_recorded(monitor, kept)


def test_braincog_spikes_beside_membranes_and_rates(nodes: Any) -> None:
    # Its constructor asks for a circuit: a shell of the class will do.
    shell = nodes.HHNode.__new__(nodes.HHNode)
    nn.Module.__init__(shell)
    shell.groups, shell.layer_by_layer = 1, False
    layer = find_spiking_layers(shell)[""]
    assert layer.read_spikes((torch.ones(N, 4), torch.rand(N, 4))).shape == (1, N, 4)
    online = find_spiking_layers(nodes.OnlineLIFNode())[""]
    with pytest.raises(
        SpikingLayerError, match=r"OnlineLIFNode of BrainCog puts spikes and rates out in one"
    ):
        online.read_spikes(torch.ones(2 * N, 4))


def test_braincog_membrane_potentials_of_one_step(tmp_path: Path, nodes: Any) -> None:
    net, seen = nn.Sequential(nodes.LIFNode()), []
    with Monitor(net, store=tmp_path / "run.zarr", signals="v"), torch.no_grad():
        for _ in range(T):
            net(torch.rand(N, 8) * 2)
            seen.append(net[0].mem.numpy().copy())
    np.testing.assert_array_equal(potentials(tmp_path / "run.zarr", "0"), np.concatenate(seen))


# -- BindsNET ----------------------------------------------------------------------------------------


@pytest.fixture
def bindsnet(bare: Callable[..., Any]) -> Any:
    return bare("bindsnet.network", "bindsnet")


def bindsnet_network(bindsnet: Any) -> Any:
    net = bindsnet.Network(dt=1.0, batch_size=N)
    net.add_layer(bindsnet.nodes.Input(n=8), name="X")
    net.add_layer(bindsnet.nodes.LIFNodes(n=9), name="Y")
    net.add_layer(bindsnet.nodes.IFNodes(shape=(2, 3)), name="Z")
    for source, target, n in (("X", "Y", 8), ("Y", "Z", 9)):
        layers = net.layers[source], net.layers[target]
        weights = torch.rand(n, layers[1].n) * 40
        net.add_connection(bindsnet.topology.Connection(*layers, w=weights), source=source, target=target)
    for name in ("Y", "Z"):
        net.add_monitor(bindsnet.monitors.Monitor(net.layers[name], state_vars=["s"], time=T), name=name)
    return net


def show(net: Any, steps: int = T) -> None:
    net.run({"X": (torch.rand(steps, N, 8) < 0.5).float()}, time=steps)


def test_bindsnet_nodes_have_the_spikes_of_its_own_monitor(tmp_path: Path, bindsnet: Any) -> None:
    net = bindsnet_network(bindsnet)
    with Monitor(net, store=tmp_path / "run.zarr") as monitor:
        assert monitor.layers == ("Y", "Z")
        show(net)
        for name in monitor.layers:
            theirs = net.monitors[name].get("s").numpy()
            assert 0 < theirs.mean() < 1
            assert np.array_equal(np.stack(monitor.s[name][:]), theirs)
        assert monitor.s["Z"][0].shape == (N, 2, 3)
        monitor.disable()
        show(net)
        assert len(monitor.s["Y"]) == T
    assert all("forward" not in layer.__dict__ for layer in net.layers.values())
    with Monitor(net, store=tmp_path / "chosen.zarr", layers=["X"]) as monitor:
        show(net, 2)
    assert np.array_equal(monitor.s["X"][-1], net.layers["X"].s.numpy())


def test_bindsnet_membrane_potentials_are_those_of_its_own_monitor(tmp_path: Path, bindsnet: Any) -> None:
    net = bindsnet_network(bindsnet)
    net.add_monitor(bindsnet.monitors.Monitor(net.layers["Z"], state_vars=["v"], time=T), name="potential")
    with Monitor(net, store=tmp_path / "run.zarr", signals="v"):
        show(net)
    expected = net.monitors["potential"].get("v").flatten(0, 1).numpy()
    np.testing.assert_array_equal(potentials(tmp_path / "run.zarr", "Z"), expected)


def test_bindsnet_copies_and_pickles_run_and_are_not_recorded(tmp_path: Path, bindsnet: Any) -> None:
    net = bindsnet_network(bindsnet)
    with Monitor(net, store=tmp_path / "run.zarr") as monitor:
        show(net)
        before = net.layers["Y"].s.clone()
        for made in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):  # noqa: S301 - our own
            made.layers["Y"].v.fill_(-1000.0)
            show(made, 1)
            assert not made.layers["Y"].s.any(), "the copy runs nodes that are not its own"
            assert torch.equal(net.layers["Y"].s, before)
        assert len(monitor.s["Y"]) == T


# -- rockpool ----------------------------------------------------------------------------------------


def test_rockpool_neurons(tmp_path: Path) -> None:
    modules, combinators = framework("rockpool.nn.modules"), framework("rockpool.nn.combinators")
    net = combinators.Sequential(
        modules.LinearTorch((8, 9)),
        modules.LIFTorch(9, max_spikes_per_dt=1, threshold=0.1),
        modules.LinearTorch((9, 7)),
        modules.LIFBitshiftTorch(7, max_spikes_per_dt=1, threshold=0.05),
        modules.ExpSynTorch(7),
    )
    names = [name for name, _ in net.named_modules() if "LIF" in name]
    kept = keep_outputs(net, names, lambda output: output.transpose(0, 1))
    with Monitor(net, store=tmp_path / "run.zarr") as monitor:
        net(torch.rand(N, 20, 8))
        net(torch.rand(1, 20, 8))
    assert_recorded(monitor, kept)
    # A sample alone gets an axis of samples.
    single = Monitor(net, store=tmp_path / "single.zarr", batched=False)
    with single:
        net(torch.rand(20, 8))
    assert single.s[names[0]][0].shape == (1, 9)
    import analysis

    assert analysis.open_recording(tmp_path / "run.zarr").provenance["parameters"] > 8 * 9 + 9 * 7


# -- matterhorn --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("return_states", [False, True])
def test_matterhorn_somata(tmp_path: Path, batch_first: bool, return_states: bool) -> None:
    snn = framework("matterhorn_pytorch.snn")
    settings = {"batch_first": batch_first, "return_states": return_states}
    net = nn.Sequential(snn.LIF(**settings))
    analog = snn.LIAF(**settings)
    assert list(find_spiking_layers(nn.ModuleList([analog, *net]))) == ["1"]
    kept: list[Any] = []
    net[0].register_forward_hook(lambda _m, _i, output: kept.append(output[0] if return_states else output))
    with Monitor(net, store=tmp_path / "run.zarr") as monitor:
        net((torch.rand(N, T, 9) if batch_first else torch.rand(T, N, 9)) * 3)
    expected = kept[0].transpose(0, 1) if batch_first else kept[0]
    assert_recorded(monitor, {"0": [step.detach().numpy() for step in expected]})


# -- lava-dl: stand-ins ------------------------------------------------------------------------------


def stand_in(module: str, base: type[nn.Module] = nn.Module, name: str = "Neuron") -> type[nn.Module]:
    """A class of this name that says it is defined in this module, and spikes where its input is large."""

    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return (x > 0.5).float()

    return type(name, (base,), {"__module__": module, "forward": forward})


def test_a_stand_in_for_lava_dl_puts_time_last(tmp_path: Path) -> None:
    base = stand_in("lava.lib.dl.slayer.neuron.base")
    cuba = stand_in("lava.lib.dl.slayer.neuron.cuba", base)
    delta = stand_in("lava.lib.dl.slayer.neuron.sigma_delta", base)
    block = nn.Sequential(nn.Identity(), cuba())
    net = nn.Sequential(block, cuba())
    kept = keep_outputs(net, ["0.1", "1"], lambda output: output.movedim(-1, 0))
    with Monitor(net, store=tmp_path / "run.zarr") as monitor:
        net(torch.rand(N, 5, 4, 2, T))
    assert_recorded(monitor, kept)
    assert "sigma-delta" in find_spiking_layers(delta())[""].hint


# -- copies, leaky integrators, lookalikes -----------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "name", "axes"),
    [
        ("my_project.spikingjelly.activation_based.neuron", "BaseNode", "n ..."),
        ("third_party.libs.spikingjelly.clock_driven.neuron", "BaseNode", "n ..."),
        ("my_project.sinabs.layers.lif", "StatefulLayer", "n t ..."),
    ],
)
def test_a_copy_of_a_library_inside_another_package_is_recognised(module: str, name: str, axes: str) -> None:
    kind = stand_in(module, name=name)
    kind.does_spike = True  # type: ignore[attr-defined]
    assert find_spiking_layers(nn.Sequential(kind()))["0"].output.axes == axes


def test_a_package_that_only_begins_or_ends_like_a_library_is_none() -> None:
    net = stand_in("my_spikingjelly.activation_based.neuron", name="BaseNode")()
    with pytest.raises(SpikingLayerError, match="no spiking layer found"):
        find_spiking_layers(net)


def test_norse_leaky_integrators_do_not_spike() -> None:
    norse = framework("norse.torch")
    box = framework("norse.torch.module.leaky_integrator_box")

    class Mine(box.LIBoxCell):  # type: ignore[misc, name-defined]
        pass

    class MineToo(norse.LI):  # type: ignore[misc, name-defined]
        pass

    net = nn.Sequential(norse.LIFBoxCell(), box.LIBoxCell(), Mine(), MineToo(), norse.LICell())
    assert list(find_spiking_layers(net)) == ["0"]


class MyLIF(nn.Module):
    pass


class SpikingBlock(nn.Sequential):
    pass


class CustomNode(nn.Module):
    pass


class PoissonSpikeEncoder(nn.Module):
    pass


def test_modules_that_look_like_neurons_are_named_once_when_the_monitor_is_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    neuron = framework("spikingjelly.activation_based.neuron")
    layers = framework("spikingjelly.activation_based.layer")
    net = nn.Sequential(
        SpikingBlock(nn.Linear(8, 9), neuron.IFNode()),
        SpikingBlock(nn.Linear(9, 9), MyLIF()),
        PoissonSpikeEncoder(),
        layers.MultiStepContainer(nn.Linear(9, 9)),
        CustomNode(),
        neuron.LIAFNode.__new__(neuron.LIAFNode),
    )
    nn.Module.__init__(net[5])
    monitor = Monitor(net, store=tmp_path / "run.zarr")
    assert monitor.layers == ("0.1",)
    monitor.enable()
    monitor.close()
    (named,) = [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]
    assert "recording 1 layers (IFNode); NOT recorded" in named
    assert "'1.1' (MyLIF), '4' (CustomNode)." in named
    caplog.clear()
    Monitor(net, store=tmp_path / "chosen.zarr", layers=["0.1"]).close()
    Monitor(net[0], store=tmp_path / "whole.zarr").close()
    assert not caplog.records
