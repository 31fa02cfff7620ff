"""What can go wrong with a recording, each derived from the built-in exception a caller would expect."""

from __future__ import annotations


class RecordingFormatError(ValueError):
    """What is stored is not a readable recording: malformed, damaged, incomplete or of an unknown version."""


class RecordingNotFoundError(RecordingFormatError, FileNotFoundError):
    """There is no recording at the given place."""


class StoreError(ValueError):
    """A place to record to or to read from that cannot be opened."""


class StoreAccessError(OSError):
    """A store behind a URL did not answer, or refused, and did so again when it was asked again."""


class RecordingExistsError(FileExistsError):
    """The place to record to is taken; nothing there was touched."""


class RecordingDamagedError(RecordingFormatError):
    """A recording is damaged in a way that is not mended without being asked for."""


class RecordingUnfinishedError(RecordingFormatError):
    """A recording that is still growing, or was interrupted, where only a closed one will do."""


class RecordingInUseError(OSError):
    """Another writer records there, or may; nothing there was touched."""


class RecordingWriteError(OSError):
    """Spikes could not be written; what was committed before is intact."""


class LostFramesWarning(UserWarning):
    """Frames of a recording were damaged and are marked lost: figures are about those that remain."""


class DurabilityWarning(UserWarning):
    """A file system cannot keep what was asked for: a loss of power may take what was committed."""


class RecordingClosedWarning(UserWarning):
    """A monitor was closed, as another one of this process has been made for its recording."""


class RecordingStoppedWarning(UserWarning):
    """Spikes could not be written, and the network runs on without being recorded."""


def out_of_step(layer: str) -> str:
    """What to tell a user whose layer has frames that no step accounts for, or the other way round."""
    return (
        f"the frames of layer {layer!r} and their steps do not fit any more: an exception, such as that of "
        "Ctrl-C, came in the midst of recording them. To go on behind the last commit, close() the monitor, "
        "then enable() it again"
    )
