"""From packed rows to trains and the spikes of each neuron in one pass, compiled by numba.

`recorder.format.bits.rows_to_trains` and `count_per_neuron` say what comes of it. Eight rows become words of
eight bytes, of many neurons that are next to each other in memory, a tile at a time that stays in the cache.
"""

from __future__ import annotations

import sys

import numpy as np

from recorder.native.compiling import compiled, count_ones

# Neurons and words of a tile: a cache line of rows, and one of trains.
_BESIDE, _HIGH = 64, 8
# How far the byte of each row is shifted, the first one into the byte that comes first in memory.
_SHIFTS = np.uint64(8) * (np.arange(8, dtype=np.uint64)[:: 1 if sys.byteorder == "little" else -1])
_S0, _S1, _S2, _S3, _S4, _S5, _S6, _S7 = _SHIFTS


@compiled
def rearrange(rows, words, counts):
    """Fill ``words``, uint64 [neurons, n], and ``counts``, int64 [neurons], from uint8 [8 n, neurons]."""
    neurons, width = words.shape
    tile = np.empty((_HIGH, _BESIDE), np.uint64)
    for first in range(0, neurons, _BESIDE):
        beside = min(_BESIDE, neurons - first)
        counts[first : first + beside] = 0
        for begin in range(0, width, _HIGH):
            high = min(_HIGH, width - begin)
            for place in range(high):
                some = rows[8 * (begin + place) : 8 * (begin + place) + 8, first : first + beside]
                r0, r1, r2, r3 = some[0], some[1], some[2], some[3]
                r4, r5, r6, r7 = some[4], some[5], some[6], some[7]
                line = tile[place]
                for neuron in range(beside):
                    line[neuron] = (
                        (np.uint64(r0[neuron]) << _S0)
                        | (np.uint64(r1[neuron]) << _S1)
                        | (np.uint64(r2[neuron]) << _S2)
                        | (np.uint64(r3[neuron]) << _S3)
                        | (np.uint64(r4[neuron]) << _S4)
                        | (np.uint64(r5[neuron]) << _S5)
                        | (np.uint64(r6[neuron]) << _S6)
                        | (np.uint64(r7[neuron]) << _S7)
                    )
            for neuron in range(beside):
                train, count = words[first + neuron], np.int64(0)
                for place in range(high):
                    word = tile[place, neuron]
                    train[begin + place] = word
                    count += np.int64(count_ones(word))
                counts[first + neuron] += count
