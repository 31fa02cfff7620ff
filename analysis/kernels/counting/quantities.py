"""Quantities that are made of the spikes of each neuron in a group of frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from recorder.format.bits import Integers


@dataclass(frozen=True)
class Quantity(ABC):
    """A number made of the spikes of one neuron in one group of frames, before neurons are added up.

    Everything that is asked begins with spikes, and spikes can be added up in any order: over frames, chunks,
    tasks, recordings and neurons. A quantity is what becomes of the sum of one neuron. Where that is a yes or
    a no, all spikes of the neuron in the group must have been added up before, and so neurons are told apart
    until then, across tasks and across recordings: ``keeps_neurons``.

    A quantity travels with tasks, and its name and fields enter the names of arrays. So two of them are equal
    if they make the same of the same spikes. Values are whole numbers or booleans, never
    fractions; of a neuron without spikes zero or False.

    Attributes
    ----------
    name : str
        What Dask's arrays are called by.
    keeps_neurons : bool
        Whether all spikes of a neuron in a group are needed at once.
    needs_frames : bool
        Whether the number of frames in the group is needed; it is given in any case, but zero.
    """

    name: ClassVar[str]
    keeps_neurons: ClassVar[bool]
    needs_frames: ClassVar[bool] = False

    @abstractmethod
    def of(self, spikes: NDArray[Any], frames: Integers) -> NDArray[Any]:
        """Quantity of spike counts, shape [groups, neurons], in groups of so many frames, shape [groups]."""


@dataclass(frozen=True)
class Spikes(Quantity):
    """The spikes themselves."""

    name = "spikes"
    keeps_neurons = False

    def of(self, spikes: NDArray[Any], frames: Integers) -> NDArray[Any]:  # noqa: ARG002
        """The spikes, as they are."""
        return spikes


@dataclass(frozen=True)
class Fired(Quantity):
    """1 if the neuron fired at least once, else 0."""

    name = "fired"
    keeps_neurons = True

    def of(self, spikes: NDArray[Any], frames: Integers) -> NDArray[np.bool_]:  # noqa: ARG002
        """True where there are spikes."""
        return spikes > 0


@dataclass(frozen=True)
class FiredInShare(Quantity):
    """1 if the neuron fired, and in at least a share of the frames of the group; else 0.

    Attributes
    ----------
    share : fractions.Fraction
        Above 0, at most 1, its denominator at most `LARGEST_DENOMINATOR`.
    """

    share: Fraction

    name = "fired-in-share"
    keeps_neurons = True
    needs_frames = True

    def of(self, spikes: NDArray[Any], frames: Integers) -> NDArray[np.bool_]:
        """True where spikes ≥ ⌈share × frames⌉, in integers, and there is a spike."""
        part, whole = self.share.numerator, self.share.denominator
        # part × frames might not fit 64 bits; part × what is left of frames does.
        times, left = np.divmod(frames, whole)
        enough = times * part - (-left * part) // whole
        reached: NDArray[np.bool_] = spikes >= np.maximum(enough, 1)[:, None]
        return reached


SPIKES, FIRED = Spikes(), Fired()
# The product of two such numbers fits 64 bits, and no two fractions of them have the same float.
LARGEST_DENOMINATOR: Final = 2**26
