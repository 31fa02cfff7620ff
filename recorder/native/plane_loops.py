"""Loops that put bits of planes back to their events, compiled by numba; `recorder.native.planes` calls them.

Rows of bits have eight frames of a neuron in a byte. Of 64 neurons are made words of 64 slots, one for each
frame, the first slot in the lowest bit. The next bits of a plane are moved apart, to the events of such a
word, by a few shifts, the same for all planes ("expand" of Hacker's Delight, 2nd edition, 7-5). Loops go over
many words, as one instruction of the processor does for several what it does for one, and over no more than
its cache holds.
"""

from __future__ import annotations

import numpy as np

from recorder.native.compiling import compiled, count_ones, frames_of, in_bytes_backwards, row_of

_1, _2, _4, _8, _16, _32, _63 = (np.uint64(bits) for bits in (1, 2, 4, 8, 16, 32, 63))
# Words of 64 slots that are worked on at once, but for those of eight frames of a large layer.
_BLOCK = 512


@compiled
def _words_of(neurons):
    """How many words of 64 slots a frame has: those that are full, the slots of one more, and all words."""
    whole, left = neurons >> 6, neurons & 63
    return whole, left, whole + (left > 0)


@compiled
def _to_frames(rows, tail, slots):
    """Fill words of 64 slots, frame by frame, from rows; ``tail`` is memory for 64 bytes, zeros at first."""
    count, neurons = rows.shape
    whole, left, beside = _words_of(neurons)
    for row in range(count):
        bytes_of_row, first = rows[row], 8 * row * beside
        for word in range(whole):
            frames = frames_of(bytes_of_row, 64 * word)
            for frame in range(8):
                slots[first + frame * beside + word] = frames[frame]
        if left:
            for neuron in range(left):
                tail[neuron] = bytes_of_row[64 * whole + neuron]
            frames = frames_of(tail, 0)
            for frame in range(8):
                slots[first + frame * beside + whole] = frames[frame]


@compiled
def _frames_at(slots, first, beside):
    """One word of each of eight frames."""
    return (
        slots[first],
        slots[first + beside],
        slots[first + 2 * beside],
        slots[first + 3 * beside],
        slots[first + 4 * beside],
        slots[first + 5 * beside],
        slots[first + 6 * beside],
        slots[first + 7 * beside],
    )


@compiled
def _to_rows(slots, tail, rows):
    """Undo `_to_frames`."""
    count, neurons = rows.shape
    whole, left, beside = _words_of(neurons)
    for row in range(count):
        bytes_of_row, first = rows[row], 8 * row * beside
        for word in range(whole):
            row_of(_frames_at(slots, first + word, beside), bytes_of_row, 64 * word)
        if left:
            row_of(_frames_at(slots, first + whole, beside), tail, 0)
            for neuron in range(left):
                bytes_of_row[64 * whole + neuron] = tail[neuron]


@compiled
def in_bytes_of(words):
    """Words that have the first bit in the lowest place as bytes that have it in the highest; and back."""
    for word in range(len(words)):
        words[word] = in_bytes_backwards(words[word])


@compiled
def _find_moves(masks, moves):
    """Fill moves, [6, words]: which bits of masks go 1, 2, 4 … 32 places down. Then these are together."""
    for word in range(len(masks)):
        mask = masks[word]
        # For each bit, whether an odd number of bits below it are not in the mask.
        below = ~mask << _1
        for step in range(6):
            is_odd = below ^ (below << _1)
            is_odd ^= is_odd << _2
            is_odd ^= is_odd << _4
            is_odd ^= is_odd << _8
            is_odd ^= is_odd << _16
            is_odd ^= is_odd << _32
            move = is_odd & mask
            moves[step, word] = move
            mask = (mask ^ move) | (move >> np.uint64(1 << step))
            below &= ~is_odd


@compiled
def _move_apart(pieces, masks, moves):
    """Move the lowest bits of pieces to where masks have bits, in place; further ones are left out."""
    for word in range(len(masks)):
        bits = pieces[word]
        for step in range(5, -1, -1):
            move = moves[step, word]
            bits = (bits & ~move) | ((bits << np.uint64(1 << step)) & move)
        pieces[word] = bits & masks[word]


@compiled
def _cut(bits, masks, place, pieces):
    """Fill pieces with bits from ``place`` on; the place behind as many as masks have."""
    for word in range(len(masks)):
        shift = np.uint64(place & 63)
        begin, more = bits[place >> 6], bits[(place >> 6) + 1]
        pieces[word] = (begin >> shift) | (more << _1 << (_63 - shift))
        place += np.int64(count_ones(masks[word]))
    return place


@compiled
def put_bits(events, bits, place, out):
    """Write planes that have these bits at events.

    Parameters
    ----------
    events : uint8 array, shape [rows, neurons]
    bits : uint64 array, shape [planes, words]
        From ``place`` on as many bits as there are events, the first one the lowest, and a word more.
    place : int
        How many bits are left out.
    out : uint8 array, shape [planes, rows, neurons]

    Returns
    -------
    int
        The place behind the bits that were used.
    """
    count, neurons = events.shape
    of_row = 8 * _words_of(neurons)[2]
    at_once = max(_BLOCK // of_row, 1)
    masks = np.empty(at_once * of_row, np.uint64)
    slots = np.empty((len(bits), len(masks)), np.uint64)
    moves, tail = np.empty((6, _BLOCK), np.uint64), np.zeros(64, np.uint8)
    for first in range(0, count, at_once):
        last = min(first + at_once, count)
        _to_frames(events[first:last], tail, masks)
        words = (last - first) * of_row
        for begin in range(0, words, _BLOCK):
            end, before = min(begin + _BLOCK, words), place
            some = masks[begin:end]
            _find_moves(some, moves)
            for plane in range(len(bits)):
                pieces = slots[plane, begin:end]
                place = _cut(bits[plane], some, before, pieces)
                _move_apart(pieces, some, moves)
        for plane in range(len(bits)):
            _to_rows(slots[plane], tail, out[plane, first:last])
    return place
