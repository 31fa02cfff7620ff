"""Write one boolean array of a layer chunk by chunk: its events, or a plane of its values."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorder.format import ChunkPlan
from recorder.format.arrays import LayerTables
from recorder.format.bits import Counts, Packed, count_per_neuron, rows_to_trains
from recorder.format.chunks import (
    checksum,
    encode_room,
    encode_spikes,
    room_bytes,
    stored_checksum,
    trains_in,
)
from recorder.format.extents import TableCommit
from recorder.format.layout import ZSTD_LEVEL, spikes_chunk_key
from recorder.tape.layer_reading import LayerReader
from recorder.tape.tables import TableWriter, rows_checksum
from recorder.tape.threads.in_order import InOrder
from recorder.tape.threads.pressure import Timed, Written
from recorder.tape.threads.rearranging import REARRANGING
from recorder.tape.threads.side_by_side import KeyWriter, SideBySide

# Rows of zeros that are written at once for blocks before the first chunk of an array.
_ZERO_BYTES = 2**20


class BitsExtent(NamedTuple):
    """What a commit may promise of one boolean array; see `LayerCommit`."""

    counts_checksums: TableCommit
    checksums: TableCommit
    tail: tuple[int, ...]


class _Stored(NamedTuple):
    """A chunk that was written: its rows, spikes of each neuron, checksums [1, parts], and what it took."""

    rows: Packed
    spikes: Counts
    checksums: NDArray[np.uint32]
    written: Written


class BitsWriter:
    """Writes one boolean array of a layer, its counts and its checksums.

    Appended rows fill the memory of one chunk. A full chunk is encoded and written by another thread, while
    the next one fills; its counts and checksums are taken into the small arrays afterwards, in order. A
    commit also writes the last chunk, which is not full, and later writes of it begin with the same frames.

    Parameters
    ----------
    commits : SideBySide
    encoding : InOrder
        Threads that encode and write chunks.
    folder, array : str
        Folder of the layer, and the array below it.
    tables : LayerTables
        Layouts of the small arrays.
    plan : ChunkPlan
    first_chunk : int
        The chunk with which the array begins, whose frames so far are silent; no earlier one is stored.
    filled : int
        Rows of that chunk that are silent.
    """

    def __init__(
        self,
        commits: SideBySide,
        encoding: InOrder,
        folder: str,
        array: str,
        tables: LayerTables,
        plan: ChunkPlan,
        *,
        first_chunk: int = 0,
        filled: int = 0,
    ) -> None:
        self._commits, self._encoding = commits, encoding
        self._folder, self._array, self._plan = folder, array, plan
        self.first_chunk = first_chunk
        self._counts = TableWriter(commits, tables.counts)
        self._counts_checksums = TableWriter(commits, tables.counts_checksums)
        self._checksums = TableWriter(commits, tables.checksums)
        self._shape = plan.neurons, plan.chunk_bytes
        self._room_bytes = room_bytes(*self._shape)
        self._rows = np.empty((plan.chunk_bytes, plan.neurons), np.uint8)
        self._rows[:filled] = 0
        # Memory of chunks that have been encoded, to be filled again.
        self._spare: list[Packed] = []
        # Number of the chunk that is being filled, rows that it has, and number of chunks counted so far.
        self._chunk = self._counted = first_chunk
        self._filled = filled
        # Bits of each neuron in all counted chunks, and in those of the unfinished block.
        self._total = np.zeros(plan.neurons, np.int64)
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

    def resume(self, kept: LayerReader) -> None:
        """Go on after the committed frames that a reader of this array sees."""
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
        self._total += kept.sum_counts(0, blocks)
        for chunk in range(blocks * plan.block_chunks, self._chunk):
            self._block += count_per_neuron(kept.chunk_or_silence(chunk))
            self._total += count_per_neuron(kept.kept_trains(chunk))
        if frames % plan.chunk_frames:
            trains = kept.chunk_or_silence(self._chunk)
            # When this chunk is full, all its spikes will be added to the total, also those in lost frames;
            # they are subtracted in advance.
            self._total -= count_per_neuron(trains) - count_per_neuron(kept.kept_trains(self._chunk))
            self._filled = frames % plan.chunk_frames // 8
            self._rows[: self._filled] = trains.T[: self._filled]

    @property
    def promised(self) -> BitsExtent:
        """Extent of a closed recording that is resumed.

        Its last, partial chunk and block have rows, which are no longer promised, as these grow again.
        """
        return BitsExtent(self._counts_checksums.committed, self._checksums.committed, ())

    @property
    def frames(self) -> int:
        """Frames appended so far, in whole rows."""
        return self._chunk * self._plan.chunk_frames + self._filled * 8

    @property
    def place(self) -> tuple[int, int]:
        """The chunk that is being filled, and how many rows it has."""
        return self._chunk, self._filled

    def append(self, rows: Packed) -> None:
        """Append rows of eight frames, uint8 [rows, neurons], and write the chunks that they fill."""
        while len(rows):
            taken = rows[: len(self._rows) - self._filled]
            self._rows[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            rows = rows[len(taken) :]
            if self._filled == len(self._rows):
                self._finish_chunk()

    def append_silence(self, count: int) -> None:
        """Append so many rows in which nothing is true."""
        while count:
            taken = min(len(self._rows) - self._filled, count)
            self._rows[self._filled : self._filled + taken] = 0
            self._filled += taken
            count -= taken
            if self._filled == len(self._rows):
                self._finish_chunk()

    def _finish_chunk(self) -> None:
        rows = self._rows
        self._encoding.put(partial(self._store_rows, rows, self._chunk), self._count_chunk)
        self._rows = self._spare.pop() if self._spare else np.empty_like(rows)
        self._chunk += 1
        self._filled = 0

    def _store_rows(self, rows: Packed, chunk: int) -> _Stored:
        """Write one chunk. Runs in any thread."""
        store = Timed(self._commits.store, self._encoding.pressure.level())
        memory = self._encoding.room(self._room_bytes)
        room = memory[: self._room_bytes]
        spikes = REARRANGING.rearrange(rows, trains_in(room, *self._shape))
        checksums = self._write_chunk(room, chunk, store, store.level)
        self._encoding.give_back(memory)
        return _Stored(rows, spikes, checksums, store.written())

    def _count_chunk(self, stored: _Stored) -> None:
        """Add a written chunk to counts and checksums. Runs in the order of chunks."""
        rows, spikes, checksums, written = stored
        self._encoding.pressure.note(written)
        self._spare.append(rows)
        self._block += spikes
        self._total += spikes
        self._checksums.append(checksums)
        self._counted += 1
        if self._counted % self._plan.block_chunks == 0:
            row, row_checksum = self._counts_row(self._block)
            self._counts.append(row)
            self._counts_checksums.append(row_checksum)
            self._block[:] = 0

    def _counts_row(self, counts: Counts) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        row = counts.astype(np.uint32).reshape(1, *self._plan.neuron_shape)
        return row, np.array([rows_checksum(row)], np.uint32)

    def _write_chunk(
        self, room: Packed, chunk: int, store: KeyWriter, level: int = ZSTD_LEVEL
    ) -> NDArray[np.uint32]:
        """Write all parts of one chunk, given in its room; return their checksums, shape [1, parts]."""
        plan = self._plan
        checksums = np.empty((1, plan.parts), np.uint32)
        trains = trains_in(room, *self._shape)
        for part in range(plan.parts):
            if plan.parts == 1:
                stored = encode_room(room, level)
            else:
                stored = encode_spikes(plan.part_of(trains, part), level)
            checksums[0, part] = stored_checksum(stored)
            store.write(spikes_chunk_key(self._folder, plan, chunk, part, self._array), stored)
        return checksums

    def totals(self) -> Counts:
        """Number of bits of each neuron, int64 [neurons], in the rows appended so far."""
        return self._total + count_per_neuron(self._tail(None))

    def _tail(self, pending_row: Packed | None) -> Packed:
        """Trains of the chunk that is being filled, up to a whole word."""
        # Rows after the filled ones hold old data. They may be overwritten, as the next append does.
        used = -(-(self._filled + (pending_row is not None)) // 8) * 8
        self._rows[self._filled : used] = 0
        if pending_row is not None:
            self._rows[self._filled] = pending_row
        return rows_to_trains(self._rows[:used])

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
        plan = self._plan
        last_checksum = last_counts = last_counts_checksum = None
        tail: tuple[int, ...] = ()
        block = self._block
        if frames % plan.chunk_frames:
            begun = self._tail(pending_row)
            room = self._commits.silence(self._room_bytes)
            trains = trains_in(room, *self._shape)
            trains[:, : begun.shape[1]] = begun
            parts = (trains[plan.part_slice(part)].reshape(-1) for part in range(plan.parts))
            tail = tuple(checksum(part.data) for part in parts)
            stored = self._write_chunk(room, self._chunk, self._commits)
            trains[:, : begun.shape[1]] = 0
            last_checksum = stored if close else None
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
                self._commits.store.delete(
                    spikes_chunk_key(self._folder, self._plan, chunk, part, self._array)
                )
