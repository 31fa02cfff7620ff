"""Correlation from sums: of two series, of a series with itself later, of neurons with each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from analysis.formulas.integers import Floats, as_integers, exactly, quotient
from recorder.format.bits import Integers


def pearson(
    n: ArrayLike, sum_x: ArrayLike, sum_y: ArrayLike, sum_xx: ArrayLike, sum_yy: ArrayLike, sum_xy: ArrayLike
) -> Floats:
    """Pearson's correlation coefficient of two series of integers, from their sums.

    r = (n Σxy - Σx Σy) / sqrt((n Σxx - (Σx)²) (n Σyy - (Σy)²)). Source: Pearson 1895, Proc. R. Soc. 58:240.
    Differences are exact before they are rounded to float64. A series with itself has exactly 1, also where
    n reaches 2**40 slots. Equal to ``numpy.corrcoef`` and to
    ``elephant.spike_train_correlation.correlation_coefficient``.

    Parameters
    ----------
    n : int array
        Number of pairs (x, y).
    sum_x, sum_y, sum_xx, sum_yy, sum_xy : int array
        Sums of both series, of their squares and of their products. All arguments broadcast against each
        other.

    Returns
    -------
    float64 array
        NaN where a series is constant, and so for fewer than two pairs.
    """
    covariance = exactly(_co_spread, n, sum_x, sum_y, sum_xy)
    spread_x = exactly(_co_spread, n, sum_x, sum_x, sum_xx)
    spread_y = exactly(_co_spread, n, sum_y, sum_y, sum_yy)
    return quotient(covariance, np.sqrt(spread_x * spread_y))


def autocorrelation(n: ArrayLike, both: ArrayLike, first: ArrayLike, second: ArrayLike) -> Floats:
    """Pearson's correlation of a spike train with itself some steps later, for each lag.

    Pairs of slots that are ``lag`` steps apart are the same neuron's, in one presentation. Each lag has other
    pairs, and so sums of its own: nothing is assumed of slots that have no partner. Lag 0 gives exactly 1.
    Equal to ``numpy.corrcoef(train[:-lag], train[lag:])[0, 1]``.

    Parameters
    ----------
    n : int array, shape [lags, ...]
        Number of pairs.
    both : int array, shape [lags, ...]
        Pairs with spikes in both slots.
    first, second : int array, shape [lags, ...]
        Pairs with a spike in the earlier and in the later slot.

    Returns
    -------
    float64 array, shape [lags, ...]
        NaN where all earlier slots or all later slots are equal.
    """
    return pearson(n, first, second, first, second, both)


def correlation_matrix(n: ArrayLike, sums: ArrayLike, products: ArrayLike) -> Floats:
    """Pearson's correlation of each two neurons.

    Parameters
    ----------
    n : int
        Number of frames, or of presentations.
    sums : int array, shape [neurons]
        Sum of each neuron's spikes or counts.
    products : int array, shape [neurons, neurons]
        Sums of the products of each two neurons, and so of squares on the diagonal. For spikes these are the
        frames in which both fired.

    Returns
    -------
    float64 array, shape [neurons, neurons]
        Symmetric, with exactly 1 on the diagonal; NaN in rows and columns of constant neurons. Equal to
        ``numpy.corrcoef(trains)``.
    """
    total: Integers = as_integers(sums)
    squares = np.diagonal(as_integers(products))
    return pearson(n, total[:, None], total, squares[:, None], squares, products)


def _co_spread(n: Integers, sum_x: Integers, sum_y: Integers, sum_xy: Integers) -> Integers:
    """n² times the covariance."""
    return n * sum_xy - sum_x * sum_y
