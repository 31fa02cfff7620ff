"""The short way of forwards and calls that are like those before them, as nearly all are.

A small layer that is called a million times would spend its time on the way from hook to recorder. So nothing
is done again that can be seen to be as it was: an output is copied, and some numbers change. Whoever asks
next works through all that has come since (`LayerRecorder.settle`). What is new in any way goes the long way,
by `RecordingSession`; so does what is done once in a while only.

**No lock is held here.** Other threads, signal handlers and Ctrl-C come in between where something is called
or repeated, and nowhere else, as Python runs one thread at a time. So each method first does what takes
calls, which counts for nothing yet. Then it looks whether all is as expected, and from there to the last of
its changes nothing is called. Who is inside the session has said so before (`Entrance.inside`), so that this
look sees it.
"""

from __future__ import annotations

import sys
import threading
import time

import torch

from recorder.format.trials import OpenTrial, TrialLog
from recorder.frameworks import SpikeOutput, SpikingLayer
from recorder.plan import Pace
from recorder.session.background import BackgroundWriter, CommitClock
from recorder.session.entrance import Entrance
from recorder.session.layers import RecordedLayers
from recorder.session.logbook import Logbook
from recorder.session.steps import Steps

# Where Python runs several threads at a time, everything goes the long way.
_IS_ONE_THREAD_AT_A_TIME = getattr(sys, "_is_gil_enabled", lambda: True)()


class Repeating:
    """Begins and ends forwards of a session that are like those before; `of` does so for calls of layers.

    Parameters
    ----------
    entrance, layers, trials, due, writer, pace, logbook
        Parts of the session.
    is_on : bool
        Whether anything may go the short way.

    Attributes
    ----------
    is_on : bool
        False, too, once the session has ended.
    """

    def __init__(
        self,
        entrance: Entrance,
        layers: RecordedLayers,
        trials: TrialLog,
        due: CommitClock,
        writer: BackgroundWriter,
        pace: Pace,
        logbook: Logbook,
        *,
        is_on: bool,
    ) -> None:
        self.entrance, self.layers, self.trials, self.due, self.writer = entrance, layers, trials, due, writer
        self.steps: Steps = layers.all_steps
        self.is_on = is_on and _IS_ONE_THREAD_AT_A_TIME
        self._pace, self._logbook = pace, logbook
        # The open trial when a forward began the long way, where it is asked whose trial that is.
        self._trial: OpenTrial | None = None

    def note_begin(self) -> None:
        """Note that a forward has begun the long way."""
        trial = self.trials.open_trial
        # Which task of asyncio it is is asked each time.
        self._trial = trial if trial is None or trial.task is None else None

    def begin(self) -> bool:
        """Note that a forward begins; False if it has to go the long way, and nothing is noted."""
        thread, steps = threading.get_ident(), self.steps
        if (
            not self.is_on
            or self.entrance.inside
            or steps.thread != thread
            or steps.depth
            or steps.called
            or self.trials.open_trial is not self._trial
        ):
            return False
        steps.depth = 1
        return True

    def end(self) -> bool:
        """Note that a forward has returned; False if it has to go the long way, and nothing is noted."""
        now, steps, due = time.monotonic(), self.steps, self.due
        count, step, is_uneven = len(steps.layers), steps.layers[0].next_step, steps.is_uneven()
        if (
            is_uneven
            or not self.is_on
            or self.entrance.inside
            or steps.depth != 1
            or steps.called != count
            or steps.has_empty
            or steps.newest < 0
            or step >= self._logbook.due
            or not due.is_dirty
            or now >= due.comes_at
        ):
            return False
        steps.depth = steps.called = 0
        steps.newest = steps.forward
        steps.forward += 1
        self._pace.ended_at = now
        return True

    def of(self, layer: SpikingLayer) -> RepeatedCalls | None:
        """Calls of a layer; None if they all go the long way, as more is to be done than to copy."""
        recorder, _, signals = self.layers.seen[layer.name]
        expected = layer.output
        is_plain = expected.item in (None, "first") and not expected.has_steps and expected.is_ordered
        if not self.is_on or not is_plain or signals or recorder.keeping or recorder.threshold:
            return None
        return RepeatedCalls(self, layer, expected)


class RepeatedCalls:
    """Calls of one layer, of which those go the short way whose outputs are gathered, see `Alike`."""

    def __init__(self, repeating: Repeating, layer: SpikingLayer, expected: SpikeOutput) -> None:
        # What every call looks at is kept at hand: a way of two names costs twice as much as one of one.
        self._repeating, self._steps, self._late = repeating, repeating.steps, repeating.layers.late_errors
        self._entrance, self._trials = repeating.entrance, repeating.trials
        self._due, self._writer = repeating.due, repeating.writer
        self._recorder, self._step, _ = repeating.layers.seen[layer.name]
        self._expected = expected
        # Layouts that follow settings of the module are asked for at each call.
        self._layout = None if isinstance(layer.layout, SpikeOutput) else layer.layout
        self._module = layer.module

    def take(self, output: object) -> bool:
        """Record an output; False if it has to go the long way, and nothing is recorded."""
        recorder, step, steps = self._recorder, self._step, self._steps
        alike, thread = recorder.alike, threading.get_ident()
        if type(output) is tuple and output and self._expected.item == "first":
            output = output[0]
        if alike is None or alike.gathered is None or type(output) is not torch.Tensor:
            return False
        if self._layout is not None and self._layout(self._module) is not self._expected:
            return False
        try:
            # Twice as fast as torch's own copy, for so little.
            values = (output.detach() if output.requires_grad else output).numpy()
        except (RuntimeError, TypeError):  # on a device, or otherwise strange
            return False
        call, gathered = alike.calls, alike.gathered
        # The last one goes the long way, on which all that was gathered is packed.
        if call + 1 >= alike.limit or values.shape != alike.shape or values.dtype is not gathered.dtype:
            return False
        gathered[call] = values
        if (
            not self._repeating.is_on
            or self._entrance.inside
            or steps.depth == 0
            or steps.thread != thread
            or recorder.alike is not alike
            or recorder.is_stopped
            or alike.calls != call
            or alike.next_step != step.next_step
            or alike.trial != self._trials.number
            or not self._due.is_dirty
            or self._writer.failure is not None
            or self._late
        ):
            return False
        if step.forward != steps.forward:
            step.forward, step.start = steps.forward, step.next_step
            steps.called += 1
        alike.calls = call + 1
        step.next_step += 1
        alike.next_step = step.next_step
        return True
