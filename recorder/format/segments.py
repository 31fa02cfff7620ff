"""Segments: the arithmetic between frames and (step, sample), on both sides of the tape.

A segment is a run of frames with one batch size and one trial. Within it frame ``f`` is sample
``(f - first_frame) % batch`` at step ``first_step + (f - first_frame) // batch``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recorder.format.errors import RecordingFormatError
from recorder.format.layout import NO_TRIAL, SEGMENT_COLUMNS
from recorder.format.metadata import MAX_FRAMES

Rows = NDArray[np.int64]


def _no_rows() -> Rows:
    return np.empty((0, len(SEGMENT_COLUMNS)), np.int64)


class SegmentLog:
    """Segments of one layer as they grow. Steps that follow each other alike cost no new row.

    Parameters
    ----------
    last : int64 array, shape [0 or 1, 5], optional
        The segment to go on with.

    Attributes
    ----------
    frames : int
        Frames so far.
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

    def extend(self, first_step: int, steps: int, batch: int, trial: int = NO_TRIAL) -> None:
        """Note ``steps`` steps of ``batch`` frames each."""
        row = self._open
        if row is not None and row[3] == batch and row[4] == trial and row[1] + row[2] == first_step:
            row[2] += steps
        else:
            if row is not None:
                self._closed.append(tuple(row))
            self._open = [self.frames, first_step, steps, batch, trial]
        self.frames += steps * batch

    def take(self) -> tuple[Rows, Rows]:
        """Rows closed since the last call, and the one still open (no row, or one)."""
        closed = np.array(self._closed, np.int64) if self._closed else _no_rows()
        self._closed.clear()
        return closed, np.array([self._open], np.int64) if self._open else _no_rows()


@dataclass(frozen=True)
class Segments:
    """The segments of one layer, checked and cut to the committed frames.

    Attributes
    ----------
    rows : int64 array, shape [segments, 5]
        Columns ``first_frame``, ``first_step``, ``steps``, ``batch``, ``trial`` (-1: none). A table of
        selected frames may leave out frames between its rows; the rows stay in order and disjoint.
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
        """Steps of each segment."""
        return self.rows[:, 2]

    @property
    def batch(self) -> Rows:
        """Samples at each step of each segment."""
        return self.rows[:, 3]

    @property
    def trial(self) -> Rows:
        """Trial of each segment, -1 for none."""
        return self.rows[:, 4]

    @property
    def last_frame(self) -> Rows:
        """Frame behind each segment."""
        return self.first_frame + self.steps * self.batch

    @property
    def last_step(self) -> Rows:
        """Step behind each segment."""
        return self.first_step + self.steps

    @property
    def frames(self) -> int:
        """Frames in all segments."""
        return int((self.steps * self.batch).sum())

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[int, int, int, int, int]]:
        for row in self.rows.tolist():
            yield tuple(row)

    def segment_of(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        """Index of the segment of each frame, -1 for frames in none; same shape as ``frames``."""
        index = np.searchsorted(self.first_frame, frames, side="right") - 1
        inside = (index >= 0) & (frames < self.last_frame[index])
        return np.where(inside, index, -1)

    def steps_of(self, frames: NDArray[np.int64], segment: NDArray[np.int64]) -> NDArray[np.int64]:
        """Step of each frame, given its segment."""
        return self.first_step[segment] + (frames - self.first_frame[segment]) // self.batch[segment]

    def samples_of(self, frames: NDArray[np.int64], segment: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sample of each frame, given its segment."""
        samples: NDArray[np.int64] = (frames - self.first_frame[segment]) % self.batch[segment]
        return samples

    def select_steps(self, first: int, last: int) -> Segments:
        """The part of the segments that lies in steps ``first`` to ``last`` (exclusive)."""
        begin = np.clip(self.first_step, first, last)
        end = np.clip(self.last_step, first, last)
        skipped = (begin - self.first_step) * self.batch
        rows = np.stack([self.first_frame + skipped, begin, end - begin, self.batch, self.trial], axis=1)
        return Segments(rows[end > begin])

    def without(self, frames: Rows) -> Segments:
        """The segments without some frames.

        Parameters
        ----------
        frames : int64 array, shape [ranges, 2]
            First frame and the frame behind the last one, ascending and disjoint.

        Raises
        ------
        ValueError
            If they are not whole steps of the segments.
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
        """Ranges of frames, int64 [ranges, 2], each widened to the whole steps that it lies in."""
        begin, last = frames[:, 0], frames[:, 1] - 1
        begin = begin - self.samples_of(begin, self.segment_of(begin))
        row = self.segment_of(last)
        return np.stack([begin, last - self.samples_of(last, row) + self.batch[row]], axis=1)

    def select(self, kept: NDArray[np.bool_]) -> Segments:
        """The segments that a boolean array, shape [segments], keeps."""
        return Segments(self.rows[kept])


def clip_segments(rows: Rows, frames: int) -> Rows:
    """Rows as they were when the layer had ``frames`` frames: later ones dropped, the last one cut.

    Rows stored by a later, unfinished commit may already be longer than the commit that is being read says.
    """
    rows = rows[rows[:, 0] < frames].copy()
    if len(rows):
        # In Python's own numbers, as those of a stranger's table may be too far apart for 64 bits.
        first, _, steps, batch, _ = rows[-1].tolist()
        rows[-1, 2] = min(steps, (frames - first) // max(batch, 1))
    return rows


def check_segments(rows: Rows, frames: int, place: str) -> Segments:
    """Segments, if the rows follow each other without gap or overlap and cover exactly ``frames`` frames.

    Raises
    ------
    RecordingFormatError
        Naming the first row that does not fit.
    """
    expected_frame = 0
    segments = Segments(rows)
    bad = (
        (segments.steps < 1) | (segments.batch < 1) | (segments.first_step < 0) | (segments.trial < NO_TRIAL)
    )
    # Products and sums below, and those of whoever uses the segments, must not leave 64 bits.
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
    """Ascending, disjoint ranges of the same keys; ranges that touch become one."""
    ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    if len(ranges) == 0:
        return ranges
    reach = np.maximum.accumulate(ranges[:, 1])
    starts = np.flatnonzero(np.concatenate([[True], ranges[1:, 0] > reach[:-1]]))
    return np.stack([ranges[starts, 0], np.maximum.reduceat(ranges[:, 1], starts)], axis=1)
