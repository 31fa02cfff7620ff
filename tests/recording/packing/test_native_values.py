"""Values are packed, and planes taken apart, by compiled loops as by plain numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from recorder import Monitor, SpikeOutput
from recorder.capture.host import host_packing, value_packing
from recorder.capture.host.host_packing import NotSpikesError, StagePool, pack_whole
from recorder.capture.host.value_packing import ValuePacker
from recorder.format.bits import rows_to_trains
from recorder.format.planes import at_events
from recorder.format.planes.values import SIGN, pack_levels
from recorder.native.values import Packed, ValueLoops
from recorder.stores import Folder
from recorder.tape import TapeReader
from recorder.tape.layers import plane_bits
from recorder.tape.layers.levels import read_levels

pytest.importorskip("numba")


@pytest.fixture(scope="module")
def loops() -> ValueLoops:
    loops = ValueLoops()
    loops.load()
    assert loops.are_ready(0)
    return loops


@pytest.fixture
def used(loops: ValueLoops, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever packs values in this process has the loops."""
    for module in (host_packing, value_packing, plane_bits):
        monkeypatch.setattr(module, "LOOPS", loops)


@st.composite
def some_levels(draw: st.DrawFn) -> NDArray[np.int8]:
    """Levels, [frames, neurons], whole rows of eight."""
    shape = 8 * draw(st.integers(0, 20)), draw(st.sampled_from([1, 2, 7, 8, 9, 63, 64, 65, 128, 257, 5000]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    least, most = draw(st.integers(-128, 0)), draw(st.integers(0, 127))
    events = random.random(shape) < draw(st.sampled_from([0, 0.02, 0.3, 0.9, 1]))
    return (random.integers(least, most + 1, shape) * events).astype(np.int8)


def packed_by(loops: ValueLoops, levels: NDArray[np.int8]) -> tuple[Packed, dict[str, Packed]]:
    """Events, and planes by name."""
    packed = loops.pack_levels(levels)
    assert packed is not None
    events, magnitude, sign = packed
    planes = {f"{plane}": rows for plane, rows in magnitude.items()}
    return events, planes if sign is None else {**planes, SIGN: sign}


@given(some_levels())
@settings(max_examples=60, deadline=None)
def test_loops_give_the_bits_that_numpy_gives(loops: ValueLoops, levels: NDArray[np.int8]) -> None:
    expected = pack_levels(levels)
    events, planes = packed_by(loops, levels)
    np.testing.assert_array_equal(events, expected.spikes)
    assert [*planes] == [*expected.planes]
    for name, rows in expected.planes.items():
        np.testing.assert_array_equal(planes[name], rows)
    # Planes may say something where there is no event.
    noise = np.random.default_rng(0).integers(0, 256, (2, *events.shape)).astype(np.uint8)
    given = [noise[0], noise[0] | events, noise[1]]
    at, bits = loops.bits_at_events(events, given), at_events.bits_at_events(events, given)
    assert at is not None
    for one, other in zip(at, bits, strict=True):
        np.testing.assert_array_equal(one, other)
    spread = [plane & events for plane in given]
    np.testing.assert_array_equal(loops.rows_at_events(events, at), spread)


@pytest.mark.parametrize("slot", [(0, 3000), (8, 0), (15, 4999)])
def test_a_plane_is_silent_before_and_behind_the_only_slot_in_it(
    loops: ValueLoops, slot: tuple[int, int]
) -> None:
    levels = np.ones((24, 5000), np.int8)
    levels[slot] = -3
    # Memory that is used again holds what was there before.
    filled = [np.full(9 * 3 * 5000, 255, np.uint8) for _ in range(2)]
    del filled
    _, planes = packed_by(loops, levels)
    expected = pack_levels(levels).planes
    assert [*planes] == ["1", "sign"]
    np.testing.assert_array_equal(planes["1"], expected["1"])
    np.testing.assert_array_equal(planes["sign"], expected["sign"])


@pytest.mark.parametrize(
    "value", [2, -3, 127, -128, 128, -129, 0.5, 300, 1e30, np.nan, np.inf, -np.inf, -0.0]
)
def test_levels_are_values_that_they_give_back(loops: ValueLoops, value: float) -> None:
    values = np.array([0, 1, 5] * 20 + [value], np.float32)
    levels = np.full(61, -7, np.int8)
    taken = loops.take_levels(values, levels)
    assert taken is not None
    is_given_back, least, most = taken
    assert is_given_back == (value == int(value) and -128 <= value <= 127 if np.isfinite(value) else False)
    if is_given_back:
        np.testing.assert_array_equal(levels, values)
        assert (least, most) == (min(value, 0), max(value, 5))


def test_other_data_types_and_memory_are_left_to_numpy(loops: ValueLoops) -> None:
    values, levels = np.zeros((8, 4), np.float32), np.zeros((8, 4), np.int8)
    assert loops.take_levels(values.astype(np.float64), levels) is None
    assert loops.take_levels(values, levels.astype(np.int16)) is None
    assert loops.take_levels(values[:, ::2], levels[:, ::2]) is None
    assert loops.pack_levels(levels.astype(np.int16)) is None
    assert loops.pack_levels(levels[:, ::2]) is None
    # Bits in memory that cannot be written are copied.
    events = np.full((8, 8), 255, np.uint8)
    events.flags.writeable = False
    (found,) = loops.bits_at_events(events, [events]) or [np.empty(0)]
    np.testing.assert_array_equal(found, np.full(64, 255))


def test_a_packer_with_the_loops_packs_and_refuses_as_without(used: None) -> None:
    packer = ValuePacker(np.empty((0, 9), np.bool_), StagePool(), 1.0, "float32")
    random = np.random.default_rng(0)
    frames = torch.from_numpy(random.integers(-2, 5, (48, 9)).astype(np.float32))
    for some in (frames[:20], frames[20:]):
        packer.push(some)
        packer.undo = None
    with pytest.raises(NotSpikesError, match=r"values from -1\.5 to 4\.5"):
        packer.push(frames + 0.5)
    packer.push(frames[:8] * 100)
    packer.undo = None
    assert (packer.values.least, packer.values.most) == (-200, 400)
    packer.drain()
    packed: list[Any] = [pack_whole(rows) for rows in packer.ready]
    expected = pack_levels(np.concatenate([frames.numpy(), frames[:8].numpy() * 100]).astype(np.int16))
    np.testing.assert_array_equal(np.concatenate([rows.spikes for rows in packed]), expected.spikes)
    for name in ("0", "1", "sign"):
        found = np.concatenate([rows.planes[name] for rows in packed])
        np.testing.assert_array_equal(found, expected.planes[name])


class Given(nn.Module):
    """Puts out what it is given."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values


def test_a_recording_made_and_read_with_the_loops_has_the_values(used: None, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = random.integers(-4, 5, (300, 4, 70)).astype(np.float32)
    net = nn.Sequential(Given())
    with Monitor(net, layers={Given: SpikeOutput("n ...")}, store=tmp_path / "run.zarr") as monitor:
        for output in torch.from_numpy(values):
            net(output)
        np.testing.assert_array_equal(np.stack([np.asarray(step) for step in monitor.s["0"]]), values)
    layer = TapeReader.open(Folder(tmp_path / "run.zarr")).layers["0"]
    assert [*layer.planes] == ["0", "1", "sign"]
    np.testing.assert_array_equal(read_levels(layer, 0, 1200), values.reshape(1200, 70))
    events, bits = rows_to_trains(np.full((8, 2), 255, np.uint8)), np.full(16, 170, np.uint8)
    (trains, _), used = plane_bits.spread_to_events(events, [bits, bits])
    assert (trains.shape, used) == ((2, 8), 128)
