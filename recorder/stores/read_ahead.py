"""Read many keys of a store, in order, with several reads under way where the store is far away."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final

from recorder.stores.byte_store import ByteStore

# What reads under way may take together.
READ_AHEAD_BYTES: Final = 64 * 2**20

Read = Callable[[], bytes | None]


def read_ahead(store: ByteStore, keys: Iterable[str], limit_bytes: int) -> Iterator[Read]:
    """For each key in turn a call that returns its bytes, while the next ones are on their way.

    Parameters
    ----------
    store : ByteStore
    keys : iterable of str
        Asked for as it goes: a stranger's recording may declare any number of them.
    limit_bytes : int
        Of each key, as in `ByteStore.read`. At most ``store.reads_under_way`` keys, and 64 MiB of such, are
        under way or waiting for their turn.

    Yields
    ------
    callable
        Returns the bytes of the key, None if it is absent; raises what reading it has raised. The reads that
        follow go on all the same.
    """
    together = min(store.reads_under_way, READ_AHEAD_BYTES // max(limit_bytes, 1))
    if together < 2:
        for key in keys:
            yield partial(store.read, key, limit_bytes)
        return
    under_way: deque[Future[bytes | None]] = deque()
    with ThreadPoolExecutor(together, thread_name_prefix="spiketape-reader") as pool:
        try:
            for key in keys:
                under_way.append(pool.submit(store.read, key, limit_bytes))
                if len(under_way) == together:
                    yield under_way.popleft().result
            while under_way:
                yield under_way.popleft().result
        finally:
            # Whoever asked may not want the rest.
            for future in under_way:
                future.cancel()
