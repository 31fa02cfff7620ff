"""Layers that are monitored and not called are named, with the likely cause."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from spikingjelly.clock_driven import neuron
from torch import nn

import analysis
from analysis.cli.commands import main
from chains import Chain, Spiking, X, monitored
from recorder import Monitor
from recorder.format import StepsWarning, UncalledLayersWarning
from recorder.stores import Folder
from recorder.tape import TapeReader

# -- layers that are not called ----------------------------------------------------------------------------


def test_layers_that_are_never_called_are_named_at_the_end_of_the_first_forward(tmp_path: Path) -> None:
    net = Chain()
    with monitored(tmp_path, net) as monitor:
        with pytest.warns(UncalledLayersWarning, match="not called: 'b', 'c'. No hook of theirs runs"):
            net(X, "a")
        net(X, "a")  # once
        assert "b: Spiking, nothing recorded yet, not called" in repr(monitor)
    assert TapeReader.open(Folder(monitor.store)).metadata.uncalled == {"b": 0, "c": 0}
    recording = analysis.open_recording(monitor.store)
    assert "not recorded at the end: 'b', 'c'" in repr(recording)
    assert "not recorded at the end: &#x27;b&#x27;, &#x27;c&#x27;" in recording._repr_html_()
    info = CliRunner().invoke(main, ["info", monitor.store]).stdout
    assert "not recorded 'b', 'c'" in info
    verified = CliRunner().invoke(main, ["verify", monitor.store])
    assert "not recorded at the end: 'b', 'c'" in verified.stderr
    assert verified.exit_code == 0


def test_a_layer_that_was_replaced_is_named(tmp_path: Path) -> None:
    net = nn.Sequential(Spiking(), Spiking())
    with monitored(tmp_path, net) as monitor:
        net(X)
        net[1] = Spiking()
        with pytest.warns(UncalledLayersWarning, match=r"other modules now at '1'.*Make a new monitor"):
            net(X)
        net(X)
    assert TapeReader.open(Folder(monitor.store)).metadata.uncalled == {"1": 1}
    assert "'1' since step 1" in CliRunner().invoke(main, ["info", monitor.store]).stdout


class Lazy(nn.Module):
    """Makes its second neuron when it is first called."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = neuron.IFNode(), nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.b, nn.Identity):
            self.b = neuron.IFNode()
        return self.b(self.a(x))  # type: ignore[no-any-return]


def test_neurons_that_come_after_the_monitor_are_named(tmp_path: Path) -> None:
    net = nn.Sequential(Lazy())
    with Monitor(net, store=tmp_path / "run.zarr") as monitor:
        net.append(neuron.IFNode())
        with pytest.warns(UncalledLayersWarning, match=r"neurons now .* made: '0\.b', '1'"):
            net(X)
        net(X)
    assert monitor.layers == ("0.a",)


def test_neurons_that_were_not_chosen_are_no_news(tmp_path: Path) -> None:
    net = nn.Sequential(neuron.IFNode(), neuron.IFNode())
    with Monitor(net, layers=["0"], store=tmp_path / "run.zarr"):
        net.append(neuron.IFNode())
        net(X)


def test_an_expert_that_is_idle_for_a_while_is_no_news(tmp_path: Path) -> None:
    net = Chain()
    with monitored(tmp_path, net) as monitor:
        for calls in ("abc", "ab", "ac", "ab", "abc"):
            net(X, calls)
    assert TapeReader.open(Folder(monitor.store)).metadata.uncalled == {}


def test_a_layer_that_stops_being_called_is_named_after_a_hundred_forwards(tmp_path: Path) -> None:
    net = Chain()
    with monitored(tmp_path, net) as monitor:
        net(X)
        for _ in range(99):
            net(X, "ac")
        with pytest.warns(UncalledLayersWarning, match="not called in the newest 100 forwards.*'b'"):
            net(X, "ac")
        net(X, "ac")
    assert TapeReader.open(Folder(monitor.store)).metadata.uncalled == {"b": 1}


def test_a_layer_that_is_replaced_after_a_forward_has_left_it_out_is_named(tmp_path: Path) -> None:
    net = Chain()
    with monitored(tmp_path, net):
        net(X), net(X, "ac"), net(X)
        net.b = Spiking()
        for _ in range(99):
            net(X)
        with pytest.warns(UncalledLayersWarning, match="other modules now at 'b'"):
            net(X)


def test_a_layer_that_was_left_out_before_is_named_when_it_makes_fewer_steps(tmp_path: Path) -> None:
    net = Chain()
    with monitored(tmp_path, net):
        net(X), net(X, "ac"), net(X)
        with pytest.warns(StepsWarning, match="'b' made fewer steps"):
            net(X, "aabcc")


def test_a_copy_that_runs_instead_is_told_of_once(tmp_path: Path) -> None:
    net = nn.Sequential(Spiking())
    with monitored(tmp_path, net):
        another = copy.deepcopy(copy.deepcopy(net))
        another(X)
        with pytest.warns(UncalledLayersWarning, match="a copy of the monitored network runs"):
            another(X)
        another(X)


def test_a_copy_that_ran_once_instead_is_told_of_at_the_end(tmp_path: Path) -> None:
    net = nn.Sequential(Spiking())
    monitor = monitored(tmp_path, net)
    monitor.enable()
    copy.deepcopy(net)(X)
    with pytest.warns(UncalledLayersWarning, match="a copy of the monitored network runs"):
        monitor.close()


def test_a_teacher_that_runs_before_its_student_is_no_news(tmp_path: Path) -> None:
    net = nn.Sequential(Spiking())
    with monitored(tmp_path, net):
        teacher = copy.deepcopy(net)
        for _ in range(3):
            teacher(X), net(X)


def test_a_copy_that_runs_beside_the_network_is_no_news(tmp_path: Path) -> None:
    net = nn.Sequential(Spiking())
    with monitored(tmp_path, net):
        net(X)
        copy.deepcopy(net)(X)


def test_a_monitor_that_is_gone_before_it_has_recorded_warns(tmp_path: Path) -> None:
    net = nn.Sequential(Spiking())
    monitor = monitored(tmp_path, net)
    monitor.enable()
    with pytest.warns(UncalledLayersWarning, match="is gone, enabled, before a layer was called"):
        del monitor
    net(X)


def test_uncalled_layers_do_not_change_what_was_recorded(tmp_path: Path) -> None:
    net = Chain()
    spikes = torch.rand(5, 2, 3) - 0.5
    with monitored(tmp_path, net) as monitor:
        with pytest.warns(UncalledLayersWarning):
            net(spikes[0], "ab")
        for step in spikes[1:]:
            net(step, "ab")
    counts = analysis.open_recording(monitor.store)["a"].spike_count(per="step").values
    assert np.array_equal(counts, (spikes > 0).sum(dim=(1, 2)).numpy())
