"""A store in a folder of a file system.

Folders are not read and written through ``zarr.storage.LocalStore``, because it never calls fsync and follows
symbolic links out of the store.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeVar

from recorder.format import DurabilityWarning, RecordingFormatError
from recorder.format.layout import ROOT_DOCUMENT
from recorder.stores.files.regular import read_bytes, read_regular
from recorder.stores.files.syncing import HAS_LOCKS, fcntl, sync, sync_folders
from recorder.stores.files.trying import cannot_read, cannot_write, try_again

# Suffix of temporary files. `write_new` adds it twice, because it writes through `write`.
PARTIAL: Final = re.compile(r"(\.[0-9a-f]{16}\.partial)+\Z")
# Folder of the temporary files of one writer, and beginning of their keys.
WRITING: Final = re.compile(r"writer\.[0-9a-f]{32}(?=/|\Z)")
_MOST_KNOWN_FOLDERS: Final = 1000
# Files that are best written at the same time where each write waits for the disk.
_SYNCED_TOGETHER: Final = 8

T = TypeVar("T")
# How a step of a write is done: once, or again after errors that may pass.
Step = Callable[[Callable[[], Any]], Any]


class Folder:
    """A store whose keys are files below one folder.

    A write goes to a temporary file, which is then renamed into place. So a key has always all bytes of one
    write, and a kill leaves at most a temporary file. Only regular files inside the folder are read or
    replaced, never through a symbolic link.

    Temporary files of a writer that holds the lock lie in a folder of its own (`of_writer`), others beside
    the key's file. The next holder of the lock removes that folder, and a recording that is put in the place
    of this one has none of the name. A rename that comes later, however late, then finds no file to rename.

    Parameters
    ----------
    path : str or path
        The folder. It is made by the first write.
    durability : {"power", "process"}
        ``"power"`` calls fsync, so that what is persisted survives a loss of power; ``"process"`` survives
        only the end of the process. Where folders cannot be synchronized that is all that is had of them: a
        `DurabilityWarning` says so, once.
    """

    reads_under_way = 1

    def __init__(
        self, path: str | os.PathLike[str], durability: Literal["power", "process"] = "power"
    ) -> None:
        self._root = Path(os.path.abspath(path))
        self._text = str(self._root)
        self._durability = durability
        self._has_written = False
        self._can_sync_folders = True
        # Folder for temporary files; None for beside the file that is written.
        self._writing: str | None = None
        self._known_folders: set[str] = set()
        self._unsynced_folders: set[str] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        return Folder, (self._text, self._durability)

    @property
    def location(self) -> str:
        return self._text

    @property
    def identity(self) -> str:
        return self.location

    @property
    def writes_under_way(self) -> int:
        return _SYNCED_TOGETHER if self._durability == "power" else 1

    def is_empty(self) -> bool:
        if not os.path.lexists(self._root):
            return True
        return self._root.is_dir() and not os.listdir(self._root)

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        def take(descriptor: int, size: int) -> bytes:
            if size > limit_bytes:
                raise RecordingFormatError(
                    f"{self._root / key} has {size} bytes, at most {limit_bytes} were expected"
                )
            # Not the limit: as many bytes as asked for are taken from memory first.
            return read_bytes(descriptor, size)

        return self._take(key, take)

    def read_range(self, key: str, start: int, size: int) -> bytes | None:
        def take(descriptor: int, available: int) -> bytes:
            begin = max(available - size, 0) if start < 0 else min(start, available)
            os.lseek(descriptor, begin, os.SEEK_SET)
            return read_bytes(descriptor, min(size, available - begin))

        return self._take(key, take)

    def _take(self, key: str, take: Callable[[int, int], bytes]) -> bytes | None:
        return try_again(lambda: read_regular(self._text, key, take), lambda: cannot_read(self._root / key))

    def write(self, key: str, data: bytes) -> None:
        # All of it, as nobody knows what is left of a file whose fsync has failed.
        self._try_again(lambda: self._write_once(key, [data], _once))

    def write_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        # They come only once.
        self._write_once(key, pieces, self._try_again)

    def ready(self, key: str, data: bytes) -> Callable[[], None]:
        partial_path = self._try_again(lambda: self._write_partial(key, [data], _once))
        return lambda: self._place(partial_path, key, self._try_again)

    def _write_once(self, key: str, pieces: Iterable[bytes], step: Step) -> None:
        self._place(self._write_partial(key, pieces, step), key, step)

    def _write_partial(self, key: str, pieces: Iterable[bytes], step: Step) -> str:
        """Write a temporary file for a key, so that only its name is missing; return its path."""
        path = self._path(key)
        folder = self._writing or os.path.dirname(path)
        if self._writing is None:
            step(lambda: self._make_folder(folder))
        opened: tuple[str, BinaryIO] = step(lambda: _open_partial(folder, os.path.basename(path)))
        partial_path, file = opened
        try:
            with file:
                file.writelines(pieces)
                if self._durability == "power":
                    # fsync comes before the rename, or a loss of power might leave an empty file in place.
                    file.flush()
                    sync(file.fileno())
        except BaseException:
            _unlink(partial_path)
            raise
        return partial_path

    def _place(self, partial_path: str, key: str, step: Step) -> None:
        """Give a temporary file the name of its key."""
        path = self._path(key)
        folder = os.path.dirname(path)
        try:
            # Only now, so that a writer whose folder is gone makes no others again.
            step(lambda: self._make_folder(folder))
            step(lambda: os.replace(partial_path, path))
        except BaseException:
            _unlink(partial_path)
            raise
        self._has_written = True
        self._unsynced_folders.add(folder)

    def _path(self, key: str) -> str:
        # A text: to make a `Path` and ask it for its parent takes longer than to rename a file.
        return self._text + os.sep + key.replace("/", os.sep)

    def _try_again(self, do: Callable[[], T]) -> T:
        """Do what `try_again` does; fail at once if the folder was never written and this user may not."""
        return try_again(do, lambda: not self._has_written and cannot_write(self._root))

    def write_new(self, key: str, data: bytes) -> bool:
        path = self._root / key
        new = f"{key}.{secrets.token_hex(8)}.partial"
        self.write(new, data)
        try:
            # Unlike a rename, a link refuses to replace.
            self._try_again(lambda: os.link(self._root / new, path))
        except FileExistsError:
            # Perhaps by ourselves, where the answer to the first of two tries was lost.
            return os.path.samefile(self._root / new, path)
        except OSError:
            # The file system has no hard links.
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
        self._try_again(lambda: self._make_folder(self._text))
        if not HAS_LOCKS:
            yield
            return
        with _opened(self._root) as descriptor:
            # Some network file systems have no flock.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield

    def of_writer(self, owner: str) -> Folder:
        writing = self._root / f"writer.{owner}"
        self._try_again(writing.mkdir)
        with os.scandir(self._root) as entries:
            others = [entry.name for entry in entries if WRITING.fullmatch(entry.name)]
        for name in others:
            if name != writing.name:
                # Renamed first, because that is done at once. What fails here is left to looks at the lock.
                with suppress(OSError):
                    (self._root / name).rename(writing / name)
                    _remove_tree(writing / name)
        # What is known of the folders holds for it, too.
        store = object.__new__(type(self))
        vars(store).update(vars(self), _writing=str(writing))
        return store

    def end_writer(self, owner: str) -> None:
        with suppress(OSError):
            _remove_tree(self._root / f"writer.{owner}")

    def persist(self) -> None:
        is_synced = self._durability == "power" and self._can_sync_folders
        if is_synced and not sync_folders([*self._unsynced_folders]):
            self._warn_of_folders()
        self._unsynced_folders.clear()

    def _warn_of_folders(self) -> None:
        """Say once that names of new files may be lost with the power; files themselves are kept."""
        self._can_sync_folders = False
        warnings.warn(
            f"{self.location}: this file system cannot make sure that new files keep their names (fsync of a "
            "folder). A loss of power may take what was committed last; the end of the process takes nothing",
            DurabilityWarning,
            stacklevel=2,
        )

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            self._try_again(lambda: os.unlink(path))
        except FileNotFoundError:
            return
        self._unsynced_folders.add(os.path.dirname(path))

    def clear(self, groups: Sequence[str]) -> None:
        # The root document goes first: if clearing is interrupted, the rest must not look like a recording
        # with damaged chunks.
        self.delete(ROOT_DOCUMENT)
        self.persist()
        for group in groups:
            folder = self._root / group
            if folder.is_symlink() or folder.is_file():
                folder.unlink()
            else:
                self._try_again(partial(_remove_tree, folder))
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

    def size_of(self, key: str) -> int | None:
        try:
            return os.lstat(self._root / key).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def remove_leftovers(self) -> None:
        for key in list(self.keys()):
            if PARTIAL.search(key):
                self.delete(key)

    def _make_folder(self, folder: str) -> None:
        if folder in self._known_folders:
            return
        above = os.path.dirname(folder)
        is_inside = folder.startswith(os.path.join(self._text, ""))
        if is_inside or not os.path.isdir(folder):
            self._make_folder(above)
            try:
                os.mkdir(folder)
                self._unsynced_folders.add(above)
            except FileExistsError:
                if not os.path.isdir(folder):
                    raise
                if is_inside:
                    self._refuse_link(folder)
        if len(self._known_folders) >= _MOST_KNOWN_FOLDERS:
            # In wide layers each chunk has a folder, so that the set would grow for days.
            self._known_folders.clear()
        self._known_folders.add(folder)

    def _refuse_link(self, folder: str) -> None:
        """Raise RecordingFormatError unless a folder of the recording really lies in it."""
        # A link could make a resumed recording write to other folders of the user.
        real = os.path.join(os.path.realpath(self._text), os.path.relpath(folder, self._text))
        if os.path.realpath(folder) != os.path.normpath(real):
            raise RecordingFormatError(f"{folder} is reached through a symbolic link; recordings hold none")


def _once(do: Callable[[], T]) -> T:
    return do()


def _remove_tree(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)


def _open_partial(folder: str, name: str) -> tuple[str, BinaryIO]:
    """A new file for what is to be written, under a name that says what it is."""
    partial_path = os.path.join(folder, f"{name}.{secrets.token_hex(8)}.partial")
    return partial_path, open(partial_path, "xb")


def _unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = try_again(lambda: os.open(folder, os.O_RDONLY), lambda: cannot_read(folder))
    try:
        yield descriptor
    finally:
        os.close(descriptor)
