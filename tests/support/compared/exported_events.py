"""Events of a layer as they were exported to files of Parquet."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from analysis.export.places import layer_folders


def read(out: Path, name: str) -> pl.DataFrame:
    """Events of a layer, file after file."""
    folder = layer_folders([name])[name]
    return pl.concat([pl.read_parquet(file) for file in sorted((out / folder).glob("part-*.parquet"))])
