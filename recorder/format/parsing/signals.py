"""Parse what a commit record says of a layer's signals; every field is checked, as in `parsing`."""

from __future__ import annotations

import math
from collections.abc import Callable

from recorder.format.columns import is_text
from recorder.format.layout import ChunkPlan
from recorder.format.parsing.fields import Fields, short
from recorder.format.parsing.parts import parse_neurons
from recorder.format.record.extents import TableCommit
from recorder.format.record.metadata import (
    MAX_CHUNK_BYTES,
    MAX_CHUNKS,
    MAX_FRAMES,
    MAX_LAYERS,
    MAX_NAME_LENGTH,
    MAX_NEURONS,
    MAX_RANK,
    MAX_ROWS,
)
from recorder.format.record.operations import (
    KINDS,
    OPERATIONS,
    OPERATIONS_DTYPE,
    OperationsCommit,
    operations_of,
)
from recorder.format.record.parts import kept_shape
from recorder.format.record.signals import MAX_SIGNALS, SIGNAL_DTYPES, SignalCommit

Ranges = tuple[tuple[int, int], ...]


def parse_signals(
    layer: Fields,
    parse_table: Callable[[Fields], TableCommit],
    parse_lost: Callable[[Fields, int], Ranges],
    parse_apart: Callable[[Fields], bool],
) -> tuple[SignalCommit, ...]:
    """Signals of a layer; problems are noted. The functions parse what signals and layers share."""
    if "signals" not in layer.record:
        return ()
    signals = tuple(
        _parse_signal(fields, parse_table, parse_lost, parse_apart)
        for fields in layer.objects("signals", MAX_SIGNALS)
    )
    names = [signal.name for signal in signals]
    if len(set(names)) < len(names):
        layer.problem("signals", f"has names twice in {short(names)}")
    if not signals:
        layer.problem("signals", "lists none, expected at least one where it is there")
    return signals


def _parse_signal(
    fields: Fields,
    parse_table: Callable[[Fields], TableCommit],
    parse_lost: Callable[[Fields, int], Ranges],
    parse_apart: Callable[[Fields], bool],
) -> SignalCommit:
    shape = tuple(
        fields.item_integer("neuron_shape", index, length, 1, MAX_NEURONS)
        for index, length in enumerate(fields.items("neuron_shape", MAX_RANK))
    )
    if math.prod(shape) > MAX_NEURONS:
        fields.problem("neuron_shape", f"has {math.prod(shape)} neurons, at most {MAX_NEURONS} are read")
    dtype = fields.text("dtype")
    if dtype not in SIGNAL_DTYPES:
        fields.problem("dtype", f"is {short(dtype)}, expected one of {', '.join(SIGNAL_DTYPES)}")
        dtype = SIGNAL_DTYPES[0]
    neurons = parse_neurons(fields, shape) if "neurons" in fields.record else None
    kept = kept_shape(shape, neurons)
    plan = ChunkPlan(
        kept,
        fields.integer("chunk_frames", 1, MAX_CHUNK_BYTES),
        fields.integer("part_rows", 1, kept[0] if kept else 1),
        1,
    )
    frames = fields.integer("frames", 0, MAX_FRAMES)
    signal = SignalCommit(
        name=fields.text("name"),
        dtype=dtype,
        shape=shape,
        plan=plan,
        frames=frames,
        segments=parse_table(fields.child("segments")),
        checksums=parse_table(fields.child("checksums")),
        tail=tuple(
            fields.item_integer("tail", index, crc, 0, 2**32 - 1)
            for index, crc in enumerate(fields.items("tail", MAX_CHUNKS))
        ),
        neurons=neurons,
        every=fields.integer("every", 1, MAX_ROWS),
        samples=fields.integer("samples", 1, MAX_ROWS) if "samples" in fields.record else None,
        lost=parse_lost(fields, frames),
        is_apart=parse_apart(fields),
    )
    _check_extents(fields, signal)
    return signal


def parse_operation_series(
    fields: Fields,
    parse_table: Callable[[Fields], TableCommit],
    parse_lost: Callable[[Fields, int], Ranges],
) -> OperationsCommit:
    """Operations that were counted: a series as a signal is one, of whole numbers of 64 bits."""
    names = fields.items("weight_layers", MAX_LAYERS)
    if not names or len({*map(str, names)}) < len(names):
        fields.problem("weight_layers", f"are {short(names)}, expected one at least, and none twice")
    uncounted = fields.child("uncounted").record
    for name in (*names, *uncounted, *uncounted.values()):
        if not isinstance(name, str) or len(name) > MAX_NAME_LENGTH or not is_text(name):
            fields.problem("weight_layers", f"or what is said of them hold {short(name)}, expected text")
            return operations_of(("",))
    known = {*names}
    for name in uncounted:
        if name not in known:
            fields.problem("uncounted", f"names {short(name)}, which is none of the weight layers")
    whole = {**fields.record, "name": OPERATIONS, "dtype": OPERATIONS_DTYPE, "every": 1}
    for key in ("samples", "neurons", "folder"):
        whole.pop(key, None)
    signal = _parse_signal(Fields(whole, fields.place, fields.problems), parse_table, parse_lost, _is_apart)
    if signal.shape != (len(names), len(KINDS)):
        fields.problem("neuron_shape", f"is {signal.shape}, expected {(len(names), len(KINDS))}")
    return OperationsCommit(**vars(signal), weight_layers=tuple(names), uncounted=uncounted)


def _is_apart(_: Fields) -> bool:
    return False


def _check_extents(fields: Fields, signal: SignalCommit) -> None:
    plan, frames = signal.plan, signal.frames
    if plan.part_neurons * plan.chunk_frames * signal.itemsize > MAX_CHUNK_BYTES:
        fields.problem("chunk_frames", f"makes chunks of more than {MAX_CHUNK_BYTES} bytes")
    if plan.chunk_count(frames) * plan.parts > MAX_CHUNKS:
        fields.problem("frames", f"is {frames}, which makes more than {MAX_CHUNKS} chunks")
    expected_tail = plan.parts if frames % plan.chunk_frames else 0
    if len(signal.tail) != expected_tail:
        fields.problem("tail", f"has {len(signal.tail)} checksums, expected {expected_tail}")
    for name, table, least, most in (
        ("checksums", signal.checksums, frames // plan.chunk_frames, plan.chunk_count(frames)),
        ("segments", signal.segments, min(frames, 1), frames),
    ):
        if not least <= table.rows <= most:
            fields.problem(f"{name}.rows", f"is {table.rows}, expected {least} to {most} for {frames} frames")
