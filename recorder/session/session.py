"""One recording while it is being made: rows and commits, between the hooks and the tape."""

from __future__ import annotations

import weakref
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from recorder.capture.holding_recorder import HoldingRecorder
from recorder.format import RecordingMetadata
from recorder.format.bits import Counts
from recorder.format.errors import UNFINISHED_RESET
from recorder.format.trials import TrialLog
from recorder.frameworks import SpikingLayer
from recorder.plan import Pace, RecordingPlan, RecordingStats
from recorder.session.background import BackgroundWriter, CommitClock, call_if_there
from recorder.session.entrance import Entrance, exclusively
from recorder.session.layers import RecordedLayers, progress_of, recorded_in, totals_of
from recorder.session.logbook import Logbook
from recorder.session.repeating import Repeating
from recorder.session.rows import CollectedRows
from recorder.session.signals import NO_SIGNALS, Forward
from recorder.session.steps import LayerSteps
from recorder.session.telling import Teller
from recorder.session.trials.held_trials import HeldTrials
from recorder.session.trials.presenting import Presenting
from recorder.tape import TapeReader, TapeWriter


class RecordingSession(Presenting):
    """Records into one tape until it is closed.

    The thread that runs the network calls `record` for each output of a spiking layer. `Steps` says which
    step it is, `TrialLog` which trial, and the layer's `LayerRecorder` packs it. Rows are collected and
    handed to the background writer, whose thread alone uses the tape.

    A commit covers the same steps of all layers. So it falls on a boundary between forwards: at the first one
    after ``commit_interval`` seconds, or when somebody asks. Where the network has stopped running, the
    background thread commits by itself.

    A forward is a unit: what would cut one in two is refused while it runs. Only `close` is not. It leaves
    out what a forward has put out that has not ended.

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
    logbook : Logbook
    last_trials : int, optional
        How many trials wait in memory, for somebody to keep them; None if all that comes is recorded.

    Attributes
    ----------
    steps : Steps
    trials : TrialLog
    closed : bool
        True once the session has ended.
    repeating : Repeating
        The short way of what is as it was before.
    """

    def __init__(
        self,
        tape: TapeWriter,
        layers: RecordedLayers,
        *,
        commit_interval: float,
        queue_limit_bytes: int,
        teller: Teller,
        logbook: Logbook,
        last_trials: int | None = None,
    ) -> None:
        self._tape, self._queue_limit_bytes = tape, queue_limit_bytes
        self._has_told_plan = False
        self.entrance = Entrance(tape.store.location)
        self._teller = teller
        self.layers = layers
        self.steps = layers.all_steps
        layers.resume(tape)
        self.stop_layer = self.layers.stop
        self.trials = TrialLog(tape.kept_trials(), tape.ignores_case, holds=last_trials is not None)
        self.held: HeldTrials | None = None
        if last_trials is not None:
            self.held = HeldTrials(last_trials, layers, self.trials, tape.store.location)
        self._due = CommitClock(commit_interval)
        self._pace = Pace(self.steps.next_step)
        self.closed = self._is_close_put = False
        # Of layers that were called in a forward that `close` has cut short, the step it began with.
        self._cut_short: dict[str, int] = {}
        reference = weakref.ref(self)
        self._writer = BackgroundWriter(
            queue_limit_bytes,
            on_idle=lambda: call_if_there(reference, RecordingSession._commit_when_idle),
            idle_deadline=self._due.idle_deadline,
        )
        self._rows = CollectedRows(self._writer, tape, layers.steps)
        self._taking = self._rows if self.held is None else self.held
        self._logbook = logbook
        logbook.begin(self.steps.next_step)
        parts = self.entrance, layers, self.trials, self._due, self._writer, self._pace, logbook
        self.repeating = Repeating(*parts, is_on=self.held is None and layers.operations is None)

    @property
    def metadata(self) -> RecordingMetadata:
        """The last commit record that was written."""
        return self._tape.metadata

    def plan(self) -> RecordingPlan:
        """Costs of the recording, as far as its layers have been called."""
        self.entrance.refuse_elsewhere()
        plan = self.layers.plan(self._queue_limit_bytes, self._pace.steps_per_hour(self.steps.next_step))
        return plan if self.held is None else replace(plan, held_bytes=self.held.limit_bytes)

    def stats(self) -> RecordingStats:
        """Costs of the recording so far."""
        self.entrance.refuse_elsewhere()
        with self.entrance.lock:
            return self.layers.stats(self._tape, self._writer.seconds_waited)

    @exclusively
    def recorded_layers(self) -> dict[str, tuple[int, tuple[int, ...], str]]:
        """Frames, neuron shape and dtype of each layer that has frames, in network order."""
        if self.closed:
            return recorded_in(self.metadata)
        self.layers.settle()
        return self.layers.recorded()

    # -- called from hooks, in the thread that runs the network ------------------------------------------

    @exclusively
    def begin_forward(self) -> None:
        """Note that a forward of the network begins; raises RuntimeError where another thread may not."""
        if self.closed:
            return
        self.trials.refuse_other_thread()
        if self.steps.begin_forward():
            self._pass_boundary()
        self._pace.begin()
        self.repeating.note_begin()

    def end_forward(self, *, succeeded: bool) -> None:
        """Note that a forward of the network has ended, by returning or by an exception."""
        with self.entrance.lock:
            # If this interrupts another call, the forward was refused when it began.
            if not self.entrance.inside and not self.closed:
                self._end_forward(succeeded)

    @exclusively
    def _end_forward(self, succeeded: bool) -> None:
        if self.steps.end_forward(succeeded=succeeded):
            self._pass_boundary()

    @exclusively
    def record(  # noqa: C901 - one piece, as each call more costs the network at each output
        self, layer: SpikingLayer, output: object, inputs: tuple[Any, ...] = ()
    ) -> None:
        """Record what a layer's module has returned, given ``inputs``; it is copied before this returns.

        Raises
        ------
        LayerError, SpikingLayerError, ValueError
            Nothing of ``output`` is then recorded. Others may be told of later, see `LayerRecorder`.
        SignalError
            Its spikes are recorded, and a signal is not.
        RecordingWriteError
            If writing has failed before.
        """
        if self._writer.failure is not None or self.layers.late_errors:
            self._writer.raise_failure()
            self.layers.tell_late_errors()
        recorder, steps, signals = self.layers.seen[layer.name]
        # Another thread may have closed the recording in the middle of a forward.
        if recorder.is_stopped or self.closed:
            return
        if self.steps.note_call(steps):
            self._pass_boundary()
            self.trials.refuse_other_thread()
        expected, first_step = layer.output, steps.next_step
        spikes = layer.pick(output, expected)
        if recorder.threshold is not None:
            spikes = recorder.threshold(spikes)
        if expected.has_steps or not expected.is_ordered:
            spikes = layer.arrange(spikes.detach(), expected)
        trials, keeping = self.trials, recorder.keeping
        place = 1 + expected.has_steps, first_step, trials.number
        kept = spikes if keeping is None else keeping.cut(spikes, *place)
        if self.held is not None and self.held.leaves_out(trials.number):
            kept = None
        if expected.has_steps:
            self._record_other(recorder, steps, layer, spikes, kept, len(spikes))
        # The first call of a trial notes its labels.
        elif trials.is_noted and recorder.repeat(kept, steps.next_step, trials.number):
            steps.next_step += 1
            if not self._due.is_dirty:
                self._mark_dirty()
            if recorder.is_due:
                self._take(recorder)
        else:
            self._record_other(recorder, steps, layer, spikes, kept, None)
        signals = signals if kept is not None else NO_SIGNALS
        if (signals or self.layers.operations) and not self.closed:  # a handler may have closed meanwhile
            made, batch = steps.next_step - first_step, spikes.shape[expected.has_steps]
            forward = Forward(layer, inputs, output, expected, first_step, made, batch, self.trials.number)
            self.layers.see_beside(signals, forward)
            self._taking.take_signals(recorder, signals)

    def _take(self, recorder: HoldingRecorder) -> None:
        if recorder.is_full:
            recorder.settle()
            self.layers.tell_late_errors()
        self._taking.take(recorder)

    def _record_other(
        self,
        recorder: HoldingRecorder,
        steps: LayerSteps,
        layer: SpikingLayer,
        spikes: torch.Tensor,
        kept: torch.Tensor | None,
        count: int | None,
    ) -> None:
        """Record what is ``kept``, or nothing, of an output, with ``count`` steps or no axis of them."""
        recorder.settle_before(spikes)
        if recorder.ready:
            self._taking.take(recorder)
        batch = spikes.shape[0 if count is None else 1]
        if batch == 0 or count == 0:
            self.steps.note_empty()
            return
        self.trials.check_batch(f"layer {recorder.name!r}, step {steps.next_step}", batch)
        self._teller.remarks.look(layer, self.layers.steps, spikes.shape, batch)
        take_back = self.trials.note(batch)
        try:
            if kept is not None:
                recorder.record(layer, kept, steps.next_step, count, self.trials.number)
        except BaseException as error:
            if isinstance(error, Exception):
                take_back()
            # Ctrl-C, or another exception from outside, may come when the frames are there.
            steps.next_step = max(steps.next_step, recorder.last_step)
            raise
        steps.next_step += count or 1
        if not self._due.is_dirty:
            self._mark_dirty()
        # Of a layer of which nothing was kept so far, the shape of what is kept is not known.
        if kept is not None:
            self._taking.take(recorder)

    def _pass_boundary(self) -> None:
        self._logbook.tell_failures()
        if self.steps.findings:
            self._teller.tell(self.steps.take_findings())
        self._taking.take_operations(self.layers.operations)
        if self._due.is_dirty:
            self._pace.end()
            if self.steps.next_step >= self._logbook.due:
                self._logbook.put(self._rows, self.layers, self._pace)
            is_due = self._due.has_come()
            # What trials take that are held is known behind the first one.
            is_planned = self.held is None or len(self.held) > 0
            if is_due or (is_planned and not self._has_told_plan):
                self._has_told_plan = True
                self._teller.remarks.tell_plan(self.entrance.location, self.plan())
            if is_due:
                self._put_commit()

    # -- commits -------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Commit everything recorded so far and wait until that is done.

        It raises RuntimeError inside a forward of the network, and RecordingWriteError if writing has failed.
        """
        if not self.entrance.is_elsewhere:
            self._commit()

    @exclusively
    def _commit(self) -> None:
        self.refuse_in_forward("this")
        if self._due.is_dirty:
            self._put_commit()
        self._writer.wait()
        self.layers.tell_late_errors()
        self._logbook.tell_failures()

    @exclusively
    def totals(self) -> dict[str, tuple[int, Counts]]:
        """Frames, and spikes of each neuron (int64 [neurons]), of each layer; without those marked lost."""
        self.layers.settle()
        if self.closed:
            self._writer.raise_failure()
            layers = TapeReader(self._tape.store, self.metadata).layers
            return {name: layer.totals() for name, layer in layers.items()}
        pending = self._rows.drain(self.layers)
        self._writer.wait()
        self.layers.tell_late_errors()
        return totals_of(self._tape, pending)

    def close(self) -> None:
        """Commit, mark the recording closed and end the background thread. Closing again does nothing.

        A forward that has not ended is left out. So a signal handler may close in the middle of another call,
        unless layers are on an accelerator: then the recording is closed when that call ends. Cut short by
        Ctrl-C or for want of memory, it can be called again. In a forked child it does nothing.
        """
        if self.entrance.is_elsewhere:
            return
        entrance = self.entrance
        with entrance.lock:
            interrupted, entrance.inside = entrance.inside, "close"
            try:
                is_keeping = self.held is not None and interrupted in ("keep", "end_trial")
                if not self.closed and interrupted and (is_keeping or self.layers.are_on_device):
                    entrance.is_close_due = True
                elif not self.closed:
                    self._close(is_in_step=interrupted == "record")
            finally:
                entrance.inside = interrupted

    def _close(self, *, is_in_step: bool) -> None:
        self.steps.notice_interrupted()
        self._cut_short |= self.steps.end_all(is_in_step=is_in_step)
        try:
            if not self._is_close_put:
                self._writer.wait()
                self._put_commit(close=True)
                self._is_close_put = True
            self._writer.wait()
        except BaseException as error:
            # For want of memory, what waits to be packed still does, as after Ctrl-C.
            if self._is_close_put or (isinstance(error, Exception) and not isinstance(error, MemoryError)):
                self._end()
            raise
        self._end()
        if self.held is not None:
            self.held.tell_dropped()
        self.layers.tell_late_errors()
        self._logbook.tell_failures()

    def _end(self, because: str = "") -> None:
        self.closed, self.repeating.is_on = True, False
        self._writer.stop(because)
        self._tape.release()

    @exclusively
    def abandon(self) -> None:
        """End the background thread without another commit; outputs that come later are refused.

        It raises RuntimeError in a forked child, inside a forward, and inside a trial, whose frames and
        labels would go separate ways.
        """
        self.trials.refuse_open("reset the recording outside of its `with` block")
        self.steps.refuse_in_forward("reset()")
        self._end(because=UNFINISHED_RESET)

    def _put_commit(self, *, close: bool = False) -> None:
        pending = self._rows.drain(self.layers)
        self._writer.wait_for_room(0)
        progress, presented = progress_of(pending, self.layers), self.trials.look()
        pace = self._pace.so_far(self.steps.next_step, self._writer.seconds_waited)
        beside = {"pace": pace, **self.layers.beside(self._cut_short)}
        commit = partial(self._tape.commit, progress, presented, self.trials.trials, close=close, **beside)
        self._writer.put(commit, 0)
        # If Ctrl-C comes before this, the next commit has the same segments and trials again, and skips them.
        self._due.mark_committed()
        for layer in pending:
            self.layers.forget(layer.name, progress[layer.name])
        self.layers.forget_operations(beside)
        self.trials.forget(len(presented))

    def _mark_dirty(self) -> None:
        self._due.is_dirty = True
        self._writer.wake()

    def _commit_when_idle(self) -> None:
        """In the background thread: commit, unless the network is at work; then look again soon."""
        self._due.retry_soon()
        # Never wait for the lock here: its holder may be waiting for this thread to make room.
        if not self.entrance.lock.acquire(blocking=False):
            return
        try:
            self._commit_boundary()
        finally:
            self.entrance.lock.release()

    @exclusively
    def _commit_boundary(self) -> None:
        self._notice_interrupted_forward()
        if self._due.is_dirty and not self.steps.is_in_forward and self.steps.is_complete:
            self._put_commit()
            self._writer.run_waiting()
