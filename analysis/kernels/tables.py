"""Tables of spike counts, a row for each presentation: how long each lasted, and what tasks add up of them.

A *block* holds counts of some presentations, int64 [presentations, times, neurons]; where times are not told
apart there is one. Every function for tasks takes a block, and for each of its presentations the code of the
group that it belongs to, below 0 for none. What it returns is exact, and added up over blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analysis.formulas.accuracy import accuracy_of
from analysis.formulas.integers import Floats, matrix_product
from analysis.formulas.population import ratio_of_gram, ratio_of_products
from analysis.formulas.similarity import bordered_product, cka, hsic_of_grams, hsic_of_products
from analysis.formulas.tuning import (
    corrected_mutual_information,
    mutual_information,
    selectivity,
    skaggs_information,
    sparseness,
)
from analysis.formulas.variability import fano_factor
from analysis.kernels.counting.tallying import Place, places_of
from analysis.kernels.selecting.grouping import count_up
from analysis.kernels.selecting.source import Source, frames_of, rows_of
from recorder.format.bits import Counts, Integers

# From so many neurons on, adding a row costs more than asking for it.
_WIDE: Final = 128


@dataclass(frozen=True, eq=False)
class Spans:
    """Runs of times of which a layer has selected frames, presentation after presentation.

    Attributes
    ----------
    trial, sample : int64 array, shape [presentations]
        Every presentation of which there are frames, ascending.
    row, first, last : int64 array, shape [spans]
        The presentation, by its place, and times ``first`` to ``last`` (exclusive); ascending, and those of
        one presentation do not touch.
    """

    trial: Integers
    sample: Integers
    row: Integers
    first: Integers
    last: Integers

    @classmethod
    def of(cls, source: Source) -> Spans:
        """The spans of a source that knows the first steps of its trials."""
        frames = frames_of(source)
        segments = frames.segments
        inside = np.flatnonzero(segments.trial >= 0)
        of_batch = segments.batch[inside]
        segment, sample = np.repeat(inside, of_batch), count_up(of_batch)
        kept = frames.has_samples(segment, sample)
        segment, sample = segment[kept], sample[kept]
        trial = segments.trial[segment]
        starts = source.starts.of_trials(trial) if source.starts is not None else 0
        first = segments.first_step[segment] - starts
        last = first + segments.steps[segment]
        order = np.lexsort((first, sample, trial))
        trial, sample, first, last = trial[order], sample[order], first[order], last[order]
        another = np.ones(len(trial), np.bool_)
        another[1:] = (trial[1:] != trial[:-1]) | (sample[1:] != sample[:-1])
        parted = another.copy()
        parted[1:] |= first[1:] != last[:-1]
        ends = np.append(parted[1:], True)[: len(parted)]
        row = np.cumsum(another) - 1
        return cls(trial[another], sample[another], row[parted], first[parted], last[ends])

    @property
    def lengths(self) -> Integers:
        """Number of frames of each presentation, int64 [presentations]."""
        found = np.zeros(len(self.trial), np.int64)
        np.add.at(found, self.row, self.last - self.first)
        return found


def table_rows(source: Source, trial: Integers, sample: Integers) -> Integers:
    """Row of each presentation in the table of trials; -1 for none."""
    trials = rows_of(source).trial
    first = np.searchsorted(trials, trial, side="left").astype(np.int64)
    last = np.searchsorted(trials, trial, side="right")
    return np.where(first + sample < last, first + sample, -1)


def tally_block(
    function: Callable[..., Counts], block: Counts, times: int, neurons: slice, *arguments: Any
) -> Counts:
    """Call a function of this file with some neurons of a block; shape [1, ...], to be added up."""
    return function(_by_time(block, times)[:, :, neurons], *arguments)[None]


def moments(block: Counts, codes: Integers, groups: int) -> Counts:
    """Sums of counts and of their squares, int64 [2, groups, neurons]."""
    counts = block[:, 0]
    found = np.zeros((2, groups, counts.shape[1]), np.int64)
    # Rows that are wide are added one by one: each is read once.
    if counts.shape[1] >= _WIDE:
        inside = np.flatnonzero(codes >= 0)
        for each, group in zip(inside.tolist(), codes[inside].tolist(), strict=True):
            found[0, group] += counts[each]
            found[1, group] += counts[each] * counts[each]
        return found
    found[0], found[1] = _sum_by(counts, codes, groups), _sum_by(counts * counts, codes, groups)
    return found


def joint_histogram(block: Counts, codes: Integers, groups: int, bins: int) -> Counts:
    """Presentations by group and count, below ``bins``, of each neuron: int64 [groups, bins, neurons]."""
    counts = block[codes >= 0, 0]
    neurons = counts.shape[1]
    place = (codes[codes >= 0, None] * bins + counts) * neurons + np.arange(neurons)
    return np.bincount(place.ravel(), minlength=groups * bins * neurons).reshape(groups, bins, neurons)


def products(block: Counts, codes: Integers, groups: int) -> Counts:
    """Products of each two neurons, and behind them sums: int64 [groups, times, neurons + 1, neurons]."""
    times, neurons = block.shape[1:]
    found = np.zeros((groups, times, neurons + 1, neurons), np.int64)
    for group in np.unique(codes[codes >= 0]).tolist():
        for time in range(times):
            counts = block[codes == group, time]
            found[group, time, :-1] = matrix_product(counts.T, counts)
            found[group, time, -1] = counts.sum(axis=0)
    return found


def gram(block: Counts, other: Counts, times: int) -> Counts:
    """Products of the counts of each two presentations, int64 [times, presentations, others]."""
    one, two = _by_time(block, times), _by_time(other, times)
    return np.stack([matrix_product(one[:, time], two[:, time].T) for time in range(times)])


def cross_products(block: Counts, other: Counts, times: int) -> Counts:
    """Products of two layers as `bordered_product` has them, int64 [1, times, neurons + 3, others + 3]."""
    one, two = _by_time(block, times), _by_time(other, times)
    return np.stack([bordered_product(one[:, time], two[:, time]) for time in range(times)])[None]


def hits(block: Counts, labels: Integers, codes: Integers, groups: int) -> Counts:
    """Presentations whose label has had most spikes by each time, and ties: int64 [2, groups, times]."""
    cumulated = np.cumsum(block, axis=1)
    found = np.zeros((2, groups, block.shape[1]), np.int64)
    for group in np.unique(codes[codes >= 0]).tolist():
        inside = codes == group
        answer = accuracy_of(cumulated[inside], labels[inside])
        found[:, group] = answer.correct, answer.ties
    return found


def population_sparseness(block: Counts) -> Floats:
    """Sparseness over the neurons in each presentation, float64 [presentations]."""
    return sparseness(_by_time(block, 1)[:, 0], axis=1)


def fano_figures(total: Counts, presentations: Integers) -> Floats:
    """Mean Fano factor over labels; ``presentations`` is int64 [groups, labels]. See `_figures`."""
    sums, squares = total.reshape(2, *presentations.shape, total.shape[-1])
    each = fano_factor(presentations[..., None], sums, squares)
    defined = (~np.isnan(each)).sum(axis=1)
    mean = np.divide(np.nansum(each, axis=1), defined, out=np.full(defined.shape, np.nan), where=defined > 0)
    return _figures(mean, defined)


def sparseness_figures(total: Counts, presentations: Integers) -> Floats:
    """Sparseness of neurons over presentations, of which there are int64 [groups]. See `_figures`."""
    sums, squares = total
    # Of counts, (mean r)² / mean r² is the product of these two quotients.
    where = (squares > 0) & (presentations[:, None] > 0)
    share = np.divide(sums.astype(np.float64) ** 2, squares, out=np.full(sums.shape, np.nan), where=where)
    return _figures(share / np.maximum(presentations, 1)[:, None])


def selectivity_figures(total: Counts, slots: Integers) -> Floats:
    """Selectivity among labels; ``slots`` is int64 [groups, labels]. See `_figures`."""
    spikes = total[0].reshape(*slots.shape, total.shape[-1])
    return _of_groups([selectivity(*each) for each in zip(spikes, slots, strict=True)], total)


def skaggs_figures(total: Counts, slots: Integers) -> Floats:
    """Bits per spike about the label; arguments as in `selectivity_figures`."""
    spikes = total[0].reshape(*slots.shape, total.shape[-1])
    rates = spikes / np.maximum(slots, 1)[..., None]
    return _of_groups([skaggs_information(*each) for each in zip(rates, slots, strict=True)], total)


def information_figures(total: Counts, groups: int, labels: int, corrected: bool) -> Floats:
    """Bits that counts hold about the label, from a joint histogram. See `_figures`."""
    formula = corrected_mutual_information if corrected else mutual_information
    return _of_groups([formula(joint) for joint in total.reshape(groups, labels, *total.shape[1:])], total)


def _of_groups(values: Sequence[Floats], total: Counts) -> Floats:
    return _figures(np.reshape(np.array(values, np.float64), (len(values), total.shape[-1])))


def _figures(values: Floats, defined: Integers | None = None) -> Floats:
    """Figures of neurons as they are averaged, float64 [3, groups, neurons].

    The figure or 0, 1 or 0 for one that is defined, and what went into it: by default the same.
    """
    there = ~np.isnan(values)
    return np.stack([np.where(there, values, 0.0), there, there if defined is None else defined])


def pool_figures(parts: Sequence[Floats], neuron_shape: tuple[int, ...], place: Place) -> Floats:
    """Figures of all neurons, added up over the neurons of a place: float64 [3, groups, *places]."""
    joined, places = np.concatenate(parts, axis=2), places_of(neuron_shape, place)
    together = math.prod(neuron_shape) // math.prod(places)
    by_place: Floats = joined.reshape(*joined.shape[:2], *places, together).sum(axis=-1)
    return by_place


def pool_presentations(parts: Sequence[Floats], codes: Integers, groups: int) -> Floats:
    """Figures of presentations, added up in their groups: float64 [3, groups], as `_figures`."""
    values = np.concatenate(parts)
    there = ~np.isnan(values) & (codes >= 0)
    total = np.bincount(codes[there], values[there], groups)
    number = np.bincount(codes[there], minlength=groups)
    return np.stack([total, number, number])


def ratios_of_products(total: Counts, presentations: Integers) -> Floats:
    """Participation ratios from `products`; ``presentations`` is int64 [groups, times], as the result."""
    found = [
        ratio_of_products(n, sums[-1], sums[:-1])
        for n, sums in zip(presentations.ravel(), np.concatenate(total), strict=True)
    ]
    return np.array(found, np.float64).reshape(presentations.shape)


def ratios_of_gram(matrix: Counts, codes: Integers, shown: NDArray[np.bool_], groups: int) -> Floats:
    """Participation ratios from `gram`, float64 [groups, times].

    ``shown`` says which presentations have frames at which times, bool [presentations, times].
    """
    found = np.empty((groups, len(matrix)))
    for group, time in np.ndindex(*found.shape):
        rows = np.flatnonzero((codes == group) & shown[:, time])
        found[group, time] = ratio_of_gram(len(rows), matrix[time][np.ix_(rows, rows)])
    return found


def hsic_from_products(total: Counts, presentations: Integers) -> Floats:
    """HSIC at each time from `cross_products`, float64 [times]."""
    each = [hsic_of_products(n, sums) for n, sums in zip(presentations, total, strict=True)]
    return np.array(each, np.float64)


def hsic_from_grams(one: Counts, other: Counts, presentations: Integers) -> Floats:
    """HSIC at each time from two results of `gram`, float64 [times]."""
    each = [hsic_of_grams(n, *grams) for n, *grams in zip(presentations, one, other, strict=True)]
    return np.array(each, np.float64)


def alignments(both: Floats, one: Floats, other: Floats, presentations: Integers) -> Floats:
    """CKA at each time, from HSIC of two layers and of each with itself: float64 [times]."""
    return cka(both, one, other, presentations)


def joined_blocks(blocks: Sequence[Sequence[Counts]]) -> Counts:
    """One matrix for each time, of blocks of it: int64 [times, presentations, presentations]."""
    return np.concatenate([np.concatenate(row, axis=2) for row in blocks], axis=1)


def _by_time(block: Counts, times: int) -> Counts:
    """Counts in the shape [presentations, times, neurons], also of no presentations."""
    return block.reshape(len(block), times, math.prod(block.shape[1:]) // times)


def _sum_by(values: Counts, codes: Integers, groups: int) -> Counts:
    """Sum of the rows of each group, int64 [groups, ...]."""
    found = np.zeros((groups, *values.shape[1:]), np.int64)
    order = np.argsort(codes, kind="stable")
    order = order[np.searchsorted(codes[order], 0) :]
    if len(order):
        ordered = codes[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        found[ordered[starts]] = np.add.reduceat(values[order], starts, axis=0)
    return found
