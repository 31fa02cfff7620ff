"""A table of figures as text, CSV, JSON or Parquet."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import click
import pandas as pd

from analysis.display import spreadsheet_cell, text_table

FORMATS: Final = ("table", "csv", "json", "parquet")


def _write_table(table: pd.DataFrame, output: Path | None) -> None:
    _write_text(
        text_table([str(name) for name in table.columns], table.to_numpy(object).tolist()) + "\n", output
    )


def _write_csv(table: pd.DataFrame, output: Path | None) -> None:
    cells = table.map(spreadsheet_cell)
    _write_text(cells.to_csv(index=False), output)


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
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8", newline="")


WRITERS: dict[str, Callable[[pd.DataFrame, Path | None], None]] = {
    "table": _write_table,
    "csv": _write_csv,
    "json": _write_json,
    "parquet": _write_parquet,
}
