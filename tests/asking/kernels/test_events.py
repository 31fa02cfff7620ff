"""Events, intervals, latencies and lags in packed trains are those of plain loops over booleans."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.kernels.events import by_group as events
from analysis.kernels.events import by_words, loops, plain_loops, word_loops
from analysis.kernels.events.interval_tally import IntervalTally, join_intervals
from analysis.kernels.events.lag_tally import LagTally
from analysis.kernels.events.latency_tally import LatencyTally, join_latencies
from analysis.kernels.selecting.pieces import Pieces

NEURONS_PER_PLACE, MAX_INTERVAL, BINS = 2, 5, 4
GROUPS = 75  # codes of steps and samples are at most 2, or 72


@pytest.fixture(params=["compiled", "by words", "by events", "plain"])
def in_use(request, monkeypatch):
    monkeypatch.setattr(events, "_LOOPS", plain_loops if request.param == "plain" else loops)
    if request.param.startswith("by"):
        # Words are free, or take for ever.
        work = 0.0 if request.param == "by words" else 1e9
        for name in ("_BEGUN_NS", "_TAKEN_NS", "_COMPARED_NS", "_WRITTEN_NS"):
            monkeypatch.setattr(by_words, name, work)


@dataclass
class Frame:
    step: int
    sample: int
    batch: int
    start: int
    end: int
    step_code: int
    sample_code: int
    offset: int
    counts: bool
    run: int  # frames of one run may be one piece

    @property
    def group(self):
        return self.step_code + self.sample_code if min(self.step_code, self.sample_code) >= 0 else -1


@st.composite
def recordings(draw, constant=None):
    """Frames in order, and a raster [frames, neurons]."""
    frames, step, run = [], 0, 0
    constant = draw(st.booleans()) if constant is None else constant
    for _ in range(draw(st.integers(1, 4))):
        batch = draw(st.sampled_from([1, 2, 3, 5, 8, 64, 70]))
        step += draw(st.integers(0, 3))
        first_of_trial = step
        codes = draw(st.lists(st.integers(-1, 2), min_size=batch, max_size=batch))
        if draw(st.booleans()):  # each sample is in a group of its own
            codes = [code if code < 0 else sample for sample, code in enumerate(codes, 1)]
        step_code = draw(st.integers(-1, 2))
        for part in range(draw(st.integers(1, 2))):  # a gap lies between two parts of a trial
            steps = draw(st.integers(1, 90 if batch < 9 else 12))
            for s in range(step, step + steps):
                code = step_code if constant else draw(st.integers(-1, 2))
                for n in range(batch):
                    args = (step, step + steps, code, codes[n], step - first_of_trial, part == 0, run)
                    frames.append(Frame(s, n, batch, *args))
            step += steps + 1
            run += 1
    neurons = draw(st.sampled_from([1, 3, 4, 33]))
    density = draw(st.sampled_from([0.0, 0.05, 0.3, 0.9, 1.0]))
    raster = np.random.default_rng(draw(st.integers(0, 99))).random((len(frames), neurons)) < density
    return frames, raster


@st.composite
def cuts_of(draw, length):
    """Ascending cuts of a range, its ends included."""
    inner = draw(st.lists(st.integers(0, length), max_size=3))
    return sorted({0, length, *inner})


def pieces_of(frames, begin, end, breaks, shift):
    """Pieces of frames begin to end that lie ``shift`` frames behind the chunk's first."""
    rows, counts = [], []
    step_codes, sample_codes, starts, ends = [], [], [], []
    at = begin
    while at < end:
        first = frames[at]
        stop = at
        while stop < end and frames[stop].run == first.run and (stop == at or stop not in breaks):
            stop += 1
        whole = [f for f in frames if f.run == first.run][: first.batch]
        row = (at - begin + shift, stop - begin + shift, first.step, first.sample, first.batch)
        row += (len(step_codes), len(sample_codes), len(starts), first.offset)
        rows.append(row)
        counts.append(first.counts)
        codes = {f.step: f.step_code for f in frames[at:stop]}
        step_codes += [codes[s] for s in sorted(codes)]
        sample_codes += [f.sample_code for f in whole]
        starts += [f.start for f in whole]
        ends += [f.end for f in whole]
        at = stop
    columns = np.array(rows, np.int64).reshape(-1, 9).T
    tables = (np.array(table, np.int64) for table in (step_codes, sample_codes, starts, ends))
    return Pieces(*columns, np.array(counts, np.bool_), *tables)


def chunk_of(recording, begin, end, breaks, shift=3):
    """Trains and pieces of some frames; bits around them are set, and belong to no piece."""
    frames, raster = recording
    neurons = raster.shape[1]
    length = -(-(shift + end - begin + 2) // 64) * 64
    bits = np.ones((neurons, length), np.bool_)
    bits[:, shift : shift + end - begin] = raster[begin:end].T
    return np.packbits(bits, axis=1), pieces_of(frames, begin, end, breaks, shift)


def chunks_of(data, recording):
    """Chunks of each task."""
    cuts, inner = (data.draw(cuts_of(len(recording[0]))) for _ in range(2))
    shift = data.draw(st.sampled_from([0, 3, 64]))
    breaks = data.draw(st.sets(st.integers(0, len(recording[0])), max_size=3))
    return [
        [chunk_of(recording, x, y, breaks, shift) for x, y in pairwise(edges)]
        for edges in (sorted({a, b, *(c for c in inner if a < c < b)}) for a, b in pairwise(cuts))
    ]


def places_of(raster, data):
    """Places of neurons, and how many there are: of some neurons each, or one of all."""
    neurons = data.draw(st.sampled_from([NEURONS_PER_PLACE, raster.shape[1]]))
    return np.arange(raster.shape[1]) // neurons, -(-raster.shape[1] // neurons)


def rows_of(recording):
    """(frames of a sequence in order, their bits [frames, neurons]), one sequence after the other."""
    frames, raster = recording
    rows = defaultdict(list)
    for row, frame in enumerate(frames):
        rows[frame.run, frame.sample].append(row)
    for row in rows.values():
        yield [frames[r] for r in row], raster[row]


def sequences_of(recording):
    """(neuron, frames of the sequence in order, their bits), one after the other."""
    for frames, rows in rows_of(recording):
        for neuron in range(rows.shape[1]):
            yield neuron, frames, rows[:, neuron]


def folded(results, join, data):
    """Join neighbours in any order."""
    while len(results) > 1:
        i = data.draw(st.integers(0, len(results) - 2))
        results[i : i + 2] = [join(results[i], results[i + 1])]
    return results[0]


@pytest.mark.usefixtures("in_use")
class TestEvents:
    @settings(max_examples=30)
    @given(recordings(), st.data())
    def test_events_and_frames_are_counted_in_their_groups(self, recording, data):
        frames, raster = recording
        counts, numbers = np.zeros((GROUPS, raster.shape[1]), np.int64), np.zeros(GROUPS, np.int64)
        for task in chunks_of(data, recording):
            for trains, pieces in task:
                events.count_by_group(trains, pieces, counts)
                numbers += events.frames_by_group(pieces, GROUPS)
        group = np.array([f.group for f in frames])
        assert counts.tolist() == [raster[group == g].sum(axis=0).tolist() for g in range(GROUPS)]
        assert numbers.tolist() == [(group == g).sum() for g in range(GROUPS)]

    @pytest.mark.parametrize("kind", ["moments", "histogram", "cv2", "lv"])
    @settings(max_examples=30)
    @given(recordings(), st.data())
    def test_intervals_are_those_of_each_sequence_in_whatever_tasks_it_is_cut(self, kind, recording, data):
        _, raster = recording
        place_of, places = places_of(raster, data)
        expected = np.zeros((GROUPS, places, MAX_INTERVAL + 1 if kind == "histogram" else 3), np.int64)
        for neuron, frames, bits in sequences_of(recording):
            steps = np.flatnonzero(bits)
            for i in range(1, len(steps)):
                group, length = frames[steps[i]].group, int(steps[i] - steps[i - 1])
                if group < 0:
                    continue
                sums = expected[group, place_of[neuron]]
                if kind == "moments":
                    sums += [1, length, length**2]
                elif kind == "histogram":
                    sums[min(length, MAX_INTERVAL + 1) - 1] += 1
                elif i > 1:
                    former = int(steps[i - 1] - steps[i - 2])
                    share = abs(former - length) / (former + length)
                    fixed = int((2 * share if kind == "cv2" else 3 * (share * share)) * 2**52)
                    sums += [1, fixed // 2**26, fixed % 2**26]
        results = []
        for task in chunks_of(data, recording):
            tally = IntervalTally(place_of, GROUPS, places, 70, kind, MAX_INTERVAL)
            for chunk in task:
                tally.add(*chunk)
            results.append(tally.result())
        joined = folded(results, join_intervals, data)
        np.testing.assert_array_equal(joined.sums, expected)
        whole = IntervalTally(place_of, GROUPS, places, 70, kind, MAX_INTERVAL)
        whole.add(*chunk_of(recording, 0, len(raster), ()))
        assert whole.result().edge is None

    @settings(max_examples=30)
    @given(recordings(), st.data())
    def test_latencies_count_from_the_first_step_and_belong_to_the_first_frame(self, recording, data):
        _, raster = recording
        place_of, places = places_of(raster, data)
        moments, histogram = (
            np.zeros((GROUPS, places, 3), np.int64),
            np.zeros((GROUPS, places, BINS), np.int64),
        )
        censored = np.zeros((GROUPS, places), np.int64)
        for neuron, frames, bits in sequences_of(recording):
            if not frames[0].counts or frames[0].group < 0:
                continue
            at = (frames[0].group, place_of[neuron])
            if not bits.any():
                censored[at] += 1
                continue
            latency = int(np.argmax(bits)) + frames[0].offset
            moments[at] += [1, latency, latency**2]
            histogram[at][min(latency, BINS - 1)] += 1
        results = []
        for task in chunks_of(data, recording):
            tally = LatencyTally(place_of, GROUPS, places, 70, BINS)
            for chunk in task:
                tally.add(*chunk)
            results.append(tally.result())
        joined = folded(results, join_latencies, data)
        np.testing.assert_array_equal(joined.moments, moments)
        np.testing.assert_array_equal(joined.histogram, histogram)
        np.testing.assert_array_equal(joined.censored(), censored)

    @settings(max_examples=60)
    @given(st.sampled_from([1, 8, 63, 64, 130]), recordings(constant=True), st.data())
    def test_pairs_of_each_lag_are_those_of_each_sequence(self, lags, recording, data):
        frames, raster = recording
        place_of, places = places_of(raster, data)
        expected = np.zeros((4, GROUPS, places, lags), np.int64)
        for sequence, rows in rows_of(recording):
            for lag in range(1, min(lags + 1, len(rows)) if sequence[0].group >= 0 else 1):
                a, b = rows[:-lag], rows[lag:]
                for sums, of_neuron in zip(expected, (a & b, a, b, np.ones_like(a)), strict=True):
                    np.add.at(sums[sequence[0].group, :, lag - 1], place_of, of_neuron.sum(axis=0))
        found = np.zeros_like(expected)
        cuts = data.draw(cuts_of(len(frames)))
        for begin, end in pairwise(cuts):
            tally = LagTally(place_of, GROUPS, places, 70, lags)
            halo = max(begin - lags * 70, 0)
            if halo < begin:
                tally.add(*chunk_of(recording, halo, begin, ()), counting=False)
            middle = (begin + end) // 2
            for x, y in ((begin, middle), (middle, end)):
                tally.add(*chunk_of(recording, x, y, ()))
            sums = tally.result()
            found += [sums.pairs, sums.earlier, sums.later, sums.slots]
        np.testing.assert_array_equal(found, expected)

    def test_pairs_along_steps_of_different_groups_are_refused(self):
        frames = [Frame(s, 0, 1, 0, 4, s // 2, 0, 0, True, 0) for s in range(4)]
        chunks = [chunk_of((frames, np.ones((4, 1), np.bool_)), *cut, ()) for cut in ((0, 4), (0, 2), (2, 4))]
        with pytest.raises(ValueError, match="different groups"):
            LagTally(np.zeros(1, np.int64), 2, 1, 1, 2).add(*chunks[0])
        tally = LagTally(np.zeros(1, np.int64), 2, 1, 1, 2)
        tally.add(*chunks[1])
        with pytest.raises(ValueError, match="different groups"):
            tally.add(*chunks[2])

    def test_a_batch_larger_than_the_tally_was_told_of_is_refused(self):
        frames = [Frame(0, n, 3, 0, 1, 0, 0, 0, True, 0) for n in range(3)]
        tally = IntervalTally(np.zeros(1, np.int64), 1, 1, 2, "moments")
        with pytest.raises(ValueError, match="3 samples, but there is room for 2"):
            tally.add(*chunk_of((frames, np.ones((3, 1), np.bool_)), 0, 3, ()))

    def test_a_neuron_that_always_fires_has_a_pair_for_each_pair_of_slots(self):
        frames = [Frame(s, 0, 1, 0, 600, 0, 0, 0, True, 0) for s in range(600)]
        tally = LagTally(np.zeros(1, np.int64), 1, 1, 1, 2)
        tally.add(*chunk_of((frames, np.ones((600, 1), np.bool_)), 0, 600, ()))
        assert tally.result().pairs.tolist() == [[[599, 598]]]

    @pytest.mark.parametrize("wrong", ["group", "frames", "neurons", "sample", "order"])
    def test_what_lies_outside_is_refused_before_a_loop_writes_there(self, wrong):
        frames = [Frame(s, 0, 1, 0, 9, s % 3, 0, 0, True, 0) for s in range(9)]
        trains, pieces = chunk_of((frames, np.ones((9, 2), np.bool_)), 0, 9, {4})
        groups = 2 if wrong == "group" else 3
        if wrong == "frames":
            pieces = replace(pieces, end=pieces.end + 64)
        if wrong == "sample":
            pieces = replace(pieces, skipped=pieces.skipped + 1)
        if wrong == "order":
            pieces = replace(pieces, begin=pieces.begin[::-1], end=pieces.end[::-1])
        if wrong == "neurons":
            trains = np.repeat(trains, 2, axis=0)
        room = np.zeros(2, np.int64), groups, 1, 1
        for tally in (IntervalTally(*room, "moments"), LatencyTally(*room), LagTally(*room, 2)):
            with pytest.raises(IndexError):
                tally.add(trains, pieces)
        with pytest.raises(IndexError):
            events.count_by_group(trains, pieces, np.zeros((groups, 2), np.int64))
        with pytest.raises(IndexError, match="places of neurons must be 0 to 0"):
            LatencyTally(np.ones(2, np.int64), 1, 1, 1)


@pytest.mark.parametrize(("batch", "shift"), [(64, 0), (128, 64), (130, 5)])
@pytest.mark.parametrize("neurons_per_place", [1, 40])
@pytest.mark.parametrize("density", [0.05, 0.6])
def test_large_batches_by_words_are_those_of_plain_numpy(
    monkeypatch, batch, shift, neurons_per_place, density
):
    neurons, steps, trials = 40, 40, 3
    frames = [
        Frame(s, n, batch, first, first + steps, 0, trial if n % 3 else -1 - trial, trial, True, trial)
        for trial, first in enumerate(range(0, trials * steps, steps))
        for s in range(first, first + steps)
        for n in range(batch)
    ]
    raster = np.random.default_rng(batch).random((len(frames), neurons)) < density
    chunk = chunk_of((frames, raster), 0, len(frames), (), shift)
    place_of = np.arange(neurons) // neurons_per_place
    room = place_of, trials, int(place_of[-1]) + 1, batch
    found = []
    for used in (loops, plain_loops):
        monkeypatch.setattr(events, "_LOOPS", used)
        tallies = (
            IntervalTally(*room, "histogram", 9),
            IntervalTally(*room, "moments"),
            LatencyTally(*room, BINS),
            LagTally(*room, 6),
        )
        for tally in tallies:
            tally.add(*chunk)
        results = [tally.result() for tally in tallies]
        found.append([results[0].sums, results[1].sums, results[2].moments, results[2].histogram])
        found[-1] += [results[3].pairs, results[3].earlier, results[3].later]
    for compiled, plain in zip(*found, strict=True):
        np.testing.assert_array_equal(compiled, plain)


class TestChoice:
    """Words are taken where they are less work, and can be."""

    def chosen(self, density=0.05, begin=0, end=None, step_code=0, sample_code=0, batch=64):
        """Which questions look at frames begin to end of a trial of 16 steps by words."""
        frames = [
            Frame(s, n, batch, 0, 16, step_code * s, sample_code * n, 0, True, 0)
            for s in range(16)
            for n in range(batch)
        ]
        trains = np.packbits(np.random.default_rng(0).random((64, len(frames))) < density, axis=1)
        walk = pieces_of(frames, begin, end or len(frames), (), begin).walk()
        choice = by_words.Choice(trains, walk, word_loops.list_groups)
        groups = np.arange(batch) * sample_code
        asked = {
            "counts": choice.for_counts()[::2],
            "intervals": choice.for_intervals(),
            "latencies": choice.for_latencies(groups),
            "lags": choice.for_lags(groups, 10),
        }
        assert all(len(words.begin) + len(rest.begin) == 1 for words, rest in asked.values())
        return {name for name, (words, _) in asked.items() if len(words.begin)}

    def test_masks_of_large_batches_take_no_more_memory_than_may_be(self, monkeypatch):
        assert self.chosen(batch=128) == self.chosen()
        monkeypatch.setattr(by_words, "MASK_WORDS", 1)
        assert self.chosen() == {"counts", "intervals", "latencies", "lags"}
        assert self.chosen(batch=128) <= {"counts"}

    def test_a_trial_that_lies_in_the_chunk_is_looked_at_by_words(self):
        assert self.chosen() == {"counts", "intervals", "latencies", "lags"}

    def test_sequences_that_go_on_elsewhere_are_looked_at_event_by_event(self):
        assert self.chosen(end=15 * 64) == self.chosen(begin=64) == self.chosen(begin=1) == {"counts"}

    def test_few_events_are_looked_at_one_by_one(self):
        assert self.chosen(density=0.0005) == set()

    def test_steps_in_different_groups_are_not_counted_by_words(self):
        assert self.chosen(step_code=1) == {"latencies", "lags"}

    def test_each_sample_in_a_group_of_its_own_is_counted_by_words(self):
        assert self.chosen(sample_code=1) == {"counts"}
