"""What a commit record says of connections comes back from JSON; anything else there is refused."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recorder.format import RecordingFormatError, RecordingMetadata
from recorder.format.connections import Connections, FanOut, InputReader, Reader
from recorder.format.parsing.record import parse_attributes
from recorder.format.record.records import record_checksum, to_attributes

READER = Reader(
    name="features.4",
    kind="Conv2d",
    weight_shape=(6, 2, 3, 3),
    fan_out=FanOut(3, (None, (2, 3, 2), (2, 2))),
    nonzero_fan_out=FanOut.of_array(np.arange(24).reshape(4, 3, 2)),
    stride=(1, 1),
    padding=((1, 1), (0, 1)),
    dilation=(1, 2),
    groups=2,
)
CONNECTIONS = Connections(
    layers={"features.3": (READER, Reader("ü", "Linear", (5, 24), FanOut(5), None)), "out": ()},
    inputs=(InputReader("features.0", "Conv2d", 5000, 4000, 3, is_binary=False),),
    uncovered={"attention: matmul": "a product", "last": "reads what no recorded layer has put out"},
)


def metadata() -> RecordingMetadata:
    return RecordingMetadata(
        state="recording",
        recording_id="abc",
        created="2026-01-01T00:00:00+00:00",
        committed="2026-01-01T00:00:10+00:00",
        commit_number=4,
        connections=CONNECTIONS,
    )


def attributes_with(connections: Any) -> dict[str, Any]:
    attributes = json.loads(json.dumps(to_attributes(metadata())))
    record = attributes["spiketape"]
    record["connections"] = connections
    record["crc32c"] = record_checksum(record)
    return attributes


def test_connections_come_back_from_json_and_need_no_later_version() -> None:
    attributes = json.loads(json.dumps(to_attributes(metadata())))
    assert parse_attributes(attributes, "here") == metadata()
    assert attributes["spiketape"]["format_version"] == 1
    assert "connections" not in to_attributes(replace(metadata(), connections=None))["spiketape"]


@given(
    arrays.arrays(np.int64, arrays.array_shapes(max_dims=4, max_side=5), elements=st.integers(0, 2**32 - 1))
)
def test_any_fan_outs_are_kept_exactly(array: np.ndarray) -> None:
    kept = FanOut.of_array(array)
    assert kept is not None
    assert np.array_equal(kept.array(array.shape), array)


@given(st.integers(0, 100), st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=6), max_size=4))
def test_products_along_axes_are_kept_as_products(times: int, along: list[list[int]]) -> None:
    array = np.full([len(each) for each in along], times, np.int64)
    for axis, each in enumerate(along):
        array = array * np.array(each).reshape([-1 if other == axis else 1 for other in range(len(along))])
    kept = FanOut.of_array(array)
    assert kept is not None
    assert not kept.stored
    assert np.array_equal(kept.array(array.shape), array)


def test_fan_outs_that_would_take_too_much_of_the_record_are_not_kept() -> None:
    assert FanOut.of_array(np.random.default_rng(0).integers(0, 2**32, 2**19)) is None
    assert FanOut.of_array(np.array([1, 2**32])) is None
    assert FanOut.of_array(np.array([1, -1])) is None


def changed(path: tuple[Any, ...], value: Any) -> Any:
    connections = copy.deepcopy(CONNECTIONS.to_json())
    inner = connections
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return connections


ONE = ("layers", "features.3", 0)
WRONG: list[tuple[tuple[Any, ...], Any]] = [
    (("layers",), []),
    (("inputs",), {}),
    (("uncovered",), None),
    (("uncovered", "last"), 3),
    (("layers", "features.3"), "x"),
    ((*ONE, "name"), "x" * 1025),
    ((*ONE, "kind"), "\ud800"),
    ((*ONE, "weight_shape"), [0]),
    ((*ONE, "weight_shape"), [1] * 17),
    ((*ONE, "padding"), [[1]]),
    ((*ONE, "padding"), [[1, -1]]),
    ((*ONE, "groups"), True),
    ((*ONE, "fan_out"), -1),
    ((*ONE, "fan_out"), 2**32),
    ((*ONE, "fan_out"), None),
    ((*ONE, "fan_out"), {"stored": ""}),
    ((*ONE, "fan_out"), {"stored": "x" * (2**20 + 1)}),
    ((*ONE, "fan_out"), {"times": 2**20, "along": [[2**20]]}),
    ((*ONE, "fan_out"), {"times": 1, "along": [["1"]]}),
    (("inputs", 0, "is_binary"), 1),
    (("inputs", 0, "frames"), 0),
    (("inputs", 0, "operations"), 2**63),
]


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_malformed_connections_are_refused_by_place(path: tuple[Any, ...], value: Any) -> None:
    with pytest.raises(RecordingFormatError, match=r"1 problem\(s\):\n  - connections\."):
        parse_attributes(attributes_with(changed(path, value)), "here")


@pytest.mark.parametrize("value", [None, [], "x", 3, {}])
def test_what_is_no_connections_at_all_is_refused(value: Any) -> None:
    with pytest.raises(RecordingFormatError, match="connections"):
        parse_attributes(attributes_with(value), "here")


@pytest.mark.parametrize(
    "fan_out",
    [
        FanOut(stored="KLUv/WCAAIUA"),
        FanOut(stored="no base64!"),
        FanOut(2, ((1, 2), None)),
        FanOut(2, ((1, 2),)),
        FanOut.of_array(np.array([3, 5, 6, 8, 9])),
    ],
)
def test_fan_outs_of_other_shapes_and_damaged_ones_are_refused_when_they_are_asked(fan_out: FanOut) -> None:
    with pytest.raises(RecordingFormatError):
        fan_out.array((3, 4))
