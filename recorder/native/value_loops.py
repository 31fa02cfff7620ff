"""Loops for values other than 0 and 1, compiled by numba; `recorder.native.values` calls them.

Rows of bits have eight frames of a neuron in a byte. Of 64 neurons are made words of 64 slots, one for each
frame, the first slot in the lowest bit. The bits that such a word has at events are moved together by a few
shifts, the same for all planes ("compress" and "expand" of Hacker's Delight, 2nd edition, 7-4 and 7-5). Loops
go over many words, as one instruction of the processor does for several what it does for one, and over no
more than its cache holds.
"""

from __future__ import annotations

import numpy as np

from recorder.native.compiling import (
    bits_of,
    both,
    compiled,
    count_ones,
    either,
    frames_of,
    in_bytes_backwards,
    row_of,
    unlike,
)

_0, _1, _2, _4, _8, _16, _32 = (np.uint64(bits) for bits in (0, 1, 2, 4, 8, 16, 32))
_63 = np.uint64(63)
# Words of 64 slots that are worked on at once, but for those of eight frames of a large layer.
_BLOCK = 512

# The bit of each frame of a row.
_NONE, _ALL = np.uint8(0), np.uint8(255)
_FIRST, _SECOND, _THIRD, _FOURTH = np.uint8(128), np.uint8(64), np.uint8(32), np.uint8(16)
_FIFTH, _SIXTH, _SEVENTH, _EIGHTH = np.uint8(8), np.uint8(4), np.uint8(2), np.uint8(1)
# 1.5 · 2²³, from which on floats have no bits for less than 1; and its bits.
_WHOLE = np.float32(1.5 * 2**23)
_BITS_OF_WHOLE, _ALL_BUT_SIGN, _NO_BITS = _WHOLE.view(np.int32), np.int32(2**31 - 1), np.int32(0)
_LEAST_LEVEL, _MOST_LEVEL = np.iinfo(np.int8).min, np.iinfo(np.int8).max
# Of a level, as of any signed byte.
_SIGN, _NEGATIVE = 7, np.uint8(128)


@compiled
def _take_level(value):
    """The level of a value, and the bits in which the two differ.

    A whole number below 2²² that is added to 1.5 · 2²³ is the difference of their bits. Anything else does
    not come back when that is subtracted again, or the difference is larger than a level.
    """
    moved = value + _WHOLE
    return np.int32(bits_of(moved) - _BITS_OF_WHOLE), unlike(bits_of(moved - _WHOLE), bits_of(value))


@compiled
def take_levels(values, levels):
    """Write values that are whole numbers as levels, for as long as they are.

    They are read at four places at once: memory is read faster than from one.

    Parameters
    ----------
    values : float32 array, shape [slots], C-contiguous
    levels : int8 array, shape [slots]

    Returns
    -------
    bool
        Whether all levels are equal to their values.
    int, int
        Range of the levels and 0, where they are.
    """
    size = len(values) // 4
    v0, v1, v2, v3 = values[:size], values[size : 2 * size], values[2 * size : 3 * size], values[3 * size :]
    l0, l1, l2, l3 = levels[:size], levels[size : 2 * size], levels[2 * size : 3 * size], levels[3 * size :]
    differ, least, most = _NO_BITS, np.int32(0), np.int32(0)
    for slot in range(4 * size, len(values)):
        level, other = _take_level(values[slot])
        levels[slot] = np.int8(level)
        differ, least, most = either(differ, other), min(least, level), max(most, level)
    for slot in range(size):
        (a0, d0), (a1, d1) = _take_level(v0[slot]), _take_level(v1[slot])
        (a2, d2), (a3, d3) = _take_level(v2[slot]), _take_level(v3[slot])
        l0[slot], l1[slot], l2[slot], l3[slot] = np.int8(a0), np.int8(a1), np.int8(a2), np.int8(a3)
        differ = either(differ, either(either(d0, d1), either(d2, d3)))
        least, most = min(least, a0, a1, a2, a3), max(most, a0, a1, a2, a3)
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
def _about(bits):
    """What planes say of a level: |level| - 1, or 0 of level 0; the highest bit is that of the sign."""
    level = np.int8(bits)
    absolute = -level if level < 0 else level
    return either(np.uint8(absolute - 1 if level else 0), both(bits, _NEGATIVE))


@compiled
def _pack_planes(about, here, found, row, first, rows):
    """Pack what is said of neurons from the first on, where it is ``here``; False if a plane has no room.

    A plane that was not ``found`` before is silent up to there.
    """
    for plane in range(8):
        bit, place = np.uint8(1 << plane), 1 if plane == _SIGN else 2 + plane
        if both(either(here, found), bit):
            if place >= len(rows):
                return False
            out = rows[place, row, first : first + about.shape[1]]
            if both(here, bit):
                if not both(found, bit):
                    rows[place, :row] = _NONE
                    rows[place, row, :first] = _NONE
                _pack_eight(about, bit, out)
            else:
                out[:] = _NONE
    return True


@compiled
def pack_levels(levels, about, rows):
    """Pack whole rows of eight frames of levels.

    Parameters
    ----------
    levels : uint8 array, shape [8 * rows, neurons], C-contiguous
        Their bits: those of signed bytes.
    about : uint8 array, shape [8, neurons]
        Memory for what planes say of eight frames, of so many neurons at once.
    rows : uint8 array, shape [1 + 1 + planes, rows, neurons]
        Receives events, the sign, and the planes of magnitude for which there is room.

    Returns
    -------
    int
        A bit for each plane that anything is true in, the highest for the sign. Rows of others are anything;
        so are all rows if there is no room for one of these planes.
    """
    _, count, neurons = rows.shape
    found, at_once = _NONE, about.shape[1]
    for row in range(count):
        for first in range(0, neurons, at_once):
            last = min(first + at_once, neurons)
            frames = levels[8 * row : 8 * row + 8, first:last]
            _pack_eight(frames, _ALL, rows[0, row, first:last])
            here = _NONE
            for place in range(8):
                frame, planes = frames[place], about[place]
                for neuron in range(len(frame)):
                    planes[neuron] = _about(frame[neuron])
                    here = either(here, planes[neuron])
            if not _pack_planes(about, here, found, row, first, rows):
                return either(found, here)
            found = either(found, here)
    return found


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
def _move_together(slots, masks, moves, pieces):
    """Fill pieces with the bits that words of 64 slots have at masks, in the lowest places."""
    for word in range(len(masks)):
        bits = slots[word] & masks[word]
        for step in range(6):
            moved = bits & moves[step, word]
            bits = (bits ^ moved) | (moved >> np.uint64(1 << step))
        pieces[word] = bits


@compiled
def _move_apart(pieces, masks, moves):
    """Undo `_move_together`, in place; bits of pieces above those that masks have are left out."""
    for word in range(len(masks)):
        bits = pieces[word]
        for step in range(5, -1, -1):
            move = moves[step, word]
            bits = (bits & ~move) | ((bits << np.uint64(1 << step)) & move)
        pieces[word] = bits & masks[word]


@compiled
def _join(pieces, masks, taken, out):
    """Write pieces behind so many bits that are there, the lowest first; how many there are now."""
    place, used = taken >> 6, taken & 63
    begun = out[place] if used else _0
    for word in range(len(masks)):
        piece = pieces[word]
        begun |= piece << np.uint64(used)
        used += np.int64(count_ones(masks[word]))
        if used >= 64:
            out[place] = begun
            place += 1
            used -= 64
            # No word is shifted by 64 bits, of which processors make what they like.
            begun = piece >> np.uint64(np.int64(count_ones(masks[word])) - used) if used else _0
    out[place] = begun
    return 64 * place + used


@compiled
def _cut(bits, masks, place, pieces):
    """Undo `_join`: fill pieces with bits from ``place`` on; the place behind as many as masks have."""
    for word in range(len(masks)):
        shift = np.uint64(place & 63)
        begin, more = bits[place >> 6], bits[(place >> 6) + 1]
        pieces[word] = (begin >> shift) | (more << _1 << (_63 - shift))
        place += np.int64(count_ones(masks[word]))
    return place


@compiled
def take_bits(events, planes, taken, out):
    """Write the bits of planes at events behind those that were taken before.

    Parameters
    ----------
    events : uint8 array, shape [rows, neurons]
    planes : uint8 array, shape [planes, rows, neurons]
    taken : int
        How many bits of each plane are there.
    out : uint64 array, shape [planes, words]
        Has room for one bit more than there will be; the first bit is the lowest one of the first word.

    Returns
    -------
    int
        How many bits of each plane are there now.
    """
    count, neurons = events.shape
    of_row = 8 * _words_of(neurons)[2]
    at_once = max(_BLOCK // of_row, 1)
    masks = np.empty(at_once * of_row, np.uint64)
    slots = np.empty((len(planes), len(masks)), np.uint64)
    moves, pieces = np.empty((6, _BLOCK), np.uint64), np.empty(_BLOCK, np.uint64)
    tail = np.zeros(64, np.uint8)
    for first in range(0, count, at_once):
        last = min(first + at_once, count)
        _to_frames(events[first:last], tail, masks)
        for plane in range(len(planes)):
            _to_frames(planes[plane, first:last], tail, slots[plane])
        words = (last - first) * of_row
        for begin in range(0, words, _BLOCK):
            end, before = min(begin + _BLOCK, words), taken
            some = masks[begin:end]
            _find_moves(some, moves)
            for plane in range(len(planes)):
                _move_together(slots[plane, begin:end], some, moves, pieces)
                taken = _join(pieces, some, before, out[plane])
    return taken


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
