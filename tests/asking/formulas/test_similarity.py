"""CKA is that of the published formulas, written out on matrices of floats."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.formulas.similarity import linear_cka


def hsic_of(x: Any, y: Any) -> float:
    """Song et al. 2012, equation 5."""
    m = len(x)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    one = np.ones(m)
    return (
        np.trace(k @ l)
        + (one @ k @ one) * (one @ l @ one) / ((m - 1) * (m - 2))
        - 2 / (m - 2) * (one @ k @ l @ one)
    ) / (m * (m - 3))


def hsic_by_counting(x: Any, y: Any) -> float:
    """The mean over all quadruples of different presentations that it estimates without bias."""
    k, l = x @ x.T, y @ y.T  # noqa: E741
    terms = [k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q]) for i, j, q, r in permutations(range(len(x)), 4)]
    return float(np.mean(terms))


def counts_like(presentations: int, neurons: int, seed: int) -> Any:
    return np.random.default_rng(seed).poisson(3, (presentations, neurons))


@pytest.mark.parametrize(
    "sizes", [(20, 3, 5), (20, 50, 60), (20, 3, 200), (20, 19, 21), (4, 1, 1), (33, 257, 9)]
)
def test_cka_is_that_of_the_papers(sizes: tuple[int, int, int]) -> None:
    presentations, first, second = sizes
    x, y = counts_like(presentations, first, 1), counts_like(presentations, second, 2)
    y[:, 0] += 2 * x[:, 0]
    own = [hsic_of(1.0 * x, 1.0 * x), hsic_of(1.0 * y, 1.0 * y)]
    expected = hsic_of(1.0 * x, 1.0 * y) / np.sqrt(own[0] * own[1]) if min(own) > 0 else np.nan
    np.testing.assert_allclose(linear_cka(x, y), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(linear_cka(y, x), linear_cka(x, y))


def test_cka_is_that_of_all_quadruples() -> None:
    x, y = counts_like(7, 3, 3), counts_like(7, 11, 4)
    y[:, :3] += x
    expected = hsic_by_counting(x, y) / np.sqrt(hsic_by_counting(x, x) * hsic_by_counting(y, y))
    assert linear_cka(x, y) == pytest.approx(expected, rel=1e-12)


small = st.integers(1, 9)


@given(st.data(), st.integers(4, 12), small, small)
def test_products_of_neurons_and_of_presentations_give_the_same(
    data: Any, presentations: int, first: int, second: int
) -> None:
    counts = st.integers(0, 50)
    x = data.draw(arrays(np.int64, (presentations, first), elements=counts))
    y = data.draw(arrays(np.int64, (presentations, second), elements=counts))
    # Silent neurons change nothing, and have products of presentations used.
    wide = [np.pad(each, [(0, 0), (0, 40)]) for each in (x, y)]
    np.testing.assert_array_equal(linear_cka(*wide), linear_cka(x, y))
    np.testing.assert_array_equal(linear_cka(x, wide[1]), linear_cka(x, y))


def test_equal_and_scaled_counts_are_one() -> None:
    for neurons in (3, 90):
        x = counts_like(20, neurons, 5)
        assert linear_cka(x, x) == 1
        assert linear_cka(x, x[:, ::-1]) == 1
        assert linear_cka(x, 4 * x + 7) == pytest.approx(1, rel=1e-14)


def test_independent_counts_are_nothing_on_average_however_many_neurons() -> None:
    values = [
        linear_cka(counts_like(12, 300, seed), counts_like(12, 300, 1000 + seed)) for seed in range(200)
    ]
    assert abs(np.mean(values)) < 0.05
    assert min(values) < 0


@pytest.mark.parametrize("presentations", [0, 1, 3])
def test_fewer_than_four_presentations_have_no_cka(presentations: int) -> None:
    assert np.isnan(linear_cka(counts_like(presentations, 5, 0), counts_like(presentations, 6, 1)))


def test_counts_that_do_not_vary_have_no_cka() -> None:
    x = counts_like(9, 5, 0)
    for constant in (np.zeros((9, 2), np.int64), np.full((9, 300), 7), np.zeros((9, 0), np.int64)):
        assert np.isnan(linear_cka(x, constant))
        assert np.isnan(linear_cka(constant, constant))


def test_cka_of_large_counts_is_exact() -> None:
    x, y = counts_like(16, 5, 6), counts_like(16, 6, 7)
    y[:, :5] += x
    expected = linear_cka(x, y)
    assert linear_cka(x + 2**20, y) == expected
    assert linear_cka(x + 2**20, y + 2**20) == expected
    assert linear_cka(np.pad(x + 2**20, [(0, 0), (0, 40)]), y) == expected


def test_other_presentations_are_refused() -> None:
    with pytest.raises(ValueError, match="got counts of 5 and of 6 presentations; expected the same"):
        linear_cka(counts_like(5, 2, 0), counts_like(6, 2, 0))
