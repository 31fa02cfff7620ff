"""Loops that pack values other than 0 and 1, compiled by numba; `recorder.native.values` calls them.

Rows of bits have eight frames of a neuron in a byte. What planes say is kept at events alone, frame by frame.
So the levels of events are put together, eight slots at a time, and become bits. One instruction of the
processor does for many slots what it does for one, and loops go over no more of them than its cache holds.
"""

from __future__ import annotations

import numpy as np

from recorder.native.compiling import (
    CAN_SHUFFLE,
    bits_of,
    both,
    compiled,
    count_ones,
    either,
    frames_of,
    in_bytes_backwards,
    plus,
    put_together,
    trailing_zeros,
    unlike,
    where_any_of_8,
    where_any_of_64,
)

_1, _255 = np.uint64(1), np.uint64(255)
# Levels that are worked on at once, but for eight frames of a large layer.
_LEVELS_AT_ONCE = 2**16
# Rows of eight frames in which a neuron can be counted in a byte.
ROWS_IN_BYTE = 255 // 8

# The bit of each frame of a row.
_NONE, _ONE, _ALL = np.uint8(0), np.uint8(1), np.uint8(255)
_FIRST, _SECOND, _THIRD, _FOURTH = np.uint8(128), np.uint8(64), np.uint8(32), np.uint8(16)
_FIFTH, _SIXTH, _SEVENTH, _EIGHTH = np.uint8(8), np.uint8(4), np.uint8(2), np.uint8(1)
# 1.5 · 2²³, from which on floats have no bits for less than 1; and its bits.
_WHOLE = np.float32(1.5 * 2**23)
_BITS_OF_WHOLE, _ALL_BUT_SIGN, _NO_BITS = _WHOLE.view(np.int32), np.int32(2**31 - 1), np.int32(0)
_LEAST_LEVEL, _MOST_LEVEL = np.iinfo(np.int8).min, np.iinfo(np.int8).max
# Of a level, as of any signed byte.
_NEGATIVE = np.uint8(128)

# The places of those that are chosen among eight bytes, for each choice, in order.
_CHOSEN = np.zeros((256, 8), np.uint8)
for _choice in range(256):
    _places = [place for place in range(8) if _choice >> place & 1]
    _CHOSEN[_choice, : len(_places)] = _places


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
def _if_any(byte, mask, bit):
    """The bit if a byte has any bit of the mask."""
    return bit if both(byte, mask) else _NONE


@compiled
def _pack_eight(frames, mask, row):
    """Pack eight frames of bytes into a row: whether a byte has any bit of the mask."""
    v0, v1, v2, v3 = frames[0], frames[1], frames[2], frames[3]
    v4, v5, v6, v7 = frames[4], frames[5], frames[6], frames[7]
    for neuron in range(len(row)):
        row[neuron] = either(
            either(
                either(_if_any(v0[neuron], mask, _FIRST), _if_any(v1[neuron], mask, _SECOND)),
                either(_if_any(v2[neuron], mask, _THIRD), _if_any(v3[neuron], mask, _FOURTH)),
            ),
            either(
                either(_if_any(v4[neuron], mask, _FIFTH), _if_any(v5[neuron], mask, _SIXTH)),
                either(_if_any(v6[neuron], mask, _SEVENTH), _if_any(v7[neuron], mask, _EIGHTH)),
            ),
        )


@compiled
def _about(bits):
    """What planes say of a level: |level| - 1, or 0 of level 0; the highest bit is that of the sign."""
    level = np.int8(bits)
    absolute = -level if level < 0 else level
    return either(np.uint8(absolute - 1 if level else 0), both(bits, _NEGATIVE))


@compiled
def _count_eight(frames, bit, ones):
    """Add to ones, of each neuron, in how many of eight frames it has a bit."""
    # Written out as `_pack_eight` is: with bits that the compiler does not know, few neurons take three times
    # as long.
    v0, v1, v2, v3 = frames[0], frames[1], frames[2], frames[3]
    v4, v5, v6, v7 = frames[4], frames[5], frames[6], frames[7]
    for neuron in range(len(ones)):
        found = plus(
            plus(
                plus(_if_any(v0[neuron], bit, _ONE), _if_any(v1[neuron], bit, _ONE)),
                plus(_if_any(v2[neuron], bit, _ONE), _if_any(v3[neuron], bit, _ONE)),
            ),
            plus(
                plus(_if_any(v4[neuron], bit, _ONE), _if_any(v5[neuron], bit, _ONE)),
                plus(_if_any(v6[neuron], bit, _ONE), _if_any(v7[neuron], bit, _ONE)),
            ),
        )
        ones[neuron] = plus(ones[neuron], found)


@compiled
def _pack_row(levels, about, row, ones):
    """Pack eight frames of levels; what `pack_levels` returns about planes."""
    neurons, beside, found = len(row), about.shape[1], _NONE
    for first in range(0, neurons, beside):
        last = min(first + beside, neurons)
        frames, here = levels[:, first:last], _NONE
        _pack_eight(frames, _ALL, row[first:last])
        for place in range(8):
            frame, planes = frames[place], about[place]
            for neuron in range(len(frame)):
                planes[neuron] = _about(frame[neuron])
                here = either(here, planes[neuron])
        if both(here, _NEGATIVE):
            _count_eight(about, _NEGATIVE, ones[-1, first:last])
        for plane in range(len(ones) - 1):
            bit = np.uint8(1 << plane)
            if both(here, bit):
                _count_eight(about, bit, ones[plane, first:last])
        found = either(found, here)
    return found


@compiled
def _move_counts(ones, counts):
    """Add what was counted in bytes to wider counts, and begin anew."""
    for plane in range(len(ones)):
        of_plane, in_all = ones[plane], counts[plane]
        for neuron in range(len(of_plane)):
            in_all[neuron] = plus(in_all[neuron], np.uint32(of_plane[neuron]))
            of_plane[neuron] = _NONE


@compiled
def put_together_by_shuffles(levels, taken, at):
    """Write the levels that are not 0 behind so many that are there; how many there are now.

    Parameters
    ----------
    levels : uint8 array, shape [slots], a multiple of 8
    taken : int
    at : uint8 array
        Has room for eight levels behind the last one.
    """
    whole = len(levels) >> 6
    for word in range(whole):
        are_events = where_any_of_64(levels, 64 * word)
        for eight in range(8):
            chosen = (are_events >> np.uint64(8 * eight)) & _255
            put_together(levels, 64 * word + 8 * eight, _CHOSEN, np.intp(chosen), at, taken)
            taken += np.intp(count_ones(chosen))
    for first in range(64 * whole, len(levels), 8):
        chosen = where_any_of_8(levels, first)
        put_together(levels, first, _CHOSEN, np.intp(chosen), at, taken)
        taken += np.intp(count_ones(chosen))
    return taken


@compiled
def put_together_one_by_one(levels, taken, at):
    """Do what `put_together_by_shuffles` does, on a processor that has no such instruction."""
    for first in range(0, len(levels), 8):
        chosen = where_any_of_8(levels, first)
        while chosen:
            at[taken] = levels[first + np.intp(trailing_zeros(chosen))]
            taken += 1
            chosen &= chosen - _1
    return taken


_put_together = put_together_by_shuffles if CAN_SHUFFLE else put_together_one_by_one


@compiled
def pack_levels(levels, about, rows, ones, counts, at):
    """Pack whole rows of eight frames of levels, put levels at events together, and count planes.

    Parameters
    ----------
    levels : uint8 array, shape [8 * rows, neurons], C-contiguous
        Their bits: those of signed bytes.
    about : uint8 array, shape [8, neurons]
        Memory for what planes say of eight frames, of so many neurons at once.
    rows : uint8 array, shape [rows, neurons]
        Receives events.
    ones : uint8 array, shape [planes + 1, neurons]
        How often each plane of magnitude, for which there is room, and the sign are true is added to it.
    counts : uint32 array, shape [planes + 1, neurons]
        Of more than `ROWS_IN_BYTE` rows receives what ``ones`` has no room for, and so all.
    at : uint8 array, shape [8 * rows * neurons + 64]
        Receives levels at events, frame by frame, neurons in order.

    Returns
    -------
    int
        Number of events.
    int
        A bit for each plane that anything is true in, the highest for the sign.
    """
    count, neurons = rows.shape
    found, taken = _NONE, 0
    at_once = max(_LEVELS_AT_ONCE // (8 * neurons), 1)
    for begin in range(0, count, at_once):
        end = min(begin + at_once, count)
        taken = _put_together(levels[8 * begin : 8 * end].reshape(-1), taken, at)
        for row in range(begin, end):
            found = either(found, _pack_row(levels[8 * row : 8 * row + 8], about, rows[row], ones))
            if count > ROWS_IN_BYTE and ((row + 1) % ROWS_IN_BYTE == 0 or row + 1 == count):
                _move_counts(ones, counts)
    return taken, found


@compiled
def bits_of_levels(at, planes, out):
    """Make bits of levels at events; the first one is in the highest bit of the first byte.

    Parameters
    ----------
    at : uint8 array, shape [64 * words]
        Levels, and 0 behind them; is overwritten.
    planes : int array, shape [planes]
        Which bits of what planes say become bits.
    out : uint64 array, shape [planes, words]
    """
    for place in range(len(at)):
        at[place] = _about(at[place])
    every = np.empty(8, np.uint64)
    for word in range(len(at) >> 6):
        frames = frames_of(at, 64 * word)
        for frame in range(8):
            every[7 - frame] = frames[frame]
        for place in range(len(planes)):
            out[place, word] = in_bytes_backwards(every[planes[place]])


@compiled
def put_behind(bits, shift, out):
    """Write packed bits behind so many that are there, in the highest places of the first byte.

    Parameters
    ----------
    bits : uint8 array, shape [bytes]
    shift : int
        From 0 to 7.
    out : uint8 array, shape [bytes] or [bytes + 1]
        Its first byte has ``shift`` bits, and 0 behind them; all others are overwritten.
    """
    up, down = np.uint64(8 - shift), np.uint64(shift)
    before = np.uint64(out[0]) if shift else np.uint64(0)
    for place in range(len(bits)):
        byte = np.uint64(bits[place])
        out[place] = np.uint8(before | byte >> down)
        before = byte << up & _255
    if len(out) > len(bits):
        out[len(bits)] = np.uint8(before)
