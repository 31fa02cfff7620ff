"""From a statistic and a question to a labelled lazy array.

A statistic is a quotient of two exact integers, which are summed up over layers where these are pooled, and
divided once, last; or the first of them alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, ClassVar, Literal

import dask.array as da
import numpy as np
import xarray as xr
from dask.array.core import elemwise

from analysis.arguments import QuestionError
from analysis.asking.axes import check_axes, frame_axes
from analysis.asking.batches import Batches, plan_batches
from analysis.asking.graphs import add_together, count_batches, count_frames_of_layer
from analysis.asking.kept import warn_of_other_frames
from analysis.asking.planning import LayerCuts, Plan, plan_answer
from analysis.kernels.counting.quantities import Quantity
from analysis.kernels.counting.tallying import places_of
from analysis.kernels.counting.tasks import ratio
from analysis.kernels.selecting.source import Source
from analysis.members import Members, columns_of
from analysis.questions import Per, Question, parse_question
from analysis.statistics.answers.labelling import join_presentations, labelled
from analysis.statistics.values import Of, count_values
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
    of : {"events", "magnitude", "sum"}
        What is counted of values; quantities other than spikes are of events.
    """

    name: str
    long_name: str
    quantity: Quantity
    complement: bool = False
    divided_by: Literal["slots", "neurons"] | None = None
    units: str = "1"
    of: Of = "events"


class Answering(ABC):
    """The base of recordings and layers, which answer questions.

    A statistic is a method, written once, whose docstring defines it, and a `Statistic`, which says what is
    counted and by what it is divided. The method hands the latter to `_ask`, which reads ``per``. What is
    left to the classes is what they are: which layers they have, in which recordings, and what ``per`` means
    where it is left out, which error messages quote.

    An answer takes three steps. `analysis.asking.planning` decides how the quantity is counted;
    `analysis.asking.graphs` builds that; here parts and wholes are pooled over layers, divided, and given
    names and coordinates.
    """

    _default_per: ClassVar[Per]

    @abstractmethod
    def _layers(self) -> Sequence[Sequence[Source]]:
        """The selected layers, in network order, each in all recordings."""

    @property
    @abstractmethod
    def members(self) -> Members:
        """The recordings."""

    def _question(self, per: Per | None, window: int | None) -> Question:
        layers = self._layers()
        columns = columns_of(layers[0]) if layers else {}
        return parse_question(self._default_per if per is None else per, window, columns)

    def _pooling_question(self, per: Per | None, window: int | None) -> Question:
        """The same, of a statistic that pools frames of all layers, which may not have been kept alike."""
        question = self._question(per, window)
        if not question.layers:
            warn_of_other_frames(self._layers())
        return question

    def _ask(self, statistic: Statistic, per: Per | None, window: int | None) -> xr.DataArray:
        question = self._pooling_question(per, window)
        return self._of_layer(answer(statistic, self._layers(), question, self.members))

    def _of_layer(self, result: xr.DataArray) -> xr.DataArray:
        """An answer, with the name of the layer if that is all that was asked about."""
        if self._default_per == () and "layer" not in result.coords:
            return result.assign_coords(layer=self._layers()[0][0].layer)
        return result


def answer(
    statistic: Statistic, layers: Sequence[Sequence[Source]], question: Question, members: Members
) -> xr.DataArray:
    """A statistic of some layers.

    Parameters
    ----------
    statistic : Statistic
    layers, question, members
        As in `analysis.asking.planning.plan_answer`; errors likewise.

    Returns
    -------
    xarray.DataArray
        Lazy (dask), float64 or, for counts, int64. Dimensions in the order recording, layer, axes of frames
        as they were asked for, neurons.
    """
    return of_each_recording(partial(_answer_of_one, statistic), layers, question, members)


def _answer_of_one(
    statistic: Statistic, layers: Sequence[Sequence[Source]], question: Question, members: Members
) -> xr.DataArray:
    batches = plan_batches(layers, question) if statistic.of == "events" else None
    if batches is not None:
        check_axes([layer[0] for layer in layers], question, members)
        values, axes = _of_batches(statistic, batches, question), frame_axes((), question)
        return _described(statistic, values, question, axes, layers, members)
    plan = plan_answer(statistic.quantity, layers, question, members)
    pooled = [_pooled(statistic, plan, pool) for pool in plan.pools]
    values = da.stack(pooled) if question.recordings else pooled[0]
    return _described(statistic, values, question, plan.axes, layers, members)


def _described(statistic: Statistic, values: Any, *labels: Any) -> xr.DataArray:
    """Values with names and coordinates, for which `labelled` is given what it asks for."""
    result = labelled(values, *labels).rename(statistic.name)
    return result.assign_attrs(long_name=statistic.long_name, units=statistic.units)


def _of_batches(statistic: Statistic, batches: Batches, question: Question) -> Any:
    """A statistic of small recordings, as a dask array [recordings, layers], of those that are kept apart."""
    part = count_batches(batches, statistic.quantity, apart=question.recordings)
    frames = batches.frames if question.recordings else batches.frames.sum(axis=0, keepdims=True)
    neurons = np.array([source.neurons for source in batches.recordings[0]], np.int64)
    whole = (frames if statistic.divided_by == "slots" else frames > 0) * neurons
    # Cut alike, so that Dask need not plan to cut one of them anew.
    whole = da.from_array(whole, chunks=part.chunks)
    if statistic.complement:
        part = whole - part
    if not question.layers:
        part, whole = part.sum(axis=1), whole.sum(axis=1)
    if statistic.divided_by is not None:
        part = elemwise(Parcel(ratio), part, whole, dtype=np.float64)
    return part if question.recordings else part[0]


def of_each_recording(
    build: Callable[[Sequence[Sequence[Source]], Question, Members], xr.DataArray],
    layers: Sequence[Sequence[Source]],
    question: Question,
    members: Members,
) -> xr.DataArray:
    """An answer that is built of all recordings at once; per presentation, recording after recording.

    Each presentation is of one of them. The others are about the same groups in all recordings.
    """
    if "presentation" not in question.along or len(members.names) == 1:
        return build(layers, question, members)
    if question.recordings:
        raise QuestionError(
            'a presentation is of one recording: leave "recording" out, the result has it as a coordinate'
        )
    answers = [
        build([[layer[place]] for layer in layers], question, members.only([place]))
        for place in range(len(members.names))
    ]
    return join_presentations(answers, layers, members)


def _pooled(statistic: Statistic, plan: Plan, pool: Sequence[Sequence[LayerCuts]]) -> Any:
    """A statistic of the recordings of a pool together, as a dask array."""
    parts, wholes = [], []
    for layer in pool:
        counted = count_values(plan, layer, statistic.of)
        if statistic.divided_by is not None:
            source = layer[0].source
            places = places_of(source.neuron_shape, plan.question.place)
            neurons = np.int64(source.neurons // prod(places))
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
        if apart:
            return da.stack(arrays)
        # Of values that are multiples of a scale other than 1, sums are floats.
        is_whole = all(array.dtype == np.int64 for array in arrays)
        return add_together(arrays) if is_whole else sum(arrays[1:], arrays[0])
    groups = map(sum, plan.lengths)
    return da.zeros((0, *groups) if apart else (*groups,), dtype=np.int64, chunks=-1)
