"""Packed rows hold exactly the frames that were pushed, whatever the dtype, batch sizes and memory layout."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recorder.capture.host.host_packing import (
    PUT_BYTES,
    SPARE_BYTES,
    STAGE_BYTES,
    FullStage,
    HostPacker,
    NotSpikesError,
    StagePool,
    WholeRows,
    pack_whole,
)
from recorder.capture.host.native_packing import NativePacker
from recorder.native.loading import CompiledPass

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int64]


def packer_of(neurons: int, pending: np.ndarray | None = None) -> HostPacker:
    return HostPacker(np.empty((0, neurons), np.bool_) if pending is None else pending, StagePool())


@functools.cache
def compiled_pass() -> CompiledPass:
    loaded = CompiledPass()
    for dtype in ("bool", "bfloat16", "float32", "float64"):
        loaded.load(dtype)
    return loaded


def native_packer_of(neurons: int, pending: np.ndarray | None = None) -> HostPacker:
    pytest.importorskip("numba")
    pending = np.empty((0, neurons), np.bool_) if pending is None else pending
    return NativePacker(pending, StagePool(), compiled_pass(), "float32")


Make = Callable[..., HostPacker]
both = pytest.mark.parametrize("make", [packer_of, native_packer_of], ids=["numpy", "compiled"])


def push(packer: HostPacker, frames: torch.Tensor) -> list[WholeRows]:
    """Push frames, say that they count, and take the rows that are whole."""
    packer.push(frames)
    packer.undo = None
    return take(packer)


def take(packer: HostPacker) -> list[WholeRows]:
    ready, packer.ready = packer.ready, []
    return ready


def drained(packer: HostPacker) -> tuple[np.ndarray, np.ndarray]:
    """Whole rows that were waiting, and the frames that fill none."""
    pending = packer.drain()
    neurons = pending.shape[1]
    return np.concatenate([np.empty((0, neurons), np.uint8), *map(pack_whole, take(packer))]), pending


def unpacked(pieces: list[np.ndarray], pending: np.ndarray) -> np.ndarray:
    rows = np.concatenate(pieces)
    return np.concatenate([np.unpackbits(rows, axis=0).astype(np.bool_), pending])


@both
@given(
    st.sampled_from([1, 7, 8, 9, 31, 33, 257]),
    st.lists(st.sampled_from([0, 1, 3, 7, 8, 9, 16, 40]), max_size=8),
    st.sampled_from(DTYPES),
    st.integers(0, 99),
)
def test_frames_come_out_as_they_went_in(
    make: Make, neurons: int, batches: list[int], dtype: torch.dtype, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # So small that pushes fill it, and more than once; some of it is packed by the push itself.
        patch.setattr("recorder.capture.host.host_packing.STAGE_BYTES", 512)
        patch.setattr("recorder.capture.host.host_packing.PUT_BYTES", 600)
        push_and_compare(make(neurons), batches, dtype, seed)


def push_and_compare(packer: HostPacker, batches: list[int], dtype: torch.dtype, seed: int) -> None:
    neurons = packer.neurons
    generator = np.random.default_rng(seed)
    batches_of_frames = [generator.random((frames, neurons)) < 0.3 for frames in batches]
    pieces: list[WholeRows] = [np.empty((0, neurons), np.uint8)]
    for number, frames in enumerate(batches_of_frames):
        pieces += push(packer, torch.from_numpy(frames).to(dtype))
        if number == 2:
            rows, _ = drained(packer)
            pieces.append(rows)
        if number % 2:
            # Some wait for others to pack them while frames go on coming, and into the memory of others.
            pieces[: seed % 3] = map(pack_whole, pieces[: seed % 3])
    rows, pending = drained(packer)
    assert len(pending) == sum(batches) % 8
    assert np.array_equal(
        unpacked([*map(pack_whole, pieces), rows], pending),
        np.concatenate([np.empty((0, neurons)), *batches_of_frames]),
    )


def test_memory_is_used_again_and_little_is_kept() -> None:
    pool = StagePool()
    packer = HostPacker(np.empty((0, 8), np.bool_), pool)
    stage = torch.ones(STAGE_BYTES // 8, 8)
    left = [push(packer, stage)[0] for _ in range(2)]
    for piece in left:
        pack_whole(piece)
    used = {piece.frames.ctypes.data for piece in left if isinstance(piece, FullStage)}
    taken = [pool.take(8), pool.take(8)]
    assert {stage.ctypes.data for stage in taken} == used
    taken += [pool.take(8) for _ in range(3 * SPARE_BYTES // STAGE_BYTES)]
    for one in taken:
        pool.give_back(one)
    memory = {one.ctypes.data for one in taken}
    again = [pool.take(8) for _ in taken]
    assert sum(stage.ctypes.data in memory for stage in again) == SPARE_BYTES // STAGE_BYTES


def test_memory_is_given_back_while_a_signal_handler_interrupts_whoever_takes_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool, given_back, empty = StagePool(), threading.Event(), np.empty
    stage = pool.take(8)

    def give_back() -> None:
        pool.give_back(stage)
        given_back.set()

    def interrupted(*arguments: Any) -> Any:
        # As the handler does that closes the recording, this waits for the thread that writes.
        threading.Thread(target=give_back, daemon=True).start()
        assert given_back.wait(10)
        return empty(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(np, "empty", interrupted)
        pool.take(8)
    assert pool.take(8).ctypes.data == stage.ctypes.data


def test_one_output_leaves_no_more_than_a_bound_to_others() -> None:
    packer = packer_of(4096)
    frames = torch.rand(40 * STAGE_BYTES // 4096, 4096) < 0.5
    pieces = push(packer, frames)
    left = [piece for piece in pieces if isinstance(piece, FullStage)]
    assert sum(piece.nbytes for piece in left) == PUT_BYTES
    rows = np.concatenate([pack_whole(piece) for piece in pieces])
    assert np.array_equal(np.unpackbits(rows, axis=0), frames.numpy())


@both
def test_a_packer_goes_on_from_pending_frames(make: Make) -> None:
    frames = np.random.default_rng(0).random((29, 5)) < 0.5
    packer = make(5, frames[:6])
    assert push(packer, torch.from_numpy(frames[6:])) == []
    rows, pending = drained(packer)
    assert np.array_equal(unpacked([rows], pending), frames)


@both
@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, float("nan"), float("inf"), 1e-40, 1.0000001])
@pytest.mark.parametrize("place", [0, 8, 37])
def test_other_values_are_refused_and_nothing_of_them_is_kept(make: Make, value: float, place: int) -> None:
    # Wide enough for the bad value to come after rows have been packed already.
    neurons = STAGE_BYTES // 8
    good = np.random.default_rng(0).random((5, neurons)) < 0.5
    bad = torch.zeros(40, neurons)
    bad[place, 3] = value
    packer = make(neurons)
    push(packer, torch.from_numpy(good))
    with pytest.raises(NotSpikesError, match=r"dtype float32"):
        push(packer, bad)
    rows, pending = drained(packer)
    assert len(rows) == 0
    assert np.array_equal(pending, good)


@both
@pytest.mark.parametrize(
    ("dtype", "others"),
    [
        (torch.float16, [0.5, float("nan"), 1.001, -1]),
        (torch.bfloat16, [0.5, float("nan"), 1.01, -1]),
        (torch.float64, [5e-324, float("-inf"), 1 + 2**-52]),
        (torch.uint8, [2, 128, 255]),
        (torch.int8, [-1, 2, -128]),
        (torch.int16, [256, 257, -1]),
        (torch.int64, [2**32, 2**32 + 1, 2**56, -1]),
    ],
)
def test_other_values_of_any_dtype_are_refused(make: Make, dtype: torch.dtype, others: list[float]) -> None:
    for other in others:
        packer = make(9)
        with pytest.raises(NotSpikesError):
            push(packer, torch.tensor([[0, 1, 0, 1, 0, 1, 0, 1, other]], dtype=dtype))
        assert len(drained(packer)[1]) == 0


@both
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.tensor([[0.0, 0.25], [3.0, 1.0]]), r"values from 0 to 3, dtype float32"),
        (torch.tensor([[1, -2]]), "values from -2 to 1, dtype int64"),
        (torch.tensor([[1, float("nan")]], dtype=torch.float64), "NaN among values of dtype float64"),
    ],
)
def test_the_range_of_other_values_is_told(make: Make, values: torch.Tensor, message: str) -> None:
    with pytest.raises(NotSpikesError, match=message):
        push(make(2), values)


@both
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_minus_zero_is_silence(make: Make, dtype: torch.dtype) -> None:
    packer = make(2)
    push(packer, torch.tensor([[-0.0, 1.0]], dtype=dtype))
    assert drained(packer)[1].tolist() == [[False, True]]


@both
def test_bytes_of_booleans_other_than_0_and_1_are_true_as_everywhere(make: Make) -> None:
    packer = make(3)
    push(packer, torch.tensor([[0, 1, 7]], dtype=torch.uint8).view(torch.bool))
    assert drained(packer)[1].view(np.uint8).tolist() == [[0, 1, 1]]


def layouts() -> dict[str, torch.Tensor]:
    spikes = (torch.rand(2, 3, 4, 5, 6) < 0.5).float()
    return {
        "contiguous": spikes,
        "channels last": spikes.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (2, 3)),
        "transposed": spikes.transpose(0, 1),
        "expanded": spikes[:, :1].expand(2, 3, 4, 5, 6),
        "every other": spikes[..., ::2],
        "one neuron": spikes[..., 0, 0, 0],
    }


@both
@pytest.mark.parametrize("layout", layouts())
def test_frames_are_in_logical_order_whatever_the_memory_layout(make: Make, layout: str) -> None:
    spikes: Any = layouts()[layout]
    frames = spikes.numpy().reshape(6, -1)
    packer = make(frames.shape[1])
    assert len(push(packer, spikes)) == 0
    assert np.array_equal(drained(packer)[1], frames)
