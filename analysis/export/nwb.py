"""Spikes as a file of NWB (Neurodata Without Borders): a unit for each neuron, presentations as trials."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from hdmf.backends.hdf5 import H5DataIO
from hdmf.common import ElementIdentifiers, VectorData, VectorIndex
from hdmf.data_utils import AbstractDataChunkIterator, DataChunk
from numpy.typing import NDArray
from pynwb import NWBHDF5IO, NWBFile
from pynwb.epoch import TimeIntervals
from pynwb.misc import Units

from analysis.arguments import QuestionError
from analysis.export.contents import Contents, Run
from analysis.export.places import written_whole
from analysis.export.timeline import Timeline, count_events, spike_positions, timeline_of
from analysis.export.trains import neuron_places, presentations_table
from analysis.export.trial_tables import without_missing
from analysis.questions import ManyUnitsWarning
from recorder.format.bits import Integers

# Units that tools for NWB still show; each is a row that they read.
MANY_UNITS: Final = 10**5
# What is known of units, but for their spikes, is in memory.
_MOST_UNITS: Final = 10**7
_CHUNK_ROWS: Final = 2**16
# Rows of intervals that are made at a time.
_ROWS_AT_ONCE: Final = 2**18
_COMPRESSED: Final = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
# What a table of trials has besides columns, and columns that NWB means something by.
_TAKEN: Final = dir(TimeIntervals(name="trials", description=""))
_DESCRIPTIONS: Final = {
    "start_time": "where the presentation begins, in seconds",
    "stop_time": "where it ends",
    "recording": "name of the recording",
    "trial": "number of the trial, -1 for none",
    "sample": "place in the batch",
    "first_step": "step of the recording at which the presentation begins",
    "steps": "steps of the presentation, those in which layers were not called included",
    "layer": "layer of the network",
    "neuron": "flat index in the layer, in C order",
}


def write_nwb(
    contents: Contents,
    out: str | os.PathLike[str],
    run: Run,
    step: tuple[float | None, str | None],
    *,
    digest: bool,
) -> Path:
    """Write the spikes of some layers to a new file; see `Recording.export`."""
    if not os.fspath(out).endswith(".nwb"):
        raise QuestionError(f"{os.fspath(out)!r} does not end in .nwb, by which tools know such files")
    timeline = timeline_of(contents, *step)
    units = sum(sources[0].neurons for sources in contents.layers)
    if units > _MOST_UNITS:
        raise QuestionError(
            f"{units} neurons would become units, and {_MOST_UNITS} can; select layers or neurons, or export "
            "to Parquet"
        )
    if units > MANY_UNITS:
        warnings.warn(
            f"{units} neurons become units, and tools for NWB are slow with more than {MANY_UNITS}; select "
            "layers or neurons, or export to Parquet",
            ManyUnitsWarning,
            stacklevel=3,
        )
    with written_whole(out, ".nwb") as partial:
        file = _file(contents, timeline, contents.digest(run) if digest else contents.stated_digest)
        if timeline.steps:
            file.trials = _trials(contents, timeline)
        file.units = _units(contents, timeline, run)
        with NWBHDF5IO(str(partial), "w") as io:
            io.write(file)
    return Path(out)


def _file(contents: Contents, timeline: Timeline, digest: str | None) -> Any:
    records = [reader.metadata for reader in contents.readers]
    provenance = records[0].provenance
    about = {
        "digest": digest,
        "dt_seconds": timeline.seconds,
        "recordings": [
            {"name": name, "recording_id": record.recording_id, "commit": record.commit_number}
            for name, record in zip(contents.members.names, records, strict=True)
        ],
        "selected": not contents.is_whole,
    }
    network = provenance.get("network") or "a spiking neural network"
    citation = provenance.get("citation")
    return NWBFile(
        session_description=f"spikes of {network}, recorded by spiketape; presentations are laid end to end",
        identifier=digest or " ".join(record.recording_id for record in records),
        session_start_time=_moment(records[0].created),
        keywords=["spiking neural network"],
        notes=json.dumps(about),
        related_publications=[str(citation)] if citation else None,
    )


def _moment(text: str) -> datetime:
    """A moment, as recordings have it; the beginning of 1970 if a stranger wrote something else."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return datetime(1970, 1, 1, tzinfo=UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _trials(contents: Contents, timeline: Timeline) -> Any:
    table = presentations_table(contents, timeline, _TAKEN)
    columns = []
    for name in table.columns:
        known = name in _DESCRIPTIONS
        values, is_json = without_missing(table[name].array)
        columns.append(
            VectorData(
                name=name if known else _column_name(str(name)),
                description=_DESCRIPTIONS[name] if known else f"attached to trials{', as JSON' * is_json}",
                data=_stored(values),
            )
        )
    names = tuple(column.name for column in columns)
    return TimeIntervals(
        name="trials",
        description="presentations, laid end to end: each sample of each trial, one behind the other",
        id=ElementIdentifiers(name="id", data=np.arange(len(table))),
        columns=columns,
        colnames=names,
    )


def _column_name(name: str) -> str:
    """Name of a column as HDF5 can have it: percent-encoded where that means something there."""
    encoded = re.sub(
        r"[%/:\x00-\x1f\x7f]|^\.+$", lambda found: "".join(f"%{ord(x):02X}" for x in found[0]), name
    )
    return encoded or "%"


def _stored(values: NDArray[Any]) -> Any:
    """An array that HDF5 has a type for; text as a list."""
    return values if values.dtype != object else values.tolist()


def _units(contents: Contents, timeline: Timeline, run: Run) -> Any:
    counts = [count_events(sources, run) for sources in contents.layers]
    observed = [timeline.observed(sources) for sources in contents.layers]
    places = pd.concat([neuron_places(sources[0]) for sources in contents.layers], ignore_index=True)
    spikes = np.cumsum(np.concatenate(counts))
    intervals = np.cumsum(
        np.concatenate([np.full(len(c), len(o)) for c, o in zip(counts, observed, strict=True)])
    )

    def times() -> Iterator[NDArray[Any]]:
        for sources, of_layer in zip(contents.layers, counts, strict=True):
            for _, positions in spike_positions(timeline, sources, of_layer, run):
                yield positions * timeline.seconds

    spike_times = _column("spike_times", "spike times of each unit in seconds", times(), (int(spikes[-1]),))
    bounds = _repeated(counts, [ranges * timeline.seconds for ranges in observed])
    obs_intervals = _column("obs_intervals", "when the layer was recorded", bounds, (int(intervals[-1]), 2))
    columns = [
        # Each index before what it is of, as hdmf asks for where that is written piece by piece.
        VectorIndex(name="spike_times_index", data=spikes, target=spike_times),
        spike_times,
        VectorIndex(name="obs_intervals_index", data=intervals, target=obs_intervals),
        obs_intervals,
        *(
            VectorData(
                name=str(name),
                description=_DESCRIPTIONS.get(str(name), f"place along the {name} axis of the layer"),
                data=_stored(places[name].to_numpy()),
            )
            for name in places
        ),
    ]
    return Units(
        name="units",
        description="neurons of a spiking neural network; a spike is at the beginning of its step",
        id=ElementIdentifiers(name="id", data=np.arange(len(places))),
        columns=columns,
        colnames=("spike_times", "obs_intervals", *map(str, places)),
        resolution=timeline.seconds,
    )


def _repeated(counts: Sequence[Integers], observed: Sequence[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """Intervals of each unit, one behind the other: those of its layer."""
    for of_layer, bounds in zip(counts, observed, strict=True):
        at_once = max(_ROWS_AT_ONCE // max(len(bounds), 1), 1)
        for begin in range(0, len(of_layer), at_once):
            yield np.tile(bounds, (min(at_once, len(of_layer) - begin), 1))


def _column(name: str, description: str, pieces: Iterable[NDArray[Any]], shape: tuple[int, ...]) -> Any:
    """A column that is written piece by piece."""
    data: Any = np.empty(shape)
    if shape[0]:
        data = H5DataIO(_Pieces(pieces, shape), **_COMPRESSED)
    return VectorData(name=name, description=description, data=data)


class _Pieces(AbstractDataChunkIterator):  # type: ignore[misc] # hdmf has no types
    """Arrays of float64 that follow each other, as hdmf writes them: one at a time."""

    def __init__(self, pieces: Iterable[NDArray[Any]], shape: tuple[int, ...]) -> None:
        self._pieces = iter(pieces)
        self._shape = shape
        self._begin = 0

    def __iter__(self) -> _Pieces:
        return self

    def __next__(self) -> Any:
        piece = next(self._pieces)
        begin, self._begin = self._begin, self._begin + len(piece)
        whole = (slice(0, length) for length in self._shape[1:])
        return DataChunk(data=piece, selection=(slice(begin, self._begin), *whole))

    next = __next__

    def recommended_chunk_shape(self) -> tuple[int, ...]:
        return (min(_CHUNK_ROWS, self._shape[0]), *self._shape[1:])

    def recommended_data_shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64)

    @property
    def maxshape(self) -> tuple[int, ...]:
        return self._shape
