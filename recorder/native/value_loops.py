"""Loops that pack values other than 0 and 1, compiled by numba; `recorder.native.values` calls them.

Rows of bits have eight frames of a neuron in a byte. What planes say is kept at events alone, frame by frame.
So the levels of events are put together, eight slots at a time, and become bits. One instruction of the
processor does for many slots what it does for one, and loops go over no more of them than its cache holds.
"""

from __future__ import annotations

import numpy as np

from recorder.native.compiling import (
    CAN_SHUFFLE,
    both,
    compiled,
    count_ones,
    down,
    either,
    frames_of,
    in_bytes_backwards,
    levels_of_64,
    minus_at_most,
    plus,
    put_together,
    trailing_zeros,
    up,
    where_any_of_8,
    where_any_of_64,
)

_1, _255 = np.uint64(1), np.uint64(255)
# Neurons of which eight frames are worked on at once; the first cache holds their levels.
_NEURONS_AT_ONCE = 2048
# Rows of eight frames in which a neuron can be counted in a byte.
ROWS_IN_BYTE = 255 // 8

# The bit of each frame of a row.
_NONE, _ONE, _ALL = np.uint8(0), np.uint8(1), np.uint8(255)
_FIRST, _SECOND, _THIRD, _FOURTH = np.uint8(128), np.uint8(64), np.uint8(32), np.uint8(16)
_FIFTH, _SIXTH, _SEVENTH, _EIGHTH = np.uint8(8), np.uint8(4), np.uint8(2), np.uint8(1)
# The ends of the range of a byte, which are also levels of what is beyond it.
_LEAST, _MOST = np.iinfo(np.int8).min, np.iinfo(np.int8).max
# Of a level, as of any signed byte.
_NEGATIVE = np.uint8(128)

# The places of those that are chosen among eight bytes, for each choice, in order.
_CHOSEN = np.zeros((256, 8), np.uint8)
for _choice in range(256):
    _places = [place for place in range(8) if _choice >> place & 1]
    _CHOSEN[_choice, : len(_places)] = _places


@compiled
def _take_levels(values, levels):
    """Write values that are whole numbers as levels; 0 if all levels are equal to their values.

    They are read at four places at once: memory is read faster than from one. What fills no 64 comes last.

    Parameters
    ----------
    values : float32 array, shape [slots], C-contiguous
    levels : int8 array, shape [slots]
    """
    size, others = len(values) // 256 * 64, np.uint64(0)
    for first in range(0, size, 64):
        one = levels_of_64(values, levels, first) | levels_of_64(values, levels, size + first)
        other = levels_of_64(values, levels, 2 * size + first) | levels_of_64(
            values, levels, 3 * size + first
        )
        others |= one | other
    last, same = np.zeros(64, np.float32), np.empty(64, np.int8)
    for first in range(4 * size, len(values), 64):
        count = min(64, len(values) - first)
        last[:count] = values[first : first + count]
        others |= levels_of_64(last, same, 0)
        levels[first : first + count] = same[:count]
    return others


@compiled
def _range_of(levels):
    """Range of levels and 0."""
    least, most = np.int8(0), np.int8(0)
    for bits in levels:
        level = np.int8(bits)
        least, most = min(least, level), max(most, level)
    return np.int64(least), np.int64(most)


@compiled
def _is_whole(others, least, most):
    """Whether levels are their values, of which others and those beyond the range of a level were found."""
    return others == 0 and least > _LEAST and most < _MOST


@compiled
def take_levels(values, levels):
    """Write values that are whole numbers as levels, for as long as they are.

    Parameters
    ----------
    values : float32 array, shape [slots], C-contiguous
    levels : int8 array, shape [slots]

    Returns
    -------
    bool
        Whether all levels are equal to their values, and between the ends of the range of a byte.
    int, int
        Range of the levels and 0, where they are.
    """
    others = _take_levels(values, levels)
    least, most = _range_of(levels)
    return _is_whole(others, least, most), least, most


@compiled
def _if_any(byte, mask, bit):
    """The bit if a byte has any bit of the mask."""
    return bit if both(byte, mask) else _NONE


@compiled
def _pack_eight(frames, row):
    """Pack eight frames of levels into a row: whether a level is not 0."""
    v0, v1, v2, v3 = frames[0], frames[1], frames[2], frames[3]
    v4, v5, v6, v7 = frames[4], frames[5], frames[6], frames[7]
    for neuron in range(len(row)):
        row[neuron] = either(
            either(
                either(_if_any(v0[neuron], _ALL, _FIRST), _if_any(v1[neuron], _ALL, _SECOND)),
                either(_if_any(v2[neuron], _ALL, _THIRD), _if_any(v3[neuron], _ALL, _FOURTH)),
            ),
            either(
                either(_if_any(v4[neuron], _ALL, _FIFTH), _if_any(v5[neuron], _ALL, _SIXTH)),
                either(_if_any(v6[neuron], _ALL, _SEVENTH), _if_any(v7[neuron], _ALL, _EIGHTH)),
            ),
        )


@compiled
def _magnitude(bits):
    """|level| - 1, or 0 of level 0."""
    level = np.int8(bits)
    return minus_at_most(np.uint8(-level if level < 0 else level), _ONE)


@compiled
def _in_two(one, other, mask, place):
    """In how many of two frames the magnitude has the bit at a place."""
    return down(plus(both(_magnitude(one), mask), both(_magnitude(other), mask)), place)


@compiled
def _count_magnitudes(frames, place, ones):
    """Add to ones, of each neuron, in how many of eight frames the magnitude has the bit at a place."""
    mask = np.uint8(1 << place)
    v0, v1, v2, v3 = frames[0], frames[1], frames[2], frames[3]
    v4, v5, v6, v7 = frames[4], frames[5], frames[6], frames[7]
    for neuron in range(len(ones)):
        found = plus(
            plus(_in_two(v0[neuron], v1[neuron], mask, place), _in_two(v2[neuron], v3[neuron], mask, place)),
            plus(_in_two(v4[neuron], v5[neuron], mask, place), _in_two(v6[neuron], v7[neuron], mask, place)),
        )
        ones[neuron] = plus(ones[neuron], found)


@compiled
def _count_signs(frames, ones):
    """Add to ones, of each neuron, in how many of eight frames its level is negative."""
    for place in range(8):
        frame = frames[place]
        for neuron in range(len(ones)):
            ones[neuron] = plus(ones[neuron], _if_any(frame[neuron], _NEGATIVE, _ONE))


@compiled
def _pack_row(levels, planes, has_sign, row, ones):
    """Pack eight frames of levels into a row, and count so many planes of magnitude, and the sign.

    Neurons are taken in pieces that the processor's first cache holds.
    """
    for first in range(0, len(row), _NEURONS_AT_ONCE):
        last = min(first + _NEURONS_AT_ONCE, len(row))
        frames = levels[:, first:last]
        _pack_eight(frames, row[first:last])
        if has_sign:
            _count_signs(frames, ones[0, first:last])
        for place in range(planes):
            _count_magnitudes(frames, np.uint8(place), ones[place + 1, first:last])


@compiled
def move_counts(ones, counts):
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
def _pack_some(levels, rows, ones, counts, at, taken, counted, planes):
    """Pack levels, as few as the second cache holds; their range and 0, and what `pack_levels` returns."""
    before, taken = taken, _put_together(levels.reshape(-1), taken, at)
    least, most = _range_of(at[before:taken])
    here, largest = 0, max(most, -least) - 1
    while largest > 0:
        here, largest = here + 1, largest >> 1
    planes = max(planes, here)
    for row in range(len(rows)):
        if counted == ROWS_IN_BYTE:
            move_counts(ones[: planes + 1], counts[: planes + 1])
            counted = 0
        _pack_row(levels[8 * row : 8 * row + 8], here, least < 0, rows[row], ones)
        counted += 1
    return least, most, taken, counted, planes


@compiled
def pack_values(pending, values, levels, rows, ones, counts, at, taken, counted, planes):
    """Do what `pack_levels` does with pending levels and those of values, as long as they are whole numbers.

    Parameters
    ----------
    pending : int8 array, shape [fewer than 8, neurons]
    values : float32 array, shape [8 * rows - pending, neurons], C-contiguous
    levels : int8 array, shape [8 * some rows, neurons]
        Memory for so many levels as are worked on at once.

    Returns
    -------
    bool
        Whether all levels are equal to their values, and between the ends of the range of a byte. If not,
        what was written is of no meaning.
    int, int
        Range of the levels and 0, where they are.
    int, int, int
        What `pack_levels` returns.
    """
    at_once, least, most = len(levels) // 8, 0, 0
    for begin in range(0, len(rows), at_once):
        end = min(begin + at_once, len(rows))
        some, waiting = levels[: 8 * (end - begin)], 0 if begin else len(pending)
        some[:waiting] = pending[:waiting]
        first, last = 8 * begin + waiting - len(pending), 8 * end - len(pending)
        others = _take_levels(values[first:last].reshape(-1), some[waiting:].reshape(-1))
        low, high, taken, counted, planes = _pack_some(
            some.view(np.uint8), rows[begin:end], ones, counts, at, taken, counted, planes
        )
        least, most = min(least, low), max(most, high)
        if not _is_whole(others, least, most):
            return False, least, most, taken, counted, planes
    return True, least, most, taken, counted, planes


@compiled
def pack_levels(levels, at_once, rows, ones, counts, at, taken, counted, planes):
    """Pack whole rows of eight frames of levels, put levels at events together, and count planes.

    Parameters
    ----------
    levels : int8 array, shape [8 * rows, neurons], C-contiguous
    at_once : int
        Rows that are worked on at once.
    rows : uint8 array, shape [rows, neurons]
        Receives events.
    ones : uint8 array, shape [8, neurons]
        How often a level is negative, and how often each plane of magnitude is true, is added to it.
    counts : uint32 array, shape [8, neurons]
        What is in ``ones`` before that has no room for more is added to it.
    at : uint8 array
        Receives the levels at events, frame by frame, neurons in order, behind the first ``taken``; has room
        for 64 more.
    taken : int
    counted : int
        Rows that are counted in ``ones``, at most `ROWS_IN_BYTE`.
    planes : int
        Planes of magnitude that any level so far has had.

    Returns
    -------
    int, int, int
        ``taken``, ``counted`` and ``planes`` afterwards.
    """
    for begin in range(0, len(rows), at_once):
        end = min(begin + at_once, len(rows))
        some = levels[8 * begin : 8 * end].view(np.uint8)
        _, _, taken, counted, planes = _pack_some(
            some, rows[begin:end], ones, counts, at, taken, counted, planes
        )
    return taken, counted, planes


@compiled
def bits_of_levels(at, planes, out):
    """Make bits of levels at events; the first one is in the highest bit of the first byte.

    Parameters
    ----------
    at : uint8 array, shape [64 * words]
        Levels, and 0 behind them.
    planes : int array, shape [planes]
        Which bits of magnitude become bits, and 7 for the sign.
    out : uint64 array, shape [planes, words]

    Returns
    -------
    uint64 array, shape [8]
        Of each of these planes, something but 0 if it is true anywhere.
    """
    found, about, every = np.zeros(8, np.uint64), np.empty(64, np.uint8), np.empty(8, np.uint64)
    for word in range(len(at) >> 6):
        levels = at[64 * word : 64 * word + 64]
        for place in range(64):
            about[place] = either(_magnitude(levels[place]), both(levels[place], _NEGATIVE))
        frames = frames_of(about, 0)
        for frame in range(8):
            every[7 - frame] = frames[frame]
        for place in range(len(planes)):
            bits = every[planes[place]]
            found[planes[place]] |= bits
            out[place, word] = in_bytes_backwards(bits)
    return found


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
    if shift == 0:
        out[: len(bits)] = bits
        return
    places, other = np.uint8(shift), np.uint8(8 - shift)
    out[0] = either(out[0], down(bits[0], places))
    for place in range(1, len(bits)):
        out[place] = either(down(bits[place], places), up(bits[place - 1], other))
    if len(out) > len(bits):
        out[len(bits)] = up(bits[-1], other)
