"""How much of a small array a commit promises."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TableCommit:
    """The committed extent of a small array.

    Attributes
    ----------
    rows : int
        Number of committed rows. Rows stored after them are not committed yet.
    crc32c : int
        Checksum of the committed rows, as little-endian bytes in C order.
    """

    rows: int = 0
    crc32c: int = 0
