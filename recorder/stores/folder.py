"""A store in a folder of a file system.

Folders are not read and written through ``zarr.storage.LocalStore``, because it never calls fsync and follows
symbolic links out of the store.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial, reduce
from operator import or_
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeVar

from recorder.format import DurabilityWarning, RecordingFormatError
from recorder.format.layout import ROOT_DOCUMENT
from recorder.stores.trying import cannot_read, cannot_write, try_again

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


# Windows has neither these nor an fsync of folders.
_HAS_LOCKS: Final = fcntl is not None

# Suffix of temporary files. `write_new` adds it twice, because it writes through `write`.
PARTIAL: Final = re.compile(r"(\.[0-9a-f]{16}\.partial)+\Z")
# Folder of the temporary files of one writer, and beginning of their keys.
WRITING: Final = re.compile(r"writer\.[0-9a-f]{32}(?=/|\Z)")
_MOST_KNOWN_FOLDERS: Final = 1000
# What file systems answer that know no fsync of folders.
_NO_SYNC: Final = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
# Without O_NONBLOCK, opening a FIFO would wait until somebody writes to it.
_FLAGS = (getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
_READING: Final = reduce(or_, _FLAGS, os.O_RDONLY)
# What Windows says of a junction, which leads elsewhere as a symbolic link does.
_JUNCTION: Final = 0xA0000003

T = TypeVar("T")


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
        self._writing: Path | None = None
        self._known_folders: set[Path] = set()
        self._unsynced_folders: set[Path] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        return Folder, (self._text, self._durability)

    @property
    def location(self) -> str:
        return self._text

    @property
    def identity(self) -> str:
        return self.location

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
            return _read_bytes(descriptor, size)

        return try_again(lambda: self._read_once(key, take), lambda: cannot_read(self._root / key))

    def read_range(self, key: str, start: int, size: int) -> bytes | None:
        def take(descriptor: int, available: int) -> bytes:
            begin = max(available - size, 0) if start < 0 else min(start, available)
            os.lseek(descriptor, begin, os.SEEK_SET)
            return _read_bytes(descriptor, min(size, available - begin))

        return try_again(lambda: self._read_once(key, take), lambda: cannot_read(self._root / key))

    def _read_once(self, key: str, take: Callable[[int, int], bytes]) -> bytes | None:
        """What is taken of a key's file, given its size; None if it is absent.

        Only regular files are read. Paths are texts here, as to make each a `Path` takes longer than to read.
        """
        path = f"{self._text}{os.sep}{key}"
        try:
            # A link below the root could point to any file of the machine where the recording is read.
            behind = key.find("/")
            while behind >= 0:
                if _is_link(os.lstat(f"{self._text}{os.sep}{key[:behind]}")):
                    raise RecordingFormatError(
                        f"{path} is reached through a symbolic link; recordings hold none"
                    )
                behind = key.find("/", behind + 1)
            descriptor = os.open(path, _READING)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if os.path.islink(path):
                raise RecordingFormatError(f"{path} is a symbolic link; recordings hold none") from error
            raise
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise RecordingFormatError(f"{path} is not a regular file")
            return take(descriptor, found.st_size)
        finally:
            os.close(descriptor)

    def write(self, key: str, data: bytes) -> None:
        # All of it, as nobody knows what is left of a file whose fsync has failed.
        self._try_again(lambda: self._write_once(key, [data], _once))

    def write_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        # They come only once.
        self._write_once(key, pieces, self._try_again)

    def _write_once(
        self, key: str, pieces: Iterable[bytes], step: Callable[[Callable[[], Any]], Any]
    ) -> None:
        path = self._root / key
        if self._writing is None:
            step(lambda: self._make_folder(path.parent))
        partial_path, file = step(lambda: _open_partial(self._writing or path.parent, path.name))
        try:
            with file:
                file.writelines(pieces)
                if self._durability == "power":
                    # fsync comes before the rename, or a loss of power might leave an empty file in place.
                    file.flush()
                    _sync(file.fileno())
            # Only now, so that a writer whose folder is gone makes no others again.
            step(lambda: self._make_folder(path.parent))
            step(lambda: os.replace(partial_path, path))
        except BaseException:
            with suppress(OSError):
                partial_path.unlink(missing_ok=True)
            raise
        self._has_written = True
        self._unsynced_folders.add(path.parent)

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
        self._try_again(lambda: self._make_folder(self._root))
        if not _HAS_LOCKS:
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
        vars(store).update(vars(self), _writing=writing)
        return store

    def end_writer(self, owner: str) -> None:
        with suppress(OSError):
            _remove_tree(self._root / f"writer.{owner}")

    def persist(self) -> None:
        if self._durability == "power" and self._can_sync_folders:
            for folder in sorted(self._unsynced_folders, reverse=True):
                if not sync_folder(folder):
                    self._warn_of_folders()
                    break
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
        try:
            self._try_again((self._root / key).unlink)
        except FileNotFoundError:
            return
        self._unsynced_folders.add((self._root / key).parent)

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

    def _make_folder(self, folder: Path) -> None:
        if folder in self._known_folders:
            return
        if not folder.is_dir():
            self._make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            self._unsynced_folders.add(folder.parent)
        elif folder.is_relative_to(self._root):
            # A link could make a resumed recording write to other folders of the user.
            real = os.path.join(os.path.realpath(self._root), folder.relative_to(self._root))
            if os.path.realpath(folder) != os.path.normpath(real):
                raise RecordingFormatError(
                    f"{folder} is reached through a symbolic link; recordings hold none"
                )
        if len(self._known_folders) >= _MOST_KNOWN_FOLDERS:
            # In wide layers each chunk has a folder, so that the set would grow for days.
            self._known_folders.clear()
        self._known_folders.add(folder)


def _is_link(found: os.stat_result) -> bool:
    return stat.S_ISLNK(found.st_mode) or getattr(found, "st_reparse_tag", 0) == _JUNCTION


def _read_bytes(descriptor: int, size: int) -> bytes:
    """So many bytes of a file from where it is; fewer if it ends before."""
    data = os.read(descriptor, size)
    while len(data) < size and (more := os.read(descriptor, size - len(data))):
        data += more
    return data


def _once(do: Callable[[], T]) -> T:
    return do()


def _remove_tree(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)


def _open_partial(folder: Path, name: str) -> tuple[Path, BinaryIO]:
    """A new file for what is to be written, under a name that says what it is."""
    partial_path = folder / f"{name}.{secrets.token_hex(8)}.partial"
    return partial_path, open(partial_path, "xb")


def sync_file(path: Path) -> None:
    """Return when a file's bytes will survive a loss of power."""
    # To be written: Windows refuses otherwise.
    with open(path, "r+b") as file:
        _sync(file.fileno())


def sync_folder(folder: Path) -> bool:
    """Return when the names in a folder will survive a loss of power; False where that cannot be had."""

    def sync_once() -> bool:
        try:
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                _sync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            # Windows opens no folders; some network file systems and FUSE sync none.
            if error.errno in _NO_SYNC or not _HAS_LOCKS:
                return False
            raise
        return True

    return try_again(sync_once)


def _sync(descriptor: int) -> None:
    # On macOS fsync only hands bytes to the drive, which may keep them in its cache.
    if hasattr(fcntl, "F_FULLFSYNC"):
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = try_again(lambda: os.open(folder, os.O_RDONLY), lambda: cannot_read(folder))
    try:
        yield descriptor
    finally:
        os.close(descriptor)
