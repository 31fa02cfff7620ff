"""A file of NWB has the spikes of the recording, for pynwb, its validator and pynapple."""

from __future__ import annotations

import json
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import dask
import h5py
import numpy as np
import pandas as pd
import pynapple as nap
import pynwb
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import analysis
from analysis.arguments import QuestionError
from analysis.cli import commands
from analysis.export import nwb, timeline
from analysis.questions import ManyUnitsWarning
from made_recordings import lose_chunks, make_example, plans
from recorder.format import RecordingFormatError
from tapes import Run, Trial, write_recording

RUNS = [Run(0, 20, 8, 0), Run(20, 15, 8, 1), Run(40, 15, 8)]
TRIALS = [
    Trial(0, 8, {"label": ["cat"] * 8, "count": [*range(7), None], "sure": [True] * 8}),
    Trial(1, 8, {"label": ["dog", None] * 4, "sure": [False] * 8, "start_time": [0.5] * 8}),
]
PROVENANCE = {"dt": 0.5, "dt_unit": "ms", "network": "nets.Small", "citation": "Doe 2026"}
lost = pytest.mark.filterwarnings("ignore::recorder.format.errors.LostFramesWarning")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    random = np.random.default_rng(3)
    layers = {"1": random.random((400, 3, 4)) < 0.2, "3": random.random((400, 9)) < 0.05}
    write_recording(tmp_path / "run.zarr", layers, RUNS, TRIALS, chunk_bytes=64, provenance=PROVENANCE)
    return tmp_path / "run.zarr"


def tables(out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Units and trials of a file that the validator finds nothing wrong with."""
    assert pynwb.validate(path=str(out)) == []
    with pynwb.NWBHDF5IO(str(out), "r") as io:
        file = io.read()
        trials = pd.DataFrame() if file.trials is None else file.trials.to_dataframe()
        return file.units.to_dataframe(), trials


@lost
@given(plan=plans(most_steps=16, most_neurons=9), data=st.data())
@settings(
    max_examples=5,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_units_are_the_trains_of_the_layers(
    tmp_path_factory: pytest.TempPathFactory, plan: dict[str, Any], data: st.DataObject
) -> None:
    tmp = tmp_path_factory.mktemp("run")
    recording = analysis.open_recording(make_example(tmp / "run.zarr", plan).path)
    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="synchronous"):
        patch.setattr(timeline, "SLAB_EVENTS", data.draw(st.sampled_from([1, 30, 2**22])))
        patch.setattr(nwb, "_ROWS_AT_ONCE", data.draw(st.sampled_from([1, 2**18])))
        out = recording.export(tmp / "run.nwb", "nwb", dt=2, dt_unit="ms", digest=False)
    units, trials = tables(out)
    wanted = {name: layer.to_pynapple(dt=0.002) for name, layer in recording.layers.items()}
    assert len(units) == sum(map(len, wanted.values()))
    for row in units.itertuples():
        group = wanted[row.layer]
        np.testing.assert_allclose(row.spike_times, group[row.neuron].t, atol=1e-9)
        np.testing.assert_allclose(row.obs_intervals, group.time_support.values, atol=1e-9)
    expected = next(iter(recording.layers.values())).presentations(dt=0.002)
    for name in (
        ("start_time", "stop_time", "trial", "sample", "first_step", "steps") if len(expected) else ()
    ):
        np.testing.assert_array_equal(trials[name], expected[name])


def test_trials_have_all_columns(path: Path, tmp_path: Path) -> None:
    _, trials = tables(analysis.open_recording(path).export(tmp_path / "run.nwb", "nwb"))
    assert trials["label"].tolist() == ["cat"] * 8 + ["dog", ""] * 4 + [""] * 8
    np.testing.assert_array_equal(trials["count"], [*range(7), *[np.nan] * 17])
    assert trials["sure"].tolist() == ["true"] * 8 + ["false"] * 8 + ["null"] * 8
    np.testing.assert_array_equal(trials["trial_start_time"], [np.nan] * 8 + [0.5] * 8 + [np.nan] * 8)
    np.testing.assert_allclose(trials["start_time"][1:], trials["stop_time"][:-1], rtol=1e-12)


def test_the_file_says_where_it_comes_from(path: Path, tmp_path: Path) -> None:
    recording = analysis.open_recording(path)
    recording.export(tmp_path / "run.nwb", "nwb")
    with pynwb.NWBHDF5IO(str(tmp_path / "run.nwb"), "r") as io:
        file = io.read()
        assert file.identifier == recording.digest()
        assert file.session_start_time == datetime.fromisoformat(recording.metadata.created)
        assert "nets.Small" in file.session_description
        assert list(file.related_publications) == ["Doe 2026"]
        assert json.loads(file.notes)["recordings"][0]["recording_id"] == recording.metadata.recording_id
        assert file.units.resolution == 0.5e-3


def test_pynapple_opens_the_file(path: Path, tmp_path: Path) -> None:
    recording = analysis.open_recording(path)
    file = nap.load_file(str(recording.export(tmp_path / "run.nwb", "nwb")))
    units = file["units"]
    assert [len(units[unit]) for unit in units] == [
        *recording["1"].spike_count("neuron").values.ravel(),
        *recording["3"].spike_count("neuron").values,
    ]
    assert units["layer"].tolist() == ["1"] * 12 + ["3"] * 9
    with warnings.catch_warnings():
        # pynapple takes a microsecond from intervals that touch.
        warnings.filterwarnings("ignore", "Some starts and ends are equal")
        trials = file["trials"]
    assert len(trials) == 24
    assert trials["label"].tolist()[:9] == ["cat"] * 8 + ["dog"]


def test_observed_intervals_are_cut_at_lost_steps(path: Path, tmp_path: Path) -> None:
    lose_chunks(path, {"1": [0.0], "3": []})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recording = analysis.open_recording(path)
    units, _ = tables(recording.export(tmp_path / "run.nwb", "nwb"))
    first, last = units.iloc[0], units.iloc[-1]
    # 64 frames are lost, 8 samples at a time: 8 steps of each sample of trial 0.
    assert np.rint(first["obs_intervals"] / 0.5e-3).tolist()[:2] == [[8, 20], [28, 40]]
    assert len(first["obs_intervals"]) == 8
    assert np.rint(last["obs_intervals"] / 0.5e-3).tolist() == [[0, 400]]


def test_a_part_of_several_recordings_is_exported(tmp_path: Path) -> None:
    for name in "ab":
        write_recording(
            tmp_path / f"{name}.zarr",
            {"1": np.ones((10, 3), np.bool_)},
            [Run(0, 5, 2, 0)],
            [Trial(0, 2, {"label": [name, "x"]})],
        )
    recording = analysis.open_recording([tmp_path / "a.zarr", tmp_path / "b.zarr"])
    part = recording.select(neurons=slice(1, None), where={"label": ["b", "x"]}, time=slice(1, 3))
    units, trials = tables(part.export(tmp_path / "part.nwb", "nwb", dt=1))
    assert units["neuron"].tolist() == [1, 2]
    assert units["spike_times"].iloc[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert trials[["recording", "sample", "label"]].to_numpy().tolist() == [
        ["a.zarr", 1, "x"], ["b.zarr", 0, "b"], ["b.zarr", 1, "x"]
    ]  # fmt: skip


def test_silent_layers_have_units_without_spikes(tmp_path: Path) -> None:
    write_recording(tmp_path / "run.zarr", {"1": np.zeros((6, 2), np.bool_)}, [Run(0, 3, 2)])
    recording = analysis.open_recording(tmp_path / "run.zarr")
    units, trials = tables(recording.export(tmp_path / "run.nwb", "nwb", dt=1))
    assert [len(times) for times in units["spike_times"]] == [0, 0]
    assert trials["trial"].tolist() == [-1, -1]


def test_where_nothing_is_left_units_are_silent_and_there_are_no_trials(path: Path, tmp_path: Path) -> None:
    nothing = analysis.open_recording(path).select(steps=slice(36, 39))
    units, trials = tables(nothing.export(tmp_path / "run.nwb", "nwb"))
    assert [len(times) for times in units["spike_times"]] == [0] * 21
    assert [len(bounds) for bounds in units["obs_intervals"]] == [0] * 21
    assert trials.empty


HOSTILE = [
    "a/b",
    "id",
    "label_index",
    "",
    ".",
    "..",
    "parent",
    "data",
    "é ☃",
    "timeseries",
    "to_dataframe",
    "x:y",
]


def test_hostile_names_are_columns_all_the_same(tmp_path: Path) -> None:
    columns = {name: [f"{place}"] * 2 for place, name in enumerate([*HOSTILE, "label"])}
    layers = {name: np.ones((6, 1), np.bool_) for name in ("", "../x", "a/b", "é ☃")}
    provenance = {"network": "\x1b[31m", "dt": 1.0, "dt_unit": "s"}
    write_recording(
        tmp_path / "run.zarr", layers, [Run(0, 3, 2, 0)], [Trial(0, 2, columns)], provenance=provenance
    )
    units, trials = tables(analysis.open_recording(tmp_path / "run.zarr").export(tmp_path / "run.nwb", "nwb"))
    assert units["layer"].tolist() == list(layers)
    ours = ["start_time", "stop_time", "trial", "sample", "first_step", "steps"]
    assert trials.drop(columns=ours).iloc[0].tolist() == [f"{place}" for place in range(len(columns))]
    with h5py.File(tmp_path / "run.nwb") as file:
        assert "a%2Fb" in file["intervals/trials"]


def test_a_step_of_unknown_duration_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write_recording(tmp_path / "run.zarr", {"1": np.ones((6, 2), np.bool_)}, [Run(0, 3, 2)])
    recording = analysis.open_recording(tmp_path / "run.zarr")
    with pytest.raises(QuestionError, match=r'pass it, as in dt=1\.0, dt_unit="ms", and record with Monitor'):
        recording.export(tmp_path / "run.nwb", "nwb")
    with pytest.raises(QuestionError, match=r"does not end in \.nwb"):
        recording.export(tmp_path / "run", "nwb", dt=1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.zarr"]


def test_many_units_are_warned_of(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nwb, "MANY_UNITS", 20)
    with pytest.warns(ManyUnitsWarning, match="21 neurons become units") as caught:
        analysis.open_recording(path).export(tmp_path / "run.nwb", "nwb")
    assert caught[0].filename == __file__
    monkeypatch.setattr(nwb, "_MOST_UNITS", 20)
    with pytest.raises(QuestionError, match="21 neurons would become units, and 20 can"):
        analysis.open_recording(path).export(tmp_path / "again.nwb", "nwb")


def test_a_file_that_fails_leaves_nothing(path: Path, tmp_path: Path) -> None:
    next((path / "layers" / "3" / "spikes").rglob("c/1/0")).unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RecordingFormatError, match="layer '3'"):
        analysis.open_recording(path).export(tmp_path / "run.nwb", "nwb", digest=False)
    assert sorted(tmp_path.iterdir()) == before


def test_the_command_writes_nwb(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nwb, "MANY_UNITS", 5)
    arguments = [
        "export",
        str(path),
        str(tmp_path / "run.nwb"),
        "--to",
        "nwb",
        "--layer",
        "3",
        "--trials",
        "1",
    ]
    result = CliRunner().invoke(commands.main, arguments)
    assert result.exit_code == 0, result.output
    assert "9 neurons become units" in result.stderr
    _, trials = tables(tmp_path / "run.nwb")
    assert trials["trial"].unique().tolist() == [1]
    result = CliRunner().invoke(commands.main, [*arguments[:2], str(tmp_path / "x"), "--dt", "2"])
    assert result.exit_code == 2
    assert "dt and dt_unit are for NWB" in result.stderr


def test_what_is_missing_is_named_with_its_extra(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for package, extra, ask in (
        ("pynwb", "nwb", lambda recording: recording.export(tmp_path / "run.nwb", "nwb")),
        ("pynapple", "neuro", lambda recording: recording["3"].to_pynapple()),
        ("neo", "neuro", lambda recording: recording["3"].to_neo()),
    ):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ModuleNotFoundError, match=rf"{package}.*pip install 'spiketape\[{extra}\]'"):
            ask(analysis.open_recording(path))
