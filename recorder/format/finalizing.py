"""Runs what is to be done when an object is gone.

Garbage collection calls finalizers in whatever thread it happens to run in, wherever that is: in the thread
of an event loop that does the input and output of stores, in one that encodes chunks, or in the main thread
while it holds a lock that those need. To wait there for a store would be to wait for oneself. So what garbage
collection finds is finished in a thread of its own, and what somebody deletes, before the deletion returns.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def finish_when_gone(owner: T, work: Callable[[], None]) -> weakref.finalize[..., T]:
    """Have work done, once, when the owner is gone or the interpreter ends; ``work`` must not refer to it."""
    return weakref.finalize(owner, _finish, work)


def finish_now(finalizer: weakref.finalize[..., T]) -> None:
    """Do the work in this thread, unless it is done or was called off; raises what the work raises."""
    detached = finalizer.detach()
    if detached is not None:
        work = detached[2][0]
        work()


def _finish(work: Callable[[], None]) -> None:
    if _collector == threading.get_ident() or _serves_others():
        try:
            threading.Thread(target=work, name="spiketape-finish").start()
        except RuntimeError:
            pass  # the interpreter is shutting down, and begins no threads any more
        else:
            return
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


# The thread that collects garbage at this moment.
_collector: int | None = None


def _note_collector(phase: str, _: object) -> None:
    global _collector  # noqa: PLW0603 - there is one garbage collection in a process
    _collector = threading.get_ident() if phase == "start" else None


gc.callbacks.append(_note_collector)
