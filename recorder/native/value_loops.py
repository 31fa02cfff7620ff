"""Loops for values other than 0 and 1, compiled by numba; `recorder.native.values` calls them.

Bits come as words of eight neurons, a byte each, of eight frames. A word is turned, so that its bytes are
frames, and of these are made words of 64 slots, frame by frame, the first slot in the highest bit. The bits
that such a word has at events are moved together by a few shifts, the same for all planes ("compress" and
"expand" of Hacker's Delight, 2nd edition, 7-4 and 7-5). Loops go over many words, as one instruction of the
processor does for several what it does for one, and over no more than its cache holds.
"""

from __future__ import annotations

import numpy as np

from recorder.native.compiling import bits_of, both, compiled, count_ones, either, ordered, unlike

_LOWER_1, _LOWER_2 = np.uint64(0x0055_0055_0055_0055), np.uint64(0x0000_3333_0000_3333)
_LOWER_4 = np.uint64(0x0000_0000_0F0F_0F0F)
_9, _18, _36 = np.uint64(9), np.uint64(18), np.uint64(36)
_0, _1, _2, _4, _8, _16, _32 = (np.uint64(bits) for bits in (0, 1, 2, 4, 8, 16, 32))
_63 = np.uint64(63)
# Words of 64 slots that are worked on at once.
_BLOCK = 1024

# The bit of each frame of a row.
_NONE, _ALL = np.uint8(0), np.uint8(255)
_FIRST, _SECOND, _THIRD, _FOURTH = np.uint8(128), np.uint8(64), np.uint8(32), np.uint8(16)
_FIFTH, _SIXTH, _SEVENTH, _EIGHTH = np.uint8(8), np.uint8(4), np.uint8(2), np.uint8(1)
# 1.5 · 2²³, from which on floats have no bits for less than 1; and its bits.
_WHOLE = np.float32(1.5 * 2**23)
_BITS_OF_WHOLE, _ALL_BUT_SIGN, _NO_BITS = _WHOLE.view(np.int32), np.int32(2**31 - 1), np.int32(0)
_LEAST_LEVEL, _MOST_LEVEL = np.iinfo(np.int8).min, np.iinfo(np.int8).max
# Of a level, as of any signed byte.
_NEGATIVE = np.uint8(128)


@compiled
def take_levels(values, levels):
    """Write values that are whole numbers as levels, for as long as they are.

    A whole number below 2²² that is added to 1.5 · 2²³ is the difference of their bits; of anything else, it
    does not come back when that is subtracted again, or the difference is larger than a level.

    Parameters
    ----------
    values : float32 array, shape [slots], C-contiguous
    levels : int8 array, shape [slots]

    Returns
    -------
    bool
        Whether all levels are equal to their values.
    int, int
        Range of the levels, where they are.
    """
    differ, least, most = _NO_BITS, np.int32(0), np.int32(0)
    for slot in range(len(values)):
        value = values[slot]
        moved = value + _WHOLE
        level = np.int32(bits_of(moved) - _BITS_OF_WHOLE)
        levels[slot] = np.int8(level)
        differ = either(differ, unlike(bits_of(moved - _WHOLE), bits_of(value)))
        least, most = min(level, least), max(level, most)
    # -0 differs from what comes back in its sign alone.
    is_given_back = both(differ, _ALL_BUT_SIGN) == 0
    return is_given_back and least >= _LEAST_LEVEL and most <= _MOST_LEVEL, least, most


@compiled
def _pack_eight(frames, mask, row):
    """Pack eight frames of bytes into a row: whether a byte has any bit of the mask."""
    v0, v1, v2, v3 = frames[0], frames[1], frames[2], frames[3]
    v4, v5, v6, v7 = frames[4], frames[5], frames[6], frames[7]
    for neuron in range(len(row)):
        row[neuron] = either(
            either(
                either(
                    _FIRST if both(v0[neuron], mask) else _NONE, _SECOND if both(v1[neuron], mask) else _NONE
                ),
                either(
                    _THIRD if both(v2[neuron], mask) else _NONE, _FOURTH if both(v3[neuron], mask) else _NONE
                ),
            ),
            either(
                either(
                    _FIFTH if both(v4[neuron], mask) else _NONE, _SIXTH if both(v5[neuron], mask) else _NONE
                ),
                either(
                    _SEVENTH if both(v6[neuron], mask) else _NONE,
                    _EIGHTH if both(v7[neuron], mask) else _NONE,
                ),
            ),
        )


@compiled
def _above_one(bits):
    """Return |level| - 1 of the bits of a level, and 0 of level 0."""
    level = np.int8(bits)
    absolute = -level if level < 0 else level
    return np.uint8(absolute - 1 if level else 0)


@compiled
def find_bits(levels):
    """Find which planes levels need.

    Parameters
    ----------
    levels : uint8 array, shape [slots], C-contiguous

    Returns
    -------
    int
        All bits that |level| - 1 has anywhere.
    int
        0 if no level is negative.
    """
    found, signs = _NONE, _NONE
    for slot in range(len(levels)):
        found = either(found, _above_one(levels[slot]))
        signs = either(signs, levels[slot])
    return found, both(signs, _NEGATIVE)


@compiled
def pack_levels(levels, above, has_sign, rows):
    """Pack whole rows of eight frames of levels.

    Parameters
    ----------
    levels : uint8 array, shape [8 * rows, neurons], C-contiguous
        Their bits: those of signed bytes.
    above : uint8 array, shape [8, neurons]
        Memory for |level| - 1.
    has_sign : bool
        False if no level is negative.
    rows : uint8 array, shape [1 + planes + 1, rows, neurons]
        Receives events, the planes of magnitude, and the sign.
    """
    planes = len(rows) - 2
    for row in range(rows.shape[1]):
        frames = levels[8 * row : 8 * row + 8]
        _pack_eight(frames, _ALL, rows[0, row])
        if has_sign:
            _pack_eight(frames, _NEGATIVE, rows[planes + 1, row])
        else:
            rows[planes + 1, row] = _NONE
        if planes:
            for place in range(8):
                frame, magnitude = frames[place], above[place]
                for neuron in range(len(frame)):
                    magnitude[neuron] = _above_one(frame[neuron])
        for plane in range(planes):
            _pack_eight(above, np.uint8(1 << plane), rows[1 + plane, row])


@compiled
def _turn(word):
    """Turn eight bytes of eight bits each."""
    changed = (word ^ (word >> _9)) & _LOWER_1
    word ^= changed ^ (changed << _9)
    changed = (word ^ (word >> _18)) & _LOWER_2
    word ^= changed ^ (changed << _18)
    changed = (word ^ (word >> _36)) & _LOWER_4
    return word ^ changed ^ (changed << _36)


@compiled
def _to_frames(rows, turned, slots):
    """Fill words of 64 slots, frame by frame, from rows of words; ``turned`` is memory for a row."""
    count, beside = rows.shape
    if beside == 1:
        for row in range(count):
            slots[row] = _turn(rows[row, 0])
        return
    places = slots.view(np.uint8)
    for row in range(count):
        for word in range(beside):
            turned[word] = _turn(rows[row, word])
        for frame in range(8):
            first, shift = (8 * row + frame) * beside, np.uint64(8 * frame)
            for word in range(beside):
                places[first + word] = np.uint8(turned[word] >> shift)


@compiled
def _to_rows(slots, turned, rows):
    """Undo `_to_frames`."""
    count, beside = rows.shape
    places = slots.view(np.uint8)
    for row in range(count):
        for word in range(beside):
            turned[word] = _0
        for frame in range(8):
            first, shift = (8 * row + frame) * beside, np.uint64(8 * frame)
            for word in range(beside):
                turned[word] |= np.uint64(places[first + word]) << shift
        for word in range(beside):
            rows[row, word] = _turn(turned[word])


@compiled
def _find_moves(slots, masks, moves):
    """Fill masks from words of 64 slots; and moves, [6, words]: which bits go 1, 2, 4 … 32 places down.

    Then the bits of a mask are together.
    """
    for word in range(len(masks)):
        mask = ordered(slots[word])
        masks[word] = mask
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
def _move_together(slots, masks, moves, pieces):
    """Fill pieces with the bits that words of 64 slots have at masks, in the lowest places."""
    for word in range(len(masks)):
        bits = ordered(slots[word]) & masks[word]
        for step in range(6):
            moved = bits & moves[step, word]
            bits = (bits ^ moved) | (moved >> np.uint64(1 << step))
        pieces[word] = bits


@compiled
def _move_apart(pieces, masks, moves):
    """Undo `_move_together`, in place."""
    for word in range(len(masks)):
        bits = pieces[word]
        for step in range(5, -1, -1):
            move = moves[step, word]
            bits = (bits & ~move) | ((bits << np.uint64(1 << step)) & move)
        pieces[word] = ordered(bits & masks[word])


@compiled
def take_bits(events, planes, taken, out):
    """Write the bits of planes at events behind those that were taken before.

    Parameters
    ----------
    events : uint64 array, shape [rows, words]
        Eight neurons of eight frames in each.
    planes : uint64 array, shape [planes, rows, words]
    taken : int
        How many bits of each plane are there.
    out : uint64 array, shape [planes, words]
        Zeros behind these bits, and room for more than there will be; the first bit is the highest one of the
        first word.

    Returns
    -------
    int
        How many bits of each plane are there now.
    """
    count, beside = events.shape
    at_once = max(_BLOCK // beside, 1)
    size = at_once * beside
    turned, slots = np.empty(beside, np.uint64), np.empty(size, np.uint64)
    masks, moves = np.empty(size, np.uint64), np.empty((6, size), np.uint64)
    pieces = np.empty(size, np.uint64)
    # The word that is being filled, and how many bits it has room for; of all planes alike.
    place, room = taken >> 6, 64 - (taken & 63)
    for first in range(0, count, at_once):
        last = min(first + at_once, count)
        words = (last - first) * beside
        _to_frames(events[first:last], turned, slots)
        _find_moves(slots, masks[:words], moves)
        first_place, first_room = place, room
        for plane in range(len(planes)):
            _to_frames(planes[plane, first:last], turned, slots)
            _move_together(slots, masks[:words], moves, pieces)
            place, room = first_place, first_room
            begun = out[plane, place]
            for word in range(words):
                bits = np.int64(count_ones(masks[word]))
                # No word is shifted by 64 bits, of which processors make what they like.
                if bits:
                    room -= bits
                    if room > 0:
                        begun |= pieces[word] << np.uint64(room)
                    else:
                        out[plane, place] = begun | (pieces[word] >> np.uint64(-room))
                        place += 1
                        begun = pieces[word] << np.uint64(64 + room) if room else _0
                        room += 64
            out[plane, place] = begun
    return 64 * place + 64 - room


@compiled
def put_bits(events, bits, place, out):
    """Write planes that have these bits at events.

    Parameters
    ----------
    events : uint64 array, shape [rows, words]
    bits : uint64 array, shape [planes, words]
        From ``place`` on as many bits as there are events, the first one the highest, and a word more.
    place : int
        How many bits are left out.
    out : uint64 array, shape [planes, rows, words]

    Returns
    -------
    int
        The place behind the bits that were used.
    """
    count, beside = events.shape
    at_once = max(_BLOCK // beside, 1)
    size = at_once * beside
    turned, slots = np.empty(beside, np.uint64), np.empty(size, np.uint64)
    masks, moves = np.empty(size, np.uint64), np.empty((6, size), np.uint64)
    for first in range(0, count, at_once):
        last = min(first + at_once, count)
        words = (last - first) * beside
        _to_frames(events[first:last], turned, slots)
        _find_moves(slots, masks[:words], moves)
        first_place = place
        for plane in range(len(bits)):
            place = first_place
            for word in range(words):
                events_here = np.int64(count_ones(masks[word]))
                # No word is shifted by 64 bits, here as there.
                if events_here:
                    shift = np.uint64(place & 63)
                    begin, more = bits[plane, place >> 6], bits[plane, (place >> 6) + 1]
                    both_parts = (begin << shift) | (more >> _1 >> (_63 - shift))
                    slots[word] = both_parts >> np.uint64(64 - events_here)
                    place += events_here
                else:
                    slots[word] = _0
            _move_apart(slots, masks[:words], moves)
            _to_rows(slots, turned, out[plane, first:last])
    return place
