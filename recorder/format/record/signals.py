"""Signals of a layer: what a commit promises of each, which neurons it has, and the plan of its chunks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from recorder.format.layout import (
    CHUNK_LIMIT_BYTES,
    CHUNK_TARGET_BYTES,
    ChunkPlan,
    folder_name,
    neuron_dimensions,
)
from recorder.format.record.extents import TableCommit
from recorder.format.record.parts import Kept, is_flat, neurons_to_json

SIGNALS: Final = "signals"
VALUES: Final = "values"
# Data types as which signals are stored.
SIGNAL_DTYPES: Final = (
    *("float16", "float32", "float64"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
# Limits on what a recording may declare, like those in `recorder.format.record.metadata`.
MAX_SIGNALS: Final = 1000


@dataclass(frozen=True)
class SignalCommit:
    """The promise of a commit about one signal of a layer.

    A signal is an array of frames × neurons like ``spikes``, with values instead of booleans. Its frames are
    its own: not every step and not every sample of the layer needs to be among them. So it has segments of
    its own, in the numbers of steps, samples and trials that the layer has.

    Attributes
    ----------
    name : str
        Name of the signal, e.g. ``"v"``.
    dtype : str
        Data type of the stored values, e.g. ``"float32"``.
    shape : tuple of int
        Shape of the values of one frame, before ``neurons`` are taken from them.
    plan : ChunkPlan
        Sizes of chunks and parts; its neuron shape is that of the stored array. There are no blocks.
    frames : int
        Number of committed frames.
    segments, checksums : TableCommit
        Extents of the arrays of segments, and of crc32c of the stored chunks.
    tail : tuple of int
        For a last chunk that is not full, the crc32c of the decoded values of each part, neuron by neuron,
        with every frame from ``frames`` on set to 0; ``()`` if there is no such chunk.
    neurons : tuple of range, tuple of int, or None
        Which neurons the array has: places along each axis of ``shape``, or flat indices in C order.
    every : int
        Steps whose number is a multiple of this are recorded.
    samples : int or None
        How many samples of a batch are recorded at most, the first ones; None for all.
    lost : tuple of (int, int)
        Ranges of frames given up, as of a layer.
    is_apart : bool
        Whether the folder is set apart from that of another signal, whose name differs by case only.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    plan: ChunkPlan
    frames: int
    segments: TableCommit
    checksums: TableCommit
    tail: tuple[int, ...] = ()
    neurons: Kept = None
    every: int = 1
    samples: int | None = None
    lost: tuple[tuple[int, int], ...] = ()
    is_apart: bool = False

    @property
    def lost_frames(self) -> int:
        """Number of frames marked lost."""
        return sum(last - first for first, last in self.lost)

    @property
    def itemsize(self) -> int:
        """Bytes of a value."""
        return np.dtype(self.dtype).itemsize

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the neuron axes of the stored array."""
        return signal_dimensions(self.plan, self.neurons)

    def folder(self, layer_folder: str) -> str:
        """Key prefix of the signal's group, below that of its layer."""
        return f"{layer_folder}/{SIGNALS}/{folder_name(self.name, apart=self.is_apart)}"

    def described(self, layer: str | None) -> str:
        """What this is, for messages."""
        return f"signal {self.name!r} of layer {layer!r}"


def plan_signal(
    kept_shape: tuple[int, ...],
    itemsize: int,
    *,
    target_bytes: int = CHUNK_TARGET_BYTES,
    limit_bytes: int = CHUNK_LIMIT_BYTES,
) -> ChunkPlan:
    """Cut a signal into chunks of about 4 MiB of values.

    A chunk has at least one frame. A signal one frame of which exceeds 16 MiB is split along its first axis.

    Examples
    --------
    >>> plan_signal((64, 8, 8), 4)
    ChunkPlan(neuron_shape=(64, 8, 8), chunk_frames=256, part_rows=64, block_chunks=1)
    """
    neurons = math.prod(kept_shape)
    if neurons < 1:
        raise ValueError(f"a signal needs at least one neuron, but the shape of its values is {kept_shape}")
    chunk_frames = max(target_bytes // (neurons * itemsize), 1)
    part_rows = kept_shape[0] if kept_shape else 1
    if neurons * itemsize * chunk_frames > limit_bytes:
        row_bytes = neurons // part_rows * itemsize * chunk_frames
        parts = -(-part_rows // max(target_bytes // row_bytes, 1))
        part_rows = -(-part_rows // parts)
    return ChunkPlan(kept_shape, chunk_frames, part_rows, 1)


def signal_dimensions(plan: ChunkPlan, neurons: Kept) -> tuple[str, ...]:
    """Names of the neuron axes of a stored signal: ``neuron`` where flat indices say which there are."""
    return ("neuron",) if is_flat(neurons) else neuron_dimensions(plan.neuron_shape)


def signal_to_json(signal: SignalCommit) -> dict[str, Any]:
    """A signal as in the commit record."""
    plan = signal.plan
    further = {**neurons_to_json(signal.neurons)}
    if signal.samples is not None:
        further["samples"] = signal.samples
    if signal.lost:
        further["lost"] = [list(frames) for frames in signal.lost]
    if signal.is_apart:
        further["folder"] = folder_name(signal.name, apart=True)
    return {
        "name": signal.name,
        "dtype": signal.dtype,
        "neuron_shape": list(signal.shape),
        "every": signal.every,
        "chunk_frames": plan.chunk_frames,
        "part_rows": plan.part_rows,
        "frames": signal.frames,
        "segments": {"rows": signal.segments.rows, "crc32c": signal.segments.crc32c},
        "checksums": {"rows": signal.checksums.rows, "crc32c": signal.checksums.crc32c},
        "tail": list(signal.tail),
        **further,
    }


def signals_to_json(signals: tuple[SignalCommit, ...]) -> Mapping[str, Any]:
    """The entry of a layer that has signals; nothing where it has none."""
    return {SIGNALS: [signal_to_json(signal) for signal in signals]} if signals else {}
