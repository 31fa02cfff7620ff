"""The table of trials in forms that other tools have: a row for each presentation, a column of one kind."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.export.contents import Contents
from analysis.members import join_columns, selected_rows
from analysis.questions import free_name
from recorder.format.bits import Integers
from recorder.format.columns import EXACT_IN_FLOAT, KEYS, MISSING_INTEGER

Column = NDArray[Any]
COLUMNS = ("trial", "sample", "first_step", "steps")


def trial_table(contents: Contents) -> tuple[pd.DataFrame, list[str]]:
    """A row for each selected presentation of a trial, by recording, trial and sample.

    Those of which no frame is selected, or left, have no ``first_step``, and 0 ``steps``; what is attached to
    a presentation that has no row in the recording is missing.

    Returns
    -------
    table : DataFrame
        Columns ``recording``, where there are several, ``trial``, ``sample``, ``first_step``, ``steps``, and
        what was attached; ``trial_`` is in front of names that are taken.
    as_json : list of str
        Columns that hold values of several kinds, and have them as JSON: ``true``, ``1``, ``1.0``, ``"1"``.
    """
    several = contents.several
    parts = [_rows(contents, member) for member in range(len(contents.tables))]
    columns: dict[str, Any] = {}
    if several:
        names = np.array(contents.members.names, object)
        columns["recording"] = np.repeat(names, [len(rows) for rows, _ in parts])
    keys = np.concatenate([np.empty((0, 5), np.int64), *(rows for rows, _ in parts)])
    columns |= {name: keys[:, place] for place, name in enumerate(COLUMNS)}
    columns["first_step"] = pd.array(keys[:, 2], "Int64")
    columns["first_step"][keys[:, 2] < 0] = pd.NA
    at = [(table, rows[:, 4]) for rows, table in parts]
    attached, as_json = attached_columns(at, taken=columns)
    return pd.DataFrame(columns | attached), as_json


def attached_columns(
    parts: Sequence[tuple[Mapping[str, Column], Integers]], *, taken: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """What is attached to some rows of the tables of trials of recordings, one behind the other.

    Parameters
    ----------
    parts : sequence of (mapping of str to array, int64 array)
        For each recording its table of trials, and rows of it; -1 stands for a row of missing values.
    taken : collection of str
        Names of the columns beside these; ``trial_`` is in front of names that are among them.

    Returns
    -------
    columns : dict of str to array
        By the names under which they are shown; see `of_one_kind`.
    as_json : list of str
        Those that are JSON.
    """
    columns, as_json = {}, []
    for name in dict.fromkeys(name for table, _ in parts for name in table if name not in KEYS):
        joined = join_columns(
            [_at(table.get(name), rows) for table, rows in parts], [len(rows) for _, rows in parts]
        )
        shown = free_name(name, taken)
        columns[shown], is_json = of_one_kind(joined)
        as_json += [shown] * is_json
    return columns, as_json


def _rows(contents: Contents, member: int) -> tuple[Integers, dict[str, Column]]:
    """Presentations of a recording, int64 [presentations, 5]: `COLUMNS` and row; and its table of trials."""
    table = contents.tables[member]
    found = contents.presentations[member]
    inside = found.trial >= 0
    rows = np.stack([found.trial, found.sample, found.first_step, found.steps, found.row], axis=1)[inside]
    if table:
        selected = np.flatnonzero(selected_rows(table, contents.selection))
        silent = np.setdiff1d(selected, rows[:, 4])
        nothing = np.full(len(silent), -1)
        more = [table["trial"][silent], table["sample"][silent], nothing, nothing * 0, silent]
        rows = np.concatenate([rows, np.stack(more, axis=1)])
    return rows[np.lexsort((rows[:, 1], rows[:, 0]))], table


def _at(column: Column | None, row: Integers) -> Column | None:
    """A column at some rows, missing where there is none."""
    if column is None:
        return None
    missing = {"O": None, "f": np.nan}.get(column.dtype.kind, MISSING_INTEGER)
    return np.append(column, np.array([missing], column.dtype))[row]


def of_one_kind(values: Column) -> tuple[Any, bool]:
    """A column as an array of one kind, missing values as pandas has them, and whether it is JSON."""
    if values.dtype == np.float64:
        return values, False
    if values.dtype == np.int64:
        missing = values == MISSING_INTEGER
        return (pd.arrays.IntegerArray(values, missing), False) if missing.any() else (values, False)
    listed = values.tolist()
    kinds = {type(value) for value in listed if not _is_missing(value)}
    if len(kinds) > 1:
        return _as_text([json.dumps(None if _is_missing(value) else value) for value in listed]), True
    present = [None if _is_missing(value) else value for value in listed]
    kind = kinds.pop() if kinds else str
    if kind is str:
        return _as_text(present), False
    dtype = {bool: "boolean", int: "Int64"}.get(kind, "Float64")
    return pd.array(present, dtype=dtype), False  # type: ignore[call-overload]


def _is_missing(value: Any) -> bool:
    return value is None or value != value  # noqa: PLR0124 - NaN


def _as_text(values: Sequence[str | None]) -> Any:
    texts = np.empty(len(values), object)
    texts[:] = values
    return texts


def without_missing(values: Any) -> tuple[Column, bool]:
    """A column of one kind for tools that know nothing missing, and whether it is JSON for that.

    Missing numbers are NaN, in whole numbers as long as float64 has all of them; missing text is empty,
    unless another is. Otherwise all values are JSON, and what is missing is ``null``.
    """
    missing = np.asarray(pd.isna(values), np.bool_)
    array = np.asarray(values)
    if not missing.any() or array.dtype == np.float64:
        return array, False
    if array.dtype == object and all(isinstance(value, int) for value in array[~missing]):
        numbers = array[~missing]
        if not any(isinstance(value, bool) or abs(value) > EXACT_IN_FLOAT for value in numbers):
            return np.where(missing, np.nan, array).astype(np.float64), False
    elif all(isinstance(value, str) for value in array[~missing]) and "" not in array[~missing].tolist():
        return np.where(missing, "", array), False
    texts = [json.dumps(None if gone else value) for value, gone in zip(array.tolist(), missing, strict=True)]
    return _as_text(texts), True
