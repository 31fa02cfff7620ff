"""Write the documents of a recording and its commit record, in the order that the promises need."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from recorder.format import RecordingMetadata
from recorder.format.documents import encode_document, encode_root, root_document
from recorder.format.layout import ROOT_DOCUMENT
from recorder.format.parsing.record import parse_attributes
from recorder.tape.holding.fence import FencedStore
from recorder.tape.threads.side_by_side import SideBySide


class RecordWriter:
    """Ends commits: writes what states the shapes of arrays, and then what promises their contents.

    Parameters
    ----------
    store : FencedStore
    commits : SideBySide
        What writes chunks and small arrays of the commit to that store.
    """

    def __init__(self, store: FencedStore, commits: SideBySide) -> None:
        self._store, self._commits = store, commits
        self._written: dict[str, Any] = {}

    def write(
        self, metadata: RecordingMetadata, documents: Mapping[str, Any], *, is_closed: bool = False
    ) -> RecordingMetadata:
        """Write documents, given by key prefix, that were not written so before, and the commit record.

        What ``commits`` has written before, the documents and the record come to their places one after the
        other, each on the medium before the next. Their bytes are written side by side. Of closed recordings
        documents are consolidated, too. Returns the record.

        Raises
        ------
        RecordingFormatError
            If readers would refuse the new record. The old one stays then.
        """
        new = {name: document for name, document in documents.items() if document != self._written.get(name)}
        root = root_document(metadata, documents if is_closed else None)
        parse_attributes(root["attributes"], self._store.location)
        encoded = encode_root(root, f"{self._store.location}/{ROOT_DOCUMENT}")
        places = [
            self._commits.ready(f"{name}/{ROOT_DOCUMENT}", encode_document(document))
            for name, document in new.items()
        ]
        place_record = self._commits.ready(ROOT_DOCUMENT, encoded)
        self._commits.finish()
        self._store.persist()
        for place in places:
            place()
        self._written |= new
        self._store.persist()
        self._store.check()
        place_record()
        self._store.persist()
        return metadata


def now() -> str:
    """The time now, ISO 8601 in UTC, as commits have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
