"""Correlation from sums is that of numpy and elephant."""

from __future__ import annotations

import math
from typing import Any

import elephant.conversion
import elephant.spike_train_correlation
import neo
import numpy as np
import pytest
import quantities
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.formulas.correlation import autocorrelation, correlation_matrix, pearson


def sums_of(x: Any, y: Any) -> tuple[int, ...]:
    return len(x), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()


@given(arrays(np.int64, st.tuples(st.just(2), st.integers(2, 40)), elements=st.integers(-50, 50)))
def test_two_series_correlate_as_in_numpy(series: Any) -> None:
    x, y = series
    found = pearson(*sums_of(x, y))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)
        assert pearson(*sums_of(x, x)) == 1
        assert pearson(*sums_of(x, -x)) == -1


@pytest.mark.filterwarnings("ignore:The 'copy' argument in Quantity")  # elephant, to quantities
def test_neurons_correlate_as_in_numpy_and_elephant() -> None:
    rng = np.random.default_rng(0)
    trains = rng.random((7, 257)) < 0.3
    trains[1] = trains[0]
    trains[2] = ~trains[0]
    numbers = trains.astype(np.int64)
    found = correlation_matrix(257, numbers.sum(axis=1), numbers @ numbers.T)
    np.testing.assert_allclose(found, np.corrcoef(numbers), atol=1e-14)
    ms = quantities.ms
    spiketrains = [neo.SpikeTrain((np.flatnonzero(train) + 0.5) * ms, t_stop=257 * ms) for train in trains]
    binned = elephant.conversion.BinnedSpikeTrain(spiketrains, bin_size=1 * ms)
    expected = elephant.spike_train_correlation.correlation_coefficient(binned)
    np.testing.assert_allclose(found, expected, atol=1e-13)
    np.testing.assert_array_equal(np.diagonal(found), 1)
    np.testing.assert_array_equal(found, found.T)
    assert found[0, 1] == 1
    assert found[0, 2] == -1


def test_constant_neurons_correlate_with_nothing() -> None:
    trains = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]])
    found = correlation_matrix(4, trains.sum(axis=1), trains @ trains.T)
    np.testing.assert_array_equal(np.isnan(found), ~np.diag([False, False, True]))
    assert np.isnan(correlation_matrix(1, [1, 0], [[1, 0], [0, 0]])).all()
    assert correlation_matrix(4, [2], [[2]]).tolist() == [[1]]


@pytest.mark.parametrize("spikes", [1, 2, 12345, 2**39 - 1, 2**40 - 1])
def test_correlation_is_exact_with_as_many_slots_as_disks_hold(spikes: int) -> None:
    n, half = 2**40, 2**39
    assert pearson(n, spikes, spikes, spikes, spikes, spikes) == 1
    assert pearson(n, spikes, n - spikes, spikes, n - spikes, 0) == -1
    # With a neuron that fires in every other slot: as independent as can be, and one pair more.
    found = pearson(n, half, spikes, half, spikes, spikes // 2 + 1)
    covariance = n * (spikes // 2 + 1) - half * spikes
    assert found == pytest.approx(covariance / half / math.sqrt(spikes * (n - spikes)), rel=1e-15, abs=0)
    assert np.isnan(pearson(n, n, spikes, n, spikes, spikes))


def test_small_variation_of_large_counts_correlates_exactly() -> None:
    # Half of the counts are a, the others b: squares add up to 2**62, n times of which is 2**84.
    n, a, b = 2**22, 10**6, 10**6 + 1
    total, squares = n // 2 * (a + b), n // 2 * (a * a + b * b)
    assert pearson(n, total, total, squares, squares, squares) == 1
    assert pearson(n, total, total, squares, squares, n * a * b) == -1


@given(arrays(np.bool_, st.integers(5, 60)))
def test_a_train_correlates_with_itself_later_as_in_numpy(train: Any) -> None:
    lags = range(4)
    pairs = [(train[: len(train) - lag], train[lag:]) for lag in lags]
    found = autocorrelation(
        [len(first) for first, _ in pairs],
        [(first & second).sum() for first, second in pairs],
        [first.sum() for first, _ in pairs],
        [second.sum() for _, second in pairs],
    )
    for value, (first, second) in zip(found, pairs, strict=True):
        if first.all() or second.all() or not first.any() or not second.any():
            assert np.isnan(value)
        else:
            assert value == pytest.approx(np.corrcoef(first, second)[0, 1], abs=1e-13)
    assert np.isnan(found[0]) or found[0] == 1


def test_lags_longer_than_presentations_have_no_correlation() -> None:
    assert np.isnan(autocorrelation([0], [0], [0], [0])).all()
