"""Values of a signal at lags from the spikes of the same neuron and sample, within one sequence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.selecting.sequences import Boundary, Sequences, sequences_of
from analysis.kernels.selecting.source import Source, frames_of, read_trains, reader_of, real_neurons
from analysis.kernels.signals.neurons import neurons_of
from recorder.format.bits import Bools, Integers, unpack_trains

Floats = NDArray[np.float64]


def around_spikes(
    source: Source, values: NDArray[Any], frames: Integers, before: int, after: int, boundary: Boundary
) -> Iterator[tuple[Floats, Floats]]:
    """For each lag from ``-before`` to ``after``, the values that are so many steps behind a spike.

    Parameters
    ----------
    source : Source
        Of a signal whose frames have the shape of the layer's, and whose neurons have spikes there.
    values : array, shape [neurons, frames]
    frames : int64 array, shape [frames]
        Frames of the signal that these are.
    before, after, boundary
        As in `analysis.kernels.signals.tallying.SignalTallied`.

    Yields
    ------
    shown, spikes : float64 array, shape [neurons, frames]
        The value where the neuron has fired ``lag`` steps before it, and 0 elsewhere; 1 where it has.
    """
    segments = frames_of(source).segments
    row = segments.segment_of(frames)
    step, sample = segments.steps_of(frames, row), segments.samples_of(frames, row)
    layer = replace(source, signal="")
    sequences = sequences_of(layer, boundary)
    start, end = _bounds(sequences, step, sample)
    wide, flat = values.astype(np.float64), neurons_of(source).flat
    for lag in range(-before, after + 1):
        at = step - lag
        inside = np.flatnonzero((start <= at) & (at < end))
        spikes = np.zeros(values.shape)
        if len(inside):
            there, fired = _spikes_at(layer, sequences, at[inside], sample[inside], flat)
            spikes[:, inside[there]] = fired.T
        yield np.where(spikes > 0, wide, 0), spikes


def _bounds(sequences: Sequences, step: Integers, sample: Integers) -> tuple[Integers, Integers]:
    """First step of the layer's sequence of each sample at a step, and the step behind; empty if in none."""
    row, is_there = _rows(sequences, step, sample)
    if sequences.boundary is None:
        is_there &= sequences.segments.trial[row] >= 0 if len(sequences.segments) else False
    start, end = np.zeros(len(step), np.int64), np.zeros(len(step), np.int64)
    found = np.flatnonzero(is_there)
    start[found], end[found] = sequences.bounds(row[found], sample[found], step[found])
    return start, end


def _rows(sequences: Sequences, step: Integers, sample: Integers) -> tuple[Integers, Bools]:
    """Index of the layer's segment that each step lies in, and whether it has the sample."""
    segments = sequences.segments
    if len(segments) == 0:
        return np.zeros(len(step), np.int64), np.zeros(len(step), np.bool_)
    row = np.maximum(np.searchsorted(segments.first_step, step, side="right") - 1, 0)
    is_there = (segments.first_step[row] <= step) & (step < segments.last_step[row])
    return row, is_there & (sample < segments.batch[row])


def _spikes_at(
    layer: Source, sequences: Sequences, step: Integers, sample: Integers, flat: Integers
) -> tuple[Integers, Bools]:
    """Those of the given steps and samples that the layer has, and their spikes, [them, neurons]."""
    row, is_there = _rows(sequences, step, sample)
    there = np.flatnonzero(is_there)
    row, step, sample = row[there], step[there], sample[there]
    segments = sequences.segments
    frames = segments.first_frame[row] + (step - segments.first_step[row]) * segments.batch[row] + sample
    fired = np.zeros((len(frames), len(flat)), np.bool_)
    size = reader_of(layer).plan.chunk_frames
    chunks = np.unique(frames // size).tolist()
    whole = replace(layer, selection=replace(layer.selection, neurons=None))
    stored = np.searchsorted(real_neurons(whole), flat)
    for chunk, trains in zip(chunks, read_trains(whole, chunks), strict=True):
        inside = np.flatnonzero(frames // size == chunk)
        at = frames[inside] - chunk * size
        first = int(at.min()) // 64 * 64
        last = min(-(-(int(at.max()) + 1) // 64) * 64, size)
        fired[inside] = unpack_trains(trains[stored], first, last)[at - first]
    return there, fired
