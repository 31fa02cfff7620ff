"""Values other than 0 and 1: what is said of them, what makes spikes of them, what goes on without them."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import nn

import analysis
from recorder import SpikeValueError
from recorder.capture.layer_recorder import LOOK_AFTER_CALLS
from recorder.capture.thresholds import Threshold
from recorder.frameworks import SpikeOutput, SpikingLayerError
from tellers import Pair, Teller, monitor_of

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
WHOLE = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


class Other(Teller):
    pass


# -- what is said ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*DTYPES, torch.int32, torch.int64])
@pytest.mark.parametrize("axes", ["N", "TN"])
def test_an_error_names_a_value_its_place_and_how_many(tmp_path: Path, dtype: torch.dtype, axes: str) -> None:
    net = nn.Sequential(Teller())
    bad = torch.zeros((2, 3, 4, 5), dtype=dtype)
    # No multiples of one scale that is worth the name, and too large levels.
    first, second = (0.618034, 0.31831) if dtype.is_floating_point else (50_000, 40_000)
    bad[1, 2, 3, 1] = first
    bad[1, 2, 3, 4] = second
    bad[1, 2, 0, 0] = 1
    shown = r"0\.61\d+" if dtype.is_floating_point else "50000"
    with monitor_of(net, tmp_path / "run.zarr", layers={Teller: SpikeOutput(axes)}):
        for _ in range(4):
            net(torch.zeros_like(bad))
        with pytest.raises(SpikeValueError) as error:
            net(bad)
    place = "sample 2, neuron (3, 1), step 9" if axes == "TN" else "sample 1, neuron (2, 3, 1), step 4"
    said = rf"2 of these 120 values are not, such as {shown} of {re.escape(place)}\. "
    assert re.search(said, str(error.value))


def test_an_error_names_the_place_in_a_layer_of_one_axis_and_of_none(tmp_path: Path) -> None:
    net = Pair()
    with monitor_of(net, tmp_path / "run.zarr"):
        with pytest.raises(
            SpikeValueError, match=r"1 of these 6 values are not, such as 0\.618\d* of sample 1"
        ):
            net(torch.tensor([[0.0, 1, 0], [0, 0, 0.618034]]), torch.zeros(2))
        with pytest.raises(SpikeValueError, match=r"such as nan of sample 1, neuron \(\), step 0"):
            net(torch.zeros(2, 3), torch.tensor([0, float("nan")]))


def test_a_late_error_names_the_same(tmp_path: Path) -> None:
    net = nn.Sequential(Teller())
    bad = torch.zeros(2, 3)
    bad[1, 2] = 0.25  # of a layer that has put out ones
    monitor = monitor_of(net, tmp_path / "run.zarr")
    monitor.enable()
    for _ in range(LOOK_AFTER_CALLS + 5):
        net(torch.ones(2, 3))
    net(bad)
    net(torch.ones(2, 3))
    place = (
        rf"1 of these 6 values are not, such as 0\.25 of sample 1, neuron 2, step {LOOK_AFTER_CALLS + 5}\."
    )
    with pytest.raises(SpikeValueError, match=place):
        monitor.close()


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ([0.99999994, 0.0], "but for rounding.*threshold=0.5"),
        ([1e-8, 1.0], "such as 1e-08 of.*but for rounding.*threshold=0.5"),
        (
            [0.0, 1.0, 0.618],
            r"say which: Monitor\(\.\.\., threshold=\.\.\.\).*signals=\"output\" the analog values",
        ),
        (
            [0.0, -0.1, 0.7318, 3.2],
            r"say which: Monitor\(\.\.\., threshold=\.\.\.\).*signals=\"output\" the analog values",
        ),
    ],
)
def test_errors_say_what_helps_and_it_does(tmp_path: Path, values: list[float], advice: str) -> None:
    net, given = nn.Sequential(Teller()), torch.tensor([values])
    with (
        monitor_of(net, tmp_path / "a.zarr"),
        pytest.raises(SpikeValueError, match=advice) as error,
    ):
        net(given)
    height = str(error.value).partition("threshold=")[2].partition(")")[0].split(" ")[0]
    if height != "...":
        with monitor_of(net, tmp_path / "b.zarr", threshold=float(height)) as monitor:
            net(given)
            assert monitor.s["0"][0].tolist() == [[float(value > 0.5 * max(values)) for value in values]]


def test_no_threshold_is_advised_where_values_are_no_numbers(tmp_path: Path) -> None:
    net = nn.Sequential(Teller())
    with monitor_of(net, tmp_path / "a.zarr"), pytest.raises(SpikeValueError, match="NaN") as error:
        net(torch.tensor([[1.0, float("nan")]]))
    assert "threshold" not in str(error.value)


def test_straight_through_rounding_is_told_what_helps(tmp_path: Path) -> None:
    class StraightThrough(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x > 0).float() + x - x.detach()

    net, x = nn.Sequential(StraightThrough()), torch.linspace(-3, 3, 999).view(9, 111)
    layers = [StraightThrough]
    with (
        monitor_of(net, tmp_path / "a.zarr", layers=layers),
        pytest.raises(SpikeValueError, match="rounding"),
    ):
        net(x)
    with monitor_of(net, tmp_path / "b.zarr", layers=layers, threshold=0.5):
        net(x)
    spikes = analysis.open_recording(tmp_path / "b.zarr")["0"].spikes.values
    np.testing.assert_array_equal(spikes, (x > 0).numpy())


# -- thresholds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("dtype", [torch.bool, *DTYPES, *WHOLE])
@pytest.mark.parametrize("height", [0.7, 1, -0.5, 300, 0.1])
@pytest.mark.parametrize("axes", ["N", "TN"])
def test_what_reaches_a_threshold_is_a_spike(
    tmp_path: Path, request: pytest.FixtureRequest, late: bool, dtype: torch.dtype, height: float, axes: str
) -> None:
    if late:
        request.getfixturevalue("on_late_device")
    torch.manual_seed(0)
    given = (torch.randn(LOOK_AFTER_CALLS + 20, 3, 5) * 2).round(decimals=1).to(dtype)
    net = nn.Sequential(Teller())
    with monitor_of(
        net, tmp_path / "a.zarr", layers={Teller: SpikeOutput(axes)}, threshold=height
    ) as monitor:
        for step in [given] if axes == "TN" else given:
            net(step.clone().requires_grad_(step.is_floating_point()))
        if dtype == torch.float32:
            assert monitor.s["0"][0].dtype == np.float32
    spikes = analysis.open_recording(tmp_path / "a.zarr")["0"].spikes.values.reshape(given.shape)
    wide = given.to(torch.int64 if dtype in WHOLE else torch.float64).numpy()
    np.testing.assert_array_equal(spikes, wide >= height)


@hypothesis.given(
    st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**65), 2**65)),
    st.sampled_from([torch.bool, *DTYPES, *WHOLE]),
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8),
    st.integers(-2, 2),
)
def test_values_and_thresholds_are_compared_as_real_numbers(
    height: float, dtype: torch.dtype, bits: list[int], off: int
) -> None:
    if dtype == torch.bool:
        values = torch.tensor([bit % 2 == 0 for bit in bits])
    else:
        size = torch.empty(0, dtype=dtype).element_size()
        raw = np.array(bits, np.uint64).view(np.uint8).reshape(-1, 8)[:, :size].copy()
        values = torch.from_numpy(raw).view(dtype).flatten()
        if dtype.is_floating_point:
            near = torch.tensor(float(height), dtype=torch.float64).to(dtype)
            for _ in range(abs(off)):
                near = torch.nextafter(near, torch.tensor(math.copysign(math.inf, off), dtype=dtype))
            values = torch.cat([values, near.view(1)])
            values = values[values.isfinite()]
    expected = [Fraction(value) >= Fraction(height) for value in values.tolist()]
    found = Threshold(height)(values)
    assert found.dtype == dtype
    assert [bool(value == 1) for value in found.tolist()] == expected
    assert all(value in (0, 1) for value in found.tolist())


@pytest.mark.parametrize("late", [False, True])
def test_nan_is_an_error_whatever_the_threshold(
    tmp_path: Path, request: pytest.FixtureRequest, late: bool
) -> None:
    if late:
        request.getfixturevalue("on_late_device")
    net = nn.Sequential(Teller())
    monitor = monitor_of(net, tmp_path / "a.zarr", threshold=0.5)
    monitor.enable()
    with pytest.raises(SpikeValueError, match=r"NaN|nan"):  # noqa: PT012 - at once, or late
        net(torch.tensor([[0.0, float("nan")]]))
        monitor.flush()
    net(torch.tensor([[0.25, float("inf")]]))
    monitor.close()
    assert analysis.open_recording(tmp_path / "a.zarr")["0"].spikes.values.tolist() == [[False, True]]


def test_thresholds_are_given_by_name_and_by_type_and_kept(tmp_path: Path) -> None:
    net = nn.Sequential(Teller(), Other(), Other())
    x = torch.tensor([[0.0, 1, 2, 3]])
    layers = [Teller, Other]
    with monitor_of(
        net, tmp_path / "a.zarr", layers=layers, threshold={"2": 3, Other: 2, Teller: 1}
    ) as monitor:
        net(x)
        assert [monitor.s[name][0][0].tolist() for name in "012"] == [
            [0, 1, 1, 1],
            [0, 0, 1, 1],
            [0, 0, 0, 1],
        ]
    recording = analysis.open_recording(tmp_path / "a.zarr")
    assert recording.provenance["thresholds"] == {"0": 1, "1": 2, "2": 3}
    with monitor_of(net, tmp_path / "b.zarr", layers=layers, threshold={"1": 0.5}):
        net(torch.ones(1, 4))
    assert analysis.open_recording(tmp_path / "b.zarr").provenance["thresholds"] == {"1": 0.5}
    with monitor_of(net, tmp_path / "c.zarr", layers=layers):
        net(torch.ones(1, 4))
    assert "thresholds" not in analysis.open_recording(tmp_path / "c.zarr").provenance


def test_a_recording_goes_on_with_the_threshold_that_it_has(tmp_path: Path) -> None:
    net = nn.Sequential(Teller())
    with monitor_of(net, tmp_path / "a.zarr", threshold=2):
        net(torch.full((1, 3), 2.0))
    for other in (None, 1, {"0": 3}):
        with pytest.raises(ValueError, match=r"layer '0' was recorded with threshold=2, and would go on"):
            monitor_of(net, tmp_path / "a.zarr", threshold=other, resume=True)
    monitor = monitor_of(net, tmp_path / "a.zarr", threshold=2.0, resume=True)
    for _ in range(2):
        with monitor:
            net(torch.full((1, 3), 3.0))
    assert analysis.open_recording(tmp_path / "a.zarr").firing_rate().values.item() == 1
    monitor.reset()
    with monitor:
        net(torch.full((1, 3), 1.0))
    assert analysis.open_recording(tmp_path / "a.zarr").spike_count().values.item() == 0


@pytest.mark.parametrize(
    ("threshold", "error", "message"),
    [
        (True, TypeError, "expected a number"),
        ("0.5", TypeError, "expected a number"),
        ({"0": None}, TypeError, "expected a number"),
        (float("nan"), ValueError, "expected a finite number"),
        (float("inf"), ValueError, "expected a finite number"),
        ({"1": 0.5}, SpikingLayerError, r"'1' is no recorded layer.*'0' \(Teller\)"),
        ({nn.ReLU: 0.5}, SpikingLayerError, "ReLU.*is no recorded layer"),
    ],
)
def test_wrong_thresholds_are_refused(
    tmp_path: Path, threshold: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        monitor_of(nn.Sequential(Teller()), tmp_path / "a.zarr", threshold=threshold)
    assert not (tmp_path / "a.zarr").exists()


def test_analog_values_are_recorded_as_a_signal_beside_what_a_threshold_makes_of_them(tmp_path: Path) -> None:
    """The two ways out that the error names, taken together."""
    net, given = nn.Sequential(Teller()), torch.randn(5, 2, 3)
    with monitor_of(net, tmp_path / "run.zarr", threshold=0.5, signals="output"):
        for step in given:
            net(step)
    layer = analysis.open_recording(tmp_path / "run.zarr")["0"]
    np.testing.assert_array_equal(layer.spikes.values.reshape(given.shape), given.numpy() >= 0.5)
    np.testing.assert_array_equal(layer.signals["output"].values.values.reshape(given.shape), given.numpy())
