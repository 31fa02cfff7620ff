"""Committed recordings exercise the whole format, and a reader written from FORMAT.md alone reads them."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import exemplars
import exemplars_of_values
import format_reader
from analysis.keeping import find_problems
from committed_recordings import ANSWERS, NAMES, OLD, RECORDINGS
from format_layers import LayerFrames, Series, Signal
from format_reader import FormatReader
from recorder.format.documents import encode_document
from recorder.format.planes.values import scale_levels
from recorder.format.record.parts import kept_indices
from recorder.keeping.digest import digest_recording
from recorder.stores import open_store
from recorder.tape import LayerReader, TapeReader
from recorder.tape.layers.counts_reading import CountsReader
from recorder.tape.layers.levels import read_levels
from recorder.tape.layers.signal_reading import SignalReader


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
        check_part(found.layers[layer], expected)
        assert found.layers[layer].segments.tolist() == expected["segments"]
        assert [[*lost] for lost in found.layers[layer].lost] == expected["lost"]
        assert found.layers[layer].folder == expected["folder"]
        check_values(found.layers[layer], expected.get("values"))
        assert sorted(found.layers[layer].signals) == sorted(expected.get("signals", {}))
        for signal, about in expected.get("signals", {}).items():
            check_signal(found.layers[layer].signals[signal], about)
    assert (found.operations is None) == ("operations" not in answer)
    if found.operations is not None:
        check_series(found.operations, answer["operations"])
        for field in ("weight_layers", "uncounted"):
            assert found.operations.about[field] == answer["operations"][field]
    assert found.digest() == answer["digest"]


def check_part(layer: LayerFrames, expected: Any) -> None:
    part = expected.get("part", {"shape": [*layer.shape], "samples": None, "trials_every": 1})
    assert layer.about["neuron_shape"] == part["shape"]
    assert layer.neurons.ravel().tolist() == part.get("neurons", [*range(layer.neurons.size)])
    assert layer.about.get("samples") == part["samples"]
    assert layer.about.get("trials_every", 1) == part["trials_every"]
    assert [layer.about["frames"], *layer.shape] == expected["shape"]
    if "counts" in expected:
        assert layer.counts is not None
        assert len(layer.counts) == expected["counts"]["rows"]
        assert layer.counts.sum() == expected["spikes"]
        assert sha256(layer.counts.tobytes()) == expected["counts"]["sha256"]
        return
    assert layer.counts is None
    assert layer.frames.sum() == expected["spikes"]
    assert sha256(layer.frames.astype(np.uint8).tobytes()) == expected["sha256"]


def check_values(layer: LayerFrames, expected: Any) -> None:
    assert (layer.about_values is None) == (expected is None)
    if expected is None or layer.about_values is None:
        assert (layer.values == layer.frames).all()
        return
    assert layer.dtype == expected["dtype"]
    assert layer.about_values["scale"] == expected["scale"]
    assert layer.about_values["range"] == expected["range"]
    planes = {plane["name"]: plane["first_chunk"] for plane in layer.about_values["planes"]}
    assert planes == expected["planes"]
    assert sha256(layer.values.tobytes()) == expected["sha256"]


def check_signal(signal: Signal, expected: Any) -> None:
    assert signal.about["dtype"] == expected["dtype"]
    assert signal.neurons.ravel().tolist() == expected["neurons"]
    check_series(signal, expected)


def check_series(series: Series, expected: Any) -> None:
    assert [*series.values.shape] == expected["shape"]
    assert series.segments.tolist() == expected["segments"]
    assert [[*lost] for lost in series.lost] == expected["lost"]
    assert sha256(series.values.tobytes()) == expected["sha256"]


def kept_bits(reader: LayerReader, chunk: int) -> list[Any]:
    return [bits.kept_trains(chunk) for bits in reader.bits]


def real_neurons(reader: LayerReader) -> list[int]:
    part = reader.commit.part
    return kept_indices(reader.commit.shape, part.neurons if part else None).tolist()


@pytest.mark.parametrize("name", [*NAMES, *OLD])
def test_it_reads_what_our_reader_reads(name: str) -> None:
    ours, found = our_reader(name), FormatReader(RECORDINGS / name)
    assert find_problems(ours) == []
    assert digest_recording(ours) == found.digest()
    assert [*ours.layers] == [*found.layers]
    for layer, reader in ours.layers.items():
        assert real_neurons(reader) == found.layers[layer].neurons.ravel().tolist()
        if isinstance(reader, CountsReader):
            counts, first_rows = found.layers[layer].counts, reader.first_rows().tolist()
            for some, rows in reader.kept_rows(range(len(reader.segments()))):
                others = counts[first_rows[some.start] : first_rows[some.stop]]
                assert (rows == others.reshape(rows.shape)).all()
            continue
        chunks = [*reader.kept_chunks(range(reader.plan.chunk_count(reader.frames)))]
        frames = np.concatenate([np.unpackbits(trains, axis=1).T for trains in chunks])[: reader.frames]
        assert (frames == found.layers[layer].frames.reshape(len(frames), -1)).all()
        assert (reader.segments().rows == found.layers[layer].segments).all()
        levels = read_levels(reader, 0, reader.frames, partial(kept_bits, reader))
        scale = reader.commit.values.scale if reader.commit.values else 1.0
        ours_put_out = scale_levels(levels, scale, reader.commit.dtype)
        assert ours_put_out.dtype == found.layers[layer].values.dtype
        assert (ours_put_out == found.layers[layer].values).all()
        assert [*reader.signals] == [*found.layers[layer].signals]
        for name_of_signal, signal in reader.signals.items():
            check_bytes(signal, found.layers[layer].signals[name_of_signal])
    assert (ours.operations is None) == (found.operations is None)
    if ours.operations is not None and found.operations is not None:
        check_bytes(ours.operations, found.operations)
    for column, values in ours.trials().items():
        if values.dtype == object:
            assert [(type(v), v) for v in values] == [(type(v), v) for v in found.columns[column]]


def check_bytes(ours: SignalReader, found: Series) -> None:
    values = np.concatenate([*ours.trains(range(ours.chunks))], axis=1)[:, : ours.frames].T
    assert values.dtype == found.values.dtype
    assert values.tobytes() == found.values.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_fan_outs_are_those_that_were_written(name: str) -> None:
    expected, found = ANSWERS[name].get("fan_outs", {}), FormatReader(RECORDINGS / name).fan_outs
    connections, shapes = our_reader(name).metadata.connections, exemplars_of_values.SHAPES
    ours = {} if connections is None else connections.layers
    assert sorted(found) == sorted(expected) == sorted({*ours} - {"gone"})
    for layer, readers in expected.items():
        own = {reader.name: (reader.fan_out, reader.nonzero_fan_out) for reader in ours[layer]}
        assert sorted(found[layer]) == sorted(readers) == sorted(own)
        for reader, wanted in readers.items():
            of_ours = [None if each is None else each.array(shapes[layer]) for each in own[reader]]
            for arrays in (found[layer][reader], of_ours):
                assert [None if each is None else each.ravel().tolist() for each in arrays] == wanted
                assert all(each is None or each.shape == shapes[layer] for each in arrays)


def test_ranks_have_one_digest_together() -> None:
    digests = [FormatReader(RECORDINGS / name).digest() for name in NAMES if name.startswith("run.rank")]
    assert len(digests) == 2
    assert sha256(format_reader.as_json(digests)) == ANSWERS["run"]["digest"]


def test_the_answers_are_those_of_what_the_script_writes(tmp_path: Path) -> None:
    made = exemplars.make_all(tmp_path)
    assert json.loads(json.dumps(made)) == ANSWERS
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES


def is_promised(record: Any, parts: tuple[str, ...]) -> bool:
    """Whether the record promises any frame of a file of a recording; of the small arrays always."""
    if parts[:2] == ("operations", "values"):
        return not any(
            first <= int(parts[3]) * record["operations"]["chunk_frames"] < last
            for first, last in record["operations"].get("lost", [])
        )
    if record["state"] == "closed" or parts[0] != "layers":
        return True
    layer = next(layer for layer in record["layers"] if layer["name"] == parts[1])
    if parts[2].startswith("plane"):
        planes = {plane["name"]: plane["first_chunk"] for plane in layer["values"]["planes"]}
        if parts[3] not in planes:
            return False
    about = layer
    if parts[2] == "signals":
        about = next(signal for signal in layer["signals"] if signal["name"] == parts[3])
    if not {"spikes", "planes", "values"} & {*parts}:
        return True
    return int(parts[parts.index("c") + 1]) * about["chunk_frames"] < about["frames"]


@pytest.mark.parametrize(
    "name", ["parts.zarr", "growing.zarr", "parts-packed.zarr", "values.zarr", "values-packed.zarr",
             "signals.zarr", "growing-values.zarr", "kept.zarr", "growing-kept.zarr", "operations.zarr"]
)  # fmt: skip
def test_it_notices_damage_of_what_is_promised(tmp_path: Path, name: str) -> None:
    shutil.copytree(RECORDINGS / name, tmp_path / name)
    record = FormatReader(tmp_path / name).record
    noticed = []
    for file in sorted((tmp_path / name).rglob("*")):
        if not file.is_file() or (file.name == "zarr.json" and file.parent != tmp_path / name):
            continue
        stored = file.read_bytes()
        is_empty_shard = "packed" in name and {*stored[:-4]} == {255}
        if is_empty_shard or not is_promised(record, file.relative_to(tmp_path / name).parts):
            continue
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
