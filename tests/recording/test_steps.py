"""Steps: where one ends and the next begins, and that layers stay aligned, whoever calls them."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import analysis
from chains import Chain, Spiking, X, monitored, run, steps_of
from recorder import Monitor
from recorder.format import StepsWarning
from recorder.session.steps import LayerSteps, Steps
from threads import in_thread

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


# -- the bookkeeping alone ---------------------------------------------------------------------------------


def test_an_interrupted_forward_is_over_for_all_layers() -> None:
    running = [0]
    steps = Steps(lambda _, by_hand=False: running[0])
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
