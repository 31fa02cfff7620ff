"""Statistics of activity: rates, counts, and the shares of neurons that fire never or all the time."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

import xarray as xr

from analysis.arguments import QuestionError, real_number
from analysis.kernels.counting.quantities import FIRED, LARGEST_DENOMINATOR, SPIKES, FiredInShare
from analysis.questions import Per
from analysis.statistics.answers.answering import Answering, Statistic
from analysis.statistics.answers.durations import per_second
from analysis.statistics.values import Of, check_of, meaning

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

    def firing_rate(
        self,
        per: Per | None = None,
        *,
        window: int | None = None,
        unit: str | None = None,
        of: Of = "events",
    ) -> xr.DataArray:
        """Spikes per neuron and step: spikes ÷ slots, between 0 and 1, pooled over what is not kept apart.

        Parameters
        ----------
        per : str or sequence of str, optional
            What is kept apart, see the class. Left out, nothing is, and the result is a single number.
        window : int, optional
            Steps in a window, for ``per="window"``. Windows are counted from step 0, or from the first step
            of ``select(steps=...)``; the last may be shorter.
        unit : "Hz", optional
            Spikes per second instead, where the duration of a step was recorded; where it differs between
            recordings, of each that is kept apart.
        of : {"events", "magnitude", "sum"}
            Of layers that put out other values than 0 and 1: slots whose value is not 0, the mean of
            magnitudes, or the mean of values. Of other layers these are the same. The activation sparsity of
            NeuroBench is 1 - the rate of events.

        Returns
        -------
        xarray.DataArray of float64
            Lazy (dask). NaN where there are no frames; layers without frames in a group are left out of the
            pool there.

        Raises
        ------
        QuestionError
            If ``per``, ``window``, ``unit`` or ``of`` makes no sense, or not for this recording or layer.
        RecordingFormatError
            If a table that is needed is damaged; when computed, if a chunk is missing or damaged.
        """
        check_of(of)
        long_name = FIRING_RATE.long_name if of == "events" else f"mean {meaning(of)} per neuron and step"
        rate = replace(FIRING_RATE, long_name=long_name, of=of)
        return per_second(self._ask(rate, per, window), unit, self.members)

    def silent_ratio(self, per: Per | None = None, *, window: int | None = None) -> xr.DataArray:
        """Neurons that never fired in any frame looked at ÷ neurons; otherwise as `firing_rate`.

        Per step that is any sample of the step, per label any frame with that label; per neuron 0 or 1.
        """
        return self._ask(SILENT_RATIO, per, window)

    def spike_count(
        self, per: Per | None = None, *, window: int | None = None, of: Of = "events"
    ) -> xr.DataArray:
        """Number of spikes, int64 and 0 where there are no frames; otherwise as `firing_rate`.

        With ``of="magnitude"`` or ``of="sum"`` it is the sum of magnitudes or of values: int64, or float64
        where values are multiples of a scale other than 1.
        """
        check_of(of)
        counted = replace(SPIKE_COUNT, long_name=meaning(of), of=of)
        return self._ask(counted, per, window)

    def saturated_ratio(
        self, per: Per | None = None, *, threshold: float | Fraction = 1.0, window: int | None = None
    ) -> xr.DataArray:
        """Neurons that fired in at least that share of their slots ÷ neurons; otherwise as `firing_rate`.

        A neuron is saturated if its spikes ≥ ⌈``threshold`` × its slots⌉, counted in each group that ``per``
        keeps apart: per step its slots are the samples of the step, per label the frames with that label. Of
        several recordings its slots are those of all. A neuron that never fired is never saturated, however
        low the threshold. Per neuron the ratio is 0 or 1, where there are no frames it is NaN.

        Parameters
        ----------
        per, window
            As in `firing_rate`.
        threshold : float or fractions.Fraction
            Above 0, at most 1. It stands for the nearest fraction whose denominator is at most 2²⁶, and is
            compared exactly: 9 spikes in 10 slots reach 0.9, and 1 in 3 reaches 1 / 3.

        Raises
        ------
        QuestionError
            If ``threshold`` is no number, or out of its range; and as `firing_rate`.
        """
        share = _share(threshold)
        long_name = f"saturated ratio: neurons that fired in a share of slots ≥ {float(share):g} / neurons"
        saturated = Statistic("saturated_ratio", long_name, FiredInShare(share), divided_by="neurons")
        return self._ask(saturated, per, window)


def _share(threshold: Any) -> Fraction:
    """The share that a user's threshold stands for."""
    threshold = real_number(threshold, "threshold", "a share of slots such as 0.9")
    value = threshold if isinstance(threshold, Fraction) else float(threshold)
    if not 0 < value <= 1:
        raise QuestionError(f"threshold={threshold!r}; expected a share of slots above 0, and at most 1")
    # Too small a share for any such fraction but 0 is reached by every neuron that fired.
    return Fraction(value).limit_denominator(LARGEST_DENOMINATOR)
