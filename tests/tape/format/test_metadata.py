"""The commit record survives the way through JSON, and anything else in its place is refused in full."""

from __future__ import annotations

import contextlib
import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.format import ChunkPlan, LayerCommit, RecordingFormatError, RecordingMetadata
from recorder.format.documents import encode_document, plain_documents, root_document
from recorder.format.parsing.record import parse_attributes, parse_document
from recorder.format.record.extents import TableCommit
from recorder.format.record.metadata import ColumnCommit, TrialsCommit
from recorder.format.record.records import record_checksum, to_attributes
from recorder.format.record.signals import SignalCommit, signal_to_json


def example() -> RecordingMetadata:
    layer = LayerCommit(
        name="features.3",
        layer_class="spikingjelly.LIFNode",
        dtype="float32",
        plan=ChunkPlan((3, 5), 64, 3, 25),
        frames=70,
        counts_checksums=TableCommit(0, 0),
        segments=TableCommit(2, 123),
        checksums=TableCommit(1, 456),
        tail=(789,),
    )
    columns = (
        ColumnCommit("trial", "int64", 3),
        ColumnCommit("sample", "int64", 4),
        ColumnCommit("label", "category", 5, ("cat", 3, True, 0.5)),
        ColumnCommit("x", "float64", 6),
    )
    return RecordingMetadata(
        state="recording",
        recording_id="abc",
        created="2026-01-01T00:00:00+00:00",
        committed="2026-01-01T00:00:10+00:00",
        commit_number=4,
        layers=(layer,),
        trials=TrialsCommit(2, 9, columns),
        provenance={"network": "Net", "metadata": {"ä": [1, None]}},
    )


def with_signals() -> RecordingMetadata:
    """Likewise, of a layer that has two signals."""
    signal = SignalCommit(
        name="v",
        dtype="float16",
        shape=(3, 5),
        plan=ChunkPlan((2, 3), 40, 1, 1),
        frames=70,
        segments=TableCommit(2, 12),
        checksums=TableCommit(1, 34),
        tail=(56, 78),
        neurons=(range(0, 2), range(0, 5, 2)),
        every=3,
        samples=4,
        lost=((3, 6),),
    )
    plain = SignalCommit("V", "int64", (), ChunkPlan((), 8, 1, 1), 0, TableCommit(), TableCommit())
    flat = replace(
        signal, name="f", neurons=(1, 2, 14), plan=ChunkPlan((3,), 70, 3, 1), tail=(), is_apart=True
    )
    layer = replace(example().layers[0], signals=(signal, plain, flat))
    return replace(example(), layers=(layer,))


def resealed(record: dict[str, Any]) -> dict[str, Any]:
    record["crc32c"] = record_checksum(record)
    return {"spiketape": record}


def test_metadata_comes_back_from_json() -> None:
    attributes = json.loads(json.dumps(to_attributes(example())))
    assert parse_attributes(attributes, "here") == example()


def test_lost_frames_make_it_a_recording_that_older_readers_refuse() -> None:
    assert "lost" not in to_attributes(example())["spiketape"]["layers"][0]
    layer = replace(example().layers[0], lost=((0, 3), (10, 70)))
    lost = replace(example(), layers=(layer,))
    attributes = json.loads(json.dumps(to_attributes(lost)))
    assert parse_attributes(attributes, "here") == lost
    assert (example().format_version, attributes["spiketape"]["format_version"]) == (1, 2)
    assert layer.lost_frames == 63
    for version, record in ((1, attributes["spiketape"]), (2, to_attributes(example())["spiketape"])):
        record["format_version"] = version
        with pytest.raises(
            RecordingFormatError, match=f"format_version is {version}, expected {3 - version}"
        ):
            parse_attributes(resealed(record), "here")


def test_signals_make_it_a_recording_that_older_readers_refuse() -> None:
    assert "signals" not in to_attributes(example())["spiketape"]["layers"][0]
    attributes = json.loads(json.dumps(to_attributes(with_signals())))
    assert parse_attributes(attributes, "here") == with_signals()
    assert attributes["spiketape"]["format_version"] == 3
    attributes["spiketape"]["format_version"] = 2
    with pytest.raises(RecordingFormatError, match="format_version is 2, expected 3"):
        parse_attributes(resealed(attributes["spiketape"]), "here")


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ([], {}, "signals is {}, expected list"),
        ([], [], "signals lists none"),
        ([0], 7, "signals[0] is 7, expected an object"),
        ([1, "name"], "v", "signals has names twice in ['v', 'v', 'f']"),
        ([0, "name"], "\ud800", "holds half a character"),
        ([0, "dtype"], "complex64", "dtype is 'complex64', expected one of float16"),
        ([0, "dtype"], "bool", "dtype is 'bool'"),
        ([0, "neuron_shape"], [3, 0], "neuron_shape[1] is 0"),
        ([0, "neuron_shape"], [2**20, 2**20], "has 1099511627776 neurons"),
        ([0, "neuron_shape"], [2] * 17, "has 17 items, at most 16"),
        ([0, "neurons"], [[0, 2, 1]], "neurons are along 1 axes, expected 2"),
        ([0, "neurons"], [[0, 2, 1], [0, 6, 1]], "neurons[1] is [0, 6, 1], expected places among 5"),
        ([0, "neurons"], [[0, 2, 1], [2, 2, 1]], "neurons[1] is [2, 2, 1]"),
        ([0, "neurons"], [[0, 2, 1], [0, 5, 0]], "neurons[1] is [0, 5, 0]"),
        ([0, "neurons"], [[0, 2, 1], [0, 5]], "expected begin, end and stride"),
        ([0, "neurons"], [[0, 2, True], [0, 5, 1]], "expected begin, end and stride"),
        ([0, "neurons"], [], "neurons are [], expected some of 15"),
        ([2, "neurons"], [1, 2, 15], "neurons[2] is 15, expected 3 to 14"),
        ([2, "neurons"], [1, 1, 4], "neurons[1] is 1, expected 2 to 14"),
        ([2, "neurons"], [1, [2, 3, 1], 4], "neurons[1] is [2, 3, 1], expected int"),
        ([2, "neurons"], list(range(2**16 + 1)), "has 65537 items, at most 65536"),
        ([0, "every"], 0, "every is 0, expected 1"),
        ([0, "samples"], 0, "samples is 0, expected 1"),
        ([0, "chunk_frames"], 2**28, "makes chunks of more than 268435456 bytes"),
        ([0, "part_rows"], 3, "part_rows is 3, expected 1 to 2"),
        ([0, "frames"], 2**40, "makes more than 268435456 chunks"),
        ([0, "frames"], True, "frames is True, expected int"),
        ([0, "tail"], [1], "tail has 1 checksums, expected 2"),
        ([0, "checksums", "rows"], 3, "checksums.rows is 3, expected 1 to 2 for 70 frames"),
        ([0, "segments", "rows"], 0, "segments.rows is 0, expected 1 to 70"),
        ([0, "lost"], [[0, 71]], "lost[0][1] is 71, expected 1 to 70"),
        ([2, "folder"], "f", "folder is 'f', expected '=66'"),
    ],
)
def test_each_problem_of_a_signal_is_named_with_its_place(
    path: list[Any], value: object, problem: str
) -> None:
    record = copy.deepcopy(to_attributes(with_signals())["spiketape"])
    set_in(record, ["layers", 0, "signals", *path], value)
    with pytest.raises(RecordingFormatError) as raised:
        parse_attributes(resealed(record), "here")
    assert problem in str(raised.value)


def test_the_next_commit_counts_on() -> None:
    following = example().next_commit(state="closed")
    assert (following.commit_number, following.state, following.layers) == (5, "closed", example().layers)


@pytest.mark.parametrize("version", [4, 0, "1", None, True, [1]])
def test_an_unknown_version_is_refused_by_name(version: object) -> None:
    record = {**to_attributes(example())["spiketape"], "format_version": version}
    with pytest.raises(
        RecordingFormatError, match=r"has format version .* this spiketape reads versions 1 to 3"
    ):
        parse_attributes({"spiketape": record}, "here")


def test_one_error_lists_every_problem() -> None:
    record = to_attributes(example())["spiketape"]
    record["state"] = "open"
    record["layers"][0]["frames"] = -1
    del record["created"]
    with pytest.raises(RecordingFormatError) as raised:
        parse_attributes(resealed(record), "here")
    message = str(raised.value)
    assert message.startswith("here: the commit record has ")
    for problem in ("state is 'open'", "layers[0].frames is -1", "created is missing, expected str"):
        assert problem in message


def set_in(record: Any, path: list[Any], value: object) -> None:
    for key in path[:-1]:
        record = record[key]
    record[path[-1]] = value


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (["layers"], {}, "layers is {}, expected list"),
        (["layers", 0], 7, "layers[0] is 7, expected an object"),
        (["layers", 0, "name"], "\ud800", r"name is '\ud800', which holds half a character"),
        (["trials", "columns", 0, "name"], "\udfff", "half a character"),
        (["trials", "columns", 0, "categories"], ["\ud800"], r"categories holds '\ud800'"),
        (["layers", 0, "lost"], [[0, 1, 2]], "lost[0] is [0, 1, 2], expected first and last frame"),
        (["layers", 0, "lost"], [[5, 5]], "lost[0][1] is 5, expected 6 to 70"),
        (["layers", 0, "lost"], [[0, 71]], "lost[0][1] is 71, expected 1 to 70"),
        (["layers", 0, "lost"], [[0, 5], [5, 6]], "lost[1][0] is 5, expected 6 to 70"),
        (["layers", 0, "lost"], [[True, 5]], "lost[0][0] is True, expected int"),
        (["layers", 0, "lost"], 3, "lost is 3, expected list"),
        (["layers", 0, "name"], "x" * 1025, "1025 characters, at most 1024"),
        (["layers", 0, "dtype"], "complex64", "dtype is 'complex64'"),
        (["layers", 0, "frames"], True, "frames is True, expected int"),
        (["layers", 0, "frames"], 2**60, "frames is 1152921504606846976, expected 0 to"),
        (["layers", 0, "frames"], 2**40, "makes more than 268435456 chunks"),
        (["layers", 0, "neuron_shape"], [2] * 17, "has 17 items, at most 16"),
        (["layers", 0, "neuron_shape"], [2**20, 2**20], "has 1099511627776 neurons"),
        (["layers", 0, "neuron_shape"], [0], "neuron_shape[0] is 0, expected 1 to"),
        (["layers", 0, "neuron_shape"], ["3"], "neuron_shape[0] is '3', expected int"),
        (["layers", 0, "chunk_frames"], 100, "expected a multiple of 64"),
        (["layers", 0, "chunk_frames"], 2**30, "makes chunks of more than 268435456 bytes"),
        (["layers", 0, "tail"], [], "tail has 0 checksums, expected 1"),
        (["layers", 0, "checksums", "rows"], 3, "checksums.rows is 3, expected 1 to 2 for 70 frames"),
        (["layers", 0, "segments", "rows"], 0, "segments.rows is 0, expected 1 to 70"),
        (["layers", 0, "segments"], None, "segments is None, expected dict"),
        (["trials", "columns", 0, "kind"], "object", "kind is 'object'"),
        (["trials", "columns", 0, "categories"], [[1]], "categories holds [1]"),
        (["provenance"], [], "provenance is [], expected dict"),
        (["provenance"], {"x": "y" * 2**22}, "provenance has 4194313 bytes, at most 4194304"),
        (["commit_number"], -3, "commit_number is -3"),
        (["shard_bytes"], 0, "shard_bytes is 0, expected 1 to"),
        (["shard_bytes"], 2**20, "digest is missing"),
        (["shard_bytes"], 2**20, "only closed recordings are packed"),
    ],
)
def test_each_problem_is_named_with_its_place(path: list[Any], value: object, problem: str) -> None:
    record = copy.deepcopy(to_attributes(example())["spiketape"])
    set_in(record, path, value)
    with pytest.raises(RecordingFormatError) as raised:
        parse_attributes(resealed(record), "here")
    assert problem in str(raised.value)


def test_two_layers_of_one_name_are_refused() -> None:
    record = to_attributes(example())["spiketape"]
    record["layers"] *= 2
    with pytest.raises(RecordingFormatError, match="names occur twice"):
        parse_attributes(resealed(record), "here")


def test_an_altered_record_is_refused() -> None:
    record = to_attributes(example())["spiketape"]
    record["layers"][0]["frames"] = 69
    with pytest.raises(RecordingFormatError, match=r"its contents give .* altered"):
        parse_attributes({"spiketape": record}, "here")


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1]", "not a recording made by spiketape"),
        (b'{"attributes": {}}', "not a recording made by spiketape"),
        (b'{"attributes": {"spiketape": 3}}', "is 3, expected an object"),
        (b'{"attributes": {"spiketape": {"format_version": 1, "crc32c": NaN}}}', "problem"),
        (b'{"attributes": {"spiketape": {"format_version": 1, "state": NaN}}}', "malformed"),
    ],
)
def test_documents_that_are_no_recording_are_refused(document: bytes, problem: str) -> None:
    with pytest.raises(RecordingFormatError, match=problem):
        parse_document(document, "here")


def test_an_oversized_document_is_refused_unparsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorder.format.parsing.record.MAX_DOCUMENT_BYTES", 10)
    with pytest.raises(RecordingFormatError, match="has 11 bytes, more than the 10"):
        parse_document(b"x" * 11, "here")


@pytest.mark.parametrize(
    ("found", "instead"),
    [
        (b"", b""),
        (b'"must_understand": false', b'"must_understand": fals'),
        (b'{"kind": "inline"', b'"kind": "inline"'),
        (b'}, "consolidated_metadata"', b', "consolidated_metadata"'),
        (b'"consolidated_metadata": ', b'"consolidated_metadata": 3, "consolidated_metadata": '),
        (b'"consolidated_metadata": ', b'"consolidated_metadata": 3, "attributes": '),
        (b', "consolidated_metadata": ', b', "nested": {"of": 3, "consolidated_metadata": '),
    ],
)
def test_a_document_is_read_as_json_says_whatever_stands_beside_the_record(
    found: bytes, instead: bytes
) -> None:
    metadata = example()
    sound = encode_document(root_document(metadata, plain_documents(metadata)))
    assert parse_document(sound, "here") == metadata
    assert found in sound
    changed = sound.replace(found, instead, 1)
    for document in (changed, changed[:-1], changed + b"}"):
        try:
            attributes = json.loads(document)["attributes"]
            expected: object = parse_attributes(attributes, "here") if "spiketape" in attributes else None
        except ValueError:
            expected = None
        try:
            parsed: object = parse_document(document, "here")
        except RecordingFormatError:
            parsed = None
        assert parsed == expected


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
paths = st.sampled_from(
    [
        ["layers"],
        ["layers", 0],
        ["trials"],
        ["trials", "columns"],
        ["trials", "columns", 0],
        ["provenance"],
        *([key] for key in to_attributes(example())["spiketape"]),
        *(["layers", 0, key] for key in to_attributes(with_signals())["spiketape"]["layers"][0]),
        *(["layers", 0, "signals", 0, key] for key in signal_to_json(with_signals().layers[0].signals[0])),
    ]
)


@given(paths, json_values)
def test_any_value_anywhere_parses_or_is_one_error(path: list[Any], value: object) -> None:
    record = copy.deepcopy(to_attributes(with_signals())["spiketape"])
    set_in(record, path, value)
    with contextlib.suppress(RecordingFormatError):
        parse_attributes(resealed(record), "here")
