"""How packed bits a second grow with threads, on a machine with more cores than are here: simulated.

The thread that writes appends rows to a chunk, hands it over, and takes finished chunks in order. Each
encoder rearranges, counts and compresses a chunk, with a core of its own; what needs the interpreter lock
waits for it, in order of asking. Every time is one that was measured, and nothing is random.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import NamedTuple


class ChunkCosts(NamedTuple):
    """Seconds that one chunk takes.

    Attributes
    ----------
    append : float
        Of the one thread that writes.
    free : float
        Of an encoder, without the interpreter lock.
    locked : float
        Of an encoder that holds it.
    write : float
        Of an encoder that waits for the store.
    """

    append: float
    free: float
    locked: float
    write: float


def simulate(costs: ChunkCosts, threads: int, chunks: int = 1000) -> float:
    """Chunks a second by so many encoders, from a source that never waits."""
    now = lock_free_at = 0.0
    finished: set[int] = set()
    appended = taken = 0
    waiting: deque[int] = deque()
    idle = threads
    # (time, order, what, chunk): what happens at equal times happens in the order in which it was planned.
    events: list[tuple[float, int, str, int]] = []
    order = 0

    def plan(at: float, what: str, chunk: int) -> None:
        nonlocal order
        order += 1
        heapq.heappush(events, (at, order, what, chunk))

    is_appending = False

    def go_on() -> None:
        """Let the thread that writes and the encoders begin what they can."""
        nonlocal taken, is_appending, idle
        while taken in finished:
            taken += 1
        # As `InOrder.put`: one more than there are threads may be under way.
        if not is_appending and appended < chunks and appended - taken <= threads:
            is_appending = True
            plan(now + costs.append, "appended", appended)
        while idle and waiting:
            idle -= 1
            plan(now + costs.free, "compressed", waiting.popleft())

    go_on()
    while events:
        now, _, what, chunk = heapq.heappop(events)
        if what == "appended":
            is_appending = False
            appended += 1
            waiting.append(chunk)
        elif what == "compressed":
            lock_free_at = max(lock_free_at, now) + costs.locked
            plan(lock_free_at + costs.write, "stored", chunk)
        else:
            idle += 1
            finished.add(chunk)
        go_on()
    return chunks / now
