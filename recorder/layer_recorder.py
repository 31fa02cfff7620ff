"""What is recorded of one layer, from its output to packed rows: checks, steps, segments.

A layer that puts out little and is called often, say 100 neurons a million times, would spend its time on the
way and not on the work. After some calls its outputs are only copied, and packed many at a time. Until then,
and for larger outputs always, a value other than 0 and 1 is an error at the call that put it out; later it is
one at the next packing, or the next question, or the next commit. Outputs on an accelerator are packed there,
and what is found in them comes as late. Either way that call alone is left out.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch

from recorder.device_packing import DevicePacker
from recorder.format.bits import Bools, Packed
from recorder.format.layout import NO_TRIAL
from recorder.format.metadata import DTYPES, MAX_RANK
from recorder.format.segments import SegmentLog
from recorder.packing import HostPacker, NotSpikesError, flatten_frames
from recorder.spiking_layers import SpikingLayer
from recorder.transfer import TransferRings

# Calls after which small outputs are gathered, how small they are, and how much of them.
GATHER_AFTER_CALLS = 256
GATHER_OUTPUT_BYTES = 4096
GATHER_BYTES = 64 * 1024
GATHER_CALLS = 1024


class SpikeValueError(ValueError):
    """A layer put out values other than 0 and 1."""


class NeuronShapeError(ValueError):
    """A layer put out frames of another shape than before, or of one that cannot be recorded."""


@dataclass(frozen=True)
class _Call:
    """An output that a device has not yet said to hold zeros and ones only."""

    step: int
    steps: int
    batch: int
    trial: int


class LayerRecorder:
    """Packs the output of one layer and keeps account of its steps.

    Parameters
    ----------
    name : str
    position : int
        Place in network order.
    layer_class : str
        Qualified name of the module's class.
    rings : TransferRings
        The ways from accelerators to the host.

    Attributes
    ----------
    next_step : int
    neuron_shape : tuple of int, or None
        None until the first frames come.
    first_batch : int
        Batch size of the first output of this session.
    dtype : str
        Data type of the first output.
    segments : SegmentLog
        Of the frames that are packed and known to hold zeros and ones only.
    """

    def __init__(self, name: str, position: int, layer_class: str, rings: TransferRings) -> None:
        self.name = name
        self.position = position
        self.layer_class = layer_class
        self.next_step = 0
        self.neuron_shape: tuple[int, ...] | None = None
        self.first_batch = 0
        self.dtype = ""
        self.segments = SegmentLog()
        # Of which forward of the network the last call was part, and the step before that forward.
        self.forward = -1
        self.steps_at_start = 0
        self._packer: HostPacker | DevicePacker | None = None
        self._rings = rings
        self._device = torch.device("cpu")
        self._hint = ""
        self._most_frames = 0
        self._calls = 0
        self._unsure: deque[_Call] = deque()
        self._late_error: SpikeValueError | None = None
        self._gathered: list[torch.Tensor] = []
        self._gather_calls = 0
        self._gather_shape: torch.Size | None = None
        self._gather_trial = NO_TRIAL

    def resume(self, neuron_shape: tuple[int, ...], dtype: str, segments: SegmentLog, pending: Bools) -> None:
        """Go on behind frames recorded earlier; ``pending`` are those that fill no byte."""
        self.neuron_shape, self.dtype, self.segments = neuron_shape, dtype, segments
        self._packer = HostPacker(pending)

    # -- small outputs, gathered -------------------------------------------------------------------------

    def gather(self, output: torch.Tensor, trial: int) -> bool:
        """Copy a small single-step output, shape [N, *neuron], to be packed later; False if it is not one."""
        if output.shape != self._gather_shape or trial != self._gather_trial or not output.is_cpu:
            return False
        self._gathered.append(output.detach().clone())
        self.next_step += 1
        return True

    @property
    def frames(self) -> int:
        """Frames recorded so far, those included that are not packed, or not known to be spikes."""
        unsure = sum(call.steps * call.batch for call in self._unsure)
        return self.segments.frames + unsure + sum(map(len, self._gathered))

    @property
    def device_bytes(self) -> int:
        """Memory kept on an accelerator at most, besides what is on its way: two rows and a packed output."""
        if self._device.type == "cpu" or self.neuron_shape is None:
            return 0
        return math.prod(self.neuron_shape) * (2 + -(-self._most_frames // 8))

    @property
    def is_gathering(self) -> bool:
        """Whether outputs may be gathered."""
        return self._gather_shape is not None

    @property
    def has_gathered_enough(self) -> bool:
        """Whether it is time to `settle`."""
        return len(self._gathered) >= self._gather_calls

    def settle(self) -> list[Packed]:
        """Pack what was gathered, and wait for what devices have packed: the whole rows.

        An error among the values is kept for `take_late_error`.
        """
        if isinstance(self._packer, DevicePacker):
            return self._collect(self._packer, wait=True)
        gathered, self._gathered = self._gathered, []
        if not gathered or self._packer is None:
            return []
        step, batch = self.next_step - len(gathered), len(gathered[0])
        try:
            rows = self._packer.push(flatten_frames(torch.stack(gathered)))
        except NotSpikesError:
            return self._settle_one_by_one(gathered, step)
        self.segments.extend(step, len(gathered), batch, self._gather_trial)
        return [rows]

    def take_late_error(self) -> SpikeValueError | None:
        """The first error among values that were looked at after their call."""
        error, self._late_error = self._late_error, None
        return error

    def _settle_one_by_one(self, gathered: list[torch.Tensor], first_step: int) -> list[Packed]:
        rows: list[Packed] = []
        for step, output in enumerate(gathered, first_step):
            try:
                rows += self._push(output[None], step, self._gather_trial)
            except SpikeValueError as error:
                self._late_error = self._late_error or error
        return rows

    def _collect(self, packer: DevicePacker, *, wait: bool) -> list[Packed]:
        rows, verdicts = packer.collect(wait=wait)
        for verdict in verdicts:
            call = self._unsure.popleft()
            if verdict == 0:
                self.segments.extend(call.step, call.steps, call.batch, call.trial)
            else:
                what = f"values such as {verdict:g}, dtype {self.dtype}"
                self._late_error = self._late_error or self._value_error(what, call.step, call.steps)
        return rows

    # -- any output ---------------------------------------------------------------------------------------

    def record(self, layer: SpikingLayer, spikes: torch.Tensor, trial: int) -> list[Packed]:
        """Pack an output at once; nothing may be gathered.

        Parameters
        ----------
        layer : SpikingLayer
        spikes : tensor, shape [T, N, *neuron]
            Not empty.
        trial : int

        Returns
        -------
        list of uint8 arrays, shape [rows, neurons]
            Whole rows that resulted.

        Raises
        ------
        SpikeValueError, NeuronShapeError
            Nothing of ``spikes`` is then recorded.
        """
        self._hint = layer.hint
        rows = self._prepare(tuple(spikes.shape[2:]), spikes)
        rows += self._push(spikes, self.next_step, trial)
        self.next_step += len(spikes)
        self.first_batch = self.first_batch or spikes.shape[1]
        self._most_frames = max(self._most_frames, spikes.shape[0] * spikes.shape[1])
        self._calls += 1
        self._decide_on_gathering(layer, spikes, trial)
        return rows

    def _decide_on_gathering(self, layer: SpikingLayer, spikes: torch.Tensor, trial: int) -> None:
        size = spikes.numel() * spikes.element_size()
        often_and_small = self._calls > GATHER_AFTER_CALLS and size <= GATHER_OUTPUT_BYTES
        if often_and_small and spikes.is_cpu and layer.output.axes == "N":
            self._gather_shape, self._gather_trial = spikes.shape[1:], trial
            self._gather_calls = min(GATHER_BYTES // size, GATHER_CALLS)
        else:
            self._gather_shape = None

    def drain(self) -> tuple[Packed, Bools]:
        """Whole rows that are waiting, and the frames that fill none; nothing may be gathered."""
        if self._packer is None:
            return np.empty((0, 0), np.uint8), np.empty((0, 0), np.bool_)
        return self._packer.drain()

    def _prepare(self, shape: tuple[int, ...], spikes: torch.Tensor) -> list[Packed]:
        """Have a packer for frames of this shape on this device; rows that another one held."""
        if self._packer is None or self.neuron_shape is None:
            self._check_recordable(shape, spikes.dtype)
            self._packer = self._make_packer(spikes.device, np.empty((0, math.prod(shape)), np.bool_))
            self.neuron_shape, self.dtype = shape, str(spikes.dtype).removeprefix("torch.")
        elif shape != self.neuron_shape:
            raise NeuronShapeError(
                f"layer {self.name!r} put out frames of neuron shape {shape} at step {self.next_step}, but "
                f"{self.neuron_shape} before; a recording holds one shape for each layer. Record inputs of "
                "another size into another store."
            )
        elif spikes.device != self._device:
            settled = self.settle()
            rows, pending = self._packer.drain()
            self._packer = self._make_packer(spikes.device, pending)
            return [*settled, rows]
        return []

    def _make_packer(self, device: torch.device, pending: Bools) -> HostPacker | DevicePacker:
        self._device = device
        if device.type == "cpu":
            return HostPacker(pending)
        return DevicePacker(pending, device, self._rings.of(device))

    def _push(self, spikes: torch.Tensor, step: int, trial: int) -> list[Packed]:
        if self._packer is None:
            raise RuntimeError("a layer is prepared before it is recorded")
        steps, batch = spikes.shape[:2]
        if isinstance(self._packer, DevicePacker):
            self._packer.push(flatten_frames(spikes))
            self._unsure.append(_Call(step, steps, batch, trial))
            return self._collect(self._packer, wait=False)
        try:
            rows = self._packer.push(flatten_frames(spikes))
        except NotSpikesError as error:
            raise self._value_error(str(error), step, steps) from error
        self.segments.extend(step, steps, batch, trial)
        return [rows]

    def _value_error(self, what: str, step: int, steps: int) -> SpikeValueError:
        where = f"step {step}" if steps == 1 else f"steps {step} to {step + steps - 1}"
        return SpikeValueError(
            f"layer {self.name!r} ({self.layer_class}) put out {what}, at {where}; spikes are 0 or 1. "
            f"{self._hint}{'. ' if self._hint else ''}"
            "If this is not a spiking layer, leave it out with layers=..."
        )

    def _check_recordable(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        if math.prod(shape) < 1 or len(shape) > MAX_RANK:
            raise NeuronShapeError(
                f"layer {self.name!r} put out frames of neuron shape {shape}; expected at least one neuron, "
                f"along at most {MAX_RANK} axes. Leave the layer out with layers=..."
            )
        if str(dtype).removeprefix("torch.") not in DTYPES:
            raise SpikeValueError(
                f"layer {self.name!r} put out dtype {dtype}; spikes can be recorded from {', '.join(DTYPES)}"
            )
