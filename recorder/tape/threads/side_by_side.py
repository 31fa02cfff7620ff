"""Write several keys at the same time, where each write waits: for a disk to answer that it has the bytes.

A disk, or the journal of its file system, takes what waits together in one go. So eight files that are synced
side by side take little longer than one.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Protocol

import numpy as np

from recorder.format.bits import Packed
from recorder.stores import ByteStore

# Bytes that wait to be written. A write that has more waits for all others first.
HELD_BYTES: Final = 8 * 2**20

Place = Callable[[], None]

_NOTHING: Final[Packed] = np.empty(0, np.uint8)


class KeyWriter(Protocol):
    """What writes keys: a store, or a `SideBySide`."""

    def write(self, key: str, data: bytes) -> None:
        """Replace the bytes of a key."""


class SideBySide:
    """Writes keys of a store side by side, for a commit. Only one thread at a time may call its methods.

    Where a store takes one write at a time, everything is done at once, in the caller's thread.

    Parameters
    ----------
    store : ByteStore
    """

    def __init__(self, store: ByteStore) -> None:
        self.store = store
        self._executor: ThreadPoolExecutor | None = None
        self._under_way: dict[str, tuple[Future[Any], int]] = {}
        self._silence = _NOTHING

    def silence(self, size_bytes: int) -> Packed:
        """So many zeros, uint8. Whoever writes into them makes them zeros again before anybody else asks."""
        if len(self._silence) < size_bytes:
            self._silence = np.zeros(size_bytes, np.uint8)
        return self._silence[:size_bytes]

    def write(self, key: str, data: bytes) -> None:
        """Replace the bytes of a key, at the latest when `finish` returns.

        Raises
        ------
        Exception
            What this or an earlier write has raised.
        """
        self._submit(key, len(data), partial(self.store.write, key, data))

    def ready(self, key: str, data: bytes) -> Place:
        """Do what of `write` can be done beforehand; the function that is returned does the rest.

        It may be called once `finish` has returned.
        """
        if self.store.writes_under_way == 1:
            return partial(self.store.write, key, data)
        made: list[Place] = []
        self._submit(key, len(data), lambda: made.append(self.store.ready(key, data)))

        def place() -> None:
            made[0]()

        return place

    def finish(self) -> None:
        """Wait for everything that has begun, and raise what the oldest that failed has raised."""
        self._silence = _NOTHING
        under_way, self._under_way = self._under_way, {}
        for future, _ in under_way.values():
            future.exception()
        for future, _ in under_way.values():
            future.result()

    def close(self) -> None:
        """End the threads; what has not begun is not done any more."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
        self._under_way.clear()

    def _submit(self, key: str, size_bytes: int, work: Callable[[], object]) -> None:
        threads = self.store.writes_under_way
        if threads == 1:
            work()
            return
        held = sum(size for _, size in self._under_way.values())
        if key in self._under_way or held + size_bytes > HELD_BYTES:
            self.finish()
        if self._executor is None:
            self._executor = ThreadPoolExecutor(threads, "spiketape-commit")
        try:
            self._under_way[key] = self._executor.submit(work), size_bytes
        except RuntimeError:
            # The interpreter is shutting down, and the pool accepts no more work.
            work()
