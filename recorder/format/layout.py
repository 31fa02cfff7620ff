"""Where everything lies in a recording: names, dimension order, chunk plan, Zarr documents. Pure functions.

Nothing here touches a store. The numbers behind the choices (4 MiB chunks, counts under 2 %) are given
in FORMAT.md, section "Chunk plan".
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
# Of recordings with frames marked lost: who does not know of them would take what is left there for spikes.
LOST_FORMAT_VERSION: Final = 2
# Of recordings with a layer whose folder is set apart: who does not know of it would look elsewhere.
APART_FORMAT_VERSION: Final = 3

ATTRIBUTE: Final = "spiketape"
ROOT_DOCUMENT: Final = "zarr.json"
GROUPS: Final = ("layers", "trials")

CHUNK_TARGET_BYTES: Final = 4 * 2**20
CHUNK_LIMIT_BYTES: Final = 16 * 2**20
CHUNK_FRAMES_STEP: Final = 64
COUNTS_SHARE: Final = 0.02
TABLE_CHUNK_BYTES: Final = 2**20
TABLE_CHUNK_ROWS: Final = 4096
ZSTD_LEVEL: Final = 1

SEGMENT_COLUMNS: Final = ("first_frame", "first_step", "steps", "batch", "trial")
NO_TRIAL: Final = -1


@dataclass(frozen=True)
class ChunkPlan:
    """How one layer is cut into chunks, and its chunks into blocks.

    Attributes
    ----------
    neuron_shape : tuple of int
        Shape of one frame.
    chunk_frames : int
        Frames in a chunk, a multiple of 64.
    part_rows : int
        Length of a chunk along the first neuron axis. Smaller than that axis only for layers so wide that
        64 frames of them exceed 16 MiB; each chunk of frames is then stored in several *parts*.
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
        """Bytes of one neuron's train in a chunk."""
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
        """Pieces that the first neuron axis is cut into."""
        return -(-self.neuron_shape[0] // self.part_rows) if self.neuron_shape else 1

    @property
    def part_neurons(self) -> int:
        """Neurons in one stored part, those past the end of the axis (always silent) included."""
        return self.part_rows * self.row_neurons

    def part_slice(self, part: int) -> slice:
        """Neurons of the layer, in C order, that a part holds."""
        first = part * self.part_neurons
        return slice(first, min(first + self.part_neurons, self.neurons))

    def part_of(self, trains: NDArray[np.uint8], part: int) -> NDArray[np.uint8]:
        """Trains of one part, shape [part_neurons, bytes]; those past the end of the axis are silent."""
        present = trains[self.part_slice(part)]
        if len(present) == self.part_neurons:
            return present
        padded = np.zeros((self.part_neurons, trains.shape[1]), np.uint8)
        padded[: len(present)] = present
        return padded

    def chunk_count(self, frames: int) -> int:
        """Chunks that ``frames`` frames lie in, a last one that is not full included."""
        return -(-frames // self.chunk_frames)


def plan_chunks(neuron_shape: tuple[int, ...]) -> ChunkPlan:
    """Cut a layer into chunks of about 4 MiB of packed bits.

    Parameters
    ----------
    neuron_shape : tuple of int
        Shape of one frame; ``()`` for a single neuron. Every length must be positive.

    Returns
    -------
    ChunkPlan
        At least 64 frames a chunk; a layer whose 64 frames exceed 16 MiB is split along its first neuron
        axis. A block spans as many chunks as make a row of ``counts`` (4 bytes a neuron) cost at most 2 %
        of the packed bits it sums up.

    Raises
    ------
    ValueError
        If the layer has no neurons.
    """
    neurons = math.prod(neuron_shape)
    if neurons < 1:
        raise ValueError(f"a layer needs at least one neuron, but its neuron shape is {neuron_shape}")
    fitting = CHUNK_TARGET_BYTES * 8 // neurons
    chunk_frames = max(fitting // CHUNK_FRAMES_STEP, 1) * CHUNK_FRAMES_STEP
    part_rows = neuron_shape[0] if neuron_shape else 1
    if neurons * chunk_frames // 8 > CHUNK_LIMIT_BYTES:
        row_bytes = neurons // part_rows * chunk_frames // 8
        parts = -(-part_rows // max(CHUNK_TARGET_BYTES // row_bytes, 1))
        part_rows = -(-part_rows // parts)
    counts_bytes, bits_bytes = 4, chunk_frames // 8
    block_chunks = math.ceil(counts_bytes / (COUNTS_SHARE * bits_bytes))
    return ChunkPlan(neuron_shape, chunk_frames, part_rows, block_chunks)


def neuron_dimensions(neuron_shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the neuron axes: channels first where there are several axes, as in PyTorch.

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
# File systems allow 255 bytes.
_LONGEST_FOLDER: Final = 200


def folder_name(name: str, *, apart: bool = False) -> str:
    """Folder of a layer (or of a column of the trials) named ``name``.

    Letters, digits and ``.``, ``_``, ``-`` stand for themselves, every other byte of the UTF-8 name becomes
    ``=XX``: safe in file systems, bucket keys and URLs alike, and legal as a Zarr node name. The empty name
    (a network that is itself one neuron module) becomes ``=``. A name of more than 200 characters is cut, and
    ends in ``=`` and the first half of its SHA-256.

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


def spikes_chunk_key(folder: str, plan: ChunkPlan, chunk: int, part: int) -> str:
    """Key of one stored chunk of ``spikes``."""
    indices = [chunk, part, *[0] * (len(plan.neuron_shape) - 1)][: 1 + len(plan.neuron_shape)]
    return f"{folder}/spikes/c/" + "/".join(map(str, indices))


def table_chunk_rows(row_shape: tuple[int, ...], itemsize: int) -> int:
    """Rows in a chunk of a small array: a mebibyte of them, at least one, at most 4096."""
    return min(max(TABLE_CHUNK_BYTES // (math.prod(row_shape) * itemsize), 1), TABLE_CHUNK_ROWS)
