"""The background writer keeps order and bounds, and hands errors back."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from recorder.format import RecordingWriteError
from recorder.session.background import BackgroundWriter


def nothing() -> None:
    pass


def never() -> float:
    return math.inf


@pytest.fixture
def writer() -> Iterator[BackgroundWriter]:
    writer = BackgroundWriter(100, nothing, never)
    yield writer
    writer.stop()


def test_tasks_run_in_order_in_another_thread(writer: BackgroundWriter) -> None:
    done: list[Any] = []
    for number in range(200):
        writer.put(lambda number=number: done.append((number, threading.current_thread())), 1)
    writer.wait()
    assert [number for number, _ in done] == list(range(200))
    assert {thread.name for _, thread in done} == {"spiketape-writer"}


def test_putting_waits_while_too_much_is_waiting_and_drops_nothing(writer: BackgroundWriter) -> None:
    gate, done = threading.Event(), []
    writer.put(lambda: done.append(gate.wait()), 60)
    putting = threading.Thread(target=writer.put, args=(lambda: done.append(2), 60))
    putting.start()
    putting.join(0.1)
    assert putting.is_alive()
    gate.set()
    putting.join()
    writer.wait()
    assert done == [True, 2]
    assert writer.seconds_waited > 0.05


def test_a_task_above_the_bound_is_let_in_alone(writer: BackgroundWriter) -> None:
    done: list[int] = []
    writer.put(lambda: done.append(1), 10_000)
    writer.wait()
    assert done == [1]


def test_the_first_failure_ends_the_work_and_is_raised_with_its_cause(writer: BackgroundWriter) -> None:
    done: list[int] = []

    def fail() -> None:
        raise OSError(28, "No space left on device")

    writer.put(fail, 1)
    with pytest.raises(
        RecordingWriteError, match=r"No space left on device.*committed before is intact"
    ) as raised:
        writer.wait()
    assert isinstance(raised.value.__cause__, OSError)
    with pytest.raises(RecordingWriteError):
        writer.put(lambda: done.append(1), 1)
    assert isinstance(writer.failure, OSError)
    assert done == []


def test_a_failure_frees_who_waits_for_room(writer: BackgroundWriter) -> None:
    gate = threading.Event()

    def fail() -> None:
        gate.wait()
        raise OSError("broken")

    writer.put(fail, 60)
    threading.Timer(0.05, gate.set).start()
    with pytest.raises(RecordingWriteError, match="broken"):
        writer.put(nothing, 60)


def test_stopping_finishes_what_is_waiting_first() -> None:
    done: list[int] = []
    writer = BackgroundWriter(100, nothing, never)
    for number in range(50):
        writer.put(lambda number=number: done.append(number), 1)
    writer.stop()
    writer.stop()
    assert done == list(range(50))
    assert writer.failure is None


def test_the_thread_works_by_itself_once_idle_for_long_enough() -> None:
    idle, done = threading.Event(), []
    deadline = [time.monotonic() + 0.05]

    def on_idle() -> None:
        deadline[0] = math.inf
        # More than the bound: the thread must not wait for itself.
        writer.put(lambda: done.append(1), 80)
        writer.put(lambda: done.append(2), 80)
        writer.run_waiting()
        idle.set()

    writer = BackgroundWriter(100, on_idle, lambda: deadline[0])
    assert idle.wait(10)
    assert done == [1, 2]
    writer.stop()


def test_waiting_inside_a_task_does_the_rest_first(writer: BackgroundWriter) -> None:
    done: list[int] = []
    gate = threading.Event()

    def waits_itself() -> None:
        gate.wait()
        writer.wait()
        done.append(1)

    writer.put(waits_itself, 1)
    writer.put(lambda: done.append(0), 1)
    gate.set()
    writer.wait()
    assert done == [0, 1]


def test_an_earlier_deadline_is_noticed_when_woken() -> None:
    idle, deadline = threading.Event(), [math.inf]

    def on_idle() -> None:
        deadline[0] = math.inf
        idle.set()

    writer = BackgroundWriter(100, on_idle, lambda: deadline[0])
    deadline[0] = time.monotonic()
    writer.wake()
    assert idle.wait(10)
    writer.stop()


def test_a_failure_while_waiting_is_handed_back_too() -> None:
    def fail() -> float:
        raise ArithmeticError("no deadline")

    writer = BackgroundWriter(100, nothing, fail)
    writer.stop()
    with pytest.raises(RecordingWriteError, match="no deadline"):
        writer.wait()


def test_a_signal_handler_may_stop_it_where_the_interrupted_call_holds_its_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer, ended = BackgroundWriter(100, nothing, never), threading.Event()

    def interrupted(_: int) -> bool:
        writer.stop()
        return True

    monkeypatch.setattr(writer, "_has_room", interrupted)

    def put() -> None:
        writer.put(nothing, 60)
        ended.set()

    threading.Thread(target=put, daemon=True).start()
    assert ended.wait(10)


def test_nobody_waits_for_a_task_that_came_as_the_thread_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = BackgroundWriter(100, nothing, never)
    wait_for_work, ended = writer._wait_for_work, threading.Event()

    def wait() -> None:
        writer.wait()
        ended.set()

    def put_at_the_end() -> bool:
        goes_on = wait_for_work()
        if not goes_on:
            writer.put(nothing, 60)
            threading.Thread(target=wait, daemon=True).start()
            time.sleep(0.1)  # it waits by now
        return goes_on

    monkeypatch.setattr(writer, "_wait_for_work", put_at_the_end)
    writer.put(nothing, 1)
    writer.wait()
    writer.stop()
    assert ended.wait(10)
