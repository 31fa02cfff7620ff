"""Let one call at a time into a session, and hold back a `close` that interrupts another call.

Calls of other threads wait for each other. A signal handler runs in the middle of whatever the main thread
does, and may call the monitor while that thread is inside. Such a call cannot wait: what it would wait for
goes on only when it has returned.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Entrance:
    """The state of one session's entrance.

    Parameters
    ----------
    location : str
        Path or URL of the recording, for errors.

    Attributes
    ----------
    lock : RLock
        The lock that a call holds while it is inside.
    inside : str
        Name of the method that is inside; empty if none is. Only the thread that holds the lock may read or
        change it.
    is_close_due : bool
        True if `close` has interrupted the call that is inside, and is to be done when that call ends.
    is_elsewhere : bool
        True in a forked child of the process that records. The child has no thread that writes.
    """

    def __init__(self, location: str) -> None:
        self.is_elsewhere = False
        self.location = location
        self._process = os.getpid()
        self.open()
        _entrances.add(self)

    def open(self) -> None:
        """Let calls in, whoever was inside."""
        self.lock = threading.RLock()
        self.inside = ""
        self.is_close_due = False

    def refuse_elsewhere(self) -> None:
        """Raise RuntimeError, which names the recording, in a forked child."""
        if self.is_elsewhere:
            raise RuntimeError(
                f"process {self._process} records to {self.location}, and this is a forked child of it. Ask "
                "there, or open the recording with analysis.open_recording; to record here, make a monitor "
                "with a store of its own"
            )

    def refuse_interruption(self, what: str) -> None:
        """Raise RuntimeError if a call of the method ``what`` interrupts another call."""
        if self.inside:
            done = "the network was run" if what in ("begin_forward", "record") else "the monitor was used"
            raise RuntimeError(
                f"{done} in the middle of recording an output, as by a signal handler. That has to end "
                "first: let the handler set a flag for the main program, or call close(), which takes effect "
                "as soon as it can"
            )


_entrances: weakref.WeakSet[Entrance] = weakref.WeakSet()


def _open_all_in_child() -> None:
    # The thread that was inside while another one forked is not in the child, and would never leave.
    for entrance in _entrances:
        entrance.open()
        entrance.is_elsewhere = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open_all_in_child)


class Entered(Protocol):
    """An object with an entrance."""

    entrance: Entrance

    def close(self) -> None:
        """Close it; never refused."""


E = TypeVar("E", bound=Entered)


def exclusively(
    method: Callable[Concatenate[E, Given], Result],
) -> Callable[Concatenate[E, Given], Result]:
    """Let no other call of the same object run at the same time.

    The method then raises RuntimeError where it interrupts another call, and in a forked child.
    """
    # Written out, and not with a context manager: an exception from outside, such as that of Ctrl-C, comes
    # up where a call begins. There is none where `inside` changes.
    name = method.__name__

    @wraps(method)
    def entered(self: E, *args: Given.args, **named: Given.kwargs) -> Result:
        entrance = self.entrance
        with entrance.lock:
            if entrance.inside or entrance.is_elsewhere:
                entrance.refuse_elsewhere()
                entrance.refuse_interruption(name)
            entrance.inside = name
            try:
                return method(self, *args, **named)
            finally:
                entrance.inside = ""
                if entrance.is_close_due:
                    entrance.is_close_due = False
                    self.close()

    return cast(Callable[Concatenate[E, Given], Result], entered)
