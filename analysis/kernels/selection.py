"""Which frames of a layer a question is about, and which label each of them has.

A selection is a few plain values, small enough to travel with every task; the frames it stands for are worked
out where they are needed, from the segments and the table of trials.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.grouping import Grouping, count_up
from recorder.format import RecordingFormatError
from recorder.format.bits import Integers
from recorder.format.columns import KEYS, MISSING_INTEGER, Value, identity
from recorder.format.metadata import TrialsCommit
from recorder.format.segments import Segments
from recorder.stores import ByteStore
from recorder.tape.trial_columns import read_categories, read_columns

LABEL: Final = "label"
NO_LABEL: Final = -1
# Frames in a run, on average, from which runs are worked out one by one.
_LONG_RUNS = 256

Codes = NDArray[np.int32]


class Labels(tuple[Value, ...]):
    """Some labels, in order, of which ``True``, ``1``, ``1.0`` and ``"1"`` are four.

    To Python three of them are equal, and so would be two selections, or sources, that differ in no more.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, tuple) and [*map(identity, self)] == [*map(identity, other)]

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(tuple(map(identity, self)))

    def __contains__(self, value: object) -> bool:
        return any(type(label) is type(value) and label == value for label in self)

    @classmethod
    def different(cls, values: Iterable[Value]) -> Labels:
        """Each of the values once, in order of first appearance."""
        return cls({identity(value): value for value in values}.values())

    @classmethod
    def numbers_ascending(cls, values: Iterable[Value]) -> Labels:
        """Each of the values once: numbers ascending; in order of first appearance if there are others."""
        labels = cls.different(values)
        numbers = [label for label in labels if type(label) in (int, float)]
        if len(numbers) < len(labels):
            return labels
        return cls(sorted(numbers, key=lambda number: (number, type(number) is float)))


Intervals = tuple[Integers, Integers, Integers]


@dataclass(frozen=True)
class Selection:
    """The part to which a user has narrowed a recording; None stands for everything.

    Attributes
    ----------
    steps : tuple of int, optional
        First step and the step behind the last one.
    trials : tuple of int or range, optional
        Numbers of trials, ascending. A range takes no memory, however many trials a stranger's recording
        claims.
    labels : Labels, optional
        Labels as recorded.
    """

    steps: tuple[int, int] | None = None
    trials: tuple[int, ...] | range | None = None
    labels: Labels | None = None

    def cut(self, segments: Segments) -> Segments:
        """The part of the segments in the selected steps and trials."""
        if self.steps is not None:
            segments = segments.select_steps(*self.steps)
        if self.trials is not None:
            segments = segments.select(self.has_trials(segments.trial))
        return segments

    def has_trials(self, numbers: Integers) -> NDArray[np.bool_]:
        """True for each number of a trial that is selected."""
        trials = self.trials
        if trials is None:
            return np.ones(len(numbers), np.bool_)
        if isinstance(trials, range):
            inside = (numbers >= trials.start) & (numbers < trials.stop)
            chosen: NDArray[np.bool_] = inside & ((numbers - trials.start) % trials.step == 0)
            return chosen
        return np.isin(numbers, np.array(trials, np.int64))


@dataclass(frozen=True)
class SampleLabels:
    """Labels of all samples presented, a row of the table of trials for each.

    Attributes
    ----------
    values : Labels
        The different labels: numbers ascending, anything else in order of first appearance.
    trial : int64 array, shape [rows]
        Ascending.
    code : int32 array, shape [rows]
        Place of the sample's label in ``values``, -1 where there is none.
    """

    values: Labels
    trial: Integers
    code: Codes

    @classmethod
    def read(cls, store: ByteStore, commit: TrialsCommit) -> SampleLabels:
        """Read the labels that a commit promises.

        Raises
        ------
        RecordingFormatError
            If the table is damaged or its rows are not in order of trial and sample.
        """
        needed = tuple(column for column in commit.columns if column.name in (*KEYS, LABEL))
        stored_columns = read_columns(store, replace(commit, columns=needed))
        columns = {column.name: (column, values) for column, values in stored_columns.items()}
        if not columns:
            return cls(Labels(), np.empty(0, np.int64), np.empty(0, np.int32))
        if not all(key in columns and columns[key][0].kind == "int64" for key in KEYS):
            raise RecordingFormatError(f"{store.location}: trials lack whole numbers of {' and '.join(KEYS)}")
        trial, sample = (columns[key][1] for key in KEYS)
        # `sample` must be 0, 1, … within each trial: a sample's row is then found by arithmetic.
        begins = np.flatnonzero(np.concatenate([[True], trial[1:] != trial[:-1]])[: len(trial)])
        numbered = count_up(np.diff(np.append(begins, len(trial))))
        if (trial[1:] < trial[:-1]).any() or (sample != numbered).any():
            raise RecordingFormatError(f"{store.location}: the rows of trials are not in order")
        if LABEL not in columns:
            return cls(Labels(), trial, np.full(len(trial), NO_LABEL, np.int32))
        column, stored = columns[LABEL]
        if column.kind == "category":
            categories = read_categories(store, column, stored)
            return cls(Labels(categories), trial, stored.astype(np.int32))
        present = ~np.isnan(stored) if column.kind == "float64" else stored != MISSING_INTEGER
        values, code = np.unique(stored[present], return_inverse=True)
        codes = np.full(len(stored), NO_LABEL, np.int32)
        codes[present] = code
        return cls(Labels(values.tolist()), trial, codes)

    def recoded(self, values: Labels) -> SampleLabels:
        """The same labels among other values, which hold all of these: those of several recordings."""
        places = {identity(value): place for place, value in enumerate(values)}
        # The last place of the look-up table is reached by -1, no label.
        codes = np.array([*(places[identity(value)] for value in self.values), NO_LABEL], np.int32)
        return SampleLabels(values, self.trial, codes[self.code])


class SelectedFrames:
    """The selected frames of one layer.

    Frames are addressed as everywhere else, by their place in the whole layer.

    Parameters
    ----------
    segments : Segments
        Of the whole layer.
    selection : Selection
    labels : SampleLabels, optional
        Needed if labels are selected or asked about.

    Attributes
    ----------
    segments : Segments
        Those that hold selected frames, cut to the selected steps. Every frame of a segment is selected
        unless the segment is masked.
    masked : bool array, shape [segments]
        Segments of which only samples with certain labels are selected.
    """

    def __init__(self, segments: Segments, selection: Selection, labels: SampleLabels | None = None) -> None:
        segments = selection.cut(segments)
        self._code = np.empty(0, np.int32) if labels is None else labels.code
        selected_code = np.ones(len(self._code), np.bool_)
        if selection.labels is not None and labels is not None:
            chosen = set(map(identity, selection.labels))
            selected = np.array([identity(value) in chosen for value in labels.values] + [False], np.bool_)
            selected_code = selected[self._code]
        self._selected_before = np.concatenate([[0], np.cumsum(selected_code)]).astype(np.int64)
        first_row, labelled = self._rows_of(segments, labels)
        if selection.labels is None:
            samples = segments.batch
        else:
            samples = self._selected_before[first_row + labelled] - self._selected_before[first_row]
        kept = samples > 0
        self.segments = segments.select(kept)
        # Segments keep columns side by side; looking one up again and again wants it in one piece.
        self._first_frame = np.ascontiguousarray(self.segments.first_frame)
        self._last_frame = self.segments.last_frame
        self._first_row, self._labelled, self._samples = first_row[kept], labelled[kept], samples[kept]
        self._selected_code = selected_code
        self.masked: NDArray[np.bool_] = self._samples < self.segments.batch
        frames = self.segments.steps * self._samples
        self._frames_before = np.concatenate([[0], np.cumsum(frames)]).astype(np.int64)

    @staticmethod
    def _rows_of(segments: Segments, labels: SampleLabels | None) -> tuple[Integers, Integers]:
        """For each segment the first row of its samples in the table of trials, and how many are there."""
        if labels is None:
            return np.zeros(len(segments), np.int64), np.zeros(len(segments), np.int64)
        first = np.searchsorted(labels.trial, segments.trial, side="left").astype(np.int64)
        last = np.searchsorted(labels.trial, segments.trial, side="right").astype(np.int64)
        return first, np.minimum(last - first, segments.batch)

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
        steps, sample = np.divmod(inside, segments.batch[row])
        labelled = self._first_row[row] + np.minimum(sample, self._labelled[row])
        of_step = self._selected_before[labelled] - self._selected_before[self._first_row[row]]
        of_step = np.where(self.masked[row], of_step, sample)
        return self._frames_before[row] + steps * self._samples[row] + of_step

    def frames_per_label(self, labels: int) -> Integers:
        """Number of selected frames that have each of the labels, int64 [labels]."""
        # Each segment adds its steps to its samples' rows: a difference at both ends, then a running sum.
        steps = np.zeros(len(self._code) + 1, np.int64)
        np.add.at(steps, self._first_row, self.segments.steps)
        np.subtract.at(steps, self._first_row + self._labelled, self.segments.steps)
        steps_of_row = np.cumsum(steps)[:-1]
        counted = self._selected_code & (self._code != NO_LABEL)
        frames = np.zeros(labels, np.int64)
        np.add.at(frames, self._code[counted], steps_of_row[counted])
        return frames

    def runs(self, first: int, last: int) -> Intervals:
        """Frames ``first`` to ``last`` (exclusive) by segment: the segments' index, begins and ends."""
        first_row = int(np.searchsorted(self._last_frame, first, side="right"))
        last_row = max(int(np.searchsorted(self._first_frame, last, side="left")), first_row)
        row = np.arange(first_row, last_row, dtype=np.int64)
        begin = np.maximum(self._first_frame[first_row:last_row], first)
        end = np.minimum(self._last_frame[first_row:last_row], last)
        return row, begin, end

    def table_rows(self, row: Integers, begin: Integers, end: Integers) -> Integers:
        """Row in the table of trials for every frame of some runs, one after the other; -1 for none."""
        lengths = end - begin
        if len(row) and lengths.sum() >= _LONG_RUNS * len(row):
            return np.concatenate(
                [self._table_rows_of_run(*run) for run in zip(row, begin, end, strict=True)]
            )
        sample = (count_up(lengths) + np.repeat(begin - self.segments.first_frame[row], lengths)) % np.repeat(
            self.segments.batch[row], lengths
        )
        known = sample < np.repeat(self._labelled[row], lengths)
        return np.where(known, np.repeat(self._first_row[row], lengths) + sample, -1)

    def _table_rows_of_run(self, row: int, begin: int, end: int) -> Integers:
        batch, labelled = int(self.segments.batch[row]), int(self._labelled[row])
        if batch > end - begin:  # a stranger's may be larger than any memory
            sample = (np.arange(begin, end) - int(self.segments.first_frame[row])) % batch
            return np.where(sample < labelled, int(self._first_row[row]) + sample, -1)
        of_step = np.full(batch, -1, np.int64)
        of_step[:labelled] = np.arange(labelled) + self._first_row[row]
        skipped = (begin - int(self.segments.first_frame[row])) % batch
        return np.tile(of_step, -(-(skipped + end - begin) // batch))[skipped : skipped + end - begin]

    def codes(self, row: Integers, begin: Integers, end: Integers) -> Codes:
        """Label of every frame of some runs, one after the other; -1 for no label or one not selected."""
        # The last place of this look-up table is reached by -1, no row.
        codes = np.append(np.where(self._selected_code, self._code, np.int32(NO_LABEL)), np.int32(NO_LABEL))
        return codes[self.table_rows(row, begin, end)]

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
            selected = ~np.repeat(self.masked[row], lengths) | (self.codes(row, begin, end) != NO_LABEL)
            begin = (np.repeat(begin, lengths) + count_up(lengths))[selected]
            end, key = begin + 1, np.repeat(key, lengths)[selected]
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
