"""Frames as booleans, and what belongs to each of them: the functions behind lazy arrays of spikes.

These run inside Dask tasks, see `analysis.kernels.counting.tasks`. A lazy array of spikes is cut along frames
into blocks, each standing for the selected ones among ``block_frames`` consecutive frames of the layer;
blocks without selected frames are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.selecting.source import Source, frames_of, reader_of
from recorder.format.bits import Bools, Integers, Packed, unpack_trains
from recorder.format.columns import EXACT_IN_FLOAT, MISSING_INTEGER
from recorder.tape.trial_columns import read_categories, read_columns

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
    reader = reader_of(source)
    (spikes,) = read_bits(
        *(source, block_frames, block_id),
        lambda wanted: ([trains] for trains in reader.parts(wanted, passing=True)),
    )
    return spikes


def read_bits(
    source: Source,
    block_frames: int,
    block_id: tuple[int, ...],
    read: Callable[[Sequence[tuple[int, int]]], Iterable[Sequence[Packed]]],
) -> list[Bools]:
    """One block of several lazy arrays of bits of a layer, each as `read_spikes` has it.

    ``read`` takes places, (chunk, part), and returns the trains of each array there, valid until the next.
    """
    plan, size = source.commit.plan, source.commit.plan.chunk_frames
    selected = selected_in_block(source, block_frames, block_id[0])
    part = block_id[1] if plan.parts > 1 else 0
    neurons = len(range(*plan.part_slice(part).indices(plan.neurons)))
    touched = np.unique(selected // size).tolist()
    blocks: list[Bools] = []
    for chunk, arrays in zip(touched, read([(chunk, part) for chunk in touched]), strict=True):
        begin, end = np.searchsorted(selected, [chunk * size, (chunk + 1) * size])
        inside = selected[begin:end] - chunk * size
        first, last = int(inside[0]), int(inside[-1]) + 1
        blocks = blocks or [np.empty((len(selected), neurons), np.bool_) for _ in arrays]
        for trains, bits in zip(arrays, blocks, strict=True):
            if last - first == end - begin:
                unpack_trains(trains, first, last, bits[begin:end])
            else:
                bits[begin:end] = unpack_trains(trains, first, last)[inside - first]
    rows = neurons // plan.row_neurons
    shape = len(selected), *((rows, *plan.neuron_shape[1:]) if plan.neuron_shape else ())
    return [bits.reshape(shape) for bits in blocks]


def read_coordinate(
    source: Source, coordinate: str, block_frames: int, block_id: tuple[int, ...]
) -> NDArray[Any]:
    """One block of ``"step"``, ``"sample"`` or ``"trial"``, -1 for none: int64, shape [frames]."""
    selected = selected_in_block(source, block_frames, block_id[0])
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
    selected = selected_in_block(source, block_frames, block_id[0])
    frames = frames_of(source, with_rows=True)
    row = frames.segments.segment_of(selected)
    sample = frames.segments.samples_of(selected, row)
    stored = column_values(source, column)[frames.table_rows(row, sample)]
    return show_missing(stored, column_dtype(source, column))


def column_dtype(source: Source, name: str) -> np.dtype[Any]:
    """Data type of a column of the trials laid on the selected frames; whole numbers as `exact_dtype`."""
    values = column_values(source, name)
    if values.dtype != np.int64:
        return values.dtype
    segments = frames_of(source).segments
    trials = column_values(source, "trial")[:-1]
    first, last = (np.searchsorted(trials, segments.trial, side) for side in ("left", "right"))
    missing = (segments.trial < 0).any() or (last - first < segments.batch).any()
    values = values[:-1]
    return exact_dtype(values, has_missing=bool(missing or (values == MISSING_INTEGER).any()))


def exact_dtype(values: NDArray[np.int64], *, has_missing: bool) -> np.dtype[Any]:
    """Data type in which whole numbers are shown, `MISSING_INTEGER` standing for none.

    int64 where none is missing. Otherwise float64 with NaN, as is the way of xarray and pandas, where it has
    all of the numbers; else objects: ints and None.
    """
    if not has_missing:
        return np.dtype(np.int64)
    is_exact = (abs(values) <= EXACT_IN_FLOAT) | (values == MISSING_INTEGER)
    return np.dtype(np.float64 if is_exact.all() else object)


def show_missing(stored: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A column in another data type, its missing values as they are there: NaN, or None."""
    if stored.dtype == dtype:
        return stored
    values = stored.astype(dtype)
    missing = np.isnan(stored) if stored.dtype == np.float64 else stored == MISSING_INTEGER
    values[missing] = None if dtype.kind == "O" else np.nan
    return values


@lru_cache(maxsize=8)
def column_values(source: Source, name: str) -> NDArray[Any]:
    """Values of a column of the trials, and behind them the one that stands for a missing value."""
    commit = replace(source.trials, columns=tuple(c for c in source.trials.columns if c.name == name))
    ((column, stored),) = read_columns(source.store, commit).items()
    if column.kind == "category":
        values = np.array([*read_categories(source.store, column, stored), None], object)
        decoded: NDArray[Any] = values[np.append(stored, -1)]
        return decoded
    return np.append(stored, np.nan if column.kind == "float64" else MISSING_INTEGER).astype(stored.dtype)


def selected_in_block(source: Source, block_frames: int, block: int) -> Integers:
    """Every selected frame of a block of a lazy array, ascending."""
    first = int(kept_blocks(source, block_frames)[0][block])
    return frames_of(source).selected_frames(first, first + block_frames)
