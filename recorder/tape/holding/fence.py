"""A store as the holder of a lock writes to it: once the lock is lost, nothing more is written."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final, TypeVar

from recorder.format import RecordingFormatError, RecordingInUseError
from recorder.stores import ByteStore
from recorder.tape.holding.holder import Holder

LOCK_KEY: Final = "writer.lock"

# Seconds for which a look at the lock is trusted: where it is a request through a network, and elsewhere.
TRUSTED_SECONDS: Final = 1.0
_TRUSTED_NEARBY: Final = 0.1

_LIMIT_BYTES: Final = 4096
_GONE: Final = (errno.ENOENT, errno.ESTALE)

T = TypeVar("T")


class FencedStore:
    """A store through which one writer writes, as long as it holds the lock.

    A writer may sleep for hours, with its host, and not know that its lock was taken over or that another
    recording lies at its place. So a write looks at the lock first, unless that was done a moment before:
    within a second in stores behind a network, within a tenth of it elsewhere. A writer may also fall asleep
    between this look and the write itself. In folders that does no harm: the writes of a writer begin in a
    folder of its own, which whoever takes the lock removes (`recorder.stores.files.folder.Folder.of_writer`).

    Parameters
    ----------
    store : ByteStore
    holder : Holder
        Who holds the lock.
    """

    def __init__(self, store: ByteStore, holder: Holder) -> None:
        self._store = store
        self._holder = holder
        self._trusted_seconds = TRUSTED_SECONDS if store.reads_under_way > 1 else _TRUSTED_NEARBY
        self._checked_at = -TRUSTED_SECONDS

    def begin(self, *, takes_over: bool) -> None:
        """End the writing of all earlier writers; called once, when the lock has been taken.

        ``takes_over`` says that it was another one's. Behind a network, this then waits until that one has
        looked at the lock again, if it runs, and until what it had sent by then has arrived.
        """
        self._store = self._store.of_writer(self._holder.owner)
        if takes_over and self._trusted_seconds == TRUSTED_SECONDS:
            time.sleep(2 * TRUSTED_SECONDS)

    def check(self) -> None:
        """Check that the writer still holds the lock.

        Raises
        ------
        RecordingInUseError
            If the lock was taken over, or its file is gone or malformed.
        """
        now = _now()
        try:
            holder = read_holder(self._store)
        except RecordingFormatError:
            holder = None
        if holder is None or holder.owner != self._holder.owner:
            state = "is gone" if holder is None else f"belongs to {holder.describe()}"
            raise RecordingInUseError(
                f"{self._store.location}: the lock {LOCK_KEY} of this writer {state}; the recording was "
                "moved, removed or taken over meanwhile, and nothing more is written to it"
            )
        self._checked_at = now

    def _look(self) -> None:
        if _now() - self._checked_at >= self._trusted_seconds:
            self.check()

    def write(self, key: str, data: bytes) -> None:
        """Replace the bytes of a key; errors also as in `check`."""
        self._do(lambda: self._store.write(key, data))

    def ready(self, key: str, data: bytes) -> Callable[[], None]:
        """Do what of `write` can be done beforehand; the function that is returned does the rest."""
        rest = self._do(lambda: self._store.ready(key, data))
        return lambda: self._do(rest)

    def _do(self, write: Callable[[], T]) -> T:
        self._look()
        try:
            return write()
        except OSError as error:
            if error.errno in _GONE:
                # Somebody has removed the folder of this writer, or all of the recording.
                self.check()
            raise

    def write_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        """Replace the bytes of a key by the joined pieces; errors also as in `check`."""
        self._look()
        self._store.write_pieces(key, pieces)

    def write_new(self, key: str, data: bytes) -> bool:
        """Write a key only if it is absent; errors also as in `check`."""
        self._look()
        return self._store.write_new(key, data)

    def delete(self, key: str) -> None:
        """Remove a key; errors also as in `check`."""
        self._look()
        self._store.delete(key)

    def clear(self, groups: Sequence[str]) -> None:
        """Remove the recording; errors also as in `check`."""
        self.check()
        self._store.clear(groups)

    def remove_leftovers(self) -> None:
        """Remove the temporary files of interrupted writes; errors also as in `check`."""
        self.check()
        self._store.remove_leftovers()

    def of_writer(self, owner: str) -> ByteStore:
        """The store for another writer."""
        return self._store.of_writer(owner)

    def end_writer(self, owner: str) -> None:
        """Remove what the store keeps for a writer."""
        self._store.end_writer(owner)

    @property
    def location(self) -> str:
        """Path or URL to show to people."""
        return self._store.location

    @property
    def identity(self) -> str:
        """Text that tells stores apart."""
        return self._store.identity

    @property
    def reads_under_way(self) -> int:
        """Number of keys that are best read at the same time."""
        return self._store.reads_under_way

    def is_empty(self) -> bool:
        """True if nothing at all is at the location."""
        return self._store.is_empty()

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        """Bytes of a key; None if it is absent."""
        return self._store.read(key, limit_bytes)

    def read_range(self, key: str, start: int, size: int) -> bytes | None:
        """Part of the bytes of a key; None if it is absent."""
        return self._store.read_range(key, start, size)

    @property
    def writes_under_way(self) -> int:
        """Number of keys that are best written at the same time."""
        return self._store.writes_under_way

    def exclusively(self) -> AbstractContextManager[None]:
        """Lock other processes out that call this too."""
        return self._store.exclusively()

    def persist(self) -> None:
        """Return when all keys written before will survive a loss of power."""
        self._store.persist()

    def keys(self) -> Iterator[str]:
        """All keys."""
        return self._store.keys()

    def size(self, folder: str) -> int:
        """Sum of the bytes of all keys below a folder."""
        return self._store.size(folder)

    def size_of(self, key: str) -> int | None:
        """Number of bytes of a key; None if it is absent."""
        return self._store.size_of(key)


def read_holder(store: ByteStore) -> Holder | None:
    """Read the lock of a recording; None if there is none.

    Raises
    ------
    RecordingFormatError
        If the lock file is malformed.
    """
    document = store.read(LOCK_KEY, _LIMIT_BYTES)
    if document is None:
        return None
    try:
        fields = json.loads(document)
        holder = Holder(**fields)
    except (ValueError, TypeError, RecursionError) as error:
        raise RecordingFormatError(f"{store.location}/{LOCK_KEY} cannot be understood: {error}") from error
    expected = {name: int if name == "process" else str for name in fields}
    if {name: type(value) for name, value in fields.items()} != expected or holder.process < 1:
        raise RecordingFormatError(f"{store.location}/{LOCK_KEY} cannot be understood: {fields}")
    return holder


def _now() -> float:
    """Seconds by a clock that goes on while the host sleeps, where there is one."""
    # The clock behind time.monotonic stands still meanwhile, on Linux.
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
