"""What a commit record says of the part that is kept of a layer comes back; anything else is refused."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.format import ChunkPlan, LayerCommit, RecordingFormatError, RecordingMetadata
from recorder.format.layout import plan_counts
from recorder.format.parsing.record import parse_attributes
from recorder.format.record.extents import TableCommit
from recorder.format.record.parts import LayerPart, kept_indices
from recorder.format.record.records import record_checksum, to_attributes

SHAPE = (3, 5)
SLICES = LayerPart(SHAPE, (range(0, 2), range(0, 5, 2)), samples=4, trials_every=3)
FLAT = LayerPart(SHAPE, (1, 2, 14))
COUNTS = LayerPart(SHAPE, (1, 2, 14), counts_only=True)


def with_part(part: LayerPart) -> RecordingMetadata:
    plan = ChunkPlan(part.kept_shape, 64, 1, 25)
    layer = LayerCommit(
        name="features.3",
        layer_class="spikingjelly.LIFNode",
        dtype="float32",
        plan=plan,
        frames=70,
        counts_checksums=TableCommit(0, 0),
        segments=TableCommit(2, 123),
        checksums=TableCommit(1, 456),
        tail=(7,) * plan.parts,
        part=part,
    )
    if part.counts_only:
        plan, rows = plan_counts(part.kept_shape), TableCommit(9, 5)
        layer = replace(layer, plan=plan, tail=(), checksums=TableCommit(), counts_checksums=rows)
    times = {"created": "2026-01-01", "committed": "2026-01-02"}
    return RecordingMetadata("closed", "abc", **times, commit_number=4, layers=(layer,))


def resealed(record: dict[str, Any]) -> dict[str, Any]:
    record["crc32c"] = record_checksum(record)
    return {"spiketape": record}


@pytest.mark.parametrize("part", [SLICES, FLAT, COUNTS, LayerPart(SHAPE, samples=1)])
def test_a_part_comes_back_from_json_and_older_readers_refuse_it(part: LayerPart) -> None:
    attributes = json.loads(json.dumps(to_attributes(with_part(part))))
    assert parse_attributes(attributes, "here") == with_part(part)
    attributes["spiketape"]["format_version"] = 2
    with pytest.raises(RecordingFormatError, match="format_version is 2, expected 3"):
        parse_attributes(resealed(attributes["spiketape"]), "here")


@pytest.mark.parametrize(
    ("part", "path", "value", "problem"),
    [
        (SLICES, ["neurons"], [[0, 2, 1]], "layers[0].neurons are along 1 axes, expected 2"),
        (SLICES, ["neurons"], [[0, 2, 1], [0, 6, 1]], "neurons[1] is [0, 6, 1], expected places among 5"),
        (SLICES, ["neurons"], None, "neurons is None, expected list"),
        (SLICES, ["samples"], 0, "samples is 0, expected 1"),
        (SLICES, ["trials_every"], 1, "trials_every is 1, expected 2"),
        (SLICES, ["part_rows"], 3, "part_rows is 3, expected 1 to 2"),
        (FLAT, ["neurons"], [1, 2, 15], "neurons[2] is 15, expected 3 to 14"),
        (FLAT, ["keep"], "rates", "keep is 'rates', expected 'counts'"),
        (COUNTS, ["tail"], [1], "tail is there, but a layer of counts only has no bits"),
        (COUNTS, ["chunk_frames"], 64, "chunk_frames is there"),
        (COUNTS, ["values"], {"scale": 1, "range": [0, 2], "planes": []}, "values are there"),
        (COUNTS, ["counts_checksums", "rows"], 71, "counts_checksums.rows is 71, expected 1 to 70"),
        (COUNTS, ["counts_checksums", "rows"], 0, "counts_checksums.rows is 0, expected 1 to 70"),
    ],
)
def test_each_problem_of_a_part_is_named_with_its_place(
    part: LayerPart, path: list[Any], value: object, problem: str
) -> None:
    record = copy.deepcopy(to_attributes(with_part(part))["spiketape"])
    about = record["layers"][0]
    for key in path[:-1]:
        about = about[key]
    about[path[-1]] = value
    with pytest.raises(RecordingFormatError) as raised:
        parse_attributes(resealed(record), "here")
    assert problem in str(raised.value)


def test_rows_of_counts_that_would_take_much_memory_are_refused() -> None:
    record = copy.deepcopy(to_attributes(with_part(LayerPart(SHAPE, counts_only=True)))["spiketape"])
    record["layers"][0]["neuron_shape"] = [2**14, 2**14]
    with pytest.raises(RecordingFormatError, match="rows of counts of more than 268435456 bytes"):
        parse_attributes(resealed(record), "here")


sizes = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)


@given(sizes.flatmap(lambda shape: st.tuples(st.just(shape), st.tuples(*map(ranges_of, shape)))))
def test_indices_of_kept_neurons_are_those_that_numpy_takes(
    given: tuple[tuple[int, ...], tuple[range, ...]],
) -> None:
    shape, along = given
    every = np.arange(np.prod(shape)).reshape(shape)
    chosen = every[tuple(slice(each.start, each.stop, each.step) for each in along)]
    assert kept_indices(shape, along).tolist() == chosen.ravel().tolist()
    assert LayerPart(shape, along).kept_shape == chosen.shape


def ranges_of(length: int) -> st.SearchStrategy[range]:
    return st.tuples(st.integers(0, length - 1), st.integers(1, length)).map(
        lambda ends: range(ends[0], length, ends[1])
    )


def test_few_neurons_of_a_huge_layer_take_little_memory() -> None:
    neurons = (range(5, 2**17, 2**16), range(0, 2**17, 2**17))
    assert kept_indices((2**17, 2**17), neurons).tolist() == [5 * 2**17, (2**16 + 5) * 2**17]
