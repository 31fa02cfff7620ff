"""Integers are exact beyond 64 bits, and divided once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.formulas.integers import exactly, matrix_product, quotient


def difference(a: Any, b: Any, c: Any, d: Any) -> Any:
    return a * b - c * d


sums = st.integers(-(2**54), 2**54)


@given(sums, sums, sums, sums, st.integers(-3, 3))
def test_differences_of_products_are_exact_beyond_64_bits(a: int, b: int, c: int, d: int, near: int) -> None:
    exact = a * b - c * d
    assert exactly(difference, [a], [b], [c], [d])[0] == pytest.approx(exact, rel=2**-51, abs=0)
    # Products of 108 bits that all but cancel.
    assert exactly(difference, a, b, a, b - near) == pytest.approx(a * near, rel=2**-51, abs=0)
    assert exactly(difference, a, b, b, a) == 0


def test_what_fits_64_bits_is_rounded_once() -> None:
    n = 2**40
    assert exactly(difference, n, 2**39 + 1, n, 2**39) == n
    assert exactly(difference, n, 2**62 + 1, n, 2**62) == n
    assert (
        exactly(lambda counts: (counts * counts).sum(), np.full(2**10, 2**40 + 1)) == 2**10 * (2**40 + 1) ** 2
    )


def test_fractions_are_refused() -> None:
    with pytest.raises(TypeError, match="got values of type float64; expected integers"):
        exactly(difference, 1, 2, 3, 4.0)


def test_a_quotient_without_a_positive_denominator_is_nan() -> None:
    np.testing.assert_array_equal(
        quotient([1, 0, 3, 4], [2, 0, -1, 8], [True, True, True, False]), [0.5, *[np.nan] * 3]
    )
    assert quotient(1, [3, 0]).tolist()[0] == 1 / 3


@pytest.mark.parametrize("largest", [1, 255, 2**24, 2**25, 2**29])
def test_products_of_matrices_are_exact(largest: int) -> None:
    rng = np.random.default_rng(largest)
    first = rng.integers(-largest, largest, (7, 31), endpoint=True)
    second = rng.integers(-largest, largest, (31, 9), endpoint=True)
    first[0], second[:, 0] = largest, largest
    expected = first.astype(object) @ second.astype(object)
    np.testing.assert_array_equal(matrix_product(first, second), expected.astype(np.int64))


def test_products_that_may_exceed_64_bits_are_refused() -> None:
    counts = np.full((1, 2), 2**31)
    with pytest.raises(ValueError, match=r"2 products of numbers up to 2147483648 .* may exceed 64 bits"):
        matrix_product(counts, counts.T)
    assert matrix_product(np.zeros((0, 3), np.int64), np.zeros((3, 0), np.int64)).shape == (0, 0)
