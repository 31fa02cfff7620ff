"""A table of figures as text, CSV, JSON or Parquet."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import click
import pandas as pd

from analysis.display import printable, spreadsheet_cell, text_table

FORMATS: Final = ("table", "csv", "json", "parquet")
SUFFIXES: Final = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".txt": "table"}


def format_of(output: Path | None) -> str:
    """The format that a file's name asks for; a table for the screen.

    Raises
    ------
    click.UsageError
        If the name ends in nothing that is known.
    """
    if output is None:
        return "table"
    try:
        return SUFFIXES[output.suffix.lower()]
    except KeyError:
        raise click.UsageError(
            f"{printable(output)} does not say in what format to write: let it end in "
            f"{', '.join(SUFFIXES)}, or give --format {'|'.join(FORMATS)}"
        ) from None


def _write_table(table: pd.DataFrame, output: Path | None) -> None:
    _write_text(
        text_table([str(name) for name in table.columns], table.to_numpy(object).tolist()) + "\n", output
    )


def _write_csv(table: pd.DataFrame, output: Path | None) -> None:
    """Cells exactly as they are, for programs; a terminal is shown what does nothing to it."""
    is_shown = output is None and sys.stdout.isatty()
    cells = table.map(_printable_cell) if is_shown else table
    # The csv module of some Pythons leaves a lone carriage return unquoted, which then ends a row.
    has_returns = any("\r" in value for value in cells.to_numpy(object).ravel() if isinstance(value, str))
    text = (
        cells.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        if has_returns
        else cells.to_csv(index=False, lineterminator="\n")
    )
    _write_text(text, output)


def write_csv_for_spreadsheets(table: pd.DataFrame, output: Path | None) -> None:
    """Cells of which no spreadsheet takes one for a formula; see `analysis.display.spreadsheet_cell`."""
    _write_text(table.map(spreadsheet_cell).to_csv(index=False, lineterminator="\n"), output)


def _printable_cell(value: object) -> object:
    return printable(value) if isinstance(value, str) else value


def _write_json(table: pd.DataFrame, output: Path | None) -> None:
    rows = [{name: _json_value(value) for name, value in row.items()} for row in table.to_dict("records")]
    _write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n", output)


def _json_value(value: Any) -> Any:
    """A value as JSON can have it, which has neither NaN nor infinities."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity"


def _write_parquet(table: pd.DataFrame, output: Path | None) -> None:
    if find_spec("pyarrow") is None:
        raise click.ClickException("--format parquet needs pyarrow: pip install 'spiketape[analysis]'")
    # Labels may be of several kinds, which a column of a Parquet file cannot be.
    mixed = [name for name in table.columns if pd.api.types.infer_dtype(table[name]).startswith("mixed")]
    table.astype(dict.fromkeys(mixed, str)).to_parquet(output, index=False)


def _write_text(text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text, nl=False, color=True)  # or it would take control characters out of labels
    else:
        output.write_text(text, encoding="utf-8", newline="")


WRITERS: dict[str, Callable[[pd.DataFrame, Path | None], None]] = {
    "table": _write_table,
    "csv": _write_csv,
    "json": _write_json,
    "parquet": _write_parquet,
}
