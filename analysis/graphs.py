"""From a question to Dask: graphs whose tasks count spikes, as lazy arrays of integers.

Graphs are written out as plain dictionaries: `dask.delayed` costs ten times as much to build. Every task
calls a function of `analysis.kernels`, and all that tasks carry of ours is in parcels, see
`spiketape_worker`. Names are derived from what is counted (recording, commit, layer, selection, groups), so
that a question asked twice, or two questions with a common part, share work when they are computed together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

from analysis.kernels.counting import (
    Source,
    add_up,
    count_groups,
    count_labels,
    finish,
    frames_of,
    frames_of_groups,
    frames_of_labels,
)
from analysis.kernels.grouping import Grouping, range_size, slice_ranges
from analysis.kernels.selection import SelectedFrames
from analysis.kernels.tallying import Place, Quantity, places_of
from analysis.planning import Axis, GroupAxis, LabelAxis, counted_bytes, cut_frames, packed_bytes
from recorder.format.bits import Integers
from spiketape_worker import Parcel

# Partial counts that one task adds up.
_FAN_IN = 16
# Labels so few that to tell neurons apart takes a small part of the time that decompression takes.
_FEW_LABELS = 16
_FEW_COUNTS = 2**19


def tally(source: Source, axis: Axis, place: Place, quantity: Quantity, task_bytes: int) -> Any:
    """Spikes, or neurons that fired, of one layer.

    Parameters
    ----------
    source : Source
    axis : GroupAxis, LabelAxis or None
        What is kept apart along time.
    place : {"all", "channel", "neuron"}
        What is kept apart within the layer.
    quantity : {"spikes", "fired"}
    task_bytes : int
        What a task should read.

    Returns
    -------
    dask array of int64, shape [*places] or [groups, *places]
    """
    plan, frames = source.commit.plan, frames_of(source)
    if axis is not None and axis.bounds[-1] == 0:
        return da.zeros((0, *places_of(plan.neuron_shape, place)), dtype=np.int64)
    if isinstance(axis, LabelAxis):
        return _tally_labels(source, axis, place, quantity, task_bytes)
    if axis is None:
        ranges = Grouping().ranges_of(frames.segments)
        if len(ranges) == 0:
            return da.zeros(places_of(plan.neuron_shape, place), dtype=np.int64)
        first, last = _whole(frames)
        counted = source.commit.counts_checksums.rows if source.use_counts else 0
        cost = counted_bytes(plan, frames, counted)
        spikes = _neuron_spikes(source, Grouping(), ranges, first, last, cost, task_bytes)
        graph = _Graph(quantity, source, place, spikes.name)
        graph.dependencies.append(spikes)
        whole = (Parcel(finish), (spikes.name, 0, 0), plan.neuron_shape, place, quantity, False)
        return graph.array({(): whole}, (), places_of(plan.neuron_shape, place))
    graph = _Graph(quantity, source, axis, place, task_bytes)
    blocks: dict[tuple[int, ...], tuple[Any, ...]] = {}
    for block, (ranges, first, last) in enumerate(_blocks(source, axis)):
        task: tuple[Any, ...]
        cost = packed_bytes(plan, last - first)
        if range_size(ranges) == 1 and cost >= 2 * task_bytes:
            spikes = _neuron_spikes(source, axis.grouping, ranges, first, last, cost, task_bytes)
            graph.dependencies.append(spikes)
            task = (Parcel(finish), (spikes.name, 0, 0), plan.neuron_shape, place, quantity, True)
        else:
            counts = (
                Parcel(count_groups),
                graph.source,
                Parcel(axis.grouping),
                ranges,
                first,
                last,
                place,
                quantity,
            )
            task = (Parcel(finish), counts, plan.neuron_shape, place, "spikes", True)
        blocks[(block,)] = task
    return graph.array(blocks, (np.diff(axis.bounds).tolist(),), places_of(plan.neuron_shape, place))


def tally_together(
    sources: Sequence[Source], axis: Axis, place: Place, quantity: Quantity, task_bytes: int
) -> Any:
    """Spikes, or neurons that fired, of one layer of several recordings together; otherwise as `tally`.

    A neuron that fired in two of them is one neuron that fired. So spikes of each neuron are added up first.
    """
    if len(sources) == 1:
        return tally(sources[0], axis, place, quantity, task_bytes)
    counted: Place = "neuron" if quantity == "fired" else place
    tallies = [tally(source, axis, counted, "spikes", task_bytes) for source in sources]
    spikes = add_together(tallies)
    if quantity == "spikes":
        return spikes
    shape = sources[0].commit.plan.neuron_shape
    places = places_of(shape, place)
    if axis is not None and axis.bounds[-1] == 0:
        return da.zeros((0, *places), dtype=np.int64)
    graph = _Graph(f"{quantity}-together", None, place, spikes.name)
    graph.dependencies.append(spikes)
    blocks: dict[tuple[int, ...], Any] = {}
    for block in [()] if axis is None else [(number,) for number in range(len(axis.bounds) - 1)]:
        total = (spikes.name, *block, *[0] * len(shape))
        blocks[block] = (Parcel(finish), total, shape, place, quantity, axis is not None)
    return graph.array(blocks, () if axis is None else (np.diff(axis.bounds).tolist(),), places)


def frames_together(sources: Sequence[Source], axis: Axis) -> Any:
    """Number of selected frames of one layer in several recordings together; otherwise as `frames_in`."""
    return add_together([frames_in(source, axis) for source in sources])


def add_together(arrays: Sequence[Any]) -> Any:
    """Sum of lazy arrays of int64 that are cut alike, a few at a time.

    Dask would fuse a chain of additions into one task that holds all of them, and take long to do so.
    """
    if len(arrays) == 1:
        return arrays[0]
    graph = _Graph("sum", None, [array.name for array in arrays])
    graph.dependencies += arrays
    blocks = {
        block: graph.sum([(array.name, *block) for array in arrays])
        for block in product(*(range(len(lengths)) for lengths in arrays[0].chunks))
    }
    return graph.array(blocks, arrays[0].chunks, ())


def frames_in(source: Source, axis: Axis) -> Any:
    """Number of selected frames of one layer, in all or in each group: lazy, int64 [] or [groups]."""
    if axis is None:
        return da.from_array(np.array(frames_of(source).frames, np.int64))
    if axis.bounds[-1] == 0:
        return da.zeros(0, dtype=np.int64)
    graph = _Graph("frames", source, axis)
    blocks: dict[tuple[int, ...], tuple[Any, ...]] = {}
    if isinstance(axis, LabelAxis):
        for block, (begin, end) in enumerate(pairwise(axis.bounds)):
            blocks[(block,)] = (Parcel(frames_of_labels), graph.source, begin, end)
    else:
        for block, (ranges, first, last) in enumerate(_blocks(source, axis)):
            blocks[(block,)] = (
                Parcel(frames_of_groups),
                graph.source,
                Parcel(axis.grouping),
                ranges,
                first,
                last,
            )
    return graph.array(blocks, (np.diff(axis.bounds).tolist(),), ())


def _blocks(source: Source, axis: GroupAxis) -> Iterator[tuple[Integers, int, int]]:
    """For each block of the result the keys of its groups, and the range of frames that holds them."""
    ranges = [slice_ranges(axis.ranges, begin, end) for begin, end in pairwise(axis.bounds)]
    first_keys = np.array([keys[0, 0] for keys in ranges], np.int64)
    last_keys = np.array([keys[-1, 1] for keys in ranges], np.int64)
    first, last = axis.grouping.frames_of(frames_of(source).segments, first_keys, last_keys)
    return zip(ranges, first.tolist(), last.tolist(), strict=True)


def _tally_labels(source: Source, axis: LabelAxis, place: Place, quantity: Quantity, task_bytes: int) -> Any:
    plan, frames = source.commit.plan, frames_of(source)
    first, last = _whole(frames)
    tasks = -(-packed_bytes(plan, frames.segments.frames) // task_bytes)
    bounds = cut_frames(frames, first, last, tasks, plan.chunk_frames)
    # Whether a neuron fired is known only when all its spikes have been added up. Other questions join in
    # where that costs little, so that rates and silent ratios asked together read every chunk once.
    labels = axis.bounds[-1]
    joins = quantity == "fired" or (labels <= _FEW_LABELS and labels * plan.neurons <= _FEW_COUNTS)
    counted: Place = "neuron" if joins else place
    places = math.prod(places_of(plan.neuron_shape, counted))
    counting = _Graph("spikes-per-label", source, axis, counted, bounds)
    sums: dict[tuple[int, ...], Any] = {}
    for block, (begin, end) in enumerate(pairwise(axis.bounds)):
        partial = [
            counting.add((Parcel(count_labels), counting.source, begin, end, cut, next_cut, counted))
            for cut, next_cut in pairwise(bounds)
        ]
        sums[(block,)] = counting.sum(partial)
    lengths = (np.diff(axis.bounds).tolist(),)
    spikes = counting.array(sums, lengths, (places,))
    graph = _Graph(f"{quantity}-per-label", source, place, spikes.name)
    graph.dependencies.append(spikes)
    blocks: dict[tuple[int, ...], Any] = {
        (block,): (Parcel(finish), (spikes.name, block, 0), plan.neuron_shape, place, quantity, True)
        for block in range(len(axis.bounds) - 1)
    }
    return graph.array(blocks, lengths, places_of(plan.neuron_shape, place))


def _whole(frames: SelectedFrames) -> tuple[int, int]:
    """Range of frames that holds all selected ones."""
    segments = frames.segments
    return (int(segments.first_frame[0]), int(segments.last_frame[-1])) if len(segments) else (0, 0)


def _neuron_spikes(
    source: Source, grouping: Grouping, ranges: Integers, first: int, last: int, cost: int, task_bytes: int
) -> Any:
    """Spikes of each neuron in one group of frames, counted in several tasks: int64 [1, neurons]."""
    plan = source.commit.plan
    unit = plan.block_frames if source.use_counts else plan.chunk_frames
    bounds = cut_frames(frames_of(source), first, last, -(-cost // task_bytes), unit)
    graph = _Graph("spikes-per-neuron", source, grouping, ranges, bounds)
    partial = [
        graph.add(
            (Parcel(count_groups), graph.source, Parcel(grouping), ranges, cut, next_cut, "neuron", "spikes")
        )
        for cut, next_cut in pairwise(bounds)
    ]
    return graph.array({(0,): graph.sum(partial)}, ([1],), (plan.neurons,))


class _Graph:
    """Tasks under construction that share one source, or build on other arrays.

    Attributes
    ----------
    source : str
        Key of the source, if there is one: it travels once, not with every task.
    dependencies : list of dask array
        Arrays whose blocks the tasks use.
    """

    def __init__(self, what: str, source: Source | None, *defining: Any) -> None:
        self._name = f"{what}-{tokenize(*map(_plain, (source, *defining)))}"
        self.source = f"{self._name}-source"
        self._tasks: dict[Any, Any] = {} if source is None else {self.source: Parcel(source)}
        self.dependencies: list[Any] = []

    def add(self, task: tuple[Any, ...]) -> tuple[Any, ...]:
        """Add a task; its key."""
        key = (f"{self._name}-part", len(self._tasks))
        self._tasks[key] = task
        return key

    def sum(self, keys: list[tuple[Any, ...]]) -> tuple[Any, ...]:
        """Add up partial counts, a few at a time; the key of the sum."""
        while len(keys) > 1:
            keys = [
                self.add((Parcel(add_up), keys[some : some + _FAN_IN]))
                for some in range(0, len(keys), _FAN_IN)
            ]
        return keys[0]

    def array(
        self,
        blocks: dict[tuple[int, ...], Any],
        group_chunks: Sequence[Sequence[int]],
        shape: tuple[int, ...],
    ) -> Any:
        """The array of these blocks: cut along groups, if there are any, and whole along ``shape``."""
        for place, task in blocks.items():
            self._tasks[(self._name, *place, *[0] * len(shape))] = task
        chunks = (*map(tuple, group_chunks), *((length,) for length in shape))
        layer = HighLevelGraph.from_collections(self._name, self._tasks, dependencies=self.dependencies)
        meta: NDArray[np.int64] = np.empty((0,) * len(chunks), np.int64)
        return da.Array(layer, self._name, chunks=chunks, meta=meta)


def _plain(value: object) -> object:
    """What stands for a value in the name of an array."""
    if isinstance(value, Source):
        identity = (value.location, value.recording_id, value.commit_number, value.layer)
        chosen = value.selection
        labels = [None if some is None else tuple(some) for some in (chosen.labels, value.labels)]
        return identity, chosen.steps, chosen.trials, value.use_counts, labels
    if isinstance(value, Grouping):
        return value.kind, value.steps, value.anchor
    if isinstance(value, LabelAxis):
        return list(value.bounds)
    if isinstance(value, GroupAxis):
        return _plain(value.grouping), value.ranges, list(value.bounds)
    return value
