"""Names, keys, dimension names and the chunk plan of a recording. All functions are pure.

FORMAT.md, section "Chunk plan", gives the reasons for the sizes (chunks of 4 MiB, counts under 2 %).
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

FORMAT_VERSION: Final = 1
# Version of recordings with frames marked lost. Readers of version 1 would take such frames for spikes.
LOST_FORMAT_VERSION: Final = 2
# Version of recordings with a layer whose folder is set apart, with categories in arrays, or with values
# other than 0 and 1. Older readers would look elsewhere, or take such values for ones.
NEWEST_FORMAT_VERSION: Final = 3

ATTRIBUTE: Final = "spiketape"
ROOT_DOCUMENT: Final = "zarr.json"
GROUPS: Final = ("layers", "trials")
# The array of a layer's events, and the group of its planes.
SPIKES: Final = "spikes"
PLANES_GROUP: Final = "planes"
# Group of the arrays of categories, where there are any.
CATEGORIES: Final = "categories"

CHUNK_TARGET_BYTES: Final = 4 * 2**20
CHUNK_LIMIT_BYTES: Final = 16 * 2**20
CHUNK_FRAMES_STEP: Final = 64
COUNTS_SHARE: Final = 0.02
TABLE_CHUNK_BYTES: Final = 2**20
TABLE_CHUNK_ROWS: Final = 4096
CATEGORIES_CHUNK_BYTES: Final = 2**18
ZSTD_LEVEL: Final = 1

SEGMENT_COLUMNS: Final = ("first_frame", "first_step", "steps", "batch", "trial")
NO_TRIAL: Final = -1


@dataclass(frozen=True)
class ChunkPlan:
    """The plan by which the spikes of one layer are cut into chunks, parts and blocks.

    The spikes of a layer are an array of frames × neurons. A *chunk* is ``chunk_frames`` consecutive frames
    of all neurons. It is stored under one key, or, in a very wide layer, in several *parts*: one key for each
    ``part_rows`` positions of the first neuron axis. A *block* is ``block_chunks`` consecutive chunks; the
    array ``counts`` has one row for each block. `plan_chunks` shows an example.

    A plan is made when the first frame of a layer arrives, is stored in every commit, and never changes. So
    frame ``f`` always lies in chunk ``f // chunk_frames`` and in block ``f // block_frames``.

    Attributes
    ----------
    neuron_shape : tuple of int
        Shape of one frame; ``()`` for a single neuron.
    chunk_frames : int
        Frames in a chunk, a multiple of 64.
    part_rows : int
        Length of a stored part along the first neuron axis. It is smaller than the axis only where 64 frames
        of the layer exceed 16 MiB.
    block_chunks : int
        Chunks whose spikes are added up in one row of ``counts``.
    """

    neuron_shape: tuple[int, ...]
    chunk_frames: int
    part_rows: int
    block_chunks: int

    @property
    def neurons(self) -> int:
        """Number of neurons of the layer."""
        return math.prod(self.neuron_shape)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of the train of one neuron in a chunk."""
        return self.chunk_frames // 8

    @property
    def block_frames(self) -> int:
        """Frames whose spikes are added up in one row of ``counts``."""
        return self.chunk_frames * self.block_chunks

    @property
    def row_neurons(self) -> int:
        """Neurons at one position of the first neuron axis."""
        return math.prod(self.neuron_shape[1:])

    @property
    def parts(self) -> int:
        """Number of parts in which each chunk is stored."""
        return -(-self.neuron_shape[0] // self.part_rows) if self.neuron_shape else 1

    @property
    def part_neurons(self) -> int:
        """Neurons in one stored part. The last part may include silent neurons past the end of the axis."""
        return self.part_rows * self.row_neurons

    @property
    def part_bytes(self) -> int:
        """Packed bits of one stored part."""
        return self.part_neurons * self.chunk_bytes

    def part_slice(self, part: int) -> slice:
        """Range of the layer's neurons, in C order, that a part holds."""
        first = part * self.part_neurons
        return slice(first, min(first + self.part_neurons, self.neurons))

    def part_of(self, trains: NDArray[np.uint8], part: int) -> NDArray[np.uint8]:
        """Trains of one part, shape [part_neurons, bytes]; neurons past the end of the axis are silent."""
        present = trains[self.part_slice(part)]
        if len(present) == self.part_neurons:
            return present
        padded = np.zeros((self.part_neurons, trains.shape[1]), np.uint8)
        padded[: len(present)] = present
        return padded

    def chunk_count(self, frames: int) -> int:
        """Number of chunks that ``frames`` frames lie in; a last chunk that is not full counts."""
        return -(-frames // self.chunk_frames)


def plan_chunks(
    neuron_shape: tuple[int, ...],
    *,
    target_bytes: int = CHUNK_TARGET_BYTES,
    limit_bytes: int = CHUNK_LIMIT_BYTES,
    counts_share: float = COUNTS_SHARE,
) -> ChunkPlan:
    """Cut a layer into chunks of about 4 MiB of packed bits.

    Parameters
    ----------
    neuron_shape : tuple of int
        Shape of one frame; ``()`` for a single neuron. Every length must be positive.
    target_bytes : int
        Packed bits that a chunk has at most, unless 64 frames have more.
    limit_bytes : int
        Size above which a chunk is stored in several parts.
    counts_share : float
        What a row of ``counts`` may cost, as a share of the packed bits it sums up.

    Returns
    -------
    ChunkPlan
        A chunk has at least 64 frames. A layer whose 64 frames exceed 16 MiB is split along its first neuron
        axis. A block has as many chunks as are needed for its row of ``counts`` (4 bytes a neuron) to take
        at most 2 % of the bytes of its packed bits.

    Raises
    ------
    ValueError
        If the layer has no neurons.

    Examples
    --------
    64 frames of a layer of 64 × 256 × 256 neurons take 32 MiB. So each chunk is stored in 8 parts of 4 MiB,
    with 8 channels each, and 25 chunks make a block:

    >>> plan_chunks((64, 256, 256))
    ChunkPlan(neuron_shape=(64, 256, 256), chunk_frames=64, part_rows=8, block_chunks=25)

    ::

                         channels
        frames           0–7      8–15           56–63
                       +--------+--------+-----+--------+
        0–63           | part 0 | part 1 | ... | part 7 |  chunk 0    |
                       +--------+--------+-----+--------+             |
        64–127         | part 0 | part 1 | ... | part 7 |  chunk 1    |  block 0: row 0 of counts
                       +--------+--------+-----+--------+             |
          ...                                                 ...     |
        1536–1599      | part 0 | part 1 | ... | part 7 |  chunk 24   |
                       +--------+--------+-----+--------+
        1600–1663      | part 0 | part 1 | ... | part 7 |  chunk 25   |  block 1: row 1 of counts
                       +--------+--------+-----+--------+

    Most layers are narrower. Then a chunk has one part, many frames, and is a block by itself:

    >>> plan_chunks((64, 8, 8))
    ChunkPlan(neuron_shape=(64, 8, 8), chunk_frames=8192, part_rows=64, block_chunks=1)
    """
    neurons = math.prod(neuron_shape)
    if neurons < 1:
        raise ValueError(f"a layer needs at least one neuron, but its neuron shape is {neuron_shape}")
    fitting = target_bytes * 8 // neurons
    chunk_frames = max(fitting // CHUNK_FRAMES_STEP, 1) * CHUNK_FRAMES_STEP
    part_rows = neuron_shape[0] if neuron_shape else 1
    if neurons * chunk_frames // 8 > limit_bytes:
        row_bytes = neurons // part_rows * chunk_frames // 8
        parts = -(-part_rows // max(target_bytes // row_bytes, 1))
        part_rows = -(-part_rows // parts)
    counts_bytes, bits_bytes = 4, chunk_frames // 8
    block_chunks = math.ceil(counts_bytes / (counts_share * bits_bytes))
    return ChunkPlan(neuron_shape, chunk_frames, part_rows, block_chunks)


def plan_counts(neuron_shape: tuple[int, ...]) -> ChunkPlan:
    """The plan of a layer of which only counts are kept: its neurons. There are no chunks of bits."""
    return ChunkPlan(neuron_shape, CHUNK_FRAMES_STEP, neuron_shape[0] if neuron_shape else 1, 1)


def neuron_dimensions(neuron_shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the neuron axes. Where there are several, the first is the channel, as in PyTorch.

    Examples
    --------
    >>> neuron_dimensions((64, 8, 8))
    ('channel', 'height', 'width')
    """
    named = {
        0: (),
        1: ("neuron",),
        2: ("channel", "length"),
        3: ("channel", "height", "width"),
        4: ("channel", "depth", "height", "width"),
    }
    rank = len(neuron_shape)
    return named.get(rank) or ("channel", *(f"axis_{axis}" for axis in range(1, rank)))[:rank]


_UNSAFE = re.compile(rb"[^A-Za-z0-9._-]")
_UNSAFE_OR_LETTER = re.compile(rb"[^0-9._-]")
# File systems allow names of 255 bytes; this leaves room for what a store appends.
_LONGEST_FOLDER: Final = 200


def folder_name(name: str, *, apart: bool = False) -> str:
    """Folder of a layer (or of a column of the trials) named ``name``.

    Letters, digits and ``.``, ``_``, ``-`` stand for themselves; every other byte of the UTF-8 name becomes
    ``=XX``. The result is safe in file systems, bucket keys and URLs, and legal as the name of a Zarr node.
    The empty name (of a network that is itself one neuron module) becomes ``=``. A folder name of more than
    200 characters is cut, and ends in ``=`` and the first half of the SHA-256 of ``name``.

    Some file systems take ``lif`` and ``LIF`` for the same folder. So a name that differs from another one by
    case only is set ``apart``: its letters do not stand for themselves either. No such folder differs from
    any other by case only.

    Examples
    --------
    >>> folder_name("features.3"), folder_name("a/b"), folder_name("")
    ('features.3', 'a=2Fb', '=')
    >>> folder_name("fc.1", apart=True)
    '=66=63.1'
    """
    escaped = (
        (_UNSAFE_OR_LETTER if apart else _UNSAFE)
        .sub(lambda match: b"=%02X" % match[0][0], name.encode())
        .decode()
    )
    if escaped.startswith("__") or not escaped.strip("."):
        # Zarr reserves leading "__" and forbids names of periods only.
        escaped = "=" if not escaped else f"={ord(escaped[0]):02X}{escaped[1:]}"
    if len(escaped) > _LONGEST_FOLDER:
        digest = hashlib.sha256(name.encode()).hexdigest()[:32]
        escaped = f"{escaped[: _LONGEST_FOLDER - 33]}={digest}"
    return escaped


def layer_folder(name: str, *, apart: bool = False) -> str:
    """Key prefix of a layer's arrays."""
    return f"layers/{folder_name(name, apart=apart)}"


def trial_column_folder(column: str) -> str:
    """Key prefix of one column of the trials."""
    return f"trials/{folder_name(column)}"


def categories_folder(column: str) -> str:
    """Key prefix of the array that holds the categories of one column of the trials."""
    return f"{CATEGORIES}/{folder_name(column)}"


def plane_folder(folder: str, plane: str) -> str:
    """Key prefix of the array of a plane, given that of its layer."""
    return f"{folder}/{PLANES_GROUP}/{plane}"


def spikes_chunk_key(folder: str, plan: ChunkPlan, chunk: int, part: int) -> str:
    """Key of one stored chunk of ``spikes``."""
    return array_chunk_key(f"{folder}/{SPIKES}", plan, chunk, part)


def plane_chunk_key(folder: str, plane: str, chunk: int, part: int) -> str:
    """Key of one stored chunk of a plane."""
    return f"{plane_folder(folder, plane)}/c/{chunk}/{part}/0"


def array_chunk_key(array: str, plan: ChunkPlan, chunk: int, part: int) -> str:
    """Key of one stored chunk of an array, whose own key prefix is given, that is cut by a plan."""
    indices = [chunk, part, *[0] * (len(plan.neuron_shape) - 1)][: 1 + len(plan.neuron_shape)]
    return f"{array}/c/" + "/".join(map(str, indices))


def table_chunk_rows(row_shape: tuple[int, ...], itemsize: int, most: int = TABLE_CHUNK_ROWS) -> int:
    """Rows in a stored chunk of a small array: as many as fill 1 MiB, at least 1, and not too many."""
    return min(max(TABLE_CHUNK_BYTES // (math.prod(row_shape) * itemsize), 1), most)
