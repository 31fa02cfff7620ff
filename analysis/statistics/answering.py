"""From a statistic and a question to a labelled lazy array.

A statistic is a quotient of two exact integers, which are summed up over layers where these are pooled, and
divided once, last; or the first of them alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.array.core import elemwise

from analysis.graphs import add_together, count_frames_of_layer, count_layer
from analysis.kernels.counting import Source, ratio
from analysis.kernels.quantities import Quantity
from analysis.kernels.tallying import places_of
from analysis.members import Members
from analysis.planning import LayerCuts, Plan, plan_answer
from analysis.questions import Per, Question, parse_question
from recorder.format.layout import neuron_dimensions
from spiketape_worker import Parcel


@dataclass(frozen=True)
class Statistic:
    """The part of a statistic that does not depend on the question.

    Attributes
    ----------
    name : str
        Of the method, and of what it returns.
    long_name : str
        What figures show.
    quantity : Quantity
        What is made of the spikes of each neuron in a group of frames, and added up.
    complement : bool
        Whether the statistic is about what remains of that by which it is divided.
    divided_by : {"slots", "neurons"}, optional
        What the sum is divided by: all slots looked at, or all neurons of which there are frames.
    units : str
    """

    name: str
    long_name: str
    quantity: Quantity
    complement: bool = False
    divided_by: Literal["slots", "neurons"] | None = None
    units: str = "1"


_COORDINATE_NAMES = {
    "recording": "recording",
    "step": "time step",
    "window": "first time step of the window",
    "trial": "trial",
    "label": "label",
    "layer": "layer",
    "channel": "channel",
}


class Answering(ABC):
    """The base of recordings and layers, which answer questions.

    A statistic is a method, written once, whose docstring defines it, and a `Statistic`, which says what is
    counted and by what it is divided. The method hands the latter to `_ask`, which reads ``per``. What is
    left to the classes is what they are: which layers they have, in which recordings, and what ``per`` means
    where it is left out, which error messages quote.

    An answer takes three steps. `analysis.planning` decides how the quantity is counted; `analysis.graphs`
    builds that; here parts and wholes are pooled over layers, divided, and given names and coordinates.
    """

    _default_per: ClassVar[Per]

    @abstractmethod
    def _answer(self, statistic: Statistic, question: Question) -> xr.DataArray:
        """The answer of these layers, see `answer`."""

    def _ask(self, statistic: Statistic, per: Per | None, window: int | None) -> xr.DataArray:
        question = parse_question(self._default_per if per is None else per, window)
        return self._answer(statistic, question)


def answer(
    statistic: Statistic, layers: Sequence[Sequence[Source]], question: Question, members: Members
) -> xr.DataArray:
    """A statistic of some layers.

    Parameters
    ----------
    statistic : Statistic
    layers, question, members
        As in `analysis.planning.plan_answer`; errors likewise.

    Returns
    -------
    xarray.DataArray
        Lazy (dask), float64 or, for counts, int64. Dimensions in the order recording, layer, time, neuron.
    """
    plan = plan_answer(statistic.quantity, layers, question, members)
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
        counted = count_layer(plan, layer)
        if statistic.divided_by is not None:
            chunks = layer[0].source.commit.plan
            places = places_of(chunks.neuron_shape, plan.question.place)
            neurons = np.int64(chunks.neurons // prod(places))
            frames = count_frames_of_layer(plan, layer)
            frames = frames.reshape(frames.shape + (1,) * len(places))
            whole = (frames if statistic.divided_by == "slots" else frames > 0) * neurons
            wholes.append(whole)
            counted = whole - counted if statistic.complement else counted
        parts.append(counted)
    part = _over_layers(parts, plan)
    if statistic.divided_by is None:
        return part
    return elemwise(Parcel(ratio), part, _over_layers(wholes, plan), dtype=np.float64)


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
    result = xr.DataArray(values, dims=dimensions, coords=coordinates, name=statistic.name)
    result.attrs.update(long_name=statistic.long_name, units=statistic.units)
    for name, long_name in _COORDINATE_NAMES.items():
        if name in result.coords:
            result.coords[name].attrs["long_name"] = long_name
    return result
