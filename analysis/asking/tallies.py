"""From a question about sequences to lazy sums of intervals, latencies and lags.

Groups of frames that come in order, such as trials and presentations, are cut into blocks, each of which a
few tasks tally; their sums are joined in the order of their frames, a few at a time. Layers of so many
neurons and samples that a task could not keep the state of all are tallied some neurons at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from math import prod
from typing import Any, Final

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from analysis.arguments import QuestionError, check_choice, whole_number
from analysis.asking.axes import FrameAxes, check_axes, frame_axes
from analysis.asking.graphs import add_together, empty_array, fan_in, plain
from analysis.asking.planning import (
    MAX_BLOCK_BYTES,
    RESULT_BLOCK_BYTES,
    cut_frames,
    cut_groups,
    packed_bytes,
    task_bytes,
    whole_range,
)
from analysis.asking.rounds import layer_of
from analysis.kernels.counting.tallying import places_of
from analysis.kernels.selecting.coding import Axis, CodedGroups, GroupAxis, PresentationAxis
from analysis.kernels.selecting.grouping import Groups, keys_of, range_size
from analysis.kernels.selecting.sequences import Boundary
from analysis.kernels.selecting.source import Source, frames_of
from analysis.kernels.sequence_tasks import (
    Tallied,
    columns_of_sums,
    join_sums,
    largest_batch,
    tally_frames,
)
from analysis.members import Members
from analysis.questions import Question
from spiketape_worker import Parcel

# Lanes, a sample of a neuron each, that a task tallies; it keeps some 100 bytes for each.
MAX_LANES: Final = 2**22
_LANE_BYTES: Final = 100


@dataclass(frozen=True, eq=False)
class TallyPlan:
    """The blocks in which a question about sequences is answered.

    Attributes
    ----------
    axes : FrameAxes
    groups : CodedGroups
        The groups of these axes; of a single place if nothing is kept apart.
    bounds : tuple of int
        Places along the first axis where blocks begin, and its length.
    keys : tuple of (int, int), optional
        Keys of the trials of each block, the last exclusive; None where a block has all frames.
    wanted : int
        Bytes that a task should read.
    """

    axes: FrameAxes
    groups: CodedGroups
    bounds: tuple[int, ...]
    keys: tuple[tuple[int, int], ...] | None
    wanted: int

    def tasks(self, source: Source) -> Iterator[tuple[CodedGroups, list[int]]]:
        """The groups of each block; the frames where tasks of a source begin, and where the last one ends."""
        plan, frames = source.commit.plan, frames_of(source)
        if self.keys is None:
            ranges = np.array([whole_range(frames)], np.int64)
        else:
            trials = self.groups.axes[0].grouping
            first, last = np.array(self.keys, np.int64).reshape(-1, 2).T
            assert trials is not None  # noqa: S101 - what is cut by keys has them
            ranges = np.stack(trials.frames_of(frames.segments, first, last), axis=1)
        for (begin, end), (first, last) in zip(pairwise(self.bounds), ranges.tolist(), strict=True):
            tasks = -(-packed_bytes(plan, last - first) // self.wanted)
            yield self.groups.part(begin, end), cut_frames(frames, first, last, tasks, plan.chunk_frames)


def lazy_sums(
    tallied: Tallied,
    layers: Sequence[Sequence[Source]],
    question: Question,
    members: Members,
    boundary: Boundary,
) -> tuple[Any, FrameAxes]:
    """Sums of intervals, latencies or lags, pooled over what is not kept apart.

    Returns
    -------
    dask array of int64, shape [recordings, layers, *axes of frames, *places, columns]
        Without the first two axes where these are not kept apart.
    FrameAxes

    Raises
    ------
    QuestionError
        If axes do not exist or would give too many values, or there are no sequences: nothing was recorded in
        trials, and there is no boundary.
    """
    check_axes([layer[0] for layer in layers], question, members)
    layers = [[source.with_starts() for source in layer] for layer in layers]
    boundary = read_boundary(layers, boundary)
    plan = _plan(tallied, layers, question)
    of_sources = [
        [_of_source(tallied, plan, source, question, boundary) for source in layer] for layer in layers
    ]
    every = range(len(members.names))
    pools = [[member] for member in every] if question.recordings else [[*every]]
    pooled = []
    for pool in pools:
        each = [add_together([layer[member] for member in pool]) for layer in of_sources]
        lengths = (*(plan.axes.groups.shape if question.along else ()), tallied.columns)
        if not each:
            pooled.append(da.zeros((0, *lengths) if question.layers else lengths, dtype=np.int64, chunks=-1))
        else:
            pooled.append(da.stack(each) if question.layers else add_together(each))
    return (da.stack(pooled) if question.recordings else pooled[0]), plan.axes


def read_boundary(layers: Sequence[Sequence[Source]], boundary: Any) -> Boundary:
    """The boundary that a user gives; its absence is refused where nothing was recorded in trials."""
    read: Boundary = None
    if isinstance(boundary, str):
        check_choice(
            boundary, "boundary", ("none",), ", for a run that is one sequence, or a number of steps"
        )
        read = "none"
    elif boundary is not None:
        expected = "'none' for a run that is one sequence, or a number of steps"
        # Nothing is recorded that late, and later steps would not fit the integers that they are kept in.
        read = min(whole_number(boundary, "boundary", expected, least=1), 2**60)
    sources = [source for layer in layers for source in layer if len(frames_of(source).segments)]
    if boundary is None and sources and not any((frames_of(s).segments.trial >= 0).any() for s in sources):
        raise QuestionError(
            "no trial is among what is looked at, so nothing says where one sequence of steps ends and the "
            'next begins: pass boundary="none" if the whole run is one sequence for each sample of the '
            "batch, or boundary=100 if a new one begins every 100 steps"
        )
    return read


def _plan(tallied: Tallied, layers: Sequence[Sequence[Source]], question: Question) -> TallyPlan:
    sources = [source for layer in layers for source in layer]
    axes = frame_axes(sources, question)
    groups = coded(axes)
    places = max((prod(places_of(source.neuron_shape, question.place)) for source in sources), default=1)
    total = sum(packed_bytes(source.commit.plan, frames_of(source).segments.frames) for source in sources)
    wanted = task_bytes(total)
    inner_bytes = 8 * groups.inner * places * tallied.columns
    first = groups.axes[0]
    trials = first.grouping if first.grouping is not None and first.grouping.kind == "trial" else None
    if trials is None or not isinstance(first, GroupAxis | PresentationAxis) or len(groups) == 0:
        if inner_bytes * groups.shape[0] > MAX_BLOCK_BYTES:
            shown = " × ".join(map(str, (*groups.shape, places, tallied.columns)))
            raise QuestionError(
                f"per={question.along} would give {shown} numbers at once; keep fewer groups or neurons "
                "apart, or trials or presentations, which are looked at one after the other"
            )
        return TallyPlan(axes, groups, (0, groups.shape[0]), None, wanted)
    costliest = max(sources, key=lambda source: source.commit.plan.neurons * frames_of(source).frames)
    tasks = -(-packed_bytes(costliest.commit.plan, frames_of(costliest).segments.frames) // wanted)
    per_trial = -(-groups.shape[0] // max(range_size(first.ranges), 1))
    width = max(RESULT_BLOCK_BYTES // (inner_bytes * per_trial), 1)
    at = np.array(cut_groups(first.ranges, trials, frames_of(costliest), tasks, width), np.int64)
    keys = keys_of(first.ranges, at[:-1]), keys_of(first.ranges, at[1:] - 1) + 1
    bounds = at if isinstance(first, GroupAxis) else first.base[at]
    return TallyPlan(
        axes, groups, tuple(bounds.tolist()), tuple(zip(*(k.tolist() for k in keys), strict=True)), wanted
    )


def coded(axes: FrameAxes) -> CodedGroups:
    """The groups of some axes, as codes; of a single place if nothing is kept apart."""
    if isinstance(axes.groups, CodedGroups):
        return axes.groups
    if not axes.names:
        return CodedGroups.along([Axis(1)])
    groups: Groups = axes.groups
    return CodedGroups.along([GroupAxis(len(groups), groups.grouping, groups.ranges)])


def _of_source(
    tallied: Tallied, plan: TallyPlan, source: Source, question: Question, boundary: Boundary
) -> Any:
    """Sums of one layer of one recording, as a dask array."""
    parts = [_of_neurons(tallied, plan, part, question, boundary) for part in _neuron_parts(source)]
    if len(parts) == 1:
        return parts[0]
    if question.place == "all":
        return add_together(parts)
    return da.concatenate(parts, axis=len(question.along))


def _neuron_parts(source: Source) -> list[Source]:
    """A source, some neurons at a time if a task could not keep the state of all lanes."""
    samples, shape = largest_batch(source), source.neuron_shape
    most = max(MAX_LANES // max(samples, 1), 1)
    if source.neurons <= most or not shape:
        return [source]
    rows = max(most * shape[0] // source.neurons, 1)
    if samples * (source.neurons // shape[0]) > 4 * MAX_LANES:
        raise QuestionError(
            f"layer {source.layer!r} has {source.neurons} neurons and batches of {samples} samples, too many "
            "sequences to follow at once; select fewer neurons or samples"
        )
    chosen = source.indices
    return [
        source.narrowed(replace(source.selection, neurons=(chosen[0][first : first + rows], *chosen[1:])))
        for first in range(0, shape[0], rows)
    ]


def _of_neurons(
    tallied: Tallied, plan: TallyPlan, source: Source, question: Question, boundary: Boundary
) -> Any:
    place = question.place
    shape = places_of(source.neuron_shape, place)
    defining = (source, plan.groups, plan.bounds, plan.keys, plan.wanted, place, boundary, tallied)
    name = f"{tallied.what}-{tokenize(*(plain(value) for value in defining[:-1]), repr(tallied))}"
    carried = f"{name}-source"
    tasks: dict[Any, Any] = {carried: Parcel(source)}
    results, lanes = [], largest_batch(source) * source.neurons
    for groups, bounds in plan.tasks(source):
        keys: list[Any] = []
        for first, last in pairwise(bounds):
            keys.append((f"{name}-part", len(tasks)))
            tasks[keys[-1]] = (
                Parcel(tally_frames),
                carried,
                Parcel(groups),
                first,
                last,
                place,
                Parcel(tallied),
                boundary,
            )
        together = fan_in(8 * len(groups) * prod(shape) * tallied.columns + lanes * _LANE_BYTES)
        while len(keys) > 1:
            joined = []
            for some in range(0, len(keys), together):
                joined.append((f"{name}-part", len(tasks)))
                tasks[joined[-1]] = (Parcel(join_sums), keys[some : some + together])
            keys = joined
        lengths = groups.shape if question.along else ()
        results.append((Parcel(columns_of_sums), keys[0], lengths, shape))
    first_chunks = tuple(end - begin for begin, end in pairwise(plan.bounds))
    along = (first_chunks, *((length,) for length in plan.groups.shape[1:])) if question.along else ()
    chunks = (*along, *((length,) for length in shape), (tallied.columns,))
    if 0 in map(sum, chunks):
        return empty_array(tuple(map(sum, chunks)))
    places = product(*(range(len(lengths)) for lengths in chunks))
    tasks |= {(name, *at): task for at, task in zip(places, results, strict=True)}
    graph = HighLevelGraph.from_collections(name, layer_of(tasks), dependencies=[])
    meta: np.ndarray[Any, np.dtype[np.int64]] = np.empty((0,) * len(chunks), np.int64)
    return da.Array(graph, name, chunks=chunks, meta=meta)
