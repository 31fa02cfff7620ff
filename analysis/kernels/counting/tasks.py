"""Count the spikes of a part of a layer: the functions that run inside Dask tasks.

They travel in parcels, see ``spiketape_worker``. A task carries a `Source`. Work goes chunk by chunk, so that
a task needs the memory of one decoded chunk and of its result, however much it reads.

Blocks of frames that belong to one group as a whole are taken from ``counts``; everything else is decoded and
counted on 64-bit words. Both are exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.counting.kept_counts import quantity_of_rows
from analysis.kernels.counting.quantities import SPIKES, Quantity
from analysis.kernels.counting.tallying import Place, Tally, places_of, sum_places, tally_for
from analysis.kernels.events.by_group import count_by_group, frames_by_group, labels_of
from analysis.kernels.selecting.coding import CodedGroups
from analysis.kernels.selecting.grouping import Grouping, Groups, count_up, positions_of
from analysis.kernels.selecting.pieces import Pieces
from analysis.kernels.selecting.selected_frames import SelectedFrames
from analysis.kernels.selecting.source import Source, frames_of, kept_neurons, read_trains, reader_of
from recorder.format.bits import Counts, Integers, Packed, count_per_frame
from recorder.format.layout import table_chunk_rows
from recorder.tape import LayerReader
from recorder.tape.layers.counts_reading import CountsReader
from recorder.tape.tables import read_all_rows

# Arrays with one element for each frame are made for so many frames at a time.
SLICE_FRAMES = 2**18


def count_spikes(
    source: Source, groups: Groups | CodedGroups, first: int, last: int, place: Place, quantity: Quantity
) -> Counts:
    """A quantity in each group of frames.

    Parameters
    ----------
    source : Source
    groups : Groups or CodedGroups
    first, last : int
        Frames ``first`` to ``last`` (exclusive) are looked at.
    place : {"all", "channel", "neuron"}
        What is told apart within the layer.
    quantity : Quantity
        What is made of the spikes of each neuron in a group, added up over the neurons of a place.

    Returns
    -------
    int64 array, shape [groups, places]

    Raises
    ------
    RecordingFormatError
        If a chunk or a row of counts that is needed is missing or damaged; it names file, layer and frames.
    """
    reader, frames = reader_of(source), frames_of(source)
    in_groups = np.zeros(len(groups), np.int64)
    if quantity.needs_frames and (isinstance(reader, CountsReader) or isinstance(groups, Groups)):
        in_groups = count_frames(source, groups, first, last).reshape(-1)
    if isinstance(reader, CountsReader):
        return quantity_of_rows(source, reader, groups, first, last, place, quantity, in_groups)
    if isinstance(groups, CodedGroups):
        return _count_coded(source, groups, first, last, place, quantity)
    grouping, ranges = groups.grouping, groups.ranges
    tally = tally_for(source.neuron_shape, place, quantity, in_groups)
    blocks, block_keys = (
        _whole_blocks(reader, frames, grouping, first, last) if source.use_counts else _NOTHING
    )
    chunks = _chunks_outside(reader, frames, first, last, blocks)
    slabs = _slabs(reader, blocks, np.searchsorted(chunks, blocks * reader.plan.block_chunks))
    decoded = zip(chunks.tolist(), read_trains(source, chunks.tolist()), strict=True)
    kept = kept_neurons(source)
    done = 0
    for behind, slab in slabs:
        for chunk, trains in islice(decoded, behind - done):
            _add_chunk(tally, reader, frames, grouping, ranges, chunk, trains, first, last)
        done = behind
        rows = reader.counts(int(blocks[slab.start]), int(blocks[slab.stop - 1]) + 1)
        rows = rows.reshape(len(rows), -1)
        tally.add_rows(rows if kept is None else rows[:, kept], positions_of(ranges, block_keys[slab]))
    for chunk, trains in decoded:
        _add_chunk(tally, reader, frames, grouping, ranges, chunk, trains, first, last)
    return tally.result()


def count_each(sources: Sequence[Source]) -> list[Counts]:
    """Spikes of each neuron of each source in all of its frames: int64 [neurons]."""
    # Of very many sources each is read once: there is nothing to keep, and the segments are not asked for.
    readers = [LayerReader(each.store, each.commit) if _is_counted(each) else None for each in sources]
    tables = [
        (reader.store, reader.tables.counts, reader.commit.counts_checksums.rows)
        for reader in readers
        if reader is not None
    ]
    rows = iter(read_all_rows(tables))
    return [
        _count_anew(source) if reader is None else _add_rows(source, reader.checked_counts(next(rows), 0))
        for source, reader in zip(sources, readers, strict=True)
    ]


def _is_counted(source: Source) -> bool:
    """True if the rows of ``counts`` sum up all frames of a source, and these alone."""
    commit = source.commit
    counted = commit.counts_checksums.rows * commit.plan.block_frames
    if not source.use_counts or not counted >= commit.frames > 0:
        return False
    return not commit.lost and not commit.counts_only and source.selection.has_all_frames


def _count_anew(source: Source) -> Counts:
    everything = Groups(Grouping(), np.array([[0, 1]]))
    return count_spikes(source, everything, 0, source.commit.frames, "neuron", SPIKES).reshape(-1)


def _add_rows(source: Source, rows: NDArray[np.uint32]) -> Counts:
    rows, kept = rows.reshape(len(rows), -1), kept_neurons(source)
    total: Counts = (rows if kept is None else rows[:, kept]).sum(axis=0, dtype=np.int64)
    return total


def pool_recordings(spikes: Sequence[Counts], layers: int) -> list[Counts]:
    """Spikes of each neuron of each layer, the sum over recordings, whose layers follow each other."""
    return [add_up(spikes[layer::layers]) for layer in range(layers)]


def add_each(batches: Sequence[Sequence[Counts]]) -> list[Counts]:
    """Spikes of each neuron of each layer, the sum over some batches."""
    return [add_up(layer) for layer in zip(*batches, strict=True)]


def finish_each(spikes: Sequence[Counts], frames: Integers, quantity: Quantity) -> Counts:
    """A quantity of each source, added up over its neurons.

    Parameters
    ----------
    spikes : sequence of int64 array, shape [neurons]
        As from `count_each`.
    frames : int64 array, shape [recordings, layers]
        Selected frames of each source.
    quantity : Quantity

    Returns
    -------
    int64 array, shape [recordings, layers]
    """
    layers = frames.shape[1]
    each = ((np.stack(spikes[layer::layers]), frames[:, layer]) for layer in range(layers))
    made = [quantity.of(neurons, some).sum(axis=1, dtype=np.int64) for neurons, some in each]
    return np.stack(made, axis=1)


_NOTHING = np.empty(0, np.int64), np.empty(0, np.int64)


def _whole_blocks(
    reader: LayerReader, frames: SelectedFrames, grouping: Grouping, first: int, last: int
) -> tuple[Integers, Integers]:
    """Counted blocks all of whose frames are selected and in one group, and the key of that group."""
    size, counted = reader.plan.block_frames, reader.commit.counts_checksums.rows
    begin, end, key = frames.whole_intervals(first, last, grouping)
    first_block = -(-begin // size)
    # The last row of a closed recording stands for a block that is not full.
    last_block = np.where(end == reader.frames, -(-end // size), end // size)
    blocks = np.maximum(np.minimum(last_block, counted) - first_block, 0)
    return np.repeat(first_block, blocks) + count_up(blocks), np.repeat(key, blocks)


def _chunks_outside(
    reader: LayerReader, frames: SelectedFrames, first: int, last: int, blocks: Integers
) -> Integers:
    """Chunks with selected frames that do not lie in the given blocks, ascending."""
    _, begin, end = frames.runs(first, last)
    first_chunk = begin // reader.plan.chunk_frames
    chunks = -(-end // reader.plan.chunk_frames) - first_chunk
    touched = np.unique(np.repeat(first_chunk, chunks) + count_up(chunks))
    return touched[~np.isin(touched // reader.plan.block_chunks, blocks)]


def _slabs(
    reader: LayerReader, blocks: Integers, chunks_before: NDArray[np.intp]
) -> Iterator[tuple[int, slice]]:
    """Blocks read together: neighbours in one stored chunk of counts, no decoded chunk between them."""
    stored = blocks // table_chunk_rows(reader.plan.neuron_shape, 4)
    parted = (np.diff(blocks) != 1) | (np.diff(stored) != 0)
    bounds = np.concatenate([[0], np.flatnonzero(parted) + 1, [len(blocks)]]).tolist()
    for begin, end in pairwise(bounds):
        if begin < end:
            yield int(chunks_before[begin]), slice(begin, end)


def chunks_with_frames(reader: LayerReader, frames: SelectedFrames, first: int, last: int) -> list[int]:
    """Chunks with selected frames among ``first`` to ``last`` (exclusive), ascending."""
    chunks: list[int] = _chunks_outside(reader, frames, first, last, _NOTHING[0]).tolist()
    return chunks


def slices_of(
    reader: LayerReader, chunk: int, trains: Packed, first: int, last: int
) -> Iterator[tuple[int, int, int, Packed]]:
    """Trains of a chunk, a bounded number of frames at a time: first frame, range asked about, trains."""
    plan = reader.plan
    for begin in range(0, plan.chunk_frames, SLICE_FRAMES):
        end = min(begin + SLICE_FRAMES, plan.chunk_frames)
        frame = chunk * plan.chunk_frames
        asked_first, asked_last = max(first, frame + begin), min(last, frame + end, reader.frames)
        if asked_first < asked_last:
            yield frame + begin, asked_first, asked_last, trains[:, begin // 8 : end // 8]


def _add_chunk(
    tally: Tally,
    reader: LayerReader,
    frames: SelectedFrames,
    grouping: Grouping,
    ranges: Integers,
    chunk: int,
    trains: Packed,
    first: int,
    last: int,
) -> None:
    for frame, asked_first, asked_last, some in slices_of(reader, chunk, trains, first, last):
        begin, end, key = frames.intervals(asked_first, asked_last, grouping)
        if len(begin):
            tally.add_trains(some, begin - frame, end - frame, positions_of(ranges, key))


def _count_coded(
    source: Source, groups: CodedGroups, first: int, last: int, place: Place, quantity: Quantity
) -> Counts:
    """A quantity in groups along several axes; parameters as in `count_spikes`."""
    reader, frames = reader_of(source), frames_of(source)
    keeps = quantity.keeps_neurons
    places = source.neurons if keeps else math.prod(places_of(source.neuron_shape, place))
    spikes = np.zeros((len(groups), places), np.int64)
    in_groups = np.zeros(len(groups), np.int64)
    chunks = chunks_with_frames(reader, frames, first, last)
    for chunk, trains in zip(chunks, read_trains(source, chunks), strict=True):
        for frame, asked_first, asked_last, some in slices_of(reader, chunk, trains, first, last):
            pieces = groups.pieces(source, asked_first, asked_last, frame)
            if quantity.needs_frames:
                in_groups += frames_by_group(pieces, len(groups))
            _add_coded(spikes, some, pieces)
    if not keeps:
        return spikes
    made = quantity.of(spikes, in_groups)
    return sum_places(made, math.prod(places_of(source.neuron_shape, place)))


def _add_coded(spikes: Counts, trains: Packed, pieces: Pieces) -> None:
    """Add the spikes of each frame to its group; of several neurons together where places are fewer."""
    places = spikes.shape[1]
    if places == len(trains):
        count_by_group(trains, pieces, spikes)
        return
    labels = labels_of(pieces)
    frames = np.flatnonzero(labels >= 0)
    per_place = len(trains) // places
    for place in range(places):
        per_frame = count_per_frame(trains[place * per_place : (place + 1) * per_place])[frames]
        # Sums of float64 are exact: no group of a chunk has 2 ** 53 spikes.
        spikes[:, place] += np.bincount(labels[frames], per_frame, len(spikes)).astype(np.int64)


def count_frames(source: Source, groups: Groups | CodedGroups, first: int, last: int) -> Integers:
    """Number of selected frames in each group, int64 in the shape of the groups; see `count_spikes`."""
    frames = frames_of(source)
    found = np.zeros(len(groups), np.int64)
    if isinstance(groups, CodedGroups):
        for some in range(first, last, SLICE_FRAMES):
            pieces = groups.pieces(source, some, min(some + SLICE_FRAMES, last))
            found += frames_by_group(pieces, len(groups))
        return found.reshape(groups.shape)
    row, begin, end = frames.runs(first, last)
    _, begin, end, key = groups.grouping.split(frames.segments, row, begin, end)
    selected = frames.frames_before(end) - frames.frames_before(begin)
    np.add.at(found, positions_of(groups.ranges, key), selected)
    return found


def add_up(counts: Sequence[Counts]) -> Counts:
    """Sum of counts of equal shape."""
    total = counts[0].copy()
    for other in counts[1:]:
        total += other
    return total


def finish(
    counts: Counts,
    frames: Integers | int,
    neuron_shape: tuple[int, ...],
    place: Place,
    quantity: Quantity,
    groups: tuple[int, ...],
) -> Counts:
    """Counts in the shape of a result.

    Parameters
    ----------
    counts : int64 array, shape [groups, neurons] or [groups, places], or of as many elements
    frames : int64 array, shape of the groups
        Number of frames in each group; 0 if the quantity does not need it.
    neuron_shape, place, quantity
        As in `count_spikes`.
    groups : tuple of int
        Lengths of the axes of groups that the result has; none for a single group.

    Returns
    -------
    int64 array, shape [*groups, *places]
    """
    shape = places_of(neuron_shape, place)
    counts = counts.reshape(math.prod(groups), -1)
    values = quantity.of(counts, np.broadcast_to(np.ravel(frames), len(counts)))
    return sum_places(values, math.prod(shape)).reshape((*groups, *shape))


def ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """``part / whole``, NaN where there is nothing to divide by."""
    part, whole = np.broadcast_arrays(part, whole)
    out = np.full(part.shape, np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out
