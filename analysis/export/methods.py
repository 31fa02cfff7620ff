"""What users call to hand a recording over."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd
from dask.base import compute

from analysis.arguments import QuestionError, check_choice, real_number
from analysis.export.contents import Contents, Run, with_events
from analysis.export.timeline import timeline_of
from analysis.export.trains import needed, presentations_table, to_neo, to_pynapple

Form = Literal["parquet", "nwb"]
FORMS: Final = ("parquet", "nwb")
MAX_BYTES: Final = 2**30


class LayerExport(ABC):
    """The way out of a layer, into memory."""

    @abstractmethod
    def _contents(self, neurons: Any = None) -> Contents:
        """What is handed over, of some neurons."""

    def events(self) -> Any:
        """All events as a lazy table of Dask: a row for each slot whose value is not 0.

        Returns
        -------
        dask.dataframe.DataFrame
            Whole numbers ``neuron`` (flat index in the layer, in C order), ``trial``, ``sample``, ``time``
            (steps since the first step of the trial) and ``step``, of 32 bits where these are enough;
            ``trial`` and ``time`` are nullable where there are frames outside of trials. ``value`` has what
            layers with values other than 0 and 1 put out, ``recording`` the name of the recording where there
            are several. A partition has the events of some steps, ascending by neuron, then by step and
            sample, of about 4 MiB of packed bits; partitions follow each other.

        Raises
        ------
        RecordingFormatError
            When computed, if a chunk is missing or damaged; it names file, layer and frames.

        Examples
        --------
        >>> layer.events().groupby("neuron").size().nlargest(10).compute()  # doctest: +SKIP
        """
        from analysis.export.tables import lazy_events  # noqa: PLC0415 - dask's tables take their time

        return lazy_events(with_events(self._contents(), "events()"))

    def to_pynapple(
        self,
        neurons: Any = None,
        *,
        dt: float | None = None,
        dt_unit: str | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> Any:
        """Spike trains of the selected neurons, for pynapple; computed at once, on the active scheduler.

        pynapple knows one line of time: presentations are laid on it end to end, recording after recording,
        by first step, then sample after sample; steps outside of trials likewise, each sample of each run of
        them for itself. A spike is at the beginning of its step. `presentations` has the bounds of each.

        Parameters
        ----------
        neurons : index, or tuple of indices, optional
            As in `select`.
        dt, dt_unit : float and str, optional
            Duration of a step, where it was not recorded; ``"s"`` if there is no unit.
        max_bytes : int
            What the spikes may take in memory.

        Returns
        -------
        pynapple.TsGroup
            The times of each neuron in seconds, silent neurons too, by its flat index in the whole layer;
            metadata ``layer`` and the place along each axis. ``time_support`` is cut where the layer was not
            called, and at lost steps.

        Raises
        ------
        QuestionError
            If nobody knows how long a step is, or there are too many spikes.
        ModuleNotFoundError
            If pynapple is not installed: ``pip install 'spiketape[neuro]'``.

        Examples
        --------
        >>> group = layer.to_pynapple(neurons=np.s_[:10])  # doctest: +SKIP
        >>> table = layer.presentations()  # doctest: +SKIP
        >>> nap.IntervalSet(table[table.label == 3])  # doctest: +SKIP
        """
        contents = with_events(self._contents(neurons), "to_pynapple()")
        max_bytes = real_number(max_bytes, "max_bytes", "a number of bytes")
        return to_pynapple(contents, timeline_of(contents, dt, dt_unit), max_bytes, compute)

    def to_neo(
        self,
        neurons: Any = None,
        *,
        dt: float | None = None,
        dt_unit: str | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> Any:
        """Spike trains of the selected neurons, for neo and elephant; otherwise as `to_pynapple`.

        Returns
        -------
        neo.Block
            One segment with a ``neo.SpikeTrain`` for each neuron, annotated with ``layer``, ``neuron`` and
            its place along each axis, an epoch ``presentations``, annotated with all columns of the trials,
            and an epoch ``recorded``, which is cut where the layer was not called, and at lost steps.
        """
        contents = with_events(self._contents(neurons), "to_neo()")
        max_bytes = real_number(max_bytes, "max_bytes", "a number of bytes")
        return to_neo(contents, timeline_of(contents, dt, dt_unit), max_bytes, compute)

    def presentations(self, *, dt: float | None = None, dt_unit: str | None = None) -> pd.DataFrame:
        """Where `to_pynapple`, `to_neo` and NWB have each presentation; in memory.

        Returns
        -------
        pandas.DataFrame
            ``start_time`` and ``stop_time`` in seconds, ``recording`` where there are several, ``trial``, -1
            for none, ``sample``, ``first_step``, ``steps``, and the columns of the trials.

        Raises
        ------
        QuestionError
            If nobody knows how long a step is.
        """
        contents = self._contents()
        return presentations_table(contents, timeline_of(contents, dt, dt_unit))


class RecordingExport(ABC):
    """The way out of a recording."""

    @abstractmethod
    def _contents(self) -> Contents:
        """What is handed over."""

    def export(
        self,
        out: str | os.PathLike[str],
        to: Form = "parquet",
        *,
        dt: float | None = None,
        dt_unit: str | None = None,
        digest: bool = True,
        run: Run = compute,
    ) -> Path:
        """Write all events of the selected part in a form that other tools read; on the active scheduler.

        ``"parquet"``: a folder with ``layer=<name>/part-<k>.parquet``, ``neurons.parquet``,
        ``trials.parquet`` and ``metadata.json``, for DuckDB, polars, pandas, Spark, R and whatever else reads
        Parquet. An event, a slot whose value is not 0, is a row: ``neuron`` (flat index in C order),
        ``trial``, ``sample``, ``time`` (steps since the first step of the trial) and ``step``, whole numbers;
        ``trial`` and ``time`` are null outside of trials. Where a layer has values other than 0 and 1, there
        is ``value``, 1 for spikes of the others; several recordings that were opened as one have
        ``recording``. Rows of a file are ascending
        by neuron, then by step and sample; each file has some steps, and files follow each other. Names of
        layers are percent-encoded, as readers of such folders expect. ``neurons.parquet`` has a row for each
        neuron, silent ones too, with its place along each axis; ``trials.parquet`` one for each presentation,
        with its first step, its number of steps and all that was attached. ``metadata.json`` is written last
        and has the digest, the duration of a step, lost steps, and the files of each layer. Each task
        writes a file.

        ``"nwb"``: a file of NWB, ``<out>.nwb``. Each neuron is a unit, with ``layer``, ``neuron``, its place
        along each axis, spike times in seconds, and ``obs_intervals``, which are cut where the layer was not
        called, and at lost steps; ``resolution`` is a step. Presentations are laid end to end, as
        `Layer.presentations` says, and are the ``trials``, with all columns: what is missing is NaN, or empty
        text; columns of several kinds are JSON. Values of events are left out. This process writes the file,
        and every chunk is read once for each 4 million events of its layer.

        Memory grows with neither the recording nor the number of events, in both forms.

        Parameters
        ----------
        out : path
            In a file system that all workers share. Nothing must be there; it appears when all is written,
            and what fails leaves nothing.
        to : {"parquet", "nwb"}
        dt, dt_unit : float and str, optional
            For NWB: duration of a step, where it was not recorded; ``"s"`` if there is no unit.
        digest : bool
            Whether to compute the digest of a whole recording that does not state it, which reads every
            chunk. Where a part is selected, only a digest that a packed recording states is written.
        run : callable
            Function that computes, as `dask.compute` does.

        Returns
        -------
        Path
            ``out``.

        Raises
        ------
        QuestionError
            If something is at ``out``, ``to`` is unknown, or NWB is asked for and nobody knows how long a
            step is.
        RecordingFormatError
            If something is missing or damaged; it names file, layer and frames.
        ModuleNotFoundError
            If pynwb is needed and not installed: ``pip install 'spiketape[nwb]'``.

        Warns
        -----
        ManyUnitsWarning
            If more than 100 000 neurons become units.

        Examples
        --------
        >>> recording.select(layers="conv1").export("spikes")  # doctest: +SKIP
        >>> polars.scan_parquet("spikes/layer=*/*.parquet")  # doctest: +SKIP
        """
        check_choice(to, "to", FORMS)
        contents = with_events(self._contents(), "export()")
        if not contents.layers:
            raise QuestionError("there is no layer to export; nothing has been committed yet, or selected")
        if to == "nwb":
            needed("pynwb", "nwb")
            from analysis.export.nwb import write_nwb  # noqa: PLC0415 - an extra

            return write_nwb(contents, out, run, (dt, dt_unit), digest=digest)
        if dt is not None or dt_unit is not None:
            raise QuestionError("dt and dt_unit are for NWB, whose times are in seconds; leave them out")
        from analysis.export.parquet import write_parquet  # noqa: PLC0415 - pyarrow takes its time

        return write_parquet(contents, out, run, digest=digest)
