"""From a question about a signal to lazy tallies of its values, cut by the bytes to be read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any, Final

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from analysis.arguments import QuestionError
from analysis.asking.axes import FrameAxes, frame_axes
from analysis.asking.graphs import empty_array, plain
from analysis.asking.planning import (
    MAX_BLOCK_BYTES,
    RESULT_BLOCK_BYTES,
    cut_frames,
    cut_groups,
    task_bytes,
    whole_range,
)
from analysis.asking.rounds import layer_of
from analysis.asking.tallies import coded
from analysis.kernels.selecting.coding import CodedGroups, GroupAxis, PresentationAxis
from analysis.kernels.selecting.grouping import keys_of, range_size
from analysis.kernels.selecting.source import Source, frames_of
from analysis.kernels.signals.neurons import commit_of, neurons_of
from analysis.kernels.signals.tallying import SignalTallied, join_tallies, shaped, tally_values
from analysis.questions import Question
from spiketape_worker import Parcel

_FAN_IN: Final = 16


def lazy_tally(
    tallied: SignalTallied, sources: Sequence[Source], question: Question, axes: FrameAxes | None = None
) -> tuple[Any, FrameAxes, dict[str, Any]]:
    """Tally the values of a signal, pooled over what is not kept apart.

    Parameters
    ----------
    tallied : SignalTallied
    sources : sequence of Source
        The signal in each recording.
    question : Question
    axes : FrameAxes, optional
        Axes of frames that other sources have, too; those of these sources if left out.

    Returns
    -------
    dask array of float64 or int64, shape [recordings, *axes of frames, *places, columns]
        Without the first axis where recordings are not kept apart.
    FrameAxes
    dict of str to array
        Axes of places, and their coordinates.

    Raises
    ------
    QuestionError
        If axes do not exist, or there would be too many values.
    """
    sources = [source.with_starts() for source in sources]
    axes = axes or frame_axes(sources, question)
    groups = coded(axes)
    codes, places = neurons_of(sources[0]).codes(question.place)
    shape = tuple(map(len, places.values()))
    counted = int(codes[-1]) + 1 if len(codes) else 0
    inner_bytes = 8 * groups.inner * max(counted, 1) * tallied.columns
    wanted = task_bytes(sum(_bytes(source) for source in sources))
    bounds, keys = _blocks(sources, groups, inner_bytes, wanted)
    if inner_bytes * max((end - begin for begin, end in pairwise(bounds)), default=0) > MAX_BLOCK_BYTES:
        shown = " × ".join(map(str, (*groups.shape, counted, tallied.columns)))
        raise QuestionError(
            f"per={question.along} would give {shown} numbers at once; keep fewer groups or neurons apart, "
            "or trials or steps, which are looked at one after the other"
        )
    lengths = groups.shape if question.along else ()
    pools = [[source] for source in sources] if question.recordings else [list(sources)]
    pooled = [
        _of_pool(tallied, pool, groups, bounds, keys, question, wanted, lengths, shape) for pool in pools
    ]
    return (da.stack(pooled) if question.recordings else pooled[0]), axes, places


def _bytes(source: Source) -> int:
    signal = commit_of(source)
    return frames_of(source).frames * signal.plan.neurons * signal.itemsize


Keys = list[tuple[int, int]] | None


def _blocks(
    sources: Sequence[Source], groups: CodedGroups, inner_bytes: int, wanted: int
) -> tuple[list[int], Keys]:
    """Places along the first axis where blocks begin, and its length; keys of the groups of each block.

    Keys are None where a block has all frames.
    """
    first = groups.axes[0]
    grouping = first.grouping
    if grouping is None or not isinstance(first, GroupAxis | PresentationAxis) or len(groups) == 0:
        return [0, groups.shape[0]], None
    costliest = max(sources, key=_bytes)
    tasks = -(-_bytes(costliest) // wanted)
    per_group = -(-groups.shape[0] // max(range_size(first.ranges), 1))
    width = max(RESULT_BLOCK_BYTES // (inner_bytes * per_group), 1)
    at = np.array(cut_groups(first.ranges, grouping, frames_of(costliest), tasks, width), np.int64)
    begins, ends = keys_of(first.ranges, at[:-1]), keys_of(first.ranges, at[1:] - 1) + 1
    bounds = at if isinstance(first, GroupAxis) else first.base[at]
    return bounds.tolist(), list(zip(begins.tolist(), ends.tolist(), strict=True))


def _of_pool(
    tallied: SignalTallied,
    pool: Sequence[Source],
    groups: CodedGroups,
    bounds: Sequence[int],
    keys: Keys,
    question: Question,
    wanted: int,
    lengths: tuple[int, ...],
    shape: tuple[int, ...],
) -> Any:
    """The tally of some recordings together, as a dask array."""
    defining = [plain(source) for source in pool], plain(groups), tuple(bounds), keys, wanted, question.place
    name = f"signal-{tallied.what}-{tokenize(*defining, repr(tallied))}"
    tasks: dict[Any, Any] = {f"{name}-source-{number}": Parcel(source) for number, source in enumerate(pool)}
    results = []
    for block, (begin, end) in enumerate(pairwise(bounds)):
        part, parts = groups.part(begin, end), []
        for number, source in enumerate(pool):
            for first, last in pairwise(_frames_of_block(source, groups, keys, block, wanted)):
                parts.append((f"{name}-part", len(tasks)))
                tasks[parts[-1]] = (
                    Parcel(tally_values),
                    f"{name}-source-{number}",
                    *(Parcel(part), first, last, question.place, Parcel(tallied)),
                )
        while len(parts) > 1:
            joined = []
            for some in range(0, len(parts), _FAN_IN):
                joined.append((f"{name}-part", len(tasks)))
                tasks[joined[-1]] = (Parcel(join_tallies), parts[some : some + _FAN_IN], Parcel(tallied))
            parts = joined
        of_block = (end - begin, *lengths[1:]) if lengths else ()
        results.append((Parcel(shaped), parts[0], of_block, shape))
    along = (tuple(end - begin for begin, end in pairwise(bounds)), *((length,) for length in lengths[1:]))
    chunks = (*(along if lengths else ()), *((length,) for length in shape), (tallied.columns,))
    if 0 in map(sum, chunks):
        return empty_array(tuple(map(sum, chunks)), tallied.dtype)
    places = product(*(range(len(each)) for each in chunks))
    tasks |= {(name, *at): task for at, task in zip(places, results, strict=True)}
    graph = HighLevelGraph.from_collections(name, layer_of(tasks), dependencies=[])
    return da.Array(graph, name, chunks=chunks, meta=np.empty((0,) * len(chunks), tallied.dtype))


def _frames_of_block(source: Source, groups: CodedGroups, keys: Keys, block: int, wanted: int) -> list[int]:
    """Frames of a source where the tasks of a block begin, and where the last one ends."""
    frames, signal = frames_of(source), commit_of(source)
    first, last = whole_range(frames)
    grouping = groups.axes[0].grouping
    if keys is not None and grouping is not None:
        begin, end = (np.array([key], np.int64) for key in keys[block])
        first, last = (int(at[0]) for at in grouping.frames_of(frames.segments, begin, end))
    tasks = -(-(last - first) * signal.plan.neurons * signal.itemsize // wanted)
    return cut_frames(frames, first, last, max(tasks, 1), signal.plan.chunk_frames)
