"""Hooks of the user's that change an output: what the next layer gets is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from recorder import Monitor, SpikeOutput
from tellers import C, N, Teller

# -- hooks of the user's -----------------------------------------------------------------------------


def lesion(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros_like(output[:, :2]), output[:, 2:]], 1)


class Listener(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.heard.append(x.clone())
        return x


def listening() -> tuple[nn.Sequential, Listener]:
    listener = Listener()
    return nn.Sequential(Teller(), listener), listener


def assert_heard(monitor: Monitor, listener: Listener, steps: int) -> None:
    assert np.array_equal(np.stack(monitor.s["0"][:]), torch.stack(listener.heard).numpy())
    assert len(listener.heard) == steps


@pytest.mark.parametrize("when", ["before the monitor", "before enable", "after enable", "while recording"])
@pytest.mark.parametrize(
    "settings", [{}, {"always_call": True}, {"prepend": True}, {"with_kwargs": True}], ids=str
)
def test_what_is_recorded_is_what_the_next_layer_gets_whenever_a_hook_came(
    tmp_path: Path, when: str, settings: dict[str, bool]
) -> None:
    net, listener = listening()

    def add() -> None:
        hook: Any = lesion
        if "with_kwargs" in settings:
            hook = lambda module, inputs, _settings, output: lesion(module, inputs, output)  # noqa: E731
        net[0].register_forward_hook(hook, **settings)

    if when == "before the monitor":
        add()
    monitor = Monitor(net, store=tmp_path / "run.zarr", layers={"0": SpikeOutput()})
    if when == "before enable":
        add()
    monitor.enable()
    if when == "after enable":
        add()
    for step in range(4):
        if when == "while recording" and step == 2:
            add()
        net(torch.ones(N, C))
    monitor.close()
    assert_heard(monitor, listener, 4)
    recorded = np.stack(monitor.s["0"][:])
    assert not recorded[-1, :, :2].any()
    assert "register_forward_hook" not in net[0].__dict__
    assert not any("recorder" in type(hook).__module__ for hook in net[0]._forward_hooks.values())


def test_a_hook_that_removes_itself_and_one_that_adds_another(tmp_path: Path) -> None:
    net, listener = listening()
    with Monitor(net, store=tmp_path / "run.zarr", layers={"0": SpikeOutput()}) as monitor:

        def once(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            handle.remove()
            module.register_forward_hook(lesion)
            return output * 0

        handle = net[0].register_forward_hook(once)
        for _ in range(3):
            net(torch.ones(N, C))
    assert_heard(monitor, listener, 3)
    recorded = np.stack(monitor.s["0"][:])
    assert recorded.sum(axis=(1, 2)).tolist() == [0, N * (C - 2), N * (C - 2)]


def test_a_global_hook_is_seen(tmp_path: Path) -> None:
    net, listener = listening()

    def of_all(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor | None:
        return lesion(module, inputs, output) if module is net[0] else None

    with Monitor(net, store=tmp_path / "run.zarr", layers={"0": SpikeOutput()}) as monitor:
        net(torch.ones(N, C))
        with torch.nn.modules.module.register_module_forward_hook(of_all):
            net(torch.ones(N, C))
    assert_heard(monitor, listener, 2)
    assert np.stack(monitor.s["0"][:]).sum(axis=(1, 2)).tolist() == [N * C, N * (C - 2)]


def test_a_hook_on_a_network_that_is_itself_a_layer_leaves_its_forwards_whole(tmp_path: Path) -> None:
    net = Teller()
    with Monitor(net, store=tmp_path / "run.zarr", layers={"": SpikeOutput()}) as monitor:
        net(torch.ones(N, C))
        net.register_forward_hook(lesion)
        net(torch.ones(N, C))
        monitor.flush()  # refused inside a forward
        assert monitor.stats.steps == 2
    assert np.stack(monitor.s[""][:]).sum(axis=(1, 2)).tolist() == [N * C, N * (C - 2)]


@pytest.mark.parametrize("first_to_go", [0, 1])
def test_two_monitors_leave_a_module_as_it_was(tmp_path: Path, first_to_go: int) -> None:
    net, listener = listening()
    monitors = [Monitor(net, store=tmp_path / f"{n}.zarr", layers={"0": SpikeOutput()}) for n in range(2)]
    for monitor in monitors:
        monitor.enable()
    net[0].register_forward_hook(lesion)
    net(torch.ones(N, C))
    for place in (first_to_go, 1 - first_to_go):
        monitors[place].close()
        assert_heard(monitors[place], listener, 1)
    assert "register_forward_hook" not in net[0].__dict__
    assert len(net[0]._forward_hooks) == 1


def test_copies_of_a_monitored_network_add_hooks_of_their_own(tmp_path: Path) -> None:
    import copy
    import pickle

    net, listener = listening()
    with Monitor(net, store=tmp_path / "run.zarr", layers={"0": SpikeOutput()}) as monitor:
        net(torch.ones(N, C))
        for made in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):  # noqa: S301 - our own
            handle = made[0].register_forward_hook(lesion)
            assert handle.id in made[0]._forward_hooks
            assert handle.id not in net[0]._forward_hooks
            assert not made(torch.ones(N, C))[:, :2].any()
            copy.deepcopy(made)(torch.ones(N, C))
    assert_heard(monitor, listener, 1)
