"""One recording while it is made: calls of layers come in, packed rows and commits go out.

The monitor and its hooks enter, by `RecordingSession`. `steps` says which step a call is, `layers` keeps what
packs each layer, `background` is the thread that writes, `entrance` lets one call in at a time, and `telling`
tells the user what to look at.
"""

from recorder.session.session import RecordingSession

__all__ = ["RecordingSession"]
