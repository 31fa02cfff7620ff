"""One block of the lazy array of a signal's values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.booleans import selected_in_block
from analysis.kernels.selecting.source import Source, frames_of, signal_of
from analysis.kernels.signals.neurons import neurons_of


def read_values(source: Source, block_frames: int, block_id: tuple[int, ...]) -> NDArray[Any]:
    """One block, of the selected frames and neurons.

    Parameters
    ----------
    source : Source
    block_frames : int
    block_id : tuple of int
        Place of the block along frames.

    Returns
    -------
    array, shape [frames, *neuron], in the data type of the signal

    Raises
    ------
    RecordingFormatError
        If a chunk is missing or damaged; it names file, layer, signal and frames.
    """
    signal, neurons = signal_of(source), neurons_of(source)
    selected = selected_in_block(source, block_frames, block_id[0])
    size = signal.plan.chunk_frames
    values = np.empty((len(selected), len(neurons.stored)), signal.commit.dtype)
    touched = np.unique(selected // size).tolist()
    for chunk, trains in zip(touched, signal.trains(touched), strict=True):
        begin, end = np.searchsorted(selected, [chunk * size, (chunk + 1) * size])
        values[begin:end] = trains[np.ix_(neurons.stored, selected[begin:end] - chunk * size)].T
    return values.reshape(len(selected), *neurons.shape)


def read_time(source: Source, block_frames: int, block_id: tuple[int, ...]) -> NDArray[np.float64]:
    """Steps of each frame of a block since the first step of its trial; NaN outside of trials."""
    selected = selected_in_block(source, block_frames, block_id[0])
    segments = frames_of(source).segments
    row = segments.segment_of(selected)
    time = np.full(len(selected), np.nan)
    inside = np.flatnonzero(segments.trial[row] >= 0)
    if len(inside) and source.starts is not None:
        starts = source.starts.of_trials(segments.trial[row[inside]])
        time[inside] = segments.steps_of(selected[inside], row[inside]) - starts
    return time
