"""Read an array of chunks as of one commit: what the readers of layers and of signals share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recorder.format import ChunkPlan, LayerCommit, RecordingFormatError
from recorder.format.arrays import LayerTables, SignalTables
from recorder.format.chunks import stored_checksum
from recorder.format.record.signals import SignalCommit
from recorder.format.segments import Segments, check_segments, clip_segments
from recorder.stores import ByteStore
from recorder.stores.read_ahead import Read
from recorder.tape.tables import check_rows, read_committed, read_rows


class ArrayReader(ABC):
    """An array of chunks, with its checksums and segments, as of one commit.

    Segments and checksums are read once and kept. Whatever does not match the commit raises
    `RecordingFormatError`, with the file, what is read and its frames.

    Attributes
    ----------
    store : ByteStore
        Store with one key for each chunk, as while recording.
    commit : LayerCommit or SignalCommit
        What the commit promises about the array.
    first_chunk : int
        The chunk with which the array begins. Before it nothing is stored.
    """

    not_absence: ClassVar[str]
    """What errors say of chunks that are lost or missing, behind "absent"."""

    def __init__(self, store: ByteStore, commit: LayerCommit | SignalCommit, first_chunk: int = 0) -> None:
        self.store = store
        self.commit = commit
        self.first_chunk = first_chunk
        self._read: dict[str, NDArray[Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Without this, all small arrays would be sent to every worker with every task.
        return {**self.__dict__, "_read": {}}

    @property
    @abstractmethod
    def described(self) -> str:
        """What is read, as errors name it."""

    @property
    @abstractmethod
    def tables(self) -> LayerTables | SignalTables:
        """Layouts of the small arrays beside this one."""

    @abstractmethod
    def chunk_key(self, chunk: int, part: int) -> str:
        """Key of one stored chunk."""

    @property
    def name(self) -> str:
        """Name of the layer, which is that of its PyTorch module, or of the signal."""
        return self.commit.name

    @property
    def plan(self) -> ChunkPlan:
        """Plan by which the array is cut into chunks."""
        return self.commit.plan

    @property
    def frames(self) -> int:
        """Number of committed frames."""
        return self.commit.frames

    def segments(self) -> Segments:
        """Segments of the committed frames."""
        return Segments(self.once("segments", self._read_segments))

    def kept_segments(self) -> Segments:
        """Segments without the lost steps, which look as if nothing had been recorded in them."""
        return Segments(self.once("kept segments", self._read_kept_segments))

    def checksums(self) -> NDArray[np.uint32]:
        """Checksums of the stored chunks, shape [chunks, parts]."""
        return self.once(
            "checksums", lambda: read_committed(self.store, self.tables.checksums, self.commit.checksums)
        )

    @cached_property
    def lost(self) -> NDArray[np.int64]:
        """Ranges of frames marked lost, shape [ranges, 2], the second column exclusive."""
        return np.array(self.commit.lost, np.int64).reshape(-1, 2)

    def is_lost(self, chunk: int) -> bool:
        """True if all frames of a chunk are marked lost. Nothing is promised about such a chunk."""
        begin = chunk * self.plan.chunk_frames
        end = min(begin + self.plan.chunk_frames, self.frames)
        return bool(((self.lost[:, 0] <= begin) & (end <= self.lost[:, 1])).any())

    def absent_keys(self) -> Iterator[str]:
        """Keys of the chunks that need not be there: all frames marked lost, or before the first chunk."""
        size, plan = self.plan.chunk_frames, self.plan
        lost = (
            chunk
            for first, last in self.lost.tolist()
            for chunk in range(first // size, -(-last // size))
            if self.is_lost(chunk)
        )
        for chunk in chain(range(self.first_chunk), lost):
            yield from (self.chunk_key(chunk, part) for part in range(plan.parts))

    def chunk_error(self, chunk: int, part: int, what: str) -> RecordingFormatError:
        """Error that says what is wrong with one stored part, with its file and frames."""
        first = chunk * self.plan.chunk_frames
        last = min(first + self.plan.chunk_frames, self.frames)
        return RecordingFormatError(
            f"{self.store.location}/{self.chunk_key(chunk, part)}: the chunk of {self.described} with "
            f"frames {first} to {last - 1} {what}"
        )

    def once(self, name: str, read: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """What ``read`` returned when it was first called under this name."""
        if name not in self._read:
            self._read[name] = read()
        return self._read[name]

    def read_part(
        self, chunk: int, part: int, read: Read, decode: Callable[[bytes], NDArray[Any]]
    ) -> NDArray[Any]:
        """Read one stored part, compare it with the commit, and decode it; errors as `chunk_error` has."""
        if self.is_lost(chunk):
            raise self.chunk_error(chunk, part, f"is marked lost; lost {self.not_absence}")
        try:
            stored = read()
        except RecordingFormatError as error:
            raise self.chunk_error(chunk, part, f"cannot be read: {error}") from error
        if stored is None:
            raise self.chunk_error(chunk, part, f"is missing; absent {self.not_absence}")
        is_full = (chunk + 1) * self.plan.chunk_frames <= self.frames
        if is_full and stored_checksum(stored) != self.checksums()[chunk, part]:
            raise self.chunk_error(
                chunk, part, "is not the chunk that the commit names: altered, cut short or swapped"
            )
        try:
            return decode(stored)
        except RecordingFormatError as error:
            raise self.chunk_error(chunk, part, f"is damaged: {error}") from error

    def _read_segments(self) -> NDArray[np.int64]:
        table, commit = self.tables.segments, self.commit.segments
        rows = clip_segments(read_rows(self.store, table, 0, commit.rows), self.frames)
        rows = check_rows(rows, commit, self.store, table)
        return check_segments(rows, self.frames, f"{self.store.location}/{table.folder}").rows

    def _read_kept_segments(self) -> NDArray[np.int64]:
        segments = self.segments()
        try:
            return segments.without(self.lost).rows
        except ValueError as error:
            raise RecordingFormatError(
                f"{self.store.location}: frames of {self.described} are marked lost, but {error}"
            ) from error
