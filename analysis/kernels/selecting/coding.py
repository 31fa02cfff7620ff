# ruff: noqa: ARG002, D102 - methods of axes use some of what they are given; the base says what they return.
"""Codes of frames: the place of every frame along axes such as samples, times and columns of the trials.

Most axes tell either the steps of a segment apart or its samples. So the code of a frame is the code of its
step plus the code of its sample: codes are worked out for steps and for samples, of which there are few, not
for every frame. A negative code stands for what has no place along the axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from analysis.kernels.selecting.grouping import (
    Grouping,
    Groups,
    count_up,
    keys_of,
    positions_of,
    range_size,
    slice_ranges,
)
from analysis.kernels.selecting.pieces import Pieces
from analysis.kernels.selecting.selected_frames import SelectedFrames
from analysis.kernels.selecting.selection import Labels
from analysis.kernels.selecting.sequences import Sequences
from analysis.kernels.selecting.source import Source, column_of, frames_of
from recorder.format.bits import Integers

NOWHERE = -1


@dataclass(frozen=True, eq=False)
class Axis:
    """Something that tells frames apart, in ``size`` places.

    Attributes
    ----------
    size : int
    grouping : Grouping or None
        Where places never go down from one frame to the next, the groups of frames that they come from.
    """

    size: int

    grouping: ClassVar[Grouping | None] = None
    needs_rows: ClassVar[bool] = False

    def step_codes(self, source: Source, frames: SelectedFrames, row: Integers, step: Integers) -> Integers:
        """Place of each step of a segment given by its index; 0 where steps are not told apart."""
        return np.zeros(len(row), np.int64)

    def sample_codes(
        self, source: Source, frames: SelectedFrames, row: Integers, sample: Integers
    ) -> Integers:
        """Place of each sample of a segment given by its index; 0 where samples are not told apart."""
        return np.zeros(len(row), np.int64)

    def part(self, first: int, last: int) -> tuple[Axis, int]:
        """An axis that knows places ``first`` to ``last`` at least, and how many of this it leaves out first.

        It travels with tasks; where an axis is long, its part is shorter.
        """
        return self, 0


@dataclass(frozen=True, eq=False)
class GroupAxis(Axis):
    """Steps, windows of steps or trials, see `Grouping`; ``ranges`` are the keys of all groups."""

    groups: Grouping
    ranges: Integers

    @property
    def grouping(self) -> Grouping:  # type: ignore[override]
        return self.groups

    def step_codes(self, source: Source, frames: SelectedFrames, row: Integers, step: Integers) -> Integers:
        if self.groups.kind == "trial":
            return _known_positions(self.ranges, frames.segments.trial[row])
        return _known_positions(self.ranges, self.groups.key_of(step))

    def part(self, first: int, last: int) -> tuple[Axis, int]:
        return GroupAxis(last - first, self.groups, slice_ranges(self.ranges, first, last)), first


@dataclass(frozen=True, eq=False)
class TimeAxis(Axis):
    """Steps since the first step of the trial."""

    def step_codes(self, source: Source, frames: SelectedFrames, row: Integers, step: Integers) -> Integers:
        trial = frames.segments.trial[row]
        codes = np.full(len(row), NOWHERE, np.int64)
        inside = trial >= 0
        if inside.any() and source.starts is not None:
            codes[inside] = step[inside] - source.starts.of_trials(trial[inside])
        return codes


@dataclass(frozen=True, eq=False)
class SampleAxis(Axis):
    """Numbers of samples in their batch."""

    def sample_codes(
        self, source: Source, frames: SelectedFrames, row: Integers, sample: Integers
    ) -> Integers:
        return sample


@dataclass(frozen=True, eq=False)
class ColumnAxis(Axis):
    """Values of a column of the trials, in this order."""

    name: str
    values: Labels

    needs_rows = True

    def sample_codes(
        self, source: Source, frames: SelectedFrames, row: Integers, sample: Integers
    ) -> Integers:
        # The last place is reached by -1, no row in the table.
        codes = np.append(column_of(source, self.name, self.values).code, NOWHERE)
        return codes[frames.table_rows(row, sample)].astype(np.int64)


@dataclass(frozen=True, eq=False)
class PresentationAxis(Axis):
    """Samples of trials: those of the trial at a position among ``ranges`` begin at ``base`` of it."""

    ranges: Integers
    base: Integers

    grouping = Grouping("trial")

    def sample_codes(
        self, source: Source, frames: SelectedFrames, row: Integers, sample: Integers
    ) -> Integers:
        position = _known_positions(self.ranges, frames.segments.trial[row])
        return np.where(position >= 0, self.base[position] + sample, NOWHERE)

    def part(self, first: int, last: int) -> tuple[Axis, int]:
        begin = int(np.searchsorted(self.base, first, side="right")) - 1
        end = int(np.searchsorted(self.base, last, side="left"))
        base, ranges = self.base[begin : end + 1], slice_ranges(self.ranges, begin, end)
        return PresentationAxis(int(base[-1] - base[0]), ranges, base - base[0]), int(base[0])


def _known_positions(ranges: Integers, keys: Integers) -> Integers:
    """Position of each key among those of the ranges, `NOWHERE` for others."""
    if len(ranges) == 0:
        return np.full(len(keys), NOWHERE, np.int64)
    positions = positions_of(ranges, keys)
    there = np.minimum(positions, range_size(ranges) - 1)
    return np.where(keys_of(ranges, there) == keys, there, NOWHERE)


@dataclass(frozen=True, eq=False)
class CodedGroups:
    """Groups of frames that several axes tell apart, or one along which frames come in no order.

    Attributes
    ----------
    axes : tuple of Axis
    first, last : int
        Places along the first axis, of which only frames at ``first`` to ``last`` (exclusive) are in a group.
    """

    axes: tuple[Axis, ...]
    first: int
    last: int

    @classmethod
    def along(cls, axes: Sequence[Axis]) -> CodedGroups:
        """All groups along some axes."""
        return cls(tuple(axes), 0, axes[0].size)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths along the axes."""
        return (self.last - self.first, *(axis.size for axis in self.axes[1:]))

    @property
    def inner(self) -> int:
        """Groups at each place along the first axis."""
        return prod(self.shape[1:])

    def __len__(self) -> int:
        return prod(self.shape)

    def part(self, first: int, last: int) -> CodedGroups:
        """The groups at places ``first`` to ``last`` (exclusive) of these along the first axis."""
        axis, left_out = self.axes[0].part(self.first + first, self.first + last)
        first, last = self.first + first - left_out, self.first + last - left_out
        return CodedGroups((axis, *self.axes[1:]), first, last)

    def pieces(
        self, source: Source, first: int, last: int, origin: int = 0, sequences: Sequences | None = None
    ) -> Pieces:
        """Frames ``first`` to ``last`` (exclusive) of a source, in pieces that are numbered from ``origin``.

        Where sequences are given, only frames in one of them are in pieces; otherwise the parts of the result
        that are about them mean nothing.
        """
        frames = frames_of(source, any(axis.needs_rows for axis in self.axes))
        segments = frames.segments
        runs = frames.runs(first, last)
        runs = runs if sequences is None else sequences.cut(*runs)
        row, begin, end, skipped = _within_batches(frames, *runs)
        batch = segments.batch[row]
        step = segments.steps_of(begin, row)
        steps = (skipped + (end - begin) - 1) // np.maximum(batch, 1) + 1
        # A piece of one step knows the samples that it has; of several, all samples of a batch.
        samples = np.where(steps > 1, batch, end - begin)
        first_sample = np.where(steps > 1, 0, skipped)
        of_step = np.repeat(row, steps), np.repeat(step, steps) + count_up(steps)
        of_sample = np.repeat(row, samples), np.repeat(first_sample, samples) + count_up(samples)
        step_codes, sample_codes = np.zeros(len(of_step[0]), np.int64), np.zeros(len(of_sample[0]), np.int64)
        stride = self.inner
        for place, axis in enumerate(self.axes):
            one, other = (
                axis.step_codes(source, frames, *of_step),
                axis.sample_codes(source, frames, *of_sample),
            )
            if place == 0:
                one, other = self._within(one, other)
            else:
                stride //= axis.size
            step_codes = np.where((one < 0) | (step_codes < 0), NOWHERE, step_codes + one * stride)
            sample_codes = np.where((other < 0) | (sample_codes < 0), NOWHERE, sample_codes + other * stride)
        if frames.masked[row].any():
            sample_codes[~frames.has_samples(*of_sample)] = NOWHERE
        sample_at = np.cumsum(samples) - samples - first_sample
        nothing = np.zeros(len(row), np.int64)
        starts, ends, offset, counts_latency = nothing, nothing, nothing, np.zeros(len(row), np.bool_)
        if sequences is not None:
            starts, ends = sequences.bounds(*of_sample, np.repeat(step, samples))
            offset, counts_latency = sequences.offsets(row, step)
        return Pieces(
            begin=begin - origin,
            end=end - origin,
            first_step=step,
            skipped=skipped,
            batch=batch,
            step_at=np.cumsum(steps) - steps,
            sample_at=sample_at,
            start_at=sample_at,
            time_offset=offset,
            counts_latency=counts_latency,
            step_codes=step_codes,
            sample_codes=sample_codes,
            starts=starts,
            ends=ends,
        )

    def _within(self, step_codes: Integers, sample_codes: Integers) -> tuple[Integers, Integers]:
        """Places along the first axis, counted from the first that is looked at."""

        def inside(codes: Integers) -> Integers:
            return np.where((codes >= self.first) & (codes < self.last), codes - self.first, NOWHERE)

        # Of the two, one is all zeros: that which the axis does not tell apart.
        by_sample = isinstance(self.axes[0], SampleAxis | ColumnAxis | PresentationAxis)
        return (step_codes, inside(sample_codes)) if by_sample else (inside(step_codes), sample_codes)


def coded_groups(groups: Groups | CodedGroups) -> CodedGroups:
    """Groups as codes; of a single place if nothing is kept apart."""
    if isinstance(groups, CodedGroups):
        return groups
    if groups.grouping.kind == "all":
        return CodedGroups.along([Axis(1)])
    return CodedGroups.along([GroupAxis(len(groups), groups.grouping, groups.ranges)])


def _within_batches(
    frames: SelectedFrames, row: Integers, begin: Integers, end: Integers
) -> tuple[Integers, Integers, Integers, Integers]:
    """Runs of frames, and the samples that they begin with; none shorter than a batch has two steps."""
    batch = frames.segments.batch[row]
    skipped = (begin - frames.segments.first_frame[row]) % np.maximum(batch, 1)
    cut = begin + batch - skipped
    pieces = np.where((end - begin < batch) & (cut < end), 2, 1)
    second = count_up(pieces) == 1
    row, begin, end = np.repeat(row, pieces), np.repeat(begin, pieces), np.repeat(end, pieces)
    cut, skipped, is_cut = np.repeat(cut, pieces), np.repeat(skipped, pieces), np.repeat(pieces == 2, pieces)
    end = np.where(is_cut & ~second, cut, end)
    return row, np.where(second, cut, begin), end, np.where(second, 0, skipped)
