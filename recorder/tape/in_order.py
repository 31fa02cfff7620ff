"""Do work in several threads, and take the results in the order in which the work was put in.

Chunks are rearranged, compressed and written outside the interpreter lock. One thread of a fast core does
about 0.4 GB of packed bits a second; a network on a large GPU puts out several times as much. With several
threads, several requests to a server can also be under way at once.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

# Encoding uses one of four cores; the network needs the others.
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
ENCODING_THREADS = min(max(_CORES // 4, 1), 8)


class InOrder:
    """A pool of threads whose results are taken in order. Only one thread at a time may call its methods.

    Parameters
    ----------
    threads : int
        Number of threads. With 1 there is no pool: `put` does the work itself, at once.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._executor: ThreadPoolExecutor | None = None
        self._begun: deque[tuple[Future[Any], Callable[[Any], None]]] = deque()

    def put(self, work: Callable[[], Any], take: Callable[[Any], None]) -> None:
        """Do ``work()`` in a thread; later call ``take`` with its result, in the caller's thread.

        Results are taken in order, in this or a later call of `put` or `finish`. If more pieces of work are
        under way than there are threads, this waits for the oldest, and raises what the oldest has raised.
        """
        if self._threads == 1:
            take(work())
            return
        while len(self._begun) > self._threads:
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
