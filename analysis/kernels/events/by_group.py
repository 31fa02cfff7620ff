"""Events of packed trains, counted in groups of frames; the choice between compiled and plain loops."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import numpy as np

from analysis.kernels.events import plain_loops
from analysis.kernels.selecting.pieces import Pieces
from recorder.format.bits import Counts, Integers, Packed


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

    Raises
    ------
    IndexError
        If a frame is in a group that there is none of.
    """
    pieces.check(trains.shape[1] * 8, len(counts))
    if counts.shape[1] != len(trains):
        raise IndexError(f"there are trains of {len(trains)} neurons, and counts of {counts.shape[1]}")
    loops().count_groups(np.ascontiguousarray(trains), pieces.walk(), counts)


def frames_by_group(pieces: Pieces, groups: int) -> Integers:
    """Number of frames in each group, int64 [groups]."""
    pieces.check(int(pieces.end[-1]) if len(pieces) else 0, groups)
    labels = labels_of(pieces)
    return np.bincount(labels[labels >= 0], minlength=groups)


def labels_of(pieces: Pieces) -> Integers:
    """Group of each frame of the chunk up to the last piece, -1 for none."""
    labels = np.full(int(pieces.end[-1]) if len(pieces) else 0, -1, np.int64)
    loops().label_frames(pieces.walk(), labels)
    return labels
