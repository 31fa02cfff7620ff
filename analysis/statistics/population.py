"""Statistics of populations: neurons by their rate, and what the neurons of a layer do in the same frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from analysis.arguments import QuestionError, as_list, is_single, real_number, whole_number
from analysis.asking.graphs import add_together
from analysis.asking.kept import refuse_counts
from analysis.asking.populations import PopulationPlan, lazy_population, plan_populations
from analysis.kernels.populations import MAX_BINS, RateBins, fraction_of, padded, synchrony_of
from analysis.kernels.selecting.source import Source
from analysis.members import Members
from analysis.questions import Per, Question, words_of
from analysis.statistics.answers.answering import of_each_recording
from analysis.statistics.answers.labelling import labelled
from analysis.statistics.correlation import Correlations
from spiketape_worker import Parcel

# What becomes of a layer in the recordings of a pool: of a plan and its sources, with columns behind groups.
Finish = Callable[[PopulationPlan, Sequence[Source]], Any]


class Populations(Correlations):
    """Statistics of how activity is spread over the neurons of a layer."""

    def rate_histogram(
        self,
        bins: int | Iterable[float | Fraction] = 10,
        per: Per | None = None,
        *,
        window: int | None = None,
    ) -> xr.DataArray:
        """Number of neurons by their firing rate: spikes of a neuron ÷ frames of the group.

        Bins are closed at the left and open at the right; the last is closed at both ends, as in
        `numpy.histogram`. Rates are compared as fractions, not as floats: a neuron with 3 spikes in 10 frames
        is in the bin that begins at 0.3. A float among the edges stands for the nearest fraction whose
        denominator is at most 2²⁶. Neurons of layers that are not kept apart are counted together.

        Parameters
        ----------
        bins : int or iterable of number
            Number of equal bins from 0 to 1, or their edges, ascending from 0 to 1 at most.
        per : str or sequence of str, optional
            What is kept apart, see the class; not ``"neuron"`` or ``"channel"``.
        window : int, optional
            Steps in a window, for ``per="window"``.

        Returns
        -------
        xarray.DataArray of int64
            Lazy (dask). Dimension ``rate_bin`` behind all others, with the left edges as coordinate, and the
            right ones as ``rate_bin_end``; in spikes per neuron and step. 0 where there are no frames.

        Raises
        ------
        QuestionError
            If ``bins`` or ``per`` makes no sense, or the answer would be too large.
        """
        edges = _edges(bins)
        counts = RateBins(edges).count

        def finish(plan: PopulationPlan, layer: Sequence[Source]) -> Any:
            spikes = add_together([lazy_population(plan, source, "spikes") for source in layer])
            return _map(counts, np.int64, len(edges) - 1, spikes)

        left = np.array([float(edge) for edge in edges[:-1]])
        result = self._populations("rate_histogram", finish, {"rate_bin": left}, per, window)
        right = xr.Variable("rate_bin", [float(edge) for edge in edges[1:]])
        result = result.assign_coords(rate_bin_end=right)
        for name, which in (("rate_bin", "from"), ("rate_bin_end", "to")):
            result[name].attrs.update(long_name=f"firing rate: {which}", units="1")
        return result.assign_attrs(long_name="neurons", units="1")

    def synchrony(self, per: Per | None = None, *, window: int | None = None) -> xr.DataArray:
        """Synchrony χ²: variance of a layer's rate over frames ÷ mean variance of its neurons.

        1 if all neurons fire in the same frames, about 1 / neurons if they are independent, 0 if the layer's
        rate never changes. The variances, with ddof 0, are over all frames of a group: all steps and samples
        in it. Source: Golomb & Rinzel 1994, Physica D 72:259; Golomb 2007, Scholarpedia 2(1):1347.

        Parameters
        ----------
        per : str or sequence of str, optional
            What is kept apart, see the class; not ``"neuron"`` or ``"channel"``. A population is a layer:
            left out, layers are kept apart, and where there are several, ``"layer"`` must be among the words.
        window : int, optional
            Steps in a window, for ``per="window"``.

        Returns
        -------
        xarray.DataArray of float64
            Lazy (dask). NaN if no neuron varies: each is silent or fires in every frame, or there are none.

        Raises
        ------
        QuestionError
            If ``per`` or ``window`` makes no sense, layers would be pooled, or there are too many groups.
        """

        def finish(plan: PopulationPlan, layer: Sequence[Source]) -> Any:
            active, spikes = (
                add_together([lazy_population(plan, source, kind) for source in layer])
                for kind in ("active", "spikes")
            )
            return _map(synchrony_of, np.float64, None, active, spikes)

        result = self._populations("synchrony", finish, {}, self._each_layer(per, "synchrony"), window)
        return result.assign_attrs(long_name="synchrony χ²", units="1")

    def active_histogram(self, per: Per | None = None, *, window: int | None = None) -> xr.DataArray:
        """Number of frames in which 0, 1, … neurons of a layer were active.

        Divided by its sum it is the complexity distribution of one step, equal to
        ``elephant.statistics.complexity_pdf`` of the spike trains of one sample, with a step for bin size.

        Parameters
        ----------
        per, window
            As in `synchrony`.

        Returns
        -------
        xarray.DataArray of int64
            Lazy (dask). Dimension ``active`` behind all others: 0 to the number of neurons, of the largest
            layer where there are several.

        Raises
        ------
        QuestionError
            As `synchrony`. Numbers are not put into bins, and so a group must not need more than 2³⁰ bytes.
        """
        most = max((layer[0].neurons for layer in self._layers()), default=0)

        def finish(plan: PopulationPlan, layer: Sequence[Source]) -> Any:
            active = add_together([lazy_population(plan, source, "active") for source in layer])
            return _map(partial(padded, columns=most + 1), np.int64, most + 1, active)

        per = self._each_layer(per, "active_histogram")
        result = self._populations("active_histogram", finish, {"active": np.arange(most + 1)}, per, window)
        result["active"].attrs.update(long_name="active neurons", units="1")
        return result.assign_attrs(long_name="frames", units="1")

    def _each_layer(self, per: Per | None, statistic: str) -> Per:
        """What is kept apart, layers among it where there are several."""
        several = len(self._layers()) != 1
        if per is None:
            return "layer" if self._default_per != () else ()
        words = words_of(per)
        if several and "layer" not in words:
            wanted = ("layer", *(word for word in words if word != "network"))
            raise QuestionError(
                f"per={per!r}: {statistic} is about the neurons of one layer, and "
                f"{len(self._layers())} layers are selected; keep them apart with per={wanted!r}, "
                "or ask one of them"
            )
        return words

    def _populations(
        self, name: str, finish: Finish, further: Mapping[str, Any], per: Per | None, window: int | None
    ) -> xr.DataArray:
        question = self._pooling_question(per, window)
        if name != "rate_histogram":
            refuse_counts(self._layers(), f"{name}()")
        if question.place != "all":
            raise QuestionError(
                f"per={per!r}: {name} is about all neurons of a layer together; leave {question.place!r} out"
                + (', or see firing_rate(per="neuron")' if name == "rate_histogram" else "")
            )

        def build(layers: Sequence[Sequence[Source]], question: Question, members: Members) -> xr.DataArray:
            if "time" in question.along or "presentation" in question.along:
                layers = [[source.with_starts() for source in layer] for layer in layers]
            plan = plan_populations(layers, question, members)
            every = range(len(members.names))
            pools = [[member] for member in every] if question.recordings else [[*every]]
            pooled = []
            for pool in pools:
                each = [finish(plan, [layer[member] for member in pool]) for layer in layers]
                pooled.append(_over_layers(each, question, plan, [*map(len, further.values())]))
            values = da.stack(pooled) if question.recordings else pooled[0]
            return labelled(values, question, plan.axes, layers, members, further)

        return self._of_layer(of_each_recording(build, self._layers(), question, self.members)).rename(name)


def _map(function: Callable[..., Any], dtype: Any, columns: int | None, *sums: Any) -> Any:
    """A function of each block of some sums, whose columns become so many, or one figure without an axis."""
    dimensions = sums[0].ndim - (columns is None)
    changed: dict[str, Any] = {"drop_axis": dimensions} if columns is None else {}
    if columns is not None:
        changed["chunks"] = (*sums[0].chunks[:-1], (columns,))
    return da.map_blocks(
        Parcel(function), *sums, dtype=dtype, meta=np.empty((0,) * dimensions, dtype), **changed
    )


def _over_layers(
    each: Sequence[Any], question: Question, plan: PopulationPlan, columns: Sequence[int]
) -> Any:
    """Layers beside each other, or the sum of them; without an axis of frames where none was asked for."""
    if not each:
        shape = (*(plan.axes.groups.shape if question.along else ()), *columns)
        return da.zeros((0, *shape) if question.layers else shape, dtype=np.int64, chunks=-1)
    arrays = [array if question.along else array[0] for array in each]
    return da.stack(arrays) if question.layers else add_together(arrays)


def _edges(bins: Any) -> tuple[Fraction, ...]:
    """Edges of bins that a user gives, or the number of which."""
    if is_single(bins):
        number = whole_number(bins, "bins", "edges of bins, or a number of bins", least=1, most=MAX_BINS)
        return tuple(Fraction(place, number) for place in range(number + 1))
    given = [edge.item() if isinstance(edge, np.generic) else edge for edge in as_list(bins)]
    for edge in given:
        real_number(edge, "an edge of bins", "rates such as 0.1")
    if not all(0 <= edge <= 1 for edge in given):
        raise QuestionError(f"bins={given!r}; expected rates from 0 to 1, in spikes per neuron and step")
    edges = tuple(map(fraction_of, given))
    if len(edges) < 2 or any(left >= right for left, right in pairwise(edges)):
        raise QuestionError(f"bins={given!r}; expected two edges or more, each larger than the one before")
    if len(edges) > MAX_BINS + 1:
        raise QuestionError(f"{len(edges) - 1} bins; expected 1 to {MAX_BINS}")
    return edges
