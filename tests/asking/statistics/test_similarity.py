"""Similarity is that of whole matrices of counts, and accuracy that of argmax over cumulated spikes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import analysis
from analysis.formulas.similarity import linear_cka
from analysis.statistics import presentations, similarity
from made_recordings import plans
from presented import Presented, cut_small, few, has_presentations, lost, opened
from tapes import Run, Trial, write_recording


def counts_at(table: Presented, time: int | None) -> np.ndarray:
    """Counts, or spikes at one time, of presentations that have it: [presentations, neurons]."""
    counts = table.counts
    if time is not None:
        there = [spikes[time] for spikes in table.at if time in spikes]
        counts = np.array(there, np.int64).reshape(len(there), *table.counts.shape[1:])
    return counts.reshape(len(counts), int(np.prod(table.counts.shape[1:])))


def times_of(table: Presented) -> list[set[int]]:
    return [{*spikes} for spikes in table.at]


@lost
@given(plan=st.lists(plans(), min_size=1, max_size=2), data=st.data(), by_time=st.booleans())
@few
def test_similarity_equals_that_of_whole_matrices(
    tmp_path_factory: pytest.TempPathFactory, plan: list[dict[str, Any]], data: st.DataObject, by_time: bool
) -> None:
    recording, name, starts = opened(data, tmp_path_factory.mktemp("runs"), plan)
    per = "time" if by_time else None
    if not has_presentations(recording[name], lambda layer: layer.similarity(layer)):
        return
    tables = {name: Presented(layer, starts) for name, layer in recording.layers.items()}
    with cut_small(data):
        first = next(iter(tables.values()))
        if any(table.keys != first.keys for table in tables.values()):
            with pytest.raises(analysis.QuestionError, match="compares the same presentations"):
                recording.similarity()
            return
        if by_time and any(times_of(table) != times_of(first) for table in tables.values()):
            with pytest.raises(analysis.QuestionError, match="differ in the times that they have"):
                recording.similarity(per="time")
            return
        found = recording.similarity(per=per)
        assert found.dims == ("layer", "other_layer", *(["time"] if by_time else []))
        found = found.compute()
    for one, two, *at in np.ndindex(*found.shape):
        pair = [tables[found[dim].values[i]] for dim, i in (("layer", one), ("other_layer", two))]
        wanted = linear_cka(*(counts_at(table, at[0] if at else None) for table in pair))
        np.testing.assert_allclose(found.values[(one, two, *at)], wanted, rtol=1e-12)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Two runs with the same presentations, whose output layer has as many neurons as there are labels."""
    made = []
    for seed in range(2):
        random = np.random.default_rng(seed)
        labels = [[int(label) for label in np.random.default_rng(9).integers(0, 4, 8)] for _ in range(3)]
        label = np.array([labels[t][sample] for t in range(3) for _ in range(9 - t) for sample in range(8)])
        out = random.random((192, 4)) < 0.2 + 0.15 * (label[:, None] == np.arange(4))
        spikes = {"hidden": random.random((192, 3, 4)) < 0.3, "out": out}
        spikes["hidden"][:, 0] &= out
        starts = np.cumsum([0, 9, 8])
        runs = [Run(int(starts[t]), 9 - t, 8, t) for t in range(3)]
        trials = [
            Trial(t, 8, {"label": labels[t], "word": [f"w{each}" for each in labels[t]]}) for t in range(3)
        ]
        path = tmp_path / f"{seed}.zarr"
        write_recording(path, spikes, runs, trials, chunk_bytes=64)
        made.append(path)
    return made


def test_layers_of_two_runs_are_compared_name_by_name(paths: list[Path]) -> None:
    one, other = map(analysis.open_recording, paths)
    both = one.similarity(other)
    assert both["layer"].values.tolist() == ["hidden", "out"]
    for name in ("hidden", "out"):
        counts = [run.features(name).values.reshape(24, -1) for run in (one, other)]
        assert float(both.sel(layer=name)) == linear_cka(*counts)
        assert float(one[name].similarity(other[name])) == linear_cka(*counts)
    by_time = one["out"].similarity(other["out"], per="time")
    assert by_time.dims == ("time",)
    assert len(by_time) == 9
    assert float(one["hidden"].similarity(one["hidden"])) == 1


def test_both_kinds_of_matrices_give_the_same(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    recording = analysis.open_recording(paths[0])
    wide = recording["hidden"].select(trials=[0]).similarity(recording["out"].select(trials=[0]))
    counts = [recording.select(trials=[0]).features(name).values.reshape(8, -1) for name in ("hidden", "out")]
    assert float(wide) == linear_cka(*counts)
    for module in (presentations, similarity):
        monkeypatch.setattr(module, "MAX_ELEMENTS", 30)
    with pytest.raises(analysis.QuestionError, match="15 × 15 at 1 times, more than 30 elements"):
        recording.similarity()
    with pytest.raises(analysis.QuestionError, match=r"8 presentations and 12 neurons.*matrix of either"):
        recording.select(trials=[0]).similarity()


def test_what_cannot_be_compared_is_refused(paths: list[Path]) -> None:
    one, other = map(analysis.open_recording, paths)
    with pytest.raises(analysis.QuestionError, match=r"There are 24 and 16, and sample 0 of trial 1"):
        one.similarity(other.select(trials=[0, 2]))
    with pytest.raises(analysis.QuestionError, match=r"differ in the times that they have, up to 9 and 4"):
        one.similarity(other.select(time=slice(0, 4)), per="time")
    with pytest.raises(analysis.QuestionError, match="no layer is in both"):
        one.select(layers="out").similarity(other.select(layers="hidden"))
    with pytest.raises(TypeError, match="got Layer and Recording"):
        one["out"].similarity(other)
    with pytest.raises(analysis.QuestionError, match="give the layer to compare with"):
        one["out"].similarity()
    with pytest.raises(analysis.QuestionError, match="per='step'"):
        one.similarity(per="step")


def told_right(spikes: Any, labels: Any, until: int) -> tuple[int, int]:
    """Presentations told right by the spikes up to a time, and ties."""
    right = ties = 0
    for of_one, label in zip(spikes, labels, strict=True):
        counts = sum((bits.astype(int) for time, bits in of_one.items() if time <= until), np.zeros(4, int))
        right += int(counts.argmax() == label)
        ties += int((counts == counts.max()).sum() > 1)
    return right, ties


@pytest.mark.parametrize("which", [[0], [0, 1]])
def test_accuracy_equals_that_of_plain_counting(paths: list[Path], which: list[int]) -> None:
    recording = analysis.open_recording([paths[place] for place in which])
    table = Presented(recording["out"], [{0: 0, 1: 9, 2: 17}] * 2)
    overall = recording.accuracy("out").compute()
    right, ties = told_right(table.at, table.places["label"], 99)
    assert float(overall) == right / len(table.keys)
    assert (overall["ties"], overall["presentations"]) == (ties, len(table.keys))
    found = recording["out"].accuracy(per=("label", "time")).compute()
    assert found.dims == ("label", "time")
    for label, time in np.ndindex(4, 9):
        rows = table.rows(["label"], [label])
        right, ties = told_right([table.at[row] for row in rows], [label] * len(rows), time)
        assert found.values[label, time] == (right / len(rows) if len(rows) else np.nan) or not len(rows)
        assert found["ties"].values[label, time] == ties
        assert found["presentations"].values[label, time] == len(rows)
    apart = recording.accuracy("out", per=("recording", "trial")).compute()
    for at in np.ndindex(*apart.shape):
        key = [apart["recording"].values[at[0]], apart["trial"].values[at[1]]]
        rows = table.rows(["recording", "trial"], key)
        right, _ = told_right([table.at[r] for r in rows], [table.places["label"][r] for r in rows], 99)
        assert apart.values[at] == right / 8


def test_times_that_nobody_has_looked_at_have_no_accuracy(paths: list[Path]) -> None:
    layer = analysis.open_recording(paths[0])["out"].select(time=slice(2, 5))
    found = layer.accuracy(per="time").compute()
    assert np.isnan(found.values[:2]).all()
    assert found["presentations"].values.tolist() == [0, 0, 24, 24, 24]
    assert found["ties"].values[:2].tolist() == [0, 0]
    assert found.values[4] == layer.accuracy()


def test_presentations_without_a_label_are_left_out(tmp_path: Path) -> None:
    spikes = np.zeros((8, 2), bool)
    spikes[:, 1] = True
    runs, trials = [Run(0, 1, 4, 0), Run(1, 1, 4, 1)], [Trial(1, 4, {"label": [1, 1, 1, 0]})]
    write_recording(tmp_path / "run.zarr", {"1": spikes}, runs, trials, trials_begun=2)
    found = analysis.open_recording(tmp_path / "run.zarr").accuracy()
    assert float(found) == 0.75
    assert found["presentations"] == 4


def test_labels_that_are_no_output_neurons_are_refused(paths: list[Path]) -> None:
    recording = analysis.open_recording(paths[0])
    with pytest.raises(
        analysis.QuestionError, match=r"'w\d' \(str\) is none; expected whole numbers from 0 to 3"
    ):
        recording.accuracy("out", by="word")
    with pytest.raises(analysis.QuestionError, match=r"neuron shape \(3, 4\)"):
        recording.accuracy("hidden")
    with pytest.raises(analysis.QuestionError, match=r"2 are selected"):
        recording["out"].select(neurons=[0, 1]).accuracy()
    with pytest.raises(analysis.QuestionError, match="one layer and all of its neurons together"):
        recording.accuracy("out", per="neuron")
    with pytest.raises(analysis.QuestionError, match=r"accuracy\(by='speaker'\)"):
        recording.accuracy("out", by="speaker")
