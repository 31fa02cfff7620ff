"""Wait until files and folders will survive a loss of power."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

from recorder.stores.files.trying import try_again

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["HAS_LOCKS", "fcntl", "sync", "sync_file", "sync_folder", "sync_folders"]

# Windows has neither these nor an fsync of folders.
HAS_LOCKS: Final = fcntl is not None
# What file systems answer that know no fsync of folders.
_NO_SYNC: Final = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
# Folders that wait for the disk at the same time. It makes one journey for those that wait together.
_TOGETHER: Final = 8


def sync(descriptor: int) -> None:
    """Return when the bytes of an open file will survive a loss of power."""
    # On macOS fsync only hands bytes to the drive, which may keep them in its cache.
    if hasattr(fcntl, "F_FULLFSYNC"):
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def sync_file(path: Path) -> None:
    """Return when a file's bytes will survive a loss of power."""
    # To be written: Windows refuses otherwise.
    with path.open("r+b") as file:
        sync(file.fileno())


def sync_folder(folder: str | os.PathLike[str]) -> bool:
    """Return when the names in a folder will survive a loss of power; False where that cannot be had."""

    def sync_once() -> bool:
        try:
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                sync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            # Windows opens no folders; some network file systems and FUSE sync none.
            if error.errno in _NO_SYNC or not HAS_LOCKS:
                return False
            raise
        return True

    return try_again(sync_once)


def sync_folders(folders: Sequence[str]) -> bool:
    """Do `sync_folder` for several folders side by side; False if it cannot be had of any of them."""
    if len(folders) > 1:
        # No thread can be started while the interpreter ends.
        with suppress(RuntimeError), ThreadPoolExecutor(min(len(folders), _TOGETHER)) as threads:
            return all(threads.map(sync_folder, folders))
    return all(sync_folder(folder) for folder in folders)
