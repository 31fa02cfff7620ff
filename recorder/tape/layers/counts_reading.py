"""Read the counts of a layer of which only these are kept, and check each row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from recorder.format import LayerCommit, RecordingFormatError
from recorder.format.bits import Bools, Counts
from recorder.format.errors import NotKeptError
from recorder.stores import ByteStore
from recorder.tape.layers.layer_reading import LayerReader


class CountsReader(LayerReader):
    """One layer as of one commit that has counts in place of bits.

    A row of ``counts`` is one sample of one segment: the spikes of each neuron in all steps of it. Rows have
    the order of segments, and in each that of samples. Whatever needs bits raises `NotKeptError`.
    """

    def first_rows(self) -> NDArray[np.int64]:
        """The first row of counts of each segment, and the number of all rows; int64 [segments + 1]."""
        return np.concatenate([[0], np.cumsum(self.segments().batch)]).astype(np.int64)

    def lost_segments(self) -> Bools:
        """True for each segment whose frames are marked lost, all of which are then."""
        segments = self.segments()
        if not np.isin(self.lost, np.append(segments.first_frame, self.frames)).all():
            raise RecordingFormatError(
                f"{self.store.location}: frames of layer {self.name!r} are marked lost, but they are not all "
                "frames of segments, of which only counts were kept"
            )
        begins = np.searchsorted(self.lost[:, 0], segments.first_frame, side="right")
        ends = np.searchsorted(self.lost[:, 1], segments.first_frame, side="right")
        return np.asarray(begins > ends, np.bool_)

    def are_lost(self, first: int, last: int) -> bool:
        """True if all rows ``first`` to ``last`` (exclusive) are of segments that are marked lost."""
        lost = self.once("lost rows", lambda: np.repeat(self.lost_segments(), self.segments().batch))
        return bool(lost[first:last].all())

    def has_lost_frames(self, block: int) -> bool:
        """True if a row of counts is one of a segment that is marked lost."""
        return self.are_lost(block, block + 1)

    def block_frame(self, block: int) -> int:
        """The first frame of the segment that a row of counts belongs to."""
        segment = int(np.searchsorted(self.first_rows(), block, side="right")) - 1
        return int(self.segments().first_frame[segment])

    def frames_in_blocks(self, first: int, last: int) -> NDArray[np.int64]:
        """Steps that each row of counts sums up, int64 [rows]."""
        segments = self.segments()
        return np.repeat(segments.steps, segments.batch)[first:last]

    def counts_checksums(self) -> NDArray[np.uint32]:
        """Checksums of the rows of ``counts``; there is a row for each sample of each segment."""
        names = super().counts_checksums()
        rows = int(self.first_rows()[-1])
        if len(names) != rows:
            raise RecordingFormatError(
                f"{self.store.location}/{self.tables.counts_checksums.folder} has {len(names)} rows, but the "
                f"segments of layer {self.name!r} have {rows} samples"
            )
        return names

    def kept_rows(self, segments: Iterable[int]) -> Iterator[tuple[range, NDArray[np.uint32]]]:
        """Counts of some segments, ascending, without those that are marked lost.

        Neighbours come together, as many as have the rows of a stored chunk, but one at least.

        Yields
        ------
        range
            The segments.
        uint32 array, shape [rows, neurons]
            A row for each sample of each.

        Raises
        ------
        RecordingFormatError
            If a row is missing, damaged or not the one that the commit names.
        """
        self.counts_checksums()
        first_rows, is_lost, most = self.first_rows(), self.lost_segments(), self.tables.counts.chunk_rows
        together: list[range] = []
        for segment in segments:
            if is_lost[segment]:
                continue
            some = together[-1] if together else range(0)
            if segment == some.stop and some and first_rows[segment + 1] - first_rows[some.start] <= most:
                together[-1] = range(some.start, segment + 1)
            else:
                together.append(range(segment, segment + 1))
        for some in together:
            first, last = int(first_rows[some.start]), int(first_rows[some.stop])
            yield some, self.counts(first, last).reshape(last - first, -1)

    def totals(self) -> tuple[int, Counts]:
        """Frames, and spikes of each neuron, int64 [neurons]; without lost frames."""
        total = np.zeros(self.plan.neurons, np.int64)
        for _, rows in self.kept_rows(range(len(self.segments()))):
            total += rows.sum(axis=0, dtype=np.int64)
        return self.frames - self.commit.lost_frames, total

    def absent_keys(self) -> Iterator[str]:
        """Keys of the chunks of counts that need not be there: all of their rows are of lost segments."""
        if not len(self.lost):
            return
        size, rows = self.tables.counts.chunk_rows, self.commit.counts_checksums.rows
        for chunk in range(-(-rows // size)):
            if self.are_lost(chunk * size, min((chunk + 1) * size, rows)):
                yield self.tables.counts.chunk_key(chunk)

    def stored_parts(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotKeptError: there are no bits."""
        raise self.no_bits()

    def kept_chunks(self, *_: Any) -> NoReturn:
        """Raise NotKeptError: there are no bits."""
        raise self.no_bits()

    def frame_bits(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotKeptError: there are no bits."""
        raise self.no_bits()

    def no_bits(self) -> NotKeptError:
        """Error for whoever asks for bits."""
        return NotKeptError(
            f"of layer {self.name!r} of {self.store.location} counts were kept, of each neuron in each "
            "sample of each trial, and not when it fired: record it without keep='counts' for this"
        )


def read_layer(store: ByteStore, commit: LayerCommit) -> LayerReader:
    """The reader of a layer, of its bits or of its counts."""
    return (CountsReader if commit.counts_only else LayerReader)(store, commit)
