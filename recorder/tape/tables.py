"""Write and read the small arrays that grow by rows: counts, segments, checksums and columns of trials.

Rows are either final or *provisional*. Final rows are never changed. A provisional row, such as a segment
that may still grow, is stored after the final ones, and the next commit overwrites it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.format import RecordingFormatError
from recorder.format.arrays import TableLayout
from recorder.format.chunks import checksum, decode_rows, encode_rows
from recorder.format.record.extents import TableCommit
from recorder.stores import ByteStore
from recorder.stores.read_ahead import read_ahead, read_side_by_side
from recorder.tape.threads.side_by_side import KeyWriter

Rows = NDArray[Any]

# Stored chunks that are read before the first is decoded: of 1 MiB at most, unless a single row is longer.
_READ_TOGETHER: Final = 64


def rows_checksum(rows: Rows, previous: int = 0) -> int:
    """Crc32c of rows as little-endian bytes in C order; ``previous`` is the crc32c of the rows before."""
    return checksum(rows.astype(rows.dtype.newbyteorder("<"), copy=False).tobytes(), previous)


class TableWriter:
    """Writes one small array, row by row.

    Final rows come by `append`. A chunk that they fill is written at once, and only the rows of the last,
    unfinished chunk stay in memory. The checksum of all final rows is continued with each row.

    `flush` completes the stored array for a commit: it writes the last chunk, with provisional rows after the
    final ones, and returns the extent to commit. Provisional rows are not kept.

    Attributes
    ----------
    rows : int
        Number of final rows.
    """

    def __init__(self, store: KeyWriter, layout: TableLayout) -> None:
        self._store = store
        self._layout = layout
        self.rows = 0
        self._crc = 0
        self._open = np.empty((0, *layout.row_shape), layout.dtype)
        self._dirty = False

    @property
    def chunk_rows(self) -> int:
        """Rows in a stored chunk."""
        return self._layout.chunk_rows

    def resume(self, kept: Rows, crc32c: int, first: int = 0) -> None:
        """Go on after stored final rows whose checksum is ``crc32c``.

        ``kept`` are these rows from number ``first`` on, at which a stored chunk begins.
        """
        self.rows, self._crc = first + len(kept), crc32c
        self._open = kept[self.rows // self.chunk_rows * self.chunk_rows - first :]

    @property
    def committed(self) -> TableCommit:
        """Extent of the final rows."""
        return TableCommit(self.rows, self._crc)

    def append(self, rows: Rows) -> None:
        """Add final rows; write the chunks that they fill."""
        if len(rows) == 0:
            return
        rows = np.asarray(rows, self._layout.dtype)
        self._crc = rows_checksum(rows, self._crc)
        full_chunks = self.rows // self.chunk_rows
        self.rows += len(rows)
        self._open = np.concatenate([self._open, rows])
        self._dirty = True
        while len(self._open) >= self.chunk_rows:
            self._write_chunk(full_chunks, self._open[: self.chunk_rows])
            self._open = self._open[self.chunk_rows :]
            full_chunks += 1

    def flush(self, provisional: Rows | None = None) -> TableCommit:
        """Write the last chunk, with provisional rows after the final ones; return the extent to commit."""
        extra = self._open[:0] if provisional is None else np.asarray(provisional, self._layout.dtype)
        if self._dirty or len(extra):
            pending = np.concatenate([self._open, extra])
            for start in range(0, len(pending), self.chunk_rows):
                chunk = self.rows // self.chunk_rows + start // self.chunk_rows
                self._write_chunk(chunk, pending[start : start + self.chunk_rows])
            self._dirty = len(extra) > 0
        return TableCommit(self.rows + len(extra), rows_checksum(extra, self._crc))

    def _write_chunk(self, chunk: int, rows: Rows) -> None:
        self._store.write(self._layout.chunk_key(chunk), encode_rows(rows, self.chunk_rows))


def read_rows(store: ByteStore, layout: TableLayout, first: int, last: int) -> Rows:
    """Rows ``first`` to ``last`` (exclusive) of a small array.

    Each chunk is checked against its own checksum only. The caller has to check that the rows are those that
    the commit names, as `check_rows` does.

    Raises
    ------
    RecordingFormatError
        If a chunk is missing or damaged; the message names it.
    """
    # Pieces are collected chunk by chunk, because a stranger's recording may declare more rows than it has.
    chunks = _chunks_with(layout, first, last)
    reads = read_ahead(store, map(layout.chunk_key, chunks), _chunk_limit(layout))
    pieces = [
        _rows_in(store, layout, chunk, read(), first, last) for chunk, read in zip(chunks, reads, strict=True)
    ]
    return _join(layout, pieces)


def read_all_rows(tables: Sequence[tuple[ByteStore, TableLayout, int]]) -> list[Rows]:
    """All rows of many small arrays, each given as its store, its layout and its number of rows.

    Checks and errors are those of `read_rows`. Many chunks are read before the first of them is decoded, as
    to decode one drives out of the processor's cache what is needed to read the next.
    """
    pieces: list[list[Rows]] = [[] for _ in tables]
    wanted = (
        (into, store, layout, rows, chunk)
        for into, (store, layout, rows) in zip(pieces, tables, strict=True)
        for chunk in _chunks_with(layout, 0, rows)
    )
    while some := list(islice(wanted, _READ_TOGETHER)):
        places = [
            (store, layout.chunk_key(chunk), _chunk_limit(layout)) for _, store, layout, _, chunk in some
        ]
        for (into, store, layout, rows, chunk), stored in zip(some, read_side_by_side(places), strict=True):
            into.append(_rows_in(store, layout, chunk, stored, 0, rows))
    return [_join(layout, read) for (_, layout, _), read in zip(tables, pieces, strict=True)]


def _chunks_with(layout: TableLayout, first: int, last: int) -> range:
    return range(first // layout.chunk_rows, -(-last // layout.chunk_rows))


def _chunk_limit(layout: TableLayout) -> int:
    return stored_limit(layout.chunk_rows * math.prod(layout.row_shape) * layout.dtype.itemsize)


def _rows_in(
    store: ByteStore, layout: TableLayout, chunk: int, stored: bytes | None, first: int, last: int
) -> Rows:
    """Those of rows ``first`` to ``last`` (exclusive) that lie in a stored chunk, without the rest of it."""
    if stored is None:
        raise RecordingFormatError(f"{_place(store, layout, chunk)} is missing; the commit relies on it")
    try:
        rows = decode_rows(stored, layout.chunk_rows, layout.row_shape, layout.data_type)
    except RecordingFormatError as error:
        raise RecordingFormatError(f"{_place(store, layout, chunk)} is damaged: {error}") from error
    begin = chunk * layout.chunk_rows
    return rows[max(first - begin, 0) : last - begin].copy()


def _join(layout: TableLayout, pieces: Sequence[Rows]) -> Rows:
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate([np.empty((0, *layout.row_shape), layout.dtype), *pieces])


def _place(store: ByteStore, layout: TableLayout, chunk: int) -> str:
    return f"{store.location}/{layout.chunk_key(chunk)}"


def read_committed(store: ByteStore, layout: TableLayout, commit: TableCommit) -> Rows:
    """All committed rows of a small array; errors as in `read_rows` and `check_rows`."""
    return check_rows(read_rows(store, layout, 0, commit.rows), commit, store, layout)


def check_rows(rows: Rows, commit: TableCommit, store: ByteStore, layout: TableLayout) -> Rows:
    """Return ``rows`` if they are those that the commit names; raise RecordingFormatError otherwise."""
    found = rows_checksum(rows)
    if found != commit.crc32c:
        raise RecordingFormatError(
            f"{store.location}/{layout.folder}: its {commit.rows} rows have crc32c {found:#010x}, but the "
            f"commit names {commit.crc32c:#010x}: altered, swapped, or replaced since this recording was "
            "opened"
        )
    return rows


def stored_limit(decoded_bytes: int) -> int:
    """Most bytes of a stored chunk that decodes to ``decoded_bytes``: the bound of zstd, and a bit more."""
    return decoded_bytes + decoded_bytes // 128 + 2**16
