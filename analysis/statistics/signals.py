"""Statistics of a signal's values: mean, deviation, extremes, histograms, averages around spikes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import dask.array as da
import numpy as np
import xarray as xr

from analysis.arguments import QuestionError, is_single, refuse_type, whole_number
from analysis.asking.axes import check_axes
from analysis.asking.kept import kept_text, refuse_counts
from analysis.asking.signals import lazy_tally
from analysis.asking.tallies import read_boundary
from analysis.kernels.selecting.sequences import Boundary
from analysis.kernels.selecting.source import Source, real_neurons
from analysis.kernels.signals.neurons import commit_of, neurons_of
from analysis.kernels.signals.tallying import (
    SignalTallied,
    counts_of,
    largest_of,
    least_of,
    mean_of,
    std_of,
    triggered_average,
)
from analysis.members import Members, columns_of
from analysis.questions import Per, Question, parse_question
from analysis.statistics.answers.answering import of_each_recording
from analysis.statistics.answers.labelling import labelled, with_durations
from recorder.format.layout import neuron_dimensions
from recorder.format.record.signals import SignalCommit
from spiketape_worker import Parcel

MAX_LAG: Final = 4096
MAX_BINS: Final = 2**16


class SignalStatistics:
    """Statistics of one signal of a layer.

    ``per`` is that of `analysis.layer.Layer`: ``"neuron"`` or ``"channel"``, ``"step"``, ``"window"``,
    ``"time"``, ``"trial"``, ``"sample"``, ``"presentation"``, ``"recording"``, and any column of the trials,
    alone or several; everything else is pooled. NaN and infinities are values like others: a mean of a group
    with NaN is NaN, as in numpy. Results are lazy (dask) and have a coordinate ``defined``: how many values
    they are made of. They are NaN where there is none.

    Parameters
    ----------
    sources : sequence of Source
        The signal in each recording.
    members : Members
        The recordings.
    """

    def __init__(self, sources: Sequence[Source], members: Members) -> None:
        self._sources = tuple(sources)
        self._members = members

    @property
    def name(self) -> str:
        """Name of the signal."""
        return self._sources[0].signal

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return self._sources[0].layer

    def mean(self, per: Per = (), *, window: int | None = None) -> xr.DataArray:
        """Mean value.

        Parameters
        ----------
        per : str or sequence of str
            What is kept apart, see the class; a single number if left out.
        window : int, optional
            Steps in a window, with ``per="window"``.

        Returns
        -------
        xarray.DataArray of float64
            Lazy (dask).

        Raises
        ------
        QuestionError
            As in `analysis.statistics.activity.Activity.firing_rate`.
        RecordingFormatError
            When it is computed, if a chunk that is needed is missing or damaged.
        """
        return self._figure("moments", mean_of, "mean", per, window)

    def std(self, per: Per = (), *, window: int | None = None) -> xr.DataArray:
        """Standard deviation (ddof 0), from squared deviations from the mean; otherwise as `mean`."""
        return self._figure("moments", std_of, "standard deviation", per, window)

    def min(self, per: Per = (), *, window: int | None = None) -> xr.DataArray:
        """Least value; otherwise as `mean`."""
        return self._figure("extremes", least_of, "least", per, window)

    def max(self, per: Per = (), *, window: int | None = None) -> xr.DataArray:
        """Largest value; otherwise as `mean`."""
        return self._figure("extremes", largest_of, "largest", per, window)

    def histogram(
        self,
        bins: int | Sequence[float],
        per: Per = (),
        *,
        range: tuple[float, float] | None = None,  # noqa: A002 - its name in numpy
        window: int | None = None,
    ) -> xr.DataArray:
        """Number of values in each bin, as `numpy.histogram` has them.

        Parameters
        ----------
        bins : int or sequence of float
            Number of bins of equal width in ``range``; or their edges, ascending. The last bin has both of
            its edges, others only the lower one.
        per, window
            As in `mean`.
        range : (float, float), optional
            Least and largest edge, where ``bins`` is a number.

        Returns
        -------
        xarray.DataArray of int64
            Lazy (dask). Dimension ``bin`` behind all others, with the middles of bins; coordinates ``lower``
            and ``upper`` are their edges, ``outside`` counts values in no bin, NaN among them.

        Raises
        ------
        QuestionError
            As `mean`, and if edges are not finite or do not ascend.
        """
        edges = _edges(bins, range)
        sums = self._tally(SignalTallied("histogram", tuple(edges.tolist())), per, window)
        counts = sums.copy(data=_mapped(sums.data, counts_of, np.int64, keep=True))
        result = counts.isel(column=slice(0, -1)).rename(column="bin")
        middles = (edges[1:] + edges[:-1]) / 2
        result = result.assign_coords(
            bin=("bin", middles, {"long_name": f"{self.name}, middle of the bin"}),
            lower=("bin", edges[:-1]),
            upper=("bin", edges[1:]),
            outside=counts.isel(column=-1).variable,
        )
        return self._named(result, "histogram", "values")

    def spike_triggered_average(
        self, before: int, after: int, per: Per = (), *, boundary: Boundary = None
    ) -> xr.DataArray:
        """Mean value around the spikes of the same neuron, at each lag.

        At lag ``l`` it is the mean of the values ``l`` steps behind a spike, over all spikes behind which
        there is one in the same sequence: a presentation, cut where steps are missing in the layer.

        Parameters
        ----------
        before, after : int
            Steps before a spike and behind it; lags are ``-before`` to ``after``.
        per
            As in `mean`, without steps, windows and times, which would cut sequences.
        boundary : "none" or int, optional
            Where sequences end outside of trials, as in `Layer.isi_histogram`.

        Returns
        -------
        xarray.DataArray of float64
            Lazy (dask). Dimension ``lag``, in steps, behind all others. NaN where there is no value;
            ``defined`` is the number of values.

        Raises
        ------
        QuestionError
            As `mean`; if values of a frame do not have the shape of the layer; if nothing was recorded in
            trials and there is no boundary.
        """
        before = whole_number(before, "before", "a number of steps", least=0, most=MAX_LAG)
        after = whole_number(after, "after", "a number of steps", least=0, most=MAX_LAG)
        for source in self._sources:
            if commit_of(source).shape != source.commit.shape:
                raise QuestionError(
                    f"the values of signal {self.name!r} have the shape {commit_of(source).shape} at each "
                    f"frame, and the spikes of layer {self.layer!r} {source.commit.shape}: "
                    "nothing says which belong together"
                )
            missing = np.setdiff1d(neurons_of(source).flat, real_neurons(_spikes_of(source)))
            if len(missing):
                raise QuestionError(
                    f"signal {self.name!r} has {len(missing)} neurons of layer {self.layer!r} whose spikes "
                    f"were not kept, such as neuron {missing[0]} in C order{kept_text(source)}. Select "
                    "neurons that have both: select(neurons=...)"
                )
        spikes = [[_spikes_of(source).with_starts() for source in self._sources]]
        refuse_counts(spikes, "an average around spikes")
        boundary = read_boundary(spikes, boundary)
        question = self._question(per, None)
        cutting = [word for word in question.along if word in ("step", "window", "time")]
        if cutting:
            raise QuestionError(
                f"per={cutting[0]!r} cuts presentations, and values around spikes are of whole ones; "
                "select(steps=...) or select(time=...) look at a part of them"
            )
        tallied = SignalTallied("triggered", before=before, after=after, boundary=boundary)
        sums = self._tally(tallied, per, None)
        first = sums.isel(column=slice(0, tallied.lags))
        result = first.copy(data=_mapped(sums.data, triggered_average, np.float64, keep=tallied.lags))
        defined = first.copy(data=sums.data[..., tallied.lags :])
        defined = defined.copy(data=_mapped(defined.data, counts_of, np.int64, keep=True))
        result = result.assign_coords(defined=defined.variable).rename(column="lag")
        lags = np.arange(-before, after + 1)
        result = result.assign_coords(
            lag=("lag", lags, {"long_name": "steps behind the spike", "units": "steps"})
        )
        result = with_durations(result, self._members)
        return self._named(result, "spike_triggered_average", "mean around spikes")

    def _question(self, per: Per, window: int | None) -> Question:
        return parse_question(per, window, columns_of(self._sources))

    def _tally(self, tallied: SignalTallied, per: Per, window: int | None) -> xr.DataArray:
        """Numbers for each group and place, along the dimension ``column`` behind the others."""

        def build(layers: Sequence[Sequence[Source]], question: Question, members: Members) -> xr.DataArray:
            (sources,) = layers
            self._check(question, members)
            sums, axes, places = lazy_tally(tallied, sources, question)
            # `labelled` gives the axes of frames their names; places are those of the signal.
            bare = replace(question, place="all", layers=False)
            further: Mapping[str, Any] = {**places, "column": np.arange(tallied.columns)}
            result = labelled(sums, bare, axes, layers, members, further)
            return result.expand_dims(layer=[self.layer]) if question.layers else result

        result = of_each_recording(build, [self._sources], self._question(per, window), self._members)
        result = result.drop_vars("column")
        return result if "layer" in result.coords else result.assign_coords(layer=self.layer)

    def _check(self, question: Question, members: Members) -> None:
        check_axes([], replace(question, place="all"), members)
        if question.place == "channel" and "channel" not in neuron_dimensions(self._commit.shape):
            raise QuestionError(
                f"signal {self.name!r} of layer {self.layer!r} has no channels: its values have the shape "
                f'{self._commit.shape} at each frame; use per="neuron"'
            )

    def _figure(
        self, what: Any, formula: Callable[..., Any], long_name: str, per: Per, window: int | None
    ) -> xr.DataArray:
        sums = self._tally(SignalTallied(what), per, window)
        first = sums.isel(column=0)
        number = _mapped(first.data, counts_of, np.int64, keep=True)
        result = first.copy(data=_mapped(sums.data, formula, np.float64))
        result = result.assign_coords(defined=(result.dims, number, {"long_name": "values", "units": "1"}))
        return self._named(result, formula.__name__.removesuffix("_of"), long_name)

    def _named(self, result: xr.DataArray, name: str, long_name: str) -> xr.DataArray:
        shown = f"{long_name} of {self.name} of layer {self.layer}"
        return result.rename(name).assign_attrs(long_name=shown)

    @property
    def _commit(self) -> SignalCommit:
        return commit_of(self._sources[0])


def _mapped(data: Any, formula: Callable[..., Any], dtype: Any, *, keep: bool | int = False) -> Any:
    """A formula of columns, which lie along the last axis; ``keep``: how many columns it gives."""
    if keep is True:
        return da.map_blocks(Parcel(formula), data, dtype=dtype, meta=np.empty((0,) * data.ndim, dtype))
    if keep:
        chunks = (*data.chunks[:-1], (keep,))
        meta: np.ndarray[Any, Any] = np.empty((0,) * data.ndim, dtype)
        return da.map_blocks(Parcel(formula), data, dtype=dtype, chunks=chunks, meta=meta)
    meta = np.empty((0,) * (data.ndim - 1), dtype)
    return da.map_blocks(Parcel(formula), data, drop_axis=data.ndim - 1, dtype=dtype, meta=meta)


def _spikes_of(source: Source) -> Source:
    """The spikes beside a signal."""
    return replace(source, signal="")


def _edges(bins: int | Sequence[float], limits: tuple[float, float] | None) -> np.ndarray[Any, Any]:
    if not is_single(bins):
        edges = _floats(bins, "bins", "edges of bins, or a number of bins")
        if limits is not None:
            raise QuestionError("range= goes with a number of bins; these are edges")
    else:
        number = whole_number(bins, "bins", "edges of bins, or a number of bins", least=1, most=MAX_BINS)
        if limits is None:
            raise QuestionError(f"bins={bins!r} is a number of bins; give range=(least, largest) with it")
        ends = _floats(limits, "range", "the least and the largest edge")
        if ends.shape != (2,) or not np.isfinite(ends).all():
            raise QuestionError(
                f"range={limits!r:.200}; expected two numbers: the least and the largest edge"
            )
        edges = np.linspace(float(ends[0]), float(ends[1]), number + 1)
    if not np.isfinite(edges).all():
        raise QuestionError("edges of bins are not all finite")
    if edges.ndim != 1 or not 2 <= len(edges) <= MAX_BINS + 1 or not (np.diff(edges) > 0).all():
        raise QuestionError(f"edges of bins are {edges!r:.200}; expected two or more, ascending")
    return edges


def _floats(given: Any, name: str, expected: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Several numbers; ArgumentTypeError if they are none."""
    try:
        return np.asarray(given, np.float64)
    except (TypeError, ValueError, OverflowError):
        refuse_type(name, given, expected)
