"""Figures of intervals and of counts are those of elephant."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import elephant.statistics
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.formulas.variability import (
    coefficient_of_variation,
    fano_factor,
    fano_over_labels,
    fixed_point_terms_cv2,
    fixed_point_terms_lv,
    mean,
    mean_of_terms,
)

intervals_of = st.lists(st.integers(1, 1000), min_size=2, max_size=50)
counts_of = st.lists(st.integers(0, 30), min_size=2, max_size=20)


def sums_of(values: Any) -> tuple[int, int, int]:
    array = np.asarray(values, np.int64)
    return len(array), int(array.sum()), int((array * array).sum())


def mean_of(terms: Any, intervals: list[int]) -> float:
    high, low = terms(intervals[:-1], intervals[1:])
    return float(mean_of_terms(len(high), high.sum(), low.sum()))


@given(intervals_of)
def test_intervals_are_as_irregular_as_elephant_says(intervals: list[int]) -> None:
    steps = np.cumsum([0, *intervals])
    n, total, squares = sums_of(intervals)
    assert mean(n, total) == pytest.approx(elephant.statistics.isi(steps).mean(), rel=1e-14)
    expected = elephant.statistics.cv(np.array(intervals))
    assert coefficient_of_variation(n, total, squares) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(intervals_of)
def test_successive_intervals_differ_as_much_as_elephant_says(intervals: list[int]) -> None:
    assert mean_of(fixed_point_terms_cv2, intervals) == pytest.approx(
        elephant.statistics.cv2(intervals), rel=1e-13, abs=2**-52
    )
    assert mean_of(fixed_point_terms_lv, intervals) == pytest.approx(
        elephant.statistics.lv(intervals), rel=1e-13, abs=2**-52
    )


@given(intervals_of, st.randoms())
def test_terms_add_up_to_the_same_in_any_order(intervals: list[int], random: Any) -> None:
    for terms in (fixed_point_terms_cv2, fixed_point_terms_lv):
        pairs = list(zip(*terms(intervals[:-1], intervals[1:]), strict=True))
        random.shuffle(pairs)
        high, low = np.array(pairs).T
        assert mean_of_terms(len(pairs), high.sum(), low.sum()) == mean_of(terms, intervals)


@pytest.mark.parametrize(
    ("terms", "exact"),
    [
        (fixed_point_terms_cv2, lambda a, b: Fraction(2 * abs(b - a), b + a)),
        (fixed_point_terms_lv, lambda a, b: 3 * Fraction(b - a, b + a) ** 2),
    ],
)
def test_a_term_is_exact_to_52_binary_digits(terms: Any, exact: Any) -> None:
    for before, after in [(1, 2), (2, 1), (7, 7), (1, 2**40), (2**40, 2**40 - 1), (3, 10**6)]:
        high, low = terms([before], [after])
        assert 0 <= low[0] < 2**26
        assert 0 <= high[0] < 2**28
        kept = Fraction(int(high[0]) * 2**26 + int(low[0]), 2**52)
        assert abs(kept - exact(before, after)) < 3 * Fraction(1, 2**51)


def test_sums_of_terms_of_billions_of_pairs_keep_their_mean() -> None:
    high, low = fixed_point_terms_cv2([1], [2])
    once = mean_of_terms([1], high, low)
    assert once == pytest.approx(2 / 3, rel=2**-50)
    np.testing.assert_allclose(mean_of_terms([2**34], high * 2**34, low * 2**34), once, rtol=2**-51)


@given(counts_of)
def test_counts_vary_as_much_as_elephant_says(counts: list[int]) -> None:
    trains = [np.arange(count) for count in counts]
    expected = elephant.statistics.fanofactor(trains)
    np.testing.assert_allclose(fano_factor(*sums_of(counts)), expected, rtol=1e-12, atol=1e-12)


def test_a_clock_does_not_vary_at_all() -> None:
    assert coefficient_of_variation(*sums_of([7] * 1000)) == 0
    assert fano_factor(*sums_of([7] * 1000)) == 0
    assert mean_of(fixed_point_terms_lv, [7, 7, 7]) == mean_of(fixed_point_terms_cv2, [7, 7, 7]) == 0


def test_variation_that_cannot_be_known_is_nan() -> None:
    n = np.array([0, 1, 2])
    np.testing.assert_array_equal(mean(n, [0, 5, 8]), [np.nan, 5, 4])
    np.testing.assert_array_equal(coefficient_of_variation(n, [0, 5, 8], [0, 25, 32]), [np.nan, np.nan, 0])
    np.testing.assert_array_equal(fano_factor(n, [0, 5, 8], [0, 25, 32]), [np.nan, np.nan, 0])
    assert np.isnan(fano_factor(5, 0, 0))
    np.testing.assert_array_equal(mean_of_terms([0, 1], [0, 0], [0, 0]), [np.nan, 0])


def test_small_variation_of_huge_sums_is_exact() -> None:
    # 2**40 intervals: one half are 2**11, the others one step longer. The variance is 1 / 4.
    n, short = 2**40, 2**11
    total, squares = n * short + n // 2, n // 2 * (short**2 + (short + 1) ** 2)
    assert coefficient_of_variation(n, total, squares) == pytest.approx(0.5 / (short + 0.5), rel=1e-15)
    assert fano_factor(n, total, squares) == pytest.approx(0.25 / (short + 0.5), rel=1e-15)


def test_fano_factors_are_averaged_over_labels_that_have_one() -> None:
    rng = np.random.default_rng(0)
    counts = [
        rng.poisson(rate, (presentations, 3)) for rate, presentations in [(2, 9), (5, 4), (3, 1), (0, 5)]
    ]
    for each in counts:
        each[:, 2] = 0  # never fires
    counts[1][:, 1] = 0  # does not fire at this label
    n = np.array([*map(len, counts), 0])
    total = np.array([*(each.sum(axis=0) for each in counts), [0, 0, 0]])
    squares = np.array([*((each**2).sum(axis=0) for each in counts), [0, 0, 0]])
    found = fano_over_labels(n, total, squares)
    ratio = [each.var(axis=0)[:2] / np.maximum(each.mean(axis=0)[:2], 1e-9) for each in counts]
    np.testing.assert_allclose(found, [(ratio[0][0] + ratio[1][0]) / 2, ratio[0][1], np.nan], rtol=1e-12)
    np.testing.assert_array_equal(fano_over_labels(n, total[:, 0], squares[:, 0]), found[0])
