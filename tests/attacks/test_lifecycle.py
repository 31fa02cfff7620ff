"""The life of a monitor, cut at any moment: a forward is recorded as a whole or not at all."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import analysis
from analysis.keeping import find_problems
from networks import Threshold
from processes import finished, python
from recorder import Monitor, SpikeOutput
from recorder.background import BackgroundWriter
from recorder.format import RecordingWriteError
from recorder.stores import Folder
from recorder.tape import TapeReader, TapeWriter

PACKAGE = str(Path(__file__).parents[2] / "recorder")


class Halting(nn.Module):
    """Three layers; does something in the middle of a forward when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = Threshold(), Threshold(), Threshold()
        self.halfway: Callable[[], object] = lambda: None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.b(self.a(x))
        self.halfway()
        return self.c(x)


def inputs(number: int, *shape: int) -> torch.Tensor:
    return torch.rand(*(shape or (2, 3)), generator=torch.Generator().manual_seed(number))


def monitored(path: Path, net: nn.Module, **options: Any) -> Monitor:
    options = {"layers": [Threshold], "durability": "process", **options}
    return Monitor(net, store=path / "run.zarr", **options)


def check_whole(path: Path, steps: list[torch.Tensor], layers: str = "abc") -> None:
    """Check that each layer has exactly these steps, in a recording without fault."""
    reader = TapeReader.open(Folder(path / "run.zarr"))
    assert find_problems(reader) == []
    recording = analysis.open_recording(path / "run.zarr")
    expected = torch.cat([step.reshape(-1, step.shape[-1]) for step in steps]).numpy() > 0.5
    for name in layers:
        np.testing.assert_array_equal(recording[name].spikes.values, expected)
        assert int(recording[name].spike_count()) == expected.sum()


def in_thread(call: Callable[[], object], name: str = "second") -> list[BaseException]:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - given to the test
            errors.append(error)

    thread = threading.Thread(target=run, name=name)
    thread.start()
    thread.join()
    return errors


# -- inside a forward ------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["hook", "thread"])
@pytest.mark.parametrize("what", ["disable", "reset", "flush"])
def test_what_would_cut_a_forward_in_two_is_refused_in_it(tmp_path: Path, what: str, by: str) -> None:
    net = Halting()
    errors: list[BaseException] = []

    def cut() -> None:
        try:
            getattr(monitor, what)()
        except RuntimeError as error:
            errors.append(error)

    with monitored(tmp_path, net) as monitor:
        net(inputs(0))
        net.halfway = cut if by == "hook" else lambda: in_thread(cut)
        net(inputs(1))
        net.halfway = lambda: None
        net(inputs(2))
    (error,) = errors
    assert "cannot be done inside a forward of the monitored network" in str(error)
    check_whole(tmp_path, [inputs(0), inputs(1), inputs(2)])


@pytest.mark.parametrize("by", ["hook", "thread"])
def test_recording_cannot_begin_inside_a_forward(tmp_path: Path, by: str) -> None:
    net = Halting()
    monitor = monitored(tmp_path, net)
    errors: list[BaseException] = []

    def begin() -> None:
        try:
            monitor.enable()
        except RuntimeError as error:
            errors.append(error)

    net.halfway = begin if by == "hook" else lambda: in_thread(begin)
    net(inputs(0))
    (error,) = errors
    assert "enable() cannot be done inside a forward" in str(error)
    net.halfway = lambda: None
    monitor.enable()
    net(inputs(1))
    monitor.enable()  # it is enabled: nothing begins
    monitor.close()
    check_whole(tmp_path, [inputs(1)])


@pytest.mark.parametrize("shape", [(2, 3), (40, 2, 3)], ids=["single-step", "multi-step"])
@pytest.mark.parametrize("by", ["hook", "thread"])
def test_close_leaves_out_the_forward_that_it_cuts_short(
    tmp_path: Path, by: str, shape: tuple[int, ...]
) -> None:
    net = Halting()
    layers = {Threshold: SpikeOutput("n ..." if len(shape) == 2 else "t n ...")}
    monitor = monitored(tmp_path, net, layers=layers)
    monitor.enable()
    for number in range(5):
        net(inputs(number, *shape))
    net.halfway = monitor.close if by == "hook" else lambda: in_thread(monitor.close)
    net(inputs(5, *shape))
    whole = [inputs(number, *shape) for number in range(5)]
    spikes = sum(int((step > 0.5).sum()) for step in whole)
    assert monitor.get_avg_firing_rate() == spikes / sum(step.numel() for step in whole)
    assert len(monitor.s["a"]) == len(monitor.s["c"])
    check_whole(tmp_path, whole)
    # It goes on as if that forward had never begun.
    net.halfway = lambda: None
    monitor.enable()
    net(inputs(6, *shape))
    monitor.close()
    check_whole(tmp_path, [*whole, inputs(6, *shape)])
    recording = analysis.open_recording(tmp_path / "run.zarr")
    every = [recording[name].spikes.step.values.tolist() for name in "abc"]
    assert every[0] == every[1] == every[2]
    steps = shape[0] if len(shape) == 3 else 1
    assert sorted(set(every[0])) == list(range(6 * steps))


def test_a_forward_that_raises_or_is_interrupted_is_kept_as_far_as_it_came(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    net = Halting()
    monitor = monitored(tmp_path, net)
    monitor.enable()
    net(inputs(0))
    net.halfway = interrupt
    with pytest.raises(KeyboardInterrupt):
        net(inputs(1))
    monitor.close()
    recording = analysis.open_recording(tmp_path / "run.zarr")
    assert [recording[name].frames for name in "abc"] == [4, 4, 2]


def test_close_by_another_thread_at_any_moment_leaves_equal_layers(tmp_path: Path) -> None:
    for number in range(20):
        net = Halting()
        monitor = monitored(tmp_path / str(number), net)
        monitor.enable()
        begun, stop = threading.Event(), threading.Event()

        def go_on(net: nn.Module = net, begun: threading.Event = begun, stop: threading.Event = stop) -> None:
            with torch.no_grad():
                while not stop.is_set():
                    net(inputs(0))
                    begun.set()

        thread = threading.Thread(target=go_on)
        thread.start()
        begun.wait()
        stop.wait(0.002 * number / 20)
        monitor.close()
        stop.set()
        thread.join()
        recording = analysis.open_recording(tmp_path / str(number) / "run.zarr")
        frames = [recording[name].frames for name in "abc"]
        assert frames[0] == frames[1] == frames[2] > 0
        check_whole(tmp_path / str(number), [inputs(0)] * (frames[0] // 2))


# -- signal handlers -------------------------------------------------------------------------------------


@contextmanager
def at_call(number: int, act: Callable[[], object]) -> Iterator[list[str]]:
    """Act at the call of this number among those of functions of the recorder, as a signal handler does."""
    seen: list[str] = []

    def look(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            seen.append(frame.f_code.co_name)
            if len(seen) == number + 1:
                sys.settrace(None)
                act()

    sys.settrace(look)
    try:
        yield seen
    finally:
        sys.settrace(None)


class Ended(BaseException):
    """What a handler raises to end the program, as sys.exit() does."""


SHAPES = {"small": (2, 3), "multi-step": (3, 2, 4), "large": (16, 2**16)}


def count_calls(tmp_path: Path, shape: tuple[int, ...]) -> int:
    net, monitor = begun(tmp_path / "counted", shape)
    with at_call(-2, lambda: None) as seen, torch.no_grad():
        net(inputs(3, *shape))
    monitor.close()
    return len(seen)


def begun(path: Path, shape: tuple[int, ...]) -> tuple[nn.Module, Monitor]:
    net = nn.Sequential(Threshold(), Threshold())
    layers = {Threshold: SpikeOutput("t n ..." if len(shape) == 3 and shape[0] == 3 else "n ...")}
    monitor = monitored(path, net, layers=layers)
    monitor.enable()
    with torch.no_grad():
        for number in range(3):
            net(inputs(number, *shape))
    return net, monitor


def moments(calls: int, most: int) -> range:
    return range(0, calls, max(1, calls // most))


def check_closed_at_any_moment(tmp_path: Path, kind: str, ends: bool, most: int) -> None:
    shape = SHAPES[kind]
    # The first layer gets values, the second what the first puts out: zeros and ones.
    given = [inputs(number, *shape) for number in range(4)]
    for moment in moments(count_calls(tmp_path, shape), most):
        path = tmp_path / str(moment)
        net, monitor = begun(path, shape)

        def handler(monitor: Monitor = monitor) -> None:
            monitor.close()
            if ends:
                raise Ended

        with at_call(moment, handler) as seen, torch.no_grad():
            try:
                net(given[3])
            except Ended:
                assert ends
        monitor.close()
        where = f"moment {moment}, in {seen[-1]}"
        assert TapeReader.open(Folder(path / "run.zarr")).metadata.state == "closed", where
        recording = analysis.open_recording(path / "run.zarr")
        frames = [recording[name].frames for name in "01"]
        assert frames[0] == frames[1], where
        steps = 3 if frames[0] == 3 * given[0].reshape(-1, shape[-1]).shape[0] else 4
        check_whole(path, given[:steps], "01")


@pytest.mark.parametrize("ends", [False, True], ids=["returns", "ends the program"])
@pytest.mark.parametrize("kind", SHAPES)
def test_a_handler_may_close_at_any_moment(tmp_path: Path, kind: str, ends: bool) -> None:
    check_closed_at_any_moment(tmp_path, kind, ends, 12)


@pytest.mark.long
@pytest.mark.parametrize("ends", [False, True], ids=["returns", "ends the program"])
@pytest.mark.parametrize("kind", SHAPES)
def test_a_handler_may_close_at_every_moment(tmp_path: Path, kind: str, ends: bool) -> None:
    check_closed_at_any_moment(tmp_path, kind, ends, 10**6)


TERMINATED = """
import os, random, signal, sys, threading, time
from pathlib import Path
import torch
from torch import nn
from networks import Threshold
from recorder import Monitor

torch.set_num_threads(1)
for request in sys.stdin:
    folder, seed, how = request.split("|")
    child = os.fork()
    if child == 0:
        net = nn.Sequential(*[Threshold() for _ in range(3)])
        monitor = Monitor(net, store=Path(folder) / "run.zarr", layers=[Threshold], durability="process")
        monitor.enable()

        def end(*_):
            monitor.close()
            if how.strip() == "exit":
                sys.exit(7)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

        signal.signal(signal.SIGTERM, end)
        step = torch.rand(4, 1000, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            net(step)
            wait = random.Random(int(seed)).random() * 0.05
            parent = os.getpid()
            if os.fork() == 0:
                time.sleep(wait)
                os.kill(parent, signal.SIGTERM)
                os._exit(0)
            while True:
                net(step)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def check_terminated(tmp_path: Path, tries: int) -> None:
    step = torch.rand(4, 1000, generator=torch.Generator().manual_seed(1))
    with python(TERMINATED) as nursery:
        for number in range(tries):
            how = ("exit", "kill")[number % 2]
            assert nursery.stdin is not None
            assert nursery.stdout is not None
            print(tmp_path / str(number), number, how, sep="|", file=nursery.stdin, flush=True)
            status = int(nursery.stdout.readline())
            assert status == (7 if how == "exit" else -signal.SIGTERM)
            recording = analysis.open_recording(tmp_path / str(number) / "run.zarr")
            frames = [recording[name].frames for name in "012"]
            assert frames[0] == frames[1] == frames[2] > 0, f"try {number}"
            if how == "exit":
                assert recording.state == "closed", f"try {number}"
            check_whole(tmp_path / str(number), [step] * (frames[0] // 4), "012")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks recording processes")
def test_a_terminated_process_that_closes_leaves_equal_layers(tmp_path: Path) -> None:
    check_terminated(tmp_path, 10)


@pytest.mark.long
def test_a_terminated_process_that_closes_leaves_equal_layers_in_200_of_200_tries(tmp_path: Path) -> None:
    check_terminated(tmp_path, 200)


def test_a_handler_that_runs_the_network_in_the_middle_of_an_output_is_refused(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold(), Threshold())
    errors: list[BaseException] = []

    def run_it() -> None:
        try:
            net(inputs(9))
        except RuntimeError as error:
            errors.append(error)

    with monitored(tmp_path, net) as monitor:
        net(inputs(0))
        for question in (run_it, monitor.flush, lambda: repr(monitor), lambda: monitor.stats):
            with at_call(-2, lambda: None) as calls:
                net(inputs(1))
            moment = next(n for n, name in enumerate(calls) if name == "repeat")

            def ask(question: Callable[[], object] = question) -> None:
                try:
                    question()
                except RuntimeError as error:
                    errors.append(error)

            with at_call(moment, ask):
                net(inputs(2))
    assert len(errors) == 3
    assert "the network was run in the middle of recording an output" in str(errors[0])
    assert "the monitor was used in the middle" in str(errors[1])
    check_whole(tmp_path, [inputs(0), *[inputs(1), inputs(2)] * 4], "01")


def test_a_handler_that_closes_while_the_network_waits_for_the_disk_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorder.monitor.QUEUE_LIMIT_BYTES", 2**16)
    monkeypatch.setattr("recorder.layers.PUT_BYTES", 2**12)
    disk, append = threading.Event(), TapeWriter.append
    monkeypatch.setattr(TapeWriter, "append", lambda *arguments: disk.wait() and append(*arguments))
    net = nn.Sequential(Threshold(), Threshold())
    monitor = monitored(tmp_path, net)
    main = threading.get_ident()

    def terminate() -> None:
        while True:
            frame = sys._current_frames()[main]
            names = set()
            while frame is not None:
                names.add(frame.f_code.co_name)
                frame = frame.f_back  # type: ignore[assignment]
            if "wait_for_room" in names and "wait" in names:
                break
        signal.pthread_kill(main, signal.SIGUSR1)
        threading.Timer(0.2, disk.set).start()

    before = signal.signal(signal.SIGUSR1, lambda *_: monitor.close())
    thread = threading.Thread(target=terminate)
    try:
        monitor.enable()
        thread.start()
        with torch.no_grad():
            for _ in range(200):
                net(torch.ones(8, 2**14))
    finally:
        signal.signal(signal.SIGUSR1, before)
        thread.join()
    assert "closed" in repr(monitor)
    recording = analysis.open_recording(tmp_path / "run.zarr")
    assert recording["0"].frames == recording["1"].frames > 0


# -- trials ----------------------------------------------------------------------------------------------


def test_recording_does_not_go_on_in_a_trial_that_close_has_ended(tmp_path: Path) -> None:
    net = Halting()
    monitor = monitored(tmp_path, net)
    monitor.enable()
    with monitor.trial(label="cut"):
        net(inputs(0))
        monitor.close()
        with pytest.raises(
            RuntimeError, match=r"trial 0 is still open; leave its `with` block before.*enable"
        ):
            monitor.enable()
        net(inputs(1))
    monitor.enable()
    with monitor.trial(label="whole"):
        net(inputs(2))
    monitor.close()
    check_whole(tmp_path, [inputs(0), inputs(2)])
    assert list(analysis.open_recording(tmp_path / "run.zarr").trials["label"]) == ["cut"] * 2 + ["whole"] * 2


def test_a_trial_that_was_made_before_a_reset_labels_what_is_recorded_in_it(tmp_path: Path) -> None:
    net = Halting()
    with monitored(tmp_path, net) as monitor:
        trial = monitor.trial(label="after")
        net(inputs(0))
        monitor.reset()
        with trial:
            net(inputs(1))
    assert list(analysis.open_recording(tmp_path / "run.zarr").trials["label"]) == ["after"] * 2


@pytest.mark.filterwarnings("ignore::recorder.format.StepsWarning")
@pytest.mark.parametrize("calls", ["the network", "its layers"])
def test_a_trial_belongs_to_the_thread_that_opened_it(tmp_path: Path, calls: str) -> None:
    net = Halting()

    def run() -> None:
        net(inputs(1)) if calls == "the network" else (net.a(inputs(1)), net.b(inputs(1)), net.c(inputs(1)))

    with monitored(tmp_path, net) as monitor:
        with monitor.trial(label="mine"):
            run()
            (error,) = in_thread(run)
            assert "thread 'second' runs the network inside trial 0, which thread 'MainThread'" in str(error)
            run()
        assert in_thread(run) == []
    check_whole(tmp_path, [inputs(1)] * 3)


# -- endings that fail -----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError("disk is gone"), KeyboardInterrupt()])
def test_a_reset_that_fails_says_so_at_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    net = Halting()
    monitor = monitored(tmp_path, net)
    monitor.enable()
    net(inputs(0))
    clear = Folder.clear

    def fail(*_: Any) -> None:
        monkeypatch.setattr(Folder, "clear", clear)
        raise error

    monkeypatch.setattr(Folder, "clear", fail)
    with pytest.raises((RecordingWriteError, KeyboardInterrupt)):
        monitor.reset()
    for ask in (lambda: net(inputs(1)), monitor.enable):
        with pytest.raises(
            RecordingWriteError, match=r"nothing is recorded: reset\(\).*Call reset\(\) again"
        ):
            ask()
    monitor.reset()
    net(inputs(2))
    monitor.close()
    check_whole(tmp_path, [inputs(2)])


def test_what_comes_after_the_end_waits_for_nobody() -> None:
    writer = BackgroundWriter(100, lambda: None, lambda: math.inf)
    writer.stop()
    writer.put(lambda: None, 60)
    with pytest.raises(RecordingWriteError, match="the recording has been closed"):
        writer.put(lambda: None, 60)
    writer.wait()


FORKED = """
import os, sys, threading, time
from pathlib import Path
import torch
from torch import nn
from networks import Threshold
from recorder import Monitor

torch.set_num_threads(1)
net = nn.Sequential(Threshold(), Threshold())
monitor = Monitor(net, store=Path(sys.argv[1]) / "run.zarr", layers=[Threshold], durability="process")
monitor.enable()
step, stop = torch.ones(8, 100_000), threading.Event()

def record():
    with torch.no_grad():
        while not stop.is_set():
            net(step)

thread = threading.Thread(target=record)
thread.start()
time.sleep(0.05)
statuses = []
for number in range(20):
    child = os.fork()
    if child == 0:
        repr(monitor), monitor.layers, monitor.store
        net(step)
        for ask in (monitor.enable, monitor.step, monitor.reset, lambda: monitor.stats, lambda: monitor.plan,
                    lambda: monitor.s, monitor.get_avg_firing_rate, monitor.trial(1).__enter__):
            try:
                ask()
            except RuntimeError as error:
                assert "forked child" in str(error), error
            else:
                os._exit(3)
        monitor.flush()
        monitor.disable()
        monitor.close()
        os._exit(0)
    ends = time.monotonic() + 20
    while not (found := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > ends:
            os.kill(child, 9)
        time.sleep(0.001)
    statuses.append(os.waitstatus_to_exitcode(found[1]))
stop.set()
thread.join()
monitor.close()
print(*statuses)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks recording processes")
def test_nothing_hangs_in_a_child_that_is_forked_while_another_thread_records(tmp_path: Path) -> None:
    with python(FORKED, tmp_path, environment={"PYTHONWARNINGS": "ignore"}) as process:
        assert finished(process).split() == ["0"] * 20
    recording = analysis.open_recording(tmp_path / "run.zarr")
    assert recording["0"].frames == recording["1"].frames > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(recording.firing_rate()) == 1
