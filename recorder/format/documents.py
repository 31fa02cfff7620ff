"""Every Zarr document of a recording, as its commit says that it should be. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from recorder.format.arrays import group_document, layer_documents, trial_column_table
from recorder.format.layout import GROUPS, ROOT_DOCUMENT
from recorder.format.metadata import RecordingMetadata, to_attributes
from recorder.format.shards import sharded_document


def expected_documents(metadata: RecordingMetadata) -> dict[str, Any]:
    """Every document below the root, by key prefix."""
    documents = plain_documents(metadata)
    if not metadata.shard_bytes:
        return documents
    return {folder: sharded_document(each, metadata.shard_bytes) for folder, each in documents.items()}


def plain_documents(metadata: RecordingMetadata) -> dict[str, Any]:
    """The same as they are while recording: a key for each chunk."""
    documents: dict[str, Any] = {group: group_document() for group in GROUPS}
    for layer in metadata.layers:
        documents |= layer_documents(layer)
    for column in metadata.trials.columns:
        table = trial_column_table(column.name, column.kind)
        documents[table.folder] = table.document(metadata.trials.rows)
    return documents


def all_keys(documents: Mapping[str, Any]) -> Iterator[str]:
    """Every key that groups and arrays with these documents have, by key prefix, while recording."""
    for folder, document in documents.items():
        yield f"{folder}/{ROOT_DOCUMENT}"
        if document["node_type"] == "array":
            chunk_shape = document["chunk_grid"]["configuration"]["chunk_shape"]
            grid = [-(-length // size) for length, size in zip(document["shape"], chunk_shape, strict=True)]
            for index in np.ndindex(*grid):
                yield f"{folder}/c/" + "/".join(map(str, index))


def root_document(metadata: RecordingMetadata, documents: Mapping[str, Any] | None) -> dict[str, Any]:
    """The root's document; ``documents`` are what is consolidated in it, if anything."""
    root = group_document(to_attributes(metadata))
    if documents is not None:
        root["consolidated_metadata"] = {
            "kind": "inline",
            "must_understand": False,
            "metadata": dict(documents),
        }
    return root
