"""Read one layer of a recording as of one commit, and check each byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import islice, tee

import numpy as np
from numpy.typing import NDArray

from recorder.format import LayerCommit, RecordingFormatError
from recorder.format.arrays import LayerTables, layer_tables, plane_tables
from recorder.format.bits import (
    Bools,
    Counts,
    Packed,
    count_per_neuron,
    mask_trains,
    range_mask,
    unpack_trains,
)
from recorder.format.chunks import checksum, decode_plane, decode_spikes, room_for_spikes
from recorder.format.layout import plane_chunk_key, spikes_chunk_key
from recorder.stores import ByteStore
from recorder.stores.read_ahead import Read, read_ahead
from recorder.tape.layers.array_reading import ArrayReader
from recorder.tape.layers.signal_reading import SignalReader
from recorder.tape.spreading import spread_to_events
from recorder.tape.tables import read_committed, read_rows, rows_checksum, stored_limit


class LayerReader(ArrayReader):
    """One layer of a recording as of one commit.

    The reader holds the `LayerCommit` and no spikes. Each method reads what it needs, checks it against the
    checksums that the commit names, and raises `RecordingFormatError` with file, layer and frames if it does
    not match. Segments and checksums are read once and kept.

    Spikes come as packed trains, chunk by chunk, in three levels: `stored_parts` gives parts as they are
    stored, `chunks` cuts them to the committed frames, and `kept_chunks` also silences frames that are marked
    lost. A chunk all of whose frames are lost is never read.

    Attributes
    ----------
    store : ByteStore
        Store with one key for each chunk, as while recording.
    commit : LayerCommit
        What the commit promises about the layer.
    plane : str
        The plane of the layer's values whose bits are read as spikes are; empty for its events.
    first_chunk : int
        The chunk with which the array of bits begins. Before it all is silent, and nothing is stored.
    """

    not_absence = "spikes are not silence"
    commit: LayerCommit

    def __init__(
        self,
        store: ByteStore,
        commit: LayerCommit,
        plane: str = "",
        first_chunk: int = 0,
        events: LayerReader | None = None,
    ) -> None:
        super().__init__(store, commit, first_chunk)
        self.plane = plane
        # Of a plane, whose bits are at these.
        self._events = events

    # Of many layers of many recordings few are ever read, so what reading needs is made when it is needed.
    @cached_property
    def folder(self) -> str:
        """Key prefix of the layer's arrays."""
        return self.commit.folder

    @cached_property
    def tables(self) -> LayerTables:
        """Layouts of the layer's small arrays."""
        if self.plane:
            return plane_tables(self.commit, self.plane)
        return layer_tables(self.commit.name, self.commit.plan, is_apart=self.commit.is_apart)

    @cached_property
    def planes(self) -> dict[str, LayerReader]:
        """Readers of the planes of the layer's values by name: each has bits as the layer has events."""
        values = self.commit.values
        planes = {}
        for plane in values.planes if values and not self.plane else ():
            commit = replace(
                self.commit,
                counts_checksums=plane.counts_checksums,
                checksums=plane.checksums,
                tail=plane.tail,
            )
            planes[plane.name] = LayerReader(self.store, commit, plane.name, plane.first_chunk, self)
        return planes

    @property
    def bits(self) -> tuple[LayerReader, ...]:
        """Readers of all bits of the layer: of its events, and of the planes of its values."""
        return (self, *self.planes.values())

    @property
    def described(self) -> str:
        """The layer, as errors name it."""
        return f"layer {self.name!r}"

    @cached_property
    def signals(self) -> dict[str, SignalReader]:
        """Readers of the layer's signals by name."""
        return {
            signal.name: SignalReader(self.store, self.name, self.folder, signal)
            for signal in self.commit.signals
        }

    def chunk_key(self, chunk: int, part: int) -> str:
        """Key of one stored chunk of the array of bits."""
        if self.plane:
            return plane_chunk_key(self.folder, self.plane, chunk, part)
        return spikes_chunk_key(self.folder, self.plan, chunk, part)

    def has_lost_frames(self, block: int) -> bool:
        """True if any frame of a block is marked lost. Nothing is promised about its row of ``counts``."""
        begin = block * self.plan.block_frames
        return bool(((self.lost[:, 0] < begin + self.plan.block_frames) & (begin < self.lost[:, 1])).any())

    def block_frame(self, block: int) -> int:
        """The frame with which a block begins."""
        return block * self.plan.block_frames

    def frames_in_blocks(self, first: int, last: int) -> NDArray[np.int64]:
        """Frames that each row of ``counts`` from ``first`` to ``last`` (exclusive) sums up, int64 [rows]."""
        begins = np.arange(first, last, dtype=np.int64) * self.plan.block_frames
        return np.minimum(self.plan.block_frames, self.frames - begins)

    def counts_checksums(self) -> NDArray[np.uint32]:
        """Checksums of the rows of ``counts``, shape [blocks]."""
        table, commit = self.tables.counts_checksums, self.commit.counts_checksums
        return self.once("counts_checksums", lambda: read_committed(self.store, table, commit))

    def counts(self, first: int, last: int) -> NDArray[np.uint32]:
        """Number of spikes of each neuron in each of some blocks, shape [blocks, *neuron].

        The blocks are ``first`` to ``last`` (exclusive). Rows of blocks with lost frames are not checked.

        Raises
        ------
        RecordingFormatError
            If a row is missing, damaged or not the one that the commit names.
        """
        return self.checked_counts(read_rows(self.store, self.tables.counts, first, last), first)

    def checked_counts(self, rows: NDArray[np.uint32], first: int) -> NDArray[np.uint32]:
        """Return rows of ``counts`` from ``first`` on, if the commit names them; errors as in `counts`."""
        found = np.array([rows_checksum(np.asarray(row)) for row in rows], np.uint32)
        named = self.commit.counts_checksums
        if len(found) == named.rows and rows_checksum(found) == named.crc32c:
            return rows  # all that there are: the commit names their checksums as a whole
        expected = self.counts_checksums()[first : first + len(rows)]
        for block in (first + np.flatnonzero(found != expected)).tolist():
            if not self.has_lost_frames(block):
                frame = self.block_frame(block)
                raise RecordingFormatError(
                    f"{self.store.location}/{self.tables.counts.folder}: the counts of block {block} of "
                    f"layer {self.name!r}, which begins at frame {frame}, are not those the commit names: "
                    "altered or swapped"
                )
        return rows

    def sum_counts(self, first: int, last: int) -> Counts:
        """Number of spikes of each neuron in blocks ``first`` to ``last`` (exclusive), int64 [neurons].

        Spikes in lost frames do not count: blocks that contain any are counted from their chunks. One stored
        chunk of ``counts`` is in memory at a time. Errors as in `counts`.
        """
        total = np.zeros(self.plan.neurons, np.int64)
        step = self.tables.counts.chunk_rows
        start = first
        while start < last:
            stop = min(start // step * step + step, last)
            kept = np.array([not self.has_lost_frames(block) for block in range(start, stop)], np.bool_)
            total += self.counts(start, stop)[kept].sum(axis=0, dtype=np.int64).reshape(-1)
            for block in (start + np.flatnonzero(~kept)).tolist():
                # The last block of a closed recording may have fewer chunks.
                end = min((block + 1) * self.plan.block_chunks, self.plan.chunk_count(self.frames))
                for chunk in range(block * self.plan.block_chunks, end):
                    total += count_per_neuron(self.kept_trains(chunk))
            start = stop
        return total

    def totals(self) -> tuple[int, Counts]:
        """Frames, and spikes of each neuron, int64 [neurons], of a closed recording; without lost frames."""
        blocks = -(-self.frames // self.plan.block_frames)
        return self.frames - self.commit.lost_frames, self.sum_counts(0, blocks)

    def chunk_or_silence(self, chunk: int) -> Packed:
        """Packed trains of one chunk; silence if all its frames are lost. For a writer that resumes."""
        if self.is_lost(chunk):
            return np.zeros((self.plan.neurons, self.plan.chunk_bytes), np.uint8)
        return self.chunk(chunk)

    def kept_trains(self, chunk: int) -> Packed:
        """Packed trains of one chunk, with silence in every frame that is marked lost."""
        return next(self.kept_chunks([chunk]))

    def kept_chunks(
        self, chunks: Iterable[int], read: Callable[[Sequence[int]], Iterator[Packed]] | None = None
    ) -> Iterator[Packed]:
        """Packed trains of several chunks in order, each as from `kept_trains`, read ahead.

        ``read``, if given, is called instead of `chunks`, for callers that keep decoded chunks.
        """
        wanted, size = list(chunks), self.plan.chunk_frames
        kept = (read or self.chunks)([chunk for chunk in wanted if not self.is_lost(chunk)])
        for chunk in wanted:
            if self.is_lost(chunk):
                yield np.zeros((self.plan.neurons, self.plan.chunk_bytes), np.uint8)
                continue
            trains = next(kept)
            lost = np.clip(self.lost - chunk * size, 0, size)
            for first, last in lost[lost[:, 0] < lost[:, 1]].tolist():
                trains = mask_trains(trains, ~range_mask(size, first, last))
            yield trains

    def chunk(self, chunk: int) -> Packed:
        """Packed trains of one chunk, all parts together, with silence after the committed frames.

        Returns
        -------
        uint8 array, shape [neurons, chunk_frames / 8]

        Raises
        ------
        RecordingFormatError
            If a part is missing, damaged, marked lost, or not the one that the commit names. The message
            gives the file, the layer and the frames.
        """
        return next(self.chunks([chunk]))

    def chunks(self, chunks: Iterable[int], *, passing: bool = False) -> Iterator[Packed]:
        """Packed trains of several chunks in order, each as from `chunk`, read ahead.

        With ``passing=True``, an array is valid only until the next one is asked for, because all of them may
        share memory. This can take half the time: where the allocator returns freed memory to the system at
        once, as in workers of dask.distributed, fresh memory costs as much time as decoding.
        """
        wanted, count = list(chunks), self.plan.parts
        places = [(chunk, part) for chunk in wanted for part in range(count)]
        parts = self.parts(places, passing=passing and count == 1)
        for _ in wanted:
            pieces = list(islice(parts, count))
            yield pieces[0] if count == 1 else np.concatenate(pieces)

    def frame_bits(self, first: int, last: int, read_chunk: Callable[[int], Packed] | None = None) -> Bools:
        """Frames ``first`` to ``last`` (exclusive) as booleans, shape [frames, *neuron].

        ``read_chunk``, if given, is called instead of `chunk`, for callers that keep decoded chunks.
        """
        size = self.plan.chunk_frames
        out = np.empty((last - first, self.plan.neurons), np.bool_)
        for chunk in range(first // size, -(-last // size)):
            begin, end = max(first, chunk * size), min(last, (chunk + 1) * size)
            trains = (read_chunk or self.chunk)(chunk)
            out[begin - first : end - first] = unpack_trains(trains, begin - chunk * size, end - chunk * size)
        return out.reshape(last - first, *self.plan.neuron_shape)

    def part(self, chunk: int, part: int) -> Packed:
        """Packed trains of one part, [neurons in the part, chunk_frames / 8]; errors as in `chunk`."""
        return next(self.parts([(chunk, part)]))

    def parts(self, wanted: Sequence[tuple[int, int]], *, passing: bool = False) -> Iterator[Packed]:
        """Packed trains of several (chunk, part) in order, each as from `part`, read ahead."""
        room = room_for_spikes(self.plan.part_neurons, self.plan.chunk_bytes) if passing else None
        for (chunk, part), read in zip(wanted, self.stored_parts(wanted, room), strict=True):
            yield self.committed_part(chunk, part, read())

    def stored_parts(
        self, wanted: Iterable[tuple[int, int]], room: Packed | None = None, *, to_the_end: bool = False
    ) -> Iterator[Callable[[], Packed]]:
        """Yield, for each (chunk, part) in order, a function that returns the trains as they are stored.

        The trains, [part_neurons, chunk_frames / 8], include the padding; those of a plane only what it has
        at committed events. A last chunk that is not full is not yet compared with the commit:
        `committed_part` does that. The function raises as `chunk` does, and later parts can still be read
        then. With ``to_the_end=True`` it also refuses a plane that says more than there are events.
        """
        plan = self.plan
        places, of_keys, of_events = tee(wanted, 3)
        keys = (self.chunk_key(chunk, part) for chunk, part in of_keys if chunk >= self.first_chunk)
        size = plan.part_bytes + (not self.plane)
        reads = read_ahead(self.store, keys, stored_limit(size))
        if self._events is None:
            for chunk, part in places:
                yield partial(self._decode, chunk, part, next(reads), room)
            return
        events = self._events.stored_parts(place for place in of_events if place[0] >= self.first_chunk)
        for chunk, part in places:
            if chunk >= self.first_chunk:
                yield partial(
                    self._decode_plane, chunk, part, next(reads), next(events), self._events, to_the_end
                )
            else:
                yield self._silent_part

    def bits_of_parts(self, wanted: Sequence[tuple[int, int]]) -> Iterator[list[Packed]]:
        """Trains of all `bits` in several (chunk, part), each as from `part`; events are decoded once."""
        planes = [*self.planes.values()]
        of_planes = [plane.bits_at_events(wanted) for plane in planes]
        for (chunk, part), events in zip(wanted, self.parts(wanted), strict=True):
            bits = [next(each) for each in of_planes]
            there = [each for each in bits if each is not None]
            spread = iter(_spread(self, chunk, events, there)[0] if there else [])
            trains = (self._silent_part() if each is None else next(spread) for each in bits)
            yield [
                events,
                *(plane.committed_part(chunk, part, next(trains)) for plane in planes),
            ]

    def bits_of_chunk(self, chunk: int) -> list[Packed]:
        """Trains of all `bits` of one chunk, each as from `chunk`; events are decoded once."""
        parts = [*self.bits_of_parts([(chunk, part) for part in range(self.plan.parts)])]
        return parts[0] if len(parts) == 1 else [*map(np.concatenate, zip(*parts, strict=True))]

    def bits_at_events(self, wanted: Sequence[tuple[int, int]]) -> Iterator[Packed | None]:
        """Bits of a plane at events in several (chunk, part); None before its first chunk."""
        keys = (self.chunk_key(*place) for place in wanted if place[0] >= self.first_chunk)
        reads = read_ahead(self.store, keys, stored_limit(self.plan.part_bytes))
        for chunk, part in wanted:
            yield self._decode_bits(chunk, part, next(reads)) if chunk >= self.first_chunk else None

    def committed_part(self, chunk: int, part: int, trains: Packed) -> Packed:
        """Cut stored trains of one part to the committed frames, and check a tail; errors as `chunk`."""
        plan = self.plan
        neurons = plan.part_slice(part)
        trains = trains[: neurons.stop - neurons.start]
        tail_frames = self.frames - chunk * plan.chunk_frames
        if tail_frames < plan.chunk_frames:
            # The chunk may have grown since the commit, which therefore names its frames and not its bytes.
            trains = mask_trains(trains, range_mask(plan.chunk_frames, 0, tail_frames))
            if checksum(trains.tobytes()) != self.commit.tail[part]:
                raise self.chunk_error(chunk, part, "does not begin with the frames that the commit names")
        return trains

    def _silent_part(self) -> Packed:
        return np.zeros((self.plan.part_neurons, self.plan.chunk_bytes), np.uint8)

    def _decode(self, chunk: int, part: int, read: Read, room: Packed | None) -> Packed:
        plan = self.plan

        def decode(stored: bytes) -> Packed:
            return decode_spikes(stored, plan.part_neurons, plan.chunk_bytes, room)

        return self.read_part(chunk, part, read, decode)

    def _decode_bits(self, chunk: int, part: int, read: Read) -> Packed:
        size = self.plan.part_bytes
        return self.read_part(chunk, part, read, lambda stored: decode_plane(stored, size))

    def _decode_plane(
        self,
        chunk: int,
        part: int,
        read: Read,
        read_events: Callable[[], Packed],
        layer: LayerReader,
        to_the_end: bool,
    ) -> Packed:
        """Trains of one part of a plane, from its bits and from the events that it has them at."""
        plan = self.plan
        bits = self._decode_bits(chunk, part, read)
        # Both chunks may have grown since the commit, and not at once. The bits of its frames come first.
        events = layer.committed_part(chunk, part, read_events())
        (trains,), used = _spread(self, chunk, events, [bits])
        # A finished chunk has not.
        is_finished = (chunk + 1) * plan.chunk_frames <= self.frames or self.commit.checksums.rows > chunk
        if to_the_end and is_finished:
            rest = bits[used // 8 :].copy()
            rest[:1] &= 255 >> used % 8
            if rest.any():
                raise self.chunk_error(chunk, part, f"has more bits than there are events, {used}")
        return trains


def _spread(
    layer: LayerReader, chunk: int, events: Packed, bits: Sequence[Packed]
) -> tuple[list[Packed], int]:
    """Trains of one part of planes, from their bits at these events, and how many of them were used."""
    plan = layer.plan
    # Of a chunk of millions of frames there may be a few.
    width = -(-min(plan.chunk_frames, layer.frames - chunk * plan.chunk_frames) // 64) * 8
    spread, used = spread_to_events(np.ascontiguousarray(events[:, :width]), bits)
    behind = (0, plan.part_neurons - len(events)), (0, plan.chunk_bytes - width)
    return [np.pad(trains, behind) if np.any(behind) else trains for trains in spread], used
