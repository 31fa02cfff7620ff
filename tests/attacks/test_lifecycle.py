"""The life of a monitor, cut at any moment: a forward is recorded as a whole or not at all."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import analysis
from networks import Threshold
from recorder import SpikeOutput
from recorder.format import RecordingWriteError
from recorder.session.background import BackgroundWriter
from recorder.stores import Folder
from recorder.tape import TapeWriter
from scripts import script
from threads import in_thread
from whole_forwards import Halting, check_whole, inputs, monitored

lifecycle = script("attacks/lifecycle")
at_call = lifecycle.at_call


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


@pytest.mark.parametrize("by", ["hook", "thread"])
def test_close_leaves_out_a_forward_that_is_called_by_hand(tmp_path: Path, by: str) -> None:
    net = Halting()
    monitor = monitored(tmp_path, net)
    monitor.enable()
    net.forward(inputs(0))
    net.halfway = monitor.close if by == "hook" else lambda: in_thread(monitor.close)
    net.forward(inputs(1))
    check_whole(tmp_path, [inputs(0)])


def test_a_handler_that_closes_while_a_layer_is_called_by_hand_leaves_out_the_step(tmp_path: Path) -> None:
    net = Halting()
    monitor = monitored(tmp_path, net)
    monitor.enable()
    for number in range(3):
        net.a(inputs(number)), net.b(inputs(number)), net.c(inputs(number))
    net.a(inputs(3))
    with at_call(-2, lambda: None) as calls:
        net.b(inputs(3))
    net.c(inputs(3))
    net.a(inputs(4))
    with at_call(calls.index("repeat"), monitor.close):
        net.b(inputs(4))
    check_whole(tmp_path, [inputs(number) for number in range(4)])


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


# -- signal handlers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [False, True], ids=["returns", "ends the program"])
@pytest.mark.parametrize("kind", lifecycle.SHAPES)
def test_a_handler_may_close_at_any_moment(tmp_path: Path, kind: str, ends: bool) -> None:
    lifecycle.close_in_a_handler(tmp_path, kind, ends=ends, most=6)


@pytest.mark.long
@pytest.mark.parametrize("ends", [False, True], ids=["returns", "ends the program"])
@pytest.mark.parametrize("kind", lifecycle.SHAPES)
def test_a_handler_may_close_at_every_moment(tmp_path: Path, kind: str, ends: bool) -> None:
    lifecycle.close_in_a_handler(tmp_path, kind, ends=ends)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks recording processes")
@pytest.mark.parametrize("tries", [6, pytest.param(200, marks=pytest.mark.long)])
def test_sigterm_leaves_equal_layers(tmp_path: Path, tries: int) -> None:
    lifecycle.close_on_sigterm(tmp_path, tries)


@pytest.mark.parametrize("tries", [10, pytest.param(200, marks=pytest.mark.long)])
def test_another_thread_may_close_at_any_moment(tmp_path: Path, tries: int) -> None:
    lifecycle.close_in_a_thread(tmp_path, tries)


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
    monkeypatch.setattr("recorder.session.rows.PUT_BYTES", 2**12)
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
