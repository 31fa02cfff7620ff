"""The commit record as frozen dataclasses.

`recorder.format.record.records` makes attributes of the recording's root of them, and
`recorder.format.parsing.record` turns stored attributes back, and checks every field against its type and the
limits below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from recorder.format.connections import Connections
from recorder.format.layout import (
    FORMAT_VERSION,
    LOST_FORMAT_VERSION,
    NEWEST_FORMAT_VERSION,
    ChunkPlan,
    layer_folder,
)
from recorder.format.record.extents import TableCommit
from recorder.format.record.operations import OperationsCommit
from recorder.format.record.pace import PaceCommit
from recorder.format.record.parts import Indices, LayerPart, indices_along, is_flat
from recorder.format.record.signals import SignalCommit

State = Literal["recording", "closed"]
ColumnKind = Literal["int64", "float64", "category"]

# Limits on what a recording may declare. They protect readers of recordings from strangers, and lie far
# above anything that is really recorded.
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
# All categories of a recording as JSON.
MAX_CATEGORY_BYTES: Final = 2**28

DTYPES: Final = (
    *("bool", "uint8", "int8", "int16", "int32", "int64"),
    *("float16", "bfloat16", "float32", "float64"),
)


@dataclass(frozen=True)
class PlaneCommit:
    """The promise of a commit about one plane of a layer's values, of which bits at events are stored.

    Attributes
    ----------
    name : str
        One of `recorder.format.planes.values.PLANES`.
    first_chunk : int
        The chunk from which on the plane is stored. Before it the plane is silent, and has no chunks.
    counts_checksums, checksums : TableCommit
        As those of the layer, for this plane. Their rows begin with the first chunk of the layer.
    tail : tuple of int
        As that of the layer.
    """

    name: str
    first_chunk: int
    counts_checksums: TableCommit
    checksums: TableCommit
    tail: tuple[int, ...]


@dataclass(frozen=True)
class ValuesCommit:
    """The promise of a commit about the values of a layer that puts out others than 0 and 1.

    Attributes
    ----------
    scale : float
        Positive; each value is a whole multiple of it, its level. 1 where all values are whole numbers.
    least, most : int
        Range of the levels so far, 0 included.
    planes : tuple of PlaneCommit
        By place, the sign last.
    """

    scale: float
    least: int
    most: int
    planes: tuple[PlaneCommit, ...] = ()


@dataclass(frozen=True)
class LayerCommit:
    """The promise of a commit about one layer.

    A commit promises the first ``frames`` frames of the layer, and says by checksums which bytes hold them.
    The array ``checksums`` has the crc32c of each stored chunk of ``spikes``, the array ``counts_checksums``
    that of each row of ``counts``. Both arrays, and ``segments``, are named here by a crc32c of their own.

    A store may hold more than was committed, because writing goes on. A last chunk that is not full will be
    replaced by a longer one that begins with the same frames; so the commit names its frames (``tail``) and
    not its bytes.

    Attributes
    ----------
    name : str
        PyTorch module name of the layer.
    layer_class : str
        Qualified name of the module's class. It is shown to people; nothing is imported from it.
    dtype : str
        Data type of the layer's output, e.g. ``"float32"``.
    plan : ChunkPlan
        Sizes of chunks, parts and blocks.
    frames : int
        Number of committed frames.
    counts_checksums : TableCommit
        Extent of the array of crc32c of the rows of ``counts``. ``counts`` has as many rows.
    segments : TableCommit
        Extent of the array of segments.
    checksums : TableCommit
        Extent of the array of crc32c of the stored chunks of ``spikes``.
    tail : tuple of int
        For a last chunk that is not full, the crc32c of the packed trains of each part, with every frame from
        ``frames`` on set to silence; ``()`` if there is no such chunk.
    lost : tuple of (int, int)
        Ranges of damaged frames that were given up, ``(first, last exclusive)``: whole steps, ascending, not
        touching each other. The commit promises nothing of these frames, nor of the rows of ``counts`` of
        blocks that contain any.
    is_apart : bool
        Whether the layer's folder is set apart from that of another one, whose name differs by case only.
    values : ValuesCommit or None
        Of a layer that has put out values other than 0 and 1; None of others.
    signals : tuple of SignalCommit
        What is recorded beside the spikes, in the order in which it came.
    part : LayerPart or None
        The part of the layer that is kept; None where it is the whole. The neuron shape of ``plan`` is that
        of what is stored.
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
    values: ValuesCommit | None = None
    signals: tuple[SignalCommit, ...] = ()
    part: LayerPart | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Neuron shape of the whole layer."""
        return self.part.shape if self.part else self.plan.neuron_shape

    @property
    def axes(self) -> tuple[int, ...]:
        """Lengths that the axes of what is stored have in the whole layer: one where it has flat indices."""
        if self.part and is_flat(self.part.neurons):
            return (math.prod(self.part.shape),)
        return self.shape

    @property
    def along(self) -> tuple[Indices, ...] | None:
        """Indices of the stored neurons along each of `axes`; None where all neurons are stored."""
        return indices_along(self.part.neurons) if self.part else None

    @property
    def counts_only(self) -> bool:
        """True if there are counts in place of bits."""
        return self.part is not None and self.part.counts_only

    @property
    def folder(self) -> str:
        """Key prefix of the layer's arrays."""
        return layer_folder(self.name, apart=self.is_apart)

    @property
    def lost_frames(self) -> int:
        """Number of frames marked lost."""
        return sum(last - first for first, last in self.lost)


@dataclass(frozen=True)
class CategoriesCommit:
    """The committed extent of the array that holds the categories of one column.

    Attributes
    ----------
    count : int
        Number of categories.
    table : TableCommit
        Extent of the array, whose rows are bytes.
    """

    count: int
    table: TableCommit


@dataclass(frozen=True)
class ColumnCommit:
    """The promise of a commit about one column of the table of trials.

    Attributes
    ----------
    name : str
        Name of the column, e.g. ``"label"``.
    kind : {"int64", "float64", "category"}
        Data type of the values. A category column stores an ``int64`` index into ``categories`` for each row.
    crc32c : int
        Checksum of the committed rows.
    categories : tuple of str, int, float or bool
        Values of a category column, in order of first appearance; ``()`` for other kinds, and for categories
        in an array. `recorder.tape.trial_columns.read_categories` gives them wherever they are.
    stored : CategoriesCommit or None
        Extent of the array of the categories; None if they stand in the record.
    """

    name: str
    kind: ColumnKind
    crc32c: int
    categories: tuple[str | int | float | bool, ...] = ()
    stored: CategoriesCommit | None = None


@dataclass(frozen=True)
class TrialsCommit:
    """The promise of a commit about the table of trials.

    Attributes
    ----------
    trials : int
        Number of trials begun.
    rows : int
        Number of rows, one for each sample of each trial.
    columns : tuple of ColumnCommit
        Columns of the table, each with ``rows`` rows.
    """

    trials: int = 0
    rows: int = 0
    columns: tuple[ColumnCommit, ...] = ()


@dataclass(frozen=True)
class RecordingMetadata:
    """One commit record: everything that a recording promises at one moment.

    The record has a `LayerCommit` for each layer, a `TrialsCommit`, and facts about the whole recording. It
    names, by checksum and directly or through a small array, every committed byte. Layers that were called
    in the same steps are committed with the same steps.

    A record is immutable. The next commit writes a new one in its place, which promises all that this one
    promised; only recovery, on request, promises less.

    Attributes
    ----------
    state : {"recording", "closed"}
        ``"recording"`` while it grows, and also after an interruption.
    recording_id : str
        Random identifier, which never changes.
    created, committed : str
        Time of creation, and of this commit, ISO 8601 in UTC.
    commit_number : int
        Number of this commit, counted from 0.
    layers : tuple of LayerCommit
        Layers that have frames, in network order.
    trials : TrialsCommit
        The table of trials.
    provenance : mapping
        JSON values that say what was recorded, where and with what.
    shard_bytes : int
        Most decoded bytes in a shard of a packed recording; 0 for a recording that is not packed.
    digest : str
        Digest of a packed recording, see `recorder.keeping.digest`; empty for one that is not packed.
    uncalled : mapping of str to int
        Layers of the network that were found and are not called: the step from which on they have not been.
    connections : Connections, optional
        Which weight layers read the layers; None if no forward has shown it.
    pace : PaceCommit, optional
        How fast its writer was; None where nothing ran here.
    operations : OperationsCommit, optional
        What weight layers have done in each frame; None where that was not counted.
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
    uncalled: Mapping[str, int] = field(default_factory=dict)
    connections: Connections | None = None
    pace: PaceCommit | None = None
    operations: OperationsCommit | None = None

    @property
    def format_version(self) -> int:
        """Lowest version of the format whose readers understand this recording."""
        if any(layer.is_apart or layer.values or layer.signals or layer.part for layer in self.layers):
            return NEWEST_FORMAT_VERSION
        if self.operations is not None or any(column.stored for column in self.trials.columns):
            return NEWEST_FORMAT_VERSION
        return LOST_FORMAT_VERSION if any(layer.lost for layer in self.layers) else FORMAT_VERSION

    def next_commit(self, **changes: Any) -> RecordingMetadata:
        """The record of the next commit: this one with the next number and some fields changed."""
        return replace(self, commit_number=self.commit_number + 1, **changes)
