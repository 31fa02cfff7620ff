"""A recording: its layers, the table of trials, and statistics over layers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import xarray as xr
from dask.base import compute

from analysis.arguments import QuestionError, texts
from analysis.asking.kept import refuse_left_out
from analysis.asking.narrowing import (
    conditions,
    narrow_frames,
    narrow_neurons,
    narrow_recordings,
    recorded_steps,
)
from analysis.display import MAX_LISTED, RecordingSummary, describe_recording, recording_html
from analysis.export import Contents, RecordingExport
from analysis.glimpses import rates_at_a_glance
from analysis.keeping import Kept
from analysis.kernels.selecting.selection import Indices, Selection
from analysis.kernels.selecting.source import Source
from analysis.layer import Layer, summarise_layer
from analysis.members import Members, members_of, presented, refuse_another
from analysis.plotting import Plots
from analysis.questions import UnknownLayerError
from analysis.statistics import Statistics
from analysis.statistics.counted import CountedOperations
from recorder.format import RecordingMetadata
from recorder.format.columns import Value
from recorder.format.record.metadata import State
from recorder.stores.addresses import READS_UNDER_WAY
from recorder.stores.read_ahead import call_ahead
from recorder.tape import TapeReader
from recorder.tape.reading import read_root


class Recording(Statistics, CountedOperations, RecordingExport, Kept):
    """A recording as of the commit that was the newest when it was opened; made by `open_recording`.

    ``per`` in the statistics says what is kept apart: ``"network"``, which is meant where it is left out,
    nothing; ``"layer"`` layers; ``"step"`` or ``"window"`` (with ``window=`` steps) steps of the recording;
    ``"time"`` steps within their trial; ``"trial"``, ``"sample"``, or ``"presentation"``, which is a sample
    of a trial; the name of any column that trials carry, such as ``"label"`` or ``"epoch"``; ``"neuron"`` or
    ``"channel"`` where one layer is selected; ``"recording"`` where several are opened as one; or several of
    them, such as ``("layer", "label", "time")``. What is not kept apart is pooled: all spikes ÷ all slots,
    all silent neurons ÷ all neurons. A column that has the name of one of these words, or of any other axis
    or coordinate of an answer, such as ``"lag"`` or ``"defined"``, is asked for and shown with ``trial_`` in
    front of it, everywhere; `trials` has these names.
    Where the duration of a step was recorded, steps, windows and times have a coordinate in its unit too,
    such as ``time_ms``.

    Several recordings that were opened as one have the frames of all. A neuron of a layer is the same neuron
    in each: it is silent if it never fired in any of them. The ranks of one distributed run also share their
    steps and trials: step 7 is step 7 of each rank, and its batch is the batches of all. Recordings that have
    nothing to do with each other do not; asked per step, window or trial, they are to be kept apart, as in
    ``per=("recording", "step")``. Labels are the same wherever their values are.

    Frames that were damaged and marked lost are in no figure, selection or array: to all of them it is as if
    the layer had not been called in these steps. `Layer.lost_frames` says how many there are.

    Examples
    --------
    >>> recording = open_recording("run.zarr")  # doctest: +SKIP
    >>> recording.firing_rate(per="layer").compute()  # doctest: +SKIP
    >>> float(recording["1"].silent_ratio())  # doctest: +SKIP
    """

    _default_per = "network"

    def __init__(
        self,
        readers: Sequence[TapeReader],
        *,
        use_counts: bool = True,
        selection: Selection | None = None,
        layer_names: tuple[str, ...] | None = None,
        neurons: Mapping[str, tuple[Indices, ...]] | None = None,
        location: str | None = None,
    ) -> None:
        self._members = members_of(readers)
        self._readers = tuple(readers)
        self._location = location
        self._use_counts = use_counts
        self._selection = selection or Selection()
        self._layer_names = layer_names
        self._neurons = dict(neurons or {})
        self._made: list[list[Source]] | None = None

    def refresh(self) -> Recording:
        """See what has been committed since: re-read the commit record, in place.

        Layers and results that were taken from the recording before stay as they are. A selection stays, with
        the bounds that it had.

        Returns
        -------
        Recording
            This recording.

        Raises
        ------
        RecordingReplacedError
            If another recording is there by now, or an earlier or another state of this one. Nothing changes.
        """
        stores = [reader.store for reader in self._readers]
        calls = (partial(read_root, store) for store in stores)
        reads = call_ahead(calls, min(len(stores), READS_UNDER_WAY))
        readers = [TapeReader.parse(*read()) for read in reads]
        for before, now in zip(self._readers, readers, strict=True):
            refuse_another(before, now)
        self._members, self._readers, self._made = members_of(readers), tuple(readers), None
        return self

    def anywhere(self) -> Recording:
        """The same recording, whole, whose tasks have the same names wherever a copy of it lies."""
        readers = [reader.anywhere() for reader in self._readers]
        return Recording(readers, use_counts=self._use_counts, location=self._location)

    @property
    def recordings(self) -> Mapping[str, Recording]:
        """Each of the recordings that were opened as one, by name; of a single one, that one."""
        names = self._members.names
        return MappingProxyType({name: self.select(recordings=name) for name in names})

    @property
    def members(self) -> Members:
        """The recordings that were opened as one; for the other files of this package."""
        return self._members

    @property
    def layers(self) -> Mapping[str, Layer]:
        """The selected layers by name, in network order."""
        return MappingProxyType(
            {sources[0].layer: Layer(sources, self._members) for sources in self._sources()}
        )

    @property
    def plot(self) -> Plots:
        """Pictures for notebooks and papers: ``recording.plot.raster()``, ``.rates()``, ``.heatmap()``."""
        return Plots(self, "layer", lambda: {name: layer.spikes for name, layer in self.layers.items()})

    @property
    def trials(self) -> xr.Dataset:
        """Table of trials: a row for each sample of each selected trial, along ``presentation``.

        Variables ``trial``, ``sample``, ``label`` if given, and whatever was attached; ``recording`` where
        several are opened as one. In memory, not lazy. Where whole numbers are missing in a column, it is
        given as float64 with NaN, or as objects, ints and None, where float64 does not have all of them;
        missing text is NaN too. A column that holds whole numbers in one recording and floats in another is
        given as objects, so that ``1`` and ``1.0`` stay apart. Names are those by which columns are asked
        for: ``trial_step`` for a column ``step``, see the class.
        """
        return presented(self._readers, self._members.names, self._selection)

    @property
    def metadata(self) -> RecordingMetadata:
        """Everything the commit record says; of several recordings, each has its own: QuestionError."""
        if len(self._readers) > 1:
            raise QuestionError(
                f"{len(self._readers)} recordings are opened as one, and each has metadata and provenance of "
                "its own: ask one of recording.recordings"
            )
        return self._readers[0].metadata

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Notes of the recorder: what was recorded, where and with what; errors as `metadata`."""
        return MappingProxyType(dict(self.metadata.provenance))

    @property
    def state(self) -> State:
        """``"closed"``, or ``"recording"``: still growing, or interrupted, as one of several may be."""
        states = {reader.metadata.state for reader in self._readers}
        return "recording" if "recording" in states else "closed"

    @property
    def location(self) -> str:
        """Path or URL; of several recordings what they were opened by, or the first one and a number."""
        first = self._readers[0].store.location
        if len(self._readers) == 1:
            return first
        return self._location or f"{first} and {len(self._readers) - 1} more"

    @property
    def steps(self) -> int:
        """Number of steps recorded, whatever is selected; of several recordings the most that one has."""
        return max((recorded_steps(sources) for sources in self._sources()), default=0)

    def stored_spike_bytes(self, name: str) -> int:
        """Bytes that the spikes of a layer take in the store, or their counts where only these were kept."""
        each = [(source.store, source.commit) for source in self[name].sources]
        arrays = ((store, commit, "counts" if commit.counts_only else "spikes") for store, commit in each)
        return sum(store.size(f"{commit.folder}/{array}") for store, commit, array in arrays)

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        other: Recording | None = None,
        run: Callable[..., tuple[Any, ...]] = compute,
    ) -> Path:
        """Write a page that shows the recording: findings in words, pictures, and the numbers behind them.

        The page is one file of at most 3 MB, which opens in any browser, also from a disk, and makes no
        request. It is the same to the last byte for the same recording. All numbers come from the public
        statistics, computed in one pass; expensive ones are of a part of a large recording, which the page
        names. Under each picture stands the line of Python that gives its numbers, and a button for them.

        Parameters
        ----------
        path : str or path
            Where to write; a file that is there is replaced.
        other : Recording, optional
            Another recording to show beside this one, with how they differ, and what `analysis.compare`
            finds. Layers are those of this one.
        run : callable
            Function that computes, as `dask.compute` does.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        RecordingFormatError
            If something is missing or damaged; it names file, layer and frames.
        """
        from analysis.report import write_report  # noqa: PLC0415 - the room above, which asks recordings

        return write_report([self] if other is None else [self, other], path, run=run)

    def select(
        self,
        *,
        steps: slice | None = None,
        time: slice | None = None,
        layers: str | Iterable[str] | None = None,
        neurons: Any = None,
        channels: int | slice | Iterable[int] | None = None,
        samples: int | slice | Iterable[int] | None = None,
        trials: int | slice | Iterable[int] | None = None,
        labels: Value | Iterable[Value] | None = None,
        where: Mapping[str, Value | Iterable[Value]] | None = None,
        recordings: str | Iterable[str] | None = None,
    ) -> Recording:
        """A narrower view of the recording; nothing is read or copied. Selections add up.

        Parameters
        ----------
        steps : slice, optional
            Steps, as in Python and without a stride; negative bounds count from the last recorded step, of
            the rank that has the most where there are several.
        time : slice, optional
            Times: steps since the first step of the trial, in any layer. Not counted back from an end, as
            trials may be of any length. Leaves out frames outside of trials.
        layers : str or iterable of str, optional
            Names of layers. They stay in network order.
        neurons : index, or tuple of indices, optional
            Neurons by an int, a slice, ints or a mask along each neuron axis, as in
            ``numpy.s_[:, ::2, ::2]``; of every selected layer. Indices count in the whole layer, before and
            after, and stay coordinates. A mask, here and below, is as many booleans as there are places.
        channels : int, slice or iterable of int, optional
            Likewise, along the first of several neuron axes.
        samples : int, slice or iterable of int, optional
            Numbers of samples in their batch.
        trials : int, slice or iterable of int, optional
            Only these trials.
        labels : label or iterable of labels, optional
            Only samples with one of these labels: short for ``where={"label": ...}``.
        where : mapping, optional
            Names of columns of the trials, and one value or several; only samples that have one of them in
            every column. ``True``, ``1``, ``1.0`` and ``"1"`` are four values; where all values of a column
            are floats, a whole number stands for the float.
        recordings : str or iterable of str, optional
            Names of recordings, where several are opened as one; see `recordings`.

        Raises
        ------
        UnknownLayerError
            If there is no such layer; it lists those there are.
        QuestionError
            If there is no such column, value, trial, sample, neuron, channel or recording, a slice of steps
            or times has a stride, or it counts back from different ends; or if an argument is of another
            type, which is a TypeError, too.
        """
        names = self._layer_names
        if layers is not None:
            wanted = texts(layers, "layers", "names of layers")
            valid = [layer[0].layer for layer in self._sources()]
            for name in wanted:
                if name not in valid:
                    raise UnknownLayerError(name, valid)
            names = tuple(name for name in valid if name in wanted)
        readers = [self._readers[place] for place in narrow_recordings(self._members.names, recordings)]
        sources = self._sources()
        selection = narrow_frames(
            self._selection,
            sources,
            self._members,
            steps=steps,
            time=time,
            samples=samples,
            trials=trials,
            where=conditions(labels, where),
        )
        kept_neurons = dict(self._neurons)
        for layer in sources:
            name = layer[0].layer
            if names is None or name in names:
                narrowed = narrow_neurons(layer[0], neurons, channels).neurons
                kept_neurons |= {} if narrowed is None else {name: narrowed}
        return Recording(
            readers,
            use_counts=self._use_counts,
            selection=selection,
            layer_names=names,
            neurons=kept_neurons,
            location=self._location if len(readers) == len(self._readers) else None,
        )

    def __getitem__(self, name: str) -> Layer:
        """The layer of this name; UnknownLayerError, which lists the layers there are, if there is none."""
        layers = self.layers
        if name not in [*layers]:
            raise UnknownLayerError(name, layers)
        return layers[name]

    def __contains__(self, name: object) -> bool:
        return name in self.layers

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return describe_recording(self._summary())

    def _repr_html_(self) -> str:
        return recording_html(self._summary(), rates_at_a_glance(self._sources()[:MAX_LISTED]))

    def _layers(self) -> Sequence[Sequence[Source]]:
        for sources in self._sources():
            refuse_left_out(sources)
        return self._sources()

    def _sources(self) -> list[list[Source]]:
        """Each selected layer, in network order, in each recording; made once, as there may be thousands."""
        if self._made is None:
            self._made = self._make_sources()
        return self._made

    def _make_sources(self) -> list[list[Source]]:
        every = (layer.name for layer in self._readers[0].metadata.layers)
        names = [name for name in every if self._layer_names is None or name in self._layer_names]
        commits = [{layer.name: layer for layer in reader.metadata.layers} for reader in self._readers]
        sources = []
        for name in names:
            # One for all recordings, of which there may be thousands.
            selection = replace(self._selection, neurons=self._neurons.get(name))
            each = zip(self._readers, commits, strict=True)
            sources.append(
                [Source.of(reader, layers[name], selection, self._use_counts) for reader, layers in each]
            )
        return sources

    def _contents(self) -> Contents:
        return Contents(self._members, self._sources(), self._selection, self._readers)

    def _summary(self) -> RecordingSummary:
        every = [reader.metadata for reader in self._readers]
        return RecordingSummary(
            location=self.location,
            state=self.state,
            created=min(metadata.created for metadata in every),
            committed=max(metadata.committed for metadata in every),
            trials=max(metadata.trials.trials for metadata in every),
            recordings=self._members.names,
            selected=self._selection.parts(),
            layers=[summarise_layer(sources, self._members) for sources in self._sources()],
            uncalled={name: step for metadata in every for name, step in metadata.uncalled.items()},
        )
