"""Statistics of when neurons fire within a presentation: intervals, latencies, autocorrelations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import dask.array as da
import numpy as np
import xarray as xr

from analysis.arguments import QuestionError, whole_number
from analysis.asking.kept import refuse_counts
from analysis.asking.tallies import lazy_sums, read_boundary
from analysis.formulas.correlation import autocorrelation
from analysis.formulas.variability import coefficient_of_variation, mean, mean_of_terms
from analysis.kernels.selecting.sequences import Boundary
from analysis.kernels.selecting.source import Source, frames_of
from analysis.kernels.sequence_tasks import Tallied, figure_of_columns
from analysis.members import Members
from analysis.questions import Per, Question
from analysis.statistics.answers.answering import Answering, of_each_recording
from analysis.statistics.answers.durations import in_unit
from analysis.statistics.answers.labelling import labelled, with_durations
from spiketape_worker import Parcel

MAX_LAG: Final = 4096
MAX_INTERVAL: Final = 2**20


class SequenceStatistics(Answering):
    """Statistics of sequences: runs of steps of one sample without a break.

    A sequence is a presentation, cut where steps are missing in the layer: a gap, or lost frames. No
    interval, lag or latency reaches from one sequence into another. Frames outside of trials are in none,
    unless ``boundary`` says where their sequences end: with ``"none"`` the whole run is one for each sample
    of the batch, with a number a new one begins every so many steps, at the multiples of it. Recordings
    without trials need it.

    What is not kept apart is pooled: intervals of all neurons are one heap of intervals. For the mean over
    neurons, ask for each of them: ``layer.isi_cv("neuron").mean()``. An interval belongs to the group of the
    frame where it ends, a latency to that where its presentation begins.

    Results are lazy (dask) and have a coordinate ``defined``: how many intervals, pairs of intervals,
    latencies or pairs of slots they are made of. They are NaN where that is not enough.
    """

    def isi_histogram(
        self,
        per: Per | None = None,
        *,
        longest: int = 100,
        window: int | None = None,
        boundary: Boundary = None,
    ) -> xr.DataArray:
        """Number of interspike intervals of each length: steps between successive events of a neuron.

        Intervals lie within a presentation, and reach over no gap and no lost step. Those of all neurons that
        are not kept apart are one heap. An interval belongs to the group of the frame where it ends. Equal
        to the histogram of ``elephant.statistics.isi`` of every neuron and presentation.

        Parameters
        ----------
        per, window
            As in `firing_rate`.
        longest : int
            Longest interval that has a bin; longer ones are counted together in the coordinate ``longer``.
        boundary : "none" or int, optional
            Where sequences end outside of trials: ``"none"``, and the whole run is one sequence for each
            sample of the batch; or a new one begins at every step that is a multiple of this number.
            Recordings without trials need it. Left out, frames outside of trials are in no sequence.

        Returns
        -------
        xarray.DataArray of int64
            Lazy (dask). Dimension ``interval``, in steps, behind all others.

        Raises
        ------
        QuestionError
            As `firing_rate`, and if there are no trials and no boundary.
        RecordingFormatError
            As `firing_rate`.
        """
        longest = whole_number(longest, "longest", "a number of steps", least=1, most=MAX_INTERVAL)
        sums = self._sums(Tallied("histogram", longest), per, window, boundary)
        intervals = {"interval": np.arange(1, longest + 1)}
        result = sums.isel(column=slice(0, longest)).rename(column="interval").assign_coords(intervals)
        result = result.assign_coords(longer=sums.isel(column=longest).variable)
        result.coords["longer"].attrs["long_name"] = f"intervals of more than {longest} steps"
        result.coords["interval"].attrs.update(long_name="interspike interval", units="steps")
        result = with_durations(result, self.members)
        return _named(result, "isi_histogram", "interspike intervals", "1")

    def isi_mean(
        self,
        per: Per | None = None,
        *,
        window: int | None = None,
        boundary: Boundary = None,
        unit: str | None = None,
    ) -> xr.DataArray:
        """Mean interspike interval, in steps or in a unit of time.

        Equal to the mean of ``elephant.statistics.isi`` over all neurons and presentations of a group.

        Parameters
        ----------
        per, window, boundary
            As in `isi_histogram`.
        unit : str, optional
            Such as ``"ms"``, where the duration of a step was recorded.

        Returns
        -------
        xarray.DataArray of float64
            Lazy (dask). NaN where there is no interval.
        """
        result = self._figure(Tallied("moments"), mean, (0, 1), per, window, boundary)
        return in_unit(_named(result, "isi_mean", "mean interspike interval", "steps"), unit, self.members)

    def isi_cv(
        self, per: Per | None = None, *, window: int | None = None, boundary: Boundary = None
    ) -> xr.DataArray:
        """Coefficient of variation of interspike intervals: standard deviation (ddof 0) ÷ mean.

        Equal to ``elephant.statistics.cv`` of the intervals of a group (Softky & Koch 1993).

        Parameters
        ----------
        per, window, boundary
            As in `isi_histogram`.

        Returns
        -------
        xarray.DataArray of float64
            Lazy (dask). NaN for fewer than two intervals.
        """
        result = self._figure(Tallied("moments"), coefficient_of_variation, (0, 1, 2), per, window, boundary)
        return _named(result, "isi_cv", "CV of interspike intervals", "1")

    def isi_cv2(
        self, per: Per | None = None, *, window: int | None = None, boundary: Boundary = None
    ) -> xr.DataArray:
        """Local variation CV2: mean of ``2 |a - b| ÷ (a + b)`` over successive intervals a, b.

        Pairs lie within a presentation. Equal to ``elephant.statistics.cv2`` (Holt et al. 1996). Terms are
        rounded to 2⁻⁵², and summed up exactly.

        Parameters
        ----------
        per, window, boundary
            As in `isi_histogram`.

        Returns
        -------
        xarray.DataArray of float64
            Lazy (dask). NaN where there is no pair of intervals.
        """
        result = self._figure(Tallied("cv2"), mean_of_terms, (0, 1, 2), per, window, boundary)
        return _named(result, "isi_cv2", "CV2 of interspike intervals", "1")

    def isi_lv(
        self, per: Per | None = None, *, window: int | None = None, boundary: Boundary = None
    ) -> xr.DataArray:
        """Local variation LV: mean of 3 (a - b)² ÷ (a + b)² over successive intervals a, b.

        Equal to ``elephant.statistics.lv`` (Shinomoto et al. 2003); otherwise as `isi_cv2`.
        """
        result = self._figure(Tallied("lv"), mean_of_terms, (0, 1, 2), per, window, boundary)
        return _named(result, "isi_lv", "LV of interspike intervals", "1")

    def latency(
        self,
        per: Per | None = None,
        *,
        window: int | None = None,
        boundary: Boundary = None,
        unit: str | None = None,
    ) -> xr.DataArray:
        """Mean time of the first event of a neuron in a presentation, in steps since that of the trial.

        Presentations in which the neuron did not fire are censored: they are not in the mean, and
        `latency_censored` counts them. So are those in which steps are missing before it fired, as an earlier
        event may be among these; and where the first step of the trial, of those selected, is missing in the
        layer, the presentation says nothing at all: it is in neither. A latency belongs to the group of the
        frame where its presentation begins.

        Parameters
        ----------
        per, window, boundary
            As in `isi_histogram`.
        unit : str, optional
            Such as ``"ms"``, where the duration of a step was recorded.

        Returns
        -------
        xarray.DataArray of float64
            Lazy (dask). NaN where no neuron fired; ``defined`` is the number of latencies.
        """
        result = self._figure(Tallied("latency"), mean, (0, 1), per, window, boundary)
        return in_unit(_named(result, "latency", "mean time of the first spike", "steps"), unit, self.members)

    def latency_censored(
        self, per: Per | None = None, *, window: int | None = None, boundary: Boundary = None
    ) -> xr.DataArray:
        """Number of presentations in which a neuron did not fire, of all neurons together; see `latency`.

        Presentations that say nothing, as their first step is missing, are not among them.

        Returns
        -------
        xarray.DataArray of int64
            Lazy (dask).
        """
        sums = self._sums(Tallied("latency"), per, window, boundary)
        return _named(sums.isel(column=3), "latency_censored", "presentations without a spike", "1")

    def autocorrelation(
        self, lags: int = 10, per: Per | None = None, *, boundary: Boundary = None
    ) -> xr.DataArray:
        """Pearson correlation of slots with those of the same neuron so many steps later.

        Over all pairs of slots in one sequence; each lag has means of its own, those of the earlier and of
        the later slots of its pairs. Equal to ``numpy.corrcoef`` of these.

        Parameters
        ----------
        lags : int
            Lags 1 to so many steps.
        per, boundary
            As in `isi_histogram`, without steps, windows and times, which would cut presentations.

        Returns
        -------
        xarray.DataArray of float64
            Lazy (dask). Dimension ``lag``, in steps, behind all others. NaN where there is no pair, or one of
            the two never changes.
        """
        lags = whole_number(lags, "lags", "a number of steps", least=1, most=MAX_LAG)
        question = self._pooling_question(per, None)
        cutting = [word for word in question.along if word in ("step", "window", "time")]
        if cutting:
            raise QuestionError(
                f"per={cutting[0]!r} cuts presentations, and an autocorrelation is of whole ones; "
                "select(steps=...) or select(time=...) look at a part of them"
            )
        sums = self._sums(Tallied("lags", lags), per, None, boundary)
        data = sums.data.reshape((*sums.shape[:-1], 4, lags))
        both, earlier, later, slots = (data[..., place, :] for place in range(4))
        values = da.map_blocks(Parcel(autocorrelation), slots, both, earlier, later, dtype=np.float64)
        result = sums.isel(column=slice(0, lags)).rename(column="lag").copy(data=values)
        result = result.assign_coords(lag=np.arange(1, lags + 1))
        result.coords["lag"].attrs.update(long_name="lag", units="steps")
        result = _with_defined(result, slots, "pairs of slots")
        result = with_durations(result, self.members)
        return _named(result, "autocorrelation", "autocorrelation", "1")

    def _figure(
        self,
        tallied: Tallied,
        formula: Callable[..., Any],
        columns: tuple[int, ...],
        per: Per | None,
        window: int | None,
        boundary: Boundary,
    ) -> xr.DataArray:
        sums = self._sums(tallied, per, window, boundary)
        values = da.map_blocks(
            Parcel(figure_of_columns),
            sums.data,
            formula=Parcel(formula),
            columns=columns,
            drop_axis=sums.ndim - 1,
            dtype=np.float64,
            meta=np.empty((0,) * (sums.ndim - 1)),
        )
        first = sums.isel(column=0)
        return _with_defined(first.copy(data=values), first.data, _DEFINED[tallied.what])

    def _sums(
        self, tallied: Tallied, per: Per | None, window: int | None, boundary: Boundary
    ) -> xr.DataArray:
        """Sums for each group and place, int64, along the dimension ``column`` behind the others."""

        def build(layers: Sequence[Sequence[Source]], question: Question, members: Members) -> xr.DataArray:
            sums, axes = lazy_sums(tallied, layers, question, members, boundary)
            columns: Mapping[str, Any] = {"column": np.arange(tallied.columns)}
            return labelled(sums, question, axes, layers, members, columns)

        layers = self._layers()
        refuse_counts(layers, f"a statistic of {_ABOUT.get(tallied.what, 'intervals')}")
        boundary = read_boundary(layers, boundary)
        if tallied.what == "latency":
            _check_batches(layers, boundary)
        result = of_each_recording(build, layers, self._pooling_question(per, window), self.members)
        return self._of_layer(result).drop_vars("column")


_ABOUT: Final = {"latency": "latencies", "lags": "lags between spikes"}
_DEFINED: Final = {
    "moments": "intervals",
    "cv2": "pairs of intervals",
    "lv": "pairs of intervals",
    "latency": "presentations with a spike",
}


def _check_batches(layers: Sequence[Sequence[Source]], boundary: Boundary) -> None:
    """Refuse sequences in which a sample has no first step, as it came later than the others."""
    for source in (source for layer in layers for source in layer):
        segments = frames_of(source).segments
        trial, step = segments.trial[1:], segments.first_step[1:]
        goes_on = (np.diff(segments.trial) == 0) & (step == segments.last_step[:-1])
        if boundary is None:
            goes_on &= trial >= 0
        elif boundary != "none":
            goes_on &= (trial >= 0) | (step % boundary != 0)
        grows = np.flatnonzero(goes_on & (np.diff(segments.batch) > 0))
        if len(grows):
            raise QuestionError(
                f"layer {source.layer!r}: the batch grows at step {step[grows[0]]}, within a sequence, and "
                "samples that come late have no latency; look at those that are there from the first step "
                f"on, with samples=slice(0, {segments.batch.min()})"
            )


def _with_defined(result: xr.DataArray, defined: Any, what: str) -> xr.DataArray:
    return result.assign_coords(defined=(result.dims, defined, {"long_name": what, "units": "1"}))


def _named(result: xr.DataArray, name: str, long_name: str, units: str) -> xr.DataArray:
    return result.rename(name).assign_attrs(long_name=long_name, units=units)
