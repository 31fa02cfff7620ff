"""Groups of frames along time: steps, windows of steps, trials. Pure arithmetic on segments.

A group has an integer *key*: the number of the step, of the window, or of the trial. Keys never go down from
one frame to the next, so a range of keys is a range of frames. The keys that occur are kept as *ranges*, an
int64 array of shape [ranges, 2] (first, last exclusive), ascending and disjoint: a million steps in a row are
one range. A group's *position* is its place among all keys of some ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recorder.format import RecordingFormatError
from recorder.format.bits import Integers
from recorder.format.segments import Segments, merge_ranges


@dataclass(frozen=True)
class Grouping:
    """Which frames belong together.

    Attributes
    ----------
    kind : {"all", "steps", "trial"}
        All frames in one group (key 0), runs of steps, or trials (frames in no trial are in no group).
    steps : int
        For ``"steps"``: length of a run. One makes each step a group.
    anchor : int
        For ``"steps"``: the step where run 0 begins.
    """

    kind: Literal["all", "steps", "trial"] = "all"
    steps: int = 1
    anchor: int = 0

    def ranges_of(self, segments: Segments) -> Integers:
        """Keys that occur in the segments, as ranges.

        Raises
        ------
        RecordingFormatError
            If trials are asked for and their numbers go down from one segment to the next.
        """
        if self.kind == "all":
            first = np.zeros(min(len(segments), 1), np.int64)
            last = first + 1
        elif self.kind == "trial":
            first = segments.trial[segments.trial >= 0]
            if (np.diff(first) < 0).any():
                raise RecordingFormatError("the trials of this layer's segments are not in ascending order")
            last = first + 1
        else:
            first, last = self.key_of(segments.first_step), self.key_of(segments.last_step - 1) + 1
        return merge_ranges(np.stack([first, last], axis=1))

    def frames_of(
        self, segments: Segments, first_keys: Integers, last_keys: Integers
    ) -> tuple[Integers, Integers]:
        """Ranges of frames that hold the groups from each first key to each last key (exclusive).

        Returns
        -------
        first, last : int64 array, shape [ranges]
            Equal where there are no such groups.
        """
        nothing = np.zeros(len(first_keys), np.int64)
        if len(segments) == 0:
            return nothing, nothing
        if self.kind == "all":
            return nothing + segments.first_frame[0], nothing + segments.last_frame[-1]
        if self.kind == "trial":
            in_trial = segments.select(segments.trial >= 0)
            first_row, last_row = np.searchsorted(in_trial.trial, np.stack([first_keys, last_keys]))
            ends = np.append(in_trial.first_frame, in_trial.last_frame[-1:])
            # Frames between trials may lie behind the last one asked for; they are in no group.
            last = np.append(0, in_trial.last_frame)[last_row] if len(in_trial) else nothing
            first = ends[first_row] if len(in_trial) else nothing
            return first, np.maximum(first, last)
        first, last = (
            frames_of_steps(segments, self.anchor + keys * self.steps) for keys in (first_keys, last_keys)
        )
        return first, last

    def keys_at(self, segments: Segments, frames: Integers) -> Integers:
        """Key of the group that each frame of the segments lies in, or would lie in, int64 [frames]."""
        row = np.maximum(np.searchsorted(segments.first_frame, frames, side="right") - 1, 0)
        if self.kind == "all":
            return np.zeros(len(frames), np.int64)
        if self.kind == "trial":
            return segments.trial[row]
        steps = np.minimum(segments.steps_of(frames, row), segments.last_step[row] - 1)
        return self.key_of(steps)

    def split(
        self, segments: Segments, row: Integers, begin: Integers, end: Integers
    ) -> tuple[Integers, Integers, Integers, Integers]:
        """Cut runs of frames where one group ends and the next begins.

        Parameters
        ----------
        segments : Segments
        row, begin, end : int64 array, shape [runs]
            Frames ``begin`` to ``end`` (exclusive, not empty) of segment ``row``.

        Returns
        -------
        row, begin, end, key : int64 array, shape [runs after cutting]
        """
        if self.kind == "all":
            return row, begin, end, np.zeros(len(row), np.int64)
        if self.kind == "trial":
            key = segments.trial[row]
            inside = key >= 0
            return row[inside], begin[inside], end[inside], key[inside]
        first_key = self.key_of(segments.steps_of(begin, row))
        pieces = self.key_of(segments.steps_of(end - 1, row)) + 1 - first_key
        row, begin, end = np.repeat(row, pieces), np.repeat(begin, pieces), np.repeat(end, pieces)
        key = np.repeat(first_key, pieces) + count_up(pieces)
        group_step = self.anchor + key * self.steps - segments.first_step[row]
        group_begin = segments.first_frame[row] + group_step * segments.batch[row]
        group_end = group_begin + self.steps * segments.batch[row]
        return row, np.maximum(begin, group_begin), np.minimum(end, group_end), key

    def key_of(self, steps: Integers) -> Integers:
        """Key of the run that each step is in."""
        keys: Integers = (steps - self.anchor) // self.steps
        return keys


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of frames along time that are told apart, in the order of their keys.

    Attributes
    ----------
    grouping : Grouping
    ranges : int64 array, shape [ranges, 2]
        Keys of the groups.
    """

    grouping: Grouping
    ranges: Integers

    def __len__(self) -> int:
        return range_size(self.ranges)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of the axis of groups."""
        return (len(self),)

    def part(self, first: int, last: int) -> Groups:
        """The groups at positions ``first`` to ``last`` (exclusive)."""
        return Groups(self.grouping, slice_ranges(self.ranges, first, last))


def count_up(lengths: Integers) -> Integers:
    """0, 1, … below each length, one after the other.

    Examples
    --------
    >>> count_up(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    ends = np.cumsum(lengths)
    return np.arange(int(lengths.sum()), dtype=np.int64) - np.repeat(ends - lengths, lengths)


def unite_ranges(several: Sequence[Integers]) -> Integers:
    """Ranges of the keys that occur in any of several ranges."""
    return merge_ranges(np.concatenate([np.empty((0, 2), np.int64), *several]))


def range_size(ranges: Integers) -> int:
    """Number of keys."""
    return int((ranges[:, 1] - ranges[:, 0]).sum())


def positions_of(ranges: Integers, keys: Integers) -> Integers:
    """Position of each key among all keys of the ranges; for a key that is not there, of the next one."""
    lengths = ranges[:, 1] - ranges[:, 0]
    offset = np.cumsum(lengths) - lengths
    index = np.maximum(np.searchsorted(ranges[:, 0], keys, side="right") - 1, 0)
    positions: Integers = offset[index] + np.clip(keys - ranges[index, 0], 0, lengths[index])
    return positions


def keys_of(ranges: Integers, positions: Integers) -> Integers:
    """Key at each position, from 0 to below the number of keys; the way back from `positions_of`."""
    lengths = ranges[:, 1] - ranges[:, 0]
    offset = np.cumsum(lengths) - lengths
    index = np.searchsorted(offset, positions, side="right") - 1
    keys: Integers = ranges[index, 0] + positions - offset[index]
    return keys


def slice_ranges(ranges: Integers, first: int, last: int) -> Integers:
    """Ranges of the keys at positions ``first`` to ``last`` (exclusive)."""
    lengths = ranges[:, 1] - ranges[:, 0]
    offset = np.cumsum(lengths) - lengths
    begin = ranges[:, 0] + np.clip(first - offset, 0, lengths)
    end = ranges[:, 0] + np.clip(last - offset, 0, lengths)
    kept: Integers = np.stack([begin, end], axis=1)[end > begin]
    return kept


def range_keys(ranges: Integers) -> Integers:
    """Every key of the ranges, one by one."""
    lengths = ranges[:, 1] - ranges[:, 0]
    return np.repeat(ranges[:, 0], lengths) + count_up(lengths)


def frames_of_steps(segments: Segments, steps: Integers) -> Integers:
    """First frame at or behind each step."""
    row = np.searchsorted(segments.last_step, steps, side="right")
    inside = np.minimum(row, len(segments) - 1)
    skipped = np.maximum(steps - segments.first_step[inside], 0) * segments.batch[inside]
    behind = segments.last_frame[-1]
    frames: Integers = np.where(row < len(segments), segments.first_frame[inside] + skipped, behind)
    return frames
