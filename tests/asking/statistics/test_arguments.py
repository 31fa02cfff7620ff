"""What users pass is taken for what it is, or refused by its name, with what was given and expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analysis
from tapes import Made, Run, Trial, write_recording

STEPS, BATCH, TRIALS, NEURONS = 6, 3, 4, 5
FRAMES = STEPS * BATCH * TRIALS
SPIKES = np.random.default_rng(3).random((FRAMES, NEURONS)) < 0.4


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> analysis.Recording:
    path = tmp_path_factory.mktemp("run") / "run.zarr"
    runs = [Run(STEPS * trial, STEPS, BATCH, trial) for trial in range(TRIALS)]
    columns = {"label": [0, 1, 1], "part": [0.5, 1.0, 3.0]}
    signals = {("1", "v"): Made(np.random.default_rng(4).normal(size=(FRAMES, NEURONS)))}
    trials = [Trial(trial, BATCH, columns) for trial in range(TRIALS)]
    write_recording(path, {"1": SPIKES}, runs, trials, signals=signals)
    return analysis.open_recording(path)


@pytest.fixture(scope="module")
def layer(recording: analysis.Recording) -> analysis.Layer:
    return recording["1"]


@pytest.mark.parametrize("kind", [list, np.array, tuple])
def test_booleans_are_a_mask(layer: analysis.Layer, kind: Callable[[list[bool]], Any]) -> None:
    counts = SPIKES.reshape(TRIALS, STEPS, BATCH, NEURONS).sum(axis=1)
    neurons, samples, trials = (
        [True, False, True, False, True],
        [False, True, True],
        [True, False, True, True],
    )
    # A tuple has an index for each axis.
    chosen = layer.select(neurons=np.array(neurons) if kind is tuple else kind(neurons))
    chosen = chosen.select(samples=kind(samples), trials=kind(trials))
    found = chosen.spike_count(("trial", "sample", "neuron"))
    assert found.neuron.values.tolist() == [0, 2, 4]
    there = found.sel(trial=[0, 2, 3], sample=[1, 2]).values
    np.testing.assert_array_equal(there, counts[np.ix_(trials, samples, neurons)])
    assert chosen.spike_count() == counts[np.ix_(trials, samples, neurons)].sum()


@pytest.mark.parametrize(
    ("selected", "message"),
    [
        ({"neurons": [True, False]}, "neurons is a mask of 2 booleans; expected 5, one for each"),
        ({"samples": np.ones(4, np.bool_)}, "samples is a mask of 4 booleans; expected 3"),
        (
            {"trials": True},
            r"trials is True \(bool\); expected whole numbers, a slice of them, or a mask of 4",
        ),
        ({"neurons": [True, 2, 3, 4, 0]}, r"neurons is True \(bool\)"),
        ({"neurons": slice(0, 4, 0)}, "neurons=.* has a stride of 0"),
        ({"samples": slice("a", 3)}, "a bound of samples is 'a'"),
        ({"steps": slice(True, 4)}, r"a bound of steps is True \(bool\)"),
        ({"where": 5}, r"where is 5 \(int\); expected names of columns and the values wanted"),
        ({"where": {"label": slice(0, 1)}}, r"a label that is selected is slice\(0, 1, None\)"),
        ({"where": {"part": 4}}, "no sample has the part 4; the values are 0.5, 1.0, 3.0"),
        ({"where": {"part": 10**400}}, "no sample has the part 1000"),
    ],
)
def test_selections_that_make_no_sense_are_refused(
    layer: analysis.Layer, selected: dict[str, Any], message: str
) -> None:
    with pytest.raises(analysis.QuestionError, match=message):
        layer.select(**selected)


def test_names_that_make_no_sense_are_refused(recording: analysis.Recording) -> None:
    with pytest.raises(analysis.QuestionError, match=r"layers is 5 \(int\); expected names of layers"):
        recording.select(layers=5)  # type: ignore[arg-type]
    with pytest.raises(analysis.QuestionError, match=r"by is array\(\[0, 1\]\)"):
        analysis.compare(recording, recording, by=np.arange(2))  # type: ignore[arg-type]
    for unknown in (5, ["1"]):
        with pytest.raises(analysis.UnknownLayerError):
            recording[unknown]  # type: ignore[index]
        with pytest.raises(analysis.UnknownLayerError):
            recording.features(unknown)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("firing_rate", {"per": 5}, r"per is 5 \(int\); expected what to keep apart"),
        ("fano_factor", {"per": [["label"]]}, r"per is \[\['label'\]\] \(list\)"),
        ("synchrony", {"per": 5}, "per is 5"),
        (
            "firing_rate",
            {"per": "window", "window": True},
            r"window is True \(bool\); expected a number of steps",
        ),
        ("firing_rate", {"unit": ["Hz"]}, r"unit=\['Hz'\]; expected 'Hz'"),
        ("latency", {"unit": ["ms"]}, r"unit=\['ms'\]; expected 's', 'ms'"),
        ("firing_rate", {"of": []}, r"of=\[\]; expected 'events'"),
        ("isi_mean", {"boundary": 5.0}, r"boundary is 5.0 \(float\); expected 'none'"),
        ("latency", {"boundary": [1]}, r"boundary is \[1\] \(list\)"),
        ("correlation", {"boundary": -1}, "boundary=-1; expected 'none'"),
        ("correlation", {"seed": -1}, "seed=-1; expected a whole number, 0 or more"),
        ("correlation", {"seed": 2.5}, r"seed is 2.5 \(float\)"),
        ("correlation", {"seed": "a"}, r"seed is 'a' \(str\)"),
        (
            "correlation",
            {"window": 10**12},
            "window=1000000000000; expected a number of steps, 1 to 2147483647",
        ),
        ("autocorrelation", {"lags": True}, r"lags is True \(bool\)"),
        ("isi_histogram", {"longest": True}, r"longest is True \(bool\)"),
        ("rate_histogram", {"bins": np.eye(2)}, r"an edge of bins is \[1.0, 0.0\] \(list\)"),
        ("fano_factor", {"by": 5}, r"by is 5 \(int\); expected the name of a column"),
        (
            "selectivity",
            {"by": np.arange(2)},
            r"by is array\(\[0, 1\]\) \(ndarray\); expected the name of a column",
        ),
        ("similarity", {"per": np.arange(2)}, r"per is array\(\[0, 1\]\) \(ndarray\)"),
        ("accuracy", {"by": None}, r"by is None \(NoneType\)"),
        ("energy", {"preset": ["45nm"]}, r"preset=\['45nm'\]; expected '45nm'"),
    ],
)
def test_questions_that_make_no_sense_are_refused(
    layer: analysis.Layer, name: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(analysis.QuestionError, match=message):
        getattr(layer, name)(**arguments)


@pytest.mark.parametrize(
    ("bins", "limits", "message"),
    [
        ([[1, 2], [3]], None, r"bins is \[\[1, 2\], \[3\]\] \(list\)"),
        (True, (0, 1), r"bins is True \(bool\)"),
        (3, None, "bins=3 is a number of bins; give range="),
        (3, 5, "range=5; expected two numbers"),
        (3, ("a", 1), r"range is \('a', 1\) \(tuple\)"),
        (3, (0, np.inf), r"range=\(0, inf\); expected two numbers"),
    ],
)
def test_bins_of_signals_that_make_no_sense_are_refused(
    layer: analysis.Layer, bins: Any, limits: Any, message: str
) -> None:
    with pytest.raises(analysis.QuestionError, match=message):
        layer.signals["v"].histogram(bins, range=limits)


def test_wrong_types_are_type_errors_too(recording: analysis.Recording) -> None:
    for within in (2.5, True, "a"):
        with pytest.raises(TypeError, match=r"within is .*; expected a number of steps") as caught:
            analysis.compare(recording, recording, within=within)
        assert isinstance(caught.value, analysis.QuestionError)


@pytest.mark.parametrize("boundary", [np.int64(5), 10**30])
def test_boundaries_are_any_whole_numbers(tmp_path: Path, boundary: Any) -> None:
    write_recording(tmp_path / "run.zarr", {"1": SPIKES[:40]}, [Run(0, 40, 1)])
    layer = analysis.open_recording(tmp_path / "run.zarr")["1"]
    same = "none" if boundary > 40 else 5
    for statistic in (layer.isi_mean, layer.latency, layer.correlation):
        np.testing.assert_array_equal(statistic(boundary=boundary), statistic(boundary=same))


OURS = {
    "defined": ("isi_cv", {}),
    "longer": ("isi_histogram", {"longest": 2}),
    "interval": ("isi_histogram", {"longest": 2}),
    "rate_bin": ("rate_histogram", {"bins": 2}),
    "rate_bin_end": ("rate_histogram", {"bins": 2}),
    "lag": ("autocorrelation", {"lags": 2}),
    "active": ("active_histogram", {}),
    "ties": ("accuracy", {}),
    "presentations": ("accuracy", {}),
    "column": ("latency", {}),
    "frame": ("firing_rate", {}),
    "interval_ms": ("isi_histogram", {"longest": 2}),
    "height": ("firing_rate", {}),
}


def test_columns_that_have_names_of_ours_lose_nothing(tmp_path: Path) -> None:
    """They are asked for and shown as trial_<name>, and figures are those of a column of another name."""
    values = [3, 7, 7]
    columns = dict.fromkeys([*OURS, "step"], values) | {
        "label": [0, 1, 2],
        "other": values,
        "step": [9, 8, 9],
    }
    runs = [Run(STEPS * trial, STEPS, BATCH, trial) for trial in range(TRIALS)]
    trials = [Trial(trial, BATCH, columns) for trial in range(TRIALS)]
    units = {"dt": 1.0, "dt_unit": "ms"}
    write_recording(tmp_path / "run.zarr", {"1": SPIKES}, runs, trials, provenance=units)
    recording = analysis.open_recording(tmp_path / "run.zarr")
    layer, shown = recording["1"], {f"trial_{name}" for name in columns.keys() - {"label", "other"}}
    assert {"label", "other", *shown} <= {*recording.trials}
    assert {*shown} <= {*layer.spikes.coords}
    assert {*shown} <= {*layer.features().coords}
    for name, (statistic, options) in OURS.items():
        word = f"trial_{name}"
        found = getattr(layer, statistic)(per=word, **options).compute()
        wanted = getattr(layer, statistic)(per="other", **options).rename(other=word).compute()
        assert found[word].values.tolist() == [3, 7], name
        np.testing.assert_array_equal(found, wanted, err_msg=name)
        for coordinate in wanted.coords.keys() - {word}:
            np.testing.assert_array_equal(found[coordinate], wanted[coordinate], err_msg=name)
        assert layer.select(where={word: 3}).frames == FRAMES // BATCH
        with pytest.raises(analysis.QuestionError):
            layer.firing_rate(name)
    # A column that is an axis beside presentations is still there along these.
    both = layer.spike_count(("presentation", "trial_lag")).compute()
    assert both.trial_lag.dims == ("trial_lag",)
    assert both.trial_trial_lag.values.tolist() == values * TRIALS
    by_step = analysis.compare(recording, recording, by="trial_step").layers["1"]
    assert (by_step.frames, by_step.equal) == (FRAMES, True)
