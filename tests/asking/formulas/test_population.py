"""Synchrony and dimensions are those of the definitions, on unpacked spikes and covariances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.formulas.population import participation_ratio, synchrony

small = st.integers(1, 12)


def synchrony_of(spikes: Any) -> float:
    active = spikes.sum(axis=1, dtype=np.int64)
    return float(synchrony(len(spikes), active.sum(), (active**2).sum(), spikes.sum(axis=0, dtype=np.int64)))


@given(arrays(np.bool_, st.tuples(small, small)))
def test_synchrony_is_that_of_its_definition(spikes: Any) -> None:
    single = spikes.var(axis=0).mean()
    if spikes.any(axis=0).sum() == spikes.all(axis=0).sum():
        assert np.isnan(synchrony_of(spikes))
    else:
        assert synchrony_of(spikes) == pytest.approx(spikes.mean(axis=1).var() / single, abs=1e-12)


def test_synchrony_is_one_together_and_nothing_in_turns() -> None:
    beat = np.arange(12) % 3 == 0
    assert synchrony_of(np.repeat(beat[:, None], 5, axis=1)) == 1
    assert synchrony_of(beat[:, None]) == 1  # one neuron
    assert synchrony_of(np.tile(np.eye(3, dtype=bool), (4, 1))) == 0


def test_neurons_that_never_vary_have_no_synchrony() -> None:
    for spikes in (
        np.zeros((5, 3), bool),
        np.ones((5, 3), bool),
        np.ones((1, 3), bool),
        np.eye(1, 3, dtype=bool),
    ):
        assert np.isnan(synchrony_of(spikes))


def test_synchrony_of_several_groups_and_of_many_slots() -> None:
    frames, neurons = 2**40, 1000
    half = frames // 2
    # All neurons fire in the same half of the frames, but for one spike of the last.
    counts = np.full((2, neurons), half)
    counts[1, -1] -= 1
    active = counts.sum(axis=1)
    squares = [half * neurons**2, (half - 1) * neurons**2 + (neurons - 1) ** 2]
    found = synchrony([frames, frames], active, squares, counts)
    assert found[0] == 1
    spread = frames * squares[1] - int(active[1]) ** 2
    single = sum(int(count) * (frames - int(count)) for count in counts[1])
    assert found[1] == pytest.approx(spread / (neurons * single), rel=1e-15)


@given(arrays(np.int64, st.tuples(small, small), elements=st.integers(0, 9)))
def test_the_participation_ratio_is_that_of_the_eigenvalues(counts: Any) -> None:
    found = participation_ratio(counts)
    if np.ptp(counts, axis=0).max() == 0:
        assert np.isnan(found)
    else:
        eigenvalues = np.linalg.eigvalsh(np.atleast_2d(np.cov(counts.T, ddof=0)))
        assert found == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum(), rel=1e-9)
        assert 1 - 1e-12 <= found <= min(len(counts) - 1, counts.shape[1]) + 1e-9
    # Silent neurons add no dimension, and have the other matrix used.
    np.testing.assert_allclose(participation_ratio(np.pad(counts, [(0, 0), (0, 13)])), found, rtol=1e-13)


def test_dimensions_are_counted() -> None:
    assert participation_ratio(np.arange(9)[:, None]) == 1
    assert participation_ratio(np.arange(9)[:, None] * [1, 2, 3]) == pytest.approx(1, rel=1e-14)
    assert participation_ratio([[0, 0], [0, 1], [1, 0], [1, 1]]) == 2
    assert np.isnan(participation_ratio([[3, 4, 5]]))
    assert np.isnan(participation_ratio(np.zeros((4, 3), np.int64)))
    assert np.isnan(participation_ratio(np.zeros((0, 3), np.int64)))


def test_a_small_variation_of_large_counts_is_exact() -> None:
    signs = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    for large in (10**6, 2**28):
        assert participation_ratio(signs + large) == 2
        assert participation_ratio(np.pad(signs + large, [(0, 0), (0, 3)], constant_values=large)) == 2
