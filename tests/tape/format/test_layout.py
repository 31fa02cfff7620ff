"""The chunk plan and the names of things, case by case."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.format import ChunkPlan, plan_chunks
from recorder.format.arrays import layer_tables, spikes_document
from recorder.format.layout import (
    CHUNK_LIMIT_BYTES,
    CHUNK_TARGET_BYTES,
    folder_name,
    neuron_dimensions,
    spikes_chunk_key,
)

MIB = 2**20


@pytest.mark.parametrize(
    ("neuron_shape", "expected"),
    [
        # A single neuron: 4 MiB are 2**25 frames.
        ((), ChunkPlan((), 2**25, 1, 1)),
        # Frames are rounded down to a multiple of 64.
        ((7,), ChunkPlan((7,), 4_793_472, 7, 1)),
        # 4 MiB exactly.
        ((64, 8, 8), ChunkPlan((64, 8, 8), 8192, 64, 1)),
        # Fewer than 1600 frames a chunk: several chunks a block, so that counts stay under 2 %.
        ((64, 32, 32), ChunkPlan((64, 32, 32), 512, 64, 4)),
        # 64 frames are more than 4 MiB but not more than 16: no split.
        ((2, 1024, 1024), ChunkPlan((2, 1024, 1024), 64, 2, 25)),
        # 64 frames are 32 MiB: split along the first axis.
        ((64, 256, 256), ChunkPlan((64, 256, 256), 64, 8, 25)),
        # The first axis cannot be split into equal parts.
        ((7, 1024, 1024), ChunkPlan((7, 1024, 1024), 64, 1, 25)),
        # Nor at all.
        ((1, 2048, 2048), ChunkPlan((1, 2048, 2048), 64, 1, 25)),
        ((2**22 + 1,), ChunkPlan((2**22 + 1,), 64, 466_034, 25)),
    ],
)
def test_plan(neuron_shape: tuple[int, ...], expected: ChunkPlan) -> None:
    assert plan_chunks(neuron_shape) == expected


@given(st.lists(st.integers(1, 300), max_size=4))
def test_every_plan_keeps_its_promises(lengths: list[int]) -> None:
    plan = plan_chunks(tuple(lengths))
    chunk_bytes = plan.neurons * plan.chunk_bytes
    assert plan.chunk_frames % 64 == 0
    assert chunk_bytes <= CHUNK_TARGET_BYTES or plan.chunk_frames == 64
    assert 4 / (plan.block_frames / 8) <= 0.02
    if lengths and lengths[0] > 1 and plan.row_neurons * 8 <= CHUNK_TARGET_BYTES:
        assert plan.part_neurons * plan.chunk_bytes <= CHUNK_LIMIT_BYTES
    slices = [plan.part_slice(part) for part in range(plan.parts)]
    assert [s.start for s in slices] == [0, *(s.stop for s in slices[:-1])]
    assert slices[-1].stop == plan.neurons


def test_a_layer_without_neurons_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least one neuron, but its neuron shape is \(3, 0\)"):
        plan_chunks((3, 0))


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("features.3", "features.3"),
        ("", "="),
        ("a/b", "a=2Fb"),
        ("a=b", "a=3Db"),
        ("schön", "sch=C3=B6n"),
        ("__x", "=5F_x"),
        ("..", "=2E."),
        ("\n%", "=0A=25"),
    ],
)
def test_folder_names(name: str, folder: str) -> None:
    assert folder_name(name) == folder


def test_long_names_are_cut_and_stay_apart() -> None:
    first, second = folder_name("x" * 1000), folder_name("x" * 1001)
    assert first != second
    assert len(first) == len(second) == 200


@given(st.text(), st.text())
def test_different_names_have_different_folders(one: str, other: str) -> None:
    assert (folder_name(one) == folder_name(other)) == (one == other)


@given(st.text())
def test_folder_names_are_legal_zarr_node_names(name: str) -> None:
    folder = folder_name(name)
    assert folder.isascii()
    assert folder.strip(".")
    assert not folder.startswith("__")
    assert "/" not in folder


@pytest.mark.parametrize("rank", range(7))
def test_dimension_names_fit_the_shape(rank: int) -> None:
    names = neuron_dimensions((2,) * rank)
    assert len(names) == len(set(names)) == rank


def test_keys_follow_the_rank() -> None:
    assert spikes_chunk_key("layers/1", plan_chunks(()), 3, 0) == "layers/1/spikes/c/3"
    assert spikes_chunk_key("layers/1", plan_chunks((4,)), 3, 0) == "layers/1/spikes/c/3/0"
    assert spikes_chunk_key("layers/1", plan_chunks((64, 256, 256)), 3, 2) == "layers/1/spikes/c/3/2/0/0"
    assert layer_tables("1", plan_chunks(())).counts.chunk_key(5) == "layers/1/counts/c/5"
    assert layer_tables("1", plan_chunks((2, 3, 4))).counts.chunk_key(5) == "layers/1/counts/c/5/0/0/0"


def test_documents_state_shapes_and_chunks() -> None:
    plan = plan_chunks((64, 256, 256))
    document = spikes_document(plan, 1000)
    assert document["shape"] == [1000, 64, 256, 256]
    assert document["chunk_grid"]["configuration"]["chunk_shape"] == [64, 8, 256, 256]
    assert document["dimension_names"] == ["frame", "channel", "height", "width"]
    table = layer_tables("1", plan).counts.document(7)
    assert table["shape"] == [7, 64, 256, 256]
    assert table["dimension_names"] == ["block", "channel", "height", "width"]
    rows, *row_shape = table["chunk_grid"]["configuration"]["chunk_shape"]
    assert (rows, math.prod(row_shape)) == (1, plan.neurons)
