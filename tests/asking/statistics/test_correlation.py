"""Correlations of neurons are those of their counts in bins of sequences, cut slot by slot."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import dask
import neo
import numpy as np
import pytest
import quantities as pq
from elephant.conversion import BinnedSpikeTrain
from elephant.spike_train_correlation import correlation_coefficient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import analysis
from analysis.asking import populations
from analysis.formulas.correlation import correlation_matrix
from analysis.kernels import coactivity
from made_recordings import make_example, plans
from sequence_bins import binned
from tapes import Run, Trial, write_recording


def matrix_of(counts: np.ndarray) -> np.ndarray:
    return correlation_matrix(len(counts), counts.sum(axis=0), counts.T @ counts)


def layer_of(path: Path, spikes: np.ndarray, runs: list[Run], **options: Any) -> analysis.Layer:
    trials = [Trial(run.trial, run.batch) for run in runs if run.trial >= 0]
    write_recording(path, {"1": spikes}, runs, trials, **options)
    return analysis.open_recording(path)["1"]


@pytest.fixture
def spikes() -> np.ndarray:
    random = np.random.default_rng(5)
    return random.random((240, 3, 4)) < random.random((3, 4)) * 0.5


@pytest.fixture
def layer(tmp_path: Path, spikes: np.ndarray) -> analysis.Layer:
    return layer_of(tmp_path / "a", spikes, [Run(0, 12, 8, 0), Run(12, 18, 8, 1)], chunk_bytes=96)


@pytest.mark.filterwarnings("ignore::recorder.format.errors.LostFramesWarning")
@given(
    plan=plans(),
    window=st.sampled_from([1, 1, 2, 3, 7, 16]),
    boundary=st.sampled_from([None, "none", 1, 4, 9, 50]),
    data=st.data(),
)
@settings(
    max_examples=12, phases=[Phase.generate], deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
def test_correlations_equal_those_of_counts_in_bins_of_any_recording(
    tmp_path_factory: pytest.TempPathFactory,
    plan: dict[str, Any],
    window: int,
    boundary: int | str | None,
    data: st.DataObject,
) -> None:
    example = make_example(tmp_path_factory.mktemp("run") / "run.zarr", plan)
    layer = analysis.open_recording(example.path)[data.draw(st.sampled_from([*example.layers]))]
    if data.draw(st.booleans(), "select"):
        samples = data.draw(st.sampled_from([slice(1, None, 2), 0, slice(0, 5)]))
        layer = layer.select(samples=samples, steps=slice(data.draw(st.integers(0, 9)), None))
    if boundary is None and not (layer.spikes["trial"].values >= 0).any():
        boundary = "none"
    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="synchronous"):
        patch.setattr(populations, "TASK_PRODUCTS", data.draw(st.sampled_from([1, 300, 2**36]), "task"))
        patch.setattr(populations, "ROW_BYTES", data.draw(st.sampled_from([1, 200, 2**20])))
        patch.setattr(coactivity, "SLAB_ELEMENTS", data.draw(st.sampled_from([20, 700, 2**20]), "slab"))
        places = ["neuron", "channel"] if len(layer.dimensions) > 1 else ["neuron"]
        place = data.draw(st.sampled_from(places))
        found = layer.correlation(window=window, boundary=boundary, place=place)
        assert dask.is_dask_collection(found)
        assert found.dtype == np.float64
        found = found.compute()
    counts = binned(layer, window, boundary)
    if place == "channel":
        counts = counts.reshape(len(counts), layer.neuron_shape[0], math.prod(layer.neuron_shape[1:])).sum(
            axis=2
        )
    assert found.defined.item() == len(counts)
    np.testing.assert_array_equal(found.values, matrix_of(counts))
    varies = (counts != counts[:1]).any(axis=0) if len(counts) else np.zeros(counts.shape[1], np.bool_)
    np.testing.assert_array_equal(np.diagonal(found.values), np.where(varies, 1.0, np.nan))
    if varies.sum() > 1:
        wanted = np.corrcoef(counts[:, varies].T)
        np.testing.assert_allclose(found.values[np.ix_(varies, varies)], wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:The 'copy' argument in Quantity is deprecated")
def test_correlations_equal_those_of_elephant(tmp_path: Path) -> None:
    spikes = np.random.default_rng(1).random((300, 6)) < 0.2
    layer = layer_of(tmp_path / "a", spikes, [Run(0, 300, 1, 0)])
    for window in (1, 5):
        trains = [neo.SpikeTrain(np.flatnonzero(train) * pq.ms, t_stop=300 * pq.ms) for train in spikes.T]
        wanted = correlation_coefficient(BinnedSpikeTrain(trains, bin_size=window * pq.ms))
        np.testing.assert_allclose(layer.correlation(window=window), wanted, rtol=1e-10)


def test_no_bin_reaches_over_a_break_and_incomplete_bins_are_left_out(tmp_path: Path) -> None:
    # Trial 0 has steps 0 to 4 and, behind a gap, 6 to 8; trial 1 follows at once with steps 9 to 11.
    runs = [Run(0, 5, 1, 0), Run(6, 3, 1, 0), Run(9, 3, 1, 1)]
    spikes = np.random.default_rng(2).random((11, 4)) < 0.5
    write_recording(tmp_path / "a", {"1": spikes}, runs, [Trial(0, 1), Trial(1, 1)])
    layer = analysis.open_recording(tmp_path / "a")["1"]
    pairs = [[0, 1], [2, 3], [5, 6], [8, 9]]
    found = layer.correlation(window=2)
    assert found.defined.compute().item() == 4
    counts = np.array([spikes[frames].sum(axis=0) for frames in pairs])
    np.testing.assert_array_equal(found, matrix_of(counts))
    nothing = layer.correlation(window=6)
    assert nothing.defined.compute().item() == 0
    assert np.isnan(nothing).all()


def test_several_recordings_are_observed_together(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    each = [random.random((steps * 3, 5)) < 0.4 for steps in (7, 20)]
    for place, spikes in enumerate(each):
        layer_of(tmp_path / str(place), spikes, [Run(0, len(spikes) // 3, 3, 0)], chunk_bytes=40)
    layer = analysis.open_recording([tmp_path / "0", tmp_path / "1"])["1"]
    np.testing.assert_array_equal(layer.correlation(), matrix_of(np.concatenate(each).astype(np.int64)))
    counts = binned(layer, 3, None)
    assert len(counts) == (7 // 3 + 20 // 3) * 3
    np.testing.assert_array_equal(layer.correlation(window=3), matrix_of(counts))


def test_neurons_are_chosen_drawn_or_added_up(layer: analysis.Layer, spikes: np.ndarray) -> None:
    whole = layer.correlation().compute()
    assert whole.dims == ("neuron", "other")
    assert whole.channel.values.tolist() == np.repeat([0, 1, 2], 4).tolist()
    assert whole.other_length.values.tolist() == [0, 1, 2, 3] * 3
    chosen = layer.correlation(np.s_[1:, [0, 3]]).compute()
    assert chosen.neuron.values.tolist() == chosen.other.values.tolist() == [4, 7, 8, 11]
    assert chosen.other_channel.values.tolist() == [1, 1, 2, 2]
    np.testing.assert_array_equal(chosen, whole.values[np.ix_(chosen.neuron, chosen.neuron)])
    drawn = layer.select(neurons=np.s_[:, 1:]).correlation(sample=5, seed=7).compute()
    again = layer.select(neurons=np.s_[:, 1:]).correlation(sample=5, seed=7)
    assert drawn.identical(again.compute())
    assert len(drawn.neuron) == 5
    assert (np.diff(drawn.neuron) > 0).all()
    assert (drawn.length > 0).all()
    np.testing.assert_array_equal(drawn, whole.values[np.ix_(drawn.neuron, drawn.neuron)])
    others = {tuple(layer.correlation(sample=5, seed=seed).neuron.values) for seed in range(9)}
    assert len(others) > 1
    assert layer.correlation(sample=500).sizes == {"neuron": 12, "other": 12}
    channels = layer.select(channels=[0, 2]).correlation(place="channel").compute()
    assert channels.channel.values.tolist() == channels.other.values.tolist() == [0, 2]
    np.testing.assert_allclose(channels, np.corrcoef(spikes[:, [0, 2]].sum(axis=2).T))


def test_more_pairs_than_memory_holds_must_be_asked_for_otherwise(tmp_path: Path) -> None:
    layer = layer_of(tmp_path / "a", np.zeros((8, 2, 5001), np.bool_), [Run(0, 8, 1, 0)])
    with pytest.raises(analysis.QuestionError, match=r"10002 neurons .* at most 10000 .*sample=1000"):
        layer.correlation()
    with pytest.raises(analysis.QuestionError, match=r"correlations of 10001 neurons were asked for"):
        layer.correlation(sample=10_001)
    assert np.isnan(layer.correlation(sample=4)).all()
    assert np.isnan(layer.correlation(place="channel")).all()
    assert layer.correlation(np.s_[0, :9]).shape == (9, 9)


def test_sums_are_exact_where_floats_of_32_and_53_bits_are_not() -> None:
    total = np.zeros((2, 2), np.int64)
    for largest, times in ((4097, 5), (2**27 + 1, 3), (3, 11)):
        rows = np.full((2, times), largest)
        coactivity._add_products(total, rows)
    assert total[0, 1] == 4097**2 * 5 + (2**27 + 1) ** 2 * 3 + 9 * 11


def test_outside_of_trials_a_boundary_must_be_given(tmp_path: Path) -> None:
    layer = layer_of(tmp_path / "a", np.eye(12, 4, dtype=np.bool_), [Run(0, 12, 1)])
    with pytest.raises(analysis.QuestionError, match='boundary="none" if the whole run is one sequence'):
        layer.correlation()
    assert layer.correlation(boundary="none", window=5).defined.compute().item() == 2
    assert layer.correlation(boundary=4, window=3).defined.compute().item() == 3


def test_questions_that_make_no_sense_are_refused(tmp_path: Path, layer: analysis.Layer, path: Path) -> None:
    recording = analysis.open_recording(path)
    with pytest.raises(analysis.QuestionError, match=r"one layer, but 2 are selected.*'1', 'features\.3'"):
        recording.correlation()
    assert recording.select(layers="features.3").correlation().shape == (9, 9)
    with pytest.raises(analysis.QuestionError, match=r"'features\.3' has no channels"):
        recording["features.3"].correlation(place="channel")
    for wrong, message in (
        ({"window": 0}, "window=0; expected a number of steps, 1 to"),
        ({"window": True}, "window is True"),
        ({"sample": -1}, "sample=-1; expected a number of neurons"),
        ({"boundary": 0}, "boundary=0"),
        ({"boundary": "all"}, "boundary='all'; expected"),
        ({"place": "all"}, "place='all'; expected 'neuron' or 'channel'"),
        ({"place": "channel", "sample": 3}, "sample=3 draws neurons"),
        ({"neurons": 5}, "selects along 1 axes"),
    ):
        with pytest.raises(analysis.QuestionError, match=message):
            layer.correlation(**wrong)
    with pytest.raises(TypeError, match=r"window is 1\.5"):
        layer.correlation(window=1.5)
