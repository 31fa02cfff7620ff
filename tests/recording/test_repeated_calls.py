"""Forwards and calls like those before go a short way, on which the same is recorded as on the long one."""

from __future__ import annotations

import copy
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from recorder import Monitor, SpikeOutput
from recorder.capture.calls import GATHER_CALLS
from recorder.capture.host.host_packing import HostPacker
from recorder.capture.layer_recorder import LOOK_AFTER_CALLS
from recorder.session import RecordingSession
from threads import in_thread

# Behind so many calls of a layer, its outputs are gathered.
MANY = LOOK_AFTER_CALLS + 4


class Given(nn.Module):
    """Puts out what it is given."""

    def forward(self, x: Any) -> Any:
        return x


class Net(nn.Module):
    """Runs what it is told to between two layers, and puts out what its attribute says."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Given(), Given()
        self.between: Any = lambda _: None
        self.times = 1

    def forward(self, x: Any) -> Any:
        for _ in range(self.times):
            out = self.first(x)
            self.between(out)
            self.second(torch.as_tensor(1 - (x if isinstance(x, torch.Tensor) else x[0])))
        return out


def some(steps: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(1, 5, generator=generator) < 0.4).float() for _ in range(steps)]


def monitor_of(tmp_path: Path, net: nn.Module, **options: Any) -> Monitor:
    options = {"layers": [Given], "durability": "process", "backend": "torch"} | options
    return Monitor(net, store=tmp_path / "run.zarr", **options)


@contextmanager
def long_ways() -> Iterator[Counter[str]]:
    """Count calls that went the long way."""
    counts: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("record", "begin_forward", "end_forward"):
            method = getattr(RecordingSession, name)

            def counted(*args: Any, _name: str = name, _method: Any = method, **named: Any) -> Any:
                counts[_name] += 1
                return _method(*args, **named)

            patch.setattr(RecordingSession, name, counted)
        yield counts


def check(monitor: Monitor, steps: list[torch.Tensor]) -> None:
    first, second = monitor.s.values()
    assert torch.equal(torch.stack(list(first)), torch.stack(steps))
    assert torch.equal(torch.stack(list(second)), 1 - torch.stack(steps))


@pytest.mark.parametrize(("times", "is_compiler_loaded"), [(1, False), (3, True)])
def test_they_go_the_short_way(
    tmp_path: Path, times: int, is_compiler_loaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Loaded by whatever ran before in this process, or by nobody.
    if is_compiler_loaded:
        pytest.importorskip("torch._dynamo")
    else:
        monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    net, steps = Net(), some(MANY + 100)
    net.times = times
    with monitor_of(tmp_path, net) as monitor, torch.no_grad():
        for step in steps[:MANY]:
            net(step)
        with long_ways() as counts:
            for step in steps[MANY:]:
                net(step)
        check(monitor, [step for step in steps for _ in range(times)])
    assert not counts
    assert monitor.stats.steps == len(steps) * times


def test_gathered_outputs_are_packed_later_where_memory_was_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, steps = Given(), some(MANY + GATHER_CALLS + 50)
    push, has_failed = HostPacker.push, []

    def short(packer: HostPacker, frames: torch.Tensor) -> None:
        if len(frames) > 1 and not has_failed:
            has_failed.append(True)
            raise MemoryError("no memory for a stage")
        push(packer, frames)

    monkeypatch.setattr(HostPacker, "push", short)
    with monitor_of(tmp_path, net) as monitor, torch.no_grad():
        for step in steps:
            with suppress(MemoryError):
                net(step)
        assert has_failed
        assert torch.equal(torch.stack(list(monitor.s[""])), torch.stack(steps))


def test_outputs_that_change_afterwards_need_gradients_or_lie_in_tuples(tmp_path: Path) -> None:
    net, steps = Net(), some(4 * MANY)
    with monitor_of(tmp_path, net) as monitor:
        for number, step in enumerate(steps):
            given = step.clone().requires_grad_() if number % 2 else step.clone()
            net.between = lambda out: (out if isinstance(out, torch.Tensor) else out[0]).data.fill_(0.0)
            net((given, step) if number > 2 * MANY else given)
        first, _ = monitor.s.values()
        assert torch.equal(torch.stack(list(first)), torch.stack(steps))


def test_what_is_new_in_between_goes_the_long_way(tmp_path: Path) -> None:
    net, steps = Net(), iter(some(9 * MANY))
    kept: list[torch.Tensor] = []

    def run(count: int) -> None:
        for _ in range(count):
            kept.append(next(steps))
            net(kept[-1])

    monitor = monitor_of(tmp_path, net, commit_interval=3600)
    monitor.enable()
    run(MANY)
    with monitor.trial(label=1):
        run(3)
        monitor.get_avg_firing_rate()
        run(3)
    run(3)
    run(5)
    monitor.flush()
    monitor.disable()
    net(next(steps))
    monitor.enable()
    run(4)
    monitor.close()
    monitor.enable()
    run(MANY)
    monitor.close()
    check(monitor, kept)


def test_a_layer_that_is_called_by_another_thread_is_refused_all_the_same(tmp_path: Path) -> None:
    net = Net()
    with monitor_of(tmp_path, net) as monitor:
        for step in some(MANY):
            net(step)
        raised: list[BaseException] = []
        net.between = lambda out: raised.extend(in_thread(lambda: net.second(out)))
        net(some(1)[0])
        assert "calls layer 'second' while thread" in str(raised[0])
        net.between = lambda _: None
        check(monitor, [*some(MANY), some(1)[0]])


def test_spikes_are_counted_in_the_middle_of_a_forward(tmp_path: Path) -> None:
    net, steps = Net(), some(MANY + 2)
    with monitor_of(tmp_path, net) as monitor:
        for step in steps[:-1]:
            net(step)
        rates: list[float] = []
        net.between = lambda _: rates.append(monitor.get_avg_firing_rate(all=False, module_name="first"))
        net(steps[-1])
        assert rates == [torch.stack(steps).mean().item()]
        check(monitor, steps)


def test_a_layout_that_follows_the_module_is_asked_for_at_each_call(tmp_path: Path) -> None:
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    net = nn.Sequential(neuron.IFNode())
    with monitor_of(tmp_path, net, layers=None) as monitor, torch.no_grad():
        for step in some(MANY):
            net(step)
        net[0].step_mode = "m"
        net(torch.ones(4, 5))
        assert len(monitor.s["0"]) == MANY + 4


def test_a_commit_that_is_due_comes_while_calls_repeat(tmp_path: Path) -> None:
    net, steps = Net(), some(MANY + 2)
    monitor = monitor_of(tmp_path, net, commit_interval=3600)
    monitor.enable()
    for step in steps[:MANY]:
        net(step)
    before = monitor.stats.commits
    monitor._session._due.comes_at = 0.0
    net(steps[MANY])
    monitor._session._writer.wait()
    assert monitor.stats.commits == before + 1
    net(steps[-1])
    monitor.close()
    check(monitor, steps)


def test_copies_of_the_network_have_calls_of_their_own(tmp_path: Path) -> None:
    net = nn.Sequential(Given())
    net.scale = 1.0  # type: ignore[assignment]
    net.register_forward_pre_hook(lambda module, given: (given[0] * module.scale,))
    with monitor_of(tmp_path, net) as monitor:
        net(torch.ones(1, 5))
        copies = [copy.copy(net), copy.deepcopy(net)]
        for other in copies:
            other.scale = 0.0  # type: ignore[assignment]
            assert not other(torch.ones(1, 5)).any()
            assert "_call_impl" not in other.__dict__
        assert "_call_impl" not in net.__reduce_ex__(4)[2]  # what pickle is given
        with pytest.raises(RuntimeError, match="DistributedDataParallel"):
            net._replicate_for_data_parallel()
        assert len(monitor.s["0"]) == 2  # with the shallow copy's, whose layer is the same
    assert {"_call_impl", "__getstate__", "_replicate_for_data_parallel"}.isdisjoint(net.__dict__)


def test_two_monitors_of_a_network_may_end_in_any_order(tmp_path: Path) -> None:
    net = nn.Sequential(Given())
    first = Monitor(net, store=tmp_path / "first", layers=[Given], backend="torch")
    second = Monitor(net, store=tmp_path / "second", layers=[Given], backend="torch")
    first.enable(), second.enable()
    net(torch.ones(1, 5))
    first.close()
    for _ in range(2):
        net(torch.ones(1, 5))
    second.close()
    assert [len(monitor.s["0"]) for monitor in (first, second)] == [1, 3]
    assert second.stats.steps == 3
    assert "_call_impl" not in net.__dict__


@pytest.mark.filterwarnings("ignore:::torch")
def test_a_forward_inside_of_a_compiled_function_is_seen_to_begin_and_end(tmp_path: Path) -> None:
    pytest.importorskip("torch._dynamo").reset()
    net = Net()
    net.times = 2
    with monitor_of(tmp_path, net, layers={Given: SpikeOutput("n ...")}) as monitor, torch.no_grad():
        fast = torch.compile(lambda x: net(x) + 1, backend="eager")
        for step in some(4):
            fast(step)
        assert monitor._session.steps.forward == 4
    torch._dynamo.reset()
