"""Loops for values other than 0 and 1, compiled by numba; `recorder.native.values` calls them.

Bits come as words of eight neurons, a byte each, of eight frames. A word is turned (see
`recorder.format.at_events`), so that its bytes are frames. Then what a byte of a plane has at the events of a
byte is looked up.
"""

from __future__ import annotations

import numpy as np

from recorder.native.compiling import compiled, count_ones

_LOWER_1, _LOWER_2 = np.uint64(0x0055_0055_0055_0055), np.uint64(0x0000_3333_0000_3333)
_LOWER_4 = np.uint64(0x0000_0000_0F0F_0F0F)
_9, _18, _36 = np.uint64(9), np.uint64(18), np.uint64(36)
_8, _BYTE, _HALF = np.uint64(8), np.uint64(255), np.uint64(2**32 - 1)


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
        Whether all levels are equal to their values.
    int, int
        Range of the levels.
    """
    differ, least, most, zero = False, np.int8(0), np.int8(0), np.float32(0)
    low, high = np.float32(np.iinfo(np.int8).min), np.float32(np.iinfo(np.int8).max)
    for slot in range(len(values)):
        value = values[slot]
        # What an integer of this size does not have may become anything when it is converted.
        level = np.int8(value if low <= value <= high else zero)
        levels[slot] = level
        differ |= level != value
        least, most = min(least, level), max(most, level)
    return not differ, least, most


@compiled
def pack_levels(levels, above, rows):
    """Pack whole rows of eight frames of levels.

    Parameters
    ----------
    levels : int8 array, shape [8 * rows, neurons], C-contiguous
    above : uint8 array, shape [8, neurons]
        Memory for |level| - 1.
    rows : uint8 array, shape [1 + planes + 1, rows, neurons]
        Receives events, the planes of magnitude, and the sign.
    """
    planes = len(rows) - 2
    zero = levels.dtype.type(0)
    for row in range(rows.shape[1]):
        events, signs = rows[0, row], rows[planes + 1, row]
        for neuron in range(len(events)):
            events[neuron] = signs[neuron] = 0
        for place in range(8):
            frame, magnitude = levels[8 * row + place], above[place]
            bit = np.uint8(128 >> place)
            for neuron in range(len(events)):
                level = frame[neuron]
                events[neuron] |= bit if level != zero else np.uint8(0)
                signs[neuron] |= bit if level < zero else np.uint8(0)
                absolute = -level if level < zero else level
                magnitude[neuron] = absolute - 1 if level != zero else 0
        for plane in range(planes):
            out = rows[1 + plane, row]
            for neuron in range(len(events)):
                out[neuron] = 0
            for place in range(8):
                magnitude = above[place]
                bit = np.uint8(128 >> place)
                for neuron in range(len(events)):
                    out[neuron] |= bit if magnitude[neuron] >> plane & 1 else np.uint8(0)


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
def take_bits(events, planes, together, out):
    """Write the bits of planes at events.

    Parameters
    ----------
    events : uint64 array, shape [rows, words]
    planes : uint64 array, shape [planes, rows, words]
    together : uint64 array, shape [256 * 256]
        Bits of the lower byte of a place at those of the upper one, moved together.
    out : uint32 array, shape [planes, words]
        Has room for as many bits as there are events; the first bit is the highest one of the first word.

    Returns
    -------
    int
        Number of events.
    """
    count, beside = events.shape
    # Whole fours of words, of which the last may be silent.
    masks = np.zeros(-(-beside // 4) * 4, np.uint64)
    words = np.zeros(len(masks), np.uint64)
    begun = np.zeros(len(planes), np.uint64)
    first_bits, first_place, bits, place = 0, 0, 0, 0
    for row in range(count):
        for word in range(beside):
            masks[word] = _turn(events[row, word])
        for plane in range(len(planes)):
            for word in range(beside):
                words[word] = _turn(planes[plane, row, word])
            bits, place, last = first_bits, first_place, begun[plane]
            for frame in range(8):
                shift = np.uint64(8 * frame)
                for word in range(0, len(masks), 4):
                    m0, m1 = (masks[word] >> shift) & _BYTE, (masks[word + 1] >> shift) & _BYTE
                    m2, m3 = (masks[word + 2] >> shift) & _BYTE, (masks[word + 3] >> shift) & _BYTE
                    p0 = together[m0 << _8 | ((words[word] >> shift) & _BYTE)]
                    p1 = together[m1 << _8 | ((words[word + 1] >> shift) & _BYTE)]
                    p2 = together[m2 << _8 | ((words[word + 2] >> shift) & _BYTE)]
                    p3 = together[m3 << _8 | ((words[word + 3] >> shift) & _BYTE)]
                    n1, n3 = count_ones(m1), count_ones(m3)
                    n23 = count_ones(m2) + n3
                    more = count_ones(m0) + n1 + n23
                    last = last << more | (p0 << n1 | p1) << n23 | p2 << n3 | p3
                    bits += np.int64(more)
                    if bits >= 32:
                        bits -= 32
                        out[plane, place] = (last >> np.uint64(bits)) & _HALF
                        place += 1
            begun[plane] = last
        first_bits, first_place = bits, place
    if bits:
        for plane in range(len(planes)):
            out[plane, place] = (begun[plane] << np.uint64(32 - bits)) & _HALF
    return 32 * place + bits


@compiled
def put_bits(events, bits, place, apart, out):
    """Write a plane that has these bits at events.

    Parameters
    ----------
    events : uint64 array, shape [rows, words]
    bits : uint8 array
        From ``place`` on as many bits as there are events, and a byte more.
    place : int
        How many bits are left out.
    apart : uint8 array, shape [256, 256]
        The highest bits of the second byte at the places of those of the first one.
    out : uint64 array, shape [rows, words]

    Returns
    -------
    int
        The place behind the bits that were used.
    """
    masks, words = np.empty(events.shape[1], np.uint64), np.empty(events.shape[1], np.uint64)
    for row in range(len(events)):
        for word in range(len(masks)):
            masks[word] = _turn(events[row, word])
            words[word] = 0
        for frame in range(8):
            shift = np.uint64(8 * frame)
            for word in range(len(masks)):
                mask = (masks[word] >> shift) & _BYTE
                if mask:
                    two = np.uint64(bits[place >> 3]) << np.uint64(8) | np.uint64(bits[(place >> 3) + 1])
                    next_bits = (two >> np.uint64(8 - (place & 7))) & _BYTE
                    words[word] |= np.uint64(apart[mask, next_bits]) << shift
                    place += np.int64(count_ones(mask))
        for word in range(len(masks)):
            out[row, word] = _turn(words[word])
    return place
