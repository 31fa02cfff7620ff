"""Find out if a link to a web server leads to the folder of a recording, or to an archive of any name.

Archives of data have links such as ``…/files/run.zip/content`` or ``…/download/12345``, which tell nothing of
what they lead to. That is found out by asking, once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from recorder.format import StoreAccessError
from recorder.format.layout import ROOT_DOCUMENT
from recorder.format.record.metadata import MAX_DOCUMENT_BYTES
from recorder.stores.byte_store import ByteStore, ReadOnlyStore
from recorder.stores.files.archive import Archive

# What every root document of Zarr holds, and no page or message that a server has for unknown addresses.
_MARK: Final = b'"zarr_format"'


class LinkedStore(ReadOnlyStore):
    """A recording behind a link that may be that of a folder or that of an archive.

    It is a folder where there is a root document below the link. Where there is none, or the server refuses
    or has some page for every address, the first bytes of what the link itself gives say whether that is an
    archive.

    Parameters
    ----------
    folder : ByteStore
        What lies below the link.
    archive : Archive
        What the link itself gives.
    """

    def __init__(self, folder: ByteStore, archive: Archive) -> None:
        self._folder = folder
        self._archive = archive
        self._found: ByteStore | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._found is None:
            return LinkedStore, (self._folder, self._archive)
        return _itself, (self._found,)

    @property
    def location(self) -> str:
        """Link to show to people."""
        return self._folder.location

    @property
    def identity(self) -> str:
        """Identity of the store to which the link leads."""
        return self.found.identity

    @property
    def reads_under_way(self) -> int:
        """Number of keys that are best read at the same time, as for the web server."""
        return self._folder.reads_under_way

    @property
    def found(self) -> ByteStore:
        """Store to which the link leads."""
        return self._find()[0]

    def is_empty(self) -> bool:
        """True if nothing at all is at the location."""
        return self.found.is_empty()

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        """Bytes of a key; the root document is what tells folders from archives."""
        if key != ROOT_DOCUMENT:
            return self.found.read(key, limit_bytes)
        store, document = self._find()
        is_new = document is not None and len(document) <= limit_bytes
        return document if is_new else store.read(key, limit_bytes)

    def read_range(self, key: str, start: int, size: int) -> bytes | None:
        """Part of a key's bytes."""
        return self.found.read_range(key, start, size)

    def keys(self) -> Iterator[str]:
        """All keys."""
        return self.found.keys()

    def size(self, folder: str) -> int:
        """Bytes stored under keys below a folder."""
        return self.found.size(folder)

    def size_of(self, key: str) -> int | None:
        """Bytes stored under a key, None if it is absent."""
        return self.found.size_of(key)

    def _find(self) -> tuple[ByteStore, bytes | None]:
        """Store to which the link leads, and the root document if it was read now to find this out."""
        with self._lock:
            if self._found is not None:
                return self._found, None
            try:
                document = self._folder.read(ROOT_DOCUMENT, MAX_DOCUMENT_BYTES)
            except StoreAccessError:
                if not self._is_archive():
                    raise
                document = None
            if document is not None and _MARK in document:
                self._found = self._folder
            elif self._is_archive():
                self._found, document = self._archive, None
            # Otherwise it is asked again the next time: something may have come to be there.
            return self._found or self._folder, document

    def _is_archive(self) -> bool:
        with suppress(StoreAccessError):
            return self._archive.is_there()
        return False


def _itself(store: ByteStore) -> ByteStore:
    return store
