"""A stored chunk gives back what was encoded, or says what is wrong with it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import zstd

import recorder.format
from recorder.format import RecordingFormatError
from recorder.format.chunks import (
    checksum,
    decode_rows,
    decode_spikes,
    decode_values,
    encode_rows,
    encode_spikes,
    encode_values,
)
from recorder.tape.tables import rows_checksum

FORMAT = Path(recorder.format.__file__).with_name("FORMAT.md")


def some_trains(neurons: int, chunk_bytes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (neurons, chunk_bytes), np.uint8)


def sealed(payload: bytes) -> bytes:
    compressed = zstd.compress(payload, 1)
    return compressed + checksum(compressed).to_bytes(4, "little")


@given(st.sampled_from([1, 7, 33, 257]), st.integers(1, 40), st.integers(0, 99))
def test_trains_come_back(neurons: int, words: int, seed: int) -> None:
    trains = some_trains(neurons, words * 8, seed)
    decoded = decode_spikes(encode_spikes(trains), neurons, words * 8)
    assert np.array_equal(decoded, trains)
    assert decoded.ctypes.data % 8 == 0


@pytest.mark.parametrize("size", [1, 254, 255, 256, 257, 65_535, 65_536, 65_792, 70_000])
def test_every_form_of_declared_size_is_read(size: int) -> None:
    # zstd declares sizes in 1, 2, 4 or 8 bytes, the two-byte form with an offset of 256.
    rows = np.arange(size, dtype=np.uint64) % 251
    assert np.array_equal(decode_rows(encode_rows(rows, size), size, (), "uint64"), rows)


@pytest.mark.parametrize("data_type", ["int64", "uint32", "float64"])
def test_rows_come_back_padded_with_zeros(data_type: str) -> None:
    rows = np.arange(6).reshape(2, 3).astype(data_type)
    decoded = decode_rows(encode_rows(rows, 5), 5, (3,), data_type)
    assert decoded.dtype == np.dtype(data_type)
    assert np.array_equal(decoded[:2], rows)
    assert not decoded[2:].any()


@pytest.mark.parametrize("data_type", ["float16", "float64", "int8", "uint32"])
def test_values_come_back(data_type: str) -> None:
    values = (np.random.default_rng(0).normal(size=(5, 7)) * 50).astype(data_type)
    if data_type == "float16":
        values[0, :3] = np.nan, np.inf, -0.0
    decoded = decode_values(encode_values(values), 5, 7, data_type)
    assert decoded.dtype == values.dtype
    assert decoded.tobytes() == values.tobytes()
    with pytest.raises(RecordingFormatError, match="bytes when decompressed, expected"):
        decode_values(encode_values(values), 5, 8, data_type)


def test_every_single_bit_flip_is_noticed() -> None:
    stored = encode_spikes(some_trains(3, 8))
    for place in range(len(stored) * 8):
        altered = bytearray(stored)
        altered[place // 8] ^= 1 << place % 8
        with pytest.raises(RecordingFormatError):
            decode_spikes(bytes(altered), 3, 8)


def test_every_truncation_is_noticed() -> None:
    stored = encode_spikes(some_trains(3, 8))
    for length in range(len(stored)):
        with pytest.raises(RecordingFormatError, match="cut short or altered"):
            decode_spikes(stored[:length], 3, 8)


def test_a_chunk_of_another_size_is_refused_before_it_is_decompressed() -> None:
    bomb = sealed(bytes(2**28))
    assert len(bomb) < 2**15
    with pytest.raises(RecordingFormatError, match="declares 268435456 bytes when decompressed, expected 25"):
        decode_spikes(bomb, 3, 8)


def test_a_frame_that_declares_no_size_is_refused() -> None:
    # Descriptor 0: no single segment, no content size; an empty raw block.
    frame = b"\x28\xb5\x2f\xfd\x00\x58\x01\x00\x00"
    with pytest.raises(RecordingFormatError, match="declares None"):
        decode_spikes(frame + checksum(frame).to_bytes(4, "little"), 3, 8)


def test_a_frame_that_lies_about_its_size_is_refused() -> None:
    compressed = bytearray(zstd.compress(bytes(20), 1))
    assert compressed[5] == 20
    compressed[5] = 25
    stored = bytes(compressed) + checksum(compressed).to_bytes(4, "little")
    with pytest.raises(RecordingFormatError, match="zstd cannot decompress it"):
        decode_spikes(stored, 3, 8)


def test_something_that_is_not_zstd_is_refused() -> None:
    with pytest.raises(RecordingFormatError, match="declares None"):
        decode_spikes(b"not zstd" + checksum(b"not zstd").to_bytes(4, "little"), 3, 8)


def test_a_header_that_declares_padding_bits_is_refused() -> None:
    with pytest.raises(RecordingFormatError, match="header byte is 3, expected 0"):
        decode_spikes(sealed(b"\x03" + bytes(24)), 3, 8)


def test_the_checksum_is_that_of_the_castagnoli_polynomial() -> None:
    assert checksum(b"123456789") == 0xE3069283  # the check value of RFC 3720, B.4
    assert checksum(b"456789", checksum(b"123")) == checksum(b"123456789")


def test_the_worked_example_of_the_format_is_true() -> None:
    decompressed, stored, values, counts = (
        bytes.fromhex(block)
        for block in re.findall(r"```hex\n(.*?)```", FORMAT.read_text("utf-8"), re.DOTALL)
    )
    frames = np.zeros((64, 3), np.bool_)
    frames[[0, 1, 9], 0] = True
    frames[2, 1] = True
    frames[:10, 2] = True
    assert decompressed == b"\0" + np.packbits(frames, axis=0).T.tobytes()
    assert decode_spikes(stored, 3, 8).tobytes() == decompressed[1:]
    assert "8c5c8452" in FORMAT.read_text("utf-8")
    assert checksum(stored[:-4]) == 0x8C5C8452
    signal = np.array([[0.5, -1, 2, 0], [np.nan, 0, np.inf, 0]], "<f2")
    assert signal.tobytes() == values
    assert f"`[{rows_checksum(signal)}]`" in FORMAT.read_text("utf-8")
    rows = np.array([[3, 0], [0, 2]], "<u4")
    assert rows.tobytes() == counts
    assert " and ".join(str(rows_checksum(row)) for row in rows) in FORMAT.read_text("utf-8")
