"""Runs what is to be done when an object is gone, or the interpreter ends.

Garbage collection calls finalizers in whatever thread it happens to run in, wherever that is: in the thread
of an event loop that does the input and output of stores, in one that encodes chunks, or in the main thread
while it holds a lock that those need. To wait there for a store would be to wait for oneself. So what garbage
collection finds is handed to a thread that waits for such work, without taking a lock; what somebody deletes
is finished before the deletion returns.
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
    """Have work done, once, when the owner is gone or the interpreter ends; ``work`` must not refer to it."""
    _finisher.start()
    finalizer = weakref.finalize(owner, _finish, work)
    for gone in [one for one in _finalizers if not one.alive]:
        del _finalizers[gone]
    _finalizers[finalizer] = None
    return finalizer


def finish_now(finalizer: weakref.finalize[..., T]) -> None:
    """Do the work in this thread, unless it is done or was called off; raises what the work raises."""
    detached = finalizer.detach()
    if detached is not None:
        work = detached[2][0]
        work()


def wait_for_finished(seconds: float | None = None) -> None:
    """Return when what garbage collection has found so far is finished, or so many seconds later."""
    _finisher.wait(seconds)


def _finish(work: Work) -> None:
    if (_is_collecting() or _serves_others()) and _finisher.is_here:
        _finisher.queue.put(work)
    else:
        work()


def _serves_others() -> bool:
    """Whether this thread runs an event loop for others; that of a notebook runs in the main thread."""
    if threading.current_thread() is threading.main_thread():
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


# Told of each collection by a call that runs no Python: an exception of the user's, such as that of Ctrl-C,
# would otherwise come up there and be lost. The key that was moved last says whether one is under way.
_phases = OrderedDict[str, None](start=None, stop=None)
gc.callbacks.append(_phases.move_to_end)  # type: ignore[arg-type]  # called with a phase, and a dict that is true


def _is_collecting() -> bool:
    """Whether garbage is being collected, by this thread or another."""
    # Looked at in one call: between two of them garbage may be collected.
    return list(_phases)[-1] == "start"


class _Finisher:
    """A thread that does work in turn; each process has its own."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[Work] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._process = 0

    @property
    def is_here(self) -> bool:
        """Whether the thread runs in this process, and not in one that this was forked from."""
        return self._process == os.getpid()

    def start(self) -> None:
        """Start the thread, once in each process."""
        if not self.is_here:
            self.queue, self._process = SimpleQueue(), os.getpid()
            self._thread = threading.Thread(
                target=self._run, args=(self.queue,), name="spiketape-finisher", daemon=True
            )
            self._thread.start()

    def wait(self, seconds: float | None) -> None:
        """As `wait_for_finished`."""
        if self.is_here and threading.current_thread() is not self._thread:
            done = threading.Event()
            self.queue.put(done.set)
            done.wait(seconds)

    @staticmethod
    def _run(queue: SimpleQueue[Work]) -> None:
        while True:
            _do(queue.get())


_finisher = _Finisher()
# In the order in which they were made.
_finalizers: dict[weakref.finalize[..., Any], None] = {}


def _do(work: Work) -> None:
    try:
        work()
    except Exception:  # noqa: BLE001 - nobody is left to catch it; shown, as finalizers do
        sys.excepthook(*sys.exc_info())


def _finish_all() -> None:
    """Finish what nobody has closed, as the interpreter ends; a recording before its lock is given back."""
    wait_for_finished()
    for finalizer in reversed(list(_finalizers)):
        _do(partial(finish_now, finalizer))


# Not by atexit, as finalizers do by themselves: the threads by which buckets are reached have then ended.
# Those of executors end after what was registered later than their module was imported: above, then.
getattr(threading, "_register_atexit", atexit.register)(_finish_all)
