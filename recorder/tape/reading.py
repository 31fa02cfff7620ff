"""Open a recording as of its last commit and read what that commit promises, each byte checked.

A `TapeReader` is a snapshot: frames committed after it was opened are not seen. Readers can be pickled and
sent to other processes, as long as the store can be reached from there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.format import (
    RecordingFormatError,
    RecordingMetadata,
    RecordingNotFoundError,
)
from recorder.format.documents import plain_documents
from recorder.format.layout import ROOT_DOCUMENT
from recorder.format.metadata import MAX_DOCUMENT_BYTES
from recorder.format.parsing import parse_document
from recorder.format.shards import plan_shards
from recorder.stores import ByteStore
from recorder.stores.sharded import ShardedStore
from recorder.tape.layer_reading import LayerReader
from recorder.tape.trial_columns import read_columns


class TapeReader:
    """A recording as of one commit.

    Attributes
    ----------
    store : ByteStore
    metadata : RecordingMetadata
    layers : dict of str to LayerReader
        In network order.
    """

    def __init__(self, store: ByteStore, metadata: RecordingMetadata) -> None:
        self.store = store
        self.metadata = metadata
        self.layers: dict[str, LayerReader] = {
            layer.name: LayerReader(store, layer) for layer in metadata.layers
        }

    @classmethod
    def open(cls, store: ByteStore) -> TapeReader:
        """Read the commit record.

        Raises
        ------
        RecordingNotFoundError
            If there is nothing at the store.
        RecordingFormatError
            If it is not a recording, of an unknown version, or its record is malformed or altered.
        """
        document = store.read(ROOT_DOCUMENT, MAX_DOCUMENT_BYTES)
        if document is None:
            raise RecordingNotFoundError(
                f"no recording at {store.location}: it has no {ROOT_DOCUMENT}. Give the path or URL that "
                "was passed to Monitor(store=...)."
            )
        metadata = parse_document(document, f"{store.location}/{ROOT_DOCUMENT}")
        return cls(as_recorded(store, metadata), metadata)

    def trials(self) -> dict[str, NDArray[Any]]:
        """Columns of the table of trials, each of shape [samples presented].

        ``trial`` and ``sample`` always, then ``label`` and whatever was attached. Missing values are NaN in
        float columns, the smallest integer in integer ones, None in columns of categories (dtype object).
        """
        columns = {}
        for column, stored in read_columns(self.store, self.metadata.trials).items():
            values = stored
            if column.kind == "category":
                if len(values) and not (values.min() >= -1 and values.max() < len(column.categories)):
                    raise RecordingFormatError(
                        f"{self.store.location}: trials column {column.name!r} is malformed"
                    )
                # The last place of the look-up table is reached by -1, the missing value.
                values = np.array([*column.categories, None], object)[values]
            columns[column.name] = values
        return columns


def as_recorded(store: ByteStore, metadata: RecordingMetadata) -> ByteStore:
    """The store with each chunk under the key that it had while recording, packed or not."""
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
    """Raise RecordingFormatError where something is to be changed in a recording packed for keeping."""
    if reader.metadata.shard_bytes:
        raise RecordingFormatError(
            f"{reader.store.location} is packed for keeping, and only read. Record to another store, or "
            "change the recording that it was packed from and pack that again"
        )
