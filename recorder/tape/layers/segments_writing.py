"""Write the segments of a layer or of a signal."""

from __future__ import annotations

import numpy as np

from recorder.format.arrays import TableLayout
from recorder.format.errors import out_of_step
from recorder.format.layout import SEGMENT_COLUMNS
from recorder.format.record.extents import TableCommit
from recorder.format.segments import Rows
from recorder.tape.tables import TableWriter, rows_checksum
from recorder.tape.threads.side_by_side import KeyWriter


class SegmentsWriter:
    """Writes segments, and refuses those that do not describe the frames there are.

    Parameters
    ----------
    store : KeyWriter
    layout : TableLayout
    what : str
        Whose segments they are, for the message of errors, such as ``"layer '1'"``.

    Attributes
    ----------
    last : int64 array, shape [0 or 1, 5]
        The segment that was open at the commit which is gone on from.
    """

    def __init__(self, store: KeyWriter, layout: TableLayout, what: str) -> None:
        self._table = TableWriter(store, layout)
        self._what = what
        self.last = np.empty((0, len(SEGMENT_COLUMNS)), np.int64)
        # Number of frames in finished segments, and the last finished segment.
        self._described = 0
        self._last_closed = self.last

    def resume(self, segments: Rows, *, may_grow: bool = True) -> None:
        """Go on after committed segments, the last of which may still grow, or is final as the others are."""
        closed = segments[:-1] if may_grow else segments
        self._table.resume(closed, rows_checksum(closed))
        self.last = segments[-1:]
        self._described, self._last_closed = _frames_in(closed), closed[-1:]

    def append(self, closed: Rows, growing: Rows, frames: int) -> None:
        """Append finished segments; those that were appended before may be among them.

        Raises
        ------
        RuntimeError
            If they and ``growing``, the open segment, do not describe exactly ``frames`` frames, or have a
            step twice. Nothing is appended then.
        """
        new = closed[closed[:, SEGMENT_COLUMNS.index("first_frame")] >= self._described]
        described = self._described + _frames_in(new)
        segments = np.concatenate([self._last_closed, new, growing])
        first_step, steps = (segments[:, SEGMENT_COLUMNS.index(name)] for name in ("first_step", "steps"))
        is_twice = (first_step[1:] < (first_step + steps)[:-1]).any()
        if is_twice or described + _frames_in(growing) != frames:
            raise RuntimeError(out_of_step(self._what))
        self._described = described
        if len(new):
            self._last_closed = new[-1:]
        self._table.append(new)

    def flush(self, growing: Rows) -> TableCommit:
        """Write what is not written yet, the open segment too; return what a commit may then promise."""
        return self._table.flush(growing)


def _frames_in(segments: Rows) -> int:
    steps, batch = SEGMENT_COLUMNS.index("steps"), SEGMENT_COLUMNS.index("batch")
    return int((segments[:, steps] * segments[:, batch]).sum())
