"""What can go wrong with a recording, each derived from the built-in exception a caller would expect."""

from __future__ import annotations


class RecordingFormatError(ValueError):
    """What is stored is not a readable recording: malformed, damaged, incomplete or of an unknown version."""


class RecordingNotFoundError(RecordingFormatError, FileNotFoundError):
    """There is no recording at the given place."""


class StoreError(ValueError):
    """A place to record to or to read from that cannot be opened."""


class RecordingExistsError(FileExistsError):
    """The place to record to is taken; nothing there was touched."""


class RecordingDamagedError(RecordingFormatError):
    """A recording is damaged in a way that is not mended without being asked for."""


class RecordingInUseError(OSError):
    """Another writer records there, or may; nothing there was touched."""


class RecordingWriteError(OSError):
    """Spikes could not be written; what was committed before is intact."""


class LostFramesWarning(UserWarning):
    """Frames of a recording were damaged and are marked lost: figures are about those that remain."""


class RecordingStoppedWarning(UserWarning):
    """Spikes could not be written, and the network runs on without being recorded."""
