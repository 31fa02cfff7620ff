"""Integers that stay exact where 64 bits end, and the one division that comes last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recorder.format.bits import Integers

Floats = NDArray[np.float64]

_WORD: Final = 2.0**64
# float64 holds every integer below.
_EXACT_IN_FLOAT: Final = 2**53


def exactly(formula: Callable[..., Any], *integers: ArrayLike) -> Floats:
    """Value of a formula of integers, however much its terms cancel, and where they exceed 64 bits.

    The formula is evaluated twice. In int64 it is right modulo 2**64, as sums and products that overflow are;
    in float64 it is right to some 53 bits, which tells how often 2**64 is missing. Each value found is the
    exact integer, but for rounding it to float64, as long as terms stay below 2**110; larger ones are as
    exact as float64.

    Parameters
    ----------
    formula : function
        Made of ``+``, ``-``, ``*`` and sums over axes, and nothing else. It must treat arrays of int64 and of
        float64 alike.
    *integers : int arrays
        Arguments of the formula, below 2**63.

    Returns
    -------
    float64 array
        Shape of what the formula returns.

    Raises
    ------
    TypeError
        If an argument is no array of integers.
    """
    whole_numbers = [as_integers(each) for each in integers]
    with np.errstate(over="ignore"):
        whole = formula(*whole_numbers)
    rough = formula(*(each.astype(np.float64) for each in whole_numbers))
    value: Floats = whole + np.rint((rough - whole) / _WORD) * _WORD
    return value


def as_integers(values: ArrayLike) -> Integers:
    """Values as int64.

    Raises
    ------
    TypeError
        If they are no integers: cutting fractions off would make wrong figures.
    """
    array = np.asarray(values)
    if not np.can_cast(array.dtype, np.int64, "same_kind"):
        raise TypeError(
            f"got values of type {array.dtype}; expected integers, as sums and counts are exact here: "
            "pass what was counted, before any division"
        )
    return array.astype(np.int64, copy=False)


def quotient(numerator: ArrayLike, denominator: ArrayLike, defined: ArrayLike = True) -> Floats:
    """Numerator / denominator as float64; NaN where the denominator is not positive or nothing is defined."""
    above, below, where = np.broadcast_arrays(
        np.asarray(numerator, np.float64), np.asarray(denominator, np.float64), defined
    )
    result: Floats = np.divide(above, below, out=np.full(below.shape, np.nan), where=where & (below > 0))
    return result


def matrix_product(first: Integers, second: Integers) -> Integers:
    """Exact product of two matrices of integers.

    BLAS multiplies them as float64 where no sum can reach 2**53, which is exact in any order of adding;
    numpy multiplies others as int64, which is slower.

    Parameters
    ----------
    first, second : int64 arrays, shapes [rows, inner] and [inner, columns]

    Returns
    -------
    int64 array, shape [rows, columns]

    Raises
    ------
    ValueError
        If sums could exceed 64 bits.
    """
    largest = [int(np.abs(each).max(initial=0)) for each in (first, second)]
    bound = first.shape[1] * largest[0] * largest[1]
    if bound < _EXACT_IN_FLOAT:
        return (first.astype(np.float64) @ second.astype(np.float64)).astype(np.int64)
    if bound < 2**63:
        return first @ second
    raise ValueError(
        f"{first.shape[1]} products of numbers up to {largest[0]} and {largest[1]} may exceed 64 bits; "
        "expected a sum below 2**63: count shorter presentations, or ask about fewer of them"
    )
