"""Packed recordings: many stored chunks in one key, a *shard*, by Zarr's own ``sharding_indexed`` codec.

The bytes of a chunk are the same in a shard as on their own. So a packed recording is read through a
`ShardedStore`, which finds under each chunk's key what a shard holds for it; whoever reads a recording does
not see the difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.format.chunks import checksum

# Decoded bytes in a shard: about 300 MB stored, so that an upload that is cut short costs little.
SHARD_BYTES: Final = 2**30
MAX_SHARD_CHUNKS: Final = 4096

ABSENT: Final = 2**64 - 1
INDEX_CRC_BYTES: Final = 4

Index = NDArray[np.uint64]


@dataclass(frozen=True)
class ShardPlan:
    """How the chunks of one array lie in shards, which are cut along the first axis only.

    Attributes
    ----------
    rows : int
        Positions along the first axis, in chunks, that a shard holds.
    parts : tuple of int
        Chunks along each of the other axes; a shard holds them all.
    total_rows : int
        Positions along the first axis, in chunks, of the whole array.
    """

    rows: int
    parts: tuple[int, ...]
    total_rows: int

    @property
    def slots(self) -> int:
        """Places for chunks in a shard."""
        return self.rows * math.prod(self.parts)

    @property
    def index_bytes(self) -> int:
        """Size of a shard's index: offset and length of each chunk, and a checksum."""
        return self.slots * 16 + INDEX_CRC_BYTES

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.total_rows // self.rows)

    def shard_key(self, folder: str, shard: int) -> str:
        """Key of a shard."""
        return f"{folder}/c/" + "/".join(map(str, [shard, *[0] * len(self.parts)]))

    def chunk_keys(self, folder: str, shard: int) -> Iterator[str]:
        """Keys that the chunks of a shard have on their own, in the order of its index."""
        for row in range(shard * self.rows, min((shard + 1) * self.rows, self.total_rows)):
            for place in np.ndindex(self.parts):
                yield f"{folder}/c/" + "/".join(map(str, [row, *place]))

    def place_of(self, key: str) -> tuple[str, int] | None:
        """The shard that holds the chunk of a key, and its place in there; None if there is no such chunk."""
        folder, _, place = key.rpartition("/c/")
        row, *part = map(int, place.split("/"))
        if row >= self.total_rows or any(p >= most for p, most in zip(part, self.parts, strict=True)):
            return None
        slot = int(np.ravel_multi_index((row % self.rows, *part), (self.rows, *self.parts)))
        return self.shard_key(folder, row // self.rows), slot


def plan_shards(document: Mapping[str, Any], shard_bytes: int) -> ShardPlan:
    """Shards of about ``shard_bytes`` decoded bytes for the array of a Zarr document."""
    shape, chunk_shape = document["shape"], document["chunk_grid"]["configuration"]["chunk_shape"]
    total_rows, *parts = (-(-length // chunk) for length, chunk in zip(shape, chunk_shape, strict=True))
    row_bytes = decoded_bytes(document) * math.prod(parts)
    rows = max(min(shard_bytes // row_bytes, MAX_SHARD_CHUNKS // math.prod(parts), total_rows), 1)
    return ShardPlan(rows, tuple(parts), total_rows)


def decoded_bytes(document: Mapping[str, Any]) -> int:
    """Bytes of a chunk of the array of a Zarr document, before compression."""
    places: int = math.prod(document["chunk_grid"]["configuration"]["chunk_shape"])
    data_type = document["data_type"]
    return places // 8 + 1 if data_type == "bool" else places * np.dtype(data_type).itemsize


def sharded_document(document: dict[str, Any], shard_bytes: int) -> dict[str, Any]:
    """The document of an array when its chunks lie in shards; that of a group is returned as it is."""
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
    """A shard, piece by piece: its chunks in the order of the index (None: there is none), then the index."""
    index = np.full((slots, 2), ABSENT, "<u8")
    offset = 0
    for slot, chunk in enumerate(chunks):
        if chunk is not None:
            index[slot] = offset, len(chunk)
            offset += len(chunk)
            yield chunk
    encoded = index.tobytes()
    yield encoded + checksum(encoded).to_bytes(INDEX_CRC_BYTES, "little")
