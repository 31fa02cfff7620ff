"""Read many keys of a store in order; several at once where the store is reached through a network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final

from recorder.stores.byte_store import ByteStore

# Most memory for all reads that are under way or wait for their turn.
READ_AHEAD_BYTES: Final = 64 * 2**20

Read = Callable[[], bytes | None]


def read_ahead(store: ByteStore, keys: Iterable[str], limit_bytes: int) -> Iterator[Read]:
    """Yield, for each key in order, a function that returns its bytes; later keys are read meanwhile.

    Parameters
    ----------
    store : ByteStore
    keys : iterable of str
        Keys to read. They are taken from the iterable one by one, as a stranger's recording may declare any
        number of them.
    limit_bytes : int
        Most bytes that a key may have, as in `ByteStore.read`. At most ``store.reads_under_way`` keys, of at
        most 64 MiB together, are under way or wait for their turn.

    Yields
    ------
    callable
        Function without arguments that returns the bytes of the key, or None if it is absent. It raises what
        reading the key has raised; the reads of later keys go on.
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
            # The caller may stop before the last key.
            for future in under_way:
                future.cancel()
