"""How irregular intervals are, and how much counts differ between presentations.

All figures come from sums of integers, which can be added up in any order and over any cuts. All arguments
broadcast against each other; with one element for each neuron or group, so has the result.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from analysis.formulas.integers import Floats, as_integers, exactly, quotient
from recorder.format.bits import Integers

# Terms of CV2 and LV are kept as multiples of 2**-52, in two numbers of which the lower one has 26 bits.
_FRACTION_BITS: Final = 52
_LOW_BITS: Final = 26


def mean(n: ArrayLike, total: ArrayLike) -> Floats:
    """Mean of n integers from their sum; NaN where n is 0.

    Equal to ``elephant.statistics.isi(...).mean()`` if they are intervals.
    """
    return quotient(as_integers(total), as_integers(n))


def coefficient_of_variation(n: ArrayLike, total: ArrayLike, squares: ArrayLike) -> Floats:
    """Standard deviation of intervals divided by their mean: 0 for a clock, 1 for a Poisson process.

    CV = sqrt(n · squares - total²) / total, the standard deviation being that of the intervals themselves
    (ddof 0). Source: Softky & Koch 1993, J. Neurosci. 13:334. Equal to ``elephant.statistics.cv``, but NaN
    for one interval, which varies in no way that could be known.

    Parameters
    ----------
    n : int array
        Number of intervals.
    total, squares : int array
        Sum of the intervals, in steps, and of their squares.

    Returns
    -------
    float64 array
        NaN for fewer than two intervals.
    """
    spread = exactly(_spread, n, total, squares)
    return quotient(np.sqrt(spread), as_integers(total), np.asarray(n) > 1)


def fano_factor(n: ArrayLike, total: ArrayLike, squares: ArrayLike) -> Floats:
    """Variance of the counts of presentations divided by their mean: 0 if all are equal, 1 for Poisson.

    F = (n · squares - total²) / (n · total), the variance being that of the counts themselves (ddof 0).
    Source: Fano 1947, Phys. Rev. 72:26. Equal to ``elephant.statistics.fanofactor``, but NaN for one
    presentation, which varies in no way that could be known.

    Parameters
    ----------
    n : int array
        Number of presentations.
    total, squares : int array
        Sum of the counts of the presentations, and of their squares.

    Returns
    -------
    float64 array
        NaN for fewer than two presentations, and for neurons that never fired.
    """
    scale = np.multiply(n, total, dtype=np.float64)
    return quotient(exactly(_spread, n, total, squares), scale, np.asarray(n) > 1)


def fano_over_labels(n: ArrayLike, total: ArrayLike, squares: ArrayLike) -> Floats:
    """Mean over labels of the Fano factor among presentations of one label.

    Presentations of different labels differ because their inputs do; this is about presentations of equal
    label. Source: Churchland et al. 2010, Nat. Neurosci. 13:369, for the variance among presentations of one
    stimulus. The mean over labels, each with the same weight, is a choice made here.

    Parameters
    ----------
    n : int array, shape [labels]
        Presentations of each label.
    total, squares : int array, shape [labels, ...]
        As in `fano_factor`.

    Returns
    -------
    float64 array, shape [...]
        Labels for which `fano_factor` is NaN are left out; NaN where that leaves none.
    """
    total, squares = np.asarray(total), np.asarray(squares)
    each = fano_factor(np.reshape(n, (-1,) + (1,) * (total.ndim - 1)), total, squares)
    defined = ~np.isnan(each)
    return quotient(each.sum(axis=0, where=defined), defined.sum(axis=0))


def fixed_point_terms_cv2(before: ArrayLike, after: ArrayLike) -> tuple[Integers, Integers]:
    """Terms of CV2 of pairs of successive intervals, 2 |b - a| / (b + a), as integers that can be added up.

    The sum of floats depends on the order of adding, and so on chunks and tasks. A term is therefore rounded
    down to a multiple of 2**-52 once and for all, and kept as two integers:
    term = (high · 2**26 + low) · 2**-52. Either may be summed over 2**34 pairs.
    Source: Holt et al. 1996, J. Neurophysiol. 75:1806.

    Parameters
    ----------
    before, after : int array, shape [pairs]
        Intervals and their successors in the same presentation, in steps, at least 1.

    Returns
    -------
    high, low : int64 array, shape [pairs]
        See `mean_of_terms`.
    """
    before, after = as_integers(before), as_integers(after)
    return _fixed_point(2.0 * np.abs(after - before) / (before + after))


def fixed_point_terms_lv(before: ArrayLike, after: ArrayLike) -> tuple[Integers, Integers]:
    """Terms of the local variation LV, 3 ((b - a) / (b + a))², as integers; see `fixed_point_terms_cv2`.

    Source: Shinomoto et al. 2003, Neural Comput. 15:2823.
    """
    before, after = as_integers(before), as_integers(after)
    return _fixed_point(3.0 * np.square((after - before) / (before + after)))


def mean_of_terms(n: ArrayLike, high: ArrayLike, low: ArrayLike) -> Floats:
    """CV2 or LV: the mean of n fixed-point terms from the sums of their two numbers.

    Equal to ``elephant.statistics.cv2`` and ``lv`` of one presentation.

    Parameters
    ----------
    n : int array
        Number of pairs of successive intervals.
    high, low : int array
        Sums of what `fixed_point_terms_cv2` or `fixed_point_terms_lv` returned.

    Returns
    -------
    float64 array
        NaN where there are no pairs, as with fewer than two intervals.
    """
    terms = as_integers(high) * 2.0**_LOW_BITS + as_integers(low)
    return quotient(terms * 2.0**-_FRACTION_BITS, as_integers(n))


def _spread(n: Integers, total: Integers, squares: Integers) -> Integers:
    """n² times the variance."""
    return n * squares - total * total


def _fixed_point(term: Floats) -> tuple[Integers, Integers]:
    fixed = np.floor(term * 2.0**_FRACTION_BITS).astype(np.int64)
    return fixed >> _LOW_BITS, fixed & (2**_LOW_BITS - 1)
