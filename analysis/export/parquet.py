"""Events as Parquet files, a folder a layer, with tables of neurons and trials beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from dask.delayed import delayed

from analysis.export.contents import Contents, Run
from analysis.export.cutting import part_arguments, table_layouts
from analysis.export.hashed_parts import leaves_of_parts, write_hashed_part
from analysis.export.places import layer_folders, written_whole
from analysis.export.trial_tables import trial_table
from analysis.keeping import DigestTasks
from analysis.kernels.exporting.event_tables import WrittenPart, write_part
from analysis.kernels.selecting.source import Source, frames_of, reader_of, real_neurons
from recorder.format.layout import neuron_dimensions
from recorder.keeping.digest import join_recordings
from spiketape_worker import Parcel

# Packed bits that a task reads, at least a chunk: it holds them while it writes the file.
PART_BYTES: Final = 16 * 2**20
METADATA: Final = "metadata.json"
EXPORT_VERSION: Final = 1
_NEURONS_AT_ONCE: Final = 2**20
_COLUMNS: Final = {
    "neuron": "flat index in the layer, in C order; neurons.parquet has its place along each axis",
    "trial": "trial, null for none",
    "sample": "sample of the batch",
    "time": "steps since the first step of the trial, null outside of trials",
    "step": "step of the recording",
    "value": "what the neuron put out; where some layer has values other than 0 and 1",
    "recording": "name of the recording; where several are exported together",
}


def write_parquet(contents: Contents, out: str | os.PathLike[str], run: Run, *, digest: bool = True) -> Path:
    """Write all events of some layers to a new folder; see `Recording.export`."""
    with written_whole(out) as folder:
        folder.mkdir()
        return _write(contents, folder, Path(out), run, digest=digest)


def _write(contents: Contents, folder: Path, out: Path, run: Run, *, digest: bool) -> Path:
    # Where a digest is to be computed, the tasks that write events hash what they have decoded.
    is_hashed = digest and contents.lacks_digest
    about = _about(contents)
    parts = list(_parts(contents, folder, about, is_hashed=is_hashed))
    for part in parts:
        part.file.parent.mkdir(exist_ok=True)
    trials, as_json = trial_table(contents)
    hashed = [_digest_tasks(contents, parts, place) for place in range(len(contents.readers) * is_hashed)]
    results = iter(run(*(part.task for part in parts), *(task for one in hashed for task in one.every)))
    written = [next(results) for _ in parts]
    for part, one in zip(parts, written, strict=True):
        part.check(one)
    if hashed:
        found = [one.join([next(results) for _ in one.every]) for one in hashed]
        about["digest"] = join_recordings(found)
    _write_neurons(contents, folder, about)
    _write_trials(trials, as_json, folder, about)
    document = about | {
        "columns": _COLUMNS,
        "json_columns": as_json,
        "layers": list(_layers(contents, folder, parts, written)),
    }
    text = json.dumps(document, indent=1, allow_nan=False)
    (folder / METADATA).write_text(text + "\n", encoding="utf-8")
    return out


@dataclass(frozen=True, eq=False)
class _Part:
    """A file that is to be written; the tasks that write it and that hash leaves of the digest, if wanted."""

    layer: str
    recording: str
    file: Path
    frames: int
    task: Any
    hashes: Any | None

    def check(self, written: WrittenPart) -> None:
        """Raise OSError unless the file is here, as it was written."""
        size = self.file.stat().st_size if self.file.is_file() else None
        if size != written.size:
            raise OSError(
                f"{self.file} has {size} bytes, and the task that wrote it wrote {written.size}: workers "
                "must write to the same folder as this process, as on a file system that they share"
            )


def _digest_tasks(contents: Contents, parts: Sequence[_Part], place: int) -> DigestTasks:
    """What is to be computed for the digest of one of the recordings, where parts hash their events."""
    name, hashes = contents.members.names[place], dict[str, list[Any]]()
    for part in parts:
        if part.recording == name:
            hashes.setdefault(part.layer, []).append(part.hashes)
    return DigestTasks.of(contents.readers[place], hashes)


def _parts(contents: Contents, folder: Path, about: dict[str, Any], *, is_hashed: bool) -> Iterator[_Part]:
    names, several = contents.members.names, contents.several
    folders = layer_folders(sources[0].layer for sources in contents.layers)
    layouts = table_layouts(contents)
    for sources in contents.layers:
        number = 0
        for name, source, layout in zip(names, sources, layouts, strict=True):
            of_layer = about | {"layer": source.layer, "neuron_shape": source.commit.shape}
            if several:
                of_layer["recording"] = name
            sent = Parcel(replace(layout, about={"spiketape": json.dumps(of_layer)}))
            cut = list(part_arguments(source, PART_BYTES))
            leaves = (
                leaves_of_parts(source, [first for first, _, _ in cut]) if is_hashed else [None] * len(cut)
            )
            for (first, last, arguments), hashed in zip(cut, leaves, strict=True):
                file = folder / folders[source.layer] / f"part-{number:05}.parquet"
                frames = int(np.diff(frames_of(source).frames_before(np.array([first, last])))[0])
                given = (*arguments, sent, str(file))
                if hashed is None:
                    task, hashes = delayed(Parcel(write_part))(*given), None
                else:
                    task, hashes = delayed(Parcel(write_hashed_part), nout=2)(*given, hashed)
                yield _Part(source.layer, name, file, frames, task, hashes)
                number += 1


def _about(contents: Contents) -> dict[str, Any]:
    """What is said of an export in each of its files; those of events have the digest if it is stated."""
    duration, unit = contents.members.step_duration or (None, None)
    recordings = [
        {
            "name": name,
            "recording_id": reader.metadata.recording_id,
            "commit": reader.metadata.commit_number,
            "committed": reader.metadata.committed,
            "state": reader.metadata.state,
        }
        for name, reader in zip(contents.members.names, contents.readers, strict=True)
    ]
    return {
        "spiketape_export": EXPORT_VERSION,
        "made_by": f"spiketape {version('spiketape')}",
        "digest": contents.stated_digest,
        "dt": duration,
        "dt_unit": unit,
        "selected": {name: _listed(values) for name, values in contents.selection.parts().items()},
        "recordings": recordings,
    }


def _listed(values: Sequence[Any]) -> Any:
    """What is selected, as JSON has it: a list of values, or bounds and stride of a range."""
    if isinstance(values, range):
        return {"range": [values.start, values.stop, values.step]}
    return [str(value) if value in (float("inf"), -float("inf")) else value for value in values]


def _layers(
    contents: Contents, folder: Path, parts: Sequence[_Part], written: Sequence[WrittenPart]
) -> Iterator[dict[str, Any]]:
    grouped = groupby(zip(parts, written, strict=True), lambda pair: pair[0].layer)
    for sources, (name, of_layer) in zip(contents.layers, grouped, strict=True):
        files = [
            {
                "file": part.file.relative_to(folder).as_posix(),
                "recording": part.recording,
                "events": one.events,
                "frames": part.frames,
            }
            for part, one in of_layer
        ]
        lost = zip(contents.members.names, map(lost_steps, sources), strict=True)
        commit = sources[0].commit
        yield {
            "layer": name,
            "class": commit.layer_class,
            "dtype": commit.dtype,
            "neuron_shape": commit.shape,
            "dimensions": neuron_dimensions(commit.shape),
            "neurons": sources[0].neurons,
            "frames": sum(part["frames"] for part in files),
            "events": sum(part["events"] for part in files),
            "lost_steps": {recording: steps for recording, steps in lost if steps},
            "files": files,
        }


def lost_steps(source: Source) -> list[tuple[int, int]]:
    """Ranges of steps of a layer that are marked lost, the second of each exclusive."""
    reader = reader_of(source)
    segments, first, last = reader.segments(), reader.lost[:, 0], reader.lost[:, 1] - 1
    begin = segments.steps_of(first, segments.segment_of(first))
    end = segments.steps_of(last, segments.segment_of(last)) + 1
    return list(zip(begin.tolist(), end.tolist(), strict=True))


def _write_neurons(contents: Contents, folder: Path, about: dict[str, Any]) -> None:
    """A row for each selected neuron of each layer, with its place along each axis of its layer."""
    shapes = [sources[0].commit.shape for sources in contents.layers]
    axes = dict.fromkeys(name for shape in shapes for name in neuron_dimensions(shape) if name != "neuron")
    fields = [("layer", pa.string()), ("neuron", pa.int64()), *((name, pa.int64()) for name in axes)]
    schema = pa.schema(fields, metadata={"spiketape": json.dumps(about)})
    with pq.ParquetWriter(folder / "neurons.parquet", schema, compression="zstd") as writer:
        for sources in contents.layers:
            kept, shape = real_neurons(sources[0]), sources[0].commit.shape
            for begin in range(0, sources[0].neurons, _NEURONS_AT_ONCE):
                end = min(begin + _NEURONS_AT_ONCE, sources[0].neurons)
                neurons = kept[begin:end]
                along = dict(
                    zip(neuron_dimensions(shape), np.unravel_index(neurons, shape or (1,)), strict=False)
                )
                columns = {name: along.get(name, pa.nulls(len(neurons), pa.int64())) for name in axes}
                layer = pa.repeat(pa.scalar(sources[0].layer, pa.string()), len(neurons))
                writer.write_table(pa.table({"layer": layer, "neuron": neurons, **columns}, schema=schema))


def _write_trials(table: pd.DataFrame, as_json: list[str], folder: Path, about: dict[str, Any]) -> None:
    """A row for each presentation of a trial."""
    rows = pa.Table.from_pandas(table, preserve_index=False)
    rows = rows.replace_schema_metadata(
        {**(rows.schema.metadata or {}), "spiketape": json.dumps(about | {"json_columns": as_json})}
    )
    pq.write_table(rows, folder / "trials.parquet", compression="zstd")
