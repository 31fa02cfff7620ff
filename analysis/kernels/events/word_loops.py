"""Loops over whole words of packed trains, compiled by numba: a step of up to 64 samples at a time.

They look at pieces whose frames are alike, see `analysis.kernels.events.by_words`. The words of a step are
put side by side for some neurons, `_LANES`, so that the processor handles several at once. How many events
there are does not matter, only how many steps.
"""

# ruff: noqa: C901, PLR0912 - one loop over neurons, pieces, groups and steps is easier followed whole

from __future__ import annotations

import numpy as np

from analysis.kernels.events.plain_loops import HISTOGRAM
from recorder.native.compiling import compiled, count_ones, ordered

_FULL, _TOP = np.uint64(2**64 - 1), np.uint64(1 << 63)
_ONE, _ZERO, _SIX, _LAST, _BITS = np.uint64(1), np.uint64(0), np.uint64(6), np.uint64(63), np.uint64(64)
# Neurons that are looked at side by side.
_LANES = 32
# Lags that are looked at together.
_TOGETHER = 4
# A piece has fewer than 2 to this power steps.
_PLANES = 32


@compiled
def list_groups(batch, groups, most, group_at, listed, masks):
    """List the groups that the samples of each piece are in, and which samples are in each.

    Parameters
    ----------
    batch : int64 array, shape [pieces]
    groups : int64 array, shape [lanes of all pieces]
        Group of each sample of a piece, -1 for none.
    most : int64 array, shape [pieces]
        How many groups may be listed of each piece. Where there are more, none are, and 0 is written here.
    group_at, listed, masks
        Receive what is in `analysis.kernels.events.by_words.WordPieces`.
    """
    lane, known = 0, 0
    for piece in range(len(batch)):
        first = group_at[piece] = known
        for sample in range(batch[piece] if most[piece] else 0):
            group = groups[lane + sample]
            if group < 0:
                continue
            place = first
            while place < known and listed[place] != group:
                place += 1
            if place == known:
                if known - first == most[piece]:
                    most[piece], known = 0, first
                    break
                listed[place] = group
                masks[place] = _ZERO
                known += 1
            masks[place, sample >> 6] |= _TOP >> np.uint64(sample & 63)
        lane += batch[piece]
    group_at[len(batch)] = known


@compiled
def _take(words, row, lanes, frame, begin, end, bits, out, at):
    """Write up to 64 frames from ``frame`` on of some neurons; those not in begin to end are silent."""
    first, last = max(frame, begin), min(frame + bits, end)
    if last <= first:
        for lane in range(lanes):
            out[at + lane] = _ZERO
        return
    index, left, down = first >> 6, np.uint64(first & 63), np.uint64(first - frame)
    kept = (_FULL << np.uint64(64 - (last - first))) >> down
    if (first & 63) + last - first <= 64:
        for lane in range(lanes):
            out[at + lane] = ((ordered(words[row + lane, index]) << left) >> down) & kept
    else:
        right = np.uint64(64) - left
        for lane in range(lanes):
            word = ordered(words[row + lane, index]) << left | ordered(words[row + lane, index + 1]) >> right
            out[at + lane] = (word >> down) & kept


@compiled
def _take_steps(words, row, lanes, pieces, piece, part, out):
    """Write the words of all steps of a piece that holds whole steps, those of a step side by side."""
    batch, steps = np.uint64(pieces.batch[piece]), pieces.steps[piece]
    bits, first = min(pieces.batch[piece] - (part << 6), 64), np.uint64(pieces.first[piece] + (part << 6))
    everywhere, apart = _FULL << np.uint64(64 - bits), np.uint64(lanes)
    for lane in range(lanes):
        frame, at = first, np.uint64(lane)
        if (first | batch) & _LAST == _ZERO:
            for _ in range(steps):
                out[at] = ordered(words[row + lane, frame >> _SIX])
                frame, at = frame + batch, at + apart
            continue
        for _ in range(steps):
            index, down = frame >> _SIX, frame & _LAST
            word = ordered(words[row + lane, index]) << down
            if everywhere >> down << down != everywhere:
                word |= ordered(words[row + lane, index + _ONE]) >> (_BITS - down)
            out[at] = word & everywhere
            frame, at = frame + batch, at + apart


@compiled
def _same_place(place_of_neuron, row, lanes):
    """Whether neurons side by side are in one place."""
    place, same = place_of_neuron[row], True
    for lane in range(1, lanes):
        same &= place_of_neuron[row + lane] == place
    return same


@compiled
def _total(counts, lanes):
    total = _ZERO
    for lane in range(lanes):
        total += counts[lane]
    return np.int64(total)


@compiled
def count_words(trains, pieces, groups, counts):
    """Add the events of each neuron in each group of the pieces.

    Parameters
    ----------
    trains : uint8 array, shape [neurons, bytes], ``bytes`` a multiple of 8, contiguous
    pieces : analysis.kernels.events.by_words.WordPieces
        Those without a list of groups have one for each sample.
    groups : int64 array, shape [lanes of all pieces]
        See `list_groups`; piece ``p`` begins at ``pieces.lane_at[p]``.
    counts : int64 array, shape [groups, neurons]
    """
    words = trains.view(np.uint64)
    step, found = np.empty(_LANES, np.uint64), np.empty(_LANES, np.uint64)
    planes = np.empty(_PLANES * _LANES, np.uint64)
    summed = np.zeros((pieces.groups.max(), _LANES), np.int64)
    for row in range(0, words.shape[0], _LANES):
        lanes = min(words.shape[0] - row, _LANES)
        for piece in range(len(pieces.begin)):
            batch, begin, end = pieces.batch[piece], pieces.begin[piece], pieces.end[piece]
            first_group = pieces.group_at[piece]
            last_group = first_group + pieces.groups[piece]
            for part in range((batch + 63) >> 6):
                bits, frame = min(batch - (part << 6), 64), pieces.first[piece] + (part << 6)
                if first_group < last_group:
                    for _ in range(pieces.steps[piece]):
                        _take(words, row, lanes, frame, begin, end, bits, step, 0)
                        frame += batch
                        for group in range(first_group, last_group):
                            mask, sums = pieces.masks[group, part], summed[group - first_group]
                            for lane in range(lanes):
                                sums[lane] += np.int64(count_ones(step[lane] & mask))
                    continue
                levels = 0
                for steps in range(1, pieces.steps[piece] + 1):
                    _take(words, row, lanes, frame, begin, end, bits, step, 0)
                    frame += batch
                    if steps >> levels:
                        for lane in range(lanes):
                            planes[levels * _LANES + lane] = _ZERO
                        levels += 1
                    for level in range(levels):
                        plane = planes[level * _LANES : (level + 1) * _LANES]
                        for lane in range(lanes):
                            carried = plane[lane] & step[lane]
                            plane[lane] ^= step[lane]
                            step[lane] = carried
                for sample in range(bits):
                    group = groups[pieces.lane_at[piece] + (part << 6) + sample]
                    if group < 0:
                        continue
                    shift = np.uint64(63 - sample)
                    for lane in range(lanes):
                        found[lane] = planes[lane] >> shift & _ONE
                    for level in range(1, levels):
                        weight = np.uint64(level)
                        for lane in range(lanes):
                            found[lane] |= (planes[level * _LANES + lane] >> shift & _ONE) << weight
                    for lane in range(lanes):
                        counts[group, row + lane] += np.int64(found[lane])
            for group in range(first_group, last_group):
                sums, place = summed[group - first_group], pieces.listed[group]
                for lane in range(lanes):
                    counts[place, row + lane] += sums[lane]
                    sums[lane] = 0


@compiled
def tally_interval_words(trains, pieces, place_of_neuron, kind, sums):
    """Add up the intervals of pieces that hold whole sequences; see `plain_loops.tally_intervals`.

    An event waits for the next one of its lane: of the events at a step, those that still wait and that are
    events so many steps later, too, make an interval, and wait no longer.
    """
    words = trains.view(np.uint64)
    most = pieces.steps.max() * _LANES
    taken, waiting = np.empty(most, np.uint64), np.empty(most, np.uint64)
    found, fired = np.empty(_LANES, np.uint64), np.empty(_LANES, np.uint64)
    longest = sums.shape[2]
    for row in range(0, words.shape[0], _LANES):
        lanes = min(words.shape[0] - row, _LANES)
        is_one = _same_place(place_of_neuron, row, lanes)
        for piece in range(len(pieces.begin)):
            steps = pieces.steps[piece]
            for part in range((pieces.batch[piece] + 63) >> 6):
                _take_steps(words, row, lanes, pieces, piece, part, taken)
                for listed in range(pieces.group_at[piece], pieces.group_at[piece] + pieces.groups[piece]):
                    mask, group = pieces.masks[listed, part], pieces.listed[listed]
                    fired[:], found[:] = _ZERO, _ZERO
                    for step in range(steps):
                        for lane in range(lanes):
                            word = taken[step * lanes + lane] & mask
                            waiting[step * lanes + lane] = word
                            found[lane] += count_ones(word)
                            fired[lane] |= word
                    # As many as there are events that are not the first of their lane.
                    left = _total(found, lanes)
                    for lane in range(lanes):
                        left -= np.int64(count_ones(fired[lane]))
                    interval = 0
                    while left > 0:
                        interval += 1
                        found[:] = _ZERO
                        for step in range(steps - interval):
                            here, later = step * lanes, (step + interval) * lanes
                            for lane in range(lanes):
                                both = waiting[here + lane] & taken[later + lane]
                                found[lane] += count_ones(both)
                                waiting[here + lane] ^= both
                        total = _total(found, lanes)
                        left -= total
                        if kind == HISTOGRAM:
                            column = min(interval, longest) - 1
                            if is_one:
                                sums[group, place_of_neuron[row], column] += total
                            else:
                                for lane in range(lanes):
                                    sums[group, place_of_neuron[row + lane], column] += np.int64(found[lane])
                        elif is_one:
                            _add_moments(sums[group, place_of_neuron[row]], total, interval)
                        else:
                            for lane in range(lanes):
                                place = place_of_neuron[row + lane]
                                _add_moments(sums[group, place], np.int64(found[lane]), interval)


@compiled
def _add_moments(sums, number, value):
    """Add so many equal values to their number, sum and sum of squares."""
    sums[0] += number
    sums[1] += number * value
    sums[2] += number * value * value


@compiled
def tally_lag_words(trains, pieces, place_of_neuron, lags, pairs, since, until):
    """Add up the pairs of events of pieces that hold whole sequences; see `plain_loops.tally_lags`."""
    words = trains.view(np.uint64)
    # Silence behind the last step, as several lags are looked at together.
    most = (pieces.steps.max() + _TOGETHER) * _LANES
    taken, chosen = np.empty(most, np.uint64), np.empty(most, np.uint64)
    found = np.empty(_LANES, np.uint64)
    for row in range(0, words.shape[0], _LANES):
        lanes = min(words.shape[0] - row, _LANES)
        is_one, place = _same_place(place_of_neuron, row, lanes), place_of_neuron[row]
        for piece in range(len(pieces.begin)):
            steps = pieces.steps[piece]
            for part in range((pieces.batch[piece] + 63) >> 6):
                _take_steps(words, row, lanes, pieces, piece, part, taken)
                taken[steps * lanes : (steps + _TOGETHER) * lanes] = _ZERO
                for listed in range(pieces.group_at[piece], pieces.group_at[piece] + pieces.groups[piece]):
                    mask, group = pieces.masks[listed, part], pieces.listed[listed]
                    for at in range(steps * lanes):
                        chosen[at] = taken[at] & mask
                    for step in range(steps):
                        for lane in range(lanes):
                            found[lane] = count_ones(chosen[step * lanes + lane])
                        before, behind = min(step, lags), min(steps - 1 - step, lags)
                        if is_one:
                            total = _total(found, lanes)
                            since[group, place, before] += total
                            until[group, place, behind] += total
                            continue
                        for lane in range(lanes):
                            place = place_of_neuron[row + lane]
                            since[group, place, before] += np.int64(found[lane])
                            until[group, place, behind] += np.int64(found[lane])
                    longest = min(lags, steps - 1)
                    if is_one:
                        for lag in range(1, longest + 1, _TOGETHER):
                            # Where a lag is too long, all that is added is silence.
                            numbers = _pairs_of_lags(chosen, taken, (steps - lag) * lanes, lag * lanes, lanes)
                            for more in range(min(_TOGETHER, longest + 1 - lag)):
                                pairs[group, place, lag - 1 + more] += np.int64(numbers[more])
                        continue
                    for lag in range(1, longest + 1):
                        found[:] = _ZERO
                        for step in range(steps - lag):
                            here, later = step * lanes, (step + lag) * lanes
                            one, other = chosen[here : here + lanes], taken[later : later + lanes]
                            for lane in range(lanes):
                                found[lane] += count_ones(one[lane] & other[lane])
                        for lane in range(lanes):
                            pairs[group, place_of_neuron[row + lane], lag - 1] += np.int64(found[lane])


@compiled
def _pairs_of_lags(chosen, taken, length, apart, more):
    """Pairs of events in words so far apart, and of those once, twice and three times ``more``.

    Each word is loaded once for all four.
    """
    one, two, three, four = _ZERO, _ZERO, _ZERO, _ZERO
    first, second = taken[apart : apart + length], taken[apart + more : apart + more + length]
    third, fourth = taken[apart + 2 * more :][:length], taken[apart + 3 * more :][:length]
    for at in range(length):
        word = chosen[at]
        one += count_ones(word & first[at])
        two += count_ones(word & second[at])
        three += count_ones(word & third[at])
        four += count_ones(word & fourth[at])
    return one, two, three, four
