"""Write a recording: create or resume it, append frames, commit.

Order is everything here. A commit writes chunks, then the arrays' shapes, then one small record that says
how far each layer is committed, and waits between these stages until the bytes will survive. Whenever the
process dies, the record that is found promises only what is there. Committed bytes are never overwritten,
except the last chunk of ``spikes``, which is replaced by a longer chunk that begins with the same frames.

One thread at a time may use a `TapeWriter`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.format import LayerCommit, RecordingMetadata, plan_chunks
from recorder.format.bits import Counts, Packed
from recorder.format.documents import plain_documents, root_document
from recorder.format.layout import (
    GROUPS,
    ROOT_DOCUMENT,
)
from recorder.format.parsing import parse_attributes
from recorder.format.segments import Rows
from recorder.format.trials import Value
from recorder.stores import ByteStore
from recorder.tape import in_order
from recorder.tape.beginning import check_room
from recorder.tape.in_order import InOrder
from recorder.tape.layer_writing import LayerProgress, LayerWriter
from recorder.tape.lock import WriterLock
from recorder.tape.reading import TapeReader, refuse_if_packed
from recorder.tape.tables import encode_document
from recorder.tape.trial_columns import TrialsWriter

Presented = list[tuple[int, int, dict[str, list[Value]]]]


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
        self._layers: dict[str, LayerWriter] = {}
        self._positions: dict[str, int] = {}
        self._trials = TrialsWriter(store)
        self._encoding = InOrder(in_order.ENCODING_THREADS)
        self._written: dict[str, Any] = {}

    @property
    def owner(self) -> str:
        """Whom the lock of the recording names."""
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
            Replace a recording that stands there. Nothing but a recording is ever removed: other files in
            its folder stay.
        take_over : bool
            See `recorder.tape.lock.WriterLock.acquire`.

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
            # Another writer may have come and gone meanwhile.
            check_room(store, overwrite, take_over, lock)
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
            See `recorder.tape.lock.WriterLock.acquire`.

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
            tape._layers[name] = LayerWriter.resume(layer, tape._encoding)
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
        writer = LayerWriter(self.store, self._encoding, name, plan, dtype, layer_class)
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
