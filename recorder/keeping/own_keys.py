"""The keys that a recording may have, whatever its layers are, and those of one that is closed."""

from __future__ import annotations

import re
from dataclasses import replace

from recorder.format import LayerCommit
from recorder.format.arrays import PLANE_GROUPS, LayerTables, SignalTables
from recorder.format.documents import all_keys, plain_documents
from recorder.format.layout import CATEGORIES, ROOT_DOCUMENT, SPIKES
from recorder.format.planes.values import PLANES
from recorder.format.record.extents import TableCommit
from recorder.format.record.operations import OPERATIONS, as_operations
from recorder.format.record.signals import SIGNALS, VALUES, SignalCommit
from recorder.format.segments import Segments, clip_segments
from recorder.tape import LayerReader, TapeReader
from recorder.tape.holding.lock import LOCK_KEY
from recorder.tape.layers.signal_reading import SignalReader

# Keys that a recording may have. All other keys are foreign, and are never deleted.
_ARRAYS = "|".join([SPIKES, *LayerTables._fields])
_SIGNAL_ARRAYS = "|".join([VALUES, *SignalTables._fields])
_NODE = rf"({ROOT_DOCUMENT}|c(/[0-9]+)*)"
OURS = re.compile(
    rf"layers/[^/]+/({ROOT_DOCUMENT}|({_ARRAYS})/{_NODE})"
    rf"|layers/[^/]+/({'|'.join(PLANE_GROUPS)})/({ROOT_DOCUMENT}|({'|'.join(PLANES)})/{_NODE})"
    rf"|layers/[^/]+/{SIGNALS}/({ROOT_DOCUMENT}|[^/]+/({ROOT_DOCUMENT}|({_SIGNAL_ARRAYS})/{_NODE}))"
    rf"|{OPERATIONS}/({ROOT_DOCUMENT}|({_SIGNAL_ARRAYS})/{_NODE})"
    rf"|{CATEGORIES}/{ROOT_DOCUMENT}|(trials|{CATEGORIES})/[^/]+/({ROOT_DOCUMENT}|c/[0-9]+)|.+\.[0-9a-f]{{16}}\.partial"
)


def keys_of(reader: TapeReader, frames: dict[str, int], cut_step: int | None) -> set[str]:
    """Every key that the recording has once it is closed with ``frames[name]`` frames of each layer."""
    kept = (_closed(layer, frames[name], cut_step) for name, layer in reader.layers.items() if frames[name])
    counted = reader.operations
    operations = None
    if counted is not None:
        stay = counted.frames if cut_step is None else counted.frames_before(cut_step)
        operations = as_operations(_closed_signal(counted, stay)) if stay or cut_step is None else None
    documents = plain_documents(replace(reader.metadata, layers=tuple(kept), operations=operations))
    return {ROOT_DOCUMENT, LOCK_KEY, *all_keys(documents)}


def _closed(layer: LayerReader, frames: int, cut_step: int | None) -> LayerCommit:
    """Commit of a layer that is closed with ``frames`` frames; extents are right, checksums are not."""
    plan, rows = layer.plan, clip_segments(layer.segments().rows, frames)
    segments = len(rows)
    counts_checksums = TableCommit(-(-frames // plan.block_frames))
    checksums = TableCommit(plan.chunk_count(frames))
    if layer.commit.counts_only:
        counts_checksums, checksums = TableCommit(int(Segments(rows).batch.sum())), TableCommit()
    values = layer.commit.values
    if values is not None:
        planes = (
            replace(plane, counts_checksums=counts_checksums, checksums=checksums)
            for plane in values.planes
            if plane.first_chunk < checksums.rows
        )
        values = replace(values, planes=tuple(planes))
    return replace(
        layer.commit,
        frames=frames,
        counts_checksums=counts_checksums,
        checksums=checksums,
        segments=TableCommit(segments),
        values=values,
        signals=tuple(
            _closed_signal(signal, kept)
            for signal in layer.signals.values()
            if (kept := signal.frames if cut_step is None else signal.frames_before(cut_step))
            or cut_step is None
        ),
    )


def _closed_signal(signal: SignalReader, frames: int) -> SignalCommit:
    """Likewise of a signal."""
    return replace(
        signal.commit,
        frames=frames,
        checksums=TableCommit(signal.plan.chunk_count(frames)),
        segments=TableCommit(len(clip_segments(signal.segments().rows, frames))),
    )
