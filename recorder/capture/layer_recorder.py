"""Record one layer, from its output to packed rows: checks, steps, segments.

Most calls are like the one before. Of such calls only the number is noted, until somebody asks. A layer that
puts out little and is called often, say 100 neurons a million times, would even so spend its time on the way
and not on the work: after some calls its outputs are only copied, and packed many at a time. Until then, and
for larger outputs always, a value that cannot be recorded is an error at the call that put it out; later it
is one at the next packing, or the next question, or the next commit. Outputs on an accelerator are packed
there, and what is found in them comes as late. Either way that call alone is left out.

All layers begin as layers of zeros and ones. One that puts out other whole multiples of a scale gets another
packer then, which packs these as events and planes, and goes on behind the same frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from recorder.capture.calls import Alike, Call, UnsureCalls
from recorder.capture.device.gathering import DEVICE_GATHER_BYTES
from recorder.capture.device.packing import DevicePacker, Verdict
from recorder.capture.device.values import puts_out_values
from recorder.capture.host.host_packing import HostPacker, NotSpikesError, WholeRows
from recorder.capture.host.value_packing import ValuePacker
from recorder.capture.kept_part import KeptPart
from recorder.capture.other_values import describe_others
from recorder.capture.packers import OnDevice, Packer, Packers
from recorder.capture.refusals import SpikeValueError, check_recordable, no_values, other_shape
from recorder.format import LayerCommit
from recorder.format.planes.values import MAX_LEVEL, Pending
from recorder.format.record.metadata import ValuesCommit
from recorder.format.segments import SegmentLog
from recorder.frameworks import SpikingLayer

# Calls after which it is looked whether outputs are recorded in a faster way: small ones are gathered then.
LOOK_AFTER_CALLS = 256
# How small those are; `Alike.gather` says how many.
GATHER_OUTPUT_BYTES = 4096


class LayerRecorder:
    """Packs the output of one layer and keeps account of its steps.

    An exception from outside, such as that of Ctrl-C, and a signal handler that closes the recording, come
    up where a call begins. So what belongs together, such as that frames count and which step they are,
    changes where no call is in between.

    Parameters
    ----------
    name : str
    position : int
        Place in network order.
    layer_class : str
        Qualified name of the module's class.
    late_errors : list
        Where errors are put that are found after the call that they are about.
    packers : Packers
        Makes what packs the layer's outputs.

    Attributes
    ----------
    neuron_shape : tuple of int, or None
        None until the first frames come.
    first_batch : int
        Batch size of the first output of this session.
    output_frames : int
        Of the largest output of this session.
    dtype : str
        Data type of the first output.
    segments : SegmentLog
        Of the frames that are known to hold what can be recorded only.
    threshold : callable, optional
        What makes spikes of the layer's values before they come here.
    keeping : KeptPart, optional
        What cuts the layer's outputs to the part that is kept, before they come here.
    is_stopped : bool
        Whether the layer has put out no spikes, and is not to be recorded any more.
    """

    def __init__(
        self,
        name: str,
        position: int,
        layer_class: str,
        late_errors: list[SpikeValueError],
        packers: Packers,
    ) -> None:
        self.name = name
        self.position = position
        self.layer_class = layer_class
        self.neuron_shape: tuple[int, ...] | None = None
        self.first_batch = 0
        self.dtype = ""
        self.segments = SegmentLog()
        self._packer: Packer | None = None
        self._packers = packers
        self._device = torch.device("cpu")
        self._hint = ""
        self.output_frames = 0
        self._calls = 0
        self._unsure = UnsureCalls()
        self._late_errors = late_errors
        self.alike: Alike | None = None
        # Of a layer that goes on: whether it fired before, and the values that it had.
        self._has_fired = False
        # On accelerators: whether the next output is looked at before it is packed, and whether whole numbers
        # other than 0 and 1 have come, which are gone.
        self._must_look = self._has_turned = False
        self._values: ValuesCommit | None = None
        self.threshold: Callable[[torch.Tensor], torch.Tensor] | None = None
        self.keeping: KeptPart | None = None
        self.is_stopped = False

    def resume(self, commit: LayerCommit, segments: SegmentLog, pending: Pending, *, has_fired: bool) -> None:
        """Go on behind frames recorded earlier; ``pending`` are those that fill no byte."""
        self.neuron_shape, self.dtype, self.segments = commit.plan.neuron_shape, commit.dtype, segments
        self._has_fired, self._values = has_fired, commit.values
        self._packer = self._packers.make(
            self._device, pending, self.dtype, self._values, self.segments.frames
        )

    # -- outputs like those before ------------------------------------------------------------------------

    def repeat(self, output: torch.Tensor | None, step: int, trial: int) -> bool:
        """Record a single-step output, shape [N, *neuron], if it is like the one before.

        Returns
        -------
        bool
            False if ``output`` is of another kind and is not recorded.

        Raises
        ------
        SpikeValueError
            Nothing of ``output`` is then recorded. An error among the values of a small output comes late.
        """
        alike = self.alike
        if (
            alike is None
            or output is None
            or output.shape != alike.shape
            or output.dtype is not alike.dtype
            or step != alike.next_step
            or trial != alike.trial
            or not output.is_cpu
            or (self.keeping is not None and not self.keeping.is_alike)
            # Full of outputs that could not be packed, as where memory was short: they are tried again first.
            or alike.calls >= alike.limit
        ):
            return False
        if alike.gathered is not None:
            # Twice as fast as torch's own copy, for so little.
            alike.gathered[alike.calls] = (output.detach() if output.requires_grad else output).numpy()
        else:
            try:
                alike.packer.push(output)
            except NotSpikesError:
                return False  # it is looked at as any output
            alike.packer.undo = None
        alike.calls += 1
        alike.next_step = step + 1
        return True

    @property
    def ready(self) -> list[WholeRows]:
        """Whole rows in order, for somebody to take."""
        return [] if self._packer is None else self._packer.ready

    @property
    def is_full(self) -> bool:
        """True if it is time to `settle`."""
        return self.alike is not None and self.alike.calls >= self.alike.limit

    @property
    def is_due(self) -> bool:
        """True if it is full, or whole rows are ready, among outputs that are alike."""
        alike = self.alike
        return alike is not None and (alike.calls >= alike.limit or bool(alike.packer.ready))

    @property
    def frames(self) -> int:
        """Frames recorded so far, those included that are not packed, or not known to be spikes."""
        alike = 0 if self.alike is None else self.alike.calls * self.alike.batch
        return self.segments.frames + self._unsure.frames + alike

    @property
    def is_on_device(self) -> bool:
        """True if the layer is packed on an accelerator."""
        return isinstance(self._packer, OnDevice)

    @property
    def device_bytes(self) -> int:
        """Memory kept on an accelerator at most, besides what is on its way.

        Outputs that are gathered, two rows, and a packed output.
        """
        if self._device.type == "cpu" or self.neuron_shape is None:
            return 0
        gathered = DEVICE_GATHER_BYTES if isinstance(self._packer, DevicePacker) else 0
        return gathered + math.prod(self.neuron_shape) * (2 + -(-self.output_frames // 8))

    def settle(self) -> None:
        """Wait for what devices have packed, and `settle_alike`."""
        if isinstance(self._packer, OnDevice):
            self._collect(self._packer, wait=True)
        else:
            self.settle_alike()

    def settle_alike(self) -> None:
        """Pack what was gathered, and note the calls that were alike.

        An error among the values comes late.
        """
        if isinstance(self._packer, HostPacker):
            self._packer.roll_back()
        alike = self.alike
        if alike is None or alike.calls == 0:
            return
        step, calls = alike.next_step - alike.calls, alike.calls
        if alike.gathered is None:
            self.segments.extend(step, calls, alike.batch, alike.trial)
            alike.calls = 0
        else:
            outputs = torch.from_numpy(alike.gathered)[:calls]
            try:
                alike.packer.push(outputs)
                self.segments.extend(step, calls, alike.batch, alike.trial)
                alike.calls, alike.packer.undo = 0, None
            except NotSpikesError:
                self._pack_one_by_one(alike, outputs, step)
        self._calls += calls
        slots = calls * alike.shape.numel()
        self._packer = alike.packer = self._packers.faster(alike.packer, slots, alike.dtype)
        if alike.gathered is None and alike.is_small and self._calls >= LOOK_AFTER_CALLS:
            alike.gather()

    def settle_before(self, output: torch.Tensor) -> None:
        """`settle_alike`, and all that is left on a device that ``output`` is not on any more."""
        if self._packer is None or output.device == self._device:
            self.settle_alike()
        else:
            self.settle()
            self._packer.drain()

    def _pack_one_by_one(self, alike: Alike, outputs: torch.Tensor, first_step: int) -> None:
        """Pack gathered outputs of which one is to blame, or more."""
        for step, output in enumerate(outputs, first_step):
            call = Call(step, 1, alike.batch, alike.trial)
            try:
                alike.packer = self._push_to_host(alike.packer, output, call)
            except SpikeValueError as error:
                self._late_errors.append(error)
        alike.calls = 0

    def _collect(self, packer: OnDevice, *, wait: bool) -> None:
        self._forget_interrupted(packer)
        packer.collect(wait=wait)
        while packer.verdicts:
            verdict, call = packer.verdicts[0], self._unsure.calls[0]
            if verdict.others == 0:
                self.segments.extend(call.step, call.steps, call.batch, call.trial)
            else:
                must_look = self.values is None
                has_turned = verdict.value.is_integer() and abs(verdict.value) <= MAX_LEVEL
                what = f"values such as {verdict.value:g}, dtype {self.dtype}"
                errors = [self._value_error(what, call, verdict)]
                self._must_look, self._has_turned = must_look, has_turned
                self._late_errors += errors
            del packer.verdicts[0], self._unsure.calls[0]

    @property
    def last_step(self) -> int:
        """The step after the last one that was recorded; 0 before there is one."""
        if isinstance(self._packer, OnDevice):
            self._forget_interrupted(self._packer)
        return max(self.segments.last_step, self._unsure.last_step)

    def _forget_interrupted(self, packer: OnDevice) -> None:
        """Forget a call that was noted and not pushed, as an exception came in between."""
        if self._unsure.is_pushing:
            self._unsure.keep(packer.undecided)

    # -- any output ---------------------------------------------------------------------------------------

    def record(
        self, layer: SpikingLayer, spikes: torch.Tensor, first_step: int, steps: int | None, trial: int
    ) -> None:
        """Record any output at once; after `settle_before`.

        Parameters
        ----------
        layer : SpikingLayer
        spikes : tensor, shape [N, *neuron], or [T, N, *neuron] if ``steps`` is given
            Not empty.
        first_step : int
        steps : int or None
            T; None for a single step.
        trial : int

        Raises
        ------
        SpikeValueError, NeuronShapeError
            Nothing of ``spikes`` is then recorded.
        """
        self._hint = layer.hint
        axes = 1 if steps is None else 2
        shape = tuple(spikes.shape)
        call = Call(first_step, steps or 1, shape[axes - 1], trial)
        self.alike = None
        self._prepare(shape[axes:], spikes, first_step, is_graded=layer.is_graded)
        self._push(spikes, call)
        self.first_batch = self.first_batch or call.batch
        self.output_frames = max(self.output_frames, call.steps * call.batch)
        self._calls += 1
        if isinstance(self._packer, HostPacker):
            packer = self._packer = self._packers.faster(self._packer, spikes.numel(), spikes.dtype)
            if steps is None:
                self.alike = self._expect_more(packer, spikes, call)

    def _expect_more(self, packer: HostPacker, spikes: torch.Tensor, call: Call) -> Alike:
        # NumPy has no bfloat16.
        is_small = spikes.nbytes <= GATHER_OUTPUT_BYTES and spikes.dtype != torch.bfloat16
        alike = Alike(packer, spikes.shape, spikes.dtype, call.trial, call.step + 1, is_small=is_small)
        alike.limit = LOOK_AFTER_CALLS
        if is_small and self._calls >= LOOK_AFTER_CALLS:
            alike.gather()
        return alike

    def drain(self) -> Pending:
        """Have all whole rows in ``ready``; return the frames that fill none. All must be settled."""
        pending: Pending = np.empty((0, 0), np.bool_) if self._packer is None else self._packer.drain()
        return pending

    def _prepare(self, shape: tuple[int, ...], spikes: torch.Tensor, step: int, *, is_graded: bool) -> None:
        """Have a packer for frames of this shape on this device."""
        if spikes.is_meta:
            raise no_values(self.name)
        if self._packer is None or self.neuron_shape is None:
            check_recordable(self.name, shape, spikes.dtype)
            self.dtype = str(spikes.dtype).removeprefix("torch.")
            self._change_packer(spikes, np.empty((0, math.prod(shape)), np.bool_), is_graded=is_graded)
            self.neuron_shape = shape
        elif shape != self.neuron_shape:
            raise other_shape(self.name, shape, self.neuron_shape, step)
        elif spikes.device != self._device or self._must_look:
            self.settle()
            self._change_packer(spikes, self._packer.drain(), is_graded=is_graded)

    def _change_packer(self, spikes: torch.Tensor, pending: Pending, *, is_graded: bool) -> None:
        """Go on behind these frames with a packer for such an output.

        On an accelerator, other values than 0 and 1 are found out when the output is gone. So the first one
        is looked at before it is packed, which waits for the device; of a class that is known to put out more
        than ones, each until one holds anything but zeros.
        """
        ready, self._values = self.ready, self.values
        # Of frames on an accelerator it is not known whether they are silent.
        self._has_fired |= getattr(self._packer, "has_fired", self.segments.frames > 0)
        self._device, on_host = spikes.device, self._packers.is_on_host(spikes.device)
        if self._values is None and not on_host and not self._packers.only_ones:
            if puts_out_values(spikes):
                self._values = self._packers.find_values(spikes, self.dtype, has_fired=self._has_fired)
            elif self._has_turned or (is_graded and bool(spikes.any())):
                self._values = ValuesCommit(1.0, 0, 0)
        self._must_look = is_graded and self._values is None and not on_host
        self._packer = self._packers.make(
            self._device, pending, self.dtype, self._values, self.segments.frames
        )
        self._packer.ready[:0] = ready

    def _push(self, spikes: torch.Tensor, call: Call) -> None:
        if self._packer is None:
            raise RuntimeError("a layer is prepared before it is recorded")
        if isinstance(self._packer, OnDevice):
            self._forget_interrupted(self._packer)
            self._unsure.note(call)
            self._packer.push(spikes)
            self._unsure.is_pushing = False
            self._collect(self._packer, wait=False)
        else:
            self._push_to_host(self._packer, spikes, call)

    def _push_to_host(self, packer: HostPacker, spikes: torch.Tensor, call: Call) -> HostPacker:
        """Pack an output, perhaps with another packer, which it returns, than the layer had."""
        try:
            packer.push(spikes)
        except NotSpikesError as error:
            packer.roll_back()
            following = self._follow(packer, spikes)
            if following is None:
                raise self._value_error(str(error), call, spikes) from error
            packer = self._packer = following
        self.segments.extend(call.step, call.steps, call.batch, call.trial)
        packer.undo = None
        return packer

    @property
    def values(self) -> ValuesCommit | None:
        """Scale, and range of levels so far, of a layer that has put out other values than 0 and 1."""
        return getattr(self._packer, "values", self._values)

    def _follow(self, packer: HostPacker, spikes: torch.Tensor) -> HostPacker | None:
        """Go on with a packer for values behind the frames of one of zeros and ones; None if in vain."""
        if isinstance(packer, ValuePacker):
            return packer if packer.refine(spikes) else None
        fired = self._has_fired or packer.has_fired
        values = self._packers.find_values(spikes, self.dtype, has_fired=fired)
        if values is None:
            return None
        following, rows = (
            self._packers.follow(packer, self.dtype, values, self.segments.frames),
            len(packer.ready),
        )
        try:
            following.push(spikes)
        except BaseException as error:
            # Rows of `following` lie behind those of `packer`, in the same list.
            del packer.ready[rows:]
            if isinstance(error, NotSpikesError):
                return None
            raise
        return following

    def _value_error(self, what: str, call: Call, found: torch.Tensor | Verdict) -> SpikeValueError:
        steps = range(call.step, call.step + call.steps)
        shape = call.batch, *(self.neuron_shape or ())
        scale, part = self.values.scale if self.values else None, self.keeping.kept if self.keeping else None
        text = describe_others(what, found, steps, shape, self._hint, scale, self.dtype, part)
        return SpikeValueError(f"layer {self.name!r} ({self.layer_class}) put out {text}", self.name)
