"""Spikes in intervals of frames, counted on 64-bit words: what part of a chunk is asked about.

Counts up to a cut come from a running sum over words and one masked word at the cut; an interval is the
difference of two. The cost hardly depends on how many intervals there are, and nothing is unpacked.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recorder.format.bits import Counts, Integers, Packed, count_per_frame, count_per_neuron

_WORD_FRAMES = 64
_CACHED_BYTES = 2**19
# Row r selects the first r of the 64 frames of a word, in whatever byte order this machine has.
_HEADS = np.packbits(np.tri(_WORD_FRAMES, _WORD_FRAMES, -1, np.bool_), axis=1).view(np.uint64)[:, 0]


def count_between(trains: Packed, begin: Integers, end: Integers) -> Counts:
    """Spikes of all neurons together in each interval of frames.

    Parameters
    ----------
    trains : uint8 array, shape [neurons, bytes], ``bytes`` a multiple of 8, the last axis contiguous
    begin, end : int64 array, shape [intervals]
        Frames ``begin`` to ``end`` (exclusive) of these trains.

    Returns
    -------
    int64 array, shape [intervals]
    """
    cuts, places = _cuts(begin, end)
    words = trains.view(np.uint64)
    word, inside = np.divmod(cuts, _WORD_FRAMES)
    partial = np.flatnonzero(inside)
    if len(partial) > 2 * words.shape[1]:
        running = np.concatenate([[0], np.cumsum(count_per_frame(trains))])
        before = running[cuts]
    else:
        per_word = np.bitwise_count(words).sum(axis=0, dtype=np.int64)
        before = np.concatenate([[0], np.cumsum(per_word)])[word]
        masked = words[:, word[partial]] & _HEADS[inside[partial]]
        before[partial] += np.bitwise_count(masked).sum(axis=0, dtype=np.int64)
    between: Counts = before[places[1]] - before[places[0]]
    return between


def count_per_neuron_between(trains: Packed, begin: Integers, end: Integers) -> NDArray[np.int32]:
    """Spikes of each neuron in each interval of frames; parameters as in `count_between`.

    Returns
    -------
    int32 array, shape [neurons, intervals]
    """
    if len(begin) == 1 and begin[0] == 0 and end[0] == trains.shape[1] * 8:
        return count_per_neuron(trains).astype(np.int32)[:, None]
    cuts, places = _cuts(begin, end)
    first_word, last_word = int(cuts[0]) // _WORD_FRAMES, -(-int(cuts[-1]) // _WORD_FRAMES)
    words = trains.view(np.uint64)[:, first_word:last_word]
    word, inside = np.divmod(cuts - first_word * _WORD_FRAMES, _WORD_FRAMES)
    running = np.zeros((len(words), words.shape[1] + 1), np.int32)
    np.cumsum(np.bitwise_count(words), axis=1, dtype=np.int32, out=running[:, 1:])
    before = running[:, word]
    partial = np.flatnonzero(inside)
    before[:, partial] += np.bitwise_count(words[:, word[partial]] & _HEADS[inside[partial]])
    between: NDArray[np.int32] = before[:, places[1]] - before[:, places[0]]
    return between


def count_per_neuron_in(trains: Packed, masks: Packed) -> Counts:
    """Spikes of each neuron in the frames that each of several packed masks selects.

    Parameters
    ----------
    trains : uint8 array, shape [neurons, bytes], ``bytes`` a multiple of 8, the last axis contiguous
    masks : uint8 array, shape [masks, bytes]

    Returns
    -------
    int64 array, shape [masks, neurons]
    """
    words, mask_words = trains.view(np.uint64), masks.view(np.uint64)
    neurons, width = words.shape
    spikes = np.empty((len(masks), neurons), np.int64)
    # All masks are laid over a few neurons while these are in the processor's cache.
    rows = max(_CACHED_BYTES // (8 * width), 1)
    masked = np.empty((min(rows, neurons), width), np.uint64)
    counted = np.empty(masked.shape, np.uint8)
    for first in range(0, neurons, rows):
        some = words[first : first + rows]
        for mask, mask_row in enumerate(mask_words):
            np.bitwise_and(some, mask_row, out=masked[: len(some)])
            np.bitwise_count(masked[: len(some)], out=counted[: len(some)])
            counted[: len(some)].sum(axis=1, dtype=np.int64, out=spikes[mask, first : first + rows])
    return spikes


def interval_mask(frames: int, begin: Integers, end: Integers) -> Packed:
    """Packed mask over ``frames`` frames (a multiple of 8) that selects disjoint, ascending intervals."""
    edges = np.zeros(frames + 1, np.int8)
    edges[begin] += 1
    edges[end] -= 1
    return np.packbits(np.cumsum(edges[:-1], dtype=np.int8))


def _cuts(begin: Integers, end: Integers) -> tuple[Integers, NDArray[np.intp]]:
    """Borders of intervals, ascending, and the places of begins and ends among them, [2, intervals]."""
    cuts, places = np.unique(np.stack([begin, end]), return_inverse=True)
    return cuts, places.reshape(2, -1)
