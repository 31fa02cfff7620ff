"""What the loops for values do, where they are there: `LOOPS` has them once it has paid to load them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.native.loading import Loading

_BYTES_AT_ONCE: Final = 2**17
_NEURONS_AT_ONCE: Final = 2048

Packed = NDArray[np.uint8]

# numpy takes 0.5 to 1 s for so many.
LOAD_AFTER_SLOTS: Final = 2**27


class ValueLoops(Loading):
    """The compiled loops for values, where they are there; without them plain numpy does the same.

    Methods return None where it is not for the loops to do: they are not loaded, or not for these data types.
    What numpy does instead is noted, and may begin to load them.
    """

    def __init__(self, load_after_slots: int = LOAD_AFTER_SLOTS) -> None:
        super().__init__(load_after_slots, "values")
        self._loops: Any = None
        # Planes of magnitude that so many neurons have had, for which there is room the next time.
        self._planes: dict[int, int] = {}

    def are_ready(self, slots: int) -> bool:
        """Whether the loops are loaded; if not, numpy has to do the work for so many slots."""
        if self._loops is None:
            self.note_slots(slots, "all", self.load)
        return self._loops is not None

    def take_levels(self, values: NDArray[Any], levels: NDArray[Any]) -> tuple[bool, int, int] | None:
        """Write whole numbers, float32, as levels, int8; whether they are, and the range of the levels."""
        types = values.dtype == np.float32 and levels.dtype == np.int8
        if not (self._is_for(values.size, values, levels) and types):
            return None
        is_same, least, most = self._loops.take_levels(values.reshape(-1), levels.reshape(-1))
        return bool(is_same), int(least), int(most)

    def pack_levels(self, levels: NDArray[Any]) -> tuple[Packed, dict[int, Packed], Packed | None] | None:
        """Pack levels, int8 [8 * rows, neurons], to rows, uint8 [rows, neurons].

        They are those of events, of planes by the bit of |level| - 1, and of the sign; of planes and the sign
        only if they are not silent.
        """
        if not (self._is_for(levels.size, levels) and levels.dtype == np.int8):
            return None
        frames, neurons = levels.shape
        about = np.empty((8, min(_NEURONS_AT_ONCE, neurons)), np.uint8)
        planes, needed = 0, self._planes.get(neurons, 1)
        while needed > planes:
            planes = needed
            rows = np.empty((2 + planes, frames // 8, neurons), np.uint8)
            found = int(self._loops.pack_levels(levels.view(np.uint8), about, rows))
            needed = (found & 127).bit_length()
        self._planes[neurons] = planes
        events, sign, *magnitude = rows
        of_planes = {plane: rows for plane, rows in enumerate(magnitude) if found >> plane & 1}
        return events, of_planes, sign if found >> 7 else None

    def bits_at_events(self, events: Packed, planes: Sequence[Packed]) -> list[Packed] | None:
        """Do what `recorder.format.planes.at_events.bits_at_events` does."""
        if not self.are_ready(8 * events.size * len(planes)):
            return None
        # Only what is filled takes memory.
        out, taken = np.empty((len(planes), events.size // 8 + 2), np.uint64), 0
        for rows in _some_rows(events):
            of_planes = np.stack([plane[rows] for plane in planes])
            taken = self._loops.take_bits(_in_order(events[rows]), of_planes, taken, out)
        filled = out[:, : taken // 64 + 1]
        for each in filled:
            self._loops.in_bytes_of(each)
        return [each.view(np.uint8)[: -(-taken // 8)] for each in filled]

    def rows_at_events(self, events: Packed, bits: Sequence[Packed]) -> Packed:
        """Rows of planes from their bits at events, as many as there are, and rows of these; once ready.

        They are uint8 [planes, rows, neurons].
        """
        rows, place = np.empty((len(bits), *events.shape), np.uint8), 0
        # A word more, as one that begins with the last bit has another one behind it.
        stored = np.zeros((len(bits), max(map(len, bits), default=0) // 8 + 2), np.uint64)
        for given, each in zip(bits, stored, strict=True):
            each.view(np.uint8)[: len(given)] = given
            self._loops.in_bytes_of(each)
        for some in _some_rows(events):
            out = np.empty((len(bits), *events[some].shape), np.uint8)
            place = self._loops.put_bits(_in_order(events[some]), stored, place, out)
            rows[:, some] = out
        return rows

    def load(self) -> None:
        """Load the loops, and wait for that; say so if it is in vain."""
        loops = self.try_to_load("value_loops", _compile)
        self._loops = loops if sys.byteorder == "little" else None

    def _is_for(self, slots: int, *arrays: NDArray[Any]) -> bool:
        # A loop is compiled anew for arrays of another kind, for which nobody should wait.
        return self.are_ready(slots) and all(_is_plain(each) for each in arrays)


def _is_plain(array: NDArray[Any]) -> bool:
    return array.flags.c_contiguous and array.flags.writeable


def _some_rows(rows: Packed) -> Iterator[slice]:
    """Rows that are worked on at once, which stay in a cache."""
    count, neurons = rows.shape
    at_once = max(_BYTES_AT_ONCE // neurons, 1)
    return (slice(first, first + at_once) for first in range(0, count, at_once))


def _in_order(rows: Packed) -> Packed:
    """Rows in C order, in memory that can be written."""
    return rows if _is_plain(rows) else rows.copy()


def _compile(loops: Any) -> None:
    levels, rows = np.zeros((8, 1), np.int8), np.zeros((3, 1, 1), np.uint8)
    loops.take_levels(np.zeros(8, np.float32), levels.reshape(-1))
    loops.pack_levels(levels.view(np.uint8), np.zeros((8, 1), np.uint8), rows)
    bits = np.zeros((1, 2), np.uint64)
    loops.take_bits(rows[0], rows[:1], 0, bits)
    loops.put_bits(rows[0], bits, 0, rows[:1])
    loops.in_bytes_of(bits[0])


# Of this process.
LOOPS: Final = ValueLoops()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LOOPS.forget_loading)
