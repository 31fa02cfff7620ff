"""Monitors that end in other ways than by `close`: replaced by a later one, copied, forked.

What a copy of a network, or its pickle, has in place of a monitor is an `InertMonitor`. What holds a store in
this process is known here by the owner of its lock, so that a cell of a notebook can be run again.
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, NoReturn, Self

from recorder.format import RecordingClosedWarning, RecordingFormatError
from recorder.hooks.session_link import SessionLink
from recorder.session import RecordingSession
from recorder.session.telling import warn_of_unused
from recorder.stores import ByteStore
from recorder.tape.holding.holder import held_owners
from recorder.tape.holding.lock import read_holder

# Owner of a lock → the `close` of the monitor that records under it.
_closing: dict[str, weakref.WeakMethod[Callable[[], None]]] = {}


def note_holder(owner: str, close: Callable[[], None]) -> None:
    """Remember how to close what records under a lock of this owner; the method ``close`` is kept weakly."""
    for gone in [one for one, method in _closing.items() if method() is None]:
        del _closing[gone]
    _closing[owner] = weakref.WeakMethod(close)


def finish(remove_hooks: Callable[[], None], link: SessionLink, session: RecordingSession) -> None:
    """Close the recording of a monitor that is gone."""
    if link.is_enabled and not session.steps.has_begun:
        warn_of_unused(session.entrance.location)
    remove_hooks()
    link.session = None
    session.close()


def close_holder(store: ByteStore) -> None:
    """Close the monitor of this process that records to a store, if there is one.

    Warns
    -----
    RecordingClosedWarning
        If there is one; it says which recording, and what has failed if it could not be finished.
    """
    holder = None
    with suppress(RecordingFormatError):
        holder = read_holder(store)
    if holder is None or holder.owner not in _closing or holder.process != os.getpid():
        return  # not ours, or that of the process which this was forked from
    if holder.owner not in held_owners:
        return  # it is closed, and could not delete its lock
    close = _closing[holder.owner]()
    if close is None:
        return  # the garbage collector has it, and finishes it
    failed = ""
    try:
        close()
    except Exception as error:  # noqa: BLE001 - the later monitor goes on behind the last commit, or from anew
        failed = f", which failed after its last commit ({type(error).__name__}: {error})"
    warnings.warn(
        f"an earlier monitor of this process was recording to {store.location}; it was closed{failed}, as a "
        "new one has been made for the same store. To keep both, close() the first, or give them stores of "
        "their own",
        RecordingClosedWarning,
        stacklevel=4,
    )


class InertMonitor:
    """The monitor in a copy of the network that was monitored: it records nothing and holds nothing.

    ``network.monitor = Monitor(network)`` is copied with the network by `copy.deepcopy`, `pickle` and
    ``torch.save``. A recording has one writer, and the copy is not what it records. So what would begin to
    record, or asks about spikes, is refused with a sentence that says so; what only pauses, ends or marks
    does nothing, so that code of the network that calls it runs on.

    Parameters
    ----------
    store : str
        Path or URL of the recording of the network that was copied.
    layers : tuple of str
        Names of its monitored layers.
    """

    def __init__(self, store: str, layers: tuple[str, ...]) -> None:
        self.store = store
        self.layers = layers

    def disable(self) -> None:
        """Do nothing: nothing is recorded."""

    def flush(self) -> None:
        """Do nothing: nothing is recorded."""

    def close(self) -> None:
        """Do nothing: nothing is recorded."""

    def trial(self, label: Any = None, **attached: Any) -> AbstractContextManager[None]:  # noqa: ARG002
        """Mark nothing: nothing is recorded."""
        return nullcontext()

    def enable(self) -> NoReturn:
        """Raise RuntimeError."""
        self._refuse()

    def reset(self) -> NoReturn:
        """Raise RuntimeError."""
        self._refuse()

    def __enter__(self) -> Self:
        self._refuse()

    def __exit__(self, *_: object) -> None:
        pass

    def get_avg_firing_rate(self, all: bool = True, module_name: str | None = None) -> NoReturn:  # noqa: A002, ARG002
        """Raise RuntimeError."""
        self._refuse()

    def get_nonfire_ratio(self, all: bool = True, module_name: str | None = None) -> NoReturn:  # noqa: A002, ARG002
        """Raise RuntimeError."""
        self._refuse()

    @property
    def s(self) -> NoReturn:
        """Raise RuntimeError."""
        self._refuse()

    @property
    def plan(self) -> NoReturn:
        """Raise RuntimeError."""
        self._refuse()

    @property
    def stats(self) -> NoReturn:
        """Raise RuntimeError."""
        self._refuse()

    def __repr__(self) -> str:
        return f"<Monitor of a copy, inert; the network that it was copied from was recorded to {self.store}>"

    def _refuse(self) -> NoReturn:
        raise RuntimeError(
            f"this monitor came with a copy of its network, and records nothing: the network that it was "
            f"copied from was recorded to {self.store}. Ask that one's monitor, or open the recording with "
            "analysis.open_recording; to record the copy, make a monitor for it, with a store of its own"
        )
