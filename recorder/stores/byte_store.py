"""The protocol that every store implements: bytes by key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NoReturn, Protocol

from recorder.format import StoreError


class ByteStore(Protocol):
    """A place that holds the bytes of one recording under keys, such as ``layers/1/spikes/c/0/0``.

    Keys are strings of names separated by ``/``; they are files of a folder, objects of a bucket, or entries
    of an archive. A store knows nothing of what the bytes mean.

    At every moment a key has all bytes of one write, or is absent: `write` replaces them at once or not at
    all, also when the process is killed. What was written survives a loss of power only after `persist`.
    """

    @property
    def location(self) -> str:
        """Path or URL to show to people, without credentials."""

    @property
    def identity(self) -> str:
        """Text that no other place has, nor this one with other options. Never shown: it may hold secrets."""

    @property
    def reads_under_way(self) -> int:
        """Number of keys that are best read at the same time."""

    @property
    def writes_under_way(self) -> int:
        """Number of keys that are best written at the same time."""

    def is_empty(self) -> bool:
        """True if nothing at all is at the location."""

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        """Bytes of a key; None if it is absent. Raises RecordingFormatError if it has more than the limit."""

    def read_range(self, key: str, start: int, size: int) -> bytes | None:
        """``size`` bytes of a key from ``start`` on; its last ``size`` bytes if ``start`` is negative.

        Fewer bytes if the key has no more; None if it is absent.
        """

    def write(self, key: str, data: bytes) -> None:
        """Replace the bytes of a key."""

    def ready(self, key: str, data: bytes) -> Callable[[], None]:
        """Do what of `write` can be done beforehand; the function that is returned replaces the bytes."""

    def write_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        """Replace the bytes of a key by the joined pieces, for more bytes than should be in memory."""

    def write_new(self, key: str, data: bytes) -> bool:
        """Write a key only if it is absent; return False, and change nothing, if it exists.

        If several writers try at once, exactly one succeeds in folders, and in buckets that support
        conditional writes. Other stores are asked for the key first and written then, which is not atomic.
        """

    def exclusively(self) -> AbstractContextManager[None]:
        """Lock other processes out that call this too, where the place supports locks; a kill unlocks."""

    def of_writer(self, owner: str) -> ByteStore:
        """Give one writer a store of its own; in folders, those of earlier writers write nothing more.

        Called by the writer that has just taken the lock; ``owner`` is random, in hexadecimal.
        """

    def end_writer(self, owner: str) -> None:
        """Remove what `of_writer` keeps for a writer, which writes nothing more."""

    def persist(self) -> None:
        """Return when all keys written before will survive a loss of power, where the store can ensure it."""

    def delete(self, key: str) -> None:
        """Remove a key; nothing happens if it is absent."""

    def clear(self, groups: Sequence[str]) -> None:
        """Remove the root document, then all keys below ``groups``, and leftovers of interrupted writes."""

    def keys(self) -> Iterator[str]:
        """All keys."""

    def size(self, folder: str) -> int:
        """Sum of the bytes of all keys below a folder."""

    def size_of(self, key: str) -> int | None:
        """Number of bytes of a key; None if it is absent."""

    def remove_leftovers(self) -> None:
        """Remove the temporary files of writes that a kill interrupted, and nothing else."""


class ReadOnlyStore:
    """The writing methods of `recorder.stores.byte_store.ByteStore`, each of which raises StoreError."""

    @property
    def location(self) -> str:
        """Path or URL to show to people."""
        raise NotImplementedError

    @property
    def writes_under_way(self) -> int:
        """Nothing is ever written."""
        return 1

    def write(self, key: str, data: bytes) -> None:
        self._refuse()

    def ready(self, key: str, data: bytes) -> Callable[[], None]:
        self._refuse()

    def write_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        self._refuse()

    def write_new(self, key: str, data: bytes) -> bool:
        self._refuse()

    def exclusively(self) -> AbstractContextManager[None]:
        self._refuse()

    def of_writer(self, owner: str) -> ByteStore:
        self._refuse()

    def end_writer(self, owner: str) -> None:
        self._refuse()

    def persist(self) -> None:
        self._refuse()

    def delete(self, key: str) -> None:
        self._refuse()

    def clear(self, groups: Sequence[str]) -> None:
        self._refuse()

    def remove_leftovers(self) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise StoreError(
            f"{self.location} is packed for keeping, and only read; choose a folder or a bucket to write to"
        )
