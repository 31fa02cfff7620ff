"""Values other than 0 and 1, whatever comes: recorded as they are, and given back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import nn

import analysis
from devices import LateLane
from given_back import as_numbers, check
from recorder import Monitor, SpikeOutput, SpikeValueError
from recorder.capture.device.transfer import TransferRing, TransferRings
from recorder.capture.layer_recorder import LOOK_AFTER_CALLS
from recorder.capture.packers import Packers
from recorder.format import RecordingStoppedWarning
from recorder.format.planes.scales import find_scale
from recorder.format.planes.values import scale_levels
from tellers import Pair, Teller, monitor_of

DTYPES = ["float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64"]


@st.composite
def outputs(draw: st.DrawFn) -> list[torch.Tensor]:
    """Outputs of one layer, which begin as zeros and ones or not, and grow."""
    dtype = draw(st.sampled_from(DTYPES))
    parts = draw(st.sampled_from([1, 1, 3, 4])) if "float" in dtype else 1
    steps, shape = (
        draw(st.integers(2, 12)),
        draw(st.sampled_from([(3, 5), (2, 40), (1, 1)][: 2 + (parts == 1)])),
    )
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    least, most = 0, draw(st.sampled_from([1, 2, 4]))
    # The first output tells the scale of a layer whose values are no whole numbers.
    levels = [np.resize([0, 1, most], shape)]
    for _ in range(steps):
        if draw(st.integers(0, 3)) == 0 and parts == 1:
            most = draw(st.sampled_from([3, 7, 90]))
        if draw(st.integers(0, 3)) == 0:
            least = -most
        levels.append(random.integers(least, most + 1, shape))
    return [(torch.from_numpy(each).double() / parts).to(getattr(torch, dtype)) for each in levels]


@pytest.mark.parametrize("late", [False, True])
@hypothesis.given(given=outputs(), many=st.booleans())
@hypothesis.settings(max_examples=8, deadline=None)
def test_values_are_given_back_as_they_were_put_out(
    tmp_path_factory: pytest.TempPathFactory, late: bool, given: list[torch.Tensor], many: bool
) -> None:
    path = tmp_path_factory.mktemp("values") / "run.zarr"
    with pytest.MonkeyPatch.context() as patched:
        if late:
            patched.setattr(Packers, "is_on_host", lambda *_: False)
            patched.setattr(TransferRings, "of", lambda *_: TransferRing(LateLane()))
            # There the first output tells what comes.
            given[0].view(-1)[-1] = given[0].max() * 2 if given[0].any() else 2
        net = nn.Sequential(Teller())
        layers = {Teller: SpikeOutput("t n ..." if many else "n ...")}
        with monitor_of(net, path, layers=layers) as monitor:
            for each in [torch.stack(given)] if many else given:
                net(each)
        check(monitor, path, "0", given)


@pytest.mark.parametrize("turn", [0, 20, LOOK_AFTER_CALLS + 20])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_small_layer_may_turn_to_values_at_any_time(tmp_path: Path, turn: int, resumed: bool) -> None:
    torch.manual_seed(0)
    given = [*(torch.rand(turn + 300, 2, 3) < 0.5).float()]
    for step in range(turn, len(given)):
        given[step] *= step % 4 - 1
    given[-1] *= 200
    net, path = nn.Sequential(Teller()), tmp_path / "run.zarr"
    with monitor_of(net, path) as monitor:
        for each in given[: turn + 150]:
            net(each)
        if not resumed:
            monitor.flush()
            for each in given[turn + 150 :]:
                net(each)
    if resumed:
        with monitor_of(net, path, resume=True) as monitor:
            for each in given[turn + 150 :]:
                net(each)
    check(monitor, path, "0", given)
    assert analysis.open_recording(path).verify() is None if hasattr(analysis.Recording, "verify") else True


def test_layers_of_zeros_and_ones_are_recorded_as_ever(tmp_path: Path) -> None:
    given = [*(torch.rand(40, 2, 3) < 0.5).float()]
    with monitor_of(net := Pair(), tmp_path / "run.zarr") as monitor:
        for each in given:
            net(each, each * 2)
    check(monitor, tmp_path / "run.zarr", "b", [each * 2 for each in given])
    folders = [{each.name for each in (tmp_path / f"run.zarr/layers/{name}").iterdir()} for name in "ab"]
    planes = {"planes", "plane_counts", "plane_counts_checksums", "plane_checksums"}
    assert folders[1] - folders[0] == planes


def test_ones_are_the_scale_once_there_were_some(tmp_path: Path) -> None:
    net, path = nn.Sequential(Teller()), tmp_path / "run.zarr"
    with monitor_of(net, path):
        net(torch.ones(2, 3))
        with pytest.raises(SpikeValueError, match="whole multiples of one scale"):
            net(torch.full((2, 3), 0.5))
        net(torch.full((2, 3), 2.0))
        with pytest.raises(SpikeValueError, match="whole multiples of one scale, 1 so far"):
            net(torch.full((2, 3), 1.5))
    with monitor_of(net, path, resume=True), pytest.raises(SpikeValueError, match="1 so far"):
        net(torch.full((2, 3), 0.5))
    with monitor_of(net, tmp_path / "other.zarr"):
        net(torch.ones(2, 3))
    with monitor_of(net, tmp_path / "other.zarr", resume=True), pytest.raises(SpikeValueError):
        net(torch.full((2, 3), 0.5))


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0, 2, 6], 1),
        ([-1, 1], 1),
        ([0.25, 0.75, -1.5], 0.25),
        ([0.75, 0.5], 0.25),
        ([1 / 3, 2 / 3, 1], 1 / 3),
        ([0.37], 0.37),
        ([0.1, 0.2, 0.3], 0.1),
        ([40_000.0], None),
        ([0.618034, 0.31831], None),
        ([0.999, 1.0], None),
        ([1e-9, 1.0], None),
        ([float("nan")], None),
        ([float("inf"), 1.0], None),
    ],
)
def test_the_scale_is_the_greatest_of_which_all_values_are_multiples(
    values: list[float], scale: float | None
) -> None:
    found = find_scale(np.array([0.0, *values], np.float32), "float32")
    assert found == (scale if scale is None else pytest.approx(scale, rel=1e-6))


def test_a_layer_on_a_device_that_turns_to_values_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came before anybody looked is gone there: it is a gap, and an error."""
    monkeypatch.setattr(Packers, "is_on_host", lambda *_: False)
    monkeypatch.setattr(TransferRings, "of", lambda *_: TransferRing(LateLane()))
    net, path = nn.Sequential(Teller()), tmp_path / "run.zarr"
    given = [torch.ones(2, 3), torch.full((2, 3), 3.0), torch.zeros(2, 3), torch.full((2, 3), 5.0)]
    monitor = monitor_of(net, path)
    monitor.enable()
    net(given[0])
    net(given[1])
    with pytest.raises(SpikeValueError, match=r"values such as 3.*at step 1"):
        monitor.flush()
    net(given[2])
    net(given[3])
    net(torch.full((2, 3), 90.0))
    net(torch.full((2, 3), 300.0))
    with pytest.raises(SpikeValueError, match=r"values such as 300.*at step 5"):
        monitor.flush()
    net(torch.full((2, 3), 300.0))
    monitor.close()
    values = analysis.open_recording(path)["0"].values
    assert values.step.values[::2].tolist() == [0, 2, 3, 4, 6]
    assert values.values[::2, 0].tolist() == [1, 0, 5, 90, 300]


def test_a_forward_that_is_cut_short_leaves_whole_values(tmp_path: Path) -> None:
    net, path = Pair(), tmp_path / "run.zarr"
    monitor = monitor_of(net, path)
    monitor.enable()
    net(torch.full((2, 3), 2.0), torch.full((2, 3), -3.0))
    handle = net.b.register_forward_hook(lambda *_: monitor.close())
    net(torch.full((2, 3), 4.0), torch.full((2, 3), 9.0))
    handle.remove()
    recording = analysis.open_recording(path)
    for name, value in (("a", 2), ("b", -3)):
        np.testing.assert_array_equal(recording[name].values, np.full((2, 3), value))


def test_the_plan_counts_planes(tmp_path: Path) -> None:
    net = Pair()
    with monitor_of(net, tmp_path / "run.zarr") as monitor:
        net(torch.ones(2, 3), torch.full((2, 3), -5.0))
        plan = monitor.plan
    zeros_and_ones, graded = plan.layers
    assert (zeros_and_ones.planes, graded.planes) == (0, 4)
    assert (graded.slots_per_step, graded.bits_per_step) == (6, 30)
    assert graded.files(10) == 5 * zeros_and_ones.files(10)
    assert graded.host_bytes > 3 * (zeros_and_ones.host_bytes - zeros_and_ones.stage_bytes)
    assert "12 slots a step" in str(plan)


# -- data types and scales that change ---------------------------------------------------------------


@pytest.mark.parametrize("on_error", ["raise", "warn"])
@pytest.mark.parametrize(
    ("first", "bad"),
    [
        (torch.zeros(1, 3, dtype=torch.int32), torch.tensor([[0, 0.5, 1.5]])),
        (torch.tensor([[True, False, True]]), torch.tensor([[0, 2.0, 1]])),
        (torch.tensor([[2, 0, 1]], dtype=torch.uint8), torch.tensor([[-1, 0, 1]], dtype=torch.int8)),
        (torch.zeros(1, 3, dtype=torch.int8), torch.tensor([[200.0, 0, 1]])),
        (torch.tensor([[1, 0, 0]], dtype=torch.float16), torch.tensor([[2049.0, 0, 1]])),
        (torch.tensor([[0, 1, 0]], dtype=torch.bfloat16), torch.tensor([[0, 257.0, 301]])),
    ],
)
def test_values_that_the_first_data_type_does_not_have_are_refused_and_nothing_else_is_lost(
    tmp_path: Path, first: torch.Tensor, bad: torch.Tensor, on_error: str
) -> None:
    net, path = Pair(), tmp_path / "run.zarr"
    sound = (torch.rand(20, 1, 3) < 0.5).float()
    monitor = monitor_of(net, path, on_error=on_error)
    monitor.enable()
    for step in sound[:10]:
        net(step, first)
    dtype = str(first.dtype).removeprefix("torch.")
    said = rf"layer 'b'.*first output was {dtype}, in which values are given back"
    caught: Any = (
        pytest.raises(SpikeValueError, match=said)
        if on_error == "raise"
        else pytest.warns(RecordingStoppedWarning, match=said)
    )
    with caught:
        net(sound[10], bad)
    for step in sound[11:]:
        net(step, first)
    monitor.close()
    recording = analysis.open_recording(path)
    np.testing.assert_array_equal(recording["a"].values.values.reshape(20, 1, 3), sound)
    values = recording["b"].values.values
    assert len(values) == (19 if on_error == "raise" else 10)
    np.testing.assert_array_equal(values, np.repeat(as_numbers(first), len(values), axis=0))


def test_a_refused_output_tells_no_scale(tmp_path: Path) -> None:
    net, path = nn.Sequential(Teller()), tmp_path / "run.zarr"
    given = torch.tensor([[0, 0.1, 0.2]], dtype=torch.float16)
    with monitor_of(net, path) as monitor:
        net(torch.zeros(1, 3, dtype=torch.float16))
        with pytest.raises(SpikeValueError):
            net(torch.tensor([[0, 0.3, 0.4]]))
        net(given)
    check_last(monitor, given)


def check_last(monitor: Monitor, given: torch.Tensor) -> None:
    np.testing.assert_array_equal(as_numbers(monitor.s["0"][-1]), as_numbers(given))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("parts", [3, 5, 6, 7, 12, 15])
@pytest.mark.parametrize("by", ["division", "multiplication"])
def test_a_first_output_of_one_level_does_not_pin_how_the_scale_is_rounded(
    tmp_path: Path, dtype: str, parts: int, by: str
) -> None:
    one = torch.ones((), dtype=getattr(torch, dtype))
    levels = (
        torch.tensor([[0, 1, 0, -1, 0, 0]]),
        torch.tensor([[2, 3, 8, -1, 5, 7]]),
        torch.arange(-1, 5)[None],
    )
    given = [each.to(one.dtype) / parts if by == "division" else each * (one / parts) for each in levels]
    if dtype == "float64" and by == "division":
        pytest.skip("quotients in double precision are no multiples of one number")
    net, path = nn.Sequential(Teller()), tmp_path / "run.zarr"
    with monitor_of(net, path) as monitor:
        for each in given:
            net(each)
    np.testing.assert_array_equal(
        np.stack([as_numbers(step) for step in monitor.s["0"]]),
        np.stack([as_numbers(each) for each in given]),
    )


def test_a_forward_that_is_cut_short_tells_no_scale(tmp_path: Path) -> None:
    net, path = Pair(), tmp_path / "run.zarr"
    monitor = monitor_of(net, path)
    monitor.enable()
    net(torch.zeros(2, 3), torch.zeros(2, 3))
    handle = net.b.register_forward_hook(lambda *_: monitor.close())
    net(torch.full((2, 3), 0.25), torch.ones(2, 3))
    handle.remove()
    with monitor_of(net, path, resume=True) as monitor:
        net(torch.full((2, 3), 0.1), torch.ones(2, 3))
    assert monitor.s["a"][-1].tolist() == torch.full((2, 3), 0.1).tolist()
    assert len(monitor.s["a"]) == 2


@pytest.mark.parametrize(
    ("dtype", "parts"),
    [(dtype, n) for dtype in ("float16", "bfloat16", "float32") for n in (1, 3, 4, 10, 255)]
    + [("float64", n) for n in (1, 3, 4, 64)],
)
def test_multiples_of_a_scale_are_rounded_once(dtype: str, parts: int) -> None:
    levels = np.arange(-parts, parts + 1)
    given = (torch.from_numpy(levels).double() / parts).to(getattr(torch, dtype))
    np.testing.assert_array_equal(scale_levels(levels, 1 / parts, dtype), given.double().numpy())
