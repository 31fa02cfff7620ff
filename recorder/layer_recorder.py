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
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recorder.device_packing import DevicePacker
from recorder.format.bits import Bools, Packed
from recorder.format.metadata import DTYPES, MAX_RANK
from recorder.format.segments import SegmentLog
from recorder.packing import HostPacker, NotSpikesError
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


class _Call(NamedTuple):
    """What is written down of an output once it is known to hold zeros and ones only."""

    step: int
    steps: int
    batch: int
    trial: int


@dataclass
class _Gathering:
    """Outputs of one kind that wait to be packed: [calls, N, *neuron], those that fit; how many there are."""

    outputs: NDArray[np.generic]
    kind: tuple[torch.Size, torch.dtype, bool, int]
    calls: int = 0

    @property
    def batch(self) -> int:
        return int(self.outputs.shape[1])

    @property
    def trial(self) -> int:
        return self.kind[3]


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
        self._gathering: _Gathering | None = None

    def resume(self, neuron_shape: tuple[int, ...], dtype: str, segments: SegmentLog, pending: Bools) -> None:
        """Go on behind frames recorded earlier; ``pending`` are those that fill no byte."""
        self.neuron_shape, self.dtype, self.segments = neuron_shape, dtype, segments
        self._packer = HostPacker(pending)

    # -- small outputs, gathered -------------------------------------------------------------------------

    def gather(self, output: torch.Tensor, trial: int) -> bool:
        """Copy a small single-step output, shape [N, *neuron], to be packed later; False if it is not one."""
        kept = self._gathering
        if kept is None or (output.shape, output.dtype, output.is_cpu, trial) != kept.kind:
            return False
        # Twice as fast as torch's own copy, for so little.
        kept.outputs[kept.calls] = (output.detach() if output.requires_grad else output).numpy()
        kept.calls += 1
        self.next_step += 1
        return True

    @property
    def frames(self) -> int:
        """Frames recorded so far, those included that are not packed, or not known to be spikes."""
        unsure = sum(call.steps * call.batch for call in self._unsure)
        gathered = 0 if self._gathering is None else self._gathering.calls * self._gathering.batch
        return self.segments.frames + unsure + gathered

    @property
    def device_bytes(self) -> int:
        """Memory kept on an accelerator at most, besides what is on its way: two rows and a packed output."""
        if self._device.type == "cpu" or self.neuron_shape is None:
            return 0
        return math.prod(self.neuron_shape) * (2 + -(-self._most_frames // 8))

    @property
    def is_gathering(self) -> bool:
        """Whether outputs may be gathered."""
        return self._gathering is not None

    def stop_gathering(self) -> None:
        """Pack the next output at once; nothing may be gathered."""
        self._gathering = None

    @property
    def has_gathered_enough(self) -> bool:
        """Whether it is time to `settle`."""
        return self._gathering is not None and self._gathering.calls == len(self._gathering.outputs)

    def settle(self) -> list[Packed]:
        """Pack what was gathered, and wait for what devices have packed: the whole rows.

        An error among the values is kept for `take_late_error`.
        """
        if isinstance(self._packer, DevicePacker):
            return self._collect(self._packer, wait=True)
        kept = self._gathering
        if kept is None or kept.calls == 0 or self._packer is None:
            return []
        outputs = torch.from_numpy(kept.outputs[: kept.calls])
        step = self.next_step - kept.calls
        try:
            rows = [self._packer.push(outputs)]
            self.segments.extend(step, len(outputs), kept.batch, kept.trial)
        except NotSpikesError:
            rows = self._settle_one_by_one(outputs, step, kept.trial)
        # Last: an exception from outside, such as that of Ctrl-C, must not make them be forgotten.
        kept.calls = 0
        return rows

    def take_late_error(self) -> SpikeValueError | None:
        """The first error among values that were looked at after their call."""
        error, self._late_error = self._late_error, None
        return error

    def _settle_one_by_one(self, outputs: torch.Tensor, first_step: int, trial: int) -> list[Packed]:
        rows: list[Packed] = []
        for step, output in enumerate(outputs, first_step):
            try:
                rows += self._push(output, _Call(step, 1, len(output), trial))
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
                self._late_error = self._late_error or self._value_error(what, call)
        return rows

    # -- any output ---------------------------------------------------------------------------------------

    def record(
        self, layer: SpikingLayer, spikes: torch.Tensor, steps: int | None, trial: int
    ) -> list[Packed]:
        """Pack an output at once; nothing may be gathered.

        Parameters
        ----------
        layer : SpikingLayer
        spikes : tensor, shape [N, *neuron], or [T, N, *neuron] if ``steps`` is given
            Not empty.
        steps : int or None
            T; None for a single step.
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
        axes = 1 if steps is None else 2
        shape = tuple(spikes.shape)
        call = _Call(self.next_step, steps or 1, shape[axes - 1], trial)
        rows = self._prepare(shape[axes:], spikes)
        rows += self._push(spikes, call)
        self.next_step += call.steps
        self.first_batch = self.first_batch or call.batch
        self._most_frames = max(self._most_frames, call.steps * call.batch)
        self._calls += 1
        if steps is None and self._calls > GATHER_AFTER_CALLS:
            self._decide_on_gathering(spikes, trial)
        return rows

    def _decide_on_gathering(self, spikes: torch.Tensor, trial: int) -> None:
        size = spikes.numel() * spikes.element_size()
        # NumPy has no bfloat16.
        if size <= GATHER_OUTPUT_BYTES and spikes.is_cpu and spikes.dtype != torch.bfloat16:
            calls = min(GATHER_BYTES // size, GATHER_CALLS)
            outputs = torch.empty((calls, *spikes.shape), dtype=spikes.dtype).numpy()
            self._gathering = _Gathering(outputs, (spikes.shape, spikes.dtype, True, trial))

    def drain(self) -> tuple[Packed, Bools]:
        """Whole rows that are waiting, and the frames that fill none; nothing may be gathered."""
        if self._packer is None:
            return np.empty((0, 0), np.uint8), np.empty((0, 0), np.bool_)
        return self._packer.drain()

    def _prepare(self, shape: tuple[int, ...], spikes: torch.Tensor) -> list[Packed]:
        """Have a packer for frames of this shape on this device; rows that another one held."""
        if spikes.is_meta:
            raise SpikeValueError(
                f"layer {self.name!r} put out a tensor on the meta device, which holds no values; disable() "
                "the monitor while shapes are tried out"
            )
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

    def _push(self, spikes: torch.Tensor, call: _Call) -> list[Packed]:
        if self._packer is None:
            raise RuntimeError("a layer is prepared before it is recorded")
        if isinstance(self._packer, DevicePacker):
            self._packer.push(spikes)
            self._unsure.append(call)
            return self._collect(self._packer, wait=False)
        try:
            rows = self._packer.push(spikes)
        except NotSpikesError as error:
            raise self._value_error(str(error), call) from error
        self.segments.extend(call.step, call.steps, call.batch, call.trial)
        return [rows]

    def _value_error(self, what: str, call: _Call) -> SpikeValueError:
        last = call.step + call.steps - 1
        where = f"step {last}" if call.steps == 1 else f"steps {call.step} to {last}"
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
