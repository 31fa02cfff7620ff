"""Events of packed trains, counted in groups of frames; the choice between compiled and plain loops."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Final

import numpy as np

from analysis.kernels.events import plain_loops
from analysis.kernels.selecting.pieces import Pieces
from recorder.format.bits import Counts, Integers, Packed

# Counts of each neuron and group of a chunk are made for so many elements at a time.
SLAB_ELEMENTS: Final = 2**20


@lru_cache(maxsize=1)
def has_numba() -> bool:
    """Whether numba is installed, so that loops over events are compiled."""
    return find_spec("numba") is not None


def loops() -> ModuleType:
    """The loops in use: those of `analysis.kernels.events.loops`, or without numba of ``plain_loops``.

    They are imported when they are first needed, as numba takes a second and 100 MB of memory.
    """
    if _LOOPS is not None:
        return _LOOPS
    return import_module("analysis.kernels.events.loops") if has_numba() else plain_loops


# Tests put one of the two here.
_LOOPS: ModuleType | None = None


def count_by_group(trains: Packed, pieces: Pieces, counts: Counts) -> None:
    """Add the events of each neuron in each group to ``counts``, int64 [groups, neurons].

    Parameters
    ----------
    trains : uint8 array, shape [neurons, bytes]
        ``bytes`` a multiple of 8, rows contiguous.
    """
    labels = labels_of(pieces)
    if not (labels >= 0).any():
        return
    # Only what lies between the lowest and the highest group of the chunk is kept apart.
    lowest, behind = int(labels[labels >= 0].min()), int(labels.max()) + 1
    labels[labels >= 0] -= lowest
    neurons = max(SLAB_ELEMENTS // (behind - lowest), 1)
    for first in range(0, len(trains), neurons):
        some = np.ascontiguousarray(trains[first : first + neurons])
        found = np.zeros((len(some), behind - lowest), np.int64)
        loops().count_labelled(some, labels, found)
        counts[lowest:behind, first : first + neurons] += found.T


def frames_by_group(pieces: Pieces, groups: int) -> Integers:
    """Number of frames in each group, int64 [groups]."""
    labels = labels_of(pieces)
    return np.bincount(labels[labels >= 0], minlength=groups)


def labels_of(pieces: Pieces) -> Integers:
    """Group of each frame of the chunk up to the last piece, -1 for none."""
    labels = np.full(int(pieces.end[-1]) if len(pieces) else 0, -1, np.int64)
    loops().label_frames(pieces.walk(), labels)
    return labels
