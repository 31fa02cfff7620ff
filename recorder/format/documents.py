"""Every Zarr document of a recording, as its commit says that it should be. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recorder.format.layout import (
    ATTRIBUTE,
    SEGMENT_COLUMNS,
    group_document,
    layer_folder,
    neuron_dimensions,
    spikes_document,
    table_document,
    trial_column_folder,
)
from recorder.format.metadata import RecordingMetadata, to_attributes
from recorder.format.sharding import sharded_document


def expected_documents(metadata: RecordingMetadata) -> dict[str, Any]:
    """Every document below the root, by key prefix."""
    documents = plain_documents(metadata)
    if not metadata.shard_bytes:
        return documents
    return {folder: sharded_document(each, metadata.shard_bytes) for folder, each in documents.items()}


def plain_documents(metadata: RecordingMetadata) -> dict[str, Any]:
    """The same as they are while recording: a key for each chunk."""
    documents: dict[str, Any] = {"layers": group_document(), "trials": group_document()}
    for layer in metadata.layers:
        folder, plan = layer_folder(layer.name), layer.plan
        blocks, chunks = layer.counts_checksums.rows, layer.checksums.rows
        neurons = neuron_dimensions(plan.neuron_shape)
        columns = len(SEGMENT_COLUMNS)
        documents |= {
            folder: group_document({"name": layer.name}),
            f"{folder}/spikes": spikes_document(plan, layer.frames),
            f"{folder}/counts": table_document(blocks, plan.neuron_shape, "uint32", ("block", *neurons)),
            f"{folder}/counts_checksums": table_document(blocks, (), "uint32", ("block",)),
            f"{folder}/checksums": table_document(chunks, (plan.parts,), "uint32", ("chunk", "part")),
            f"{folder}/segments": table_document(
                layer.segments.rows,
                (columns,),
                "int64",
                ("segment", "column"),
                {"columns": list(SEGMENT_COLUMNS)},
            ),
        }
    for column in metadata.trials.columns:
        data_type = "float64" if column.kind == "float64" else "int64"
        documents[trial_column_folder(column.name)] = table_document(
            metadata.trials.rows, (), data_type, ("presentation",), {ATTRIBUTE: {"kind": column.kind}}
        )
    return documents


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
