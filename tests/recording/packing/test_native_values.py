"""Values are packed, and planes taken apart, by compiled loops as by plain numpy."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from packed_levels import assert_joined, assert_packed, levels_of
from recorder import Monitor, SpikeOutput
from recorder.capture.host import host_packing, value_packing
from recorder.capture.host.host_packing import FullStage, NotSpikesError, StagePool, pack_whole
from recorder.capture.host.value_packing import ValuePacker
from recorder.format.bits import rows_to_trains
from recorder.format.layout import plan_chunks
from recorder.format.planes import at_events
from recorder.format.planes.values import PackedValues, pack_levels
from recorder.native.planes import PlaneLoops
from recorder.native.values import OpenRows, ValueLoops
from recorder.stores import Folder
from recorder.tape import TapeReader, spreading
from recorder.tape.layers import plane_writing
from recorder.tape.layers.levels import read_levels

pytest.importorskip("numba")
value_loops = importlib.import_module("recorder.native.value_loops")


@pytest.fixture(scope="module")
def loops() -> ValueLoops:
    loops = ValueLoops()
    loops.load()
    assert loops.are_ready(0)
    return loops


@pytest.fixture(scope="module")
def plane_loops() -> PlaneLoops:
    loops = PlaneLoops()
    loops.load()
    assert loops.are_ready(0)
    return loops


@pytest.fixture
def used(loops: ValueLoops, plane_loops: PlaneLoops, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever packs and reads values in this process has the loops."""
    for module in (host_packing, value_packing, plane_writing):
        monkeypatch.setattr(module, "LOOPS", loops)
    monkeypatch.setattr(spreading, "LOOPS", plane_loops)


@st.composite
def some_levels(draw: st.DrawFn) -> NDArray[np.int8]:
    """Levels, [frames, neurons], whole rows of eight."""
    neurons = draw(st.sampled_from([1, 2, 7, 8, 9, 63, 64, 65, 128, 257, 5000]))
    shape = 8 * draw(st.integers(0, 20 if neurons > 257 else 70)), neurons
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    least, most = draw(st.integers(-128, 0)), draw(st.integers(0, 127))
    events = random.random(shape) < draw(st.sampled_from([0, 0.02, 0.3, 0.9, 1]))
    return (random.integers(least, most + 1, shape) * events).astype(np.int8)


@pytest.fixture
def packed(loops: ValueLoops, monkeypatch: pytest.MonkeyPatch) -> Callable[[NDArray[np.int8]], PackedValues]:
    """Packs whole rows of levels by the loops."""
    monkeypatch.setattr(host_packing, "LOOPS", loops)

    def pack(levels: NDArray[np.int8]) -> PackedValues:
        rows = FullStage(levels, StagePool()).pack()
        assert isinstance(rows, PackedValues)
        return rows

    return pack


@given(levels=some_levels())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_loops_give_what_numpy_gives(
    packed: Callable[[NDArray[np.int8]], PackedValues], levels: NDArray[np.int8]
) -> None:
    found, expected = packed(levels), pack_levels(levels)
    assert_packed(found, levels)
    np.testing.assert_array_equal(found.spikes, expected.spikes)
    assert {*found.planes} == {*expected.planes}
    for name, plane in expected.planes.items():
        np.testing.assert_array_equal(found.planes[name].bits, plane.bits)
        np.testing.assert_array_equal(found.planes[name].counts, plane.counts)
        assert found.planes[name].counts.dtype == plane.counts.dtype


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_each_level_is_packed(packed: Callable[[NDArray[np.int8]], PackedValues], dtype: type) -> None:
    """By the loops those of one byte, by numpy those of two."""
    most = min(-np.iinfo(dtype).min, 2**10)
    levels = np.arange(-most, most, dtype=dtype).reshape(8, -1)
    assert_packed(packed(levels), levels)
    assert_packed(pack_levels(levels), levels)


@pytest.mark.parametrize("rows", [31, 32, 62, 63])
def test_neurons_are_counted_in_more_rows_than_a_byte_has_room_for(
    packed: Callable[[NDArray[np.int8]], PackedValues], rows: int
) -> None:
    levels = np.repeat(np.array([[-1, -4, 2]], np.int8), 8 * rows, axis=0)
    assert_packed(packed(levels), levels)


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans())), st.integers(0, 3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_of_bits_are_joined_in_order(
    loops: ValueLoops, lengths: list[tuple[int, bool]], more: int
) -> None:
    assert_joined(loops.join_bits, lengths, more)


def test_bits_are_not_written_behind_the_end_of_memory(loops: ValueLoops) -> None:
    bits = np.packbits(np.ones(20, np.bool_))
    for join in (loops.join_bits, at_events.join_bits):
        with pytest.raises(ValueError, match=r"room|broadcast"):
            join([(bits, 20), (bits, 20)], np.zeros(3, np.uint8))


@given(some_levels(), st.integers(0, 70))
@settings(max_examples=60, deadline=None)
def test_levels_at_events_are_put_together_in_order(levels: NDArray[np.int8], before: int) -> None:
    """By either loop: the processor of whoever runs this takes one of them."""
    slots = levels.reshape(-1)
    for put_together in (value_loops.put_together_by_shuffles, value_loops.put_together_one_by_one):
        if put_together is value_loops.put_together_by_shuffles and not value_loops.CAN_SHUFFLE:
            continue
        at = np.full(before + len(slots) + 8, 255, np.uint8)
        taken = put_together(slots.view(np.uint8), before, at)
        np.testing.assert_array_equal(at[before:taken].view(np.int8), slots[slots != 0])
        assert (at[:before] == 255).all()


ON_ANY_PROCESSOR = """
import numpy as np
from recorder.native.values import OpenRows, ValueLoops
loops = ValueLoops()
loops.load()
levels = np.random.default_rng(0).integers(-3, 4, (64, 100)).astype(np.int8)
rows, events, planes = loops.pack_levels(levels)
at = levels[levels != 0]
print(events == len(at), np.array_equal(planes[-1][0], np.packbits(at < 0)))
"""


def test_loops_are_compiled_for_the_processor_that_numba_is_told(tmp_path: Path) -> None:
    """As where several machines share a cache. LLVM ends a process that asks for what is not there."""
    told = {"NUMBA_CPU_NAME": "generic", "NUMBA_CACHE_DIR": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", ON_ANY_PROCESSOR],
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["True", "True"]


@given(some_levels(), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_bits_are_put_back_to_their_events(
    plane_loops: PlaneLoops, levels: NDArray[np.int8], planes: int
) -> None:
    events = np.packbits(levels != 0, axis=0)
    noise = np.random.default_rng(0).integers(0, 256, (planes, *events.shape)).astype(np.uint8)
    bits = at_events.bits_at_events(events, [*noise])
    np.testing.assert_array_equal(plane_loops.rows_at_events(events, bits), noise & events)
    np.testing.assert_array_equal(at_events.rows_at_events(events, bits), noise & events)


@pytest.mark.parametrize("slot", [(0, 3000), (8, 0), (15, 4999)])
def test_a_plane_is_silent_before_and_behind_the_only_slot_in_it(
    packed: Callable[[NDArray[np.int8]], PackedValues], slot: tuple[int, int]
) -> None:
    levels = np.ones((24, 5000), np.int8)
    levels[slot] = -3
    # Memory that is used again holds what was there before.
    filled = [np.full(9 * 3 * 5000, 255, np.uint8) for _ in range(2)]
    del filled
    found = packed(levels)
    assert {*found.planes} == {"1", "sign"}
    assert_packed(found, levels)


@pytest.mark.parametrize(
    "value",
    [2, -3, 126, -127, 127, -128, 128, -129, 0.5, 300, 2**23, -(2**23), 1e30, np.nan, np.inf, -np.inf, -0.0],
)
@pytest.mark.parametrize(("slots", "place"), [(61, 60), (256, 255), (700, 0), (700, 699), (1024, 600)])
def test_levels_are_values_that_they_give_back(
    loops: ValueLoops, value: float, slots: int, place: int
) -> None:
    values = np.resize(np.array([0, 1, 5], np.float32), slots)
    values[place] = value
    levels = np.full(slots, -7, np.int8)
    taken = loops.take_levels(values, levels)
    assert taken is not None
    is_given_back, least, most = taken
    # The ends of the range are those of what is beyond it, too.
    assert is_given_back == (value == int(value) and -128 < value < 127 if np.isfinite(value) else False)
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


@pytest.mark.parametrize("are_ready", [False, True])
def test_fewer_bits_than_events_are_an_error(
    monkeypatch: pytest.MonkeyPatch, plane_loops: PlaneLoops, are_ready: bool
) -> None:
    """By the loops as by numpy: these would read what lies behind them in memory."""
    monkeypatch.setattr(spreading, "LOOPS", plane_loops if are_ready else PlaneLoops())
    events, bits = np.full((64, 5), 255, np.uint8), np.zeros(319, np.uint8)
    with pytest.raises(ValueError, match="a plane has 2552 bits, and there are 2560 events"):
        spreading.spread_to_rows(events, [np.zeros(320, np.uint8), bits])


def test_events_in_memory_that_cannot_be_written_are_copied(plane_loops: PlaneLoops) -> None:
    events = np.full((8, 8), 255, np.uint8)
    events.flags.writeable = False
    bits = np.arange(64, dtype=np.uint8)
    (rows,) = plane_loops.rows_at_events(events, [bits])
    np.testing.assert_array_equal(rows, at_events.rows_at_events(events, [bits])[0])


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
    packed = [PackedValues.of(pack_whole(rows)) for rows in packer.ready]
    levels = np.concatenate([levels_of(rows) for rows in packed])
    np.testing.assert_array_equal(levels, np.concatenate([frames.numpy(), frames[:8].numpy() * 100]))


class Pushed:
    """A packer that packs outputs at once, however small, and the frames that count so far."""

    def __init__(self, neurons: int, frames: int = 0) -> None:
        pending = np.empty((0, neurons), np.bool_)
        self.packer = ValuePacker(pending, StagePool(), 1.0, "float32", frames=frames)
        self.frames: list[NDArray[np.float32]] = [np.empty((0, neurons), np.float32)]

    def push(self, frames: NDArray[np.float32], what: str) -> None:
        """Push frames that count, that do not, or that are refused."""
        if what == "others":
            frames = frames.copy()
            frames[-1, -1] = 0.5
            with pytest.raises(NotSpikesError):
                self.packer.push(torch.from_numpy(frames))
            self.packer.roll_back()
            return
        self.packer.push(torch.from_numpy(frames))
        if what == "counts":
            self.packer.undo = None
            self.frames.append(frames)

    def assert_packed(self) -> None:
        """What was packed, and what is left, are the frames that count."""
        pending = self.packer.drain()
        expected = np.concatenate(self.frames)
        packed = [levels_of(PackedValues.of(pack_whole(rows))) for rows in self.packer.ready]
        found = np.concatenate([*packed, pending])
        np.testing.assert_array_equal(found, expected)
        assert self.packer.values.least == min(0, expected.min(initial=0))
        assert self.packer.values.most == max(0, expected.max(initial=0))


@pytest.fixture
def at_once(used: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs of any size are packed at once, few rows together, and stages are small."""
    monkeypatch.setattr(host_packing, "STAGE_BYTES", 2**10)
    for name in ("PACK_AT_ONCE_SLOTS", "UNEVEN_SLOTS"):
        monkeypatch.setattr(value_packing, name, 1)
    monkeypatch.setattr(value_packing, "PACKED_SLOTS", 2**12)
    monkeypatch.setattr(value_packing, "PACKED_EVENTS", 2**11)


@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_outputs_that_are_packed_at_once_are_those_that_count(at_once: None, data: st.DataObject) -> None:
    neurons = data.draw(st.sampled_from([1, 3, 9, 64, 257, 3000]))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    least, most = data.draw(st.sampled_from([(0, 1), (0, 4), (-1, 1), (-126, 126), (-3, 300)]))
    density = data.draw(st.sampled_from([0.02, 0.2, 1]))
    pushed = Pushed(neurons)
    for _ in range(data.draw(st.integers(1, 7))):
        frames = data.draw(st.sampled_from([1, 3, 8, 12, 64, 65, 300 if neurons < 1000 else 24]))
        values = random.integers(least, most + 1, (frames, neurons)) * (
            random.random((frames, neurons)) < density
        )
        what = data.draw(st.sampled_from(["counts", "counts", "is taken back", "others", "drained"]))
        if what == "drained":
            pushed.packer.drain()
        else:
            # Some outputs go through the stage all the same.
            is_small = data.draw(st.booleans())
            with pytest.MonkeyPatch.context() as patch:
                if is_small:
                    for name in ("PACK_AT_ONCE_SLOTS", "UNEVEN_SLOTS"):
                        patch.setattr(value_packing, name, 2**60)
                pushed.push(values.astype(np.float32), what)
    pushed.assert_packed()


def test_small_outputs_come_behind_large_ones(at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed, values = Pushed(64), np.ones((64, 64), np.float32)
    pushed.push(2 * values[:8], "counts")
    monkeypatch.setattr(value_packing, "PACK_AT_ONCE_SLOTS", values.size + 1)
    pushed.push(3 * values, "counts")
    pushed.assert_packed()


@pytest.mark.parametrize("what", ["is taken back", "others"])
@pytest.mark.parametrize("rows", [1, 40, 200])
def test_open_rows_are_as_before_when_an_output_is_taken_back(at_once: None, rows: int, what: str) -> None:
    """One that they have room for, counted in bytes or not, and one that is packed in several pieces."""
    pushed, random = Pushed(3), np.random.default_rng(0)
    for frames, how in ((19, "counts"), (8 * rows, what), (13, "counts")):
        pushed.push(random.integers(-4, 5, (frames, 3)).astype(np.float32), how)
    pushed.assert_packed()


def test_open_rows_are_packed_once_where_an_output_needs_larger_levels(at_once: None) -> None:
    pushed, values = Pushed(3), np.ones((16, 3), np.float32)
    pushed.push(values, "counts")
    pushed.push(300 * values, "is taken back")
    pushed.push(200 * values, "counts")
    pushed.assert_packed()


def test_nothing_of_open_rows_is_lost_where_memory_is_short(at_once: None) -> None:
    pushed, values = Pushed(64), np.arange(512, dtype=np.float32).reshape(8, 64) % 5
    pushed.push(values, "counts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(value_loops, "bits_of_levels", _without_memory)
        with pytest.raises(MemoryError):
            pushed.packer.drain()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(value_loops, "pack_values", _without_memory)
        with pytest.raises(MemoryError):
            pushed.packer.push(torch.from_numpy(values))
    pushed.push(values[::-1].copy(), "counts")
    pushed.assert_packed()


@pytest.mark.parametrize("frames", [0, 8])
def test_open_rows_hold_nothing_of_an_output_that_was_interrupted(at_once: None, frames: int) -> None:
    """As by Ctrl-C while the loop ran, which comes up when it has ended."""
    pushed, values = Pushed(3), np.array([[1, 2, 4]] * 8, np.float32)
    pack = value_loops.pack_values
    pushed.push(values[:frames], "counts")

    def interrupted(*memory: object) -> None:
        pack(*memory)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(value_loops, "pack_values", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pushed.packer.push(torch.full((8, 3), -100.0))
    pushed.push(values, "counts")
    pushed.assert_packed()


def test_open_rows_stay_where_further_memory_is_short(at_once: None) -> None:
    """And are still there when later outputs have taken that memory, and are taken back."""
    pushed, random = Pushed(64), np.random.default_rng(0)
    values = random.integers(-4, 5, (8, 64)).astype(np.float32)
    # Ones that the open rows have no room for.
    large = random.integers(-4, 5, (160, 64)).astype(np.float32)
    pushed.push(values, "counts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OpenRows, "begin", _without_memory)
        with pytest.raises(MemoryError):
            pushed.packer.push(torch.from_numpy(large))
    pushed.push(large, "others")
    pushed.push(large, "is taken back")
    pushed.push(values[::-1].copy(), "counts")
    pushed.push(large, "counts")
    pushed.assert_packed()


def _without_memory(*_: object) -> None:
    raise MemoryError


def test_large_outputs_are_packed_together(used: None) -> None:
    """Without a stage, which would be read and written once more."""
    pushed, values = Pushed(4096), np.arange(2**18, dtype=np.float32).reshape(64, 4096) % 5
    for _ in range(3):
        pushed.push(values, "counts")
    assert pushed.packer.ready == []
    pushed.packer.drain()
    assert [len(rows) for rows in pushed.packer.ready if isinstance(rows, PackedValues)] == [24]
    pushed.assert_packed()


def test_what_is_packed_together_ends_with_its_chunk(used: None) -> None:
    """To part what several outputs were packed to takes longer than to pack it."""
    rows = plan_chunks((65536,)).chunk_frames // 8
    pushed = Pushed(65536, frames=8 * (rows - 4))
    values = np.zeros((24, 65536), np.float32)
    for _ in range(rows // 3):
        pushed.push(values, "counts")
    pushed.packer.drain()
    ends = np.cumsum([len(each) for each in pushed.packer.ready if isinstance(each, PackedValues)])
    assert {4, 4 + rows} <= {*ends.tolist()} or ends[-1] < 4 + rows
    assert ends[0] == 4
    assert len(ends) <= 2 + rows // 16


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
    (trains, _), used = spreading.spread_to_events(events, [bits, bits])
    assert (trains.shape, used) == ((2, 8), 128)
