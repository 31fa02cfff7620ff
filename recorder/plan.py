"""Compute what a recording will cost: bytes per step, most memory, number of files.

``monitor.plan`` is a `RecordingPlan`. It is also logged at the first step, before disk or memory can be full.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from recorder.capture.calls import GATHER_BYTES
from recorder.capture.host.host_packing import PUT_BYTES, SPARE_BYTES, stage_bytes
from recorder.capture.host.value_packing import open_bytes
from recorder.format import ChunkPlan
from recorder.format.layout import SEGMENT_COLUMNS, table_chunk_rows
from recorder.format.record.pace import PaceCommit
from recorder.format.record.parts import LayerPart
from recorder.tape.threads.in_order import ENCODING_THREADS
from recorder.tape.threads.side_by_side import HELD_BYTES

_MIB = 2**20
# So many planes, or more, may belong to levels of more than a byte.
_BYTE_PLANES = 8


@dataclass(frozen=True)
class LayerPlan:
    """The cost of one layer.

    Attributes
    ----------
    name : str
        Name of the layer.
    frames_per_step : int
        Batch size of the layer's first step.
    chunks : ChunkPlan
        Plan by which its spikes are cut into chunks.
    device_bytes : int
        Most memory that the recorder keeps for the layer on an accelerator; 0 if the layer runs on the CPU.
    output_frames : int
        Number of frames in the largest output so far. A multi-step layer puts out several steps at once.
    planes : int
        Planes that the values of the layer need so far, beside its events.
    part : LayerPart or None
        The part of the layer that is kept, which ``chunks`` is the plan of; None where it is the whole.
    """

    name: str
    frames_per_step: int
    chunks: ChunkPlan
    device_bytes: int = 0
    output_frames: int = 0
    planes: int = 0
    part: LayerPart | None = None

    @property
    def slots_per_step(self) -> int:
        """Number of slots in a step."""
        return self.frames_per_step * self.chunks.neurons

    @property
    def bits_per_step(self) -> float:
        """Bits to which the slots of a step are packed, one each and one more for each plane.

        On average, where one of several trials is kept. Counts, which come once in a trial, are none of them.
        """
        if self.part and self.part.counts_only:
            return 0
        return self.slots_per_step * (1 + self.planes) / (self.part.trials_every if self.part else 1)

    @property
    def host_bytes(self) -> int:
        """Most host memory for the layer: a chunk of each array, and outputs that wait to be packed."""
        counts = 2 * 8 * self.chunks.neurons
        # Each small array keeps the rows of its last chunk, twice while they are copied to append to them.
        tables = 2 * sum(
            table_chunk_rows(shape, itemsize) * math.prod(shape) * itemsize
            for shape, itemsize in (
                (self.chunks.neuron_shape, 4),
                ((), 4),
                ((self.chunks.parts,), 4),
                ((len(SEGMENT_COLUMNS),), 8),
            )
        )
        arrays = (self.chunk_bytes + counts + tables) * (1 + self.planes)
        open_rows = open_bytes(self.chunks.neurons) if self.planes else 0
        return arrays + self.stage_bytes + open_rows + GATHER_BYTES

    @property
    def stage_bytes(self) -> int:
        """Bytes of one stage: booleans, or levels, that wait to be packed."""
        return stage_bytes(self.chunks.neurons, 1 if self.planes < _BYTE_PLANES else 2)

    @property
    def chunk_bytes(self) -> int:
        """Packed bytes of one chunk, all parts together."""
        return self.chunks.neurons * self.chunks.chunk_bytes

    def files(self, steps: int) -> int:
        """Number of files for spikes and planes of so many steps; the small arrays add a few per cent."""
        if self.part and self.part.counts_only:
            return 0
        frames = steps * self.frames_per_step // (self.part.trials_every if self.part else 1)
        chunks = self.chunks.chunk_count(frames) * self.chunks.parts
        return chunks * (1 + self.planes)


@dataclass(frozen=True)
class SignalPlan:
    """The cost of one signal of a layer.

    Attributes
    ----------
    layer, name : str
        Names of the layer and of the signal.
    frames_per_step : int
        Samples that are recorded of the batch of its first step.
    every : int
        Steps of which one is recorded.
    chunks : ChunkPlan
        Plan by which its values are cut into chunks.
    itemsize : int
        Bytes of a value.
    stage_bytes : int
        Bytes of memory for values that wait to be handed over.
    device_bytes : int
        Memory kept on an accelerator; 0 if the layer runs on the CPU.
    """

    layer: str
    name: str
    frames_per_step: int
    every: int
    chunks: ChunkPlan
    itemsize: int
    stage_bytes: int
    device_bytes: int = 0

    @property
    def bytes_per_step(self) -> float:
        """Bytes of a step, of several on average; compressed, they take somewhat less."""
        return self.frames_per_step * self.chunks.neurons * self.itemsize / self.every

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one chunk, all parts together."""
        return self.chunks.chunk_frames * self.chunks.neurons * self.itemsize

    @property
    def host_bytes(self) -> int:
        """Most host memory for the signal: a chunk, values that wait, and rows of its small arrays."""
        tables = 2 * sum(
            table_chunk_rows(shape, itemsize) * math.prod(shape) * itemsize
            for shape, itemsize in (((self.chunks.parts,), 4), ((len(SEGMENT_COLUMNS),), 8))
        )
        return self.chunk_bytes + 2 * self.stage_bytes + tables

    def files(self, steps: int) -> int:
        """Number of files for its values in so many steps."""
        frames = -(-steps // self.every) * self.frames_per_step
        return self.chunks.chunk_count(frames) * self.chunks.parts


@dataclass(frozen=True)
class RecordingPlan:
    """The cost of a recording, computed from its layers, limits and pace so far.

    Bytes and files grow with the number of steps; usually fewer bytes than ``bytes_per_step`` are stored,
    because packed bits are compressed. Memory does not grow: ``host_bytes_limit`` and ``device_bytes_limit``
    hold however long the recording is.

    A plan covers the layers that have been called so far, so it is complete after the first forward.

    Attributes
    ----------
    layers : sequence of LayerPlan
        Costs of the layers that have been called so far.
    queue_limit_bytes : int
        Most bytes that wait for the disk before the network is held up. Most are packed; the oldest may still
        be booleans.
    ring_bytes : int
        Bytes of host memory through which accelerators send packed bytes; 0 without an accelerator.
    steps_per_hour : float
        Pace of the recording so far; NaN before its first forward has ended.
    signals : sequence of SignalPlan
        Costs of the signals that have had values so far.
    held_bytes : int
        Bytes of the newest trials, where these wait in memory: one more than are held, each as large as the
        largest so far.
    """

    layers: Sequence[LayerPlan]
    queue_limit_bytes: int
    ring_bytes: int = 0
    steps_per_hour: float = math.nan
    signals: Sequence[SignalPlan] = ()
    held_bytes: int = 0

    @property
    def _parts(self) -> list[LayerPlan | SignalPlan]:
        return [*self.layers, *self.signals]

    @property
    def bytes_per_step(self) -> float:
        """Packed bytes of one step of all layers, and bytes of their signals; compressed, they take less.

        On average, where one of several trials is kept; without counts, which come once in a trial.
        """
        return sum(layer.bits_per_step for layer in self.layers) / 8 + self.signal_bytes_per_step

    @property
    def signal_bytes_per_step(self) -> float:
        """Bytes of one step of all signals; compressed, they take somewhat less."""
        return sum(signal.bytes_per_step for signal in self.signals)

    @property
    def signal_bytes_per_hour(self) -> float:
        """Bytes of all signals in an hour at the pace so far; NaN before the first forward has ended."""
        return self.signal_bytes_per_step * self.steps_per_hour

    @property
    def host_bytes_limit(self) -> int:
        """Most host memory of the recorder, in bytes; outputs themselves belong to the network."""
        kept = sum(part.host_bytes for part in self._parts)
        # A chunk that is rearranged, compressed and written takes about four times its size. With several
        # threads, each chunk also has rows of its own, and one chunk more than threads is under way.
        chunks = 4 if ENCODING_THREADS == 1 else 5 * (ENCODING_THREADS + 1)
        at_work = chunks * max((part.chunk_bytes for part in self._parts), default=0)
        # Full stages on their way to the queue, those that one output adds, and spare ones in the pool.
        stages = (
            2 * PUT_BYTES + SPARE_BYTES + 2 * max((layer.stage_bytes for layer in self.layers), default=0)
        )
        # All packed rows of one output go to the queue together.
        output = max(
            (-(-layer.output_frames // 8) * layer.chunks.neurons for layer in self.layers), default=0
        )
        # Bytes that have arrived in the ring are copied to other memory before they are queued; so the ring
        # counts twice.
        waiting = self.queue_limit_bytes + 2 * self.ring_bytes + self.held_bytes
        return kept + at_work + HELD_BYTES + stages + output + waiting

    @property
    def device_bytes_limit(self) -> int:
        """Most memory of the recorder on accelerators, in bytes; 0 if all layers run on the CPU."""
        return sum(part.device_bytes for part in self._parts) + self.ring_bytes

    @property
    def bytes_per_hour(self) -> float:
        """Packed bytes in an hour at the pace so far; NaN before the first forward has ended."""
        return self.bytes_per_step * self.steps_per_hour

    @property
    def files_per_hour(self) -> float:
        """Number of files in an hour at the pace so far; NaN before the first forward has ended."""
        return math.nan if math.isnan(self.steps_per_hour) else float(self.files(round(self.steps_per_hour)))

    def files(self, steps: int) -> int:
        """Number of files for ``steps`` steps."""
        return sum(part.files(steps) for part in self._parts)

    def __str__(self) -> str:
        """One line to show to people."""
        device = f" and {self.device_bytes_limit / _MIB:,.0f} MiB on the device" * bool(self.ring_bytes)
        return (
            f"{len(self.layers)} layers, {sum(layer.slots_per_step for layer in self.layers):,} slots a step"
            f"{self._with_signals()}: "
            f"at most {self.bytes_per_step / 1000:,.1f} kB a step, "
            f"{self.bytes_per_step * 1e6 / 1e9:,.1f} GB and {self.files(10**6):,} files in a million steps"
            f"{self._hourly()}, "
            f"{self.host_bytes_limit / _MIB:,.0f} MiB of host memory{device} however many"
            f"{self._held()}"
        )

    def _with_signals(self) -> str:
        if not self.signals:
            return ""
        size = f"{self.signal_bytes_per_step / 1000:,.1f} kB a step"
        return f" and {len(self.signals)} signal{'s' * (len(self.signals) > 1)} of {size}"

    def _held(self) -> str:
        return f", {self.held_bytes / _MIB:,.1f} MiB of it for held trials" * bool(self.held_bytes)

    def _hourly(self) -> str:
        if math.isnan(self.steps_per_hour):
            return ""
        bytes_and_files = f"{self.bytes_per_hour / 1e9:,.2f} GB and {self.files_per_hour:,.0f} files"
        return f" ({bytes_and_files} an hour at the pace so far)"


@dataclass
class Pace:
    """The pace of the network: its steps, and the time from its first forward to the end of its last one.

    Attributes
    ----------
    first_step : int
        Step at which this part of the recording began; larger than 0 after a resume.
    began_at : float or None
        ``time.monotonic()`` at the begin of the first forward.
    ended_at : float
        ``time.monotonic()`` at the end of the last forward.
    """

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

    def so_far(self, steps: int, seconds_waited: float) -> PaceCommit:
        """What a commit says of it, given the number of the next step."""
        # Where the first forward has failed, none has ended.
        seconds = max(self.ended_at - (self.began_at or self.ended_at), 0.0)
        return PaceCommit(steps - self.first_step, round(seconds, 3), round(seconds_waited, 3))

    def steps_per_hour(self, steps: int) -> float:
        """Steps per hour, given the number of the next step; NaN before a forward has ended."""
        seconds = self.ended_at - (self.began_at or 0.0)
        return 3600 * (steps - self.first_step) / seconds if self.began_at and seconds > 0 else math.nan


@dataclass(frozen=True)
class RecordingStats:
    """The cost of a recording so far.

    Attributes
    ----------
    steps : int
        Number of steps.
    frames : dict of str to int
        Number of frames of each layer that has been called.
    packed_bytes : int
        Packed bytes of all layers, before compression.
    commits : int
        Number of commits.
    seconds_waited : float
        Total time for which the network was held up because the disk, or compression, was too slow.
    chunks : int
        Number of full chunks, of spikes, planes and signals, that were compressed and stored.
    hurried_chunks : int
        How many of them were compressed at a faster level than usual, and are larger for it, as more came
        than all threads could compress. They are read like others.
    stored_bytes : int
        Bytes of all full chunks as stored.
    """

    steps: int
    frames: dict[str, int]
    packed_bytes: int
    commits: int
    seconds_waited: float
    chunks: int = 0
    hurried_chunks: int = 0
    stored_bytes: int = 0
