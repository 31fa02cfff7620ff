"""How similar the counts of two layers, or of two runs, are over the same presentations."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from analysis.formulas.integers import Floats, as_integers, exactly, matrix_product, quotient
from recorder.format.bits import Integers


def linear_cka(first: ArrayLike, second: ArrayLike) -> Floats:
    """Linear centred kernel alignment (CKA) of two matrices of counts, without the bias of few presentations.

    CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), with the Gram matrices K and L of the presentations. It is
    1 for counts that are equal up to rotation and scale, and 0 on average for independent ones, whatever the
    numbers of neurons and presentations; single values may be below 0. Sources: Kornblith et al. 2019, ICML
    (CKA); Song et al. 2012, JMLR 13:1393, eq. 5 (the unbiased estimator of HSIC); Nguyen et al. 2021, ICLR
    (both together).

    HSIC is an integer up to a factor that cancels, and exact before it is rounded to float64. It comes from
    the products of neurons or from those of presentations, whichever are fewer; both give the same integer.

    Parameters
    ----------
    first, second : int array, shapes [presentations, neurons] and [presentations, other neurons]
        Counts of the same presentations in the same order.

    Returns
    -------
    float64 array, shape []
        NaN for fewer than four presentations, where the estimator does not exist, and where HSIC of either
        matrix with itself is 0 (it is never below), as if no neuron varies.

    Raises
    ------
    ValueError
        If the matrices differ in presentations.
    """
    x, y = as_integers(first), as_integers(second)
    if len(x) != len(y):
        raise ValueError(
            f"got counts of {len(x)} and of {len(y)} presentations; expected the same presentations in both: "
            "select those that both have"
        )
    if len(x) < 4:
        return np.full((), np.nan)
    own_x, own_y = _hsic(x, x), _hsic(y, y)
    return quotient(_hsic(x, y), np.sqrt(own_x * own_y))


def _hsic(x: Integers, y: Integers) -> Floats:
    """HSIC without bias, times n (n - 1) (n - 2) (n - 3) of n presentations: an integer."""
    if x.shape[1] * y.shape[1] <= len(x) ** 2:
        left = right = matrix_product(x.T, y)
    else:
        left, right = matrix_product(x, x.T), matrix_product(y, y.T)
    return exactly(_scaled_hsic, len(x), left, right, *_margins(x), *_margins(y))


def _margins(counts: Integers) -> tuple[Integers, Integers]:
    """Diagonal of the Gram matrix, and sums of its rows without the diagonal."""
    diagonal: Integers = np.square(counts).sum(axis=1)
    rows = matrix_product(counts, counts.sum(axis=0)[:, None])[:, 0]
    return diagonal, rows - diagonal


def _scaled_hsic(
    n: Integers,
    left: Integers,
    right: Integers,
    diagonal_k: Integers,
    rows_k: Integers,
    diagonal_l: Integers,
    rows_l: Integers,
) -> Integers:
    """(n - 1) (n - 2) tr(KL) + 1'K1 1'L1 - 2 (n - 1) 1'KL1, of Gram matrices without their diagonals.

    The sum of ``left * right`` is tr(KL) with the diagonals: Σ K(i, j) L(i, j), or the squares of X'Y.
    """
    trace = (left * right).sum() - (diagonal_k * diagonal_l).sum()
    value: Integers = (
        (n - 1) * (n - 2) * trace + rows_k.sum() * rows_l.sum() - 2 * (n - 1) * (rows_k * rows_l).sum()
    )
    return value
