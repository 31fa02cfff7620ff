"""Committed recordings exercise the whole format, and a reader written from FORMAT.md alone reads them."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shutil
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import exemplars
import format_reader
from analysis.keeping import find_problems
from format_reader import FormatReader
from recorder.format.documents import encode_document
from recorder.keeping.digest import digest_recording
from recorder.stores import open_store
from recorder.tape import TapeReader

RECORDINGS = Path(__file__).parents[1] / "recordings"
ANSWERS: dict[str, Any] = json.loads((RECORDINGS / "answers.json").read_text())
NAMES = sorted(set(ANSWERS) - {"run"})
OLD = ["version-1.zarr", "version-2.zarr", "version-3.zarr", "version-3-signals.zarr"]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def our_reader(name: str) -> TapeReader:
    return TapeReader.open(open_store(RECORDINGS / name, read_only=True))


def test_the_reader_has_nothing_of_ours() -> None:
    files = [*Path(format_reader.__file__).parent.glob("format_*.py")]
    imported = {
        name.partition(".")[0]
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert len(files) == 3
    others = imported - sys.stdlib_module_names - {file.stem for file in files}
    assert others == {"numpy", "numcodecs", "google_crc32c"}


@pytest.mark.parametrize("name", NAMES)
def test_it_reads_what_was_written(name: str) -> None:
    answer, found = ANSWERS[name], FormatReader(RECORDINGS / name)
    record = found.record
    assert record["format_version"] == answer["format_version"]
    assert record["state"] == answer["state"]
    assert ("shard_bytes" in record) == answer["packed"]
    assert record.get("uncalled", {}) == answer["uncalled"]
    assert record["trials"]["trials"] == answer["trials"]
    assert {column: [*map(exemplars._short, values)] for column, values in found.columns.items()} == answer[
        "columns"
    ]
    kinds = {column: [*map(type, values)] for column, values in found.columns.items()}
    assert all(int not in kinds[column] for column in ("weight", "Label 2") if column in kinds)
    assert sorted(found.layers) == sorted(answer["layers"])
    for layer, expected in answer["layers"].items():
        frames = found.layers[layer].frames
        assert [*frames.shape] == expected["shape"]
        assert frames.sum() == expected["spikes"]
        assert sha256(frames.astype(np.uint8).tobytes()) == expected["sha256"]
        assert found.layers[layer].segments.tolist() == expected["segments"]
        assert [[*lost] for lost in found.layers[layer].lost] == expected["lost"]
        assert found.layers[layer].folder == expected["folder"]
    assert found.digest() == answer["digest"]


@pytest.mark.parametrize("name", [*NAMES, *OLD])
def test_it_reads_what_our_reader_reads(name: str) -> None:
    ours, found = our_reader(name), FormatReader(RECORDINGS / name)
    assert find_problems(ours) == []
    assert digest_recording(ours) == found.digest()
    assert [*ours.layers] == [*found.layers]
    for layer, reader in ours.layers.items():
        chunks = [*reader.kept_chunks(range(reader.plan.chunk_count(reader.frames)))]
        frames = np.concatenate([np.unpackbits(trains, axis=1).T for trains in chunks])[: reader.frames]
        assert (frames == found.layers[layer].frames.reshape(len(frames), -1)).all()
        assert (reader.segments().rows == found.layers[layer].segments).all()
    for column, values in ours.trials().items():
        if values.dtype == object:
            assert [(type(v), v) for v in values] == [(type(v), v) for v in found.columns[column]]


def test_ranks_have_one_digest_together() -> None:
    digests = [FormatReader(RECORDINGS / name).digest() for name in NAMES if name.startswith("run.rank")]
    assert len(digests) == 2
    assert sha256(format_reader.as_json(digests)) == ANSWERS["run"]["digest"]


def test_the_answers_are_those_of_what_the_script_writes(tmp_path: Path) -> None:
    made = exemplars.make_all(tmp_path)
    assert json.loads(json.dumps(made)) == ANSWERS
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES


def test_they_exercise_every_part_of_the_format() -> None:
    records = {name: FormatReader(RECORDINGS / name).record for name in [*NAMES, *OLD]}
    layers = [(name, layer) for name, record in records.items() for layer in record["layers"]]
    columns = [column for record in records.values() for column in record["trials"]["columns"]]
    answers = [ANSWERS[name] for name in NAMES]
    rows = [layer["segments"] for answer in answers for layer in answer["layers"].values()]

    def follows(last: list[int], row: list[int]) -> bool:
        return last[3:] == row[3:] and last[1] + last[2] == row[1]

    features = {
        "each version": {record["format_version"] for record in records.values()} == {1, 2, 3},
        "closed, and not": {record["state"] for record in records.values()} == {"closed", "recording"},
        "packed in folders and archives": {Path(n).suffix for n in NAMES if ANSWERS[n]["packed"]}
        == {".zip", ".zarr"},
        "several chunks in a shard, several shards": records["parts-packed.zarr"]["shard_bytes"] == 600,
        "split axes, the last part padded": any(
            layer["neuron_shape"] and layer["neuron_shape"][0] % layer["part_rows"] for _, layer in layers
        ),
        "several blocks, the last one partial": any(
            layer["counts_checksums"]["rows"] > 2 and layer["frames"] % layer["block_chunks"]
            for _, layer in layers
        ),
        "a last chunk that is full": any(not layer["tail"] for _, layer in layers),
        "a single neuron": any(layer["neuron_shape"] == [] for _, layer in layers),
        "lost chunks, the last one too": {
            layer["lost"][-1][1] == layer["frames"] for _, layer in layers if "lost" in layer
        }
        == {True, False},
        "lost chunks that are packed": any(
            "lost" in layer and name == "trials.zip" for name, layer in layers
        ),
        "folders that are set apart": any("folder" in layer for _, layer in layers),
        "names that are cut": any(len(layer["name"].encode()) > 200 for _, layer in layers),
        "categories in an array of several chunks": any(
            isinstance(column["categories"], dict) and column["categories"]["rows"] > 2**18
            for column in columns
        ),
        "every kind of column": {column["kind"] for column in columns} == {"int64", "float64", "category"},
        "missing values of every kind": all(
            None in ANSWERS["trials.zarr"]["columns"][name] for name in ("label", "count", "weight")
        ),
        "nothing but missing values": {*ANSWERS["trials.zarr"]["columns"]["nothing"]} == {None},
        "frames in no trial": any(row[4] == -1 for table in rows for row in table),
        "gaps in steps": any(a[1] + a[2] < b[1] for table in rows for a, b in pairwise(table)),
        "rows of segments that one could stand for": any(
            follows(a, b) for table in rows for a, b in pairwise(table)
        ),
        "a batch that changes within a trial": any(
            a[4] == b[4] >= 0 and a[3] != b[3] for table in rows for a, b in pairwise(table)
        ),
        "layers that were not called": any("uncalled" in record for record in records.values()),
        "ranks": any("distributed" in record["provenance"] for record in records.values()),
    }
    assert [feature for feature, is_there in features.items() if not is_there] == []


@pytest.mark.parametrize("name", ["parts.zarr", "growing.zarr", "parts-packed.zarr"])
def test_it_notices_damage_of_what_is_promised(tmp_path: Path, name: str) -> None:
    shutil.copytree(RECORDINGS / name, tmp_path / name)
    noticed = []
    for file in sorted((tmp_path / name).rglob("*")):
        if not file.is_file() or (file.name == "zarr.json" and file.parent != tmp_path / name):
            continue
        if name == "growing.zarr" and "spikes" in file.parts and int(file.parent.name) > 1:
            continue  # no frame of it is promised
        stored = file.read_bytes()
        place = stored.index(b'"frames":') + 11 if file.name == "zarr.json" else len(stored) // 2
        file.write_bytes(stored[:place] + bytes([stored[place] ^ 1]) + stored[place + 1 :])
        with pytest.raises(AssertionError):
            FormatReader(tmp_path / name)
        file.write_bytes(stored)
        noticed.append(file)
    assert len(noticed) >= 8
    FormatReader(tmp_path / name)


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        ({"é": 1, "b": 2, "B": 3, "\U0001f63a": 4, "\uffff": 5},
         r'{"B":3,"b":2,"\u00e9":1,"\uffff":5,"\ud83d\ude3a":4}'),
        ('"\\/\b\t\n\f\r\x00\x1f\x7f~', r'"\"\\/\b\t\n\f\r\u0000\u001f\u007f~"'),
        ([1.0, -0.0, 1e15, 1e16, 0.0001, 0.00001, 1.5e-5, 1e300, 0.1, 2**63 - 1, True, None],
         "[1.0,-0.0,1000000000000000.0,1e+16,0.0001,1e-05,1.5e-05,1e+300,0.1,9223372036854775807,true,null]"),
    ],
)  # fmt: skip
def test_json_that_is_hashed_is_spelled_as_the_format_says(value: Any, spelled: str) -> None:
    assert format_reader.as_json(value).decode() == spelled
    # In stored documents texts and numbers are spelled alike, whatever their order.
    tokens = re.compile(r'"(?:[^"\\]|\\.)*"|[-+.\w]+')
    assert sorted(tokens.findall(encode_document({"": value}).decode())) == sorted(
        ['""', *tokens.findall(spelled)]
    )
