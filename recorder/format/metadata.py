"""The commit record: attributes of the recording's root ⇄ frozen dataclasses.

What comes from a store is foreign until parsed: `parse_attributes` returns a `RecordingMetadata` whose every
field has been checked against its type and the limits below, or raises one error that lists all problems.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from recorder.format.chunks import checksum
from recorder.format.layout import (
    APART_FORMAT_VERSION,
    ATTRIBUTE,
    FORMAT_VERSION,
    LOST_FORMAT_VERSION,
    ChunkPlan,
    folder_name,
    layer_folder,
)

State = Literal["recording", "closed"]
ColumnKind = Literal["int64", "float64", "category"]

# Limits on what a stranger's recording may declare, far above anything recorded in earnest.
MAX_DOCUMENT_BYTES: Final = 256 * 2**20
MAX_RANK: Final = 16
MAX_NAME_LENGTH: Final = 1024
MAX_LAYERS: Final = 100_000
MAX_COLUMNS: Final = 1000
MAX_NEURONS: Final = 2**34
MAX_CHUNK_BYTES: Final = 2**28
MAX_CHUNKS: Final = 2**28
MAX_FRAMES: Final = 2**53
MAX_ROWS: Final = 2**40
MAX_LOST: Final = 100_000
MAX_SHARD_BYTES: Final = 2**40
MAX_PROVENANCE_BYTES: Final = 2**22

DTYPES: Final = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
)


@dataclass(frozen=True)
class TableCommit:
    """How much of a small array is committed.

    Attributes
    ----------
    rows : int
        Rows that count; what is stored behind them is not committed yet.
    crc32c : int
        Checksum of these rows, little-endian in C order.
    """

    rows: int = 0
    crc32c: int = 0


@dataclass(frozen=True)
class LayerCommit:
    """One layer as of a commit.

    Attributes
    ----------
    name : str
        PyTorch module name.
    layer_class : str
        Qualified name of the module's class, for the reader; nothing is imported from it.
    dtype : str
        Data type of the layer's output, e.g. ``"float32"``.
    plan : ChunkPlan
    frames : int
        Committed frames.
    checksums : TableCommit
        Names each stored chunk of ``spikes``.
    counts_checksums : TableCommit
        Names each row of ``counts``, of which there are as many.
    segments : TableCommit
    tail : tuple of int
        For a last chunk that is not full: crc32c of its packed trains with every frame behind ``frames``
        silenced, one for each part. It holds for that chunk and for each longer self that replaces it.
    lost : tuple of (int, int)
        Frames that were damaged and are given up: ranges of whole steps, the second number exclusive,
        ascending, none touching the next. Nothing is promised of them, nor of the rows of ``counts`` of the
        blocks that they lie in.
    is_apart : bool
        Whether the layer's folder is set apart from that of another one, whose name differs by case only.
    """

    name: str
    layer_class: str
    dtype: str
    plan: ChunkPlan
    frames: int
    counts_checksums: TableCommit
    segments: TableCommit
    checksums: TableCommit
    tail: tuple[int, ...]
    lost: tuple[tuple[int, int], ...] = ()
    is_apart: bool = False

    @property
    def folder(self) -> str:
        """Key prefix of the layer's arrays."""
        return layer_folder(self.name, apart=self.is_apart)

    @property
    def lost_frames(self) -> int:
        """Number of frames marked lost."""
        return sum(last - first for first, last in self.lost)


@dataclass(frozen=True)
class ColumnCommit:
    """One column of the trials: a value for each sample presented.

    Attributes
    ----------
    name : str
    kind : {"int64", "float64", "category"}
        A category column stores ``int64`` places in ``categories``.
    crc32c : int
        Checksum of its committed rows.
    categories : tuple
        Values that the places of a category column stand for: str, int, float or bool.
    """

    name: str
    kind: ColumnKind
    crc32c: int
    categories: tuple[str | int | float | bool, ...] = ()


@dataclass(frozen=True)
class TrialsCommit:
    """The table of trials as of a commit: ``trials`` of them, with ``rows`` samples in all."""

    trials: int = 0
    rows: int = 0
    columns: tuple[ColumnCommit, ...] = ()


@dataclass(frozen=True)
class RecordingMetadata:
    """A recording as of a commit.

    Attributes
    ----------
    state : {"recording", "closed"}
    recording_id : str
        Random identifier, the same for the life of the recording.
    created, committed : str
        Time of creation and of this commit, ISO 8601 in UTC.
    commit_number : int
    layers : tuple of LayerCommit
        In network order.
    trials : TrialsCommit
    provenance : mapping
        What was recorded, where and with what; JSON values.
    shard_bytes : int
        Of a recording packed for keeping: decoded bytes that a shard holds at most. Otherwise 0.
    digest : str
        Of a packed recording: what `recorder.keeping.digest` says of it. Otherwise empty.
    """

    state: State
    recording_id: str
    created: str
    committed: str
    commit_number: int
    layers: tuple[LayerCommit, ...] = ()
    trials: TrialsCommit = field(default_factory=TrialsCommit)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    shard_bytes: int = 0
    digest: str = ""

    @property
    def format_version(self) -> int:
        """The lowest version of the format whose readers read this recording right."""
        if any(layer.is_apart for layer in self.layers):
            return APART_FORMAT_VERSION
        return LOST_FORMAT_VERSION if any(layer.lost for layer in self.layers) else FORMAT_VERSION

    def next_commit(self, **changes: Any) -> RecordingMetadata:
        """Metadata of the commit after this one."""
        return replace(self, commit_number=self.commit_number + 1, **changes)


def to_attributes(metadata: RecordingMetadata) -> dict[str, Any]:
    """Attributes of the recording's root, the checksum of the record included."""
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
            "columns": [
                {"name": c.name, "kind": c.kind, "crc32c": c.crc32c, "categories": list(c.categories)}
                for c in metadata.trials.columns
            ],
        },
        "provenance": dict(metadata.provenance),
    }
    if metadata.shard_bytes:
        record |= {"shard_bytes": metadata.shard_bytes, "digest": metadata.digest}
    record["crc32c"] = _record_checksum(record)
    return {ATTRIBUTE: record}


def _layer_to_json(layer: LayerCommit) -> dict[str, Any]:
    plan = layer.plan
    lost = {"lost": [list(frames) for frames in layer.lost]} if layer.lost else {}
    return {
        "name": layer.name,
        "layer_class": layer.layer_class,
        "dtype": layer.dtype,
        "neuron_shape": list(plan.neuron_shape),
        "chunk_frames": plan.chunk_frames,
        "part_rows": plan.part_rows,
        "block_chunks": plan.block_chunks,
        "frames": layer.frames,
        "counts_checksums": {"rows": layer.counts_checksums.rows, "crc32c": layer.counts_checksums.crc32c},
        "segments": {"rows": layer.segments.rows, "crc32c": layer.segments.crc32c},
        "checksums": {"rows": layer.checksums.rows, "crc32c": layer.checksums.crc32c},
        "tail": list(layer.tail),
        **lost,
        **({"folder": folder_name(layer.name, apart=True)} if layer.is_apart else {}),
    }


def _record_checksum(record: Mapping[str, Any]) -> int:
    """Crc32c of the record as compact JSON with sorted keys, in ASCII, without its own ``crc32c``."""
    rest = {key: value for key, value in record.items() if key != "crc32c"}
    return checksum(json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
