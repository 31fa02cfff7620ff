"""Read regular files inside a folder, to which no symbolic link leads.

A link could point to any file of the machine where somebody else's recording is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import Final

from recorder.format import RecordingFormatError

# Without O_NONBLOCK, opening a FIFO would wait until somebody writes to it; without O_NOCTTY, a terminal
# could become that of this process.
_FLAGS = (getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"))
_READING: Final = reduce(or_, _FLAGS, os.O_RDONLY)
# Where Linux tells the paths of open files.
_OPENED: Final = "/proc/self/fd/" if os.path.isdir("/proc/self/fd") else ""
# What Windows says of a junction, which leads elsewhere as a symbolic link does.
_JUNCTION: Final = 0xA0000003


def read_regular(root: str, key: str, take: Callable[[int, int], bytes]) -> bytes | None:
    """What ``take`` makes of the file of a key below a folder, given its descriptor and size; None if absent.

    Paths are texts here, as to make each a `Path` takes longer than to read.

    Raises
    ------
    RecordingFormatError
        If it is no regular file, or a symbolic link leads to it from below ``root``.
    """
    path = f"{root}{os.sep}{key}"
    try:
        descriptor = _open(root, key, path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise RecordingFormatError(f"{path} is not a regular file")
        return take(descriptor, found.st_size)
    finally:
        os.close(descriptor)


def read_bytes(descriptor: int, size: int) -> bytes:
    """So many bytes of a file from where it is; fewer if it ends before."""
    data = os.read(descriptor, size)
    while len(data) < size and (more := os.read(descriptor, size - len(data))):
        data += more
    return data


def _open(root: str, key: str, path: str) -> int:
    """Descriptor of a key's file, to which no link leads."""
    try:
        descriptor = os.open(path, _READING)
    except OSError:
        _refuse_links(root, key, path)
        raise
    try:
        if "/" in key and not _lies_at(descriptor, path):
            _refuse_links(root, key, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lies_at(descriptor: int, path: str) -> bool:
    """True if an open file has this very path with all links resolved; False where that cannot be told.

    One question in place of one for each folder: of a small file they take longer than all the rest.
    """
    try:
        return bool(_OPENED) and os.readlink(f"{_OPENED}{descriptor}") == path
    except OSError:
        return False


def _refuse_links(root: str, key: str, path: str) -> None:
    """Raise RecordingFormatError if a key's file is a link, or a folder below the root that leads to it."""
    behind = key.find("/")
    while behind >= 0:
        if _is_link(os.lstat(f"{root}{os.sep}{key[:behind]}")):
            raise RecordingFormatError(f"{path} is reached through a symbolic link; recordings hold none")
        behind = key.find("/", behind + 1)
    if _is_link(os.lstat(path)):
        raise RecordingFormatError(f"{path} is a symbolic link; recordings hold none")


def _is_link(found: os.stat_result) -> bool:
    return stat.S_ISLNK(found.st_mode) or getattr(found, "st_reparse_tag", 0) == _JUNCTION
