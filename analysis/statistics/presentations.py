"""Statistics of counts per presentation: what they are, how they vary, and from how few they come."""

from __future__ import annotations

from math import prod
from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr

from analysis.arguments import QuestionError, check_choice
from analysis.kernels.tables import (
    fano_figures,
    gram,
    joined_blocks,
    moments,
    pool_presentations,
    population_sparseness,
    products,
    ratios_of_gram,
    ratios_of_products,
    sparseness_figures,
)
from analysis.questions import Per
from analysis.statistics.answers.averaging import (
    MAX_ELEMENTS,
    SUM_BYTES,
    array_of,
    averaged,
    key_of,
    over_layers,
    pooled,
    tally,
    whole,
)
from analysis.statistics.answers.presented import OfPresentations, check_lengths, numbers_of
from analysis.statistics.answers.tables import (
    Apart,
    Table,
    counts_of,
    tables_of,
)
from recorder.format.bits import Integers


class Presentations(OfPresentations):
    """Statistics of the counts of each presentation, which is one sample of one trial."""

    def features(self, layer: str | None = None) -> xr.DataArray:
        """Spike counts of each neuron in each presentation: presentations × neurons, as others take them.

        These are features of scikit-learn, of probes and of t-SNE; rows are presentations of which there are
        frames, in the order of trials and samples, recording after recording. What was attached to the trials
        stands beside them as coordinates.

        Parameters
        ----------
        layer : str, optional
            Name of the layer. A layer itself, and a recording with one selected layer, need none.

        Returns
        -------
        xarray.DataArray of int64
            Lazy (dask). Dimensions ``presentation`` and those of the neurons; coordinates ``trial``,
            ``sample``, and the columns of the trials.

        Raises
        ------
        QuestionError
            If there are no presentations, or it is not clear which layer is meant.
        UnknownLayerError
            If there is no such layer.

        Examples
        --------
        >>> counts = recording.features("conv1").compute()  # doctest: +SKIP
        >>> flat = counts.stack(feature=counts.dims[1:])  # doctest: +SKIP
        >>> LogisticRegression().fit(flat.values, counts.label.values)  # doctest: +SKIP
        """
        sources = self._one_layer("features", layer)
        result = counts_of("features", sources, self.members).rename("features")
        result.attrs = {"long_name": "spikes in the presentation", "units": "1"}
        return self._named(result)

    def fano_factor(self, per: Per | None = None, *, by: str | None = "label") -> xr.DataArray:
        """Fano factor: variance (ddof 0) ÷ mean of a neuron's counts in presentations of one label.

        Fano factors of a neuron at the labels are averaged, each label with the same weight; then those of
        the neurons, where what is kept apart holds several. See `analysis.formulas.variability`.

        Parameters
        ----------
        per : str or sequence of str, optional
            What is kept apart: ``"recording"``, ``"layer"``, ``"neuron"``, ``"channel"``, and ``"trial"``,
            ``"sample"`` or columns of the trials, whose presentations are then looked at by themselves.
        by : str, optional
            The column whose values are labels: presentations without a value are left out. None, or
            ``"label"`` where no labels were recorded, for all presentations alike.

        Returns
        -------
        xarray.DataArray of float64
            Lazy (dask). NaN where no neuron has a Fano factor: it takes two presentations of a label, and a
            spike. Coordinate ``defined``: Fano factors, of a neuron at a label, that went into the figure.

        Raises
        ------
        QuestionError
            If presentations last for different numbers of frames, whose counts differ for that reason; if
            there are none; or if ``per`` or ``by`` makes no sense.
        """
        question = self._read_per("fano_factor", per)
        apart = Apart.of("fano_factor", self._layers(), question, self.members)
        parts = []
        for table in tables_of("fano_factor", self._layers(), self.members):
            codes, labels = self._by("fano_factor", by, apart, table, may_pool=True)
            check_lengths("fano_factor", table, codes >= 0)
            groups = prod(apart.shape) * labels
            total = tally("fano_factor", moments, table, [codes], [groups], (2, groups))
            number = numbers_of(codes, groups).reshape(prod(apart.shape), labels)
            parts.append(pooled(apart, table, fano_figures, total, number))
        return self._finished(averaged("fano_factor", apart, parts), "Fano factor: variance / mean of counts")

    def sparseness(
        self, per: Per | None = None, *, over: Literal["neurons", "presentations"] = "neurons"
    ) -> xr.DataArray:
        """Sparseness of Treves and Rolls: (mean c)² ÷ mean c² of counts; the *smaller*, the sparser.

        It is 1 if all counts are equal, and 1 / n if all but one of n are 0. See `analysis.formulas.tuning`.

        Parameters
        ----------
        per : str or sequence of str, optional
            What is kept apart, as in `fano_factor`.
        over : {"neurons", "presentations"}
            Over the neurons of a layer, for each presentation ("population"), whose figures are averaged; or
            over presentations, for each neuron ("lifetime"), likewise.

        Returns
        -------
        xarray.DataArray of float64
            Lazy (dask). NaN where nothing fired. Coordinate ``defined``: figures, of presentations (in each
            layer) or of neurons, that were averaged.

        Raises
        ------
        QuestionError
            As in `fano_factor`; lengths matter only over presentations.
        """
        check_choice(over, "over", ("neurons", "presentations"))
        question = self._read_per("sparseness", per)
        if over == "neurons" and question.place != "all":
            raise QuestionError(
                f"sparseness(per={per!r}) goes over neurons, which cannot be kept apart then; "
                'pass over="presentations" for a figure of each'
            )
        apart = Apart.of("sparseness", self._layers(), question, self.members)
        groups = prod(apart.shape)
        parts = []
        for table in tables_of("sparseness", self._layers(), self.members):
            codes = apart.codes(table)
            if over == "neurons":
                parts.append(_of_populations(table, codes, groups))
                continue
            check_lengths("sparseness", table, codes >= 0)
            total = tally("sparseness", moments, table, [codes], [groups], (2, groups))
            parts.append(pooled(apart, table, sparseness_figures, total, numbers_of(codes, groups)))
        return self._finished(averaged("sparseness", apart, parts), f"sparseness over {over}")

    def participation_ratio(self, per: Per | None = None) -> xr.DataArray:
        """Participation ratio: (tr C)² ÷ tr C² of the covariance C of neurons over presentations.

        It is the number of dimensions in which counts vary: 1 if all neurons go up and down together, N if N
        neurons vary alike and independently. See `analysis.formulas.population`.

        Parameters
        ----------
        per : str or sequence of str, optional
            What is kept apart: ``"layer"``, which is meant where it is left out; with it ``"recording"``,
            ``"trial"``, ``"sample"``, columns of the trials, and ``"time"``: of the spikes at each time.

        Returns
        -------
        xarray.DataArray of float64
            Lazy (dask). NaN where no neuron varies.

        Raises
        ------
        QuestionError
            If layers are not kept apart, if matrices of neurons and of presentations were both too large
            (some 4000 × 4000), or as in `fano_factor`; lengths do not matter.
        """
        default = "layer" if self._default_per else ()
        question = self._read_per("participation_ratio", per, default, ("time",))
        layers = self._layers()
        if question.place != "all" or (len(layers) > 1 and not question.layers):
            raise QuestionError(
                f"participation_ratio(per={per!r}): it is of all neurons of one layer together; keep layers "
                'apart and neurons not, as in per="layer" or per=("layer", "label")'
            )
        apart = Apart.of("participation_ratio", layers, question, self.members)
        by_time = "time" in question.along
        tables = tables_of("participation_ratio", layers, self.members, by_time)
        times = max(table.times for table in tables)
        shown = []
        for table in tables:
            values = _participation(table, apart)
            if by_time and table.times < times:
                values = _padded(values, times)
            shown.append(
                apart.label(values if by_time else values[:, 0], table.layer, times if by_time else None)
            )
        result = over_layers("participation_ratio", apart, shown)
        return self._finished(result, "participation ratio: dimensions in which counts vary")


def _of_populations(table: Table, codes: Integers, groups: int) -> Any:
    blocks = range(len(table.rows()))
    tasks = [(table.block(number),) for number in blocks]
    each = array_of(population_sparseness, tasks, [table.counts.chunks[0]], np.float64, table.counts)
    task = ([key_of(each, number) for number in blocks], codes, groups)
    return array_of(pool_presentations, [task], whole((3, groups)), np.float64, each)


def _participation(table: Table, apart: Apart) -> Any:
    """Participation ratios of a layer, lazy: float64 [groups, times]."""
    groups, times, neurons = prod(apart.shape), table.times, table.source.neurons
    codes, shown, rows = apart.codes(table), table.shown(), len(table.trial)
    chunks = whole((groups, times))
    if groups * neurons * neurons <= rows * rows:
        total = tally(
            "participation_ratio",
            products,
            table,
            [codes],
            [groups],
            (groups, times, neurons + 1),
            last=neurons,
        )
        number = np.zeros((groups, times), np.int64)
        np.add.at(number, codes[codes >= 0], shown[codes >= 0])
        return array_of(ratios_of_products, [(key_of(total), number)], chunks, np.float64, total)
    matrix = gram_of("participation_ratio", table)
    return array_of(ratios_of_gram, [(key_of(matrix), codes, shown, groups)], chunks, np.float64, matrix)


def gram_of(name: str, table: Table) -> Any:
    """Products of the counts of each two presentations, lazy, in one block: int64 [times, rows, rows].

    Raises
    ------
    QuestionError
        If it were too large.
    """
    times, rows, neurons = table.times, len(table.trial), table.source.neurons
    if times * rows * rows > MAX_ELEMENTS:
        raise QuestionError(
            f"{name}() of {rows} presentations and {neurons} neurons in layer {table.source.layer!r} needs a "
            f"matrix of either, at {times} times, and each has more than {MAX_ELEMENTS} elements; select "
            "fewer presentations by select(trials=...), or fewer neurons by select(neurons=...)"
        )
    table = table.in_blocks(max(SUM_BYTES // (8 * times * max(neurons, 1)), 1))
    blocks, lengths = range(len(table.rows())), table.counts.chunks[0]
    tasks = [(table.block(one), table.block(other), times) for one in blocks for other in blocks]
    parts = array_of(gram, tasks, [(times,), lengths, lengths], np.int64, table.counts)
    keys = [[key_of(parts, 0, one, other) for other in blocks] for one in blocks]
    return array_of(joined_blocks, [(keys,)], whole((times, rows, rows)), np.int64, parts)


def _padded(values: Any, times: int) -> Any:
    """NaN at times that a layer does not have."""
    missing = da.full((values.shape[0], times - values.shape[1]), np.nan)
    return da.concatenate([values, missing], axis=1)
