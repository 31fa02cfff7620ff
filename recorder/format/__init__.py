"""FORMAT.md in code: names, shapes, bits, chunks, documents and the commit record, as pure functions.

Every other room may enter. Nothing in here touches a store, or needs torch or dask.
"""

from recorder.format.errors import (
    DurabilityWarning,
    LostFramesWarning,
    RecordingClosedWarning,
    RecordingDamagedError,
    RecordingExistsError,
    RecordingFormatError,
    RecordingInUseError,
    RecordingNotFoundError,
    RecordingStoppedWarning,
    RecordingUnfinishedError,
    RecordingWriteError,
    StoreAccessError,
    StoreError,
)
from recorder.format.layout import ChunkPlan, plan_chunks
from recorder.format.metadata import LayerCommit, RecordingMetadata

__all__ = [
    "ChunkPlan",
    "DurabilityWarning",
    "LayerCommit",
    "LostFramesWarning",
    "RecordingClosedWarning",
    "RecordingDamagedError",
    "RecordingExistsError",
    "RecordingFormatError",
    "RecordingInUseError",
    "RecordingMetadata",
    "RecordingNotFoundError",
    "RecordingStoppedWarning",
    "RecordingUnfinishedError",
    "RecordingWriteError",
    "StoreAccessError",
    "StoreError",
    "plan_chunks",
]
