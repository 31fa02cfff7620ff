"""Packing and counting agree with plain numpy on unpacked booleans, at awkward sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.format import bits

NEURONS = (1, 7, 8, 9, 31, 33, 257)


@st.composite
def spikes(draw: st.DrawFn, words: bool = False) -> bits.Bools:
    neurons = draw(st.sampled_from(NEURONS))
    frames = 64 * draw(st.integers(1, 4)) if words else draw(st.integers(0, 200))
    density = draw(st.sampled_from([0.0, 0.03, 0.5, 1.0]))
    return np.random.default_rng(draw(st.integers(0, 2**16))).random((frames, neurons)) < density


def trains_of(frames: bits.Bools) -> bits.Packed:
    return bits.rows_to_trains(bits.pack_frames(frames))


@given(spikes())
def test_what_is_packed_unpacks_to_itself(frames: bits.Bools) -> None:
    trains = trains_of(frames)
    assert trains.shape == (frames.shape[1], -(-len(frames) // 8))
    assert np.array_equal(bits.unpack_trains(trains, 0, len(frames)), frames)


@given(spikes(), st.data())
def test_any_range_of_frames_unpacks(frames: bits.Bools, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(frames)))
    last = data.draw(st.integers(first, len(frames)))
    assert np.array_equal(bits.unpack_trains(trains_of(frames), first, last), frames[first:last])


@pytest.mark.parametrize(("neurons", "frames"), [(4095, 64), (4097, 17 * 64), (9000, 128), (3, 1_500_032)])
def test_frames_that_take_several_blocks_unpack(neurons: int, frames: int) -> None:
    trains = np.random.default_rng(0).integers(0, 256, (neurons, frames // 8), np.uint8)
    expected = np.unpackbits(trains, axis=1).T.astype(np.bool_)
    assert np.array_equal(bits.unpack_trains(trains), expected)
    assert np.array_equal(bits.unpack_trains(trains, 5, frames - 9), expected[5 : frames - 9])


@pytest.mark.parametrize("neurons", [0, 1, 3, 4095, 4097, 9000])
@pytest.mark.parametrize("rows", [0, 8, 13, 24, 128])
def test_rearranging_moves_every_byte_to_its_place(neurons: int, rows: int) -> None:
    packed = np.random.default_rng(0).integers(0, 256, (rows, neurons), np.uint8)
    trains = bits.rows_to_trains(packed)
    assert np.array_equal(trains, packed.T)
    assert trains.flags.c_contiguous


def test_the_first_frame_is_the_most_significant_bit() -> None:
    frames = np.zeros((10, 2), np.bool_)
    frames[[0, 9], [0, 1]] = True
    assert trains_of(frames).tolist() == [[0x80, 0], [0, 0x40]]


@given(spikes(words=True), st.data())
def test_counts_under_a_mask_are_those_of_the_selected_frames(
    frames: bits.Bools, data: st.DataObject
) -> None:
    seed = data.draw(st.integers(0, 2**16))
    selected = np.random.default_rng(seed).random(len(frames)) < data.draw(st.sampled_from([0, 0.3, 1]))
    trains, mask = trains_of(frames), bits.pack_mask(selected)
    assert np.array_equal(bits.count_per_neuron(bits.mask_trains(trains, mask)), frames[selected].sum(axis=0))


@given(spikes(words=True))
def test_counts_of_all_frames(frames: bits.Bools) -> None:
    trains = trains_of(frames)
    assert np.array_equal(bits.count_per_neuron(trains), frames.sum(axis=0))
    assert np.array_equal(bits.count_per_frame(trains), frames.sum(axis=1))


@pytest.mark.parametrize("neurons", [254, 255, 256, 511, 1021])
def test_counts_per_frame_do_not_overflow_when_every_neuron_fires(neurons: int) -> None:
    trains = np.full((neurons, 8), 0xFF, np.uint8)
    assert bits.count_per_frame(trains).tolist() == [neurons] * 64


@given(st.integers(0, 128), st.integers(0, 128))
def test_a_range_mask_selects_its_frames(first: int, last: int) -> None:
    unpacked = np.unpackbits(bits.range_mask(128, first, last)).astype(bool)
    assert np.flatnonzero(unpacked).tolist() == list(range(first, last))


def test_masked_trains_are_silent_elsewhere_and_the_original_is_kept() -> None:
    trains = np.full((2, 8), 0xFF, np.uint8)
    masked = bits.mask_trains(trains, bits.range_mask(64, 3, 9))
    assert bits.count_per_neuron(masked).tolist() == [6, 6]
    assert (trains == 0xFF).all()
