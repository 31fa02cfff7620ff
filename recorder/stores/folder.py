"""A store in a folder of a file system.

Folders are not read and written through ``zarr.storage.LocalStore``, because it never calls fsync and follows
symbolic links out of the store.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from recorder.format import RecordingFormatError
from recorder.format.layout import ROOT_DOCUMENT

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


# Suffix of temporary files. `write_new` adds it twice, because it writes through `write`.
PARTIAL: Final = re.compile(r"(\.[0-9a-f]{16}\.partial)+\Z")
_MOST_KNOWN_FOLDERS: Final = 1000


class Folder:
    """A store whose keys are files below one folder.

    A write goes to a temporary file beside the key's file, which is then renamed into place. So a key has
    always all bytes of one write, and a kill leaves at most a temporary file. Only regular files inside the
    folder are read or replaced, never through a symbolic link.

    Parameters
    ----------
    path : str or path
        The folder. It is made by the first write.
    durability : {"power", "process"}
        With ``"power"``, fsync is called, and persisted keys survive a loss of power. With ``"process"``,
        they survive the end of the process only.
    """

    reads_under_way = 1

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
        with self._opened_file(key) as file:
            if file is None:
                return None
            size = os.fstat(file.fileno()).st_size
            if size > limit_bytes:
                raise RecordingFormatError(
                    f"{self._root / key} has {size} bytes, at most {limit_bytes} were expected"
                )
            # Not read(limit_bytes), which would allocate so much memory.
            return file.read(size)

    def read_range(self, key: str, start: int, size: int) -> bytes | None:
        with self._opened_file(key) as file:
            if file is None:
                return None
            available = os.fstat(file.fileno()).st_size
            start = max(available - size, 0) if start < 0 else min(start, available)
            file.seek(start)
            return file.read(min(size, available - start))

    @contextmanager
    def _opened_file(self, key: str) -> Iterator[BinaryIO | None]:
        """Open the file of a key; None if it is absent, an error if it is no regular file in the folder."""
        path = self._root / key
        # A link below the root could point to any file of the machine where the recording is read.
        if os.path.realpath(path.parent) != os.path.join(
            os.path.realpath(self._root), *Path(key).parent.parts
        ):
            raise RecordingFormatError(f"{path} is reached through a symbolic link; recordings hold none")
        # Without O_NONBLOCK, opening a FIFO would wait until somebody writes to it.
        flags = (
            os.O_RDONLY
            | getattr(os, "O_NOFOLLOW", 0)
            | getattr(os, "O_NONBLOCK", 0)
            | getattr(os, "O_BINARY", 0)
        )
        try:
            descriptor = os.open(path, flags)
        except (FileNotFoundError, NotADirectoryError):
            yield None
            return
        except OSError as error:
            if path.is_symlink():
                raise RecordingFormatError(f"{path} is a symbolic link; recordings hold none") from error
            raise
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise RecordingFormatError(f"{path} is not a regular file")
            with open(descriptor, "rb", closefd=False) as file:
                yield file
        finally:
            os.close(descriptor)

    def write(self, key: str, data: bytes) -> None:
        self.write_pieces(key, [data])

    def write_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        path = self._root / key
        self._make_folder(path.parent)
        partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
        try:
            with open(partial, "xb") as file:
                file.writelines(pieces)
                if self._durability == "power":
                    # fsync comes before the rename, or a loss of power might leave an empty file in place.
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
            # A rename would replace an existing file; a hard link fails if there is one.
            os.link(self._root / new, path)
        except FileExistsError:
            return False
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
        self._make_folder(self._root)
        with _opened(self._root) as descriptor:
            # Some network file systems have no flock.
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
        # The root document goes first: if clearing is interrupted, the rest must not look like a recording
        # with damaged chunks.
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
