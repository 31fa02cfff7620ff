"""One recording while it is being made: steps, trials and commits, between the hooks and the tape.

The thread that runs the network calls `RecordingSession.record` for each output of a spiking layer. Frames
are checked at once; whole rows go to the background writer. A commit may only fall on a *boundary*, a moment
at which every layer has finished the same steps: the end of a forward of the network, or, where layers are
called on their own, the moment before one of them is called again.

Steps of layers stay aligned: a layer that is left out of a forward, or that a failing forward did not reach,
has no frames at that step, and goes on together with the others at the next one.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from recorder.background import BackgroundWriter
from recorder.capture import LayerRecorder, SpikeValueError
from recorder.capture.host_packing import PUT_BYTES, StagePool, WholeRows, pack_whole
from recorder.capture.transfer import TransferRings
from recorder.format import plan_chunks
from recorder.format.bits import Bools, Counts, pack_frames
from recorder.format.layout import NO_TRIAL
from recorder.format.segments import Rows, SegmentLog
from recorder.format.trials import TrialLog, as_values
from recorder.frameworks import SpikingLayer
from recorder.plan import LayerPlan, Pace, RecordingPlan, RecordingStats
from recorder.tape import LayerProgress, TapeWriter

IDLE_RETRY_SECONDS = 0.05

_logger = logging.getLogger("recorder")


@dataclass
class _Trial:
    number: int
    columns: dict[str, Any]
    batch: int = 0


class RecordingSession:
    """Records into one tape until it is closed.

    Parameters
    ----------
    tape : TapeWriter
        New or resumed; used by the background thread alone from here on.
    layer_classes : mapping
        Layer name → qualified class name, in network order.
    commit_interval : float
        Seconds after which what was recorded is committed at the next boundary.
    queue_limit_bytes : int
        Bytes that may wait for the disk.
    running_forwards : callable
        How many forwards of the network are on the stack; asked only where one that has begun was not seen
        to end, as happens when it is interrupted from the keyboard.
    """

    def __init__(
        self,
        tape: TapeWriter,
        layer_classes: Mapping[str, str],
        *,
        commit_interval: float,
        queue_limit_bytes: int,
        running_forwards: Callable[[], int],
    ) -> None:
        self._process_id = os.getpid()
        self._tape = tape
        self._running_forwards = running_forwards
        self._commit_interval = commit_interval
        self._queue_limit_bytes = queue_limit_bytes
        self._has_logged_plan = False
        self._lock = threading.RLock()
        self._pool = StagePool()
        self._rings = TransferRings()
        self._layers: dict[str, LayerRecorder] = {}
        self._trials = TrialLog(tape.metadata.trials)
        self._trial: _Trial | None = None
        # Forwards, or what stands for them, so far; layers called in this one; how many are running.
        self._forward = 0
        self._called = 0
        self._forward_depth = 0
        self._value_error: SpikeValueError | None = None
        self._rows: list[tuple[str, WholeRows]] = []
        self._rows_bytes = 0
        self._is_dirty = False
        self._idle_retry_at = 0.0
        self._committed_at = time.monotonic()
        self._pace = Pace()
        self._closed = False
        for position, (name, layer_class) in enumerate(layer_classes.items()):
            self._layers[name] = LayerRecorder(name, position, layer_class, self._pool, self._rings)
        self._resume_layers()
        reference = weakref.ref(self)
        self._writer = BackgroundWriter(
            queue_limit_bytes,
            on_idle=lambda: _call(reference, RecordingSession._commit_when_idle),
            idle_deadline=lambda: _call(reference, RecordingSession._idle_deadline) or math.inf,
        )

    def _resume_layers(self) -> None:
        """Take up every layer of a resumed tape, also those that the network has no longer."""
        resumed = self._tape.resumed_layers()
        self._lost_frames = {name: commit.lost_frames for name, (commit, _) in resumed.items()}
        for name, (commit, last_segment) in resumed.items():
            if name not in self._layers:
                self._layers[name] = LayerRecorder(
                    name, len(self._layers), commit.layer_class, self._pool, self._rings
                )
            segments, pending = SegmentLog(last_segment), self._tape.pending_frames(name)
            self._layers[name].resume(commit.plan.neuron_shape, commit.dtype, segments, pending)
            self._tape.place_layer(name, self._layers[name].position)
        next_step = max((_last_step(segment) for _, segment in resumed.values()), default=0)
        for layer in self._layers.values():
            layer.next_step = next_step
        self._pace.first_step = next_step

    @property
    def position(self) -> tuple[int, int]:
        """Numbers of the next step and of the next trial."""
        with self._lock:
            return max((layer.next_step for layer in self._layers.values()), default=0), self._trials.trials

    def go_on_at(self, step: int, trial: int) -> None:
        """Let the next step and trial be these, where they would be earlier ones."""
        with self._lock:
            for layer in self._layers.values():
                layer.next_step = max(layer.next_step, step)
            self._trials.trials = max(self._trials.trials, trial)

    @property
    def location(self) -> str:
        """Path or URL of the recording."""
        return self._tape.store.location

    @property
    def closed(self) -> bool:
        """Whether the session has ended."""
        return self._closed

    def plan(self) -> RecordingPlan:
        """What the recording costs, as far as its layers have been called."""
        with self._lock:
            layers = [
                LayerPlan(
                    layer.name,
                    layer.first_batch,
                    plan_chunks(layer.neuron_shape),
                    layer.device_bytes,
                    layer.output_frames,
                )
                for layer in self._layers.values()
                if layer.neuron_shape is not None
            ]
            pace = self._pace.steps_per_hour(self._steps())
            return RecordingPlan(layers, self._queue_limit_bytes, self._rings.size_bytes, pace)

    def _steps(self) -> int:
        return max((layer.next_step for layer in self._layers.values()), default=0)

    def stats(self) -> RecordingStats:
        """What the recording has cost so far."""
        with self._lock:
            layers = self._layers.values()
            frames = {layer.name: layer.frames for layer in layers if layer.neuron_shape is not None}
            return RecordingStats(
                steps=self._steps(),
                frames=frames,
                packed_bytes=sum(
                    math.prod(layer.neuron_shape) * frames[layer.name] // 8
                    for layer in layers
                    if layer.neuron_shape is not None
                ),
                commits=self._tape.metadata.commit_number,
                seconds_waited=self._writer.seconds_waited,
            )

    def recorded_layers(self) -> dict[str, tuple[int, tuple[int, ...], str]]:
        """Frames, neuron shape and dtype of each layer that has frames, in network order."""
        with self._lock:
            for layer in self._layers.values():
                self._settle(layer)
            return {
                layer.name: (layer.segments.frames, layer.neuron_shape, layer.dtype)
                for layer in self._layers.values()
                if layer.neuron_shape is not None and layer.segments.frames
            }

    # -- called from hooks, in the thread that runs the network ------------------------------------------

    def begin_forward(self) -> None:
        """Note that a forward of the network begins."""
        with self._lock:
            if self._forward_depth:
                self._notice_interrupted_forward(beginning=1)
            if self._forward_depth == 0 and self._called:
                self._pass_boundary()
            self._pace.begin()
            self._forward_depth += 1

    def end_forward(self, *, succeeded: bool) -> None:
        """Note that a forward of the network has ended, by returning or by an exception."""
        with self._lock:
            if self._forward_depth == 0:
                return  # enabled while this forward was running
            is_last = self._forward_depth == 1
            if is_last and (not succeeded or self._called < len(self._layers)):
                self._align_steps(succeeded)
            self._forward_depth -= 1
            if is_last:
                self._pass_boundary()

    def _notice_interrupted_forward(self, beginning: int = 0) -> None:
        """Find out whether a forward has ended unseen; ``beginning`` ones are not counted yet."""
        if self._forward_depth and self._running_forwards() - beginning < self._forward_depth:
            self._align_steps(succeeded=False)
            # Not before: aligning may have to wait, and if Ctrl-C ends that, the next forward begins with it.
            self._forward_depth = 0
            self._pass_boundary()

    def record(self, layer: SpikingLayer, output: object) -> None:
        """Record what a layer has put out; it is copied before this returns.

        Parameters
        ----------
        layer : SpikingLayer
        output : object
            As the module returned it.

        Raises
        ------
        SpikeValueError, NeuronShapeError, SpikingLayerError, ValueError
            Nothing of ``output`` is then recorded. Values of small outputs may be told of later, see
            `recorder.capture.layer_recorder`.
        RecordingWriteError
            If writing has failed before.
        """
        with self._lock:
            if self._writer.failure is not None:
                self._writer.raise_failure()
            if self._value_error is not None:
                self._raise_value_error()
            known = self._layers[layer.name]
            if known.forward == self._forward and not self._forward_depth:
                self._pass_boundary()
            if known.forward != self._forward:
                known.forward, known.steps_at_start = self._forward, known.next_step
                self._called += 1
            expected = layer.output
            spikes = layer.pick(output, expected)
            if expected.axes == "N":
                # The first call of a trial notes its labels.
                is_noted = self._trial is None or self._trial.batch > 0
                rows = known.repeat(spikes, self._trial_number) if is_noted else None
                if rows is None:
                    self._record_other(known, layer, spikes, None, len(spikes))
                    return
                if not self._is_dirty:
                    self._mark_dirty()
                if rows:
                    self._put_rows(known.name, *rows)
                if known.is_full:
                    self._settle(known)
                    self._raise_value_error()
            else:
                spikes = layer.steps_first(spikes.detach(), expected)
                self._record_other(known, layer, spikes, *spikes.shape[:2])

    def _record_other(
        self, known: LayerRecorder, layer: SpikingLayer, spikes: torch.Tensor, steps: int | None, batch: int
    ) -> None:
        """Record an output that is not like the one before, or not known to be."""
        self._put_rows(known.name, *known.settle_before(spikes))
        self._note_late_error(known)
        if batch == 0 or steps == 0:
            return
        self._check_trial(known, batch)
        is_new = known.neuron_shape is None
        try:
            rows = known.record(layer, spikes, steps, self._trial_number)
        finally:
            if is_new and known.neuron_shape is not None:
                plan = plan_chunks(known.neuron_shape)
                arguments = known.name, plan, known.dtype, known.layer_class, known.position
                self._writer.put(partial(self._tape.add_layer, *arguments), 0)
        self._note_trial(batch)
        self._mark_dirty()
        self._put_rows(known.name, *rows)
        self._note_late_error(known)

    def _put_rows(self, name: str, *pieces: WholeRows) -> None:
        """Hand rows to the writer, many at a time: each time costs the network a switch of threads."""
        for piece in pieces:
            if piece.nbytes:
                # What has to wait is to take little room.
                rows = pack_whole(piece) if self._writer.is_behind else piece
                self._rows.append((name, rows))
                self._rows_bytes += rows.nbytes
        if self._rows_bytes >= PUT_BYTES:
            self._put_waiting_rows()

    def _put_waiting_rows(self) -> None:
        if self._rows:
            self._writer.wait_for_room(self._rows_bytes)
            rows, size_bytes = self._rows, self._rows_bytes
            self._rows, self._rows_bytes = [], 0
            self._writer.put(partial(_append_all, self._tape, rows), size_bytes)

    def _settle(self, layer: LayerRecorder) -> None:
        """Have all of a layer packed; an error among its values is raised by whoever asks next."""
        self._put_rows(layer.name, *layer.settle())
        self._note_late_error(layer)

    def _note_late_error(self, layer: LayerRecorder) -> None:
        self._value_error = self._value_error or layer.take_late_error()

    def _raise_value_error(self) -> None:
        error, self._value_error = self._value_error, None
        if error is not None:
            raise error

    def _align_steps(self, succeeded: bool) -> None:
        """Let layers that were at the same step before a forward be at the same one after it.

        In a forward that returned, a layer that was not called skips as many steps as the least any other
        made (a layer may be called several times). One that raised is over for all of them together.
        """
        made: dict[int, list[int]] = {}
        steps: dict[LayerRecorder, int] = {}
        for layer in self._layers.values():
            if layer.forward == self._forward and layer.next_step > layer.steps_at_start:
                made.setdefault(layer.steps_at_start, []).append(layer.next_step - layer.steps_at_start)
        for layer in self._layers.values():
            was_called = layer.forward == self._forward and layer.next_step > layer.steps_at_start
            start = layer.steps_at_start if layer.forward == self._forward else layer.next_step
            if start in made and not (was_called and succeeded):
                steps[layer] = start + (min(made[start]) if succeeded else max(made[start]))
        for layer in steps:
            self._settle(layer)
        # Nothing waits from here on: all or none are aligned.
        for layer, next_step in steps.items():
            layer.next_step = next_step

    def _pass_boundary(self) -> None:
        self._forward += 1
        self._called = 0
        if self._is_dirty:
            now = time.monotonic()
            self._pace.end(now)
            if not self._has_logged_plan:
                self._has_logged_plan = True
                _logger.info("recording to %s: %s", self.location, self.plan())
            if now - self._committed_at >= self._commit_interval:
                self._put_commit()

    # -- trials --------------------------------------------------------------------------------------------

    @contextmanager
    def trial(self, columns: Mapping[str, Any]) -> Iterator[None]:
        """Record the steps inside as one trial; ``columns`` holds a value, or one a sample, for each name."""
        with self._lock:
            if self._trial is not None:
                raise RuntimeError(
                    f"trial {self._trial.number} is still open; a trial cannot begin inside another. Leave "
                    "its `with` block first."
                )
            self._trials.check(
                {name: as_values(f"trial(): {name}", given, None) for name, given in columns.items()}
            )
            self._trial = _Trial(self._trials.trials, dict(columns))
            if self._forward_depth == 0:
                self._pass_boundary()
        try:
            yield
        finally:
            with self._lock:
                self._trial = None

    @property
    def _trial_number(self) -> int:
        return NO_TRIAL if self._trial is None else self._trial.number

    def _check_trial(self, layer: LayerRecorder, batch: int) -> None:
        """Raise ValueError if the values of the open trial do not fit the batch."""
        trial = self._trial
        if trial is not None and trial.batch != batch:
            place = f"trial {trial.number}, layer {layer.name!r}, step {layer.next_step}"
            for name, given in trial.columns.items():
                as_values(f"{place}: {name}", given, batch)

    def _note_trial(self, batch: int) -> None:
        """Note that frames of the open trial have come; its labels are then as safe as its frames."""
        trial = self._trial
        if trial is not None and batch > trial.batch:
            trial.batch = batch
            self._trials.trials = trial.number + 1
            columns = {name: as_values(name, given, batch) for name, given in trial.columns.items()}
            self._trials.add(trial.number, batch, columns)

    # -- commits -------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Commit everything recorded so far and wait until that is done.

        Raises
        ------
        RuntimeError
            Inside a forward of the network, where layers have not finished the same steps.
        RecordingWriteError
            If writing has failed.
        """
        if self._is_elsewhere():
            return
        with self._lock:
            self._notice_interrupted_forward()
            if self._forward_depth:
                raise RuntimeError(
                    "this cannot be done inside a forward of the monitored network: layers have not finished "
                    "the same steps. Call it between two forwards."
                )
            if self._is_dirty:
                self._put_commit()
            self._writer.wait()
            self._raise_value_error()

    def totals(self) -> dict[str, tuple[int, Counts]]:
        """Frames, and spikes of each neuron (int64 [neurons]), of each layer recorded so far.

        Without frames of a resumed recording that are marked lost.
        """
        self.refuse_elsewhere()
        with self._lock:
            pending = {name: self._drain(self._layers[name]) for name in self.recorded_layers()}
            self._put_waiting_rows()
            self._writer.wait()
            self._raise_value_error()
            return {
                name: (
                    self._layers[name].segments.frames - self._lost_frames.get(name, 0),
                    self._tape.totals(name) + frames.sum(axis=0, dtype=np.int64),
                )
                for name, frames in pending.items()
            }

    def close(self) -> None:
        """Commit, mark the recording closed and end the background thread. Closing again does nothing.

        Cut short by an exception from outside, such as that of Ctrl-C, it can be called again. In a forked
        child, whose recording it is not, it does nothing.
        """
        if self._is_elsewhere():
            return
        with self._lock:
            if self._closed:
                return
            self._forward_depth = 0
            is_put = False
            try:
                self._writer.wait()
                if self._tape.metadata.state != "closed":
                    self._put_commit(close=True)
                is_put = True
                self._writer.wait()
            except BaseException as error:
                if is_put or isinstance(error, Exception):
                    self._end()
                raise
            self._end()
            self._raise_value_error()

    def _end(self) -> None:
        self._writer.stop()
        self._tape.release()
        self._closed = True

    def _is_elsewhere(self) -> bool:
        """Whether this is a forked child of the process that records; it has no thread that writes."""
        return self._process_id != os.getpid()

    def refuse_elsewhere(self) -> None:
        """Raise RuntimeError in a forked child of the process that records."""
        if self._is_elsewhere():
            raise RuntimeError(
                f"process {self._process_id} records to {self.location}, and this is a forked child of it. "
                "Ask there, or open the recording with analysis.open_recording; to record here, make a "
                "monitor with a store of its own"
            )

    def abandon(self) -> None:
        """End the background thread without another commit.

        Raises
        ------
        RuntimeError
            Inside a trial, whose frames and labels would go separate ways.
        """
        with self._lock:
            if self._trial is not None:
                raise RuntimeError(
                    f"trial {self._trial.number} is still open; reset the recording outside of its "
                    "`with` block"
                )
            self._closed = True
            self._writer.stop()
            self._tape.release()

    def _drain(self, layer: LayerRecorder) -> Bools:
        """Hand a layer's whole rows to the writer; the frames that fill none."""
        self._settle(layer)
        rows, pending = layer.drain()
        self._put_rows(layer.name, rows)
        return pending

    def _put_commit(self, *, close: bool = False) -> None:
        layers = [layer for layer in self._layers.values() if layer.neuron_shape is not None]
        pending = [self._drain(layer) for layer in layers]
        self._put_waiting_rows()
        self._writer.wait_for_room(0)
        # Nothing waits from here on: if Ctrl-C has ended a wait, nothing was taken for the commit yet.
        progress = {}
        for layer, frames in zip(layers, pending, strict=True):
            closed, growing = layer.segments.take()
            row = pack_frames(frames)[0] if len(frames) else None
            progress[layer.name] = LayerProgress(len(frames), row, closed, growing)
        presented, trials = self._trials.take(), self._trials.trials
        self._mark_committed()
        self._writer.put(lambda: self._tape.commit(progress, presented, trials, close=close), 0)

    def _mark_committed(self) -> None:
        self._is_dirty = False
        self._committed_at = time.monotonic()
        self._writer.wake()

    def _mark_dirty(self) -> None:
        if not self._is_dirty:
            self._is_dirty = True
            self._writer.wake()

    def _idle_deadline(self) -> float:
        """When the background thread should commit by itself, as the network has stopped running."""
        if not self._is_dirty:
            return math.inf
        return max(self._committed_at + self._commit_interval, self._idle_retry_at)

    def _commit_when_idle(self) -> None:
        """In the background thread: commit, unless the network is at work; then look again soon."""
        self._idle_retry_at = time.monotonic() + IDLE_RETRY_SECONDS
        # Never wait for the lock here: its holder may be waiting for this thread to make room.
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._notice_interrupted_forward()
            if self._is_dirty and not self._forward_depth:
                self._put_commit()
                self._writer.run_waiting()
        finally:
            self._lock.release()


def _append_all(tape: TapeWriter, rows: list[tuple[str, WholeRows]]) -> None:
    for name, piece in rows:
        tape.append(name, pack_whole(piece))


def _call(reference: weakref.ref[RecordingSession], method: Any) -> Any:
    session = reference()
    return None if session is None else method(session)


def _last_step(segment: Rows) -> int:
    return int(segment[-1, 1] + segment[-1, 2]) if len(segment) else 0
