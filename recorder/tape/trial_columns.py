"""Write and read the columns of the table of trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.format.arrays import trial_column_table
from recorder.format.metadata import ColumnCommit, ColumnKind, TableCommit, TrialsCommit
from recorder.format.trials import MISSING_INTEGER, Value, kind_of
from recorder.stores import ByteStore
from recorder.tape.tables import TableWriter, read_committed


class TrialsWriter:
    """Writes the table of trials, with one `TableWriter` for each column.

    Every column has a value in every row. A new column, and a trial that leaves a column out, are filled with
    missing values.

    Parameters
    ----------
    store : ByteStore
    kept : TrialsCommit, optional
        The committed table of a resumed recording, which goes on.
    """

    def __init__(self, store: ByteStore, kept: TrialsCommit | None = None) -> None:
        self._store = store
        self._tables: dict[str, TableWriter] = {}
        self._kinds: dict[str, ColumnKind] = {}
        self._categories: dict[str, dict[Value, int]] = {}
        self.rows = 0
        # Number of the newest trial, and its samples so far. A later call may add samples to it.
        self._last_trial, self._last_batch = -1, 0
        if kept is not None:
            self.rows = kept.rows
            for column, values in read_columns(store, kept).items():
                self._add_column(column.name, column.kind)
                table = self._tables[column.name]
                table.resume(values, column.crc32c)
                self._categories[column.name] = {
                    value: place for place, value in enumerate(column.categories)
                }

    def append(self, presented: Sequence[tuple[int, int, Mapping[str, list[Value]]]]) -> None:
        """Add rows for trials; if the newest trial is given again with more samples, only the new ones."""
        for trial, batch, columns in presented:
            first = self._last_batch if trial == self._last_trial else 0
            samples: list[Value] = list(range(first, batch))
            keys: dict[str, list[Value]] = {"trial": [trial] * len(samples), "sample": samples}
            for name, values in {**keys, **{name: given[first:] for name, given in columns.items()}}.items():
                if name not in self._tables:
                    self._add_column(name, kind_of(values))
                    self._tables[name].append(self._missing(name, self.rows))
                self._tables[name].append(self._encode(name, values))
            for name in self._tables.keys() - keys.keys() - columns.keys():
                self._tables[name].append(self._missing(name, len(samples)))
            self.rows += len(samples)
            self._last_trial, self._last_batch = trial, batch

    def flush(self, trials: int) -> TrialsCommit:
        """Write the rows that are not stored yet; return what a commit may then promise."""
        columns = tuple(
            ColumnCommit(name, self._kinds[name], table.flush().crc32c, tuple(self._categories[name]))
            for name, table in self._tables.items()
        )
        return TrialsCommit(trials, self.rows, columns)

    def _add_column(self, name: str, kind: ColumnKind) -> None:
        self._tables[name] = TableWriter(self._store, trial_column_table(name, kind))
        self._kinds[name] = kind
        self._categories[name] = {}

    def _encode(self, name: str, values: list[Value]) -> NDArray[Any]:
        if self._kinds[name] != "category":
            return np.array(values, self._kinds[name])
        places = self._categories[name]
        return np.array([places.setdefault(value, len(places)) for value in values], np.int64)

    def _missing(self, name: str, rows: int) -> NDArray[Any]:
        kind = self._kinds[name]
        return np.full(rows, {"int64": MISSING_INTEGER, "float64": np.nan, "category": -1}[kind])


def read_columns(store: ByteStore, commit: TrialsCommit) -> dict[ColumnCommit, NDArray[Any]]:
    """Committed values of every column as stored, each [rows]; errors as in `read_committed`."""
    columns = {}
    for column in commit.columns:
        table = TableCommit(commit.rows, column.crc32c)
        columns[column] = read_committed(store, trial_column_table(column.name, column.kind), table)
    return columns
