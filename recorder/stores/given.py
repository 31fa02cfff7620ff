"""Open a Zarr store that a user has made."""

from __future__ import annotations

import os
import zipfile
from typing import Literal

import zarr.storage
from zarr.abc.store import Store
from zarr.core.sync import sync

from recorder.format import RecordingFormatError, RecordingNotFoundError, StoreError
from recorder.stores.addresses import refuse_archive
from recorder.stores.byte_store import ByteStore
from recorder.stores.files.folder import Folder
from recorder.stores.redaction import without_secrets
from recorder.stores.zarr_stores import RemoteStore, ZarrStore


def open_given(store: Store, *, read_only: bool, durability: Literal["power", "process"]) -> ByteStore:
    """Open a Zarr store; parameters and errors are those of `open_store`."""
    if not read_only and (store.read_only or not store.supports_deletes):
        if isinstance(store, zarr.storage.ZipStore):
            refuse_archive(os.fspath(store.path), str(store))
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
