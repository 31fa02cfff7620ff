"""Sums over tables of presentations, and the figures of neurons that are averaged: built for Dask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, product
from math import prod
from typing import Any, Final

import dask.array as da
import numpy as np
import xarray as xr
from dask.array.core import elemwise
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from analysis.arguments import QuestionError
from analysis.kernels.counting.tallying import places_of
from analysis.kernels.counting.tasks import ratio
from analysis.kernels.tables import pool_figures, tally_block
from analysis.statistics.answers.tables import Apart, Table
from recorder.format.bits import Integers
from spiketape_worker import Parcel

# Bytes of what a task adds up; more is cut along neurons.
SUM_BYTES: Final = 32 * 2**20
# Elements of what cannot be cut, such as a matrix of neurons or presentations.
MAX_ELEMENTS: Final = 2**24


def array_of(
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    chunks: Sequence[Sequence[int]],
    dtype: Any,
    *dependencies: Any,
) -> Any:
    """The array whose blocks, in order, a function of `analysis.kernels.tables` makes of these arguments.

    Arguments may be keys of blocks of the arrays that are named as dependencies.
    """
    sent = Parcel(function)
    name = f"{sent.__name__}-{tokenize(sent.__name__, tasks, chunks)}"
    places = product(*(range(len(along)) for along in chunks))
    graph: dict[Any, Any] = {(name, *place): (sent, *task) for place, task in zip(places, tasks, strict=True)}
    layer = HighLevelGraph.from_collections(name, graph, dependencies=dependencies)
    meta = np.empty((0,) * len(chunks), dtype)
    return da.Array(layer, name, chunks=tuple(map(tuple, chunks)), meta=meta)


def whole(shape: Sequence[int]) -> list[tuple[int]]:
    """Chunks of an array in one block."""
    return [(length,) for length in shape]


def key_of(array: Any, *place: int) -> tuple[Any, ...]:
    """Key of a block; of the only one where no place is given."""
    return (array.name, *(place or (0,) * array.ndim))


def tally(
    name: str,
    function: Callable[..., Any],
    table: Table,
    vectors: Sequence[Integers],
    constants: Sequence[Any],
    shape: Sequence[int],
    *,
    last: int | None = None,
    copies: int = 1,
) -> Any:
    """Sum over all blocks of a table of what a function of `analysis.kernels.tables` makes of each.

    Parameters
    ----------
    name : str
        Of the statistic, for the error.
    function : callable
        Takes a block, the part of each vector that belongs to it, and the constants.
    table : Table
    vectors : sequence of int64 arrays, shape [presentations]
    constants : sequence
    shape : sequence of int
        Shape of what the function returns, without the last axis.
    last : int, optional
        Length of the last axis. Left out, it is that of the neurons, which are tallied some at a time.
    copies : int
        How many arrays of that size the figures take that are made of the sums.

    Returns
    -------
    dask array of int64, shape [*shape, last]
        Cut along the last axis alone, if at all.

    Raises
    ------
    QuestionError
        If the sums were too large for a task.
    """
    size = prod(shape) * (1 if last is None else last)
    if size > MAX_ELEMENTS:
        raise QuestionError(
            f"{name}() would add up {' × '.join(map(str, [*shape, *([last] if last else [])]))} numbers in a "
            f"task, more than {MAX_ELEMENTS}; select fewer neurons, shorter presentations by "
            "select(time=...), or keep fewer groups apart"
        )
    neurons = table.source.neurons
    width = neurons if last is not None else max(min(SUM_BYTES // (8 * copies * max(size, 1)), neurons), 1)
    cuts = [*range(0, neurons, width), neurons]
    if len(cuts) > 2 and table.counts.nbytes <= SUM_BYTES:
        # Sums are larger than the table. From one block of that, each is made, used and let go of by itself.
        table = table.in_blocks(max(len(table.trial), 1))
    lengths = [last] if last is not None else [end - begin for begin, end in pairwise(cuts)]
    tasks = [
        (
            Parcel(function),
            table.block(number),
            table.times,
            slice(begin, end),
            *(vector[first:behind] for vector in vectors),
            *constants,
        )
        for number, (first, behind) in enumerate(table.rows())
        for begin, end in pairwise(cuts)
    ]
    chunks = [(1,) * len(table.rows()), *whole(shape), lengths]
    return array_of(tally_block, tasks, chunks, np.int64, table.counts).sum(axis=0)


def pooled(apart: Apart, table: Table, figures: Callable[..., Any], total: Any, *arguments: Any) -> Any:
    """Figures of neurons, added up over the neurons of a place.

    Returns
    -------
    dask array of float64, shape [3, groups, *places]
        Sum of the figures that are defined, their number, and the number of what went into them.
    """
    groups, lengths = prod(apart.shape), total.chunks[-1]
    tasks = [(key_of(total, *(0,) * (total.ndim - 1), part), *arguments) for part in range(len(lengths))]
    made = array_of(figures, tasks, [*whole((3, groups)), lengths], np.float64, total)
    places = places_of(table.source.neuron_shape, apart.question.place)
    parts = [key_of(made, 0, 0, part) for part in range(len(lengths))]
    task = (parts, table.source.neuron_shape, apart.question.place)
    return array_of(pool_figures, [task], whole((3, groups, *places)), np.float64, made)


def averaged(name: str, apart: Apart, parts: Sequence[Any]) -> xr.DataArray:
    """The mean of the figures of each layer, or of all layers together.

    Parameters
    ----------
    name : str
        Of the statistic.
    apart : Apart
    parts : sequence of dask arrays, shape [3, groups, *places]
        Of each layer, as `pooled` returns them.

    Returns
    -------
    xarray.DataArray of float64
        With the coordinate ``defined``: how many went into each figure.
    """
    if not apart.question.layers:
        parts = [sum(parts[1:], parts[0])]
    shown = []
    for part, layer in zip(parts, apart.layers, strict=False):
        figure = elemwise(Parcel(ratio), part[0], part[1], dtype=np.float64)
        result = apart.label(figure, layer)
        defined = apart.label(part[2].astype(np.int64), layer)
        shown.append(result.assign_coords(defined=defined.variable))
        shown[-1].coords["defined"].attrs.update(long_name="figures averaged", units="1")
    return over_layers(name, apart, shown)


def over_layers(name: str, apart: Apart, shown: Sequence[xr.DataArray]) -> xr.DataArray:
    """Figures of each layer one behind the other, where layers are kept apart."""
    result = shown[0]
    if apart.question.layers:
        names = xr.Variable("layer", [layer[0].layer for layer in apart.layers], {"long_name": "layer"})
        result = xr.concat(shown, "layer", coords="minimal", compat="override", join="override")
        # Variables alone: of arrays, their other lazy coordinates would be computed, to be compared.
        moved: dict[str, Any] = {
            str(each.name): xr.Variable.concat(  # type: ignore[no-untyped-call]
                [one[each.name].variable for one in shown], "layer"
            )
            for each in shown[0].coords.values()
            if each.name not in shown[0].dims and each.chunks is not None
        }
        result = result.assign_coords(layer=names, **moved)
        if apart.question.recordings:
            result = result.transpose("recording", "layer", ...)
    return result.rename(name)
