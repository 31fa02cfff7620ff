"""Shards of packed recordings: many stored chunks under one key, by Zarr's ``sharding_indexed`` codec.

A chunk has the same bytes in a shard as under a key of its own. So a packed recording is read through a
`recorder.stores.sharded.ShardedStore`, which looks up each chunk in its shard; readers see no difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.format.chunks import checksum

# Most decoded bytes in a shard. Compressed they are about 300 MB, so that a failed upload costs little.
SHARD_BYTES: Final = 2**30
MAX_SHARD_CHUNKS: Final = 4096

# Offset and length, in the index of a shard, of a chunk that the shard does not hold.
ABSENT: Final = 2**64 - 1
INDEX_CRC_BYTES: Final = 4

Index = NDArray[np.uint64]


@dataclass(frozen=True)
class ShardPlan:
    """The plan by which the grid of chunks of one array is cut into shards, along its first axis only.

    Attributes
    ----------
    rows : int
        Rows of the grid of chunks in one shard: chunks along the first axis.
    parts : tuple of int
        Chunks along each of the other axes. A shard holds all of them.
    total_rows : int
        Rows of the whole grid: chunks along the first axis of the array.
    """

    rows: int
    parts: tuple[int, ...]
    total_rows: int

    @property
    def slots(self) -> int:
        """Number of chunks that a full shard holds."""
        return self.rows * math.prod(self.parts)

    @property
    def index_bytes(self) -> int:
        """Bytes of a shard's index: offset and length of each chunk, and a checksum."""
        return self.slots * 16 + INDEX_CRC_BYTES

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.total_rows // self.rows)

    def shard_key(self, folder: str, shard: int) -> str:
        """Key of a shard."""
        return f"{folder}/c/" + "/".join(map(str, [shard, *[0] * len(self.parts)]))

    def chunk_keys(self, folder: str, shard: int) -> Iterator[str]:
        """Keys that the chunks of a shard have while recording, in the order of the shard's index."""
        for row in range(shard * self.rows, min((shard + 1) * self.rows, self.total_rows)):
            for place in np.ndindex(self.parts):
                yield f"{folder}/c/" + "/".join(map(str, [row, *place]))

    def place_of(self, key: str) -> tuple[str, int] | None:
        """Shard key of the chunk ``key``, and its slot in the shard; None if the array has no such chunk."""
        folder, _, place = key.rpartition("/c/")
        row, *part = map(int, place.split("/"))
        if row >= self.total_rows or any(p >= most for p, most in zip(part, self.parts, strict=True)):
            return None
        slot = int(np.ravel_multi_index((row % self.rows, *part), (self.rows, *self.parts)))
        return self.shard_key(folder, row // self.rows), slot


def plan_shards(document: Mapping[str, Any], shard_bytes: int) -> ShardPlan:
    """Cut the chunks of an array into shards of at most ``shard_bytes`` decoded bytes.

    Parameters
    ----------
    document : mapping
        Zarr document of the array, with its chunks not in shards.
    shard_bytes : int
        Most decoded bytes in a shard. A shard holds at least one row of the grid of chunks, and at most 4096
        chunks unless one row has more.

    Examples
    --------
    6400 frames of the layer that `recorder.format.plan_chunks` shows are 100 chunks in 8 parts. A part has
    4 MiB of bits and one header byte, a row of 8 parts a little more than 32 MiB. So 31 rows fit into 1 GiB:

    >>> from recorder.format.arrays import spikes_document
    >>> from recorder.format.layout import plan_chunks
    >>> plan_shards(spikes_document(plan_chunks((64, 256, 256)), 6400), 2**30)
    ShardPlan(rows=31, parts=(8, 1, 1), total_rows=100)

    ::

                  part 0   part 1         part 7
                +--------+--------+-----+--------+
        row 0   | slot 0 | slot 1 | ... | slot 7 |    |
        row 1   | slot 8 | slot 9 | ... | slot 15|    |  shard 0: rows  0–30, 248 slots
         ...                                          |
        row 30  |slot 240|slot 241| ... |slot 247|    |
                +--------+--------+-----+--------+
        row 31  | slot 0 | slot 1 | ... | slot 7 |    |  shard 1: rows 31–61
         ...                                          |  shard 2: rows 62–92
        row 99  |slot 48 |slot 49 | ... |slot 55 |    |  shard 3: rows 93–99, 56 of 248 slots used
                +--------+--------+-----+--------+
    """
    shape, chunk_shape = document["shape"], document["chunk_grid"]["configuration"]["chunk_shape"]
    total_rows, *parts = (-(-length // chunk) for length, chunk in zip(shape, chunk_shape, strict=True))
    row_bytes = decoded_bytes(document) * math.prod(parts)
    rows = max(min(shard_bytes // row_bytes, MAX_SHARD_CHUNKS // math.prod(parts), total_rows), 1)
    return ShardPlan(rows, tuple(parts), total_rows)


def decoded_bytes(document: Mapping[str, Any]) -> int:
    """Bytes of one chunk before compression, of the array that a Zarr document describes."""
    places: int = math.prod(document["chunk_grid"]["configuration"]["chunk_shape"])
    data_type = document["data_type"]
    return places // 8 + 1 if data_type == "bool" else places * np.dtype(data_type).itemsize


def sharded_document(document: dict[str, Any], shard_bytes: int) -> dict[str, Any]:
    """Zarr document of the same array with its chunks in shards; the document of a group is unchanged."""
    if document["node_type"] != "array":
        return document
    plan = plan_shards(document, shard_bytes)
    chunk_shape = document["chunk_grid"]["configuration"]["chunk_shape"]
    shard_shape = [n * length for n, length in zip((plan.rows, *plan.parts), chunk_shape, strict=True)]
    sharding = {
        "chunk_shape": chunk_shape,
        "codecs": document["codecs"],
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "index_location": "end",
    }
    return {
        **document,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard_shape}},
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
    }


def shard_pieces(chunks: Iterable[bytes | None], slots: int) -> Iterator[bytes]:
    """Bytes of one shard, in pieces: its chunks in the order of the index, then the index.

    ``None`` in ``chunks`` stands for a chunk that is left out.
    """
    index = np.full((slots, 2), ABSENT, "<u8")
    offset = 0
    for slot, chunk in enumerate(chunks):
        if chunk is not None:
            index[slot] = offset, len(chunk)
            offset += len(chunk)
            yield chunk
    encoded = index.tobytes()
    yield encoded + checksum(encoded).to_bytes(INDEX_CRC_BYTES, "little")
