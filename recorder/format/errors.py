"""Errors and warnings. Each error extends the built-in exception that a caller would expect."""

from __future__ import annotations

from typing import Final


class NotKeptError(ValueError):
    """What is asked for was not kept of a layer, such as when neurons fired of which counts were kept."""


class RecordingFormatError(ValueError):
    """The stored bytes are no readable recording: malformed, damaged, incomplete or of an unknown version."""


class RecordingNotFoundError(RecordingFormatError, FileNotFoundError):
    """There is no recording at the given place."""


class StoreError(ValueError):
    """The place to record to or to read from cannot be opened."""


class StoreAccessError(OSError):
    """A store behind a URL did not answer, or refused, also after the request was repeated."""


class RecordingExistsError(FileExistsError):
    """The place to record to is taken; nothing there was touched."""


class RecordingDamagedError(RecordingFormatError):
    """Recovery is refused: it needs the user's consent, or cannot mend the damage. Nothing was changed."""


class RecordingUnfinishedError(RecordingFormatError):
    """The recording is still growing, or was interrupted, but the operation needs a closed one."""


class RecordingInUseError(OSError):
    """Another writer records there, or may do so; nothing there was touched."""


class RecordingWriteError(OSError):
    """Spikes could not be written; what was committed before is intact."""


class LostFramesWarning(UserWarning):
    """Damaged frames of the recording are marked lost: every figure covers the remaining frames only."""


class UnknownRunWarning(UserWarning):
    """Recordings are taken for the ranks of one run because of their names: they do not say it themselves."""


class DurabilityWarning(UserWarning):
    """A file system cannot keep what was asked for: a loss of power may take what was committed."""


class RecordingClosedWarning(UserWarning):
    """A monitor was closed, as another one of this process has been made for its recording."""


class RecordingStoppedWarning(UserWarning):
    """The network runs on without being recorded, or a layer of it, as it put out no spikes any more."""


class LogWriterWarning(UserWarning):
    """What `Monitor.log_to` was given has raised an exception; nothing more is written to it."""


class StepsWarning(UserWarning):
    """The boundaries between steps had to be guessed, or layers have made different steps."""


class UncalledLayersWarning(UserWarning):
    """Layers are monitored and not called, so that nothing is recorded of them."""


class UncountedOperationsWarning(UserWarning):
    """Operations of a weight layer are not counted: which step or sample they belong to is not known."""


UNFINISHED_RESET: Final = (
    "nothing is recorded: reset() has discarded the recording, and failed or was interrupted before a new "
    "one began. Call reset() again"
)


def out_of_step(what: str) -> str:
    """Message for ``"layer '1'"`` or a signal whose frames do not match the steps noted for it."""
    return (
        f"the frames of {what} and their steps do not fit any more: an exception, such as that of "
        "Ctrl-C, came in the midst of recording them. To go on behind the last commit, close() the monitor, "
        "then enable() it again"
    )
