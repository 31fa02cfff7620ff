"""The sequences of a task's samples: which began before the task, and which go on behind it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.selecting.pieces import NEVER, LaneRuns, Pieces, Walk
from recorder.format.bits import Integers, Packed

# A sample of which the task has no frame, where `NEVER` says that none of its sequences began before.
UNSEEN: Final = -2


class Lanes:
    """What a task has seen of each sample; all neurons have the same sequences.

    Parameters
    ----------
    samples : int
        The largest batch.
    place_of_neuron : int64 array, shape [neurons]
    places : int

    Attributes
    ----------
    opening : int64 array, shape [samples]
        Start of the sample's first sequence if that began before the task, else `NEVER`; or `UNSEEN`.
    present : int64 array, shape [samples]
        Start of the sample's latest sequence, or `NEVER`.
    """

    def __init__(self, samples: int, place_of_neuron: Integers, places: int) -> None:
        if len(place_of_neuron) and not 0 <= place_of_neuron.min() <= place_of_neuron.max() < places:
            raise IndexError(f"places of neurons must be 0 to {places - 1}")
        self.opening = np.full(samples, UNSEEN, np.int64)
        self.present = np.full(samples, NEVER, np.int64)
        self._steps_left = np.zeros(samples, np.int64)

    def see(self, pieces: Pieces, trains: Packed, neurons: int, groups: int) -> tuple[LaneRuns, Walk]:
        """Take notice of pieces that follow those before, in trains of so many neurons and so many groups.

        Raises
        ------
        IndexError
            If a loop would write where nothing is.
        """
        pieces.check(trains.shape[1] * 8, groups)
        if len(trains) != neurons:
            raise IndexError(f"there are trains of {len(trains)} neurons, and places of {neurons}")
        runs = pieces.lanes()
        if len(pieces) and pieces.batch.max() > len(self.opening):
            raise ValueError(
                f"a piece has {pieces.batch.max()} samples, but there is room for {len(self.opening)};"
                " give the largest batch of the layer as the number of samples"
            )
        new = np.flatnonzero(self.opening[runs.sample] == UNSEEN)
        if len(new):
            samples, first = np.unique(runs.sample[new], return_index=True)
            start = runs.start[new[first]]
            self.opening[samples] = np.where(start < runs.first[new[first]], start, NEVER)
        # Of several runs of a sample the last one counts.
        self.present[runs.sample] = runs.start
        self._steps_left[runs.sample] = runs.end - 1 - runs.last
        is_open: NDArray[np.bool_] = np.zeros(len(pieces), np.bool_)
        is_open[runs.piece[runs.start == self.opening[runs.sample]]] = True
        return runs, pieces.walk(is_open)

    def reach_out(self) -> bool:
        """Whether any sequence began before the task or goes on behind it."""
        return bool((self.opening >= 0).any() or (self._steps_left > 0).any())
