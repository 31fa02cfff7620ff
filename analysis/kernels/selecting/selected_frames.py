"""The frames of a layer for which a selection stands: worked out from the segments and the trials."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.selecting.grouping import Grouping, count_up
from analysis.kernels.selecting.selection import Selection, contains, count_below
from analysis.kernels.selecting.trial_table import ColumnCodes, TrialRows, TrialStarts
from recorder.format.bits import Integers
from recorder.format.segments import Segments

Intervals = tuple[Integers, Integers, Integers]


class SelectedFrames:
    """The selected frames of one layer.

    Frames are addressed as everywhere else, by their place in the whole layer.

    Parameters
    ----------
    segments : Segments
        Of the whole layer.
    selection : Selection
    rows : TrialRows, optional
        Needed if values of columns are selected, or rows are asked for.
    columns : sequence of ColumnCodes
        For each condition of the selection, the column among the values that are selected.
    starts : TrialStarts, optional
        First steps of trials, for times; left out, those of these segments.

    Attributes
    ----------
    segments : Segments
        Those that hold selected frames, cut to the selected steps. Every frame of a segment is selected
        unless the segment is masked.
    masked : bool array, shape [segments]
        Segments of which only some samples are selected.
    """

    def __init__(
        self,
        segments: Segments,
        selection: Selection,
        rows: TrialRows | None = None,
        columns: Sequence[ColumnCodes] = (),
        starts: TrialStarts | None = None,
    ) -> None:
        segments = selection.cut(segments, (starts or TrialStarts.of([segments])).of_trials)
        self._chosen = selection.samples
        self._chosen_before: Integers | None = None
        none = np.zeros(len(segments), np.int64)
        self._first_row, self._known = (none, none) if rows is None else rows.of_segments(segments)
        if columns and rows is not None:
            chosen = np.logical_and.reduce([column.code >= 0 for column in columns])
            if selection.samples is not None:
                chosen &= contains(selection.samples, rows.sample)
            self._chosen_before = np.concatenate([[0], np.cumsum(chosen)]).astype(np.int64)
        samples = self._samples_before(np.arange(len(segments)), segments.batch)
        kept = samples > 0
        self.segments = segments.select(kept)
        # Segments keep columns side by side; looking one up again and again wants it in one piece.
        self._first_frame = np.ascontiguousarray(self.segments.first_frame)
        self._last_frame = self.segments.last_frame
        self._first_row, self._known, self._samples = self._first_row[kept], self._known[kept], samples[kept]
        self.masked: NDArray[np.bool_] = self._samples < self.segments.batch
        frames = self.segments.steps * self._samples
        self._frames_before = np.concatenate([[0], np.cumsum(frames)]).astype(np.int64)

    def _samples_before(self, row: Integers, sample: Integers) -> Integers:
        """Number of selected samples in front of a sample of a segment."""
        if self._chosen_before is not None:
            first = self._first_row[row]
            return (
                self._chosen_before[first + np.minimum(sample, self._known[row])] - self._chosen_before[first]
            )
        return sample if self._chosen is None else count_below(self._chosen, sample)

    def has_samples(self, row: Integers, sample: Integers) -> NDArray[np.bool_]:
        """True for each sample of a segment, given by index, that is selected."""
        if self._chosen_before is None and self._chosen is None:
            return np.ones(len(sample), np.bool_)
        selected: NDArray[np.bool_] = self._samples_before(row, sample + 1) > self._samples_before(
            row, sample
        )
        return selected

    @property
    def frames(self) -> int:
        """Number of selected frames."""
        return int(self._frames_before[-1])

    def frames_before(self, frames: Integers) -> Integers:
        """Number of selected frames in front of each given frame, int64 [frames]."""
        if len(self.segments) == 0:
            return np.zeros(len(frames), np.int64)
        segments = self.segments
        row = np.maximum(np.searchsorted(self._first_frame, frames, side="right") - 1, 0)
        inside = np.clip(frames - self._first_frame[row], 0, segments.steps[row] * segments.batch[row])
        steps, sample = inside // segments.batch[row], inside % segments.batch[row]
        before: Integers = self._frames_before[row] + steps * self._samples[row]
        before += self._samples_before(row, sample)
        return before

    def runs(self, first: int, last: int) -> Intervals:
        """Frames ``first`` to ``last`` (exclusive) by segment: the segments' index, begins and ends."""
        first_row = int(np.searchsorted(self._last_frame, first, side="right"))
        last_row = max(int(np.searchsorted(self._first_frame, last, side="left")), first_row)
        row = np.arange(first_row, last_row, dtype=np.int64)
        begin = np.maximum(self._first_frame[first_row:last_row], first)
        end = np.minimum(self._last_frame[first_row:last_row], last)
        return row, begin, end

    def table_rows(self, row: Integers, sample: Integers) -> Integers:
        """Row in the table of trials of each sample of a segment, given by index; -1 for none."""
        rows: Integers = np.where(sample < self._known[row], self._first_row[row] + sample, -1)
        return rows

    def selected_frames(self, first: int, last: int) -> Integers:
        """Every selected frame from ``first`` to ``last`` (exclusive), ascending."""
        begin, end, _ = self.intervals(first, last, Grouping())
        lengths = end - begin
        return np.repeat(begin, lengths) + count_up(lengths)

    def intervals(self, first: int, last: int, grouping: Grouping) -> Intervals:
        """Selected frames from ``first`` to ``last`` (exclusive) as intervals of frames of one group.

        Returns
        -------
        begin, end, key : int64 array, shape [intervals]
            Ascending and disjoint; neighbours that touch differ in their key.
        """
        row, begin, end = self.runs(first, last)
        row, begin, end, key = grouping.split(self.segments, row, begin, end)
        if self.masked[row].any():
            lengths = end - begin
            frames, rows = np.repeat(begin, lengths) + count_up(lengths), np.repeat(row, lengths)
            selected = self.has_samples(rows, self.segments.samples_of(frames, rows))
            begin, key = frames[selected], np.repeat(key, lengths)[selected]
            end = begin + 1
        return _join(begin, end, key)

    def whole_intervals(self, first: int, last: int, grouping: Grouping) -> Intervals:
        """As `intervals`, without those frames of masked segments."""
        row, begin, end = self.runs(first, last)
        whole = ~self.masked[row]
        _, begin, end, key = grouping.split(self.segments, row[whole], begin[whole], end[whole])
        return _join(begin, end, key)


def _join(begin: Integers, end: Integers, key: Integers) -> Intervals:
    """Make one of neighbours that touch and have the same key."""
    if len(begin) == 0:
        return begin, end, key
    parted = (begin[1:] != end[:-1]) | (key[1:] != key[:-1])
    starts = np.concatenate([[True], parted])
    return begin[starts], end[np.concatenate([parted, [True]])], key[starts]
