"""Spikes weighted by the fan-outs of their neurons, beside operations that were counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from analysis.arguments import QuestionError, listed
from analysis.asking.axes import FrameAxes, check_axes, frame_axes
from analysis.asking.operations.counted_operations import (
    Covering,
    Kind,
    counted_sums,
    of_kind,
    weight_layers_of,
)
from analysis.asking.operations.fan_outs import Weights, fan_out_of, told_readers_of
from analysis.asking.planning import LayerCuts, Plan, plan_answer
from analysis.kernels.counting.quantities import SPIKES
from analysis.kernels.counting.tallying import places_of
from analysis.kernels.selecting.source import Source
from analysis.members import Members
from analysis.questions import Question
from analysis.statistics.answers.labelling import labelled
from analysis.statistics.values import count_values


def left_out_of(layers: Sequence[Sequence[Source]], covering: Covering) -> list[str]:
    """Layers of which no reader is known whose operations spikes tell."""
    return [
        layer[0].layer
        for layer in layers
        if not any(told_readers_of(source, covering.of, covering.counted) for source in layer)
    ]


def weighted(
    weights: Weights,
    kind: Kind,
    covering: Covering,
    left_out: Sequence[str],
    every: Sequence[Sequence[Source]],
    question: Question,
    members: Members,
) -> xr.DataArray:
    """Spikes of all recordings, weighted by fan-out, and operations that were counted, as a lazy answer."""
    counted = covering.counted
    if counted and question.place != "all":
        raise QuestionError(
            f"per={question.place!r} keeps neurons apart, and operations of {listed(counted, 'and')} were "
            "counted for each weight layer as a whole"
        )
    every, axes = with_axes(every, question, members, with_counts=bool(counted))
    layers = [layer for layer in every if layer[0].layer not in left_out]
    if kind != "multiply_accumulates":
        plans = [_plan(layer, weights, counted, question, members, axes) for layer in layers]
    sums = counted_sums(counts_of(every[0], question), question, axes) if counted else None
    names = weight_layers_of(every[0])
    pooled = []
    for pool in range(len(members.names) if question.recordings else 1):
        each = []
        for place, layer in enumerate(layers):
            if kind == "multiply_accumulates":
                each.append(_nothing(layer, question, axes))
                continue
            pieces, along = plans[place].pools[pool][0], axes if question.along else None
            each.append(_weighted_layer(plans[place], pieces, weights, covering, question.place, along))
        if sums is not None:
            ours = sums[pool] if question.recordings else sums
            each += [of_kind(ours, names.index(name), weights, kind) for name in counted]
        pooled.append(_over_layers(each, question, axes))
    values = da.stack(pooled) if question.recordings else pooled[0]
    # Weight layers are labelled as layers are, behind them.
    listed_as = [*layers, *([replace(source, layer=name) for source in every[0]] for name in counted)]
    return labelled(values, question, axes, listed_as, members)


def counts_of(sources: Sequence[Source], question: Question) -> list[Source]:
    """The operations of some recordings, as a question looks at them."""
    counts = [source.of_operations() for source in sources]
    needs_times = "time" in question.along or "presentation" in question.along
    return [source.with_starts() for source in counts] if needs_times else counts


def _nothing(layer: Sequence[Source], question: Question, axes: FrameAxes) -> Any:
    groups = axes.groups.shape if question.along else ()
    return da.zeros((*groups, *places_of(layer[0].neuron_shape, question.place)), dtype=np.int64)


def with_axes(
    layers: Sequence[Sequence[Source]], question: Question, members: Members, *, with_counts: bool = False
) -> tuple[Sequence[Sequence[Source]], FrameAxes]:
    """The layers, and the groups of frames that all of them, and counts, have in common."""
    check_axes([layer[0] for layer in layers], question, members)
    if "time" in question.along or "presentation" in question.along:
        layers = [[source.with_starts() for source in layer] for layer in layers]
    counts = counts_of(layers[0], question) if with_counts else []
    return layers, frame_axes([*(source for layer in layers for source in layer), *counts], question)


def _plan(
    layer: Sequence[Source],
    weights: Weights,
    counted: Sequence[str],
    question: Question,
    members: Members,
    axes: FrameAxes,
) -> Plan:
    """How the spikes of a layer are counted: of each neuron apart, where their fan-outs differ."""
    apart = any(fan_out_of(source, weights, counted).each is not None for source in layer)
    asked = replace(question, layers=False, place="neuron" if apart else question.place)
    return plan_answer(SPIKES, [layer], asked, members, axes)


def _weighted_layer(
    plan: Plan,
    layer: Sequence[LayerCuts],
    weights: Weights,
    covering: Covering,
    place: Any,
    axes: FrameAxes | None,
) -> Any:
    """Operations that a layer causes, in the recordings of a pool together: lazy, int64."""
    parts = []
    for cuts in layer:
        source, fan_out = cuts.source, fan_out_of(cuts.source, weights, covering.counted)
        shape = source.neuron_shape
        if fan_out.constant == 0 and plan.question.place == place:
            groups = axes.groups.shape if axes is not None else ()
            parts.append(da.zeros((*groups, *places_of(shape, place)), dtype=np.int64))
            continue
        spikes = count_values(plan, [cuts], covering.of if source.commit.values else "events")
        if fan_out.each is None:
            spikes = spikes * np.int64(fan_out.constant or 0)
        else:
            spikes = spikes * da.from_array(fan_out.each, chunks=-1)
        summed = range(spikes.ndim - len(shape) + len(places_of(shape, place)), spikes.ndim)
        parts.append(spikes.sum(axis=tuple(summed)) if plan.question.place != place else spikes)
    return _sum(parts)


def _over_layers(each: Sequence[Any], question: Question, axes: FrameAxes) -> Any:
    if each:
        return da.stack(each) if question.layers else _sum(each)
    groups = axes.groups.shape if question.along else ()
    return da.zeros((0, *groups) if question.layers else groups, dtype=np.int64)


def _sum(arrays: Sequence[Any]) -> Any:
    """Sum of lazy int64 arrays of one shape, however each is cut."""
    return arrays[0] if len(arrays) == 1 else da.stack(arrays).sum(axis=0)
