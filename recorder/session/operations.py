"""Count what weight layers do while recording, and find out which steps and samples it belongs to.

What each call of a weight layer does is kept until its forward has ended. Then it is known how many steps and
samples that forward had, and the counts of its calls become those of frames. Nothing is guessed in silence:
a weight layer whose calls do not say which frames they belong to is not counted any more, with a warning, and
the recording says so.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import nn

from recorder.capture.device.transfer import TransferRings
from recorder.capture.signal_recorder import SignalRecorder
from recorder.capture.signals import Signal
from recorder.connections import WeightLayerCounter
from recorder.format.errors import UncountedOperationsWarning
from recorder.format.record.operations import KINDS, OPERATIONS, OperationsCommit, operations_of
from recorder.format.record.parts import Kept
from recorder.format.segments import SegmentLog
from recorder.patterns import SAMPLES, STEPS
from recorder.plan import SignalPlan
from recorder.session.signals import Forward, plan_of
from recorder.tape.layers.signal_writing import SignalProgress

_BY_HAND: Final = (
    "was called outside of a forward of the network, or in one that Ctrl-C has left, where nobody knows "
    "which step it is: call the network, or call monitor.step() after enable() and after each step"
)


class _Frames(NamedTuple):
    """The frames of a forward.

    Attributes
    ----------
    first_step, steps, batch, trial : int
    order : str
        ``"tn"`` if its layers put out steps before samples, ``"nt"`` the other way round; empty if they put
        out one step at a time.
    """

    first_step: int
    steps: int
    batch: int
    trial: int
    order: str


class _Series(SignalRecorder):
    """The series of operations, which is recorded as the values of a signal are."""

    def __init__(self, weight_layers: tuple[str, ...], rings: TransferRings) -> None:
        super().__init__("", Signal(OPERATIONS), rings)
        self._weight_layers = weight_layers

    def _begin(self, shape: tuple[int, ...], dtype: str, neurons: Kept) -> None:  # noqa: ARG002 - known here
        self.about = operations_of(self._weight_layers)


class OperationsRecorder:
    """Counts the operations of all weight layers of a network.

    Parameters
    ----------
    weight_layers : sequence of str
        Their names, in network order.
    rings : TransferRings
    holds : bool
        Whether they wait in memory, see `RecordedLayers`.

    Attributes
    ----------
    series : SignalRecorder
        Of the frames of all forwards that have ended: int64, of shape (weight layers, kinds).
    kept : SignalRecorder
        Of the frames that are recorded: the same, unless they wait in memory.
    uncounted : dict of str to str
        Weight layers of which not all operations were counted, and why.
    """

    def __init__(self, weight_layers: Sequence[str], rings: TransferRings, *, holds: bool = False) -> None:
        self.series: SignalRecorder = _Series(tuple(weight_layers), rings)
        self.kept: SignalRecorder = _Series(tuple(weight_layers), rings) if holds else self.series
        self.uncounted: dict[str, str] = {}
        self._counters = {name: WeightLayerCounter() for name in weight_layers}
        # Of the forward that is running: what calls have done, and what recorded layers have put out.
        self._calls: dict[str, list[torch.Tensor]] = {}
        self._outputs: dict[str, _Frames] = {}

    def resume(self, commit: OperationsCommit, segments: SegmentLog) -> None:
        """Go on behind operations that were counted earlier."""
        self.kept.resume(commit, segments)
        self.uncounted = {**commit.uncounted}

    def see_call(self, name: str, module: nn.Module, given: Any, output: Any) -> None:
        """Count what a weight layer has done."""
        if name in self.uncounted:
            return
        if not _is_plain(given) or not _is_plain(output):
            self._give_up(name, "is not given a plain tensor, or puts out none")
            return
        found = self._counters[name].count(module, given, output)
        if found is None:
            self._give_up(name, "has an output of other sizes than its weights make")
        else:
            self._calls.setdefault(name, []).append(found)

    def see_spikes(self, output: Forward) -> None:
        """Note that a recorded layer has put out so many steps and samples."""
        if output.steps == 0:
            return
        name, first_step, steps = output.layer.name, output.first_step, output.steps
        before = self._outputs.get(name)
        if before is not None:
            first_step, steps = before.first_step, steps + before.steps
        order = ""
        if output.expected.has_steps:
            names = output.expected.pattern.names
            order = "nt" if SAMPLES in names and names.index(SAMPLES) < names.index(STEPS) else "tn"
        self._outputs[name] = _Frames(first_step, steps, output.batch, output.trial, order)

    def end_forward(self, *, succeeded: bool, is_known: bool) -> None:
        """Note that a forward has ended: its operations become those of its frames.

        Parameters
        ----------
        succeeded : bool
            Whether it has returned. What one that raised has done is not kept.
        is_known : bool
            Whether it is known where it began and ended.
        """
        calls, outputs = self._calls, self._outputs
        self._calls, self._outputs = {}, {}
        if not succeeded or not outputs:
            return
        if not is_known:
            self._give_up_all(_BY_HAND)
            return
        frames = _frames_of(outputs)
        if isinstance(frames, str):
            self._give_up_all(frames)
            return
        if frames.first_step < self.series.segments.last_step:
            self._give_up_all("is called in forwards whose recorded layers do not count the same steps")
            return
        self._record(calls, frames)

    def _record(self, calls: Mapping[str, list[torch.Tensor]], frames: _Frames) -> None:
        rows = {}
        for name, each in calls.items():
            found = _laid(each, frames)
            if isinstance(found, str):
                self._give_up(name, found)
            else:
                rows[name] = found
        device = next(iter(rows.values())).device if rows else torch.device("cpu")
        shape = frames.steps, frames.batch, len(KINDS)
        with torch.inference_mode(mode=False):
            silent = torch.zeros(shape, dtype=torch.int64, device=device)
            values = torch.stack([rows.get(name, silent).to(device) for name in self._counters], dim=2)
        first, steps, batch, trial, _ = frames
        self.series.record_values(values, first, steps, batch, trial)

    def _give_up_all(self, why: str) -> None:
        for name in self._counters:
            if name not in self.uncounted:
                self._give_up(name, why)

    def _give_up(self, name: str, why: str) -> None:
        self.uncounted[name] = why
        self._calls.pop(name, None)
        warnings.warn(
            f"operations of the weight layer {name!r} are not counted any more: it {why}. Spikes, and the "
            "operations of other layers, are recorded as before",
            UncountedOperationsWarning,
            stacklevel=2,
        )

    def progress(self) -> SignalProgress | None:
        """Progress for a commit; it must be settled. None before there is anything."""
        return None if self.kept.about is None else SignalProgress(*self.kept.segments.look())

    def settle(self) -> None:
        """Have all values ready to be taken."""
        self.series.settle()
        if self.kept is not self.series:
            self.kept.settle()

    def plans(self) -> list[SignalPlan]:
        """What the series costs, once there is anything."""
        plan = plan_of(self.series)
        return [] if plan is None else [plan]


def _is_plain(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_meta


def _frames_of(outputs: Mapping[str, _Frames]) -> _Frames | str:
    """The frames of a forward, given what its layers have put out; or why they are not known."""
    # A layer that is called twice a step counts its calls: most layers are not.
    made = Counter((output.first_step, output.steps) for output in outputs.values())
    first_step, steps = max(made, key=lambda each: (made[each], each[1]))
    alike = [
        output for output in outputs.values() if (output.first_step, output.steps) == (first_step, steps)
    ]
    batches = {output.batch for output in alike}
    orders = {output.order for output in alike}
    if len(batches) > 1:
        return f"runs beside recorded layers that do not agree about the batch ({sorted(batches)[:5]})"
    (batch,) = batches
    if len(orders) > 1 and steps > 1 and batch > 1:
        return "runs beside recorded layers of which some put out steps first, and others samples"
    return _Frames(first_step, steps, batch, alike[0].trial, min(orders))


def _laid(calls: list[torch.Tensor], frames: _Frames) -> torch.Tensor | str:
    """The operations of all calls of a forward, int64 [T, N, kinds]; or why it is not known how they lie."""
    steps, batch = frames.steps, frames.batch
    shape = list(calls[0].shape[:-1])
    whole = [_as_whole(call, frames) for call in calls]
    single = [_as_step(call, batch) for call in calls] if len(calls) == steps else [None]
    is_whole = all(each is not None for each in whole)
    is_single = all(each is not None for each in single)
    if is_whole and is_single and steps > 1 and batch > 1:
        is_whole = is_single = False
    if is_single:
        return torch.stack([each for each in single if each is not None])
    if is_whole:
        return torch.stack([each for each in whole if each is not None]).sum(0)
    times = f", {len(calls)} times" if len(calls) > 1 else ""
    return (
        f"is given inputs with the axes {shape} in front of channels or features{times}, in a forward whose "
        f"recorded layers put out {steps} steps of {batch} samples: which belong to which is not known"
    )


def _as_whole(call: torch.Tensor, frames: _Frames) -> torch.Tensor | None:
    """One call for all steps, as [T, N, kinds]; None if it is not known how its axes lie."""
    steps, batch, order = frames.steps, frames.batch, frames.order
    if steps == 1:
        found = _as_step(call, batch)
        return None if found is None else found.unsqueeze(0)
    axes = tuple(call.shape[:-1])
    tn, nt = axes[:2] == (steps, batch), axes[:2] == (batch, steps)
    if tn and nt and not order:
        return None
    if tn and order != "nt":
        return call.flatten(2, -2).sum(2) if len(axes) > 2 else call
    if nt and order != "tn":
        return _as_whole(call.transpose(0, 1), frames._replace(order="tn"))
    if axes[:1] == (steps * batch,) and (order or batch == 1):
        folded = (steps, batch) if order != "nt" else (batch, steps)
        return _as_whole(call.reshape(*folded, *call.shape[1:]), frames)
    return None


def _as_step(call: torch.Tensor, batch: int) -> torch.Tensor | None:
    """One call for one step, as [N, kinds]; None if it is not known how its axes lie."""
    if batch == 1:
        return call.reshape(-1, len(KINDS)).sum(0, keepdim=True)
    if call.shape[0] != batch or call.ndim < 2:
        return None
    return call.reshape(batch, -1, len(KINDS)).sum(1)
