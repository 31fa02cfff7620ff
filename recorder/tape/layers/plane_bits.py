"""Bits of planes at events, by compiled loops where these are there, else by numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recorder.format import RecordingFormatError, at_events
from recorder.format.bits import Packed, rows_to_trains, trains_to_rows
from recorder.native.values import LOOPS


def bits_at_events(events: Packed, planes: Sequence[Packed]) -> list[Packed]:
    """Bits of planes at events; as `at_events.bits_at_events`."""
    found = LOOPS.bits_at_events(events, [*planes])
    return at_events.bits_at_events(events, planes) if found is None else found


def spread_to_events(events: Packed, bits: Packed) -> tuple[Packed, int]:
    """A plane from its bits at events, and how many there are; as `at_events.spread_to_events`."""
    if not LOOPS.are_ready(8 * events.size):
        return at_events.spread_to_events(events, bits)
    total = int(np.bitwise_count(events).sum(dtype=np.int64))
    if total > 8 * len(bits):
        raise RecordingFormatError(f"it has {8 * len(bits)} bits for {total} events")
    rows = LOOPS.rows_at_events(trains_to_rows(events), bits[: -(-total // 8)])
    return rows_to_trains(rows), total
