"""Copy the values of one signal of one layer, from host or accelerator, and keep account of its steps."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recorder.capture.device.transfer import Transfer, TransferRing, TransferRings
from recorder.capture.held_rows import HeldValues
from recorder.capture.kept_part import Index, index_of, take_neurons
from recorder.capture.signals import Signal, SignalError
from recorder.format.record.extents import TableCommit
from recorder.format.record.parts import Kept, kept_shape
from recorder.format.record.signals import SIGNAL_DTYPES, SignalCommit, plan_signal
from recorder.format.segments import SegmentLog
from recorder.frameworks import SpikingLayer
from recorder.frameworks.outputs import SpikeOutput

# Size of a stage, unless one frame is larger.
STAGE_BYTES: Final = 2**20
# Data types that numpy does not have, or the format; each as one that holds its values exactly.
_STORED_AS: Final = {torch.bfloat16: torch.float32, torch.bool: torch.uint8}

Values = NDArray[Any]


class Arriving(NamedTuple):
    """Values on their way from an accelerator.

    Attributes
    ----------
    transfer : Transfer
    ring : TransferRing
    shape : tuple of int
        ``(frames, neurons)``.
    dtype : str
    """

    transfer: Transfer
    ring: TransferRing
    shape: tuple[int, int]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes of memory that they take."""
        return self.transfer.data.nbytes

    def values(self) -> Values:
        """The values, [frames, neurons], once they have arrived."""
        return self.transfer.data.view(self.dtype).reshape(self.shape)


class _HostStage:
    """Memory on the host for values that wait to be handed over."""

    def __init__(self, frames: int, neurons: int, dtype: str) -> None:
        self.memory = np.empty((frames, neurons), dtype)

    def put(self, values: torch.Tensor, at: int) -> None:
        """Copy values, [frames, neurons], behind the first ``at`` frames."""
        if values.dtype is torch.bfloat16:
            values = values.float()
        # Infinities and NaN are values; so is what becomes infinite where a small data type is asked for.
        with np.errstate(over="ignore", invalid="ignore"):
            self.memory[at : at + len(values)] = values.numpy()

    def send(self, frames: int) -> Values:
        """The first frames, for somebody to take."""
        return self.memory[:frames]


class _DeviceStage:
    """Memory on an accelerator for values that wait to be sent to the host, while the network goes on."""

    def __init__(
        self, frames: int, neurons: int, dtype: str, device: torch.device, ring: TransferRing
    ) -> None:
        with torch.inference_mode(mode=False):
            self.memory = torch.empty((frames, neurons), dtype=getattr(torch, dtype), device=device)
        self._dtype, self._ring = dtype, ring
        self._mark = ring.lane.mark()

    def put(self, values: torch.Tensor, at: int) -> None:
        """As of a `_HostStage`; nobody waits for the device."""
        with torch.inference_mode(mode=False), torch.no_grad():
            self._ring.lane.follow(self._mark, self.memory)
            self.memory[at : at + len(values)].copy_(values)
            self._mark = self._ring.lane.mark()

    def send(self, frames: int) -> Arriving:
        """Begin to copy the first frames to the host."""
        part = self.memory[:frames]
        transfer = self._ring.send(part.reshape(-1).view(torch.uint8), self._mark)
        return Arriving(transfer, self._ring, (frames, part.shape[1]), self._dtype)


class SignalRecorder:
    """Copies the values of one signal, and keeps account of which steps they are.

    What was copied counts once its steps are noted. Until then it is taken back when the recorder is used
    again. So a call that was cut short, as by Ctrl-C, leaves no trace.

    Parameters
    ----------
    layer : str
        Name of the layer.
    signal : Signal
    rings : TransferRings
        The ways from accelerators to the host.

    Attributes
    ----------
    about : SignalCommit or None
        What the signal is, of no frames; None before its first values.
    first_batch : int
        Frames of the first step of this session.
    segments : SegmentLog
    ready : list of array or Arriving
        Values, each [frames, neurons], in order, for somebody to take.
    is_stopped : bool
        Whether no more is to be recorded of it.
    """

    def __init__(self, layer: str, signal: Signal, rings: TransferRings) -> None:
        self.layer = layer
        self.signal = signal
        self.about: SignalCommit | None = None
        self.first_batch = 0
        self.segments = SegmentLog()
        self.ready: list[Values | Arriving] = []
        self.is_stopped = False
        self._rings = rings
        self._device = torch.device("cpu")
        self._stage: _HostStage | _DeviceStage | None = None
        self._waiting = 0
        self._undo: tuple[int, _HostStage | _DeviceStage | None, int] | None = None
        self._index: Index = None
        # Shape, data type and device of a single step that was recorded whole, as the next may be.
        self._like: tuple[torch.Size, torch.dtype, torch.device] | None = None

    @property
    def name(self) -> str:
        """Name of the signal."""
        return self.signal.name

    @property
    def stage_frames(self) -> int:
        """Frames of a stage; it has room for at least one."""
        about = self.about
        return max(STAGE_BYTES // (about.plan.neurons * about.itemsize), 1) if about else 0

    @property
    def stage_bytes(self) -> int:
        """Bytes of a stage."""
        return self.stage_frames * self.about.plan.neurons * self.about.itemsize if self.about else 0

    @property
    def device_bytes(self) -> int:
        """Memory kept on an accelerator at most, besides what is on its way."""
        return 0 if self._device.type == "cpu" else self.stage_bytes

    def resume(self, commit: SignalCommit, segments: SegmentLog) -> None:
        """Go on behind frames recorded earlier."""
        self._begin(commit.shape, commit.dtype, commit.neurons)
        self.segments = segments

    def record(
        self,
        layer: SpikingLayer,
        inputs: tuple[Any, ...],
        output: object,
        expected: SpikeOutput,
        first_step: int,
        steps: int,
        batch: int,
        trial: int,
    ) -> None:
        """Record the values after a forward whose spikes were ``steps`` steps of ``batch`` samples.

        Raises
        ------
        SignalError
            If they cannot be recorded; nothing of them is then.
        """
        every = self.signal.every
        if every > 1 and steps == 1 and first_step % every:
            return
        values = self.signal.read(layer, inputs, output, expected)
        self.record_values(values, first_step, steps if expected.has_steps else None, batch, trial)

    def record_values(
        self, values: torch.Tensor, first_step: int, count: int | None, batch: int, trial: int
    ) -> None:
        """Record values, [T, N, *neuron], or [N, *neuron] where ``count``, which is T, is None.

        Errors as in `record`.
        """
        every, steps = self.signal.every, count or 1
        if count is None:
            # Most calls are like the one before, and small.
            like = values.shape, values.dtype, values.device
            if like == self._like and len(values) == batch:
                self._push(values.reshape(batch, -1))
                self.segments.extend(first_step, 1, batch, trial)
                self._undo = None
                return
            values = values.unsqueeze(0)
            self._like = None
        if values.ndim < 2 or values.shape[0] != steps or values.shape[1] != batch:
            raise self._error(
                f"has values of shape {tuple(values.shape)}, as [T, N, *neuron], at step {first_step}; "
                f"expected T = {steps} and N = {batch}, as the layer's spikes have{self.signal.advice()}"
            )
        self._prepare(values, first_step)
        values = self._choose(values)
        if count is None and every == 1 and self._index is None and self.signal.samples is None:
            self._like = like
        if every == 1:
            self._push(values.flatten(0, 1))
            self.segments.extend(first_step, steps, values.shape[1], trial)
            self._undo = None
            return
        for step in range(steps):
            if (first_step + step) % every == 0:
                self._push(values[step])
                self.segments.extend(first_step + step, 1, values.shape[1], trial)
                self._undo = None

    def _prepare(self, values: torch.Tensor, step: int) -> None:
        shape, dtype = tuple(values.shape[2:]), values.dtype
        dtype = _STORED_AS.get(dtype, dtype)
        name = str(dtype).removeprefix("torch.")
        if self.about is None:
            if name not in SIGNAL_DTYPES or math.prod(shape) < 1:
                raise self._error(
                    f"has values of dtype {values.dtype} and shape {shape} at each step and sample, which "
                    f"cannot be recorded; expected at least one, of {', '.join(SIGNAL_DTYPES)}"
                )
            self._begin(shape, self.signal.dtype or name, self.signal.chosen(self.layer, shape))
            self.first_batch = values.shape[1]
        elif shape != self.about.shape:
            raise self._error(
                f"has values of shape {shape} at step {step}, but {self.about.shape} before; a signal has "
                "one shape. Record inputs of another size into another store"
            )
        elif self.signal.dtype is None and name != self.about.dtype:
            kept = getattr(torch, self.about.dtype)
            if name not in SIGNAL_DTYPES or torch.promote_types(dtype, kept) != kept:
                raise self._error(
                    f"has values of dtype {values.dtype} at step {step}, but is stored as "
                    f"{self.about.dtype}, which does not hold them: say which to store, by dtype=..."
                )
        self.first_batch = self.first_batch or values.shape[1]
        if values.device != self._device:
            self._put_stage()
            self._device = values.device
            self._index = index_of(self.about.neurons if self.about else None, values.device)

    def _begin(self, shape: tuple[int, ...], dtype: str, neurons: Kept) -> None:
        plan = plan_signal(kept_shape(shape, neurons), np.dtype(dtype).itemsize)
        self.about = SignalCommit(
            name=self.name,
            dtype=dtype,
            shape=shape,
            plan=plan,
            frames=0,
            segments=TableCommit(),
            checksums=TableCommit(),
            neurons=neurons,
            every=self.signal.every,
            samples=self.signal.samples,
        )
        self._index = index_of(neurons, self._device)

    def _choose(self, values: torch.Tensor) -> torch.Tensor:
        """The samples and neurons that are recorded, [T, N, neurons]."""
        if self.signal.samples is not None:
            values = values[:, : self.signal.samples]
        values = take_neurons(values, self._index, 2)
        return values.reshape(*values.shape[:2], -1)

    def _push(self, values: torch.Tensor) -> None:
        """Copy frames, [frames, neurons], which do not count before ``_undo`` is set to None."""
        self.roll_back()
        # What is under way is kept here: whoever closes meanwhile finds everything as it was before.
        stage, waiting, most = self._stage, self._waiting, self.stage_frames
        self._undo = len(self.ready), stage, waiting
        first, total = 0, len(values)
        while first < total:
            if stage is None:
                stage, waiting = self._new_stage(), 0
            taken = min(most - waiting, total - first)
            stage.put(values[first : first + taken], waiting)
            first += taken
            waiting += taken
            if waiting == most:
                piece = [stage.send(waiting)]
                self.ready += piece
                stage, waiting = None, 0
        self._stage, self._waiting = stage, waiting

    def roll_back(self) -> None:
        """Take back what was copied and does not count."""
        if self._undo is not None:
            # The memory of a stage is never used again, so that it still holds its frames.
            ready, stage, waiting = self._undo
            self.ready = self.ready[:ready]
            self._stage, self._waiting, self._undo = stage, waiting, None

    def _new_stage(self) -> _HostStage | _DeviceStage:
        about = self.about
        if about is None:
            raise RuntimeError("a signal is prepared before it is recorded")
        room = self.stage_frames, about.plan.neurons, about.dtype
        if self._device.type == "cpu":
            return _HostStage(*room)
        return _DeviceStage(*room, self._device, self._rings.of(self._device))

    def _put_stage(self) -> None:
        """Put what is in the stage into ``ready``."""
        if self._stage is not None and self._waiting:
            piece = [self._stage.send(self._waiting)]
            self.ready += piece
            self._stage, self._waiting = None, 0

    def settle(self) -> None:
        """Have all values in ``ready``, arrived."""
        self.roll_back()
        self._put_stage()
        for piece in self.ready:
            if isinstance(piece, Arriving):
                piece.ring.wait(piece.transfer)

    def withdraw(self) -> HeldValues | None:
        """Take all values away, as if none had come; None if there are none. It must be settled."""
        if self.about is None or not self.ready:
            return None
        arrays = [piece if isinstance(piece, np.ndarray) else piece.values() for piece in self.ready]
        held = HeldValues(self.about, arrays, np.concatenate(self.segments.look()))
        self.ready, self.segments = [], SegmentLog()
        return held

    def put_back(self, held: HeldValues) -> None:
        """Record the next whole steps of what another recorder of the same signal has withdrawn."""
        self.roll_back()
        if self.about is None:
            self._begin(held.about.shape, held.about.dtype, held.about.neurons)
        first, call = held.calls[0]
        piece = [held.frames(first, call.steps * call.batch)]
        self._undo = len(self.ready), self._stage, self._waiting
        self.ready += piece
        self.segments.extend(*call)
        self._undo = None
        del held.calls[0]

    def has_ready(self) -> bool:
        """True if the oldest values can be taken."""
        if not self.ready:
            return False
        piece = self.ready[0]
        if not isinstance(piece, Arriving):
            return True
        if not piece.transfer.arrived:
            piece.ring.poll()
        return piece.transfer.arrived

    def _error(self, what: str) -> SignalError:
        return SignalError(f"signal {self.name!r} of layer {self.layer!r} {what}", self.layer, self.name)
