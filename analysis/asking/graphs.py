"""From a plan to Dask: graphs whose tasks count spikes, as lazy arrays of integers.

Nothing is decided here; `analysis.asking.planning` says what is cut where. Graphs are written out as plain
dictionaries: `dask.delayed` costs ten times as much to build. Every task calls a function of
`analysis.kernels`, and all that tasks carry of ours is in parcels, see `spiketape_worker`. Names are derived
from what is counted (store, commit, layer, selection, groups, quantity), so that a question asked twice,
or two questions with a common part, share work when they are computed together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, product
from math import prod
from typing import Any, Final

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

from analysis.asking.batches import Batches
from analysis.asking.planning import TASK_BYTES, Cut, LayerCuts, Plan
from analysis.asking.rounds import layer_of
from analysis.kernels.counting.quantities import SPIKES, Quantity
from analysis.kernels.counting.tallying import places_of
from analysis.kernels.counting.tasks import (
    add_each,
    add_up,
    count_each,
    count_frames,
    count_spikes,
    finish,
    finish_each,
    pool_recordings,
)
from analysis.kernels.selecting.coding import Axis, CodedGroups
from analysis.kernels.selecting.grouping import Grouping, Groups
from analysis.kernels.selecting.selection import Labels, Selection
from analysis.kernels.selecting.source import Source, frames_of
from spiketape_worker import Parcel

# Partial counts that one task adds up: so many, or of so many bytes, but two in any case.
_FAN_IN: Final = 16
_FAN_IN_BYTES: Final = TASK_BYTES


def count_layer(plan: Plan, layer: Sequence[LayerCuts]) -> Any:
    """The quantity that a plan asks for, of one layer in the recordings of a pool.

    Returns
    -------
    dask array of int64, shape [*places] or [groups, *places]
    """
    counted = add_together([_count_one(plan, cuts) for cuts in layer])
    if layer[0].quantity == plan.quantity or not plan.blocks:
        return counted
    # These are spikes of each neuron: one that fired in two recordings is one neuron that fired.
    shape, place = layer[0].source.neuron_shape, plan.question.place
    graph = Graph(f"{plan.quantity.name}-together", None, place, plan.quantity, counted.name)
    graph.dependencies.append(counted)
    rest = (shape, place, Parcel(plan.quantity))
    frames = _frames_of_blocks(graph, plan, layer, plan.quantity)
    sums = product(*(range(len(lengths)) for lengths in counted.chunks))
    blocks = [
        (Parcel(finish), (counted.name, *block), in_groups, *rest, lengths)
        for block, in_groups, lengths in zip(sums, frames, _lengths_of_blocks(plan), strict=True)
    ]
    return graph.array(blocks, plan.lengths, places_of(shape, place))


def count_frames_of_layer(plan: Plan, layer: Sequence[LayerCuts]) -> Any:
    """Number of selected frames of one layer in the recordings of a pool: lazy, int64 [] or [groups]."""
    return add_together([_frames_of_one(plan, cuts) for cuts in layer])


def add_together(arrays: Sequence[Any]) -> Any:
    """Sum of lazy arrays of int64 that are cut alike, a few at a time.

    Dask would fuse a chain of additions into one task that holds all of them, and take long to do so.
    """
    if len(arrays) == 1:
        return arrays[0]
    graph = Graph("sum", None, [array.name for array in arrays])
    graph.dependencies += arrays
    chunks = arrays[0].chunks
    largest = 8 * prod(map(max, chunks)) if arrays[0].size else 0
    blocks = [
        graph.sum([(array.name, *block) for array in arrays], largest)
        for block in product(*(range(len(lengths)) for lengths in chunks))
    ]
    return graph.array(blocks, chunks, ())


def count_batches(batches: Batches, quantity: Quantity, *, apart: bool) -> Any:
    """A quantity of each layer of small recordings, which are kept apart or counted as one.

    Returns
    -------
    dask array of int64, shape [recordings, layers] or [1, layers]
    """
    spikes, layers = _spikes_of_batches(batches), batches.frames.shape[1]
    graph = Graph(f"{quantity.name}-of-each", None, spikes.name, quantity, apart)
    graph.dependencies.append(spikes)
    keys = [(spikes.name, place) for place in range(len(batches.bounds) - 1)]
    frames = [batches.frames[first:last] for first, last in pairwise(batches.bounds)]
    if not apart:
        pooled = [graph.add((Parcel(pool_recordings), key, layers)) for key in keys]
        of_all_layers = 8 * sum(source.neurons for source in batches.recordings[0])
        keys = [graph.sum(pooled, of_all_layers, add_each)]
        frames = [batches.frames.sum(axis=0, keepdims=True)]
    blocks = [(Parcel(finish_each), key, of, Parcel(quantity)) for key, of in zip(keys, frames, strict=True)]
    return graph.array(blocks, [[len(of) for of in frames], [layers]], ())


def _spikes_of_batches(batches: Batches) -> Any:
    """Spikes of each neuron of each source: to Dask an array, whose blocks are lists, one for each batch."""
    sources = batches.each()
    # Thousands of sources have the same selection, which is written out once.
    numbers: dict[Selection, int] = {}
    defining = [
        [
            (one.identity, one.layer, one.use_counts, numbers.setdefault(one.selection, len(numbers)))
            for one in batch
        ]
        for batch in sources
    ]
    graph = Graph("batch", None, repr(defining), [selection.token() for selection in numbers])
    return graph.array([(Parcel(count_each), Parcel(batch)) for batch in sources], [[1] * len(sources)], ())


def _count_one(plan: Plan, cuts: LayerCuts) -> Any:
    """The results for one layer of one recording."""
    source, place, quantity = cuts.source, cuts.place, cuts.quantity
    shape = source.neuron_shape
    graph = Graph(quantity.name, source, plan.axes.groups, plan.bounds, place, quantity, plan.task_bytes)
    needs_frames = any(cut.shared for cut in cuts.cuts)
    frames = _frames_of_blocks(graph, plan, [cuts], quantity if needs_frames else SPIKES)
    blocks = []
    each = zip(plan.blocks, cuts.cuts, frames, _lengths_of_blocks(plan), strict=True)
    for groups, cut, in_groups, lengths in each:
        if cut.shared:
            spikes = _shared_spikes(source, groups, cut)
            graph.dependencies.append(spikes)
            counts, made, in_groups_made = (spikes.name, 0, 0), quantity, in_groups
        else:
            (counts,) = graph.counting(groups, cut)
            made, in_groups_made = SPIKES, 0
        blocks.append((Parcel(finish), counts, in_groups_made, shape, place, Parcel(made), lengths))
    return graph.array(blocks, plan.lengths, places_of(shape, place))


def _shared_spikes(source: Source, groups: Groups | CodedGroups, cut: Cut) -> Any:
    """Spikes in the groups of one block, the sum over its tasks: int64 [groups, places]."""
    graph = Graph("spikes-in-groups", source, groups, cut.bounds, cut.place)
    places = prod(places_of(source.neuron_shape, cut.place))
    total = graph.sum([graph.add(task) for task in graph.counting(groups, cut)], 8 * len(groups) * places)
    return graph.array([total], ([len(groups)],), (places,))


def _frames_of_blocks(graph: Graph, plan: Plan, layer: Sequence[LayerCuts], quantity: Quantity) -> list[Any]:
    """For each block what holds the numbers of frames in its groups, or 0 if the quantity needs none."""
    if not quantity.needs_frames:
        return [0] * len(plan.blocks)
    frames = count_frames_of_layer(plan, layer)
    graph.dependencies.append(frames)
    return [(frames.name, *block) for block in product(*(range(len(lengths)) for lengths in plan.lengths))]


def _lengths_of_blocks(plan: Plan) -> list[tuple[int, ...]]:
    """Lengths of each block along the axes of frames that the result has."""
    return [groups.shape if plan.lengths else () for groups in plan.blocks]


def _frames_of_one(plan: Plan, cuts: LayerCuts) -> Any:
    if not plan.lengths:
        return da.from_array(np.array(frames_of(cuts.source).frames, np.int64))
    graph = Graph("frames", cuts.source, plan.axes.groups, plan.bounds)
    blocks = [
        (Parcel(count_frames), graph.source, Parcel(groups), cut.bounds[0], cut.bounds[-1])
        for groups, cut in zip(plan.blocks, cuts.cuts, strict=True)
    ]
    return graph.array(blocks, plan.lengths, ())


def empty_array(shape: tuple[int, ...], dtype: Any = np.int64) -> Any:
    """A lazy array without elements; by itself, Dask divides by zero to cut one that is long elsewhere."""
    return da.zeros(shape, dtype=dtype, chunks=shape)


def fan_in(size: int) -> int:
    """How many sums of so many bytes one task takes, so that its memory is bounded.

    Examples
    --------
    >>> fan_in(2**10), fan_in(2**23), fan_in(2**30)
    (16, 8, 2)
    """
    return min(max(_FAN_IN_BYTES // max(size, 1), 2), _FAN_IN)


class Graph:
    """Tasks under construction that share one source, or build on other arrays.

    Attributes
    ----------
    source : str
        Key of the source, if there is one: it travels once, not with every task.
    dependencies : list of dask array
        Arrays whose blocks the tasks use.
    """

    def __init__(self, what: str, source: Source | None, *defining: Any) -> None:
        self._name = f"{what}-{tokenize(*map(plain, (source, *defining)))}"
        self.source = f"{self._name}-source"
        self._tasks: dict[Any, Any] = {} if source is None else {self.source: Parcel(source)}
        self.dependencies: list[Any] = []

    def counting(self, groups: Groups | CodedGroups, cut: Cut) -> Iterator[tuple[Any, ...]]:
        """The tasks of a cut, each of which counts in its range of frames."""
        sent = (Parcel(count_spikes), self.source, Parcel(groups))
        for first, last in pairwise(cut.bounds):
            yield (*sent, first, last, cut.place, Parcel(cut.quantity))

    def add(self, task: Any) -> tuple[Any, ...]:
        """Add a task, or a parcel that several tasks open; its key."""
        key = (f"{self._name}-part", len(self._tasks))
        self._tasks[key] = task
        return key

    def carry(self, source: Source) -> str:
        """Add another source, as a task of its own, so that it travels once for all tasks; its key."""
        key = f"{self._name}-source-{len(self._tasks)}"
        self._tasks[key] = Parcel(source)
        return key

    def sum(
        self, keys: list[tuple[Any, ...]], size: int, add: Callable[..., Any] = add_up
    ) -> tuple[Any, ...]:
        """Add up partial counts of ``size`` bytes each, a few at a time; the key of the sum."""
        together = fan_in(size)
        while len(keys) > 1:
            # What is left alone waits for the next round.
            keys = [
                self.add((Parcel(add), some)) if len(some) > 1 else some[0]
                for some in (keys[first : first + together] for first in range(0, len(keys), together))
            ]
        return keys[0]

    def array(
        self,
        blocks: Sequence[Any],
        lengths: Sequence[Sequence[int]],
        shape: tuple[int, ...],
        dtype: type[np.generic] = np.int64,
    ) -> Any:
        """The array of these blocks, in order: cut into these lengths, and whole along ``shape``."""
        chunks = (*map(tuple, lengths), *((length,) for length in shape))
        if 0 in map(sum, chunks):
            return empty_array(tuple(map(sum, chunks)), dtype)
        places = product(*(range(len(along)) for along in chunks))
        self._tasks |= {(self._name, *place): task for place, task in zip(places, blocks, strict=True)}
        layer = HighLevelGraph.from_collections(
            self._name, layer_of(self._tasks), dependencies=self.dependencies
        )
        meta: NDArray[Any] = np.empty((0,) * len(chunks), dtype)
        return da.Array(layer, self._name, chunks=chunks, meta=meta)


def plain(value: object) -> object:
    """Text that stands for a value in the name of an array."""
    if isinstance(value, Source):
        signal = (value.signal,) if value.signal else ()
        return value.identity, value.layer, value.selection.token(), value.use_counts, *signal
    if isinstance(value, Groups):
        return repr(value.grouping), value.ranges
    if isinstance(value, CodedGroups):
        return value.first, value.last, [plain(axis) for axis in value.axes]
    if isinstance(value, Axis):
        fields = (getattr(value, field.name) for field in dataclasses.fields(value))
        return type(value).__name__, [plain(field) for field in fields]
    if isinstance(value, Labels):
        return tuple(value)
    if isinstance(value, Grouping | Quantity):
        return repr(value)
    return value
