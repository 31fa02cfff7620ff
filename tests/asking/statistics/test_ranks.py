"""Ranks of one run share steps and trials: answers are those of plain numpy on the frames of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import mutual_info_score

import analysis
from analysis.asking import planning
from recorder.stores.rank_names import RankRecord, rank_location
from tapes import Run, Trial, write_recording

NEURONS = 7
# The last rank has other batches, no third trial and no labels.
BATCHES = (4, 3, 5)
LABELS: tuple[Any, ...] = ([2, 0, 2, 7], [7, 0, 2], None)
STARTS = {0: 0, 1: 11, 2: 25}
# Trial 1 has a gap behind its sixth step; two steps are in no trial.
TRIALS = {0: [*range(9)], -1: [9, 10], 1: [*range(11, 17), *range(20, 25)], 2: [*range(25, 32)]}
# Steps from which on all presentations have equally many frames.
EQUAL = 6


def trials_of(rank: int) -> dict[int, list[int]]:
    return {trial: steps for trial, steps in TRIALS.items() if rank < 2 or trial != 2}


def spikes_of(rank: int) -> np.ndarray:
    """Bool [steps, samples, neurons], of steps in their order; neuron 6 fires in the first rank alone."""
    steps = sum(map(len, trials_of(rank).values()))
    rates = np.linspace(0.15, 0.7, NEURONS)
    spikes = np.random.default_rng(rank).random((steps, BATCHES[rank], NEURONS)) < rates
    spikes[..., 6] &= rank == 0
    return spikes


@dataclass(frozen=True)
class Presentation:
    """What happened in one sample of one trial of one rank."""

    rank: int
    trial: int
    sample: int
    label: Any
    times: np.ndarray
    bits: np.ndarray

    @property
    def sequences(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Times and bits of steps that follow each other."""
        cuts = np.flatnonzero(np.diff(self.times) > 1) + 1
        return [*zip(np.split(self.times, cuts), np.split(self.bits, cuts), strict=True)]

    def cut(self, last: int) -> Presentation:
        kept = self.times < last
        return Presentation(self.rank, self.trial, self.sample, self.label, self.times[kept], self.bits[kept])


def presentations() -> list[Presentation]:
    found = []
    for rank, batch in enumerate(BATCHES):
        first, spikes = 0, spikes_of(rank)
        for trial, steps in trials_of(rank).items():
            bits, first = spikes[first : first + len(steps)], first + len(steps)
            for sample in range(batch if trial >= 0 else 0):
                label = None if LABELS[rank] is None else LABELS[rank][sample]
                times = np.array(steps) - STARTS[trial]
                found.append(Presentation(rank, trial, sample, label, times, bits[:, sample]))
    return found


EVERY = presentations()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run.zarr"
    for rank, batch in enumerate(BATCHES):
        runs = []
        for trial, steps in trials_of(rank).items():
            for some in np.split(steps, np.flatnonzero(np.diff(steps) > 1) + 1):
                runs += [Run(int(some[0]), len(some), batch, trial)]
        labels = LABELS[rank]
        trials = [
            Trial(trial, batch, {"label": labels} if labels else {})
            for trial in trials_of(rank)
            if trial >= 0
        ]
        write_recording(
            rank_location(str(path), rank, len(BATCHES)),
            {"1": spikes_of(rank).reshape(-1, NEURONS)},
            runs,
            trials,
            provenance=RankRecord("a", rank, len(BATCHES)).to_provenance(),
            chunk_bytes=1,
        )
    return path


@pytest.fixture(params=[40, 2**24], ids=["many tasks", "few tasks"])
def layer(run: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(planning, "SMALL_TASK_BYTES", request.param)
    monkeypatch.setattr(planning, "MANY_TASKS", 10**9)
    with dask.config.set(scheduler="synchronous"):
        recording = analysis.open_recording(run)
        assert recording.members.share_steps
        yield recording["1"]


WORDS = [(), ("trial",), ("label",), ("sample",), ("recording",), ("recording", "label"), ("label", "trial")]


def groups_of(along: Sequence[str], every: Sequence[Presentation]) -> dict[tuple[Any, ...], Any]:
    found: dict[tuple[Any, ...], list[Presentation]] = {}
    for each in every:
        name = rank_location("run.zarr", each.rank, len(BATCHES))
        key = tuple(name if word == "recording" else getattr(each, word) for word in along)
        if None not in key:
            found.setdefault(key, []).append(each)
    return found


def check(
    found: xr.DataArray, along: Sequence[str], every: Sequence[Presentation], figure: Callable[..., Any]
) -> None:
    """Compare each group of an answer; those that nobody is in have NaN, or 0 where there are counts."""
    assert dask.is_dask_collection(found)
    assert found.dims[: len(along)] == tuple(along)
    found = found.compute()
    groups = groups_of(along, every)
    for at in np.ndindex(*found.shape[: len(along)]):
        key = tuple(found[word].values.tolist()[place] for word, place in zip(along, at, strict=True))
        wanted = figure(groups.pop(key, []))
        np.testing.assert_allclose(found.values[at], wanted, rtol=1e-10, atol=1e-12, err_msg=str(key))
    assert not groups, "groups that have presentations are left out"


def intervals_of(some: Sequence[Presentation], neuron: int | None = None) -> list[list[int]]:
    """Intervals of each neuron in each sequence."""
    found = []
    for each in some:
        for times, bits in each.sequences:
            for column in range(NEURONS) if neuron is None else [neuron]:
                found += [np.diff(times[bits[:, column]]).tolist()]
    return found


def pooled(some: Sequence[Presentation], neuron: int | None = None) -> np.ndarray:
    return np.array([length for lengths in intervals_of(some, neuron) for length in lengths], float)


def pairs_of(some: Sequence[Presentation]) -> np.ndarray:
    each = map(pairwise, intervals_of(some))
    return np.array([pair for pairs in each for pair in pairs], float).reshape(-1, 2).T


def mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else np.nan


@pytest.mark.parametrize("along", WORDS, ids="-".join)
def test_intervals_are_those_of_all_ranks(layer: Any, along: tuple[str, ...]) -> None:
    check(layer.isi_mean(along), along, EVERY, lambda some: mean(pooled(some)))
    check(layer.isi_mean(along).defined, along, EVERY, lambda some: len(pooled(some)))

    def cv(some: Sequence[Presentation]) -> float:
        lengths = pooled(some)
        return float(lengths.std() / lengths.mean()) if len(lengths) > 1 else np.nan

    check(layer.isi_cv(along), along, EVERY, cv)
    check(
        layer.isi_mean((*along, "neuron")),
        along,
        EVERY,
        lambda some: [mean(pooled(some, neuron)) for neuron in range(NEURONS)],
    )
    check(
        layer.isi_histogram(along, longest=4),
        along,
        EVERY,
        lambda some: [np.count_nonzero(pooled(some) == length) for length in range(1, 5)],
    )

    def cv2(some: Sequence[Presentation]) -> float:
        one, other = pairs_of(some)
        return mean(2 * abs(one - other) / (one + other))

    def lv(some: Sequence[Presentation]) -> float:
        one, other = pairs_of(some)
        return mean(3 * ((one - other) / (one + other)) ** 2)

    check(layer.isi_cv2(along), along, EVERY, cv2)
    check(layer.isi_lv(along), along, EVERY, lv)


@pytest.mark.parametrize("along", WORDS, ids="-".join)
def test_latencies_are_those_of_all_ranks(layer: Any, along: tuple[str, ...]) -> None:
    def firsts(some: Sequence[Presentation]) -> list[Any]:
        """Time of the first event of each neuron before a break, None without one."""
        found: list[Any] = []
        for each in some:
            times, bits = each.sequences[0]
            found += [times[column][0] if column.any() else None for column in bits.T]
        return found

    check(layer.latency(along), along, EVERY, lambda some: mean([t for t in firsts(some) if t is not None]))
    check(layer.latency_censored(along), along, EVERY, lambda some: firsts(some).count(None))


@pytest.mark.parametrize("along", WORDS, ids="-".join)
def test_autocorrelations_are_those_of_all_ranks(layer: Any, along: tuple[str, ...]) -> None:
    def at_lags(some: Sequence[Presentation]) -> list[float]:
        found = []
        for lag in (1, 2, 3):
            bits = [bits for each in some for _, bits in each.sequences]
            one, other = (
                np.concatenate([part.ravel() for part in parts] or [np.zeros(0)])
                for parts in ([each[:-lag] for each in bits], [each[lag:] for each in bits])
            )
            found.append(np.corrcoef(one, other)[0, 1] if one.size and one.std() and other.std() else np.nan)
        return found

    check(layer.autocorrelation(3, along), along, EVERY, at_lags)


def test_populations_are_those_of_all_ranks_at_a_step(layer: Any) -> None:
    frames: dict[int, list[np.ndarray]] = {}
    for rank in range(len(BATCHES)):
        steps = [step for steps in trials_of(rank).values() for step in steps]
        for step, bits in zip(sorted(steps), spikes_of(rank), strict=True):
            frames.setdefault(step, []).append(bits)
    asked = layer.synchrony("step"), layer.active_histogram("step"), layer.rate_histogram(5, "step")
    synchrony, active, rates = dask.compute(*asked)
    assert synchrony.step.values.tolist() == sorted(frames)
    for step, of_ranks in frames.items():
        bits = np.concatenate(of_ranks)
        np.testing.assert_array_equal(
            active.sel(step=step), np.bincount(bits.sum(axis=1), minlength=NEURONS + 1)
        )
        wanted = bits.mean(axis=1).var() / bits.var(axis=0).mean()
        np.testing.assert_allclose(synchrony.sel(step=step), wanted, rtol=1e-10)
        # In fifths, of counts, as floats would put 3 / 5 into the bin before.
        bins = np.minimum(bits.sum(axis=0) * 5 // len(bits), 4)
        np.testing.assert_array_equal(rates.sel(step=step), np.bincount(bins, minlength=5))


def counts_of(some: Sequence[Presentation]) -> np.ndarray:
    return np.array([each.bits.sum(axis=0) for each in some], np.int64).reshape(-1, NEURONS)


def by_label(some: Sequence[Presentation]) -> list[list[Presentation]]:
    labels = sorted({each.label for each in some if each.label is not None})
    return [[each for each in some if each.label == label] for label in labels]


def mean_defined(values: Any) -> float:
    values = np.asarray(values, float)
    return mean(values[~np.isnan(values)])


def fano(some: Sequence[Presentation]) -> float:
    found = np.full((0, NEURONS), np.nan)
    for of_label in by_label(some):
        counts = counts_of(of_label)
        if len(counts) > 1:
            means = np.where(counts.any(axis=0), counts.mean(axis=0), np.nan)
            found = np.vstack([found, counts.var(axis=0) / means])
    return mean_defined([mean_defined(column) for column in found.T])


def selectivity(some: Sequence[Presentation]) -> float:
    rates = np.array(
        [counts_of(each).sum(axis=0) / sum(len(one.bits) for one in each) for each in by_label(some)]
    )
    if len(rates) < 2:
        return np.nan
    most = rates.max(axis=0)
    rest = (rates.sum(axis=0) - most) / (len(rates) - 1)
    total = most + rest
    return mean_defined((most - rest) / np.where(total > 0, total, np.nan))


def information(some: Sequence[Presentation]) -> float:
    known = [each for each in some if each.label is not None]
    labels, counts = [each.label for each in known], counts_of(known)
    return mean([mutual_info_score(labels, column) / np.log(2) for column in counts.T] if known else [])


def sparseness(some: Sequence[Presentation]) -> float:
    counts = counts_of(some).astype(float)
    squares = np.square(counts).mean(axis=1)
    return mean_defined(counts.mean(axis=1) ** 2 / np.where(squares > 0, squares, np.nan))


def participation(some: Sequence[Presentation]) -> float:
    if len(some) < 2:
        return np.nan
    covariance = np.cov(counts_of(some).T)
    return float(np.trace(covariance) ** 2 / np.trace(covariance @ covariance))


@pytest.mark.parametrize("along", WORDS, ids="-".join)
def test_presentations_are_those_of_all_ranks(layer: Any, along: tuple[str, ...]) -> None:
    equal = [each.cut(EQUAL) for each in EVERY]
    at_first = layer.select(time=slice(0, EQUAL))
    labelled = "label" in along
    for name, figure in (
        ("fano_factor", fano),
        ("participation_ratio", participation),
        ("information", information),
    ):
        if not (labelled and name == "information"):
            check(getattr(at_first, name)(along), along, equal, figure)
    if not labelled:
        check(layer.selectivity(along), along, EVERY, selectivity)
    check(layer.sparseness(along), along, EVERY, sparseness)


def test_presentations_of_other_lengths_are_not_compared(layer: Any) -> None:
    for ask in (layer.fano_factor, partial(layer.sparseness, over="presentations")):
        with pytest.raises(analysis.QuestionError, match="some have 7 frames and some 11"):
            ask()


def test_correlations_are_those_of_all_ranks(layer: Any) -> None:
    bins = [
        bits[: len(bits) // 2 * 2].reshape(-1, 2, NEURONS).sum(axis=1)
        for each in EVERY
        for _, bits in each.sequences
    ]
    found = layer.correlation(window=2).compute()
    np.testing.assert_allclose(found, np.corrcoef(np.concatenate(bins).T), rtol=1e-10, atol=1e-12)
    assert int(found.defined) == sum(map(len, bins))


def test_a_presentation_is_of_one_rank(layer: Any) -> None:
    found = layer.features().compute()
    ordered = sorted(EVERY, key=lambda each: (each.rank, each.trial, each.sample))
    np.testing.assert_array_equal(found.values, counts_of(ordered))
    assert found.trial.values.tolist() == [each.trial for each in ordered]
    latency = layer.latency("presentation")
    assert latency.sizes["presentation"] == len(ordered)
    assert latency.recording.values[-1].startswith("run.rank-00002")
