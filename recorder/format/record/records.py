"""The commit record as JSON values, with its checksum, as they stand in the recording's root."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from recorder.format.chunks import checksum
from recorder.format.layout import ATTRIBUTE, folder_name
from recorder.format.record.extents import TableCommit
from recorder.format.record.metadata import ColumnCommit, LayerCommit, RecordingMetadata, ValuesCommit
from recorder.format.record.operations import OPERATIONS, operations_to_json
from recorder.format.record.parts import part_to_json
from recorder.format.record.signals import signals_to_json


def to_attributes(metadata: RecordingMetadata) -> dict[str, Any]:
    """Attributes of the recording's root: the commit record as JSON values, with its checksum."""
    record = to_record(metadata)
    record["crc32c"] = record_checksum(record)
    return {ATTRIBUTE: record}


def to_record(metadata: RecordingMetadata) -> dict[str, Any]:
    """The commit record as JSON values, without its checksum."""
    record: dict[str, Any] = {
        "format_version": metadata.format_version,
        "state": metadata.state,
        "recording_id": metadata.recording_id,
        "created": metadata.created,
        "committed": metadata.committed,
        "commit_number": metadata.commit_number,
        "layers": [_layer_to_json(layer) for layer in metadata.layers],
        "trials": {
            "trials": metadata.trials.trials,
            "rows": metadata.trials.rows,
            "columns": [_column_to_json(column) for column in metadata.trials.columns],
        },
        "provenance": dict(metadata.provenance),
    }
    if metadata.shard_bytes:
        record |= {"shard_bytes": metadata.shard_bytes, "digest": metadata.digest}
    if metadata.uncalled:
        record["uncalled"] = dict(metadata.uncalled)
    if metadata.connections is not None:
        record["connections"] = metadata.connections.to_json()
    if metadata.pace is not None:
        record["pace"] = metadata.pace.to_json()
    if metadata.operations is not None:
        record[OPERATIONS] = operations_to_json(metadata.operations)
    return record


def _column_to_json(column: ColumnCommit) -> dict[str, Any]:
    stored = column.stored
    return {
        "name": column.name,
        "kind": column.kind,
        "crc32c": column.crc32c,
        "categories": list(column.categories)
        if stored is None
        else {"count": stored.count, "rows": stored.table.rows, "crc32c": stored.table.crc32c},
    }


def _layer_to_json(layer: LayerCommit) -> dict[str, Any]:
    plan = layer.plan
    lost = {"lost": [list(frames) for frames in layer.lost]} if layer.lost else {}
    bits = {
        "chunk_frames": plan.chunk_frames,
        "part_rows": plan.part_rows,
        "block_chunks": plan.block_chunks,
        "checksums": _table_to_json(layer.checksums),
        "tail": list(layer.tail),
    }
    return {
        "name": layer.name,
        "layer_class": layer.layer_class,
        "dtype": layer.dtype,
        "neuron_shape": list(layer.shape),
        "frames": layer.frames,
        "counts_checksums": _table_to_json(layer.counts_checksums),
        "segments": _table_to_json(layer.segments),
        **({} if layer.counts_only else bits),
        **part_to_json(layer.part),
        **lost,
        **({"folder": folder_name(layer.name, apart=True)} if layer.is_apart else {}),
        **({"values": _values_to_json(layer.values)} if layer.values else {}),
        **signals_to_json(layer.signals),
    }


def _values_to_json(values: ValuesCommit) -> dict[str, Any]:
    return {
        "scale": values.scale,
        "range": [values.least, values.most],
        "planes": [
            {
                "name": plane.name,
                "first_chunk": plane.first_chunk,
                "counts_checksums": _table_to_json(plane.counts_checksums),
                "checksums": _table_to_json(plane.checksums),
                "tail": list(plane.tail),
            }
            for plane in values.planes
        ],
    }


def _table_to_json(table: TableCommit) -> dict[str, int]:
    return {"rows": table.rows, "crc32c": table.crc32c}


def record_checksum(record: Mapping[str, Any]) -> int:
    """Crc32c of the record as compact JSON with sorted keys, in ASCII, without its own ``crc32c``."""
    rest = {key: value for key, value in record.items() if key != "crc32c"}
    return checksum(json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
