"""Stores hold the bytes of a recording under keys: in a folder, a bucket, an archive, or on a web server.

`recorder.tape`, `recorder.keeping`, `analysis` and the recorder itself enter through `open_store`; stores
know the keys and documents of the format, and nothing of commits. What needs zarr is imported when it is
asked for, as that takes longer than to read a small recording from a folder.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recorder.stores.addresses import StoreLike, is_url
from recorder.stores.byte_store import ByteStore
from recorder.stores.files.folder import Folder
from recorder.stores.opening import open_store

if TYPE_CHECKING:
    from recorder.stores.zarr_stores import ZarrStore

__all__ = ["ByteStore", "Folder", "StoreLike", "ZarrStore", "is_url", "open_store"]


def __getattr__(name: str) -> Any:
    if name == "ZarrStore":
        return import_module("recorder.stores.zarr_stores").ZarrStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
