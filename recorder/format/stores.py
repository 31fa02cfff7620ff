"""Where the bytes of a recording live: a folder, or any Zarr store.

Both kinds offer the same few operations on keys. Folders are read and written here and not through
``zarr.storage.LocalStore``, which never calls fsync and follows symbolic links out of the store.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final, Literal, Protocol
from urllib.parse import unquote, urlsplit

import zarr.storage
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from recorder.format.errors import RecordingFormatError, StoreError
from recorder.format.layout import ROOT_DOCUMENT

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

StoreLike = str | os.PathLike[str] | Store

# Behind the name of what was to be written; twice, where it was to be written only if it was not there.
PARTIAL: Final = re.compile(r"(\.[0-9a-f]{16}\.partial)+\Z")
_MOST_KNOWN_FOLDERS: Final = 1000
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|[A-Za-z0-9+.-]+::")


class ByteStore(Protocol):
    """Bytes by key. Writing replaces a key's bytes at once and whole, or not at all."""

    @property
    def location(self) -> str:
        """Path or URL, for people."""

    def is_empty(self) -> bool:
        """Whether there is nothing at all at the location."""

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        """Bytes of a key, None if it is absent; RecordingFormatError if there are more than the limit."""

    def write(self, key: str, data: bytes) -> None:
        """Store bytes under a key."""

    def write_new(self, key: str, data: bytes) -> bool:
        """Store bytes under a key that is absent; False, and nothing is done, if it is there.

        In folders one of several writers who try at once succeeds. Zarr stores are asked first, then written.
        """

    def exclusively(self) -> AbstractContextManager[None]:
        """Keep other processes out that ask for the same, where the place allows; given up by a kill too."""

    def persist(self) -> None:
        """Return once every key written before will survive a loss of power, where that is possible."""

    def delete(self, key: str) -> None:
        """Remove a key; nothing happens if it is absent."""

    def clear(self, groups: Sequence[str]) -> None:
        """Remove the root document, then all below some folders, and what writes cut short have left."""

    def keys(self) -> Iterator[str]:
        """All keys."""

    def size(self, folder: str) -> int:
        """Bytes stored under keys below a folder."""

    def remove_leftovers(self) -> None:
        """Remove what writes cut short by a kill have left, and nothing else."""


class Folder:
    """Keys are files below a folder.

    Parameters
    ----------
    path : str or path
    durability : {"power", "process"}
        ``"power"`` calls fsync, so that what is persisted survives a loss of power; ``"process"`` survives
        only the end of the process.
    """

    def __init__(
        self, path: str | os.PathLike[str], durability: Literal["power", "process"] = "power"
    ) -> None:
        self._root = Path(os.path.abspath(path))
        self._durability = durability
        self._known_folders: set[Path] = set()
        self._unsynced_folders: set[Path] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        return Folder, (str(self._root), self._durability)

    @property
    def location(self) -> str:
        return str(self._root)

    def is_empty(self) -> bool:
        if not os.path.lexists(self._root):
            return True
        return self._root.is_dir() and not os.listdir(self._root)

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        path = self._root / key
        # A link anywhere below the root would let a recording show files of its reader's machine.
        if os.path.realpath(path.parent) != os.path.join(
            os.path.realpath(self._root), *Path(key).parent.parts
        ):
            raise RecordingFormatError(f"{path} is reached through a symbolic link; recordings hold none")
        # Non-blocking, as opening a FIFO would wait for a writer.
        flags = (
            os.O_RDONLY
            | getattr(os, "O_NOFOLLOW", 0)
            | getattr(os, "O_NONBLOCK", 0)
            | getattr(os, "O_BINARY", 0)
        )
        try:
            descriptor = os.open(path, flags)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if path.is_symlink():
                raise RecordingFormatError(f"{path} is a symbolic link; recordings hold none") from error
            raise
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise RecordingFormatError(f"{path} is not a regular file")
            _check_limit(str(path), status.st_size, limit_bytes)
            with open(descriptor, "rb", closefd=False) as file:
                # Not the limit: as many bytes as asked for are taken from memory first.
                return file.read(status.st_size)
        finally:
            os.close(descriptor)

    def write(self, key: str, data: bytes) -> None:
        path = self._root / key
        self._make_folder(path.parent)
        partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
        try:
            with open(partial, "xb") as file:
                file.write(data)
                if self._durability == "power":
                    # Before the rename: a file that replaces another must never be found empty.
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        self._unsynced_folders.add(path.parent)

    def write_new(self, key: str, data: bytes) -> bool:
        path = self._root / key
        new = f"{key}.{secrets.token_hex(8)}.partial"
        self.write(new, data)
        try:
            # Unlike a rename, a link refuses to replace.
            os.link(self._root / new, path)
        except FileExistsError:
            return False
        except OSError:
            # The file system has no links.
            try:
                with open(path, "xb") as file:
                    file.write(data)
            except FileExistsError:
                return False
        finally:
            self.delete(new)
        return True

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        self._make_folder(self._root)
        with _opened(self._root) as descriptor:
            # Some network file systems have no such locks.
            with suppress(OSError):
                _lock_file(descriptor)
            yield

    def persist(self) -> None:
        if self._durability == "power":
            for folder in sorted(self._unsynced_folders, reverse=True):
                _sync_folder(folder)
        self._unsynced_folders.clear()

    def delete(self, key: str) -> None:
        (self._root / key).unlink(missing_ok=True)
        self._unsynced_folders.add((self._root / key).parent)

    def clear(self, groups: Sequence[str]) -> None:
        # Cut short, what is left must not look like a recording with damaged chunks.
        self.delete(ROOT_DOCUMENT)
        self.persist()
        for group in groups:
            folder = self._root / group
            if folder.is_symlink() or folder.is_file():
                folder.unlink()
            elif folder.is_dir():
                shutil.rmtree(folder)
        self.remove_leftovers()
        self._known_folders.clear()
        self._unsynced_folders.clear()

    def keys(self) -> Iterator[str]:
        for folder, _, files in os.walk(self._root):
            for name in files:
                yield (Path(folder) / name).relative_to(self._root).as_posix()

    def size(self, folder: str) -> int:
        inside = os.walk(self._root / folder)
        return sum(
            os.lstat(os.path.join(place, name)).st_size for place, _, files in inside for name in files
        )

    def remove_leftovers(self) -> None:
        for key in list(self.keys()):
            if PARTIAL.search(key):
                self.delete(key)

    def _make_folder(self, folder: Path) -> None:
        if folder in self._known_folders:
            return
        if not folder.is_dir():
            self._make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            self._unsynced_folders.add(folder.parent)
        if len(self._known_folders) >= _MOST_KNOWN_FOLDERS:
            # Chunks of layers have a folder each: over days they would fill the memory.
            self._known_folders.clear()
        self._known_folders.add(folder)


class ZarrStore:
    """Keys of any Zarr v3 store: object stores through fsspec, memory, or the user's own."""

    def __init__(self, store: Store, location: str | None = None) -> None:
        self.store = store
        self._location = str(store) if location is None else location

    @property
    def location(self) -> str:
        return self._location

    def is_empty(self) -> bool:
        return sync(self.store.is_empty(""))

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        found = sync(self.store.get(key, default_buffer_prototype()))
        if found is None:
            return None
        _check_limit(f"{self.location}/{key}", len(found), limit_bytes)
        return found.to_bytes()

    def write(self, key: str, data: bytes) -> None:
        sync(self.store.set(key, default_buffer_prototype().buffer.from_bytes(data)))

    def write_new(self, key: str, data: bytes) -> bool:
        if sync(self.store.exists(key)):
            return False
        self.write(key, data)
        return self.read(key, len(data)) == data

    def exclusively(self) -> AbstractContextManager[None]:
        return nullcontext()

    def persist(self) -> None:
        """Nothing to wait for: a store that has accepted bytes keeps them as well as it keeps anything."""

    def delete(self, key: str) -> None:
        sync(self.store.delete(key))

    def clear(self, groups: Sequence[str]) -> None:
        self.delete(ROOT_DOCUMENT)
        for key in list(self.keys()):
            if key.startswith(tuple(f"{group}/" for group in groups)):
                self.delete(key)

    def keys(self) -> Iterator[str]:
        yield from sync(_collect(self.store.list()))

    def size(self, folder: str) -> int:
        return sync(self.store.getsize_prefix(f"{folder}/" if folder else ""))

    def remove_leftovers(self) -> None:
        """There are none: a store takes bytes whole."""


async def _collect(keys: Any) -> list[str]:
    return [key async for key in keys]


def open_store(
    store: StoreLike,
    *,
    read_only: bool,
    storage_options: dict[str, Any] | None = None,
    durability: Literal["power", "process"] = "power",
) -> ByteStore:
    """The store that a user names by a path, a URL or a Zarr store.

    Parameters
    ----------
    store : str, path or zarr.abc.store.Store
        A URL (``s3://bucket/run.zarr``) is opened through fsspec.
    read_only : bool
    storage_options : dict, optional
        Passed to fsspec for URLs: credentials, endpoint.
    durability : {"power", "process"}
        See `Folder`.

    Raises
    ------
    TypeError
        If ``store`` is none of these.
    StoreError
        If it cannot be opened, or not be written.
    """
    if isinstance(store, Store):
        if not read_only and (store.read_only or not store.supports_deletes):
            raise StoreError(
                f"{store} cannot be recorded to: it is read-only, or cannot replace what it holds. Record "
                "to a folder or a bucket"
            )
        if isinstance(store, zarr.storage.LocalStore):
            return Folder(store.root, durability)
        return ZarrStore(store)
    if not isinstance(store, str | os.PathLike):
        raise TypeError(
            f"store is {store!r} ({type(store).__name__}); expected a path, a URL such as "
            "'s3://bucket/run.zarr' or a Zarr store"
        )
    text = os.fspath(store)
    if not text:
        raise StoreError("store is empty; expected a path or a URL")
    if text.startswith("file://"):
        return Folder(unquote(urlsplit(text).path), durability)
    if _URL.match(text):
        return ZarrStore(_open_url(text, read_only, storage_options), text)
    return Folder(text, durability)


def _open_url(url: str, read_only: bool, storage_options: dict[str, Any] | None) -> Store:
    try:
        return zarr.storage.FsspecStore.from_url(url, storage_options=storage_options, read_only=read_only)
    except ImportError as error:
        raise StoreError(f"{url} cannot be opened, as a package is missing: {error}") from error
    except ValueError as error:
        raise StoreError(f"{url} cannot be opened: {error}") from error


def _check_limit(place: str, size: int, limit_bytes: int) -> None:
    if size > limit_bytes:
        raise RecordingFormatError(f"{place} has {size} bytes, at most {limit_bytes} were expected")


def _sync_folder(folder: Path) -> None:
    with _opened(folder) as descriptor:
        os.fsync(descriptor)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock_file(descriptor: int) -> None:
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
