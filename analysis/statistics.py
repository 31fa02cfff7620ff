"""Firing rates, silent ratios and spike counts, as labelled lazy arrays.

A firing rate is spikes ÷ slots, a silent ratio is silent neurons ÷ neurons looked at. Both numbers are exact
integers, summed over layers where these are pooled, and divided once, last.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Literal

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.array.core import elemwise

from analysis.graphs import add_together, count_frames_of_layer, count_layer
from analysis.kernels.counting import Source, ratio
from analysis.kernels.quantities import FIRED, SPIKES
from analysis.kernels.tallying import places_of
from analysis.members import Members
from analysis.planning import LayerCuts, Plan, plan_answer
from analysis.questions import Question
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
        As `analysis.planning.plan_answer`.
    """
    quantity = FIRED if statistic == "silent_ratio" else SPIKES
    plan = plan_answer(quantity, layers, question, members)
    pooled = [_pooled(statistic, plan, pool) for pool in plan.pools]
    values = da.stack(pooled) if question.recordings else pooled[0]
    result = _labelled(statistic, values, layers, plan, members)
    selected = layers[0][0].selection.labels if layers else None
    if question.time != "label" or selected is None:
        return result
    known = plan.coordinate.tolist()
    return result.isel(label=[place for place, value in enumerate(known) if value in selected])


def _pooled(statistic: Statistic, plan: Plan, pool: Sequence[Sequence[LayerCuts]]) -> Any:
    """A statistic of the recordings of a pool together, as a dask array."""
    parts, wholes = [], []
    for layer in pool:
        chunks = layer[0].source.commit.plan
        places = places_of(chunks.neuron_shape, plan.question.place)
        neurons = np.int64(chunks.neurons // prod(places))
        counted, frames = count_layer(plan, layer), count_frames_of_layer(plan, layer)
        frames = frames.reshape(frames.shape + (1,) * len(places))
        if statistic == "silent_ratio":
            looked_at = (frames > 0) * neurons
            counted = looked_at - counted
            wholes.append(looked_at)
        else:
            wholes.append(frames * neurons)
        parts.append(counted)
    part, whole = (_over_layers(arrays, plan) for arrays in (parts, wholes))
    return part if statistic == "spike_count" else elemwise(Parcel(ratio), part, whole, dtype=np.float64)


def _over_layers(arrays: list[Any], plan: Plan) -> Any:
    apart = plan.question.layers
    if arrays:
        return da.stack(arrays) if apart else add_together(arrays)
    groups = map(sum, plan.lengths)
    return da.zeros((0, *groups) if apart else (*groups,), dtype=np.int64)


def _labelled(
    statistic: Statistic,
    values: da.Array,
    layers: Sequence[Sequence[Source]],
    plan: Plan,
    members: Members,
) -> xr.DataArray:
    """Name dimensions and coordinates."""
    question = plan.question
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
        coordinates[question.time] = (question.time, plan.coordinate)
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
