"""A layer of a recording, described in little: what travels with tasks, and the tables behind it.

The tables that a task needs are read once in each process.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.rounds import decoded
from analysis.kernels.selecting.selected_frames import SelectedFrames
from analysis.kernels.selecting.selection import Indices, Labels, Selection, count_below
from analysis.kernels.selecting.trial_table import ColumnCodes, TrialRows, TrialStarts
from recorder.format import LayerCommit
from recorder.format.bits import Packed
from recorder.format.connections import Connections
from recorder.format.record.metadata import TrialsCommit
from recorder.format.record.operations import OPERATIONS, OperationsCommit
from recorder.stores import ByteStore
from recorder.tape import LayerReader, TapeReader
from recorder.tape.layers.counts_reading import read_layer
from recorder.tape.layers.signal_reading import SignalReader


@dataclass(frozen=True)
class Source:
    """The frames and neurons of one layer, as of one commit, that a question is about.

    Two sources are equal if they stand for the same slots of the same commit; results and tables are shared
    by that.

    Attributes
    ----------
    identity : str
        Of commit and store, see `recorder.tape.TapeReader.identity`.
    layer : str
    selection : Selection
    use_counts : bool
        Whether ``counts`` may be used; otherwise every spike is counted from the bits.
    store : ByteStore
    commit : LayerCommit
    trials : TrialsCommit
    siblings : tuple of LayerCommit
        All layers of the recording, this one among them. They do not travel.
    starts : TrialStarts, optional
        First steps of the trials, where times are looked at, see `with_starts`.
    bits : tuple of str
        Planes of the layer's values of which all must be true, see `of_bits`; none for its events.
    signal : str
        Name of a signal of the layer, whose frames are meant then; empty for those of the spikes.
    connections : Connections, optional
        Which weight layers read the layers of the recording, where that is known. They do not travel.
    operations : OperationsCommit, optional
        Operations of weight layers that were counted in the recording, likewise.
    """

    identity: str
    layer: str
    selection: Selection
    use_counts: bool
    store: ByteStore = field(compare=False, repr=False)
    commit: LayerCommit = field(compare=False, repr=False)
    trials: TrialsCommit = field(compare=False, repr=False)
    siblings: tuple[LayerCommit, ...] = field(default=(), compare=False, repr=False)
    starts: TrialStarts | None = field(default=None, compare=False, repr=False)
    bits: tuple[str, ...] = ()
    signal: str = ""
    connections: Connections | None = field(default=None, compare=False, repr=False)
    operations: OperationsCommit | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, reader: TapeReader, commit: LayerCommit, selection: Selection, use_counts: bool) -> Source:
        """A selected part of a layer of a recording."""
        source = cls(
            identity=reader.identity,
            layer=commit.name,
            selection=selection,
            use_counts=use_counts,
            store=reader.store,
            commit=commit,
            trials=reader.metadata.trials,
            siblings=reader.metadata.layers,
            connections=reader.metadata.connections,
            operations=reader.metadata.operations,
        )
        return source if selection.times is None else source.with_starts()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "siblings": (), "connections": None, "operations": None}

    def narrowed(self, selection: Selection) -> Source:
        """The same layer with another selection."""
        source = replace(self, selection=selection)
        return source if selection.times is None else source.with_starts()

    def of_bits(self, bits: tuple[str, ...]) -> Source:
        """The slots of some planes of the layer's values in place of its events.

        Everything that is named by the identity, such as decoded chunks and sums, is then another.
        """
        if not bits:
            return self
        identity = f"{self.identity} {'&'.join(bits)}"
        return replace(self, identity=identity, bits=bits, use_counts=self.use_counts and len(bits) == 1)

    def of_signal(self, name: str) -> Source:
        """The frames of a signal of the layer, in the same selection."""
        return replace(self, signal=name)

    def of_operations(self) -> Source:
        """The operations that were counted in the recording, in the same selection of frames.

        They stand for a signal of which the layer has no other.
        """
        if self.operations is None:
            raise RuntimeError("operations are asked for where none were counted")
        return replace(
            self,
            identity=f"{self.identity} {OPERATIONS}",
            commit=replace(self.commit, signals=(self.operations,)),
            selection=replace(self.selection, neurons=None),
            signal=OPERATIONS,
        )

    def with_starts(self) -> Source:
        """The same source, with the first steps of the trials, in any layer of the recording."""
        return self if self.starts is not None else replace(self, starts=_starts(_any_layer(self)))

    @property
    def along(self) -> tuple[Indices, ...] | None:
        """Indices in the whole layer of the neurons that are kept and selected; None where all are."""
        return self.commit.along if self.selection.neurons is None else self.selection.neurons

    @property
    def indices(self) -> tuple[Indices, ...]:
        """The same, of all neurons too."""
        along = self.along
        return tuple(map(range, self.commit.axes)) if along is None else along

    @property
    def neuron_shape(self) -> tuple[int, ...]:
        """Shape of the selected neurons."""
        along = self.along
        return self.commit.plan.neuron_shape if along is None else tuple(map(len, along))

    @property
    def neurons(self) -> int:
        """Number of selected neurons."""
        return math.prod(self.neuron_shape)


def reader_of(source: Source) -> LayerReader:
    """Reader of the source's layer, kept in this process so that its tables are read once.

    Of several planes it is that of the first; its bits are not those of the source then, see `read_trains`.
    """
    return _reader(_whole(source))


def signal_of(source: Source) -> SignalReader:
    """Reader of the signal that a source stands for; it is kept likewise."""
    return reader_of(source).signals[source.signal]


def rows_of(source: Source) -> TrialRows:
    """Rows of the table of trials, kept in this process; errors as in `TrialRows.read`."""
    return _rows(_any_layer(source))


def column_of(source: Source, name: str, values: Labels | None = None) -> ColumnCodes:
    """A column of the trials, kept in this process; errors as in `ColumnCodes.read`.

    Its codes are places among ``values``, if they are given: those of several recordings, or some of them.
    """
    return _column(_any_layer(source), name, values)


def common_values(sources: Sequence[Source], name: str) -> Labels:
    """Values of a column in any of the sources: numbers ascending, anything else in order of appearance."""
    return Labels.numbers_ascending(value for source in sources for value in column_of(source, name).values)


# Of several recordings, each layer of each is a source.
@lru_cache(maxsize=128)
def frames_of(source: Source, with_rows: bool = False) -> SelectedFrames:
    """The source's frames, kept in this process.

    Parameters
    ----------
    source : Source
    with_rows : bool
        Whether the rows of samples in the table of trials will be asked for.

    Raises
    ------
    RecordingFormatError
        If the table of segments or of trials is damaged.
    """
    selection = source.selection
    rows = rows_of(source) if with_rows or selection.where else None
    columns = [column_of(source, name, values) for name, values in selection.where]
    reader = signal_of(source) if source.signal else reader_of(source)
    return SelectedFrames(reader.kept_segments(), selection, rows, columns, source.starts)


def read_trains(source: Source, chunks: Sequence[int]) -> Iterator[Packed]:
    """Packed trains of the selected neurons in each of some chunks, valid until the next.

    Raises
    ------
    RecordingFormatError
        If a chunk is missing or damaged; it names file, layer and frames.
    """
    if len(source.bits) > 1:
        each = [replace(source, bits=(plane,)) for plane in source.bits]
        for pieces in zip(*(read_trains(one, chunks) for one in each), strict=True):
            yield np.bitwise_and.reduce(pieces)
        return
    reader, plan = reader_of(source), source.commit.plan
    kept = kept_neurons(source)
    if kept is None or plan.parts == 1:
        for trains in read_whole(source, chunks):
            yield trains if kept is None else trains[kept]
        return
    slices = [plan.part_slice(part) for part in range(plan.parts)]
    inside = [kept[(kept >= part.start) & (kept < part.stop)] - part.start for part in slices]
    needed = [part for part in range(plan.parts) if len(inside[part])]
    wanted = [(chunk, part) for chunk in chunks for part in needed]
    read = decoded(_owner(source), wanted, lambda some, passing: reader.parts(some, passing=passing))
    for _ in chunks:
        yield np.concatenate([next(read)[inside[part]] for part in needed])


def read_whole(source: Source, chunks: Sequence[int]) -> Iterator[Packed]:
    """Packed trains of all stored neurons in each of some chunks, valid until the next; errors likewise."""
    reader = reader_of(source)
    return decoded(_owner(source), chunks, lambda some, passing: reader.chunks(some, passing=passing))


def _owner(source: Source) -> tuple[str, str, tuple[str, ...]]:
    """Under what decoded chunks of a source are kept in a round, see `decoded`."""
    return source.identity, source.layer, source.bits


@lru_cache(maxsize=128)
def kept_neurons(source: Source) -> NDArray[np.int64] | None:
    """Places of the selected neurons among those that are stored, ascending; None for all of them."""
    if source.selection.neurons is None:
        return None
    return _flat(stored_places(source), source.commit.plan.neuron_shape)


def stored_places(source: Source) -> list[NDArray[np.int64]]:
    """Places, along each axis, of the kept and selected neurons among those that are stored."""
    stored = source.commit.along
    each = [np.array(axis, np.int64) for axis in source.indices]
    return each if stored is None else list(map(count_below, stored, each))


def selected_neurons(source: Source) -> NDArray[np.int64] | None:
    """Flat indices in the whole layer of the neurons that a user has selected; None where nobody has."""
    return None if source.selection.neurons is None else real_neurons(source)


def real_neurons(source: Source) -> NDArray[np.int64]:
    """Flat indices in the whole layer of the neurons that are kept and selected."""
    return _flat([np.array(axis, np.int64) for axis in source.indices], source.commit.axes)


def _flat(along: Sequence[NDArray[np.int64]], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Flat indices, in C order, of all neurons with these indices along each axis."""
    flat = np.zeros((), np.int64)
    for axis, length in zip(along, shape, strict=True):
        flat = flat[..., None] * length + axis
    return flat.reshape(-1)


def _whole(source: Source) -> Source:
    return replace(source, selection=Selection(), starts=None, signal="")


def _any_layer(source: Source) -> Source:
    return replace(source, layer="", selection=Selection(), use_counts=True, starts=None, bits=(), signal="")


@lru_cache(maxsize=256)
def _reader(source: Source) -> LayerReader:
    layer = read_layer(source.store, source.commit)
    return layer.planes[source.bits[0]] if source.bits else layer


@lru_cache(maxsize=32)
def _rows(source: Source) -> TrialRows:
    return TrialRows.read(source.store, source.trials)


@lru_cache(maxsize=64)
def _column(source: Source, name: str, values: Labels | None) -> ColumnCodes:
    if values is not None:
        return _column(source, name, None).recoded(values)
    return ColumnCodes.read(source.store, source.trials, name)


@lru_cache(maxsize=64)
def _starts(source: Source) -> TrialStarts:
    layers = [LayerReader(source.store, commit) for commit in source.siblings or (source.commit,)]
    return TrialStarts.of([layer.segments() for layer in layers])
