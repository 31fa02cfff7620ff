"""Statistics of recordings and layers: a file for each family, all of them in one class.

`Recording` and `Layer` inherit from `Statistics`, and nobody else enters; what tasks compute is beside this
room, in `analysis.kernels`.
"""

from analysis.statistics.activity import Activity
from analysis.statistics.operations import Operations
from analysis.statistics.population import Populations
from analysis.statistics.presentations import Presentations
from analysis.statistics.sequences import SequenceStatistics
from analysis.statistics.similarity import Similarity
from analysis.statistics.tuning import Tuning

__all__ = ["Statistics"]


class Statistics(Activity, Operations, Populations, Presentations, SequenceStatistics, Similarity, Tuning):
    """Every statistic, as methods of whatever has layers and recordings to ask, see `Answering`."""
