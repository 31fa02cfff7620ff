"""Firing rates, silent ratios and spike counts, as labelled lazy arrays.

A firing rate is spikes ÷ slots, a silent ratio is silent neurons ÷ neurons looked at. Both numbers are exact
integers, summed over layers where these are pooled, and divided once, last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.array.core import elemwise

from analysis.graphs import add_together, frames_together, tally_together
from analysis.kernels.counting import Source, common_labels, labels_of, ratio
from analysis.kernels.tallying import places_of
from analysis.members import Members
from analysis.planning import (
    Axis,
    _axis,
    _total_bytes,
    task_bytes,
)
from analysis.questions import Question, QuestionError
from recorder.format.columns import identity
from recorder.format.layout import neuron_dimensions
from spiketape_worker import Parcel

Statistic = Literal["firing_rate", "silent_ratio", "spike_count"]

_LONG_NAMES: dict[Statistic, str] = {
    "firing_rate": "firing rate: spikes per neuron and step",
    "silent_ratio": "silent ratio: neurons that never fired / neurons",
    "spike_count": "spikes",
}
_COORDINATE_NAMES = {
    "recording": "recording",
    "step": "time step",
    "window": "first time step of the window",
    "trial": "trial",
    "label": "label",
    "layer": "layer",
    "channel": "channel",
}


def compute_lazily(
    statistic: Statistic, layers: Sequence[Sequence[Source]], question: Question, members: Members
) -> xr.DataArray:
    """A statistic of some layers.

    Parameters
    ----------
    statistic : {"firing_rate", "silent_ratio", "spike_count"}
    layers : sequence of sequence of Source
        The layers, in network order; each in all recordings.
    question : Question
        What to keep apart.
    members : Members
        The recordings.

    Returns
    -------
    xarray.DataArray
        Lazy (dask), float64 or, for counts, int64. Dimensions in the order recording, layer, time, neuron.

    Raises
    ------
    QuestionError
        If places are to be kept apart in several layers at once or in a layer that has none, if labels are
        asked for and none were recorded, or if steps or trials of recordings are to be pooled that have
        nothing to do with each other.
    """
    _check_place([layer[0] for layer in layers], question)
    _check_time(question, members)
    if question.time == "label" and len(members.names) > 1 and layers:
        together = common_labels(layers[0])
        layers = [[replace(source, labels=together) for source in layer] for layer in layers]
    sources = [source for layer in layers for source in layer]
    bytes_per_task = task_bytes(_total_bytes(sources, question))
    # Of several recordings, whether a neuron fired is known once its spikes in all of them are added up.
    joins_neurons = statistic == "silent_ratio" and len(members.names) > 1 and not question.recordings
    axis, coordinate = _axis(
        sources,
        question,
        bytes_per_task,
        counted="neuron" if joins_neurons else question.place,
        keeps_neurons=statistic == "silent_ratio",
    )
    every = range(len(members.names))
    pools = [[member] for member in every] if question.recordings else [[*every]]
    pooled = [
        _pooled(statistic, [[layer[m] for m in pool] for layer in layers], question, axis, bytes_per_task)
        for pool in pools
    ]
    values = da.stack(pooled) if question.recordings else pooled[0]
    result = _labelled(statistic, values, layers, question, coordinate, members)
    selected = sources[0].selection.labels if sources else None
    if question.time != "label" or selected is None:
        return result
    known = labels_of(sources[0]).values
    chosen = set(map(identity, selected))
    return result.isel(label=[place for place, value in enumerate(known) if identity(value) in chosen])


def _pooled(
    statistic: Statistic,
    layers: Sequence[Sequence[Source]],
    question: Question,
    axis: Axis,
    bytes_per_task: int,
) -> Any:
    """A statistic of these recordings together, as a dask array."""
    parts, wholes = [], []
    for sources in layers:
        plan = sources[0].commit.plan
        places = places_of(plan.neuron_shape, question.place)
        neurons = plan.neurons // int(np.prod(places, dtype=np.int64))
        quantity: Literal["spikes", "fired"] = "fired" if statistic == "silent_ratio" else "spikes"
        counted = tally_together(sources, axis, question.place, quantity, bytes_per_task)
        frames = frames_together(sources, axis)
        frames = frames.reshape(frames.shape + (1,) * len(places))
        if statistic == "silent_ratio":
            looked_at = (frames > 0) * np.int64(neurons)
            counted = looked_at - counted
            wholes.append(looked_at)
        else:
            wholes.append(frames * np.int64(neurons))
        parts.append(counted)
    part, whole = (_over_layers(arrays, question.layers, axis) for arrays in (parts, wholes))
    return part if statistic == "spike_count" else elemwise(Parcel(ratio), part, whole, dtype=np.float64)


def _check_place(sources: Sequence[Source], question: Question) -> None:
    if question.place == "all":
        return
    if len(sources) != 1:
        raise QuestionError(
            f"per={question.place!r} tells the {question.place}s of one layer apart, but {len(sources)} "
            f'layers are selected; ask one of them: recording["1"].firing_rate(per="{question.place}"). '
            f"The layers are: {', '.join(repr(source.layer) for source in sources)}"
        )
    dimensions = neuron_dimensions(sources[0].commit.plan.neuron_shape)
    if question.place == "channel" and "channel" not in dimensions:
        raise QuestionError(
            f"layer {sources[0].layer!r} has no channels: its neuron shape is "
            f'{sources[0].commit.plan.neuron_shape}; use per="neuron"'
        )


def _check_time(question: Question, members: Members) -> None:
    if question.time in (None, "label") or question.recordings or members.share_steps:
        return
    raise QuestionError(
        f"per={question.time!r} would pool what has nothing in common: these {len(members.names)} recordings "
        f"are not the ranks of one run, and each counts its own steps and trials. Keep them apart with "
        f'per=("recording", {question.time!r}), or look at one of them: select(recordings=...)'
    )


def _over_layers(arrays: list[Any], apart: bool, axis: Axis) -> Any:
    if apart and arrays:
        return da.stack(arrays)
    if arrays:
        return add_together(arrays)
    groups = (axis.bounds[-1],) if axis is not None else ()
    return da.zeros((0, *groups) if apart else groups, dtype=np.int64)


def _labelled(
    statistic: Statistic,
    values: da.Array,
    layers: Sequence[Sequence[Source]],
    question: Question,
    coordinate: Any,
    members: Members,
) -> xr.DataArray:
    """Name dimensions and coordinates."""
    dimensions: list[str] = []
    coordinates: dict[str, Any] = {}
    if question.recordings:
        dimensions.append("recording")
        coordinates["recording"] = ("recording", np.array(members.names, dtype=np.str_))
    if question.layers:
        dimensions.append("layer")
        coordinates["layer"] = ("layer", np.array([layer[0].layer for layer in layers], dtype=np.str_))
    if question.time is not None:
        dimensions.append(question.time)
        coordinates[question.time] = (question.time, coordinate)
    if question.place != "all":
        shape = layers[0][0].commit.plan.neuron_shape
        for name, length in zip(neuron_dimensions(shape), places_of(shape, question.place), strict=False):
            dimensions.append(name)
            coordinates[name] = (name, pd.RangeIndex(length))
    result = xr.DataArray(values, dims=dimensions, coords=coordinates, name=statistic)
    result.attrs.update(long_name=_LONG_NAMES[statistic], units="1")
    for name, long_name in _COORDINATE_NAMES.items():
        if name in result.coords:
            result.coords[name].attrs["long_name"] = long_name
    return result


def with_layer(result: xr.DataArray, name: str) -> xr.DataArray:
    """A result with the layer's name as a coordinate, unless layers are a dimension of it."""
    return result if "layer" in result.coords else result.assign_coords(layer=name)
