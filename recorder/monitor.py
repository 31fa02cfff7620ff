"""`Monitor`: SpikingJelly's monitor in use, a recording on disk behind it.

It finds the spiking layers, puts hooks on them, and answers from what was recorded. Packing, writing and
reading are the other modules' work.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, Self

import torch
from torch import nn

from recorder.answers import Answers, Backend
from recorder.capture.wanted import Wanted
from recorder.connections import weight_layers_of
from recorder.format import RecordingWriteError
from recorder.format.errors import UNFINISHED_RESET
from recorder.frameworks import LayerChoice, find_spiking_layers, refuse_unrecordable
from recorder.hooks import InertMonitor, NetworkHooks, SessionLink, close_holder, finish, note_holder
from recorder.options import check_options, default_store, parse_device
from recorder.provenance import class_name, describe_run
from recorder.ranks import RankPlace, begin_again, place_of_rank, without_wrapper
from recorder.resuming import has_begun
from recorder.session import RecordingSession
from recorder.session.layers import RecordedLayers
from recorder.session.logbook import Logbook
from recorder.session.steps import Steps
from recorder.session.telling import Teller, layer_lines
from recorder.stores import StoreLike, open_store
from recorder.tape import TapeWriter
from recorder.tape.holding.beginning import check_names, write_errors
from recorder.tape.holding.finalizing import finish_when_gone

COMMIT_INTERVAL = 10.0
QUEUE_LIMIT_BYTES = 256 * 2**20


class Monitor(Answers):
    """Record every spike of a network to disk; ask for firing rates and silent ratios at any time.

    Parameters
    ----------
    net : torch.nn.Module
        Its spiking layers are found by themselves for SpikingJelly, snnTorch, norse, sinabs, BrainCog,
        BindsNET, rockpool, lava-dl and matterhorn. They have the same names whether it is wrapped in
        DistributedDataParallel or not. The first forward that is recorded also shows which weight layers read
        them, for `analysis.Recording.synaptic_operations`; of a network under torch.compile it does not.
    device : str or torch.device, optional
        Where getters and ``s`` put tensors with the ``"torch"`` backend; the CPU by default.
    backend : {"numpy", "torch"}
        What getters and ``s`` return: numpy values, or tensors on ``device``.
    store : str, path or Zarr store, optional
        Where to record to: a folder, a URL or a Zarr store. Left out, a new folder
        ``recordings/<date and time>.zarr``. Where torch.distributed is initialised with several ranks, it
        names the run, and each rank records beside the others: ``run.zarr`` becomes
        ``run.rank-00003-of-00008.zarr``. `analysis.open_recording` opens all of them by ``run.zarr``.
    layers : optional
        Which modules to record where they are not found by themselves: names, types, a predicate
        ``(name, module) -> bool``, or a mapping from names or types to `SpikeOutput`; see
        `recorder.frameworks.finding.find_spiking_layers`. What is recorded of a layer is what the next one
        gets: behind all forward hooks of yours on it, whether they came before `enable` or after it.
    batched : bool
        Whether the network runs on batches. If it is given single samples without an axis for them, say
        False: a layer's output is then ``[*neuron]``, or ``[T, *neuron]``. A `SpikeOutput` in ``layers``
        counts as it is written.
    overwrite, resume : bool
        What to do with a recording that stands at ``store``: replace it, or go on behind its last commit. Of
        several ranks, all must resume, and wait for each other: they go on at the same step.
    take_over : bool
        A recording has one writer; a second one is refused. One that died on this host is noticed, and its
        recording is resumed or overwritten. So is that of an earlier monitor of this process, which is closed
        first. A writer on another host cannot be seen: this says that it is gone.
    commit_interval : float
        Seconds after which recorded frames are committed, so that a crash cannot lose them.
    durability : {"power", "process"}
        Whether committed frames survive a loss of power, or only the end of the process (faster on slow
        disks).
    on_error : {"raise", "warn"}
        What to do when spikes cannot be written: raise at the next step and at `close`, or warn once and let
        the network run on, without being recorded. Likewise when a layer puts out what is no spikes (analog
        values, another neuron shape): raise, or warn and record no more of that layer. What was committed
        stays good.
    threshold : number or mapping, optional
        From what height on a value is one spike, for layers that put out others than 0 and 1; every other
        value is silence, and NaN is an error. For all layers, or from names or types of layers to numbers.
        Kept with the recording, as ``thresholds`` in its provenance; see `Threshold`.
    signals : str, callable, Signal, or several of these, optional
        What is recorded beside the spikes, at the same steps: ``"v"``, the membrane potential after the step,
        in libraries that have one; ``"input"``, ``"output"``, any attribute by name, or a function of
        (module, inputs, output); see `Signal`, which also says of which layers, neurons and steps.
    operations : bool
        Whether the operations of each weight layer, linear or a convolution, are counted in each frame: where
        layers are read through pooling, sums and the like, spikes alone do not tell them. `analysis` uses
        them for synaptic operations and energy. What is not sure to belong to a frame is warned of, and
        listed as not covered. Of forwards that raise none are kept.
    neurons : index or mapping, optional
        Which neurons of a layer are recorded, from names or types of layers: an index of its neuron axes as
        numpy takes it, ``{"conv1": np.s_[:, ::2, ::2]}``, or flat indices in C order, ``{"fc": [3, 17]}``.
        Lists of several axes are combined, as in `Layer.select`. Without names, of all layers. Indices of
        neurons stay those of the whole layer.
    samples : int or mapping, optional
        How many samples of each batch are recorded, the first ones; of all layers, or from names or types.
    trials_every : int or mapping, optional
        Only trials whose number is a multiple of this are recorded, as a whole, likewise. What is recorded
        outside of trials is. Signals of the layer are left out with its spikes.
    keep : {"spikes", "counts"} or mapping, optional
        ``"counts"`` records how often each neuron fired in each sample of each trial, and not when; likewise.
    last_trials : int, optional
        Hold the newest so many trials as bits in memory, and write none of them before `keep` is called. What
        runs outside of trials is left out then. Left out, all that comes is written.
    storage_options : dict, optional
        Credentials, endpoint and so on, for a URL; they are not kept with the recording.
    metadata : mapping, optional
        JSON values to keep with the recording. Whoever gets the recording can read them.
    dt : float, optional
        How long a step is in the world that the network simulates, in ``dt_unit``.
    dt_unit : str, optional
        Its unit, e.g. ``"ms"``.
    licence, citation : str, optional
        Under what licence the recording may be used, and how it is to be cited.

    Raises
    ------
    ValueError
        If no spiking layer is found, one has a name that cannot be stored, ``backend`` or ``device`` is
        unknown, ``dt`` has no unit, or there is no weight layer whose ``operations`` could be counted.
    RecordingExistsError
        If the store is taken.
    RecordingInUseError
        If another monitor records there; it names host, process and age.
    RecordingWriteError
        If it cannot be written.
    RankError
        If ``store`` is left out where there are several ranks, or only some of them resume.
    """

    def __init__(
        self,
        net: nn.Module,
        device: str | torch.device | None = None,
        backend: Backend = "numpy",
        *,
        store: StoreLike | None = None,
        layers: LayerChoice | None = None,
        batched: bool = True,
        overwrite: bool = False,
        resume: bool = False,
        take_over: bool = False,
        commit_interval: float = COMMIT_INTERVAL,
        durability: Literal["power", "process"] = "power",
        on_error: Literal["raise", "warn"] = "raise",
        threshold: float | Mapping[Any, float] | None = None,
        signals: Any = None,
        operations: bool = False,
        neurons: Any = None,
        samples: int | Mapping[Any, int] | None = None,
        trials_every: int | Mapping[Any, int] | None = None,
        keep: str | Mapping[Any, str] | None = None,
        last_trials: int | None = None,
        storage_options: dict[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        dt: float | None = None,
        dt_unit: str | None = None,
        licence: str | None = None,
        citation: str | None = None,
    ) -> None:
        check_options(
            *(net, backend, overwrite, resume, commit_interval, last_trials),
            durability=durability,
            on_error=on_error,
        )
        self._last_trials = last_trials
        self._backend = backend
        self._device = parse_device(device)
        self._commit_interval = float(commit_interval)
        net = without_wrapper(net)
        refuse_unrecordable(net)
        self._layers = find_spiking_layers(net, layers, batched=batched)
        check_names(self._layers)
        self._wanted = Wanted.parse(
            self._layers,
            threshold=threshold,
            signals=signals,
            weight_layers=weight_layers_of(net) if operations else {},
            neurons=neurons,
            samples=samples,
            trials_every=trials_every,
            keep=keep,
        )
        self._provenance = describe_run(
            net, metadata, dt=dt, dt_unit=dt_unit, licence=licence, citation=citation
        )
        self._provenance.update(self._wanted.thresholds.to_provenance())
        self._rank = place_of_rank(store)
        if self._rank is not None:
            store = self._rank.store
            self._provenance.update(self._rank.record.to_provenance())
        self._store = open_store(
            default_store() if store is None else store,
            read_only=False,
            storage_options=storage_options,
            durability=durability,
        )
        self._link = SessionLink(warn_of_failures=on_error == "warn")
        self._logbook = Logbook()
        self._teller = Teller(net, self._layers, are_all=layers is None)
        beside = self._wanted.signals.with_potential, self._wanted.weight_layers
        self._hooks = NetworkHooks(net, self._layers.values(), self._link, *beside)
        with write_errors(self._store):
            if resume or overwrite:
                close_holder(self._store)
            if resume and self._rank is not None:
                self._provenance.update(self._rank.resumed(self._store).to_provenance())
            if resume and has_begun(self._store, self._provenance, self._wanted, self._layers):
                self._begin(TapeWriter.resume(self._store, take_over=take_over))
            else:
                self._begin(
                    TapeWriter.create(self._store, self._provenance, overwrite=overwrite, take_over=take_over)
                )
        if resume and self._rank is not None:
            self._catch_up(self._rank)

    # -- lifecycle -------------------------------------------------------------------------------------------

    def enable(self) -> None:
        """Record from here on; after `disable` or `close`, go on where recording stopped.

        Raises
        ------
        RecordingWriteError
            If writing has failed and was only warned of.
        RuntimeError
            In a forked child of the process that records, while a forward of the network is running, and
            inside a trial that was open when the recording was closed.
        """
        self._session.entrance.refuse_elsewhere()
        if not self._hooks.in_place:
            self._hooks.refuse_in_forward("enable()")
        if self._is_discarded:
            raise RecordingWriteError(UNFINISHED_RESET)
        if self._session.closed:
            self._session.trials.refuse_open("leave its `with` block before you call enable() again")
            reached = self._session.steps.next_step
            with write_errors(self._store):
                self._begin(TapeWriter.resume(self._store, own=self._session.metadata))
            if self._last_trials is not None:  # steps behind the last kept one have been, too
                self._session.steps.go_on_at(reached)
        self._link.refuse_stopped()
        self._hooks.put()

    def disable(self) -> None:
        """Pause: take the hooks away and commit everything so far. Getters still work.

        Raises
        ------
        RuntimeError
            Inside a forward of the network.
        """
        if not self._session.entrance.is_elsewhere:
            self._session.refuse_in_forward("disable()")
        self._hooks.remove()
        self.flush()

    def reset(self) -> None:
        """Discard what was recorded and start again from step 0, enabled or not as before.

        Raises
        ------
        RuntimeError
            Inside a trial, or a forward of the network.
        RecordingWriteError
            If a new recording cannot begin. Nothing is recorded then until `reset` is called again.
        """
        self._session.abandon()
        self._finalizer.detach()
        self._is_discarded = True
        with write_errors(self._store):
            self._begin(TapeWriter.create(self._store, begin_again(self._provenance), overwrite=True))

    def close(self) -> None:
        """Finish the recording: take the hooks away, commit, mark it closed. Getters still work.

        It may be called at any moment, also by a signal handler or another thread. A forward that is running
        is left out as a whole, as if it had never begun. Only where layers are on an accelerator, and a
        handler interrupts the recording of an output, is the recording closed a moment later: when that
        output is recorded, or the interpreter ends.
        """
        try:
            if not self._session.closed:
                self._session.close()
            if self._link.has_seen_copy:
                self._link.note_copy()
        except RecordingWriteError as failure:
            self._finalizer.detach()
            self._link.stop(failure)
        finally:
            self._hooks.remove()
        if self._session.closed:
            self._finalizer.detach()

    def step(self) -> None:
        """Say that a step is over, where that cannot be known from calls of the monitored module.

        A call of the module that the monitor was made for is a step by itself (or T of them). Where its
        layers are called without it, as by ``net.forward(x)``, ``net[:2](x)`` or the code of a training step,
        call this after `enable` and after each step: layers that were not called in it have a gap there, and
        stay aligned with the others.

        Raises
        ------
        RuntimeError
            Inside a forward of the monitored module.
        """
        self._session.mark_step()

    def __enter__(self) -> Self:
        self.enable()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what it is ------------------------------------------------------------------------------------------

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the monitored layers, in network order."""
        return tuple(self._layers)

    @property
    def store(self) -> str:
        """Path or URL of the recording."""
        return self._store.location

    def __reduce__(self) -> tuple[type[InertMonitor], tuple[str, tuple[str, ...]]]:
        return InertMonitor, (self.store, self.layers)

    def __repr__(self) -> str:
        if self._session.entrance.is_elsewhere:
            return f"<Monitor of the process that this was forked from → {self.store}>"
        state = "closed" if self._session.closed else "recording" if self._hooks.in_place else "paused"
        held = self._session.held
        holds = "" if held is None else f", {len(held)} of {self._last_trials} trials held"
        lines = [f"<Monitor {state}, {len(self._layers)} layers → {self.store}{holds}>"]
        kinds = {name: type(layer.module).__name__ for name, layer in self._layers.items()}
        session = self._session
        of_layers = session.layers.stopped, session.layers.parts
        about = session.recorded_layers(), session.steps.uncalled, *of_layers
        return "\n".join([*lines, *layer_lines(kinds, *about)])

    # -- wiring ----------------------------------------------------------------------------------------------

    def _catch_up(self, rank: RankPlace) -> None:
        """Go on at the same step as the other ranks: a crash may have left one behind another."""
        try:
            steps, trials = self._session.steps, self._session.trials
            step, trial = rank.largest_of_all((steps.next_step, trials.trials))
            steps.go_on_at(step)
            trials.trials = max(trials.trials, trial)
        except BaseException:
            self._session.abandon()
            self._finalizer.detach()
            raise

    def _begin(self, tape: TapeWriter) -> None:
        kinds = {name: class_name(layer.module) for name, layer in self._layers.items()}
        steps, stops_bad = Steps(self._hooks.running_forwards), self._link.warns_of_failures
        session = RecordingSession(
            tape,
            RecordedLayers(kinds, steps, self._wanted, stops_bad=stops_bad, holds=bool(self._last_trials)),
            commit_interval=self._commit_interval,
            queue_limit_bytes=QUEUE_LIMIT_BYTES,
            teller=self._teller,
            logbook=self._logbook,
            last_trials=self._last_trials,
        )
        note_holder(tape.owner, self.close)
        self._session = self._link.session = session
        self._hooks.seek_connections()
        self._is_discarded = False
        # Also at the interpreter's exit, while the background thread still runs.
        self._finalizer: weakref.finalize[..., Monitor] = finish_when_gone(
            self, partial(finish, self._hooks.removal(), self._link, session)
        )
