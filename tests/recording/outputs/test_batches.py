"""Networks without a batch, and what is said once of axes that had to be assumed."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from frameworks import framework
from recorder import Monitor, SpikeOutput
from recorder.frameworks import find_spiking_layers
from tellers import C, N, T, Teller, record, spikes


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]


# -- no batch ----------------------------------------------------------------------------------------


def spikingjelly_network() -> tuple[nn.Module, list[str], Callable[[nn.Module], None]]:
    neuron = framework("spikingjelly.activation_based.neuron")
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3), neuron.IFNode(), nn.Flatten(0), nn.Linear(6 * 4, 7), neuron.LIFNode()
    )

    def show(net: nn.Module) -> None:
        for _ in range(T):
            net(torch.rand(1, 4, 4) * 3)

    return net, ["1", "4"], show


def spikingjelly_multi_step_network() -> tuple[nn.Module, list[str], Callable[[nn.Module], None]]:
    neuron = framework("spikingjelly.activation_based.neuron")
    nodes = neuron.IFNode(step_mode="m"), neuron.LIFNode(step_mode="m")
    net = nn.Sequential(nn.Linear(8, 9), nodes[0], nn.Linear(9, 7), nodes[1])
    return net, ["1", "3"], lambda net: net(torch.rand(T, 8) * 4)


def snntorch_network() -> tuple[nn.Module, list[str], Callable[[nn.Module], None]]:
    snn = framework("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.lif1 = nn.Linear(8, 9), snn.Leaky(beta=0.9)
            self.fc2, self.lif2 = nn.Linear(9, 7), snn.Leaky(beta=0.9)

        def forward(self, x: torch.Tensor) -> None:
            first, second = self.lif1.init_leaky(), self.lif2.init_leaky()
            for step in x:
                spk, first = self.lif1(self.fc1(step), first)
                _, second = self.lif2(self.fc2(spk), second)

    return Net(), ["lif1", "lif2"], lambda net: net(torch.rand(T, 8) * 3)


def norse_network() -> tuple[nn.Module, list[str], Callable[[nn.Module], None]]:
    norse = framework("norse.torch")
    parameters = norse.LIFParameters(v_th=torch.tensor(0.1))
    net = norse.SequentialState(
        nn.Linear(8, 9), norse.LIFCell(parameters), nn.Linear(9, 7), norse.LIFCell(parameters)
    )

    def show(net: nn.Module) -> None:
        state = None
        for _ in range(12):
            _, state = net(torch.rand(8) * 9, state)

    return net, ["1", "3"], show


def norse_multi_step_network() -> tuple[nn.Module, list[str], Callable[[nn.Module], None]]:
    norse = framework("norse.torch")
    net = norse.SequentialState(nn.Linear(8, 9), norse.LIF(norse.LIFParameters(v_th=torch.tensor(0.1))))
    return net, ["1"], lambda net: net(torch.rand(12, 8) * 9)


def sinabs_network() -> tuple[nn.Module, list[str], Callable[[nn.Module], None]]:
    layers, activation = framework("sinabs.layers"), framework("sinabs.activation")
    single = {"spike_fn": activation.SingleSpike}
    # The first takes one sample as [T, …], the second always wants an axis of samples.
    net = nn.Sequential(
        nn.Linear(8, 9),
        layers.IAFSqueeze(batch_size=1, **single),
        nn.Unflatten(0, (1, T)),
        nn.Linear(9, 7),
        layers.LIF(tau_mem=20.0, **single),
    )
    return net, ["1", "4"], lambda net: net(torch.rand(T, 8) * 6)


NETWORKS = [
    spikingjelly_network,
    spikingjelly_multi_step_network,
    snntorch_network,
    norse_network,
    norse_multi_step_network,
    sinabs_network,
]


@pytest.mark.parametrize("make", NETWORKS)
def test_a_network_on_single_samples_has_the_right_silent_ratios(
    tmp_path: Path, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(1)
    net, names, show = make()
    fired: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _inputs: Any, output: Any) -> None:
            out = output[0] if isinstance(output, tuple) else output
            neurons = 7 if name == names[-1] and len(names) > 1 else 9
            neuron_axes = 3 if out.shape[-2:] == (2, 2) else 1
            counts = out.detach().reshape(-1, *out.shape[out.ndim - neuron_axes :]).sum(0)
            assert neuron_axes == 3 or counts.shape == (neurons,)
            fired[name] = fired.get(name, torch.zeros_like(counts)) + counts

        return hook

    for name in names:
        net.get_submodule(name).register_forward_hook(keep(name))
    with Monitor(net, store=tmp_path / "run.zarr", batched=False) as monitor, torch.no_grad():
        show(net)
    assert sorted(fired) == sorted(names)
    for name, counts in fired.items():
        silent = float((counts == 0).float().mean())
        assert monitor.get_nonfire_ratio(False, name) == pytest.approx(silent)
        assert monitor.s[name][0].shape == (1, *counts.shape)
    assert any(bool((counts == 0).any()) for counts in fired.values()), "a ratio of 0 shows nothing"
    assert not said(caplog)


def test_batched_leaves_alone_what_the_user_says(tmp_path: Path) -> None:
    monitor = record(tmp_path, [spikes(N, C)], SpikeOutput("n ..."), batched=False)
    assert monitor.s[""][0].shape == (N, C)
    where = find_spiking_layers(Teller(), [Teller], batched=False)[""].output
    assert where == SpikeOutput("...")


# -- what is said once -------------------------------------------------------------------------------


def test_layers_that_do_not_agree_about_the_batch_are_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net, _, show = spikingjelly_network()
    with Monitor(net, store=tmp_path / "run.zarr"):
        show(net)
        show(net)
    batch, neurons = sorted(said(caplog))
    assert "'1' is [6, 2, 2], taken for 6 samples, that of '4' is [7], taken for 7" in batch
    assert "batched=False" in batch
    assert "'4' (LIFNode), of shape [7], has no axis of neurons" in neurons


def test_an_only_axis_is_named_once_and_not_where_the_user_says_what_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net, _, show = snntorch_network()
    with Monitor(net, store=tmp_path / "run.zarr", layers=["lif1"]):
        show(net)
    (only,) = said(caplog)
    assert "'lif1' (Leaky), of shape [9], has no axis of neurons" in only
    assert "one step of 9 samples" in only
    proposed = re.search(r"layers=(\{.*?\})", only)
    assert proposed
    caplog.clear()
    layers = eval(proposed[1], {"SpikeOutput": SpikeOutput})  # noqa: S307 - what a user would paste
    with Monitor(net, store=tmp_path / "again.zarr", layers=layers) as monitor:
        show(net)
    assert not said(caplog)
    assert monitor.s["lif1"][0].shape == (9,)


def test_batches_are_not_remarked_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    neuron = framework("spikingjelly.activation_based.neuron")
    functional = framework("spikingjelly.activation_based.functional")
    net = nn.Sequential(nn.Linear(8, 9), neuron.IFNode(), nn.Linear(9, 1), neuron.IFNode())
    with Monitor(net, store=tmp_path / "run.zarr"):
        for batch in (16, 16, 5, 16, 1):
            functional.reset_net(net)
            net(torch.rand(batch, 8))
    assert not said(caplog)


class LIFSpike(nn.Module):
    """As in TET: time second."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.output


def test_what_is_assumed_of_an_unknown_class_is_said_once_with_the_shape(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = torch.zeros(8, 10, 3)
    output[:, :, :2] = spikes(8, 10, 2, rate=0.2)
    net = nn.Sequential(LIFSpike(output), LIFSpike(output))
    with Monitor(net, store=tmp_path / "assumed.zarr", layers=[LIFSpike]) as monitor:
        net(output)
        net(output)
    (assumed,) = said(caplog)
    assert "LIFSpike" in assumed
    assert "shape [8, 10, 3] (layer '0') is taken for one step of 8 samples ('n ...')" in assumed
    assert monitor.get_nonfire_ratio() > 0.33 + 0.01
    caplog.clear()
    where = SpikeOutput("n t ...")
    with Monitor(net, store=tmp_path / "said.zarr", layers={LIFSpike: where}) as monitor:
        net(output)
    assert not said(caplog)
    assert monitor.get_nonfire_ratio() == pytest.approx(1 / 3)


def test_what_was_said_is_not_said_again_behind_close_or_reset(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = Teller()
    monitor = Monitor(net, store=tmp_path / "run.zarr", layers=[Teller])
    for _ in range(2):
        monitor.enable()
        net(spikes(N, C))
        monitor.reset()
        net(spikes(N, C))
        monitor.close()
    assert len(said(caplog)) == 1
