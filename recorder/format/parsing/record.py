"""Parse a stored commit record to a `RecordingMetadata`, or raise one error that lists all problems.

Stored bytes are not trusted: every field is checked against its type and the limits in
`recorder.format.record.metadata`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, get_args

from recorder.format.columns import KEYS, identity, is_text
from recorder.format.connections import parse_connections
from recorder.format.errors import RecordingFormatError
from recorder.format.layout import (
    ATTRIBUTE,
    FORMAT_VERSION,
    LOST_FORMAT_VERSION,
    NEWEST_FORMAT_VERSION,
)
from recorder.format.parsing.fields import Fields, short
from recorder.format.parsing.layers import parse_layer, parse_operations, parse_table
from recorder.format.record.metadata import (
    MAX_CATEGORY_BYTES,
    MAX_COLUMNS,
    MAX_DOCUMENT_BYTES,
    MAX_FRAMES,
    MAX_LAYERS,
    MAX_NAME_LENGTH,
    MAX_PROVENANCE_BYTES,
    MAX_ROWS,
    MAX_SHARD_BYTES,
    CategoriesCommit,
    ColumnCommit,
    ColumnKind,
    RecordingMetadata,
    State,
    TrialsCommit,
)
from recorder.format.record.operations import OPERATIONS
from recorder.format.record.pace import PaceCommit
from recorder.format.record.records import record_checksum

# What stands before the documents of arrays in a root document, as `encode_root` writes it.
_CONSOLIDATED: Final = b', "consolidated_metadata": '
_MOST_REMEMBERED: Final = 2**20


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
        parsed = _load(document)
    except (ValueError, RecursionError) as error:
        raise RecordingFormatError(f"{place} is not JSON: {str(error) or type(error).__name__}") from error
    attributes = parsed.get("attributes") if isinstance(parsed, dict) else None
    if not isinstance(attributes, dict) or ATTRIBUTE not in attributes:
        raise RecordingFormatError(
            f'{place} has no attributes["{ATTRIBUTE}"]: this is not a recording made by spiketape'
        )
    return parse_attributes(attributes, place)


def _load(document: bytes) -> Any:
    """The root document as Python values; without the documents of arrays, where these stand last.

    Nobody asks for them here. They are nine tenths of the root of a closed recording, and the same to the
    last byte in a thousand runs of one network: what has been seen to be JSON needs no second look.
    """
    rest, name, documents = document.rpartition(_CONSOLIDATED)
    # What is of another layout, or damaged, is read as a whole, which tells what is wrong.
    with suppress(ValueError, RecursionError):
        if name and len(documents) <= _MOST_REMEMBERED and _is_last_value(documents):
            return json.loads(rest + b"}")
    return json.loads(document)


@lru_cache(maxsize=4)
def _is_last_value(text: bytes) -> bool:
    """True if this is the value of the last key of a JSON object, and the end of the object."""
    return len(json.loads(b'{"": ' + text)) == 1


def parse_attributes(attributes: Mapping[str, Any], place: str) -> RecordingMetadata:
    """Parse the attributes of a recording's root; errors as in `parse_document`."""
    record = attributes[ATTRIBUTE]
    if not isinstance(record, dict):
        raise RecordingFormatError(
            f'{place}: attributes["{ATTRIBUTE}"] is {short(record)}, expected an object'
        )
    version = record.get("format_version")
    if (
        not isinstance(version, int)
        or version is True
        or not FORMAT_VERSION <= version <= NEWEST_FORMAT_VERSION
    ):
        raise RecordingFormatError(
            f"{place} has format version {short(version)}; this spiketape reads versions {FORMAT_VERSION} "
            f"to {NEWEST_FORMAT_VERSION}. A newer spiketape is needed if the version is higher."
        )
    try:
        expected = record_checksum(record)
    except (ValueError, RecursionError) as error:
        raise RecordingFormatError(f"{place}: the commit record is malformed: {error}") from error
    fields = Fields(record, "")
    if record.get("crc32c") != expected:
        fields.problems.append(
            f"crc32c is {short(record.get('crc32c'))}, but its contents give {expected}: altered"
        )
    state = fields.text("state")
    if state not in get_args(State):
        fields.problems.append(f"state is {short(state)}, expected one of {get_args(State)}")
    layers = tuple(parse_layer(layer) for layer in fields.objects("layers", MAX_LAYERS))
    names = [layer.name for layer in layers]
    if len(set(names)) < len(names):
        fields.problems.append(f"layers: names occur twice in {short(names)}")
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
        pace=_parse_pace(fields.child("pace")) if "pace" in record else None,
        operations=parse_operations(fields.child(OPERATIONS)) if OPERATIONS in record else None,
    )
    if version != metadata.format_version:
        fields.problems.append(
            f"format_version is {version}, expected {metadata.format_version}: version "
            f"{LOST_FORMAT_VERSION} is that of recordings with frames marked lost, {NEWEST_FORMAT_VERSION} "
            "of those with a layer whose folder is set apart, with categories in arrays, with values other "
            "than 0 and 1, with signals, with operations, or with a layer of which a part is kept"
        )
    if fields.problems:
        listed = "".join(f"\n  - {problem}" for problem in fields.problems)
        raise RecordingFormatError(
            f"{place}: the commit record has {len(fields.problems)} problem(s):{listed}"
        )
    return metadata


def _parse_provenance(fields: Fields) -> dict[str, Any]:
    provenance: dict[str, Any] = fields.take("provenance", dict, {})
    size = len(json.dumps(provenance))
    if size > MAX_PROVENANCE_BYTES:
        fields.problem("provenance", f"has {size} bytes, at most {MAX_PROVENANCE_BYTES} are read")
    return provenance


def _parse_uncalled(fields: Fields) -> dict[str, int]:
    uncalled = fields.child("uncalled")
    if len(uncalled.record) > MAX_LAYERS:
        fields.problem("uncalled", f"has {len(uncalled.record)} layers, at most {MAX_LAYERS} are read")
        return {}
    for name in uncalled.record:
        if len(name) > MAX_NAME_LENGTH or not is_text(name):
            fields.problem("uncalled", f"names {short(name)}, which is too long or holds half a character")
    return {name: uncalled.integer(name, 0, MAX_FRAMES) for name in uncalled.record}


def _parse_pace(fields: Fields) -> PaceCommit:
    return PaceCommit(
        fields.integer("steps", 0, MAX_FRAMES),
        fields.number("seconds", MAX_FRAMES),
        fields.number("waited", MAX_FRAMES),
    )


def _parse_packing(fields: Fields) -> tuple[int, str]:
    digest = fields.text("digest")
    if not re.fullmatch("[0-9a-f]{64}", digest):
        fields.problem("digest", f"is {short(digest)}, expected 64 hexadecimal digits")
    if fields.record.get("state") != "closed":
        fields.problem("state", "is not 'closed', but only closed recordings are packed")
    return fields.integer("shard_bytes", 1, MAX_SHARD_BYTES), digest


def _parse_trials(fields: Fields) -> TrialsCommit:
    columns = tuple(_parse_column(column) for column in fields.objects("columns", MAX_COLUMNS))
    kinds = {column.name: column.kind for column in columns}
    for name, times in Counter(column.name for column in columns).items():
        if times > 1:
            fields.problem("columns", f"lists {short(name)} {times} times, expected once")
    for key in KEYS if columns else ():
        if kinds.get(key) != "int64":
            fields.problem("columns", f"has {key!r} of kind {short(kinds.get(key))}, expected 'int64'")
    size = sum(column.stored.table.rows for column in columns if column.stored)
    if size > MAX_CATEGORY_BYTES:
        fields.problem("columns", f"have {size} bytes of categories, at most {MAX_CATEGORY_BYTES} are read")
    return TrialsCommit(fields.integer("trials", 0, MAX_ROWS), fields.integer("rows", 0, MAX_ROWS), columns)


def _parse_column(fields: Fields) -> ColumnCommit:
    kind = fields.text("kind")
    if kind not in get_args(ColumnKind):
        fields.problem("kind", f"is {short(kind)}, expected one of {get_args(ColumnKind)}")
    stored = _parse_stored(fields, kind) if isinstance(fields.record.get("categories"), dict) else None
    categories = [] if stored else fields.items("categories", MAX_ROWS)
    plain = [identity(category) for category in categories if isinstance(category, str | int | float)]
    for (_, value), times in Counter(plain).items():
        if times > 1:
            fields.problem("categories", f"hold {short(value)} {times} times, expected once")
    for category in categories:
        if not isinstance(category, str | int | float) or not is_text(category):
            fields.problem("categories", f"holds {short(category)}, expected text, numbers or booleans")
        elif isinstance(category, int) and not -(2**63) < category < 2**63:
            fields.problem("categories", f"holds {short(category)}, a whole number that 64 bits do not hold")
    return ColumnCommit(
        name=fields.text("name"),
        kind=kind,  # type: ignore[arg-type]  # an unknown kind has just been noted as a problem
        crc32c=fields.integer("crc32c", 0, 2**32 - 1),
        categories=tuple(categories),
        stored=stored,
    )


def _parse_stored(fields: Fields, kind: str) -> CategoriesCommit:
    """Extent of an array of categories, each of which takes two bytes at least."""
    if kind != "category":
        fields.problem("categories", f"are in an array, but those of kind {short(kind)} have none")
    stored = fields.child("categories")
    table = parse_table(stored)
    return CategoriesCommit(stored.integer("count", 0, table.rows // 2), table)
