"""Write a recording of spikes that are there already, from another tool, a chip or an earlier run."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from recorder.circumstances import describe, refuse_others
from recorder.elsewhere.attached import AttachedColumns
from recorder.elsewhere.feeding import Feed, Window, make_feeds, rounds
from recorder.elsewhere.packing import LayerState, OtherValuesError, pack_values
from recorder.elsewhere.pieces import Piece
from recorder.format import RecordingExistsError, plan_chunks
from recorder.format.bits import Packed
from recorder.format.layout import CATEGORIES, GROUPS, plan_counts
from recorder.format.planes.values import PackedValues, pending_rows
from recorder.format.record.parts import LayerPart, is_flat
from recorder.format.segments import SegmentLog
from recorder.format.trials import TrialLog
from recorder.parts import Part, Parts
from recorder.stores import ByteStore, StoreLike, open_store
from recorder.tape import LayerProgress, TapeReader, TapeWriter
from recorder.tape.holding.beginning import check_names, is_unbegun, write_errors

COMMIT_INTERVAL: Final = 10.0
# Stands in each layer of what is written here, in place of a module's class.
WRITTEN_CLASS: Final = "recorder.write_recording"
# Values of a layer that are looked at at once: 32 MiB as float64.
ROUND_SLOTS: Final = 2**22


def write_recording(
    store: StoreLike,
    layers: Mapping[str, Any],
    *,
    axes: str | Mapping[str, str] | None = None,
    labels: Any = None,
    trials: bool | Mapping[str, Any] | Iterable[Mapping[str, Any]] | None = None,
    neurons: Any = None,
    samples: int | Mapping[str, int] | None = None,
    trials_every: int | Mapping[str, int] | None = None,
    keep: str | Mapping[str, str] | None = None,
    dt: float | None = None,
    dt_unit: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    append: bool = False,
    take_over: bool = False,
    commit_interval: float = COMMIT_INTERVAL,
    durability: Literal["power", "process"] = "power",
    storage_options: dict[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    licence: str | None = None,
    citation: str | None = None,
) -> str:
    """Write spikes that are there already as a recording, equal to that of a monitor which saw them.

    Neither torch nor a network is needed. Layers are fed side by side: each gets the same steps, some at a
    time, before any gets the next. So no layer is ever ahead of another, memory stays flat however long an
    array on a disk or an iterator is, and what was written is committed every ``commit_interval`` seconds,
    with the promises of FORMAT.md: a process that dies loses no committed frame.

    Parameters
    ----------
    store : str, path or Zarr store
        Where to write to: a folder, a URL or a Zarr store.
    layers : mapping
        For each layer, by name, in network order, its values: booleans, integers or floats that are 0 or 1,
        or whole multiples of one scale, which is found as that of a layer that a monitor records:

        - an array ``[steps, samples, *neuron]`` of numpy, torch, jax, h5py, zarr or alike, which is read some
          steps at a time;
        - a sparse array of scipy; one of two axes is steps × neurons of one sample;
        - a list with an array ``[samples, neuron]`` for each step, as snnTorch's tutorials make them;
        - an iterator of pieces, each of them one of these: its steps go behind those of the piece before;
        - an `EventTable`.

        All layers have the same number of steps.
    axes : str or mapping, optional
        What the axes of arrays are if they are others, of all layers or by name, in the notation of
        `SpikeOutput`: ``"n t ..."``, ``"t ..."`` for steps of one sample, ``"n ..."`` for one step, or a list
        of steps, of a batch. None may be folded.
    labels : optional
        Labels of a trial's samples, or one for all of them, as in ``monitor.trial(label=...)``. An array or a
        list of steps is one trial. Of layers given in pieces each piece is a trial, and ``labels`` is an
        iterable with an item for each.
    trials : bool, mapping or iterable of mappings, optional
        More columns of the trial, such as ``{"epoch": 3}``; of layers given in pieces, an iterable of them.
        ``True`` makes pieces trials to which nothing is attached.
    neurons, samples, trials_every, keep : optional
        Which part of layers to write, as of `recorder.Monitor`, for all layers or by name.
    dt, dt_unit, licence, citation, metadata, storage_options, durability
        As of `recorder.Monitor`.
    overwrite : bool
        Replace a recording that is there.
    resume : bool
        Go on with a recording that was cut short: ``layers``, ``labels`` and ``trials`` are given again from
        their beginning, and what the recording has of them is passed over. Where there is none, begin.
    append : bool
        Go on behind what the recording holds: all that is given is new. Where there is none, begin.
    take_over : bool
        The writer that cannot be seen from here is gone, as of `recorder.Monitor`.
    commit_interval : float
        Seconds after which what was written is committed.

    Returns
    -------
    str
        Path or URL of the recording.

    Raises
    ------
    ValueError
        If values are no multiples of one scale, axes are not known, layers do not have the same steps, or
        labels do not fit. Steps before those are committed, and ``resume=True`` goes on behind them; where
        there are none, no recording is left.
    TypeError
        If something is given that is none of the above.
    RecordingExistsError
        If the store is taken.
    RecordingInUseError
        If another writer records there.
    RecordingWriteError
        If it cannot be written.
    """
    if overwrite + resume + append > 1:
        raise ValueError(
            "overwrite replaces a recording, resume and append go on with it; choose one of them"
        )
    if not commit_interval > 0:
        raise ValueError(f"commit_interval is {commit_interval!r}; expected a positive number of seconds")
    feeds = make_feeds(layers, axes)
    check_names(feed.name for feed in feeds)
    attached = AttachedColumns(labels, trials, feeds)
    parts = _read_parts(feeds, neurons=neurons, samples=samples, trials_every=trials_every, keep=keep)
    described = describe({}, metadata, dt=dt, dt_unit=dt_unit, licence=licence, citation=citation)
    target = open_store(store, read_only=False, storage_options=storage_options, durability=durability)
    with write_errors(target):
        is_new = not (resume or append) or is_unbegun(target)
        if not is_new:
            _refuse_other(target, feeds, described, parts)
            tape = TapeWriter.resume(target, take_over=take_over)
        else:
            tape = TapeWriter.create(target, described, overwrite=overwrite, take_over=take_over)
    try:
        _Writing(tape, feeds, attached, commit_interval, parts, skips=resume, is_new=is_new).run()
    finally:
        tape.release()
    return target.location


def _read_parts(feeds: list[Feed], **given: Any) -> Parts:
    """The part of each layer that is written."""
    names = [feed.name for feed in feeds]

    def find(key: Any) -> list[str]:
        if key not in names:
            raise ValueError(f"a part of layer {key!r} is asked for, which is none of the layers {names}")
        return [key]

    return Parts.parse(names, find, **given)


def _refuse_other(store: ByteStore, feeds: list[Feed], described: Mapping[str, Any], parts: Parts) -> None:
    """Raise unless the recording at a store is one of these layers, and was written here."""
    metadata = TapeReader.open(store).metadata
    given, found = [feed.name for feed in feeds], [layer.name for layer in metadata.layers]
    if found and given != found:
        raise ValueError(
            f"{store.location} has the layers {found}, and {given} are given; go on with the same ones, in "
            "the same order"
        )
    recorded = next((layer for layer in metadata.layers if layer.layer_class != WRITTEN_CLASS), None)
    if recorded is not None:
        raise RecordingExistsError(
            f"{store.location} was recorded by a monitor: its layer {recorded.name!r} is a "
            f"{recorded.layer_class}. Write what comes from elsewhere to a store of its own"
        )
    parts.refuse_others(metadata, given)
    refuse_others(described, metadata.provenance, store.location, "this call")


class _Layer:
    """What is known of a layer while it is written."""

    def __init__(self, feed: Feed, position: int, part: Part) -> None:
        self.feed, self.position, self._asked = feed, position, part
        self.part: LayerPart | None = None
        self.segments = SegmentLog()
        self.state: LayerState | None = None
        self.shape: tuple[int, ...] = ()

    def leaves_out(self, trial: int) -> bool:
        """True if nothing of a trial is written."""
        return self._asked.leaves_out(trial)

    def begin(self, shape: tuple[int, ...]) -> None:
        """Have frames of this neuron shape; ValueError if not the neurons that are to be written."""
        self.shape, self.part = shape, self._asked.of(self.feed.name, shape)

    def cut(self, values: NDArray[Any]) -> NDArray[Any]:
        """What is written of values, [steps, samples, *neuron]."""
        if self.part is None:
            return values
        along = self.part.neurons
        values = values[:, : self.part.samples]
        if is_flat(along):
            return values.reshape(*values.shape[:2], -1)[:, :, np.array(along)]
        slices = [slice(each.start, each.stop, each.step) for each in along or () if isinstance(each, range)]
        return values[(slice(None), slice(None), *slices)]

    def progress(self) -> LayerProgress:
        """Progress for a commit."""
        state = self.state or LayerState(np.empty((0, 0), np.bool_), "bool")
        row, planes = pending_rows(state.pending)
        return LayerProgress(len(state.pending), row, *self.segments.look(), planes, state.values)


class _Writing:
    """Feeds a tape, round by round; each is packed of all layers before anything of it is appended."""

    def __init__(
        self,
        tape: TapeWriter,
        feeds: list[Feed],
        attached: AttachedColumns,
        commit_interval: float,
        parts: Parts,
        *,
        skips: bool,
        is_new: bool,
    ) -> None:
        self._tape, self._attached, self._interval = tape, attached, commit_interval
        self._layers = [_Layer(feed, position, parts.part(feed.name)) for position, feed in enumerate(feeds)]
        self._trials = TrialLog(tape.kept_trials(), tape.ignores_case)
        for layer in self._layers:
            self._resume(layer)
        self._step = max(layer.segments.last_step for layer in self._layers)
        # Steps of what is given that are there already, and steps and trials that were passed so far.
        self._known = self._step if skips else 0
        self._passed = 0
        self._pieces = 0
        self._first_trial = 0 if skips else self._trials.trials
        # Trials whose labels are there; of the last of them there may be no steps, where they are left out.
        self._noted = self._trials.trials
        self._committed_at = time.monotonic()
        self._is_new = is_new
        # Whether layers may not be at the same step: what was cut short then ends with the last commit.
        self._is_changing = False

    def _resume(self, layer: _Layer) -> None:
        known = self._tape.resumed_layers().get(layer.feed.name)
        if known is not None:
            commit, last_segment = known
            layer.segments = SegmentLog(last_segment)
            layer.begin(commit.shape)
            name = layer.feed.name
            has_fired = bool(self._tape.totals(name).any())
            pending = self._tape.pending_frames(name)
            layer.state = LayerState(pending, commit.dtype, commit.values, has_fired)
            self._tape.place_layer(layer.feed.name, layer.position)

    def run(self) -> None:
        """Write everything and close the recording."""
        try:
            self._write_all()
        except BaseException:
            # What was given is wrong, or whoever gives it has failed. Nothing of its round was appended.
            if self._is_new and not (self._step or self._is_changing):
                self._tape.store.clear((*GROUPS, CATEGORIES))
            elif not self._is_changing:
                self._commit()
            raise
        self._commit(close=True)

    def _write_all(self) -> None:
        feeds = [layer.feed for layer in self._layers]
        for steps in rounds(feeds, ROUND_SLOTS):
            if self._attached.are_trials and not feeds[0].done:
                self._begin_trial(feeds)
            self._write(steps)
            if self._attached.are_trials and not feeds[0].left:
                self._trials.end()
            if time.monotonic() - self._committed_at >= self._interval:
                self._commit()
        if self._passed < self._known:
            raise ValueError(
                f"{self._passed} steps are given, but {self._tape.store.location} has {self._known} "
                "already: resume=True takes everything from its beginning again. append=True puts what is "
                "given behind what is there"
            )
        self._attached.refuse_more(self._pieces)

    def _begin_trial(self, feeds: list[Feed]) -> None:
        pieces = [feed.piece for feed in feeds if feed.piece is not None]
        if len({piece.shape[0] for piece in pieces}) > 1 or any(feed.done for feed in feeds):
            steps = ", ".join(f"{f.name!r} {p.shape[0]}" for f, p in zip(feeds, pieces, strict=True))
            raise ValueError(
                f"the layers have pieces of different lengths at trial {self._pieces}, in steps: {steps}. A "
                "piece is a trial, and all layers have the same ones"
            )
        columns = self._attached.next(self._pieces)
        self._trials.trials = self._first_trial + self._pieces
        self._pieces += 1
        self._trials.begin(columns)
        for feed, piece in zip(feeds, pieces, strict=True):
            self._trials.check_batch(f"layer {feed.name!r}, step {self._step}", piece.shape[1])
        if self._first_trial + self._pieces <= self._noted:
            # Its labels are there, as they are with the first steps of any trial.
            self._note(pieces)
            self._trials.forget(1)

    def _note(self, pieces: list[Piece]) -> None:
        """Note the labels of the open trial, unless that was done."""
        self._trials.note(max(piece.shape[1] for piece in pieces))

    def _write(self, steps: int) -> None:
        """Write the next steps of all layers, but those that are there."""
        passed = min(max(self._known - self._passed, 0), steps)
        self._passed += steps
        windows = [layer.feed.take(steps) for layer in self._layers]
        if steps == passed:
            return
        windows = [Window(window.piece, window.first + passed, window.last) for window in windows]
        fed = [
            (layer, window)
            for layer, window in zip(self._layers, windows, strict=True)
            if not layer.leaves_out(self._trials.number)
        ]
        packed = [self._pack(layer, window) for layer, window in fed]
        self._is_changing = True
        self._note([window.piece for window in windows])
        with write_errors(self._tape.store):
            for (layer, window), (rows, state, samples) in zip(fed, packed, strict=True):
                self._append(layer, window, rows, state, samples)
        self._step += steps - passed
        self._is_changing = False

    def _pack(self, layer: _Layer, window: Window) -> tuple[Packed | PackedValues, LayerState, int]:
        """Read and pack steps, of how many samples; nothing of them is there before they are appended."""
        shape = window.piece.shape[2:]
        if layer.state is None:
            layer.begin(tuple(shape))
        elif shape != layer.shape:
            raise ValueError(
                f"layer {layer.feed.name!r} has frames of neuron shape {shape}, but the recording has "
                f"{layer.shape}; it holds one shape for each layer"
            )
        values = layer.cut(window.piece.read(window.first, window.last))
        nothing = np.empty((0, math.prod(values.shape[2:])), np.bool_)
        state = layer.state or LayerState(nothing, window.piece.dtype)
        rows, state = pack_values(values, state, layer.feed.name, self._step)
        if state.values is not None and layer.part is not None and layer.part.counts_only:
            raise OtherValuesError(
                f"layer {layer.feed.name!r} has values from {values.min()} to {values.max()} in steps "
                f"{self._step} to {self._step + len(values) - 1}; counts are kept of zeros and ones only: "
                "write other values without keep='counts'"
            )
        return rows, state, values.shape[1]

    def _append(
        self, layer: _Layer, window: Window, rows: Packed | PackedValues, state: LayerState, samples: int
    ) -> None:
        name = layer.feed.name
        if layer.state is None:
            kept = layer.part.kept_shape if layer.part else layer.shape
            plan = plan_counts(kept) if layer.part and layer.part.counts_only else plan_chunks(kept)
            about = plan, window.piece.dtype, WRITTEN_CLASS, layer.position, layer.part
            self._tape.add_layer(name, *about)
        layer.state = state
        self._tape.append(name, rows)
        layer.segments.extend(self._step, window.last - window.first, samples, self._trials.number)
        if layer.part and layer.part.counts_only:
            self._tape.count(name, np.concatenate(layer.segments.look()), layer.segments.frames)

    def _commit(self, *, close: bool = False) -> None:
        self._is_changing = True
        written = [layer for layer in self._layers if layer.state is not None]
        progress = {layer.feed.name: layer.progress() for layer in written}
        presented = self._trials.look()
        with write_errors(self._tape.store):
            self._tape.commit(progress, presented, self._trials.trials, close=close, keep_lock=True)
        for layer in written:
            layer.segments.forget(len(progress[layer.feed.name].closed_segments))
        self._trials.forget(len(presented))
        self._is_changing = False
        self._committed_at = time.monotonic()
