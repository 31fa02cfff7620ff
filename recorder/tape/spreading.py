"""Put bits of planes back to the slots of their events, by compiled loops or by numpy."""

from __future__ import annotations

from collections.abc import Sequence

from recorder.format.bits import Packed, count_bits, rows_to_trains, trains_to_rows
from recorder.format.planes import at_events
from recorder.native.planes import LOOPS


def spread_to_events(events: Packed, bits: Sequence[Packed]) -> tuple[list[Packed], int]:
    """Planes from their bits at events.

    Parameters
    ----------
    events : uint8 array, shape [neurons, bytes]
        Trains of events.
    bits : sequence of uint8 array
        Of each plane, packed, as from `bits_at_events`; at least as many as there are events.

    Returns
    -------
    list of uint8 array, shape [neurons, bytes]
        Trains of each plane, false where there is no event.
    int
        Number of events, and so of bits of each plane that were used.

    Raises
    ------
    ValueError
        If a plane has fewer bits than there are events.
    """
    return spread_to_rows(trains_to_rows(events), bits)


def spread_to_rows(rows: Packed, bits: Sequence[Packed]) -> tuple[list[Packed], int]:
    """Do what `spread_to_events` does, given rows of events, [bytes, neurons]."""
    total = count_bits(rows)
    used = [each[: -(-total // 8)] for each in bits]
    if any(8 * len(each) < total for each in used):
        raise ValueError(f"a plane has {8 * min(map(len, used))} bits, and there are {total} events")
    are_ready = LOOPS.are_ready(8 * rows.size * len(bits))
    planes = (LOOPS if are_ready else at_events).rows_at_events(rows, used)
    return [rows_to_trains(plane) for plane in planes], total
