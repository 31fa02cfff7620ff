"""Write a recording: create or resume it, append frames, commit.

Order is everything here. A commit writes chunks, then the arrays' shapes, then one small record that says
how far each layer is committed, and waits between these stages until the bytes will survive. Whenever the
process dies, the record that is found promises only what is there. Committed bytes are never overwritten,
except the last chunk of ``spikes``, which is replaced by a longer chunk that begins with the same frames.

One thread at a time may use a `TapeWriter`.
"""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.format import encoding
from recorder.format.arrays import layer_tables
from recorder.format.bits import Counts, Packed, count_per_neuron, rows_to_trains, unpack_trains
from recorder.format.chunks import checksum, encode_spikes, stored_checksum
from recorder.format.documents import plain_documents, root_document
from recorder.format.encoding import InOrder
from recorder.format.errors import RecordingExistsError, out_of_step
from recorder.format.layout import (
    ATTRIBUTE,
    GROUPS,
    ROOT_DOCUMENT,
    SEGMENT_COLUMNS,
    ChunkPlan,
    layer_folder,
    plan_chunks,
    spikes_chunk_key,
)
from recorder.format.lock import LOCK_KEY, WriterLock, refuse_if_held
from recorder.format.metadata import (
    MAX_DOCUMENT_BYTES,
    LayerCommit,
    RecordingMetadata,
    parse_attributes,
)
from recorder.format.reading import LayerReader, TapeReader, refuse_if_packed
from recorder.format.segments import Rows
from recorder.format.stores import PARTIAL, ByteStore
from recorder.format.tables import TableWriter, encode_document, rows_checksum
from recorder.format.trials import TrialsWriter, Value

Presented = list[tuple[int, int, dict[str, list[Value]]]]


@dataclass(frozen=True)
class LayerProgress:
    """What a commit adds to the whole rows of a layer that have been appended.

    Attributes
    ----------
    pending_frames : int
        Frames, fewer than eight, that do not fill a packed row yet.
    pending_row : uint8 array, shape [neurons], or None
        These frames packed, the first in the most significant bit, silence behind them.
    closed_segments : int64 array, shape [segments, 5]
        Segments finished since the last commit.
    open_segment : int64 array, shape [0 or 1, 5]
        The segment that is still growing.
    """

    pending_frames: int
    pending_row: Packed | None
    closed_segments: Rows
    open_segment: Rows


class TapeWriter:
    """Writes one recording; made by `create` or `resume`.

    Attributes
    ----------
    metadata : RecordingMetadata
        As of the last commit.
    """

    def __init__(self, store: ByteStore, metadata: RecordingMetadata, lock: WriterLock) -> None:
        self.store = store
        self.metadata = metadata
        self._lock = lock
        self._layers: dict[str, _LayerWriter] = {}
        self._positions: dict[str, int] = {}
        self._trials = TrialsWriter(store)
        self._encoding = InOrder(encoding.ENCODING_THREADS)
        self._written: dict[str, Any] = {}

    @classmethod
    def create(
        cls,
        store: ByteStore,
        provenance: Mapping[str, Any],
        *,
        overwrite: bool = False,
        take_over: bool = False,
    ) -> TapeWriter:
        """Begin a new recording.

        Parameters
        ----------
        store : ByteStore
        provenance : mapping
            JSON values to keep with the recording.
        overwrite : bool
            Replace a recording that stands there. Nothing but a recording is ever removed: other files in
            its folder stay.
        take_over : bool
            See `recorder.format.lock.WriterLock.acquire`.

        Raises
        ------
        RecordingExistsError
            If there is a recording and ``overwrite`` is false, or if there is anything else.
        RecordingInUseError
            If another writer records there.
        """
        _check_room(store, overwrite, take_over)
        lock = WriterLock.acquire(store, take_over=take_over)
        try:
            # Another writer may have come and gone meanwhile.
            _check_room(store, overwrite, take_over, lock)
        except BaseException:
            lock.release()
            raise
        try:
            store.clear(GROUPS)
            return cls._begin(store, provenance, lock)
        except BaseException:
            # The next writer knows by the lock that what lies there is a recording, and not somebody's files.
            lock.leave()
            raise

    @classmethod
    def _begin(cls, store: ByteStore, provenance: Mapping[str, Any], lock: WriterLock) -> TapeWriter:
        now = _now()
        metadata = RecordingMetadata(
            state="recording",
            recording_id=uuid.uuid4().hex,
            created=now,
            committed=now,
            commit_number=0,
            provenance=provenance,
        )
        tape = cls(store, metadata, lock)
        tape._write_documents(plain_documents(metadata))
        store.persist()
        tape._write_record(metadata, None)
        return tape

    @classmethod
    def resume(cls, store: ByteStore, *, take_over: bool = False) -> TapeWriter:
        """Go on with a recording that was closed or interrupted, from its last commit.

        Parameters
        ----------
        store : ByteStore
        take_over : bool
            See `recorder.format.lock.WriterLock.acquire`.

        Raises
        ------
        RecordingNotFoundError, RecordingFormatError
            If there is no recording, or what its last commit relies on is not there or damaged.
        RecordingInUseError
            If another writer records there.
        """
        found = TapeReader.open(store)  # where there is no recording, no lock is left behind
        refuse_if_packed(found)
        lock = WriterLock.acquire(store, take_over=take_over)
        try:
            return cls.go_on(TapeReader.open(store), lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def go_on(cls, reader: TapeReader, lock: WriterLock) -> TapeWriter:
        """Go on behind the frames that a reader sees; the lock must be held."""
        store = reader.store
        store.remove_leftovers()
        tape = cls(store, reader.metadata, lock)
        tape._trials = TrialsWriter(store, reader.metadata.trials)
        for position, (name, layer) in enumerate(reader.layers.items()):
            tape._layers[name] = _LayerWriter.resume(layer, tape._encoding)
            tape._positions[name] = position
        layers = tuple(layer.committed for layer in tape._layers.values())
        tape._write_record(
            reader.metadata.next_commit(state="recording", committed=_now(), layers=layers), None
        )
        return tape

    def add_layer(
        self, name: str, neuron_shape: tuple[int, ...], dtype: str, layer_class: str, position: int
    ) -> None:
        """Add a layer whose first frames have arrived; ``position`` is its place in network order."""
        plan = plan_chunks(neuron_shape)
        writer = _LayerWriter(self.store, self._encoding, name, plan, dtype, layer_class)
        self._layers[name] = writer
        self._positions[name] = position

    def place_layer(self, name: str, position: int) -> None:
        """State the place in network order of a layer that a resumed recording already has."""
        self._positions[name] = position

    def append(self, name: str, rows: Packed) -> None:
        """Append packed rows of eight frames each.

        Parameters
        ----------
        name : str
        rows : uint8 array, shape [bytes, neurons]
        """
        self._layers[name].append(rows)

    def pending_frames(self, name: str) -> NDArray[np.bool_]:
        """Frames of a resumed layer that do not fill a packed row, bool [fewer than 8, neurons]."""
        return self._layers[name].pending_frames

    def resumed_layers(self) -> dict[str, tuple[LayerCommit, Rows]]:
        """What a resumed tape holds of each layer: the commit, and its last segment, shape [0 or 1, 5]."""
        return {name: (layer.committed, layer.last_segment) for name, layer in self._layers.items()}

    def totals(self, name: str) -> Counts:
        """Spikes of each neuron of a layer in the whole rows appended so far, int64 [neurons].

        Without those in frames of a resumed recording that are marked lost.
        """
        self._encoding.finish()
        return self._layers[name].totals()

    def commit(
        self, progress: Mapping[str, LayerProgress], presented: Presented, trials: int, *, close: bool = False
    ) -> RecordingMetadata:
        """Promise everything appended so far, and what ``progress`` adds to it.

        Parameters
        ----------
        progress : mapping
            For each layer that has frames.
        presented : list
            Samples of trials presented since the last commit.
        trials : int
            Trials begun so far.
        close : bool
            Whether the recording is finished: the last, partial block is counted and metadata consolidated.
        """
        self._lock.check()
        self._encoding.finish()
        names = sorted(progress, key=self._positions.__getitem__)
        layers = tuple(self._layers[name].commit(progress[name], close=close) for name in names)
        self._trials.append(presented)
        trials_commit = self._trials.flush(trials)
        record = self.metadata.next_commit(
            state="closed" if close else "recording", committed=_now(), layers=layers, trials=trials_commit
        )
        self.store.persist()
        documents = plain_documents(record)
        self._write_documents(documents)
        self.store.persist()
        self._write_record(record, documents if close else None)
        if close:
            self.release()
        return record

    def release(self) -> None:
        """Let others write to the recording; nothing may be written through this tape any more."""
        self._encoding.close()
        self._lock.release()

    def _write_documents(self, documents: Mapping[str, Any]) -> None:
        """Write those documents of groups and arrays, by key prefix, that have changed since."""
        for folder, document in documents.items():
            if document != self._written.get(folder):
                self.store.write(f"{folder}/{ROOT_DOCUMENT}", encode_document(document))
                self._written[folder] = document

    def _write_record(self, metadata: RecordingMetadata, documents: Mapping[str, Any] | None) -> None:
        root = root_document(metadata, documents)
        # A record that no reader would accept must not replace one that it does.
        parse_attributes(root["attributes"], self.store.location)
        self.store.write(ROOT_DOCUMENT, encode_document(root))
        self.store.persist()
        self.metadata = metadata


class _LayerWriter:
    """Chunks, counts and checksums of one layer."""

    def __init__(
        self,
        store: ByteStore,
        encoding: InOrder,
        name: str,
        plan: ChunkPlan,
        dtype: str,
        layer_class: str,
    ) -> None:
        self._store, self._encoding = store, encoding
        self._name, self._plan, self._dtype, self._layer_class = name, plan, dtype, layer_class
        self._folder = layer_folder(name)
        tables = layer_tables(name, plan)
        self._counts = TableWriter(store, tables.counts)
        self._counts_checksums = TableWriter(store, tables.counts_checksums)
        self._checksums = TableWriter(store, tables.checksums)
        self._segments = TableWriter(store, tables.segments)
        self._rows = np.empty((plan.chunk_bytes, plan.neurons), np.uint8)
        # Where rows are put that are not being encoded.
        self._spare: list[Packed] = []
        # The chunk that is being filled, how many rows it has, and how many before it have been counted.
        self._chunk = 0
        self._filled = 0
        self._counted = 0
        self._total = np.zeros(plan.neurons, np.int64)
        self._block = np.zeros(plan.neurons, np.int64)
        self.pending_frames = np.empty((0, plan.neurons), np.bool_)
        self.last_segment = np.empty((0, len(SEGMENT_COLUMNS)), np.int64)
        self._lost: tuple[tuple[int, int], ...] = ()
        # Frames in segments that are finished.
        self._described = 0
        self._last_closed = np.empty((0, len(SEGMENT_COLUMNS)), np.int64)
        self._committed: LayerCommit | None = None

    @classmethod
    def resume(cls, kept: LayerReader, encoding: InOrder) -> _LayerWriter:
        """Go on behind the committed frames of a layer."""
        plan, frames = kept.plan, kept.frames
        layer = cls(kept.store, encoding, kept.name, plan, kept.commit.dtype, kept.commit.layer_class)
        layer._lost = kept.commit.lost
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
            # These spikes will be counted with the chunk, but are in frames that are marked lost.
            layer._total -= count_per_neuron(trains) - count_per_neuron(kept.kept_trains(layer._chunk))
            layer._filled, pending = divmod(frames % plan.chunk_frames, 8)
            layer._rows[: layer._filled] = trains.T[: layer._filled]
            layer.pending_frames = unpack_trains(trains, layer._filled * 8, layer._filled * 8 + pending)
        layer.last_segment = segments[-1:]
        layer._described, layer._last_closed = _frames_in(segments[:-1]), segments[:-1][-1:]
        # The rows that only a closed recording has (a last, partial block) are no longer promised.
        layer._committed = replace(
            kept.commit,
            checksums=layer._checksums.committed,
            counts_checksums=layer._counts_checksums.committed,
        )
        return layer

    @property
    def committed(self) -> LayerCommit:
        if self._committed is None:
            raise RuntimeError("a layer is committed before it is asked about")
        return self._committed

    def append(self, rows: Packed) -> None:
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
        """In any thread: write one chunk; its rows, the spikes of each neuron, and checksums."""
        trains = rows_to_trains(rows)
        return rows, count_per_neuron(trains), self._write_chunk(trains, chunk)

    def _count_chunk(self, stored: tuple[Packed, Counts, NDArray[np.uint32]]) -> None:
        """Chunk after chunk: take it into the small arrays."""
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
        """Write one chunk, all its parts; return their checksums, shape [1, parts]."""
        plan = self._plan
        checksums = np.empty((1, plan.parts), np.uint32)
        for part in range(plan.parts):
            stored = encode_spikes(plan.part_of(trains, part))
            checksums[0, part] = stored_checksum(stored)
            self._store.write(spikes_chunk_key(self._folder, plan, chunk, part), stored)
        return checksums

    def totals(self) -> Counts:
        return self._total + count_per_neuron(self._tail_trains(None))

    def _tail_trains(self, pending_row: Packed | None) -> Packed:
        """Trains of the chunk that is not full, silence behind its frames."""
        # Rows behind the filled ones are scratch: the next ones appended go over them.
        used = -(-(self._filled + (pending_row is not None)) // 8) * 8
        self._rows[self._filled : used] = 0
        if pending_row is not None:
            self._rows[self._filled] = pending_row
        trains = np.zeros((self._plan.neurons, self._plan.chunk_bytes), np.uint8)
        trains[:, :used] = rows_to_trains(self._rows[:used])
        return trains

    def commit(self, progress: LayerProgress, *, close: bool) -> LayerCommit:
        """Store the chunk that is not full, and the small arrays."""
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
        self._check_described(progress, frames)
        self._segments.append(progress.closed_segments)
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
        )
        return self._committed

    def _check_described(self, progress: LayerProgress, frames: int) -> None:
        """Never commit frames whose steps are not known, or steps whose frames are not there."""
        self._described += _frames_in(progress.closed_segments)
        segments = np.concatenate([self._last_closed, progress.closed_segments, progress.open_segment])
        first_step, steps = (segments[:, SEGMENT_COLUMNS.index(name)] for name in ("first_step", "steps"))
        is_twice = (first_step[1:] < (first_step + steps)[:-1]).any()
        if len(progress.closed_segments):
            self._last_closed = progress.closed_segments[-1:]
        if is_twice or self._described + _frames_in(progress.open_segment) != frames:
            raise RuntimeError(out_of_step(self._name))


def _frames_in(segments: Rows) -> int:
    steps, batch = SEGMENT_COLUMNS.index("steps"), SEGMENT_COLUMNS.index("batch")
    return int((segments[:, steps] * segments[:, batch]).sum())


def is_unbegun(store: ByteStore) -> bool:
    """Whether there is nothing at the store, or only what a writer left that was killed as it began."""
    begun_with = {LOCK_KEY, *(f"{group}/{ROOT_DOCUMENT}" for group in GROUPS)}
    keys = store.keys()
    first = next(keys, None)
    # One by one, as a recording that has lost its root document may have millions of keys.
    for key in itertools.chain([first] if first else [], keys):
        target = PARTIAL.sub("", key)
        if target not in begun_with and (target == key or target != ROOT_DOCUMENT):
            return False
    return first is not None or store.is_empty()


def _check_room(store: ByteStore, overwrite: bool, take_over: bool, own: WriterLock | None = None) -> None:
    """Make sure that a new recording may begin at the store."""
    if store.is_empty():
        return
    if own is None:
        refuse_if_held(store, take_over=take_over)
    if is_unbegun(store):
        return
    if not (_has_record(store) or (overwrite and _is_what_is_left(store))):
        raise RecordingExistsError(
            f"{store.location} exists and is not a recording; nothing was touched. Choose another store."
        )
    if not overwrite:
        raise RecordingExistsError(
            f"{store.location} already holds a recording. Pass resume=True to go on with it, overwrite=True "
            "to replace it, or choose another store."
        )


def _is_what_is_left(store: ByteStore) -> bool:
    """Whether all that is there is of a recording, of which replacing it has removed the root document."""
    ours = (LOCK_KEY, *(f"{group}/" for group in GROUPS))
    keys = iter(store.keys())
    return store.read(LOCK_KEY, MAX_DOCUMENT_BYTES) is not None and all(key.startswith(ours) for key in keys)


def _has_record(store: ByteStore) -> bool:
    """Whether the root document has a commit record, sound or damaged."""
    try:
        document = store.read(ROOT_DOCUMENT, MAX_DOCUMENT_BYTES)
        root = json.loads(document or b"null")
    except (ValueError, RecursionError):
        return False
    attributes = root.get("attributes") if isinstance(root, dict) else None
    return isinstance(attributes, dict) and ATTRIBUTE in attributes


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
