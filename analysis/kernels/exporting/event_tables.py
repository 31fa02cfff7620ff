"""Events as tables: a Parquet file a task, or a table of pandas."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.kernels.exporting.event_rows import EventRows, event_rows
from analysis.kernels.selecting.source import Source, frames_of
from analysis.kernels.selecting.trial_table import TrialStarts
from recorder.format.bits import Integers

# Columns of few different values, which Parquet keeps as places in a list of them. Neurons and trials stay
# the same for long stretches: as they are, they are written faster, and take as few bytes.
_LISTED: Final = ("sample", "time", "value", "recording")
_ENCODINGS: Final = {"step": "DELTA_BINARY_PACKED"}
# Columns whose least and greatest value tell a reader which files and groups of rows to leave out.
_BOUNDED: Final = ("neuron", "trial", "step")


@dataclass(frozen=True)
class TableLayout:
    """What the tables of a layer in a recording have in common.

    Attributes
    ----------
    is_wide : bool
        Whether 32 bits do not hold every neuron, trial, sample and time of the export.
    value : str or None
        Data type of the values of events; None where all layers that are exported are of zeros and ones.
    recording : str or None
        Name of the recording, where several are exported.
    about : mapping of str to str
        What stands in the metadata of each file.
    has_gaps : bool
        Whether trials and times may be missing.
    """

    is_wide: bool
    value: str | None
    recording: str | None
    about: Mapping[str, str] = field(default_factory=dict)
    has_gaps: bool = True

    @property
    def number(self) -> type[np.signedinteger[Any]]:
        """Data type of neurons, trials, samples and times."""
        return np.int64 if self.is_wide else np.int32

    def schema(self) -> pa.Schema:
        """Columns of the files."""
        number = pa.from_numpy_dtype(self.number)
        fields = [
            pa.field("neuron", number, nullable=False),
            pa.field("trial", number, nullable=self.has_gaps),
            pa.field("sample", number, nullable=False),
            pa.field("time", number, nullable=self.has_gaps),
            pa.field("step", pa.int64(), nullable=False),
        ]
        if self.value is not None:
            fields.append(pa.field("value", pa.from_numpy_dtype(self.value), nullable=False))
        if self.recording is not None:
            fields.append(pa.field("recording", pa.string(), nullable=False))
        return pa.schema(fields, metadata=dict(self.about))


@dataclass(frozen=True)
class WrittenPart:
    """A file that was written: its rows and its bytes."""

    events: int
    size: int


def write_part(
    source: Source, first: int, last: int, starts: TrialStarts, layout: TableLayout, path: str
) -> WrittenPart:
    """Write the events of the selected ones of frames ``first`` to ``last`` (exclusive) to a file.

    Parameters
    ----------
    source : Source
    first, last : int
    starts : TrialStarts
        First steps of the trials of these frames.
    layout : TableLayout
    path : str
        Where the file is to be; its folder is there. A file that is there is replaced.

    Raises
    ------
    RecordingFormatError
        If a chunk is missing or damaged; it names file, layer and frames.
    OSError
        If the file cannot be written, as where the folder is on another machine.
    """
    schema = layout.schema()
    trials = _trials(source, first, last, starts, layout)
    events = 0
    # A task may run twice, on two machines: each writes a file of its own, and one takes the place.
    partial = Path(f"{path}.{secrets.token_hex(8)}.partial")
    try:
        with pq.ParquetWriter(
            partial,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=[name for name in _LISTED if name in schema.names],
            column_encoding=_ENCODINGS,
            write_statistics=list(_BOUNDED),
            sorting_columns=[pq.SortingColumn(0)],
        ) as writer:
            for rows in event_rows(source, first, last, values=layout.value is not None):
                writer.write_table(_table(rows, trials, layout, schema), row_group_size=len(rows.neuron))
                events += len(rows.neuron)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return WrittenPart(events, Path(path).stat().st_size)


def read_table(
    source: Source, first: int, last: int, starts: TrialStarts, layout: TableLayout
) -> pd.DataFrame:
    """The events of the selected ones of some frames as a table of pandas; otherwise as `write_part`."""
    trials = _trials(source, first, last, starts, layout)
    schema = layout.schema()
    tables = [
        _table(rows, trials, layout, schema)
        for rows in event_rows(source, first, last, values=layout.value is not None)
    ]
    return _as_pandas(pa.concat_tables([schema.empty_table(), *tables]), layout)


def empty_table(layout: TableLayout) -> pd.DataFrame:
    """A table as `read_table` gives it, without rows."""
    return _as_pandas(layout.schema().empty_table(), layout)


def _as_pandas(table: pa.Table, layout: TableLayout) -> pd.DataFrame:
    nullable = {pa.from_numpy_dtype(layout.number): pd.Int64Dtype() if layout.is_wide else pd.Int32Dtype()}
    mapper = nullable.get if layout.has_gaps else None
    missing = table.select(["trial", "time"]).to_pandas(types_mapper=mapper)
    shown: pd.DataFrame = table.to_pandas().assign(trial=missing["trial"], time=missing["time"])
    return shown


class _Trials(NamedTuple):
    """Trial of each segment, -1 for none, and its first step; whether some in the range have none."""

    number: Integers
    start: Integers
    has_gaps: bool


def _trials(source: Source, first: int, last: int, starts: TrialStarts, layout: TableLayout) -> _Trials:
    frames = frames_of(source)
    row = frames.runs(first, last)[0]
    trial, start = np.full((2, len(frames.segments)), -1, np.int64)
    trial[row] = frames.segments.trial[row]
    inside = row[trial[row] >= 0]
    start[inside] = starts.of_trials(trial[inside])
    return _Trials(trial.astype(layout.number), start, bool((trial[row] < 0).any()))


def _table(rows: EventRows, trials: _Trials, layout: TableLayout, schema: pa.Schema) -> pa.Table:
    number = layout.number
    trial = trials.number[rows.segment]
    time = rows.step - trials.start[rows.segment]
    outside = trial < 0 if trials.has_gaps else None
    columns: dict[str, Any] = {
        "neuron": pa.array(rows.neuron.astype(number, copy=False)),
        "trial": pa.array(trial, mask=outside),
        "sample": pa.array(rows.sample.astype(number, copy=False)),
        "time": pa.array(time.astype(number), mask=outside),
        "step": pa.array(rows.step),
    }
    if layout.value is not None:
        value = np.ones(len(rows.neuron)) if rows.value is None else rows.value
        columns["value"] = pa.array(value.astype(layout.value))
    if layout.recording is not None:
        columns["recording"] = pa.repeat(pa.scalar(layout.recording, pa.string()), len(rows.neuron))
    return pa.Table.from_pydict(columns, schema=schema)
