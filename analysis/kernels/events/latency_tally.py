"""Steps until a lane first fires in a presentation, added up in groups; exact across chunks and tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from analysis.kernels.events.by_group import loops
from analysis.kernels.events.lanes import UNSEEN, Lanes
from analysis.kernels.events.plain_loops import add_latencies
from analysis.kernels.selecting.pieces import NEVER, LaneRuns, Pieces
from recorder.format.bits import Counts, Integers, Packed


@dataclass(frozen=True, eq=False)
class LatencyEdge:
    """What the tasks beside one must know; int64 arrays.

    ``opening``, ``present`` and ``group``, of shape [samples]: start of the first sequence if it began before
    the task, start of the last one, and its group. ``first`` and ``fired``, of shape [neurons, samples]: the
    first latency in the opening sequence, and the start of the last sequence in which the lane fired.
    """

    opening: Integers
    present: Integers
    group: Integers
    first: Integers
    fired: Integers


@dataclass(frozen=True, eq=False)
class LatencySums:
    """Latencies of one task, or of several that follow each other.

    Attributes
    ----------
    moments : int64 array, shape [groups, places, 3]
        Number of latencies, their sum, the sum of their squares.
    histogram : int64 array, shape [groups, places, bins]
        Column i is the number of latencies of i steps; the last one counts longer ones as well.
    sequences : int64 array, shape [groups]
        Sequences that begin in the group, of each neuron.
    place_of_neuron : int64 array, shape [neurons]
    edge : LatencyEdge or None
        None if all sequences begin and end within.
    """

    moments: Counts
    histogram: Counts
    sequences: Integers
    place_of_neuron: Integers
    edge: LatencyEdge | None

    def censored(self) -> Counts:
        """Sequences in which the neuron was silent, int64 [groups, places]; of all tasks joined."""
        neurons = np.bincount(self.place_of_neuron, minlength=self.moments.shape[1])
        silent: Counts = self.sequences[:, None] * neurons - self.moments[:, :, 0]
        return silent


class LatencyTally:
    """Adds up the latencies of one task, chunk after chunk.

    A latency belongs to the group of the first frame of its sequence.

    Parameters
    ----------
    place_of_neuron : int64 array, shape [neurons]
    groups, places : int
    samples : int
        The largest batch.
    bins : int
        Columns of the histogram; 0 for none.
    """

    def __init__(
        self, place_of_neuron: Integers, groups: int, places: int, samples: int, bins: int = 0
    ) -> None:
        self._place_of_neuron = place_of_neuron
        self._lanes = Lanes(samples, place_of_neuron, places)
        self._group = np.full(samples, -1, np.int64)
        self._moments = np.zeros((groups, places, 3), np.int64)
        self._histogram = np.zeros((groups, places, bins), np.int64)
        self._sequences = np.zeros(groups, np.int64)

    def add(self, trains: Packed, pieces: Pieces) -> None:
        """Add the events of the pieces of the next chunk, uint8 [neurons, bytes]."""
        runs, walk = self._lanes.see(pieces, trains, len(self._place_of_neuron), len(self._moments))
        groups = np.full(int(pieces.batch.sum()), -1, np.int64)
        groups[walk.lane_at[runs.piece] + runs.sample] = self._groups_of(runs, pieces)
        trains = np.ascontiguousarray(trains)
        sums = (self._moments, self._histogram)
        loops().tally_latencies(trains, walk, self._place_of_neuron, lambda: self._kept, groups, *sums)

    def result(self) -> LatencySums:
        """What was added up."""
        edge = None
        if self._lanes.reach_out():
            lanes = self._lanes
            fired, _, first = self._kept
            first = np.where(first > 0, first - 1, NEVER)
            edge = LatencyEdge(lanes.opening, lanes.present, self._group, first, fired)
        return LatencySums(self._moments, self._histogram, self._sequences, self._place_of_neuron, edge)

    @cached_property
    def _kept(self) -> tuple[Integers, Integers, Integers]:
        """What must be known of lanes whose sequences go on; see `plain_loops.tally_latencies`."""
        lanes = (len(self._place_of_neuron), len(self._lanes.opening))
        return np.full(lanes, NEVER, np.int64), self._lanes.opening, np.zeros(lanes, np.int64)

    def _groups_of(self, runs: LaneRuns, pieces: Pieces) -> Integers:
        """Group of the sequence of each run, -1 for none or if it began before the task."""
        begins = runs.start == runs.first
        group = np.where(pieces.counts_latency[runs.piece], runs.group, -1)
        self._sequences += np.bincount(group[begins & (group >= 0)], minlength=len(self._sequences))
        order, head = runs.before()
        # A run that begins no sequence has the group of the nearest run of its sample that does.
        nearest = np.maximum.accumulate(np.where(begins[order], np.arange(len(order)), -1))
        found = np.where(nearest >= head, group[order][nearest], self._group[runs.sample[order]])
        group[order] = found
        self._group[runs.sample] = group
        return group


def join_latencies(left: LatencySums, right: LatencySums) -> LatencySums:
    """The latencies of two tasks, the frames of the second following those of the first; associative."""
    moments, histogram = left.moments + right.moments, left.histogram + right.histogram
    edge, a, b = left.edge, left.edge, right.edge
    if a is None or b is None:
        edge = b if a is None else a
    else:
        goes_on = (b.opening >= 0) & (a.present == b.opening)
        crosses = goes_on & (b.first != NEVER) & (a.fired != b.opening) & (a.group >= 0)
        neuron, sample = np.nonzero(crosses)
        place = left.place_of_neuron[neuron]
        add_latencies(moments, histogram, a.group[sample], place, b.first[neuron, sample])
        within = (a.opening == b.opening) & (a.opening >= 0)
        passes = (a.opening == UNSEEN) | (within & (a.first == NEVER))
        stays = (b.present == NEVER) | (goes_on & (b.present == b.opening))
        edge = LatencyEdge(
            opening=np.where(a.opening == UNSEEN, b.opening, a.opening),
            present=np.where(stays, a.present, b.present),
            group=np.where(stays, a.group, b.group),
            first=np.where(passes, b.first, a.first),
            fired=np.where(b.fired == NEVER, a.fired, b.fired),
        )
    sequences = left.sequences + right.sequences
    return replace(left, moments=moments, histogram=histogram, sequences=sequences, edge=edge)
