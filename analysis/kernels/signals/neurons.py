"""Which neurons of a signal are looked at, and their places within the layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from analysis.kernels.counting.tallying import Place
from analysis.kernels.selecting.source import Source, selected_neurons
from recorder.format.bits import Integers
from recorder.format.layout import neuron_dimensions
from recorder.format.record.parts import is_flat, kept_indices
from recorder.format.record.signals import SignalCommit


@dataclass(frozen=True, eq=False)
class SignalNeurons:
    """The neurons of a signal that are stored and selected.

    Attributes
    ----------
    stored : int64 array
        Their places among those that are stored, ascending.
    flat : int64 array
        Their places in a frame of the layer, in C order.
    shape : tuple of int
        Lengths along the axes that results have: those of the layer, or a single one.
    dimensions : tuple of str
    coordinates : tuple of int64 array
        Real indices along each of these axes.
    channels : int64 array
        Channel of each neuron; empty where the layer has none.
    """

    stored: Integers
    flat: Integers
    shape: tuple[int, ...]
    dimensions: tuple[str, ...]
    coordinates: tuple[Integers, ...]
    channels: Integers

    def codes(self, place: Place) -> tuple[Integers, dict[str, Any]]:
        """Place of each neuron, ascending from 0, and the axes of places with their coordinates."""
        if place == "all":
            return np.zeros(len(self.flat), np.int64), {}
        if place == "channel":
            channels, codes = np.unique(self.channels, return_inverse=True)
            return codes.astype(np.int64), {"channel": channels}
        return np.arange(len(self.flat), dtype=np.int64), dict(
            zip(self.dimensions, self.coordinates, strict=True)
        )


def commit_of(source: Source) -> SignalCommit:
    """What the commit promises about the signal that a source stands for."""
    return next(signal for signal in source.commit.signals if signal.name == source.signal)


@lru_cache(maxsize=64)
def neurons_of(source: Source) -> SignalNeurons:
    """The neurons of the signal that a source stands for; kept in this process.

    Neurons can only be selected of a signal whose frames have the shape of the layer's.
    """
    signal = commit_of(source)
    shape = signal.shape
    flat = kept_indices(shape, signal.neurons)
    stored = np.arange(len(flat), dtype=np.int64)
    chosen = selected_neurons(source)
    if chosen is not None:
        stored = np.flatnonzero(np.isin(flat, chosen))
        flat = flat[stored]
    dimensions = neuron_dimensions(shape)
    channels = flat // math.prod(shape[1:]) if "channel" in dimensions else flat[:0]
    if is_flat(signal.neurons):
        return SignalNeurons(stored, flat, (len(flat),), ("neuron",), (flat,), channels)
    at = np.unravel_index(flat, shape) if shape else ()
    along = tuple(np.unique(axis).astype(np.int64) for axis in at)
    return SignalNeurons(stored, flat, tuple(map(len, along)), dimensions, along, channels)
