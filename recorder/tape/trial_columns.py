"""Write and read the columns of the table of trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.format import RecordingFormatError
from recorder.format.arrays import categories_table, trial_column_table
from recorder.format.columns import (
    MAX_RECORDED_BYTES,
    MISSING_INTEGER,
    Value,
    category_bytes,
    decode_categories,
    encode_categories,
    identity,
    kind_of,
)
from recorder.format.record.extents import TableCommit
from recorder.format.record.metadata import CategoriesCommit, ColumnCommit, ColumnKind, TrialsCommit
from recorder.format.trials import Columns
from recorder.stores import ByteStore
from recorder.tape.tables import TableWriter, read_committed
from recorder.tape.threads.side_by_side import SideBySide

_MISSING: Final[dict[ColumnKind, int | float]] = {
    "int64": MISSING_INTEGER,
    "float64": np.nan,
    "category": -1,
}


class TrialsWriter:
    """Writes the table of trials, with one `TableWriter` for each column.

    Every column has a value in every row. A new column, and a trial that leaves a column out, are filled with
    missing values.

    Categories stand in the commit record as long as they are few. A column that outgrows `MAX_RECORDED_BYTES`
    has them in an array of its own from then on, so that no commit writes again what earlier ones have.

    Parameters
    ----------
    commits : SideBySide
    kept : TrialsCommit, optional
        The committed table of a resumed recording, which goes on.
    """

    def __init__(self, commits: SideBySide, kept: TrialsCommit | None = None) -> None:
        self._commits, store = commits, commits.store
        self._tables: dict[str, TableWriter] = {}
        self._kinds: dict[str, ColumnKind] = {}
        # By identity, as `True`, `1` and `1.0` are equal.
        self._categories: dict[str, dict[tuple[type, Value], int]] = {}
        # Of columns with categories in the record, their bytes there; of the others, the arrays.
        self._recorded_bytes: dict[str, int] = {}
        self._stored: dict[str, TableWriter] = {}
        # Columns all of whose values are missing so far, so that they may become of any kind.
        self._undecided: dict[str, None] = {}
        self.rows = 0
        # Number of the newest trial, and its samples so far. A later call may add samples to it.
        self._last_trial, self._last_batch = -1, 0
        if kept is not None:
            self.rows = kept.rows
            for column, values in read_columns(store, kept).items():
                self._add_column(column.name, column.kind)
                self._tables[column.name].resume(values, column.crc32c)
                categories = column.categories
                if column.stored:
                    stored = read_committed(store, categories_table(column.name), column.stored.table)
                    categories = _decoded(store, column, stored)
                    self._store_categories(column.name).resume(stored, column.stored.table.crc32c)
                self._categories[column.name] = {
                    identity(value): place for place, value in enumerate(categories)
                }
                if len(self._categories[column.name]) < len(categories):
                    raise RecordingFormatError(
                        f"{store.location}: trials column {column.name!r} has a category twice; one that is "
                        "new would get the place of another"
                    )
                self._recorded_bytes[column.name] = category_bytes(column.categories)

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
            ColumnCommit(name, self._kinds[name], table.flush().crc32c, *self._flush_categories(name))
            for name, table in self._tables.items()
        )
        return TrialsCommit(trials, self.rows, columns)

    def _flush_categories(self, name: str) -> tuple[tuple[Value, ...], CategoriesCommit | None]:
        if name not in self._stored:
            return self.categories(name), None
        return (), CategoriesCommit(len(self._categories[name]), self._stored[name].flush())

    def _begin_column(self, name: str, kind: ColumnKind) -> None:
        """Add a column with missing values for the rows that are there."""
        self._add_column(name, kind)
        self._undecided.pop(name, None)
        self._tables[name].append(self._missing(name, self.rows))

    def _add_column(self, name: str, kind: ColumnKind) -> None:
        self._tables[name] = TableWriter(self._commits, trial_column_table(name, kind))
        self._kinds[name] = kind
        self._categories[name] = {}
        self._recorded_bytes[name] = 0

    def categories(self, name: str) -> tuple[Value, ...]:
        """All categories of a column, in order of first appearance; none of a column of numbers."""
        return tuple(value for _, value in self._categories[name])

    def _store_categories(self, name: str) -> TableWriter:
        self._stored[name] = TableWriter(self._commits, categories_table(name))
        return self._stored[name]

    def _keep_new(self, name: str, new: Sequence[Value]) -> None:
        """Keep categories that a column has not had before; they are in ``_categories`` already."""
        table = self._stored.get(name)
        if table is None:
            self._recorded_bytes[name] += category_bytes(new)
            if self._recorded_bytes[name] <= MAX_RECORDED_BYTES:
                return
            table, new = self._store_categories(name), self.categories(name)
        table.append(np.frombuffer(encode_categories(new), np.uint8))

    def _encode(self, name: str, values: Sequence[Value | None]) -> NDArray[Any]:
        kind, missing = self._kinds[name], _MISSING[self._kinds[name]]
        if kind != "category":
            return np.array([missing if value is None else value for value in values], kind)
        places, new = self._categories[name], []
        for value in values:
            if value is not None and identity(value) not in places:
                places[identity(value)] = len(places)
                new.append(value)
        if new:
            self._keep_new(name, new)
        return np.array([missing if value is None else places[identity(value)] for value in values], np.int64)

    def _missing(self, name: str, rows: int) -> NDArray[Any]:
        return np.full(rows, _MISSING[self._kinds[name]])


def read_columns(store: ByteStore, commit: TrialsCommit) -> dict[ColumnCommit, NDArray[Any]]:
    """Committed values of every column as stored, each [rows]; errors as in `read_committed`."""
    columns = {}
    for column in commit.columns:
        table = TableCommit(commit.rows, column.crc32c)
        columns[column] = read_committed(store, trial_column_table(column.name, column.kind), table)
    return columns


def read_values(store: ByteStore, commit: TrialsCommit) -> dict[str, NDArray[Any]]:
    """Committed values of every column by name, see `recorder.tape.TapeReader.trials`."""
    columns = {}
    for column, stored in read_columns(store, commit).items():
        values = stored
        if column.kind == "category":
            categories = read_categories(store, column, values)
            # Index -1, a missing value, finds the last item, None.
            values = np.array([*categories, None], object)[values]
        columns[column.name] = values
    return columns


def read_categories(store: ByteStore, column: ColumnCommit, places: NDArray[Any]) -> tuple[Value, ...]:
    """All categories of a column, wherever they are stored.

    Parameters
    ----------
    store : ByteStore
    column : ColumnCommit
    places : int64 array
        The committed values of the column, as stored.

    Raises
    ------
    RecordingFormatError
        If they are missing, damaged or not those that the commit names, or values are places of none.
    """
    categories: Sequence[Value] = column.categories
    if column.stored:
        table = categories_table(column.name)
        categories = _decoded(store, column, read_committed(store, table, column.stored.table))
    if len(places) and not (places.min() >= -1 and places.max() < len(categories)):
        raise RecordingFormatError(f"{store.location}: trials column {column.name!r} is malformed")
    return tuple(categories)


def _decoded(store: ByteStore, column: ColumnCommit, stored: NDArray[np.uint8]) -> tuple[Value, ...]:
    count = column.stored.count if column.stored else 0
    try:
        return tuple(decode_categories(stored.tobytes(), count))
    except RecordingFormatError as error:
        raise RecordingFormatError(
            f"{store.location}/{categories_table(column.name).folder}: {error}"
        ) from error
