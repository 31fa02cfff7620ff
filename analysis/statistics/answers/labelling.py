"""Names of dimensions, and the coordinates along them: what makes an array of figures an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from analysis.asking.axes import FrameAxes, presentations_of
from analysis.kernels.booleans import column_values, exact_dtype, show_missing
from analysis.kernels.counting.tallying import places_of
from analysis.kernels.selecting.coding import CodedGroups, PresentationAxis
from analysis.kernels.selecting.selection import contains
from analysis.kernels.selecting.source import Source, column_of
from analysis.kernels.tables import table_rows
from analysis.members import Members, join_columns
from analysis.questions import Question, free_name, shown_name
from recorder.format.bits import Integers
from recorder.format.columns import KEYS, MISSING_INTEGER
from recorder.format.layout import neuron_dimensions

LONG_NAMES = {
    "recording": "recording",
    "step": "time step",
    "window": "first time step of the window",
    "time": "time step within the trial",
    "trial": "trial",
    "sample": "sample of the batch",
    "layer": "layer",
    "channel": "channel",
}


def labelled(
    values: Any,
    question: Question,
    axes: FrameAxes,
    layers: Sequence[Sequence[Source]],
    members: Members,
    further: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """An answer with its dimensions and coordinates.

    Parameters
    ----------
    values : array, shape [recordings, layers, *axes of frames, *places, *further]
        Lazy or not; without the first two axes where these are not kept apart.
    question, layers, members
        As in `analysis.asking.planning.plan_answer`.
    axes : FrameAxes
    further : mapping of str to array, optional
        Dimensions behind the others, such as lags, and their coordinates.

    Returns
    -------
    xarray.DataArray
        The axes of frames are in the order in which they were asked for; presentations that are not selected
        are left out.
    """
    dimensions: list[str] = []
    coordinates: dict[str, Any] = {}
    if question.recordings:
        dimensions.append("recording")
        coordinates["recording"] = ("recording", np.array(members.names, dtype=np.str_))
    if question.layers:
        dimensions.append("layer")
        coordinates["layer"] = ("layer", np.array([layer[0].layer for layer in layers], dtype=np.str_))
    before = tuple(dimensions)
    for name, coordinate in zip(axes.names, axes.coordinates, strict=True):
        dimensions.append(name)
        if coordinate is not None:
            coordinates[name] = (name, coordinate)
    places = _places(question, layers)
    places |= further or {}
    coordinates |= {name: (name, along) for name, along in places.items()}
    result = xr.DataArray(values, dims=[*dimensions, *places], coords=coordinates)
    if "presentation" in axes.names and layers:
        result = _with_presentations(result, axes, layers[0][0])
    result = result.transpose(*before, *question.along, *places)
    for name, long_name in LONG_NAMES.items():
        if name in result.coords:
            result.coords[name].attrs["long_name"] = long_name
    for name in question.columns:
        result.coords[name].attrs["long_name"] = name
    return with_durations(result, members)


def _places(question: Question, layers: Sequence[Sequence[Source]]) -> dict[str, Any]:
    """Dimensions of the places within a layer, and their coordinates: real indices, of some neurons too."""
    if question.place == "all":
        return {}
    source = layers[0][0]
    lengths = places_of(source.neuron_shape, question.place)
    along = zip(neuron_dimensions(source.commit.axes), source.indices, lengths, strict=False)
    return {name: _index(indices) for name, indices, _ in along}


def _index(indices: tuple[int, ...] | range) -> Any:
    # A range is an index that takes no memory, however long.
    return (
        pd.RangeIndex(indices.start, indices.stop, indices.step) if isinstance(indices, range) else [*indices]
    )


def with_durations(result: xr.DataArray, members: Members) -> xr.DataArray:
    """The same answer; along steps and times also in the unit of time, if the duration of a step is known."""
    if members.step_duration is None:
        return result
    duration, unit = members.step_duration
    for name in ("step", "window", "time", "interval", "lag"):
        if name in result.dims and f"{name}_{unit}" not in result.coords:
            coordinate = xr.Variable(
                (name,), result[name].values * duration, {"long_name": "time", "units": unit}
            )
            result = result.assign_coords({f"{name}_{unit}": coordinate})
    return result


def _with_presentations(result: xr.DataArray, axes: FrameAxes, source: Source) -> xr.DataArray:
    """The selected presentations, with the trial, the sample and the columns of each."""
    groups = axes.groups
    axis = groups.axes[0] if isinstance(groups, CodedGroups) else None
    assert isinstance(axis, PresentationAxis)  # noqa: S101 - the first, as frames come in its order
    trial, sample = presentations_of(axis)
    selection = source.selection
    kept = np.ones(len(trial), np.bool_)
    if selection.samples is not None:
        kept &= contains(selection.samples, sample)
    if selection.where:
        row = table_rows(source, trial, sample)
        for name, values in selection.where:
            kept &= np.append(column_of(source, name, values).code, -1)[row] >= 0
    if not kept.all():
        result = result.isel(presentation=np.flatnonzero(kept))
    return _with_columns(result, [source], [(trial[kept], sample[kept])])


def join_presentations(
    answers: Sequence[xr.DataArray], layers: Sequence[Sequence[Source]], members: Members
) -> xr.DataArray:
    """Answers per presentation of each recording, one behind the other, with the recording of each."""
    sources = [layers[0][place] for place in range(len(members.names))]
    placed = [(each.trial.values, each["sample"].values) for each in answers]
    bare = [
        each.drop_vars([name for name in each.coords if "presentation" in each[name].dims])
        for each in answers
    ]
    joined = xr.concat(bare, "presentation", coords="minimal", compat="override")
    names = np.repeat(np.array(members.names, object), [len(trial) for trial, _ in placed])
    result = _with_columns(joined.assign_coords(recording=("presentation", names)), sources, placed)
    result.recording.attrs["long_name"] = "recording"
    return result


def _with_columns(
    result: xr.DataArray, sources: Sequence[Source], placed: Sequence[tuple[Integers, Integers]]
) -> xr.DataArray:
    """An answer with the trial, the sample and the columns of each presentation of some recordings."""
    coordinates: dict[str, Any] = {
        name: (
            "presentation",
            np.concatenate([keys[place] for keys in placed]),
            {"long_name": LONG_NAMES[name]},
        )
        for place, name in enumerate(KEYS)
    }
    rows = [table_rows(source, *keys) for source, keys in zip(sources, placed, strict=True)]
    stored = [{column.name for column in source.trials.columns} for source in sources]
    for name in dict.fromkeys(column.name for source in sources for column in source.trials.columns):
        if name in KEYS:
            continue
        parts = [
            column_values(source, name)[row] if name in there else None
            for source, row, there in zip(sources, rows, stored, strict=True)
        ]
        values = join_columns(parts, [len(row) for row in rows])
        if values.dtype == np.int64:
            missing = bool((values == MISSING_INTEGER).any())
            values = show_missing(values, exact_dtype(values, has_missing=missing))
        # A column may be an axis beside the presentations.
        shown = free_name(shown_name(name), result.dims)
        coordinates[shown] = ("presentation", values, {"long_name": name})
    return result.assign_coords(coordinates)
