"""Write the arrays of one layer: its events, the planes of its values, its segments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from recorder.format import ChunkPlan, LayerCommit
from recorder.format.arrays import layer_tables, plane_tables
from recorder.format.bits import Counts, Packed, count_bits
from recorder.format.layout import layer_folder, plane_chunk_key, spikes_chunk_key
from recorder.format.planes.at_events import PlaneAtEvents
from recorder.format.planes.values import PackedValues, Pending, in_order, pending_rows
from recorder.format.record.extents import TableCommit
from recorder.format.record.metadata import PlaneCommit, ValuesCommit
from recorder.format.record.parts import LayerPart
from recorder.format.record.signals import SignalCommit
from recorder.format.segments import Rows, SegmentLog, no_rows
from recorder.tape.layers.bits_writing import BitsArray, EventsWriter, WrittenChunk
from recorder.tape.layers.counts_reading import read_layer
from recorder.tape.layers.counts_writing import CountsWriter
from recorder.tape.layers.cutting import cut_layer
from recorder.tape.layers.layer_reading import LayerReader
from recorder.tape.layers.levels import read_levels
from recorder.tape.layers.plane_writing import PlaneWriter, encode_planes
from recorder.tape.layers.segments_writing import SegmentsWriter
from recorder.tape.layers.signal_writing import SignalProgress, SignalWriter, Values
from recorder.tape.spreading import spread_to_rows
from recorder.tape.threads.in_order import InOrder
from recorder.tape.threads.pressure import Timed, Written
from recorder.tape.threads.side_by_side import SideBySide


@dataclass(frozen=True)
class LayerProgress:
    """The part of a layer that a commit adds to the packed rows which were appended.

    Attributes
    ----------
    pending_frames : int
        Number of newest frames, fewer than eight, that do not fill a packed row yet.
    pending_row : uint8 array, shape [neurons], or None
        The pending frames as one packed row, the first in the most significant bit; None if there are none.
    closed_segments : int64 array, shape [segments, 5]
        Segments finished since the last commit; earlier ones may be among them.
    open_segment : int64 array, shape [0 or 1, 5]
        Segment that may still grow.
    pending_planes : mapping of str to PlaneAtEvents
        The planes of the pending frames that are not silent in them.
    values : ValuesCommit or None
        Scale and range of a layer that has put out other values than 0 and 1, without its planes.
    signals : mapping of str to SignalProgress
        Progress of each signal that has frames.
    """

    pending_frames: int
    pending_row: Packed | None
    closed_segments: Rows
    open_segment: Rows
    pending_planes: Mapping[str, PlaneAtEvents] = field(default_factory=dict)
    values: ValuesCommit | None = None
    signals: Mapping[str, SignalProgress] = field(default_factory=dict)


class LayerWriter:
    """Writes the arrays of one layer; a `TapeWriter` has one of these for each layer.

    An `EventsWriter` writes the events, and a `PlaneWriter` each plane of values. A plane is added when rows
    come of which it says anything; before them it is silent. All fill the same chunk, so that chunks of
    planes are written with that of the events at which their bits are.
    """

    def __init__(
        self,
        commits: SideBySide,
        encoding: InOrder,
        name: str,
        plan: ChunkPlan,
        dtype: str,
        layer_class: str,
        *,
        is_apart: bool = False,
        part: LayerPart | None = None,
    ) -> None:
        self._commits, self._encoding, self._plan = commits, encoding, plan
        self.folder = layer_folder(name, apart=is_apart)
        tables = layer_tables(name, plan, is_apart=is_apart)
        self._spikes: EventsWriter | CountsWriter = (
            CountsWriter(commits, tables, plan)
            if part and part.counts_only
            else EventsWriter(
                BitsArray(commits, encoding, partial(spikes_chunk_key, self.folder, plan), tables, plan)
            )
        )
        self._planes: dict[str, PlaneWriter] = {}
        self.segments = SegmentsWriter(commits, tables.segments, f"layer {name!r}")
        self.pending_frames: Pending = np.empty((0, plan.neurons), np.bool_)
        nothing = TableCommit()
        self._commit = LayerCommit(
            name, layer_class, dtype, plan, 0, nothing, nothing, nothing, (), is_apart=is_apart, part=part
        )
        self._is_committed = False
        self.signals: dict[str, SignalWriter] = {}

    @property
    def _events(self) -> EventsWriter:
        if not isinstance(self._spikes, EventsWriter):
            raise TypeError("values were appended to a layer of which counts are kept")
        return self._spikes

    @classmethod
    def resume(cls, kept: LayerReader, commits: SideBySide, encoding: InOrder) -> LayerWriter:
        """Make a writer that goes on after the committed frames of a layer."""
        plan, commit = kept.plan, kept.commit
        layer = cls(
            *(commits, encoding, kept.name, plan, commit.dtype, commit.layer_class),
            is_apart=commit.is_apart,
            part=commit.part,
        )
        layer._spikes.resume(kept)
        for name, plane in kept.planes.items():
            layer._planes[name] = layer._make_plane(name, first_chunk=plane.first_chunk)
            layer._planes[name].resume(plane, layer._events.begun)
        for signal, reader in kept.signals.items():
            layer.signals[signal] = SignalWriter.resume(reader, commits, encoding, layer.folder)
        layer.segments.resume(kept.segments().rows, may_grow=not commit.counts_only)
        layer.pending_frames = _last_frames(kept)
        layer._commit, layer._is_committed = layer._resumed(commit), True
        return layer

    def _resumed(self, commit: LayerCommit) -> LayerCommit:
        """The commit, without rows for a last, partial chunk and block, which grow again."""
        values = commit.values
        counts_checksums, checksums, _ = self._spikes.promised
        if values is not None:
            promised = {name: plane.promised for name, plane in self._planes.items()}
            planes = (
                replace(
                    plane,
                    counts_checksums=promised[plane.name].counts_checksums,
                    checksums=promised[plane.name].checksums,
                )
                for plane in values.planes
            )
            values = replace(values, planes=tuple(planes))
        return replace(commit, checksums=checksums, counts_checksums=counts_checksums, values=values)

    @property
    def committed(self) -> LayerCommit:
        """The layer as of the last commit."""
        if not self._is_committed:
            raise RuntimeError("a layer is committed before it is asked about")
        return self._commit

    def add_signal(self, about: SignalCommit) -> None:
        """Add a signal whose first values have arrived; ``about`` says what it is, and has no frames."""
        folders = {signal.folder.lower() for signal in self.signals.values()}
        is_apart = about.folder(self.folder).lower() in folders
        about = replace(about, is_apart=is_apart)
        layer = self._commit.name
        self.signals[about.name] = SignalWriter(self._commits, self._encoding, layer, self.folder, about)

    def append_signal(self, name: str, values: Values) -> None:
        """Append values of a signal, [frames, neurons], and write the chunks that they fill."""
        self.signals[name].append(values)

    def append(self, rows: Packed | PackedValues) -> None:
        """Append rows of eight frames, and write the chunks that they fill.

        Parameters
        ----------
        rows : uint8 array, shape [rows, neurons], or PackedValues
            Events alone where all values are 0 and 1.
        """
        left = PackedValues.of(rows)
        self._add_planes(left.planes)
        if isinstance(self._spikes, CountsWriter):
            self._spikes.append(left.spikes)
            return
        while len(left):
            some, left = left.split(self._spikes.room)
            self._spikes.append(some.spikes)
            for name, plane in self._planes.items():
                plane.append(some.planes.get(name), some.events)
            if not self._spikes.room:
                self._finish_chunk(self._spikes)

    def _finish_chunk(self, spikes: EventsWriter) -> None:
        """Have the chunk of events, and that of each plane, written as one piece of work."""
        chunk, rows = spikes.chunk, spikes.take_chunk()
        writers = [*self._planes.values()]
        filled = [plane.take_chunk() for plane in writers]
        pressure = self._encoding.pressure

        def write() -> tuple[list[WrittenChunk], Written]:
            store = Timed(self._commits.store, pressure.level())
            pieces = [each.pieces for each in filled]
            stored = encode_planes(self._plan, rows, pieces, self._encoding, store.level)
            chunks = [
                plane.write_chunk(each, parts, chunk, store)
                for plane, each, parts in zip(writers, filled, stored, strict=True)
            ]
            chunks.append(spikes.write_chunk(rows, chunk, store))
            return chunks, store.written(len(chunks))

        def count(done: tuple[list[WrittenChunk], Written]) -> None:
            chunks, written = done
            pressure.note(written)
            for bits, each in zip([*writers, spikes], chunks, strict=True):
                bits.count_chunk(each)
            spikes.give_back(rows)

        self._encoding.put(write, count)

    def _add_planes(self, names: Iterable[str]) -> None:
        """Add the planes that are new among these, silent in all rows so far."""
        for name in names:
            if name not in self._planes:
                events = count_bits(self._events.begun)
                plane = self._make_plane(name, first_chunk=self._events.chunk, events=events)
                plane.begin_with_silence()
                self._planes[name] = plane

    def _make_plane(self, name: str, *, first_chunk: int, events: int = 0) -> PlaneWriter:
        key = partial(plane_chunk_key, self.folder, name)
        array = BitsArray(self._commits, self._encoding, key, plane_tables(self._commit, name), self._plan)
        return PlaneWriter(array, first_chunk=first_chunk, events=events)

    def count(self, segments: Rows, frames: int) -> None:
        """Count the frames before ``frames``, of these segments, of a layer of which only counts are kept."""
        if isinstance(self._spikes, CountsWriter):
            self._spikes.count(segments, frames)

    def totals(self) -> Counts:
        """Number of events of each neuron, int64 [neurons], in the rows appended so far."""
        return self._spikes.totals()

    def commit(self, progress: LayerProgress, *, close: bool, frames: int | None = None) -> LayerCommit:
        """Write the chunk that is not full and the small arrays; return what a commit may then promise.

        Of a layer of which only counts are kept, it may be of the first ``frames`` frames alone.
        """
        if frames is None:
            frames = self._spikes.frames + progress.pending_frames
        closed, growing = progress.closed_segments, progress.open_segment
        if isinstance(self._spikes, CountsWriter):
            self._spikes.count(np.concatenate([closed, growing]), frames, progress.pending_row)
            closed, growing = self._spikes.end_runs(), no_rows()
        self.segments.append(closed, growing, frames)
        self._add_planes(progress.pending_planes)
        spikes = self._spikes.commit(progress.pending_row, frames, close=close)
        self._commit = replace(
            self._commit,
            frames=frames,
            counts_checksums=spikes.counts_checksums,
            segments=self.segments.flush(growing),
            checksums=spikes.checksums,
            tail=spikes.tail,
            values=self._commit_values(progress, frames, close=close),
            signals=tuple(
                signal.commit(progress.signals.get(name) or signal.last_progress(), close=close)
                for name, signal in self.signals.items()
            ),
        )
        self._is_committed = True
        return self._commit

    def _commit_values(self, progress: LayerProgress, frames: int, *, close: bool) -> ValuesCommit | None:
        values = progress.values or self._commit.values
        if values is None or isinstance(self._spikes, CountsWriter):
            return values
        row = progress.pending_row
        events = self._spikes.tail_rows(row)
        pending = 0 if row is None else count_bits(row)
        begun = [
            plane.begun(progress.pending_planes.get(name), pending) for name, plane in self._planes.items()
        ]
        trains, _ = spread_to_rows(events, [bits for bits, _ in begun])
        stored = encode_planes(self._plan, events, [[each] for each in begun], self._encoding)
        extents = {
            name: plane.commit(some, frames, parts, close=close)
            for (name, plane), some, parts in zip(self._planes.items(), trains, stored, strict=True)
        }
        commits = (
            PlaneCommit(name, self._planes[name].first_chunk, *extents[name]) for name in in_order(extents)
        )
        return replace(values, planes=tuple(commits))

    def cut(
        self, progress: LayerProgress, frames: int | None, given_up: Mapping[str, int]
    ) -> tuple[LayerWriter, LayerProgress]:
        """Give up the newest frames, as if they had never been appended; nothing may be encoded any more.

        Parameters
        ----------
        progress : LayerProgress
            Of all frames.
        frames : int or None
            Frames that stay, of whole steps; None for all of them.
        given_up : mapping of str to int
            Frames that stay of signals, where these are fewer than there are.

        Returns
        -------
        LayerWriter
            Writer that goes on behind the frames that stay; this one is of no use any more.
        LayerProgress
            Of the frames that stay.
        """
        # What is counted cannot be taken back, but nothing is before its forward has ended.
        counted = frames if self._commit.counts_only else None
        whole = read_layer(self._commits.store, self.commit(progress, close=False, frames=counted))
        self._commits.finish()
        frames = whole.frames if frames is None else frames
        left = replace(
            cut_layer(whole, frames),
            signals=tuple(
                signal.cut_to(given_up[name]) if name in given_up else signal.commit
                for name, signal in whole.signals.items()
                if given_up.get(name) != 0
            ),
        )
        kept = LayerWriter.resume(read_layer(self._commits.store, left), self._commits, self._encoding)
        for name, stay in given_up.items():
            chunk_count = whole.signals[name].plan.chunk_count
            self.signals[name].delete_chunks(chunk_count(stay), whole.signals[name].chunks)
        for bits in (self._spikes, *self._planes.values()):
            if not isinstance(bits, CountsWriter):
                bits.delete_chunks(self._plan.chunk_count(frames), self._plan.chunk_count(whole.frames))
        return kept, kept.last_progress()

    def last_progress(self) -> LayerProgress:
        """Progress of a layer to which nothing was appended since it was resumed."""
        pending = self.pending_frames
        row, planes = pending_rows(pending)
        signals = {name: signal.last_progress() for name, signal in self.signals.items()}
        segments = SegmentLog(self.segments.last).look()
        return LayerProgress(len(pending), row, *segments, planes, self._commit.values, signals)


def _last_frames(kept: LayerReader) -> Pending:
    """The last committed frames, which fill no row: booleans, or levels of a layer with values.

    Of a layer of counts silence, in the place of what was counted.
    """
    if kept.commit.counts_only:
        return np.zeros((kept.frames % 8, kept.plan.neurons), np.bool_)
    pending = kept.frames % kept.plan.chunk_frames % 8
    if pending == 0:
        return np.empty((0, kept.plan.neurons), np.bool_ if kept.commit.values is None else np.int16)
    first, last = kept.frames - pending, kept.frames
    if kept.commit.values is None:
        return kept.frame_bits(first, last, kept.chunk_or_silence).reshape(pending, -1)

    def read(chunk: int) -> list[Packed]:
        return [bits.chunk_or_silence(chunk) for bits in kept.bits]

    return read_levels(kept, first, last, read).reshape(pending, -1)
