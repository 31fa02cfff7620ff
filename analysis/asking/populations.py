"""From a question about populations to lazy sums: a row of numbers for each group of frames of a layer.

A row is as long as a layer has neurons. So the result is cut into blocks of few enough groups, along the
first of its axes of frames; where frames come in the order of that axis, a block reads the frames of its own
groups alone. Sums are named by what was counted, and questions with common sums share them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np

from analysis.arguments import QuestionError
from analysis.asking.axes import FrameAxes, check_axes, frame_axes
from analysis.asking.graphs import Graph
from analysis.asking.planning import (
    MAX_BLOCK_BYTES,
    MAX_RESULT_BLOCKS,
    RESULT_BLOCK_BYTES,
    cut_frames,
    cut_groups,
    packed_bytes,
    task_bytes,
    whole_range,
)
from analysis.kernels.coactivity import (
    Observed,
    correlations,
    observations_of,
    sum_products,
    sum_products_of_several,
)
from analysis.kernels.populations import Summed, in_shape, sum_population
from analysis.kernels.selecting.coding import CodedGroups, GroupAxis, PresentationAxis
from analysis.kernels.selecting.grouping import Grouping, Groups, keys_of, range_size
from analysis.kernels.selecting.source import Source, frames_of
from analysis.members import Members
from analysis.questions import Question
from recorder.format.bits import Integers
from spiketape_worker import Parcel

# Sums of products that all tasks may hold together; products that a task should make and add up.
MAX_SUM_BYTES: Final = 2**31
TASK_PRODUCTS: Final = 2**36
ROW_BYTES: Final = 32 * 2**20


@dataclass(frozen=True, eq=False)
class PopulationPlan:
    """The blocks in which a question about populations is answered.

    Attributes
    ----------
    axes : FrameAxes
    bounds : tuple of int
        Places along the first axis of frames where blocks begin, and its length.
    grouping : Grouping, optional
        Where a block reads the frames of its groups alone: how frames are grouped,
    keys : tuple of (int, int)
        and the keys of each block, the last exclusive.
    wanted : int
        Bytes that a task should read.
    """

    axes: FrameAxes
    bounds: tuple[int, ...]
    grouping: Grouping | None
    keys: tuple[tuple[int, int], ...]
    wanted: int

    def tasks(self, source: Source) -> Iterator[tuple[Groups | CodedGroups, list[int]]]:
        """The groups of each block; the frames where tasks of a source begin, and where the last one ends."""
        plan, frames = source.commit.plan, frames_of(source)
        ranges = np.array([whole_range(frames)] * (len(self.bounds) - 1), np.int64).reshape(-1, 2)
        if self.grouping is not None:
            first, last = np.array(self.keys, np.int64).reshape(-1, 2).T
            ranges = np.stack(self.grouping.frames_of(frames.segments, first, last), axis=1)
        for (begin, end), (first_frame, last_frame) in zip(
            pairwise(self.bounds), ranges.tolist(), strict=True
        ):
            tasks = max(packed_bytes(plan, last_frame - first_frame) // self.wanted, 1)
            bounds = cut_frames(frames, first_frame, last_frame, tasks, plan.chunk_frames)
            yield self.axes.groups.part(begin, end), bounds


def plan_populations(
    layers: Sequence[Sequence[Source]], question: Question, members: Members
) -> PopulationPlan:
    """Decide how a question about populations is cut.

    Raises
    ------
    QuestionError
        If axes do not exist, or would give too many values.
    """
    check_axes([layer[0] for layer in layers], question, members)
    sources = [source for layer in layers for source in layer]
    axes = frame_axes(sources, question)
    groups = axes.groups
    length, inner = groups.shape[0], int(np.prod(groups.shape[1:], dtype=np.int64))
    columns = max((source.neurons + 1 for source in sources), default=1)
    width = max(RESULT_BLOCK_BYTES // max(8 * inner * columns, 1), 1)
    if 8 * inner * columns > MAX_BLOCK_BYTES or length // width > MAX_RESULT_BLOCKS:
        shown = " × ".join(map(str, (*groups.shape, columns)))
        raise QuestionError(
            f"per={question.along} needs {shown} numbers, one for each neuron of each group; keep fewer "
            'groups apart, select fewer steps or neurons, or use per="window" with a longer window'
        )
    bytes_of = {id(source): packed_bytes(source.commit.plan, frames_of(source).frames) for source in sources}
    wanted = task_bytes(sum(bytes_of.values()))
    along = _along(groups)
    if along is None or len(groups) == 0:
        # Each block reads all frames.
        bounds = (*range(0, length, 4 * width), length)
        return PopulationPlan(axes, bounds, None, (), wanted)
    grouping, ranges, base = along
    costliest = max(sources, key=lambda source: bytes_of[id(source)])
    tasks = -(-bytes_of[id(costliest)] // wanted)
    if base is not None:
        width = max(width * range_size(ranges) // length, 1)
    at = np.array(cut_groups(ranges, grouping, frames_of(costliest), tasks, width), np.int64)
    keys = np.stack([keys_of(ranges, at[:-1]), keys_of(ranges, at[1:] - 1) + 1], axis=1)
    places = at if base is None else base[at]
    return PopulationPlan(
        axes, tuple(places.tolist()), grouping, tuple((first, last) for first, last in keys.tolist()), wanted
    )


def _along(
    groups: Groups | CodedGroups,
) -> tuple[Grouping, Integers, Integers | None] | None:
    """Grouping and keys behind the first axis, if frames come in its order; of presentations their bases."""
    if isinstance(groups, Groups):
        return (groups.grouping, groups.ranges, None) if groups.grouping.kind != "all" else None
    first = groups.axes[0]
    if isinstance(first, GroupAxis):
        return first.groups, first.ranges, None
    if isinstance(first, PresentationAxis):
        return first.grouping, first.ranges, first.base
    return None


def lazy_population(plan: PopulationPlan, source: Source, summed: Summed) -> Any:
    """Sums of one layer of one recording: dask array of int64, shape [*groups, neurons + 1]."""
    groups = plan.axes.groups
    graph = Graph(f"{summed}-of-population", source, groups, plan.bounds, plan.wanted)
    blocks = []
    for of_block, bounds in plan.tasks(source):
        sent = Parcel(sum_population), graph.source, Parcel(of_block)
        keys = [graph.add((*sent, first, last, summed)) for first, last in pairwise(bounds)]
        blocks.append(
            (Parcel(in_shape), graph.sum(keys, 8 * len(of_block) * (source.neurons + 1)), of_block.shape)
        )
    lengths = tuple(end - begin for begin, end in pairwise(plan.bounds))
    return graph.array(blocks, (lengths,), (*groups.shape[1:], source.neurons + 1))


def lazy_correlation(sources: Sequence[Source], observed: Observed) -> tuple[Any, Any]:
    """Correlations of a layer in some recordings, and the number of observations that they are made of.

    Each task holds a matrix of sums; there are so few tasks that all these matrices fit into
    `MAX_SUM_BYTES`, or only one, whatever there is to read.

    Returns
    -------
    dask array of float64, shape [series, series]
    dask array of int64, shape []
    """
    series = observed.series
    graph = Graph("products", None, *sources, repr(observed))
    sent = [graph.carry(source) for source in sources]
    counted = Parcel(observed)
    keys = []
    for parts in _parts(sources, series):
        if len(parts) == 1:
            [(place, first, last)] = parts
            keys.append(graph.add((Parcel(sum_products), sent[place], first, last, counted)))
            continue
        # Parts of small recordings; one matrix has the sums of all of them.
        bounds = [[first, last] for _, first, last in parts]
        of_parts = (sent[place] for place, _, _ in parts)
        keys.append(graph.add((Parcel(sum_products_of_several), counted, bounds, *of_parts)))
    sums = graph.array([graph.sum(keys, 8 * (series + 2) * series)], ([series + 2],), (series,))
    height = max(ROW_BYTES // (8 * series), 1)
    rows = [*pairwise([*range(0, series, height), series])]
    graph = Graph("correlations", None, sums.name)
    graph.dependencies.append(sums)
    blocks = [(Parcel(correlations), (sums.name, 0, 0), first, last) for first, last in rows]
    matrix = graph.array(blocks, ([last - first for first, last in rows],), (series,), np.float64)
    graph = Graph("observations", None, sums.name)
    graph.dependencies.append(sums)
    return matrix, graph.array([(Parcel(observations_of), (sums.name, 0, 0))], (), ())


def _parts(sources: Sequence[Source], series: int) -> list[list[list[int]]]:
    """For each task, the frames that it reads: parts of sources, given by place, first and last frame."""
    frames = [frames_of(source) for source in sources]
    total = max(sum(each.frames for each in frames), 1)
    read = sum(packed_bytes(source.commit.plan, frames_of(source).frames) for source in sources)
    wanted = max(-(-read // task_bytes(read)), -(-total * series**2 // TASK_PRODUCTS))
    tasks = max(min(wanted, MAX_SUM_BYTES // (8 * series**2)), 1)
    parts: list[list[int]] = []
    for place, (source, selected) in enumerate(zip(sources, frames, strict=True)):
        share = -(-tasks * selected.frames // total)
        unit = source.commit.plan.chunk_frames
        bounds = cut_frames(selected, *whole_range(selected), share, unit)
        parts += [[place, first, last] for first, last in pairwise(bounds)]
    begins = [len(parts) * task // tasks for task in range(tasks + 1)]
    return [parts[first:last] for first, last in pairwise(begins) if first < last]
