"""Latencies of whole presentations, compiled by numba: up to 64 samples at a time, neuron by neuron.

The words of a neuron are made to say, step by step, which samples have fired until then. Where two of them
differ that follow each other are first events, counted step by step. Indices have no sign where every word is
looked at: numba asks of those with a sign whether they count from the end.
"""

# ruff: noqa: C901 - one loop over neurons, parts and steps is easier followed whole

from __future__ import annotations

import numpy as np

from recorder.native.compiling import compiled, count_ones, ordered

_FULL = np.uint64(2**64 - 1)
_ONE, _ZERO, _SIX, _LAST, _BITS = np.uint64(1), np.uint64(0), np.uint64(6), np.uint64(63), np.uint64(64)
# Steps after which is looked whether all samples have fired.
_CHECKED_STEPS = np.uint64(32)
# Parts of pieces are looked at together that have so many steps, or a single one.
_BLOCK_STEPS = 1024


@compiled
def tally_latency_words(trains, pieces, place_of_neuron, moments, histogram):
    """Add up the latencies of pieces that hold whole sequences; see `plain_loops.tally_latencies`."""
    words = trains.view(np.uint64)
    parts = _parts_of(pieces)
    first = 0
    while first < len(parts):
        last, steps = first + 1, parts[first, 3]
        while last < len(parts) and steps + parts[last, 3] <= _BLOCK_STEPS:
            steps += parts[last, 3]
            last += 1
        _tally_parts(words, parts[first:last], pieces, place_of_neuron, moments, histogram)
        first = last


@compiled
def _parts_of(pieces):
    """Up to 64 samples of a piece a row: first frame, batch, which bits are samples, steps, piece and part.

    Returns
    -------
    uint64 array, shape [parts, 6]
    """
    parts = np.empty((((pieces.batch + 63) >> 6).sum(), 6), np.uint64)
    known = 0
    for piece in range(len(pieces.begin)):
        batch = pieces.batch[piece]
        for part in range((batch + 63) >> 6):
            bits = min(batch - (part << 6), 64)
            parts[known, 0] = pieces.first[piece] + (part << 6)
            parts[known, 1] = batch
            parts[known, 2] = _FULL << np.uint64(64 - bits)
            parts[known, 3] = pieces.steps[piece]
            parts[known, 4], parts[known, 5] = piece, part
            known += 1
    return parts


@compiled
def _is_stored(frame, batch):
    """Whether the words of all steps are words of a train, and can be taken in the order of their bytes."""
    return (frame | batch) & _LAST == _ZERO


@compiled
def _tally_parts(words, parts, pieces, place_of_neuron, moments, histogram):
    """Add up the latencies of some parts of pieces."""
    # A word of silence stands before the steps of each part.
    size = np.int64(parts[:, 3].sum()) + len(parts)
    fired = np.zeros(size + 1, np.uint64)
    masks = _masks_of_steps(parts, pieces, size)
    found = np.zeros_like(masks)
    latencies, followed = _latencies_of_steps(parts, pieces, size), _are_followed(parts, pieces)
    for row in range(words.shape[0]):
        at = _ZERO
        for part in range(len(parts)):
            frame, batch, everywhere, left = parts[part, 0], parts[part, 1], parts[part, 2], parts[part, 3]
            before, at = _ZERO, at + _ONE
            while left > _ZERO:
                steps = min(left, _CHECKED_STEPS)
                if _is_stored(frame, batch):
                    for _ in range(steps):
                        before |= words[row, frame >> _SIX]
                        fired[at] = before
                        frame, at = frame + batch, at + _ONE
                else:
                    for _ in range(steps):
                        index, down = frame >> _SIX, frame & _LAST
                        word = ordered(words[row, index]) << down
                        if everywhere >> down << down != everywhere:
                            word |= ordered(words[row, index + _ONE]) >> (_BITS - down)
                        before |= word & everywhere
                        fired[at] = before
                        frame, at = frame + batch, at + _ONE
                left -= steps
                if before == everywhere:
                    fired[at : at + left] = before
                    at, left = at + left, _ZERO
        for group in range(len(masks)):
            for step in range(size):
                found[group, step] += count_ones((fired[step + 1] ^ fired[step]) & masks[group, step])
        if row == len(words) - 1 or place_of_neuron[row + 1] != place_of_neuron[row]:
            place = place_of_neuron[row]
            _add_latencies(found, latencies, followed, parts, pieces, place, moments, histogram)


@compiled
def _masks_of_steps(parts, pieces, size):
    """Which samples of each step are in each group of their piece, uint64 [groups of a piece, steps].

    Behind the steps of each part comes one that is in no group.
    """
    most = 0
    for part in range(len(parts)):
        most = max(most, pieces.groups[parts[part, 4]])
    masks, at = np.zeros((most, size), np.uint64), 0
    for part in range(len(parts)):
        piece, steps = parts[part, 4], np.int64(parts[part, 3])
        for group in range(pieces.groups[piece]):
            mask = pieces.masks[pieces.group_at[piece] + group, parts[part, 5]]
            is_stored = _is_stored(parts[part, 0], parts[part, 1])
            masks[group, at : at + steps] = ordered(mask) if is_stored else mask
        at += steps + 1
    return masks


@compiled
def _latencies_of_steps(parts, pieces, size):
    """Latency of an event at each step, and its square, int64 [2, steps as in `_masks_of_steps`]."""
    latencies, at = np.zeros((2, size), np.int64), 0
    for part in range(len(parts)):
        for step in range(np.int64(parts[part, 3])):
            latency = step + pieces.offset[parts[part, 4]]
            latencies[0, at + step], latencies[1, at + step] = latency, latency * latency
        at += np.int64(parts[part, 3]) + 1
    return latencies


@compiled
def _are_followed(parts, pieces):
    """Whether the next part is in the same groups as each, so that both are added up at once."""
    followed = np.zeros(len(parts), np.bool_)
    for part in range(len(parts) - 1):
        one, other = parts[part, 4], parts[part + 1, 4]
        here, there, groups = pieces.group_at[one], pieces.group_at[other], pieces.groups[one]
        followed[part] = groups == pieces.groups[other] and np.array_equal(
            pieces.listed[here : here + groups], pieces.listed[there : there + groups]
        )
    return followed


@compiled
def _add_latencies(found, latencies, followed, parts, pieces, place, moments, histogram):
    """Add numbers of first events, [groups of a piece, steps] as in `_masks_of_steps`, and forget them."""
    longest, begin, end = histogram.shape[2], 0, 0
    for part in range(len(parts)):
        end += np.int64(parts[part, 3]) + 1
        if followed[part]:
            continue
        piece = parts[part, 4]
        for group in range(pieces.groups[piece]):
            listed = pieces.listed[pieces.group_at[piece] + group]
            for step in range(begin, end if longest else begin):
                column = min(latencies[0, step], longest - 1)
                histogram[listed, place, column] += np.int64(found[group, step])
            number, total, squares = 0, 0, 0
            events, latency, square = (
                found[group, begin:end],
                latencies[0, begin:end],
                latencies[1, begin:end],
            )
            for step in range(len(events)):
                number += np.int64(events[step])
                total += np.int64(events[step]) * latency[step]
                squares += np.int64(events[step]) * square[step]
            events[:] = _ZERO
            moments[listed, place, 0] += number
            moments[listed, place, 1] += total
            moments[listed, place, 2] += squares
        begin = end
