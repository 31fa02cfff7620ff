"""From packed rows to trains and the spikes of each neuron in one pass, compiled by numba.

`recorder.format.bits.rows_to_trains` and `count_per_neuron` say what comes of it. Eight rows become words of
eight bytes, of many neurons that are next to each other in memory, a tile at a time that stays in the cache.
"""

from __future__ import annotations

import sys

import numpy as np

from recorder.native.compiling import compiled, count_ones, words_of_eight_rows

# Neurons and words of a tile: a cache line of rows, and one of trains.
_BESIDE, _HIGH = 64, 8
# How far the byte of each row is shifted, the first one into the byte that comes first in memory.
_SHIFTS = np.uint64(8) * (np.arange(8, dtype=np.uint64)[:: 1 if sys.byteorder == "little" else -1])


@compiled
def _words_of_few(rows, tile, place):
    """Do what `words_of_eight_rows` does, of fewer neurons, all that there are."""
    for neuron in range(rows.shape[1]):
        word = np.uint64(0)
        for frame in range(8):
            word |= np.uint64(rows[frame, neuron]) << _SHIFTS[frame]
        tile[place + neuron] = word


@compiled
def rearrange(rows, words, counts):
    """Fill ``words``, uint64 [neurons, n], and ``counts``, int64 [neurons], from uint8 [8 n, neurons]."""
    neurons, width = words.shape
    beside, flat = min(_BESIDE, neurons), rows.reshape(-1)
    tile = np.empty(_HIGH * _BESIDE, np.uint64)
    for begun in range(0, neurons, _BESIDE):
        # The last tile is as wide as the others: some of its neurons are done once more.
        first = min(begun, neurons - beside)
        counts[first : first + beside] = 0
        for begin in range(0, width, _HIGH):
            high = min(_HIGH, width - begin)
            for place in range(high):
                row = 8 * (begin + place)
                if beside == _BESIDE:
                    words_of_eight_rows(flat, row * neurons + first, neurons, tile, place * _BESIDE)
                else:
                    _words_of_few(rows[row : row + 8], tile, place * _BESIDE)
            for neuron in range(beside):
                train, count = words[first + neuron], np.int64(0)
                for place in range(high):
                    word = tile[place * _BESIDE + neuron]
                    train[begin + place] = word
                    count += np.int64(count_ones(word))
                counts[first + neuron] += count
