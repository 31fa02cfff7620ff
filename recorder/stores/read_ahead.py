"""Read in order, several at once where that is worth while: many keys of a store, or many stores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from recorder.stores.byte_store import ByteStore

# Most memory for all reads that are under way or wait for their turn.
READ_AHEAD_BYTES: Final = 64 * 2**20

Read = Callable[[], bytes | None]
T = TypeVar("T")


def read_ahead(store: ByteStore, keys: Iterable[str], limit_bytes: int) -> Iterator[Read]:
    """For each key in order, a function that returns its bytes; later keys are read meanwhile.

    Parameters
    ----------
    store : ByteStore
    keys : iterable of str
        Keys to read. They are taken from the iterable one by one, as a stranger's recording may declare any
        number of them.
    limit_bytes : int
        Most bytes that a key may have, as in `ByteStore.read`. At most ``store.reads_under_way`` keys, of at
        most 64 MiB together, are under way or wait for their turn.

    Returns
    -------
    iterator of callable
        Functions without arguments. Each returns the bytes of its key, or None if it is absent, or raises
        what reading the key has raised; the reads of later keys go on.
    """
    together = _reads_together(store, limit_bytes)
    return call_ahead((partial(store.read, key, limit_bytes) for key in keys), together)


def read_side_by_side(places: Sequence[tuple[ByteStore, str, int]]) -> list[bytes | None]:
    """Bytes of keys of one or several stores, in order; None for one that is absent.

    Each place is a store, a key, and the most bytes that it may have. Several are read at once as by
    `read_ahead`, if every store has that. The caller bounds the memory that all of them take together.
    """
    together = min((_reads_together(store, limit) for store, _, limit in places), default=1)
    calls = (partial(store.read, key, limit) for store, key, limit in places)
    return [read() for read in call_ahead(calls, together)]


def _reads_together(store: ByteStore, limit_bytes: int) -> int:
    return min(store.reads_under_way, READ_AHEAD_BYTES // max(limit_bytes, 1))


def call_ahead(calls: Iterable[Callable[[], T]], together: int) -> Iterator[Callable[[], T]]:
    """Yield, for each call in order, a function that returns what it returns; later ones go on meanwhile.

    Parameters
    ----------
    calls : iterable of callable
        Functions without arguments, taken from the iterable one by one.
    together : int
        Calls that are under way, in threads, or wait for their turn. Fewer than two are made in the thread
        of the caller, when their turn has come.

    Yields
    ------
    callable
        Function without arguments that returns what the call has returned, or raises what it has raised; the
        later calls go on.
    """
    if together < 2:
        yield from calls
        return
    under_way: deque[Future[T]] = deque()
    with ThreadPoolExecutor(together, thread_name_prefix="spiketape-reader") as pool:
        try:
            for call in calls:
                under_way.append(pool.submit(call))
                if len(under_way) == together:
                    yield under_way.popleft().result
            while under_way:
                yield under_way.popleft().result
        finally:
            # The caller may stop before the last key.
            for future in under_way:
                future.cancel()
