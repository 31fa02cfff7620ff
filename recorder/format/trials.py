"""The table of trials: one row for each sample presented, with its label and whatever the user attached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.format.arrays import trial_column_table
from recorder.format.metadata import ColumnCommit, ColumnKind, TableCommit, TrialsCommit
from recorder.format.stores import ByteStore
from recorder.format.tables import TableWriter, read_committed

KEYS: Final = ("trial", "sample")
MISSING_INTEGER: Final = int(np.iinfo(np.int64).min)

Value = str | int | float | bool


def as_values(name: str, given: Any, batch: int | None) -> list[Value]:
    """Values of one column for the samples of a trial.

    Parameters
    ----------
    name : str
        Name of the column, for errors.
    given : scalar, sequence or array
        One value for all samples or one for each; anything with ``tolist`` (numpy, torch) will do.
    batch : int or None
        Samples of the trial; None while it is not known, a single value is then returned alone.

    Raises
    ------
    ValueError
        If there are not as many values as samples.
    TypeError
        If a value is neither text, number nor boolean.
    """
    listed = given.tolist() if hasattr(given, "tolist") else given
    values = list(listed) if isinstance(listed, Sequence) and not isinstance(listed, str) else None
    if values is None:
        values = [listed] * (1 if batch is None else batch)
    elif batch is not None and len(values) != batch:
        raise ValueError(
            f"{name} has {len(values)} values, but each step of the trial has a batch of {batch}; "
            "give one value for each sample, or a single one for all"
        )
    values = [value.item() if hasattr(value, "item") else value for value in values]
    for value in values:
        if not isinstance(value, Value) or (isinstance(value, int) and abs(value) >= 2**63):
            raise TypeError(
                f"{name} holds {value!r} ({type(value).__name__}); expected text, a boolean or a number "
                "(whole ones below 2**63) for each sample"
            )
    return values


class TrialLog:
    """Trials as they are presented.

    Parameters
    ----------
    kept : TrialsCommit, optional
        What to go on from.

    Attributes
    ----------
    trials : int
        Trials begun so far; the number of the next one.
    """

    def __init__(self, kept: TrialsCommit | None = None) -> None:
        self.trials = kept.trials if kept else 0
        self._kinds: dict[str, ColumnKind] = {c.name: c.kind for c in kept.columns} if kept else {}
        self._presented: list[tuple[int, int, dict[str, list[Value]]]] = []

    def check(self, columns: Mapping[str, list[Value]]) -> None:
        """Raise if columns cannot join the table: ValueError for their name, TypeError for their kind."""
        for name, values in columns.items():
            if name in KEYS:
                raise ValueError(f"trial(): {name!r} is a column of every recording; choose another name")
            kind, given = self._kinds.get(name), _kind_of(values)
            if kind not in (None, given) and not (kind == "float64" and given == "int64"):
                raise TypeError(
                    f"trial(): {name} is {values[0]!r}, a value of kind {given}, but this recording's column "
                    f"{name!r} holds kind {kind}; keep to one kind or choose another name"
                )

    def add(self, trial: int, batch: int, columns: Mapping[str, list[Value]]) -> None:
        """Note that a trial has ``batch`` samples, given with all their values; errors as in `check`."""
        self.check(columns)
        for name, values in columns.items():
            self._kinds.setdefault(name, _kind_of(values))
        self._presented.append((trial, batch, dict(columns)))

    def take(self) -> list[tuple[int, int, dict[str, list[Value]]]]:
        """Trials noted since the last call."""
        presented, self._presented = self._presented, []
        return presented


class TrialsWriter:
    """Writes the table of trials.

    Parameters
    ----------
    store : ByteStore
    kept : TrialsCommit, optional
        What to go on from.
    """

    def __init__(self, store: ByteStore, kept: TrialsCommit | None = None) -> None:
        self._store = store
        self._tables: dict[str, TableWriter] = {}
        self._kinds: dict[str, ColumnKind] = {}
        self._categories: dict[str, dict[Value, int]] = {}
        self.rows = 0
        # Samples that the newest trial has so far: it may get more.
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
        """Add samples of trials; a trial given again adds those behind the ones it has."""
        for trial, batch, columns in presented:
            first = self._last_batch if trial == self._last_trial else 0
            samples: list[Value] = list(range(first, batch))
            keys: dict[str, list[Value]] = {"trial": [trial] * len(samples), "sample": samples}
            for name, values in {**keys, **{name: given[first:] for name, given in columns.items()}}.items():
                if name not in self._tables:
                    self._add_column(name, _kind_of(values))
                    self._tables[name].append(self._missing(name, self.rows))
                self._tables[name].append(self._encode(name, values))
            for name in self._tables.keys() - keys.keys() - columns.keys():
                self._tables[name].append(self._missing(name, len(samples)))
            self.rows += len(samples)
            self._last_trial, self._last_batch = trial, batch

    def flush(self, trials: int) -> TrialsCommit:
        """Write what is not stored yet; what a commit may then rely on."""
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
    """Committed values of every column as stored, checked against the commit."""
    columns = {}
    for column in commit.columns:
        table = TableCommit(commit.rows, column.crc32c)
        columns[column] = read_committed(store, trial_column_table(column.name, column.kind), table)
    return columns


def _kind_of(values: Sequence[Value]) -> ColumnKind:
    kinds = {type(value) for value in values}
    if kinds <= {int}:
        return "int64"
    if kinds <= {int, float}:
        return "float64"
    return "category"
