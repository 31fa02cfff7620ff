"""Write a recording: create or resume it, append packed rows, commit."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from recorder.format import ChunkPlan, LayerCommit, RecordingExistsError, RecordingMetadata
from recorder.format.bits import Counts, Packed
from recorder.format.connections import Connections
from recorder.format.documents import plain_documents
from recorder.format.layout import (
    CATEGORIES,
    GROUPS,
    ROOT_DOCUMENT,
    layer_folder,
)
from recorder.format.planes.values import PackedValues, Pending
from recorder.format.record.metadata import TrialsCommit
from recorder.format.record.operations import OperationsCommit, as_operations
from recorder.format.record.pace import PaceCommit
from recorder.format.record.parts import LayerPart
from recorder.format.record.signals import SignalCommit
from recorder.format.segments import Rows
from recorder.format.trials import Columns
from recorder.stores import ByteStore
from recorder.tape.holding.beginning import check_room
from recorder.tape.holding.lock import WriterLock
from recorder.tape.layers.layer_writing import LayerProgress, LayerWriter
from recorder.tape.layers.signal_writing import SignalProgress, SignalWriter, Values
from recorder.tape.reading import TapeReader, refuse_if_packed
from recorder.tape.record_writing import RecordWriter, now
from recorder.tape.threads import in_order
from recorder.tape.threads.in_order import InOrder
from recorder.tape.threads.pressure import Pressure
from recorder.tape.threads.side_by_side import SideBySide
from recorder.tape.trial_columns import TrialsWriter

Presented = list[tuple[int, int, Columns]]


class TapeWriter:
    """Writes one recording; made by `create` or `resume`. One thread at a time may use it.

    Packed rows go to the `LayerWriter` of their layer, which writes each chunk as soon as it is full.
    `commit` promises them as `RecordWriter` says, so that at every moment, also after a kill, the stored
    record promises only what is stored. Committed bytes are
    not overwritten, with two exceptions that keep the promise: the last chunk of ``spikes`` and the last rows
    of a small array are replaced by a longer chunk that begins with the same frames or rows.

    Attributes
    ----------
    store : FencedStore
        Store of the recording, for as long as the lock is held.
    metadata : RecordingMetadata
        The last commit record that was written.
    """

    def __init__(self, metadata: RecordingMetadata, lock: WriterLock) -> None:
        self.store = lock.store
        self.metadata = metadata
        self._lock = lock
        self._layers: dict[str, LayerWriter] = {}
        self._operations: SignalWriter | None = None
        self._positions: dict[str, int] = {}
        self._encoding = InOrder(in_order.ENCODING_THREADS)
        self._commits = SideBySide(self.store)
        self._trials = TrialsWriter(self._commits)
        self._records = RecordWriter(self.store, self._commits)

    @property
    def pressure(self) -> Pressure:
        """What waits to be encoded, and what chunks took so far."""
        return self._encoding.pressure

    @property
    def owner(self) -> str:
        """The owner that the lock of the recording names."""
        return self._lock.owner

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
            Replace a recording that is there. Only keys of the recording are removed; other files in its
            folder stay.
        take_over : bool
            Take the lock also from a writer that cannot be seen, see `WriterLock.acquire`.

        Raises
        ------
        RecordingExistsError
            If there is a recording and ``overwrite`` is false, or if there is anything else.
        RecordingInUseError
            If another writer records there.
        """
        check_room(store, overwrite, take_over)
        lock = WriterLock.acquire(store, take_over=take_over)
        try:
            # Checked again, because another writer may have recorded between the first check and the lock.
            check_room(store, overwrite, take_over, lock)
        except BaseException:
            lock.release()
            raise
        try:
            lock.store.clear((*GROUPS, CATEGORIES))
            return cls._begin(provenance, lock)
        except BaseException:
            # The lock file stays, so that the next writer knows that the keys are those of a recording.
            lock.leave()
            raise

    @classmethod
    def _begin(cls, provenance: Mapping[str, Any], lock: WriterLock) -> TapeWriter:
        began = now()
        metadata = RecordingMetadata(
            state="recording",
            recording_id=uuid.uuid4().hex,
            created=began,
            committed=began,
            commit_number=0,
            provenance=provenance,
        )
        tape = cls(metadata, lock)
        tape._records.write(metadata, plain_documents(metadata))
        return tape

    @classmethod
    def resume(
        cls, store: ByteStore, *, own: RecordingMetadata | None = None, take_over: bool = False
    ) -> TapeWriter:
        """Go on with a recording that was closed or interrupted, from its last commit.

        Parameters
        ----------
        store : ByteStore
        own : RecordingMetadata, optional
            Commit record of the recording that it must be, at whatever commit.
        take_over : bool
            Take the lock also from a writer that cannot be seen, see `WriterLock.acquire`.

        Raises
        ------
        RecordingNotFoundError
            If there is no recording.
        RecordingExistsError
            If it is another recording than ``own``.
        RecordingFormatError
            If the recording is packed, or what its last commit needs is missing or damaged.
        RecordingInUseError
            If another writer records there.
        """
        # Opened before the lock is taken, so that no lock is written where there is no recording.
        found = TapeReader.open(store)
        refuse_if_packed(found)
        if own is not None and found.metadata.recording_id != own.recording_id:
            raise RecordingExistsError(
                f"{store.location} holds another recording than the one that was closed, created "
                f"{found.metadata.created} and not {own.created}. Make a new monitor to go on with it"
            )
        lock = WriterLock.acquire(store, take_over=take_over)
        try:
            return cls.go_on(TapeReader.open(lock.store), lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def go_on(cls, reader: TapeReader, lock: WriterLock) -> TapeWriter:
        """Go on after the frames that a reader of ``lock.store`` sees. The tape releases the lock."""
        lock.store.remove_leftovers()
        tape = cls(reader.metadata, lock)
        tape._trials = TrialsWriter(tape._commits, reader.metadata.trials)
        for position, (name, layer) in enumerate(reader.layers.items()):
            tape._layers[name] = LayerWriter.resume(layer, tape._commits, tape._encoding)
            tape._positions[name] = position
        layers = tuple(layer.committed for layer in tape._layers.values())
        changes: dict[str, Any] = {"state": "recording", "committed": now(), "layers": layers, "pace": None}
        if reader.operations is not None:
            tape._operations = SignalWriter.resume(reader.operations, tape._commits, tape._encoding, "")
            changes["operations"] = tape._operations.committed
        tape.metadata = tape._records.write(reader.metadata.next_commit(**changes), {})
        return tape

    def kept_trials(self) -> TrialsCommit:
        """The table of trials of a resumed recording as of its last commit, with all categories in it."""
        trials = self.metadata.trials
        columns = (
            replace(column, categories=self._trials.categories(column.name), stored=None)
            for column in trials.columns
        )
        return replace(trials, columns=tuple(columns))

    def ignores_case(self) -> bool:
        """True if names that differ by case only are one key, as in folders on macOS and Windows."""
        return self.store.size_of(ROOT_DOCUMENT.upper()) is not None

    def add_layer(
        self,
        name: str,
        plan: ChunkPlan,
        dtype: str,
        layer_class: str,
        position: int,
        part: LayerPart | None = None,
    ) -> None:
        """Add a layer whose first frames have arrived.

        ``position`` is its place in network order, and ``part`` what is kept of it, None where it is the
        whole; ``plan`` is that of what is kept.
        """
        folders = {layer.folder.lower() for layer in self._layers.values()}
        is_apart = layer_folder(name).lower() in folders
        about = name, plan, dtype, layer_class
        writer = LayerWriter(self._commits, self._encoding, *about, is_apart=is_apart, part=part)
        self._layers[name] = writer
        self._positions[name] = position

    def place_layer(self, name: str, position: int) -> None:
        """State the place in network order of a layer that a resumed recording already has."""
        self._positions[name] = position

    def append(self, name: str, rows: Packed | PackedValues) -> None:
        """Append packed rows of eight frames each to a layer.

        Parameters
        ----------
        name : str
            Name of the layer.
        rows : uint8 array, shape [rows, neurons], or PackedValues
            Events alone where all values are 0 and 1.
        """
        self._layers[name].append(rows)

    def count(self, name: str, segments: Rows, frames: int) -> None:
        """Count the frames before ``frames`` of a layer of which only counts are kept; they are final.

        ``segments``, int64 [segments, 5], says which steps and samples they are; others may be among them.
        """
        self._layers[name].count(segments, frames)

    def add_signal(self, layer: str, about: SignalCommit) -> None:
        """Add a signal of a layer; ``about`` says what it is, and has no frames."""
        self._layers[layer].add_signal(about)

    def append_signal(self, layer: str, signal: str, values: Values) -> None:
        """Append values of a signal, in its data type, [frames, neurons]."""
        self._layers[layer].append_signal(signal, values)

    def add_operations(self, about: OperationsCommit) -> None:
        """Add operations, which are going to be counted; ``about`` says what they are, and has no frames."""
        self._operations = SignalWriter(self._commits, self._encoding, None, "", about)

    def append_operations(self, values: Values) -> None:
        """Append operations, int64 [frames, weight layers × kinds]."""
        if self._operations is None:
            raise RuntimeError("operations are added before any are appended")
        self._operations.append(values)

    def pending_frames(self, name: str) -> Pending:
        """Last frames of a resumed layer, which do not fill a packed row, shape [fewer than 8, neurons]."""
        return self._layers[name].pending_frames

    def last_progress(self, name: str) -> LayerProgress:
        """Progress of a resumed layer to which nothing was appended."""
        return self._layers[name].last_progress()

    def resumed_layers(self) -> dict[str, tuple[LayerCommit, Rows]]:
        """For each layer of a resumed recording, its last commit and its last segment, shape [0 or 1, 5]."""
        return {name: (layer.committed, layer.segments.last) for name, layer in self._layers.items()}

    def last_signal_segments(self, name: str) -> dict[str, Rows]:
        """For each signal of a resumed layer, its last segment, shape [0 or 1, 5]."""
        return {signal: rows.segments.last for signal, rows in self._layers[name].signals.items()}

    def last_operation_segment(self) -> Rows | None:
        """The last segment of resumed operations, shape [0 or 1, 5]; None where none were counted."""
        return None if self._operations is None else self._operations.segments.last

    def totals(self, name: str) -> Counts:
        """Number of spikes of each neuron of a layer, int64 [neurons], in the rows appended so far.

        Spikes of a resumed recording in frames that are marked lost do not count.
        """
        self._encoding.finish()
        return self._layers[name].totals()

    def lost_frames(self, name: str) -> int:
        """Number of frames of a layer that are marked lost; 0 before its first commit."""
        return next((layer.lost_frames for layer in self.metadata.layers if layer.name == name), 0)

    def commit(
        self,
        progress: Mapping[str, LayerProgress],
        presented: Presented,
        trials: int,
        *,
        uncalled: Mapping[str, int] | None = None,
        connections: Connections | None = None,
        pace: PaceCommit | None = None,
        operations: SignalProgress | None = None,
        uncounted: Mapping[str, str] | None = None,
        cut: Mapping[str, int] | None = None,
        cut_signals: Mapping[str, Mapping[str, int]] | None = None,
        close: bool = False,
        keep_lock: bool = False,
    ) -> RecordingMetadata:
        """Commit everything appended so far, and what ``progress`` adds to it.

        Parameters
        ----------
        progress : mapping of str to LayerProgress
            Pending frames and segments of each layer that has frames.
        presented : list of (trial, batch, columns)
            Trials presented since the last commit, as `recorder.format.trials.TrialLog.take` returns them.
        trials : int
            Number of trials begun so far.
        uncalled : mapping, optional
            Layers of the network that are not called, and the step from which on; as before if left out.
        connections : Connections, optional
            Which weight layers read the layers; as before if left out.
        pace : PaceCommit, optional
            How fast this writer is; as before if left out.
        operations : SignalProgress, optional
            Progress of the operations, where any were appended since the tape was resumed.
        uncounted : mapping, optional
            Weight layers of which not all operations were counted, and why; as before if left out.
        cut : mapping, optional
            Layers whose newest frames are given up, and how many frames stay of each.
        cut_signals : mapping, optional
            Likewise for the signals of some of these layers.
        close : bool
            Close the recording: also count the last, partial block, consolidate metadata, release the lock.
        keep_lock : bool
            Leave it to the caller to release the lock of a recording that is closed.

        Raises
        ------
        RecordingInUseError
            If another writer has taken the lock over. Nothing is committed then.
        """
        self.store.check()
        self._encoding.finish()
        kept = dict(progress)
        cut, cut_signals = cut or {}, cut_signals or {}
        for name in {**cut, **cut_signals}:
            frames, of_signals = cut.get(name), cut_signals.get(name, {})
            self._layers[name], kept[name] = self._layers[name].cut(progress[name], frames, of_signals)
            if frames == 0:
                del self._layers[name], kept[name]
        names = sorted(kept, key=self._positions.__getitem__)
        layers = tuple(self._layers[name].commit(kept[name], close=close) for name in names)
        counted = self._commit_operations(operations, uncounted, close=close)
        self._trials.append(presented)
        trials_commit = self._trials.flush(trials, close=close)
        record = self.metadata.next_commit(
            state="closed" if close else "recording",
            committed=now(),
            layers=layers,
            trials=trials_commit,
            uncalled=self.metadata.uncalled if uncalled is None else uncalled,
            connections=self.metadata.connections if connections is None else connections,
            pace=self.metadata.pace if pace is None else pace,
            operations=counted,
        )
        self.metadata = self._records.write(record, plain_documents(record), is_closed=close)
        if close and not keep_lock:
            self.release()
        return record

    def _commit_operations(
        self, progress: SignalProgress | None, uncounted: Mapping[str, str] | None, *, close: bool
    ) -> OperationsCommit | None:
        writer, before = self._operations, self.metadata.operations
        if writer is None:
            return before
        committed = as_operations(writer.commit(progress or writer.last_progress(), close=close))
        return committed and replace(committed, uncounted=uncounted or (before.uncounted if before else {}))

    def release(self) -> None:
        """Release the lock. Nothing may be written through this tape afterwards."""
        self._encoding.close()
        self._commits.close()
        self._lock.release()
