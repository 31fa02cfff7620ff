"""From where spikes lie in a tensor, and what its places cost, to the fan-out of each neuron."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from recorder.connections.axes import Axes, Run
from recorder.connections.geometry import Uses

_STEPS, _SAMPLES = 0, 1


def fan_out_of(axes: Axes, operations: Uses, shape: Sequence[int]) -> Uses | None:
    """Operations that one event of each neuron causes.

    Parameters
    ----------
    axes : Axes
        Of the tensor that a weight layer is given.
    operations : int64 array
        Along the last axes of that tensor, see `recorder.connections.geometry.Weights`.
    shape : sequence of int
        Of the spikes, ``[T, N, *neuron]``.

    Returns
    -------
    int64 array, shape [*neuron], or None
        None where a neuron does not cause as many in every frame: some steps or samples are not read, or
        which operations a place causes depends on the step or the sample.
    """
    if not all(_covers(axes, axis, shape[axis]) for axis in (_STEPS, _SAMPLES)):
        return None
    neuron_shape = tuple(shape[2:])
    strides = [math.prod(neuron_shape[axis + 1 :]) for axis in range(len(neuron_shape))]
    before = len(axes.runs) - operations.ndim
    # Each run that moves over neurons, or over places that differ: its size, and its steps over both.
    sizes: list[int] = []
    neuron_steps: list[int] = []
    place_steps: list[tuple[int, int]] = []
    times = 1
    for number, runs in enumerate(axes.runs):
        kept = number - before if number >= before and operations.shape[number - before] > 1 else -1
        step = 1
        for run in runs:
            if run.axis in (_STEPS, _SAMPLES):
                if kept >= 0:
                    return None
            elif run.axis < 0 and kept < 0:
                times *= run.size
            else:
                sizes.append(run.size)
                neuron_steps.append(run.places * strides[run.axis - 2] if run.axis >= 0 else 0)
                place_steps.append((kept, step))
            step *= run.size
    first = sum(place * stride for place, stride in zip(axes.first[2:], strides, strict=True))
    neurons = np.full(sizes, first, np.int64)
    places = [np.zeros(sizes, np.intp) for _ in range(operations.ndim)]
    for number, size in enumerate(sizes):
        along = np.arange(size).reshape([-1 if other == number else 1 for other in range(len(sizes))])
        neurons += along * neuron_steps[number]
        kept, step = place_steps[number]
        if kept >= 0:
            places[kept] += along * step
    fan_out = np.zeros(math.prod(neuron_shape), np.int64)
    np.add.at(fan_out, neurons.ravel(), operations[tuple(places)].ravel() * times)
    return fan_out.reshape(neuron_shape)


def _covers(axes: Axes, axis: int, length: int) -> bool:
    """True if a tensor has every place along an axis of the spikes, and each of them as often."""
    runs = sorted((run for each in axes.runs for run in each if run.axis == axis), key=_places)
    reached = 1
    for run in runs:
        if run.places != reached:
            return False
        reached *= run.size
    return reached == length and axes.first[axis] == 0


def _places(run: Run) -> int:
    return run.places
