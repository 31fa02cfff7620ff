"""Which pieces are looked at word by word: those whose frames are alike, where that is less work than events.

A loop over words handles a step of up to 64 samples at a time, of several neurons side by side, but knows
neither where single samples are nor what was before. So it takes pieces that hold whole sequences, and few
groups. For counts, which need no sequences, it takes all whose steps are in the same groups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.selecting.grouping import count_up
from analysis.kernels.selecting.pieces import Walk
from recorder.format.bits import Bools, Integers, Packed

# Nanoseconds, about, for a neuron, on a processor of 2023. Words: to begin with a piece, to bring a word in
# place, to compare two words.
_BEGUN_NS: Final = 4.0
_TAKEN_NS: Final = 1.5
_COMPARED_NS: Final = 0.3
# Events: to begin with a piece, to look for them in a word, more if there are any, and to look at one; for
# pairs, for each lag as well.
_BEGUN_EVENTS_NS: Final = 12.0
_SEARCHED_NS: Final = 1.0
_LISTED_NS: Final = 5.0
_INTERVAL_NS: Final = 5.0
_LATENCY_NS: Final = 5.0
_LAG_NS: Final = 8.0
_OF_LAG_NS: Final = 0.1
# Counts by frames that have the same label: to look at a word, more if it has events, for each label as well;
# an event of a word with many; to write down a count, and to bring one in order that was not written so.
_LABELLED_NS: Final = 1.5
_WITH_EVENTS_NS: Final = 3.0
_OF_LABEL_NS: Final = 1.1
_COUNTED_NS: Final = 1.5
_WRITTEN_NS: Final = 0.7
_ORDERED_NS: Final = 5.0
# Of so many neurons at most events are counted, to know how many there are.
_LOOKED_AT: Final = 64
# A piece looked at by words has no more groups than this.
MOST_GROUPS: Final = 24
# All masks of a chunk are as wide as the largest batch. Should they take more words, batches of more than one
# word have none.
MASK_WORDS: Final = 2**20


# Nanoseconds for each piece, and more of them for each of its groups.
Work = tuple[NDArray[np.floating], NDArray[np.floating] | float]


class WordPieces(NamedTuple):
    """Pieces for loops over words; arrays [pieces] but for the last two.

    Step ``s`` of a piece is the frames from ``first + s * batch`` on, of which those in ``begin`` to ``end``
    belong to it. ``offset`` is the latency of an event at the first step. ``lane_at`` is as in `Walk`. The
    ``groups[p]`` groups of piece ``p`` are listed from ``group_at[p]`` on, and ``masks`` says which samples
    are in each, uint64 [listed, words], the first sample in the highest bit.
    """

    begin: Integers
    end: Integers
    first: Integers
    steps: Integers
    batch: Integers
    offset: Integers
    lane_at: Integers
    group_at: Integers
    groups: Integers
    listed: Integers
    masks: NDArray[np.uint64]


# `word_loops.list_groups`; numba is not imported before a loop is needed.
ListGroups = Callable[[Integers, Integers, Integers, Integers, Integers, NDArray[np.uint64]], None]


class Choice:
    """The pieces of a chunk, from which some are chosen.

    Parameters
    ----------
    trains : uint8 array, shape [neurons, bytes]
    walk : Walk
    list_groups : callable
        `analysis.kernels.events.word_loops.list_groups`.
    """

    def __init__(self, trains: Packed, walk: Walk, list_groups: ListGroups) -> None:
        self._walk, self._list_groups = walk, list_groups
        self._frames = walk.end - walk.begin
        self._steps = -(-(walk.skipped + self._frames) // walk.batch)
        self._parts = -(-walk.batch // 64)
        some = trains[:: max(-(-len(trains) // _LOOKED_AT), 1)]
        density = int(np.bitwise_count(some.view(np.uint64)).sum()) / max(some.size * 8, 1)
        self._events = self._frames * density
        self._has_events = min(64 * density, 1.0)
        searched = self._frames / 64 * (_SEARCHED_NS + _LISTED_NS * self._has_events)
        self._listed = _BEGUN_EVENTS_NS + searched
        # Until so many steps every lane has had an event, very likely.
        self._reach = np.minimum(self._steps, 8 / max(density, 1e-9))

    def for_counts(self) -> tuple[WordPieces, Integers, Walk]:
        """Pieces whose events are counted by words, the groups of all lanes, and the other pieces."""
        alike = self._alike() & ((self._steps > 1) | self._is_full())
        groups = self._groups_of_lanes(alike)
        words, frames = self._parts * self._steps, self._frames / 64
        by_mask = _BEGUN_NS + words * _TAKEN_NS, words * _COMPARED_NS + _WRITTEN_NS
        # What is counted for labels is kept apart for each label of the chunk, and put in order then.
        kept = groups[groups >= 0]
        ordered = (
            _ORDERED_NS * (int(kept.max(initial=-1)) - int(kept.min(initial=0)) + 1) / max(len(alike), 1)
        )
        labelled = frames * (_LABELLED_NS + _WITH_EVENTS_NS * min(2 * self._has_events, 1.0)) + ordered
        by_label = labelled, frames * _OF_LABEL_NS * self._has_events
        levels = np.frexp(self._steps.astype(np.float64))[1]
        each_sample = words * (_TAKEN_NS + levels * _COMPARED_NS) + self._walk.batch * _WRITTEN_NS
        by_sample = each_sample <= self._events * _COUNTED_NS + labelled
        pieces, rest = self._choose(alike, groups, by_mask, by_label, by_sample)
        return pieces, groups, rest

    def for_intervals(self) -> tuple[WordPieces, Walk]:
        """Pieces whose intervals are found by words, and the others."""
        whole = self._is_whole() & self._alike()
        words = self._parts * self._steps
        by_word = _BEGUN_NS + words * _TAKEN_NS, words * (self._reach / 2 + 2) * _COMPARED_NS
        by_event = self._listed + self._events * _INTERVAL_NS, 0.0
        return self._choose(whole, self._groups_of_lanes(whole), by_word, by_event)

    def for_latencies(self, groups: Integers) -> tuple[WordPieces, Walk]:
        """Pieces whose latencies are found by words, and the others.

        ``groups`` of all lanes are -1 also where latencies do not count.
        """
        words = self._parts * self._reach
        by_word = _BEGUN_NS + words * (_TAKEN_NS + _COMPARED_NS), words * _COMPARED_NS
        by_event = (self._listed + self._events * _LATENCY_NS) * self._reach / self._steps, 0.0
        return self._choose(self._is_whole(), groups, by_word, by_event)

    def for_lags(self, groups: Integers, lags: int) -> tuple[WordPieces, Walk]:
        """Pieces whose lags are found by words, and the others; ``groups`` of all lanes."""
        words = self._parts * self._steps
        compared = words * (np.minimum(lags, self._steps) + 2) * _COMPARED_NS
        by_word = _BEGUN_NS + words * _TAKEN_NS, compared
        by_event = self._listed + self._events * (_LAG_NS + lags * _OF_LAG_NS), 0.0
        return self._choose(self._is_whole(), groups, by_word, by_event)

    def _is_full(self) -> Bools:
        """Pieces of whole steps."""
        full: Bools = (self._walk.skipped == 0) & (self._frames == self._steps * self._walk.batch)
        return full

    def _is_whole(self) -> Bools:
        """Pieces of whole sequences, one for each sample."""
        walk, whole = self._walk, self._is_full()
        batch = walk.batch[whole]
        sample = np.repeat(walk.start_at[whole], batch) + count_up(batch)
        first, steps = np.repeat(walk.first_step[whole], batch), np.repeat(self._steps[whole], batch)
        here = (walk.starts[sample] == first) & (walk.ends[sample] == first + steps)
        whole[whole] = _all_of_each(here, batch)
        return whole

    def _alike(self) -> Bools:
        """Pieces of which all steps have the same code."""
        walk = self._walk
        codes = walk.step_codes[np.repeat(walk.step_at, self._steps) + count_up(self._steps)]
        return _all_of_each(codes == np.repeat(walk.step_codes[walk.step_at], self._steps), self._steps)

    def _groups_of_lanes(self, pieces: Bools) -> Integers:
        """Group of each sample of each piece, -1 for none, int64 [lanes of all pieces]; of alike pieces."""
        walk = self._walk
        lanes = np.repeat(pieces, walk.batch)
        groups = np.full(len(lanes), -1, np.int64)
        batch = walk.batch[pieces]
        sample_code = walk.sample_codes[np.repeat(walk.sample_at[pieces], batch) + count_up(batch)]
        step_code = np.repeat(walk.step_codes[walk.step_at[pieces]], batch)
        groups[lanes] = np.where((sample_code >= 0) & (step_code >= 0), sample_code + step_code, -1)
        return groups

    def _choose(
        self,
        suitable: Bools,
        groups: Integers,
        words: Work,
        events: Work,
        by_sample: Bools | None = None,
    ) -> tuple[WordPieces, Walk]:
        """Suitable pieces for which words take less time than events, and the other pieces.

        Of pieces of many groups those are chosen that may be looked at by sample.
        """
        walk = self._walk
        most = np.where(suitable, np.minimum(walk.batch, MOST_GROUPS), 0)
        if int(most.sum()) * int(self._parts[suitable].max(initial=1)) > MASK_WORDS:
            most[self._parts > 1] = 0
        group_at = np.zeros(len(most) + 1, np.int64)
        listed = np.empty(int(most.sum()), np.int64)
        masks = np.empty((len(listed), int(self._parts[most > 0].max(initial=1))), np.uint64)
        self._list_groups(walk.batch, groups, most, group_at, listed, masks)
        several = np.diff(group_at)
        chosen = (most > 0) & (words[0] + several * words[1] <= events[0] + several * events[1])
        kept = chosen & (several > 0)
        if by_sample is not None:
            many = suitable & (most == 0) & by_sample
            chosen, kept = chosen | many, kept | many
        offset = walk.time_offset[kept]
        pieces = WordPieces(
            begin=walk.begin[kept],
            end=walk.end[kept],
            first=walk.begin[kept] - walk.skipped[kept],
            steps=self._steps[kept],
            batch=walk.batch[kept],
            offset=offset,
            lane_at=walk.lane_at[kept],
            group_at=group_at[:-1][kept],
            groups=several[kept],
            listed=listed,
            masks=masks,
        )
        return pieces, walk.select(~chosen)


def _all_of_each(flags: Bools, lengths: Integers) -> Bools:
    """Whether all flags of each run are True, of runs of these lengths, none of them 0."""
    if len(lengths) == 0:
        return np.zeros(0, np.bool_)
    every: Bools = np.logical_and.reduceat(flags, np.cumsum(lengths) - lengths)
    return every
