"""What the tasks of an export are: which frames each reads, and what its table looks like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from analysis.asking.planning import cut_frames, packed_bytes, whole_range
from analysis.export.contents import Contents
from analysis.kernels.exporting.event_rows import value_dtype
from analysis.kernels.exporting.event_tables import TableLayout
from analysis.kernels.selecting.source import Source, frames_of
from analysis.kernels.selecting.trial_table import TrialStarts
from spiketape_worker import Parcel


def part_bounds(source: Source, part_bytes: int) -> list[tuple[int, int]]:
    """Ranges of frames of about so many packed bytes, at least a chunk; an empty one if none is selected."""
    frames, plan = frames_of(source), source.commit.plan
    planes = len(source.commit.values.planes) if source.commit.values else 0
    tasks = -(-packed_bytes(plan, frames.segments.frames) * (1 + planes) // part_bytes)
    return list(pairwise(cut_frames(frames, *whole_range(frames), tasks, plan.chunk_frames)))


def part_arguments(source: Source, part_bytes: int) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
    """Each range of frames, and what a task that makes a table of it is given first."""
    sent, starts = Parcel(source), source.with_starts().starts
    frames = frames_of(source)
    for first, last in part_bounds(source, part_bytes):
        trials = np.unique(frames.segments.trial[frames.runs(first, last)[0]])
        trials = trials[trials >= 0]
        # Of the trials of the range alone, as there may be millions.
        of_range = TrialStarts(trials, trials if starts is None else starts.of_trials(trials))
        yield first, last, (sent, first, last, Parcel(of_range))


def table_layouts(contents: Contents) -> list[TableLayout]:
    """Columns of the tables of each recording: the same for all layers.

    Readers of many files take the columns of the first one for those of all.
    """
    every = [source for sources in contents.layers for source in sources]
    values = {dtype for dtype in map(value_dtype, every) if dtype is not None}
    layout = TableLayout(
        is_wide=any(map(_is_wide, every)),
        value=str(np.result_type(*values)) if values else None,
        recording=None,
        has_gaps=any(bool((frames_of(source).segments.trial < 0).any()) for source in every),
    )
    if not contents.several:
        return [layout]
    return [replace(layout, recording=name) for name in contents.members.names]


def _is_wide(source: Source) -> bool:
    """Whether 32 bits do not hold every number of a neuron, trial, sample or time."""
    segments = frames_of(source).segments
    numbers = (segments.trial, segments.batch, segments.last_step)
    largest = max(int(each.max(initial=0)) for each in numbers)
    return max(prod(source.commit.shape), largest) >= 2**31
