"""Names by which columns of the trials are asked for and shown, everywhere: their own, unless that is taken.

Answers have names, axes and coordinates of their own, such as ``firing_rate``, ``step``, ``lag`` or
``defined``. A column that has such a name is shown as ``trial_step``, and asked for by that name, so that
neither hides the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable
from typing import Final

from analysis.questions import PER
from recorder.format.columns import KEYS

# Axes of neurons, of values that statistics tell apart, and of what they are made of inside.
_AXES: Final = (
    *("depth", "height", "width", "length", r"axis_\d+", "frame"),
    *("interval", "lag", "rate_bin", "active", "bin", "weight_layer", "kind", "column"),
)
# What stands beside figures, and names of lazy arrays.
_BESIDE: Final = (
    *("defined", "longer", "rate_bin_end", "lower", "upper", "outside", "ties", "presentations"),
    *("input_layer", "spikes", "values"),
)
# Figures, which are called as the statistics are that give them.
_FIGURES: Final = (
    *("accuracy", "active_histogram", "autocorrelation", "correlation", "counted_operations", "energy"),
    *("fano_factor", "features", "firing_rate", "information", "isi_cv", "isi_cv2", "isi_histogram"),
    *("isi_lv", "isi_mean", "latency", "latency_censored", "participation_ratio", "rate_histogram"),
    *("saturated_ratio", "selectivity", "silent_ratio", "similarity", "sparseness", "spike_count"),
    *("synaptic_operations", "synchrony"),
    *("mean", "std", "min", "max", "histogram", "spike_triggered_average"),
)
_DURATIONS: Final = r"(?:step|window|time|interval|lag)_(?:s|ms|us|µs|μs|ns)"
_WORDS: Final = [word for word in PER if word not in KEYS]
_TAKEN: Final = re.compile("|".join([*_WORDS, *_AXES, *_BESIDE, *_FIGURES, _DURATIONS]))


def shown_name(stored: str) -> str:
    """Name under which a column is shown: its own, or ``trial_`` before one that is taken.

    Examples
    --------
    >>> shown_name("epoch"), shown_name("step"), shown_name("trial_step")
    ('epoch', 'trial_step', 'trial_trial_step')
    """
    return _told_apart(stored, lambda name: _TAKEN.fullmatch(name) is not None)


def free_name(name: str, taken: Collection[Hashable]) -> str:
    """Name of a column in a table that has others: its own, or ``trial_`` before one that is taken.

    Examples
    --------
    >>> free_name("epoch", ["step"]), free_name("step", ["step"]), free_name("trial_step", ["step"])
    ('epoch', 'trial_step', 'trial_trial_step')
    """
    return _told_apart(name, lambda each: each in taken)


def _told_apart(name: str, is_taken: Callable[[str], bool]) -> str:
    bare = name
    while bare.startswith("trial_") and not is_taken(bare):
        bare = bare.removeprefix("trial_")
    return f"trial_{name}" if is_taken(bare) else name
