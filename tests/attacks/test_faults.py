"""Whatever a store fails to do, or loses with the power: what was committed reads right, and goes on."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faults import DiskError, FaultyStore, VolatileStore
from recorder.format import RecordingNotFoundError, plan_chunks
from recorder.format.bits import pack_frames
from recorder.format.segments import SegmentLog
from recorder.stores import ByteStore
from recorder.tape import LayerProgress, TapeReader, TapeWriter
from recorder.tape.holding.beginning import is_unbegun

LONG = pytest.mark.long
NEURONS = {"a": 3, "b": 9}
# Blocks of two chunks of 64 frames.
PLANS = {
    name: plan_chunks((neurons,), target_bytes=1, counts_share=0.25) for name, neurons in NEURONS.items()
}
FRAMES_PER_COMMIT = (5, 66, 260, 8)


def frames_of(name: str, frames: int) -> np.ndarray:
    return np.random.default_rng(NEURONS[name]).random((500, NEURONS[name]))[:frames] < 0.4


class Script:
    """Records the same frames in the same order, again and again from where a store stands."""

    def __init__(self, store: ByteStore) -> None:
        self.store = store
        self.acknowledged = 0
        self.attempted = 0
        self.tape: TapeWriter | None = None

    def begin(self) -> int:
        """Create or resume; frames that there are."""
        if is_unbegun(self.store):
            self.tape = TapeWriter.create(self.store, {})
        else:
            self.tape = TapeWriter.resume(self.store)
        layers = self.tape.resumed_layers()
        found = {commit.frames for commit, _ in layers.values()}
        assert len(found) <= 1
        self.logs = {name: SegmentLog(layers[name][1] if layers else None) for name in NEURONS}
        for position, name in enumerate(NEURONS):
            if not layers:
                self.tape.add_layer(name, PLANS[name], "bool", "Neuron", position)
        return found.pop() if found else 0

    def run(self) -> None:
        frames = self.begin()
        ends = np.cumsum(FRAMES_PER_COMMIT).tolist()
        for end in ends:
            if end > frames:
                self.record(frames, end)
                frames = end
            if end == frames:
                self.commit(end, close=end == ends[-1])

    def record(self, first: int, last: int) -> None:
        assert self.tape is not None
        for name in NEURONS:
            self.logs[name].extend(first, last - first, 1)
            self.tape.append(name, pack_frames(frames_of(name, last // 8 * 8)[first // 8 * 8 :]))

    def commit(self, frames: int, *, close: bool) -> None:
        assert self.tape is not None
        progress = {}
        for name in NEURONS:
            pending = frames_of(name, frames)[frames // 8 * 8 :]
            row = pack_frames(pending)[0] if len(pending) else None
            progress[name] = LayerProgress(len(pending), row, *self.logs[name].look())
        self.attempted = frames
        self.tape.commit(progress, [], 0, close=close)
        self.acknowledged = frames

    def die(self) -> None:
        """Forget the writer, as the end of its process does."""
        if self.tape is not None:
            self.tape.release()
        self.tape = None


def check(store: ByteStore, least: int, most: int) -> None:
    """Between ``least`` and ``most`` frames are committed, the same in both layers, as they were recorded."""
    if least == 0 and is_unbegun(store):
        with pytest.raises(RecordingNotFoundError):
            TapeReader.open(store)
        return
    layers = TapeReader.open(store).layers
    if least == 0 and not layers:
        return
    for name, neurons in NEURONS.items():
        layer = layers[name]
        assert least <= layer.frames == layers["a"].frames <= most
        spikes = frames_of(name, layer.frames)
        assert np.array_equal(layer.frame_bits(0, layer.frames), spikes)
        assert layer.segments().frames == layer.frames
        blocks, size = layer.commit.counts_checksums.rows, layer.plan.block_frames
        counted = [spikes[block * size : (block + 1) * size].sum(axis=0) for block in range(blocks)]
        assert np.array_equal(layer.counts(0, blocks), np.array(counted).reshape(blocks, neurons))


def check_and_go_on(store: ByteStore, script: Script) -> None:
    check(store, script.acknowledged, max(script.attempted, script.acknowledged))
    again = Script(store)
    again.run()
    check(store, sum(FRAMES_PER_COMMIT), sum(FRAMES_PER_COMMIT))
    assert TapeReader.open(store).metadata.state == "closed"


def operations_of(writes_under_way: int) -> int:
    store = FaultyStore(VolatileStore(writes_under_way))
    Script(store).run()
    return store.operations


def fail_from(number: int) -> Callable[[int, str, str], bool]:
    return lambda operation, *_: operation >= number


def fail_once(number: int) -> Callable[[int, str, str], bool]:
    return lambda operation, *_: operation == number


@pytest.mark.parametrize(
    ("plan", "error", "after", "writes_under_way"),
    [
        # Each two of these together; all three with `-m long`.
        pytest.param(fail_once, errno.EIO, False, 1, id="once, not done, one by one"),
        pytest.param(fail_once, errno.EIO, True, 4, id="once, done, side by side"),
        pytest.param(fail_from, errno.ENOSPC, False, 4, id="for good, not done, side by side"),
        pytest.param(fail_from, errno.ENOSPC, True, 1, id="for good, done, one by one"),
        pytest.param(fail_once, errno.EIO, False, 4, marks=LONG, id="once, not done, side by side"),
        pytest.param(fail_once, errno.EIO, True, 1, marks=LONG, id="once, done, one by one"),
        pytest.param(fail_from, errno.ENOSPC, False, 1, marks=LONG, id="for good, not done, one by one"),
        pytest.param(fail_from, errno.ENOSPC, True, 4, marks=LONG, id="for good, done, side by side"),
    ],
)
def test_any_store_operation_may_fail(
    plan: Callable[[int], Callable[..., bool]], error: int, after: bool, writes_under_way: int
) -> None:
    for number in range(1, OPERATIONS[writes_under_way] + 1):
        inner = VolatileStore(writes_under_way)
        script = Script(FaultyStore(inner, plan(number), error=error, after=after))
        with contextlib.suppress(DiskError):
            script.run()
        script.die()
        check_and_go_on(inner, script)


OPERATIONS = {writes_under_way: operations_of(writes_under_way) for writes_under_way in (1, 4)}

STAGES = {
    "lock": ("write", "writer.lock"),
    "chunk": ("write", "/spikes/c/"),
    "counts": ("write", "/counts/c/"),
    "names of counts": ("write", "/counts_checksums/c/"),
    "names of chunks": ("write", "/checksums/c/"),
    "segments": ("write", "/segments/c/"),
    "waiting for the disk": ("persist", ""),
    "shape of spikes": ("write", "/spikes/zarr.json"),
    "shape of segments": ("write", "/segments/zarr.json"),
    "group of a layer": ("write", "layers/a/zarr.json"),
    "commit record": ("write", "zarr.json"),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("after", [False, True], ids=["before it", "behind it"])
def test_a_writer_may_die_at_each_stage_of_a_commit(stage: str, after: bool) -> None:
    operation, place = STAGES[stage]
    for occurrence in (1, 2, 3):
        seen = 0

        def dies(_: int, done: str, key: str, occurrence: int = occurrence) -> bool:
            nonlocal seen
            here = done == operation and (key == place if stage == "commit record" else place in key)
            seen += here
            return seen >= occurrence  # nothing is done by the dead

        inner = VolatileStore()
        script = Script(FaultyStore(inner, dies, after=after))
        died = False
        try:
            script.run()
        except DiskError:
            died = True
        script.die()
        assert died or occurrence > seen
        assert seen, "the stage exists"
        # What it could not give back is seen to be left behind.
        check_and_go_on(inner, script)


@pytest.mark.parametrize("writes_under_way", [1, 4], ids=["one by one", "side by side"])
@settings(max_examples=100)
@given(data=st.data())
def test_a_loss_of_power_takes_nothing_that_was_committed(writes_under_way: int, data: st.DataObject) -> None:
    inner = VolatileStore(writes_under_way)
    operations = OPERATIONS[writes_under_way]
    last = data.draw(st.integers(1, operations + 5), label="operations before the power fails")
    script = Script(FaultyStore(inner, fail_from(last)))
    with contextlib.suppress(DiskError):
        script.run()
    script.die()
    random = data.draw(st.randoms(use_true_random=False))
    inner.lose_power(random.choice)
    check_and_go_on(inner, script)
