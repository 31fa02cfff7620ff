"""Many small recordings: which of them one task counts, so that tasks are as many as the bytes ask for.

A task for each layer of each recording is right where layers are large. Of a thousand small recordings it is
not: a task then costs more than what it reads. Here whole recordings, all of their layers, are put together
until there is enough to read. Nothing here knows Dask, as in `analysis.asking.planning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from analysis.asking import planning
from analysis.asking.planning import counted_bytes, packed_bytes
from analysis.kernels.selecting.source import Source, frames_of
from analysis.questions import Question
from recorder.format.bits import Integers

# To find and check a small table takes as long as to decode so many bytes.
SOURCE_BYTES: Final = 2**17


@dataclass(frozen=True, eq=False)
class Batches:
    """Small recordings that are counted some at a time.

    Attributes
    ----------
    recordings : tuple of tuple of Source
        Each recording, in order: all of its layers.
    frames : int64 array, shape [recordings, layers]
        Number of selected frames.
    bounds : tuple of int
        Recordings with which a batch begins, and their number.
    """

    recordings: tuple[tuple[Source, ...], ...]
    frames: Integers
    bounds: tuple[int, ...]

    def each(self) -> list[tuple[Source, ...]]:
        """The sources of each batch, recording after recording."""
        return [
            tuple(source for layers in self.recordings[first:last] for source in layers)
            for first, last in pairwise(self.bounds)
        ]


def plan_batches(layers: Sequence[Sequence[Source]], question: Question) -> Batches | None:
    """Put small recordings together, if a question is about all frames and neurons of several.

    Parameters
    ----------
    layers, question
        As in `analysis.asking.planning.plan_answer`.

    Returns
    -------
    Batches or None
        None if the question keeps frames or neurons apart, or one recording alone is enough for a task.

    Raises
    ------
    RecordingFormatError
        If frames are selected, and the table of segments or of trials is damaged.

    Examples
    --------
    Of five recordings with two layers the costs are as below, and a task should read 100::

        recordings   0       1       2       3       4
        costs        20 20 | 20 20 | 30 50 | 10 10 | 10 10
        batches    | 0             | 1             | 2     |
    """
    if question.along or question.place != "all" or not layers or len(layers[0]) == 1:
        return None
    recordings = tuple(zip(*layers, strict=True))
    found = [[_frames_and_cost(source) for source in sources] for sources in recordings]
    frames, costs = np.moveaxis(np.array(found, np.int64), 2, 0)
    bounds, cost = [0], 0
    for place, more in enumerate(costs.sum(axis=1).tolist()):
        if more > planning.SMALL_TASK_BYTES:
            return None
        if cost + more > planning.SMALL_TASK_BYTES:
            bounds.append(place)
            cost = 0
        cost += more
    return Batches(recordings, frames, (*bounds, len(recordings)))


def _frames_and_cost(source: Source) -> tuple[int, int]:
    """Selected frames of a source, and the bytes that reading or holding it is worth."""
    plan, commit = source.commit.plan, source.commit
    counted = commit.counts_checksums.rows if source.use_counts else 0
    if source.selection.has_all_frames:
        frames = commit.frames - commit.lost_frames
        left = max(commit.frames - counted * plan.block_frames, 0)
        read = counted * plan.neurons * 4 + packed_bytes(plan, left)
    else:
        selected = frames_of(source)
        frames, read = selected.frames, counted_bytes(plan, selected, counted)
    return frames, max(read, source.neurons * 8, SOURCE_BYTES)
