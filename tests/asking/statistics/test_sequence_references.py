"""Intervals and latencies equal those of elephant and pynapple, to which a presentation is a spike train."""

from __future__ import annotations

from pathlib import Path

import elephant.statistics as elephant
import numpy as np
import pynapple as nap
import pytest
import xarray as xr

import analysis
from tapes import Run, Trial, write_recording

STEPS, BATCH, TRIALS, NEURONS = 60, 4, 3, 5
SPIKES = np.random.default_rng(8).random((TRIALS, STEPS, BATCH, NEURONS)) < [0.02, 0.1, 0.3, 0.9, 0.0]


@pytest.fixture
def layer(tmp_path: Path) -> analysis.Layer:
    runs = [Run(STEPS * number, STEPS, BATCH, number) for number in range(TRIALS)]
    trials = [Trial(number, BATCH, {"label": [0, 1, 1, 0]}) for number in range(TRIALS)]
    write_recording(tmp_path / "a.zarr", {"1": SPIKES.reshape(-1, NEURONS)}, runs, trials, chunk_bytes=64)
    return analysis.open_recording(tmp_path / "a.zarr")["1"]


def trains_of(neuron: int) -> list[np.ndarray]:
    """Steps of the events in every presentation, trial after trial."""
    return [
        np.flatnonzero(SPIKES[trial, :, sample, neuron]).astype(float)
        for trial in range(TRIALS)
        for sample in range(BATCH)
    ]


def test_pooled_intervals_equal_elephant(layer: analysis.Layer) -> None:
    mean, cv = layer.isi_mean("neuron").values, layer.isi_cv("neuron").values
    histogram = layer.isi_histogram("neuron", longest=STEPS)
    for neuron in range(NEURONS):
        pooled = np.concatenate([elephant.isi(train) for train in trains_of(neuron)])
        lengths = np.bincount(pooled.astype(int), minlength=STEPS + 1)[1:]
        np.testing.assert_array_equal(histogram[neuron].values, lengths)
        if len(pooled) > 1:
            np.testing.assert_allclose([mean[neuron], cv[neuron]], [pooled.mean(), elephant.cv(pooled)])
        else:
            assert np.isnan([mean[neuron], cv[neuron]]).all()


@pytest.mark.parametrize(("name", "reference"), [("isi_cv2", elephant.cv2), ("isi_lv", elephant.lv)])
def test_local_variation_of_each_presentation_equals_elephant(
    layer: analysis.Layer, name: str, reference: object
) -> None:
    found: xr.DataArray = getattr(layer, name)(("presentation", "neuron"))
    for neuron in range(NEURONS):
        for presentation, train in enumerate(trains_of(neuron)):
            intervals = elephant.isi(train)
            wanted = reference(intervals) if len(intervals) > 1 else np.nan  # type: ignore[operator]
            np.testing.assert_allclose(found[presentation, neuron], wanted, rtol=1e-12)


def test_intervals_equal_those_of_pynapple_with_an_epoch_for_each_presentation(layer: analysis.Layer) -> None:
    starts = np.arange(TRIALS * BATCH) * 1000.0
    epochs = nap.IntervalSet(start=starts, end=starts + STEPS)
    cv = layer.isi_cv("neuron").values
    for neuron in (1, 2, 3):
        times = np.concatenate(
            [train + start for train, start in zip(trains_of(neuron), starts, strict=True)]
        )
        differences = nap.Ts(times).time_diff(epochs=epochs)
        intervals = np.asarray(differences.values)
        np.testing.assert_allclose(cv[neuron], intervals.std() / intervals.mean())


def test_latencies_equal_numpy(layer: analysis.Layer) -> None:
    fired = SPIKES.any(axis=1)
    first = np.where(fired, SPIKES.argmax(axis=1), 0)
    with np.errstate(invalid="ignore"):
        wanted = first.sum(axis=(0, 1)) / fired.sum(axis=(0, 1))
    found = layer.latency("neuron")
    np.testing.assert_array_equal(found.values, wanted)
    np.testing.assert_array_equal(found.defined.values, fired.sum(axis=(0, 1)))
    np.testing.assert_array_equal(layer.latency_censored("neuron").values, (~fired).sum(axis=(0, 1)))


def test_presentations_of_several_recordings_come_one_after_the_other(
    tmp_path: Path, layer: analysis.Layer
) -> None:
    runs = [Run(7, STEPS, 2, 4)]
    spikes = SPIKES[0, :, :2].reshape(-1, NEURONS)
    write_recording(tmp_path / "b.zarr", {"1": spikes}, runs, [Trial(4, 2, {"label": [1, 0]})])
    both = analysis.open_recording([tmp_path / "a.zarr", tmp_path / "b.zarr"])["1"]
    found = both.isi_cv("presentation")
    alone = layer.isi_cv("presentation")
    assert found.recording.values.tolist() == ["a.zarr"] * (TRIALS * BATCH) + ["b.zarr"] * 2
    assert found.trial.values.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [4, 4]
    assert found.label.values.tolist()[-2:] == [1, 0]
    np.testing.assert_array_equal(found.values[: TRIALS * BATCH], alone.values)
    np.testing.assert_array_equal(found.values[-2:], alone.values[:2])
    pooled, defined = both.isi_cv(), int(layer.isi_cv().defined + found.defined[-2:].sum())
    assert int(pooled.defined) == defined
    with pytest.raises(analysis.QuestionError, match="a presentation is of one recording"):
        both.isi_cv(("recording", "presentation"))


def test_questions_that_sequences_cannot_answer(layer: analysis.Layer) -> None:
    with pytest.raises(analysis.QuestionError, match="per='time' cuts presentations"):
        layer.autocorrelation(3, "time")
    with pytest.raises(analysis.QuestionError, match="boundary=0; expected 'none'"):
        layer.isi_cv(boundary=0)
    with pytest.raises(analysis.QuestionError, match="longest=0; expected a number of steps, 1 to"):
        layer.isi_histogram(longest=0)
    with pytest.raises(TypeError, match=r"lags is 1\.5"):
        layer.autocorrelation(1.5)  # type: ignore[arg-type]
