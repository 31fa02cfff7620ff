"""Derive every Zarr document (``zarr.json``) of a recording from its commit record. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from recorder.format.arrays import (
    categories_table,
    group_document,
    layer_documents,
    series_documents,
    trial_column_table,
)
from recorder.format.errors import RecordingFormatError
from recorder.format.layout import ATTRIBUTE, CATEGORIES, GROUPS, ROOT_DOCUMENT
from recorder.format.record.metadata import MAX_DOCUMENT_BYTES, RecordingMetadata
from recorder.format.record.operations import KINDS, OPERATIONS
from recorder.format.record.records import to_attributes
from recorder.format.shards import sharded_document


def expected_documents(metadata: RecordingMetadata) -> dict[str, Any]:
    """Every document below the root, as stored: key prefix → document."""
    documents = plain_documents(metadata)
    if not metadata.shard_bytes:
        return documents
    return {folder: sharded_document(each, metadata.shard_bytes) for folder, each in documents.items()}


def plain_documents(metadata: RecordingMetadata) -> dict[str, Any]:
    """Every document below the root as it is while recording, with one key for each chunk, not in shards."""
    documents: dict[str, Any] = {group: group_document() for group in GROUPS}
    for layer in metadata.layers:
        documents |= layer_documents(layer)
    for column in metadata.trials.columns:
        table = trial_column_table(column.name, column.kind)
        documents[table.folder] = table.document(metadata.trials.rows)
        if column.stored:
            documents[CATEGORIES] = group_document()
            categories = categories_table(column.name)
            documents[categories.folder] = categories.document(column.stored.table.rows)
    if metadata.operations is not None:
        attributes = {"weight_layers": [*metadata.operations.weight_layers], "kinds": [*KINDS]}
        documents[OPERATIONS] = group_document(attributes)
        documents |= series_documents(metadata.operations, OPERATIONS)
    return documents


def all_keys(documents: Mapping[str, Any]) -> Iterator[str]:
    """Every key of the groups and arrays with these `plain_documents`: of documents and of chunks."""
    for folder, document in documents.items():
        yield f"{folder}/{ROOT_DOCUMENT}"
        if document["node_type"] == "array":
            chunk_shape = document["chunk_grid"]["configuration"]["chunk_shape"]
            grid = [-(-length // size) for length, size in zip(document["shape"], chunk_shape, strict=True)]
            for index in np.ndindex(*grid):
                yield f"{folder}/c/" + "/".join(map(str, index))


def root_document(metadata: RecordingMetadata, documents: Mapping[str, Any] | None) -> dict[str, Any]:
    """The root document, with the commit record; ``documents``, if given, are consolidated in it."""
    root = group_document(to_attributes(metadata))
    if documents is not None:
        root["consolidated_metadata"] = {
            "kind": "inline",
            "must_understand": False,
            "metadata": dict(documents),
        }
    return root


def encode_document(document: Mapping[str, Any]) -> bytes:
    """Bytes of a Zarr document, in one line: to indent it, the library would take twenty times as long."""
    return json.dumps(document).encode()


def encode_root(root: Mapping[str, Any], place: str) -> bytes:
    """Bytes of a `root_document`.

    Raises
    ------
    RecordingFormatError
        If readers would refuse it for its size. The message begins with ``place``, where it would lie, and
        says what takes most of it.
    """
    encoded = encode_document(root)
    if len(encoded) > MAX_DOCUMENT_BYTES:
        record = root["attributes"][ATTRIBUTE]
        parts = {
            "the categories of the trials, such as labels": record["trials"],
            f"{len(record['layers'])} layers": record["layers"],
            "the provenance": record["provenance"],
            "the layers that are not called": record.get("uncalled"),
            "the connections between layers": record.get("connections"),
            "the consolidated documents of all arrays": root.get("consolidated_metadata"),
        }
        sizes = {what: len(json.dumps(part)) for what, part in parts.items()}
        what = max(sizes, key=sizes.__getitem__)
        raise RecordingFormatError(
            f"{place} would have {len(encoded)} bytes, more than the {MAX_DOCUMENT_BYTES} that readers "
            f"accept; about {sizes[what]} of them are {what}. It was not written"
        )
    return encoded
