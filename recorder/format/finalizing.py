"""Runs what is to be done when an object is gone.

Garbage collection calls finalizers in whatever thread it happens to run in. That may be the thread in which
an event loop does the input and output of stores, or one that encodes chunks: to wait there for a store, or
for chunks to be encoded, would be to wait for oneself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable


def finish(work: Callable[[], None]) -> None:
    """Do the work: here, or in a thread of its own where others are waited for by waiting for this one."""
    if not _is_waited_for():
        work()
        return
    try:
        threading.Thread(target=work, name="spiketape-finish").start()
    except RuntimeError:
        work()  # the interpreter is shutting down, and begins no threads any more


def _is_waited_for() -> bool:
    if threading.current_thread() is threading.main_thread():
        return False
    if threading.current_thread().name.startswith(("spiketape-encoder", "spiketape-writer")):
        return True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
