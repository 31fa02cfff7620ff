"""What was recorded in one trial and waits in memory: packed frames of a layer, values of a signal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.capture.calls import Call
from recorder.capture.host.host_packing import WholeRows, pack_whole
from recorder.format.bits import Bools, Packed
from recorder.format.planes.at_events import join_bits
from recorder.format.planes.values import PackedValues, Pending, join_levels, pending_rows
from recorder.format.record.signals import SignalCommit
from recorder.format.segments import Rows

# Bytes of booleans, or values, that are put back at once, unless one step has more.
PIECE_BYTES: Final = 2**20


class HeldValues:
    """The values of a signal in one trial.

    Parameters
    ----------
    about : SignalCommit
        What signal it is.
    pieces : sequence of array, shape [frames, neurons]
        Values in order.
    segments : int64 array, shape [segments, 5]
        Which steps they are; the first frame is 0.

    Attributes
    ----------
    calls : list of (int, Call)
        As of `HeldRows`.
    nbytes : int
        Bytes of memory that they take.
    """

    def __init__(self, about: SignalCommit, pieces: Sequence[NDArray[Any]], segments: Rows) -> None:
        self.about = about
        # Memory of their own, however much of larger pieces they were.
        self._values = np.concatenate(pieces)
        self.nbytes = self._values.nbytes + segments.nbytes
        self.calls = [*_pieces(segments, self._values[:1].nbytes)]

    def frames(self, first: int, count: int) -> NDArray[Any]:
        """So many frames from the first on, [count, neurons]."""
        return self._values[first : first + count]


class HeldRows:
    """The frames of one layer in one trial, packed.

    Parameters
    ----------
    pieces : sequence of packed rows or FullStage
        Whole rows in order.
    pending : bool array, or array of levels, shape [fewer than 8, neurons]
        Frames behind them.
    segments : int64 array, shape [segments, 5]
        Which steps they are; the first frame is 0.

    Attributes
    ----------
    calls : list of (int, Call)
        What is still to be taken, in order: the first frame of some whole steps, and which these are.
    nbytes : int
        Bytes of memory that they take.
    """

    def __init__(self, pieces: Sequence[WholeRows], pending: Pending, segments: Rows) -> None:
        rows = [PackedValues.of(pack_whole(piece)) for piece in pieces]
        last, planes = pending_rows(pending)
        if last is not None:
            rows.append(PackedValues(last[np.newaxis], planes))
        # Memory of their own, however much of larger pieces they were.
        self._spikes: Packed = np.concatenate([each.spikes for each in rows])
        # Events up to the end of each row, where there are planes.
        self._events = np.empty(0, np.int64)
        self._planes: dict[str, Packed] = {}
        if any(each.planes for each in rows):
            self._events = np.bitwise_count(self._spikes).sum(axis=1, dtype=np.int64).cumsum()
        for name in {name for each in rows for name in each.planes}:
            whole = self._planes[name] = np.empty(-(-int(self._events[-1]) // 8), np.uint8)
            of_plane = ((each.planes.get(name), each.events) for each in rows)
            join_bits(((plane and plane.bits, events) for plane, events in of_plane), whole)
        kept: tuple[NDArray[Any], ...] = self._spikes, self._events, *self._planes.values(), segments
        self.nbytes = sum(each.nbytes for each in kept)
        self.calls = [*_pieces(segments, self._spikes.shape[1])]

    def frames(self, first: int, count: int) -> Pending:
        """So many frames from the first on, [count, neurons]: booleans, or levels if there are planes."""
        unpacked = np.unpackbits(self._spikes[first // 8 : -(-(first + count) // 8)], axis=0).view(np.bool_)
        before, events = unpacked[: first % 8], unpacked[first % 8 : first % 8 + count]
        if not self._planes:
            return events
        begin = (int(self._events[first // 8 - 1]) if first >= 8 else 0) + np.count_nonzero(before)
        end = begin + np.count_nonzero(events)
        planes: dict[str, Bools] = {}
        for name, bits in self._planes.items():
            some = np.unpackbits(bits[begin // 8 : -(-end // 8)])[begin % 8 :][: end - begin]
            planes[name] = np.zeros_like(events)
            planes[name][events] = some
        return join_levels(events, planes)


def _pieces(segments: Rows, frame_bytes: int) -> Iterator[tuple[int, Call]]:
    """Segments cut to pieces of whole steps: the first frame of each, and its steps."""
    for first, step, steps, batch, trial in segments.tolist():
        most = max(PIECE_BYTES // (batch * frame_bytes), 1)
        for done in range(0, steps, most):
            yield first + done * batch, Call(step + done, min(most, steps - done), batch, trial)
