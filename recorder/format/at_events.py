"""Take from planes the bits that they have at events, and put them back. Plain numpy.

A plane is stored as its bits at events alone, frame by frame, the neurons of a frame in C order. Bits come in
rows or trains (see `recorder.format.bits`), which have the frames of a neuron side by side; here those of a
frame are, in *words* of 64 slots, the first in the highest bit. The bits that a word has at events are moved
together by a few shifts, the same for all planes ("compress" and "expand" of Hacker's Delight, 2nd edition,
7-4 and 7-5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.format.bits import Packed, rows_to_trains, trains_to_rows
from recorder.format.errors import RecordingFormatError

Words = NDArray[np.uint64]

# Words that are worked on at once, so that they stay in the cache of a core.
_BLOCK_WORDS: Final = 4096
_SIXTY_FOUR: Final = np.uint64(64)


def _lower_of_pairs(apart: int) -> Any:
    """Mask of the bits (byte i, place j) of a word that change places with (i + apart, j - apart)."""
    byte, place = np.indices((8, 8))
    return np.packbits(((byte & apart) == 0) & ((place & apart) != 0)).view("<u8")[0]


# Three steps turn eight bytes, each of eight places, so that place j of byte i becomes place i of byte j.
_TURNS: Final = [(np.uint64(9 * apart), np.uint64(_lower_of_pairs(apart))) for apart in (1, 2, 4)]


def bits_at_events(events: Packed, planes: Sequence[Packed]) -> list[Packed]:
    """Bits of planes at events, packed.

    Parameters
    ----------
    events : uint8 array, shape [bytes, neurons]
        Rows of events.
    planes : sequence of uint8 array, shape [bytes, neurons]
        Rows of planes. What these hold where there is no event is left out.

    Returns
    -------
    list of uint8 array
        The bits of each plane at events, frame by frame, neurons in order, the first bit in the highest
        place of the first byte; 0 behind the last one, as many bytes as are needed.
    """
    words = _word_count(*events.shape)
    counts = np.empty(words, np.uint8)
    found = np.empty((len(planes), words), np.uint64)
    for rows, place in _blocks(*events.shape):
        mask = _words_of_rows(events[rows])
        np.bitwise_count(mask, out=counts[place])
        moves = _moves(mask)
        for plane, out in zip(planes, found, strict=True):
            out[place] = _together(_words_of_rows(plane[rows]) & mask, moves)
    return [_join(each, counts) for each in found]


def spread_to_events(events: Packed, bits: Packed) -> tuple[Packed, int]:
    """A plane from its bits at events.

    Parameters
    ----------
    events : uint8 array, shape [neurons, bytes]
        Trains of events.
    bits : uint8 array
        Packed, as from `bits_at_events`. There may be more of them.

    Returns
    -------
    uint8 array, shape [neurons, bytes]
        Trains of the plane, false where there is no event.
    int
        Number of events, and so of bits that were used.

    Raises
    ------
    RecordingFormatError
        If there are more events than bits.
    """
    neurons, width = events.shape
    total = int(np.bitwise_count(events).sum(dtype=np.int64))
    if total > 8 * len(bits):
        raise RecordingFormatError(f"it has {8 * len(bits)} bits for {total} events")
    # Some more, so that a word that begins with the last bit has another one behind it.
    stored = np.zeros(total // 64 + 2, ">u8")
    used = -(-total // 8)
    stored.view(np.uint8)[:used] = bits[:used]
    words = stored.astype(np.uint64)
    rows, first = trains_to_rows(events), 0
    for block, _ in _blocks(width, neurons):
        mask = _words_of_rows(rows[block])
        counts = np.bitwise_count(mask)
        ends = first + np.cumsum(counts, dtype=np.int64)
        pieces = _split(words, ends, counts)
        rows[block] = _rows_of_words(_apart(pieces, mask), *rows[block].shape)
        first = int(ends[-1])
    return rows_to_trains(rows), total


def _word_count(rows: int, neurons: int) -> int:
    return rows * -(-neurons // 8)


def _blocks(rows: int, neurons: int) -> Iterator[tuple[slice, slice]]:
    """Rows that are worked on at once, and the places of their words."""
    beside = -(-neurons // 8)
    at_once = max(_BLOCK_WORDS // max(beside, 1), 1)
    for first in range(0, rows, at_once):
        last = min(first + at_once, rows)
        yield slice(first, last), slice(first * beside, last * beside)


def _words_of_rows(rows: Packed) -> Words:
    """Words of 64 slots, frame by frame; the neurons of a frame are filled up to a multiple of eight."""
    count, neurons = rows.shape
    if neurons % 8:
        rows = np.pad(rows, ((0, 0), (0, -neurons % 8)))
    turned = _turn(np.ascontiguousarray(rows).view("<u8"))
    bytes_of_frames = np.ascontiguousarray(np.moveaxis(turned.view(np.uint8).reshape(count, -1, 8), 2, 1))
    return bytes_of_frames.reshape(-1).view(">u8").astype(np.uint64)


def _rows_of_words(words: Words, count: int, neurons: int) -> Packed:
    """Rows again, of ``count`` times eight frames."""
    bytes_of_frames = words.astype(">u8").view(np.uint8).reshape(count, 8, -1)
    turned = np.ascontiguousarray(np.moveaxis(bytes_of_frames, 1, 2)).reshape(count, -1).view("<u8")
    return _turn(turned).view(np.uint8)[:, :neurons]


def _turn(words: NDArray[Any]) -> NDArray[Any]:
    """Turn eight bytes of eight bits each: eight neurons of eight frames to eight frames of eight neurons."""
    turned = words.copy()
    for shift, lower in _TURNS:
        changed = (turned ^ (turned >> shift)) & lower
        turned ^= changed ^ (changed << shift)
    return turned


def _moves(mask: Words) -> list[Words]:
    """Which bits of words go 1, 2, 4, 8, 16 and 32 places down, so that those of the mask come together."""
    moves = []
    # For each bit, whether an odd number of bits below it are not in the mask.
    below = ~mask << np.uint64(1)
    for step in range(6):
        is_odd = below ^ (below << np.uint64(1))
        for width in (2, 4, 8, 16, 32):
            is_odd ^= is_odd << np.uint64(width)
        move = is_odd & mask
        moves.append(move)
        mask = (mask ^ move) | (move >> np.uint64(1 << step))
        below = below & ~is_odd
    return moves


def _together(words: Words, moves: Sequence[Words]) -> Words:
    """Words with the bits of the mask moved together, in the lowest places."""
    for step, move in enumerate(moves):
        moved = words & move
        words = (words ^ moved) | (moved >> np.uint64(1 << step))
    return words


def _apart(words: Words, mask: Words) -> Words:
    """Words whose lowest bits are moved to the places of the mask."""
    for step, move in reversed([*enumerate(_moves(mask))]):
        words = (words & ~move) | ((words << np.uint64(1 << step)) & move)
    return words & mask


def _join(pieces: Words, counts: Packed) -> Packed:
    """Put the lowest bits of words, so many of each, one after the other."""
    begins = np.cumsum(counts, dtype=np.int64)
    total = int(begins[-1]) if len(begins) else 0
    begins -= counts
    # Words of 64 bits and more are shifted to nothing.
    pieces = pieces << (_SIXTY_FOUR - counts)
    shifts = (begins & 63).astype(np.uint64)
    places = begins >> 6
    # All bits of a word of the result are of pieces that begin in it, or of the last one that begins before.
    last = np.flatnonzero(np.diff(places, append=-1))
    joined = np.zeros(len(last) + 1, np.uint64)
    # No two pieces have bits in one place. So a sum is as good, and one of differences the fastest.
    joined[:-1] = np.diff(np.cumsum(pieces >> shifts, dtype=np.uint64)[last], prepend=np.uint64(0))
    joined[1:] |= (pieces << (_SIXTY_FOUR - shifts))[last]
    return joined.astype(">u8").view(np.uint8)[: -(-total // 8)]


def _split(words: Words, ends: NDArray[np.int64], counts: Packed) -> Words:
    """Take bits that follow each other in words apart, so many to the lowest places of a word each."""
    begins = ends - counts
    places, shifts = begins >> 6, (begins & 63).astype(np.uint64)
    pieces: Words = (words[places] << shifts) | (words[places + 1] >> (_SIXTY_FOUR - shifts))
    pieces >>= _SIXTY_FOUR - counts
    return pieces
