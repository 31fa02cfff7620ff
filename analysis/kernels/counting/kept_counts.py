"""Count spikes of layers of which only counts were kept: a row for each sample of each segment."""

from __future__ import annotations

import math

import numpy as np

from analysis.kernels.counting.quantities import Quantity
from analysis.kernels.counting.tallying import Place, places_of, sum_places
from analysis.kernels.selecting.coding import CodedGroups, coded_groups
from analysis.kernels.selecting.grouping import Groups, count_up
from analysis.kernels.selecting.source import Source, kept_neurons
from recorder.format.bits import Counts, Integers
from recorder.tape.layers.counts_reading import CountsReader


def sum_rows(
    source: Source, reader: CountsReader, groups: CodedGroups, first: int, last: int, places: int
) -> Counts:
    """Spikes in each group of the segments that begin at frames ``first`` to ``last`` (exclusive).

    All frames of a sample of a segment must be in one group, as they are where steps are not told apart.

    Returns
    -------
    int64 array, shape [groups, places]
        ``places`` is 1, the number of channels, or that of the selected neurons.

    Raises
    ------
    RecordingFormatError
        If a row of counts is missing or damaged; it names file, layer and frames.
    """
    spikes = np.zeros((len(groups), places), np.int64)
    segments, first_rows, kept = reader.segments(), reader.first_rows(), kept_neurons(source)
    begin, end = np.searchsorted(segments.first_frame, [first, last])
    for some, rows in reader.kept_rows(range(int(begin), int(end))):
        labels = _labels(source, reader, groups, some, first_rows)
        chosen = np.flatnonzero(labels >= 0)
        order = chosen[np.argsort(labels[chosen], kind="stable")]
        if len(order) == 0:
            continue
        summed = sum_places(rows[order] if kept is None else rows[np.ix_(order, kept)], places)
        found = labels[order]
        starts = np.flatnonzero(np.concatenate([[True], found[1:] != found[:-1]]))
        spikes[found[starts]] += np.add.reduceat(summed, starts, axis=0)
    return spikes


def _labels(
    source: Source, reader: CountsReader, groups: CodedGroups, some: range, first_rows: Integers
) -> Integers:
    """Group of each row of some segments that follow each other, -1 for none."""
    segments = reader.segments()
    origin = int(segments.first_frame[some[0]])
    pieces = groups.pieces(source, origin, int(segments.last_frame[some[-1]]), origin)
    covered = np.minimum(pieces.batch, pieces.end - pieces.begin)
    piece = np.repeat(np.arange(len(pieces)), covered)
    step, sample = np.divmod(pieces.skipped[piece] + count_up(covered), pieces.batch[piece])
    step_code = pieces.step_codes[pieces.step_at[piece] + step]
    sample_code = pieces.sample_codes[pieces.sample_at[piece] + sample]
    row = first_rows[segments.segment_of(pieces.begin + origin)][piece] + sample - first_rows[some[0]]
    labels = np.full(int(first_rows[some[-1] + 1] - first_rows[some[0]]), -1, np.int64)
    labels[row] = np.where((step_code >= 0) & (sample_code >= 0), step_code + sample_code, -1)
    return labels


def quantity_of_rows(
    source: Source,
    reader: CountsReader,
    groups: Groups | CodedGroups,
    first: int,
    last: int,
    place: Place,
    quantity: Quantity,
    in_groups: Integers,
) -> Counts:
    """A quantity in each group of frames, given the number of frames in each; see `count_spikes`."""
    keeps = quantity.keeps_neurons
    shown = math.prod(places_of(source.neuron_shape, place))
    spikes = sum_rows(source, reader, coded_groups(groups), first, last, source.neurons if keeps else shown)
    return sum_places(quantity.of(spikes, in_groups), shown) if keeps else spikes
