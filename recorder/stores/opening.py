"""Open the store that a user names by a path, a URL or a Zarr store."""

from __future__ import annotations

import os
import re
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import zarr.storage
from zarr.abc.store import Store

from recorder.format import StoreError
from recorder.stores.archive import Archive
from recorder.stores.byte_store import ByteStore
from recorder.stores.folder import Folder
from recorder.stores.zarr_stores import RemoteStore, ZarrStore, open_url

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


StoreLike = str | os.PathLike[str] | Store


_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|[A-Za-z0-9+.-]+::")


def open_store(
    store: StoreLike,
    *,
    read_only: bool,
    storage_options: dict[str, Any] | None = None,
    durability: Literal["power", "process"] = "power",
) -> ByteStore:
    """Open the store that a user names by a path, a URL or a Zarr store.

    Parameters
    ----------
    store : str, path or zarr.abc.store.Store
        A URL (``s3://bucket/run.zarr``) is opened through fsspec. A URL or file whose name ends in ``.zip``
        is opened as an archive.
    read_only : bool
        False if the store is going to be written.
    storage_options : dict, optional
        Options for fsspec, such as credentials and endpoint. Used for URLs only.
    durability : {"power", "process"}
        What written keys survive in a folder, see `Folder`.

    Raises
    ------
    TypeError
        If ``store`` is neither a path, nor a URL, nor a Zarr store.
    StoreError
        If the store cannot be opened, or is to be written and cannot.
    """
    if isinstance(store, Store):
        return _given(store, read_only, durability)
    if not isinstance(store, str | os.PathLike):
        raise TypeError(
            f"store is {store!r} ({type(store).__name__}); expected a path, a URL such as "
            "'s3://bucket/run.zarr' or a Zarr store"
        )
    text = os.fspath(store)
    if not text:
        raise StoreError("store is empty; expected a path or a URL")
    if text.startswith("file://"):
        text = unquote(urlsplit(text).path)
    if is_url(text):
        folder, slash, query = text.partition("?")
        folder, _, name = folder.rpartition("/")
        if not name.endswith(".zip"):
            return open_url(text, read_only=read_only, storage_options=storage_options)
        outer: ByteStore = open_url(folder, read_only=True, storage_options=storage_options)
        return _archive(outer, name + slash + query, read_only)
    if text.endswith(".zip") and (read_only or os.path.isfile(text)):
        path = os.path.realpath(text)
        return _archive(Folder(os.path.dirname(path)), os.path.basename(path), read_only)
    return Folder(text, durability)


def _given(store: Store, read_only: bool, durability: Literal["power", "process"]) -> ByteStore:
    if not read_only and (store.read_only or not store.supports_deletes):
        raise StoreError(
            f"{store} cannot be recorded to: it is read-only, or cannot replace what it holds. Record "
            "to a folder or a bucket"
        )
    if isinstance(store, zarr.storage.LocalStore):
        return Folder(store.root, durability)
    if isinstance(store, zarr.storage.FsspecStore):
        return RemoteStore(store)
    return ZarrStore(store)


def _archive(outer: ByteStore, name: str, read_only: bool) -> Archive:
    archive = Archive(outer, name)
    if not read_only:
        raise StoreError(
            f"{archive.location} is an archive, and only read: record to a folder or a bucket, and pack that"
        )
    return archive


def is_url(text: str) -> bool:
    """True if ``text`` is a URL, such as ``s3://bucket/run.zarr``, and not a path."""
    return _URL.match(text) is not None
