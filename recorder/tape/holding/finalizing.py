"""Run cleanup work when its owner is deleted, or when the interpreter ends.

Garbage collection calls finalizers in any thread, at any line of it: in the event loop that accesses stores,
in a thread that encodes chunks, or in the main thread while it holds a lock that those threads need. A
finalizer that waits for a store there may deadlock. So work found by garbage collection is handed, without
taking a lock, to a thread that is made for it. Work of an owner that is deleted in any other way, as by
``del``, runs before the deletion returns.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import thread as _executors  # noqa: F401 - see _finish_all
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

Work = Callable[[], object]


def finish_when_gone(owner: T, work: Work) -> weakref.finalize[..., T]:
    """Run ``work`` once, when ``owner`` is deleted or the interpreter ends.

    ``work`` must not refer to ``owner``, which would then never be deleted.
    """
    _finisher.start()
    finalizer = weakref.finalize(owner, _finish, work)
    for gone in [one for one in _finalizers if not one.alive]:
        del _finalizers[gone]
    _finalizers[finalizer] = None
    return finalizer


def finish_now(finalizer: weakref.finalize[..., T]) -> None:
    """Run the work now, in this thread, unless it has run or was detached; raises what the work raises."""
    detached = finalizer.detach()
    if detached is not None:
        work = detached[2][0]
        work()


def wait_for_finished(seconds: float | None = None) -> None:
    """Wait until all work that garbage collection has found so far is done, at most ``seconds``."""
    _finisher.wait(seconds)


def _finish(work: Work) -> None:
    if (_is_collecting() or _serves_others()) and _finisher.is_here:
        _finisher.queue.put(work)
    else:
        work()


def _serves_others() -> bool:
    """True if this thread runs an event loop, unless it is the main thread (as in a notebook)."""
    if threading.current_thread() is threading.main_thread():
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


# gc calls `move_to_end` with "start" before each collection and with "stop" after it, so that the last key
# says whether one is under way. The callback is C code on purpose: in a Python function, KeyboardInterrupt
# (Ctrl-C) could be raised and lost.
_phases = OrderedDict[str, None](start=None, stop=None)
gc.callbacks.append(_phases.move_to_end)  # type: ignore[arg-type]  # called with a phase, and a dict that is true


def _is_collecting() -> bool:
    """True while garbage is being collected, by this thread or another."""
    # One call copies all keys. Between two calls, another collection could change their order.
    return list(_phases)[-1] == "start"


class _Finisher:
    """A thread that does work piece by piece; each process, also a forked one, has its own."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[Work] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._process = 0

    @property
    def is_here(self) -> bool:
        """True if the thread runs in this process, and not in the process that this was forked from."""
        return self._process == os.getpid()

    def start(self) -> None:
        """Start the thread unless this process has one."""
        if not self.is_here:
            self.queue, self._process = SimpleQueue(), os.getpid()
            self._thread = threading.Thread(
                target=self._run, args=(self.queue,), name="spiketape-finisher", daemon=True
            )
            self._thread.start()

    def wait(self, seconds: float | None) -> None:
        """Do what `wait_for_finished` says."""
        if self.is_here and threading.current_thread() is not self._thread:
            done = threading.Event()
            self.queue.put(done.set)
            done.wait(seconds)

    @staticmethod
    def _run(queue: SimpleQueue[Work]) -> None:
        while True:
            _do(queue.get())


_finisher = _Finisher()
# All finalizers that have not run, in the order in which they were made; a dict serves as an ordered set.
_finalizers: dict[weakref.finalize[..., Any], None] = {}


def _do(work: Work) -> None:
    try:
        work()
    except Exception:  # noqa: BLE001 - nobody is left to catch it; shown, as finalizers do
        sys.excepthook(*sys.exc_info())


def _finish_all() -> None:
    """Run all remaining work when the interpreter ends, newest first.

    A recording is made after its lock, so it is closed before its lock is released.
    """
    wait_for_finished()
    for finalizer in reversed(list(_finalizers)):
        _do(partial(finish_now, finalizer))


# Not with atexit, which comes too late: the threads that access buckets have then ended. Functions of
# threading._register_atexit run newest first. `concurrent.futures.thread`, imported above, has registered the
# end of its threads before; so `_finish_all` runs while these threads are still alive.
getattr(threading, "_register_atexit", atexit.register)(_finish_all)
