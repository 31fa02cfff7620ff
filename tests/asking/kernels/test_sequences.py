"""Intervals, latencies and autocorrelations equal those of every sequence, looked at one by one."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import analysis
from analysis.asking import graphs, planning, tallies
from analysis.kernels import sequence_tasks
from analysis.kernels.counting import tasks as counting
from analysis.kernels.events import by_group as events
from analysis.kernels.events import by_words, plain_loops
from analysis.kernels.events.interval_tally import IntervalTally
from made_recordings import Example, make_example, plans
from slots import Slots, keys_of
from tapes import Run, Trial, write_recording

CONSTANT_WORDS = ("trial", "sample", "presentation", "label", "epoch")
WORDS = (*CONSTANT_WORDS, "step", "window", "time")
LONGEST = 3
LAGS = 4


def sequences_of(slots: Slots, boundary: Any) -> Iterator[list[int]]:
    """Frames of every sequence: steps of a sample that follow each other, in one trial."""
    lanes = defaultdict(list)
    for frame, (trial, sample) in enumerate(zip(slots.places["trial"], slots.places["sample"], strict=True)):
        if trial is not None or boundary is not None:
            lanes[trial, sample].append(frame)
    steps = slots.places["step"]
    for (trial, _), frames in lanes.items():
        sequence: list[int] = []
        for frame in frames:
            begins = trial is None and boundary != "none" and steps[frame] % (boundary or 1) == 0
            if sequence and (steps[frame] != steps[sequence[-1]] + 1 or begins):
                yield sequence
                sequence = []
            sequence.append(frame)
        yield sequence


class Oracle:
    """What is found in sequences, by group and place."""

    def __init__(self, slots: Slots, along: Sequence[str], place: str, boundary: Any) -> None:
        self.slots, self.along, self.place = slots, along, place
        self.shape = slots.bits.shape[1:]
        self.flat = slots.bits.reshape(len(slots.bits), math.prod(self.shape))
        self.sequences = list(sequences_of(slots, boundary))
        self.boundary = boundary

    def key(self, frame: int, neuron: int) -> tuple[Any, ...] | None:
        group = tuple(self.slots.places[word][frame] for word in self.along)
        if None in group:
            return None
        at = np.unravel_index(neuron, self.shape) if self.shape else ()
        kept = {"all": 0, "channel": 1, "neuron": len(self.shape)}[self.place]
        return group, tuple(int(index) for index in at[:kept])

    def events(self) -> Iterator[tuple[list[int], int, list[int]]]:
        for sequence in self.sequences:
            for neuron in range(self.flat.shape[1]):
                yield sequence, neuron, [frame for frame in sequence if self.flat[frame, neuron]]

    def intervals(self) -> tuple[dict[Any, list[int]], dict[Any, list[tuple[int, int]]]]:
        single, pairs = defaultdict(list), defaultdict(list)
        steps = self.slots.places["step"]
        for _, neuron, fired in self.events():
            lengths = np.diff([steps[frame] for frame in fired]).tolist()
            for place, length in enumerate(lengths):
                single[self.key(fired[place + 1], neuron)].append(length)
                if place:
                    pairs[self.key(fired[place + 1], neuron)].append((lengths[place - 1], length))
        return single, pairs

    def latencies(self, starts: dict[Any, int], raw_first: dict[Any, int]) -> tuple[Any, Any]:
        """Latencies and numbers of silent presentations."""
        found, censored = defaultdict(list), defaultdict(int)
        steps, trials = self.slots.places["step"], self.slots.places["trial"]
        for sequence, neuron, fired in self.events():
            first, trial = steps[sequence[0]], trials[sequence[0]]
            counts = first == raw_first.get(trial)
            start = starts.get(trial, first)
            if trial is None and self.boundary != "none":
                counts |= first % self.boundary == 0
            key = self.key(sequence[0], neuron)
            if counts and fired:
                found[key].append(steps[fired[0]] - start)
            elif counts:
                censored[key] += 1
        return found, censored

    def lags(self, lag: int) -> dict[Any, list[tuple[bool, bool]]]:
        found = defaultdict(list)
        for sequence in self.sequences:
            for neuron in range(self.flat.shape[1]):
                key = self.key(sequence[0], neuron)
                bits = self.flat[sequence, neuron].tolist()
                found[key] += [*zip(bits[:-lag], bits[lag:], strict=True)]
        return found


def cells(found: xr.DataArray, along: Sequence[str]) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """Key of every cell of an answer, and where it is."""
    for key, at in keys_of(found, along):
        for place in np.ndindex(*found.shape[len(along) :]):
            yield (key, place), (*at, *place)


def check(found: xr.DataArray, wanted: dict[Any, float], along: Sequence[str], empty: float) -> None:
    assert dask.is_dask_collection(found)
    values = found.compute()
    wanted = {key: value for key, value in wanted.items() if key is not None}
    for key, at in cells(values, along):
        expected = wanted.pop(key, empty)
        np.testing.assert_allclose(values.values[at], expected, rtol=1e-12, atol=1e-13, err_msg=str(key))
    assert not wanted, "groups are left out"


def cv(intervals: list[int]) -> float:
    return float(np.std(intervals) / np.mean(intervals)) if len(intervals) > 1 else np.nan


def pearson(pairs: list[tuple[bool, bool]]) -> float:
    one, other = np.array(pairs, float).T
    if one.std() == 0 or other.std() == 0:
        return np.nan
    return float(np.corrcoef(one, other)[0, 1])


@pytest.mark.filterwarnings("ignore::recorder.format.errors.LostFramesWarning")
@pytest.mark.parametrize("compiled", [True, False])
@given(plan=plans(most_steps=16, most_neurons=9), window=st.sampled_from([1, 3, 20]), data=st.data())
@settings(
    max_examples=15,
    phases=[Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_sequences_are_looked_at_one_by_one(
    tmp_path_factory: pytest.TempPathFactory,
    compiled: bool,
    plan: dict[str, Any],
    window: int,
    data: st.DataObject,
) -> None:
    example = make_example(tmp_path_factory.mktemp("run") / "run.zarr", plan)
    layer = analysis.open_recording(example.path)[data.draw(st.sampled_from([*example.layers]))]
    boundary = data.draw(st.sampled_from([None, "none", 1, 4]))
    starts, raw_first = first_steps(example, layer.name)
    slots = Slots(layer, starts, window)
    if boundary is None and not any(trial is not None for trial in slots.places["trial"]):
        if len(slots.bits):
            with pytest.raises(analysis.QuestionError, match='pass boundary="none" if'):
                layer.isi_cv()
        return
    there = [word for word in CONSTANT_WORDS if word in slots.places]
    if not any(trial is not None for trial in slots.places["trial"]):
        there = ["sample"]
    constant = data.draw(st.lists(st.sampled_from(there), max_size=2, unique=True))
    if "presentation" in constant:
        constant = ["presentation"]
    changing = data.draw(st.sampled_from([(), ("step",), ("window",)]))
    along = [*constant, *changing]
    place = data.draw(
        st.sampled_from(["all", "channel", "neuron"] if len(layer.dimensions) > 1 else ["all", "neuron"])
    )
    per = [*along, *([place] if place != "all" else [])]
    per_constant = [word for word in per if word not in changing]
    options: dict[str, Any] = {"boundary": boundary} | ({"window": window} if "window" in along else {})
    oracle, constant_oracle = (Oracle(slots, words, place, boundary) for words in (along, constant))
    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="synchronous"):
        cut_small(patch, data, compiled)
        single, pairs = oracle.intervals()
        check(layer.isi_mean(per, **options), {k: np.mean(v) for k, v in single.items()}, along, np.nan)
        found = layer.isi_cv(per, **options)
        check(found, {k: cv(v) for k, v in single.items()}, along, np.nan)
        check(found.defined, {k: len(v) for k, v in single.items()}, along, 0)
        histogram = layer.isi_histogram(per, longest=LONGEST, **options)
        for length in range(1, LONGEST + 1):
            number = {k: v.count(length) for k, v in single.items()}
            check(histogram.sel(interval=length), number, along, 0)
        longer = {k: sum(length > LONGEST for length in v) for k, v in single.items()}
        check(histogram.longer, longer, along, 0)
        cv2 = {k: np.mean([2 * abs(a - b) / (a + b) for a, b in v]) for k, v in pairs.items()}
        check(layer.isi_cv2(per, **options), cv2, along, np.nan)
        lv = {k: np.mean([3 * ((a - b) / (a + b)) ** 2 for a, b in v]) for k, v in pairs.items()}
        check(layer.isi_lv(per, **options), lv, along, np.nan)
        check_latencies(layer, oracle, per, options, starts, raw_first)
        correlation = layer.autocorrelation(LAGS, per_constant, boundary=boundary)
        for lag in range(1, LAGS + 1):
            of_lag = {k: v for k, v in constant_oracle.lags(lag).items() if v}
            at_lag = correlation.sel(lag=lag)
            check(at_lag, {k: pearson(v) for k, v in of_lag.items()}, constant, np.nan)
            check(at_lag.defined, {k: len(v) for k, v in of_lag.items()}, constant, 0)


def cut_small(patch: pytest.MonkeyPatch, data: st.DataObject, compiled: bool) -> None:
    """Small tasks, blocks and slices, in one of the loops."""
    patch.setattr(events, "_LOOPS", None if compiled else plain_loops)
    patch.setattr(sequence_tasks, "KEPT_BYTES", data.draw(st.sampled_from([0, 16, 2**24])))
    # Where words take no time, pieces are looked at by words, however small.
    patch.setattr(by_words, "_TAKEN_NS", work := data.draw(st.sampled_from([0.0, 1.0])))
    patch.setattr(by_words, "_COMPARED_NS", work)
    patch.setattr(by_words, "_BEGUN_NS", work)
    patch.setattr(planning, "SMALL_TASK_BYTES", data.draw(st.sampled_from([8, 40, 2**24])))
    patch.setattr(planning, "MANY_TASKS", 10**9)
    patch.setattr(tallies, "RESULT_BLOCK_BYTES", data.draw(st.sampled_from([64, 2**20])))
    patch.setattr(tallies, "MAX_LANES", data.draw(st.sampled_from([100, 2**20])))
    patch.setattr(graphs, "_FAN_IN", 2)
    patch.setattr(counting, "SLICE_FRAMES", data.draw(st.sampled_from([64, 2**18])))


def check_latencies(layer: Any, oracle: Oracle, per: Any, options: Any, starts: Any, raw_first: Any) -> None:
    try:
        found, silent = layer.latency(per, **options), layer.latency_censored(per, **options)
    except analysis.QuestionError as error:
        assert "the batch grows" in str(error)  # noqa: PT017 - checked below
        return
    latencies, censored = oracle.latencies(starts, raw_first)
    check(found, {k: np.mean(v) for k, v in latencies.items()}, oracle.along, np.nan)
    check(found.defined, {k: len(v) for k, v in latencies.items()}, oracle.along, 0)
    check(silent, dict(censored), oracle.along, 0)


def first_steps(example: Example, name: str) -> tuple[dict[Any, int], dict[Any, int]]:
    """First step of each trial in any layer; and these with the first outside of trials, in this one."""
    starts: dict[Any, int] = {}
    for run in itertools.chain.from_iterable(example.runs.values()):
        starts[run.trial] = min(starts.get(run.trial, run.first_step), run.first_step)
    starts.pop(-1, None)
    outside = [run.first_step for run in example.runs[name] if run.trial < 0]
    return starts, {**starts, None: min(outside, default=-1)}


def cut_presentations(folder: Path) -> tuple[analysis.Layer, np.ndarray]:
    """A layer of 4 presentations of 100 frames in chunks of 64, and its lanes, bool [4, 60, 5]."""
    spikes = np.random.default_rng(0).random((4 * 100, 3)) < 0.5
    runs = [Run(5 * trial, 5, 20, trial) for trial in range(4)]
    trials = [Trial(trial, 20, {"label": [0] * 20}) for trial in range(4)]
    write_recording(folder / "run.zarr", {"1": spikes}, runs, trials, chunk_bytes=24)
    lanes = spikes.reshape(4, 5, 20, 3).transpose(0, 2, 3, 1).reshape(4, -1, 5)
    return analysis.open_recording(folder / "run.zarr")["1"], lanes


def histogram(lanes: np.ndarray) -> list[int]:
    intervals = np.concatenate([np.diff(np.flatnonzero(lane)) for lane in lanes.reshape(-1, 5)])
    found: list[int] = np.bincount(intervals, minlength=5)[1:].tolist()
    return found


@pytest.mark.parametrize(("kept_bytes", "whole"), [(38, True), (36, False)])
def test_presentations_that_chunks_cut_reach_the_loops_whole_unless_they_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_bytes: int, whole: bool
) -> None:
    layer, lanes = cut_presentations(tmp_path)
    monkeypatch.setattr(sequence_tasks, "KEPT_BYTES", kept_bytes)
    added: list[int] = []
    add = IntervalTally.add

    def seen(tally: IntervalTally, trains: Any, pieces: Any) -> None:
        added.extend((pieces.end - pieces.begin).tolist())
        add(tally, trains, pieces)

    monkeypatch.setattr(IntervalTally, "add", seen)
    found = layer.isi_histogram(longest=4).compute(scheduler="synchronous")
    assert sum(added) == 400
    assert (added == [100] * 4) == whole
    assert found.values.tolist() == histogram(lanes)


@pytest.mark.parametrize("task_bytes", [24, 48, 72, 96, 2**24])
@pytest.mark.parametrize("trials", [[0, 1, 2, 3], [0, 3]])
def test_frames_that_wait_are_looked_at_also_if_nothing_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trials: list[int], task_bytes: int
) -> None:
    layer, lanes = cut_presentations(tmp_path)
    monkeypatch.setattr(planning, "SMALL_TASK_BYTES", task_bytes)
    monkeypatch.setattr(planning, "MANY_TASKS", 10**9)
    monkeypatch.setattr(sequence_tasks, "_unfinished_from", lambda source, sequences, frame, kept: frame - 30)
    found = layer.select(trials=trials).isi_histogram(longest=4).compute(scheduler="synchronous")
    assert found.values.tolist() == histogram(lanes[trials])


def test_a_presentation_whose_first_step_is_missing_has_no_latency(tmp_path: Path) -> None:
    """Layer b is called a step late in trial 0: nobody knows whether its neuron would have fired."""
    spikes = np.zeros((8, 1), np.bool_)
    spikes[[2, 5]] = True
    runs = {"a": [Run(0, 4, 1, 0), Run(4, 4, 1, 1)], "b": [Run(1, 3, 1, 0), Run(4, 4, 1, 1)]}
    layers = {"a": spikes, "b": spikes[1:]}
    write_recording(tmp_path / "run.zarr", layers, runs, [Trial(0, 1), Trial(1, 1)])
    recording = analysis.open_recording(tmp_path / "run.zarr")
    assert recording["a"].latency("trial").values.tolist() == [2, 1]
    late = recording["b"]
    found = late.latency("trial")
    np.testing.assert_array_equal(found, [np.nan, 1])
    assert found.defined.values.tolist() == [0, 1]
    assert late.latency_censored("trial").values.tolist() == [0, 0]
    for part in (late.select(time=slice(1, None)), late.select(steps=slice(1, None))):
        np.testing.assert_array_equal(part.latency("trial"), [2, 1])
    assert late.select(time=slice(2, None)).latency_censored("trial").values.tolist() == [0, 1]
