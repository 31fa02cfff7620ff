"""Every answer about a signal is that of plain numpy on its values; reading them back is exact, and lazy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner

import analysis
from analysis.arguments import QuestionError
from analysis.asking import planning
from analysis.cli.commands import main
from analysis.keeping import find_problems
from analysis.signals import UnknownSignalError
from recorder.format.layout import array_chunk_key
from recorder.keeping import plan_recovery, recover
from recorder.stores import Folder
from recorder.tape import TapeReader
from tapes import Made, Run, Trial, write_recording

SHAPE = (3, 4, 2)
RUNS = [Run(0, 6, 5, 0), Run(6, 3, 5, 1), Run(11, 7, 2, 2), Run(18, 4, 3), Run(22, 6, 5, 3)]
TRIALS = [
    Trial(0, 5, {"label": ["a", "b", "a", "c", "a"], "epoch": [0] * 5}),
    Trial(1, 5, {"label": ["b", "b", "a", "c", "c"], "epoch": [0] * 5}),
    Trial(2, 2, {"label": ["a", "c"], "epoch": [1] * 2}),
    Trial(3, 5, {"label": ["c", "b", "a", "b", "a"], "epoch": [1] * 5}),
]
FRAMES = sum(run.steps * run.batch for run in RUNS)


def spikes() -> np.ndarray:
    return np.random.default_rng(0).random((FRAMES, *SHAPE)) < 0.2


def values() -> np.ndarray:
    return np.random.default_rng(1).normal(3, 2, (FRAMES, *SHAPE)).astype(np.float32)


SIGNALS = {
    ("1", "v"): Made(values()),
    ("1", "some"): Made(values(), every=3, samples=2, neurons=(range(1, 3), range(0, 4, 2), range(2))),
    ("1", "flat"): Made(values(), neurons=(2, 5, 9, 23)),
    ("1", "count"): Made((values() * 100).astype(np.int16)),
    ("1", "rate"): Made(values()[:, 0, 0]),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    layers = {"1": spikes(), "2": spikes()[:, 0, 0]}
    store = tmp_path / "run.zarr"
    provenance = {"dt": 0.5, "dt_unit": "ms"}
    write_recording(
        store, layers, RUNS, TRIALS, chunk_bytes=700, signals=SIGNALS, provenance=provenance
    ).release()
    return store


def frames_of(runs: list[Run] = RUNS) -> pd.DataFrame:
    """Step, sample and trial columns of each frame of the layer."""
    rows = []
    starts = {run.trial: run.first_step for run in reversed(runs)}
    for run in runs:
        columns = next((trial.columns for trial in TRIALS if trial.number == run.trial), {})
        for step in range(run.first_step, run.first_step + run.steps):
            for sample in range(run.batch):
                row: dict[str, Any] = {"step": step, "sample": sample, "trial": run.trial}
                row |= {name: column[sample] for name, column in columns.items()}
                row["time"] = step - starts[run.trial] if run.trial >= 0 else np.nan
                rows.append(row)
    return pd.DataFrame(rows)


def kept(name: str) -> tuple[np.ndarray, pd.DataFrame]:
    """The values that are kept of a signal, and the frames that they are of."""
    made, frames = SIGNALS["1", name], frames_of()
    inside = (frames.step % made.every == 0) & (frames["sample"] < (made.samples or 99))
    expected, _ = made.kept(RUNS)
    return expected, frames[inside].reset_index(drop=True)


@pytest.mark.parametrize("name", ["v", "some", "flat", "count", "rate"])
def test_values_come_back_with_their_steps_samples_trials_and_columns(path: Path, name: str) -> None:
    signal = analysis.open_recording(path)["1"].signals[name]
    expected, frames = kept(name)
    shown = signal.values
    assert dask.is_dask_collection(shown.data)
    assert shown.dtype == expected.dtype == signal.dtype
    np.testing.assert_array_equal(shown.values, expected)
    for column in ("step", "sample", "trial"):
        np.testing.assert_array_equal(shown[column].values, frames[column])
    assert shown.label.values.tolist() == [None if pd.isna(label) else label for label in frames.label]
    np.testing.assert_array_equal(shown.epoch.values, frames.epoch)
    np.testing.assert_array_equal(shown.time_ms.values, frames.time * 0.5)
    np.testing.assert_array_equal(shown.step_ms.values, frames.step * 0.5)


def test_real_indices_of_neurons_are_coordinates(path: Path) -> None:
    signals = analysis.open_recording(path)["1"].signals
    some = signals["some"].values
    assert some.dims == ("frame", "channel", "height", "width")
    assert [some[name].values.tolist() for name in some.dims[1:]] == [[1, 2], [0, 2], [0, 1]]
    flat = signals["flat"].values
    assert flat.dims == ("frame", "neuron")
    assert flat.neuron.values.tolist() == [2, 5, 9, 23]
    assert signals["flat"].mean("neuron").neuron.values.tolist() == [2, 5, 9, 23]


PER: list[Any] = [
    (), "neuron", "channel", "step", "time", "trial", "sample", "label", "epoch", ("label", "neuron"),
    ("step", "sample"), ("channel", "time", "epoch"), "presentation", ("trial", "channel"),
]  # fmt: skip


def oracle(name: str, per: Any, figure: Any) -> dict[tuple[Any, ...], float]:
    """A figure of the values of each group and place, by their names."""
    expected, frames = kept(name)
    words = [per] if isinstance(per, str) else list(per)
    words = [word for each in words for word in (["trial", "sample"] if each == "presentation" else [each])]
    along = [word for word in words if word not in ("neuron", "channel")]
    if set(along) & {"time", "trial", "label", "epoch"}:
        inside = frames.trial >= 0
        expected, frames = expected[inside.to_numpy()], frames[inside].reset_index(drop=True)
    groups = frames.groupby(along).indices if along else {(): np.arange(len(frames))}
    found = {}
    for named_group, rows in groups.items():
        group = expected[rows]
        key = named_group if isinstance(named_group, tuple) else (named_group,)
        if "neuron" in words:
            for at in np.ndindex(group.shape[1:]):
                found[(*key, *at)] = figure(group[(slice(None), *at)])
        elif "channel" in words:
            for channel in range(group.shape[1]):
                found[(*key, channel)] = figure(group[:, channel])
        else:
            found[key] = figure(group)
    return found


def in_order(result: xr.DataArray) -> xr.DataArray:
    """Axes of frames in front, those of places behind, as in `oracle`."""
    places = [name for name in result.dims if name in ("neuron", "channel", "height", "width")]
    return result.transpose(*(name for name in result.dims if name not in places), *places)


def named(result: xr.DataArray) -> dict[tuple[Any, ...], float]:
    result = in_order(result)
    if "presentation" in result.dims:
        result = result.set_index(presentation=["trial", "sample"])
    found = {}
    for at in np.ndindex(result.shape):
        key: list[Any] = []
        for name, place in zip(result.dims, at, strict=True):
            label = result[name].values[place]
            if name == "presentation":
                key += list(label)
            elif name in ("neuron", "channel", "height", "width"):
                key.append(place)
            else:
                key.append(label)
        value = float(result.values[at])
        if not (np.isnan(value) and result.defined.values[at] == 0):
            found[tuple(key)] = value
    return found


@pytest.mark.parametrize("per", PER, ids=str)
@pytest.mark.parametrize("name", ["v", "some", "count"])
def test_mean_deviation_and_extremes_are_those_of_numpy(path: Path, name: str, per: Any) -> None:
    signal = analysis.open_recording(path)["1"].signals[name]
    asked = dask.compute(signal.mean(per), signal.std(per), signal.min(per), signal.max(per))
    figures = (lambda x: x.mean(dtype=np.float64), lambda x: x.std(dtype=np.float64), np.min, np.max)
    for result, figure in zip(asked, figures, strict=True):
        expected = oracle(name, order_of(per), figure)
        found = named(result)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key] == pytest.approx(value, rel=1e-12, abs=1e-12)


def order_of(per: Any) -> Any:
    """Words in the order in which results have their axes: frames as asked for, then places."""
    words = [per] if isinstance(per, str) else list(per)
    return [w for w in words if w not in ("neuron", "channel")] + [
        w for w in words if w in ("neuron", "channel")
    ]


def test_selections_narrow_signals_as_they_do_spikes(path: Path) -> None:
    recording = analysis.open_recording(path)
    expected, frames = kept("v")
    for chosen, inside in (
        ({"steps": slice(3, 14)}, (frames.step >= 3) & (frames.step < 14)),
        ({"samples": [0, 3]}, frames["sample"].isin([0, 3])),
        ({"trials": [1, 3]}, frames.trial.isin([1, 3])),
        ({"where": {"label": ["a", "c"], "epoch": 1}}, frames.label.isin(["a", "c"]) & (frames.epoch == 1)),
        ({"time": slice(2, 5)}, frames.time.between(2, 4)),
    ):
        signal = recording.select(**chosen)["1"].signals["v"]
        np.testing.assert_array_equal(signal.values.values, expected[inside.to_numpy()])
        assert float(signal.mean()) == pytest.approx(expected[inside.to_numpy()].mean(dtype=np.float64))
    narrow = recording["1"].select(neurons=np.s_[1:, 2, :])
    np.testing.assert_array_equal(narrow.signals["v"].values.values, expected[:, 1:, 2:3, :])
    some, _ = kept("some")  # channels 1 and 2, rows 0 and 2
    np.testing.assert_array_equal(narrow.signals["some"].values.values, some[:, :, 1:])
    assert narrow.signals["flat"].values.neuron.values.tolist() == [
        each for each in (2, 5, 9, 23) if each in np.ravel_multi_index(np.ix_([1, 2], [2], [0, 1]), SHAPE)
    ]
    with pytest.raises(QuestionError, match=r"shape \(2,\) at each frame, which is not that of the layer"):
        _ = narrow.signals["rate"]


def test_a_result_is_the_same_however_it_is_cut(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal = analysis.open_recording(path)["1"].signals["v"]
    asked = ("step", "trial", ("label", "time"), ())
    whole = dask.compute(*(signal.mean(per) for per in asked), *(signal.std(per) for per in asked))
    monkeypatch.setattr("analysis.asking.signals.task_bytes", lambda _: 900)
    monkeypatch.setattr("analysis.asking.signals.RESULT_BLOCK_BYTES", 64)
    monkeypatch.setattr("analysis.kernels.signals.tallying.SLAB_BYTES", 2000)
    cut = [signal.mean(per) for per in asked] + [signal.std(per) for per in asked]
    assert max(result.data.npartitions for result in cut) > 5
    for one, other in zip(whole, dask.compute(*cut), strict=True):
        xr.testing.assert_allclose(one, other, rtol=1e-12)
    assert planning.RESULT_BLOCK_BYTES > 64


def test_histograms_are_those_of_numpy(path: Path) -> None:
    signal = analysis.open_recording(path)["1"].signals["v"]
    expected, frames = kept("v")
    counts, edges = np.histogram(expected, 12, range=(0, 6))
    result = signal.histogram(12, range=(0, 6)).compute()
    np.testing.assert_array_equal(result.values, counts)
    np.testing.assert_allclose(result.lower, edges[:-1])
    np.testing.assert_allclose(result.upper, edges[1:])
    assert int(result.outside) == expected.size - counts.sum()
    by_label = signal.histogram([0.0, 1.0, 4.0], per=("label", "channel")).compute()
    for label in "abc":
        rows = expected[(frames.label == label).to_numpy()]
        for channel in range(3):
            found = by_label.sel(label=label, channel=channel)
            np.testing.assert_array_equal(found, np.histogram(rows[:, channel], [0, 1, 4])[0])


def test_nan_and_infinities_are_values_like_others(tmp_path: Path) -> None:
    given = np.array([[1.0, np.nan], [np.inf, 2.0], [-np.inf, 2.0], [4.0, 4.0]])
    store = tmp_path / "run.zarr"
    write_recording(store, {"1": given > 0}, [Run(0, 4, 1)], signals={("1", "v"): Made(given)}).release()
    signal = analysis.open_recording(store)["1"].signals["v"]
    np.testing.assert_array_equal(signal.values.values, given)
    np.testing.assert_array_equal(signal.mean("step"), [np.nan, np.inf, -np.inf, 4.0])
    np.testing.assert_array_equal(signal.mean("neuron"), [np.nan, np.nan])
    np.testing.assert_array_equal(signal.max("neuron"), [np.inf, np.nan])
    np.testing.assert_array_equal(signal.min("neuron"), [-np.inf, np.nan])
    np.testing.assert_array_equal(signal.std("step"), [np.nan, np.nan, np.nan, 0])
    assert int(signal.histogram([0.0, 3.0]).outside) == 5


@pytest.mark.parametrize("name", ["v", "some"])
@pytest.mark.parametrize("per", ["neuron", ("label", "channel"), ()])
def test_averages_around_spikes_are_those_of_a_loop(path: Path, name: str, per: Any) -> None:
    before, after = 2, 3
    signal = analysis.open_recording(path)["1"].signals[name]
    result = signal.spike_triggered_average(before, after, per).compute()
    made, fired, frames = SIGNALS["1", name], spikes(), frames_of()
    place = {(row.step, row.sample): at for at, row in enumerate(frames.itertuples())}
    neurons = np.zeros(SHAPE, bool)
    neurons[tuple(slice(r.start, r.stop, r.step) for r in made.neurons or ())] = True
    sums: dict[Any, list[np.ndarray]] = {}
    for at, row in enumerate(frames.itertuples()):
        if row.trial < 0:
            continue
        for lag in range(-before, after + 1):
            step = row.step + lag
            behind = place.get((step, row.sample))
            if behind is None or frames.trial[behind] != row.trial:
                continue
            if step % made.every or row.sample >= (made.samples or 99):
                continue
            label = row.label if "label" in per else None
            total, number = sums.setdefault((label, lag), [np.zeros(SHAPE), np.zeros(SHAPE)])
            total += np.where(fired[at] & neurons, made.values[behind], 0)
            number += fired[at] & neurons
    for (label, lag), (total, number) in sums.items():
        found = result.sel(lag=lag) if label is None else result.sel(lag=lag, label=label)
        axes = {"neuron": (), (): (0, 1, 2)}.get(per, (1, 2))
        kept_total, kept_number = total.sum(axis=axes), number.sum(axis=axes)
        if name == "some":
            index: Any = np.ix_([1, 2], [0, 2], [0, 1]) if per == "neuron" else slice(1, 3)
            if per != ():
                kept_total, kept_number = kept_total[index], kept_number[index]
        np.testing.assert_array_equal(found.defined, kept_number)
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(found, kept_total / kept_number, rtol=1e-12)
    assert result.lag_ms.values.tolist() == [lag * 0.5 for lag in range(-before, after + 1)]


def test_averages_around_spikes_need_sequences_and_the_shape_of_the_layer(path: Path, tmp_path: Path) -> None:
    signals = analysis.open_recording(path)["1"].signals
    with pytest.raises(QuestionError, match="nothing says which belong together"):
        signals["rate"].spike_triggered_average(1, 1)
    with pytest.raises(QuestionError, match="'step' cuts presentations"):
        signals["v"].spike_triggered_average(1, 1, "step")
    with pytest.raises(QuestionError, match="before=-1"):
        signals["v"].spike_triggered_average(-1, 1)
    bare = tmp_path / "bare.zarr"
    write_recording(
        bare,
        {"1": np.ones((4, 2), bool)},
        [Run(0, 4, 1)],
        signals={("1", "v"): Made(np.arange(8.0).reshape(4, 2))},
    ).release()
    signal = analysis.open_recording(bare)["1"].signals["v"]
    with pytest.raises(QuestionError, match='pass boundary="none"'):
        signal.spike_triggered_average(1, 1)
    assert signal.spike_triggered_average(0, 1, "neuron", boundary="none").values.tolist() == [[3, 4], [4, 5]]
    assert signal.spike_triggered_average(0, 1, boundary=2).defined.values.tolist() == [8, 4]


def test_lost_frames_of_a_signal_are_a_gap_in_it_alone(path: Path) -> None:
    expected, frames = kept("v")
    reader = TapeReader.open(Folder(path))
    signal = reader.layers["1"].signals["v"]
    size = signal.plan.chunk_frames
    (path / array_chunk_key(f"{signal.folder}/values", signal.plan, 2, 0)).unlink()
    with pytest.raises(analysis.RecordingFormatError, match=r"signal 'v' of layer '1' with frames"):
        analysis.open_recording(path)["1"].signals["v"].mean().compute()
    recovery = plan_recovery(reader, find_problems(reader), mark_lost=True)
    assert [(loss.name, loss.signal) for loss in recovery.lost] == [("1", "v")]
    recover(Folder(path), recovery, reader.metadata.commit_number)
    assert find_problems(TapeReader.open(Folder(path))) == []
    lost = frames.step.isin(frames.step[2 * size : 3 * size])
    recording = analysis.open_recording(path)
    np.testing.assert_array_equal(recording["1"].signals["v"].values, expected[~lost.to_numpy()])
    assert float(recording["1"].signals["v"].mean()) == pytest.approx(
        expected[~lost.to_numpy()].mean(dtype=np.float64)
    )
    np.testing.assert_array_equal(recording["1"].spikes, spikes())
    np.testing.assert_array_equal(recording["1"].signals["some"].values, kept("some")[0])


def test_recordings_that_are_opened_together(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.zarr"
    layers = {"1": spikes(), "2": spikes()[:, 0, 0]}
    write_recording(other, layers, RUNS, TRIALS, signals={("1", "v"): Made(values() * 2)}).release()
    both = analysis.open_recording([path, other])
    assert list(both["1"].signals) == ["v"]
    signal = both["1"].signals["v"]
    whole = np.concatenate([values(), values() * 2])
    np.testing.assert_array_equal(signal.values.values, whole)
    assert signal.values.recording.values.tolist() == ["run.zarr"] * FRAMES + ["other.zarr"] * FRAMES
    assert float(signal.mean()) == pytest.approx(whole.mean(dtype=np.float64))
    np.testing.assert_allclose(
        signal.mean(("recording", "channel")).values,
        [each.mean(axis=(0, 2, 3), dtype=np.float64) for each in (values(), values() * 2)],
    )
    presentations = signal.mean("presentation")
    assert presentations.sizes["presentation"] == 2 * sum(trial.batch for trial in TRIALS)


def test_unknown_signals_and_questions_are_refused_by_name(path: Path) -> None:
    recording = analysis.open_recording(path)
    signals = recording["1"].signals
    with pytest.raises(UnknownSignalError, match="no signal 'w'; its signals are: 'v', 'some'"):
        _ = signals["w"]
    assert "w" not in signals
    assert list(recording["2"].signals) == []
    with pytest.raises(QuestionError, match="has no channels"):
        signals["rate"].mean("channel")
    with pytest.raises(QuestionError, match="'nonsense' is unknown"):
        signals["v"].mean("nonsense")
    for bins, limits in ((0, (0, 1)), (3, None), ([2, 1], None), ([0, np.inf], None), ([0, 1], (0, 1))):
        with pytest.raises(QuestionError):
            signals["v"].histogram(bins, range=limits)
    assert repr(signals["some"]) == (
        "<signal 'some' of layer '1': 48 frames of (2, 2, 2) float32 (every 3 steps, at most 2 samples, "
        "8 neurons)>"
    ).replace("48", str(len(kept("some")[0])))
    assert repr(recording["1"]).endswith(", signals 'v', 'some', 'flat', 'count', 'rate'>")
    assert "beside the spikes: layer '1', signals 'v', 'some'" in repr(recording)
    assert "beside the spikes" in recording["1"]._repr_html_()
    assert "signal" not in repr(recording["2"])
    info = CliRunner().invoke(main, ["info", str(path)]).stdout
    assert (
        f"  signal       some of 1: {len(kept('some')[0])} frames of 2 × 2 × 2 float32, every 3 steps" in info
    )
    shown = json.loads(CliRunner().invoke(main, ["info", str(path), "--format", "json"]).stdout)
    assert [signal["name"] for signal in shown["layers"][0]["signals"]] == list(signals)
    assert shown["layers"][1]["signals"] == []
    assert repr(signals).startswith("<signals of layer '1': 'v', 'some'")
