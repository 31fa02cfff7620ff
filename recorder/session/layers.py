"""The layers of a recording while it is being made, and their rows on the way to the tape."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from recorder.capture import LayerError, LayerRecorder, SpikeValueError
from recorder.capture.device.transfer import TransferRings
from recorder.capture.holding_recorder import HoldingRecorder
from recorder.capture.host.host_packing import StagePool
from recorder.capture.kept_part import KeptPart
from recorder.capture.packers import Packers
from recorder.capture.wanted import Wanted
from recorder.format import ChunkPlan, RecordingMetadata, RecordingStoppedWarning, plan_chunks
from recorder.format.bits import Counts
from recorder.format.connections import Connections
from recorder.format.layout import plan_counts
from recorder.format.planes.values import Pending, pending_rows, planes_of
from recorder.format.record.parts import LayerPart
from recorder.format.segments import SegmentLog
from recorder.plan import LayerPlan, RecordingPlan, RecordingStats
from recorder.session.operations import OperationsRecorder
from recorder.session.signals import Forward, LayerSignals
from recorder.session.steps import LayerSteps, Steps
from recorder.tape import LayerProgress, TapeWriter


class RecordedLayer(NamedTuple):
    """The recorder of a layer, which packs its outputs, the step that the layer is at, and its signals."""

    recorder: HoldingRecorder
    steps: LayerSteps
    signals: LayerSignals


class RecordedLayers:
    """All layers of a recording, those included that a resumed one has and the network has no longer.

    Parameters
    ----------
    layer_classes : mapping
        Layer name → qualified class name, in network order.
    steps : Steps
        Where the layers' steps are kept.
    wanted : Wanted, optional
        What is made of their values, recorded beside them, and kept of them.
    stops_bad : bool
        Whether a layer that puts out no spikes is stopped with a warning, instead of being an error.
    holds : bool
        Whether what layers put out waits in memory, and is recorded only where somebody asks for it.

    Attributes
    ----------
    by_name : dict of str to RecordedLayer
        In network order.
    seen : dict of str to RecordedLayer
        What takes the outputs of layers: ``by_name`` itself, or others whose rows wait in memory.
    steps : dict of str to LayerSteps
        Where each layer is, in network order.
    late_errors : list of SpikeValueError
        Errors among values that were found after the call that they are about.
    connections : Connections or None
        Which weight layers read them, once a forward has shown it.
    operations : OperationsRecorder or None
        What counts operations, where that is asked for.
    """

    def __init__(
        self,
        layer_classes: Mapping[str, str],
        steps: Steps,
        wanted: Wanted | None = None,
        *,
        stops_bad: bool = False,
        holds: bool = False,
    ) -> None:
        self._wanted = wanted or Wanted()
        self._stops_bad = stops_bad
        self.by_name: dict[str, RecordedLayer] = {}
        self.seen: dict[str, RecordedLayer] = {} if holds else self.by_name
        self.steps: dict[str, LayerSteps] = {}
        self.late_errors: list[SpikeValueError] = []
        self.connections: Connections | None = None
        self.all_steps = steps
        self._rings = TransferRings()
        self._pool = StagePool()
        self._packers = Packers(self._pool, self._rings)
        names = tuple(self._wanted.weight_layers)
        self.operations = OperationsRecorder(names, self._rings, holds=holds) if names else None
        if self.operations is not None:
            steps.on_end = self.operations.end_forward
        for name, layer_class in layer_classes.items():
            self._add(name, layer_class)

    def _add(self, name: str, layer_class: str, *, is_expected: bool = True) -> None:
        steps = self.steps[name] = self.all_steps.add_layer(name, is_expected=is_expected)
        keeping = KeptPart(name, self._wanted.parts[name]) if name in self._wanted.parts else None
        position = len(self.by_name)
        for layers in (self.by_name,) if self.seen is self.by_name else (self.by_name, self.seen):
            recorder = self._make(name, position, layer_class)
            recorder.keeping = keeping
            signals = LayerSignals.of(name, self._wanted.signals, self._rings, stops_bad=self._stops_bad)
            layers[name] = RecordedLayer(recorder, steps, signals)

    def _make(self, name: str, position: int, layer_class: str) -> HoldingRecorder:
        packers = self._packers
        if self._wanted.parts.part(name).counts_only:
            packers = Packers(self._pool, self._rings, only_ones=True)
        recorder = HoldingRecorder(name, position, layer_class, self.late_errors, packers)
        recorder.threshold = self._wanted.thresholds.get(name)
        return recorder

    def resume(self, tape: TapeWriter) -> None:
        """Go on behind the frames that a resumed tape holds; all layers go on at the same step."""
        self.connections = tape.metadata.connections
        resumed = tape.resumed_layers()
        for name, (commit, last_segment) in resumed.items():
            if name not in self.by_name:
                self._add(name, commit.layer_class, is_expected=False)
            recorder = self.by_name[name].recorder
            segments, pending = SegmentLog(last_segment), tape.pending_frames(name)
            has_fired = bool(tape.totals(name).any())
            recorder.resume(commit, segments, pending, has_fired=has_fired)
            if self.seen is not self.by_name:
                seen, nothing = self.seen[name], {signal.name: SegmentLog() for signal in commit.signals}
                seen.recorder.resume(commit, SegmentLog(), pending[:0], has_fired=has_fired)
                seen.signals.resume(commit, nothing)
            if recorder.keeping is not None:
                recorder.keeping.resume(commit)
            if commit.signals:
                last = {signal: SegmentLog(row) for signal, row in tape.last_signal_segments(name).items()}
                self.by_name[name].signals.resume(commit, last)
            tape.place_layer(name, recorder.position)
        counted = tape.metadata.operations
        if self.operations is not None and counted is not None:
            self.operations.resume(counted, SegmentLog(tape.last_operation_segment()))
        self.all_steps.go_on_at(max((layer.segments.last_step for layer in self.called), default=0))

    @property
    def called(self) -> list[LayerRecorder]:
        """Recorders of the layers that have been called, in network order."""
        every = (layer.recorder for layer in self.by_name.values())
        return [recorder for recorder in every if recorder.neuron_shape is not None]

    @property
    def are_known(self) -> bool:
        """True if any layer has been called, or is in a resumed recording."""
        return any(layer.recorder.neuron_shape is not None for layer in self.seen.values())

    @property
    def valued(self) -> set[str]:
        """Names of the layers that have put out other values than 0 and 1."""
        return {recorder.name for recorder in self.called if recorder.values}

    @property
    def parts(self) -> dict[str, LayerPart]:
        """The part that is kept of each layer that has been called and of which not all is."""
        return {recorder.name: part for recorder in self.called if (part := part_of(recorder))}

    @property
    def thresholded(self) -> tuple[str, ...]:
        """Names of layers whose spikes are what a threshold makes of their values."""
        return tuple(self._wanted.thresholds)

    @property
    def are_on_device(self) -> bool:
        """True if any layer is packed on an accelerator."""
        return any(layer.recorder.is_on_device for layer in self.seen.values())

    @property
    def ring_bytes(self) -> int:
        """Pinned memory through which accelerators hand over packed bytes."""
        return self._rings.size_bytes

    def recorded(self) -> dict[str, tuple[int, tuple[int, ...], str]]:
        """Frames, neuron shape and dtype of each layer that has frames, in order; all must be settled."""
        return {
            layer.name: (layer.segments.frames, layer.neuron_shape or (), layer.dtype)
            for layer in self.called
            if layer.segments.frames
        }

    def frames_before(self, steps: Mapping[str, int]) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
        """Numbers of frames that layers, and the signals of each, have before the given steps.

        All must be settled. Layers and signals that have none from these steps on are left out.
        """
        segments = {name: self.by_name[name].recorder.segments for name in steps}
        frames = {name: log.frame_at(steps[name]) for name, log in segments.items()}
        of_signals = {name: self.by_name[name].signals.frames_before(step) for name, step in steps.items()}
        return (
            {name: before for name, before in frames.items() if before < segments[name].frames},
            {name: before for name, before in of_signals.items() if before},
        )

    def settle(self) -> None:
        """Have all frames packed and all values ready; whoever asks next raises errors among them."""
        for layers in (self.by_name,) if self.seen is self.by_name else (self.by_name, self.seen):
            for recorder, _, signals in layers.values():
                recorder.settle()
                signals.settle()
        if self.operations is not None:
            self.operations.settle()

    def forget(self, name: str, progress: LayerProgress) -> None:
        """Forget the finished segments of a layer, and of its signals, that a commit has."""
        recorder, _, signals = self.by_name[name]
        recorder.segments.forget(len(progress.closed_segments))
        signals.forget(progress.signals)

    def see_beside(self, signals: LayerSignals, forward: Forward) -> None:
        """Record the signals of a layer after a forward of its module; errors as `LayerSignals.record`."""
        if self.operations is not None:
            self.operations.see_spikes(forward)
        signals.record(forward)

    def beside(self, cut_short: Mapping[str, int]) -> dict[str, Any]:
        """What a commit has beside its layers, by the names of its parameters; all must be settled.

        ``cut_short`` has the steps from which on layers are given up.
        """
        found: dict[str, Any] = {"uncalled": self.uncalled(), "connections": self.connections}
        found["cut"], found["cut_signals"] = self.frames_before(cut_short)
        if self.operations is not None:
            uncounted = {**self.operations.uncounted}
            found |= {"operations": self.operations.progress(), "uncounted": uncounted}
        return found

    def forget_operations(self, beside: Mapping[str, Any]) -> None:
        """Forget the finished segments of operations that a commit, of which `beside` is part, has."""
        progress = beside.get("operations")
        if self.operations is not None and progress is not None:
            self.operations.kept.segments.forget(len(progress.closed_segments))

    @property
    def stopped(self) -> list[str]:
        """Names of layers that are not recorded any more, as they have put out no spikes."""
        return [name for name, layer in self.by_name.items() if layer.recorder.is_stopped]

    def uncalled(self) -> dict[str, int]:
        """Layers that are not recorded any more, and the step from which on; all must be settled.

        These are layers that the newest forward has not called, and those that were stopped.
        """
        names = *self.all_steps.uncalled, *self.stopped
        return {name: self.by_name[name].recorder.segments.last_step for name in names}

    def stats(self, tape: TapeWriter, seconds_waited: float) -> RecordingStats:
        """Costs of the recording so far."""
        return RecordingStats(
            steps=self.all_steps.next_step,
            frames={layer.name: layer.frames for layer in self.called},
            packed_bytes=sum(
                math.prod(layer.neuron_shape or ()) * layer.frames // 8 for layer in self.called
            ),
            commits=tape.metadata.commit_number,
            seconds_waited=seconds_waited,
            chunks=tape.pressure.chunks,
            hurried_chunks=tape.pressure.hurried_chunks,
            stored_bytes=tape.pressure.stored_bytes,
        )

    def plans(self) -> list[LayerPlan]:
        """Costs of each layer that has been called."""
        return [
            LayerPlan(
                layer.name,
                layer.first_batch,
                plan_of(layer),
                layer.device_bytes,
                layer.output_frames,
                planes_of(layer.values.least, layer.values.most) if layer.values else 0,
                part_of(layer),
            )
            for layer, _, _ in self.seen.values()
            if layer.neuron_shape is not None
        ]

    def plan(self, queue_limit_bytes: int, steps_per_hour: float) -> RecordingPlan:
        """Costs of the recording, as far as its layers have been called."""
        signals = [plan for layer in self.seen.values() for plan in layer.signals.plans()]
        signals += self.operations.plans() if self.operations is not None else []
        return RecordingPlan(self.plans(), queue_limit_bytes, self.ring_bytes, steps_per_hour, signals)

    def tell_late_errors(self) -> None:
        """Stop the layers that late errors are about, or raise the first error, and forget them all."""
        if self.late_errors:
            errors = [*self.late_errors]
            self.late_errors.clear()
            for error in errors:
                if not self.stop(error):
                    raise error

    def stop(self, error: LayerError) -> bool:
        """Record no more of the layer that an error is about, and warn; False where it is to be raised."""
        if not self._stops_bad:
            return False
        recorder = self.by_name[error.layer].recorder
        if not recorder.is_stopped:
            recorder.is_stopped = self.seen[error.layer].recorder.is_stopped = True
            self.all_steps.give_up(self.by_name[error.layer].steps)
            warnings.warn(
                f"{error}. This layer is not recorded any more; what was recorded of it stays, and the other "
                "layers and the network go on.",
                RecordingStoppedWarning,
                stacklevel=2,
            )
        return True


def part_of(layer: LayerRecorder) -> LayerPart | None:
    """The part that is kept of a layer that has been called; None where it is the whole."""
    return layer.keeping.kept if layer.keeping else None


def counts_only(layer: LayerRecorder) -> bool:
    """True if only counts are kept of a layer."""
    return layer.keeping is not None and layer.keeping.asked.counts_only


def plan_of(layer: LayerRecorder) -> ChunkPlan:
    """The plan of what is kept of a layer that has been called."""
    shape = layer.neuron_shape or ()
    return plan_counts(shape) if counts_only(layer) else plan_chunks(shape)


def recorded_in(metadata: RecordingMetadata) -> dict[str, tuple[int, tuple[int, ...], str]]:
    """Frames, neuron shape and dtype of each committed layer, in order."""
    return {layer.name: (layer.frames, layer.plan.neuron_shape, layer.dtype) for layer in metadata.layers}


def totals_of(tape: TapeWriter, pending: Mapping[LayerRecorder, Pending]) -> dict[str, tuple[int, Counts]]:
    """Frames, and spikes of each neuron, of layers whose frames that fill no row are given."""
    return {
        layer.name: (
            layer.segments.frames - tape.lost_frames(layer.name),
            tape.totals(layer.name) + np.count_nonzero(frames, axis=0),
        )
        for layer, frames in pending.items()
        if layer.segments.frames
    }


def progress_of(pending: Mapping[LayerRecorder, Pending], layers: RecordedLayers) -> dict[str, LayerProgress]:
    """Progress of each layer for a commit, given the frames that fill no row."""
    progress = {}
    for layer, frames in pending.items():
        row, planes = pending_rows(frames)
        segments, signals = layer.segments.look(), layers.by_name[layer.name].signals.progress()
        progress[layer.name] = LayerProgress(len(frames), row, *segments, planes, layer.values, signals)
    return progress
