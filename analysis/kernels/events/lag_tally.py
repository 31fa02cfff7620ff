"""Pairs of events of a lane that are so many steps apart, for autocorrelations; exact across tasks."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.events.by_group import loops
from analysis.kernels.events.lanes import Lanes
from analysis.kernels.selecting.pieces import NEVER, LaneRuns, Pieces
from recorder.format.bits import Counts, Integers, Packed


@dataclass(frozen=True, eq=False)
class LagSums:
    """Counts for the lags 1, 2, …; of several tasks together, they are added up.

    Attributes
    ----------
    pairs : int64 array, shape [groups, places, lags]
        Pairs of events of a lane, the second ``lag`` steps behind the first in the same sequence.
    earlier, later : int64 array, shape [groups, places, lags]
        Events that have a slot ``lag`` steps behind them, or before them, in the same sequence.
    slots : int64 array, shape [groups, places, lags]
        Pairs of slots.
    """

    pairs: Counts
    earlier: Counts
    later: Counts
    slots: Counts


class LagTally:
    """Adds up the pairs of one task, chunk after chunk. All frames of a sequence must be in one group.

    The task must be shown, without counting them, as many steps before its own as there are lags.

    Parameters
    ----------
    place_of_neuron : int64 array, shape [neurons]
    groups, places : int
    samples : int
        The largest batch.
    lags : int
    """

    def __init__(self, place_of_neuron: Integers, groups: int, places: int, samples: int, lags: int) -> None:
        self._place_of_neuron = place_of_neuron
        self._lags = lags
        self._lanes = Lanes(samples, place_of_neuron, places)
        self._group = np.full(samples, -1, np.int64)
        # The last group stands for none.
        self._pairs = np.zeros((groups + 1, places, lags), np.int64)
        self._since = np.zeros((groups + 1, places, lags + 1), np.int64)
        self._until = self._since.copy()
        self._frames_since = np.zeros((groups + 1, lags + 1), np.int64)

    def add(self, trains: Packed, pieces: Pieces, *, counting: bool = True) -> None:
        """Add the events of the pieces of the next chunk, uint8 [neurons, bytes].

        Raises
        ------
        ValueError
            If frames of one sequence are in different groups.
        """
        nowhere = len(self._pairs) - 1
        started = self._lanes.present.copy()
        runs, walk = self._lanes.see(pieces, trains, len(self._place_of_neuron), nowhere)
        self._check_groups(runs, started)
        self._group[runs.sample] = runs.group
        group = np.where((runs.group >= 0) & counting, runs.group, nowhere)
        groups = np.full(int(pieces.batch.sum()), nowhere, np.int64)
        groups[walk.lane_at[runs.piece] + runs.sample] = group
        self._count_frames(runs, group)
        trains = np.ascontiguousarray(trains)
        sums = (self._pairs, self._since, self._until)
        loops().tally_lags(trains, walk, self._place_of_neuron, lambda: self._kept, groups, self._lags, *sums)

    def result(self) -> LagSums:
        """What was added up."""
        neurons = np.bincount(self._place_of_neuron, minlength=self._pairs.shape[1])
        slots = _at_least(self._frames_since)[:-1, None, :] * neurons[:, None]
        return LagSums(self._pairs[:-1], _at_least(self._until)[:-1], _at_least(self._since)[:-1], slots)

    @cached_property
    def _kept(self) -> tuple[Integers, NDArray[np.uint64]]:
        """What must be known of lanes whose sequences go on; see `plain_loops.tally_lags`."""
        lanes = (len(self._place_of_neuron), len(self._lanes.opening))
        return np.full(lanes, NEVER, np.int64), np.zeros((*lanes, -(-self._lags // 64)), np.uint64)

    def _check_groups(self, runs: LaneRuns, started: Integers) -> None:
        order, head = runs.before()
        sample, start, group = runs.sample[order], runs.start[order], runs.group[order]
        is_first = head == np.arange(len(order))
        start_before = np.where(is_first, started[sample], np.roll(start, 1))
        group_before = np.where(is_first, self._group[sample], np.roll(group, 1))
        if not runs.stays.all() or ((start == start_before) & (group != group_before)).any():
            raise ValueError(
                "the steps of one presentation are in different groups, and pairs of events would lie in two;"
                " ask for autocorrelations per trial, per sample or per column of the trials, not along steps"
            )

    def _count_frames(self, runs: LaneRuns, group: Integers) -> None:
        """Count frames by the steps before them in their sequence, those with as many as lags together."""
        lags = self._lags
        first, behind = runs.first - runs.start, runs.last + 1 - runs.start
        edges = np.zeros((len(self._frames_since), lags + 1), np.int64)
        np.add.at(edges, (group, np.minimum(first, lags)), 1)
        np.add.at(edges, (group, np.minimum(behind, lags)), -1)
        self._frames_since[:, :-1] += np.cumsum(edges, axis=1)[:, :-1]
        np.add.at(self._frames_since[:, -1], group, np.maximum(behind - np.maximum(first, lags), 0))


def _at_least(counts: Counts) -> Counts:
    """From numbers with 0, 1, … (or more) to numbers with at least 1, 2, …: one column less."""
    return np.cumsum(counts[..., ::-1], axis=-1)[..., -2::-1]


def join_lags(left: LagSums, right: LagSums) -> LagSums:
    """The sums of two tasks."""
    both = (getattr(left, field.name) + getattr(right, field.name) for field in fields(LagSums))
    return LagSums(*both)
