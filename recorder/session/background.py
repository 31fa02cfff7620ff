"""A background thread that does tasks in order, with a limit on the bytes that wait in its queue.

This module knows nothing about spikes or torch.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from recorder.format import RecordingWriteError
from recorder.stores.redaction import without_secrets
from recorder.tape.threads.pressure import Backlog

Task = Callable[[], object]
T = TypeVar("T")

IDLE_RETRY_SECONDS = 0.05


def call_if_there(reference: weakref.ref[T], method: Callable[[T], object]) -> None:
    """Call a method of an object unless the object is gone."""
    there = reference()
    if there is not None:
        method(there)


class CommitClock:
    """The clock that says when the next commit is due.

    Parameters
    ----------
    interval : float
        Seconds from one commit to the next.

    Attributes
    ----------
    is_dirty : bool
        True if anything was recorded since the last commit.
    comes_at : float
        ``time.monotonic()`` at which the next commit is due.
    """

    def __init__(self, interval: float) -> None:
        self.is_dirty = False
        self._interval = interval
        self.comes_at = time.monotonic() + interval
        self._retry_at = 0.0

    def mark_committed(self) -> None:
        """Note that a commit covers all that was recorded."""
        self.is_dirty = False
        self.comes_at = time.monotonic() + self._interval

    def has_come(self) -> bool:
        """True if the interval since the last commit is over."""
        return time.monotonic() >= self.comes_at

    def idle_deadline(self) -> float:
        """``time.monotonic()`` at which to commit if the network has stopped running; infinity for never."""
        return max(self.comes_at, self._retry_at) if self.is_dirty else math.inf

    def retry_soon(self) -> None:
        """Note that the network may be at work: the next deadline is a moment later."""
        self._retry_at = time.monotonic() + IDLE_RETRY_SECONDS


class BackgroundWriter:
    """One daemon thread that runs tasks in the order in which they were put in.

    The thread that runs the network puts tasks in. If the tasks that wait or run hold too many bytes, `put`
    blocks until there is room: a slow disk slows the network down, and no task is dropped.

    The first task that fails ends the work for good. Its exception is raised, as the cause of a
    `RecordingWriteError`, by every later call of `put`, `wait` and `raise_failure`.

    Parameters
    ----------
    queue_limit_bytes : int
        Most bytes of all tasks that wait or run. A task that is larger is accepted when there is no other.
    on_idle : callable
        Function that the background thread calls when it is idle at ``idle_deadline()``.
    idle_deadline : callable
        Function that returns the ``time.monotonic()`` at which to call ``on_idle``; infinity for never.

    Attributes
    ----------
    seconds_waited : float
        Total time for which `put` and `wait_for_room` have blocked.
    failure : BaseException or None
        Exception that has ended the work; None while there is none.
    """

    def __init__(self, queue_limit_bytes: int, on_idle: Task, idle_deadline: Callable[[], float]) -> None:
        self.seconds_waited = 0.0
        self._limit = queue_limit_bytes
        self._on_idle = on_idle
        self._idle_deadline = idle_deadline
        self._tasks: deque[tuple[Task, int]] = deque()
        self._waiting_bytes = self._running_bytes = 0
        self._running = False
        self._stopping = False
        self._has_stopped = False
        self.failure: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="spiketape-writer", daemon=True)
        self._thread.start()

    def put(self, task: Task, size_bytes: int) -> None:
        """Add a task, which holds ``size_bytes`` of memory; blocks while too many bytes are waiting.

        Raises
        ------
        RecordingWriteError
            If an earlier task has failed, with its exception as the cause.
        """
        with self._changed:
            self.wait_for_room(size_bytes)
            self._tasks.append((task, size_bytes))
            self._waiting_bytes += size_bytes
            self._changed.notify_all()

    def wait_for_room(self, size_bytes: int) -> None:
        """Wait until a task of ``size_bytes`` can be put in without blocking; errors as in `put`.

        A caller that waits here while it still owns its data loses nothing if Ctrl-C ends the waiting.
        """
        with self._changed:
            self.raise_failure()
            # The background thread must not wait for itself.
            if threading.current_thread() is self._thread or self._has_room(size_bytes):
                return
            started = time.monotonic()
            try:
                self._changed.wait_for(lambda: self._has_room(size_bytes) or self._has_ended())
            finally:
                self.seconds_waited += time.monotonic() - started
            self.raise_failure()
            if not self._has_room(size_bytes):
                raise RecordingWriteError("nothing more is written: the recording has been closed")

    def backlog(self) -> Backlog:
        """Bytes of the tasks that have not begun, and how many may wait."""
        return Backlog(max(self._waiting_bytes - self._running_bytes, 0), self._limit)

    @property
    def is_behind(self) -> bool:
        """True if any task waits that has not begun."""
        return bool(self._tasks)

    def wait(self) -> None:
        """Wait until all tasks put in so far are done; errors as in `put`."""
        if threading.current_thread() is self._thread:
            # The background thread itself may get here, when garbage collection closes a recording in it.
            self.run_waiting()
            return
        with self._changed:
            self._changed.wait_for(lambda: not (self._tasks or self._running) or self._has_ended())
            self.raise_failure()

    def wake(self) -> None:
        """Make the thread call ``idle_deadline`` again, because its result has changed."""
        with self._changed:
            self._changed.notify_all()

    def run_waiting(self) -> None:
        """Do all waiting tasks now. Only the background thread itself may call this."""
        while self._tasks:
            self._do_next()

    def stop(self, because: str = "") -> None:
        """End the thread after the waiting tasks; does not raise their errors.

        Parameters
        ----------
        because : str, optional
            Text of the RecordingWriteError that `raise_failure` is to raise from now on.
        """
        with self._changed:
            self._stopping = True
            if because:
                self.failure = RecordingWriteError(because)
            self._changed.notify_all()
            if threading.current_thread() is self._thread:
                return
            # Not by joining it alone: a signal handler may stop the thread while the call that it interrupts
            # holds the lock. This wait lets it go, however often it is held.
            self._changed.wait_for(lambda: self._has_stopped or not self._thread.is_alive())
        self._thread.join()

    def _has_ended(self) -> bool:
        """True if no task will be done any more, so that nobody may wait for one."""
        return self.failure is not None or self._has_stopped

    def _has_room(self, size_bytes: int) -> bool:
        return self._waiting_bytes == 0 or self._waiting_bytes + size_bytes <= self._limit

    def raise_failure(self) -> None:
        """Raise RecordingWriteError if a task has failed, with its exception as the cause."""
        if isinstance(self.failure, RecordingWriteError):
            raise RecordingWriteError(str(self.failure))
        if self.failure is not None:
            raise RecordingWriteError(
                f"recording stopped: {type(self.failure).__name__}: {without_secrets(self.failure)}. What "
                "was committed before is intact."
            ) from self.failure

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                if self._tasks:
                    self._do_next()
                else:
                    self._on_idle()
                with self._changed:
                    self._running = False
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - handed to the user's thread, whatever it is
            with self._changed:
                self.failure = error
                self._tasks.clear()
                self._running = False
        finally:
            with self._changed:
                self._has_stopped = True
                self._changed.notify_all()

    def _wait_for_work(self) -> bool:
        """Wait for a task or for the idle deadline; False if the thread was stopped and no task is left."""
        with self._changed:
            while not self._tasks:
                if self._stopping:
                    return False
                remaining = self._idle_deadline() - time.monotonic()
                if remaining <= 0:
                    break
                self._changed.wait(min(remaining, threading.TIMEOUT_MAX))
            self._running = True
            return True

    def _do_next(self) -> None:
        with self._changed:
            task, size_bytes = self._tasks.popleft()
            self._running_bytes = size_bytes
        try:
            task()
        finally:
            with self._changed:
                self._waiting_bytes -= size_bytes
                self._running_bytes = 0
                self._changed.notify_all()
