"""Encode and decode one stored chunk, of ``spikes`` or of a small array.

This module does not use Zarr's array interface, for two reasons: zarr-python 3.1.6 encodes transpose +
packbits wrongly where the chunk becomes Fortran-ordered, and Zarr would need the packed bits unpacked.
Decoding trusts nothing: it checks length, checksum and declared size before it decompresses.
"""

from __future__ import annotations

import math
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import zstd
from numpy.typing import NDArray

from recorder.format.bits import Packed
from recorder.format.errors import RecordingFormatError
from recorder.format.layout import ZSTD_LEVEL

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_CRC_BYTES = 4
_PIECE_BYTES = 2**18
# The crc32c of any data followed by its own crc32c. So stored bytes are checked without cutting them in two.
_SEALED = 0x48674BC7


def checksum(data: bytes | bytearray | memoryview, previous: int = 0) -> int:
    """Crc32c (Castagnoli, RFC 3720) of ``data``, which follow data with the crc32c ``previous``."""
    if isinstance(data, bytes):
        return int(google_crc32c.extend(previous, data))
    # The library takes nothing but bytes. Copied in pieces, these stay in the processor's cache.
    for first in range(0, len(data), _PIECE_BYTES):
        previous = google_crc32c.extend(previous, bytes(data[first : first + _PIECE_BYTES]))
    return previous


def stored_checksum(stored: bytes) -> int:
    """The checksum in the last four bytes of a stored chunk, by which the commit names the chunk.

    It covers the bytes before it. A crc32c over all bytes would be the same number for every chunk.
    """
    return int.from_bytes(stored[-_CRC_BYTES:], "little")


def encode_spikes(trains: Packed, level: int = ZSTD_LEVEL) -> bytes:
    """Stored bytes of one chunk of ``spikes``.

    Parameters
    ----------
    trains : uint8 array, shape [neurons, chunk_frames / 8]
        Packed trains, the first frame in the most significant bit.
    level : int
        Of zstd; a negative one is faster.
    """
    room = room_for_spikes(*trains.shape)
    trains_in(room, *trains.shape)[...] = trains
    return encode_room(room, level)


def encode_room(room: Packed, level: int = ZSTD_LEVEL) -> bytes:
    """Stored bytes of one chunk of ``spikes`` whose trains are in memory from `room_for_spikes`."""
    room[7] = 0  # packbits' number of padding bits
    return _seal(zstd.compress(room[7:], level))


def room_for_spikes(neurons: int, chunk_bytes: int) -> Packed:
    """Memory into which `decode_spikes` can decode a chunk: uint8 [8 + neurons * chunk_bytes]."""
    return np.empty(room_bytes(neurons, chunk_bytes), np.uint8)


def room_bytes(neurons: int, chunk_bytes: int) -> int:
    """Size of memory from `room_for_spikes`."""
    # The header byte is put at offset 7, so that the trains begin at a word boundary.
    return 8 + neurons * chunk_bytes


def trains_in(room: Packed, neurons: int, chunk_bytes: int) -> Packed:
    """The trains in memory from `room_for_spikes`: a view of it, uint8 [neurons, chunk_bytes]."""
    return room[8:].reshape(neurons, chunk_bytes)


def decode_spikes(stored: bytes, neurons: int, chunk_bytes: int, room: Packed | None = None) -> Packed:
    """Packed trains of one stored chunk of ``spikes``.

    Parameters
    ----------
    stored : bytes
    neurons, chunk_bytes : int
        Number of trains, and bytes of each train.
    room : uint8 array, optional
        Memory from `room_for_spikes` to decode into. The result is a view of it.

    Returns
    -------
    uint8 array, shape [neurons, chunk_bytes], C-contiguous and aligned to 64-bit words

    Raises
    ------
    RecordingFormatError
        If the bytes are not one chunk of exactly this size. The caller adds the name of the chunk to the
        message.
    """
    room = room_for_spikes(neurons, chunk_bytes) if room is None else room
    _unseal(stored, room[7:])
    if room[7] != 0:
        raise RecordingFormatError(f"its header byte is {room[7]}, expected 0 (no padding bits)")
    return trains_in(room, neurons, chunk_bytes)


def encode_plane(payload: Packed, level: int = ZSTD_LEVEL) -> bytes:
    """Stored bytes of one chunk of a plane: its bits at events, and zeros behind them."""
    return _seal(zstd.compress(payload, level))


def decode_plane(stored: bytes, size: int) -> Packed:
    """The ``size`` bytes of one stored chunk of a plane; errors as in `decode_spikes`."""
    bits = np.empty(size, np.uint8)
    _unseal(stored, bits)
    return bits


def encode_values(trains: NDArray[Any], level: int = ZSTD_LEVEL) -> bytes:
    """Stored bytes of one chunk of a signal.

    Parameters
    ----------
    trains : array, shape [neurons, chunk_frames]
        Values of each neuron, in the data type of the signal.
    level : int
        Of zstd; a negative one is faster.
    """
    return _seal(zstd.compress(_as_little(trains).reshape(-1).view(np.uint8), level))


def decode_values(stored: bytes, neurons: int, chunk_frames: int, data_type: str) -> NDArray[Any]:
    """Values in one stored chunk of a signal, [neurons, chunk_frames]; errors as in `decode_spikes`."""
    dtype = np.dtype(data_type).newbyteorder("<")
    buffer = np.empty(neurons * chunk_frames * dtype.itemsize, np.uint8)
    _unseal(stored, buffer)
    values = buffer.view(dtype).reshape(neurons, chunk_frames)
    return values.astype(dtype.newbyteorder("="), copy=False)


def _as_little(values: NDArray[Any]) -> NDArray[Any]:
    """Values as little-endian ones, C-contiguous; copied only where they are not so already."""
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))


def encode_rows(rows: NDArray[Any], chunk_rows: int) -> bytes:
    """Stored bytes of one chunk of a small array, padded with zeros to ``chunk_rows`` rows."""
    padded = _as_little(rows)
    if len(rows) < chunk_rows:
        padded = np.zeros((chunk_rows, *rows.shape[1:]), padded.dtype)
        padded[: len(rows)] = rows
    return _seal(zstd.compress(padded, ZSTD_LEVEL))


def decode_rows(stored: bytes, chunk_rows: int, row_shape: tuple[int, ...], data_type: str) -> NDArray[Any]:
    """Rows of one stored chunk of a small array, [chunk_rows, *row_shape]; errors as in `decode_spikes`."""
    dtype = np.dtype(data_type).newbyteorder("<")
    buffer = np.empty(chunk_rows * math.prod(row_shape) * dtype.itemsize, np.uint8)
    _unseal(stored, buffer)
    rows = buffer.view(dtype).reshape(chunk_rows, *row_shape)
    return rows.astype(dtype.newbyteorder("="), copy=False)


def _seal(compressed: bytes) -> bytes:
    return compressed + checksum(compressed).to_bytes(_CRC_BYTES, "little")


def _unseal(stored: bytes, out: Packed) -> None:
    """Check and decompress stored bytes into ``out``, which they must fill exactly."""
    if len(stored) <= _CRC_BYTES or checksum(stored) != _SEALED:
        raise RecordingFormatError(
            f"its {len(stored)} bytes do not match their own crc32c: cut short or altered"
        )
    compressed = memoryview(stored)[:-_CRC_BYTES]
    declared = _declared_size(compressed)
    if declared != out.nbytes:
        raise RecordingFormatError(f"it declares {declared} bytes when decompressed, expected {out.nbytes}")
    try:
        zstd.decompress(compressed, out)
    except (RuntimeError, ValueError) as error:
        raise RecordingFormatError(f"zstd cannot decompress it: {error}") from error


def _declared_size(compressed: memoryview) -> int | None:
    """Content size that a zstd frame header declares (RFC 8878, 3.1.1.1); None where it declares none.

    The size is checked before decompression, because a few stored bytes may decompress to a gigabyte.
    """
    if compressed[:4] != _ZSTD_MAGIC or len(compressed) < 6:
        return None
    descriptor = compressed[4]
    single_segment = bool(descriptor & 0x20)
    size_bytes = {0: 1 if single_segment else 0, 1: 2, 2: 4, 3: 8}[descriptor >> 6]
    if size_bytes == 0:
        return None
    start = 5 + (0 if single_segment else 1) + (0, 1, 2, 4)[descriptor & 3]
    size = int.from_bytes(compressed[start : start + size_bytes], "little")
    return size + 256 if size_bytes == 2 else size
