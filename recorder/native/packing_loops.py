"""From values to packed rows in one pass, compiled by numba; `recorder.capture.host.native_packing` calls it.

Values come as words, their bits unsigned. Each is compared with the word that 1 has, and what is none goes
into one word of all others, which is 0 in the end if all of them were. Eight frames are read side by side, so
that neurons which are next to each other in memory are handled by one instruction of the processor.
"""

from __future__ import annotations

import numpy as np

from recorder.native.compiling import both, compiled, either

_NONE, _ALL = np.uint8(0), np.uint8(255)
# The bit of each frame of a row, and those of the frames before it.
_BITS = 128 >> np.arange(8)
_BEFORE = (0xFF00 >> np.arange(8)) & 0xFF
_FIRST, _SECOND, _THIRD, _FOURTH = np.uint8(128), np.uint8(64), np.uint8(32), np.uint8(16)
_FIFTH, _SIXTH, _SEVENTH, _EIGHTH = np.uint8(8), np.uint8(4), np.uint8(2), np.uint8(1)


@compiled
def _pack_eight(values, frame, row, one, zero):
    """Pack eight frames into a row; the others among them, and a byte that is 0 if nothing fired."""
    v0, v1, v2, v3 = values[frame], values[frame + 1], values[frame + 2], values[frame + 3]
    v4, v5, v6, v7 = values[frame + 4], values[frame + 5], values[frame + 6], values[frame + 7]
    others, fired = zero, _NONE
    for neuron in range(len(row)):
        a0, a1, a2, a3 = v0[neuron], v1[neuron], v2[neuron], v3[neuron]
        a4, a5, a6, a7 = v4[neuron], v5[neuron], v6[neuron], v7[neuron]
        i0, i1, i2, i3 = a0 == one, a1 == one, a2 == one, a3 == one
        i4, i5, i6, i7 = a4 == one, a5 == one, a6 == one, a7 == one
        found = either(
            either(
                either(zero if i0 else a0, zero if i1 else a1), either(zero if i2 else a2, zero if i3 else a3)
            ),
            either(
                either(zero if i4 else a4, zero if i5 else a5), either(zero if i6 else a6, zero if i7 else a7)
            ),
        )
        others = either(others, found)
        byte = either(
            either(
                either(_FIRST if i0 else _NONE, _SECOND if i1 else _NONE),
                either(_THIRD if i2 else _NONE, _FOURTH if i3 else _NONE),
            ),
            either(
                either(_FIFTH if i4 else _NONE, _SIXTH if i5 else _NONE),
                either(_SEVENTH if i6 else _NONE, _EIGHTH if i7 else _NONE),
            ),
        )
        row[neuron] = byte
        fired = either(fired, byte)
    return others, fired


@compiled
def _pack_one(values, row, bit, before, one, zero):
    """Pack a frame into a row that holds some; what comes behind them there counts for nothing."""
    others, fired = zero, _NONE
    for neuron in range(len(row)):
        value = values[neuron]
        is_one = value == one
        others = either(others, zero if is_one else value)
        spike = bit if is_one else _NONE
        row[neuron] = either(both(row[neuron], before), spike)
        fired = either(fired, spike)
    return others, fired


@compiled
def _pack_alone(values, row, bit, before, one, zero):
    """Do what `_pack_one` does, by four places at once: memory is read twice as fast as from one place."""
    size = len(row) // 4
    v0, v1, v2, v3 = values[:size], values[size : 2 * size], values[2 * size : 3 * size], values[3 * size :]
    r0, r1, r2, r3 = row[:size], row[size : 2 * size], row[2 * size : 3 * size], row[3 * size :]
    others, fired = _pack_one(values[4 * size :], row[4 * size :], bit, before, one, zero)
    for neuron in range(size):
        a0, a1, a2, a3 = v0[neuron], v1[neuron], v2[neuron], v3[neuron]
        i0, i1, i2, i3 = a0 == one, a1 == one, a2 == one, a3 == one
        first = either(zero if i0 else a0, zero if i1 else a1)
        others = either(others, either(first, either(zero if i2 else a2, zero if i3 else a3)))
        s0, s1, s2, s3 = (
            bit if i0 else _NONE,
            bit if i1 else _NONE,
            bit if i2 else _NONE,
            bit if i3 else _NONE,
        )
        r0[neuron] = either(both(r0[neuron], before), s0)
        r1[neuron] = either(both(r1[neuron], before), s1)
        r2[neuron] = either(both(r2[neuron], before), s2)
        r3[neuron] = either(both(r3[neuron], before), s3)
        fired = either(fired, either(either(s0, s1), either(s2, s3)))
    return others, fired


@compiled
def pack_frames(values, rows, waiting, one, zero, significant):
    """Pack frames behind those that wait in rows.

    Parameters
    ----------
    values : array of unsigned words, shape [frames, neurons], C-contiguous
        Bits of the values.
    rows : uint8 array, shape [rows, neurons], C-contiguous
        Has room for them. Bits behind those of the waiting frames may be anything, before and after.
    waiting : int
        Frames in it.
    one, zero : words of the same type
        The bits of 1, and 0.
    significant : word of the same type
        The bits that must be 0 in a value that is 0: all but a sign.

    Returns
    -------
    bool
        Whether there are other values than 0 and 1. What was packed is then of no meaning.
    bool
        Whether there is a 1.
    """
    others, fired = zero, _NONE
    frame = 0
    while frame < len(values):
        row, place = rows[(waiting + frame) >> 3], (waiting + frame) & 7
        if place == 0 and frame + 8 <= len(values):
            found, spikes = _pack_eight(values, frame, row, one, zero)
            frame += 8
        else:
            bit, before = np.uint8(_BITS[place]), np.uint8(_BEFORE[place])
            found, spikes = _pack_alone(values[frame], row, bit, before, one, zero)
            frame += 1
        others, fired = either(others, found), either(fired, spikes)
    return both(others, significant) != zero, fired != _NONE
