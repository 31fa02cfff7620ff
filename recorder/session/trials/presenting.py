"""The part of a session that is told of trials, and steps: where they begin and end, and which are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recorder.format.layout import NO_TRIAL
from recorder.format.trials import TrialLog
from recorder.session.background import BackgroundWriter
from recorder.session.entrance import Entrance, exclusively
from recorder.session.layers import RecordedLayers
from recorder.session.rows import CollectedRows
from recorder.session.steps import Steps
from recorder.session.trials.held_trials import HeldTrials, reason_of, refuse_taken


class Presenting:
    """Trials of a session; ``held`` are the newest ones, where these wait in memory, else None."""

    entrance: Entrance
    layers: RecordedLayers
    steps: Steps
    trials: TrialLog
    held: HeldTrials | None
    closed: bool
    _rows: CollectedRows
    _writer: BackgroundWriter

    @exclusively
    def begin_trial(self, columns: Mapping[str, Any]) -> None:
        """Record what comes from here on, but no half of a forward, as one trial; see `TrialLog.begin`."""
        self.refuse_in_forward("beginning a trial")
        if self.held is not None:
            refuse_taken(columns)
            # The step before, which may end here, is in no trial.
            if self.steps.mark_boundary():
                self._pass_boundary()
        self.trials.begin(columns)
        if self.steps.mark_boundary():
            self._pass_boundary()

    @exclusively
    def end_trial(self) -> None:
        """End the trial."""
        is_boundary = self.steps.mark_boundary()
        held = None if self.closed else self.held
        if held is not None:
            held.end_trial()
        self.trials.end()
        if is_boundary:
            self._pass_boundary()
        if held is not None and held.due:
            self._keep(held, held.due)

    @exclusively
    def mark_step(self) -> None:
        """Note that the user says that a step is over; errors as in `Steps.mark_step`."""
        if self.steps.mark_step():
            self._pass_boundary()

    @exclusively
    def keep(self, reason: str) -> None:
        """Record the trials that are held, see `Monitor.keep`."""
        reason = reason_of(reason)
        if self.held is None:
            raise RuntimeError(
                "keep() writes trials that wait in memory, and here every trial is recorded as it comes: "
                "there is nothing to keep. Monitor(..., last_trials=N) holds the newest N"
            )
        if self.closed:
            raise RuntimeError(
                "the recording is closed, and trials that were held are gone. Call keep() before close()"
            )
        if self.trials.number != NO_TRIAL:
            self.held.due = reason
            return
        self.refuse_in_forward("keep() outside of a trial")
        self._keep(self.held, reason)

    def _keep(self, held: HeldTrials, reason: str) -> None:
        held.due = ""
        held.keep(reason, self._rows)
        self._put_commit()
        self._writer.wait()
        self.layers.tell_late_errors()

    def close(self) -> None:
        """Close it; never refused."""
        raise NotImplementedError

    def refuse_in_forward(self, what: str) -> None:
        """Raise RuntimeError, which names a call that is refused, while a forward of the network runs."""
        with self.entrance.lock:
            self._notice_interrupted_forward()
            self.steps.refuse_in_forward(what)

    def _notice_interrupted_forward(self) -> None:
        if self.steps.notice_interrupted():
            self._pass_boundary()

    def _pass_boundary(self) -> None:
        raise NotImplementedError

    def _put_commit(self, *, close: bool = False) -> None:
        raise NotImplementedError
