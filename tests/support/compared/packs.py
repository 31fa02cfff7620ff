"""Recordings for tests of packing, and what is asked of every form of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr

import analysis
from recorder.keeping import pack_recording
from recorder.stores import open_store
from recorder.tape import TapeReader
from tapes import Made, Run, Trial, write_recording

FRAMES = 5 * 131
# So few that the layers below lie in several shards.
SHARD_BYTES = 2000


def layers() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(5)
    shapes: dict[str, tuple[int, ...]] = {"a/b": (33,), "wide": (5, 3, 7), "one": ()}
    return {name: rng.random((FRAMES, *shape)) < 0.2 for name, shape in shapes.items()}


def signals() -> dict[tuple[str, str], Made]:
    rng = np.random.default_rng(6)
    return {
        ("wide", "v"): Made(rng.normal(size=(FRAMES, 5, 3, 7)), every=4, samples=3),
        ("one", "v"): Made(rng.normal(size=FRAMES).astype(np.float32)),
    }


def write(store: Any, **options: Any) -> None:
    runs = [Run(0, 100, 5, 0), Run(100, 31, 5, 1)]
    trials = [
        Trial(0, 5, {"label": ["x", "y", "x", "z", "é"], "epoch": [1, 2, 3, 4, 5]}),
        Trial(1, 5, {"label": ["x", "y", "x", "z", "é"], "epoch": [1, 2, 3, 4, 5]}),
    ]
    # The wide layer's chunks are stored in three parts.
    sizes = {"chunk_bytes": 300, "limit_bytes": 600}
    write_recording(store, layers(), runs, trials, signals=signals(), **sizes, **options)


def reader_of(place: str | Path, **options: Any) -> TapeReader:
    return TapeReader.open(open_store(place, read_only=True, **options))


def packed_at(source: Path, place: Path, **options: Any) -> Path:
    pack_recording(reader_of(source), str(place), shard_bytes=SHARD_BYTES, **options)
    return place


def answers(place: str | Path, **options: Any) -> list[Any]:
    recording = analysis.open_recording(place, **options)
    counted = analysis.open_recording(place, use_counts=False, **options)
    return [
        recording.spike_count(per="layer").compute().to_numpy().tolist(),
        counted.spike_count(per="layer").compute().to_numpy().tolist(),
        recording.firing_rate(per=("layer", "label")).compute().to_numpy().tolist(),
        float(recording.silent_ratio()),
        recording.trials.to_dataframe().to_dict(),
        *(recording[layer].signals[name].values.values.tolist() for layer, name in signals()),
        float(recording["wide"].signals["v"].std()),
        recording.digest(),
    ]


def check_stock_zarr(store: Any) -> None:
    group = zarr.open_group(store, mode="r")
    assert group.metadata.consolidated_metadata is not None
    for name, expected in layers().items():
        layer = group["layers"][name.replace("/", "=2F")]
        assert np.array_equal(layer["spikes"][:], expected)
        assert np.array_equal(layer["spikes"][100:103], expected[100:103])
        assert np.array_equal(layer["counts"][:].sum(axis=0), expected.sum(axis=0))
    for (name, signal), made in signals().items():
        values = group["layers"][name]["signals"][signal]["values"]
        kept, _ = made.kept([Run(0, 100, 5, 0), Run(100, 31, 5, 1)])
        assert np.array_equal(values[:], kept)
        assert np.array_equal(values[7:12], kept[7:12])


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def bytes_of(path: Path) -> bytes:
    return path.read_bytes()
