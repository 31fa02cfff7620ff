"""Open a recording as of its last commit, and read what this commit promises, with every byte checked."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from recorder.format import (
    RecordingFormatError,
    RecordingMetadata,
    RecordingNotFoundError,
)
from recorder.format.documents import plain_documents
from recorder.format.layout import ROOT_DOCUMENT
from recorder.format.parsing.record import parse_document
from recorder.format.record.metadata import MAX_DOCUMENT_BYTES
from recorder.format.record.operations import OPERATIONS
from recorder.format.record.records import to_record
from recorder.format.shards import plan_shards
from recorder.stores import ByteStore
from recorder.stores.sharded import ShardedStore
from recorder.tape.layers.counts_reading import read_layer
from recorder.tape.layers.layer_reading import LayerReader
from recorder.tape.layers.signal_reading import SignalReader
from recorder.tape.trial_columns import read_values

# Names of a layer and of one of its signals.
Which = tuple[str | None, str]


class TapeReader:
    """A recording as of one commit.

    The reader holds the commit record, and a `LayerReader` for each layer, which read and check data when
    asked. It is a snapshot: later commits of a growing recording change neither what it sees nor its answers.

    Readers can be pickled and sent to other processes, from where the store must be reachable.

    Attributes
    ----------
    store : ByteStore
        Store with one key for each chunk, as while recording, also if the recording is packed.
    metadata : RecordingMetadata
        The commit record.
    """

    def __init__(self, store: ByteStore, metadata: RecordingMetadata) -> None:
        self.store = store
        self.metadata = metadata

    @cached_property
    def layers(self) -> dict[str, LayerReader]:
        """Readers of the layers by name, in network order."""
        return {layer.name: read_layer(self.store, layer) for layer in self.metadata.layers}

    @cached_property
    def operations(self) -> SignalReader | None:
        """Reader of the operations that were counted; None if none were."""
        commit = self.metadata.operations
        return None if commit is None else SignalReader(self.store, None, "", commit)

    @cached_property
    def series(self) -> dict[Which, SignalReader]:
        """Readers of the signals of all layers, by the names of both, and of operations, of no layer."""
        found: dict[Which, SignalReader] = {
            (name, signal): values
            for name, layer in self.layers.items()
            for signal, values in layer.signals.items()
        }
        return found if self.operations is None else {**found, (None, OPERATIONS): self.operations}

    @cached_property
    def identity(self) -> str:
        """Hash of all that the root document says, and of the store: where it is, and how it is read.

        Place, identifier and number of a commit are those of other content too, once somebody goes on with a
        copy of a recording or puts a copy back.
        """
        return _hash(f"{_text(self.metadata)}\n{self.store.identity}".encode())

    def anywhere(self) -> TapeReader:
        """The same reader, whose identity is that of the commit record alone: equal wherever copies lie."""
        reader = TapeReader(self.store, self.metadata)
        reader.identity = record_identity(self.metadata)
        return reader

    @classmethod
    def open(cls, store: ByteStore) -> TapeReader:
        """Open a recording as of its last commit; only the commit record is read.

        Raises
        ------
        RecordingNotFoundError
            If there is nothing at the store.
        RecordingFormatError
            If it is not a recording, has an unknown version, or its commit record is malformed or altered.
        """
        return cls.parse(*read_root(store))

    @classmethod
    def parse(cls, store: ByteStore, document: bytes | None) -> TapeReader:
        """Open a recording whose root document has been read; errors as in `open`."""
        if document is None:
            raise RecordingNotFoundError(
                f"no recording at {store.location}: it has no {ROOT_DOCUMENT}. Give the path or URL that "
                "was passed to Monitor(store=...)."
            )
        metadata = parse_document(document, f"{store.location}/{ROOT_DOCUMENT}")
        reader = cls(as_recorded(store, metadata), metadata)
        # The record is in the document: to write it out again takes ten times as long as to hash all of it.
        reader.identity = _hash(document + reader.store.identity.encode())
        return reader

    def trials(self) -> dict[str, NDArray[Any]]:
        """Columns of the table of trials, each of shape [samples presented].

        The columns are ``trial`` and ``sample``, then ``label`` and whatever else was attached. Missing
        values are NaN in float columns, the smallest int64 in integer columns, None in category columns
        (objects).
        """
        return read_values(self.store, self.metadata.trials)


def read_root(store: ByteStore) -> tuple[ByteStore, bytes | None]:
    """A store, and its root document for `TapeReader.parse`; None if there is none."""
    return store, store.read(ROOT_DOCUMENT, MAX_DOCUMENT_BYTES)


def as_recorded(store: ByteStore, metadata: RecordingMetadata) -> ByteStore:
    """A store that has each chunk under the key it had while recording, for packed and other recordings."""
    if isinstance(store, ShardedStore):
        store = store.inner
    if not metadata.shard_bytes:
        return store
    documents = plain_documents(metadata).items()
    plans = {
        folder: plan_shards(document, metadata.shard_bytes)
        for folder, document in documents
        if document["node_type"] == "array"
    }
    return ShardedStore(store, plans)


def refuse_if_packed(reader: TapeReader) -> None:
    """Raise RecordingFormatError if the recording is packed, and therefore must not be changed."""
    if reader.metadata.shard_bytes:
        raise RecordingFormatError(
            f"{reader.store.location} is packed for keeping, and only read. Record to another store, or "
            "change the recording that it was packed from and pack that again"
        )


def record_identity(metadata: RecordingMetadata) -> str:
    """Hash of the whole commit record, wherever the recording is: 64 hexadecimal digits."""
    return _hash(_text(metadata).encode())


def _text(metadata: RecordingMetadata) -> str:
    return json.dumps(to_record(metadata), sort_keys=True)


def _hash(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
