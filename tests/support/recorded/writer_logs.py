"""Recordings for tests that are written row by row, and what was written."""

from __future__ import annotations

import math

import numpy as np

from recorder.format import plan_chunks
from recorder.format.layout import CHUNK_LIMIT_BYTES
from recorder.format.segments import SegmentLog
from recorder.stores import ByteStore
from recorder.tape import LayerProgress, TapeReader, TapeWriter


def flat(frames: np.ndarray) -> np.ndarray:
    return frames.reshape(len(frames), math.prod(frames.shape[1:]))


class Recording:
    """Drives a TapeWriter frame by frame, as a recording session does, and remembers what it wrote.

    Chunks have 64 frames and blocks 25 chunks, so that little data makes many.
    """

    def __init__(
        self,
        store: ByteStore,
        neuron_shapes: dict[str, tuple[int, ...]],
        limit_bytes: int = CHUNK_LIMIT_BYTES,
    ) -> None:
        self.store = store
        self.tape = TapeWriter.create(store, {"made by": "a test"})
        self.frames = {name: np.empty((0, *shape), np.bool_) for name, shape in neuron_shapes.items()}
        self.logs = {name: SegmentLog() for name in neuron_shapes}
        self.whole = dict.fromkeys(neuron_shapes, 0)
        self.step = 0
        for position, (name, shape) in enumerate(neuron_shapes.items()):
            plan = plan_chunks(shape, target_bytes=1, limit_bytes=limit_bytes)
            self.tape.add_layer(name, plan, "float32", "Neuron", position)

    def record(self, steps: int, batch: int, seed: int, density: float = 0.3) -> None:
        generator = np.random.default_rng(seed)
        for name, known in self.frames.items():
            new = generator.random((steps * batch, *known.shape[1:])) < density
            frames = self.frames[name] = np.concatenate([known, new])
            self.logs[name].extend(self.step, steps, batch)
            whole = len(frames) // 8 * 8
            self.tape.append(name, np.packbits(flat(frames)[self.whole[name] : whole], axis=0))
            self.whole[name] = whole
        self.step += steps

    def commit(self, *, close: bool = False) -> None:
        progress = {}
        for name, frames in self.frames.items():
            pending = flat(frames)[self.whole[name] :]
            row = np.packbits(pending, axis=0)[0] if len(pending) else None
            progress[name] = LayerProgress(len(pending), row, *self.logs[name].look())
        self.tape.commit(progress, [], 0, close=close)

    def resume(self) -> None:
        self.tape = TapeWriter.resume(self.store)
        for name, (_, segment) in self.tape.resumed_layers().items():
            self.logs[name] = SegmentLog(segment)
            pending = flat(self.frames[name])[self.whole[name] :]
            assert np.array_equal(self.tape.pending_frames(name), pending)

    def check(self) -> None:
        reader = TapeReader.open(self.store)
        assert list(reader.layers) == list(self.frames)
        for name, frames in self.frames.items():
            check_layer(reader, name, frames)

    def check_totals(self) -> None:
        for name, frames in self.frames.items():
            whole = flat(frames)[: self.whole[name]]
            assert np.array_equal(self.tape.totals(name), whole.sum(axis=0))


def check_layer(reader: TapeReader, name: str, frames: np.ndarray) -> None:
    layer = reader.layers[name]
    assert layer.frames == layer.segments().frames == len(frames)
    assert np.array_equal(layer.frame_bits(0, len(frames)), frames)
    blocks = layer.commit.counts_checksums.rows
    size = layer.plan.block_frames
    expected = [frames[block * size : (block + 1) * size].sum(axis=0) for block in range(blocks)]
    if blocks:
        assert np.array_equal(layer.counts(0, blocks), expected)
    closed = reader.metadata.state == "closed"
    assert blocks == (-(-len(frames) // size) if closed else len(frames) // size)
