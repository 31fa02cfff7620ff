"""The one list of the arrays of a recording: the key, data type, shape and Zarr document of each.

The writer, the reader, verification and recovery take every array from here. All functions are pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from recorder.format.layout import (
    ATTRIBUTE,
    CATEGORIES_CHUNK_BYTES,
    PLANES_GROUP,
    SEGMENT_COLUMNS,
    SPIKES,
    TABLE_CHUNK_ROWS,
    ZSTD_LEVEL,
    ChunkPlan,
    categories_folder,
    layer_folder,
    neuron_dimensions,
    plane_folder,
    table_chunk_rows,
    trial_column_folder,
)
from recorder.format.record.metadata import ColumnKind, LayerCommit, PlaneCommit
from recorder.format.record.signals import SIGNALS, VALUES, SignalCommit


@dataclass(frozen=True)
class TableLayout:
    """The layout of one small array that grows by rows; `recorder.tape.tables` writes and reads it.

    Attributes
    ----------
    folder : str
        Key prefix of the array.
    data_type : str
        Zarr data type, e.g. ``"uint32"``.
    dimensions : tuple of str
        Names of the axes; the first axis counts the rows.
    row_shape : tuple of int
        Shape of one row; ``()`` where a row is one number.
    attributes : mapping
        User attributes in the array's Zarr document.
    most_chunk_rows : int
        Most rows in a stored chunk.
    """

    folder: str
    data_type: str
    dimensions: tuple[str, ...]
    row_shape: tuple[int, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    most_chunk_rows: int = TABLE_CHUNK_ROWS

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the rows in memory."""
        return np.dtype(self.data_type)

    @cached_property
    def chunk_rows(self) -> int:
        """Rows in a stored chunk."""
        return table_chunk_rows(self.row_shape, self.dtype.itemsize, self.most_chunk_rows)

    def chunk_key(self, chunk: int) -> str:
        """Key of a stored chunk."""
        return f"{self.folder}/c/" + "/".join(map(str, [chunk, *[0] * len(self.row_shape)]))

    def document(self, rows: int) -> dict[str, Any]:
        """Zarr v3 document of the array when it has ``rows`` rows."""
        return _array_document(
            shape=(rows, *self.row_shape),
            chunk_shape=(self.chunk_rows, *self.row_shape),
            data_type=self.data_type,
            dimensions=self.dimensions,
            codecs=[
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}},
                {"name": "crc32c"},
            ],
            attributes=self.attributes,
        )


class LayerTables(NamedTuple):
    """The four small arrays that every layer has beside its ``spikes``, and every plane beside its bits."""

    counts: TableLayout
    counts_checksums: TableLayout
    checksums: TableLayout
    segments: TableLayout


# A thousand runs of one network have the same few layers.
@lru_cache(maxsize=1024)
def layer_tables(name: str, plan: ChunkPlan, *, is_apart: bool = False) -> LayerTables:
    """Layouts of the small arrays of the layer named ``name``, whose folder may be set apart."""
    folder = layer_folder(name, apart=is_apart)
    blocks = ("block", *neuron_dimensions(plan.neuron_shape))
    return LayerTables(
        TableLayout(f"{folder}/counts", "uint32", blocks, plan.neuron_shape),
        TableLayout(f"{folder}/counts_checksums", "uint32", ("block",)),
        TableLayout(f"{folder}/checksums", "uint32", ("chunk", "part"), (plan.parts,)),
        TableLayout(
            f"{folder}/segments",
            "int64",
            ("segment", "column"),
            (len(SEGMENT_COLUMNS),),
            {"columns": list(SEGMENT_COLUMNS)},
        ),
    )


# The groups that a layer with planes has: of the planes, and of the small arrays of each.
PLANE_GROUPS = (PLANES_GROUP, *(f"plane_{table}" for table in LayerTables._fields if table != "segments"))


def plane_tables(commit: LayerCommit, plane: str) -> LayerTables:
    """Layouts of the small arrays of one plane; it has the segments of its layer."""
    layer = layer_tables(commit.name, commit.plan, is_apart=commit.is_apart)
    *tables, segments = layer
    names = LayerTables._fields
    moved = (
        replace(table, folder=f"{commit.folder}/plane_{name}/{plane}")
        for name, table in zip(names, tables, strict=False)
    )
    return LayerTables._make([*moved, segments])


class SignalTables(NamedTuple):
    """The two small arrays that every signal has beside its ``values``."""

    checksums: TableLayout
    segments: TableLayout


def signal_tables(folder: str, plan: ChunkPlan) -> SignalTables:
    """Layouts of the small arrays of the signal whose group has this key prefix."""
    return SignalTables(
        TableLayout(f"{folder}/checksums", "uint32", ("chunk", "part"), (plan.parts,)),
        TableLayout(
            f"{folder}/segments",
            "int64",
            ("segment", "column"),
            (len(SEGMENT_COLUMNS),),
            {"columns": list(SEGMENT_COLUMNS)},
        ),
    )


def series_documents(signal: SignalCommit, folder: str) -> dict[str, dict[str, Any]]:
    """Zarr documents of the arrays of a signal, or of operations, whose group has this key prefix."""
    tables = signal_tables(folder, signal.plan)
    return {
        f"{folder}/{VALUES}": values_document(signal),
        tables.checksums.folder: tables.checksums.document(signal.checksums.rows),
        tables.segments.folder: tables.segments.document(signal.segments.rows),
    }


def _signal_documents(layer_folder: str, signals: tuple[SignalCommit, ...]) -> dict[str, dict[str, Any]]:
    """Zarr documents of the groups and arrays of a layer's signals as of a commit."""
    if not signals:
        return {}
    documents = {f"{layer_folder}/{SIGNALS}": group_document()}
    documents |= {signal.folder(layer_folder): group_document({"name": signal.name}) for signal in signals}
    for signal in signals:
        documents |= series_documents(signal, signal.folder(layer_folder))
    return documents


def trial_column_table(name: str, kind: ColumnKind) -> TableLayout:
    """Layout of the array that holds one column of the table of trials."""
    data_type = "float64" if kind == "float64" else "int64"
    return TableLayout(
        trial_column_folder(name), data_type, ("presentation",), attributes={ATTRIBUTE: {"kind": kind}}
    )


def categories_table(column: str) -> TableLayout:
    """Layout of the array that holds the categories of one column of the table of trials."""
    return TableLayout(
        categories_folder(column),
        "uint8",
        ("byte",),
        attributes={"media_type": "application/jsonl"},
        most_chunk_rows=CATEGORIES_CHUNK_BYTES,
    )


def layer_documents(commit: LayerCommit) -> dict[str, dict[str, Any]]:
    """Zarr documents of a layer's group and arrays as of a commit: key prefix → document."""
    tables = layer_tables(commit.name, commit.plan, is_apart=commit.is_apart)
    folder = commit.folder
    documents = {
        folder: group_document({"name": commit.name}),
        f"{folder}/{SPIKES}": spikes_document(commit.plan, commit.frames),
        **_bits_documents(tables, commit),
        tables.segments.folder: tables.segments.document(commit.segments.rows),
    }
    if commit.counts_only:
        del documents[f"{folder}/{SPIKES}"], documents[tables.checksums.folder]
    planes = commit.values.planes if commit.values else ()
    described: dict[str, dict[str, Any]] = {}
    for plane in planes:
        documents |= {f"{folder}/{group}": group_document() for group in PLANE_GROUPS}
        described[plane_folder(folder, plane.name)] = plane_document(commit.plan, commit.frames)
        described |= _bits_documents(plane_tables(commit, plane.name), plane)
    # Arrays of one group follow each other: zarr-python 3.1.6 takes only the last run of these.
    for key in sorted(described, key=lambda key: key.rsplit("/", 1)[0]):
        documents[key] = described[key]
    return documents | _signal_documents(folder, commit.signals)


def _bits_documents(tables: LayerTables, commit: LayerCommit | PlaneCommit) -> dict[str, dict[str, Any]]:
    """Zarr documents of the small arrays beside bits."""
    return {
        tables.counts.folder: tables.counts.document(commit.counts_checksums.rows),
        tables.counts_checksums.folder: tables.counts_checksums.document(commit.counts_checksums.rows),
        tables.checksums.folder: tables.checksums.document(commit.checksums.rows),
    }


def group_document(attributes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Zarr v3 document of a group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes or {})}


def spikes_document(plan: ChunkPlan, frames: int) -> dict[str, Any]:
    """Zarr v3 document of ``spikes``: bool, shape ``(frame, *neuron)``.

    The codecs put the frame axis last, so that the spike train of each neuron is contiguous in a chunk.
    """
    rank = 1 + len(plan.neuron_shape)
    return _array_document(
        shape=(frames, *plan.neuron_shape),
        chunk_shape=(plan.chunk_frames, *((plan.part_rows, *plan.neuron_shape[1:]) if rank > 1 else ())),
        data_type="bool",
        dimensions=("frame", *neuron_dimensions(plan.neuron_shape)),
        codecs=[
            {"name": "transpose", "configuration": {"order": [*range(1, rank), 0]}},
            {"name": "numcodecs.packbits", "configuration": {}},
            {"name": "bytes"},
            {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}},
            {"name": "crc32c"},
        ],
    )


def plane_document(plan: ChunkPlan, frames: int) -> dict[str, Any]:
    """Zarr v3 document of a plane: uint8, shape ``(chunk, part, byte)``, a stored chunk for each part.

    The bytes hold the bits of the plane at events, see `recorder.format.planes.at_events`; all behind them
    is 0.
    """
    return _array_document(
        shape=(plan.chunk_count(frames), plan.parts, plan.part_bytes),
        chunk_shape=(1, 1, plan.part_bytes),
        data_type="uint8",
        dimensions=("chunk", "part", "byte"),
        codecs=[
            {"name": "bytes"},
            {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}},
            {"name": "crc32c"},
        ],
    )


def values_document(signal: SignalCommit) -> dict[str, Any]:
    """Zarr v3 document of the values of a signal, shape ``(frame, *neuron)``; the frame axis is put last."""
    plan = signal.plan
    rank = 1 + len(plan.neuron_shape)
    return _array_document(
        shape=(signal.frames, *plan.neuron_shape),
        chunk_shape=(plan.chunk_frames, *((plan.part_rows, *plan.neuron_shape[1:]) if rank > 1 else ())),
        data_type=signal.dtype,
        dimensions=("frame", *signal.dimensions),
        codecs=[
            {"name": "transpose", "configuration": {"order": [*range(1, rank), 0]}},
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}},
            {"name": "crc32c"},
        ],
    )


def _array_document(
    *,
    shape: tuple[int, ...],
    chunk_shape: tuple[int, ...],
    data_type: str,
    dimensions: tuple[str, ...],
    codecs: list[dict[str, Any]],
    attributes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": False if data_type == "bool" else 0,
        "codecs": codecs,
        "attributes": dict(attributes or {}),
        "dimension_names": list(dimensions),
        "storage_transformers": [],
    }
