"""How similar the counts of two layers, or of two runs, are over the same presentations."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from analysis.formulas.integers import Floats, as_integers, exactly, matrix_product, quotient
from recorder.format.bits import Integers

# Sums of squares are kept in two numbers, of which the lower one has so many bits.
_LOW_BITS: Final = 20
_WORD: Final = 2**_LOW_BITS


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
    return cka(_hsic(x, y), _hsic(x, x), _hsic(y, y), len(x))


def cka(both: ArrayLike, first: ArrayLike, second: ArrayLike, presentations: ArrayLike) -> Floats:
    """CKA from HSIC of two matrices of counts, and of each with itself; see `linear_cka`.

    All arguments broadcast against each other.
    """
    return quotient(both, np.sqrt(np.multiply(first, second)), np.asarray(presentations) >= 4)


def hsic_of_grams(n: ArrayLike, first: ArrayLike, second: ArrayLike) -> Floats:
    """HSIC without bias from two Gram matrices, times n (n - 1) (n - 2) (n - 3).

    Parameters
    ----------
    n : int
        Number of presentations. Further rows and columns of zeros change nothing.
    first, second : int array, shape [presentations, presentations]
        Products of the counts of each two presentations.

    Returns
    -------
    float64 array, shape []
        An integer, rounded once.
    """
    one, other = as_integers(first), as_integers(second)
    return exactly(_of_grams, n, one, other, np.diagonal(one), np.diagonal(other))


def bordered_product(first: Integers, second: Integers) -> Integers:
    """The products of neurons from which HSIC follows; they can be added up over presentations.

    To both matrices, [presentations, neurons], three columns are added: the sum of squares of each
    presentation, in two numbers so that sums of products stay within 64 bits, and ones. This is the product
    of the wider matrices, int64 [neurons + 3, other neurons + 3].
    """
    borders = [_border(first), _border(second)]
    above = np.hstack([matrix_product(first.T, second), matrix_product(first.T, borders[1])])
    below = np.hstack([matrix_product(borders[0].T, second), matrix_product(borders[0].T, borders[1])])
    return np.vstack([above, below])


def hsic_of_products(n: ArrayLike, bordered: ArrayLike) -> Floats:
    """HSIC as `hsic_of_grams`, the same integer, from sums of `bordered_product`.

    Parameters
    ----------
    n : int
        Number of presentations.
    bordered : int array, shape [neurons + 3, other neurons + 3]
    """
    sums = as_integers(bordered)
    return exactly(_of_products, n, sums[:-3, :-3], sums[:-3, -3:], sums[-3:, :-3], sums[-3:, -3:])


def _border(counts: Integers) -> Integers:
    squares = np.square(counts).sum(axis=1)
    return np.stack([squares >> _LOW_BITS, squares & (_WORD - 1), np.ones_like(squares)], axis=1)


def _hsic(x: Integers, y: Integers) -> Floats:
    if x.shape[1] * y.shape[1] <= len(x) ** 2:
        return hsic_of_products(len(x), bordered_product(x, y))
    return hsic_of_grams(len(x), matrix_product(x, x.T), matrix_product(y, y.T))


def _of_grams(
    n: Integers, one: Integers, other: Integers, diagonal: Integers, other_diagonal: Integers
) -> Integers:
    rows, other_rows = one.sum(axis=0) - diagonal, other.sum(axis=0) - other_diagonal
    trace = (one * other).sum() - (diagonal * other_diagonal).sum()
    return _scaled_hsic(n, trace, rows.sum(), other_rows.sum(), (rows * other_rows).sum())


def _of_products(n: Integers, both: Integers, of_x: Integers, of_y: Integers, corner: Integers) -> Integers:
    """The same; a row of K without its diagonal is the product of a presentation with the sums of all others.

    ``of_x`` has for each neuron of X the sums of its products with the border of Y, ``of_y`` the reverse.
    """
    x, y = of_x[:, 2], of_y[2]
    squares_k, squares_l = corner[0, 2] * _WORD + corner[1, 2], corner[2, 0] * _WORD + corner[2, 1]
    squares = corner[0, 0] * _WORD * _WORD + (corner[0, 1] + corner[1, 0]) * _WORD + corner[1, 1]
    rows = (x[:, None] * both * y).sum() + squares
    rows = rows - (x * (of_x[:, 0] * _WORD + of_x[:, 1])).sum() - (y * (of_y[0] * _WORD + of_y[1])).sum()
    trace = (both * both).sum() - squares
    return _scaled_hsic(n, trace, (x * x).sum() - squares_k, (y * y).sum() - squares_l, rows)


def _scaled_hsic(
    n: Integers, trace: Integers, total_k: Integers, total_l: Integers, rows: Integers
) -> Integers:
    """(n - 1) (n - 2) tr(KL) + 1'K1 1'L1 - 2 (n - 1) 1'KL1, of Gram matrices without their diagonals."""
    value: Integers = (n - 1) * (n - 2) * trace + total_k * total_l - 2 * (n - 1) * rows
    return value
