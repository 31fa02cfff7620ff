"""Write the planes of a layer's values chunk by chunk: bits at events, behind those of the chunk so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorder.format import ChunkPlan
from recorder.format.bits import Packed, count_bits, count_rows
from recorder.format.chunks import encode_plane
from recorder.format.layout import ZSTD_LEVEL
from recorder.format.planes import at_events
from recorder.format.planes.at_events import PlaneAtEvents, bits_at_events, neurons_of_events
from recorder.native.values import LOOPS
from recorder.tape.layers.bits_writing import BitsArray, BitsExtent, BitsWriter, WrittenChunk
from recorder.tape.layers.layer_reading import LayerReader
from recorder.tape.threads.in_order import InOrder
from recorder.tape.threads.pressure import Timed

# Bits at events, and how many; None for so many that are false.
Pieces = list[tuple[Packed | None, int]]


def _join_bits(pieces: Pieces, out: Packed) -> int:
    return (LOOPS if LOOPS.are_ready(0) else at_events).join_bits(pieces, out)


class FilledPlane(NamedTuple):
    """What a plane says in a chunk: its bits at events, and how often it is true of each neuron."""

    pieces: Pieces
    counts: NDArray[np.uint32]


class PlaneWriter(BitsWriter):
    """Writes a plane of a layer's values: bits at events fill a chunk as the rows of events do.

    Parameters
    ----------
    array, first_chunk
        As of `BitsWriter`.
    events : int
        Events that the first chunk has so far, at which the plane is false.
    """

    def __init__(self, array: BitsArray, *, first_chunk: int, events: int = 0) -> None:
        super().__init__(array, first_chunk=first_chunk)
        self._filled = FilledPlane([(None, events)], np.zeros(array.plan.neurons, np.uint32))

    def resume(self, kept: LayerReader, events: Packed) -> None:
        """Go on after the committed frames that a reader of the plane sees.

        ``events`` are the rows that are in the last chunk, which is not full, [rows, neurons].
        """
        self._resume(kept)
        if len(events):
            rows = np.ascontiguousarray(kept.chunk_or_silence(self._chunk).T[: len(events)])
            (bits,) = bits_at_events(events, [rows])
            self.append(PlaneAtEvents(bits, count_rows(rows).view(np.uint64)), count_bits(events))

    def append(self, piece: PlaneAtEvents | None, events: int) -> None:
        """Append what the plane says of rows with so many events; None for nothing."""
        self._filled.pieces.append((piece and piece.bits, events))
        if piece is not None:
            np.add(self._filled.counts, piece.counts, out=self._filled.counts, casting="unsafe")

    def take_chunk(self) -> FilledPlane:
        """What fills the chunk, which is full; begin the next one."""
        filled, self._filled = self._filled, FilledPlane([], np.zeros(self._plan.neurons, np.uint32))
        self._chunk += 1
        return filled

    def write_chunk(self, filled: FilledPlane, stored: list[bytes], chunk: int, store: Timed) -> WrittenChunk:
        """Write a chunk that was taken, whose parts are to be ``stored``; runs in any thread."""
        return WrittenChunk(filled.counts.astype(np.int64), self._write_parts(stored, chunk, store))

    def begun(self, pending: PlaneAtEvents | None, events: int) -> tuple[Packed, int]:
        """Bits that fill the chunk so far, with those of pending frames with so many events; how many."""
        pieces = [*self._filled.pieces, (pending and pending.bits, events)]
        bits = np.empty(-(-sum(count for _, count in pieces) // 8), np.uint8)
        return bits, _join_bits(pieces, bits)

    def commit(self, begun: Packed, frames: int, stored: list[bytes], *, close: bool) -> BitsExtent:
        """Do what `EventsWriter.commit` does.

        Parameters
        ----------
        begun : uint8 array, shape [neurons, bytes]
            Trains of the chunk that is not full.
        frames : int
        stored : list of bytes
            Its parts.
        close : bool
        """
        return self._commit(begun, frames, lambda _: stored, close=close)


def encode_planes(
    plan: ChunkPlan, events: Packed, planes: Sequence[Pieces], encoding: InOrder, level: int = ZSTD_LEVEL
) -> Iterator[list[bytes]]:
    """Stored bytes of each part of a chunk of each plane.

    ``events`` are its rows, [rows, neurons]; ``planes`` what fills it of each plane.
    """
    if not planes:
        return
    room = encoding.room(plan.part_bytes)
    payload, of_parts = room[: plan.part_bytes], None
    # All planes have as many bits, so that what is behind those of the first is so behind the others'.
    used = len(payload)
    for pieces in planes:
        if plan.parts == 1:
            used = -(-_join_bits(pieces, payload[:used]) // 8)
            yield [encode_plane(payload, level)]
            continue
        if of_parts is None:
            neurons = neurons_of_events(events)
            slices = [plan.part_slice(part) for part in range(plan.parts)]
            of_parts = [(neurons >= some.start) & (neurons < some.stop) for some in slices]
        count = sum(count for _, count in pieces)
        whole = np.empty(-(-count // 8), np.uint8)
        _join_bits(pieces, whole)
        bits, stored = np.unpackbits(whole, count=count), []
        for is_inside in of_parts:
            _join_bits([(np.packbits(bits[is_inside]), int(np.count_nonzero(is_inside)))], payload)
            stored.append(encode_plane(payload, level))
        yield stored
    encoding.give_back(room)
