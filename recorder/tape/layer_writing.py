"""Write the chunks, counts, checksums and segments of one layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from recorder.format import ChunkPlan, LayerCommit
from recorder.format.arrays import layer_tables
from recorder.format.bits import (
    Counts,
    Packed,
    count_per_neuron,
    pack_frames,
    rows_to_trains,
    unpack_trains,
)
from recorder.format.chunks import checksum, encode_spikes, stored_checksum
from recorder.format.errors import out_of_step
from recorder.format.layout import (
    SEGMENT_COLUMNS,
    layer_folder,
    spikes_chunk_key,
)
from recorder.format.segments import Rows, SegmentLog
from recorder.format.signals import SignalCommit
from recorder.stores import ByteStore
from recorder.tape.in_order import InOrder
from recorder.tape.layer_reading import LayerReader
from recorder.tape.signal_writing import SignalProgress, SignalWriter, Values
from recorder.tape.tables import TableWriter, rows_checksum


@dataclass(frozen=True)
class LayerProgress:
    """The part of a layer that a commit adds to the packed rows which were appended.

    Attributes
    ----------
    pending_frames : int
        Number of newest frames, fewer than eight, that do not fill a packed row yet.
    pending_row : uint8 array, shape [neurons], or None
        The pending frames as one packed row, the first in the most significant bit; None if there are none.
    closed_segments : int64 array, shape [segments, 5]
        Segments finished since the last commit; earlier ones may be among them.
    open_segment : int64 array, shape [0 or 1, 5]
        Segment that may still grow.
    signals : mapping of str to SignalProgress
        Progress of each signal that has frames.
    """

    pending_frames: int
    pending_row: Packed | None
    closed_segments: Rows
    open_segment: Rows
    signals: Mapping[str, SignalProgress] = field(default_factory=dict)


class LayerWriter:
    """Writes the arrays of one layer; a `TapeWriter` has one of these for each layer.

    Appended rows fill the memory of one chunk. A full chunk is encoded and written by another thread, while
    the next one fills; its counts and checksums are taken into the small arrays afterwards, in order. A
    commit also writes the last chunk, which is not full, and later writes of it begin with the same frames.
    """

    def __init__(
        self,
        store: ByteStore,
        encoding: InOrder,
        name: str,
        plan: ChunkPlan,
        dtype: str,
        layer_class: str,
        *,
        is_apart: bool = False,
    ) -> None:
        self._store, self._encoding = store, encoding
        self._name, self._plan, self._dtype, self._layer_class = name, plan, dtype, layer_class
        self._is_apart = is_apart
        self.folder = layer_folder(name, apart=is_apart)
        tables = layer_tables(name, plan, is_apart=is_apart)
        self._counts = TableWriter(store, tables.counts)
        self._counts_checksums = TableWriter(store, tables.counts_checksums)
        self._checksums = TableWriter(store, tables.checksums)
        self._segments = TableWriter(store, tables.segments)
        self._rows = np.empty((plan.chunk_bytes, plan.neurons), np.uint8)
        # Memory of chunks that have been encoded, to be filled again.
        self._spare: list[Packed] = []
        # Number of the chunk that is being filled, rows that it has, and number of chunks counted so far.
        self._chunk = 0
        self._filled = 0
        self._counted = 0
        # Spikes of each neuron in all counted chunks, and in those of the unfinished block.
        self._total = np.zeros(plan.neurons, np.int64)
        self._block = np.zeros(plan.neurons, np.int64)
        self.pending_frames = np.empty((0, plan.neurons), np.bool_)
        self.last_segment = np.empty((0, len(SEGMENT_COLUMNS)), np.int64)
        self._lost: tuple[tuple[int, int], ...] = ()
        # Number of frames in finished segments, and the last finished segment.
        self._described = 0
        self._last_closed = np.empty((0, len(SEGMENT_COLUMNS)), np.int64)
        self._committed: LayerCommit | None = None
        self.signals: dict[str, SignalWriter] = {}

    @classmethod
    def resume(cls, kept: LayerReader, encoding: InOrder) -> LayerWriter:
        """Make a writer that goes on after the committed frames of a layer."""
        plan, frames = kept.plan, kept.frames
        commit = kept.commit
        layer = cls(
            *(kept.store, encoding, kept.name, plan, commit.dtype, commit.layer_class),
            is_apart=commit.is_apart,
        )
        layer._lost = commit.lost
        for signal, reader in kept.signals.items():
            layer.signals[signal] = SignalWriter.resume(reader, encoding, layer.folder)
        layer._chunk = layer._counted = frames // plan.chunk_frames
        blocks = frames // plan.block_frames
        checksums, names, segments = kept.checksums(), kept.counts_checksums(), kept.segments().rows
        unfinished = blocks // layer._counts.chunk_rows * layer._counts.chunk_rows
        layer._counts.resume(kept.counts(unfinished, blocks), 0, unfinished)
        for table, rows in (
            (layer._checksums, checksums[: layer._chunk]),
            (layer._counts_checksums, names[:blocks]),
            (layer._segments, segments[:-1]),
        ):
            table.resume(rows, rows_checksum(rows))
        layer._total += kept.sum_counts(0, blocks)
        for chunk in range(blocks * plan.block_chunks, layer._chunk):
            layer._block += count_per_neuron(kept.chunk_or_silence(chunk))
            layer._total += count_per_neuron(kept.kept_trains(chunk))
        if frames % plan.chunk_frames:
            trains = kept.chunk_or_silence(layer._chunk)
            # When this chunk is full, all its spikes will be added to the total, also those in lost frames;
            # they are subtracted in advance.
            layer._total -= count_per_neuron(trains) - count_per_neuron(kept.kept_trains(layer._chunk))
            layer._filled, pending = divmod(frames % plan.chunk_frames, 8)
            layer._rows[: layer._filled] = trains.T[: layer._filled]
            layer.pending_frames = unpack_trains(trains, layer._filled * 8, layer._filled * 8 + pending)
        layer.last_segment = segments[-1:]
        layer._described, layer._last_closed = _frames_in(segments[:-1]), segments[:-1][-1:]
        # A closed recording also has rows for its last, partial chunk and block. They are no longer promised,
        # because that chunk and block grow again.
        layer._committed = replace(
            kept.commit,
            checksums=layer._checksums.committed,
            counts_checksums=layer._counts_checksums.committed,
        )
        return layer

    @property
    def committed(self) -> LayerCommit:
        """The layer as of the last commit."""
        if self._committed is None:
            raise RuntimeError("a layer is committed before it is asked about")
        return self._committed

    def add_signal(self, about: SignalCommit) -> None:
        """Add a signal whose first values have arrived; ``about`` says what it is, and has no frames."""
        folders = {signal.folder.lower() for signal in self.signals.values()}
        is_apart = about.folder(self.folder).lower() in folders
        about = replace(about, is_apart=is_apart)
        self.signals[about.name] = SignalWriter(self._store, self._encoding, self._name, self.folder, about)

    def append_signal(self, name: str, values: Values) -> None:
        """Append values of a signal, [frames, neurons], and write the chunks that they fill."""
        self.signals[name].append(values)

    def append(self, rows: Packed) -> None:
        """Append rows of eight frames, uint8 [rows, neurons], and write the chunks that they fill."""
        while len(rows):
            taken = rows[: len(self._rows) - self._filled]
            self._rows[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            rows = rows[len(taken) :]
            if self._filled == len(self._rows):
                self._finish_chunk()

    def _finish_chunk(self) -> None:
        rows = self._rows
        self._encoding.put(partial(self._store_rows, rows, self._chunk), self._count_chunk)
        self._rows = self._spare.pop() if self._spare else np.empty_like(rows)
        self._chunk += 1
        self._filled = 0

    def _store_rows(self, rows: Packed, chunk: int) -> tuple[Packed, Counts, NDArray[np.uint32]]:
        """Write one chunk; return its rows, counts of each neuron, and checksums. Runs in any thread."""
        trains = rows_to_trains(rows)
        return rows, count_per_neuron(trains), self._write_chunk(trains, chunk)

    def _count_chunk(self, stored: tuple[Packed, Counts, NDArray[np.uint32]]) -> None:
        """Add a written chunk to counts and checksums. Runs in the order of chunks."""
        rows, spikes, checksums = stored
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

    def _write_chunk(self, trains: Packed, chunk: int) -> NDArray[np.uint32]:
        """Write all parts of one chunk; return their checksums, shape [1, parts]."""
        plan = self._plan
        checksums = np.empty((1, plan.parts), np.uint32)
        for part in range(plan.parts):
            stored = encode_spikes(plan.part_of(trains, part))
            checksums[0, part] = stored_checksum(stored)
            self._store.write(spikes_chunk_key(self.folder, plan, chunk, part), stored)
        return checksums

    def totals(self) -> Counts:
        """Number of spikes of each neuron, int64 [neurons], in the rows appended so far."""
        return self._total + count_per_neuron(self._tail_trains(None))

    def _tail_trains(self, pending_row: Packed | None) -> Packed:
        """Trains of the chunk that is being filled, with silence after its frames."""
        # Rows after the filled ones hold old data. They may be overwritten, as the next append does.
        used = -(-(self._filled + (pending_row is not None)) // 8) * 8
        self._rows[self._filled : used] = 0
        if pending_row is not None:
            self._rows[self._filled] = pending_row
        trains = np.zeros((self._plan.neurons, self._plan.chunk_bytes), np.uint8)
        trains[:, :used] = rows_to_trains(self._rows[:used])
        return trains

    def commit(self, progress: LayerProgress, *, close: bool) -> LayerCommit:
        """Write the chunk that is not full and the small arrays; return what a commit may then promise."""
        plan = self._plan
        tail_frames = self._filled * 8 + progress.pending_frames
        frames = self._chunk * plan.chunk_frames + tail_frames
        last_checksum = last_counts = last_counts_checksum = None
        tail: tuple[int, ...] = ()
        block = self._block
        if tail_frames:
            trains = self._tail_trains(progress.pending_row)
            tail = tuple(checksum(trains[plan.part_slice(part)].tobytes()) for part in range(plan.parts))
            stored = self._write_chunk(trains, self._chunk)
            last_checksum = stored if close else None
            block = block + count_per_neuron(trains)
        if close and frames % plan.block_frames:
            last_counts, last_counts_checksum = self._counts_row(block)
        closed = progress.closed_segments
        new = closed[closed[:, SEGMENT_COLUMNS.index("first_frame")] >= self._described]
        self._check_described(new, progress.open_segment, frames)
        self._segments.append(new)
        self._counts.flush(last_counts)
        self._committed = LayerCommit(
            name=self._name,
            layer_class=self._layer_class,
            dtype=self._dtype,
            plan=plan,
            frames=frames,
            counts_checksums=self._counts_checksums.flush(last_counts_checksum),
            segments=self._segments.flush(progress.open_segment),
            checksums=self._checksums.flush(last_checksum),
            tail=tail,
            lost=self._lost,
            is_apart=self._is_apart,
            signals=tuple(
                signal.commit(progress.signals.get(name) or signal.last_progress(), close=close)
                for name, signal in self.signals.items()
            ),
        )
        return self._committed

    def cut(
        self, progress: LayerProgress, frames: int | None, given_up: Mapping[str, int]
    ) -> tuple[LayerWriter, LayerProgress]:
        """Give up the newest frames, as if they had never been appended; nothing may be encoded any more.

        Parameters
        ----------
        progress : LayerProgress
            Of all frames.
        frames : int or None
            Frames that stay, of whole steps; None for all of them.
        given_up : mapping of str to int
            Frames that stay of signals, where these are fewer than there are.

        Returns
        -------
        LayerWriter
            Writer that goes on behind the frames that stay; this one is of no use any more.
        LayerProgress
            Of the frames that stay.
        """
        whole = LayerReader(self._store, self.commit(progress, close=False))
        frames = whole.frames if frames is None else frames
        left = replace(
            whole.cut_to(frames),
            signals=tuple(
                signal.cut_to(given_up[name]) if name in given_up else signal.commit
                for name, signal in whole.signals.items()
                if given_up.get(name) != 0
            ),
        )
        kept = LayerWriter.resume(LayerReader(self._store, left), self._encoding)
        for name, stay in given_up.items():
            chunk_count = whole.signals[name].plan.chunk_count
            self.signals[name].delete_chunks(chunk_count(stay), whole.signals[name].chunks)
        for chunk in range(self._plan.chunk_count(frames), self._plan.chunk_count(whole.frames)):
            for part in range(self._plan.parts):
                self._store.delete(spikes_chunk_key(self.folder, self._plan, chunk, part))
        return kept, kept.last_progress()

    def last_progress(self) -> LayerProgress:
        """Progress of a layer to which nothing was appended since it was resumed."""
        pending = self.pending_frames
        row = pack_frames(pending)[0] if len(pending) else None
        signals = {name: signal.last_progress() for name, signal in self.signals.items()}
        return LayerProgress(len(pending), row, *SegmentLog(self.last_segment).look(), signals)

    def _check_described(self, closed: Rows, growing: Rows, frames: int) -> None:
        """Raise RuntimeError unless the segments describe exactly the frames, with no step twice."""
        self._described += _frames_in(closed)
        segments = np.concatenate([self._last_closed, closed, growing])
        first_step, steps = (segments[:, SEGMENT_COLUMNS.index(name)] for name in ("first_step", "steps"))
        is_twice = (first_step[1:] < (first_step + steps)[:-1]).any()
        if len(closed):
            self._last_closed = closed[-1:]
        if is_twice or self._described + _frames_in(growing) != frames:
            raise RuntimeError(out_of_step(self._name))


def _frames_in(segments: Rows) -> int:
    steps, batch = SEGMENT_COLUMNS.index("steps"), SEGMENT_COLUMNS.index("batch")
    return int((segments[:, steps] * segments[:, batch]).sum())
