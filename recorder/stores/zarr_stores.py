"""Stores on top of Zarr stores: in memory, of the user's own making, or behind a URL through fsspec.

Recording needs two things of a bucket: it stores an object whole or not at all, and shows it to every reader
at once. Web servers are only read. A failed request is repeated a limited number of times, by botocore for
buckets and here for web servers. If it still fails, `StoreAccessError` is raised with the cause.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, TypeVar

import zarr.storage
from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from recorder.format import RecordingFormatError, StoreAccessError, StoreError
from recorder.format.layout import ROOT_DOCUMENT
from recorder.stores.addresses import READS_UNDER_WAY, WEB, split_query
from recorder.stores.options import environment_of, options_for
from recorder.stores.redaction import (
    cause_without_secrets,
    secrets_of,
    secrets_of_environment,
    shown_address,
    without_secrets,
)

# Seconds to wait before each repetition of a request to a web server.
_WEB_WAITS: Final = (0.5, 1.0, 2.0, 4.0)
_ABSENT_STATUS = (404, 410)
# What fsspec takes for a pattern where it deletes.
_PATTERN_CHARACTERS: Final = frozenset("*?[")
_MISSING: Final = (FileNotFoundError, IsADirectoryError, NotADirectoryError)

T = TypeVar("T")


class ZarrStore:
    """A store on top of any Zarr v3 store, such as `zarr.storage.MemoryStore` or one of the user's own."""

    reads_under_way = 1

    def __init__(self, store: Store, location: str | None = None) -> None:
        self.store = store
        self._secrets = tuple(_secrets_of_store(store))
        self._location = without_secrets(store, self._secrets) if location is None else location
        # Nobody can tell from outside what a store of the user's own is made of.
        self._token = token_hex(16)

    @property
    def location(self) -> str:
        return self._location

    @property
    def identity(self) -> str:
        return f"{self._location} {self._token}"

    @property
    def writes_under_way(self) -> int:
        return 1

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

    def ready(self, key: str, data: bytes) -> Callable[[], None]:
        return lambda: self.write(key, data)

    def write_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        self.write(key, b"".join(pieces))

    def write_new(self, key: str, data: bytes) -> bool:
        buffer = default_buffer_prototype().buffer.from_bytes(data)
        self._wait(key, lambda: self.store.set_if_not_exists(key, buffer))
        # set_if_not_exists may first look and then write; another writer may have written in between.
        return self.read(key, len(data) + 2**16) == data

    def exclusively(self) -> AbstractContextManager[None]:
        return nullcontext()

    def of_writer(self, owner: str) -> ZarrStore:  # noqa: ARG002 - see ByteStore
        """Return this store: where nothing is renamed, no writer can keep another one from writing."""
        return self

    def end_writer(self, owner: str) -> None:
        """Do nothing: a Zarr store keeps nothing for a writer."""

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

    def _wait(self, key: str, do: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return sync(do())
        except Exception as error:
            if cause_without_secrets(error, self._secrets) is None:
                raise self._retold(error, key) from None
            raise

    def _retold(self, error: Exception, key: str) -> Exception:
        """An error of another package as ours; of those with a meaning of their own the place is enough."""
        if isinstance(error, (*_MISSING, NotImplementedError)):
            return type(error)(self._shown(key))
        said = without_secrets(f"{type(error).__name__}: {error}", self._secrets, is_answer=True)
        return StoreAccessError(
            f"{self._shown(key)}: {said}. Look whether the address, the credentials and the connection "
            "are right"
        )

    def _shown(self, key: str) -> str:
        return f"{self.location}/{key}"


class RemoteStore(ZarrStore):
    """Keys below a URL.

    Parameters
    ----------
    store : zarr.storage.FsspecStore
    location : str, optional
        As it may be shown.
    query : str
        What stands behind each key that a web server is asked for, with its question mark: the query of the
        address, such as a token.
    secrets : sequence of str
        What is hidden in the errors of others, beside what the store's own options hold.
    """

    reads_under_way = READS_UNDER_WAY
    store: zarr.storage.FsspecStore

    def __init__(
        self,
        store: zarr.storage.FsspecStore,
        location: str | None = None,
        query: str = "",
        secrets: Sequence[str] = (),
    ) -> None:
        super().__init__(store, location)
        self._query = query
        self._environment = environment_of(self._location)
        self._secrets = (*secrets, *self._secrets, *secrets_of_environment())

    @property
    def identity(self) -> str:
        files = self.store.fs
        given = (getattr(files, name, None) for name in ("storage_args", "storage_options"))
        return repr((self._location, type(files), *given, self._environment, self.store.path, self._query))

    def is_empty(self) -> bool:
        # Only one level is listed, because a recording may have millions of keys.
        return not self._wait("", lambda: _collect(self.store.list_dir("")))

    def _get(self, key: str, wanted: ByteRequest) -> bytes | None:
        return super()._get(f"{key}{self._query}", wanted)

    def size_of(self, key: str) -> int | None:
        async def size() -> int:
            try:
                return await self.store.getsize(f"{key}{self._query}")
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

        async def create() -> bool:
            try:
                await self.store.fs._pipe_file(path, data, mode="create")
            except (OSError, NotImplementedError, TypeError, ValueError):
                # The store cannot do it in one step, or somebody was first: perhaps ourselves, where the
                # answer to the first of two tries was lost.
                return False
            return True

        if not self._wait(key, create):
            return super().write_new(key, data)
        return self.read(key, len(data) + 2**16) == data

    def write_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        """Write the pieces to a temporary file, which fsspec uploads in parts."""
        with tempfile.TemporaryDirectory(prefix="spiketape-") as folder:
            path = Path(folder) / "object"
            with path.open("wb") as file:
                file.writelines(pieces)
            self._wait(key, lambda: self.store.fs._put_file(str(path), f"{self.store.path}/{key}"))

    def delete(self, key: str) -> None:
        if self._is_like_a_pattern:
            self._delete_found(key)
        else:
            super().delete(key)

    def clear(self, groups: Sequence[str]) -> None:
        self.delete(ROOT_DOCUMENT)
        for group in groups:
            if self._is_like_a_pattern:
                self._delete_found(group)
            else:
                self._wait(group, lambda group=group: self.store.delete_dir(group))  # type: ignore[misc]

    @property
    def _is_like_a_pattern(self) -> bool:
        return not _PATTERN_CHARACTERS.isdisjoint(self.store.path)

    def _delete_found(self, key: str) -> None:
        """Delete a key, or all below it, one by one.

        fsspec deletes what matches a name that is like a pattern: ``run[1].zarr`` would take ``run1.zarr``.
        """

        async def delete() -> None:
            files = self.store.fs
            for path in await files._find(f"{self.store.path}/{key}"):
                with suppress(FileNotFoundError):
                    await files._rm_file(path)

        self._wait(key, delete)

    def _wait(self, key: str, do: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return sync(self._tried_again(do))
        except (*_MISSING, NotImplementedError) as error:
            # Of a key that is read, that it is missing means that it is absent, and does not get here.
            raise self._retold(error, key) from None
        except Exception as error:  # noqa: BLE001 - of whatever package, it becomes the cause of ours
            raise self._retold(error, key) from cause_without_secrets(error, self._secrets)

    def _shown(self, key: str) -> str:
        return f"{self.location}/{key.removesuffix(self._query)}"

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


def _secrets_of_store(store: Any, depth: int = 8) -> Iterator[str]:
    """Secrets that a store holds, or the stores and file systems inside it."""
    options = {name: getattr(store, name, None) for name in ("storage_options", "config", "client_options")}
    yield from secrets_of(str(getattr(store, "path", "")), options)
    for name in ("_store", "store", "fs", "sync_fs"):
        if depth and name in getattr(store, "__dict__", {}):
            yield from _secrets_of_store(getattr(store, name), depth - 1)


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
    shown = shown_address(url)
    scheme = url.partition(":")[0]
    if scheme in WEB and not read_only:
        raise StoreError(
            f"{shown} cannot be written: web servers are only read. Write to a folder or a bucket, and "
            "publish it from there"
        )
    secrets = (*secrets_of(url, storage_options), *secrets_of_environment())
    place, query = split_query(url)
    try:
        store = zarr.storage.FsspecStore.from_url(
            place, storage_options=options_for(url, storage_options), read_only=read_only
        )
    except ImportError as error:
        raise StoreError(
            f"{shown} cannot be opened, as a package is missing ({without_secrets(error, secrets)}): pip "
            "install 'spiketape[remote]'"
        ) from cause_without_secrets(error, secrets)
    except Exception as error:  # noqa: BLE001 - whatever the package for such addresses finds wrong with it
        raise StoreError(
            f"{shown} cannot be opened: {without_secrets(error, secrets)}"
        ) from cause_without_secrets(error, secrets)
    return RemoteStore(store, shown, query, secrets)


def _is_web(filesystem: Any) -> bool:
    protocol = filesystem.protocol
    return bool({protocol} & set(WEB) if isinstance(protocol, str) else set(protocol) & set(WEB))
