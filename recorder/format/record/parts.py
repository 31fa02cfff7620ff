"""Parts of layers and signals: which neurons, samples and trials are kept of what a module puts out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# The commit record is written with each commit, and lists them.
MAX_FLAT_NEURONS: Final = 2**16

# Neurons that are kept: places along each axis, or flat indices in C order; None for all.
Kept = tuple[range, ...] | tuple[int, ...] | None
Indices = tuple[int, ...] | range

COUNTS: Final = "counts"


@dataclass(frozen=True)
class LayerPart:
    """The part that a recording has of a layer.

    Attributes
    ----------
    shape : tuple of int
        Neuron shape of the whole layer, whose indices are the coordinates of the neurons that are kept.
    neurons : tuple of range, tuple of int, or None
        Which neurons there are: places along each axis of ``shape``, or flat indices in C order.
    samples : int or None
        How many samples of a batch there are at most, the first ones; None for all.
    trials_every : int
        Trials whose number is a multiple of this are there, as a whole; none of the others. What was recorded
        outside of trials is there.
    counts_only : bool
        Whether there are the spikes of each neuron in each sample of each segment, in place of bits.
    """

    shape: tuple[int, ...]
    neurons: Kept = None
    samples: int | None = None
    trials_every: int = 1
    counts_only: bool = False

    @property
    def is_whole(self) -> bool:
        """True if nothing is left out."""
        return self == LayerPart(self.shape)

    @property
    def kept_neurons(self) -> int:
        """Number of neurons that are kept."""
        return math.prod(self.kept_shape)

    @property
    def kept_shape(self) -> tuple[int, ...]:
        """Shape of what is stored of a frame."""
        return kept_shape(self.shape, self.neurons)

    def __str__(self) -> str:
        parts = []
        if self.neurons is not None:
            parts.append(f"{self.kept_neurons} of {math.prod(self.shape)} neurons")
        if self.samples is not None:
            several = f"s 0 to {self.samples - 1}" if self.samples > 1 else " 0"
            parts.append(f"sample{several} of each batch")
        if self.trials_every > 1:
            parts.append(f"one of {self.trials_every} trials")
        return ", ".join([*parts, *["counts only"] * self.counts_only])


def is_flat(neurons: Kept) -> bool:
    """True if neurons are given by flat indices."""
    return neurons is not None and not any(isinstance(each, range) for each in neurons)


def kept_shape(shape: tuple[int, ...], neurons: Kept) -> tuple[int, ...]:
    """Shape of the stored values of a frame, of which some neurons are kept."""
    if neurons is None:
        return shape
    if is_flat(neurons):
        return (len(neurons),)
    return tuple(len(each) for each in neurons if isinstance(each, range))


def kept_indices(shape: tuple[int, ...], neurons: Kept) -> NDArray[np.int64]:
    """Flat indices, in C order, of the neurons that are kept, in the order in which they are stored."""
    if is_flat(neurons):
        return np.array(neurons, np.int64)
    flat = np.zeros((), np.int64)
    # Axis by axis: a stranger's layer may be far larger than what is kept of it.
    for axis, length in enumerate(shape):
        chosen = neurons[axis] if neurons else range(length)
        flat = (flat[..., None] * length + np.array(chosen, np.int64)).astype(np.int64)
    return flat.reshape(-1)


def indices_along(neurons: Kept) -> tuple[Indices, ...] | None:
    """Indices along each axis of what is stored, of some neurons; flat ones lie along one axis."""
    if neurons is None:
        return None
    if is_flat(neurons):
        return (tuple(each for each in neurons if not isinstance(each, range)),)
    return tuple(each for each in neurons if isinstance(each, range))


def neurons_to_json(neurons: Kept) -> Mapping[str, Any]:
    """The entry that says which neurons are kept; nothing where all are."""
    if neurons is None:
        return {}
    return {
        "neurons": [
            [each.start, each.stop, each.step] if isinstance(each, range) else each for each in neurons
        ]
    }


def part_to_json(part: LayerPart | None) -> Mapping[str, Any]:
    """What the commit record says of the part that is kept of a layer; nothing where it is the whole."""
    if part is None:
        return {}
    return {
        **neurons_to_json(part.neurons),
        **({"samples": part.samples} if part.samples is not None else {}),
        **({"trials_every": part.trials_every} if part.trials_every > 1 else {}),
        **({"keep": COUNTS} if part.counts_only else {}),
    }
