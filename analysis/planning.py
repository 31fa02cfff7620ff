"""How work is cut into tasks: by the bytes to be read, never by the number of chunks. Pure functions.

A task reads some 16 to 64 MiB of packed bits (decoding 64 MiB takes a core about 80 ms; a task costs some
100 µs on a cluster). Small recordings give smaller tasks, so that all cores have work; huge ones larger
tasks, so that there are never more than a few thousand. The memory of a task does not grow with what it
reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.kernels.counting import (
    Source,
    frames_of,
    labels_of,
)
from analysis.kernels.grouping import (
    Grouping,
    count_up,
    positions_of,
    range_keys,
    range_size,
    unite_ranges,
)
from analysis.kernels.selection import SelectedFrames
from analysis.kernels.tallying import Place, places_of
from analysis.questions import Question, QuestionError
from recorder.format import ChunkPlan
from recorder.format.bits import Integers
from recorder.format.columns import Value

SMALL_TASK_BYTES: Final = 16 * 2**20
TASK_BYTES: Final = 64 * 2**20
MANY_TASKS: Final = 64
MAX_TASKS: Final = 4096
RESULT_BLOCK_BYTES: Final = 32 * 2**20
MAX_RESULT_BLOCKS: Final = 100_000


def task_bytes(total_bytes: int) -> int:
    """Bytes that a task should read, if there are so many to read in all."""
    wanted = min(max(SMALL_TASK_BYTES, total_bytes // MANY_TASKS), TASK_BYTES)
    return max(wanted, -(-total_bytes // MAX_TASKS))


def packed_bytes(plan: ChunkPlan, frames: int) -> int:
    """Bytes of packed bits of so many frames."""
    return frames * plan.neurons // 8


def counted_bytes(plan: ChunkPlan, frames: SelectedFrames, counted_blocks: int) -> int:
    """Bytes to read to count all selected frames together: rows of ``counts``, packed bits at the edges."""
    begin, end, _ = frames.whole_intervals(0, _last_frame(frames), Grouping())
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
        Bounds within the range are multiples of this: of a chunk, so that none is decoded twice, or of a
        block, so that none is cut.

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
    inner = np.array(cut_frames(costliest, 0, _last_frame(costliest), tasks, 1)[1:-1], np.int64)
    cuts = positions_of(ranges, grouping.keys_at(costliest.segments, inner)) if len(inner) else inner
    large = cuts[1:][cuts[1:] == cuts[:-1]]
    bounds = np.unique(np.concatenate([[0], cuts, large + 1, [groups]]))
    lengths = np.diff(bounds)
    parts = -(-lengths // max_groups)
    begins = np.repeat(bounds[:-1], parts) + count_up(parts) * max_groups
    return [*begins.tolist(), groups]


def _last_frame(frames: SelectedFrames) -> int:
    return int(frames.segments.last_frame[-1]) if len(frames.segments) else 0


@dataclass(frozen=True)
class GroupAxis:
    """Groups of frames along time, the same for all layers of a question.

    Attributes
    ----------
    grouping : Grouping
    ranges : int64 array, shape [ranges, 2]
        Keys of the groups.
    bounds : sequence of int
        Positions of groups where blocks of the result begin, and the number of groups.
    """

    grouping: Grouping
    ranges: Integers
    bounds: Sequence[int]


@dataclass(frozen=True)
class LabelAxis:
    """The labels of the recordings looked at; ``bounds`` as in `GroupAxis`."""

    bounds: Sequence[int]


Axis = GroupAxis | LabelAxis | None


def _total_bytes(sources: Sequence[Source], question: Question) -> int:
    """Bytes to read to answer a question, about."""
    if question.time is not None:
        return sum(packed_bytes(s.commit.plan, frames_of(s).segments.frames) for s in sources)
    return sum(
        counted_bytes(s.commit.plan, frames_of(s), s.commit.counts_checksums.rows if s.use_counts else 0)
        for s in sources
    )


def _axis(
    sources: Sequence[Source], question: Question, bytes_per_task: int, counted: Place, keeps_neurons: bool
) -> tuple[Axis, Any]:
    """What is kept apart along time, and its coordinate.

    ``counted`` is what is told apart within a layer, ``keeps_neurons`` whether its neurons are on the way.
    """
    if question.time is None:
        return None, None
    places = max((int(np.prod(places_of(s.commit.plan.neuron_shape, counted))) for s in sources), default=1)
    if question.time == "label":
        values = labels_of(sources[0]).values if sources else ()
        if not values:
            raise QuestionError(
                'per="label": no labels were recorded; record with `with monitor.trial(label=...):`'
            )
        neurons = max(s.commit.plan.neurons for s in sources)
        width = max(4 * RESULT_BLOCK_BYTES // (8 * (neurons if keeps_neurons else places)), 1)
        return LabelAxis([*range(0, len(values), width), len(values)]), label_coordinate(values)
    grouping = _grouping(sources, question)
    ranges = unite_ranges([grouping.ranges_of(frames_of(source).segments) for source in sources])
    costliest = max(
        sources, key=lambda s: packed_bytes(s.commit.plan, frames_of(s).segments.frames), default=None
    )
    if costliest is None or len(ranges) == 0:
        return GroupAxis(grouping, ranges, [0, 0]), np.empty(0, np.int64)
    frames = frames_of(costliest)
    tasks = -(-packed_bytes(costliest.commit.plan, frames.segments.frames) // bytes_per_task)
    max_groups = max(RESULT_BLOCK_BYTES // (8 * places), 1)
    if range_size(ranges) // max_groups > MAX_RESULT_BLOCKS:
        raise QuestionError(
            f"per={question.time!r} would give {range_size(ranges)} × {places} values; select fewer steps, "
            'or use per="window" with a longer window'
        )
    bounds = cut_groups(ranges, grouping, frames, tasks, max_groups)
    if len(ranges) == 1:
        # A range is an index that takes no memory, however long.
        first, last = ranges[0].tolist()
        scale, anchor = (grouping.steps, grouping.anchor) if grouping.kind == "steps" else (1, 0)
        coordinate: Any = pd.RangeIndex(anchor + first * scale, anchor + last * scale, scale)
    else:
        keys = range_keys(ranges)
        coordinate = grouping.anchor + keys * grouping.steps if grouping.kind == "steps" else keys
    return GroupAxis(grouping, ranges, bounds), coordinate


def _grouping(sources: Sequence[Source], question: Question) -> Grouping:
    if question.time == "trial":
        return Grouping("trial")
    if question.time == "step":
        return Grouping("steps")
    selection = sources[0].selection if sources else None
    anchor = selection.steps[0] if selection is not None and selection.steps is not None else 0
    ends = [int(frames_of(s).segments.last_step[-1]) for s in sources if len(frames_of(s).segments)]
    # A window longer than the recording is as good as one of its length, and cannot overflow.
    return Grouping("steps", min(question.window, max([1, *(end - anchor for end in ends)])), anchor)


def label_coordinate(values: Sequence[Value]) -> np.ndarray[Any, np.dtype[Any]]:
    """Labels as an array: of text, booleans or numbers where all are of one kind, of objects otherwise."""
    kinds = {type(value) for value in values}
    return np.array(values, None if len(kinds) == 1 else object)
