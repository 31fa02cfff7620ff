"""Cut a layer: what a commit may promise of its first frames alone."""

from __future__ import annotations

from dataclasses import replace

from recorder.format import LayerCommit
from recorder.format.bits import mask_trains, range_mask
from recorder.format.chunks import checksum
from recorder.format.layout import SEGMENT_COLUMNS
from recorder.format.record.extents import TableCommit
from recorder.format.record.metadata import PlaneCommit
from recorder.format.segments import clip_segments
from recorder.tape.layers.layer_reading import LayerReader
from recorder.tape.layers.levels import count_bits
from recorder.tape.tables import rows_checksum


def cut_layer(layer: LayerReader, frames: int) -> LayerCommit:
    """Commit of a layer with its first ``frames`` frames only; whole steps, of counts whole segments."""
    segments = clip_segments(layer.segments().rows, frames)
    bits: tuple[TableCommit, TableCommit, tuple[int, ...]]
    if layer.commit.counts_only:
        rows = int(segments[:, SEGMENT_COLUMNS.index("batch")].sum())
        names = layer.counts_checksums()[:rows]
        bits = TableCommit(rows, rows_checksum(names)), TableCommit(), ()
    else:
        bits = _cut_bits(layer, frames)
    counts_checksums, checksums, tail = bits
    values = layer.commit.values
    if values is not None:
        chunks = layer.plan.chunk_count(frames)
        kept = (plane for plane in layer.planes.values() if plane.first_chunk < chunks)
        planes = (PlaneCommit(plane.plane, plane.first_chunk, *_cut_bits(plane, frames)) for plane in kept)
        values = replace(values, planes=tuple(planes))
    cut = replace(
        layer.commit,
        frames=frames,
        segments=TableCommit(len(segments), rows_checksum(segments)),
        checksums=checksums,
        counts_checksums=counts_checksums,
        tail=tail,
        lost=tuple((begin, min(end, frames)) for begin, end in layer.commit.lost if begin < frames),
        values=values,
    )
    if values is not None and count_bits(LayerReader(layer.store, cut)) == 0:
        # Nothing but silence is left, which has no scale.
        return replace(cut, values=None)
    return cut


def _cut_bits(layer: LayerReader, frames: int) -> tuple[TableCommit, TableCommit, tuple[int, ...]]:
    """Extents of the checksums of counts and chunks, and the tail, of the first ``frames`` frames."""
    plan = layer.plan
    chunks, blocks = frames // plan.chunk_frames, frames // plan.block_frames
    tail: tuple[int, ...] = ()
    if frames % plan.chunk_frames:
        is_kept = range_mask(plan.chunk_frames, 0, frames % plan.chunk_frames)
        trains = mask_trains(layer.chunk_or_silence(chunks), is_kept)
        tail = tuple(checksum(trains[plan.part_slice(part)].tobytes()) for part in range(plan.parts))
    return (
        TableCommit(blocks, rows_checksum(layer.counts_checksums()[:blocks])),
        TableCommit(chunks, rows_checksum(layer.checksums()[:chunks])),
        tail,
    )
