"""How work is cut into tasks: by the bytes to be read, never by the number of chunks. Pure functions.

A task reads some 16 to 64 MiB of packed bits (decoding 64 MiB takes a core about 80 ms; a task costs some
100 µs on a cluster). Small recordings give smaller tasks, so that all cores have work; huge ones larger
tasks, so that there are never more than a few thousand. The memory of a task does not grow with what it
reads.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from recorder.format.grouping import Grouping, Integers, count_up, positions_of, range_size
from recorder.format.layout import ChunkPlan
from recorder.format.selection import SelectedFrames

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
