"""What every store offers: bytes by key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class ByteStore(Protocol):
    """Bytes by key. Writing replaces a key's bytes at once and whole, or not at all."""

    @property
    def location(self) -> str:
        """Path or URL, for people; without credentials."""

    @property
    def reads_under_way(self) -> int:
        """How many keys are best read at the same time."""

    def is_empty(self) -> bool:
        """Whether there is nothing at all at the location."""

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        """Bytes of a key, None if it is absent; RecordingFormatError if there are more than the limit."""

    def read_range(self, key: str, start: int, size: int) -> bytes | None:
        """``size`` bytes of a key from ``start`` on, or its last ones if that is negative; None if absent.

        Fewer where the key has no more.
        """

    def write(self, key: str, data: bytes) -> None:
        """Store bytes under a key."""

    def write_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        """Store bytes under a key, more of them than should be in memory at a time."""

    def write_new(self, key: str, data: bytes) -> bool:
        """Store bytes under a key that is absent; False, and nothing is done, if it is there.

        In folders, and in buckets that know conditional writes, one of several writers who try at once
        succeeds. Other stores are asked first, then written.
        """

    def exclusively(self) -> AbstractContextManager[None]:
        """Keep other processes out that ask for the same, where the place allows; given up by a kill too."""

    def persist(self) -> None:
        """Return once every key written before will survive a loss of power, where that is possible."""

    def delete(self, key: str) -> None:
        """Remove a key; nothing happens if it is absent."""

    def clear(self, groups: Sequence[str]) -> None:
        """Remove the root document, then all below some folders, and what writes cut short have left."""

    def keys(self) -> Iterator[str]:
        """All keys."""

    def size(self, folder: str) -> int:
        """Bytes stored under keys below a folder."""

    def size_of(self, key: str) -> int | None:
        """Bytes stored under a key, None if it is absent."""

    def remove_leftovers(self) -> None:
        """Remove what writes cut short by a kill have left, and nothing else."""
