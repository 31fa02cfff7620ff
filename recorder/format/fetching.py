"""Read many keys of a store, in order, with several reads under way where the store is far away."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from recorder.format.stores import ByteStore

# What reads under way may take together.
READ_AHEAD_BYTES: Final = 64 * 2**20


def read_ahead(store: ByteStore, keys: Iterable[str], limit_bytes: int) -> Iterator[bytes | None]:
    """The bytes of each key in turn, while the next ones are on their way.

    Parameters
    ----------
    store : ByteStore
    keys : iterable of str
        Asked for as it goes: a stranger's recording may declare any number of them.
    limit_bytes : int
        Of each key, as in `ByteStore.read`, whose errors are raised when it is the key's turn. At most
        ``store.reads_under_way`` keys, and 64 MiB of such, are under way or waiting for their turn.

    Yields
    ------
    bytes or None
        None for a key that is absent.
    """
    together = min(store.reads_under_way, READ_AHEAD_BYTES // max(limit_bytes, 1))
    if together < 2:
        for key in keys:
            yield store.read(key, limit_bytes)
        return
    under_way: deque[Future[bytes | None]] = deque()
    with ThreadPoolExecutor(together, thread_name_prefix="spiketape-reader") as pool:
        try:
            for key in keys:
                under_way.append(pool.submit(store.read, key, limit_bytes))
                if len(under_way) == together:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            # Whoever asked may not want the rest.
            for future in under_way:
                future.cancel()
