"""Exported events are those of the recording, whoever reads them."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import dask
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import analysis
from analysis.export import parquet
from analysis.kernels.events import by_group, plain_loops
from analysis.kernels.exporting import event_rows
from exported_events import read
from made_recordings import make_example, plans
from presented import starts_of
from recorder.format import LostFramesWarning
from tapes import Run, Trial, write_recording

COLUMNS = ["neuron", "trial", "sample", "time", "step"]


def wanted(layer: analysis.Layer, starts: dict[int, int]) -> list[tuple[Any, ...]]:
    """Events by unpacked bits, in order of neuron, then of frame."""
    spikes = layer.spikes.compute()
    flat = spikes.values.reshape(len(spikes), math.prod(spikes.shape[1:]))
    whole = np.arange(math.prod(layer.sources[0].commit.plan.neuron_shape))
    kept = whole.reshape(layer.sources[0].commit.plan.neuron_shape)
    if layer.sources[0].selection.neurons is not None:
        kept = kept[np.ix_(*layer.sources[0].selection.neurons)]
    neuron, frame = np.nonzero(flat.T)
    trial, sample, step = (spikes[name].values[frame].tolist() for name in ("trial", "sample", "step"))
    return [
        (int(kept.ravel()[n]), None if t < 0 else t, s, None if t < 0 else at - starts[t], at)
        for n, t, s, at in zip(neuron, trial, sample, step, strict=True)
    ]


@pytest.mark.filterwarnings("ignore::recorder.format.errors.LostFramesWarning")
@pytest.mark.parametrize("compiled", [True, False])
@given(plan=plans(most_steps=16, most_neurons=33), data=st.data())
@settings(
    max_examples=15,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_events_are_those_of_unpacked_bits(
    tmp_path_factory: pytest.TempPathFactory, compiled: bool, plan: dict[str, Any], data: st.DataObject
) -> None:
    tmp = tmp_path_factory.mktemp("parquet")
    example = make_example(tmp / "run.zarr", plan)
    recording = analysis.open_recording(example.path)
    chosen = data.draw(st.sampled_from(["all", "steps", "samples", "time", "label", "neurons"]), "selected")
    if (chosen == "label" and not example.label_values) or (chosen == "time" and not example.presented):
        chosen = "all"
    widest = max((run.batch for run in plan["runs"]), default=1)
    part = {
        "all": {},
        "steps": {"steps": slice(2, 21)},
        "samples": {"samples": [sample for sample in (0, 3, 4) if sample < widest]},
        "time": {"time": slice(1, 7)},
        "label": {"labels": example.label_values[:1]},
        "neurons": {"neurons": slice(0, 5, 2)},
    }[chosen]
    if any(len(shape) != 1 for shape in plan["shapes"]):
        part.pop("neurons", None)
    recording = recording.select(**part)
    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="synchronous"):
        patch.setattr(by_group, "_LOOPS", None if compiled else plain_loops)
        patch.setattr(parquet, "PART_BYTES", data.draw(st.sampled_from([10, 500, 2**24]), "part bytes"))
        patch.setattr(event_rows, "ROWS", data.draw(st.sampled_from([3, 40, 2**20]), "rows"))
        recording.export(tmp / "out", digest=False)
    document = json.loads((tmp / "out" / "metadata.json").read_text())
    for name, about in zip(recording, document["layers"], strict=True):
        found = read(tmp / "out", name)
        expected = wanted(recording[name], starts_of(example))
        assert found.columns == COLUMNS
        assert sorted(found.rows(), key=lambda row: (row[0], row[4], row[2])) == expected
        assert [about["layer"], about["events"], about["frames"]] == [
            name,
            len(expected),
            recording[name].frames,
        ]
        for part_file in about["files"]:
            neurons = pl.read_parquet(tmp / "out" / part_file["file"])["neuron"]
            assert neurons.is_sorted()
            assert len(neurons) == part_file["events"]


def test_files_of_a_layer_follow_each_other_in_steps(path: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(parquet, "PART_BYTES", 512)
    analysis.open_recording(path).export(tmp_path / "out")
    files = sorted((tmp_path / "out" / "layer=1").glob("*"))
    assert [file.name for file in files[:2]] == ["part-00000.parquet", "part-00001.parquet"]
    steps = [pl.read_parquet(file)["step"] for file in files]
    assert all(one.max() <= other.min() for one, other in itertools.pairwise(steps))


def test_sums_are_equal_in_duckdb_polars_and_pandas(path: Path, tmp_path: Path) -> None:
    recording = analysis.open_recording(path)
    out = recording.export(tmp_path / "out")
    expected = {}
    for name, layer in recording.layers.items():
        rows = wanted(layer, {0: 0, 1: 20})
        expected[name] = [len(rows), *(sum(row[place] or 0 for row in rows) for place in range(5))]
    sums = ", ".join(f"sum({name})" for name in COLUMNS)
    by_duckdb = duckdb.sql(
        f"select layer, count(*), {sums} from read_parquet('{out}/layer=*/*.parquet', "  # noqa: S608
        "hive_partitioning=true, hive_types={'layer': VARCHAR}) group by layer"
    ).fetchall()
    assert {name: rest for name, *rest in by_duckdb} == expected
    by_polars = (
        pl.scan_parquet(out / "layer=*" / "*.parquet", hive_schema={"layer": pl.String})
        .group_by("layer")
        .agg(pl.len().cast(int).alias("events"), *(pl.col(name).cast(int).sum() for name in COLUMNS))
        .collect()
    )
    assert {name: rest for name, *rest in by_polars.rows()} == expected
    by_pandas = pd.read_parquet(
        out,
        ignore_prefixes=["neurons", "trials", "metadata"],
        partitioning=ds.partitioning(pa.schema([("layer", pa.string())]), flavor="hive"),
    )
    for name, rows in by_pandas.groupby("layer"):
        assert [len(rows), *(int(rows[column].sum()) for column in COLUMNS)] == expected[name]


def test_rates_by_label_are_a_join_with_the_table_of_trials(path: Path, tmp_path: Path) -> None:
    recording = analysis.open_recording(path)
    out = recording.export(tmp_path / "out")
    found = duckdb.sql(
        f"select label, count(*) from read_parquet('{out}/layer=1/*.parquet') "  # noqa: S608
        f"join '{out}/trials.parquet' using (trial, sample) where label is not null group by label"
    ).fetchall()
    counts = recording["1"].spike_count("label").compute()
    assert dict(found) == dict(zip(counts["label"].values, counts.values, strict=True))


def test_trials_have_all_that_was_attached(path: Path, tmp_path: Path) -> None:
    recording = analysis.open_recording(path)
    recording.export(tmp_path / "out")
    trials = pl.read_parquet(tmp_path / "out" / "trials.parquet")
    assert trials.columns == ["trial", "sample", "first_step", "steps", "label", "count", "trial_steps"]
    assert trials.select("trial", "sample", "first_step", "steps").rows() == [
        (trial, sample, 20 * trial, 20 - 5 * trial) for trial in (0, 1) for sample in range(8)
    ]
    assert trials["label"].to_list() == ["cat"] * 8 + ["dog", None] * 4
    assert trials["count"].to_list() == [*range(7), None] + [None] * 8
    assert trials["count"].dtype == pl.Int64
    assert trials["trial_steps"].to_list() == [None] * 8 + [0.5] * 8


def test_values_of_several_kinds_stay_apart_as_json(tmp_path: Path) -> None:
    labels = ["1", 1, True, 1.0, None, 'a"b']
    spikes = np.ones((12, 2), np.bool_)
    write_recording(tmp_path / "run.zarr", {"1": spikes}, [Run(0, 2, 6, 0)], [Trial(0, 6, {"label": labels})])
    analysis.open_recording(tmp_path / "run.zarr").export(tmp_path / "out")
    trials = pl.read_parquet(tmp_path / "out" / "trials.parquet")
    assert trials["label"].to_list() == ['"1"', "1", "true", "1.0", "null", '"a\\"b"']
    document = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert document["json_columns"] == ["label"]


def test_neurons_are_all_there_with_their_places(path: Path, tmp_path: Path) -> None:
    part = analysis.open_recording(path).select(layers="1", neurons=np.s_[1:, [0, 3], ::2])
    part.export(tmp_path / "out")
    neurons = pl.read_parquet(tmp_path / "out" / "neurons.parquet")
    assert neurons.columns == ["layer", "neuron", "channel", "height", "width"]
    assert neurons.rows() == [
        ("1", (channel * 4 + height) * 5 + width, channel, height, width)
        for channel in (1, 2)
        for height in (0, 3)
        for width in (0, 2, 4)
    ]
    assert set(read(tmp_path / "out", "1")["neuron"]) == set(neurons["neuron"])


def test_lost_steps_are_named_and_have_no_events(path: Path, tmp_path: Path) -> None:
    from made_recordings import lose_chunks

    lose_chunks(path, {"1": [0.0], "features.3": []})
    with pytest.warns(LostFramesWarning):
        recording = analysis.open_recording(path)
    recording.export(tmp_path / "out")
    document = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert [layer["lost_steps"] for layer in document["layers"]] == [{"run.zarr": [[0, 8]]}, {}]
    assert read(tmp_path / "out", "1")["step"].min() >= 8
    # Presentations began all the same: the other layer has them.
    assert pl.read_parquet(tmp_path / "out" / "trials.parquet")["first_step"].min() == 0


@pytest.mark.parametrize(("scale", "least", "most"), [(1.0, 0, 5), (0.25, -9, 9), (1.0, -1, 1)])
def test_values_are_those_of_the_layer(tmp_path: Path, scale: float, least: int, most: int) -> None:
    random = np.random.default_rng(1)
    levels = random.integers(least, most + 1, (300, 3, 5)).astype(np.int16)
    layers = {"plain": random.random((300, 4)) < 0.3, "graded": levels}
    runs = [Run(0, 100, 3)]
    write_recording(tmp_path / "run.zarr", layers, runs, chunk_bytes=100, scales={"graded": scale})
    recording = analysis.open_recording(tmp_path / "run.zarr")
    recording.export(tmp_path / "out")
    found = read(tmp_path / "out", "graded").sort("neuron", "step", "sample")
    flat = recording["graded"].values.compute().values.reshape(300, -1).T
    assert found["value"].dtype == pl.Float32
    np.testing.assert_array_equal(found["value"].to_numpy(), flat[flat != 0])
    assert read(tmp_path / "out", "plain")["value"].unique().to_list() == [1.0]


def test_a_recording_without_trials_has_no_trial_and_no_time(tmp_path: Path) -> None:
    write_recording(tmp_path / "run.zarr", {"1": np.ones((6, 2), np.bool_)}, [Run(5, 3, 2)])
    analysis.open_recording(tmp_path / "run.zarr").export(tmp_path / "out")
    assert read(tmp_path / "out", "1").rows() == [
        (neuron, None, sample, None, step) for neuron in (0, 1) for step in (5, 6, 7) for sample in (0, 1)
    ]
    assert pl.read_parquet(tmp_path / "out" / "trials.parquet").is_empty()


def test_columns_are_nullable_only_where_there_are_frames_outside_of_trials(
    path: Path, tmp_path: Path
) -> None:
    recording = analysis.open_recording(path)
    for out, some in (("inside", recording.select(trials=[0, 1])), ("outside", recording)):
        some.export(tmp_path / out, digest=False)
        schemas = [pq.read_schema(file) for file in (tmp_path / out).glob("layer=*/*.parquet")]
        found = {tuple(field.name for field in schema if field.nullable) for schema in schemas}
        assert found == {("trial", "time") if out == "outside" else ()}


def test_events_of_several_recordings_say_of_which_they_are(tmp_path: Path) -> None:
    for name, steps in (("a", 3), ("b", 2)):
        trials = [Trial(0, 2, {"label": [name, "x"]})]
        write_recording(
            tmp_path / f"{name}.zarr", {"1": np.ones((steps * 2, 3), np.bool_)}, [Run(0, steps, 2, 0)], trials
        )
    recording = analysis.open_recording([tmp_path / "a.zarr", tmp_path / "b.zarr"])
    recording.export(tmp_path / "out")
    events = read(tmp_path / "out", "1")
    assert dict(events.group_by("recording").len().rows()) == {"a.zarr": 18, "b.zarr": 12}
    trials = pl.read_parquet(tmp_path / "out" / "trials.parquet")
    joined = events.join(trials, on=["recording", "trial", "sample"])
    assert dict(joined.group_by("label").len().rows()) == {"a": 9, "b": 6, "x": 15}
    document = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert [file["recording"] for file in document["layers"][0]["files"]] == ["a.zarr", "b.zarr"]


NAMES = [
    "", ".", "..", "../up", "a/b", "a=b", "50%", "%41", "é ☃", "lif", "LIF", "x" * 300, "x" * 299 + "y", "-",
    "__HIVE_DEFAULT_PARTITION__", "null", "a\nb", "a'b", '"', "*", "01", "1",
]  # fmt: skip


def test_hostile_names_stay_in_the_folder_and_come_back(tmp_path: Path) -> None:
    layers = {name: np.full((8, 1), True) for name in NAMES}
    write_recording(tmp_path / "run.zarr", layers, [Run(0, 8, 1)])
    before = sorted(tmp_path.iterdir())
    out = analysis.open_recording(tmp_path / "run.zarr").export(tmp_path / "out", digest=False)
    assert sorted(tmp_path.iterdir()) == sorted([*before, out])
    folders = [each for each in out.iterdir() if each.is_dir()]
    assert len({folder.name.lower() for folder in folders}) == len(NAMES)
    short = {name for name in NAMES if len(name) < 200}
    sql = f"select distinct layer from read_parquet('{out}/layer=*/*.parquet', "  # noqa: S608
    types = "hive_partitioning=true, hive_types={'layer': VARCHAR})"
    by_duckdb = {name for (name,) in duckdb.sql(sql + types).fetchall()}
    by_polars = set(
        pl.scan_parquet(out / "layer=*" / "*.parquet", hive_schema={"layer": pl.String}).collect()["layer"]
    )
    by_arrow = set(
        ds.dataset(
            [str(folder / "part-00000.parquet") for folder in folders],
            partitioning=ds.partitioning(pa.schema([("layer", pa.string())]), flavor="hive"),
            partition_base_dir=str(out),
        )
        .to_table()["layer"]
        .to_pylist()
    )
    # Readers take this one for no value, however it is written.
    without = short - {"__HIVE_DEFAULT_PARTITION__"}
    for found in (by_duckdb, by_polars, by_arrow):
        assert without <= found
        assert len(found) == len(NAMES)
    document = json.loads((out / "metadata.json").read_text())
    assert [layer["layer"] for layer in document["layers"]] == NAMES
    assert all((out / layer["files"][0]["file"]).is_file() for layer in document["layers"])


def test_presentations_without_frames_are_rows_without_steps(path: Path, tmp_path: Path) -> None:
    analysis.open_recording(path).select(steps=slice(4, 18)).export(tmp_path / "out")
    trials = pl.read_parquet(tmp_path / "out" / "trials.parquet").select("trial", "first_step", "steps")
    assert trials.unique().sort("trial").rows() == [(0, 4, 14), (1, None, 0)]


@pytest.mark.parametrize("rows", [3, 2**20])
def test_rows_are_of_the_frames_that_are_asked_for(
    path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(event_rows, "ROWS", rows)
    layer = analysis.open_recording(path).select(samples=[1, 2, 5])["1"]
    found = event_rows.event_rows(layer.sources[0], 77, 303, slice(3, 20))
    events = [pair for some in found for pair in zip(some.neuron, some.step * 8 + some.sample, strict=True)]
    bits = analysis.open_recording(path)["1"].spikes.values.reshape(400, 60)
    # Frames are eight for each step, and four steps are left out before the last ones.
    place = {frame: (frame if frame < 280 else frame + 40) for frame in range(400)}
    assert events == [
        (neuron, place[frame])
        for neuron in range(3, 20)
        for frame in range(77, 303)
        if bits[frame, neuron] and frame % 8 in (1, 2, 5)
    ]
