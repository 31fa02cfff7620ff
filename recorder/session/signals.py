"""The signals of a recording while it is being made, beside the spikes of their layers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from recorder.capture.device.transfer import TransferRings
from recorder.capture.signal_recorder import SignalRecorder, Values
from recorder.capture.signals import SignalError, Signals
from recorder.format import LayerCommit, RecordingStoppedWarning
from recorder.format.segments import SegmentLog
from recorder.frameworks import SpikingLayer
from recorder.frameworks.outputs import SpikeOutput
from recorder.plan import SignalPlan
from recorder.tape.layers.signal_writing import SignalProgress


class SignalPiece(NamedTuple):
    """Values of a signal on the way to the tape.

    Attributes
    ----------
    layer : str or None
        None for operations, which are of no layer.
    signal : str
    values : array, shape [frames, neurons]
    """

    layer: str | None
    signal: str
    values: Values

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the values take."""
        return self.values.nbytes


class Forward(NamedTuple):
    """A forward of a layer's module whose spikes have been recorded.

    Attributes
    ----------
    layer : SpikingLayer
    inputs : tuple
    output : object
    expected : SpikeOutput
        The layout of the output at this call.
    first_step, steps, batch, trial : int
    """

    layer: SpikingLayer
    inputs: tuple[object, ...]
    output: object
    expected: SpikeOutput
    first_step: int
    steps: int
    batch: int
    trial: int


class LayerSignals:
    """The signals of one layer; empty for nearly all.

    Parameters
    ----------
    recorders : sequence of SignalRecorder
    stops_bad : bool
        Whether a signal that cannot be recorded is stopped with a warning, instead of being an error.
    """

    def __init__(self, recorders: Sequence[SignalRecorder] = (), *, stops_bad: bool = False) -> None:
        self.recorders = list(recorders)
        self._stops_bad = stops_bad

    @classmethod
    def of(cls, name: str, chosen: Signals, rings: TransferRings, *, stops_bad: bool) -> LayerSignals:
        """The signals that a user has chosen for a layer."""
        recorders = [SignalRecorder(name, signal, rings) for signal in chosen.get(name, ())]
        return cls(recorders, stops_bad=stops_bad)

    def __bool__(self) -> bool:
        return bool(self.recorders)

    def resume(self, commit: LayerCommit, last_segments: Mapping[str, SegmentLog]) -> None:
        """Go on behind what a resumed tape holds of these signals; other ones stay as they are."""
        known = {signal.name: signal for signal in commit.signals}
        for recorder in self.recorders:
            if recorder.name in known:
                recorder.resume(known[recorder.name], last_segments[recorder.name])

    def record(self, forward: Forward) -> None:
        """Record the values of each signal after a forward; SignalError if they cannot be recorded."""
        for recorder in self.recorders:
            if recorder.is_stopped or forward.steps == 0:
                continue
            try:
                recorder.record(*forward)
            except SignalError as error:
                if not self._stops_bad:
                    raise
                recorder.is_stopped = True
                warnings.warn(
                    f"{error}. This signal is not recorded any more; what was recorded of it stays, and the "
                    "spikes, other signals and the network go on.",
                    RecordingStoppedWarning,
                    stacklevel=2,
                )

    def settle(self) -> None:
        """Have all values ready to be taken."""
        for recorder in self.recorders:
            recorder.settle()

    @property
    def begun(self) -> list[SignalRecorder]:
        """Recorders of the signals that have values."""
        return [recorder for recorder in self.recorders if recorder.about is not None]

    def progress(self) -> dict[str, SignalProgress]:
        """Progress of each signal for a commit; all must be settled."""
        return {recorder.name: SignalProgress(*recorder.segments.look()) for recorder in self.begun}

    def forget(self, progress: Mapping[str, SignalProgress]) -> None:
        """Forget finished segments that a commit has."""
        for recorder in self.begun:
            if recorder.name in progress:
                recorder.segments.forget(len(progress[recorder.name].closed_segments))

    def frames_before(self, step: int) -> dict[str, int]:
        """Numbers of frames that signals have before a step, where they have any from there on."""
        frames = {recorder.name: recorder.segments.frame_at(step) for recorder in self.begun}
        return {
            recorder.name: frames[recorder.name]
            for recorder in self.begun
            if frames[recorder.name] < recorder.segments.frames
        }

    def plans(self) -> list[SignalPlan]:
        """Costs of each signal that has values."""
        return [plan for recorder in self.recorders if (plan := plan_of(recorder)) is not None]


def plan_of(recorder: SignalRecorder) -> SignalPlan | None:
    """Costs of a series; None before it has values."""
    about = recorder.about
    if about is None:
        return None
    return SignalPlan(
        layer=recorder.layer,
        name=recorder.name,
        frames_per_step=min(recorder.first_batch, recorder.signal.samples or recorder.first_batch),
        every=recorder.signal.every,
        chunks=about.plan,
        itemsize=about.itemsize,
        stage_bytes=recorder.stage_bytes,
        device_bytes=recorder.device_bytes,
    )


# Of a layer whose trial is left out.
NO_SIGNALS: Final = LayerSignals()
