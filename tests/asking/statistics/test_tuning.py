"""What neurons tell of labels is that of plain numpy on unpacked spikes, of scikit-learn and of pynapple."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pynapple
import pytest
import xarray as xr
from dask.callbacks import Callback
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

import analysis
from analysis.asking import planning
from analysis.statistics.answers import averaging
from made_recordings import plans
from presented import Presented, check_averages, cut_small, few, has_presentations, lost, opened, some_per
from tapes import Run, Trial, write_recording

several = st.lists(plans(), min_size=1, max_size=2)


def rates_of(table: Presented, rows: np.ndarray, by: str) -> tuple[np.ndarray, np.ndarray]:
    """Rates of neurons at each label, [labels, neurons], and slots at each."""
    labels = table.labels(rows, by)
    rates, slots = [], []
    for label in sorted({*labels} - {None}, key=str):
        chosen = [row for row, its in zip(rows, labels, strict=True) if its == label]
        slots.append(table.lengths[chosen].sum())
        rates.append(table.counts[chosen].sum(axis=0).ravel() / slots[-1])
    neurons = int(np.prod(table.counts.shape[1:]))
    return np.array(rates).reshape(-1, neurons), np.array(slots)


def selectivity(table: Presented, rows: np.ndarray, by: str) -> np.ndarray:
    rates, _ = rates_of(table, rows, by)
    values = []
    for of_neuron in rates.T:
        ordered = sorted(of_neuron)
        if len(ordered) < 2 or ordered[-1] == 0:
            values.append(np.nan)
        else:
            best, rest = ordered[-1], np.mean(ordered[:-1])
            values.append((best - rest) / (best + rest))
    return np.array(values)


def skaggs(table: Presented, rows: np.ndarray, by: str) -> np.ndarray:
    rates, slots = rates_of(table, rows, by)
    values = []
    for of_neuron in rates.T:
        share = slots / slots.sum() if len(slots) else slots
        mean = (share * of_neuron).sum()
        terms = [p * r / mean * np.log2(r / mean) for p, r in zip(share, of_neuron, strict=True) if r > 0]
        values.append(sum(terms) if mean > 0 else np.nan)
    return np.array(values)


def information(table: Presented, rows: np.ndarray, by: str, corrected: bool) -> np.ndarray:
    labels = table.labels(rows, by)
    known = [(row, str(label)) for row, label in zip(rows, labels, strict=True) if label is not None]
    values = []
    for neuron in range(int(np.prod(table.counts.shape[1:]))):
        pairs = [(label, int(table.counts[row].ravel()[neuron])) for row, label in known]
        if not pairs:
            values.append(np.nan)
            continue
        ofs = [Counter(its) for its in (pairs, *zip(*pairs, strict=True))]
        value = sum(
            n / len(pairs) * np.log2(n * len(pairs) / (ofs[1][label] * ofs[2][count]))
            for (label, count), n in ofs[0].items()
        )
        if corrected:
            different = len(ofs[0]) - len(ofs[1]) - len(ofs[2])
            value -= (different + 1) / (2 * len(pairs) * np.log(2))
        values.append(value)
    return np.array(values)


@lost
@given(plan=several, data=st.data())
@few
def test_selectivity_and_information_equal_those_of_plain_counting(
    tmp_path_factory: pytest.TempPathFactory, plan: list[dict[str, Any]], data: st.DataObject
) -> None:
    recording, name, starts = opened(data, tmp_path_factory.mktemp("runs"), plan)
    layer = recording[name]
    if not has_presentations(layer, lambda layer: layer.selectivity()):
        return
    table = Presented(layer, starts)
    by = data.draw(st.sampled_from(["label", "epoch"]), "by")
    if all(value is None for value in table.places[by]):
        if by not in recording.trials:
            with pytest.raises(analysis.QuestionError, match=f"no such column.*trial\\({by}="):
                layer.selectivity(by=by)
        return
    along, place = some_per(data, table, layer.dimensions, len(plan))
    along = [word for word in along if word != by]
    per = [*along, *([place] if place != "all" else [])]

    def figure(kind: Any, *options: Any) -> Any:
        def of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            values = kind(table, rows, by, *options).reshape(layer.neuron_shape)
            return values, ~np.isnan(values)

        return of

    with cut_small(data):
        check_averages(layer.selectivity(per, by=by), table, along, place, figure(selectivity))
        found = layer.information(per, by=by, kind="skaggs")
        check_averages(found, table, along, place, figure(skaggs))
        for correction in (None, "miller-madow"):
            found = layer.information(per, by=by, correction=correction)
            check_averages(found, table, along, place, figure(information, correction is not None))


@pytest.fixture
def layer(tmp_path: Path) -> analysis.Layer:
    random = np.random.default_rng(1)
    labels = [[int(label) for label in random.integers(0, 3, 9)] for _ in range(4)]
    rate = np.array([labels[trial][sample] for trial in range(4) for _ in range(10) for sample in range(9)])
    spikes = random.random((360, 5)) < (rate[:, None] + 1) * np.array([0.3, 0.1, 0.2, 0.05, 0])
    trials = [Trial(trial, 9, {"label": labels[trial]}) for trial in range(4)]
    runs = [Run(trial * 10, 10, 9, trial) for trial in range(4)]
    write_recording(tmp_path / "run.zarr", {"1": spikes}, runs, trials, chunk_bytes=64)
    return analysis.open_recording(tmp_path / "run.zarr")["1"]


def test_bits_per_spike_are_those_of_pynapple(layer: analysis.Layer) -> None:
    rates = layer.firing_rate(per=("neuron", "label")).compute()
    occupancy = np.bincount(layer.spikes["label"].values.astype(int))
    curves = xr.DataArray(
        rates.transpose("neuron", "label").values,
        dims=("unit", "label"),
        coords={"unit": range(5)},
        attrs={"occupancy": occupancy, "bin_edges": [np.arange(4)]},
    )
    mean = layer.firing_rate(per="neuron").values
    wanted = pynapple.compute_mutual_information(curves, mean)["bits/spike"].to_numpy().copy()
    wanted[4] = np.nan  # pynapple says 0 of a silent neuron
    found = layer.information(per="neuron", kind="skaggs")
    np.testing.assert_allclose(found.values, wanted, atol=1e-12)
    assert found.attrs == {"long_name": "information about label per spike", "units": "bit"}


def test_information_is_that_of_scikit_learn(layer: analysis.Layer) -> None:
    counts = layer.features().compute()
    wanted = [mutual_info_score(counts.label.values, counts.values[:, n]) / np.log(2) for n in range(5)]
    found = layer.information(per="neuron")
    np.testing.assert_allclose(found.values, wanted, atol=1e-12)
    assert found["defined"].values.tolist() == [1] * 5


def test_silence_is_undefined_and_not_nothing(layer: analysis.Layer) -> None:
    assert np.isnan(layer.selectivity(per="neuron").values[4])
    assert layer.selectivity()["defined"] == 4
    silent = layer.select(neurons=[4])
    assert np.isnan(silent.selectivity())
    assert np.isnan(silent.information(kind="skaggs"))
    assert silent.information() == 0
    assert np.isnan(silent.fano_factor())
    assert np.isnan(silent.sparseness())


def test_one_label_is_no_selectivity(layer: analysis.Layer) -> None:
    assert np.isnan(layer.select(labels=[1]).selectivity())
    for statistic in (layer.selectivity, layer.information, partial(layer.information, kind="skaggs")):
        with pytest.raises(analysis.QuestionError, match="which per keeps apart from each other"):
            statistic(per="label")
        with pytest.raises(analysis.QuestionError, match=r"by is None .*; expected the name of a column"):
            statistic(by=None)


def test_a_kind_or_correction_that_is_none_is_refused(layer: analysis.Layer) -> None:
    with pytest.raises(analysis.QuestionError, match="kind='x'; expected 'mutual' or 'skaggs'"):
        layer.information(kind="x")  # type: ignore[arg-type]
    with pytest.raises(analysis.QuestionError, match="correction='x'; expected None or 'miller-madow'"):
        layer.information(correction="x")  # type: ignore[arg-type]
    with pytest.raises(analysis.QuestionError, match="leave it out with kind='skaggs'"):
        layer.information(kind="skaggs", correction="miller-madow")


def test_sums_of_some_neurons_are_made_and_let_go_of_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joint histograms have a bin for each step: of all neurons together they would be alive at once."""
    trials, steps, neurons = 4, 500, 40
    spikes = np.random.default_rng(3).random((trials * steps * 4, neurons)) < 0.5
    runs = [Run(steps * trial, steps, 4, trial) for trial in range(trials)]
    presented = [Trial(trial, 4, {"label": [0, 1, 0, 1]}) for trial in range(trials)]
    write_recording(tmp_path / "run.zarr", {"1": spikes}, runs, presented, chunk_bytes=1)
    layer = analysis.open_recording(tmp_path / "run.zarr")["1"]
    expected = layer.information().values
    monkeypatch.setattr(planning, "SMALL_TASK_BYTES", 1)
    monkeypatch.setattr(averaging, "SUM_BYTES", 100_000)
    alive: list[int] = []

    class Watch(Callback):
        def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker: Any) -> None:
            alive.append(sum(getattr(value, "nbytes", 0) for value in state["cache"].values()))

    asked = layer.information()
    with Watch(), dask.config.set(scheduler="synchronous"):
        np.testing.assert_array_equal(asked, expected)
    histogram_bytes = 8 * 2 * (steps + 1) * neurons
    assert max(alive) < 2 * 100_000 < histogram_bytes
