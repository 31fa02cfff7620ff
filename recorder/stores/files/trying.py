"""Repeat operations on files after errors that may pass.

Network file systems answer now and then that a file is stale, busy, or not to be had, and take the same
request a moment later; so do Windows and scanners for viruses while somebody else has the file open. What is
wrong with the disk itself (EIO, ENOSPC) is never tried again: after a failed fsync a second one may succeed
although bytes are lost.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

_PASSING: Final = frozenset(
    number
    for name in ("EACCES", "EAGAIN", "EBUSY", "EINTR", "ESTALE")
    if (number := getattr(errno, name, None)) is not None
)
# Each time longer: about three seconds in all.
WAITS: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)


def try_again(do: Callable[[], T], is_refused: Callable[[], bool] = lambda: False) -> T:
    """Call ``do`` and return its result; for about three seconds, repeat it after errors that may pass.

    Parameters
    ----------
    do : callable
        May be called several times.
    is_refused : callable
        Asked when access is denied: whether it always is, so that waiting is of no use.

    Raises
    ------
    OSError
        The last one, where it lasts.
    """
    for wait in WAITS:
        try:
            return do()
        except OSError as error:
            if error.errno not in _PASSING or (error.errno == errno.EACCES and is_refused()):
                raise
        time.sleep(wait)
    return do()


def cannot_read(path: str | os.PathLike[str]) -> bool:
    """True if a file exists that this user may not read."""
    return os.path.exists(path) and not os.access(path, os.R_OK)


def cannot_write(folder: str | os.PathLike[str]) -> bool:
    """True if this user may not write to a folder, or to the folder in which it is to be made."""
    place = os.path.abspath(folder)
    while not os.path.lexists(place) and os.path.dirname(place) != place:
        place = os.path.dirname(place)
    return not os.access(place, os.W_OK | os.X_OK)
