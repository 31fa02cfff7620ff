"""Open the store that a user names by a path, a URL or a Zarr store."""

from __future__ import annotations

import os
from typing import Any, Literal

from recorder.format import StoreError
from recorder.stores.addresses import (
    StoreLike,
    is_archive,
    is_url,
    is_web,
    is_zarr_store,
    local_path,
    refuse_archive,
    split_query,
)
from recorder.stores.byte_store import ByteStore
from recorder.stores.files.archive import Archive
from recorder.stores.files.folder import Folder
from recorder.stores.links import LinkedStore
from recorder.stores.redaction import secrets_of, shown_address, without_secrets


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
        A URL (``s3://bucket/run.zarr``) is opened through fsspec; one that ends in ``.zip``, or a file of
        such a name, as an archive. What a web server gives under any other link may be either: that is seen
        when it is read. The query of a web address goes behind each key that is asked for. In a path that
        begins with ``~`` that is somebody's home.
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
    if is_zarr_store(store):
        from recorder.stores.given import open_given

        return open_given(store, read_only=read_only, durability=durability)
    if not isinstance(store, str | os.PathLike):
        raise TypeError(
            # It may be storage_options, in the wrong place.
            f"store is {without_secrets(repr(store), secrets_of('', {'': store}))} ({type(store).__name__}); "
            "expected a path, a URL such as 's3://bucket/run.zarr' or a Zarr store"
        )
    text = os.fspath(store)
    if not text:
        raise StoreError("store is empty; expected a path or a URL")
    if is_url(text) and not text.startswith("file://"):
        return _behind_url(text, read_only, storage_options)
    path = local_path(text)
    if is_archive(path) and not os.path.isdir(path):
        if not read_only:
            refuse_archive(path, text)
        path = os.path.realpath(path)
        return Archive(Folder(os.path.dirname(path)), os.path.basename(path))
    return Folder(path, durability)


def _behind_url(url: str, read_only: bool, storage_options: dict[str, Any] | None) -> ByteStore:
    from recorder.stores.zarr_stores import open_url

    place, query = split_query(url)
    if not is_archive(place) and not (read_only and is_web(url)):
        return open_url(url, read_only=read_only, storage_options=storage_options)
    if not read_only:
        refuse_archive(shown_address(place), shown_address(url))
    folder, _, name = place.rstrip("/").rpartition("/")
    outer = open_url(f"{folder}{query}", read_only=True, storage_options=storage_options)
    archive = Archive(outer, name)
    if is_archive(place):
        return archive
    return LinkedStore(open_url(url, read_only=True, storage_options=storage_options), archive)
