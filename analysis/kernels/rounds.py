"""Several tasks in one round, which decodes each chunk once: what one of them has decoded, the next finds.

A round is one task to Dask. It calls functions of this room one after the other, all of which look at about
the same frames, and keeps the chunks that they decode until it ends; never more than `KEPT_BYTES` of them.
Nothing is kept outside of a round.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Final

from recorder.format.bits import Packed

# Two tasks of a recording of 256 GiB, see `analysis.asking.planning`. Of larger ones, chunks are read again.
KEPT_BYTES: Final = 128 * 2**20


class _Kept(threading.local):
    """The chunks that the round of this thread has decoded; None outside of a round."""

    trains: dict[Hashable, Packed] | None = None
    size = 0


_kept = _Kept()


def in_one_round(calls: Sequence[tuple[Callable[..., Any], Sequence[Any]]]) -> list[Any]:
    """Call functions with their arguments, one after the other; the results in order.

    The first error ends the round.
    """
    _kept.trains, _kept.size = {}, 0
    try:
        return [function(*arguments) for function, arguments in calls]
    finally:
        _kept.trains = None


def decoded(
    owner: Hashable, wanted: Sequence[Any], read: Callable[[Sequence[Any], bool], Iterator[Packed]]
) -> Iterator[Packed]:
    """Trains of these places, each from the round if it was decoded there before, and valid until the next.

    Parameters
    ----------
    owner : hashable
        The layer, as of a commit.
    wanted : sequence
        Places in it.
    read : callable
        Takes places, and True if trains need not outlive the next; returns their trains, in order.
    """
    kept = _kept.trains
    if kept is None:
        yield from read(wanted, True)
        return
    there = {place: trains for place in wanted if (trains := kept.get((owner, place))) is not None}
    absent = read([place for place in wanted if place not in there], False)
    for place in wanted:
        trains = there.pop(place, None)
        if trains is None:
            trains = next(absent)
            if _kept.size + trains.nbytes <= KEPT_BYTES:
                kept[owner, place] = trains
                _kept.size += trains.nbytes
        yield trains


def result_of(results: Sequence[Any], place: int) -> Any:
    """One of the results of a round."""
    return results[place]
