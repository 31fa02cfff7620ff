"""What `loops` does, in plain numpy: exact, and slower."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.selecting.grouping import count_up
from analysis.kernels.selecting.pieces import NEVER, Runs, Walk
from recorder.format.bits import Counts, Integers, Packed

# What is made of intervals.
MOMENTS: Final = 0
HISTOGRAM: Final = 1
CV2: Final = 2
LV: Final = 3
# Fixed point: units in one, and how many bits the lower part of a number of them has.
_FIXED: Final = 2.0**52
_LOW_BITS: Final = 26


class _Events(NamedTuple):
    """Events in pieces, those of a lane after each other and ascending; int64 arrays, shape [events]."""

    neuron: Integers
    sample: Integers
    step: Integers
    piece: Integers
    step_in_piece: Integers

    def before(self, last: Integers) -> tuple[NDArray[np.bool_], Integers]:
        """Whether the event before is of the same lane, and its step; else that in ``last``."""
        same = np.zeros(len(self.step), np.bool_)
        same[1:] = (self.neuron[1:] == self.neuron[:-1]) & (self.sample[1:] == self.sample[:-1])
        return same, np.where(same, np.roll(self.step, 1), last[self.neuron, self.sample])


def label_frames(walk: Walk, labels: Integers) -> None:
    """Write the group of each frame that is in one, int64 [frames]."""
    length = walk.end - walk.begin
    piece = np.repeat(np.arange(len(length)), length)
    place = count_up(length) + walk.skipped[piece]
    step_in_piece, sample = np.divmod(place, walk.batch[piece])
    group = _groups(walk, piece, step_in_piece, sample)
    frame = walk.begin[piece] + count_up(length)
    labels[frame[group >= 0]] = group[group >= 0]


def count_groups(trains: Packed, walk: Walk, counts: Counts) -> None:
    """Add the events of each neuron in each group of frames.

    Parameters
    ----------
    trains : uint8 array, shape [neurons, bytes], ``bytes`` a multiple of 8, contiguous
    walk : Walk
    counts : int64 array, shape [groups, neurons]
    """
    labels = np.full(int(walk.end[-1]) if len(walk.end) else 0, -1, np.int64)
    label_frames(walk, labels)
    neuron, frame = np.nonzero(np.unpackbits(trains, axis=1, count=len(labels)))
    labelled = labels[frame] >= 0
    np.add.at(counts, (labels[frame[labelled]], neuron[labelled]), 1)


def list_in_runs(
    trains: Packed, runs: Runs, neurons: Integers, places: Integers, steps: Integers, samples: Integers
) -> int:
    """Write down each event of some runs of frames, neuron by neuron and frame by frame; how many they are.

    Parameters
    ----------
    trains : uint8 array, shape [neurons, bytes], ``bytes`` a multiple of 8, contiguous
    runs : Runs
    neurons, places, steps, samples : integer array, shape [one more than there are events in the trains]
        Row of the trains, index of the run, step and sample of each event. What lies behind the last event
        means nothing.
    """
    length = runs.end - runs.begin
    run_of_frame = np.full(int(runs.end[-1]) if len(length) else 0, -1, np.int64)
    run_of_frame[np.repeat(runs.begin, length) + count_up(length)] = np.repeat(np.arange(len(length)), length)
    neuron, frame = np.nonzero(np.unpackbits(trains, axis=1, count=len(run_of_frame)))
    inside = run_of_frame[frame] >= 0
    neuron, frame = neuron[inside], frame[inside]
    run = run_of_frame[frame]
    step, sample = np.divmod(runs.skipped[run] + frame - runs.begin[run], runs.batch[run])
    at = runs.chosen_at[run]
    kept = at < 0
    kept[~kept] = runs.chosen[(at + sample)[~kept]]
    events = int(kept.sum())
    neurons[:events], places[:events], samples[:events] = neuron[kept], run[kept], sample[kept]
    steps[:events] = (runs.first_step[run] + step)[kept]
    return events


def tally_intervals(
    trains: Packed,
    walk: Walk,
    place_of_neuron: Integers,
    state: Callable[[], tuple[Integers, Integers, Integers, Integers]],
    kind: int,
    sums: Counts,
) -> None:
    """Add up intervals that end in these pieces, and keep what the next pieces and tasks must know.

    Parameters
    ----------
    trains : uint8 array, shape [neurons, bytes], ``bytes`` a multiple of 8, contiguous
    walk : Walk
    place_of_neuron : int64 array, shape [neurons]
    state : callable
        Gives what is known of lanes, and makes it when it is first needed: four arrays. The first two and the
        last are brought up to date.

        last : int64 array, shape [neurons, samples]
            Step of the lane's last event.
        former : int64 array, shape [neurons, samples], or [0, 0] unless pairs are asked for
            The interval that ended there, 0 if none did.
        opening : int64 array, shape [samples]
            As in `analysis.kernels.events.lanes.Lanes`.
        edge : int64 array, shape [4, neurons, samples]
            For sequences that began before the task: step and group of the first event, first interval and
            group of its end. Only [2, …] unless pairs are asked for. A step is one more than it is, and 0
            where there is none: what is all zeros takes no memory.
    kind : int
        `MOMENTS`, `HISTOGRAM`, `CV2` or `LV`.
    sums : int64 array, shape [groups, places, columns]
        See `add_intervals`.
    """
    last, former, opening, edge = state()
    events = _events(trains, walk)
    neuron, sample = events.neuron, events.sample
    start = walk.starts[walk.start_at[events.piece] + sample]
    group = _groups(walk, events.piece, events.step_in_piece, sample)
    same, before = events.before(last)
    goes_on = before >= start
    interval = np.where(goes_on, events.step - before, 0)
    formers = np.zeros(len(interval), np.int64)
    if kind >= CV2:
        formers = np.where(goes_on, np.where(same, np.roll(interval, 1), former[neuron, sample]), 0)
        former[neuron, sample] = interval
    last[neuron, sample] = events.step
    kept = goes_on & (group >= 0)
    add_intervals(kind, sums, group[kept], place_of_neuron[neuron[kept]], interval[kept], formers[kept])
    is_open = start == opening[sample]
    first, second = is_open & ~goes_on, is_open & goes_on & (formers == 0)
    edge[0, neuron[first], sample[first]] = events.step[first] + 1
    edge[1, neuron[first], sample[first]] = group[first]
    if kind >= CV2:
        edge[2, neuron[second], sample[second]] = interval[second]
        edge[3, neuron[second], sample[second]] = group[second]


def add_intervals(
    kind: int, sums: Counts, group: Integers, place: Integers, interval: Integers, former: Integers
) -> None:
    """Add intervals, int64 [intervals], to sums, int64 [groups, places, columns].

    Columns are, for `MOMENTS`, the number of intervals, their sum, and the sum of their squares. For
    `HISTOGRAM`, column i is the number of intervals i + 1, the last column that of all longer ones. For `CV2`
    and `LV`: the number of pairs of an interval and the one before it, ``former`` (0 for none), and the upper
    and the lower part of the sum of their terms, in units of 2 ** -26 and 2 ** -52.

    Notes
    -----
    CV2 is the mean of ``2 |a - b| / (a + b)`` (Holt et al. 1996), LV that of ``3 ((a - b) / (a + b)) ** 2``
    (Shinomoto et al. 2003).
    """
    if kind == HISTOGRAM:
        np.add.at(sums, (group, place, np.minimum(interval, sums.shape[2]) - 1), 1)
        return
    if kind == MOMENTS:
        columns = [np.ones_like(interval), interval, interval * interval]
    else:
        pairs = former > 0
        group, place, interval, former = group[pairs], place[pairs], interval[pairs], former[pairs]
        share = np.abs(former - interval).astype(np.float64) / (former + interval).astype(np.float64)
        fixed = ((3.0 * (share * share) if kind == LV else 2.0 * share) * _FIXED).astype(np.int64)
        columns = [np.ones_like(fixed), fixed >> _LOW_BITS, fixed & (2**_LOW_BITS - 1)]
    np.add.at(sums, (group, place), np.stack(columns, axis=-1))


def tally_latencies(
    trains: Packed,
    walk: Walk,
    place_of_neuron: Integers,
    state: Callable[[], tuple[Integers, Integers, Integers]],
    groups: Integers,
    moments: Counts,
    histogram: Counts,
) -> None:
    """Add up the latencies of lanes that fire for the first time in a sequence.

    Parameters
    ----------
    trains, walk, place_of_neuron
        As for `tally_intervals`.
    state : callable
        Likewise, gives three arrays, of which the first and the last are brought up to date.

        fired : int64 array, shape [neurons, samples]
            Start of the latest sequence in which the lane fired.
        opening : int64 array, shape [samples]
        edge : int64 array, shape [neurons, samples]
            Receives latencies in sequences that began before the task, one more than they are.
    groups : int64 array, shape [lanes of all pieces]
        Group of each piece's sequences, -1 for none; piece ``p`` begins at ``walk.lane_at[p]``.
    moments : int64 array, shape [groups, places, 3]
        Number of latencies, sum, sum of squares.
    histogram : int64 array, shape [groups, places, bins], or no bins
        Column i is the number of latencies i, the last one that of all longer ones as well.
    """
    fired, opening, edge = state()
    events = _events(trains, walk)
    counted = walk.counts_latency[events.piece]
    start = walk.starts[walk.start_at[events.piece] + events.sample]
    same, _ = events.before(fired)
    before = np.where(same, np.roll(start, 1), fired[events.neuron, events.sample])
    new = np.flatnonzero(counted & (before != start))
    neuron, sample, piece, start = events.neuron[new], events.sample[new], events.piece[new], start[new]
    fired[neuron, sample] = start
    latency = events.step[new] - start + walk.time_offset[piece]
    is_open = start == opening[sample]
    edge[neuron[is_open], sample[is_open]] = latency[is_open] + 1
    group = groups[walk.lane_at[piece] + sample]
    kept = ~is_open & (group >= 0)
    add_latencies(moments, histogram, group[kept], place_of_neuron[neuron[kept]], latency[kept])


def add_latencies(
    moments: Counts, histogram: Counts, group: Integers, place: Integers, latency: Integers
) -> None:
    """Add latencies, int64 [latencies], to what `tally_latencies` adds up."""
    np.add.at(moments, (group, place), np.stack([np.ones_like(latency), latency, latency * latency], axis=-1))
    if histogram.shape[2]:
        np.add.at(histogram, (group, place, np.minimum(latency, histogram.shape[2] - 1)), 1)


def tally_lags(
    trains: Packed,
    walk: Walk,
    place_of_neuron: Integers,
    state: Callable[[], tuple[Integers, NDArray[np.uint64]]],
    groups: Integers,
    lags: int,
    pairs: Counts,
    since: Counts,
    until: Counts,
) -> None:
    """Add up pairs of events of a lane that are so many steps apart.

    Parameters
    ----------
    trains, walk, place_of_neuron
        As for `tally_intervals`.
    state : callable
        Likewise, gives two arrays, which are brought up to date.

        last : int64 array, shape [neurons, samples]
        history : uint64 array, shape [neurons, samples, words]
            Bit k of word w is an event 64 w + k steps before the lane's last.
    groups : int64 array, shape [lanes of all pieces]
        As for `tally_latencies`; the last group stands for none.
    lags : int
    pairs : int64 array, shape [groups, places, lags]
        Column i is the number of pairs of events i + 1 steps apart.
    since, until : int64 array, shape [groups, places, lags + 1]
        Column i is the number of events that have i steps before them, or behind them, in their sequence; the
        last column is that of events with more, too.
    """
    last, history = state()
    events = _events(trains, walk)
    start = walk.starts[walk.start_at[events.piece] + events.sample]
    end = walk.ends[walk.start_at[events.piece] + events.sample]
    group = groups[walk.lane_at[events.piece] + events.sample]
    place = place_of_neuron[events.neuron]
    np.add.at(since, (group, place, np.minimum(events.step - start, lags)), 1)
    np.add.at(until, (group, place, np.minimum(end - 1 - events.step, lags)), 1)
    # Events of the past lie before those of the pieces, in the order of their lanes.
    bits = np.unpackbits(history.astype("<u8").view(np.uint8), axis=2, bitorder="little")
    past_neuron, past_sample, past = np.nonzero(bits)
    neuron = np.concatenate([past_neuron, events.neuron])
    sample = np.concatenate([past_sample, events.sample])
    step = np.concatenate([last[past_neuron, past_sample] - past, events.step])
    order = np.lexsort((step, sample, neuron))
    place_in_order = np.empty(len(order), np.int64)
    place_in_order[order] = np.arange(len(order))
    neuron, sample, step = neuron[order], sample[order], step[order]
    at = place_in_order[len(past) :]
    history[events.neuron, events.sample] = 0
    is_last = np.ones(len(at), np.bool_)
    is_last[:-1] = (events.neuron[1:] != events.neuron[:-1]) | (events.sample[1:] != events.sample[:-1])
    history[events.neuron, events.sample, 0] = 1
    for back in range(1, lags + 1):
        earlier = np.maximum(at - back, 0)
        in_lane = (at >= back) & (neuron[earlier] == events.neuron) & (sample[earlier] == events.sample)
        lag = events.step - step[earlier]
        found = in_lane & (step[earlier] >= start) & (lag <= lags)
        np.add.at(pairs, (group[found], place[found], lag[found] - 1), 1)
        kept = found & is_last & (lag < history.shape[2] * 64)
        bit = np.uint64(1) << (lag[kept] & 63).astype(np.uint64)
        np.bitwise_or.at(history, (events.neuron[kept], events.sample[kept], lag[kept] >> 6), bit)
    last[events.neuron, events.sample] = events.step


def _events(trains: Packed, walk: Walk) -> _Events:
    """Events of the trains in the pieces."""
    frames = int(walk.end[-1]) if len(walk.end) else 0
    piece_of = np.full(frames, NEVER, np.int64)
    length = walk.end - walk.begin
    piece_of[np.repeat(walk.begin, length) + count_up(length)] = np.repeat(np.arange(len(length)), length)
    neuron, frame = np.nonzero(np.unpackbits(trains, axis=1, count=frames))
    inside = piece_of[frame] >= 0
    neuron, frame, piece = neuron[inside], frame[inside], piece_of[frame[inside]]
    place = walk.skipped[piece] + frame - walk.begin[piece]
    step_in_piece, sample = np.divmod(place, walk.batch[piece])
    order = np.lexsort((frame, sample, neuron))
    step = walk.first_step[piece] + step_in_piece
    return _Events(*(array[order] for array in (neuron, sample, step, piece, step_in_piece)))


def _groups(walk: Walk, piece: Integers, step_in_piece: Integers, sample: Integers) -> Integers:
    """Group of each frame, -1 for none."""
    step_code = walk.step_codes[walk.step_at[piece] + step_in_piece]
    sample_code = walk.sample_codes[walk.sample_at[piece] + sample]
    return np.where((step_code >= 0) & (sample_code >= 0), step_code + sample_code, -1)
