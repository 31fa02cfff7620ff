"""Answer from what a monitor has recorded, in the form in which SpikingJelly's monitor answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import torch

from recorder.format import RecordingWriteError
from recorder.format.bits import Counts
from recorder.frameworks import SpikingLayer
from recorder.hooks import NetworkHooks, SessionLink
from recorder.plan import RecordingPlan, RecordingStats
from recorder.session import RecordingSession
from recorder.session.logbook import Logbook
from recorder.spike_sequence import (
    SpikeMapping,
    as_answer,
    firing_rate,
    refuse_nothing,
    refuse_unknown,
    silent_ratio,
    to_numpy,
    to_tensor,
)
from recorder.stores import ByteStore
from recorder.tape import TapeReader
from recorder.tape.layers.levels import sum_values

Backend = Literal["numpy", "torch"]


class Answers:
    """The part of a monitor that marks trials, commits what was recorded, and answers from it.

    Where trials are held, see `keep`, answers are about those that were kept.

    Rates are pooled: all spikes ÷ all slots, summed as integers and divided once. Silent ratios are neurons
    that never fired in any frame ÷ neurons. Both as in SpikingJelly's ``clock_driven.monitor.Monitor``.
    """

    _session: RecordingSession
    _logbook: Logbook
    _hooks: NetworkHooks
    _link: SessionLink
    _store: ByteStore
    _layers: Mapping[str, SpikingLayer]
    _backend: Backend
    _device: torch.device

    def trial(self, /, label: Any = None, **attached: Any) -> AbstractContextManager[None]:
        """Mark the steps inside a ``with`` block as one trial.

        Parameters
        ----------
        label : scalar, sequence or array, optional
            The label of each sample of the batch, or a single one for all: text, number or boolean. None, NaN
            and pandas' NA are missing. ``True``, ``1``, ``1.0`` and ``"1"`` are four labels.
        **attached
            More columns for the table of trials, given likewise, e.g. ``epoch=3``. They may have any name;
            ``trial`` and ``sample``, which every recording has, become ``trial_trial`` and ``trial_sample``.

        Raises
        ------
        RuntimeError
            If a trial is open already, a forward of the network is running, or another thread than that which
            has opened it runs the network.
        ValueError
            At the first layer called, if there are not as many values as samples. If a name or a value is
            too long or holds half a character, or an infinity is among categories.
        TypeError
            If values are of a type that cannot be stored, or differ in kind from earlier ones.
        """
        return self._trial(attached if label is None else {"label": label, **attached})

    @contextmanager
    def _trial(self, columns: Mapping[str, Any]) -> Iterator[None]:
        session = self._session
        session.begin_trial(columns)
        try:
            yield
        finally:
            try:
                session.end_trial()
            except RecordingWriteError as failure:
                self._link.stop(failure)

    def keep(self, reason: str) -> None:
        """Write the trials that are held, see ``last_trials``, and return when they are safe.

        They are written as they were recorded, with their labels, signals, numbers and steps. What is not
        written is a gap in steps and trials. The table of trials has a column ``kept_because`` with the
        reason. Called again, it writes the trials that have come since, up to ``last_trials`` of them;
        if none has come, nothing.

        Inside a trial it returns at once, and the trials are written when that one ends, which is then the
        newest of them, also where its ``with`` block is left by an exception. The last reason counts.

        Parameters
        ----------
        reason : str
            Why, for whoever reads the recording: ``"loss is NaN"``.

        Raises
        ------
        RuntimeError
            If no trial has come so far, if the recording is closed, without ``last_trials``, and inside a
            forward that is in no trial.
        TypeError, ValueError
            If ``reason`` is no text, or one that cannot be stored.
        RecordingWriteError
            If they cannot be written.
        """
        try:
            self._session.keep(reason)
        except RecordingWriteError as failure:
            self._link.stop(failure)

    def flush(self) -> None:
        """Commit everything recorded so far, and return when it is safe."""
        if not self._session.closed:
            try:
                self._session.commit()
            except RecordingWriteError as failure:
                self._link.stop(failure)

    def log_to(self, writer: Any, *, every: int = 1000) -> None:
        """Write scalars about each ``every`` steps while they are recorded; nothing is read back for that.

        These are, of the steps since the entry before: ``spiketape/rate``, spikes per neuron and frame over
        all layers, and ``spiketape/rate/<layer>``; ``spiketape/dead/<layer>``, the share of neurons that did
        not fire once; ``spiketape/steps_per_second``; and ``spiketape/waited``, the share of time for which
        the network waited for the writer. What has no frames in these steps is left out. Counting begins with
        the first step, or, where steps have been recorded already, behind the next one.

        They are written in the thread that writes spikes, in the order of steps; all that are due have been
        written when `flush` or `close` returns, so close the writer behind the monitor. A writer that takes
        long holds up writing. It must not use the monitor. If it raises an exception, that is warned of, it
        is not written to any more, and no spike is lost.

        Parameters
        ----------
        writer : SummaryWriter, W&B run, or callable
            What has ``add_scalar``, as TensorBoard's ``SummaryWriter``; what has ``log``, as a run of W&B,
            which is given a dict with ``spiketape/step`` in it, the metric of its axis; or a function that is
            called as ``writer(step, scalars)``. Several may be given one after the other.
        every : int
            Steps from one entry to the next: they come with the step behind which ``every`` are complete. In
            the thread that runs the network each costs what a commit does there.

        Raises
        ------
        TypeError, ValueError
            If ``writer`` is none of these, or ``every`` is no positive whole number.
        RuntimeError
            Inside a forward of the network.
        """
        self._session.entrance.refuse_elsewhere()
        self._session.refuse_in_forward("log_to()")
        self._logbook.add(writer, every, self._session.steps.next_step)

    @property
    def s(self) -> SpikeMapping:
        """Recorded spikes: layer name → lazy sequence of T items ``[batch, *neuron]``, read from disk."""
        self._refuse_nothing()
        self.flush()
        convert = to_numpy if self._backend == "numpy" else to_tensor(self._device)
        return SpikeMapping(TapeReader.open(self._store).layers, convert, self._check_name)

    def get_avg_firing_rate(self, all: bool = True, module_name: str | None = None) -> Any:
        """Average firing rate: spikes ÷ slots, between 0 and 1.

        Of layers that put out other values than 0 and 1 it is the mean of their values, as in SpikingJelly.

        Parameters
        ----------
        all : bool
            Over all layers, pooled; otherwise of the layer ``module_name``.
        module_name : str, optional

        Returns
        -------
        numpy.float64, or a 0-d tensor of torch's default dtype on ``device``
        """
        totals = self._totals(all, module_name)
        return as_answer(self._backend, self._device, firing_rate(totals, self._sums(totals)))

    def get_nonfire_ratio(self, all: bool = True, module_name: str | None = None) -> Any:
        """Silent ratio: neurons that never fired ÷ neurons; otherwise as `get_avg_firing_rate`."""
        return as_answer(self._backend, self._device, silent_ratio(self._totals(all, module_name).values()))

    @property
    def plan(self) -> RecordingPlan:
        """Costs of the recording: bytes a step, host memory at most, files; see `RecordingPlan`.

        Known from the first step on, as the shapes of layers are. Logged then too, by the logger
        ``recorder``, at level INFO. Where trials are held, the first one shows what they take.
        """
        if not self._session.layers.are_known:
            self._refuse_nothing()
        return self._session.plan()

    @property
    def stats(self) -> RecordingStats:
        """Costs of the recording so far; see `RecordingStats`."""
        return self._session.stats()

    def _totals(self, all: bool, module_name: str | None) -> dict[str, tuple[int, Counts]]:
        if not all:
            self._check_name(module_name)
        self._refuse_nothing()
        totals = self._session.totals()
        return totals if all else {str(module_name): totals[str(module_name)]}

    def _sums(self, layers: Iterable[str]) -> dict[str, float]:
        """Sum of values of those layers that have put out others than 0 and 1."""
        valued = [*self._session.layers.valued.intersection(layers)]
        if valued:
            self.flush()
            readers = TapeReader.open(self._store).layers
        return {name: sum_values(readers[name]) for name in valued}

    def _refuse_nothing(self) -> None:
        held, layers = self._session.held, self._session.recorded_layers()
        refuse_nothing(layers, is_enabled=self._hooks.in_place, held=None if held is None else len(held))

    def _check_name(self, name: str | None) -> None:
        refuse_unknown(name, self._layers, self._session.recorded_layers())
