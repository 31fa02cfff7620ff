"""What a recording will cost, from pure arithmetic: bytes for each step, memory at most, files.

`RecordingPlan` is what ``monitor.plan`` gives and what is logged at the first step, before anything could
run out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from recorder.capture.host_packing import (
    PUT_BYTES,
    SPARE_BYTES,
    stage_bytes,
)
from recorder.capture.layer_recorder import GATHER_BYTES
from recorder.format import ChunkPlan
from recorder.format.layout import SEGMENT_COLUMNS, table_chunk_rows
from recorder.tape.in_order import ENCODING_THREADS

_MIB = 2**20


@dataclass(frozen=True)
class LayerPlan:
    """What one layer costs.

    Attributes
    ----------
    name : str
    frames_per_step : int
        Batch size of its first step.
    chunks : ChunkPlan
    device_bytes : int
        Memory that is kept on an accelerator, at most; 0 if it runs on the CPU.
    output_frames : int
        Of the largest output so far, which holds several steps where a call is several.
    """

    name: str
    frames_per_step: int
    chunks: ChunkPlan
    device_bytes: int = 0
    output_frames: int = 0

    @property
    def bits_per_step(self) -> int:
        """Slots of a step, a bit each: what has to be packed. Compression makes it less on disk."""
        return self.frames_per_step * self.chunks.neurons

    @property
    def host_bytes(self) -> int:
        """Host memory that the layer keeps, at most: a chunk of each array, outputs waiting to be packed."""
        counts = 2 * 8 * self.chunks.neurons
        # Small arrays are kept until they fill a chunk, and copied as they grow.
        tables = 2 * sum(
            table_chunk_rows(shape, itemsize) * math.prod(shape) * itemsize
            for shape, itemsize in (
                (self.chunks.neuron_shape, 4),
                ((), 4),
                ((self.chunks.parts,), 4),
                ((len(SEGMENT_COLUMNS),), 8),
            )
        )
        return self.chunk_bytes + self.stage_bytes + GATHER_BYTES + counts + tables

    @property
    def stage_bytes(self) -> int:
        """Memory for booleans that wait until they are enough to be packed."""
        return stage_bytes(self.chunks.neurons)

    @property
    def chunk_bytes(self) -> int:
        """Packed bytes of a chunk, all its parts."""
        return self.chunks.neurons * self.chunks.chunk_bytes

    def files(self, steps: int) -> int:
        """Files that chunks of ``spikes`` make in so many steps; the small arrays add a few in a hundred."""
        return self.chunks.chunk_count(steps * self.frames_per_step) * self.chunks.parts


@dataclass(frozen=True)
class RecordingPlan:
    """What a recording costs.

    Attributes
    ----------
    layers : sequence of LayerPlan
        Those that have been called so far.
    queue_limit_bytes : int
        Bytes that may wait for the disk before the network is held up; packed, but for the first of them.
    ring_bytes : int
        Pinned memory through which accelerators hand over packed bytes; 0 without one.
    steps_per_hour : float
        At the pace of the recording so far; NaN before its first forward has ended.
    """

    layers: Sequence[LayerPlan]
    queue_limit_bytes: int
    ring_bytes: int = 0
    steps_per_hour: float = math.nan

    @property
    def bytes_per_step(self) -> float:
        """Packed bytes of a step of all layers: an upper bound of what is stored."""
        return sum(layer.bits_per_step for layer in self.layers) / 8

    @property
    def host_bytes_limit(self) -> int:
        """Host memory at most, however long the recording; outputs themselves are the network's."""
        kept = sum(layer.host_bytes for layer in self.layers)
        # To rearrange, compress and write a chunk takes about four times its size; with several threads at
        # it, each has rows of its own, and one chunk more waits.
        chunks = 4 if ENCODING_THREADS == 1 else 5 * (ENCODING_THREADS + 1)
        at_work = chunks * max((layer.chunk_bytes for layer in self.layers), default=0)
        # Stages on the way to the queue, what one output adds to them, and those that nobody needs just now.
        stages = (
            2 * PUT_BYTES + SPARE_BYTES + 2 * max((layer.stage_bytes for layer in self.layers), default=0)
        )
        # What is packed of one output goes to the queue as a whole.
        output = max(
            (-(-layer.output_frames // 8) * layer.chunks.neurons for layer in self.layers), default=0
        )
        # What has come through the ring is copied out of it before it is queued.
        return kept + at_work + stages + output + self.queue_limit_bytes + 2 * self.ring_bytes

    @property
    def device_bytes_limit(self) -> int:
        """Memory on accelerators at most, however long the recording; 0 on the CPU."""
        return sum(layer.device_bytes for layer in self.layers) + self.ring_bytes

    @property
    def bytes_per_hour(self) -> float:
        """Packed bytes at the pace so far; NaN before there is one."""
        return self.bytes_per_step * self.steps_per_hour

    @property
    def files_per_hour(self) -> float:
        """Files at the pace so far; NaN before there is one."""
        return math.nan if math.isnan(self.steps_per_hour) else float(self.files(round(self.steps_per_hour)))

    def files(self, steps: int) -> int:
        """Files that so many steps make."""
        return sum(layer.files(steps) for layer in self.layers)

    def __str__(self) -> str:
        """One line for people."""
        device = f" and {self.device_bytes_limit / _MIB:,.0f} MiB on the device" * bool(self.ring_bytes)
        return (
            f"{len(self.layers)} layers, {sum(layer.bits_per_step for layer in self.layers):,} slots a step: "
            f"at most {self.bytes_per_step / 1000:,.1f} kB a step, "
            f"{self.bytes_per_step * 1e6 / 1e9:,.1f} GB and {self.files(10**6):,} files in a million steps"
            f"{self._hourly()}, "
            f"{self.host_bytes_limit / _MIB:,.0f} MiB of host memory{device} however many"
        )

    def _hourly(self) -> str:
        if math.isnan(self.steps_per_hour):
            return ""
        bytes_and_files = f"{self.bytes_per_hour / 1e9:,.2f} GB and {self.files_per_hour:,.0f} files"
        return f" ({bytes_and_files} an hour at the pace so far)"


@dataclass
class Pace:
    """How fast the network runs: steps between its first forward and the end of its last."""

    first_step: int = 0
    began_at: float | None = None
    ended_at: float = 0.0

    def begin(self) -> None:
        """Note that a forward begins."""
        if self.began_at is None:
            self.began_at = time.monotonic()

    def end(self) -> None:
        """Note that a forward has ended."""
        self.begin()
        self.ended_at = time.monotonic()

    def steps_per_hour(self, steps: int) -> float:
        """NaN before there is anything to tell from."""
        seconds = self.ended_at - (self.began_at or 0.0)
        return 3600 * (steps - self.first_step) / seconds if self.began_at and seconds > 0 else math.nan


@dataclass(frozen=True)
class RecordingStats:
    """What a recording has cost so far.

    Attributes
    ----------
    steps : int
    frames : dict of str to int
        Of each layer that has been called.
    packed_bytes : int
        Before compression.
    commits : int
    seconds_waited : float
        How long the network was held up because the disk could not keep up.
    """

    steps: int
    frames: dict[str, int]
    packed_bytes: int
    commits: int
    seconds_waited: float
