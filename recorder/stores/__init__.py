"""Where the bytes of a recording live: a folder, a bucket, a web server, an archive. All offer bytes by key.

`open_store` is the way in. Stores know names and documents of the format, and nothing of what is promised.
"""

from recorder.stores.byte_store import ByteStore
from recorder.stores.folder import Folder
from recorder.stores.opening import StoreLike, is_url, open_store
from recorder.stores.zarr_stores import ZarrStore

__all__ = ["ByteStore", "Folder", "StoreLike", "ZarrStore", "is_url", "open_store"]
