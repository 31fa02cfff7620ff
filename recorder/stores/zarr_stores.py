"""Stores on top of Zarr stores: in memory, of the user's own making, or behind a URL through fsspec.

Recording needs two things of a bucket: it stores an object whole or not at all, and shows it to every reader
at once. Web servers are only read. A failed request is repeated a limited number of times, by botocore for
buckets and here for web servers. If it still fails, `StoreAccessError` is raised with the cause.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final, TypeVar

import zarr.storage
from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from recorder.format import RecordingFormatError, StoreAccessError, StoreError
from recorder.format.layout import ROOT_DOCUMENT

READS_UNDER_WAY: Final = 16

# Attempts at one request. botocore waits longer before each: about ten seconds in all for a server that is
# gone, about a minute for a server that answers that it is busy.
S3_ATTEMPTS: Final = 10
# Seconds to wait before each repetition of a request to a web server.
_WEB_WAITS: Final = (0.5, 1.0, 2.0, 4.0)
_ABSENT_STATUS = (404, 410)
_WEB: Final = ("http", "https")
_S3: Final = ("s3", "s3a")
_MISSING: Final = (FileNotFoundError, IsADirectoryError, NotADirectoryError)

T = TypeVar("T")


class ZarrStore:
    """A store on top of any Zarr v3 store, such as `zarr.storage.MemoryStore` or one of the user's own."""

    reads_under_way = 1

    def __init__(self, store: Store, location: str | None = None) -> None:
        self.store = store
        self._location = str(store) if location is None else location

    @property
    def location(self) -> str:
        return self._location

    def is_empty(self) -> bool:
        return self._wait("", lambda: self.store.is_empty(""))

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        # One byte more than the limit shows that there are too many, without reading them all.
        found = self._get(key, RangeByteRequest(0, limit_bytes + 1))
        if found is not None and len(found) > limit_bytes:
            raise RecordingFormatError(
                f"{self.location}/{key} has at least {len(found)} bytes, at most {limit_bytes} were expected"
            )
        return found

    def read_range(self, key: str, start: int, size: int) -> bytes | None:
        if size == 0:
            return b""
        wanted: ByteRequest = SuffixByteRequest(size) if start < 0 else RangeByteRequest(start, start + size)
        found = self._get(key, wanted)
        if found is None or len(found) <= size:
            return found
        # A web server may send the whole file.
        return found[-size:] if start < 0 else found[start : start + size]

    def _get(self, key: str, wanted: ByteRequest) -> bytes | None:
        found = self._wait(key, lambda: self.store.get(key, default_buffer_prototype(), wanted))
        return None if found is None else found.to_bytes()

    def write(self, key: str, data: bytes) -> None:
        buffer = default_buffer_prototype().buffer.from_bytes(data)
        self._wait(key, lambda: self.store.set(key, buffer))

    def write_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        self.write(key, b"".join(pieces))

    def write_new(self, key: str, data: bytes) -> bool:
        buffer = default_buffer_prototype().buffer.from_bytes(data)
        self._wait(key, lambda: self.store.set_if_not_exists(key, buffer))
        # set_if_not_exists may first look and then write; another writer may have written in between.
        return self.read(key, len(data) + 2**16) == data

    def exclusively(self) -> AbstractContextManager[None]:
        return nullcontext()

    def persist(self) -> None:
        """Do nothing: how safe accepted bytes are is up to the store."""

    def delete(self, key: str) -> None:
        self._wait(key, lambda: self.store.delete(key))

    def clear(self, groups: Sequence[str]) -> None:
        self.delete(ROOT_DOCUMENT)
        for key in list(self.keys()):
            if key.startswith(tuple(f"{group}/" for group in groups)):
                self.delete(key)

    def keys(self) -> Iterator[str]:
        yield from self._wait("", lambda: _collect(self.store.list()))

    def size(self, folder: str) -> int:
        return self._wait(folder, lambda: self.store.getsize_prefix(f"{folder}/" if folder else ""))

    def size_of(self, key: str) -> int | None:
        try:
            return self._wait(key, lambda: self.store.getsize(key))
        except FileNotFoundError:
            return None

    def remove_leftovers(self) -> None:
        """Do nothing: a Zarr store leaves no temporary keys."""

    def _wait(self, key: str, do: Callable[[], Coroutine[Any, Any, T]]) -> T:  # noqa: ARG002 - see RemoteStore
        return sync(do())


class RemoteStore(ZarrStore):
    """A store whose keys lie below a URL."""

    reads_under_way = READS_UNDER_WAY
    store: zarr.storage.FsspecStore

    def is_empty(self) -> bool:
        # Only one level is listed, because a recording may have millions of keys.
        return not self._wait("", lambda: _collect(self.store.list_dir("")))

    def size_of(self, key: str) -> int | None:
        async def size() -> int:
            try:
                return await self.store.getsize(key)
            except FileNotFoundError as error:
                # fsspec raises this for every bad answer of a web server, and for no answer at all.
                cause = error.__cause__
                if isinstance(cause, Exception) and getattr(cause, "status", 0) not in _ABSENT_STATUS:
                    raise cause from None
                raise

        try:
            return self._wait(key, size)
        except FileNotFoundError:
            return None

    def write_new(self, key: str, data: bytes) -> bool:
        path = f"{self.store.path}/{key}"
        try:
            self._wait(key, lambda: self.store.fs._pipe_file(path, data, mode="create"))
        except StoreAccessError as error:
            # Either the store has no conditional writes, or the key exists. The key may even be ours: if the
            # answer to a successful request is lost, the request is repeated and finds the key.
            if not isinstance(error.__cause__, OSError | NotImplementedError | TypeError | ValueError):
                raise
            return super().write_new(key, data)
        return self.read(key, len(data) + 2**16) == data

    def write_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        """Write the pieces to a temporary file, which fsspec uploads in parts."""
        with tempfile.TemporaryDirectory(prefix="spiketape-") as folder:
            path = Path(folder) / "object"
            with path.open("wb") as file:
                file.writelines(pieces)
            self._wait(key, lambda: self.store.fs._put_file(str(path), f"{self.store.path}/{key}"))

    def clear(self, groups: Sequence[str]) -> None:
        self.delete(ROOT_DOCUMENT)
        for group in groups:
            self._wait(group, lambda group=group: self.store.delete_dir(group))  # type: ignore[misc]

    def _wait(self, key: str, do: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return sync(self._tried_again(do))
        except _MISSING:
            # Not a failed access: there is nothing at the key. (Reads of absent keys return None.)
            raise
        except NotImplementedError:
            raise
        except Exception as error:
            raise StoreAccessError(
                f"{self.location}/{key}: {type(error).__name__}: {error}. Look whether the address, the "
                "credentials and the connection are right"
            ) from error

    async def _tried_again(self, do: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do a request. Requests to web servers are repeated where the error may be a passing one."""
        if _is_web(self.store.fs):
            for wait in _WEB_WAITS:
                try:
                    return await do()
                except _MISSING:
                    raise
                except Exception as error:
                    # HTTP status if there was an answer. 429 means "too many requests": worth another try.
                    status = getattr(error, "status", 500)
                    if status < 500 and status != 429:
                        raise
                await asyncio.sleep(wait)
        return await do()


async def _collect(keys: Any) -> list[str]:
    return [key async for key in keys]


def open_url(url: str, *, read_only: bool, storage_options: Mapping[str, Any] | None = None) -> RemoteStore:
    """Open the store behind a URL.

    Parameters
    ----------
    url : str
    read_only : bool
        False if the store is going to be written.
    storage_options : mapping, optional
        Options for fsspec.

    Raises
    ------
    StoreError
        If no installed package opens the URL, or if it names a web server and is to be written.
    """
    shown = without_secrets(url)
    scheme = url.partition(":")[0]
    if scheme in _WEB and not read_only:
        raise StoreError(
            f"{shown} cannot be written: web servers are only read. Write to a folder or a bucket, and "
            "publish it from there"
        )
    try:
        store = zarr.storage.FsspecStore.from_url(
            url, storage_options=_options(scheme, storage_options or {}), read_only=read_only
        )
    except ImportError as error:
        raise StoreError(
            f"{shown} cannot be opened, as a package is missing ({error}): pip install 'spiketape[remote]'"
        ) from error
    except (ValueError, TypeError) as error:
        raise StoreError(f"{shown} cannot be opened: {error}") from error
    return RemoteStore(store, shown)


def without_secrets(url: str) -> str:
    """Remove user, password and query from a URL, so that it may be shown and stored.

    Examples
    --------
    >>> without_secrets("https://me:secret@host/run.zarr?token=secret")
    'https://host/run.zarr'
    """
    return re.sub(r"(//)[^/@]*@", r"\1", url.partition("?")[0])


def _options(scheme: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options for fsspec: the user's, with our defaults for S3 added."""
    if scheme not in _S3:
        return dict(given)
    # A cached listing would hide keys written since.
    options: dict[str, Any] = {"use_listings_cache": False, **given}
    if not {"AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"} & os.environ.keys():
        retries = {"mode": "standard", "max_attempts": S3_ATTEMPTS}
        options["config_kwargs"] = {"retries": retries, **options.get("config_kwargs", {})}
    return options


def _is_web(filesystem: Any) -> bool:
    protocol = filesystem.protocol
    return bool({protocol} & set(_WEB) if isinstance(protocol, str) else set(protocol) & set(_WEB))
