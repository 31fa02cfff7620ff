"""Adds up what is found in trains and rows of counts, group after group: any quantity of each neuron."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.counting.quantities import Quantity
from analysis.kernels.counting.ranges import (
    count_between,
    count_per_neuron_between,
    count_per_neuron_in,
    interval_mask,
)
from recorder.format.bits import Counts, Integers, Packed

Place = Literal["all", "channel", "neuron"]

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
        """Sums that were found, int64 [groups, places]."""


def tally_for(neuron_shape: tuple[int, ...], place: Place, quantity: Quantity, frames: Integers) -> Tally:
    """Tally that adds up a quantity in groups of so many frames, which may be zeros if not needed."""
    if quantity.keeps_neurons:
        return _WholeTally(neuron_shape, place, quantity, frames)
    return _SpikeTally(len(frames)) if place == "all" else _PlaceTally(neuron_shape, len(frames), place)


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
    """A tally that needs the spikes of each neuron, and brings them together group by group."""

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


class _WholeTally(_NeuronTally):
    """A tally that needs all spikes of a neuron in a group; it keeps them for the group at hand only."""

    def __init__(
        self, neuron_shape: tuple[int, ...], place: Place, quantity: Quantity, frames: Integers
    ) -> None:
        self._made = np.zeros((len(frames), math.prod(places_of(neuron_shape, place))), np.int64)
        self._quantity, self._frames = quantity, frames
        self._group = 0
        self._spikes = np.zeros((1, math.prod(neuron_shape)), np.int64)

    def _add(self, spikes: NDArray[np.integer], group: Integers) -> None:
        if group[0] == self._group:
            self._spikes += spikes[0]
        else:
            self._finish(slice(self._group, self._group + 1), self._spikes)
            self._spikes[0] = spikes[0]
        if len(group) > 1:
            self._finish(group[:1], self._spikes)
            self._finish(group[1:-1], spikes[1:-1])
            self._spikes[0] = spikes[-1]
        self._group = int(group[-1])

    def _finish(self, groups: slice | Integers, spikes: NDArray[np.integer]) -> None:
        made = self._quantity.of(spikes, self._frames[groups])
        self._made[groups] = sum_places(made, self._made.shape[1])

    def result(self) -> Counts:
        if len(self._made):
            self._finish(slice(self._group, self._group + 1), self._spikes)
        return self._made


def _starts(group: Integers) -> NDArray[np.intp]:
    """Indices at which another group begins."""
    return np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))


def sum_places(values: NDArray[np.integer] | NDArray[np.bool_], places: int) -> Counts:
    """Values of each neuron, shape [groups, neurons], summed up to places, int64 [groups, places].

    Where there is nothing to sum up, it may be the same array.
    """
    if values.shape[1] == places:
        return values.astype(np.int64, copy=False)
    per_place = values.reshape(len(values), places, values.shape[1] // places)
    summed: Counts = per_place.sum(axis=2, dtype=np.int64)
    return summed
