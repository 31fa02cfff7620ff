"""Loops over the events of packed trains, compiled by numba; `plain_loops` does the same in plain numpy.

Loops take two passes over blocks of words: the first writes the frames of the events
into a short list, the second walks the list. A loop that did both would guess wrong at the end of each word
how many events were left in it, which costs more than the list.
"""

# ruff: noqa: C901, PLR0912 - one loop over neurons, pieces, blocks and events is easier followed whole

from __future__ import annotations

import numpy as np

from analysis.kernels.events.plain_loops import CV2, HISTOGRAM, LV, MOMENTS
from recorder.native.compiling import compiled, count_ones, leading_zeros, ordered

_TOP = np.uint64(1 << 63)
_FULL = np.uint64(2**64 - 1)
_ONE, _ZERO = np.uint64(1), np.uint64(0)
# Frames of which the events are listed at once; the list may run over by so many.
_BLOCK_FRAMES = 4096
_SPARE = 8
# Of words with more labels the events are looked at one by one.
_MOST_MASKS = 24
# Fixed point: units in one, and the lower part of a number of them.
_FIXED = np.float64(2**52)
_LOW = np.int64(2**26 - 1)


@compiled
def _lists():
    """Room for the frames of a block that have events, and for the places of its words."""
    return np.empty(_BLOCK_FRAMES + _SPARE, np.int32), np.empty(_BLOCK_FRAMES // 64 + 1, np.int64)


@compiled
def _list_events(words, begin, end, listed, busy):
    """List frames begin to end (exclusive) with events; words are native, frames within these words.

    Both lists are those of `_lists`; ``busy`` is of use here only.
    """
    count = some = 0
    first_word, last_word = begin >> 6, (end - 1) >> 6
    # Words with events first, without a branch: where events are few, nobody guesses which words have one.
    for index in range(first_word, last_word + 1):
        busy[some] = index
        some += words[index] != _ZERO
    for at in range(some):
        index = busy[at]
        word = ordered(words[index])
        if index == first_word:
            word &= _FULL >> np.uint64(begin & 63)
        if index == last_word:
            word &= _FULL << np.uint64(63 - ((end - 1) & 63))
        frame = index << 6
        events = np.int64(count_ones(word))
        # So many are listed whether they are there or not; those that are not are overwritten.
        for place in range(4):
            zeros = leading_zeros(word) & np.uint64(63)
            listed[count + place] = frame + np.int64(zeros)
            word &= ~(_TOP >> zeros)
        if events > 4:
            for place in range(4, 8):
                zeros = leading_zeros(word) & np.uint64(63)
                listed[count + place] = frame + np.int64(zeros)
                word &= ~(_TOP >> zeros)
        for place in range(8, events):
            zeros = leading_zeros(word)
            listed[count + place] = frame + np.int64(zeros)
            word &= ~(_TOP >> zeros)
        count += events
    return count


@compiled
def _block_end(begin, end):
    """The end of the block of words that a frame lies in, at most ``end``."""
    return min((begin // _BLOCK_FRAMES + 1) * _BLOCK_FRAMES, end)


@compiled
def label_frames(walk, labels):
    """See `plain_loops.label_frames`."""
    for piece in range(len(walk.begin)):
        sample, step = walk.skipped[piece], walk.step_at[piece]
        for frame in range(walk.begin[piece], walk.end[piece]):
            step_code = walk.step_codes[step]
            sample_code = walk.sample_codes[walk.sample_at[piece] + sample]
            if step_code >= 0 and sample_code >= 0:
                labels[frame] = step_code + sample_code
            sample += 1
            if sample == walk.batch[piece]:
                sample = 0
                step += 1


@compiled
def list_in_runs(trains, runs, neurons, places, steps, samples):
    """See `plain_loops.list_in_runs`."""
    words = trains.view(np.uint64)
    listed, busy = _lists()
    kept = 0
    for neuron in range(words.shape[0]):
        for run in range(len(runs.begin)):
            begin, end = runs.begin[run], runs.end[run]
            skip, batch = runs.skipped[run] - begin, np.uint64(runs.batch[run])
            first_step, chosen_at = runs.first_step[run], runs.chosen_at[run]
            while begin < end:
                block_end = _block_end(begin, end)
                events = _list_events(words[neuron], begin, block_end, listed, busy)
                begin = block_end
                for event in range(events):
                    # A division of numbers without a sign is the faster one.
                    place = np.uint64(listed[event] + skip)
                    step_in_run = place // batch
                    sample = np.int64(place - step_in_run * batch)
                    # What is not kept is overwritten by the next event.
                    neurons[kept], places[kept] = neuron, run
                    steps[kept], samples[kept] = first_step + np.int64(step_in_run), sample
                    kept += chosen_at < 0 or runs.chosen[chosen_at + sample]
    return kept


@compiled
def count_labelled(trains, labels, counts):
    """Add events of each neuron in the frames of each label; negative ones are none.

    Parameters
    ----------
    trains : uint8 array, shape [neurons, bytes], ``bytes`` a multiple of 8, contiguous
    labels : int64 array, shape [frames]
        As many frames or fewer than in ``trains``.
    counts : int64 array, shape [neurons, labels]
    """
    words = trains.view(np.uint64)
    width = min(words.shape[1], (len(labels) + 63) >> 6)
    # Frames of a word that have the same label are counted at once, by a mask.
    mask_at = np.zeros(width + 1, np.int64)
    mask_of = np.full(counts.shape[1], -1, np.int64)
    masks = np.empty(len(labels), np.uint64)
    mask_labels = np.empty(len(labels), np.int64)
    known = 0
    for index in range(width):
        for frame in range(index << 6, min((index + 1) << 6, len(labels))):
            label = labels[frame]
            if label < 0:
                continue
            mask = mask_of[label]
            if mask < mask_at[index]:
                mask = mask_of[label] = known
                masks[mask], mask_labels[mask] = _ZERO, label
                known += 1
            masks[mask] |= _TOP >> np.uint64(frame & 63)
        mask_at[index + 1] = known
    listed, busy = _lists()
    for neuron in range(words.shape[0]):
        row = counts[neuron]
        for index in range(width):
            word = words[neuron, index]
            if word == _ZERO:
                continue
            first, last = mask_at[index], mask_at[index + 1]
            if last - first <= _MOST_MASKS:
                word = ordered(word)
                for mask in range(first, last):
                    row[mask_labels[mask]] += np.int64(count_ones(word & masks[mask]))
            else:
                end = min((index + 1) << 6, len(labels))
                for event in range(_list_events(words[neuron], index << 6, end, listed, busy)):
                    label = labels[listed[event]]
                    if label >= 0:
                        row[label] += 1


@compiled
def tally_intervals(trains, walk, place_of_neuron, last, former, opening, edge, kind, sums):
    """See `plain_loops.tally_intervals`."""
    words = trains.view(np.uint64)
    listed, busy = _lists()
    intervals, formers = np.empty(len(listed), np.int64), np.zeros(len(listed), np.int64)
    groups = np.empty(len(listed), np.int64)
    longest, has_formers = sums.shape[2], kind >= CV2
    for neuron in range(words.shape[0]):
        place, last_of = np.uint64(place_of_neuron[neuron]), last[neuron]
        for piece in range(len(walk.begin)):
            begin, end = walk.begin[piece], walk.end[piece]
            skip, batch = np.uint64(walk.skipped[piece] - begin), np.uint64(walk.batch[piece])
            multiplier, shift = np.uint64(walk.multiplier[piece]), np.uint64(walk.shift[piece])
            first_step, start_at = walk.first_step[piece], np.uint64(walk.start_at[piece])
            step_at, sample_at = np.uint64(walk.step_at[piece]), np.uint64(walk.sample_at[piece])
            is_open = walk.is_open[piece]
            while begin < end:
                block_end = _block_end(begin, end)
                events = _list_events(words[neuron], begin, block_end, listed, busy)
                begin = block_end
                # Each event writes to the end of the lists, which moves on if there is an interval to keep.
                kept = np.uint64(0)
                for event in range(events):
                    place_in_piece = np.uint64(listed[event]) + skip
                    step_in_piece = (place_in_piece * multiplier) >> shift
                    sample = place_in_piece - step_in_piece * batch
                    step = first_step + np.int64(step_in_piece)
                    start = walk.starts[start_at + sample]
                    step_code = walk.step_codes[step_at + step_in_piece]
                    sample_code = walk.sample_codes[sample_at + sample]
                    interval, goes_on = step - last_of[sample], last_of[sample] >= start
                    last_of[sample] = step
                    in_group = (step_code | sample_code) >= 0
                    intervals[kept], groups[kept] = interval, step_code + sample_code
                    if has_formers:
                        formers[kept] = former[neuron, sample]
                        former[neuron, sample] = interval if goes_on else 0
                    if is_open and start == opening[sample]:
                        group = step_code + sample_code if in_group else -1
                        if not goes_on:
                            edge[0, neuron, sample], edge[1, neuron, sample] = step + 1, group
                        elif has_formers and formers[kept] == 0:
                            edge[2, neuron, sample], edge[3, neuron, sample] = interval, group
                    kept += np.uint64(goes_on & in_group)
                if kind == MOMENTS:
                    for index in range(kept):
                        group, interval = np.uint64(groups[index]), intervals[index]
                        sums[group, place, 0] += 1
                        sums[group, place, 1] += interval
                        sums[group, place, 2] += interval * interval
                elif kind == HISTOGRAM:
                    for index in range(kept):
                        group, column = np.uint64(groups[index]), min(intervals[index], longest) - 1
                        sums[group, place, np.uint64(column)] += 1
                else:
                    for index in range(kept):
                        if formers[index]:
                            _add_pair(kind, sums[groups[index], place], formers[index], intervals[index])


@compiled
def _add_pair(kind, sums, former, interval):
    """Add the term of two successive intervals."""
    share = np.float64(abs(former - interval)) / np.float64(former + interval)
    fixed = np.int64((3.0 * (share * share) if kind == LV else 2.0 * share) * _FIXED)
    sums[0] += 1
    sums[1] += fixed >> 26
    sums[2] += fixed & _LOW


@compiled
def tally_latencies(trains, walk, place_of_neuron, fired, opening, edge, groups, moments, histogram):
    """See `plain_loops.tally_latencies`."""
    words = trains.view(np.uint64)
    listed, busy = _lists()
    latencies, samples = np.empty(len(listed), np.int64), np.empty(len(listed), np.uint64)
    longest = histogram.shape[2]
    for neuron in range(words.shape[0]):
        place, fired_of = np.uint64(place_of_neuron[neuron]), fired[neuron]
        for piece in range(len(walk.begin)):
            if not walk.counts_latency[piece]:
                continue
            begin, end = walk.begin[piece], walk.end[piece]
            skip, batch = np.uint64(walk.skipped[piece] - begin), np.uint64(walk.batch[piece])
            multiplier, shift = np.uint64(walk.multiplier[piece]), np.uint64(walk.shift[piece])
            time, start_at = walk.first_step[piece] + walk.time_offset[piece], np.uint64(walk.start_at[piece])
            lane_at, is_open = np.uint64(walk.lane_at[piece]), walk.is_open[piece]
            waiting = 0
            for sample in range(batch):
                waiting += fired_of[sample] != walk.starts[start_at + sample]
            while begin < end and waiting > 0:
                block_end = _block_end(begin, end)
                events = _list_events(words[neuron], begin, block_end, listed, busy)
                begin = block_end
                kept = np.uint64(0)
                for event in range(events):
                    place_in_piece = np.uint64(listed[event]) + skip
                    step_in_piece = (place_in_piece * multiplier) >> shift
                    sample = place_in_piece - step_in_piece * batch
                    start = walk.starts[start_at + sample]
                    latencies[kept], samples[kept] = time + np.int64(step_in_piece) - start, sample
                    kept += np.uint64(fired_of[sample] != start)
                    fired_of[sample] = start
                waiting -= np.int64(kept)
                for index in range(kept):
                    latency, sample = latencies[index], samples[index]
                    if is_open and walk.starts[start_at + sample] == opening[sample]:
                        edge[neuron, sample] = latency + 1
                        continue
                    group = groups[lane_at + sample]
                    if group < 0:
                        continue
                    moments[group, place, 0] += 1
                    moments[group, place, 1] += latency
                    moments[group, place, 2] += latency * latency
                    if longest:
                        histogram[group, place, min(latency, longest - 1)] += 1


@compiled
def tally_lags(trains, walk, place_of_neuron, last, history, groups, lags, pairs, since, until):
    """See `plain_loops.tally_lags`."""
    words = trains.view(np.uint64)
    listed, busy = _lists()
    # Eight lags are added up at once, in the bytes of a word; these are emptied before a byte is full.
    spread = np.zeros(256, np.uint64)
    for bits in range(256):
        for lag in range(8):
            spread[bits] |= np.uint64(bits >> lag & 1) << np.uint64(8 * lag)
    depth, eights = history.shape[2], np.uint64((lags + 7) >> 3)
    sums = np.zeros((pairs.shape[0], (lags + 7) >> 3), np.uint64)
    summed = np.zeros(pairs.shape[0], np.int64)
    for neuron in range(words.shape[0]):
        place, last_of = np.uint64(place_of_neuron[neuron]), last[neuron]
        for piece in range(len(walk.begin)):
            begin, end = walk.begin[piece], walk.end[piece]
            skip, batch = np.uint64(walk.skipped[piece] - begin), np.uint64(walk.batch[piece])
            multiplier, shift = np.uint64(walk.multiplier[piece]), np.uint64(walk.shift[piece])
            first_step, start_at = walk.first_step[piece], np.uint64(walk.start_at[piece])
            lane_at = np.uint64(walk.lane_at[piece])
            while begin < end:
                block_end = _block_end(begin, end)
                events = _list_events(words[neuron], begin, block_end, listed, busy)
                begin = block_end
                for event in range(events):
                    place_in_piece = np.uint64(listed[event]) + skip
                    step_in_piece = (place_in_piece * multiplier) >> shift
                    sample = place_in_piece - step_in_piece * batch
                    step = first_step + np.int64(step_in_piece)
                    start, until_end = walk.starts[start_at + sample], walk.ends[start_at + sample] - 1 - step
                    passed, goes_on = step - last_of[sample], last_of[sample] >= start
                    last_of[sample] = step
                    group = np.uint64(groups[lane_at + sample])
                    since[group, place, np.uint64(min(step - start, lags))] += 1
                    until[group, place, np.uint64(min(until_end, lags))] += 1
                    passed = passed if goes_on else lags + 1
                    if depth == 1:
                        bits = history[neuron, sample, 0] << np.uint64((passed - 1) & 63)
                        bits = bits if passed <= lags else _ZERO
                        history[neuron, sample, 0] = bits << _ONE | _ONE
                        for eight in range(eights):
                            sums[group, eight] += spread[bits >> (eight << np.uint64(3)) & np.uint64(255)]
                    else:
                        past = history[neuron, sample]
                        _age(past, passed - 1)
                        for eight in range(eights):
                            bits = past[eight >> np.uint64(3)] >> ((eight & np.uint64(7)) << np.uint64(3))
                            sums[group, eight] += spread[bits & np.uint64(255)]
                        _age(past, 1)
                        past[0] |= _ONE
                    summed[group] += 1
                    if summed[group] == 255:
                        summed[group] = 0
                        _empty(sums[group], pairs[group, place])
        for group in range(len(summed)):
            if summed[group]:
                summed[group] = 0
                _empty(sums[group], pairs[group, place])


@compiled
def _empty(sums, pairs):
    """Add the bytes of sums, the lowest first, to the pairs of as many lags."""
    for lag in range(len(pairs)):
        pairs[lag] += np.int64(sums[lag >> 3] >> np.uint64((lag & 7) << 3) & np.uint64(255))
    sums[:] = 0


@compiled
def _age(history, steps):
    """Move the bits of a history up by so many steps; bit k of word w is an event 64 w + k steps ago."""
    apart, bits = steps >> 6, np.uint64(steps & 63)
    for index in range(len(history) - 1, -1, -1):
        moved = _ZERO
        if index - apart >= 0:
            moved = history[index - apart] << bits
        if index - apart >= 1 and bits > _ZERO:
            moved |= history[index - apart - 1] >> (np.uint64(64) - bits)
        history[index] = moved
