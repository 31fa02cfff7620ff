"""Open the store that a user names by a path, a URL or a Zarr store."""

from __future__ import annotations

import os
import re
import shlex
import zipfile
from typing import Any, Literal, NoReturn
from urllib.parse import unquote

import zarr.storage
from zarr.abc.store import Store
from zarr.core.sync import sync

from recorder.format import RecordingFormatError, RecordingNotFoundError, StoreError
from recorder.stores.byte_store import ByteStore
from recorder.stores.files.archive import Archive
from recorder.stores.files.folder import Folder
from recorder.stores.links import LinkedStore
from recorder.stores.redaction import secrets_of, shown_address, without_secrets
from recorder.stores.zarr_stores import RemoteStore, ZarrStore, is_web, open_url, split_query

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
    if isinstance(store, Store):
        return _given(store, read_only, durability)
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
    if _is_archive(path) and not os.path.isdir(path):
        if not read_only:
            _refuse_archive(path, text)
        path = os.path.realpath(path)
        return Archive(Folder(os.path.dirname(path)), os.path.basename(path))
    return Folder(path, durability)


def local_path(text: str) -> str:
    """The path that a user names by a path or a ``file://`` URL; ``~`` is somebody's home.

    Examples
    --------
    >>> local_path("file:///data/run%201.zarr")
    '/data/run 1.zarr'
    """
    if text.startswith("file://"):
        return unquote(text.removeprefix("file://").removeprefix("localhost"))
    return os.path.expanduser(text)


def _behind_url(url: str, read_only: bool, storage_options: dict[str, Any] | None) -> ByteStore:
    place, query = split_query(url)
    if not _is_archive(place) and not (read_only and is_web(url)):
        return open_url(url, read_only=read_only, storage_options=storage_options)
    if not read_only:
        _refuse_archive(shown_address(place), shown_address(url))
    folder, _, name = place.rstrip("/").rpartition("/")
    outer = open_url(f"{folder}{query}", read_only=True, storage_options=storage_options)
    archive = Archive(outer, name)
    if _is_archive(place):
        return archive
    return LinkedStore(open_url(url, read_only=True, storage_options=storage_options), archive)


def _given(store: Store, read_only: bool, durability: Literal["power", "process"]) -> ByteStore:
    if not read_only and (store.read_only or not store.supports_deletes):
        if isinstance(store, zarr.storage.ZipStore):
            _refuse_archive(os.fspath(store.path), str(store))
        raise StoreError(
            f"{without_secrets(store)} cannot be recorded to: it is read-only, or cannot replace what it "
            "holds. Record to a folder or a bucket"
        )
    if isinstance(store, zarr.storage.LocalStore):
        return Folder(store.root, durability)
    if isinstance(store, zarr.storage.FsspecStore):
        return RemoteStore(store)
    if isinstance(store, zarr.storage.ZipStore):
        return ZarrStore(_opened(store), str(store))
    return ZarrStore(store)


def _opened(store: zarr.storage.ZipStore) -> zarr.storage.ZipStore:
    """A ZipStore to read from. One that was never opened is only a name, and perhaps one to be replaced."""
    if getattr(store, "_is_open", False):
        return store
    try:
        return sync(zarr.storage.ZipStore.open(store.path, mode="r"))
    except FileNotFoundError as error:
        raise RecordingNotFoundError(f"no recording at {store}: there is no such archive") from error
    except zipfile.BadZipFile as error:
        raise RecordingFormatError(f"{store} is no zip archive: {error}") from error


def _is_archive(place: str) -> bool:
    return place.lower().endswith(".zip")


def _refuse_archive(place: str, shown: str) -> NoReturn:
    folder = f"{place[:-4] if _is_archive(place) else place}.zarr"
    command = shlex.join(["spiketape", "pack", folder, place])
    raise StoreError(
        f"{shown} is an archive, and only read, as archives cannot replace what they hold. Record to a "
        f"folder or a bucket, such as {folder}, and when that is closed make the archive of it: `{command}`"
    )


def is_url(text: str) -> bool:
    """True if ``text`` is a URL, such as ``s3://bucket/run.zarr``, and not a path."""
    return _URL.match(text) is not None
