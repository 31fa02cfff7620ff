"""Do work in several threads, and take the results in the order in which the work was put in.

Chunks are rearranged, compressed and written outside the interpreter lock. One thread does 0.1 to 0.4 GB of
packed bits a second; a network on a large GPU puts out several times as much. With several threads, several
requests to a server can also be under way at once.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from recorder.format.bits import Packed
from recorder.format.layout import CHUNK_TARGET_BYTES
from recorder.tape.threads.pressure import Pressure

# The network keeps a core. More threads would wait for each other, as each holds the interpreter lock for a
# thirtieth of its time.
_MOST_THREADS = 32
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
ENCODING_THREADS = min(max(_CORES - 1, 1), _MOST_THREADS)
# What is freed once so that smaller pieces stay with the process: see `_keep_memory`.
_KEPT_BYTES = 2 * CHUNK_TARGET_BYTES


class InOrder:
    """A pool of threads whose results are taken in order. Only one thread at a time may call its methods.

    As many of them work as `Pressure` says. While that is one, no other does: `put` does the work itself.

    Parameters
    ----------
    threads : int
        Most threads.
    pressure : Pressure, optional
        By default that of a source which can wait: all threads work.
    """

    def __init__(self, threads: int, pressure: Pressure | None = None) -> None:
        _keep_memory()
        self._threads = threads
        self.pressure = pressure or Pressure()
        self._executor: ThreadPoolExecutor | None = None
        self._rooms: list[Packed] = []
        self._begun: deque[tuple[Future[Any], Callable[[Any], None]]] = deque()

    def room(self, size_bytes: int) -> Packed:
        """Memory of at least so many bytes, uint8, to be given back. Called in any thread.

        Used again, as the system would clear fresh memory for each chunk.
        """
        try:
            room = self._rooms.pop()
        except IndexError:
            room = np.empty(0, np.uint8)
        return room if len(room) >= size_bytes else np.empty(size_bytes, np.uint8)

    def give_back(self, room: Packed) -> None:
        """Give memory back that nobody uses any more. Called in any thread."""
        if len(self._rooms) < self._threads:
            self._rooms.append(room)

    def put(self, work: Callable[[], Any], take: Callable[[Any], None]) -> None:
        """Do ``work()`` in a thread; later call ``take`` with its result, in the caller's thread.

        Results are taken in order, in this or a later call of `put` or `finish`. If more pieces of work are
        under way than threads are to work, this waits for the oldest, and raises what the oldest has raised.
        """
        threads = self.pressure.threads(self._threads)
        if threads == 1:
            self.finish()
            take(work())
            return
        while len(self._begun) > threads:
            self._take_oldest()
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._threads, "spiketape-encoder")
        try:
            self._begun.append((self._executor.submit(work), take))
        except RuntimeError:
            # The interpreter is shutting down, and the pool accepts no more work.
            self.finish()
            take(work())

    def finish(self) -> None:
        """Wait for all work and take all results; raises what the oldest failed work has raised."""
        while self._begun:
            self._take_oldest()

    def close(self) -> None:
        """Wait for the work that has begun, and drop the work that has not, and all results."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
        self._begun.clear()

    def _take_oldest(self) -> None:
        done, take = self._begun.popleft()
        take(done.result())


def _keep_memory() -> None:
    """Have glibc keep memory for whoever asks next, as zstd does for each chunk.

    It gives a piece that is larger than any freed before back to the system, and the system clears each page
    when the next piece is asked for: a tenth of the time of a chunk. zstd cuts its piece before that is
    freed, and so would never teach it. Where the environment sets glibc's thresholds, they stay.
    """
    np.empty(_KEPT_BYTES, np.uint8)
