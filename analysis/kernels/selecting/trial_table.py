"""The table of trials, a row for each sample presented: where a sample's row is, and what it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.selecting.grouping import count_up
from analysis.kernels.selecting.selection import Labels
from recorder.format import RecordingFormatError
from recorder.format.bits import Integers
from recorder.format.columns import KEYS, MISSING_INTEGER, identity
from recorder.format.record.metadata import TrialsCommit
from recorder.format.segments import Segments
from recorder.stores import ByteStore
from recorder.tape.trial_columns import read_categories, read_columns

NO_VALUE: Final = -1

Codes = NDArray[np.int32]


@dataclass(frozen=True)
class TrialRows:
    """The rows of a table of trials: those of a trial are its samples 0, 1, … in order.

    Attributes
    ----------
    trial : int64 array, shape [rows]
        Ascending.
    """

    trial: Integers

    @classmethod
    def read(cls, store: ByteStore, commit: TrialsCommit) -> TrialRows:
        """Read the keys of the rows that a commit promises.

        Raises
        ------
        RecordingFormatError
            If the table is damaged or its rows are not in order of trial and sample.
        """
        keys = tuple(column for column in commit.columns if column.name in KEYS)
        columns = {
            column.name: (column, values)
            for column, values in read_columns(store, replace(commit, columns=keys)).items()
        }
        if not commit.columns:
            return cls(np.empty(0, np.int64))
        if not all(key in columns and columns[key][0].kind == "int64" for key in KEYS):
            raise RecordingFormatError(f"{store.location}: trials lack whole numbers of {' and '.join(KEYS)}")
        trial, sample = (columns[key][1] for key in KEYS)
        # `sample` must be 0, 1, … within each trial: a sample's row is then found by arithmetic.
        rows = cls(trial)
        if (trial[1:] < trial[:-1]).any() or (sample != rows.sample).any():
            raise RecordingFormatError(f"{store.location}: the rows of trials are not in order")
        return rows

    @property
    def sample(self) -> Integers:
        """Sample of each row, int64 [rows]."""
        begins = np.flatnonzero(
            np.concatenate([[True], self.trial[1:] != self.trial[:-1]])[: len(self.trial)]
        )
        return count_up(np.diff(np.append(begins, len(self.trial))))

    def of_segments(self, segments: Segments) -> tuple[Integers, Integers]:
        """For each segment the row of its sample 0, and the number of its samples that have a row."""
        first = np.searchsorted(self.trial, segments.trial, side="left").astype(np.int64)
        last = np.searchsorted(self.trial, segments.trial, side="right").astype(np.int64)
        return first, np.minimum(last - first, segments.batch)


@dataclass(frozen=True)
class ColumnCodes:
    """A column of the table of trials: its different values, and which of them each row has.

    Attributes
    ----------
    values : Labels
        The different values: numbers ascending, anything else in order of first appearance.
    code : int32 array, shape [rows]
        Place of the row's value in ``values``, -1 where there is none.
    """

    values: Labels
    code: Codes

    @classmethod
    def read(cls, store: ByteStore, commit: TrialsCommit, name: str) -> ColumnCodes:
        """Read a column of the rows that a commit promises; without values if there is no such column.

        Raises
        ------
        RecordingFormatError
            If the column is damaged.
        """
        needed = tuple(column for column in commit.columns if column.name == name)
        for column, stored in read_columns(store, replace(commit, columns=needed)).items():
            if column.kind == "category":
                categories = read_categories(store, column, stored)
                return cls(Labels(categories), stored.astype(np.int32))
            present = ~np.isnan(stored) if column.kind == "float64" else stored != MISSING_INTEGER
            values, code = np.unique(stored[present], return_inverse=True)
            codes = np.full(len(stored), NO_VALUE, np.int32)
            codes[present] = code
            return cls(Labels(values.tolist()), codes)
        return cls(Labels(), np.full(commit.rows, NO_VALUE, np.int32))

    def recoded(self, values: Labels) -> ColumnCodes:
        """The same column among other values: -1 for those that are not there."""
        if values == self.values:
            return self
        places = {identity(value): place for place, value in enumerate(values)}
        # The last place of the look-up table is reached by -1, no value.
        found = (places.get(identity(value), NO_VALUE) for value in self.values)
        codes = np.array([*found, NO_VALUE], np.int32)
        return ColumnCodes(values, codes[self.code])


@dataclass(frozen=True, eq=False)
class TrialStarts:
    """The first step of each trial of a recording, in any of its layers.

    Attributes
    ----------
    trial, step : int64 array, shape [trials]
        Ascending numbers of the trials that were presented, and their first steps.
    """

    trial: Integers
    step: Integers

    @classmethod
    def of(cls, tables: Sequence[Segments]) -> TrialStarts:
        """The starts in the segments of all layers."""
        rows = np.concatenate([np.empty((0, 5), np.int64), *(table.rows for table in tables)])
        segments = Segments(rows[rows[:, 4] >= 0])
        order = np.lexsort((segments.first_step, segments.trial))
        trial, first = np.unique(segments.trial[order], return_index=True)
        return cls(trial, segments.first_step[order][first])

    def of_trials(self, trial: Integers) -> Integers:
        """First step of each trial given by number, all of them presented."""
        steps: Integers = self.step[np.searchsorted(self.trial, trial)]
        return steps
