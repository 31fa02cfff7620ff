"""Pack values by compiled loops, where they are there: `LOOPS` has them once it has paid to load them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.native.loading import LOAD_LOOPS_AFTER_SLOTS, Loops, is_plain

_NEURONS_AT_ONCE: Final = 2048

Packed = NDArray[np.uint8]

# Of each plane its bits at events, packed, and how often it is true, [neurons].
Planes = dict[int, tuple[Packed, NDArray[np.unsignedinteger[Any]]]]


class ValueLoops(Loops):
    """The compiled loops that pack values, where they are there; without them plain numpy does the same.

    Methods return None where it is not for the loops to do: they are not loaded, or not for these data types.
    What numpy does instead is noted, and may begin to load them.
    """

    def __init__(self, load_after_slots: int = LOAD_LOOPS_AFTER_SLOTS) -> None:
        super().__init__(load_after_slots, "values are packed", "value_loops", _compile)
        # Planes of magnitude that so many neurons have had, for which there is room the next time.
        self._planes: dict[int, int] = {}

    def take_levels(self, values: NDArray[Any], levels: NDArray[Any]) -> tuple[bool, int, int] | None:
        """Write whole numbers, float32, as levels, int8; whether they are, and the range of the levels."""
        if not self.are_ready(values.size):
            return None
        # A loop is compiled anew for arrays of another kind, for which nobody should wait.
        types = values.dtype == np.float32 and levels.dtype == np.int8
        if not (types and is_plain(values) and is_plain(levels)):
            return None
        is_same, least, most = self._loops.take_levels(values.reshape(-1), levels.reshape(-1))
        return bool(is_same), int(least), int(most)

    def pack_levels(self, levels: NDArray[Any]) -> tuple[Packed, int, Planes] | None:
        """Pack levels, int8 [8 * rows, neurons].

        Returns
        -------
        uint8 array, shape [rows, neurons]
            Events.
        int
            How many there are.
        Planes
            What planes say at events, by the bit of |level| - 1, and -1 for the sign; only of those that are
            not silent.
        """
        if not self.are_ready(levels.size):
            return None
        if not (levels.dtype == np.int8 and is_plain(levels)):
            return None
        frames, neurons = levels.shape
        rows, at = np.empty((frames // 8, neurons), np.uint8), np.empty(levels.size + 64, np.uint8)
        about = np.empty((8, min(_NEURONS_AT_ONCE, neurons)), np.uint8)
        is_long = len(rows) > self._loops.ROWS_IN_BYTE
        planes, needed = -1, self._planes.get(neurons, 0)
        while needed > planes:
            planes = needed
            ones = np.zeros((planes + 1, neurons), np.uint8)
            counts = np.zeros((planes + 1, neurons if is_long else 0), np.uint32)
            events, found = self._loops.pack_levels(levels.view(np.uint8), about, rows, ones, counts, at)
            needed = (int(found) & 127).bit_length()
        self._planes[neurons] = planes
        names, places = _places_of(int(found))
        if not names:
            return rows, events, {}
        bits = np.empty((len(names), events // 64 + 1), np.uint64)
        at = at[: 64 * bits.shape[1]]
        at[events:] = 0
        self._loops.bits_of_levels(at, places, bits)
        packed, counted = bits.view(np.uint8)[:, : -(-events // 8)], counts if is_long else ones
        return rows, events, {name: (each, counted[name]) for name, each in zip(names, packed, strict=True)}

    def join_bits(self, pieces: Iterable[tuple[Packed | None, int]], out: Packed) -> int:
        """Do what `recorder.format.planes.at_events.join_bits` does, once the loops are ready."""
        last = 0
        for piece, count in pieces:
            place, shift = divmod(last, 8)
            last += count
            end = -(-last // 8)
            if piece is None:
                # Behind the bits of a byte that has begun there are zeros.
                out[place + bool(shift) : end] = 0
            elif count:
                if end > len(out):
                    raise ValueError(f"{len(out)} bytes have no room for {last} bits")
                bits = piece[: -(-count // 8)]
                self._loops.put_behind(bits if is_plain(bits) else bits.copy(), shift, out[place:end])
        out[-(-last // 8) :] = 0
        return last


@cache
def _places_of(found: int) -> tuple[tuple[int, ...], NDArray[np.int64]]:
    """Names of planes, of a bit for each, and the places of these bits."""
    places = [place for place in range(8) if found >> place & 1]
    # The sign comes after seven bits, and has the last of the counts.
    return tuple(-1 if place == 7 else place for place in places), np.array(places, np.int64)


def _compile(loops: Any) -> None:
    levels = np.zeros((8, 1), np.int8)
    loops.take_levels(np.zeros(8, np.float32), levels.reshape(-1))
    rows, ones, at = np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8), np.zeros(128, np.uint8)
    counts = np.zeros((1, 0), np.uint32)
    loops.pack_levels(levels.view(np.uint8), np.zeros((8, 1), np.uint8), rows, ones, counts, at)
    bits = np.zeros((1, 2), np.uint64)
    loops.bits_of_levels(at, np.zeros(1, np.int64), bits)
    packed = bits.view(np.uint8)[0]
    loops.put_behind(packed, 0, packed.copy())


# Of this process.
LOOPS: Final = ValueLoops()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LOOPS.forget_loading)
