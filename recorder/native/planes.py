"""Put bits of planes back by compiled loops, where these are there: `LOOPS` has them once it pays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.native.loading import LOAD_LOOPS_AFTER_SLOTS, Loops, is_plain

_BYTES_AT_ONCE: Final = 2**17

Packed = NDArray[np.uint8]


class PlaneLoops(Loops):
    """The compiled loops that put bits of planes back, where they are there."""

    def __init__(self, load_after_slots: int = LOAD_LOOPS_AFTER_SLOTS) -> None:
        super().__init__(load_after_slots, "values are read", "plane_loops", _compile, "whoever reads them")

    def rows_at_events(self, events: Packed, bits: Sequence[Packed]) -> Packed:
        """Rows of planes from their bits at events, as many as there are, and rows of these; once ready.

        They are uint8 [planes, rows, neurons]. With fewer bits, memory behind them would be read.
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


def _some_rows(rows: Packed) -> Iterator[slice]:
    """Rows that are worked on at once, which stay in a cache."""
    count, neurons = rows.shape
    at_once = max(_BYTES_AT_ONCE // neurons, 1)
    return (slice(first, first + at_once) for first in range(0, count, at_once))


def _in_order(rows: Packed) -> Packed:
    """Rows in C order, in memory that can be written."""
    return rows if is_plain(rows) else rows.copy()


def _compile(loops: Any) -> None:
    events, bits = np.zeros((1, 1), np.uint8), np.zeros((1, 2), np.uint64)
    loops.put_bits(events, bits, 0, events[np.newaxis].copy())
    loops.in_bytes_of(bits[0])


# Of this process.
LOOPS: Final = PlaneLoops()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LOOPS.forget_loading)
