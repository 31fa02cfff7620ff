"""One recording while it is being made: rows and commits, between the hooks and the tape."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from recorder.background import BackgroundWriter, CommitClock
from recorder.capture import LayerRecorder
from recorder.capture.host_packing import WholeRows
from recorder.format import plan_chunks
from recorder.format.bits import Bools, Counts
from recorder.format.trials import TrialLog
from recorder.frameworks import SpikingLayer
from recorder.layers import CollectedRows, RecordedLayers, take_progress
from recorder.plan import Pace, RecordingPlan, RecordingStats
from recorder.steps import LayerSteps
from recorder.tape import TapeWriter
from recorder.telling import Teller

_logger = logging.getLogger("recorder")


class RecordingSession:
    """Records into one tape until it is closed.

    The thread that runs the network calls `record` for each output of a spiking layer. `Steps` says which
    step it is, `TrialLog` which trial, and the layer's `LayerRecorder` packs it. Rows are collected and
    handed to the background writer, whose thread alone uses the tape.

    A commit covers the same steps of all layers. So it falls on a boundary between forwards: at the first one
    after ``commit_interval`` seconds, or when somebody asks. Where the network has stopped running, the
    background thread commits by itself.

    Parameters
    ----------
    tape : TapeWriter
        New or resumed; used by the background thread alone from here on.
    layers : RecordedLayers
    commit_interval : float
        Seconds after which what was recorded is committed at the next boundary.
    queue_limit_bytes : int
        Bytes that may wait for the disk.
    teller : Teller
        Tells the user of layers that are not called, and of steps that had to be guessed.
    """

    def __init__(
        self,
        tape: TapeWriter,
        layers: RecordedLayers,
        *,
        commit_interval: float,
        queue_limit_bytes: int,
        teller: Teller,
    ) -> None:
        self._tape = tape
        self._queue_limit_bytes = queue_limit_bytes
        self._has_logged_plan = False
        self._lock = threading.RLock()
        self._teller = teller
        self._layers = layers
        self.steps = layers.all_steps
        layers.resume(tape)
        self.stop_layer = self._layers.stop
        self._trials = TrialLog(tape.kept_trials(), tape.ignores_case)
        self._due = CommitClock(commit_interval)
        self._pace = Pace(self.steps.next_step)
        self._closed = False
        reference = weakref.ref(self)
        self._writer = BackgroundWriter(
            queue_limit_bytes,
            on_idle=lambda: _call(reference, RecordingSession._commit_when_idle),
            idle_deadline=self._due.idle_deadline,
        )
        self._rows = CollectedRows(self._writer, tape)

    @property
    def position(self) -> tuple[int, int]:
        """Numbers of the next step and of the next trial."""
        with self._lock:
            return self.steps.next_step, self._trials.trials

    def go_on_at(self, step: int, trial: int) -> None:
        """Let the next step and trial be these, where they would be earlier ones."""
        with self._lock:
            self.steps.go_on_at(step)
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
            pace = self._pace.steps_per_hour(self.steps.next_step)
            return RecordingPlan(self._layers.plans(), self._queue_limit_bytes, self._layers.ring_bytes, pace)

    def stats(self) -> RecordingStats:
        """What the recording has cost so far."""
        self.refuse_elsewhere()
        with self._lock:
            return self._layers.stats(self._tape.metadata.commit_number, self._writer.seconds_waited)

    def recorded_layers(self) -> dict[str, tuple[int, tuple[int, ...], str]]:
        """Frames, neuron shape and dtype of each layer that has frames, in network order."""
        self.refuse_elsewhere()
        with self._lock:
            for layer in self._layers.called:
                self._settle(layer)
            return self._layers.recorded()

    # -- called from hooks, in the thread that runs the network ------------------------------------------

    def begin_forward(self) -> None:
        """Note that a forward of the network begins."""
        with self._lock:
            if self.steps.begin_forward():
                self._pass_boundary()
            self._pace.begin()

    def end_forward(self, *, succeeded: bool) -> None:
        """Note that a forward of the network has ended, by returning or by an exception."""
        with self._lock:
            if self.steps.end_forward(succeeded=succeeded):
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
        LayerError, SpikingLayerError, ValueError
            Nothing of ``output`` is then recorded. Others may be told of later, see `LayerRecorder`.
        RecordingWriteError
            If writing has failed before.
        """
        with self._lock:
            if self._writer.failure is not None or self._layers.late_errors:
                self._writer.raise_failure()
                self._layers.tell_late_errors()
            recorder, steps = self._layers.by_name[layer.name]
            if recorder.is_stopped:
                return
            if self.steps.note_call(steps):
                self._pass_boundary()
            expected = layer.output
            spikes = layer.pick(output, expected)
            if recorder.threshold is not None:
                spikes = recorder.threshold(spikes)
            if not expected.has_steps:
                if not expected.is_ordered:
                    spikes = layer.arrange(spikes.detach(), expected)
                # The first call of a trial notes its labels.
                trials = self._trials
                rows = recorder.repeat(spikes, steps.next_step, trials.number) if trials.is_noted else None
                if rows is None:
                    self._record_other(recorder, steps, layer, spikes, None)
                    return
                steps.next_step += 1
                if not self._due.is_dirty:
                    self._mark_dirty()
                if rows or recorder.is_full:
                    self._take_rows(recorder, rows)
            else:
                spikes = layer.arrange(spikes.detach(), expected)
                self._record_other(recorder, steps, layer, spikes, len(spikes))

    def _take_rows(self, recorder: LayerRecorder, rows: Sequence[WholeRows]) -> None:
        self._rows.put(recorder.name, rows)
        if recorder.is_full:
            self._settle(recorder)
            self._layers.tell_late_errors()

    def _record_other(
        self,
        recorder: LayerRecorder,
        steps: LayerSteps,
        layer: SpikingLayer,
        spikes: torch.Tensor,
        count: int | None,
    ) -> None:
        """Record an output that is not like the one before; ``count`` is None where it has no steps axis."""
        self._rows.put(recorder.name, recorder.settle_before(spikes))
        batch = spikes.shape[0 if count is None else 1]
        if batch == 0 or count == 0:
            self.steps.note_empty()
            return
        self._trials.check_batch(f"layer {recorder.name!r}, step {steps.next_step}", batch)
        self._teller.remarks.look(layer, self._layers.steps, spikes.shape, batch)
        is_new = recorder.neuron_shape is None
        try:
            rows = recorder.record(layer, spikes, steps.next_step, count, self._trials.number)
        finally:
            if is_new and recorder.neuron_shape is not None:
                plan = plan_chunks(recorder.neuron_shape)
                about = recorder.name, plan, recorder.dtype, recorder.layer_class, recorder.position
                self._writer.put(partial(self._tape.add_layer, *about), 0)
        steps.next_step += count or 1
        self._trials.note(batch)
        if not self._due.is_dirty:
            self._mark_dirty()
        self._rows.put(recorder.name, rows)

    def _settle(self, layer: LayerRecorder) -> None:
        """Have all of a layer packed; an error among its values is raised by whoever asks next."""
        self._rows.put(layer.name, layer.settle())

    def _pass_boundary(self) -> None:
        if self.steps.findings:
            self._teller.tell(self.steps.take_findings())
        if self._due.is_dirty:
            self._pace.end()
            if not self._has_logged_plan:
                self._has_logged_plan = True
                _logger.info("recording to %s: %s", self.location, self.plan())
            if self._due.has_come():
                self._put_commit()

    @contextmanager
    def trial(self, columns: Mapping[str, Any]) -> Iterator[None]:
        """Record the steps inside as one trial; see `TrialLog.begin`."""
        self.refuse_elsewhere()
        with self._lock:
            self._trials.begin(columns)
            if self.steps.mark_boundary():
                self._pass_boundary()
        try:
            yield
        finally:
            with self._lock:
                is_boundary = self.steps.mark_boundary()
                self._trials.end()
                if is_boundary:
                    self._pass_boundary()

    def mark_step(self) -> None:
        """Note that the user says that a step is over; errors as in `Steps.mark_step`."""
        with self._lock:
            if self.steps.mark_step():
                self._pass_boundary()

    # -- commits -------------------------------------------------------------------------------------------

    def _notice_interrupted_forward(self) -> None:
        if self.steps.notice_interrupted():
            self._pass_boundary()

    def commit(self) -> None:
        """Commit everything recorded so far and wait until that is done.

        Raises
        ------
        RuntimeError
            Inside a forward of the network, where layers have not finished the same steps.
        RecordingWriteError
            If writing has failed.
        """
        if self.is_elsewhere():
            return
        with self._lock:
            self._notice_interrupted_forward()
            if self.steps.is_in_forward:
                raise RuntimeError(
                    "this cannot be done inside a forward of the monitored network: layers have not finished "
                    "the same steps. Call it between two forwards."
                )
            if self._due.is_dirty:
                self._put_commit()
            self._writer.wait()
            self._layers.tell_late_errors()

    def totals(self) -> dict[str, tuple[int, Counts]]:
        """Frames, and spikes of each neuron (int64 [neurons]), of each layer; without those marked lost."""
        self.refuse_elsewhere()
        with self._lock:
            pending = {
                name: self._drain(self._layers.by_name[name].recorder) for name in self.recorded_layers()
            }
            self._rows.hand_over()
            self._writer.wait()
            self._layers.tell_late_errors()
            return self._layers.totals(self._tape, pending)

    def close(self) -> None:
        """Commit, mark the recording closed and end the background thread. Closing again does nothing.

        Cut short by an exception from outside, such as that of Ctrl-C, it can be called again. In a forked
        child, whose recording it is not, it does nothing.
        """
        if self.is_elsewhere():
            return
        with self._lock:
            if self._closed:
                return
            self.steps.end_all()
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
            self._layers.tell_late_errors()

    def _end(self) -> None:
        self._writer.stop()
        self._tape.release()
        self._closed = True

    def is_elsewhere(self) -> bool:
        """Whether this is a forked child of the process that records; it has no thread that writes."""
        return self._writer.is_elsewhere()

    def refuse_elsewhere(self) -> None:
        """Raise RuntimeError in a forked child of the process that records."""
        self._writer.refuse_elsewhere(self.location)

    def abandon(self) -> None:
        """End the background thread without another commit.

        Raises
        ------
        RuntimeError
            In a forked child, or inside a trial, whose frames and labels would go separate ways.
        """
        self.refuse_elsewhere()
        with self._lock:
            self._trials.refuse_open("reset the recording outside of its `with` block")
            self._closed = True
            self._writer.stop()
            self._tape.release()

    def _drain(self, layer: LayerRecorder) -> Bools:
        """Hand a layer's whole rows to the writer; the frames that fill none."""
        self._settle(layer)
        rows, pending = layer.drain()
        self._rows.put(layer.name, [rows])
        return pending

    def _put_commit(self, *, close: bool = False) -> None:
        pending = {layer: self._drain(layer) for layer in self._layers.called}
        self._rows.hand_over()
        self._writer.wait_for_room(0)
        # Nothing waits from here on: if Ctrl-C has ended a wait, nothing was taken for the commit yet.
        progress = take_progress(pending)
        presented, trials = self._trials.take(), self._trials.trials
        uncalled = self._layers.uncalled()
        self._due.mark_committed()
        self._writer.put(
            lambda: self._tape.commit(progress, presented, trials, uncalled=uncalled, close=close), 0
        )

    def _mark_dirty(self) -> None:
        self._due.is_dirty = True
        self._writer.wake()

    def _commit_when_idle(self) -> None:
        """In the background thread: commit, unless the network is at work; then look again soon."""
        self._due.retry_soon()
        # Never wait for the lock here: its holder may be waiting for this thread to make room.
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._notice_interrupted_forward()
            if self._due.is_dirty and not self.steps.is_in_forward and self.steps.is_complete:
                self._put_commit()
                self._writer.run_waiting()
        finally:
            self._lock.release()


def _call(reference: weakref.ref[RecordingSession], method: Any) -> Any:
    session = reference()
    return None if session is None else method(session)
