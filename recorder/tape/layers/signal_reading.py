"""Read one signal of a layer as of one commit, and check each byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from itertools import islice, tee
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.format.arrays import SignalTables, signal_tables
from recorder.format.chunks import decode_values
from recorder.format.layout import array_chunk_key
from recorder.format.record.extents import TableCommit
from recorder.format.record.signals import VALUES, SignalCommit
from recorder.format.segments import clip_segments
from recorder.stores import ByteStore
from recorder.stores.read_ahead import Read, read_ahead
from recorder.tape.layers.array_reading import ArrayReader
from recorder.tape.tables import rows_checksum, stored_limit

Values = NDArray[Any]


class SignalReader(ArrayReader):
    """One signal of a layer as of one commit; made by a `recorder.tape.layers.layer_reading.LayerReader`.

    It does for values what a `LayerReader` does for spikes: each method reads what it needs, checks it
    against the checksums that the commit names, and raises `RecordingFormatError`, with file, layer, signal
    and frames, if it does not match. Frames that are marked lost are never read.

    Attributes
    ----------
    store : ByteStore
        Store with one key for each chunk, as while recording.
    layer : str or None
        Name of the layer; None for operations, which are of no layer.
    folder : str
        Key prefix of the signal's group.
    commit : SignalCommit
        What the commit promises about the signal.
    """

    not_absence = "values are not zeros"
    commit: SignalCommit

    def __init__(self, store: ByteStore, layer: str | None, layer_folder: str, commit: SignalCommit) -> None:
        super().__init__(store, commit)
        self.layer = layer
        self.folder = commit.folder(layer_folder)

    @cached_property
    def tables(self) -> SignalTables:
        """Layouts of the signal's small arrays."""
        return signal_tables(self.folder, self.plan)

    @property
    def described(self) -> str:
        """The signal and its layer, as errors name them."""
        return self.commit.described(self.layer)

    @property
    def chunks(self) -> int:
        """Number of chunks that the committed frames lie in."""
        return self.plan.chunk_count(self.frames)

    def chunk_key(self, chunk: int, part: int) -> str:
        """Key of one stored chunk."""
        return array_chunk_key(f"{self.folder}/{VALUES}", self.plan, chunk, part)

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
        plan, dtype = self.plan, self.commit.dtype

        def decode(stored: bytes) -> Values:
            return decode_values(stored, plan.part_neurons, plan.chunk_frames, dtype)

        return self.read_part(chunk, part, read, decode)

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
