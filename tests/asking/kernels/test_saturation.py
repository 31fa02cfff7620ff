"""A neuron is saturated from the share of slots on that is asked for, to the last frame."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest

import analysis
from analysis.kernels.counting.quantities import FiredInShare
from tapes import Run, write_recording


@pytest.fixture
def ladder(tmp_path: Path) -> analysis.Layer:
    """Neuron n fired in the first n of ten frames."""
    spikes = np.arange(10)[:, None] < np.arange(11)
    write_recording(tmp_path / "a", {"1": spikes}, [Run(0, 10, 1)])
    return analysis.open_recording(tmp_path / "a")["1"]


@pytest.mark.parametrize(
    ("threshold", "enough"),
    [
        (1, 10),
        (1.0, 10),
        (0.9, 9),  # as a float a little above 9 / 10
        (0.1 + 0.2, 3),  # likewise, by an error of adding
        (0.91, 10),
        (Fraction(1, 3), 4),
        (1e-300, 1),  # a neuron that never fired is never saturated
        (np.float64(0.5), 5),
        (1 - 2**-26, 10),
    ],
)
def test_a_neuron_is_saturated_from_so_many_spikes(
    ladder: analysis.Layer, threshold: float, enough: int
) -> None:
    each = ladder.saturated_ratio(per="neuron", threshold=threshold)
    np.testing.assert_array_equal(each, np.arange(11) >= enough)
    assert ladder.saturated_ratio(threshold=threshold).values.item() == (11 - enough) / 11
    np.testing.assert_array_equal(
        ladder.saturated_ratio(per="step", threshold=threshold), np.arange(10, 0, -1) / 11
    )


def test_thresholds_are_told_apart_when_asked_together(ladder: analysis.Layer) -> None:
    asked = [ladder.saturated_ratio(threshold=threshold) for threshold in (0.3, 0.7, 1.0)]
    per_window = [ladder.saturated_ratio("window", window=5, threshold=share) for share in (0.3, 0.7)]
    found = dask.compute(*asked, *per_window)
    assert [one.values.item() for one in found[:3]] == [8 / 11, 4 / 11, 1 / 11]
    assert [one.values.tolist() for one in found[3:]] == [[9 / 11, 4 / 11], [7 / 11, 2 / 11]]
    assert np.isnan(ladder.select(steps=slice(0, 0)).saturated_ratio())


@pytest.mark.parametrize("threshold", [0, -0.5, 1.001, math.nan, math.inf])
def test_thresholds_out_of_range_are_refused(ladder: analysis.Layer, threshold: float) -> None:
    with pytest.raises(analysis.QuestionError, match=r"threshold=.*; expected a share of slots above 0"):
        ladder.saturated_ratio(threshold=threshold)


@pytest.mark.parametrize("threshold", ["0.9", True, None])
def test_thresholds_that_are_no_numbers_are_refused(ladder: analysis.Layer, threshold: Any) -> None:
    with pytest.raises(TypeError, match=r"threshold is .*expected a share of slots such as 0\.9"):
        ladder.saturated_ratio(threshold=threshold)


def test_shares_of_very_many_frames_do_not_overflow() -> None:
    share = Fraction(2**26 - 1, 2**26)
    frames = np.array([2**60, 2**60, 2**26, 0])
    spikes = np.array([[2**60 - 2**34], [2**60 - 2**34 - 1], [2**26 - 1], [0]])
    assert FiredInShare(share).of(spikes, frames)[:, 0].tolist() == [True, False, True, False]
