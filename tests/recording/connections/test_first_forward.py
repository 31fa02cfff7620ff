"""The first forward shows the connections and leaves the network as it was; commits keep what it showed."""

from __future__ import annotations

import copy
import inspect
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from networks import Threshold, on_store
from recorder.connections import forward_graph
from recorder.format.connections import FanOut, records
from recorder.stores import Folder
from recorder.tape import TapeReader
from seen_connections import found, readers, recorded


def test_hooks_and_the_replaced_forward_are_gone_after_the_first_forward(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold(), nn.Linear(4, 2))
    signature = inspect.signature(net.forward)
    with on_store(tmp_path, net):
        assert inspect.signature(net.forward) == signature
        net(torch.rand(3, 4))
        assert "forward" not in net.__dict__
        assert not net[1]._forward_hooks
        assert len(net[0]._forward_hooks) == 1
    assert not any(module._forward_hooks for module in net.modules())


def test_a_monitor_that_was_never_used_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold(), nn.Linear(4, 2))
    monitor = on_store(tmp_path, net)
    monitor.enable()
    assert "forward" in net.__dict__
    monitor.disable()
    assert "forward" not in net.__dict__
    monitor.close()
    assert TapeReader.open(Folder(monitor.store)).metadata.connections is None


def test_a_forward_that_fails_shows_nothing_and_the_next_one_does(tmp_path: Path) -> None:
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spikes, self.read = Threshold(), nn.Linear(4, 2)
            self.error: BaseException | None = KeyboardInterrupt()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.spikes(x)
            if self.error is not None:
                raise self.error
            return self.read(x)

    net = Failing()
    with on_store(tmp_path, net) as monitor:
        for error in (KeyboardInterrupt(), ArithmeticError()):
            net.error = error
            with pytest.raises(type(error)):
                net(torch.rand(3, 4))
            assert not net.read._forward_hooks
            assert not torch.overrides._get_current_function_mode_stack()
        net.error = None
        net(torch.rand(3, 4))
        assert readers(found(monitor)) == {"spikes": ["read"]}


def test_connections_come_with_the_next_commit_and_stay(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold(), nn.Linear(4, 2))
    with on_store(tmp_path, net) as monitor:
        monitor.flush()
        assert TapeReader.open(Folder(monitor.store)).metadata.connections is None
        net(torch.rand(3, 4))
        first = found(monitor)
        net(torch.rand(3, 4))
        assert found(monitor) == first
    with on_store(tmp_path, net, resume=True) as monitor:
        net(torch.rand(3, 4))
    assert found(monitor) == first


def test_a_recording_that_begins_again_is_shown_what_the_network_is_now(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold(), nn.Linear(4, 2))
    with on_store(tmp_path, net) as monitor:
        net(torch.rand(3, 4))
        net[1] = nn.Linear(4, 7)
        monitor.reset()
        net(torch.rand(3, 4))
        (one,) = found(monitor).layers["0"]
        assert one.fan_out == FanOut(7)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_compiled_network_stays_compiled_and_shows_nothing(tmp_path: Path) -> None:
    import torch._dynamo.testing

    net = nn.Sequential(Threshold(), nn.Linear(4, 2))
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(net, backend=counter)
    with on_store(tmp_path, net) as monitor, torch.no_grad():
        for _ in range(3):
            compiled(torch.rand(3, 4))
    assert counter.frame_count > 0
    assert TapeReader.open(Folder(monitor.store)).metadata.connections is None


def test_copies_of_the_network_have_its_own_forward(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold(), nn.Linear(4, 2))
    with on_store(tmp_path, net) as monitor:
        copied = copy.deepcopy(net)
        x = torch.rand(3, 4)
        assert torch.equal(copied(x), net(x))
        assert readers(found(monitor)) == {"0": ["1"]}


def test_fan_outs_that_fill_the_commit_record_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nn.Sequential(Threshold(), nn.Unflatten(1, (2, 4, 6)), nn.Conv2d(2, 3, 3))
    with torch.no_grad():
        net[2].weight[0, 0] = 0
    monkeypatch.setattr(records, "_as_product", lambda _: None)
    both = recorded(tmp_path / "both", net, torch.rand(3, 48)).layers["0"][0]
    assert both.fan_out.stored
    assert both.nonzero_fan_out is not None
    monkeypatch.setattr(forward_graph, "_MOST_STORED", len(both.fan_out.stored))
    (one,) = recorded(tmp_path / "one", net, torch.rand(3, 48)).layers["0"]
    assert (one.fan_out, one.nonzero_fan_out) == (both.fan_out, None)
    monkeypatch.setattr(forward_graph, "_MOST_STORED", len(both.fan_out.stored) - 1)
    none = recorded(tmp_path / "none", net, torch.rand(3, 48))
    assert none.layers == {"0": ()}
    assert "too irregular" in none.uncovered["2"]


def test_format_shows_a_fan_out_as_it_is(tmp_path: Path) -> None:
    text = (Path(records.__file__).parents[1] / "FORMAT.md").read_text(encoding="utf-8")
    shown = json.loads(re.findall(r"```json\n(.*?)```", text, re.DOTALL)[0])
    net = nn.Sequential(Threshold(), nn.Conv2d(4, 6, 3, padding=1))
    (one,) = recorded(tmp_path, net, torch.rand(2, 4, 3, 3)).layers["0"]
    assert one.fan_out.to_json() == shown
