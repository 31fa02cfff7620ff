"""Two recordings, or two layers, compared bit by bit: where they first differ, and how much.

`compare` is the way in: it pairs frames (`pairing`), has tasks compare them, and returns a `Comparison`.
"""

from analysis.comparison.comparing import compare
from analysis.comparison.results import Comparison, Divergence, LayerComparison, SignalComparison

__all__ = ["Comparison", "Divergence", "LayerComparison", "SignalComparison", "compare"]
