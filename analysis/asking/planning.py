"""From a question to a plan: what tasks there are, which frames each reads, what it tells apart on the way.

Work is cut by the bytes to be read, never by the number of chunks. A task reads some 16 to 64 MiB of packed
bits (decoding 64 MiB takes a core about 80 ms; a task costs some 100 µs on a cluster). Small recordings give
smaller tasks, so that all cores have work; huge ones larger tasks, a few thousand at most. The memory of a
task does not grow with what it reads. Nothing here knows Dask: plans are frozen values, made from the tables
of segments and trials alone, and `analysis.asking.graphs` builds what they say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Final

import numpy as np

from analysis.arguments import QuestionError
from analysis.asking.axes import FrameAxes, check_axes, frame_axes
from analysis.kernels.counting.quantities import SPIKES, Quantity
from analysis.kernels.counting.tallying import Place, places_of
from analysis.kernels.selecting.coding import CodedGroups, GroupAxis, PresentationAxis
from analysis.kernels.selecting.grouping import Grouping, Groups, count_up, keys_of, positions_of, range_size
from analysis.kernels.selecting.selected_frames import SelectedFrames
from analysis.kernels.selecting.source import Source, frames_of
from analysis.members import Members
from analysis.questions import Question
from recorder.format import ChunkPlan
from recorder.format.bits import Integers
from spiketape_scheduler import Limits

SMALL_TASK_BYTES: Final = 16 * 2**20
TASK_BYTES: Final = 64 * 2**20
MANY_TASKS: Final = 64
MAX_TASKS: Final = 4096
RESULT_BLOCK_BYTES: Final = 32 * 2**20
MAX_RESULT_BLOCKS: Final = 100_000
MAX_BLOCK_BYTES: Final = 2**30
# Groups so few that to tell neurons apart takes a small part of the time that decompression takes.
FEW_GROUPS: Final = 16
FEW_COUNTS: Final = 2**19


@dataclass(frozen=True)
class Cut:
    """The cut of one layer of one recording for one block of the result.

    Attributes
    ----------
    bounds : tuple of int
        Frames where a task begins, and where the last one ends.
    place : {"all", "channel", "neuron"}
        What tasks tell apart within the layer.
    quantity : Quantity
        What they make of spikes.
    shared : bool
        Whether their sum is an array of spikes of its own, which other questions find again, and of which the
        quantity is made then. Otherwise there is one task, and it gives that quantity.
    """

    bounds: tuple[int, ...]
    place: Place
    quantity: Quantity
    shared: bool


@dataclass(frozen=True)
class LayerCuts:
    """The cuts of one layer of one recording, one for each block of the result.

    ``place`` and ``quantity`` say what comes of it: what is asked for, or spikes of each neuron to be added.
    """

    source: Source
    place: Place
    quantity: Quantity
    cuts: tuple[Cut, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """The plan by which a question is answered.

    A result is cut into *blocks* along the first of its axes of frames; a block holds some of the groups of
    frames that the question tells apart, whole ones, and all of its places. For each block every layer of
    every recording is counted by one task or by several, each of which reads a range of frames. A task that
    sees all frames of its groups can make of spikes what is asked for, and forget the neurons. Where several
    tasks count one group, or several recordings are pooled, and it takes the sum of a neuron to know what
    becomes of it, spikes of each neuron are added up first.

    Frames are cut at chunks, so that none is decoded twice. Sums of spikes that lie on the way to an answer
    are named by what was counted, not by who asks: rates and silent ratios of a whole recording, or per
    label, read every chunk once when they are computed together.

    Attributes
    ----------
    question : Question
    quantity : Quantity
        Made of the spikes of each neuron in a group.
    axes : FrameAxes
        The groups of frames that are kept apart.
    bounds : tuple of int
        Places along the first axis where blocks begin, and its length. A single 0 if there is none.
    pools : tuple of tuple of tuple of LayerCuts
        For each recording, or for all of them if they are pooled, each layer; in each recording of the pool.
    task_bytes : int
        What a task should read.
    """

    question: Question
    quantity: Quantity
    axes: FrameAxes
    bounds: tuple[int, ...]
    pools: tuple[tuple[tuple[LayerCuts, ...], ...], ...]
    task_bytes: int

    @cached_property
    def blocks(self) -> list[Groups | CodedGroups]:
        """The groups of each block."""
        return [self.axes.groups.part(first, last) for first, last in pairwise(self.bounds)]

    @property
    def lengths(self) -> tuple[tuple[int, ...], ...]:
        """Lengths of the blocks along each axis of frames of the result; all but the first are whole."""
        if not self.question.along:
            return ()
        first = tuple(last - first for first, last in pairwise(self.bounds))
        return (first, *((length,) for length in self.axes.groups.shape[1:]))


def plan_answer(
    quantity: Quantity,
    layers: Sequence[Sequence[Source]],
    question: Question,
    members: Members,
    axes: FrameAxes | None = None,
) -> Plan:
    """Decide how a quantity is counted.

    Parameters
    ----------
    quantity : Quantity
    layers : sequence of sequence of Source
        The layers, in network order; each in all recordings.
    question : Question
        What to keep apart.
    members : Members
        The recordings.
    axes : FrameAxes, optional
        The groups of frames, if they are those of further layers too.

    Raises
    ------
    QuestionError
        If places are to be kept apart in several layers at once or in a layer that has none, if labels are
        asked for and none were recorded, if the result had too many values, or if steps or trials of
        recordings are to be pooled that have nothing to do with each other.

    Examples
    --------
    Neurons that fired in each trial, of which trial 3 is long; a task should read 200 frames::

        frames   0    100  200  300                 900  1000 1100
        trials   | 0  | 1  | 2  | 3                 | 4  | 5  |
        blocks   | 0  | 1       | 2                 | 3       |
        tasks    | a  | b       | c    | d   | e    | f       |

    Tasks a, b and f see whole trials, and give the neurons that fired in each. Trial 3 is counted by three
    tasks, and a neuron may fire in any of them: c, d and e give the spikes of each neuron, which are added up
    before anybody asks who fired.
    """
    check_axes([layer[0] for layer in layers], question, members)
    if "time" in question.along or "presentation" in question.along:
        layers = [[source.with_starts() for source in layer] for layer in layers]
    sources = [source for layer in layers for source in layer]
    wanted = task_bytes(sum(map(_packed_bytes if question.along else _counted_bytes, sources)))
    every = range(len(members.names))
    pools = [[member] for member in every] if question.recordings else [[*every]]
    # Of several recordings, whether a neuron fired is known once its spikes in all of them are added up.
    joins = quantity.keeps_neurons and len(pools[0]) > 1
    place: Place = "neuron" if joins else question.place
    part = SPIKES if joins else quantity
    axes = frame_axes(sources, question) if axes is None else axes
    bounds = _bounds(sources, axes, question, quantity, place, wanted)
    cuts = [
        [
            LayerCuts(source, place, part, _cuts(source, axes.groups, bounds, place, part, wanted))
            for source in layer
        ]
        for layer in layers
    ]
    pooled = tuple(tuple(tuple(layer[member] for member in pool) for layer in cuts) for pool in pools)
    return Plan(question, quantity, axes, bounds, pooled, wanted)


def task_bytes(total_bytes: int) -> int:
    """Bytes that a task should read, if there are so many to read in all."""
    return limits().wanted(total_bytes)


def limits() -> Limits:
    """How many bytes tasks read, however many there are."""
    return Limits(SMALL_TASK_BYTES, MANY_TASKS, TASK_BYTES, MAX_TASKS)


def packed_bytes(plan: ChunkPlan, frames: int) -> int:
    """Bytes of packed bits of so many frames."""
    return frames * plan.neurons // 8


def counted_bytes(plan: ChunkPlan, frames: SelectedFrames, counted_blocks: int) -> int:
    """Bytes to read to count all selected frames together: rows of ``counts``, packed bits at the edges."""
    begin, end, _ = frames.whole_intervals(*whole_range(frames), Grouping())
    size = plan.block_frames
    blocks = np.maximum(np.minimum(end // size, counted_blocks) - -(-begin // size), 0)
    whole = int(blocks.sum())
    return whole * plan.neurons * 4 + packed_bytes(plan, max(frames.segments.frames - whole * size, 0))


def cut_frames(frames: SelectedFrames, first: int, last: int, tasks: int, unit_frames: int) -> list[int]:
    """Bounds of at most ``tasks`` parts of a range of frames with about equally many selected frames.

    Parameters
    ----------
    frames : SelectedFrames
    first, last : int
        Range of frames.
    tasks : int
    unit_frames : int
        Bounds within the range are multiples of this: a chunk, so that none is decoded twice, or a block.

    Returns
    -------
    list of int
        Ascending; the first is ``first`` and the last is ``last``.
    """
    segments = frames.segments
    begins = np.clip(segments.first_frame, first, last)
    lengths = np.clip(segments.last_frame, first, last) - begins
    behind = np.cumsum(lengths)
    if len(behind) == 0 or behind[-1] == 0:
        return [first, last]
    tasks = min(tasks, int(behind[-1]) // unit_frames + 1)
    wanted = np.array([int(behind[-1]) * part // tasks for part in range(1, tasks)], np.int64)
    row = np.searchsorted(behind, wanted, side="right")
    at = begins[row] + wanted - (behind[row] - lengths[row])
    at = at // unit_frames * unit_frames
    return [first, *np.unique(at[(at > first) & (at < last)]).tolist(), last]


def cut_groups(
    ranges: Integers, grouping: Grouping, costliest: SelectedFrames, tasks: int, max_groups: int
) -> list[int]:
    """Bounds of blocks of groups with about equally many frames of the costliest layer.

    A group that is larger than a block by itself gets a block of its own.

    Parameters
    ----------
    ranges : int64 array, shape [ranges, 2]
        Keys of all groups.
    grouping : Grouping
    costliest : SelectedFrames
        Frames of the layer that takes longest to read.
    tasks : int
        Blocks to aim at.
    max_groups : int
        Groups in a block at most.

    Returns
    -------
    list of int
        Positions of groups, from 0 to the number of groups.
    """
    groups = range_size(ranges)
    inner = np.array(cut_frames(costliest, 0, whole_range(costliest)[1], tasks, 1)[1:-1], np.int64)
    cuts = positions_of(ranges, grouping.keys_at(costliest.segments, inner)) if len(inner) else inner
    large = cuts[1:][cuts[1:] == cuts[:-1]]
    bounds = np.unique(np.concatenate([[0], cuts, large + 1, [groups]]))
    lengths = np.diff(bounds)
    parts = -(-lengths // max_groups)
    begins = np.repeat(bounds[:-1], parts) + count_up(parts) * max_groups
    return [*begins.tolist(), groups]


def whole_range(frames: SelectedFrames) -> tuple[int, int]:
    """Range of frames that holds all selected ones."""
    segments = frames.segments
    return (int(segments.first_frame[0]), int(segments.last_frame[-1])) if len(segments) else (0, 0)


def _counted_bytes(source: Source) -> int:
    counted = source.commit.counts_checksums.rows if source.use_counts else 0
    if source.commit.counts_only:
        return _packed_bytes(source)
    return counted_bytes(source.commit.plan, frames_of(source), counted)


def _packed_bytes(source: Source) -> int:
    if source.commit.counts_only:
        return source.commit.counts_checksums.rows * source.commit.plan.neurons * 4
    return packed_bytes(source.commit.plan, frames_of(source).segments.frames)


def _bounds(
    sources: Sequence[Source],
    axes: FrameAxes,
    question: Question,
    quantity: Quantity,
    place: Place,
    wanted: int,
) -> tuple[int, ...]:
    """Places along the first axis where blocks of the result begin, and the length of the axis."""
    groups = axes.groups
    if not question.along:
        return (0, 1)
    if len(groups) == 0:
        return (0, groups.shape[0]) if groups.shape[0] else (0,)
    places = max(prod(places_of(source.neuron_shape, place)) for source in sources)
    inner = prod(groups.shape[1:])
    # Where neurons are told apart until a group is complete, a task holds them all.
    neurons = max(source.neurons for source in sources) if quantity.keeps_neurons else places
    coded = isinstance(groups, CodedGroups)
    width = max(RESULT_BLOCK_BYTES // (8 * inner * (neurons if coded else places)), 1)
    if groups.shape[0] // width > MAX_RESULT_BLOCKS or 8 * inner * places > MAX_BLOCK_BYTES:
        shown = " × ".join(map(str, (*groups.shape, places)))
        raise QuestionError(
            f"per={question.along} would give {shown} values; select fewer steps or neurons, "
            'or use per="window" with a longer window'
        )
    ordered = _ordered(groups)
    if ordered is None:
        width *= 4  # each block reads all frames
        return (*range(0, groups.shape[0], width), groups.shape[0])
    grouping, ranges, base = ordered
    costliest = max(sources, key=_packed_bytes)
    tasks = -(-_packed_bytes(costliest) // wanted)
    if base is not None:
        width = max(width * range_size(ranges) // max(groups.shape[0], 1), 1)
    bounds = cut_groups(ranges, grouping, frames_of(costliest), tasks, width)
    return tuple(bounds if base is None else np.unique(base[bounds]).tolist())


def _ordered(groups: Groups | CodedGroups) -> tuple[Grouping, Integers, Integers | None] | None:
    """The grouping and the keys behind the first axis, if frames come in its order.

    Of presentations, which have a place each, also the first place of each trial, and the number of places.
    """
    if isinstance(groups, Groups):
        return groups.grouping, groups.ranges, None
    first = groups.axes[0]
    if isinstance(first, GroupAxis):
        return first.groups, first.ranges, None
    if isinstance(first, PresentationAxis):
        return Grouping("trial"), first.ranges, first.base
    return None


def _cuts(
    source: Source,
    groups: Groups | CodedGroups,
    bounds: tuple[int, ...],
    place: Place,
    quantity: Quantity,
    wanted: int,
) -> tuple[Cut, ...]:
    """Cut a layer for each block, where a task should read so many bytes."""
    plan, frames = source.commit.plan, frames_of(source)
    unit = plan.block_frames if source.use_counts else plan.chunk_frames
    ordered = _ordered(groups)
    if ordered is None:
        # Questions that could do without neurons join those that cannot where that costs little, so that
        # rates and silent ratios asked together read every chunk once.
        few = len(groups) <= FEW_GROUPS and len(groups) * source.neurons <= FEW_COUNTS
        counted: Place = "neuron" if quantity.keeps_neurons or few else place
        tasks = -(-_packed_bytes(source) // wanted)
        frame_bounds = cut_frames(frames, *whole_range(frames), tasks, plan.chunk_frames)
        return (Cut(tuple(frame_bounds), counted, SPIKES, shared=True),) * (len(bounds) - 1)
    grouping, ranges, base = ordered
    if grouping.kind == "all":
        frame_bounds = cut_frames(frames, *whole_range(frames), -(-_counted_bytes(source) // wanted), unit)
        return (Cut(tuple(frame_bounds), "neuron", SPIKES, shared=True),)
    at = np.array(bounds, np.int64)
    if base is not None:
        at = np.searchsorted(base, at)
    first_keys, last_keys = keys_of(ranges, at[:-1]), keys_of(ranges, at[1:] - 1) + 1
    of_blocks = np.stack(grouping.frames_of(frames.segments, first_keys, last_keys), axis=1)
    cuts = []
    for length, (first, last) in zip(np.diff(at).tolist(), of_blocks.tolist(), strict=True):
        cost = packed_bytes(plan, last - first)
        if length == 1 and cost >= 2 * wanted:
            frame_bounds = cut_frames(frames, first, last, -(-cost // wanted), unit)
            counted = "neuron" if base is None or quantity.keeps_neurons else place
            cuts.append(Cut(tuple(frame_bounds), counted, SPIKES, shared=True))
        else:
            cuts.append(Cut((first, last), place, quantity, shared=False))
    return tuple(cuts)
