"""A recording: its layers, the table of trials, and statistics over layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr

from analysis.digest import find_digest
from analysis.display import RecordingSummary, describe_recording, recording_html
from analysis.errors import UnknownLayerError
from analysis.layer import Layer, recorded_steps, summarise_layer
from analysis.questions import Per, parse_question
from analysis.selecting import narrow_labels, narrow_steps, narrow_trials
from analysis.statistics import Statistic, compute_lazily
from recorder.format.counting import Source, labels_of
from recorder.format.layout import layer_folder
from recorder.format.metadata import RecordingMetadata, State
from recorder.format.reading import TapeReader
from recorder.format.selection import LABEL, Selection
from recorder.format.trials import MISSING_INTEGER, Value


class Recording:
    """A recording as of the commit that was the newest when it was opened; made by `open_recording`.

    ``per`` in the statistics says what is kept apart: ``"network"`` nothing, ``"layer"`` layers, ``"step"``,
    ``"window"`` (with ``window=`` steps), ``"trial"`` or ``"label"``; ``"neuron"`` or ``"channel"`` where one
    layer is selected; or several of them, such as ``("layer", "step")``. What is not kept apart is pooled:
    all spikes ÷ all slots, all silent neurons ÷ all neurons.

    Examples
    --------
    >>> recording = open_recording("run.zarr")  # doctest: +SKIP
    >>> recording.firing_rate(per="layer").compute()  # doctest: +SKIP
    >>> float(recording["1"].silent_ratio())  # doctest: +SKIP
    """

    def __init__(
        self,
        reader: TapeReader,
        *,
        use_counts: bool = True,
        selection: Selection | None = None,
        layer_names: tuple[str, ...] | None = None,
    ) -> None:
        self._reader = reader
        self._use_counts = use_counts
        self._selection = selection or Selection()
        self._layer_names = layer_names

    def refresh(self) -> Recording:
        """See what has been committed since: re-read the commit record, in place.

        Layers and results that were taken from the recording before stay as they are. A selection stays, with
        the bounds that it had.

        Returns
        -------
        Recording
            This recording.
        """
        self._reader = TapeReader.open(self._reader.store)
        return self

    @property
    def layers(self) -> Mapping[str, Layer]:
        """The selected layers by name, in network order."""
        return MappingProxyType({source.layer: Layer(source) for source in self._sources()})

    @property
    def trials(self) -> xr.Dataset:
        """What was presented: a row for each sample of each selected trial, along ``presentation``.

        Variables ``trial``, ``sample``, ``label`` if given, and whatever was attached. In memory, not lazy.
        Where whole numbers are missing in a column, it is given as float64 with NaN; missing text is NaN too.
        """
        columns = self._reader.trials()
        rows = np.ones(len(columns["trial"]) if columns else 0, np.bool_)
        if self._selection.trials is not None and columns:
            rows &= np.isin(columns["trial"], np.array(self._selection.trials, np.int64))
        if self._selection.labels is not None:
            rows &= np.array([value in self._selection.labels for value in columns[LABEL].tolist()], np.bool_)
        kept = {name: _with_nan(values[rows]) for name, values in columns.items()}
        return xr.Dataset({name: xr.Variable(("presentation",), values) for name, values in kept.items()})

    @property
    def metadata(self) -> RecordingMetadata:
        """Everything the commit record says."""
        return self._reader.metadata

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What was recorded, where and with what, as the recorder noted it."""
        return MappingProxyType(dict(self.metadata.provenance))

    @property
    def state(self) -> State:
        """``"closed"``, or ``"recording"``: still growing, or interrupted."""
        return self.metadata.state

    @property
    def location(self) -> str:
        """Path or URL."""
        return self._reader.store.location

    @property
    def steps(self) -> int:
        """Number of steps recorded, whatever is selected."""
        return recorded_steps(self._sources())

    def stored_bytes(self) -> int:
        """Bytes that the recording takes in its store; asks about every file, which may take a while."""
        return self._reader.store.size("")

    def stored_spike_bytes(self, name: str) -> int:
        """Bytes that the spikes of a layer take in the store."""
        return self._reader.store.size(f"{layer_folder(self[name].name)}/spikes")

    def digest(self) -> str:
        """SHA-256 over all that was recorded, to quote: 64 hexadecimal digits, the same for every form of it.

        As recorded, packed, zipped or in a bucket: names and shapes of layers, spikes, steps, samples,
        trials and labels enter it, whatever is selected; provenance and the way of storing do not. Reads
        every chunk; computed at once, on the active Dask scheduler. FORMAT.md defines it.

        Raises
        ------
        RecordingFormatError
            If something is missing or damaged; it names file, layer and frames.
        """
        return find_digest(self._reader)

    def firing_rate(self, per: Per = "network", *, window: int | None = None) -> xr.DataArray:
        """Spikes per neuron and step: spikes ÷ slots, between 0 and 1, pooled over layers unless kept apart.

        Parameters
        ----------
        per : str or sequence of str
            What is kept apart, see `Recording`.
        window : int, optional
            Steps in a window, for ``per="window"``. Windows are counted from step 0, or from the first step
            of ``select(steps=...)``; the last may be shorter.

        Returns
        -------
        xarray.DataArray of float64
            Lazy (dask). NaN where there are no frames; layers without frames in a group are left out of the
            pool there.

        Raises
        ------
        QuestionError
            If ``per`` or ``window`` makes no sense, or not for this recording.
        RecordingFormatError
            If a table that is needed is damaged; when computed, if a chunk is missing or damaged.
        """
        return self._ask("firing_rate", per, window)

    def silent_ratio(self, per: Per = "network", *, window: int | None = None) -> xr.DataArray:
        """Neurons that never fired in any frame looked at ÷ neurons; otherwise as `firing_rate`.

        Per step that is any sample of the step, per label any frame with that label; per neuron 0 or 1.
        """
        return self._ask("silent_ratio", per, window)

    def spike_count(self, per: Per = "network", *, window: int | None = None) -> xr.DataArray:
        """Number of spikes, int64 and 0 where there are no frames; otherwise as `firing_rate`."""
        return self._ask("spike_count", per, window)

    def select(
        self,
        *,
        steps: slice | None = None,
        layers: str | Iterable[str] | None = None,
        labels: Value | Iterable[Value] | None = None,
        trials: int | slice | Iterable[int] | None = None,
    ) -> Recording:
        """A narrower view of the recording; nothing is read or copied. Selections add up.

        Parameters
        ----------
        steps : slice, optional
            Steps, as in Python and without a stride; negative bounds count from the last recorded step.
        layers : str or iterable of str, optional
            Names of layers. They stay in network order.
        labels : label or iterable of labels, optional
            Only samples with one of these labels.
        trials : int, slice or iterable of int, optional
            Only these trials.

        Raises
        ------
        UnknownLayerError
            If there is no such layer; it lists those there are.
        QuestionError
            If there is no such label or trial, or the slice has a stride.
        """
        sources = self._sources()
        selection = narrow_steps(self._selection, steps, lambda: recorded_steps(sources))
        selection = narrow_trials(selection, trials, self.metadata.trials.trials)
        selection = narrow_labels(selection, labels, lambda: labels_of(sources[0]).values if sources else ())
        names = self._layer_names
        if layers is not None:
            wanted = {layers} if isinstance(layers, str) else set(layers)
            valid = [source.layer for source in sources]
            for name in wanted:
                if name not in valid:
                    raise UnknownLayerError(name, valid)
            names = tuple(name for name in valid if name in wanted)
        return Recording(self._reader, use_counts=self._use_counts, selection=selection, layer_names=names)

    def __getitem__(self, name: str) -> Layer:
        """The layer of this name; UnknownLayerError, which lists the layers there are, if there is none."""
        layers = self.layers
        if name not in layers:
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
        return recording_html(self._summary())

    def _ask(self, statistic: Statistic, per: Per, window: int | None) -> xr.DataArray:
        return compute_lazily(statistic, self._sources(), parse_question(per, window))

    def _sources(self) -> list[Source]:
        metadata = self.metadata
        return [
            Source(
                location=self.location,
                recording_id=metadata.recording_id,
                commit_number=metadata.commit_number,
                layer=commit.name,
                selection=self._selection,
                use_counts=self._use_counts,
                store=self._reader.store,
                commit=commit,
                trials=metadata.trials,
            )
            for commit in metadata.layers
            if self._layer_names is None or commit.name in self._layer_names
        ]

    def _summary(self) -> RecordingSummary:
        metadata, selection = self.metadata, self._selection
        parts = {"steps": selection.steps, "trials": selection.trials, "labels": selection.labels}
        return RecordingSummary(
            location=self.location,
            state=metadata.state,
            created=metadata.created,
            committed=metadata.committed,
            trials=metadata.trials.trials,
            selected={name: values for name, values in parts.items() if values is not None},
            layers=[summarise_layer(source) for source in self._sources()],
        )


def _with_nan(values: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]]:
    missing = values == MISSING_INTEGER if values.dtype == np.int64 else np.zeros(len(values), np.bool_)
    return np.where(missing, np.nan, values) if missing.any() else values
