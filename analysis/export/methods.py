"""What users call to hand a recording over."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal

from dask.base import compute

from analysis.export.contents import Contents, Run
from analysis.questions import QuestionError

Form = Literal["parquet"]
FORMS: tuple[str, ...] = ("parquet",)


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
        and has the digest, the duration of a step, lost steps, and the files of each layer. Memory does not
        grow with the recording.

        Parameters
        ----------
        out : path
            A folder in a file system that all workers share. Nothing must be there; it appears when all is
            written, and what fails leaves nothing.
        to : {"parquet"}
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
            If something is at ``out``, or ``to`` is unknown.
        RecordingFormatError
            If something is missing or damaged; it names file, layer and frames.

        Examples
        --------
        >>> recording.select(layers="conv1").export("spikes")  # doctest: +SKIP
        >>> polars.scan_parquet("spikes/layer=*/*.parquet")  # doctest: +SKIP
        """
        if to not in FORMS:
            raise QuestionError(f"to={to!r}; expected {' or '.join(map(repr, FORMS))}")
        from analysis.export.parquet import write_parquet  # noqa: PLC0415 - pyarrow takes its time

        return write_parquet(self._contents(), out, run, digest=digest)
