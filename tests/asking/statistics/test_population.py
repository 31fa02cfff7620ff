"""Histograms of rates and of active neurons, and synchrony, are those of plain numpy on booleans."""

from __future__ import annotations

import itertools
from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import dask
import neo
import numpy as np
import pandas as pd
import pytest
import quantities as pq
from elephant.statistics import complexity_pdf
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import analysis
from analysis.asking import planning, populations
from analysis.kernels.counting import tasks as counting
from analysis.kernels.populations import RateBins
from made_recordings import make_example, plans
from tapes import Run, Trial, write_recording

WORDS = ("step", "window", "trial", "sample", "presentation", "label", "epoch")


def groups_of(spikes: Any, along: list[str], window: int) -> dict[tuple[Any, ...], np.ndarray]:
    """The frames of every group, bool [frames, neurons]."""
    step, sample, trial = (spikes[name].values for name in ("step", "sample", "trial"))
    trials = [None if number < 0 else number for number in trial.tolist()]
    places: dict[str, list[Any]] = {
        "step": step.tolist(),
        "window": (step // window * window).tolist(),
        "trial": trials,
        "sample": sample.tolist(),
        "presentation": [None if t is None else (t, s) for t, s in zip(trials, sample.tolist(), strict=True)],
    }
    for name in ("label", "epoch"):
        if name in spikes.coords:
            places[name] = [None if pd.isna(value) else value for value in spikes[name].values.tolist()]
    found = defaultdict(list)
    for frame in range(len(spikes)):
        key = tuple(places[word][frame] for word in along)
        if None not in key:
            found[key].append(frame)
    bits = spikes.values.reshape(len(spikes), int(np.prod(spikes.shape[1:])))
    return {key: bits[frames] for key, frames in found.items()}


def key_at(found: Any, along: list[str], at: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(
        (found["trial"].values[place].item(), found["sample"].values[place].item())
        if word == "presentation"
        else found[word].values.tolist()[place]
        for word, place in zip(along, at, strict=True)
    )


def histogram_of(bits: np.ndarray, edges: list[Fraction]) -> list[int]:
    rates = [Fraction(int(count), len(bits)) for count in bits.sum(axis=0)]
    pairs = [*itertools.pairwise(edges)]
    return [sum(low <= rate < high or (rate == high == edges[-1]) for rate in rates) for low, high in pairs]


def synchrony_of(bits: np.ndarray) -> float:
    single = bits.var(axis=0).mean()
    return bits.mean(axis=1).var() / single if single else np.nan


@pytest.mark.filterwarnings("ignore::recorder.format.errors.LostFramesWarning")
@given(plan=plans(), window=st.sampled_from([1, 3, 20]), data=st.data())
@settings(
    max_examples=8, phases=[Phase.generate], deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
def test_figures_of_any_groups_equal_those_of_plain_numpy(
    tmp_path_factory: pytest.TempPathFactory, plan: dict[str, Any], window: int, data: st.DataObject
) -> None:
    example = make_example(tmp_path_factory.mktemp("run") / "run.zarr", plan)
    layer = analysis.open_recording(example.path)[data.draw(st.sampled_from([*example.layers]))]
    if data.draw(st.booleans(), "select"):
        layer = layer.select(samples=data.draw(st.sampled_from([slice(1, None, 2), 0, slice(0, 5)])))
        layer = layer.select(neurons=tuple(slice(0, None, 2) for _ in layer.neuron_shape) or None)
    spikes = layer.spikes.compute()
    in_trials = (spikes["trial"].values >= 0).any()
    there = [
        word
        for word in WORDS
        if (word in spikes.coords or word in ("window", "presentation"))
        and (word != "presentation" or in_trials)
    ]
    along = data.draw(st.lists(st.sampled_from(there), max_size=2, unique=True))
    if {"step", "window"} <= {*along} or ("presentation" in along and {"trial", "sample"} & {*along}):
        along = along[:1]
    options: dict[str, Any] = {"window": window} if "window" in along else {}
    edges = [Fraction(place, 7) for place in range(8)]
    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="synchronous"):
        patch.setattr(planning, "SMALL_TASK_BYTES", data.draw(st.sampled_from([40, 700, 2**24])))
        patch.setattr(planning, "MANY_TASKS", 10**9)
        patch.setattr(populations, "RESULT_BLOCK_BYTES", data.draw(st.sampled_from([64, 2000, 2**20])))
        patch.setattr(counting, "SLICE_FRAMES", data.draw(st.sampled_from([64, 192, 2**18])))
        asked = (
            layer.rate_histogram(7, along, **options),
            layer.active_histogram(along, **options),
            layer.synchrony(along, **options),
        )
        assert [one.dtype for one in asked] == [np.int64, np.int64, np.float64]
        assert all(map(dask.is_dask_collection, asked))
        rates, active, synchrony = dask.compute(*asked)
    groups = groups_of(spikes, along, window)
    assert synchrony.dims == tuple(along)
    assert rates.dims == (*along, "rate_bin")
    assert active.dims == (*along, "active")
    assert active.active.values.tolist() == [*range(layer.neurons + 1)]
    for at in np.ndindex(*synchrony.shape):
        bits = groups.pop(key_at(synchrony, along, at), np.zeros((0, layer.neurons), np.bool_))
        wanted = np.bincount(bits.sum(axis=1), minlength=layer.neurons + 1)
        np.testing.assert_array_equal(active.values[at], wanted)
        np.testing.assert_array_equal(rates.values[at], histogram_of(bits, edges) if len(bits) else [0] * 7)
        figure = synchrony_of(bits) if len(bits) else np.nan
        np.testing.assert_allclose(synchrony.values[at], figure, rtol=1e-9, atol=1e-12)
    assert not groups, "groups that have frames are left out"


@pytest.fixture
def recording(path: Path) -> analysis.Recording:
    return analysis.open_recording(path)


def test_layers_are_kept_apart_or_their_neurons_counted_together(
    recording: analysis.Recording, layers: dict[str, np.ndarray]
) -> None:
    flat = [spikes.reshape(400, -1) for spikes in layers.values()]
    apart = recording.rate_histogram(20, "layer").compute()
    for found, bits in zip(apart, flat, strict=True):
        assert found.values.tolist() == histogram_of(bits, [Fraction(n, 20) for n in range(21)])
    np.testing.assert_array_equal(recording.rate_histogram(20), apart.sum("layer"))
    synchrony = recording.synchrony()
    assert synchrony.dims == ("layer",)
    np.testing.assert_allclose(synchrony, [*map(synchrony_of, flat)])
    active = recording.active_histogram().compute()
    assert active.sizes == {"layer": 2, "active": 61}
    assert active.sel(layer="features.3").values.tolist() == [*np.bincount(flat[1].sum(axis=1), minlength=61)]
    assert recording["1"].synchrony().layer == "1"
    assert recording.select(layers="1").synchrony("network").shape == ()
    per_step = recording.synchrony(("step", "layer")).compute()
    assert per_step.dims == ("layer", "step")
    np.testing.assert_allclose(per_step.sel(layer="1", step=2), synchrony_of(flat[0][16:24]))


def test_recordings_are_pooled_or_kept_apart(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    each = [random.random((steps * 2, 5)) < rate for steps, rate in ((9, 0.1), (30, 0.6))]
    for place, bits in enumerate(each):
        write_recording(
            tmp_path / str(place), {"1": bits}, [Run(0, len(bits) // 2, 2, 0)], [Trial(0, 2)], chunk_bytes=8
        )
    layer = analysis.open_recording([tmp_path / "0", tmp_path / "1"])["1"]
    together = np.concatenate(each)
    np.testing.assert_allclose(layer.synchrony(), synchrony_of(together))
    np.testing.assert_allclose(layer.synchrony("recording"), [*map(synchrony_of, each)])
    thirds = [Fraction(n, 3) for n in range(4)]
    assert layer.rate_histogram(3).values.tolist() == histogram_of(together, thirds)
    presented = layer.rate_histogram(3, "presentation").compute()
    wanted = [histogram_of(bits[sample::2], thirds) for bits in each for sample in (0, 1)]
    assert presented.values.tolist() == wanted
    assert presented.recording.values.tolist() == ["0", "0", "1", "1"]
    np.testing.assert_array_equal(layer.active_histogram(), np.bincount(together.sum(axis=1), minlength=6))


@pytest.mark.filterwarnings("ignore:The 'copy' argument in Quantity")  # elephant, to quantities
@pytest.mark.filterwarnings("ignore:'complexity_pdf' is deprecated")
@pytest.mark.filterwarnings("ignore:No sampling rate specified")
def test_shares_of_active_neurons_equal_the_complexity_of_elephant(tmp_path: Path) -> None:
    bits = np.random.default_rng(6).random((200, 7)) < 0.3
    write_recording(tmp_path / "a", {"1": bits}, [Run(0, 200, 1)])
    found = analysis.open_recording(tmp_path / "a")["1"].active_histogram().compute()
    trains = [neo.SpikeTrain(np.flatnonzero(train) * pq.ms, t_stop=200 * pq.ms) for train in bits.T]
    wanted = complexity_pdf(trains, bin_size=1 * pq.ms).magnitude.ravel()
    np.testing.assert_allclose((found / found.sum()).values[: len(wanted)], wanted)
    assert found.values[len(wanted) :].sum() == 0


def test_neurons_that_fire_always_together_or_never_vary(tmp_path: Path) -> None:
    same = np.repeat(np.random.default_rng(7).random((50, 1)) < 0.4, 6, axis=1)
    turns = np.arange(48)[:, None] % 6 == np.arange(6)
    layers = {"same": same[:48], "turns": turns, "all": turns | True, "none": turns & False}
    write_recording(tmp_path / "a", layers, [Run(0, 48, 1)])
    recording = analysis.open_recording(tmp_path / "a")
    np.testing.assert_array_equal(recording.synchrony(), [1, 0, np.nan, np.nan])
    rates = recording.rate_histogram([0, 0.5, 1], "layer").sel(layer=["all", "none"])
    assert rates.values.tolist() == [[0, 6], [6, 0]]


@pytest.mark.parametrize(
    ("bins", "edges"),
    [
        (10, [Fraction(n, 10) for n in range(11)]),
        ([0, 0.1, 0.3, 0.9], [Fraction(n, 10) for n in (0, 1, 3, 9)]),
        (np.array([0.2, 0.1 * 3, 0.7]), [Fraction(n, 10) for n in (2, 3, 7)]),
        ([Fraction(1, 3), 1], [Fraction(1, 3), Fraction(1)]),
        (np.int64(1), [Fraction(0), Fraction(1)]),
        ([0, 1 / 3, 0.95], [Fraction(0), Fraction(1, 3), Fraction(19, 20)]),
    ],
)
def test_rates_at_an_edge_are_in_the_bin_that_begins_there(
    tmp_path: Path, bins: Any, edges: list[Fraction]
) -> None:
    bits = np.arange(10)[:, None] < np.arange(11)
    write_recording(tmp_path / "a", {"1": bits}, [Run(0, 10, 1)])
    found = analysis.open_recording(tmp_path / "a")["1"].rate_histogram(bins).compute()
    assert found.values.tolist() == histogram_of(bits, edges)
    assert found.rate_bin.values.tolist() == [float(edge) for edge in edges[:-1]]
    assert found.rate_bin_end.values.tolist() == [float(edge) for edge in edges[1:]]


def test_shares_of_very_many_frames_do_not_overflow() -> None:
    share = Fraction(2**26 - 1, 2**26)
    frames = 2**60
    spikes = [2**60 - 2**34 - 1, 2**60 - 2**34, 2**60 - 2**34 + 1, 2**60]
    bins = RateBins((Fraction(0), share, Fraction(1)))
    assert bins.count(np.array([frames, *spikes])).tolist() == [1, 3]
    assert RateBins((Fraction(0), share)).count(np.array([frames, *spikes])).tolist() == [2]


def test_questions_that_make_no_sense_are_refused(
    recording: analysis.Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in (0, 10_001, [0.1], [0.5, 0.1], [0, 0], [-0.1, 1], [0, 1.5], [0, np.nan]):
        with pytest.raises(analysis.QuestionError, match=r"bins=.*; expected"):
            recording.rate_histogram(wrong)
    for wrong in ("auto", True, 2.5, None, [0, "1"], [0, True]):
        with pytest.raises(TypeError, match=r"bins is .*; expected"):
            recording.rate_histogram(wrong)
    for word in ("neuron", "channel"):
        for statistic in ("rate_histogram", "synchrony", "active_histogram"):
            with pytest.raises(analysis.QuestionError, match=f"all neurons of a layer.*leave '{word}' out"):
                getattr(recording["1"], statistic)(per=("step", word))
    for per in ("network", "step", ("label", "time")):
        with pytest.raises(analysis.QuestionError, match=r"synchrony is about .* keep them apart with per="):
            recording.synchrony(per)
    monkeypatch.setattr(populations, "MAX_BLOCK_BYTES", 60 * 8)
    with pytest.raises(analysis.QuestionError, match="needs 50 × 61 numbers"):
        recording["1"].active_histogram("step")
