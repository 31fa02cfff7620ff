"""Sequences: runs of steps of one sample without a break, over which intervals, lags and latencies may reach.

A presentation is one sequence unless steps of it are missing. Outside of trials, a boundary says where
sequences end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.selecting.grouping import Grouping
from analysis.kernels.selecting.selected_frames import SelectedFrames
from analysis.kernels.selecting.source import Source, frames_of, reader_of
from recorder.format.bits import Integers
from recorder.format.segments import Segments

# Outside of trials: no sequences, one for the whole run, or one for every so many steps.
Boundary = int | Literal["none"] | None


@dataclass(frozen=True, eq=False)
class Sequences:
    """The sequences of the selected frames of a layer.

    Segments follow each other in a *chain* if the steps of each come at once behind those of the one before,
    in the same trial or in none. A sample's sequence is a chain, or the part of it that has such a sample.

    Attributes
    ----------
    segments : Segments
    boundary : int, "none" or None
    chain_start, chain_end : int64 array, shape [segments]
        First step of the chain of each segment, and the step behind the last one.
    is_first : bool array, shape [segments]
        Whether the chain begins at the first step of its trial, in any layer, of those steps that are
        selected; or outside of trials, at the first step that is looked at.
    trial_start : int64 array, shape [segments]
        First step of the trial; outside of trials, of the chain.
    """

    segments: Segments
    boundary: Boundary
    chain_start: Integers
    chain_end: Integers
    is_first: NDArray[np.bool_]
    trial_start: Integers
    _uneven: dict[int, tuple[Integers, Integers]] = field(repr=False)

    def cut(self, row: Integers, begin: Integers, end: Integers) -> tuple[Integers, Integers, Integers]:
        """Runs of frames cut where sequences end; those that are in none are left out."""
        outside = self.segments.trial[row] < 0
        if self.boundary is None:
            return row[~outside], begin[~outside], end[~outside]
        if self.boundary == "none" or not outside.any():
            return row, begin, end
        cut = Grouping("steps", self.boundary).split(
            self.segments, row[outside], begin[outside], end[outside]
        )
        parts = zip((row, begin, end), cut[:3], strict=True)
        joined = [np.concatenate([whole[~outside], cut_up]) for whole, cut_up in parts]
        order = np.argsort(joined[1], kind="stable")
        row, begin, end = (values[order] for values in joined)
        return row, begin, end

    def bounds(self, row: Integers, sample: Integers, step: Integers) -> tuple[Integers, Integers]:
        """First step of the sequence of a sample in a segment at a step, and the step behind its last one."""
        start, end = self.chain_start[row], self.chain_end[row]
        for uneven in self._uneven.keys() & set(row.tolist()) if self._uneven else ():
            here = np.flatnonzero(row == uneven)
            starts, ends = self._uneven[uneven]
            start[here], end[here] = starts[sample[here]], ends[sample[here]]
        if isinstance(self.boundary, int):
            outside = self.segments.trial[row] < 0
            block = step // self.boundary * self.boundary
            start = np.where(outside, np.maximum(start, block), start)
            end = np.where(outside, np.minimum(end, block + self.boundary), end)
        return start, end

    def offsets(self, row: Integers, step: Integers) -> tuple[Integers, NDArray[np.bool_]]:
        """For the sequence of a segment at a step: its start as time, and whether latencies count in it."""
        time, counts = self.chain_start[row] - self.trial_start[row], self.is_first[row]
        if isinstance(self.boundary, int):
            # A block counts from its first step, unless that is missing; the first block may begin later.
            outside = self.segments.trial[row] < 0
            starts_in_time = self.chain_start[row] <= step // self.boundary * self.boundary
            counts = np.where(outside, starts_in_time | counts, counts)
        return time, counts


@lru_cache(maxsize=64)
def sequences_of(source: Source, boundary: Boundary) -> Sequences:
    """The sequences of a source, kept in this process."""
    frames = frames_of(source)
    segments = frames.segments
    trial, first_step, last_step = segments.trial, segments.first_step, segments.last_step
    follows = (first_step[1:] == last_step[:-1]) & (trial[1:] == trial[:-1])
    heads = np.flatnonzero(np.concatenate([[True], ~follows])[: len(segments)])
    lengths = np.diff(np.append(heads, len(segments)))
    start = np.repeat(first_step[heads], lengths)
    end = np.repeat(last_step[heads + lengths - 1] if len(heads) else heads, lengths)
    trial_start = start.copy()
    inside = trial >= 0
    if source.starts is not None:
        trial_start[inside] = source.starts.of_trials(trial[inside])
    return Sequences(
        segments=segments,
        boundary=boundary,
        chain_start=start,
        chain_end=end,
        is_first=_is_first(source, frames, start, trial_start),
        trial_start=trial_start,
        _uneven=_uneven_rows(segments, heads, lengths),
    )


def _is_first(
    source: Source, frames: SelectedFrames, start: Integers, trial_start: Integers
) -> NDArray[np.bool_]:
    """For each segment, whether its chain begins where its trial does; see `Sequences`."""
    selection, outside = source.selection, frames.segments.trial < 0
    begins = trial_start + (selection.times[0] if selection.times is not None else 0)
    if selection.steps is not None:
        begins = np.maximum(begins, selection.steps[0])
    if outside.any():
        # Where steps were lost there, the first one that was recorded is missing.
        recorded = selection.cut(reader_of(source).segments(), _no_starts)
        begins[outside] = recorded.first_step[recorded.trial < 0][0]
    is_first: NDArray[np.bool_] = start == begins
    return is_first


def _no_starts(_: Integers) -> Integers:
    raise ValueError("times are selected outside of trials, where there are none")


def _uneven_rows(
    segments: Segments, heads: Integers, lengths: Integers
) -> dict[int, tuple[Integers, Integers]]:
    """Bounds of the sequence of each sample in the segments of chains whose batches are not all equal."""
    uneven: dict[int, tuple[Integers, Integers]] = {}
    batch, first_step, last_step = segments.batch, segments.first_step, segments.last_step
    for head, length in zip(heads.tolist(), lengths.tolist(), strict=True):
        rows = range(head, head + length)
        if len(set(batch[head : head + length].tolist())) == 1:
            continue
        starts, ends = {}, {}
        for row in rows:
            starts[row] = np.full(batch[row], first_step[row])
            common = min(batch[row], batch[row - 1]) if row > head else 0
            if common:
                starts[row][:common] = starts[row - 1][:common]
        for row in reversed(rows):
            ends[row] = np.full(batch[row], last_step[row])
            common = min(batch[row], batch[row + 1]) if row + 1 < head + length else 0
            if common:
                ends[row][:common] = ends[row + 1][:common]
        uneven.update((row, (starts[row], ends[row])) for row in rows)
    return uneven
