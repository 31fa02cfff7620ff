"""Count the spikes of a part of a layer: the functions that run inside Dask tasks.

They travel in parcels, see ``spiketape_worker``. A task carries a `Source`, a small description of one layer
at one commit; the tables it needs are read once in each process. Work goes chunk by chunk, so that a task
needs the memory of one decoded chunk and of its result, however much it reads.

Blocks of frames that belong to one group as a whole are taken from ``counts``; everything else is decoded and
counted on 64-bit words. Both are exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice, pairwise

import numpy as np
from numpy.typing import NDArray

from analysis.kernels import tallying
from analysis.kernels.grouping import Grouping, Groups, LabelGroups, count_up, positions_of
from analysis.kernels.intervals import count_per_neuron_in
from analysis.kernels.quantities import Quantity
from analysis.kernels.selection import NO_LABEL, Codes, Labels, SampleLabels, SelectedFrames, Selection
from analysis.kernels.tallying import Place, Tally, places_of, sum_places, tally_for
from recorder.format import LayerCommit
from recorder.format.bits import Counts, Integers, Packed, count_per_frame, pack_mask
from recorder.format.layout import table_chunk_rows
from recorder.format.metadata import TrialsCommit
from recorder.stores import ByteStore
from recorder.tape import LayerReader

# Arrays with one element for each frame are made for so many frames at a time.
SLICE_FRAMES = 2**18


@dataclass(frozen=True)
class Source:
    """The frames of one layer, as of one commit, that a question is about.

    Two sources are equal if they stand for the same frames of the same commit; results and tables are shared
    by that.

    Attributes
    ----------
    identity : str
        Of commit and store, see `recorder.tape.TapeReader.identity`.
    layer : str
    selection : Selection
    use_counts : bool
        Whether ``counts`` may be used; otherwise every spike is counted from the bits.
    store : ByteStore
    commit : LayerCommit
    trials : TrialsCommit
    labels : Labels, optional
        Labels to tell apart, in this order, where they are those of several recordings; else the recording's.
    """

    identity: str
    layer: str
    selection: Selection
    use_counts: bool
    store: ByteStore = field(compare=False, repr=False)
    commit: LayerCommit = field(compare=False, repr=False)
    trials: TrialsCommit = field(compare=False, repr=False)
    labels: Labels | None = None

    def narrowed(self, selection: Selection) -> Source:
        """The same layer with another selection."""
        return replace(self, selection=selection)


def reader_of(source: Source) -> LayerReader:
    """Reader of the source's layer, kept in this process so that its tables are read once."""
    return _reader(replace(source, selection=Selection(), labels=None))


def labels_of(source: Source) -> SampleLabels:
    """Labels of all samples presented, kept in this process; errors as in `SampleLabels.read`.

    Their values are those of all recordings that are looked at together, if the source says them.
    """
    return _labels(replace(source, layer="", selection=Selection(), use_counts=True))


def common_labels(sources: Sequence[Source]) -> Labels:
    """Labels that occur in any of the sources: numbers ascending, anything else in order of appearance."""
    return Labels.numbers_ascending(value for source in sources for value in labels_of(source).values)


# Of several recordings, each layer of each is a source.
@lru_cache(maxsize=128)
def frames_of(source: Source, labelled: bool = False) -> SelectedFrames:
    """The source's frames, kept in this process.

    Parameters
    ----------
    source : Source
    labelled : bool
        Whether the label of each frame will be asked for.

    Raises
    ------
    RecordingFormatError
        If the table of segments or of trials is damaged.
    """
    needed = labelled or source.selection.labels is not None
    labels = labels_of(source) if needed else None
    return SelectedFrames(reader_of(source).kept_segments(), source.selection, labels)


@lru_cache(maxsize=256)
def _reader(source: Source) -> LayerReader:
    return LayerReader(source.store, source.commit)


@lru_cache(maxsize=32)
def _labels(source: Source) -> SampleLabels:
    labels = SampleLabels.read(source.store, source.trials)
    return labels if source.labels is None else labels.recoded(source.labels)


def count_spikes(
    source: Source, groups: Groups | LabelGroups, first: int, last: int, place: Place, quantity: Quantity
) -> Counts:
    """A quantity in each group of frames.

    Parameters
    ----------
    source : Source
    groups : Groups or LabelGroups
    first, last : int
        Frames ``first`` to ``last`` (exclusive) are looked at.
    place : {"all", "channel", "neuron"}
        What is told apart within the layer.
    quantity : Quantity
        What is made of the spikes of each neuron in a group, added up over the neurons of a place. Of the
        frames of labels, spikes alone are counted.

    Returns
    -------
    int64 array, shape [groups, places]

    Raises
    ------
    RecordingFormatError
        If a chunk or a row of counts that is needed is missing or damaged; it names file, layer and frames.
    """
    if isinstance(groups, LabelGroups):
        return _count_labels(source, groups, first, last, place)
    grouping, ranges = groups.grouping, groups.ranges
    reader, frames = reader_of(source), frames_of(source)
    in_groups = np.zeros(len(groups), np.int64)
    if quantity.needs_frames:
        in_groups = count_frames(source, groups, first, last)
    tally = tally_for(reader.plan.neuron_shape, place, quantity, in_groups)
    blocks, block_keys = (
        _whole_blocks(reader, frames, grouping, first, last) if source.use_counts else _NOTHING
    )
    chunks = _chunks_outside(reader, frames, first, last, blocks)
    slabs = _slabs(reader, blocks, np.searchsorted(chunks, blocks * reader.plan.block_chunks))
    decoded = zip(chunks.tolist(), reader.chunks(chunks.tolist(), passing=True), strict=True)
    done = 0
    for behind, slab in slabs:
        for chunk, trains in islice(decoded, behind - done):
            _add_chunk(tally, reader, frames, grouping, ranges, chunk, trains, first, last)
        done = behind
        rows = reader.counts(int(blocks[slab.start]), int(blocks[slab.stop - 1]) + 1)
        tally.add_rows(rows.reshape(len(rows), -1), positions_of(ranges, block_keys[slab]))
    for chunk, trains in decoded:
        _add_chunk(tally, reader, frames, grouping, ranges, chunk, trains, first, last)
    return tally.result()


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


def _slices(
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
    for frame, asked_first, asked_last, some in _slices(reader, chunk, trains, first, last):
        begin, end, key = frames.intervals(asked_first, asked_last, grouping)
        if len(begin):
            tally.add_trains(some, begin - frame, end - frame, positions_of(ranges, key))


def _count_labels(source: Source, labels: LabelGroups, first: int, last: int, place: Place) -> Counts:
    """Spikes in the frames of each label; parameters as in `count_spikes`."""
    reader, frames = reader_of(source), frames_of(source, labelled=True)
    places = math.prod(places_of(reader.plan.neuron_shape, place))
    spikes = np.zeros((len(labels), places), np.int64)
    chunks = _chunks_outside(reader, frames, first, last, _NOTHING[0]).tolist()
    for chunk, trains in zip(chunks, reader.chunks(chunks, passing=True), strict=True):
        for frame, asked_first, asked_last, some in _slices(reader, chunk, trains, first, last):
            row, begin, end = frames.runs(asked_first, asked_last)
            codes = np.full(some.shape[1] * 8, NO_LABEL, np.int32)
            found = frames.codes(row, begin, end)
            found[(found < labels.first) | (found >= labels.last)] = NO_LABEL
            if len(found):
                codes[_places_of_frames(begin - frame, end - frame)] = found
                _add_labelled(spikes, some, codes, labels.first)
    return spikes


def _places_of_frames(begin: Integers, end: Integers) -> slice | Integers:
    """Index of every frame of some runs: a slice if there is nothing between them."""
    lengths = end - begin
    if end[-1] - begin[0] == lengths.sum():
        return slice(int(begin[0]), int(end[-1]))
    return np.repeat(begin, lengths) + count_up(lengths)


def _add_labelled(spikes: Counts, trains: Packed, codes: Codes, first_code: int) -> None:
    """Add the spikes of each frame to the row of its code, the first being ``first_code``."""
    if spikes.shape[1] == 1:
        found = np.bincount(codes + 1, count_per_frame(trains), first_code + len(spikes) + 1)
        spikes[:, 0] += found[first_code + 1 :].astype(np.int64)
        return
    frames_per_code = np.bincount(codes + 1, minlength=first_code + len(spikes) + 1)[first_code + 1 :]
    present = np.flatnonzero(frames_per_code)
    some = max(tallying.SLAB_ELEMENTS // len(trains), 1)
    for first in range(0, len(present), some):
        masked = present[first : first + some]
        masks = np.stack([pack_mask(codes == first_code + row) for row in masked])
        spikes[masked] += sum_places(count_per_neuron_in(trains, masks), spikes.shape[1])


def count_frames(source: Source, groups: Groups | LabelGroups, first: int, last: int) -> Integers:
    """Number of selected frames in each group, int64 [groups]; parameters as in `count_spikes`.

    Frames with a label are counted in the whole layer.
    """
    if isinstance(groups, LabelGroups):
        every = frames_of(source, labelled=True).frames_per_label(len(labels_of(source).values))
        return every[groups.first : groups.last]
    frames = frames_of(source)
    found = np.zeros(len(groups), np.int64)
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
    has_groups: bool,
) -> Counts:
    """Counts in the shape of a result.

    Parameters
    ----------
    counts : int64 array, shape [groups, neurons] or [groups, places], or of as many elements
    frames : int64 array, shape [groups] or []
        Number of frames in each group, or in all; 0 if the quantity does not need it.
    neuron_shape, place, quantity
        As in `count_spikes`.
    has_groups : bool
        Whether the result has an axis of groups.

    Returns
    -------
    int64 array, shape [groups, *places] or [*places]
    """
    shape = places_of(neuron_shape, place)
    counts = counts.reshape(len(counts) if has_groups else 1, -1)
    values = quantity.of(counts, np.broadcast_to(frames, len(counts)))
    summed = sum_places(values, math.prod(shape))
    return summed.reshape(len(counts), *shape) if has_groups else summed.reshape(shape)


def ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """``part / whole``, NaN where there is nothing to divide by."""
    part, whole = np.broadcast_arrays(part, whole)
    out = np.full(part.shape, np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out
