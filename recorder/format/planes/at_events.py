"""Planes as the bits that they have at events: join them, and put them back. Plain numpy.

A plane is stored as its bits at events alone, frame by frame, the neurons of a frame in C order. Bits come in
rows (see `recorder.format.bits`), which have eight frames of a neuron side by side. So rows are unpacked,
some at a time, and the places of the events found once for all planes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorder.format.bits import Packed, blocks_of_rows, pack_whole_rows, unpack_rows


class PlaneAtEvents(NamedTuple):
    """What a plane says of some rows.

    Attributes
    ----------
    bits : uint8 array
        Its bits at events, packed, as from `bits_at_events`.
    counts : unsigned array, shape [neurons]
        In how many frames of each neuron it is true.
    """

    bits: Packed
    counts: NDArray[np.unsignedinteger[Any]]


def join_bits(pieces: Iterable[tuple[Packed | None, int]], out: Packed) -> int:
    """Write bits of pieces, as from `bits_at_events`, one behind the other.

    Parameters
    ----------
    pieces : iterable of (uint8 array or None, int)
        Packed bits, 0 behind the last one, and how many they are; None for so many that are false.
    out : uint8 array
        Is overwritten, and 0 behind the last bit.

    Returns
    -------
    int
        Number of bits.
    """
    out[:] = 0
    last = 0
    for piece, count in pieces:
        place, shift = divmod(last, 8)
        last += count
        if piece is None:
            continue
        bits = piece[: -(-count // 8)]
        out[place : place + len(bits)] |= bits >> np.uint8(shift)
        if shift:
            # Behind the last bits of all there may be no place, and there is nothing left to write.
            behind = out[place + 1 : place + 1 + len(bits)]
            behind |= (bits << np.uint8(8 - shift))[: len(behind)]
    return last


def neurons_of_events(events: Packed) -> NDArray[np.intp]:
    """The neuron of each event, in the order of `bits_at_events`; ``events`` are rows, [rows, neurons]."""
    found = [np.empty(0, np.intp)]
    found += (places % events.shape[1] for _, places in _places_of_events(events))
    return np.concatenate(found)


def bits_at_events(events: Packed, planes: Sequence[Packed]) -> list[Packed]:
    """Bits of planes at events, packed.

    Parameters
    ----------
    events : uint8 array, shape [rows, neurons]
        Rows of events.
    planes : sequence of uint8 array, shape [rows, neurons]
        Rows of planes. What these hold where there is no event is left out.

    Returns
    -------
    list of uint8 array
        The bits of each plane at events, frame by frame, neurons in order, the first bit in the highest
        place of the first byte; 0 behind the last one, as many bytes as are needed.
    """
    found: list[list[Packed]] = [[np.empty(0, np.uint8)] for _ in planes]
    for rows, places in _places_of_events(events):
        for plane, pieces in zip(planes, found, strict=True):
            pieces.append(unpack_rows(plane[rows]).reshape(-1).view(np.uint8)[places])
    return [np.packbits(np.concatenate(pieces)) for pieces in found]


def rows_at_events(events: Packed, bits: Sequence[Packed]) -> Packed:
    """Planes from their bits at events.

    Parameters
    ----------
    events : uint8 array, shape [rows, neurons]
        Rows of events.
    bits : sequence of uint8 array
        Of each plane, packed, as from `bits_at_events`; at least as many as there are events.

    Returns
    -------
    uint8 array, shape [planes, rows, neurons]
        Rows of the planes, false where there is no event.
    """
    planes = np.empty((len(bits), *events.shape), np.uint8)
    first = 0
    for rows, places in _places_of_events(events):
        last = first + len(places)
        for each, plane in zip(bits, planes, strict=True):
            frames = np.zeros((8 * len(plane[rows]), events.shape[1]), np.bool_)
            here = np.unpackbits(each[first // 8 : -(-last // 8)])[first % 8 :]
            frames.reshape(-1)[places] = here[: len(places)]
            plane[rows] = pack_whole_rows(frames)
        first = last
    return planes


def _places_of_events(events: Packed) -> Iterator[tuple[slice, NDArray[np.intp]]]:
    """Rows that are worked on at once, and the places of their events among their slots, frame by frame."""
    for rows in blocks_of_rows(*events.shape):
        yield rows, np.flatnonzero(unpack_rows(events[rows]))
