"""Tables with a row for each spike, of whatever library, in one part or many, become recordings."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import analysis
import recorder
from recorder import EventTable
from recorder.elsewhere import writing
from recorder.stores import Folder
from recorder.tape import TapeReader

# Waiting for the disk takes longer than everything else.
write_recording = partial(recorder.write_recording, durability="process")

STEPS, SAMPLES, SHAPE = 40, 3, (2, 3, 4)


def made(steps: int = STEPS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((steps, SAMPLES, *SHAPE)) < 0.1


def events_of(values: np.ndarray) -> dict[str, np.ndarray]:
    step, sample, *axes = np.nonzero(values)
    flat = np.ravel_multi_index(axes, SHAPE)
    return {"step": step, "sample": sample, "neuron": flat, "height": axes[1], "note": step * 0.5}


def frames(path: Path, layer: str = "1") -> np.ndarray:
    reader = TapeReader.open(Folder(path)).layers[layer]
    return reader.frame_bits(0, reader.frames)


def structured(columns: dict[str, np.ndarray]) -> np.ndarray:
    table = np.zeros(len(columns["step"]), [(name, "i4") for name in columns])
    for name, values in columns.items():
        table[name] = values
    return table


def npz(columns: dict[str, np.ndarray]) -> Any:
    file = io.BytesIO()
    np.savez(file, **columns)
    file.seek(0)
    return np.load(file)


TABLES: dict[str, Callable[[dict[str, np.ndarray]], Any]] = {
    "mapping": lambda columns: columns,
    "lists": lambda columns: {name: values.tolist() for name, values in columns.items()},
    "unsigned": lambda columns: {name: values.astype(np.uint16) for name, values in columns.items()},
    "npz": npz,
    "structured": structured,
    "pandas": pd.DataFrame,
    "pyarrow": pa.table,
    "batches": lambda columns: pa.table(columns).to_batches(max_chunksize=7),
    "parts": lambda columns: ({name: v[i : i + 5] for name, v in columns.items()} for i in range(0, 999, 5)),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_every_library(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "ROUND_SLOTS", 3 * made()[0].size)
    values = made()
    table = EventTable(TABLES[kind](events_of(values)), neurons=SHAPE, steps=STEPS, samples=SAMPLES)
    write_recording(tmp_path / "events.zarr", {"1": table})
    write_recording(tmp_path / "array.zarr", {"1": values})
    one, other = (analysis.open_recording(tmp_path / f"{name}.zarr") for name in ("events", "array"))
    assert one.digest() == other.digest()


def test_rows_of_a_table_may_have_any_order(tmp_path: Path) -> None:
    values = made()
    order = np.random.default_rng(1).permutation(values.sum())
    columns = {name: column[order] for name, column in events_of(values).items()}
    table = EventTable(columns, neurons=SHAPE, steps=STEPS, samples=SAMPLES)
    write_recording(tmp_path / "run.zarr", {"1": table})
    assert (frames(tmp_path / "run.zarr") == values.reshape(-1, *SHAPE)).all()


@pytest.mark.parametrize("shape", [(), (5,), (5, 3), (2, 3, 4), (2, 2, 3, 2), (1, 2, 1, 2, 2)])
def test_neurons_by_their_place_along_each_axis(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).random((STEPS, 1, *shape)) < 0.3
    step, _, *axes = np.nonzero(values)
    names = {2: ["channel", "length"], 3: ["channel", "height", "width"]}.get(
        len(shape), ["channel", "depth", "height", "width"]
    )
    columns = {"step": step, **dict(zip(names, axes, strict=False))}
    if len(shape) in (1, 5):
        columns = {"step": step, "neuron": np.ravel_multi_index(axes, shape)}
    write_recording(tmp_path / "run.zarr", {"1": EventTable(columns, neurons=shape, steps=STEPS)})
    assert (frames(tmp_path / "run.zarr") == values[:, 0]).all()


def test_silence_before_between_and_after_events_is_kept(tmp_path: Path) -> None:
    table = EventTable({"step": [20, 20], "neuron": [4, 0]}, neurons=6, steps=STEPS)
    write_recording(tmp_path / "run.zarr", {"1": table})
    expected = np.zeros((STEPS, 6), bool)
    expected[20, [0, 4]] = True
    assert (frames(tmp_path / "run.zarr") == expected).all()
    nothing = EventTable({"step": np.empty(0, int), "neuron": np.empty(0, int)}, neurons=6, steps=STEPS)
    write_recording(tmp_path / "silent.zarr", {"1": nothing})
    assert frames(tmp_path / "silent.zarr").shape == (STEPS, 6)
    assert not frames(tmp_path / "silent.zarr").any()


@pytest.mark.parametrize("lengths", [[7, 7, 7], [3, 9, 1]])
def test_trials_of_a_table(tmp_path: Path, lengths: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "ROUND_SLOTS", 2 * made()[0].size)
    trials = [made(steps, seed) for seed, steps in enumerate(lengths)]
    trials[1][:] = False
    parts = []
    for number, values in enumerate(trials):
        columns = events_of(values)
        parts.append({"trial": np.full_like(columns["step"], number), "time": columns.pop("step"), **columns})
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    said = {"steps": 7, "trials": 3} if lengths == [7, 7, 7] else {"steps": lengths}
    labels = [[1, 2, 3], 4, [5, 6, 7]]
    for name, events in (("one", joined), ("parts", iter(parts))):
        table = EventTable(events, neurons=SHAPE, samples=SAMPLES, **said)
        write_recording(tmp_path / f"{name}.zarr", {"1": table}, labels=labels)
    write_recording(tmp_path / "array.zarr", {"1": iter(trials)}, labels=labels)
    digests = {analysis.open_recording(path).digest() for path in tmp_path.glob("*.zarr")}
    assert len(digests) == 1


def test_tables_with_trials_need_no_labels(tmp_path: Path) -> None:
    table = EventTable({"trial": [1], "time": [0], "neuron": [0]}, neurons=2, steps=3, trials=2)
    write_recording(tmp_path / "run.zarr", {"1": table})
    reader = TapeReader.open(Folder(tmp_path / "run.zarr"))
    assert reader.layers["1"].segments().rows[:, 4].tolist() == [0, 1]
    assert reader.trials()["trial"].tolist() == [0, 1]


def test_parquet_is_read_in_batches(tmp_path: Path) -> None:
    values = made(200)
    pq.write_table(pa.table(events_of(values)), tmp_path / "events.parquet", row_group_size=16)
    with pq.ParquetFile(tmp_path / "events.parquet") as file:
        events = file.iter_batches(batch_size=10, columns=["step", "sample", "neuron"])
        table = EventTable(events, neurons=SHAPE, steps=200, samples=SAMPLES)
        write_recording(tmp_path / "run.zarr", {"1": table})
    assert (frames(tmp_path / "run.zarr") == values.reshape(-1, *SHAPE)).all()


GOOD = {"step": [0, 3], "neuron": [1, 2]}
IN_TRIALS = {"trial": [0, 1], "time": [2, 4], "neuron": [0, 0]}


@pytest.mark.parametrize(
    ("events", "options", "error", "message"),
    [
        ({"step": [0]}, {}, ValueError, "no column 'neuron', only 'step'"),
        ({"step": [0, 4], "neuron": [0, 0]}, {}, ValueError, "row 1 of the events has step 4"),
        ({"step": [0], "neuron": [3]}, {}, ValueError, "has neuron 3; expected 0 to 2, as there are 3"),
        ({"step": [-1], "neuron": [0]}, {}, ValueError, "has step -1"),
        ({"step": [0.5], "neuron": [0]}, {}, ValueError, "dtype float64; expected whole numbers"),
        ({**GOOD, "sample": [0, 1]}, {}, ValueError, "has sample 1; expected 0 to 0, as there are 1"),
        ({**GOOD, "trial": [0, 0]}, {}, ValueError, "number of trials is not said"),
        (GOOD, {"samples": 2}, ValueError, "no column 'sample'"),
        (GOOD, {"trials": 2}, ValueError, "no column 'trial'"),
        (IN_TRIALS, {"steps": [5, 4]}, ValueError, "row 1 of the events has time 4 in trial 1, which has 4"),
        ([{"step": [2], "neuron": [0]}, {"step": [1], "neuron": [0]}], {}, ValueError, "step 1 come behind"),
        ([3], {}, TypeError, "events hold a int; expected tables"),
        (3, {}, TypeError, "events is a int"),
        ({"step": [1, 1, 2], "neuron": [2, 2, 2]}, {}, ValueError, "2 events are of neuron 2 in step 1"),
        (GOOD, {"steps": 0}, ValueError, r"steps is \[0\]; expected whole numbers"),
        (GOOD, {"neurons": (2, 0)}, ValueError, r"neurons is \[2, 0\]"),
        (GOOD, {"neurons": (2**20, 2**20)}, ValueError, "a layer has at most"),
        (GOOD, {"steps": [1, 2], "trials": 3}, ValueError, "trials is 3, but steps are given for 2"),
        (GOOD, {"samples": 1.5}, TypeError, "float"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_are_refused(
    tmp_path: Path, events: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        write_recording(
            tmp_path / "run.zarr", {"1": EventTable(events, **{"neurons": 3, "steps": 4, **options})}
        )


def test_many_events_in_one_slot_are_refused_counted_or_one(tmp_path: Path) -> None:
    events = {"step": [1] * 300 + [3], "sample": [0] * 300 + [1], "neuron": [2] * 300 + [0]}
    with pytest.raises(ValueError, match="300 events are of neuron 2 in step 1, sample 0: Ev"):
        write_recording(tmp_path / "error", {"1": EventTable(events, neurons=3, steps=4, samples=2)})
    counts = np.zeros((4, 2, 3), np.int64)
    np.add.at(counts, tuple(map(np.array, events.values())), 1)
    for several, expected in (("count", counts), ("once", counts > 0)):
        table = EventTable(events, neurons=3, steps=4, samples=2, several=several)
        write_recording(tmp_path / several, {"1": table})
        values = analysis.open_recording(tmp_path / several).layers["1"].values
        np.testing.assert_array_equal(np.asarray(values).reshape(4, 2, 3), expected)
    with pytest.raises(ValueError, match="several is 'all'; expected 'error', 'count' or 'once'"):
        EventTable(events, neurons=3, steps=4, several="all")


def test_values_that_a_table_would_lose_are_refused(tmp_path: Path) -> None:
    events = {"step": [0, 1], "neuron": [2, 0], "value": [1, -2]}
    with pytest.raises(ValueError, match=r"row 1 of the events has value -2; each row .* is one spike"):
        write_recording(tmp_path / "run", {"1": EventTable(events, neurons=3, steps=4)})
    write_recording(tmp_path / "run", {"1": EventTable({**events, "value": [1, True]}, neurons=3, steps=4)})
    assert frames(tmp_path / "run").sum() == 2
