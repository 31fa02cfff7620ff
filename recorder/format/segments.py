"""Segments translate between frame numbers and (step, sample) pairs, for the writer and for readers.

A segment is a run of frames with one batch size and one trial. In a segment, frame ``f`` is sample
``(f - first_frame) % batch`` at step ``first_step + (f - first_frame) // batch``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recorder.format.errors import RecordingFormatError
from recorder.format.layout import NO_TRIAL, SEGMENT_COLUMNS
from recorder.format.record.metadata import MAX_FRAMES

Rows = NDArray[np.int64]


def no_rows() -> Rows:
    """A table of segments without any."""
    return np.empty((0, len(SEGMENT_COLUMNS)), np.int64)


class SegmentLog:
    """The growing list of segments of one layer, on the writer's side.

    A step that continues the last segment (next step, same batch, same trial) makes that segment longer; any
    other step begins a new one.

    Parameters
    ----------
    last : int64 array, shape [0 or 1, 5], optional
        Last segment of a resumed recording, which may still grow.

    Attributes
    ----------
    frames : int
        Frames in all segments so far.
    """

    def __init__(self, last: Rows | None = None) -> None:
        self.frames = 0
        self._closed: list[tuple[int, ...]] = []
        self._open: list[int] | None = None
        if last is not None and len(last):
            self._open = last[-1].tolist()
            self.frames = self._open[0] + self._open[2] * self._open[3]

    @property
    def last_step(self) -> int:
        """Step behind the newest one; 0 before there is one."""
        return self._open[1] + self._open[2] if self._open else 0

    def frame_at(self, step: int) -> int:
        """First frame of a step or later ones; only of steps whose segments were not forgotten."""
        for first, first_step, steps, batch, _ in (*self._closed, *([self._open] if self._open else [])):
            if step < first_step + steps:
                return first + max(step - first_step, 0) * batch
        return self.frames

    def extend(self, first_step: int, steps: int, batch: int, trial: int = NO_TRIAL) -> None:
        """Add ``steps`` consecutive steps of ``batch`` frames each."""
        row = self._open
        if row is not None and row[3] == batch and row[4] == trial and row[1] + row[2] == first_step:
            row[2] += steps
        else:
            finished = [tuple(row)] if row is not None else []
            # No call, at which an exception from outside could come up, from here on.
            self._closed += finished
            self._open = [self.frames, first_step, steps, batch, trial]
        self.frames += steps * batch

    def look(self) -> tuple[Rows, Rows]:
        """Segments finished and not forgotten, and the one (or none) that may still grow."""
        closed = np.array(self._closed, np.int64) if self._closed else no_rows()
        return closed, np.array([self._open], np.int64) if self._open else no_rows()

    def forget(self, closed: int) -> None:
        """Forget the first of the finished segments: so many, which somebody else keeps now."""
        del self._closed[:closed]


@dataclass(frozen=True)
class Segments:
    """A table that says which step, sample and trial each frame of one layer is.

    Each row is a segment: ``steps`` consecutive steps with ``batch`` frames each, numbered from
    ``first_frame`` on, all in one trial or all in none. Rows are in order and overlap neither in frames nor
    in steps. Steps in which the layer was not called are in no row. For example::

        first_frame  first_step  steps  batch  trial
                  0           0     10     32      0      frames   0–319 are steps 0–9, 32 samples each
                320          10      5     16      1      frames 320–399 are steps 10–14, 16 samples each

    In a whole layer, segments follow each other without a gap in frames. A selection (`select_steps`,
    `without`, `select`) may leave frames out; the remaining frames keep their numbers.

    Attributes
    ----------
    rows : int64 array, shape [segments, 5]
        Columns ``first_frame``, ``first_step``, ``steps``, ``batch``, ``trial`` (-1: no trial).
    """

    rows: Rows

    @property
    def first_frame(self) -> Rows:
        """First frame of each segment."""
        return self.rows[:, 0]

    @property
    def first_step(self) -> Rows:
        """First step of each segment."""
        return self.rows[:, 1]

    @property
    def steps(self) -> Rows:
        """Number of steps in each segment."""
        return self.rows[:, 2]

    @property
    def batch(self) -> Rows:
        """Batch size of each segment: samples at each of its steps."""
        return self.rows[:, 3]

    @property
    def trial(self) -> Rows:
        """Trial of each segment; -1 outside trials."""
        return self.rows[:, 4]

    @property
    def last_frame(self) -> Rows:
        """Frame after the last one of each segment."""
        return self.first_frame + self.steps * self.batch

    @property
    def last_step(self) -> Rows:
        """Step after the last one of each segment."""
        return self.first_step + self.steps

    @property
    def frames(self) -> int:
        """Number of frames in all segments together."""
        return int((self.steps * self.batch).sum())

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[int, int, int, int, int]]:
        for row in self.rows.tolist():
            yield tuple(row)

    def segment_of(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        """Index of the segment that holds each frame, -1 where none does; same shape as ``frames``."""
        index = np.searchsorted(self.first_frame, frames, side="right") - 1
        inside = (index >= 0) & (frames < self.last_frame[index])
        return np.where(inside, index, -1)

    def steps_of(self, frames: NDArray[np.int64], segment: NDArray[np.int64]) -> NDArray[np.int64]:
        """Step of each frame; ``segment`` is the index of its segment, from `segment_of`."""
        return self.first_step[segment] + (frames - self.first_frame[segment]) // self.batch[segment]

    def samples_of(self, frames: NDArray[np.int64], segment: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sample of each frame; ``segment`` is the index of its segment, from `segment_of`."""
        samples: NDArray[np.int64] = (frames - self.first_frame[segment]) % self.batch[segment]
        return samples

    def select_steps(self, first: int | Rows, last: int | Rows) -> Segments:
        """Segments cut to steps ``first`` to ``last`` (exclusive), which may be one of each segment."""
        begin = np.clip(self.first_step, first, last)
        end = np.clip(self.last_step, first, last)
        skipped = (begin - self.first_step) * self.batch
        rows = np.stack([self.first_frame + skipped, begin, end - begin, self.batch, self.trial], axis=1)
        return Segments(rows[end > begin])

    def without(self, frames: Rows) -> Segments:
        """Segments from which ranges of frames are taken out.

        Parameters
        ----------
        frames : int64 array, shape [ranges, 2]
            First frame of each range, and the frame after its last one; ascending and disjoint.

        Raises
        ------
        ValueError
            If a range does not begin and end at the boundary of a step.
        """
        if len(frames) == 0 or len(self) == 0:
            return self
        begin = np.unique(np.concatenate([self.first_frame, frames.ravel()]))
        begin = begin[begin < self.last_frame[-1]]
        end = np.append(begin[1:], self.last_frame[-1])
        row = self.segment_of(begin)
        if (row < 0).any() or self.samples_of(begin, row).any():
            raise ValueError("they do not begin and end with steps")
        batch = self.batch[row]
        rows = np.stack([begin, self.steps_of(begin, row), (end - begin) // batch, batch, self.trial[row]], 1)
        is_kept = np.searchsorted(frames[:, 0], begin, side="right") == np.searchsorted(
            frames[:, 1], begin, side="right"
        )
        return Segments(rows[is_kept])

    def whole_steps(self, frames: Rows) -> Rows:
        """Ranges of frames, int64 [ranges, 2], each widened to the whole steps that it touches."""
        begin, last = frames[:, 0], frames[:, 1] - 1
        begin = begin - self.samples_of(begin, self.segment_of(begin))
        row = self.segment_of(last)
        return np.stack([begin, last - self.samples_of(last, row) + self.batch[row]], axis=1)

    def select(self, kept: NDArray[np.bool_]) -> Segments:
        """Segments for which ``kept``, bool [segments], is true."""
        return Segments(self.rows[kept])


def clip_segments(rows: Rows, frames: int) -> Rows:
    """Cut stored segments to the first ``frames`` frames: drop later rows, shorten the last one.

    A writer that works on the next commit may already have stored more than the commit being read promises.
    """
    rows = rows[rows[:, 0] < frames].copy()
    if len(rows):
        # Python integers, because differences in a stranger's table may exceed 64 bits.
        first, _, steps, batch, _ = rows[-1].tolist()
        rows[-1, 2] = min(steps, (frames - first) // max(batch, 1))
    return rows


def check_segments(rows: Rows, frames: int, place: str) -> Segments:
    """Check that rows follow each other without gap or overlap, and cover exactly ``frames`` frames.

    Raises
    ------
    RecordingFormatError
        If they do not. The message names ``place``, and the first row that does not fit.
    """
    expected_frame = 0
    segments = Segments(rows)
    bad = (
        (segments.steps < 1) | (segments.batch < 1) | (segments.first_step < 0) | (segments.trial < NO_TRIAL)
    )
    # These limits keep all products and sums of columns, here and in other modules, within 64 bits.
    bad |= (segments.batch > frames) | (segments.steps > frames // np.maximum(segments.batch, 1))
    bad |= (segments.first_step > MAX_FRAMES) | (segments.trial > MAX_FRAMES)
    if not bad.any():
        ends = segments.last_frame
        bad = segments.first_frame != np.concatenate([[0], ends[:-1]])
        bad |= segments.first_step < np.concatenate([[0], segments.last_step[:-1]])
        expected_frame = int(ends[-1]) if len(rows) else 0
    if bad.any():
        row = int(np.argmax(bad))
        named = dict(zip(SEGMENT_COLUMNS, rows[row].tolist(), strict=True))
        raise RecordingFormatError(
            f"{place}: segment {row} is {named}, which does not continue the one before it"
        )
    if expected_frame != frames:
        raise RecordingFormatError(
            f"{place}: segments cover {expected_frame} frames, but {frames} are committed"
        )
    return segments


def merge_ranges(ranges: Rows) -> Rows:
    """Merge ranges, [ranges, 2] with the end exclusive, that touch or overlap; the result is ascending."""
    ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    if len(ranges) == 0:
        return ranges
    reach = np.maximum.accumulate(ranges[:, 1])
    starts = np.flatnonzero(np.concatenate([[True], ranges[1:, 0] > reach[:-1]]))
    return np.stack([ranges[starts, 0], np.maximum.reduceat(ranges[:, 1], starts)], axis=1)
