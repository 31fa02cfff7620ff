"""Steps: where one ends and the next begins, and that layers stay aligned, whoever calls them."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from spikingjelly.clock_driven import neuron
from torch import nn

import analysis
from analysis.cli.commands import main
from recorder import Monitor
from recorder.format import StepsWarning, UncalledLayersWarning
from recorder.steps import LayerSteps, Steps
from recorder.stores import Folder
from recorder.tape import TapeReader


class Spiking(nn.Module):
    """Fires where its input is positive."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0).float()


class Chain(nn.Module):
    """Three layers, of which some may be left out, given nothing, called more than once, or raise."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = Spiking(), Spiking(), Spiking()

    def forward(self, x: torch.Tensor, calls: str = "abc") -> torch.Tensor:
        for name in calls:
            if name == "!":
                raise ArithmeticError("half way")
            layer = getattr(self, name.lower())
            layer(x[:0] if name.isupper() else x)
        return x


def monitored(path: Path, net: nn.Module, **options: Any) -> Monitor:
    return Monitor(net, store=path / "run.zarr", layers=[Spiking], durability="process", **options)


def steps_of(monitor: Monitor) -> dict[str, list[int]]:
    layers = TapeReader.open(Folder(monitor.store)).layers
    return {
        name: [step for row in layer.segments() for step in range(row[1], row[1] + row[2])]
        for name, layer in layers.items()
    }


X = torch.ones(2, 3)

# What each forward calls (an upper-case letter: with an empty batch; "!": it raises), and the steps at which
# layers a, b and c have frames.
FORWARDS = [
    pytest.param(["abc", "abc"], ([0, 1], [0, 1], [0, 1]), id="all"),
    pytest.param(["abc", "ac", "abc"], ([0, 1, 2], [0, 2], [0, 1, 2]), id="one is left out"),
    pytest.param(["abc", "aBc", "abc"], ([0, 1, 2], [0, 2], [0, 1, 2]), id="one is given an empty batch"),
    pytest.param(["aBc", "aBc", "abc"], ([0, 1, 2], [2], [0, 1, 2]), id="empty from the start"),
    pytest.param(["abc", "ABC", "abc"], ([0, 1], [0, 1], [0, 1]), id="all are given an empty batch"),
    pytest.param(["abc", "ab!", "abc"], ([0, 1, 2], [0, 1, 2], [0, 2]), id="one is not reached"),
    pytest.param(["abc", "aB!", "abc"], ([0, 1, 2], [0, 2], [0, 2]), id="empty, then an exception"),
    pytest.param(
        ["aabc"] * 3, ([0, 1, 2, 3, 4, 5], [0, 1, 2], [0, 1, 2]), id="one always twice: its steps count calls"
    ),
    pytest.param(
        ["abcabc", "abcabc", "abcbc", "abcabc"],
        ([0, 1, 2, 3, 4, 6, 7], [0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5, 6, 7]),
        id="one is missed in a loop over time",
    ),
]


def run(call: Callable[[str], object], forwards: list[str]) -> None:
    for calls in forwards:
        try:
            call(calls)
        except ArithmeticError:
            assert "!" in calls


@pytest.mark.parametrize(("forwards", "expected"), FORWARDS)
@pytest.mark.filterwarnings("ignore::recorder.format.errors.StepsWarning")
def test_forwards_keep_layers_aligned(
    tmp_path: Path, forwards: list[str], expected: tuple[list[int], ...]
) -> None:
    net = Chain()
    with monitored(tmp_path, net) as monitor:
        run(lambda calls: net(X, calls), forwards)
    assert steps_of(monitor) == {name: steps for name, steps in zip("abc", expected, strict=True) if steps}


@pytest.mark.parametrize(("forwards", "expected"), FORWARDS)
@pytest.mark.filterwarnings("ignore::recorder.format.errors.StepsWarning")
def test_steps_that_the_user_marks_keep_layers_aligned(
    tmp_path: Path, forwards: list[str], expected: tuple[list[int], ...]
) -> None:
    net = Chain()
    with monitored(tmp_path, net) as monitor:
        monitor.step()

        def call(calls: str) -> None:
            try:
                net.forward(X, calls)
            finally:
                monitor.step()

        run(call, forwards)
    assert steps_of(monitor) == {name: steps for name, steps in zip("abc", expected, strict=True) if steps}


# The network itself is not called: a call of a layer for the second time is the next step.
GUESSED = [
    pytest.param(["abc"] * 3, ([0, 1, 2], [0, 1, 2], [0, 1, 2]), False, id="all"),
    pytest.param(["abc", "ac", "abc"], ([0, 1, 2], [0, 2], [0, 1, 2]), True, id="one is left out"),
    pytest.param(["abc", "aBc", "abc"], ([0, 1, 2], [0, 2], [0, 1, 2]), False, id="an empty batch"),
    pytest.param(["abc", "a!", "abc"], ([0, 1, 2], [0, 2], [0, 2]), True, id="one raises"),
]


@pytest.mark.parametrize(("forwards", "expected", "is_told"), GUESSED)
@pytest.mark.parametrize(
    "called", ["forward", "a list", "a slice", "a training step of a module around them"]
)
def test_without_calls_of_the_network_steps_are_guessed_and_that_is_said_once(
    tmp_path: Path, forwards: list[str], expected: tuple[list[int], ...], is_told: bool, called: str
) -> None:
    chain = Chain()
    net: nn.Module = chain
    if called == "a list":
        net = nn.ModuleList([chain.a, chain.b, chain.c])
    elif called == "a slice":
        net = nn.Sequential(chain.a, chain.b, chain.c)
    elif called != "forward":
        net = nn.ModuleDict({"net": chain})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with monitored(tmp_path, net) as monitor:
            run(lambda calls: chain.forward(X, calls), forwards)
    told = [str(each.message) for each in caught if each.category is StepsWarning]
    assert len(told) == is_told
    if is_told:
        assert "monitor.step()" in told[0]
        assert type(net).__name__ in told[0]
    assert tuple(steps_of(monitor).values()) == expected


def test_a_trial_begins_and_ends_with_a_step(tmp_path: Path) -> None:
    net = Chain()
    with monitored(tmp_path, net) as monitor:
        for number, calls in enumerate(["abc", "a!", "abc", "ac", "abc"]):
            with monitor.trial(label=number):
                run(lambda calls: net.forward(X, calls), [calls])
    assert list(steps_of(monitor).values()) == [[0, 1, 2, 3, 4], [0, 2, 4], [0, 2, 3, 4]]
    recording = analysis.open_recording(monitor.store)
    assert recording["b"].spike_count(per="label").values.tolist() == [6, 0, 6, 0, 6]


def test_a_step_inside_a_forward_is_refused(tmp_path: Path) -> None:
    net = nn.Sequential(Spiking())
    with monitored(tmp_path, net) as monitor:
        net.register_forward_hook(lambda *_: monitor.step())
        handle = net[0].register_forward_hook(lambda *_: monitor.step())
        with pytest.raises(RuntimeError, match="inside a forward of the monitored module"):
            net(X)
        handle.remove()


def test_multi_step_layers_that_are_left_out_skip_all_steps(tmp_path: Path) -> None:
    from recorder import SpikeOutput

    net = Chain()
    monitor = Monitor(net, store=tmp_path / "run.zarr", layers={Spiking: SpikeOutput("TN")})
    with monitor:
        for calls in ("abc", "ac", "aBc", "abc"):
            net(torch.ones(4, 2, 3), calls)
    assert steps_of(monitor)["b"] == [*range(4), *range(12, 16)]
    assert steps_of(monitor)["a"] == [*range(16)]


# -- threads -----------------------------------------------------------------------------------------------


def in_thread(work: Callable[[], object]) -> list[BaseException]:
    """What a thread named "second" raises while it does some work."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            raised.append(error)

    thread = threading.Thread(target=run, name="second")
    thread.start()
    thread.join()
    return raised


def test_a_second_thread_inside_a_forward_is_refused_by_name(tmp_path: Path) -> None:
    net = nn.Sequential(Spiking(), Spiking())
    raised: list[BaseException] = []
    with monitored(tmp_path, net) as monitor:
        net(X)
        handle = net[0].register_forward_hook(lambda *_: raised.extend(in_thread(lambda: net(X))))
        net(X)
        handle.remove()
        net(X)
        assert in_thread(lambda: net(X)) == []  # one after the other is fine
    assert len(raised) == 1
    assert "thread 'second' begins a forward while thread 'MainThread' is inside" in str(raised[0])
    assert steps_of(monitor) == {"0": [0, 1, 2, 3], "1": [0, 1, 2, 3]}


def test_a_second_thread_that_calls_a_layer_is_refused_by_name(tmp_path: Path) -> None:
    net = Chain()
    with monitored(tmp_path, net) as monitor:
        net.a(X)
        (error,) = in_thread(lambda: net.b(X))
        assert "thread 'second' calls layer 'b' while thread 'MainThread'" in str(error)
        net.b(X), net.c(X)
        assert in_thread(lambda: net.forward(X)) == []
    assert steps_of(monitor) == {"a": [0, 1], "b": [0, 1], "c": [0, 1]}


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


# -- the bookkeeping alone ---------------------------------------------------------------------------------


def test_an_interrupted_forward_is_over_for_all_layers() -> None:
    running = [0]
    steps = Steps(lambda _: running[0])
    a, b = steps.add_layer("a"), steps.add_layer("b")

    def record(*layers: LayerSteps) -> None:
        for layer in layers:
            steps.note_call(layer)
            layer.next_step += 1

    steps.begin_forward()
    record(a)
    # Ctrl-C: nothing tells of the end, and the stack is empty when the next forward begins.
    running[0] = 1
    assert steps.begin_forward()
    assert (a.next_step, b.next_step) == (1, 1)
    record(a, b)
    assert steps.end_forward(succeeded=True)
    assert (a.next_step, b.next_step) == (2, 2)
    assert not steps.is_in_forward
