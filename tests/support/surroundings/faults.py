"""Stores that fail: at an operation of a given number, at a named one, or by losing power."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from recorder.stores import ByteStore


class DiskError(OSError):
    """What a broken disk raises."""


class FaultyStore:
    """Hands everything on to a store, and fails where `should_fail` says so.

    Parameters
    ----------
    inner : ByteStore
    should_fail : callable
        Asked with the number of each changing operation, its name and its key.
    after : bool
        Whether the operation is done nevertheless, before it fails.
    """

    def __init__(
        self,
        inner: ByteStore,
        should_fail: Callable[[int, str, str], bool] = lambda *_: False,
        *,
        error: int = errno.EIO,
        after: bool = False,
    ) -> None:
        self.inner = inner
        self.should_fail = should_fail
        self.error = error
        self.after = after
        self.operations = 0
        self._counting = threading.Lock()

    @property
    def location(self) -> str:
        return self.inner.location

    @property
    def identity(self) -> str:
        return self.inner.identity

    @property
    def reads_under_way(self) -> int:
        return self.inner.reads_under_way

    @property
    def writes_under_way(self) -> int:
        return self.inner.writes_under_way

    def is_empty(self) -> bool:
        return self.inner.is_empty()

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        return self.inner.read(key, limit_bytes)

    def write(self, key: str, data: bytes) -> None:
        self._do("write", key, lambda: self.inner.write(key, data))

    def read_range(self, key: str, start: int, size: int) -> bytes | None:
        return self.inner.read_range(key, start, size)

    def ready(self, key: str, data: bytes) -> Callable[[], None]:
        self._do("ready", key, lambda: None)
        return lambda: self.write(key, data)

    def write_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        self._do("write", key, lambda: self.inner.write_pieces(key, pieces))

    def write_new(self, key: str, data: bytes) -> bool:
        return bool(self._do("write", key, lambda: self.inner.write_new(key, data)))

    def exclusively(self) -> AbstractContextManager[None]:
        return self.inner.exclusively()

    def of_writer(self, owner: str) -> FaultyStore:
        self.inner = self.inner.of_writer(owner)
        return self

    def end_writer(self, owner: str) -> None:
        self.inner.end_writer(owner)

    def persist(self) -> None:
        self._do("persist", "", self.inner.persist)

    def delete(self, key: str) -> None:
        self._do("delete", key, lambda: self.inner.delete(key))

    def clear(self, groups: Sequence[str]) -> None:
        self._do("clear", "", lambda: self.inner.clear(groups))

    def keys(self) -> Iterator[str]:
        return self.inner.keys()

    def size(self, folder: str) -> int:
        return self.inner.size(folder)

    def size_of(self, key: str) -> int | None:
        return self.inner.size_of(key)

    def remove_leftovers(self) -> None:
        self.inner.remove_leftovers()

    def _do(self, operation: str, key: str, do: Callable[[], object]) -> object:
        with self._counting:
            self.operations += 1
            fails = self.should_fail(self.operations, operation, key)
        done = do() if self.after or not fails else None
        if fails:
            raise DiskError(self.error, f"injected at {operation} {key}")
        return done


class VolatileStore:
    """Bytes in memory, of which a loss of power takes what was not persisted: any part of it, in any order.

    A folder's files are written whole before they get their name; what is uncertain until the folder is
    synced is which of the names given or taken away since are there.
    """

    location = identity = "volatile"
    reads_under_way = 1

    def __init__(self, writes_under_way: int = 1) -> None:
        self.writes_under_way = writes_under_way
        self._safe: dict[str, bytes] = {}
        self._pending: dict[str, list[bytes | None]] = {}

    def is_empty(self) -> bool:
        return not list(self.keys())

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        return self._pending[key][-1] if key in self._pending else self._safe.get(key)

    def write(self, key: str, data: bytes) -> None:
        self._pending.setdefault(key, []).append(data)

    def ready(self, key: str, data: bytes) -> Callable[[], None]:
        return lambda: self.write(key, data)

    def write_new(self, key: str, data: bytes) -> bool:
        is_new = self.read(key, 0) is None
        if is_new:
            self.write(key, data)
        return is_new

    def exclusively(self) -> AbstractContextManager[None]:
        return nullcontext()

    def of_writer(self, owner: str) -> VolatileStore:
        return self

    def end_writer(self, owner: str) -> None:
        pass

    def persist(self) -> None:
        self.lose_power(lambda versions: versions[-1])

    def delete(self, key: str) -> None:
        self._pending.setdefault(key, []).append(None)

    def clear(self, groups: Sequence[str]) -> None:
        for key in list(self.keys()):
            if key == "zarr.json" or key.startswith(tuple(f"{group}/" for group in groups)):
                self.delete(key)

    def keys(self) -> Iterator[str]:
        for key in sorted({*self._safe, *self._pending}):
            if self.read(key, 0) is not None:
                yield key

    def size(self, folder: str) -> int:
        return 0

    def size_of(self, key: str) -> int | None:
        data = self.read(key, 0)
        return None if data is None else len(data)

    def remove_leftovers(self) -> None:
        pass

    def lose_power(self, choose: Callable[[list[bytes | None]], bytes | None]) -> None:
        """Keep of each key one of its versions: the safe one first, then those written since."""
        pending, self._pending = self._pending, {}
        for key, versions in pending.items():
            kept = choose([self._safe.get(key), *versions])
            if kept is None:
                self._safe.pop(key, None)
            else:
                self._safe[key] = kept
