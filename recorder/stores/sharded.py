"""A store that reads a packed recording as if each chunk had a key of its own."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from recorder.format import RecordingFormatError
from recorder.format.chunks import checksum
from recorder.format.shards import ABSENT, INDEX_CRC_BYTES, Index, ShardPlan
from recorder.stores.byte_store import ByteStore, ReadOnlyStore

_KEPT_INDEXES: Final = 256


class ShardedStore(ReadOnlyStore):
    """A read-only store that offers the chunks of a packed recording under the keys they had while recording.

    Parameters
    ----------
    inner : ByteStore
        Store that holds the shards.
    plans : mapping of str to ShardPlan
        Key prefix of each array → plan by which its chunks lie in shards.
    """

    def __init__(self, inner: ByteStore, plans: Mapping[str, ShardPlan]) -> None:
        self.inner = inner
        self._plans = dict(plans)
        self._indexes: OrderedDict[str, Index | None] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardedStore, (self.inner, self._plans)

    @property
    def location(self) -> str:
        """Path or URL to show to people."""
        return self.inner.location

    @property
    def identity(self) -> str:
        """Identity of the store that holds the shards."""
        return self.inner.identity

    @property
    def reads_under_way(self) -> int:
        """Number of keys that are best read at the same time, as for the store that holds the shards."""
        return self.inner.reads_under_way

    def is_empty(self) -> bool:
        """True if nothing at all is at the location."""
        return self.inner.is_empty()

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        """Bytes of a chunk, taken from its shard, or of any other key; None if it is absent."""
        folder, _, chunk = key.rpartition("/c/")
        plan = self._plans.get(folder)
        if plan is None or not chunk:
            return self.inner.read(key, limit_bytes)
        place = plan.place_of(key)
        if place is None:
            return None
        shard_key, slot = place
        index = self._index(shard_key, plan)
        if index is None:
            return None
        offset, size = index[slot].tolist()
        if (offset, size) == (ABSENT, ABSENT):
            return None
        if size > limit_bytes or offset >= 2**63:
            raise RecordingFormatError(
                f"{self.location}/{shard_key}: its index says that {key} has {size} bytes at {offset}; at "
                f"most {limit_bytes} were expected"
            )
        return self.inner.read_range(shard_key, offset, size)

    def _index(self, shard_key: str, plan: ShardPlan) -> Index | None:
        """Index of a shard, uint64 [slots, 2]: offset and length of each chunk; None if it is absent."""
        with self._lock:
            if shard_key not in self._indexes:
                self._indexes[shard_key] = self._read_index(shard_key, plan)
                if len(self._indexes) > _KEPT_INDEXES:
                    self._indexes.popitem(last=False)
            return self._indexes[shard_key]

    def _read_index(self, shard_key: str, plan: ShardPlan) -> Index | None:
        stored = self.inner.read_range(shard_key, -1, plan.index_bytes)
        if stored is None:
            return None
        encoded = stored[:-INDEX_CRC_BYTES]
        if len(stored) != plan.index_bytes or checksum(encoded) != int.from_bytes(
            stored[-INDEX_CRC_BYTES:], "little"
        ):
            raise RecordingFormatError(
                f"{self.location}/{shard_key} does not end in the index of its chunks: cut short or altered"
            )
        return np.frombuffer(encoded, "<u8").reshape(-1, 2)

    def read_range(self, key: str, start: int, size: int) -> bytes | None:
        """Part of the bytes of a key of the inner store; keys of chunks are not translated."""
        return self.inner.read_range(key, start, size)

    def keys(self) -> Iterator[str]:
        """All keys of the inner store: shards, and no single chunks."""
        return self.inner.keys()

    def size(self, folder: str) -> int:
        """Sum of the bytes of all keys below a folder."""
        return self.inner.size(folder)

    def size_of(self, key: str) -> int | None:
        """Number of bytes of a key of the inner store; None if it is absent."""
        return self.inner.size_of(key)
