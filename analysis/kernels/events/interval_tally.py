"""Intervals between successive events of a lane, added up in groups; exact across chunks and tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal

import numpy as np

from analysis.kernels.events.by_group import loops
from analysis.kernels.events.lanes import UNSEEN, Lanes
from analysis.kernels.events.plain_loops import CV2, HISTOGRAM, LV, MOMENTS, add_intervals
from analysis.kernels.selecting.pieces import NEVER, Pieces
from recorder.format.bits import Counts, Integers, Packed

Kind = Literal["moments", "histogram", "cv2", "lv"]
_KINDS: Final = {"moments": MOMENTS, "histogram": HISTOGRAM, "cv2": CV2, "lv": LV}


@dataclass(frozen=True, eq=False)
class IntervalEdge:
    """What the tasks beside one must know; int64 [neurons, samples] but for ``opening``, int64 [samples].

    ``first`` is the step of the first event of a sequence that began before the task, ``first_interval`` the
    interval behind it; with the groups of the frames where they end. ``last`` is the lane's last event and
    ``last_interval`` the interval that ended there. Steps are `NEVER` and intervals 0 where there are none.
    """

    opening: Integers
    first: Integers
    first_group: Integers
    first_interval: Integers
    second_group: Integers
    last: Integers
    last_interval: Integers


@dataclass(frozen=True, eq=False)
class IntervalSums:
    """Intervals of one task, or of several that follow each other.

    Attributes
    ----------
    kind : {"moments", "histogram", "cv2", "lv"}
    sums : int64 array, shape [groups, places, columns]
        Columns as in `analysis.kernels.events.plain_loops.add_intervals`.
    place_of_neuron : int64 array, shape [neurons]
    edge : IntervalEdge or None
        None if all sequences begin and end within.
    """

    kind: Kind
    sums: Counts
    place_of_neuron: Integers
    edge: IntervalEdge | None


class IntervalTally:
    """Adds up the intervals of one task, chunk after chunk.

    An interval belongs to the group of the frame where it ends, a pair of intervals to that where the second
    one ends.

    Parameters
    ----------
    place_of_neuron : int64 array, shape [neurons]
    groups, places : int
    samples : int
        The largest batch.
    kind : {"moments", "histogram", "cv2", "lv"}
    max_interval : int
        For histograms: longer intervals are counted together, in one more column.
    """

    def __init__(
        self,
        place_of_neuron: Integers,
        groups: int,
        places: int,
        samples: int,
        kind: Kind,
        max_interval: int = 0,
    ) -> None:
        self._kind: Kind = kind
        self._place_of_neuron = place_of_neuron
        self._lanes = Lanes(samples, place_of_neuron, places)
        columns = max_interval + 1 if kind == "histogram" else 3
        self._sums = np.zeros((groups, places, columns), np.int64)

    def add(self, trains: Packed, pieces: Pieces) -> None:
        """Add the events of the pieces of the next chunk, uint8 [neurons, bytes]."""
        _, walk = self._lanes.see(pieces, trains, len(self._place_of_neuron), len(self._sums))
        trains = np.ascontiguousarray(trains)
        kind = _KINDS[self._kind]
        loops().tally_intervals(trains, walk, self._place_of_neuron, lambda: self._kept, kind, self._sums)

    def result(self) -> IntervalSums:
        """What was added up."""
        edge = None
        if self._lanes.reach_out():
            last, former, opening, (first, first_group, *second) = self._kept
            nothing = np.zeros_like(first)
            first_interval, second_group = second or (nothing, nothing)
            former = former if former.size else nothing
            first = np.where(first > 0, first - 1, NEVER)
            edge = IntervalEdge(opening, first, first_group, first_interval, second_group, last, former)
        return IntervalSums(self._kind, self._sums, self._place_of_neuron, edge)

    @cached_property
    def _kept(self) -> tuple[Integers, Integers, Integers, Integers]:
        """What must be known of lanes whose sequences go on; see `plain_loops.tally_intervals`."""
        lanes = (len(self._place_of_neuron), len(self._lanes.opening))
        in_pairs = _KINDS[self._kind] >= CV2
        edge = np.zeros((4 if in_pairs else 2, *lanes), np.int64)
        former = np.zeros(lanes if in_pairs else (0, 0), np.int64)
        return np.full(lanes, NEVER, np.int64), former, self._lanes.opening, edge


def join_intervals(left: IntervalSums, right: IntervalSums) -> IntervalSums:
    """The intervals of two tasks, the frames of the second following those of the first; associative."""
    sums = left.sums + right.sums
    if left.edge is None or right.edge is None:
        return replace(left, sums=sums, edge=right.edge if left.edge is None else left.edge)
    kind, a, b = _KINDS[left.kind], left.edge, right.edge
    crosses = (b.opening >= 0) & (b.first != NEVER) & (a.last >= b.opening)
    crossing = np.where(crosses, b.first - a.last, 0)
    _add(kind, sums, left.place_of_neuron, b.first_group, crossing, a.last_interval)
    if kind >= CV2:
        _add(
            kind, sums, left.place_of_neuron, b.second_group, np.where(crosses, b.first_interval, 0), crossing
        )
    # The first event, and the first interval, of a sequence that began before both may lie in the second.
    within = (a.opening == b.opening) & (a.opening >= 0)
    passes = (a.opening == UNSEEN) | (within & (a.first == NEVER))
    crosses_first = within & crosses & (a.last == a.first)
    edge = IntervalEdge(
        opening=np.where(a.opening == UNSEEN, b.opening, a.opening),
        first=np.where(passes, b.first, a.first),
        first_group=np.where(passes, b.first_group, a.first_group),
        first_interval=np.where(
            passes, b.first_interval, np.where(crosses_first, crossing, a.first_interval)
        ),
        second_group=np.where(passes, b.second_group, np.where(crosses_first, b.first_group, a.second_group)),
        last=np.where(b.last == NEVER, a.last, b.last),
        last_interval=np.where(
            b.last == NEVER,
            a.last_interval,
            np.where(crosses & (b.last == b.first), crossing, b.last_interval),
        ),
    )
    return replace(left, sums=sums, edge=edge)


def _add(
    kind: int, sums: Counts, place_of_neuron: Integers, group: Integers, interval: Integers, former: Integers
) -> None:
    """Add intervals of lanes, int64 [neurons, samples], that are not 0 and end in a group."""
    kept = (interval > 0) & (group >= 0)
    place = place_of_neuron[np.nonzero(kept)[0]]
    add_intervals(kind, sums, group[kept], place, interval[kept], former[kept])
