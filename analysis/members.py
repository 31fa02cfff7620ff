"""Recordings that are opened together: what they must have in common, and what they may be asked so.

And what a recording must have in common with what it was when it was opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.display import shape_text
from analysis.kernels.booleans import exact_dtype, show_missing
from analysis.kernels.selecting.selection import Selection, contains
from analysis.kernels.selecting.source import Source
from analysis.questions import shown_name
from recorder.format import RecordingFormatError, RecordingMetadata
from recorder.format.columns import KEYS, MISSING_INTEGER, identity
from recorder.stores.rank_names import RankRecord, ranks_of_one_run
from recorder.tape import LayerReader, TapeReader
from recorder.tape.layers.counts_reading import CountsReader, read_layer

if TYPE_CHECKING:
    import xarray as xr

StepDuration = tuple[float, str]


@dataclass(frozen=True)
class Members:
    """The recordings that are looked at as one.

    Attributes
    ----------
    names : tuple of str
        The last part of each location, or all of it where these are not all different; where locations are
        not either, the last part and a number.
    share_steps : bool
        Whether a step, and a trial, of one means the same in the others: there is only one, or they are the
        ranks of one distributed run.
    step_durations : tuple of (float, str) or None
        Duration of a step and its unit, in each recording; None where it does not know.
    """

    names: tuple[str, ...]
    share_steps: bool
    step_durations: tuple[StepDuration | None, ...]

    @property
    def step_duration(self) -> StepDuration | None:
        """Duration of a step and its unit, if all recordings know it and agree."""
        return self.step_durations[0] if len({*self.step_durations}) == 1 else None

    def only(self, places: Sequence[int]) -> Members:
        """Some of the recordings."""
        chosen = [(self.names[place], self.step_durations[place]) for place in places]
        names, durations = zip(*chosen, strict=True)
        return Members(names, self.share_steps or len(names) == 1, durations)


def members_of(readers: Sequence[TapeReader]) -> Members:
    """The recordings behind some readers, taken together.

    Raises
    ------
    JointRecordingError
        If one is there twice, or if they do not have the same layers with the same neuron shapes.
    """
    locations = [reader.store.location for reader in readers]
    first_location: dict[str, str] = {}
    for reader, location in zip(readers, locations, strict=True):
        twin = first_location.setdefault(reader.metadata.recording_id, location)
        if twin is not location:
            raise JointRecordingError(
                f"{location} is the same recording as {twin}, or a copy of it; its spikes would count twice"
            )
    for reader, location in zip(readers[1:], locations[1:], strict=True):
        _check_alike(readers[0].metadata, locations[0], reader.metadata, location)
    short = [location.rstrip("/").rpartition("/")[2] for location in locations]
    names = short if len(set(short)) == len(short) else locations
    if len(set(names)) < len(names):
        # Their addresses differ in what is not shown of them, such as the query.
        names = [f"{name} ({number})" for number, name in enumerate(short, 1)]
    durations = tuple(_step_duration(reader.metadata.provenance) for reader in readers)
    return Members(tuple(names), len(readers) == 1 or ranks_of(readers) is not None, durations)


def _step_duration(provenance: Mapping[str, Any]) -> StepDuration | None:
    """Duration of a step and its unit, of a recording that knows it; strangers may have written anything."""
    duration, unit = provenance.get("dt"), provenance.get("dt_unit")
    if not isinstance(unit, str) or isinstance(duration, bool) or not isinstance(duration, int | float):
        return None
    return (float(duration), unit) if 0 < duration < float("inf") else None


def _check_alike(
    first: RecordingMetadata, first_location: str, other: RecordingMetadata, other_location: str
) -> None:
    expected = {layer.name: layer for layer in first.layers}
    found = {layer.name: layer for layer in other.layers}
    both = f"{first_location} and {other_location} cannot be looked at as one recording"
    for one, its_layers, another, its_others in (
        (first_location, expected, other_location, found),
        (other_location, found, first_location, expected),
    ):
        for name in its_layers:
            if name not in its_others:
                there = ", ".join(map(repr, its_others)) or "none, as nothing has been committed yet"
                raise JointRecordingError(
                    f"{both}: layer {name!r} of {one} is not in {another}, whose layers are: {there}"
                )
    for name, layer in expected.items():
        if found[name].shape != layer.shape:
            raise JointRecordingError(
                f"{both}: the neurons of layer {name!r} are {shape_text(layer.shape)} in the first, and "
                f"{shape_text(found[name].shape)} in the second"
            )
        if (found[name].along, found[name].counts_only) != (layer.along, layer.counts_only):
            raise JointRecordingError(
                f"{both}: of layer {name!r}, {layer.part or 'all'} is kept in the first, and "
                f"{found[name].part or 'all'} in the second, of other neurons or in another form"
            )


def ranks_of(readers: Sequence[TapeReader]) -> list[RankRecord] | None:
    """The ranks that recordings are, if they are ranks of one run, see `ranks_of_one_run`; else None."""
    return ranks_of_one_run((reader.store.location, reader.metadata.provenance) for reader in readers)


def columns_of(sources: Sequence[Source]) -> dict[str, str]:
    """Columns of the trials of recordings: the names by which they are asked for, and are stored."""
    names = (column.name for source in sources for column in source.trials.columns)
    return {shown_name(name): name for name in dict.fromkeys(names) if name not in KEYS}


Column = NDArray[Any]


def presented(readers: Sequence[TapeReader], names: Sequence[str], selection: Selection) -> xr.Dataset:
    """Table of trials: a row for each sample of each selected trial, recording after recording.

    ``names`` are those of the recordings, for the variable ``recording`` where there are several.
    """
    import xarray as xr  # noqa: PLC0415 - takes its time

    tables = [_selected(reader.trials(), selection) for reader in readers]
    rows = [len(table["trial"]) if table else 0 for table in tables]
    columns = dict.fromkeys(name for table in tables for name in table)
    values = {
        shown_name(name): _with_missing(join_columns([table.get(name) for table in tables], rows))
        for name in columns
    }
    if len(readers) > 1:
        values = {"recording": np.repeat(np.array(names, object), rows), **values}
    return xr.Dataset({name: xr.Variable(("presentation",), column) for name, column in values.items()})


def _selected(columns: Mapping[str, Column], selection: Selection) -> dict[str, Column]:
    rows = selected_rows(columns, selection)
    return {name: values[rows] for name, values in columns.items()}


def selected_rows(columns: Mapping[str, Column], selection: Selection) -> NDArray[np.bool_]:
    """Whether each row of a table of trials is of a selected sample of a selected trial."""
    if not columns:
        return np.zeros(0, np.bool_)
    rows = selection.has_trials(columns["trial"])
    if selection.samples is not None:
        rows &= contains(selection.samples, columns["sample"])
    for name, wanted in selection.where:
        values = columns[name].tolist() if name in columns else [None] * len(rows)
        chosen = set(map(identity, wanted))
        rows &= np.array([identity(value) in chosen for value in values], np.bool_)
    return rows


def join_columns(columns: Sequence[Column | None], rows: Sequence[int]) -> Column:
    """One column behind the other; where a recording lacks it, so many missing values.

    Of one kind, they keep it; otherwise they are objects, so that ``1`` and ``1.0`` stay what they are.
    """
    kinds = {column.dtype for column in columns if column is not None}
    kind = kinds.pop() if len(kinds) == 1 else np.dtype(object)
    missing = {"O": None, "f": np.nan}.get(kind.kind, MISSING_INTEGER)
    parts = [
        np.full(length, missing, kind) if column is None else _as_kind(column, kind)
        for column, length in zip(columns, rows, strict=True)
    ]
    return np.concatenate(parts)


def _as_kind(column: Column, kind: np.dtype[Any]) -> Column:
    if column.dtype == kind:
        return column
    missing = np.isnan(column) if column.dtype == np.float64 else column == MISSING_INTEGER
    values = column.astype(object)
    values[missing] = None
    return values


def _with_missing(values: Column) -> Column:
    """Whole numbers as they are shown where some are missing: see `exact_dtype`."""
    if values.dtype != np.int64:
        return values
    return show_missing(values, exact_dtype(values, has_missing=bool((values == MISSING_INTEGER).any())))


class JointRecordingError(ValueError):
    """Recordings that cannot be looked at as one: they differ in their layers, or one is there twice."""


class RecordingReplacedError(ValueError):
    """There is another recording now where one was opened, or an earlier or another state of it."""


def refuse_another(before: TapeReader, now: TapeReader) -> None:
    """Raise RecordingReplacedError unless a commit is that of an earlier reader, or goes on from it.

    A commit promises all that those before it have promised. Of one with a later number this is looked into,
    in the layer that has the fewest neurons: it may be that of a copy that somebody else has gone on with.
    """
    old, new = before.metadata, now.metadata
    if new.recording_id != old.recording_id:
        what = f"recording {new.recording_id}, begun {new.created}"
    elif new.commit_number < old.commit_number:
        what = f"its commit {new.commit_number} of {new.committed}, an earlier one"
    elif new.commit_number == old.commit_number and _unpacked(new) != _unpacked(old):
        what = f"another commit {new.commit_number}, of {new.committed}"
    elif new.commit_number > old.commit_number and not _goes_on(before, now):
        what = f"a commit {new.commit_number} of {new.committed} that does not go on from it"
    else:
        return
    raise RecordingReplacedError(
        f"{now.store.location} is not what was opened, commit {old.commit_number} of {old.committed} of "
        f"recording {old.recording_id}: there is {what}. It has been replaced; open it again to look at what "
        "is there"
    )


def _unpacked(metadata: RecordingMetadata) -> RecordingMetadata:
    return replace(metadata, shard_bytes=0, digest="")


def _goes_on(before: TapeReader, now: TapeReader) -> bool:
    """True if the newest frames of the earlier commit are still there.

    Recovery, on request, may have cut them away or marked them lost. Where the later commit's own frames are
    damaged nothing can be told, and whoever asks for them is told of the damage.
    """
    kept = [
        layer.commit
        for name, layer in before.layers.items()
        if layer.frames
        and name in now.layers
        and layer.frames <= now.layers[name].frames
        and layer.commit.lost == now.layers[name].commit.lost
    ]
    if not kept:
        return True
    smallest = min(kept, key=lambda commit: commit.plan.neurons)
    newest = smallest.frames - 1
    return _holds(read_layer(now.store, smallest), newest) or not _holds(now.layers[smallest.name], newest)


def _holds(layer: LayerReader, frame: int) -> bool:
    """True if the segments of a layer and what holds a frame are what its commit promises."""
    chunk = frame // layer.plan.chunk_frames
    try:
        segments = layer.segments()
        if isinstance(layer, CountsReader):
            list(layer.kept_rows(segments.segment_of(np.array([frame])).tolist()))
        elif not layer.is_lost(chunk):
            layer.chunk(chunk)
    except RecordingFormatError:
        return False
    return True
