"""Read one signal of a layer as of one commit, and check each byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from itertools import islice, product, tee
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.format import ChunkPlan, RecordingFormatError
from recorder.format.arrays import SignalTables, signal_tables
from recorder.format.chunks import decode_values, stored_checksum
from recorder.format.extents import TableCommit
from recorder.format.layout import array_chunk_key
from recorder.format.segments import Segments, check_segments, clip_segments
from recorder.format.signals import VALUES, SignalCommit
from recorder.stores import ByteStore
from recorder.stores.read_ahead import Read, read_ahead
from recorder.tape.tables import check_rows, read_committed, read_rows, rows_checksum, stored_limit

Values = NDArray[Any]


class SignalReader:
    """One signal of a layer as of one commit; made by a `recorder.tape.layer_reading.LayerReader`.

    It does for values what a `LayerReader` does for spikes: each method reads what it needs, checks it
    against the checksums that the commit names, and raises `RecordingFormatError`, with file, layer, signal
    and frames, if it does not match. Frames that are marked lost are never read.

    Attributes
    ----------
    store : ByteStore
        Store with one key for each chunk, as while recording.
    layer : str
        Name of the layer.
    folder : str
        Key prefix of the signal's group.
    commit : SignalCommit
        What the commit promises about the signal.
    """

    def __init__(self, store: ByteStore, layer: str, layer_folder: str, commit: SignalCommit) -> None:
        self.store = store
        self.layer = layer
        self.folder = commit.folder(layer_folder)
        self.commit = commit
        self._read: dict[str, NDArray[Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # As with layers: small arrays do not travel with every task.
        return {**self.__dict__, "_read": {}}

    @cached_property
    def tables(self) -> SignalTables:
        """Layouts of the signal's small arrays."""
        return signal_tables(self.folder, self.plan)

    @property
    def name(self) -> str:
        """Name of the signal."""
        return self.commit.name

    @property
    def plan(self) -> ChunkPlan:
        """Plan by which the signal is cut into chunks."""
        return self.commit.plan

    @property
    def frames(self) -> int:
        """Number of committed frames."""
        return self.commit.frames

    @property
    def chunks(self) -> int:
        """Number of chunks that the committed frames lie in."""
        return self.plan.chunk_count(self.frames)

    def segments(self) -> Segments:
        """Segments of the committed frames."""
        return Segments(self._once("segments", self._read_segments))

    def kept_segments(self) -> Segments:
        """Segments without the lost steps, which look as if the signal had not been recorded in them."""
        return Segments(self._once("kept segments", self._read_kept_segments))

    @cached_property
    def lost(self) -> NDArray[np.int64]:
        """Ranges of frames marked lost, shape [ranges, 2], the second column exclusive."""
        return np.array(self.commit.lost, np.int64).reshape(-1, 2)

    def is_lost(self, chunk: int) -> bool:
        """True if all frames of a chunk are marked lost. Nothing is promised about such a chunk."""
        begin = chunk * self.plan.chunk_frames
        end = min(begin + self.plan.chunk_frames, self.frames)
        return bool(((self.lost[:, 0] <= begin) & (end <= self.lost[:, 1])).any())

    def lost_keys(self) -> Iterator[str]:
        """Keys of the chunks all of whose frames are marked lost."""
        size = self.plan.chunk_frames
        for first, last in self.lost.tolist():
            for chunk, part in product(range(first // size, -(-last // size)), range(self.plan.parts)):
                if self.is_lost(chunk):
                    yield self.chunk_key(chunk, part)

    def chunk_key(self, chunk: int, part: int) -> str:
        """Key of one stored chunk."""
        return array_chunk_key(f"{self.folder}/{VALUES}", self.plan, chunk, part)

    def checksums(self) -> NDArray[np.uint32]:
        """Checksums of the stored chunks, shape [chunks, parts]."""
        return self._once(
            "checksums", lambda: read_committed(self.store, self.tables.checksums, self.commit.checksums)
        )

    def trains(self, chunks: Iterable[int]) -> Iterator[Values]:
        """Values of several chunks in order, read ahead, each of shape [neurons, chunk_frames].

        Behind the committed frames, and in frames that are marked lost, values are 0.

        Raises
        ------
        RecordingFormatError
            If a part is missing, damaged, or not the one that the commit names.
        """
        wanted, size = list(chunks), self.plan.chunk_frames
        read = self.stored_parts(
            (chunk, part) for chunk in wanted if not self.is_lost(chunk) for part in range(self.plan.parts)
        )
        for chunk in wanted:
            if self.is_lost(chunk):
                yield np.zeros((self.plan.neurons, size), self.commit.dtype)
                continue
            places = enumerate(islice(read, self.plan.parts))
            pieces = [self.committed_part(chunk, part, decode()) for part, decode in places]
            trains = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
            for first, last in np.clip(self.lost - chunk * size, 0, size).tolist():
                trains[:, first:last] = 0
            yield trains

    def values(self, first: int, last: int) -> Values:
        """Values of frames ``first`` to ``last`` (exclusive), shape [frames, *neuron]; errors as `trains`."""
        size = self.plan.chunk_frames
        chunks = range(first // size, -(-last // size))
        out = np.empty((last - first, self.plan.neurons), self.commit.dtype)
        for chunk, trains in zip(chunks, self.trains(chunks), strict=True):
            begin, end = max(first, chunk * size), min(last, (chunk + 1) * size)
            out[begin - first : end - first] = trains[:, begin - chunk * size : end - chunk * size].T
        return out.reshape(last - first, *self.plan.neuron_shape)

    def stored_parts(self, wanted: Iterable[tuple[int, int]]) -> Iterator[Callable[[], Values]]:
        """Yield, for each (chunk, part) in order, a function that returns its values as they are stored.

        The values, [part_neurons, chunk_frames], include the padding. A last chunk that is not full is not
        yet compared with the commit: `committed_part` does that. Later parts can be read if one raises.
        """
        plan = self.plan
        places, places_of_keys = tee(wanted)
        limit = stored_limit(plan.part_neurons * plan.chunk_frames * self.commit.itemsize)
        reads = read_ahead(self.store, (self.chunk_key(*place) for place in places_of_keys), limit)
        for (chunk, part), read in zip(places, reads, strict=True):
            yield partial(self._decode, chunk, part, read)

    def committed_part(self, chunk: int, part: int, values: Values) -> Values:
        """Cut stored values of one part to the committed frames, and check a tail; errors as `trains`."""
        neurons = self.plan.part_slice(part)
        values = values[: neurons.stop - neurons.start]
        behind = self.frames - chunk * self.plan.chunk_frames
        if behind < self.plan.chunk_frames:
            values[:, behind:] = 0
            if rows_checksum(values) != self.commit.tail[part]:
                raise self.chunk_error(chunk, part, "does not begin with the frames that the commit names")
        return values

    def _decode(self, chunk: int, part: int, read: Read) -> Values:
        plan = self.plan
        try:
            stored = read()
        except RecordingFormatError as error:
            raise self.chunk_error(chunk, part, f"cannot be read: {error}") from error
        if stored is None:
            raise self.chunk_error(chunk, part, "is missing; absent values are not zeros")
        is_full = (chunk + 1) * plan.chunk_frames <= self.frames
        if is_full and stored_checksum(stored) != self.checksums()[chunk, part]:
            raise self.chunk_error(
                chunk, part, "is not the chunk that the commit names: altered, cut short or swapped"
            )
        try:
            return decode_values(stored, plan.part_neurons, plan.chunk_frames, self.commit.dtype)
        except RecordingFormatError as error:
            raise self.chunk_error(chunk, part, f"is damaged: {error}") from error

    def frames_before(self, step: int) -> int:
        """Number of frames before a step."""
        return self.segments().select_steps(0, step).frames

    def cut_to(self, frames: int) -> SignalCommit:
        """Commit of the signal with its first ``frames`` frames only; whole steps."""
        plan = self.plan
        chunks, behind = divmod(frames, plan.chunk_frames)
        segments = clip_segments(self.segments().rows, frames)
        tail: tuple[int, ...] = ()
        if behind:
            trains = next(self.trains([chunks])).copy()
            trains[:, behind:] = 0
            tail = tuple(rows_checksum(trains[plan.part_slice(part)]) for part in range(plan.parts))
        return replace(
            self.commit,
            frames=frames,
            segments=TableCommit(len(segments), rows_checksum(segments)),
            checksums=TableCommit(chunks, rows_checksum(self.checksums()[:chunks])),
            tail=tail,
            lost=tuple((begin, min(end, frames)) for begin, end in self.commit.lost if begin < frames),
        )

    def chunk_error(self, chunk: int, part: int, what: str) -> RecordingFormatError:
        """Error that says what is wrong with one stored part, with its file, layer, signal and frames."""
        first = chunk * self.plan.chunk_frames
        last = min(first + self.plan.chunk_frames, self.frames)
        return RecordingFormatError(
            f"{self.store.location}/{self.chunk_key(chunk, part)}: the chunk of signal {self.name!r} of "
            f"layer {self.layer!r} with frames {first} to {last - 1} {what}"
        )

    def _read_segments(self) -> NDArray[np.int64]:
        table, commit = self.tables.segments, self.commit.segments
        rows = clip_segments(read_rows(self.store, table, 0, commit.rows), self.frames)
        rows = check_rows(rows, commit, self.store, table)
        return check_segments(rows, self.frames, f"{self.store.location}/{table.folder}").rows

    def _read_kept_segments(self) -> NDArray[np.int64]:
        try:
            return self.segments().without(self.lost).rows
        except ValueError as error:
            raise RecordingFormatError(
                f"{self.store.location}: frames of signal {self.name!r} of layer {self.layer!r} are marked "
                f"lost, but {error}"
            ) from error

    def _once(self, name: str, read: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        if name not in self._read:
            self._read[name] = read()
        return self._read[name]
