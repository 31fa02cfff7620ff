"""Neurons by their rate, and frames by the number of neurons that were active in them, in groups of frames.

Two kinds of sums are made, and added up over tasks and recordings before anything is made of them: all that
can be asked of a group needs all its frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

import numpy as np

from analysis.formulas.integers import Floats
from analysis.formulas.population import synchrony
from analysis.kernels.counting.quantities import LARGEST_DENOMINATOR, SPIKES
from analysis.kernels.counting.tasks import chunks_with_frames, count_frames, count_spikes, slices_of
from analysis.kernels.events.by_group import labels_of
from analysis.kernels.selecting.coding import CodedGroups, coded_groups
from analysis.kernels.selecting.grouping import Groups
from analysis.kernels.selecting.source import Source, frames_of, read_trains, reader_of
from recorder.format.bits import Counts, Integers, count_per_frame

Summed = Literal["spikes", "active"]

# Bins at most; each is compared with every neuron.
MAX_BINS: Final = 10_000


def sum_population(
    source: Source, groups: Groups | CodedGroups, first: int, last: int, summed: Summed
) -> Counts:
    """Sums over frames ``first`` to ``last`` (exclusive) of a source, in groups.

    Parameters
    ----------
    source : Source
    groups : Groups or CodedGroups
    first, last : int
    summed : {"spikes", "active"}
        Number of frames and spikes of each neuron, or number of frames in which 0, 1, … neurons were active.

    Returns
    -------
    int64 array, shape [groups, neurons + 1]

    Raises
    ------
    RecordingFormatError
        If a chunk that is needed is missing or damaged; it names file, layer and frames.
    """
    if summed == "spikes":
        spikes = count_spikes(source, groups, first, last, "neuron", SPIKES)
        in_groups = count_frames(source, groups, first, last).reshape(-1, 1)
        return np.concatenate([in_groups, spikes.reshape(len(in_groups), -1)], axis=1)
    coded = coded_groups(groups)
    found = np.zeros((len(coded), source.neurons + 1), np.int64)
    reader = reader_of(source)
    chunks = chunks_with_frames(reader, frames_of(source), first, last)
    for chunk, trains in zip(chunks, read_trains(source, chunks), strict=True):
        for frame, asked_first, asked_last, some in slices_of(reader, chunk, trains, first, last):
            labels = labels_of(coded.pieces(source, asked_first, asked_last, frame))
            frames = np.flatnonzero(labels >= 0)
            active = count_per_frame(some)[frames]
            np.add.at(found.reshape(-1), labels[frames] * found.shape[1] + active, 1)
    return found


def in_shape(sums: Counts, groups: tuple[int, ...]) -> Counts:
    """Sums in the shape of the groups, int64 [*groups, columns]."""
    return sums.reshape(*groups, sums.shape[-1])


def synchrony_of(active: Counts, spikes: Counts) -> Floats:
    """Synchrony of each group, see `analysis.formulas.population.synchrony`.

    Parameters
    ----------
    active, spikes : int64 array, shape [..., neurons + 1]
        Sums of both kinds, see `sum_population`.
    """
    number = np.arange(active.shape[-1])
    return synchrony(spikes[..., 0], active @ number, active @ number**2, spikes[..., 1:])


def padded(active: Counts, columns: int) -> Counts:
    """Numbers of frames with 0, 1, … active neurons, and 0 behind them: int64 [..., columns]."""
    behind = columns - active.shape[-1]
    return np.pad(active, [*[(0, 0)] * (active.ndim - 1), (0, behind)])


@dataclass(frozen=True)
class RateBins:
    """Bins of rates: each from an edge to below the next, the last one to its edge.

    Attributes
    ----------
    edges : tuple of fractions.Fraction
        Ascending, from 0 to 1, their denominators at most `LARGEST_DENOMINATOR`.
    """

    edges: tuple[Fraction, ...]

    def count(self, sums: Counts) -> Counts:
        """Number of neurons in each bin.

        Parameters
        ----------
        sums : int64 array, shape [..., neurons + 1]
            Frames, and spikes of each neuron.

        Returns
        -------
        int64 array, shape [..., bins]
            Zeros where there are no frames.
        """
        frames, spikes = sums[..., 0], sums[..., 1:]
        above = np.empty((*frames.shape, len(self.edges)), np.int64)
        for place, edge in enumerate(self.edges):
            enough, rest = spikes_of_rate(edge, frames)
            enough += (rest > 0) if place < len(self.edges) - 1 else 1
            above[..., place] = (spikes >= enough[..., None]).sum(axis=-1)
        counted: Counts = above[..., :-1] - above[..., 1:]
        return np.where(frames[..., None] > 0, counted, 0)


def spikes_of_rate(rate: Fraction, frames: Integers) -> tuple[Integers, Integers]:
    """Largest number of spikes in so many frames that does not exceed a rate; and 0 where it reaches it.

    ``rate × frames`` might not fit 64 bits; ``rate ×`` what is left of frames does.
    """
    whole, left = np.divmod(frames, rate.denominator)
    spikes, rest = np.divmod(left * rate.numerator, rate.denominator)
    return whole * rate.numerator + spikes, rest


def fraction_of(edge: Fraction | float) -> Fraction:
    """The fraction that an edge stands for: the nearest one whose denominator is small enough."""
    return Fraction(edge).limit_denominator(LARGEST_DENOMINATOR)
