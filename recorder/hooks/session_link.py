"""The link from hooks to a session, and what hooks have in common: they turn inert in copies of a network."""

from __future__ import annotations

import os
import warnings
import weakref
from typing import Any

from recorder.format import RecordingStoppedWarning, RecordingWriteError, UncalledLayersWarning
from recorder.frameworks import SpikingLayerError
from recorder.hooks.seeking import UNSCRIPTABLE
from recorder.hooks.unusual_runs import current_graph_task_id
from recorder.session import RecordingSession


class SessionLink:
    """The link from hooks to a session. The monitor fills it, and empties it when the monitor is gone.

    Attributes
    ----------
    has_seen_copy : bool
        Whether a copy of the network has run.
    """

    def __init__(self, *, warn_of_failures: bool = False) -> None:
        self.session: RecordingSession | None = None
        self.is_enabled = False
        self._is_copy_noted = False
        self.has_seen_copy = False
        self.warns_of_failures = warn_of_failures
        _links.add(self)

    def records_to(self) -> RecordingSession | None:
        """Session that a hook has to tell now; None if nothing is to be recorded."""
        # Compiled graphs go on calling hooks that were taken away. During a backward pass, activation
        # checkpointing runs forwards once more.
        if not self.is_enabled or current_graph_task_id() != -1:
            return None
        return self.session

    def refuse_stopped(self) -> None:
        """Raise RecordingWriteError if recording was stopped by `stop`."""
        if self.session is None:
            raise RecordingWriteError(
                "recording has stopped, as it could not be written. To go on behind the last commit, "
                "close() it, then enable() it again"
            )

    def note_copy(self) -> None:
        """Warn, once, that a copy of the network runs while the network itself has not been called."""
        if self._is_copy_noted or not self.is_enabled or self.session is None or self.session.steps.has_begun:
            return
        self._is_copy_noted = True
        warnings.warn(
            "a copy of the monitored network runs, and the network itself has not been called: copies are "
            "not monitored. Make the monitor for the network that runs",
            UncalledLayersWarning,
            stacklevel=3,
        )

    def stop(self, failure: RecordingWriteError) -> None:
        """Record nothing more as writing has failed; raises ``failure``, or warns where that was chosen."""
        if not self.warns_of_failures:
            raise failure
        if self.session is not None:
            self.session = None
            warnings.warn(
                f"{failure} The network runs on and is not recorded any more.",
                RecordingStoppedWarning,
                stacklevel=2,
            )


_links: weakref.WeakSet[SessionLink] = weakref.WeakSet()


def _empty_links_in_child() -> None:
    # A forked child, such as a worker of a DataLoader, has no writer thread and must not write.
    for link in _links:
        link.session = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_empty_links_in_child)


class InertHook:
    """A hook in a copy of the network: it records nothing.

    It tells the user if the copy runs for the second time, and the monitored network has not run at all. Once
    is no news: a teacher runs before its student.
    """

    def __init__(self, link: SessionLink | None = None) -> None:
        self._link = (lambda: None) if link is None else weakref.ref(link)
        self._has_run = False

    def __call__(self, *_: Any) -> None:
        """Record nothing."""
        link = self._link()
        if link is not None:
            link.has_seen_copy = True
            if self._has_run:
                link.note_copy()
            self._has_run = True

    def __deepcopy__(self, _: dict[int, Any]) -> InertHook:
        return InertHook(self._link())

    def __reduce__(self) -> tuple[type[InertHook], tuple[()]]:
        return InertHook, ()


class Hook:
    """A hook of a monitor: nothing of it goes with a copy, or a pickle, of the network."""

    def __init__(self, link: SessionLink) -> None:
        self._link = link

    @property
    def __name__(self) -> str:
        # The first thing that torch.jit.script asks a hook for.
        raise SpikingLayerError(UNSCRIPTABLE)

    def __deepcopy__(self, _: dict[int, Any]) -> InertHook:
        return InertHook(self._link)

    def __reduce__(self) -> tuple[type[InertHook], tuple[()]]:
        return InertHook, ()
