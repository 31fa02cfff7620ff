"""Scalars of a run that goes on, for TensorBoard, W&B or any function.

They come from sums of spikes that the thread that writes has in memory anyway: nothing is read back. In the
thread that runs the network an entry costs what a commit costs there, as rows on their way are handed over.
"""

from __future__ import annotations

import logging
import math
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from recorder.format import LogWriterWarning
from recorder.format.bits import Counts
from recorder.format.planes.values import Pending
from recorder.format.record.pace import PaceCommit
from recorder.plan import Pace
from recorder.session.layers import RecordedLayers
from recorder.session.rows import CollectedRows
from recorder.stores.redaction import without_secrets
from recorder.tape import TapeWriter

Scalars = dict[str, float]
Write = Callable[[int, Scalars], object]
# Frames, and spikes of each neuron, of each layer so far.
Standing = Mapping[str, tuple[int, Counts]]

_PREFIX: Final = "spiketape"


@dataclass(eq=False)
class _Log:
    """One writer, and what it was told last.

    Attributes
    ----------
    name : str
        What errors call it.
    write : callable
    every : int
        Steps from one entry to the next.
    due : int
        Step at which the next entry is due.
    before : mapping, optional
        Frames and spikes at the entry before; None if there was none, and counting begins with the next one.
    pace : PaceCommit
        The pace at the entry before.
    has_failed : bool
    """

    name: str
    write: Write
    every: int
    due: int = 0
    before: Standing | None = None
    pace: PaceCommit = field(default_factory=PaceCommit)
    has_failed: bool = False

    def entry(self, now: Standing, pace: PaceCommit) -> Scalars:
        """Scalars of what came since the entry before; none if there was none."""
        before, pace_before = self.before, self.pace
        self.before, self.pace = now, pace
        if before is None:
            return {}
        scalars: Scalars = {}
        all_spikes = all_slots = 0
        for name, (frames, counts) in now.items():
            frames_before, counts_before = before.get(name, (0, np.zeros_like(counts)))
            new = counts - counts_before
            slots = (frames - frames_before) * new.size
            if slots:
                label = name or "(the network itself)"
                spikes = int(new.sum())
                scalars[f"{_PREFIX}/rate/{label}"] = spikes / slots
                scalars[f"{_PREFIX}/dead/{label}"] = int(np.count_nonzero(new == 0)) / new.size
                all_spikes, all_slots = all_spikes + spikes, all_slots + slots
        if all_slots:
            scalars[f"{_PREFIX}/rate"] = all_spikes / all_slots
        if (seconds := pace.seconds - pace_before.seconds) > 0:
            scalars[f"{_PREFIX}/steps_per_second"] = (pace.steps - pace_before.steps) / seconds
            scalars[f"{_PREFIX}/waited"] = (pace.waited - pace_before.waited) / seconds
        return scalars


class Logbook:
    """The logs of a monitor, for all of its sessions.

    Attributes
    ----------
    due : float
        Step at which the next entry of any log is due; infinity if there is no log.
    """

    def __init__(self) -> None:
        self.due = math.inf
        self._logs: list[_Log] = []
        self._failures: deque[tuple[_Log, str]] = deque()

    def add(self, writer: Any, every: int, step: int) -> None:
        """Add a writer, when ``step`` is the number of the next step; see `Monitor.log_to`."""
        if type(every) is not int or every < 1:
            raise ValueError(f"every is {every!r}; expected a positive whole number of steps")
        log = _Log(type(writer).__name__, _writing_to(writer), every)
        self._begin(log, step)
        self._logs.append(log)
        self.due = min(self.due, log.due)

    def begin(self, step: int) -> None:
        """Note that a session begins whose first step has this number."""
        for log in self._logs:
            self._begin(log, step)
        self._find_due()

    def _find_due(self) -> None:
        self.due = min((log.due for log in self._logs), default=math.inf)

    @staticmethod
    def _begin(log: _Log, step: int) -> None:
        # Behind steps that are there already, the next boundary is where counting begins.
        log.before, log.due = ({}, log.every) if step == 0 else (None, 0)
        log.pace = PaceCommit()

    def put(self, rows: CollectedRows, layers: RecordedLayers, pace: Pace) -> None:
        """Have the thread that writes make the entries that are due, behind all rows."""
        step = layers.all_steps.next_step
        due = [log for log in self._logs if step >= log.due]
        for log in due:
            log.due = (step // log.every + 1) * log.every
        self._find_due()
        pending = rows.drain(layers)
        frames = {layer.name: layer.segments.frames for layer in pending}
        behind = {layer.name: frames for layer, frames in pending.items()}
        so_far = pace.so_far(step, rows.seconds_waited)
        rows.put(lambda tape: self._write(due, step, so_far, _standing(tape, frames, behind)))

    def tell_failures(self) -> None:
        """Warn of writers that have failed since, and write to them no more."""
        while self._failures:
            log, what = self._failures.popleft()
            self._logs = [each for each in self._logs if each is not log]
            self._find_due()
            warnings.warn(
                f"the {log.name} that monitor.log_to was given has failed: {what}. Nothing more is written "
                "to it; every spike is recorded, and the network goes on. Call log_to again once it works",
                LogWriterWarning,
                stacklevel=2,
            )

    def _write(self, logs: list[_Log], step: int, pace: PaceCommit, now: Standing) -> None:
        for log in logs:
            scalars = log.entry(now, pace)
            if scalars and not log.has_failed:
                try:
                    log.write(step, scalars)
                except BaseException as error:  # noqa: BLE001 - nothing that a user's writer does ends the recording
                    last = traceback.extract_tb(error.__traceback__)[-1]
                    where = f"{last.filename}, line {last.lineno}, at step {step}"
                    log.has_failed = True
                    self._failures.append(
                        (log, f"{type(error).__name__}: {without_secrets(error)} ({where})")
                    )


def _standing(tape: TapeWriter, frames: Mapping[str, int], behind: Mapping[str, Pending]) -> Standing:
    return {
        name: (count - tape.lost_frames(name), tape.totals(name) + np.count_nonzero(behind[name], axis=0))
        for name, count in frames.items()
        if count
    }


def _writing_to(writer: Any) -> Write:
    """Function that writes scalars of a step to whatever the user has."""
    if callable(add := getattr(writer, "add_scalar", None)):
        return lambda step, scalars: [add(name, value, step) for name, value in scalars.items()]
    if callable(log := getattr(writer, "log", None)) and not isinstance(writer, logging.Logger):
        if callable(define := getattr(writer, "define_metric", None)):
            # W&B counts its own steps, which are not ours.
            define(f"{_PREFIX}/*", step_metric=f"{_PREFIX}/step")
        return lambda step, scalars: log({f"{_PREFIX}/step": step, **scalars})
    if callable(writer):
        return writer  # type: ignore[no-any-return]  # a user's
    raise TypeError(
        f"writer is {writer!r} ({type(writer).__name__}); expected a SummaryWriter of TensorBoard, a run of "
        "W&B, or a function (step, scalars)"
    )
