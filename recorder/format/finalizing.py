"""Runs what is to be done when an object is gone.

Garbage collection calls finalizers in whatever thread it happens to run in, wherever that is: in the thread
of an event loop that does the input and output of stores, in one that encodes chunks, or in the main thread
while it holds a lock that those need. To wait there for a store would be to wait for oneself. So the work is
done in a thread of its own, and waited for only as long as can be afforded if it waits for the waiting one.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Whoever deletes the last reference mostly finds the work done.
_PATIENCE_SECONDS = 1.0


def finish_when_gone(owner: T, work: Callable[[], None]) -> weakref.finalize[..., T]:
    """Have work done, once, when the owner is gone or the interpreter ends; ``work`` must not refer to it."""
    return weakref.finalize(owner, _finish_apart, work)


def finish_now(finalizer: weakref.finalize[..., T]) -> None:
    """Do the work in this thread, unless it is done or was called off; raises what the work raises."""
    detached = finalizer.detach()
    if detached is not None:
        work = detached[2][0]
        work()


def _finish_apart(work: Callable[[], None]) -> None:
    if not threading.main_thread().is_alive():
        work()  # the interpreter is shutting down: no thread is waited for, and no collection called this
        return
    thread = threading.Thread(target=work, name="spiketape-finish")
    try:
        thread.start()
    except RuntimeError:
        work()  # there are too many threads
    else:
        thread.join(_PATIENCE_SECONDS)
