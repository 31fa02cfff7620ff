"""Loops over packed trains where numba is: word by word where that is less work, else event by event.

`analysis.kernels.events.plain_loops` has the same functions, and says what they do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.events import event_loops, latency_loops, word_loops
from analysis.kernels.events.by_words import Choice
from analysis.kernels.events.plain_loops import CV2
from analysis.kernels.selecting.pieces import Walk
from recorder.format.bits import Counts, Integers, Packed

# Counts of each neuron and group of a chunk are made for so many elements at a time.
SLAB_ELEMENTS = 2**20

label_frames = event_loops.label_frames
list_in_runs = event_loops.list_in_runs


def count_groups(trains: Packed, walk: Walk, counts: Counts) -> None:
    """See `plain_loops.count_groups`."""
    pieces, groups, rest = _choice(trains, walk).for_counts()
    if len(pieces.begin):
        word_loops.count_words(trains, pieces, groups, counts)
    labels = np.full(int(rest.end[-1]) if len(rest.end) else 0, -1, np.int64)
    label_frames(rest, labels)
    if not (labels >= 0).any():
        return
    # Only what lies between the lowest and the highest group of the chunk is kept apart.
    lowest, behind = int(labels[labels >= 0].min()), int(labels.max()) + 1
    labels[labels >= 0] -= lowest
    neurons = max(SLAB_ELEMENTS // (behind - lowest), 1)
    for first in range(0, len(trains), neurons):
        some = trains[first : first + neurons]
        found = np.zeros((len(some), behind - lowest), np.int64)
        event_loops.count_labelled(some, labels, found)
        counts[lowest:behind, first : first + neurons] += found.T


def tally_intervals(
    trains: Packed,
    walk: Walk,
    place_of_neuron: Integers,
    state: Callable[[], tuple[Integers, Integers, Integers, Integers]],
    kind: int,
    sums: Counts,
) -> None:
    """See `plain_loops.tally_intervals`; what is kept of sequences that end in these pieces may be older."""
    rest = walk
    if kind < CV2:
        pieces, rest = _choice(trains, walk).for_intervals()
        if len(pieces.begin):
            word_loops.tally_interval_words(trains, pieces, place_of_neuron, kind, sums)
    if len(rest.begin):
        event_loops.tally_intervals(trains, rest, place_of_neuron, *state(), kind, sums)


def tally_latencies(
    trains: Packed,
    walk: Walk,
    place_of_neuron: Integers,
    state: Callable[[], tuple[Integers, Integers, Integers]],
    groups: Integers,
    moments: Counts,
    histogram: Counts,
) -> None:
    """See `plain_loops.tally_latencies`; what is kept of sequences that end in these pieces may be older."""
    pieces, rest = _choice(trains, walk).for_latencies(groups)
    if len(pieces.begin):
        latency_loops.tally_latency_words(trains, pieces, place_of_neuron, moments, histogram)
    if len(rest.begin):
        sums = (moments, histogram)
        event_loops.tally_latencies(trains, rest, place_of_neuron, *state(), groups, *sums)


def tally_lags(
    trains: Packed,
    walk: Walk,
    place_of_neuron: Integers,
    state: Callable[[], tuple[Integers, NDArray[np.uint64]]],
    groups: Integers,
    lags: int,
    pairs: Counts,
    since: Counts,
    until: Counts,
) -> None:
    """See `plain_loops.tally_lags`; what is kept of sequences that end in these pieces may be older."""
    # The last group stands for none, and nobody asks what was added up there.
    counted = np.where(groups == len(pairs) - 1, -1, groups)
    pieces, rest = _choice(trains, walk).for_lags(counted, lags)
    if len(pieces.begin):
        word_loops.tally_lag_words(trains, pieces, place_of_neuron, lags, pairs, since, until)
    if len(rest.begin):
        sums = (pairs, since, until)
        event_loops.tally_lags(trains, rest, place_of_neuron, *state(), groups, lags, *sums)


def _choice(trains: Packed, walk: Walk) -> Any:
    return Choice(trains, walk, word_loops.list_groups)
