"""How much is done at once, and how thoroughly, by what waits to be encoded.

The network must not wait. So while more and more waits, first more threads encode; then chunks are compressed
faster and become larger; only then does the queue fill up, and the network waits for room in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from recorder.format.layout import ZSTD_LEVEL
from recorder.stores import ByteStore

# Bytes that have to wait for each further thread: a chunk.
BYTES_EACH: Final = 4 * 2**20
# From what share of the queue on is compressed at what level. On random spikes of 5 % level -20 is about
# twice as fast as level 1 and its chunks twice as large; -1000 is ten times as fast and hardly compresses.
HURRIED_LEVELS: Final = ((0.75, -1000), (0.5, -20))
# Share of a new chunk in what is known of earlier ones.
_SHARE: Final = 0.2


class Backlog(NamedTuple):
    """Bytes that wait, and bytes from which on the source has to wait."""

    waiting_bytes: int
    limit_bytes: int


class Written(NamedTuple):
    """What it took to write a chunk, or several that are written together.

    Attributes
    ----------
    level : int
        Level of zstd that was asked for.
    size_bytes : int
        Bytes as stored.
    encoding_seconds, writing_seconds : float
        Time that passed.
    chunks : int
        How many there are.
    """

    level: int
    size_bytes: int
    encoding_seconds: float
    writing_seconds: float
    chunks: int = 1


class Timed:
    """What writes the keys of one chunk, or of several together, and how long that takes."""

    def __init__(self, store: ByteStore, level: int) -> None:
        self.level = level
        self._store = store
        self._began = time.perf_counter()
        self._size_bytes, self._writing_seconds = 0, 0.0

    def write(self, key: str, data: bytes) -> None:
        """Replace the bytes of a key."""
        began = time.perf_counter()
        self._store.write(key, data)
        self._writing_seconds += time.perf_counter() - began
        self._size_bytes += len(data)

    def written(self, chunks: int = 1) -> Written:
        """What so many chunks took until now; all but writing counts as encoding."""
        writing = self._writing_seconds
        encoding = time.perf_counter() - self._began - writing
        return Written(self.level, self._size_bytes, encoding, writing, chunks)


class Pressure:
    """What waits to be encoded, and what chunks took so far.

    Attributes
    ----------
    backlog : callable or None
        What waits, asked from any thread; None where the source is what waits, and time does not matter.
    chunks, hurried_chunks : int
        Full chunks written so far, and those of them that were compressed at a faster level than usual.
    stored_bytes : int
        Bytes of these as stored.
    """

    def __init__(self) -> None:
        self.backlog: Callable[[], Backlog] | None = None
        self.chunks = self.hurried_chunks = self.stored_bytes = 0
        self._encoding_seconds = self._writing_seconds = 0.0

    def threads(self, most: int) -> int:
        """How many threads are to encode, of so many at most."""
        if self.backlog is None:
            return most
        return min(1 + self.backlog().waiting_bytes // BYTES_EACH, most)

    def level(self) -> int:
        """Level of zstd for the next chunk."""
        # Where the disk is slower than the processor, larger chunks would take it longer still.
        if self.backlog is None or self._writing_seconds > self._encoding_seconds:
            return ZSTD_LEVEL
        backlog = self.backlog()
        share = backlog.waiting_bytes / max(backlog.limit_bytes, 1)
        return next((level for least, level in HURRIED_LEVELS if share >= least), ZSTD_LEVEL)

    def note(self, written: Written) -> None:
        """Note what full chunks took. Called by one thread at a time."""
        self.chunks += written.chunks
        self.hurried_chunks += written.chunks * (written.level != ZSTD_LEVEL)
        self.stored_bytes += written.size_bytes
        self._encoding_seconds += _SHARE * (written.encoding_seconds - self._encoding_seconds)
        self._writing_seconds += _SHARE * (written.writing_seconds - self._writing_seconds)
