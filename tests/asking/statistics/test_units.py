"""Answers label themselves: with the unit of time, with long names, and with rates per second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

import analysis
from tapes import Made, Run, Trial, write_recording

SPIKES = np.random.default_rng(5).random((240, 6)) < 0.3
RUNS = [Run(0, 10, 8, 0), Run(12, 20, 8, 1)]
TRIALS = [Trial(number, 8, {"label": [0, 1] * 4}) for number in (0, 1)]


def recording_of(path: Path, **provenance: Any) -> analysis.Recording:
    write_recording(path, {"1": SPIKES}, RUNS, TRIALS, provenance=provenance)
    return analysis.open_recording(path)


def test_steps_windows_and_times_have_a_coordinate_in_the_unit_of_dt(tmp_path: Path) -> None:
    recording = recording_of(tmp_path / "a.zarr", dt=0.5, dt_unit="ms")
    rates = recording.firing_rate("step")
    np.testing.assert_array_equal(rates.step_ms, rates.step * 0.5)
    assert rates.step_ms.attrs == {"long_name": "time", "units": "ms"}
    windows = recording.firing_rate(("window", "sample"), window=4)
    np.testing.assert_array_equal(windows.window_ms, windows.window * 0.5)
    np.testing.assert_array_equal(recording["1"].firing_rate("time").time_ms, np.arange(20) * 0.5)
    alike = recording["1"].similarity(recording["1"], per="time")
    np.testing.assert_array_equal(alike.time_ms, np.arange(20) * 0.5)
    assert alike.time.attrs["long_name"] == "time step within the trial"
    np.testing.assert_array_equal(
        recording.autocorrelation(4).lag_ms, [0.5, 1, 1.5, 2], err_msg="lags are steps too"
    )


def test_numbers_of_what_went_into_averages_have_names(tmp_path: Path) -> None:
    layer = recording_of(tmp_path / "a.zarr")["1"].select(time=slice(0, 10))
    for statistic in ("isi_cv", "latency", "fano_factor", "selectivity", "information", "sparseness"):
        about = getattr(layer, statistic)().defined.attrs
        assert about["long_name"], statistic
        assert about["units"] == "1"


@pytest.mark.parametrize("name", ["label", "step", "neuron", "v"])
def test_signals_with_the_name_of_a_coordinate_make_data_sets(tmp_path: Path, name: str) -> None:
    made = {("1", name): Made(np.arange(SPIKES.size, dtype=np.float64).reshape(SPIKES.shape))}
    write_recording(tmp_path / "a.zarr", {"1": SPIKES}, RUNS, TRIALS, signals=made)
    signal = analysis.open_recording(tmp_path / "a.zarr")["1"].signals[name]
    assert signal.values.name == ("v" if name == "v" else "values")
    assert len(signal.values.to_dataset().data_vars) == 1


def test_rates_per_second_and_intervals_in_milliseconds(tmp_path: Path) -> None:
    recording = recording_of(tmp_path / "a.zarr", dt=0.5, dt_unit="ms")
    rate = recording.firing_rate("layer")
    per_second = recording.firing_rate("layer", unit="Hz")
    np.testing.assert_allclose(per_second, rate / 0.0005)
    assert per_second.attrs["units"] == "Hz"
    for statistic in ("isi_mean", "latency"):
        steps, time = getattr(recording, statistic)(), getattr(recording, statistic)(unit="ms")
        np.testing.assert_allclose(time, steps * 0.5)
        assert (steps.attrs["units"], time.attrs["units"]) == ("steps", "ms")
        np.testing.assert_allclose(getattr(recording, statistic)(unit="s"), steps * 0.0005)
        assert int(time.defined) == int(steps.defined)


def test_units_that_cannot_be_given(tmp_path: Path) -> None:
    unknown = recording_of(tmp_path / "a.zarr")
    assert "step_ms" not in unknown.firing_rate("step").coords
    with pytest.raises(analysis.QuestionError, match=r"was not recorded.*dt=1.0, dt_unit"):
        unknown.firing_rate(unit="Hz")
    known = recording_of(tmp_path / "b.zarr", dt=2, dt_unit="ms")
    with pytest.raises(analysis.QuestionError, match="unit='kHz'; expected 'Hz'"):
        known.firing_rate(unit="kHz")
    with pytest.raises(analysis.QuestionError, match="unit='minute'; expected 's', 'ms'"):
        known.isi_mean(unit="minute")
    odd = recording_of(tmp_path / "c.zarr", dt=2, dt_unit="tick")
    np.testing.assert_array_equal(odd.firing_rate("time").time_tick, np.arange(20) * 2.0)
    with pytest.raises(analysis.QuestionError, match="a step takes 2 'tick', which is none of"):
        odd.firing_rate(unit="Hz")


@pytest.mark.filterwarnings("ignore:.*same layer.*")
def test_recordings_with_steps_of_other_durations_have_no_common_unit(tmp_path: Path) -> None:
    recording_of(tmp_path / "a.zarr", dt=1, dt_unit="ms")
    recording_of(tmp_path / "b.zarr", dt=2, dt_unit="ms")
    both = analysis.open_recording([tmp_path / "a.zarr", tmp_path / "b.zarr"])
    assert "time_ms" not in both.firing_rate("time").coords
    with pytest.raises(
        analysis.QuestionError, match="not equally long in these recordings, which are pooled"
    ):
        both.firing_rate(unit="Hz")
    rate, latency = both.firing_rate("recording"), both["1"].latency("presentation")
    np.testing.assert_allclose(both.firing_rate("recording", unit="Hz"), rate * [1000, 500])
    steps = np.where(latency.recording == "a.zarr", 1.0, 2.0)
    np.testing.assert_allclose(both["1"].latency("presentation", unit="ms"), latency * steps)
    one, other = (both.select(recordings=name) for name in ("a.zarr", "b.zarr"))
    assert "time_ms" in one.similarity(per="time").coords
    assert "time_ms" not in one.similarity(other, per="time").coords
    np.testing.assert_array_equal(
        both.select(recordings="b.zarr").firing_rate("time").time_ms, np.arange(20) * 2.0
    )


@pytest.mark.parametrize(
    "forged",
    [
        {"dt": "long", "dt_unit": "ms"},
        {"dt": -1, "dt_unit": "ms"},
        {"dt": True, "dt_unit": "s"},
        {"dt": 1, "dt_unit": 7},
    ],
)
def test_a_strangers_duration_that_is_none_is_unknown(tmp_path: Path, forged: dict[str, Any]) -> None:
    recording = recording_of(tmp_path / "a.zarr", **forged)
    assert recording.members.step_duration is None


def test_figures_label_their_axes(tmp_path: Path) -> None:
    mpl.use("agg")
    recording = recording_of(tmp_path / "a.zarr", dt=0.5, dt_unit="ms")
    (line,) = recording.firing_rate("time", unit="Hz").plot(x="time_ms")
    assert line.axes.get_xlabel() == "time [ms]"
    assert line.axes.get_ylabel() == "firing rate: spikes per neuron\nand second [Hz]"


def test_every_answer_has_a_name_and_a_unit(tmp_path: Path) -> None:
    recording = recording_of(tmp_path / "a.zarr", dt=0.5, dt_unit="ms")
    answers = [
        recording.firing_rate("label"),
        recording.silent_ratio("time"),
        recording.isi_histogram("layer"),
        recording.isi_cv2("presentation"),
        recording.latency_censored("sample"),
        recording.autocorrelation(3, "trial"),
    ]
    for answer in answers:
        assert isinstance(answer, xr.DataArray)
        assert {"long_name", "units"} <= answer.attrs.keys()
        assert answer.name
        for name in answer.dims:
            if name in answer.coords:
                assert answer[name].attrs["long_name"]
