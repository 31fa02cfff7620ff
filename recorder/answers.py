"""Rates and ratios from the totals of layers, and what is said where there are none."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from recorder.format.bits import Counts

# Frames of a layer, and spikes of each of its neurons, int64 [neurons].
Totals = tuple[int, Counts]


class UnknownLayerError(KeyError, ValueError):
    """No layer of that name is recorded."""

    def __str__(self) -> str:
        return str(self.args[0])


class NothingRecordedError(RuntimeError):
    """A question about spikes before there are any."""


def firing_rate(totals: Iterable[Totals]) -> np.float64:
    """Spikes ÷ slots of all of these layers, NaN where there are no slots."""
    spikes = slots = 0
    for frames, counts in totals:
        spikes += int(counts.sum())
        slots += frames * len(counts)
    return _ratio(spikes, slots)


def silent_ratio(totals: Iterable[Totals]) -> np.float64:
    """Neurons that never fired ÷ neurons of all of these layers, NaN where there are no frames."""
    silent = neurons = 0
    for frames, counts in totals:
        if frames == 0:
            continue  # all that was recorded of this layer is marked lost, which is not silence
        silent += int(np.count_nonzero(counts == 0))
        neurons += len(counts)
    return _ratio(silent, neurons)


def _ratio(numerator: int, denominator: int) -> np.float64:
    return np.float64(numerator / denominator if denominator else np.nan)
