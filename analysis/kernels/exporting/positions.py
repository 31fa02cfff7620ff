"""Events of a layer as positions on a line of time on which presentations follow each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from analysis.kernels.exporting.event_rows import event_rows
from analysis.kernels.selecting.source import Source
from recorder.format.bits import Integers


@dataclass(frozen=True, eq=False)
class Offsets:
    """From steps to positions, for some segments of the selected frames of a layer.

    An event of sample ``s`` at step ``t`` in segment ``i`` is at ``offset[slot_at[i - first] + s] + t``.

    Attributes
    ----------
    first : int
        Index of the first of the segments.
    slot_at : int64 array, shape [segments]
    offset : int64 array, shape [samples of all of them]
    """

    first: int
    slot_at: Integers
    offset: Integers


class Positions(NamedTuple):
    """Events; int64 arrays, shape [events]. ``neuron`` is an index in the whole layer."""

    neuron: Integers
    position: Integers


def find_positions(source: Source, first: int, last: int, neurons: slice, offsets: Offsets) -> Positions:
    """Positions of the events of some of the selected neurons in frames ``first`` to ``last`` (exclusive).

    Raises
    ------
    RecordingFormatError
        If a chunk is missing or damaged; it names file, layer and frames.
    """
    found = [
        (
            rows.neuron,
            rows.step + offsets.offset[offsets.slot_at[rows.segment - offsets.first] + rows.sample],
        )
        for rows in event_rows(source, first, last, neurons)
    ]
    return Positions(*np.concatenate([np.empty((2, 0), np.int64), *map(np.stack, found)], axis=1))
