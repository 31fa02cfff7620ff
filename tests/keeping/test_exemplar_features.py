"""The committed recordings exercise every part of the format, for whoever writes another reader."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from committed_recordings import ANSWERS, NAMES, OLD, RECORDINGS
from format_reader import FormatReader


def test_they_exercise_every_part_of_the_format() -> None:
    records = {name: FormatReader(RECORDINGS / name).record for name in [*NAMES, *OLD]}
    every = [(name, layer) for name, record in records.items() for layer in record["layers"]]
    layers = [(name, layer) for name, layer in every if "keep" not in layer]
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
        **features_of_parts(records),
        **features_of_values(records),
        **features_of_signals(records),
        **features_of_connections(records),
        **features_of_operations(records),
    }
    assert [feature for feature, is_there in features.items() if not is_there] == []


def features_of_operations(records: dict[str, Any]) -> dict[str, bool]:
    """Whether all that there is to operations is exercised."""
    counted = {name: record["operations"] for name, record in records.items() if "operations" in record}
    every = [*counted.values()]
    return {
        "operations, packed too": {"shard_bytes" in records[name] for name in counted} == {False, True},
        "operations in parts": any(each["part_rows"] < len(each["weight_layers"]) for each in every),
        "operations that were not all counted": any(each["uncounted"] for each in every),
        "operations marked lost": any(each.get("lost") for each in every),
        "a weight layer that is the network itself": any("" in each["weight_layers"] for each in every),
    }


def features_of_parts(records: dict[str, Any]) -> dict[str, bool]:
    """Whether all parts of layers that may be kept are exercised."""
    layers = [(name, layer) for name, record in records.items() for layer in record["layers"]]

    def states(field: str) -> set[tuple[str, bool]]:
        """Where there are layers with this field."""
        return {
            (records[name]["state"], "shard_bytes" in records[name])
            for name, layer in layers
            if field in layer
        }

    everywhere = {("closed", False), ("closed", True)}
    counted = [layer for _, layer in layers if "keep" in layer]
    bits = [layer for _, layer in layers if "keep" not in layer]
    return {
        "some neurons, by slices and by flat indices": {
            isinstance(layer["neurons"][0], list) for layer in bits if "neurons" in layer
        }
        == {True, False},
        "some neurons, growing too": states("neurons") == {*everywhere, ("recording", False)},
        "first samples only": states("samples") == everywhere,
        "some trials only": states("trials_every") == everywhere,
        "counts, growing too": states("keep") == {*everywhere, ("recording", False)},
        "counts of some neurons, samples and trials": any(
            {"neurons", "samples", "trials_every"} <= {*layer} for layer in counted
        ),
        "counts of a single neuron": any(layer["neuron_shape"] == [] for layer in counted),
        "lost counts, of some segments and of all": {
            layer["lost"] == [[0, layer["frames"]]] for layer in counted if "lost" in layer
        }
        == {True, False},
        "parts of layers with values": any("values" in layer and "neurons" in layer for layer in bits),
        "signals beside counts": any("signals" in layer for layer in counted),
        "whole layers beside parts": any(
            {"neurons" in layer for layer in record["layers"]} == {True, False} for record in records.values()
        ),
    }


def features_of_values(records: dict[str, Any]) -> dict[str, bool]:
    """Whether all that there is to values is exercised."""
    layers = [(name, layer) for name, record in records.items() for layer in record["layers"]]
    graded = [(name, layer) for name, layer in layers if "values" in layer]
    planes = [(name, layer, plane) for name, layer in graded for plane in layer["values"]["planes"]]

    def is_packed(name: str) -> bool:
        return "shard_bytes" in records[name]

    lost = FormatReader(RECORDINGS / "lost.zarr").layers["a"]
    far = next(layer for _, layer in graded if layer["name"] == "far")["values"]
    late = next(layer for _, layer in graded if layer["name"] == "late")
    return {
        "values in closed, growing and packed recordings": {
            (records[name]["state"], is_packed(name)) for name, _ in graded
        }
        == {("closed", False), ("recording", False), ("closed", True)},
        "planes that begin later, packed too": {
            is_packed(name) for name, _, plane in planes if plane["first_chunk"] > 1
        }
        == {False, True},
        "planes of a layer that begin at different chunks": any(
            len({plane["first_chunk"] for plane in layer["values"]["planes"]}) > 1 for _, layer in graded
        ),
        "planes that begin within a block, and behind whole ones": {
            plane["first_chunk"] % layer["block_chunks"]
            for _, layer, plane in planes
            if plane["first_chunk"] >= layer["block_chunks"]
        }
        >= {0, 1},
        "the sign alone": any(
            [plane["name"] for plane in layer["values"]["planes"]] == ["sign"] for _, layer in graded
        ),
        "no plane at all": any(not layer["values"]["planes"] for _, layer in graded),
        "planes with others missing between them": [plane["name"] for plane in far["planes"]] == ["14"],
        "planes that begin with the last frames, fewer than eight": late["frames"] % 8 > 2
        and len(late["values"]["planes"]) > 1,
        "negative levels beyond -1": any(layer["values"]["range"][0] < -1 for _, layer in graded),
        "scales, one of which is no float that is written short": {
            layer["values"]["scale"] for _, layer in graded
        }
        == {0.1, 0.25, 1.0},
        "data types of halves, and of whole numbers": {layer["dtype"] for _, layer in graded}
        >= {"float16", "bfloat16", "float32", "int8", "int64"},
        "values in parts, the last one padded": any(
            plane["tail"][1:] and layer["neuron_shape"][0] % layer["part_rows"] for _, layer, plane in planes
        ),
        "values of a single neuron": any(layer["neuron_shape"] == [] for _, layer in graded),
        "layers with and without values beside each other": any(
            {"values" in layer for layer in record["layers"]} == {True, False} for record in records.values()
        ),
        "lost frames in a layer with values, packed too": {
            is_packed(name) for name, layer in graded if "lost" in layer
        }
        == {False, True},
        "a plane that is true in lost frames only": bool(lost.planes)
        and not all(bits.flat.any() for bits in lost.planes.values()),
        "planes that are stored behind the commit": not {
            plane["name"] for name, _, plane in planes if name == "growing-values.zarr"
        }
        >= {path.name for path in (RECORDINGS / "growing-values.zarr/layers/a/planes").iterdir()}
        - {"zarr.json"},
    }


def features_of_signals(records: dict[str, Any]) -> dict[str, bool]:
    """Whether all that there is to signals is exercised."""
    signals = [
        (name, layer, signal)
        for name, record in records.items()
        for layer in record["layers"]
        for signal in layer.get("signals", [])
    ]
    named = [(name, signal) for name, _, signal in signals if not name.startswith("version")]

    def states(field: str) -> set[tuple[str, bool]]:
        """Where there are signals with this field."""
        return {
            (records[name]["state"], "shard_bytes" in records[name])
            for name, signal in named
            if field in signal and (field != "every" or signal[field] > 1)
        }

    everywhere = {("closed", False), ("closed", True)}
    floats = FormatReader(RECORDINGS / "signals.zarr").layers["a"].signals["v"].values
    return {
        "floats of each length, and integers": {signal["dtype"] for _, signal in named}
        >= {"float16", "float32", "float64", "int16", "int32", "int64", "uint8"},
        "NaN, infinities, -0.0 and the least float": bool(
            np.isnan(floats).any()
            and {np.inf, -np.inf} <= {*floats.ravel().tolist()}
            and np.signbit(floats[floats == 0]).any()
            and np.float32(1e-45) in floats
        ),
        "every k-th step, growing too": states("every") == {*everywhere, ("recording", False)},
        "first samples only, growing too": states("samples") == {*everywhere, ("recording", False)},
        "some neurons, by slices and by flat indices": {
            isinstance(signal["neurons"][0], list) for _, signal in named if "neurons" in signal
        }
        == {True, False},
        "some neurons, packed too": states("neurons") == everywhere,
        "lost frames, packed too": states("lost") == everywhere,
        "lost frames at the end": any(
            signal["lost"][-1][1] == signal["frames"] for _, signal in named if "lost" in signal
        ),
        "parts, the last one padded": any(
            signal["part_rows"] > 1 and signal["neuron_shape"][0] % signal["part_rows"] for _, signal in named
        ),
        "other shapes than the layer's": any(
            signal["neuron_shape"] != layer["neuron_shape"] for _, layer, signal in signals
        ),
        "signals of a single neuron": any(signal["neuron_shape"] == [] for _, signal in named),
        "chunks that end within a step": any(
            signal["chunk_frames"] % 3 and signal["frames"] > signal["chunk_frames"] for _, signal in named
        ),
        "a last chunk that is full, and one that is not": {bool(signal["tail"]) for _, signal in named}
        == {True, False},
        "names that are escaped, and set apart": any("/" in signal["name"] for _, signal in named)
        and any("folder" in signal for _, signal in named),
        "signals of a layer with values": any("values" in layer for _, layer, _ in signals),
    }


def features_of_connections(records: dict[str, Any]) -> dict[str, bool]:
    """Whether each form of a fan-out is exercised, and all else that connections have."""
    found = [record["connections"] for record in records.values() if "connections" in record]
    readers = [reader for each in found for readers_of in each["layers"].values() for reader in readers_of]
    forms = [form for reader in readers for form in (reader["fan_out"], reader["nonzero_fan_out"])]
    return {
        "fan-outs as numbers": any(isinstance(form, int) for form in forms),
        "fan-outs as products": any(isinstance(form, dict) and "along" in form for form in forms),
        "stored fan-outs": any(isinstance(form, dict) and "stored" in form for form in forms),
        "fan-outs that took too much room": None in forms,
        "layers with several readers, and without": {
            len(each["layers"][name]) for each in found for name in each["layers"]
        }
        >= {0, 1, 2},
        "readers of a layer that is not there any more": any(
            {*record["connections"]["layers"]} - {layer["name"] for layer in record["layers"]}
            for record in records.values()
            if "connections" in record
        ),
        "readers of the input, and what is not covered": all(
            each["inputs"] and each["uncovered"] for each in found
        ),
    }
