"""What the loops for values do, where they are there: `LOOPS` has them once it has paid to load them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.native.loading import Loading

_WORDS_AT_ONCE: Final = 2**16

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

    def pack_levels(self, levels: NDArray[Any]) -> Packed | None:
        """Pack levels, int8 [8 * rows, neurons], to rows, uint8 [1 + planes + 1, rows, neurons].

        Events come first, the sign last.
        """
        if not (self._is_for(levels.size, levels) and levels.dtype == np.int8):
            return None
        frames, neurons = levels.shape
        magnitudes, sign = self._loops.find_bits(levels.view(np.uint8).reshape(-1))
        rows = np.empty((int(magnitudes).bit_length() + 2, frames // 8, neurons), np.uint8)
        above = np.empty((8, neurons), np.uint8)
        self._loops.pack_levels(levels.view(np.uint8), above, bool(sign), rows)
        return rows

    def bits_at_events(self, events: Packed, planes: list[Packed]) -> list[Packed] | None:
        """Do what `recorder.format.planes.at_events.bits_at_events` does."""
        if not self.are_ready(8 * events.size * len(planes)):
            return None
        pieces = [(rows, _words(events[rows])) for rows in _some_rows(events)]
        total, taken = sum(int(np.bitwise_count(words).sum(dtype=np.int64)) for _, words in pieces), 0
        out = np.zeros((len(planes), total // 64 + 1), np.uint64)
        for rows, words in pieces:
            of_planes = np.stack([_words(plane[rows]) for plane in planes])
            taken = self._loops.take_bits(words, of_planes, taken, out)
        return [each.astype(">u8").view(np.uint8)[: -(-total // 8)] for each in out]

    def rows_at_events(self, events: Packed, bits: Sequence[Packed]) -> Packed:
        """Rows of planes from their bits at events, as many as there are, and rows of these; once ready.

        They are uint8 [planes, rows, neurons].
        """
        count, neurons = events.shape
        rows, place = np.empty((len(bits), count, neurons), np.uint8), 0
        # A word more, as one that begins with the last bit has another one behind it.
        stored = np.zeros((len(bits), max(map(len, bits), default=0) // 8 + 2), ">u8")
        for given, each in zip(bits, stored, strict=True):
            each.view(np.uint8)[: len(given)] = given
        words_of_bits = stored.astype(np.uint64)
        for some in _some_rows(events):
            words = _words(events[some])
            out = np.empty((len(bits), *words.shape), np.uint64)
            place = self._loops.put_bits(words, words_of_bits, place, out)
            rows[:, some] = out.view(np.uint8)[..., :neurons]
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
    """Rows that are made words at once: of a single neuron, these take eight times the room."""
    count, neurons = rows.shape
    at_once = max(_WORDS_AT_ONCE // max(-(-neurons // 8), 1), 1)
    return (slice(first, first + at_once) for first in range(0, count, at_once))


def _words(rows: Packed) -> NDArray[np.uint64]:
    """Rows as words of eight neurons, filled up to these, in memory that can be written."""
    missing = -rows.shape[1] % 8
    whole = np.pad(rows, ((0, 0), (0, missing))) if missing else rows
    return (whole if _is_plain(whole) else whole.copy()).view(np.uint64)


def _compile(loops: Any) -> None:
    levels, words = np.zeros((8, 1), np.int8), np.zeros((1, 1), np.uint64)
    loops.take_levels(np.zeros(8, np.float32), levels.reshape(-1))
    loops.find_bits(levels.view(np.uint8).reshape(-1))
    rows = np.zeros((3, 1, 1), np.uint8)
    loops.pack_levels(levels.view(np.uint8), np.zeros((8, 1), np.uint8), False, rows)
    loops.take_bits(words, words[None], 0, np.zeros((1, 1), np.uint64))
    loops.put_bits(words, np.zeros((1, 1), np.uint64), 0, words[None].copy())


# Of this process.
LOOPS: Final = ValueLoops()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LOOPS.forget_loading)
