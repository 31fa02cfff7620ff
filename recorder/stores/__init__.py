"""Stores hold the bytes of a recording under keys: in a folder, a bucket, an archive, or on a web server.

`recorder.tape`, `recorder.keeping`, `analysis` and the recorder itself enter through `open_store`; stores
know the keys and documents of the format, and nothing of commits.
"""

from recorder.stores.byte_store import ByteStore
from recorder.stores.files.folder import Folder
from recorder.stores.opening import StoreLike, is_url, open_store
from recorder.stores.zarr_stores import ZarrStore

__all__ = ["ByteStore", "Folder", "StoreLike", "ZarrStore", "is_url", "open_store"]
