"""Parse what a stored commit record says of one layer."""

from __future__ import annotations

import math
import sys
from functools import lru_cache
from typing import Any

import numpy as np

from recorder.format.columns import is_text
from recorder.format.layout import CHUNK_FRAMES_STEP, ChunkPlan, folder_name, plan_counts
from recorder.format.parsing.fields import Fields, short
from recorder.format.parsing.parts import parse_part
from recorder.format.parsing.signals import parse_operation_series, parse_signals
from recorder.format.planes.values import MAX_LEVEL, PLANES, in_order
from recorder.format.record.extents import TableCommit
from recorder.format.record.metadata import (
    DTYPES,
    MAX_CHUNK_BYTES,
    MAX_CHUNKS,
    MAX_FRAMES,
    MAX_LOST,
    MAX_NAME_LENGTH,
    MAX_NEURONS,
    MAX_RANK,
    MAX_ROWS,
    LayerCommit,
    PlaneCommit,
    ValuesCommit,
)
from recorder.format.record.operations import OperationsCommit

COUNT_BYTES = np.dtype(np.uint32).itemsize

# The layers of a thousand runs of one network have the same few plans.
_shared_plan = lru_cache(maxsize=4096)(ChunkPlan)


def parse_layer(fields: Fields) -> LayerCommit:
    """The promise about one layer; problems are noted in ``fields``."""
    shape = tuple(
        fields.item_integer("neuron_shape", index, length, 1, MAX_NEURONS)
        for index, length in enumerate(fields.items("neuron_shape", MAX_RANK))
    )
    part = parse_part(fields, shape)
    if math.prod(shape) > MAX_NEURONS:
        fields.problem("neuron_shape", f"has {math.prod(shape)} neurons, at most {MAX_NEURONS} are read")
    kept = part.kept_shape if part else shape
    frames = fields.integer("frames", 0, MAX_FRAMES)
    counts_only = part is not None and part.counts_only
    plan = plan_counts(kept) if counts_only else _parse_plan(fields, kept, frames)
    dtype = fields.text("dtype")
    if dtype not in DTYPES:
        fields.problem("dtype", f"is {short(dtype)}, expected one of {', '.join(DTYPES)}")
    bits = _parse_counts(fields, kept, frames) if counts_only else _parse_bits(fields, plan, frames)
    counts_checksums, checksums, tail = bits
    segments = parse_table(fields.child("segments"))
    _check_rows(fields, "segments", segments, (min(frames, 1), frames), frames)
    if counts_only and "values" in fields.record:
        fields.problem("values", "are there, but of a layer of counts only there are none")
    return LayerCommit(
        name=fields.text("name"),
        layer_class=fields.text("layer_class"),
        dtype=dtype,
        plan=plan,
        frames=frames,
        counts_checksums=counts_checksums,
        segments=segments,
        checksums=checksums,
        tail=tail,
        lost=_parse_lost(fields, frames),
        is_apart=_parse_apart(fields),
        values=_parse_values(fields, plan, frames, dtype),
        signals=parse_signals(fields, parse_table, _parse_lost, _parse_apart),
        part=part,
    )


def _parse_plan(fields: Fields, shape: tuple[int, ...], frames: int) -> ChunkPlan:
    """The plan of the chunks of a layer of which neurons of this shape are stored."""
    chunk_frames = fields.integer("chunk_frames", CHUNK_FRAMES_STEP, MAX_CHUNK_BYTES * 8)
    part_rows = fields.integer("part_rows", 1, shape[0] if shape else 1)
    block_chunks = fields.integer("block_chunks", 1, MAX_CHUNKS)
    plan = _shared_plan(shape, chunk_frames or CHUNK_FRAMES_STEP, part_rows or 1, block_chunks or 1)
    if plan.chunk_frames % CHUNK_FRAMES_STEP:
        fields.problem("chunk_frames", f"is {plan.chunk_frames}, expected a multiple of {CHUNK_FRAMES_STEP}")
    if plan.part_neurons * plan.chunk_bytes > MAX_CHUNK_BYTES:
        fields.problem("chunk_frames", f"makes chunks of more than {MAX_CHUNK_BYTES} bytes")
    if plan.chunk_count(frames) * plan.parts > MAX_CHUNKS:
        fields.problem("frames", f"is {frames}, which makes more than {MAX_CHUNKS} chunks")
    return plan


def _parse_counts(
    fields: Fields, shape: tuple[int, ...], frames: int
) -> tuple[TableCommit, TableCommit, tuple[int, ...]]:
    """The promise about counts in place of bits: a row for each sample of a segment."""
    for name in sorted({"chunk_frames", "part_rows", "block_chunks", "checksums", "tail"} & {*fields.record}):
        fields.problem(name, "is there, but a layer of counts only has no bits")
    if math.prod(shape) * COUNT_BYTES > MAX_CHUNK_BYTES:
        fields.problem("neuron_shape", f"makes rows of counts of more than {MAX_CHUNK_BYTES} bytes")
    table = parse_table(fields.child("counts_checksums"))
    _check_rows(fields, "counts_checksums", table, (min(frames, 1), frames), frames)
    return table, TableCommit(), ()


def _parse_bits(
    fields: Fields, plan: ChunkPlan, frames: int
) -> tuple[TableCommit, TableCommit, tuple[int, ...]]:
    """The promise about a boolean array of this many frames: its two tables of checksums, and its tail."""
    tail = tuple(
        fields.item_integer("tail", index, crc, 0, 2**32 - 1)
        for index, crc in enumerate(fields.items("tail", MAX_CHUNKS))
    )
    expected_tail = plan.parts if frames % plan.chunk_frames else 0
    if len(tail) != expected_tail:
        fields.problem("tail", f"has {len(tail)} checksums, expected {expected_tail}")
    counts_checksums = parse_table(fields.child("counts_checksums"))
    checksums = parse_table(fields.child("checksums"))
    chunks, blocks = frames // plan.chunk_frames, frames // plan.block_frames
    _check_rows(fields, "checksums", checksums, (chunks, plan.chunk_count(frames)), frames)
    _check_rows(
        fields, "counts_checksums", counts_checksums, (blocks, -(-frames // plan.block_frames)), frames
    )
    return counts_checksums, checksums, tail


def _check_rows(
    fields: Fields, name: str, table: TableCommit, expected: tuple[int, int], frames: int
) -> None:
    least, most = expected
    if not least <= table.rows <= most:
        fields.problem(f"{name}.rows", f"is {table.rows}, expected {least} to {most} for {frames} frames")


def _parse_values(layer: Fields, plan: ChunkPlan, frames: int, dtype: str) -> ValuesCommit | None:
    """Scale, range and planes of a layer with values; each plane is listed once, in order."""
    if "values" not in layer.record:
        return None
    fields = layer.child("values")
    ends = fields.items("range", 2)
    least, most = (
        fields.item_integer("range", index, level, -MAX_LEVEL, MAX_LEVEL)
        for index, level in enumerate(ends if len(ends) == 2 else [0, 0])
    )
    if len(ends) != 2 or not least <= 0 <= most:
        fields.problem("range", f"is {short(ends)}, expected two whole numbers, with 0 between them")
    scale: Any = fields.record.get("scale")
    greatest = sys.float_info.max / max(-least, most, 1)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale <= greatest:
        fields.problem("scale", f"is {short(scale)}, expected a positive number whose multiples are finite")
        scale = 1
    elif scale != 1 and "float" not in dtype:
        fields.problem("scale", f"is {short(scale)}, expected 1 for a layer that puts out {short(dtype)}")
    planes = tuple(_parse_plane(plane, plan, frames) for plane in fields.objects("planes", len(PLANES)))
    names = [plane.name for plane in planes]
    if names != in_order({*names} & {*PLANES}):
        fields.problem("planes", f"are {short(names)}, expected names from {', '.join(PLANES)}, in order")
    return ValuesCommit(float(scale), least, most, planes)


def _parse_plane(fields: Fields, plan: ChunkPlan, frames: int) -> PlaneCommit:
    counts_checksums, checksums, tail = _parse_bits(fields, plan, frames)
    return PlaneCommit(
        name=fields.text("name"),
        first_chunk=fields.integer("first_chunk", 0, max(plan.chunk_count(frames) - 1, 0)),
        counts_checksums=counts_checksums,
        checksums=checksums,
        tail=tail,
    )


def _parse_apart(fields: Fields) -> bool:
    """True if the layer's folder is set apart. Only the two folders that its name allows are ever opened."""
    if "folder" not in fields.record:
        return False
    name = fields.record.get("name")
    if isinstance(name, str) and is_text(name) and len(name) <= MAX_NAME_LENGTH:
        expected = folder_name(name, apart=True)
        if fields.record["folder"] != expected:
            fields.problem("folder", f"is {short(fields.record['folder'])}, expected {expected!r}")
    return True


def _parse_lost(fields: Fields, frames: int) -> tuple[tuple[int, int], ...]:
    """Ranges of lost frames; each lies within the layer, and after the previous one without touching it."""
    if "lost" not in fields.record:
        return ()
    lost: list[tuple[int, int]] = []
    for index, item in enumerate(fields.items("lost", MAX_LOST)):
        if not isinstance(item, list) or len(item) != 2:
            fields.problem(f"lost[{index}]", f"is {short(item)}, expected first and last frame")
            continue
        least = lost[-1][1] + 1 if lost else 0
        first = fields.item_integer(f"lost[{index}]", 0, item[0], least, frames)
        lost.append((first, fields.item_integer(f"lost[{index}]", 1, item[1], first + 1, frames)))
    return tuple(lost)


def parse_operations(fields: Fields) -> OperationsCommit:
    """The promise about operations; problems are noted in ``fields``."""
    return parse_operation_series(fields, parse_table, _parse_lost)


def parse_table(fields: Fields) -> TableCommit:
    """Extent of a small array."""
    return TableCommit(fields.integer("rows", 0, MAX_ROWS), fields.integer("crc32c", 0, 2**32 - 1))
