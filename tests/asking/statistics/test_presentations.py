"""Figures of presentations are those of plain numpy, slot by slot, and of elephant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import neo
import numpy as np
import pandas as pd
import pytest
import quantities as pq
from elephant.statistics import fanofactor
from hypothesis import given
from hypothesis import strategies as st

import analysis
from analysis.kernels.tables import moments
from analysis.statistics import presentations
from analysis.statistics.answers import averaging
from made_recordings import plans
from presented import Presented, check_averages, cut_small, few, has_presentations, lost, opened, some_per
from tapes import Run, Trial, write_recording

several = st.lists(plans(), min_size=1, max_size=2)


@lost
@given(plan=several, data=st.data())
@few
def test_features_are_the_counts_of_each_presentation(
    tmp_path_factory: pytest.TempPathFactory, plan: list[dict[str, Any]], data: st.DataObject
) -> None:
    recording, name, starts = opened(data, tmp_path_factory.mktemp("runs"), plan)
    recording = (
        recording.select(time=slice(1, 4))
        if data.draw(st.booleans()) and any(run.trial >= 0 for each in plan for run in each["runs"])
        else recording
    )
    layer = recording[name]
    if not has_presentations(layer, lambda layer: layer.features()):
        return
    table = Presented(layer, starts)
    with cut_small(data):
        found = recording.features(name)
        assert found.chunks is not None
        np.testing.assert_array_equal(found.compute().values, table.counts)
    assert found.dtype == np.int64
    for column in ("trial", "sample", *(["recording"] if len(plan) > 1 else [])):
        assert found[column].values.tolist() == table.places[column]
    if "label" in found.coords:
        labels = [None if pd.isna(label) else label for label in found["label"].values.tolist()]
        assert labels == table.places["label"]


def fano(table: Presented, by: str | None) -> Any:
    def figure(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = table.labels(rows, by)
        factors = []
        for label in {*labels} - {None}:
            counts = table.counts[[row for row, its in zip(rows, labels, strict=True) if its == label]]
            mean = counts.mean(axis=0)
            enough = (mean > 0) & (len(counts) > 1)
            factors.append(np.where(enough, counts.var(axis=0) / np.where(mean > 0, mean, 1), np.nan))
        each = np.array(factors).reshape(-1, *table.counts.shape[1:])
        defined = (~np.isnan(each)).sum(axis=0)
        return np.nansum(each, axis=0) / np.where(defined > 0, defined, np.nan), defined

    return figure


@lost
@given(plan=several, data=st.data())
@few
def test_fano_factors_equal_those_of_plain_counting(
    tmp_path_factory: pytest.TempPathFactory, plan: list[dict[str, Any]], data: st.DataObject
) -> None:
    recording, name, starts = opened(data, tmp_path_factory.mktemp("runs"), plan)
    layer = recording[name]
    if not has_presentations(layer, lambda layer: layer.fano_factor()):
        return
    table = Presented(layer, starts)
    if len({*table.lengths.tolist()}) > 1:
        with pytest.raises(analysis.QuestionError, match=r"some have \d+ frames and some \d+.*select\(time="):
            layer.fano_factor(by=None)
        layer = layer.select(time=slice(0, 1))
        if not has_presentations(layer, lambda layer: layer.fano_factor()):
            return
        table = Presented(layer, starts)
    labelled = any(value is not None for value in table.places["label"])
    by = data.draw(st.sampled_from([None, "label", "epoch"][: 2 + (table.places["epoch"][0] is not None)]))
    along, place = some_per(data, table, layer.dimensions, len(plan))
    with cut_small(data):
        found = layer.fano_factor([*along, *([place] if place != "all" else [])], by=by)
        check_averages(found, table, along, place, fano(table, by if by != "label" or labelled else None))


@lost
@given(plan=several, data=st.data())
@few
def test_sparseness_equals_that_of_plain_counting(
    tmp_path_factory: pytest.TempPathFactory, plan: list[dict[str, Any]], data: st.DataObject
) -> None:
    recording, name, starts = opened(data, tmp_path_factory.mktemp("runs"), plan)
    layer = recording[name]
    if not has_presentations(layer, lambda layer: layer.sparseness()):
        return
    table = Presented(layer, starts)

    def treves_rolls(counts: np.ndarray, axis: Any) -> np.ndarray:
        squares = np.square(counts).mean(axis=axis)
        return counts.mean(axis=axis) ** 2 / np.where(squares > 0, squares, np.nan)

    def of_presentations(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        each = treves_rolls(table.counts[rows].reshape(len(rows), layer.neurons), 1)
        return each, ~np.isnan(each)

    def of_neurons(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if len(rows) == 0:
            return np.full(layer.neuron_shape, np.nan), np.zeros(layer.neuron_shape, np.int64)
        each = treves_rolls(table.counts[rows], 0)
        return each, ~np.isnan(each)

    along, place = some_per(data, table, layer.dimensions, len(plan))
    with cut_small(data):
        check_averages(layer.sparseness(along), table, along, "all", of_presentations)
        if len({*table.lengths.tolist()}) == 1:
            per = [*along, *([place] if place != "all" else [])]
            check_averages(layer.sparseness(per, over="presentations"), table, along, place, of_neurons)


@lost
@given(plan=several, data=st.data(), elements=st.sampled_from([2**24, 10**9]))
@few
def test_participation_ratios_equal_those_of_plain_counting(
    tmp_path_factory: pytest.TempPathFactory, plan: list[dict[str, Any]], data: st.DataObject, elements: int
) -> None:
    recording, name, starts = opened(data, tmp_path_factory.mktemp("runs"), plan)
    layer = recording[name]
    if not has_presentations(layer, lambda layer: layer.participation_ratio()):
        return
    table = Presented(layer, starts)
    along, _ = some_per(data, table, layer.dimensions, len(plan))
    by_time = data.draw(st.booleans(), "by time")
    with cut_small(data):
        found = layer.participation_ratio([*along, *(["time"] if by_time else [])])
        if by_time and found.size > 500:
            # In tasks of a few neurons each, so many would take minutes.
            found, by_time = layer.participation_ratio(along), False
        values = found.compute().values
    groups = [*np.ndindex(*found.shape)]
    axes = [found[word].values.tolist() for word in along]
    # There may be thousands, of which a hundred are looked at.
    for at in groups[:: len(groups) // 100 + 1]:
        key = [axis[place] for axis, place in zip(axes, at, strict=False)]
        rows = table.rows(along, key)
        counts = table.counts[rows]
        if by_time:
            there = [table.at[row][at[-1]] for row in rows if at[-1] in table.at[row]]
            counts = np.array(there, np.int64).reshape(-1, *layer.neuron_shape)
        flat = counts.reshape(len(counts), layer.neurons)
        centred = flat - flat.mean(axis=0) if len(flat) else flat
        eigenvalues = np.linalg.svd(centred, compute_uv=False) ** 2 if flat.size else np.zeros(1)
        varies = (flat != flat[:1]).any()
        wanted = eigenvalues.sum() ** 2 / np.square(eigenvalues).sum() if varies else np.nan
        np.testing.assert_allclose(values[at], wanted, rtol=1e-9, err_msg=str(key))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    random = np.random.default_rng(1)
    spikes = {"1": random.random((360, 3, 4)) < 0.3, "2": random.random((360, 5)) < 0.4}
    spikes["1"][:, 1, 2] = False
    runs = [Run(trial * 10, 10, 9, trial) for trial in range(4)]
    trials = [Trial(trial, 9, {"label": [place % 3 for place in range(9)]}) for trial in range(4)]
    write_recording(tmp_path / "run.zarr", spikes, runs, trials, chunk_bytes=64)
    return tmp_path / "run.zarr"


def test_fano_factors_are_those_of_elephant(path: Path) -> None:
    layer = analysis.open_recording(path)["2"]
    found = layer.fano_factor(per=("label", "neuron")).compute()
    spikes = layer.spikes.compute()
    for label, neuron in np.ndindex(3, 5):
        frames = spikes.values[(spikes["label"].values == label), neuron]
        keys = [*zip(spikes["trial"].values, spikes["sample"].values, strict=True)]
        keys = [key for key, its in zip(keys, spikes["label"].values, strict=True) if its == label]
        trains = []
        for key in sorted({*keys}):
            train = frames[[place for place, its in enumerate(keys) if its == key]]
            trains.append(neo.SpikeTrain(np.flatnonzero(train) * pq.ms, t_stop=10 * pq.ms))
        assert found[label, neuron] == pytest.approx(fanofactor(trains), rel=1e-12)


def test_layers_are_averaged_neuron_by_neuron(path: Path) -> None:
    recording = analysis.open_recording(path)
    for ask in ("fano_factor", "selectivity", "information"):
        each = [getattr(recording[name], ask)(per="neuron").values.ravel() for name in ("1", "2")]
        found = getattr(recording, ask)()
        assert float(found) == pytest.approx(np.nanmean(np.concatenate(each)), rel=1e-12)
        by_layer = getattr(recording, ask)(per=("layer", "label") if ask == "fano_factor" else "layer")
        assert by_layer.dims[0] == "layer"
        assert by_layer["layer"].values.tolist() == ["1", "2"]
        assert by_layer["defined"].dims == by_layer.dims
        one = getattr(recording["2"], ask)(per="label" if ask == "fano_factor" else ())
        np.testing.assert_array_equal(by_layer[1].values, one.values)
        np.testing.assert_array_equal(by_layer["defined"][1].values, one["defined"].values)


def test_what_is_computed_together_reads_every_count_once(path: Path) -> None:
    layer = analysis.open_recording(path)["2"]
    asked = [layer.fano_factor(), layer.selectivity(), layer.information(), layer.features()]
    names = [{*each.data.__dask_graph__().layers} for each in asked]
    shared = set.intersection(*names)
    assert any(name.startswith("spikes") for name in shared)


@pytest.mark.parametrize("per", ["step", "time", "presentation", ("window", "neuron")])
def test_what_cuts_presentations_is_refused(path: Path, per: Any) -> None:
    layer = analysis.open_recording(path)["2"]
    for ask in (layer.fano_factor, layer.selectivity, layer.information, layer.sparseness):
        with pytest.raises(
            analysis.QuestionError, match=r"compares presentations, which '(step|time|pres|win)"
        ):
            ask(per=per)


def test_what_makes_no_sense_is_refused(path: Path) -> None:
    recording = analysis.open_recording(path)
    with pytest.raises(analysis.QuestionError, match=r"features\(\) is about one layer: give its name"):
        recording.features()
    with pytest.raises(analysis.UnknownLayerError, match="no layer is named 'x'"):
        recording.features("x")
    with pytest.raises(analysis.QuestionError, match=r"by='speaker'.*no such column; they have 'label'"):
        recording.fano_factor(by="speaker")
    with pytest.raises(analysis.QuestionError, match='pass over="presentations"'):
        recording["1"].sparseness(per="neuron")
    with pytest.raises(analysis.QuestionError, match="over='x'"):
        recording.sparseness(over="x")  # type: ignore[arg-type]
    for per in ("network", "label", ("layer", "neuron")):
        with pytest.raises(analysis.QuestionError, match="all neurons of one layer together"):
            recording.participation_ratio(per=per)


def test_what_a_task_could_not_hold_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (averaging, presentations):
        monkeypatch.setattr(module, "MAX_ELEMENTS", 20)
    layer = analysis.open_recording(path)["1"]
    with pytest.raises(analysis.QuestionError, match="numbers in a task, more than 20"):
        layer.information(per="sample")
    with pytest.raises(analysis.QuestionError, match="numbers in a task, more than 20"):
        layer.participation_ratio()
    with pytest.raises(analysis.QuestionError, match=r"3 presentations and 12 neurons.*matrix of either"):
        layer.select(trials=[1], labels=[2]).participation_ratio(per="time")


@pytest.mark.parametrize("neurons", [1, 127, 128, 300])
def test_sums_and_squares_are_those_of_each_row_in_its_group(neurons: int) -> None:
    random = np.random.default_rng(neurons)
    block, codes = random.integers(0, 2**20, (9, 1, neurons)), np.array([2, -1, 0, 2, 2, -1, 0, 3, 2])
    rows = [block[codes == group, 0] for group in range(5)]
    expected = [[each.sum(axis=0).tolist() for each in power] for power in (rows, [r * r for r in rows])]
    assert moments(block, codes, 5).tolist() == expected
