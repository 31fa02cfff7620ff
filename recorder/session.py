"""One recording while it is being made: steps, trials and commits, between the hooks and the tape.

The thread that runs the network calls `RecordingSession.record` for each output of a spiking layer. Frames
are packed at once; whole rows go to the background writer. A commit may only fall on a *boundary*, a moment
at which every layer has finished the same steps: the end of a forward of the network, or, where layers are
called on their own, the moment before one of them is called again.

Steps of layers stay aligned: a layer that is left out of a forward, or that a failing forward did not reach,
has no frames at that step, and goes on together with the others at the next one.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from recorder.format.bits import Bools, Counts, Packed, pack_frames
from recorder.format.layout import NO_TRIAL
from recorder.format.metadata import DTYPES, MAX_RANK
from recorder.format.segments import Rows, SegmentLog
from recorder.format.tape import LayerProgress, TapeWriter
from recorder.format.trials import TrialLog, as_values
from recorder.packing import FramePacker, NotSpikesError, flatten_frames, make_packer
from recorder.writer import BackgroundWriter

IDLE_RETRY_SECONDS = 0.05


class SpikeValueError(ValueError):
    """A layer put out values other than 0 and 1."""


class NeuronShapeError(ValueError):
    """A layer put out frames of another shape than before."""


@dataclass
class _Layer:
    """What the session knows of one layer; ``packer`` is made when the first frames come."""

    name: str
    position: int
    layer_class: str
    next_step: int = 0
    steps_at_start: int = 0
    neuron_shape: tuple[int, ...] | None = None
    dtype: str = ""
    packer: FramePacker | None = None
    device: torch.device | None = None
    segments: SegmentLog = field(default_factory=SegmentLog)
    called: bool = False


@dataclass
class _Trial:
    number: int
    columns: dict[str, Any]
    batch: int | None = None


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
        Packed bytes that may wait for the disk.
    running_forwards : callable
        How many forwards of the network are on the stack; asked only where one that has begun was not seen
        to end, as happens when it is interrupted from the keyboard.

    Attributes
    ----------
    process_id : int
        The process that records. A forked child has the session in its memory, but not its thread.
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
        self.process_id = os.getpid()
        self._tape = tape
        self._running_forwards = running_forwards
        self._commit_interval = commit_interval
        self._lock = threading.RLock()
        self._layers: dict[str, _Layer] = {}
        self._trials = TrialLog(tape.metadata.trials)
        self._trial: _Trial | None = None
        self._forward_depth = 0
        self._is_dirty = False
        self._idle_retry_at = 0.0
        self._committed_at = time.monotonic()
        self._closed = False
        for position, (name, layer_class) in enumerate(layer_classes.items()):
            self._layers[name] = _Layer(name, position, layer_class)
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
        for name, (commit, last_segment) in resumed.items():
            layer = self._layers.get(name)
            if layer is None:
                layer = self._layers[name] = _Layer(name, len(self._layers), commit.layer_class)
            layer.neuron_shape, layer.dtype = commit.plan.neuron_shape, commit.dtype
            layer.segments = SegmentLog(last_segment)
            layer.device = torch.device("cpu")
            layer.packer = make_packer(commit.plan.neurons, layer.device, self._tape.pending_frames(name))
            self._tape.place_layer(name, layer.position)
        next_step = max((_last_step(segment) for _, segment in resumed.values()), default=0)
        for layer in self._layers.values():
            layer.next_step = next_step

    @property
    def location(self) -> str:
        """Path or URL of the recording."""
        return self._tape.store.location

    @property
    def tape(self) -> TapeWriter:
        """The tape; to be used only while the writer is waited for."""
        return self._tape

    @property
    def closed(self) -> bool:
        """Whether the session has ended."""
        return self._closed

    @property
    def seconds_waited(self) -> float:
        """How long the network has been held up by the disk altogether."""
        return self._writer.seconds_waited

    def recorded_layers(self) -> dict[str, tuple[int, tuple[int, ...], str]]:
        """Frames, neuron shape and dtype of each layer that has frames, in network order."""
        return {
            layer.name: (layer.segments.frames, layer.neuron_shape, layer.dtype)
            for layer in self._layers.values()
            if layer.neuron_shape is not None and layer.segments.frames
        }

    # -- called from hooks, in the thread that runs the network ------------------------------------------

    def begin_forward(self) -> None:
        """Note that a forward of the network begins."""
        with self._lock:
            self._notice_interrupted_forward(beginning=1)
            if self._forward_depth == 0:
                self._pass_boundary()
            self._forward_depth += 1

    def end_forward(self, *, succeeded: bool) -> None:
        """Note that a forward of the network has ended, by returning or by an exception."""
        with self._lock:
            if self._forward_depth == 0:
                return  # enabled while this forward was running
            self._forward_depth -= 1
            if self._forward_depth == 0:
                self._align_steps(succeeded)
                self._pass_boundary()

    def _notice_interrupted_forward(self, beginning: int = 0) -> None:
        """Find out whether a forward has ended unseen; ``beginning`` ones are not counted yet."""
        if self._forward_depth and self._running_forwards() - beginning < self._forward_depth:
            self._forward_depth = 0
            self._align_steps(succeeded=False)

    def record(self, name: str, spikes: torch.Tensor, hint: str = "") -> None:
        """Record what a layer has put out.

        Parameters
        ----------
        name : str
        spikes : tensor, shape [T, N, *neuron]
            Copied into bits before this returns.
        hint : str
            What is known about layers of this kind that put out other values than 0 and 1, for the error.

        Raises
        ------
        SpikeValueError, NeuronShapeError, ValueError
            Nothing of ``spikes`` is then recorded.
        RecordingWriteError
            If writing has failed before.
        """
        with self._lock:
            layer = self._layers[name]
            if layer.called and self._forward_depth == 0:
                self._pass_boundary()
            steps, batch, *shape = spikes.shape
            if steps * batch == 0:
                return
            packer = self._packer(layer, tuple(shape), spikes)
            self._check_trial(layer, batch)
            try:
                rows = packer.push(flatten_frames(spikes))
            except NotSpikesError as error:
                first, last = layer.next_step, layer.next_step + steps - 1
                where = f"step {first}" if first == last else f"steps {first} to {last}"
                raise SpikeValueError(
                    f"layer {name!r} ({layer.layer_class}) put out {error}, at {where}; spikes are 0 or 1. "
                    f"{hint}{'. ' if hint else ''}"
                    "If this is not a spiking layer, leave it out with layers=..."
                ) from error
            layer.called = True
            layer.segments.extend(layer.next_step, steps, batch, self._note_trial(batch))
            layer.next_step += steps
            self._mark_dirty()
            self._put_rows(name, rows)

    def _packer(self, layer: _Layer, shape: tuple[int, ...], spikes: torch.Tensor) -> FramePacker:
        if layer.packer is None:
            _check_recordable(layer, shape, spikes.dtype)
            layer.device, layer.packer = spikes.device, make_packer(math.prod(shape), spikes.device)
            layer.neuron_shape = shape
            layer.dtype = str(spikes.dtype).removeprefix("torch.")
            name, dtype, layer_class, position = layer.name, layer.dtype, layer.layer_class, layer.position
            self._writer.put(lambda: self._tape.add_layer(name, shape, dtype, layer_class, position), 0)
        elif shape != layer.neuron_shape:
            raise NeuronShapeError(
                f"layer {layer.name!r} put out frames of neuron shape {shape} at step {layer.next_step}, but "
                f"{layer.neuron_shape} before; a recording holds one shape for each layer. Record inputs of "
                "another size into another store."
            )
        elif spikes.device != layer.device:
            pending = self._drain(layer)
            layer.device, layer.packer = spikes.device, make_packer(math.prod(shape), spikes.device, pending)
        return layer.packer

    def _put_rows(self, name: str, rows: Packed) -> None:
        if len(rows):
            tape = self._tape
            self._writer.put(lambda: tape.append(name, rows), rows.nbytes)

    def _align_steps(self, succeeded: bool) -> None:
        """Let layers that were at the same step before a forward be at the same one after it.

        In a forward that returned, a layer that was not called skips as many steps as the least any other
        made (a layer may be called several times). One that raised is over for all of them together.
        """
        made: dict[int, list[int]] = {}
        for layer in self._layers.values():
            steps = layer.next_step - layer.steps_at_start
            if steps:
                made.setdefault(layer.steps_at_start, []).append(steps)
        for layer in self._layers.values():
            steps = layer.next_step - layer.steps_at_start
            others = made.get(layer.steps_at_start)
            if others and (steps == 0 or not succeeded):
                layer.next_step = layer.steps_at_start + (min(others) if succeeded else max(others))

    def _pass_boundary(self) -> None:
        for layer in self._layers.values():
            layer.called = False
            layer.steps_at_start = layer.next_step
        if self._is_dirty and time.monotonic() - self._committed_at >= self._commit_interval:
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
            trial = self._trial = _Trial(self._trials.trials, dict(columns))
            if self._forward_depth == 0:
                self._pass_boundary()
        try:
            yield
        finally:
            with self._lock:
                self._trial = None
                batch = trial.batch
                if batch is not None:
                    self._trials.add(
                        trial.number,
                        batch,
                        {name: as_values(name, given, batch) for name, given in trial.columns.items()},
                    )
                    self._mark_dirty()

    def _check_trial(self, layer: _Layer, batch: int) -> None:
        """Raise ValueError if the values of the open trial do not fit the batch."""
        trial = self._trial
        if trial is not None and trial.batch != batch:
            place = f"trial {trial.number}, layer {layer.name!r}, step {layer.next_step}"
            for name, given in trial.columns.items():
                as_values(f"{place}: {name}", given, batch)

    def _note_trial(self, batch: int) -> int:
        """Number of the open trial, to which frames have just come."""
        trial = self._trial
        if trial is None:
            return NO_TRIAL
        if trial.batch is None:
            self._trials.trials = trial.number + 1
        trial.batch = max(trial.batch or 0, batch)
        return trial.number

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

    def totals(self) -> dict[str, tuple[int, Counts]]:
        """Frames, and spikes of each neuron (int64 [neurons]), of each layer recorded so far."""
        with self._lock:
            pending = {name: self._drain(self._layers[name]) for name in self.recorded_layers()}
            self._writer.wait()
            return {
                name: (
                    self._layers[name].segments.frames,
                    self._tape.totals(name) + frames.sum(axis=0, dtype=np.int64),
                )
                for name, frames in pending.items()
            }

    def close(self) -> None:
        """Commit, mark the recording closed and end the background thread. Closing again does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._forward_depth = 0
            try:
                self._put_commit(close=True)
                self._writer.wait()
            finally:
                self._writer.stop()

    def abandon(self) -> None:
        """End the background thread without another commit."""
        with self._lock:
            self._closed = True
            self._writer.stop()

    def _drain(self, layer: _Layer) -> Bools:
        """Hand a layer's whole rows to the writer; the frames that fill none."""
        if layer.packer is None:
            return np.empty((0, 0), np.bool_)
        rows, pending = layer.packer.drain()
        self._put_rows(layer.name, rows)
        return pending

    def _put_commit(self, *, close: bool = False) -> None:
        progress = self._take_progress()
        presented, trials = self._trials.take(), self._trials.trials
        self._mark_committed()
        self._writer.put(lambda: self._tape.commit(progress, presented, trials, close=close), 0)

    def _take_progress(self) -> dict[str, LayerProgress]:
        progress = {}
        for name, layer in self._layers.items():
            if layer.packer is not None:
                pending = self._drain(layer)
                closed, growing = layer.segments.take()
                row = pack_frames(pending)[0] if len(pending) else None
                progress[name] = LayerProgress(len(pending), row, closed, growing)
        return progress

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


def _check_recordable(layer: _Layer, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if math.prod(shape) < 1 or len(shape) > MAX_RANK:
        raise NeuronShapeError(
            f"layer {layer.name!r} put out frames of neuron shape {shape}; expected at least one neuron, "
            f"along at most {MAX_RANK} axes. Leave the layer out with layers=..."
        )
    if str(dtype).removeprefix("torch.") not in DTYPES:
        raise SpikeValueError(
            f"layer {layer.name!r} put out dtype {dtype}; spikes can be recorded from {', '.join(DTYPES)}"
        )


def _call(reference: weakref.ref[RecordingSession], method: Any) -> Any:
    session = reference()
    return None if session is None else method(session)


def _last_step(segment: Rows) -> int:
    return int(segment[-1, 1] + segment[-1, 2]) if len(segment) else 0
