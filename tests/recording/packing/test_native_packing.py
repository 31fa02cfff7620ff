"""Packed in one compiled pass or by numpy: the same bits and refusals; and no step waits for a compiler."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from zarr.storage import MemoryStore

from recorder import Monitor, SpikeOutput
from recorder.capture import layer_recorder, packers
from recorder.capture.host.host_packing import HostPacker, NotSpikesError, StagePool, pack_whole
from recorder.capture.host.native_packing import LEAST_NEURONS, NativePacker
from recorder.native.loading import WORDS, CompiledPass
from recorder.stores import open_store
from recorder.tape import TapeReader

pytest.importorskip("numba")

NAN, INF = float("nan"), float("inf")
# What may stand among zeros and ones: what is 0 or 1 all the same, and what is not.
FINE = [-0.0, True]
BAD = [0.5, -1.0, 2.0, NAN, -NAN, INF, -INF, 1e-40, 1.0078125, 0.99609375, -0.0078125]


@pytest.fixture(scope="module")
def loaded() -> CompiledPass:
    one = CompiledPass()
    for dtype in WORDS:
        one.load(dtype)
    return one


def threads_of_the_compiler() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "spiketape-compiler"]


def arranged(frames: torch.Tensor, layout: str) -> torch.Tensor:
    """The same frames, shape [frames, neurons], in other memory."""
    if layout == "transposed":
        return frames.t().contiguous().t()
    if layout == "every other":
        return torch.stack([frames, frames], dim=-1).flatten(1)[:, ::2]
    if layout == "unaligned":
        space = torch.zeros(frames.numel() * frames.element_size() + 1, dtype=torch.uint8).numpy()
        array = space[1:].view(np.uint8)
        array[:] = frames.contiguous().view(torch.uint8).reshape(-1).numpy()
        return torch.frombuffer(memoryview(array), dtype=frames.dtype).reshape(frames.shape)
    return frames


class Beside:
    """numpy's packer and the compiled one, which get the same outputs."""

    def __init__(self, neurons: int, loaded: CompiledPass, dtype: str, pending: int) -> None:
        frames = np.random.default_rng(1).random((pending, neurons)) < 0.4
        self.packers = [
            HostPacker(frames, StagePool()),
            NativePacker(frames, StagePool(), loaded, dtype),
        ]
        self.rows: list[list[np.ndarray]] = [[], []]

    def push(self, frames: torch.Tensor, *, counts: bool) -> None:
        refusals = []
        for packer, rows in zip(self.packers, self.rows, strict=True):
            try:
                packer.push(frames)
                if counts:
                    packer.undo = None
                refusals.append("")
            except NotSpikesError as error:
                refusals.append(str(error))
            if packer.undo is None:
                rows += [np.array(pack_whole(piece)) for piece in packer.ready]
                packer.ready.clear()
        assert refusals[0] == refusals[1]

    def drain(self) -> None:
        pending = [packer.drain() for packer in self.packers]
        assert np.array_equal(*pending)
        assert pending[1].dtype == np.bool_
        for packer, rows in zip(self.packers, self.rows, strict=True):
            rows += [np.array(pack_whole(piece)) for piece in packer.ready]
            packer.ready.clear()
        assert np.array_equal(*(np.concatenate([*rows, pending[0][:0]]) for rows in self.rows))
        assert self.packers[0].has_fired == self.packers[1].has_fired


@given(
    neurons=st.sampled_from([1, 7, 31, 33, 64, 257]),
    pending=st.integers(0, 7),
    first=st.sampled_from(sorted(WORDS)),
    outputs=st.lists(
        st.tuples(
            st.sampled_from([1, 2, 3, 7, 8, 9, 16, 40]),
            st.sampled_from(sorted(WORDS)),
            st.sampled_from(["plain", "transposed", "every other", "unaligned"]),
            st.sampled_from(["count", "do not count", "drain"]),
            st.sampled_from([0.0, 0.3, 1.0]),
            st.sampled_from([None, *FINE, *BAD]),
        ),
        max_size=8,
    ),
)
@settings(deadline=None, max_examples=300)
def test_the_compiled_pass_does_what_numpy_does(
    loaded: CompiledPass, neurons: int, pending: int, first: str, outputs: list[tuple[Any, ...]]
) -> None:
    generator = torch.Generator().manual_seed(neurons)
    with pytest.MonkeyPatch.context() as patch:
        # So small that outputs fill it, more than once.
        patch.setattr("recorder.capture.host.host_packing.STAGE_BYTES", 600)
        beside = Beside(neurons, loaded, first, pending)
        for frames, dtype, layout, then, density, other in outputs:
            values = (torch.rand(frames, neurons, generator=generator) < density).to(getattr(torch, dtype))
            if other is not None and values.is_floating_point():
                values[-1, -1] = other
            elif other in BAD:
                values[-1, -1] = 2  # of a boolean True
            beside.push(arranged(values, layout), counts=then != "do not count")
            if then == "drain":
                beside.drain()
        beside.drain()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64"])
def test_every_bit_of_a_whole_number_counts(loaded: CompiledPass, dtype: str) -> None:
    size = WORDS[dtype].dtype.itemsize
    for bit in range(8 * size):
        frames = np.zeros((3, 5), f"u{size}")
        frames[2, 4] = 1 << bit
        beside = Beside(5, loaded, dtype, 0)
        beside.push(torch.from_numpy(frames.view(dtype)), counts=True)
        beside.drain()
        assert beside.packers[1].has_fired == (bit == 0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_half_is_told_as_numpy_tells_it(loaded: CompiledPass, dtype: str) -> None:
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(getattr(torch, dtype))
    fine = (every == 0) | (every == 1)
    assert int(fine.sum()) == 3
    for value in [*every[fine], *every[~fine][::37]]:
        beside = Beside(2, loaded, dtype, 0)
        beside.push(torch.stack([value, value.new_zeros(())])[None], counts=True)
        beside.drain()


def test_an_output_that_is_refused_can_be_followed_by_others(loaded: CompiledPass) -> None:
    packer = NativePacker(np.ones((3, 70), np.bool_), StagePool(), loaded, "float32")
    with pytest.raises(NotSpikesError, match=r"values from 0 to 0\.5, dtype float32"):
        packer.push(torch.cat([torch.ones(12, 70), torch.eye(70)[:1] * 0.5]))
    packer.push(torch.zeros(5, 70))
    packer.undo = None
    assert packer.drain().shape == (0, 70)
    assert [rows.tolist() for rows in packer.ready] == [[[0b11100000] * 70]]


class Given(nn.Module):
    """Puts out what it is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompiledPass]:
    """A pass that is loaded after few slots, as in a process that has just begun."""
    monkeypatch.setattr(layer_recorder, "LOOK_AFTER_CALLS", 4)
    one = CompiledPass(load_after_slots=1000)
    monkeypatch.setattr(packers, "PASS", one)
    yield one
    for thread in threads_of_the_compiler():
        thread.join()


def steps_of(count: int, *shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    return [(torch.rand(*shape, generator=generator) < 0.3).float() for _ in range(count)]


@pytest.mark.parametrize("has_steps", [False, True], ids=["single-step", "multi-step"])
def test_a_recording_goes_on_in_the_compiled_pass_when_it_is_there(
    unloaded: CompiledPass, has_steps: bool
) -> None:
    net, store = Given(), MemoryStore()
    shape, axes = ((2, 3, LEAST_NEURONS + 1), "t n ...") if has_steps else ((3, LEAST_NEURONS + 1), "n ...")
    steps = steps_of(40, *shape)
    # Graded values come as they did, and so do other data types.
    graded = [*steps_of(2, *shape), steps_of(1, *shape)[0] * 3]
    with Monitor(net, store=store, layers={"": SpikeOutput(axes)}) as monitor:
        for number, step in enumerate(steps):
            net(step.bool() if number % 9 == 1 else step)
            if number == 20:
                for thread in threads_of_the_compiler():
                    thread.join()
                assert unloaded.ready("float32") is not None
        assert isinstance(monitor._session.layers.by_name[""].recorder._packer, NativePacker)
        for step in graded:
            net(step)
    recorded = np.concatenate([*monitor.s[""]])
    assert np.array_equal(recorded, torch.stack([*steps, *graded]).reshape(-1, LEAST_NEURONS + 1))
    assert TapeReader.open(open_store(store, read_only=True)).layers[""].commit.values.most == 3


def test_layers_of_few_neurons_load_no_compiler(unloaded: CompiledPass) -> None:
    net = Given()
    with Monitor(net, store=MemoryStore(), layers=[Given]):
        for step in steps_of(30, 900, LEAST_NEURONS - 1):
            net(step)
    assert not unloaded._asked


def test_without_numba_it_is_said_what_would_be_faster(
    unloaded: CompiledPass, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    find = find_spec
    monkeypatch.setattr(
        "recorder.native.loading.find_spec", lambda name: None if name == "numba" else find(name)
    )
    net, steps = Given(), steps_of(30, 3, LEAST_NEURONS)
    with caplog.at_level(logging.INFO, "recorder"), Monitor(net, store=MemoryStore(), layers=[Given]) as one:
        for step in steps:
            net(step)
        assert all(np.array_equal(a, b) for a, b in zip(one.s[""], steps, strict=True))
    assert [text for text in caplog.messages if "numba" in text] == [
        "spikes are packed by numpy, as numba is not installed; with it the network would wait less: pip "
        "install 'spiketape[fast]'"
    ]
    assert threads_of_the_compiler() == []


def test_a_loop_that_cannot_be_loaded_is_told_once_and_numpy_goes_on(
    unloaded: CompiledPass, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: str) -> None:
        raise ImportError("Numba needs NumPy 2.4 or less. Got NumPy 2.5.")

    monkeypatch.setattr("recorder.native.loading.import_module", fail)
    net, steps = Given(), steps_of(30, 3, LEAST_NEURONS)
    with Monitor(net, store=MemoryStore(), layers=[Given]) as monitor:
        for step in steps:
            net(step)
            for thread in threads_of_the_compiler():
                thread.join()
        assert all(np.array_equal(a, b) for a, b in zip(monitor.s[""], steps, strict=True))
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [text.partition(": ")[0] for text in told if "numpy" in text] == [
        "spikes are packed by numpy, as the compiled loop cannot be loaded"
    ]
