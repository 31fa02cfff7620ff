"""The newest trials, whole, as bits in memory, until somebody asks for them to be recorded."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import Final

from recorder.capture.held_rows import HeldRows, HeldValues
from recorder.capture.holding_recorder import HoldingRecorder
from recorder.capture.host.host_packing import FullStage
from recorder.format.columns import Attached
from recorder.format.layout import NO_TRIAL
from recorder.format.trials import Presented, TrialLog
from recorder.session.layers import RecordedLayers
from recorder.session.operations import OperationsRecorder
from recorder.session.rows import CollectedRows
from recorder.session.signals import LayerSignals

# Column of the table of trials that says why they were kept.
KEPT_BECAUSE: Final = "kept_because"

_logger = logging.getLogger("recorder")


@dataclass
class _HeldTrial:
    """What is held of one trial; what has been recorded of it since is taken away from here."""

    presented: list[Presented]
    layers: dict[str, HeldRows]
    signals: dict[tuple[str, str], HeldValues]
    operations: HeldValues | None

    @property
    def nbytes(self) -> int:
        values = [*self.signals.values(), *([] if self.operations is None else [self.operations])]
        return sum(rows.nbytes for rows in self.layers.values()) + sum(each.nbytes for each in values)


class HeldTrials:
    """Holds the newest trials, and forgets older ones.

    Layers put out into the recorders of `RecordedLayers.seen`. At the end of a trial all that these have is
    withdrawn and held here. What is to be kept goes from here to the recorders of ``by_name``, and from there
    the way of everything that is recorded.

    Parameters
    ----------
    last_trials : int
        How many are held at most.
    layers : RecordedLayers
    trials : TrialLog
    location : str
        Path or URL of the recording, for messages.

    Attributes
    ----------
    due : str
        Why the open trial, and those before it, are to be kept once it is over; empty if they are not.
    """

    def __init__(self, last_trials: int, layers: RecordedLayers, trials: TrialLog, location: str) -> None:
        self.due = ""
        self._most = last_trials
        self._layers, self._trials, self._location = layers, trials, location
        self._held: deque[_HeldTrial] = deque(maxlen=last_trials)
        self._largest_bytes = 0
        self._has_seen_trial = self._has_told_outside = False

    def __len__(self) -> int:
        return len(self._held)

    @property
    def limit_bytes(self) -> int:
        """Most bytes that trials take, the open one included, if none is larger than the largest so far."""
        return (self._most + 1) * self._largest_bytes

    # -- what layers put out, in the place of `CollectedRows` ----------------------------------------------

    def leaves_out(self, trial: int) -> bool:
        """True if nothing is held of this trial, which then is none; says so in the log, once."""
        if trial != NO_TRIAL:
            return False
        if not self._has_told_outside:
            self._has_told_outside = True
            _logger.warning(
                "%s holds the newest %d trials, and this step is in none: it is left out, as is all that "
                "runs outside of `with monitor.trial():`. It is a gap in the steps of the recording",
                *(self._location, self._most),
            )
        return True

    def take(self, layer: HoldingRecorder) -> None:
        """Pack the whole rows of a layer that has been called, to take little room."""
        for place, piece in enumerate(layer.ready):
            if isinstance(piece, FullStage):
                layer.ready[place] = piece.pack()
                piece.give_back()

    def take_signals(self, _: HoldingRecorder, signals: LayerSignals) -> None:
        """Let values arrive that are on their way from an accelerator."""
        for signal in signals.begun:
            signal.has_ready()

    def take_operations(self, operations: OperationsRecorder | None) -> None:
        """Drop the operations of a forward that was in no trial."""
        if operations is not None and self._trials.number == NO_TRIAL:
            operations.series.settle()
            operations.series.withdraw()

    # -- trials --------------------------------------------------------------------------------------------

    def end_trial(self) -> None:
        """Hold the trial that has ended, and forget the oldest one if there are too many."""
        self._layers.settle()
        layers, signals = {}, {}
        for name, (recorder, _, of_layer) in self._layers.seen.items():
            if (rows := recorder.withdraw()) is not None:
                layers[name] = rows
            for signal in of_layer.begun:
                if (values := signal.withdraw()) is not None:
                    signals[name, signal.name] = values
        operations = self._layers.operations
        counted = operations.series.withdraw() if operations is not None else None
        trial = _HeldTrial(self._trials.withdraw(), layers, signals, counted)
        if trial.presented:
            self._has_seen_trial = True
            self._held.append(trial)
            self._largest_bytes = max(self._largest_bytes, trial.nbytes)

    def keep(self, reason: str, rows: CollectedRows) -> None:
        """Record all trials that are held, and hold none of them any more.

        Cut short, as by Ctrl-C, it goes on where it was when it is called again.
        """
        if not self._has_seen_trial:
            raise RuntimeError(
                "there is no trial to keep: none has ended that the network ran in. The newest trials are "
                "held where it runs inside `with monitor.trial():`"
            )
        while self._held:
            trial = self._held[0]
            while trial.presented:
                number, batch, columns = trial.presented[0]
                self._trials.put_back((number, batch, {**columns, KEPT_BECAUSE: [reason] * batch}))
                del trial.presented[0]
            self._keep_rows(trial, rows)
            self._held.popleft()

    def _keep_rows(self, trial: _HeldTrial, rows: CollectedRows) -> None:
        for name, held in [*trial.layers.items()]:
            recorder = self._layers.by_name[name].recorder
            recorder.begin_like(self._layers.seen[name].recorder)
            while held.calls:
                recorder.put_back(held)
                rows.take(recorder)
            del trial.layers[name]
        for (name, signal), values in [*trial.signals.items()]:
            recorder, _, signals = self._layers.by_name[name]
            recorder.begin_like(self._layers.seen[name].recorder)
            series = next(each for each in signals.recorders if each.name == signal)
            while values.calls:
                series.put_back(values)
                rows.take_signals(recorder, signals)
            del trial.signals[name, signal]
        operations = self._layers.operations
        if operations is not None and trial.operations is not None:
            while trial.operations.calls:
                operations.kept.put_back(trial.operations)
                rows.take_operations(operations)
            trial.operations = None

    def tell_dropped(self) -> None:
        """Say in the log that trials are not written, as nobody has asked for that."""
        if self._held:
            _logger.info(
                "%s is closed without the %d trials held last: monitor.keep(reason), which writes them, was "
                "not called after them",
                *(self._location, len(self._held)),
            )


def reason_of(reason: object) -> str:
    """Check why trials are kept; TypeError or ValueError if it is no text that can be stored."""
    if not isinstance(reason, str):
        raise TypeError(
            f"reason is {reason!r} ({type(reason).__name__}); expected a text, e.g. 'loss is NaN'"
        )
    if not reason.strip():
        raise ValueError("reason is empty; expected a text that says why the trials are kept")
    Attached.read("keep(): reason", reason)
    return reason


def refuse_taken(columns: object) -> None:
    """Raise ValueError if a trial has a column of the name that says why it was kept."""
    if isinstance(columns, dict) and KEPT_BECAUSE in columns:
        raise ValueError(
            f"trial() was given {KEPT_BECAUSE}=, a column that monitor.keep(reason) writes where the newest "
            "trials are held. Choose another name"
        )
