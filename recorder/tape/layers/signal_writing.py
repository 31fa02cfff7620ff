"""Write the chunks, checksums and segments of one signal of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorder.format import ChunkPlan
from recorder.format.arrays import signal_tables
from recorder.format.chunks import encode_values, stored_checksum
from recorder.format.layout import ZSTD_LEVEL, array_chunk_key
from recorder.format.record.extents import TableCommit
from recorder.format.record.signals import VALUES, SignalCommit
from recorder.format.segments import Rows, SegmentLog
from recorder.tape.layers.segments_writing import SegmentsWriter
from recorder.tape.layers.signal_reading import SignalReader
from recorder.tape.tables import TableWriter, rows_checksum
from recorder.tape.threads.in_order import InOrder
from recorder.tape.threads.pressure import Timed, Written
from recorder.tape.threads.side_by_side import KeyWriter, SideBySide

Values = NDArray[Any]


class SignalProgress(NamedTuple):
    """The segments that a commit adds to the values of a signal which were appended.

    Attributes
    ----------
    closed_segments : int64 array, shape [segments, 5]
        Segments finished since the last commit; earlier ones may be among them.
    open_segment : int64 array, shape [0 or 1, 5]
        Segment that may still grow.
    """

    closed_segments: Rows
    open_segment: Rows


Progress = Mapping[str, SignalProgress]


@dataclass(frozen=True)
class _Chunk:
    values: Values
    checksums: NDArray[np.uint32]
    written: Written


class SignalWriter:
    """Writes the arrays of one signal; the `LayerWriter` of its layer has one of these for each.

    Appended values fill the memory of one chunk, which is encoded and written by another thread when it is
    full, as with spikes. A commit also writes the last chunk, which is not full.

    Parameters
    ----------
    commits : SideBySide
    encoding : InOrder
    layer : str or None
        Name of the layer; None for operations, which are of no layer.
    layer_folder : str
    about : SignalCommit
        What the signal is; of no frames.
    """

    def __init__(
        self,
        commits: SideBySide,
        encoding: InOrder,
        layer: str | None,
        layer_folder: str,
        about: SignalCommit,
    ) -> None:
        self._commits, self._encoding, self._layer, self._layer_folder = (
            commits,
            encoding,
            layer,
            layer_folder,
        )
        self._about = about
        self._plan: ChunkPlan = about.plan
        self.folder = about.folder(layer_folder)
        tables = signal_tables(self.folder, about.plan)
        self._checksums = TableWriter(commits, tables.checksums)
        self.segments = SegmentsWriter(commits, tables.segments, about.described(layer))
        self._rows = np.empty((self._plan.chunk_frames, self._plan.neurons), about.dtype)
        self._spare: list[Values] = []
        self._chunk = 0
        self._filled = 0
        self.committed = about

    @classmethod
    def resume(
        cls, kept: SignalReader, commits: SideBySide, encoding: InOrder, layer_folder: str
    ) -> SignalWriter:
        """Make a writer that goes on after the committed frames of a signal."""
        about = replace(kept.commit, frames=0, segments=TableCommit(), checksums=TableCommit(), tail=())
        signal = cls(commits, encoding, kept.layer, layer_folder, about)
        signal._chunk, signal._filled = divmod(kept.frames, kept.plan.chunk_frames)
        checksums = kept.checksums()[: signal._chunk]
        signal._checksums.resume(checksums, rows_checksum(checksums))
        signal.segments.resume(kept.segments().rows)
        if signal._filled:
            signal._rows[: signal._filled] = next(kept.trains([signal._chunk])).T[: signal._filled]
        # A closed recording also has a checksum of its last chunk, which grows again.
        signal.committed = replace(kept.commit, checksums=signal._checksums.committed)
        return signal

    def append(self, values: Values) -> None:
        """Append values, [frames, neurons], and write the chunks that they fill."""
        while len(values):
            taken = values[: len(self._rows) - self._filled]
            self._rows[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            values = values[len(taken) :]
            if self._filled == len(self._rows):
                self._encoding.put(partial(self._store_chunk, self._rows, self._chunk), self._take_chunk)
                self._rows = self._spare.pop() if self._spare else np.empty_like(self._rows)
                self._chunk += 1
                self._filled = 0

    def _store_chunk(self, values: Values, chunk: int) -> _Chunk:
        """Write one full chunk. Runs in any thread."""
        store = Timed(self._commits.store, self._encoding.pressure.level())
        checksums = self._write_chunk(np.ascontiguousarray(values.T), chunk, store, store.level)
        return _Chunk(values, checksums, store.written())

    def _take_chunk(self, stored: _Chunk) -> None:
        """Note the checksums of a written chunk. Runs in the order of chunks."""
        self._encoding.pressure.note(stored.written)
        self._spare.append(stored.values)
        self._checksums.append(stored.checksums)

    def _write_chunk(
        self, trains: Values, chunk: int, store: KeyWriter, level: int = ZSTD_LEVEL
    ) -> NDArray[np.uint32]:
        """Write all parts of one chunk, given as [neurons, chunk_frames]; their checksums, [1, parts]."""
        plan = self._plan
        checksums = np.empty((1, plan.parts), np.uint32)
        for part in range(plan.parts):
            present = trains[plan.part_slice(part)]
            if len(present) < plan.part_neurons:
                padding = np.zeros((plan.part_neurons - len(present), plan.chunk_frames), trains.dtype)
                present = np.concatenate([present, padding])
            stored = encode_values(present, level)
            checksums[0, part] = stored_checksum(stored)
            store.write(array_chunk_key(f"{self.folder}/{VALUES}", plan, chunk, part), stored)
        return checksums

    def commit(self, progress: SignalProgress, *, close: bool) -> SignalCommit:
        """Write the chunk that is not full and the small arrays; return what a commit may then promise."""
        plan = self._plan
        frames = self._chunk * plan.chunk_frames + self._filled
        tail: tuple[int, ...] = ()
        last_checksum = None
        if self._filled:
            trains = np.zeros((plan.neurons, plan.chunk_frames), self._rows.dtype)
            trains[:, : self._filled] = self._rows[: self._filled].T
            tail = tuple(rows_checksum(trains[plan.part_slice(part)]) for part in range(plan.parts))
            stored = self._write_chunk(trains, self._chunk, self._commits)
            last_checksum = stored if close else None
        self.segments.append(progress.closed_segments, progress.open_segment, frames)
        self.committed = replace(
            self._about,
            frames=frames,
            segments=self.segments.flush(progress.open_segment),
            checksums=self._checksums.flush(last_checksum),
            tail=tail,
        )
        return self.committed

    def last_progress(self) -> SignalProgress:
        """Progress of a signal to which nothing was appended since it was resumed."""
        return SignalProgress(*SegmentLog(self.segments.last).look())

    def delete_chunks(self, first: int, last: int) -> None:
        """Delete chunks ``first`` to ``last`` (exclusive), which are given up."""
        for chunk in range(first, last):
            for part in range(self._plan.parts):
                self._commits.store.delete(
                    array_chunk_key(f"{self.folder}/{VALUES}", self._plan, chunk, part)
                )
