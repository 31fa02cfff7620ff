"""Write the bits of a layer chunk by chunk, with their counts and checksums; here, those of its events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorder.format import ChunkPlan
from recorder.format.arrays import LayerTables
from recorder.format.bits import Counts, Packed, count_per_neuron, count_rows, rows_to_trains
from recorder.format.chunks import (
    checksum,
    encode_room,
    encode_spikes,
    room_bytes,
    stored_checksum,
    trains_in,
)
from recorder.format.layout import ZSTD_LEVEL
from recorder.format.record.extents import TableCommit
from recorder.tape.layers.layer_reading import LayerReader
from recorder.tape.tables import TableWriter, rows_checksum
from recorder.tape.threads.in_order import InOrder
from recorder.tape.threads.pressure import Timed
from recorder.tape.threads.rearranging import REARRANGING
from recorder.tape.threads.side_by_side import KeyWriter, SideBySide

# Rows of zeros that are written at once for blocks before the first chunk of an array.
_ZERO_BYTES = 2**20


class BitsExtent(NamedTuple):
    """What a commit may promise of one array of bits; see `LayerCommit`."""

    counts_checksums: TableCommit
    checksums: TableCommit
    tail: tuple[int, ...]


class WrittenChunk(NamedTuple):
    """A chunk that is stored: counts of each neuron, and checksums of its parts, [1, parts]."""

    counts: Counts
    checksums: NDArray[np.uint32]


def encode_events(plan: ChunkPlan, room: Packed, level: int = ZSTD_LEVEL) -> Iterator[bytes]:
    """Stored bytes of each part of a chunk of events, given in its room (see `room_bytes`)."""
    if plan.parts == 1:
        yield encode_room(room, level)
        return
    trains = trains_in(room, plan.neurons, plan.chunk_bytes)
    for part in range(plan.parts):
        yield encode_spikes(plan.part_of(trains, part), level)


class BitsArray(NamedTuple):
    """An array of bits that is to be written.

    Attributes
    ----------
    commits : SideBySide
    encoding : InOrder
        Has memory for threads that write chunks.
    chunk_key : callable
        Key of a stored chunk, as ``chunk_key(chunk, part)``.
    tables : LayerTables
        Layouts of the small arrays.
    plan : ChunkPlan
    """

    commits: SideBySide
    encoding: InOrder
    chunk_key: Callable[[int, int], str]
    tables: LayerTables
    plan: ChunkPlan


class BitsWriter:
    """Writes chunks of bits of a layer, with their counts and checksums; its kinds say what fills them.

    A full chunk is taken away, to be encoded and written by another thread while the next one fills; its
    counts and checksums are taken into the small arrays afterwards, in order. A commit also writes the last
    chunk, which is not full, and later writes of it begin with the same frames.

    Parameters
    ----------
    array : BitsArray
    first_chunk : int
        The chunk with which the array begins, whose frames so far are silent; no earlier one is stored.
    """

    def __init__(self, array: BitsArray, *, first_chunk: int = 0) -> None:
        self._commits, self._encoding, self._chunk_key, tables, plan = array
        self._plan = plan
        self.first_chunk = first_chunk
        self._counts = TableWriter(self._commits, tables.counts)
        self._counts_checksums = TableWriter(self._commits, tables.counts_checksums)
        self._checksums = TableWriter(self._commits, tables.checksums)
        self._shape = plan.neurons, plan.chunk_bytes
        self._room_bytes = room_bytes(*self._shape)
        # Number of the chunk that is being filled, and number of chunks counted so far.
        self._chunk = self._counted = first_chunk
        # Bits of each neuron in the counted chunks of the unfinished block.
        self._block = np.zeros(plan.neurons, np.int64)

    def begin_with_silence(self) -> None:
        """Add what the small arrays have about the chunks before the first one, in which nothing is true."""
        self._checksums.append(np.zeros((self.first_chunk, self._plan.parts), np.uint32))
        blocks = self.first_chunk // self._plan.block_chunks
        row, row_checksum = self._counts_row(self._block)
        at_once = max(_ZERO_BYTES // row.nbytes, 1)
        for first in range(0, blocks, at_once):
            count = min(at_once, blocks - first)
            self._counts.append(np.repeat(row, count, axis=0))
            self._counts_checksums.append(np.repeat(row_checksum, count))

    def _resume(self, kept: LayerReader) -> None:
        """Go on after the committed frames that a reader of this array sees, but for what fills a chunk."""
        plan, frames = self._plan, kept.frames
        self._chunk = self._counted = frames // plan.chunk_frames
        blocks = frames // plan.block_frames
        checksums, names = kept.checksums(), kept.counts_checksums()
        unfinished = blocks // self._counts.chunk_rows * self._counts.chunk_rows
        self._counts.resume(kept.counts(unfinished, blocks), 0, unfinished)
        for table, rows in (
            (self._checksums, checksums[: self._chunk]),
            (self._counts_checksums, names[:blocks]),
        ):
            table.resume(rows, rows_checksum(rows))
        for chunk in range(blocks * plan.block_chunks, self._chunk):
            self._block += count_per_neuron(kept.chunk_or_silence(chunk))

    @property
    def promised(self) -> BitsExtent:
        """Extent of a closed recording that is resumed.

        Its last, partial chunk and block have rows, which are no longer promised, as these grow again.
        """
        return BitsExtent(self._counts_checksums.committed, self._checksums.committed, ())

    def count_chunk(self, written: WrittenChunk) -> None:
        """Add a written chunk to counts and checksums. Runs in the order of chunks."""
        self._block += written.counts
        self._checksums.append(written.checksums)
        self._counted += 1
        if self._counted % self._plan.block_chunks == 0:
            row, row_checksum = self._counts_row(self._block)
            self._counts.append(row)
            self._counts_checksums.append(row_checksum)
            self._block[:] = 0

    def _counts_row(self, counts: Counts) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        row = counts.astype(np.uint32).reshape(1, *self._plan.neuron_shape)
        return row, np.array([rows_checksum(row)], np.uint32)

    def _write_parts(self, stored: Iterable[bytes], chunk: int, store: KeyWriter) -> NDArray[np.uint32]:
        """Write all parts of one chunk; return their checksums, shape [1, parts]."""
        checksums = np.empty((1, self._plan.parts), np.uint32)
        for part, each in enumerate(stored):
            checksums[0, part] = stored_checksum(each)
            store.write(self._chunk_key(chunk, part), each)
        return checksums

    def _commit(
        self, begun: Packed, frames: int, encode: Callable[[Packed], Iterable[bytes]], *, close: bool
    ) -> BitsExtent:
        """Write the chunk that is not full and the small arrays; return what a commit may then promise.

        Parameters
        ----------
        begun : uint8 array, shape [neurons, bytes]
            Trains of that chunk up to 64 frames, of which there may be none.
        frames : int
            All frames.
        encode : callable
            Makes parts of that chunk, as they are stored, from its room (see `room_bytes`).
        close : bool
            Whether the last, partial chunk and block get rows in the small arrays.
        """
        plan = self._plan
        last_checksum = last_counts = last_counts_checksum = None
        tail: tuple[int, ...] = ()
        block = self._block
        if frames % plan.chunk_frames:
            room = self._commits.silence(self._room_bytes)
            trains = trains_in(room, *self._shape)
            trains[:, : begun.shape[1]] = begun
            parts = (trains[plan.part_slice(part)].reshape(-1) for part in range(plan.parts))
            tail = tuple(checksum(part.data) for part in parts)
            checksums = self._write_parts(encode(room), self._chunk, self._commits)
            trains[:, : begun.shape[1]] = 0
            last_checksum = checksums if close else None
            block = block + count_per_neuron(begun)
        if close and frames % plan.block_frames:
            last_counts, last_counts_checksum = self._counts_row(block)
        self._counts.flush(last_counts)
        return BitsExtent(
            self._counts_checksums.flush(last_counts_checksum), self._checksums.flush(last_checksum), tail
        )

    def delete_chunks(self, first: int, last: int) -> None:
        """Delete the stored chunks ``first`` to ``last`` (exclusive)."""
        for chunk in range(max(first, self.first_chunk), last):
            for part in range(self._plan.parts):
                self._commits.store.delete(self._chunk_key(chunk, part))


class EventsWriter(BitsWriter):
    """Writes the events of a layer: appended rows fill the memory of one chunk."""

    def __init__(self, array: BitsArray) -> None:
        super().__init__(array)
        plan = array.plan
        self._rows = np.empty((plan.chunk_bytes, plan.neurons), np.uint8)
        # Memory of chunks that have been encoded, to be filled again.
        self._spare: list[Packed] = []
        self._filled = 0
        # Bits of each neuron in all counted chunks.
        self._total = np.zeros(plan.neurons, np.int64)

    def resume(self, kept: LayerReader) -> None:
        """Go on after the committed frames that a reader of this array sees."""
        self._resume(kept)
        plan, frames = self._plan, kept.frames
        blocks = frames // plan.block_frames
        self._total += kept.sum_counts(0, blocks)
        for chunk in range(blocks * plan.block_chunks, self._chunk):
            self._total += count_per_neuron(kept.kept_trains(chunk))
        if frames % plan.chunk_frames:
            trains = kept.chunk_or_silence(self._chunk)
            # When this chunk is full, all its spikes will be added to the total, also those in lost frames;
            # they are subtracted in advance.
            self._total -= count_per_neuron(trains) - count_per_neuron(kept.kept_trains(self._chunk))
            self._filled = frames % plan.chunk_frames // 8
            self._rows[: self._filled] = trains.T[: self._filled]

    @property
    def frames(self) -> int:
        """Frames appended so far, in whole rows."""
        return self._chunk * self._plan.chunk_frames + self._filled * 8

    @property
    def chunk(self) -> int:
        """Number of the chunk that is being filled."""
        return self._chunk

    @property
    def begun(self) -> Packed:
        """Rows of that chunk so far, [rows, neurons]."""
        return self._rows[: self._filled]

    @property
    def room(self) -> int:
        """Rows that the chunk has room for."""
        return len(self._rows) - self._filled

    def append(self, rows: Packed) -> None:
        """Append rows of eight frames, uint8 [count, neurons], for which there is room."""
        self._rows[self._filled : self._filled + len(rows)] = rows
        self._filled += len(rows)

    def take_chunk(self) -> Packed:
        """Rows of the chunk, which is full; begin the next one."""
        rows = self._rows
        self._rows = self._spare.pop() if self._spare else np.empty_like(rows)
        self._chunk += 1
        self._filled = 0
        return rows

    def write_chunk(self, rows: Packed, chunk: int, store: Timed) -> WrittenChunk:
        """Write a chunk that was taken; runs in any thread.

        Parameters
        ----------
        rows : uint8 array, shape [rows, neurons]
        chunk : int
        store : Timed
            What writes it, at the level at which it is to be compressed.
        """
        memory = self._encoding.room(self._room_bytes)
        room = memory[: self._room_bytes]
        counts = REARRANGING.rearrange(rows, trains_in(room, *self._shape))
        checksums = self._write_parts(encode_events(self._plan, room, store.level), chunk, store)
        self._encoding.give_back(memory)
        return WrittenChunk(counts, checksums)

    def give_back(self, rows: Packed) -> None:
        """Use the memory of a written chunk again."""
        self._spare.append(rows)

    def count_chunk(self, written: WrittenChunk) -> None:
        """Add a written chunk to counts and checksums. Runs in the order of chunks."""
        super().count_chunk(written)
        self._total += written.counts

    def totals(self) -> Counts:
        """Number of bits of each neuron, int64 [neurons], in the rows appended so far."""
        return self._total + count_rows(self.begun)

    def tail_rows(self, pending_row: Packed | None) -> Packed:
        """Rows of the chunk that is being filled and the pending one, and silence up to 64 frames."""
        # Rows after the filled ones hold old data. They may be overwritten, as the next append does.
        used = -(-(self._filled + (pending_row is not None)) // 8) * 8
        self._rows[self._filled : used] = 0
        if pending_row is not None:
            self._rows[self._filled] = pending_row
        return self._rows[:used]

    def commit(self, pending_row: Packed | None, frames: int, *, close: bool) -> BitsExtent:
        """Write the chunk that is not full and the small arrays; return what a commit may then promise.

        Parameters
        ----------
        pending_row : uint8 array, shape [neurons], or None
            The newest frames, which fill no row.
        frames : int
            All frames, these included.
        close : bool
            Whether the last, partial chunk and block get rows in the small arrays.
        """
        begun = rows_to_trains(self.tail_rows(pending_row))
        return self._commit(begun, frames, partial(encode_events, self._plan), close=close)
