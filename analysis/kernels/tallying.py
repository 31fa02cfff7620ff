"""Adds up what is found in trains and rows of counts, group after group: spikes, or neurons that fired."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.intervals import (
    count_between,
    count_per_neuron_between,
    count_per_neuron_in,
    interval_mask,
)
from recorder.format.bits import Counts, Integers, Packed

Place = Literal["all", "channel", "neuron"]
Quantity = Literal["spikes", "fired"]

# Counts of each neuron in each interval are made for so many elements at a time.
SLAB_ELEMENTS = 2**22
# Bytes of masks that may be laid over a train instead of one interval cut out of it.
_WORTH_MASKING = 32


def places_of(neuron_shape: tuple[int, ...], place: Place) -> tuple[int, ...]:
    """Shape of what is told apart: ``()``, the channels, or the neuron shape."""
    return {"all": (), "channel": neuron_shape[:1], "neuron": neuron_shape}[place]


class Tally(Protocol):
    """Adds up what is found, group after group: the groups given never go down."""

    def add_trains(self, trains: Packed, begin: Integers, end: Integers, group: Integers) -> None:
        """Add intervals of frames of packed trains."""

    def add_rows(self, rows: NDArray[np.uint32], group: Integers) -> None:
        """Add spikes of each neuron, shape [rows, neurons]."""

    def result(self) -> Counts:
        """What was found, int64 [groups, places]."""


def tally_for(neuron_shape: tuple[int, ...], groups: int, place: Place, quantity: Quantity) -> Tally:
    """What adds up this quantity in so many groups."""
    if quantity == "fired":
        return _FiredTally(neuron_shape, groups, place)
    return _SpikeTally(groups) if place == "all" else _PlaceTally(neuron_shape, groups, place)


class _SpikeTally:
    """Spikes of all neurons together."""

    def __init__(self, groups: int) -> None:
        self._spikes = np.zeros(groups, np.int64)

    def add_trains(self, trains: Packed, begin: Integers, end: Integers, group: Integers) -> None:
        np.add.at(self._spikes, group, count_between(trains, begin, end))

    def add_rows(self, rows: NDArray[np.uint32], group: Integers) -> None:
        np.add.at(self._spikes, group, rows.sum(axis=1, dtype=np.int64))

    def result(self) -> Counts:
        return self._spikes[:, None]


class _NeuronTally:
    """What needs the spikes of each neuron: brings them together group by group."""

    def add_trains(self, trains: Packed, begin: Integers, end: Integers, group: Integers) -> None:
        starts = _starts(group)
        if len(starts) * trains.shape[1] < _WORTH_MASKING * len(begin):
            masks = [
                interval_mask(trains.shape[1] * 8, begin[first:last], end[first:last])
                for first, last in pairwise([*starts.tolist(), len(begin)])
            ]
            self._add(count_per_neuron_in(trains, np.stack(masks)), group[starts])
            return
        width = max(SLAB_ELEMENTS // len(trains), 1)
        for slab in range(0, len(begin), width):
            inside = slice(slab, slab + width)
            spikes = count_per_neuron_between(trains, begin[inside], end[inside])
            starts = _starts(group[inside])
            if len(starts) < spikes.shape[1]:
                spikes = np.add.reduceat(spikes, starts, axis=1)
            self._add(spikes.T, group[inside][starts])

    def add_rows(self, rows: NDArray[np.uint32], group: Integers) -> None:
        starts = _starts(group)
        self._add(np.add.reduceat(rows, starts, axis=0, dtype=np.int64), group[starts])

    def _add(self, spikes: NDArray[np.integer], group: Integers) -> None:
        """Add spikes, shape [groups, neurons], of groups that ascend."""
        raise NotImplementedError


class _PlaceTally(_NeuronTally):
    """Spikes of each neuron or each channel."""

    def __init__(self, neuron_shape: tuple[int, ...], groups: int, place: Place) -> None:
        self._spikes = np.zeros((groups, math.prod(places_of(neuron_shape, place))), np.int64)

    def _add(self, spikes: NDArray[np.integer], group: Integers) -> None:
        self._spikes[group] += sum_places(spikes, self._spikes.shape[1])

    def result(self) -> Counts:
        return self._spikes


class _FiredTally(_NeuronTally):
    """Neurons that fired. Which ones is remembered for the group at hand only."""

    def __init__(self, neuron_shape: tuple[int, ...], groups: int, place: Place) -> None:
        self._fired = np.zeros((groups, math.prod(places_of(neuron_shape, place))), np.int64)
        self._group = 0
        self._fired_in_group = np.zeros(math.prod(neuron_shape), np.bool_)

    def _add(self, spikes: NDArray[np.integer], group: Integers) -> None:
        fired = spikes > 0
        if group[0] == self._group:
            fired[0] |= self._fired_in_group
        else:
            self._finish_group()
        self._fired[group[:-1]] = sum_places(fired[:-1], self._fired.shape[1])
        self._group, self._fired_in_group = int(group[-1]), fired[-1].copy()

    def _finish_group(self) -> None:
        if len(self._fired):
            self._fired[self._group] = sum_places(self._fired_in_group[None], self._fired.shape[1])

    def result(self) -> Counts:
        self._finish_group()
        return self._fired


def _starts(group: Integers) -> NDArray[np.intp]:
    """Where another group begins."""
    return np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))


def sum_places(values: NDArray[np.integer] | NDArray[np.bool_], places: int) -> Counts:
    """Values of each neuron, shape [groups, neurons], summed up to places, int64 [groups, places]."""
    if values.shape[1] == places:
        return values.astype(np.int64)
    per_place = values.reshape(len(values), places, values.shape[1] // places)
    summed: Counts = per_place.sum(axis=2, dtype=np.int64)
    return summed
