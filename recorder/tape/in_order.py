"""Does work in several threads and hands its results back in the order in which it was put in.

To rearrange, compress and put a chunk happens outside the interpreter lock; one thread of a fast core does
about 0.4 GB of packed bits a second, which a network on a large GPU exceeds several times. And where each put
is a request to a server, several can be on their way.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

# One of four cores, as the network needs the others.
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
ENCODING_THREADS = min(max(_CORES // 4, 1), 8)


class InOrder:
    """See the module. One thread at a time may use it.

    Parameters
    ----------
    threads : int
        With one, work is done at once, by whoever puts it in.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._executor: ThreadPoolExecutor | None = None
        self._begun: deque[tuple[Future[Any], Callable[[Any], None]]] = deque()

    def put(self, work: Callable[[], Any], take: Callable[[Any], None]) -> None:
        """Have work done, and its result taken when those before it have been: here, or in a later call.

        Waits while there is one piece of work more than threads. Raises what the oldest has raised.
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
            # The interpreter is shutting down, and no thread begins anything new.
            self.finish()
            take(work())

    def finish(self) -> None:
        """Take all results; raises what the oldest failed work has raised."""
        while self._begun:
            self._take_oldest()

    def close(self) -> None:
        """Return when no thread is at work any more; what has not begun is left undone."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
        self._begun.clear()

    def _take_oldest(self) -> None:
        done, take = self._begun.popleft()
        take(done.result())
