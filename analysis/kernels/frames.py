"""Frames as booleans, and what belongs to each of them: the functions behind lazy arrays of spikes.

These run inside Dask tasks, see `analysis.kernels.counting`. A lazy array of spikes is cut along frames into
blocks, each standing for the selected ones among ``block_frames`` consecutive frames of the layer; blocks
without selected frames are left out.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.counting import Source, frames_of, reader_of
from recorder.format import RecordingFormatError
from recorder.format.bits import Bools, Integers, unpack_trains
from recorder.format.trials import MISSING_INTEGER
from recorder.tape.trial_columns import read_columns

COORDINATES: Final = ("step", "sample", "trial")


@lru_cache(maxsize=32)
def kept_blocks(source: Source, block_frames: int) -> tuple[Integers, Integers]:
    """Blocks that hold selected frames: their first frames, and how many selected frames they hold."""
    frames = frames_of(source)
    first_block = frames.segments.first_frame // block_frames
    last_block = -(-frames.segments.last_frame // block_frames)
    blocks = np.arange(first_block.min(initial=0), last_block.max(initial=0), dtype=np.int64)
    before = frames.frames_before(np.append(blocks, len(blocks) + first_block.min(initial=0)) * block_frames)
    selected = np.diff(before)
    return blocks[selected > 0] * block_frames, selected[selected > 0]


def read_spikes(source: Source, block_frames: int, block_id: tuple[int, ...]) -> Bools:
    """One block of the lazy array of spikes.

    Parameters
    ----------
    source : Source
    block_frames : int
    block_id : tuple of int
        Place of the block along frames, and along the first neuron axis where chunks are stored in parts.

    Returns
    -------
    bool array, shape [frames, *neuron]

    Raises
    ------
    RecordingFormatError
        If a chunk is missing or damaged; it names file, layer and frames.
    """
    reader, plan = reader_of(source), source.commit.plan
    selected = _selected(source, block_frames, block_id[0])
    part = block_id[1] if plan.parts > 1 else 0
    neurons = plan.part_slice(part)
    bits = np.empty((len(selected), neurons.stop - neurons.start), np.bool_)
    size = plan.chunk_frames
    touched = np.unique(selected // size).tolist()
    for chunk, trains in zip(touched, reader.parts([(chunk, part) for chunk in touched]), strict=True):
        begin, end = np.searchsorted(selected, [chunk * size, (chunk + 1) * size])
        inside = selected[begin:end] - chunk * size
        first, last = int(inside[0]), int(inside[-1]) + 1
        unpacked = unpack_trains(trains, first, last)
        bits[begin:end] = unpacked if last - first == end - begin else unpacked[inside - first]
    rows = (neurons.stop - neurons.start) // plan.row_neurons
    return bits.reshape(len(selected), *((rows, *plan.neuron_shape[1:]) if plan.neuron_shape else ()))


def read_coordinate(
    source: Source, coordinate: str, block_frames: int, block_id: tuple[int, ...]
) -> NDArray[Any]:
    """One block of ``"step"``, ``"sample"`` or ``"trial"``, -1 for none: int64, shape [frames]."""
    selected = _selected(source, block_frames, block_id[0])
    frames = frames_of(source)
    row = frames.segments.segment_of(selected)
    if coordinate == "step":
        return frames.segments.steps_of(selected, row)
    if coordinate == "sample":
        return frames.segments.samples_of(selected, row)
    return frames.segments.trial[row]


def read_column(source: Source, column: str, block_frames: int, block_id: tuple[int, ...]) -> NDArray[Any]:
    """One block of a column of the trials, shape [frames]; dtype as `column_dtype`.

    Frames in no trial get what stands for a missing value: NaN, or None.
    """
    selected = _selected(source, block_frames, block_id[0])
    frames = frames_of(source, labelled=True)
    row = frames.segments.segment_of(selected)
    stored = column_values(source, column)[frames.table_rows(row, selected, selected + 1)]
    dtype = column_dtype(source, column)
    values = stored.astype(dtype)
    if dtype == np.float64 and stored.dtype == np.int64:
        values[stored == MISSING_INTEGER] = np.nan
    return values


def column_dtype(source: Source, name: str) -> np.dtype[Any]:
    """Data type of a column of the trials laid on the selected frames.

    Whole numbers are int64 where every frame has one, and float64 with NaN where some may have none, as is
    the way of xarray and pandas.
    """
    values = column_values(source, name)
    if values.dtype != np.int64:
        return values.dtype
    segments = frames_of(source).segments
    trials = column_values(source, "trial")[:-1]
    first, last = (np.searchsorted(trials, segments.trial, side) for side in ("left", "right"))
    missing = (segments.trial < 0).any() or (last - first < segments.batch).any()
    return np.dtype(np.float64 if missing or (values[:-1] == MISSING_INTEGER).any() else np.int64)


@lru_cache(maxsize=8)
def column_values(source: Source, name: str) -> NDArray[Any]:
    """Values of a column of the trials, and behind them the one that stands for a missing value."""
    commit = replace(source.trials, columns=tuple(c for c in source.trials.columns if c.name == name))
    ((column, stored),) = read_columns(source.store, commit).items()
    if column.kind == "category":
        if len(stored) and (stored.min() < -1 or stored.max() >= len(column.categories)):
            raise RecordingFormatError(f"{source.location}: trials column {name!r} is malformed")
        values = np.array([*column.categories, None], object)
        decoded: NDArray[Any] = values[np.append(stored, -1)]
        return decoded
    return np.append(stored, np.nan if column.kind == "float64" else MISSING_INTEGER).astype(stored.dtype)


def _selected(source: Source, block_frames: int, block: int) -> Integers:
    first = int(kept_blocks(source, block_frames)[0][block])
    return frames_of(source).selected_frames(first, first + block_frames)
