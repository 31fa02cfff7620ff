"""Events of a layer as a lazy table of Dask."""

from __future__ import annotations

from typing import Any, Final

import dask.dataframe as dd
import pandas as pd
from dask.base import tokenize

from analysis.export.contents import Contents
from analysis.export.cutting import part_arguments, table_layouts
from analysis.kernels.exporting.event_tables import empty_table, read_table
from spiketape_worker import Parcel

# Packed bits behind a partition, at least a chunk.
PARTITION_BYTES: Final = 4 * 2**20


def lazy_events(contents: Contents) -> Any:
    """All events of a layer, see `Layer.events`."""
    (sources,) = contents.layers
    layouts = table_layouts(contents)
    parts = [
        (*arguments, Parcel(layout))
        for source, layout in zip(sources, layouts, strict=True)
        for _, _, arguments in part_arguments(source, PARTITION_BYTES)
    ]
    names = [(source.identity, source.layer, source.selection.token()) for source in sources]
    meta: pd.DataFrame = empty_table(layouts[0])
    # Named by what is read, so that a table that is asked for twice is read once.
    return dd.from_map(
        Parcel(_read), parts, meta=meta, label=f"events-{tokenize(*names)}", enforce_metadata=False
    )


def _read(part: tuple[Any, ...]) -> pd.DataFrame:
    return read_table(*(each.content if isinstance(each, Parcel) else each for each in part))
