"""Statistics of what neurons tell of the label, and of whether the output tells it."""

from __future__ import annotations

from math import prod
from typing import Any, Final, Literal

import numpy as np
import xarray as xr

from analysis.arguments import QuestionError, check_choice
from analysis.kernels.tables import (
    information_figures,
    joint_histogram,
    moments,
    selectivity_figures,
    skaggs_figures,
)
from analysis.questions import Per
from analysis.statistics.answers.averaging import averaged, pooled, tally
from analysis.statistics.answers.presented import OfPresentations, column_name
from analysis.statistics.answers.tables import Apart, tables_of

_CORRECTIONS: Final = (None, "miller-madow")
# Mutual information takes floats, their products, ratios and logarithms.
_JOINT_COPIES: Final = 6
_KINDS: Final = ("mutual", "skaggs")


class Tuning(OfPresentations):
    """Statistics of neurons and labels."""

    def selectivity(self, per: Per | None = None, *, by: str = "label") -> xr.DataArray:
        """Class selectivity: (μmax - μrest) ÷ (μmax + μrest) of a neuron's rates at the labels.

        μmax is the highest rate (spikes ÷ slots) at a label, μrest the mean of those at the others. It is 1
        for a neuron that fires at one label only, 0 for one that fires at all alike. See
        `analysis.formulas.tuning`.

        Parameters
        ----------
        per : str or sequence of str, optional
            What is kept apart, as in `fano_factor`; neurons that are not are averaged.
        by : str
            The column whose values are labels; presentations without one are left out.

        Returns
        -------
        xarray.DataArray of float64
            Lazy (dask), between 0 and 1. NaN for silent neurons, and where there are fewer than two labels.
            Coordinate ``defined``: neurons that went into the figure.

        Raises
        ------
        QuestionError
            If there are no presentations or no such column, if ``per`` makes no sense, or keeps the labels
            apart that are compared.
        """
        result = self._by_slots("selectivity", per, by, selectivity_figures)
        return self._finished(result, f"selectivity among values of {by}")

    def information(
        self,
        per: Per | None = None,
        *,
        by: str = "label",
        kind: Literal["mutual", "skaggs"] = "mutual",
        correction: Literal["miller-madow"] | None = None,
    ) -> xr.DataArray:
        """Information that the spikes of a neuron hold about the label, in bits.

        Parameters
        ----------
        per : str or sequence of str, optional
            What is kept apart, as in `fano_factor`; neurons that are not are averaged.
        by : str
            The column whose values are labels; presentations without one are left out.
        kind : {"mutual", "skaggs"}
            ``"mutual"``: mutual information of label and spike count of a presentation, in bits per
            presentation. Where presentations differ in length, counts tell of that too; ``select(time=...)``
            makes them equal. ``"skaggs"``: information of Skaggs et al., in bits per spike, from the rates at
            the labels alone, as it is used for places.
        correction : {"miller-madow"}, optional
            Of mutual information, which is too high with few presentations. Left out, it is as observed
            ("plug-in"); corrected, it may be below 0. See `analysis.formulas.tuning`.

        Returns
        -------
        xarray.DataArray of float64
            Lazy (dask). NaN where no presentation has a label; of Skaggs's also for silent neurons.
            Coordinate ``defined``: neurons that went into the figure.

        Raises
        ------
        QuestionError
            As in `selectivity`; or if ``kind`` or ``correction`` is none of these.
        """
        check_choice(kind, "kind", _KINDS)
        check_choice(correction, "correction", _CORRECTIONS)
        if kind == "skaggs":
            if correction is not None:
                raise QuestionError(
                    f"correction={correction!r} is one of mutual information; leave it out with kind='skaggs'"
                )
            result = self._by_slots("information", per, by, skaggs_figures)
            return self._finished(result, f"information about {by} per spike", "bit")
        apart = self._apart("information", per, by)
        parts = []
        for table in tables_of("information", self._layers(), self.members):
            codes, labels = self._by("information", by, apart, table)
            # A neuron fires once in a frame at most.
            bins = int(table.lengths.max(initial=0)) + 1
            groups = prod(apart.shape) * labels
            shape = groups, bins
            total = tally("information", joint_histogram, table, [codes], shape, shape, copies=_JOINT_COPIES)
            asked = (prod(apart.shape), labels, correction is not None)
            parts.append(pooled(apart, table, information_figures, total, *asked))
        name = "mutual information of spike count and "
        return self._finished(averaged("information", apart, parts), name + by, "bit")

    def _apart(self, name: str, per: Per | None, by: str) -> Apart:
        """What is kept apart; QuestionError if the values that are compared were."""
        question = self._read_per(name, per)
        if column_name(name, by) in question.along:
            raise QuestionError(
                f"{name}(per={per!r}, by={by!r}) compares presentations of different {by!r}, which per keeps "
                f"apart from each other; leave {by!r} out of per, or name another column in by"
            )
        return Apart.of(name, self._layers(), question, self.members)

    def _by_slots(self, name: str, per: Per | None, by: str, figures: Any) -> xr.DataArray:
        """Averages of figures that come from the spikes and the slots of each label."""
        apart = self._apart(name, per, by)
        parts = []
        for table in tables_of(name, self._layers(), self.members):
            codes, labels = self._by(name, by, apart, table)
            groups = prod(apart.shape) * labels
            total = tally(name, moments, table, [codes], [groups], (2, groups))
            slots = np.zeros(groups, np.int64)
            np.add.at(slots, codes[codes >= 0], table.lengths[codes >= 0])
            parts.append(pooled(apart, table, figures, total, slots.reshape(prod(apart.shape), labels)))
        return averaged(name, apart, parts)
