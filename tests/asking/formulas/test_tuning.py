"""What neurons tell of labels is what scikit-learn and pynapple find, and what definitions say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pynapple
import pytest
import sklearn.metrics
import xarray
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.formulas.tuning import (
    corrected_mutual_information,
    mutual_information,
    selectivity,
    skaggs_information,
    sparseness,
)

few = st.integers(1, 6)


@given(arrays(np.int64, st.tuples(few, few), elements=st.integers(0, 20)), st.data())
def test_selectivity_is_that_of_its_definition(spikes: Any, data: Any) -> None:
    slots = np.array(data.draw(st.lists(st.integers(1, 99), min_size=len(spikes), max_size=len(spikes))))
    found = selectivity(spikes, slots)
    for neuron, value in enumerate(found):
        rates = sorted(spikes[:, neuron] / slots)
        if len(rates) < 2 or rates[-1] == 0:
            assert np.isnan(value)
        else:
            rest = np.mean(rates[:-1])
            assert value == pytest.approx((rates[-1] - rest) / (rates[-1] + rest), abs=1e-14)


def test_selectivity_ends_exactly_at_none_and_all() -> None:
    spikes = np.array([[1, 3, 0], [2, 0, 0], [3, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(selectivity(spikes, [10, 20, 30, 0]), [0, 1, np.nan])
    assert np.isnan(selectivity(spikes, [10, 0, 0, 0])).all()
    assert np.isnan(selectivity(spikes, [0, 0, 0, 0])).all()
    assert selectivity([3, 1, 2], [10, 10, 10]) == pytest.approx((3 - 1.5) / (3 + 1.5))


def joint_of(labels: Any, counts: Any) -> Any:
    table = np.zeros((labels.max() + 1, counts.max() + 1), np.int64)
    np.add.at(table, (labels, counts), 1)
    return table


@given(arrays(np.int64, st.tuples(st.just(2), st.integers(1, 60)), elements=st.integers(0, 5)))
def test_information_is_that_of_scikit_learn(pairs: Any) -> None:
    labels, counts = pairs
    expected = sklearn.metrics.mutual_info_score(labels, counts) / np.log(2)
    assert mutual_information(joint_of(labels, counts)) == pytest.approx(expected, abs=1e-12)


@given(arrays(np.int64, st.tuples(st.just(2), st.integers(1, 60)), elements=st.integers(0, 5)))
def test_the_correction_adds_to_each_entropy_what_it_lacks(pairs: Any) -> None:
    def entropy(values: Any) -> float:
        observed = np.unique(values, return_counts=True)[1]
        share = observed / observed.sum()
        return -(share * np.log(share)).sum() + (len(observed) - 1) / (2 * observed.sum())

    labels, counts = pairs
    expected = (entropy(labels) + entropy(counts) - entropy(labels * 10 + counts)) / np.log(2)
    assert corrected_mutual_information(joint_of(labels, counts)) == pytest.approx(expected, abs=1e-12)


def test_the_correction_takes_most_of_the_bias_away() -> None:
    rng = np.random.default_rng(0)
    tables = np.stack([joint_of(*rng.integers(0, 5, (2, 200))) for _ in range(200)], axis=-1)
    assert mutual_information(tables).mean() > 0.05
    assert abs(corrected_mutual_information(tables).mean()) < 0.01


def test_information_of_extreme_tables() -> None:
    labels = np.eye(4, dtype=np.int64) * 3
    constant = np.zeros((4, 4), np.int64)
    constant[:, 2] = [3, 0, 5, 1]
    independent = np.outer([1, 2, 3, 4], [5, 6, 7, 8])
    nothing = np.zeros((4, 4), np.int64)
    tables = np.stack([labels, constant, constant.T, independent, nothing], axis=-1)
    np.testing.assert_array_equal(mutual_information(tables), [2, 0, 0, 0, np.nan])
    np.testing.assert_array_equal(corrected_mutual_information(tables)[1:3], 0)
    assert np.isnan(corrected_mutual_information(nothing))
    assert mutual_information(independent * 10**10) == 0
    assert mutual_information([[1]]) == 0
    # Rounding alone would make it negative.
    table = [[2093940, 14657580, 12563640], [1958915, 13712405, 11753490], [8027877, 56195140, 48167263]]
    assert mutual_information(table) == 0


@given(arrays(np.int64, st.tuples(few, few), elements=st.integers(0, 20)), st.data())
def test_bits_per_spike_are_those_of_pynapple(spikes: Any, data: Any) -> None:
    occupancy = np.array(data.draw(st.lists(st.integers(1, 99), min_size=len(spikes), max_size=len(spikes))))
    rates = spikes / occupancy[:, None]
    curves = xarray.DataArray(
        rates.T,
        dims=("unit", "label"),
        coords={"unit": np.arange(rates.shape[1])},
        attrs={"occupancy": occupancy, "rates": spikes.sum(axis=0) / occupancy.sum()},
    )
    expected = pynapple.compute_mutual_information(curves)["bits/spike"].to_numpy()
    np.testing.assert_allclose(skaggs_information(rates, occupancy), expected, atol=1e-12)


def test_bits_per_spike_of_extreme_rates() -> None:
    rates = np.array([[8, 1, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0], [np.nan] * 3])
    np.testing.assert_array_equal(skaggs_information(rates, [5, 5, 5, 5, 0]), [2, 0, np.nan])
    np.testing.assert_array_equal(skaggs_information(rates[:1, :1], [7]), [0])
    np.testing.assert_array_equal(skaggs_information(rates, [0] * 5), [np.nan] * 3)


@given(arrays(np.int64, st.tuples(few, few), elements=st.integers(0, 1000)))
def test_sparseness_is_that_of_its_definition(values: Any) -> None:
    for axis in (0, 1):
        mean = values.mean(axis=axis)
        expected = mean**2 / np.maximum((values**2.0).mean(axis=axis), 1e-300)
        expected[mean == 0] = np.nan
        np.testing.assert_allclose(sparseness(values, axis), expected, rtol=1e-13)


def test_sparseness_goes_from_one_of_n_to_one() -> None:
    np.testing.assert_array_equal(sparseness([[5, 0, 0, 0], [3, 3, 3, 3], [0] * 4], 1), [0.25, 1, np.nan])
    assert sparseness([0.5], 0) == 1
