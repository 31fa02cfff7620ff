"""Bins of steps cut slot by slot, as a stranger would: what correlations and the like are compared with."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

import analysis


def binned(layer: analysis.Layer, window: int, boundary: int | str | None) -> np.ndarray:
    """Counts of each neuron in every whole bin of every sequence: [bins, neurons]."""
    counts = []
    for recording in np.unique(recordings_of(layer)):
        spikes = layer.spikes.compute()
        here = recordings_of(layer) == recording
        bits = spikes.values.reshape(len(here), math.prod(spikes.shape[1:]))[here]
        step, sample, trial = (spikes[name].values[here].tolist() for name in ("step", "sample", "trial"))
        lanes = defaultdict(list)
        for frame in np.argsort(step, kind="stable").tolist():
            lanes[sample[frame]].append(frame)
        for frames in lanes.values():
            for sequence in _sequences(frames, step, trial, boundary):
                whole = len(sequence) // window * window
                counts += [bits[sequence[at : at + window]].sum(axis=0) for at in range(0, whole, window)]
    return np.array(counts, np.int64).reshape(-1, layer.neurons)


def recordings_of(layer: analysis.Layer) -> np.ndarray:
    """For each frame the recording that it is of."""
    spikes = layer.spikes
    return spikes["recording"].values if "recording" in spikes.coords else np.full(len(spikes), "")


def _sequences(
    frames: list[int], step: list[int], trial: list[int], boundary: int | str | None
) -> list[list[int]]:
    found: list[list[int]] = []
    before = None
    for frame in frames:
        outside = trial[frame] < 0
        if outside and boundary is None:
            before = None
            continue
        goes_on = before is not None and step[frame] == step[before] + 1 and trial[frame] == trial[before]
        if outside and isinstance(boundary, int) and step[frame] % boundary == 0:
            goes_on = False
        if goes_on:
            found[-1].append(frame)
        else:
            found.append([frame])
        before = frame
    return found
