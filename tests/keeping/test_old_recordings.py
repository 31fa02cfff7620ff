"""Recordings of each version that were made once open for ever, by us and by stock Zarr, without torch."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from recorder.format import RecordingFormatError
from recorder.stores import Folder
from recorder.tape import TapeReader

WITNESS = Path(__file__).parents[1] / "recordings" / "version-1.zarr"
# Two segments, 3 steps of 50 samples in trial 0 and 7 of 3 samples in none; chunks of 64 frames.
FRAMES = 171
SHAPES = {"0": (), "features.1": (9,), "a/b": (3, 3), "": (2, 3, 5)}


def expected_spikes(name: str) -> np.ndarray:
    """Spikes that were recorded: neuron n fires at frame f where 7f + 3n² + f·n is a multiple of 5."""
    shape = SHAPES[name]
    frame, neuron = np.ogrid[:FRAMES, : math.prod(shape)]
    return ((7 * frame + 3 * neuron**2 + frame * neuron) % 5 == 0).reshape(FRAMES, *shape)


def test_the_recording_opens() -> None:
    reader = TapeReader.open(Folder(WITNESS))
    assert reader.metadata.state == "closed"
    assert reader.metadata.provenance == {"made by": "spiketape 0.1.0", "metadata": {"note": "naïve"}}
    assert list(reader.layers) == list(SHAPES)
    assert {name: values.tolist() for name, values in reader.trials().items()} == {
        "trial": [0] * 50,
        "sample": list(range(50)),
        "label": [sample % 10 for sample in range(50)],
        "kind": ["digit"] * 25 + ["noise"] * 25,
        "contrast": [sample / 50 for sample in range(50)],
    }


@pytest.mark.parametrize("name", SHAPES)
def test_its_layers_hold_what_was_recorded(name: str) -> None:
    layer = TapeReader.open(Folder(WITNESS)).layers[name]
    expected = expected_spikes(name)
    assert layer.plan.chunk_frames == 64
    assert np.array_equal(layer.frame_bits(0, FRAMES), expected)
    assert np.array_equal(layer.counts(0, 1)[0], expected.sum(axis=0))
    assert layer.segments().rows.tolist() == [[0, 0, 3, 50, 0], [150, 3, 7, 3, -1]]


def test_of_version_2_frames_are_lost() -> None:
    """The same recording; of layer "features.1" the chunk of frames 64 to 127 was damaged."""
    reader = TapeReader.open(Folder(WITNESS.with_name("version-2.zarr")))
    assert reader.metadata.format_version == 2
    assert {name: layer.commit.lost for name, layer in reader.layers.items() if layer.commit.lost} == {
        "features.1": ((50, 150),)
    }
    layer, expected = reader.layers["features.1"], expected_spikes("features.1")
    assert layer.kept_segments().rows.tolist() == [[0, 0, 1, 50, 0], [150, 3, 7, 3, -1]]
    assert np.array_equal(layer.frame_bits(0, 50), expected[:50])
    assert np.array_equal(layer.frame_bits(150, FRAMES), expected[150:])
    with pytest.raises(RecordingFormatError, match="frames 64 to 127 is marked lost"):
        layer.frame_bits(50, 150)
    assert np.array_equal(reader.layers["0"].frame_bits(0, FRAMES), expected_spikes("0"))


def test_of_version_3_labels_lie_in_an_array() -> None:
    reader = TapeReader.open(Folder(WITNESS.with_name("version-3.zarr")))
    assert reader.metadata.format_version == 3
    labels = [True, 1, 1.0, "1", None, 'a "naïve"\nlabel', *(f"sample-{sample}" for sample in range(20))]
    found = reader.trials()["label"].tolist()
    assert [(type(label), label) for label in found] == [(type(label), label) for label in labels]


def numbers(frames: int = 90, neurons: int = 6) -> np.ndarray:
    """At frame f, neuron n has the remainder of 7f + 3n² + f·n by 11, less 5."""
    frame, neuron = np.ogrid[:frames, :neurons]
    return ((7 * frame + 3 * neuron**2 + frame * neuron) % 11 - 5).reshape(frames, 2, 3)


def test_of_version_3_signals_lie_beside_the_spikes() -> None:
    """Of steps 0 to 19 of three samples in trial 0, and 20 to 29 in none."""
    witness = WITNESS.with_name("version-3-signals.zarr")
    layer = TapeReader.open(Folder(witness)).layers["0"]
    assert np.array_equal(layer.frame_bits(0, 90), numbers() > 3)
    halves = (numbers() / 2).astype(np.float16)
    halves[3, 0, 2], halves[4, 0, 0] = np.nan, np.inf
    every_fourth = numbers().astype(np.float64).reshape(30, 3, 2, 3)[::4, :2, 1:2, ::2].reshape(-1, 1, 2)
    expected = {
        "v": (halves, None, "v"),
        "V": (every_fourth, (range(1, 2), range(0, 3, 2)), "=56"),
        "count": (numbers().astype(np.int32).reshape(90, 6)[:, [1, 4]], (1, 4), "count"),
    }
    assert list(layer.signals) == list(expected)
    for name, (values, neurons, folder) in expected.items():
        signal = layer.signals[name]
        found = signal.values(0, signal.frames)
        assert found.dtype == values.dtype
        assert np.array_equal(found, values, equal_nan=values.dtype.kind == "f")
        assert signal.commit.neurons == neurons
        stock = zarr.open_array(witness / f"layers/0/signals/{folder}/values", mode="r")
        assert np.array_equal(stock[...], values, equal_nan=values.dtype.kind == "f")
        assert np.array_equal(stock[5:9], values[5:9], equal_nan=values.dtype.kind == "f")
    steps = [[2 * number, 4 * number, 1, 2, 0 if number < 5 else -1] for number in range(8)]
    assert layer.signals["V"].segments().rows.tolist() == steps
    assert np.array_equal(layer.signals["v"].segments().rows, layer.segments().rows)


@pytest.mark.parametrize(
    ("name", "folder"), [("0", "0"), ("features.1", "features.1"), ("a/b", "a=2Fb"), ("", "=")]
)
def test_stock_zarr_reads_it_as_booleans(name: str, folder: str) -> None:
    expected = expected_spikes(name)
    with warnings.catch_warnings():
        # Zarr says that numcodecs.packbits is in no specification yet.
        warnings.simplefilter("ignore")
        layer: Any = zarr.open_group(WITNESS, mode="r")["layers"][folder]
        assert layer.attrs["name"] == name
        spikes = layer["spikes"]
        assert spikes.dtype == np.bool_
        assert spikes.chunks[0] == 64
        assert np.array_equal(spikes[...], expected)
        assert np.array_equal(spikes[60:130], expected[60:130])
        assert np.array_equal(layer["counts"][0], expected.sum(axis=0))
