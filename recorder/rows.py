"""Packed rows on their way from the network's thread to the tape."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from recorder.background import BackgroundWriter
from recorder.capture.host_packing import PUT_BYTES, WholeRows, pack_whole
from recorder.tape import TapeWriter


class CollectedRows:
    """Rows that are handed to the writer many at a time: each time costs the network a switch of threads."""

    def __init__(self, writer: BackgroundWriter, tape: TapeWriter) -> None:
        self._writer = writer
        self._tape = tape
        self._rows: list[tuple[str, WholeRows]] = []
        self._size_bytes = 0

    def put(self, layer: str, pieces: Iterable[WholeRows]) -> None:
        """Add rows of a layer; waits for the disk while too much is waiting for it."""
        for piece in pieces:
            if piece.nbytes:
                # Rows that have to wait are packed first, to take little room.
                rows = pack_whole(piece) if self._writer.is_behind else piece
                self._rows.append((layer, rows))
                self._size_bytes += rows.nbytes
        if self._size_bytes >= PUT_BYTES:
            self.hand_over()

    def hand_over(self) -> None:
        """Put all rows into the writer's queue."""
        if self._rows:
            # Ctrl-C may end this wait; the rows are still here then.
            self._writer.wait_for_room(self._size_bytes)
            rows, size_bytes = self._rows, self._size_bytes
            self._rows, self._size_bytes = [], 0
            self._writer.put(partial(_append_all, self._tape, rows), size_bytes)


def _append_all(tape: TapeWriter, rows: list[tuple[str, WholeRows]]) -> None:
    for name, piece in rows:
        tape.append(name, pack_whole(piece))
