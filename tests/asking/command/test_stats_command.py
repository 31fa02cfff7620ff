"""`spiketape stats`: the grammar of questions on the command line, for every statistic."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner, Result

import analysis
from analysis.cli import commands
from analysis.cli.tables import asking
from analysis.cli.tables.choosing import parse_indices, parse_numbers, parse_value
from analysis.questions import shown_name
from analysis.statistics import Statistics
from analysis.statistics.signals import SignalStatistics
from tapes import CONNECTIONS, Made, Run, Trial, write_recording


@pytest.fixture
def path(tmp_path: Path) -> str:
    random = np.random.default_rng(5)
    layers = {"1": random.random((400, 3, 7)) < 0.2, "3": random.random((400, 9)) < 0.01}
    trials = [
        Trial(
            trial,
            8,
            {
                "label": ["3", "b"] * 4,
                "epoch": [trial] * 8,
                "lr": [0.5] * 8,
                "test": [True] * 8,
                "digit": list(range(8)),
            },
        )
        for trial in range(5)
    ]
    runs = [Run(10 * trial, 10, 8, trial) for trial in range(5)]
    step = {"dt": 1.0, "dt_unit": "ms"}
    write_recording(tmp_path / "run.zarr", layers, runs, trials, provenance=step, connections=CONNECTIONS)
    return str(tmp_path / "run.zarr")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(commands.main, ["stats", *arguments])


def table(*arguments: str) -> pd.DataFrame:
    result = call(*arguments, "--format", "csv")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return pd.read_csv(io.StringIO(result.stdout))


def test_several_statistics_are_columns_of_one_table(path: str) -> None:
    shown = table(path, "--what", "spike_count,firing_rate,silent_ratio", "--per", "layer,epoch")
    recording = analysis.open_recording(path)
    assert list(shown) == ["layer", "epoch", "spike_count", "firing_rate", "silent_ratio"]
    for name in ("spike_count", "firing_rate", "silent_ratio"):
        wanted = getattr(recording, name)(per=("layer", "epoch")).values
        np.testing.assert_array_equal(shown[name], wanted.ravel())


# Of whole layers, and asked along time alone.
ALONG_TIME = ("accuracy", "similarity")
OWN_AXES = ("correlation", "features")


@pytest.mark.parametrize(
    "name", [name for name in asking.statistics() if name not in (*ALONG_TIME, *OWN_AXES)]
)
def test_every_statistic_is_offered(path: str, name: str) -> None:
    assert name in call("--list").stdout
    # What compares labels does not keep them apart.
    per = ("layer", "epoch" if name in ("selectivity", "information") else "label")
    result = call(path, "--what", name, "--per", ",".join(per), "--format", "json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    wanted = getattr(analysis.open_recording(path), name)(per=per).values.ravel()
    found = [np.nan if row[name] is None else row[name] for row in rows]
    np.testing.assert_array_equal(found, wanted)


def test_statistics_along_time_are_offered(path: str) -> None:
    recording = analysis.open_recording(path)
    shown = table(path, "--what", "similarity")
    np.testing.assert_allclose(shown.similarity, recording.similarity().values.ravel())
    shown = table(path, "--what", "similarity", "--per", "time")
    assert {"layer", "other_layer", "time", "similarity"} <= {*shown}
    np.testing.assert_allclose(shown.similarity, recording.similarity(per="time").values.ravel())
    chosen = ("--layer", "3", "--set", "by=digit")
    assert table(path, "--what", "accuracy", *chosen).accuracy.tolist() == [
        float(recording["3"].accuracy(by="digit"))
    ]
    shown = table(path, "--what", "accuracy", "--per", "time", *chosen)
    wanted = recording["3"].accuracy(per="time", by="digit")
    np.testing.assert_array_equal(shown.accuracy, wanted.values)
    np.testing.assert_array_equal(shown.accuracy_ties, wanted.ties.values)


def test_statistics_with_axes_of_their_own_are_offered_of_one_layer(path: str) -> None:
    layer = analysis.open_recording(path)["3"]
    shown = table(path, "--what", "features", "--layer", "3")
    assert {"presentation", "trial", "sample", "label", "neuron"} < {*shown}
    np.testing.assert_array_equal(shown.features, layer.features().values.ravel())
    some = ("--layer", "3", "--neurons", "0:5", "--window", "2", "--set", "sample=4", "--set", "seed=1")
    shown = table(path, "--what", "correlation", *some)
    wanted = layer.correlation(np.s_[:5], window=2, sample=4, seed=1)
    assert shown.neuron.unique().tolist() == wanted.neuron.values.tolist()
    np.testing.assert_array_equal(shown.correlation, wanted.values.ravel())
    assert (shown.correlation_defined == int(wanted.defined)).all()
    for name in OWN_AXES:
        assert name in call("--list").stdout
        refused = call(path, "--what", name, "--layer", "3", "--per", "neuron")
        assert refused.exit_code == 2
        assert f"{name} has axes of its own" in " ".join(refused.stderr.split())
        refused = call(path, "--what", name)
        assert refused.exit_code == 2
        assert "'3'" in refused.stderr, "it names the layers there are"


@pytest.mark.parametrize(
    ("options", "selected"),
    [
        (["--steps", "5:20"], {"steps": slice(5, 20)}),
        (["--time", ":4"], {"time": slice(0, 4)}),
        (["--trials", "0,3"], {"trials": [0, 3]}),
        (["--trials", "2"], {"trials": 2}),
        (["--samples", "1:6:2"], {"samples": [1, 3, 5]}),
        (["--neurons", ":,[0,2,5]"], {"neurons": np.s_[:, [0, 2, 5]]}),
        (["--neurons", "1, ::3"], {"neurons": np.s_[1, ::3]}),
        (["--channels", "0:2"], {"channels": [0, 1]}),
        (["--where", "epoch=3"], {"where": {"epoch": 3}}),
        (["--where", "epoch=3", "--where", "epoch=1", "--where", "label=b"],
         {"where": {"epoch": [1, 3], "label": "b"}}),
        (["--where", "epoch=[0, 4]"], {"where": {"epoch": [0, 4]}}),
        (["--where", 'label="3"'], {"where": {"label": "3"}}),
        (["--where", "lr=0.5", "--where", "test=true"], {"where": {"lr": 0.5, "test": True}}),
    ],
)  # fmt: skip
def test_selections_are_those_of_select(path: str, options: list[str], selected: dict[str, Any]) -> None:
    shown = table(path, "--what", "spike_count", "--per", "trial,neuron", "--layer", "1", *options)
    wanted = analysis.open_recording(path).select(layers="1", **selected).spike_count(("trial", "neuron"))
    np.testing.assert_array_equal(shown.spike_count, wanted.values.ravel())
    np.testing.assert_array_equal(shown.trial.unique(), wanted.trial.values)


def test_parameters_of_statistics(path: str) -> None:
    shown = table(
        path, "--what", "saturated_ratio,firing_rate", "--per", "window", "--window", "20",
        "--set", "threshold=0.25",
    )  # fmt: skip
    recording = analysis.open_recording(path)
    wanted = recording.saturated_ratio("window", window=20, threshold=0.25)
    np.testing.assert_array_equal(shown.saturated_ratio, wanted.values)
    assert 0 < wanted.values.max() < 1
    assert shown.window.tolist() == [0, 20, 40]


def test_a_single_figure_is_a_table_of_one_row(path: str) -> None:
    shown = table(path, "--per", "network")
    assert shown.firing_rate.tolist() == [float(analysis.open_recording(path).firing_rate())]


def test_presentations_have_their_trial_sample_and_columns(path: str) -> None:
    shown = table(path, "--what", "spike_count", "--per", "presentation")
    assert {"trial", "sample", "label", "epoch"} < set(shown)
    assert len(shown) == 40


class Averaged:
    """A statistic as others are: with a boundary, and a lazy coordinate that says how many were averaged."""

    def averaged(
        self, per: Any = None, *, window: Any = None, boundary: Any = None, unit: str = "1"
    ) -> xr.DataArray:
        """Sum of what it was given."""
        value = {None: 0.0, "none": 1.0}.get(boundary, boundary) + (10.0 if unit == "Hz" else 0.0)
        coordinates = {"layer": ["1", "3"], "defined": ("layer", da.from_array(np.array([4, 5])))}
        return xr.DataArray(da.full(2, value), dims="layer", coords=coordinates)

    averaged.__annotations__["return"] = "xr.DataArray"


def test_what_was_averaged_over_has_a_column(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Statistics, "averaged", Averaged.averaged, raising=False)
    shown = table(path, "--what", "firing_rate,averaged", "--boundary", "7", "--unit", "Hz")
    assert list(shown) == ["layer", "firing_rate", "averaged", "averaged_defined"]
    assert shown.averaged.tolist() == [17.0, 17.0]
    assert shown.averaged_defined.tolist() == [4, 5]
    assert table(path, "--what", "averaged", "--boundary", "none").averaged.tolist() == [1.0, 1.0]
    result = call(path, "--what", "averaged,firing_rate", "--per", "layer,epoch")
    assert result.exit_code == 2
    assert "averaged is along layer (2) and firing_rate along layer (2), epoch (5)" in result.stderr
    assert "ask for them one by one" in result.stderr


def test_output_goes_to_a_file(path: str, tmp_path: Path) -> None:
    result = call(path, "--per", "label", "-o", str(tmp_path / "out.csv"))
    assert (result.exit_code, result.output) == (0, "")
    assert len(pd.read_csv(tmp_path / "out.csv")) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--what", "isi"], "'isi' is no statistic; expected"),
        (["--what", ""], "no statistic is named"),
        (["--what", "firing_rate,firing_rate"], "is there twice"),
        (["--per", "stepp"], "'stepp' is unknown"),
        (["--per", "neuron"], "needs one layer: choose it with --layer NAME"),
        (["--layer", "2"], "no layer is named '2'"),
        (["--where", "epoch"], "'epoch' gives no value; expected name=value"),
        (["--where", "epoch=9"], "no sample has the epoch 9"),
        (["--where", "label=3"], "no sample is labelled 3"),
        (["--set", "threshold=0.5"], "none of 'firing_rate' and 'silent_ratio' takes 'threshold'"),
        (["--set", "window=5"], "'window' has an option of its own"),
        (["--set", "a=5", "--set", "a=6"], "'a' is set twice"),
        (["--what", "saturated_ratio", "--set", "threshold=x"], "threshold is 'x' (str)"),
        (["--what", "saturated_ratio", "--set", "threshold=7"], "expected a share of slots above 0"),
        (["--boundary", "none"], "takes 'boundary'"),
        (["--boundary", "some"], "expected none, or a number of steps"),
        (["--steps", "5"], "'5' is no range of steps"),
        (["--time", "9:3"], "'9:3' holds no time"),
        (["--trials", "a"], "'a' are no trials"),
        (["--samples", "1:2:0"], "'1:2:0' are no samples"),
        (["--neurons", "0:[1]", "--layer", "1"], "are no neurons"),
        (["--format", "parquet"], "say where with -o FILE"),
        (["--safe"], "--safe is for CSV"),
        (
            ["--trials", "99:"],
            "nothing is left of what was recorded by --trials 99:: there are 50 steps and 5",
        ),
        (["--where", "epoch=1", "--steps", "0:3"], "by --steps 0:3 and --where epoch=1: there are"),
        (["--shard", "0/2", "-o", "part.csv"], "is no table, but a part of one: let it end in .npz"),
        (["--what", "latency,firing_rate", "--unit", "ms"], "firing_rate: --unit ms; expected 'Hz'"),
        (["--what", "latency", "--unit", "Hz,ms"], "none of 'latency' is in Hz"),
        (["--what", "latency,firing_rate", "--unit", "ms,us"], "has 2 units that latency could be in"),
        (["--what", "isi_cv", "--per", "layer,stepp"], "Error: --per layer,stepp: 'stepp' is unknown"),
        (["--what", "autocorrelation", "--per", "time"], "--per time cuts presentations"),
        (["--what", "correlation", "--layer", "3", "--set", "seed=-1"], "Error: --set seed=-1; expected"),
        (["--what", "correlation"], "choose one of them with --layer NAME"),
        (["--what", "selectivity", "--per", "label"], "selectivity with --per label and --set by=label"),
        (
            ["--what", "fano_factor", "--per", "step"],
            "a part of each by --time ..., or at some by --trials ...",
        ),
        (["--where", "nope=3"], "--where nope=3: no column of the trials is named 'nope'"),
    ],
)
def test_mistakes_get_a_message_and_the_status_2(path: str, options: list[str], message: str) -> None:
    result = call(path, *options)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert "Traceback" not in result.output


def test_a_column_that_is_named_as_a_statistic_stands_beside_it(tmp_path: Path) -> None:
    trials = [Trial(0, 2, {"latency": [1, 2]})]
    write_recording(tmp_path / "run.zarr", {"1": np.ones((4, 3), np.bool_)}, [Run(0, 2, 2, 0)], trials)
    run = str(tmp_path / "run.zarr")
    shown = table(run, "--what", "spike_count,latency", "--per", "trial_latency")
    assert shown.trial_latency.tolist() == [1, 2]
    assert shown.latency.tolist() == [0, 0]
    answer = analysis.open_recording(run)["1"].latency("presentation").to_dataset()
    assert answer.trial_latency.values.tolist() == [1, 2]
    for name in (*asking.statistics(), *asking.statistics(SignalStatistics)):
        assert shown_name(name) == f"trial_{name}"


def test_rates_and_times_have_units_of_their_own_in_one_table(path: str) -> None:
    shown = table(path, "--what", "firing_rate,latency,isi_mean,silent_ratio", "--unit", "Hz, us")
    recording = analysis.open_recording(path)
    np.testing.assert_array_equal(shown.firing_rate, recording.firing_rate("layer", unit="Hz"))
    np.testing.assert_array_equal(shown.latency, recording.latency("layer", unit="us"))
    np.testing.assert_array_equal(shown.isi_mean, recording.isi_mean("layer", unit="us"))


def test_null_is_none(path: str) -> None:
    shown = table(path, "--what", "fano_factor", "--set", "by=null")
    wanted = analysis.open_recording(path).fano_factor("layer", by=None)
    np.testing.assert_array_equal(shown.fano_factor, wanted)


def test_values_are_json_or_text() -> None:
    texts = ["3", "0.5", "true", '"3"', "cat", "a=b", "null", "NaN", "[1, 2]", "{}", "1e400x"]
    values = [3, 0.5, True, "3", "cat", "a=b", "null", "NaN", [1, 2], "{}", "1e400x"]
    assert [parse_value(text) for text in texts] == values
    assert parse_value("null", may_be_null=True) is None
    assert parse_value("true") is True


def test_numbers_and_indices() -> None:
    assert parse_numbers("0,2,5", "trials") == [0, 2, 5]
    assert parse_numbers("1:", "trials") == slice(1, None)
    assert parse_indices("3") == (3,)
    assert parse_indices("-1,:, [1,2] ,0:4:2") == (-1, slice(None), [1, 2], slice(0, 4, 2))


@pytest.fixture
def with_signals(tmp_path: Path) -> str:
    random = np.random.default_rng(5)
    layers = {name: random.random((40, 3)) < 0.3 for name in ("1", "3", "none")}
    values = random.normal(size=(40, 3))
    signals = {
        ("1", "v"): Made(values),
        ("3", "v"): Made(values * 2),
        ("3", "a:b"): Made(values, every=2),
        ("1", "w"): Made(values),
        ("3", "w"): Made(values[:, :2], every=2),
    }
    trials = [Trial(0, 2, {"label": ["a", "b"]}), Trial(1, 2, {"label": ["b", "c"]})]
    runs = [Run(0, 10, 2, 0), Run(10, 10, 2, 1)]
    write_recording(tmp_path / "run.zarr", layers, runs, trials, signals=signals)
    return str(tmp_path / "run.zarr")


def test_statistics_of_signals_have_the_name_of_the_signal_in_front(with_signals: str) -> None:
    shown = table(with_signals, "--what", "v:mean,v:max", "--per", "layer,label")
    assert [*shown.columns] == ["layer", "label", "v:mean", "v:mean_defined", "v:max", "v:max_defined"]
    recording = analysis.open_recording(with_signals)
    for layer in (1, 3):
        of_layer = shown[shown.layer == layer]
        signal = recording[str(layer)].signals["v"]
        assert of_layer["v:mean"].to_numpy() == pytest.approx(signal.mean("label").values, rel=1e-15)
        assert of_layer["v:max"].tolist() == signal.max("label").values.tolist()
    shown = table(with_signals, "--what", "a:b:histogram", "--set", "bins=[-1,0,1]", "--per", "layer")
    expected = recording["3"].signals["a:b"].histogram([-1, 0, 1]).values.tolist()
    assert shown["a:b:histogram"].tolist() == expected
    neurons = table(with_signals, "--what", "v:std", "--per", "neuron", "--layer", "1")
    assert neurons["v:std"].to_numpy() == pytest.approx(recording["1"].signals["v"].std("neuron").values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--what", "v:mean", "--per", "label"],
            "a signal of the layers '1' and '3', whose values are not pooled",
        ),
        (["--what", "z:mean"], "no layer has a signal 'z'; the signals are: 'v', 'w', 'a:b'"),
        (["--what", "v:nope"], "'v:nope' is no statistic"),
        (
            ["--what", "w:mean", "--per", "layer,step"],
            "have other places along step: choose one with --layer",
        ),
        (["--what", "v:mean,a:b:mean"], "no table holds both"),
        (["--what", "v:histogram"], "v:histogram needs --set bins=VALUE"),
    ],
)
def test_what_signals_cannot_be_asked_is_said(with_signals: str, arguments: list[str], message: str) -> None:
    result = call(with_signals, *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("\n", " ").split())
