"""Parse a stored commit record to a `RecordingMetadata`, or raise one error that lists all problems.

Stored bytes are not trusted: every field is checked against its type and the limits in
`recorder.format.metadata`.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, get_args

from recorder.format.columns import KEYS, identity, is_text
from recorder.format.connections import parse_connections
from recorder.format.errors import RecordingFormatError
from recorder.format.layout import (
    ATTRIBUTE,
    CHUNK_FRAMES_STEP,
    FORMAT_VERSION,
    LOST_FORMAT_VERSION,
    NEWEST_FORMAT_VERSION,
    ChunkPlan,
    folder_name,
)
from recorder.format.metadata import (
    DTYPES,
    MAX_CATEGORY_BYTES,
    MAX_CHUNK_BYTES,
    MAX_CHUNKS,
    MAX_COLUMNS,
    MAX_DOCUMENT_BYTES,
    MAX_FRAMES,
    MAX_LAYERS,
    MAX_LOST,
    MAX_NAME_LENGTH,
    MAX_NEURONS,
    MAX_PROVENANCE_BYTES,
    MAX_RANK,
    MAX_ROWS,
    MAX_SHARD_BYTES,
    CategoriesCommit,
    ColumnCommit,
    ColumnKind,
    LayerCommit,
    RecordingMetadata,
    State,
    TableCommit,
    TrialsCommit,
    _record_checksum,
)

_MAX_PROBLEMS = 100


def parse_document(document: bytes, place: str) -> RecordingMetadata:
    """Parse the root document of a recording, as stored.

    Raises
    ------
    RecordingFormatError
        If anything is wrong. The message begins with ``place``, where the document lies, and lists every
        problem.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise RecordingFormatError(
            f"{place} has {len(document)} bytes, more than the {MAX_DOCUMENT_BYTES} that a recording may have"
        )
    try:
        parsed = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise RecordingFormatError(f"{place} is not JSON: {str(error) or type(error).__name__}") from error
    attributes = parsed.get("attributes") if isinstance(parsed, dict) else None
    if not isinstance(attributes, dict) or ATTRIBUTE not in attributes:
        raise RecordingFormatError(
            f'{place} has no attributes["{ATTRIBUTE}"]: this is not a recording made by spiketape'
        )
    return parse_attributes(attributes, place)


def parse_attributes(attributes: Mapping[str, Any], place: str) -> RecordingMetadata:
    """Parse the attributes of a recording's root; errors as in `parse_document`."""
    record = attributes[ATTRIBUTE]
    if not isinstance(record, dict):
        raise RecordingFormatError(
            f'{place}: attributes["{ATTRIBUTE}"] is {_short(record)}, expected an object'
        )
    version = record.get("format_version")
    if (
        not isinstance(version, int)
        or version is True
        or not FORMAT_VERSION <= version <= NEWEST_FORMAT_VERSION
    ):
        raise RecordingFormatError(
            f"{place} has format version {_short(version)}; this spiketape reads versions {FORMAT_VERSION} "
            f"to {NEWEST_FORMAT_VERSION}. A newer spiketape is needed if the version is higher."
        )
    try:
        expected = _record_checksum(record)
    except (ValueError, RecursionError) as error:
        raise RecordingFormatError(f"{place}: the commit record is malformed: {error}") from error
    fields = _Fields(record, "")
    if record.get("crc32c") != expected:
        fields.problems.append(
            f"crc32c is {_short(record.get('crc32c'))}, but its contents give {expected}: altered"
        )
    state = fields.text("state")
    if state not in get_args(State):
        fields.problems.append(f"state is {_short(state)}, expected one of {get_args(State)}")
    layers = tuple(_parse_layer(layer) for layer in fields.objects("layers", MAX_LAYERS))
    names = [layer.name for layer in layers]
    if len(set(names)) < len(names):
        fields.problems.append(f"layers: names occur twice in {_short(names)}")
    provenance = _parse_provenance(fields)
    shard_bytes, digest = _parse_packing(fields) if "shard_bytes" in record else (0, "")
    metadata = RecordingMetadata(
        state="closed" if state == "closed" else "recording",
        recording_id=fields.text("recording_id"),
        created=fields.text("created"),
        committed=fields.text("committed"),
        commit_number=fields.integer("commit_number", 0, MAX_ROWS),
        layers=layers,
        trials=_parse_trials(fields.child("trials")),
        provenance=provenance,
        shard_bytes=shard_bytes,
        digest=digest,
        uncalled=_parse_uncalled(fields) if "uncalled" in record else {},
        connections=(
            parse_connections(record["connections"], fields.problem) if "connections" in record else None
        ),
    )
    if version != metadata.format_version:
        fields.problems.append(
            f"format_version is {version}, expected {metadata.format_version}: version "
            f"{LOST_FORMAT_VERSION} is that of recordings with frames marked lost, {NEWEST_FORMAT_VERSION} "
            "of those with a layer whose folder is set apart, or with categories in arrays"
        )
    if fields.problems:
        listed = "".join(f"\n  - {problem}" for problem in fields.problems)
        raise RecordingFormatError(
            f"{place}: the commit record has {len(fields.problems)} problem(s):{listed}"
        )
    return metadata


def _parse_provenance(fields: _Fields) -> dict[str, Any]:
    provenance: dict[str, Any] = fields.take("provenance", dict, {})
    size = len(json.dumps(provenance))
    if size > MAX_PROVENANCE_BYTES:
        fields.problem("provenance", f"has {size} bytes, at most {MAX_PROVENANCE_BYTES} are read")
    return provenance


def _parse_uncalled(fields: _Fields) -> dict[str, int]:
    uncalled = fields.child("uncalled")
    if len(uncalled.record) > MAX_LAYERS:
        fields.problem("uncalled", f"has {len(uncalled.record)} layers, at most {MAX_LAYERS} are read")
        return {}
    for name in uncalled.record:
        if len(name) > MAX_NAME_LENGTH or not is_text(name):
            fields.problem("uncalled", f"names {_short(name)}, which is too long or holds half a character")
    return {name: uncalled.integer(name, 0, MAX_FRAMES) for name in uncalled.record}


def _parse_packing(fields: _Fields) -> tuple[int, str]:
    digest = fields.text("digest")
    if not re.fullmatch("[0-9a-f]{64}", digest):
        fields.problem("digest", f"is {_short(digest)}, expected 64 hexadecimal digits")
    if fields.record.get("state") != "closed":
        fields.problem("state", "is not 'closed', but only closed recordings are packed")
    return fields.integer("shard_bytes", 1, MAX_SHARD_BYTES), digest


# The layers of a thousand runs of one network have the same few plans.
_shared_plan = lru_cache(maxsize=4096)(ChunkPlan)


def _parse_layer(fields: _Fields) -> LayerCommit:
    shape = tuple(
        fields.item_integer("neuron_shape", index, length, 1, MAX_NEURONS)
        for index, length in enumerate(fields.items("neuron_shape", MAX_RANK))
    )
    chunk_frames = fields.integer("chunk_frames", CHUNK_FRAMES_STEP, MAX_CHUNK_BYTES * 8)
    part_rows = fields.integer("part_rows", 1, shape[0] if shape else 1)
    block_chunks = fields.integer("block_chunks", 1, MAX_CHUNKS)
    plan = _shared_plan(shape, chunk_frames or CHUNK_FRAMES_STEP, part_rows or 1, block_chunks or 1)
    frames = fields.integer("frames", 0, MAX_FRAMES)
    if math.prod(shape) > MAX_NEURONS:
        fields.problem("neuron_shape", f"has {math.prod(shape)} neurons, at most {MAX_NEURONS} are read")
    if plan.chunk_frames % CHUNK_FRAMES_STEP:
        fields.problem("chunk_frames", f"is {plan.chunk_frames}, expected a multiple of {CHUNK_FRAMES_STEP}")
    if plan.part_neurons * plan.chunk_bytes > MAX_CHUNK_BYTES:
        fields.problem("chunk_frames", f"makes chunks of more than {MAX_CHUNK_BYTES} bytes")
    if plan.chunk_count(frames) * plan.parts > MAX_CHUNKS:
        fields.problem("frames", f"is {frames}, which makes more than {MAX_CHUNKS} chunks")
    tail = tuple(
        fields.item_integer("tail", index, crc, 0, 2**32 - 1)
        for index, crc in enumerate(fields.items("tail", MAX_CHUNKS))
    )
    expected_tail = plan.parts if frames % plan.chunk_frames else 0
    if len(tail) != expected_tail:
        fields.problem("tail", f"has {len(tail)} checksums, expected {expected_tail}")
    dtype = fields.text("dtype")
    if dtype not in DTYPES:
        fields.problem("dtype", f"is {_short(dtype)}, expected one of {', '.join(DTYPES)}")
    counts_checksums = _parse_table(fields.child("counts_checksums"))
    checksums = _parse_table(fields.child("checksums"))
    segments = _parse_table(fields.child("segments"))
    full_chunks, full_blocks = frames // plan.chunk_frames, frames // plan.block_frames
    for name, table, least, most in (
        ("checksums", checksums, full_chunks, plan.chunk_count(frames)),
        ("counts_checksums", counts_checksums, full_blocks, -(-frames // plan.block_frames)),
        ("segments", segments, min(frames, 1), frames),
    ):
        if not least <= table.rows <= most:
            fields.problem(f"{name}.rows", f"is {table.rows}, expected {least} to {most} for {frames} frames")
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
    )


def _parse_apart(fields: _Fields) -> bool:
    """True if the layer's folder is set apart. Only the two folders that its name allows are ever opened."""
    if "folder" not in fields.record:
        return False
    name = fields.record.get("name")
    if isinstance(name, str) and is_text(name) and len(name) <= MAX_NAME_LENGTH:
        expected = folder_name(name, apart=True)
        if fields.record["folder"] != expected:
            fields.problem("folder", f"is {_short(fields.record['folder'])}, expected {expected!r}")
    return True


def _parse_lost(fields: _Fields, frames: int) -> tuple[tuple[int, int], ...]:
    """Ranges of lost frames; each lies within the layer, and after the previous one without touching it."""
    if "lost" not in fields.record:
        return ()
    lost: list[tuple[int, int]] = []
    for index, item in enumerate(fields.items("lost", MAX_LOST)):
        if not isinstance(item, list) or len(item) != 2:
            fields.problem(f"lost[{index}]", f"is {_short(item)}, expected first and last frame")
            continue
        least = lost[-1][1] + 1 if lost else 0
        first = fields.item_integer(f"lost[{index}]", 0, item[0], least, frames)
        lost.append((first, fields.item_integer(f"lost[{index}]", 1, item[1], first + 1, frames)))
    return tuple(lost)


def _parse_table(fields: _Fields) -> TableCommit:
    return TableCommit(fields.integer("rows", 0, MAX_ROWS), fields.integer("crc32c", 0, 2**32 - 1))


def _parse_trials(fields: _Fields) -> TrialsCommit:
    columns = tuple(_parse_column(column) for column in fields.objects("columns", MAX_COLUMNS))
    kinds = {column.name: column.kind for column in columns}
    for name, times in Counter(column.name for column in columns).items():
        if times > 1:
            fields.problem("columns", f"lists {_short(name)} {times} times, expected once")
    for key in KEYS if columns else ():
        if kinds.get(key) != "int64":
            fields.problem("columns", f"has {key!r} of kind {_short(kinds.get(key))}, expected 'int64'")
    size = sum(column.stored.table.rows for column in columns if column.stored)
    if size > MAX_CATEGORY_BYTES:
        fields.problem("columns", f"have {size} bytes of categories, at most {MAX_CATEGORY_BYTES} are read")
    return TrialsCommit(fields.integer("trials", 0, MAX_ROWS), fields.integer("rows", 0, MAX_ROWS), columns)


def _parse_column(fields: _Fields) -> ColumnCommit:
    kind = fields.text("kind")
    if kind not in get_args(ColumnKind):
        fields.problem("kind", f"is {_short(kind)}, expected one of {get_args(ColumnKind)}")
    stored = _parse_stored(fields, kind) if isinstance(fields.record.get("categories"), dict) else None
    categories = [] if stored else fields.items("categories", MAX_ROWS)
    plain = [identity(category) for category in categories if isinstance(category, str | int | float)]
    for (_, value), times in Counter(plain).items():
        if times > 1:
            fields.problem("categories", f"hold {_short(value)} {times} times, expected once")
    for category in categories:
        if not isinstance(category, str | int | float) or not is_text(category):
            fields.problem("categories", f"holds {_short(category)}, expected text, numbers or booleans")
        elif isinstance(category, int) and not -(2**63) < category < 2**63:
            fields.problem("categories", f"holds {_short(category)}, a whole number that 64 bits do not hold")
    return ColumnCommit(
        name=fields.text("name"),
        kind=kind,  # type: ignore[arg-type]  # an unknown kind has just been noted as a problem
        crc32c=fields.integer("crc32c", 0, 2**32 - 1),
        categories=tuple(categories),
        stored=stored,
    )


def _parse_stored(fields: _Fields, kind: str) -> CategoriesCommit:
    """Extent of an array of categories, each of which takes two bytes at least."""
    if kind != "category":
        fields.problem("categories", f"are in an array, but those of kind {_short(kind)} have none")
    stored = fields.child("categories")
    table = _parse_table(stored)
    return CategoriesCommit(stored.integer("count", 0, table.rows // 2), table)


class _Fields:
    """Typed access to a JSON object. Problems are collected, each with its place, and not raised.

    A thousand recordings have a million fields, and nearly all are as they should be: those are let pass
    first, before anything is written about them.
    """

    def __init__(self, record: Mapping[str, Any], place: str, problems: list[str] | None = None) -> None:
        self.record = record
        self.place = place
        self.problems: list[str] = [] if problems is None else problems

    def problem(self, key: str, what: str) -> None:
        # A stranger's document may have millions of them.
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(f"{self.place}{key} {what}")

    def take(self, key: str, kind: type, default: Any) -> Any:
        value = self.record.get(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.problem(
                key, f"is {_short(value) if key in self.record else 'missing'}, expected {kind.__name__}"
            )
            return default
        return value

    def text(self, key: str) -> str:
        value: str = self.take(key, str, "")
        if value.isascii() and len(value) <= MAX_NAME_LENGTH:
            return value
        if len(value) > MAX_NAME_LENGTH:
            self.problem(key, f"has {len(value)} characters, at most {MAX_NAME_LENGTH} are read")
        if not is_text(value):
            self.problem(key, f"is {_short(value)}, which holds half a character")
        return value

    def integer(self, key: str, least: int, most: int) -> int:
        value = self.record.get(key)
        if type(value) is int and least <= value <= most:
            return value
        return self._within(key, self.take(key, int, None), least, most)

    def items(self, key: str, most: int) -> list[Any]:
        value: list[Any] = self.take(key, list, [])
        if len(value) > most:
            self.problem(key, f"has {len(value)} items, at most {most} are read")
            return []
        return value

    def item_integer(self, key: str, index: int, value: Any, least: int, most: int) -> int:
        if type(value) is int and least <= value <= most:
            return value
        place = f"{key}[{index}]"
        if not isinstance(value, int) or isinstance(value, bool):
            self.problem(place, f"is {_short(value)}, expected int")
            return least
        return self._within(place, value, least, most)

    def child(self, key: str) -> _Fields:
        return _Fields(self.take(key, dict, {}), f"{self.place}{key}.", self.problems)

    def objects(self, key: str, most: int) -> list[_Fields]:
        children = []
        for index, item in enumerate(self.items(key, most)):
            place = f"{self.place}{key}[{index}]"
            if isinstance(item, dict):
                children.append(_Fields(item, f"{place}.", self.problems))
            else:
                self.problem(f"{key}[{index}]", f"is {_short(item)}, expected an object")
        return children

    def _within(self, place: str, value: int | None, least: int, most: int) -> int:
        if value is None:
            return least
        if not least <= value <= most:
            self.problem(place, f"is {_short(value)}, expected {least} to {most}")
            return least
        return value


def _short(value: object, limit: int = 80, show: Callable[[object], str] = repr) -> str:
    shown = show(value)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
