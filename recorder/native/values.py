"""Pack values by compiled loops, where they are there: `LOOPS` has them once it has paid to load them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.native.loading import LOAD_LOOPS_AFTER_SLOTS, Loops, is_plain

Packed = NDArray[np.uint8]

# Of each plane its bits at events, packed, and how often it is true, [neurons].
Planes = dict[int, tuple[Packed, NDArray[np.unsignedinteger[Any]]]]

# Rows, events, rows that are counted in bytes, and planes; and counts.
OpenedMark = tuple[tuple[int, int, int, int], Packed, NDArray[np.uint32] | None]

# Levels that are worked on at once, but for eight frames of a large layer; the second cache holds them.
LEVELS_AT_ONCE: Final = 2**16
# The sign comes behind seven planes of magnitude.
_SIGN_PLACE: Final = 7


class OpenRows:
    """Memory in which rows of a layer's levels are packed, one output after the other.

    Parameters
    ----------
    loops : module
    neurons, events : int
        How many there is room for; of events, those of a row at least.
    """

    def __init__(self, loops: Any, neurons: int, events: int) -> None:
        self._loops = loops
        self._rows = np.empty((0, neurons), np.uint8)
        # Levels at events. Memory that is not written to takes no place.
        self._at = np.empty(events + 64, np.uint8)
        # How often the sign and each plane of magnitude are true: of the newest rows, and of those before.
        self._ones = np.zeros((_SIGN_PLACE + 1, neurons), np.uint8)
        self._counts = np.zeros((_SIGN_PLACE + 1, neurons), np.uint32)
        self._levels = np.empty((8 * max(LEVELS_AT_ONCE // (8 * neurons), 1), neurons), np.int8)
        # Rows, events, rows that are counted in bytes, and planes of magnitude.
        self._state = 0, 0, 0, 0

    def begin(self, rows: int) -> None:
        """Begin with none of so many rows. Those that were packed stay whose they are."""
        # All of them: of an output that was interrupted it is not known what was counted.
        self._ones[:], self._counts[:] = 0, 0
        self._state = 0, 0, 0, 0
        self._rows = np.empty((rows, self._rows.shape[1]), np.uint8)

    @property
    def room(self) -> int:
        """Rows that there is room for, whatever they hold."""
        rows, neurons = self._rows.shape
        filled, taken, *_ = self._state
        return min(rows - filled, (len(self._at) - 64 - taken) // (8 * neurons))

    def mark(self, more: int) -> OpenedMark:
        """What `restore` needs to take back up to so many rows that will be added."""
        filled, taken, counted, planes = self._state
        ones, counts = self._ones[: planes + 1], self._counts[: planes + 1]
        if counted + more > self._loops.ROWS_IN_BYTE:
            self._loops.move_counts(ones, counts)
            self._state = filled, taken, 0, planes
        return self._state, ones.copy(), counts.copy() if more > self._loops.ROWS_IN_BYTE else None

    def restore(self, mark: OpenedMark) -> None:
        """Take back what was added since this mark, or what was done of it."""
        self._state, ones, counts = mark
        self._ones[: len(ones)], self._ones[len(ones) :] = ones, 0
        if counts is not None:
            self._counts[: len(counts)], self._counts[len(counts) :] = counts, 0

    def add(self, pending: NDArray[np.int8], values: NDArray[np.float32]) -> tuple[bool, int, int]:
        """Pack whole rows of fewer than eight frames of levels and the values behind them, [frames, neurons].

        There is room for them.

        Returns
        -------
        bool
            Whether the values are whole numbers that fit a level. If not, they have to be taken back.
        int, int
            Range of the levels and 0.
        """
        filled, *state = self._state
        rows = self._rows[filled : filled + (len(pending) + len(values)) // 8]
        is_same, least, most, *state = self._loops.pack_values(
            pending, values, self._levels, rows, self._ones, self._counts, self._at, *state
        )
        self._state = filled + len(rows), *state
        return bool(is_same), int(least), int(most)

    def add_levels(self, levels: NDArray[np.int8]) -> None:
        """Pack whole rows of levels, [8 * rows, neurons], for which there is room."""
        filled, *state = self._state
        rows = self._rows[filled : filled + len(levels) // 8]
        at_once = len(self._levels) // 8
        state = self._loops.pack_levels(levels, at_once, rows, self._ones, self._counts, self._at, *state)
        self._state = filled + len(rows), *state

    def packed(self) -> tuple[Packed, int, Planes]:
        """What was packed, as `ValueLoops.pack_levels` gives it."""
        filled, taken, _, planes = self._state
        rows = self._rows if filled == len(self._rows) else self._rows[:filled].copy()
        places = [_SIGN_PLACE, *range(planes)]
        bits = np.empty((len(places), taken // 64 + 1), np.uint64)
        at = self._at[: 64 * bits.shape[1]]
        at[taken:] = 0
        found = self._loops.bits_of_levels(at, np.array(places), bits)
        counts = self._counts[: planes + 1] + self._ones[: planes + 1]
        of_planes = zip(places, bits.view(np.uint8)[:, : -(-taken // 8)], counts, strict=True)
        return (
            rows,
            taken,
            {
                -1 if place == _SIGN_PLACE else place: (packed, count)
                for place, packed, count in of_planes
                if found[place]
            },
        )


class ValueLoops(Loops):
    """The compiled loops that pack values, where they are there; without them plain numpy does the same.

    Methods return None where it is not for the loops to do: they are not loaded, or not for these data types.
    What numpy does instead is noted, and may begin to load them.
    """

    def __init__(self, load_after_slots: int = LOAD_LOOPS_AFTER_SLOTS) -> None:
        super().__init__(load_after_slots, "values are packed", "value_loops", _compile)

    def take_levels(self, values: NDArray[Any], levels: NDArray[Any]) -> tuple[bool, int, int] | None:
        """Write whole numbers, float32, as levels, int8; whether they are, and the range of the levels."""
        if not self.can_take(values):
            return None
        # A loop is compiled anew for arrays of another kind, for which nobody should wait.
        if not (levels.dtype == np.int8 and is_plain(levels)):
            return None
        is_same, least, most = self._loops.take_levels(values.reshape(-1), levels.reshape(-1))
        return bool(is_same), int(least), int(most)

    def can_take(self, values: NDArray[Any]) -> bool:
        """Whether the loops pack these values."""
        return self.are_ready(values.size) and values.dtype == np.float32 and is_plain(values)

    def open_rows(self, neurons: int, events: int) -> OpenRows:
        """Memory for so much, in which the loops pack, which are ready."""
        return OpenRows(self._loops, neurons, events)

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
        opened = self.open_rows(neurons, levels.size)
        opened.begin(frames // 8)
        opened.add_levels(levels)
        return opened.packed()

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


def _compile(loops: Any) -> None:
    opened = OpenRows(loops, 1, 16)
    opened.begin(2)
    opened.add(np.ones((1, 1), np.int8), np.ones((7, 1), np.float32))
    opened.add_levels(np.ones((8, 1), np.int8))
    opened.packed()
    loops.take_levels(np.zeros(8, np.float32), np.zeros(8, np.int8))
    packed = np.zeros(1, np.uint8)
    loops.put_behind(packed, 0, packed.copy())


# Of this process.
LOOPS: Final = ValueLoops()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LOOPS.forget_loading)
