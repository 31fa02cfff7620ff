"""Write and read the columns of the table of trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.format.arrays import trial_column_table
from recorder.format.columns import MISSING_INTEGER, Value, identity, kind_of
from recorder.format.metadata import ColumnCommit, ColumnKind, TableCommit, TrialsCommit
from recorder.format.trials import Columns
from recorder.stores import ByteStore
from recorder.tape.tables import TableWriter, read_committed

_MISSING: Final[dict[ColumnKind, int | float]] = {
    "int64": MISSING_INTEGER,
    "float64": np.nan,
    "category": -1,
}


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
        # By identity, as `True`, `1` and `1.0` are equal.
        self._categories: dict[str, dict[tuple[type, Value], int]] = {}
        # Columns all of whose values are missing so far, so that they may become of any kind.
        self._undecided: dict[str, None] = {}
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
                    identity(value): place for place, value in enumerate(column.categories)
                }

    def append(self, presented: Sequence[tuple[int, int, Columns]]) -> None:
        """Add rows for trials; if the newest trial is given again with more samples, only the new ones."""
        for trial, batch, columns in presented:
            if trial < self._last_trial:
                continue  # it is there
            first = self._last_batch if trial == self._last_trial else 0
            samples: list[Value | None] = list(range(first, batch))
            keys: Columns = {"trial": [trial] * len(samples), "sample": samples}
            for name, values in {**keys, **{name: given[first:] for name, given in columns.items()}}.items():
                if name not in self._tables:
                    kind = kind_of(values)
                    if kind is None:
                        self._undecided[name] = None
                        continue
                    self._begin_column(name, kind)
                self._tables[name].append(self._encode(name, values))
            for name in self._tables.keys() - keys.keys() - columns.keys():
                self._tables[name].append(self._missing(name, len(samples)))
            self.rows += len(samples)
            self._last_trial, self._last_batch = trial, batch

    def flush(self, trials: int, *, close: bool = False) -> TrialsCommit:
        """Write what is not stored yet; what a commit may then rely on.

        A column that has nothing but missing values is stored once recording is closed, as categories of
        which there are none: these can still become of any type.
        """
        if close:
            for name in [*self._undecided]:
                self._begin_column(name, "category")
        columns = tuple(
            ColumnCommit(name, self._kinds[name], table.flush().crc32c, self._values_of(name))
            for name, table in self._tables.items()
        )
        return TrialsCommit(trials, self.rows, columns)

    def _begin_column(self, name: str, kind: ColumnKind) -> None:
        """Add a column with missing values for the rows that are there."""
        self._add_column(name, kind)
        self._undecided.pop(name, None)
        self._tables[name].append(self._missing(name, self.rows))

    def _add_column(self, name: str, kind: ColumnKind) -> None:
        self._tables[name] = TableWriter(self._store, trial_column_table(name, kind))
        self._kinds[name] = kind
        self._categories[name] = {}

    def _values_of(self, name: str) -> tuple[Value, ...]:
        return tuple(value for _, value in self._categories[name])

    def _encode(self, name: str, values: Sequence[Value | None]) -> NDArray[Any]:
        kind, missing = self._kinds[name], _MISSING[self._kinds[name]]
        if kind != "category":
            return np.array([missing if value is None else value for value in values], kind)
        places = self._categories[name]
        return np.array(
            [
                missing if value is None else places.setdefault(identity(value), len(places))
                for value in values
            ],
            np.int64,
        )

    def _missing(self, name: str, rows: int) -> NDArray[Any]:
        return np.full(rows, _MISSING[self._kinds[name]])


def read_columns(store: ByteStore, commit: TrialsCommit) -> dict[ColumnCommit, NDArray[Any]]:
    """Committed values of every column as stored, each [rows]; errors as in `read_committed`."""
    columns = {}
    for column in commit.columns:
        table = TableCommit(commit.rows, column.crc32c)
        columns[column] = read_committed(store, trial_column_table(column.name, column.kind), table)
    return columns
