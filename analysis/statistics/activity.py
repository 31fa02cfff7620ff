"""How much neurons fire: rates, counts, and the share of neurons that fire never."""

from __future__ import annotations

from typing import Final

import xarray as xr

from analysis.kernels.quantities import FIRED, SPIKES
from analysis.questions import Per
from analysis.statistics.answering import Answering, Statistic

FIRING_RATE: Final = Statistic(
    "firing_rate", "firing rate: spikes per neuron and step", SPIKES, divided_by="slots"
)
SILENT_RATIO: Final = Statistic(
    "silent_ratio",
    "silent ratio: neurons that never fired / neurons",
    FIRED,
    complement=True,
    divided_by="neurons",
)
SPIKE_COUNT: Final = Statistic("spike_count", "spikes", SPIKES)


class Activity(Answering):
    """Statistics of how much neurons fire."""

    def firing_rate(self, per: Per | None = None, *, window: int | None = None) -> xr.DataArray:
        """Spikes per neuron and step: spikes ÷ slots, between 0 and 1, pooled over what is not kept apart.

        Parameters
        ----------
        per : str or sequence of str, optional
            What is kept apart, see the class. Left out, nothing is, and the result is a single number.
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
            If ``per`` or ``window`` makes no sense, or not for this recording or layer.
        RecordingFormatError
            If a table that is needed is damaged; when computed, if a chunk is missing or damaged.
        """
        return self._ask(FIRING_RATE, per, window)

    def silent_ratio(self, per: Per | None = None, *, window: int | None = None) -> xr.DataArray:
        """Neurons that never fired in any frame looked at ÷ neurons; otherwise as `firing_rate`.

        Per step that is any sample of the step, per label any frame with that label; per neuron 0 or 1.
        """
        return self._ask(SILENT_RATIO, per, window)

    def spike_count(self, per: Per | None = None, *, window: int | None = None) -> xr.DataArray:
        """Number of spikes, int64 and 0 where there are no frames; otherwise as `firing_rate`."""
        return self._ask(SPIKE_COUNT, per, window)
