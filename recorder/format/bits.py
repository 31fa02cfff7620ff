"""Bits of spikes in plain numpy: pack, unpack, count. The oracle that every faster path is tested against.

Two arrangements of packed bits occur, both ``uint8`` and both with the earliest of eight frames in the most
significant bit:

rows
    ``[bytes, neurons]``: eight frames of all neurons a row. This is how spikes arrive.
trains
    ``[neurons, bytes]``: each neuron's spike train contiguous. This is how chunks are stored and counted.

Counting never unpacks to booleans. Masks over frames are packed the same way, so that nothing here depends
on the byte order of the machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Packed = NDArray[np.uint8]
Counts = NDArray[np.int64]
Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]

_LANES = np.uint64(0x0101010101010101)
# 64 KiB of them, for neurons side by side.
_BLOCK_WORDS = 8192
_BLOCK_NEURONS = 4096
# A byte-wide lane holds sums up to 255 before it runs into its neighbour.
_LANE_LIMIT = 255
_ROW_WORDS = 512
_COUNTED_WORDS = 2**16


def pack_frames(frames: Bools) -> Packed:
    """Pack frames into rows of eight, the last row padded with silence.

    Parameters
    ----------
    frames : bool array, shape [frames, neurons]

    Returns
    -------
    uint8 array, shape [ceil(frames / 8), neurons]
    """
    return np.packbits(frames, axis=0)


def rows_to_trains(rows: Packed) -> Packed:
    """Rearrange ``[bytes, neurons]`` to contiguous ``[neurons, bytes]``.

    A multiple of eight rows is moved as 64-bit words, in blocks that stay in a core's cache: three to six
    times as fast as byte by byte.
    """
    count, neurons = rows.shape
    if count % 8:
        return np.ascontiguousarray(rows.T)
    eights = rows.reshape(count // 8, 8, neurons)
    trains = np.empty((neurons, count // 8), np.uint64)
    block_words = max(_BLOCK_WORDS // min(_BLOCK_NEURONS, max(neurons, 1)), 1)
    for neuron in range(0, neurons, _BLOCK_NEURONS):
        for word in range(0, count // 8, block_words):
            block = eights[word : word + block_words, :, neuron : neuron + _BLOCK_NEURONS]
            words = np.ascontiguousarray(np.moveaxis(block, 1, 2)).view(np.uint64)[..., 0]
            trains[neuron : neuron + _BLOCK_NEURONS, word : word + block_words] = words.T
    return trains.view(np.uint8)


def unpack_trains(trains: Packed, first: int = 0, last: int | None = None) -> Bools:
    """Frames ``first`` to ``last`` (exclusive) of packed trains.

    Parameters
    ----------
    trains : uint8 array, shape [neurons, bytes]
    first, last : int
        Range of frames; ``last`` defaults to all.

    Returns
    -------
    bool array, shape [last - first, neurons]
    """
    last = trains.shape[1] * 8 if last is None else last
    offset = first // 8 * 8
    bits = np.unpackbits(trains[:, first // 8 : -(-last // 8)], axis=1)
    return np.ascontiguousarray(bits[:, first - offset : last - offset].T).view(np.bool_)


def pack_mask(selected: Bools) -> Packed:
    """Pack a selection of frames, shape [frames], to be laid over trains."""
    return np.packbits(selected)


def range_mask(frames: int, first: int, last: int) -> Packed:
    """Packed mask over ``frames`` frames (a multiple of 8) that selects ``first`` to ``last`` (exclusive)."""
    selected = np.zeros(frames, np.bool_)
    selected[first:last] = True
    return np.packbits(selected)


def mask_trains(trains: Packed, mask: Packed) -> Packed:
    """Trains with every frame outside the packed mask silenced; a new array."""
    return trains & mask


def count_per_neuron(trains: Packed) -> Counts:
    """Spikes of each neuron.

    Parameters
    ----------
    trains : uint8 array, shape [neurons, bytes], ``bytes`` a multiple of 8, C-contiguous

    Returns
    -------
    int64 array, shape [neurons]
    """
    words = trains.view(np.uint64)
    neurons, width = words.shape
    counts = np.empty(neurons, np.int64)
    # A few neurons at a time, so that counts of words stay in the processor's cache.
    rows = max(_COUNTED_WORDS // max(width, 1), 1)
    counted = np.empty((min(rows, neurons), width), np.uint8)
    for first in range(0, neurons, rows):
        some = words[first : first + rows]
        np.bitwise_count(some, out=counted[: len(some)])
        counted[: len(some)].sum(axis=1, dtype=np.int64, out=counts[first : first + rows])
    return counts


def count_per_frame(trains: Packed) -> Counts:
    """Spikes of all neurons together in each frame.

    Bit k of every byte of a word is shifted to the lowest place of its byte and added up over neurons, eight
    bytes at a time, in lanes that cannot overflow: a positional population count.

    Parameters
    ----------
    trains : uint8 array, shape [neurons, bytes], ``bytes`` a multiple of 8, C-contiguous

    Returns
    -------
    int64 array, shape [8 * bytes]
    """
    words = trains.view(np.uint64)
    neurons, width = words.shape
    # Rows of few words are added up slowly: several neurons are laid side by side, and added up last.
    beside = min(max(_ROW_WORDS // width, 1), neurons)
    folded = neurons // beside * beside
    counts = np.zeros((width * 8, 8), np.int64)
    for rows in (words[:folded].reshape(-1, beside * width), words[folded:]):
        for first in range(0, len(rows), _LANE_LIMIT):
            lane_rows = rows[first : first + _LANE_LIMIT]
            for place in range(8):
                lanes = ((lane_rows >> np.uint64(7 - place)) & _LANES).sum(axis=0, dtype=np.uint64)
                counts[:, place] += lanes.view(np.uint8).reshape(-1, width * 8).sum(axis=0, dtype=np.int64)
    return counts.reshape(-1)
