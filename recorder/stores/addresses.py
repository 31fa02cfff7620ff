"""What a user names a store by: a path, a URL or a Zarr store. Nothing is opened here."""

from __future__ import annotations

import os
import re
import shlex
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, TypeGuard
from urllib.parse import unquote

from recorder.format import StoreError

if TYPE_CHECKING:
    from zarr.abc.store import Store

StoreLike: TypeAlias = "str | os.PathLike[str] | Store"

# Of a bucket or a web server, at the same time.
READS_UNDER_WAY: Final = 16
WEB: Final = ("http", "https")

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|[A-Za-z0-9+.-]+::")


def is_zarr_store(store: Any) -> TypeGuard[Store]:
    """True if ``store`` is a store of zarr."""
    # Whoever made it has imported zarr. That takes a third of a second, which no path needs.
    module = sys.modules.get("zarr.abc.store")
    return module is not None and isinstance(store, module.Store)


def is_url(text: str) -> bool:
    """True if ``text`` is a URL, such as ``s3://bucket/run.zarr``, and not a path."""
    return _URL.match(text) is not None


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


def split_query(url: str) -> tuple[str, str]:
    """The address of a folder on a web server, and its query, which goes behind the key; no fragment.

    Elsewhere ``?`` and ``#`` may be part of a name.

    Examples
    --------
    >>> split_query("https://host/run.zarr?token=abc#top")
    ('https://host/run.zarr', '?token=abc')
    >>> split_query("s3://bucket/run#1.zarr")
    ('s3://bucket/run#1.zarr', '')
    """
    if not is_web(url):
        return url, ""
    place, question, query = url.partition("#")[0].partition("?")
    return place, f"?{query}" if question and query else ""


def is_web(url: str) -> bool:
    """True if an address is that of a web server."""
    return url.partition("://")[0].rpartition("::")[2] in WEB


def is_archive(place: str) -> bool:
    """True if a path or an address, without its query, is that of an archive."""
    return place.lower().endswith(".zip")


def refuse_archive(place: str, shown: str) -> NoReturn:
    """Raise StoreError: the archive at ``place``, which is told as ``shown``, is to be written."""
    folder = f"{place[:-4] if is_archive(place) else place}.zarr"
    command = shlex.join(["spiketape", "pack", folder, place])
    raise StoreError(
        f"{shown} is an archive, and only read, as archives cannot replace what they hold. Record to a "
        f"folder or a bucket, such as {folder}, and when that is closed make the archive of it: `{command}`"
    )
