"""The table of trials, of one recording or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from recorder.format.reading import TapeReader
from recorder.format.selection import LABEL, Selection
from recorder.format.trials import MISSING_INTEGER

Column = NDArray[Any]


def presented(readers: Sequence[TapeReader], names: Sequence[str], selection: Selection) -> xr.Dataset:
    """What was presented: a row for each sample of each selected trial, recording after recording.

    ``names`` are those of the recordings, for the variable ``recording`` where there are several.
    """
    tables = [_selected(reader.trials(), selection) for reader in readers]
    rows = [len(table["trial"]) if table else 0 for table in tables]
    columns = dict.fromkeys(name for table in tables for name in table)
    values = {name: _with_nan(join_columns([table.get(name) for table in tables], rows)) for name in columns}
    if len(readers) > 1:
        values = {"recording": np.repeat(np.array(names, object), rows), **values}
    return xr.Dataset({name: xr.Variable(("presentation",), column) for name, column in values.items()})


def _selected(columns: Mapping[str, Column], selection: Selection) -> dict[str, Column]:
    if not columns:
        return {}
    rows = np.ones(len(columns["trial"]), np.bool_)
    if selection.trials is not None:
        rows &= np.isin(columns["trial"], np.array(selection.trials, np.int64))
    if selection.labels is not None:
        labels = columns[LABEL].tolist() if LABEL in columns else [None] * len(rows)
        rows &= np.array([value in selection.labels for value in labels], np.bool_)
    return {name: values[rows] for name, values in columns.items()}


def join_columns(columns: Sequence[Column | None], rows: Sequence[int]) -> Column:
    """One column behind the other; where a recording lacks it, so many missing values."""
    kinds = {column.dtype for column in columns if column is not None}
    kind = np.dtype(object) if np.dtype(object) in kinds else max(kinds, key=lambda kind: kind == np.float64)
    missing = {"O": None, "f": np.nan}.get(kind.kind, MISSING_INTEGER)
    parts = [
        np.full(length, missing, kind) if column is None else _as_kind(column, kind)
        for column, length in zip(columns, rows, strict=True)
    ]
    return np.concatenate(parts)


def _as_kind(column: Column, kind: np.dtype[Any]) -> Column:
    if column.dtype == kind:
        return column
    if kind == np.float64:
        return np.where(column == MISSING_INTEGER, np.nan, column)
    missing = np.isnan(column) if column.dtype == np.float64 else column == MISSING_INTEGER
    values = column.astype(object)
    values[missing] = None
    return values


def _with_nan(values: Column) -> Column:
    missing = values == MISSING_INTEGER if values.dtype == np.int64 else np.zeros(len(values), np.bool_)
    return np.where(missing, np.nan, values) if missing.any() else values
