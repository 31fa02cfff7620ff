"""FORMAT.md in code: names, shapes, packed bits, chunks, documents and the commit record.

Every other room may import this one, as it consists of pure functions and records, which touch no store and
need neither torch nor dask.
"""

from recorder.format.errors import (
    DurabilityWarning,
    LogWriterWarning,
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
    StepsWarning,
    StoreAccessError,
    StoreError,
    UncalledLayersWarning,
    UnknownRunWarning,
)
from recorder.format.layout import ChunkPlan, plan_chunks
from recorder.format.record.metadata import LayerCommit, RecordingMetadata

__all__ = [
    "ChunkPlan",
    "DurabilityWarning",
    "LayerCommit",
    "LogWriterWarning",
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
    "StepsWarning",
    "StoreAccessError",
    "StoreError",
    "UncalledLayersWarning",
    "UnknownRunWarning",
    "plan_chunks",
]
