"""Pack, unpack and count the bits of spikes, in plain numpy.

Packed bits have one of two arrangements. Both are ``uint8``, and both have the earliest of eight frames in
the most significant bit of a byte:

rows
    Shape ``[bytes, neurons]``: one row is eight frames of all neurons. Spikes arrive in this arrangement.
trains
    Shape ``[neurons, bytes]``: the spike train of each neuron is contiguous. Chunks are stored and counted in
    this arrangement.

Counting never unpacks bits to booleans. Masks over frames are packed in the same order as trains, so that
results do not depend on the byte order of the machine.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Packed = NDArray[np.uint8]
Counts = NDArray[np.int64]
Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]

# The lowest bit of each of the eight bytes of a word.
_LANES = np.uint64(0x0101010101010101)
# `rows_to_trains` moves blocks of at most so many words (64 KiB) and so many neurons.
_BLOCK_WORDS = 8192
_BLOCK_NEURONS = 4096
# `trains_to_rows` moves blocks of at most so many words (256 KiB).
_TURNED_WORDS = 2**15
# `unpack_trains` turns at most so many words (512 KiB) at a time, which become 4 MiB of booleans.
_UNPACKED_WORDS = 2**16
# One byte of a word holds sums up to 255; a larger sum would carry into the next byte.
_LANE_LIMIT = 255
_ROW_WORDS = 512
_COUNTED_WORDS = 2**16
# Slots that `blocks_of_rows` puts together, so that they stay in the cache of a core.
_BLOCK_SLOTS = 2**17


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


def pack_whole_rows(frames: Bools) -> Packed:
    """Pack a multiple of eight frames, as `pack_frames` does, as fast as memory allows."""
    if frames.shape[1] < 8:
        return pack_frames(frames)
    eights = frames.view(np.uint8).reshape(-1, 8, frames.shape[1])
    # A row is doubled by adding it to itself: numpy has vector instructions to add bytes, but not to shift.
    rows: Packed = np.add(eights[:, 0], eights[:, 0])
    for place in range(1, 7):
        np.bitwise_or(rows, eights[:, place], rows)
        np.add(rows, rows, rows)
    return np.bitwise_or(rows, eights[:, 7], rows)


def blocks_of_rows(rows: int, neurons: int) -> Iterator[slice]:
    """Rows that are worked on at once where their bits are unpacked, so few that these stay in the cache."""
    at_once = max(_BLOCK_SLOTS // max(8 * neurons, 1), 1)
    for first in range(0, rows, at_once):
        yield slice(first, min(first + at_once, rows))


def unpack_rows(rows: Packed, out: Packed | None = None) -> Bools:
    """Frames of packed rows, ``[rows, neurons]``, as booleans, ``[8 * rows, neurons]``.

    ``out`` is contiguous memory for them, uint8 of as many bytes.
    """
    bits = np.empty(8 * rows.size, np.uint8) if out is None else out
    eights = bits.reshape(len(rows), 8, rows.shape[1])
    for place in range(8):
        np.right_shift(rows, 7 - place, out=eights[:, place])
    np.bitwise_and(eights, 1, out=eights)
    return eights.reshape(-1, rows.shape[1]).view(np.bool_)


def rows_to_trains(rows: Packed, out: Packed | None = None) -> Packed:
    """Rearrange rows ``[bytes, neurons]`` to trains ``[neurons, bytes]``, contiguous or in ``out``.

    Where the number of rows is a multiple of eight, 64-bit words are moved in blocks that fit into the cache
    of a core. This is three to six times as fast as moving single bytes.
    """
    count, neurons = rows.shape
    trains = np.empty((neurons, count), np.uint8) if out is None else out
    if count % 8:
        trains[...] = rows.T
        return trains
    eights = rows.reshape(count // 8, 8, neurons)
    trains_of_words = trains.view(np.uint64)
    block_words = max(_BLOCK_WORDS // min(_BLOCK_NEURONS, max(neurons, 1)), 1)
    for neuron in range(0, neurons, _BLOCK_NEURONS):
        for word in range(0, count // 8, block_words):
            block = eights[word : word + block_words, :, neuron : neuron + _BLOCK_NEURONS]
            words = np.ascontiguousarray(np.moveaxis(block, 1, 2)).view(np.uint64)[..., 0]
            trains_of_words[neuron : neuron + _BLOCK_NEURONS, word : word + block_words] = words.T
    return trains


def trains_to_rows(trains: Packed) -> Packed:
    """Rearrange contiguous trains ``[neurons, bytes]`` to rows ``[bytes, neurons]``, likewise in blocks.

    A block is copied before it is turned. The trains of a chunk lie a power of two apart, and a column of
    words read at that distance falls into few lines of the cache, again and again: turned in place, chunks of
    the usual width took twice as long.
    """
    neurons, width = trains.shape
    if width % 8:
        return np.ascontiguousarray(trains.T)
    words = np.ascontiguousarray(trains).view(np.uint64)
    rows = np.empty((width // 8, 8, neurons), np.uint8)
    beside = min(_BLOCK_NEURONS, max(neurons, 1))
    height = max(_TURNED_WORDS // beside, 1)
    for neuron in range(0, neurons, beside):
        for word in range(0, width // 8, height):
            turned = _turned(words[neuron : neuron + beside, word : word + height])
            rows[word : word + height, :, neuron : neuron + beside] = turned
    return rows.reshape(width, neurons)


def _turned(words: NDArray[np.uint64]) -> Packed:
    """A block of words ``[neurons, words]``, copied and turned to rows, a view ``[words, 8, neurons]``."""
    block = np.ascontiguousarray(np.ascontiguousarray(words).T)
    return np.moveaxis(block.view(np.uint8).reshape(*block.shape, 8), 2, 1)


def unpack_trains(trains: Packed, first: int = 0, last: int | None = None, out: Bools | None = None) -> Bools:
    """Unpack frames ``first`` to ``last`` (exclusive) of packed trains.

    Where the number of bytes is a multiple of eight, 64-bit words are turned to rows, and their bits to
    booleans, in blocks that fit into the cache of a core. This is two to twenty times as fast as turning
    booleans.

    Parameters
    ----------
    trains : uint8 array, shape [neurons, bytes]
    first, last : int
        Range of frames; ``last`` is by default the number of frames in ``trains``.
    out : bool array, shape [last - first, neurons], optional
        Contiguous memory for the result. Fresh memory can take as long as unpacking.

    Returns
    -------
    bool array, shape [last - first, neurons]
    """
    last = trains.shape[1] * 8 if last is None else last
    neurons, width = trains.shape
    if out is not None and (width % 8 or first % 64 or last % 64):
        out[:] = unpack_trains(trains, first, last)
        return out
    if width % 8:
        offset = first // 8 * 8
        bits = np.unpackbits(trains[:, first // 8 : -(-last // 8)], axis=1)
        return np.ascontiguousarray(bits[:, first - offset : last - offset].T).view(np.bool_)
    words = np.ascontiguousarray(trains).view(np.uint64)[:, first // 64 : -(-last // 64)]
    whole = np.empty((words.shape[1] * 64, neurons), np.bool_) if out is None else out
    bools = whole.reshape(-1, 8, 8, neurons)
    beside = min(_BLOCK_NEURONS, max(neurons, 1))
    height = max(_UNPACKED_WORDS // beside, 1)
    for neuron in range(0, neurons, beside):
        for word in range(0, words.shape[1], height):
            rows = np.ascontiguousarray(_turned(words[neuron : neuron + beside, word : word + height]))
            out = bools[word : word + len(rows), ..., neuron : neuron + beside]
            for place in range(8):
                np.not_equal(rows & np.uint8(128 >> place), 0, out=out[:, :, place])
    offset = first // 64 * 64
    return whole[first - offset : last - offset]


def pack_mask(selected: Bools) -> Packed:
    """Pack a selection of frames, bool [frames], into a mask for trains, uint8 [ceil(frames / 8)]."""
    return np.packbits(selected)


def range_mask(frames: int, first: int, last: int) -> Packed:
    """Packed mask that selects frames ``first`` to ``last`` (exclusive) of ``frames``, a multiple of 8."""
    selected = np.zeros(frames, np.bool_)
    selected[first:last] = True
    return np.packbits(selected)


def mask_trains(trains: Packed, mask: Packed) -> Packed:
    """A copy of trains in which every frame that the packed mask does not select is silent."""
    return trains & mask


def count_bits(packed: Packed) -> int:
    """Number of spikes in packed bits of any arrangement."""
    flat = np.ascontiguousarray(packed).reshape(-1)
    whole = flat.size // 8 * 8
    # Bytes are counted eight at a time, and their counts added up as integers of 64 bits.
    words, rest = np.bitwise_count(flat[:whole].view(np.uint64)), np.bitwise_count(flat[whole:])
    return int(words.sum(dtype=np.int64)) + int(rest.sum(dtype=np.int64))


def count_per_neuron(trains: Packed) -> Counts:
    """Number of spikes of each neuron.

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
    # A few neurons are counted at a time, so that the counts of their words stay in the processor's cache.
    rows = max(_COUNTED_WORDS // max(width, 1), 1)
    counted = np.empty((min(rows, neurons), width), np.uint8)
    for first in range(0, neurons, rows):
        some = words[first : first + rows]
        np.bitwise_count(some, out=counted[: len(some)])
        counted[: len(some)].sum(axis=1, dtype=np.int64, out=counts[first : first + rows])
    return counts


def count_rows(rows: Packed) -> Counts:
    """Number of spikes of each neuron, int64 [neurons], in rows ``[bytes, neurons]``."""
    counts = np.zeros(rows.shape[1], np.int64)
    for first in range(0, len(rows), _LANE_LIMIT // 8):
        # As many rows as a byte can hold the sums of.
        counts += np.bitwise_count(rows[first : first + _LANE_LIMIT // 8]).sum(axis=0, dtype=np.uint8)
    return counts


def count_per_frame(trains: Packed) -> Counts:
    """Number of spikes in each frame, of all neurons together.

    This is a positional population count. For each place k of a byte, bit k of every byte is shifted to the
    lowest place and added up over neurons, eight bytes of a 64-bit word at a time. At most 255 neurons are
    added up at once, so that no byte overflows.

    Parameters
    ----------
    trains : uint8 array, shape [neurons, bytes], ``bytes`` a multiple of 8, C-contiguous

    Returns
    -------
    int64 array, shape [8 * bytes]
    """
    words = trains.view(np.uint64)
    neurons, width = words.shape
    # numpy adds up short rows slowly. So several neurons are put side by side in one long row; the sums of
    # the neurons that share a row are added in the end.
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
