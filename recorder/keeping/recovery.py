"""Recover an interrupted recording: close it, and say exactly what is dropped.

An interrupted recording may hold data written after its last commit, which were never promised. They are
dropped. Committed frames that are damaged are given up only on request, in one of two ways: the recording is
cut before the first step that has a damaged frame in any layer, for all layers; or the steps with damaged
frames are marked lost, in their own layer only. Either way they are never counted as silence: steps after
the cut are gone, and a lost step is a gap, as if the layer had not been called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recorder.format import RecordingDamagedError, RecordingMetadata
from recorder.format.bits import count_per_neuron
from recorder.format.record.metadata import TrialsCommit
from recorder.format.record.operations import OPERATIONS, OperationsCommit, as_operations
from recorder.format.segments import merge_ranges
from recorder.keeping.own_keys import OURS, keys_of
from recorder.keeping.verification import Problem
from recorder.stores import ByteStore
from recorder.tape import LayerReader, TapeReader, TapeWriter
from recorder.tape.holding.lock import WriterLock
from recorder.tape.layers.cutting import cut_layer
from recorder.tape.layers.signal_reading import SignalReader
from recorder.tape.reading import refuse_if_packed
from recorder.tape.tables import TableWriter, rows_checksum
from recorder.tape.trial_columns import read_columns


@dataclass(frozen=True)
class LayerCut:
    """Number of frames that recovery keeps of a layer.

    Attributes
    ----------
    name : str
        Name of the layer.
    frames : int
        Frames that are kept: all, or those before the cut.
    committed : int
        Frames that are committed now.
    """

    name: str
    frames: int
    committed: int


@dataclass(frozen=True)
class LayerLoss:
    """Frames of one layer, or of one signal of it, that recovery marks lost.

    Attributes
    ----------
    name : str or None
        Name of the layer; None for operations.
    steps : tuple of (int, int)
        Ranges of damaged steps: first and last step, both inclusive.
    frames : int
        Number of frames that become lost, without those that are lost already.
    lost : tuple of (int, int)
        Ranges of all frames that are lost after recovery, as in `LayerCommit.lost`.
    signal : str or None
        Name of the signal, if the frames are those of one, or ``"operations"``.
    """

    name: str | None
    steps: tuple[tuple[int, int], ...]
    frames: int
    lost: tuple[tuple[int, int], ...]
    signal: str | None = None


@dataclass(frozen=True)
class Recovery:
    """The plan of a recovery: everything that `recover` will change, as `plan_recovery` found it.

    Damage to redundant data is in ``rewritten``. Damage to frames leads to a cut (``cut_step``, ``layers``)
    or to ``lost``, never to both. Damage that cannot be mended is in ``problems``; if there is any, nothing
    is recovered. A plan without damage only closes the recording.

    The plan holds for the commit it was made from. `recover` refuses it if the recording has changed since.

    Attributes
    ----------
    cut_step : int or None
        First step that is cut off, in all layers; None if nothing is cut.
    layers : tuple of LayerCut
        Frames that are kept of each layer.
    lost : tuple of LayerLoss
        Frames that are marked lost, of each layer that has any.
    dropped : tuple of str
        Keys that are deleted: data after the last commit or after the cut, and temporary files.
    foreign : tuple of str
        Keys that do not belong to a recording; they stay.
    rewritten : tuple of Problem
        Damage to data that are computed again from other data.
    problems : tuple of Problem
        Damage that cannot be mended.
    """

    cut_step: int | None
    layers: tuple[LayerCut, ...]
    lost: tuple[LayerLoss, ...]
    dropped: tuple[str, ...]
    foreign: tuple[str, ...]
    rewritten: tuple[Problem, ...]
    problems: tuple[Problem, ...]


def plan_recovery(reader: TapeReader, problems: Sequence[Problem], *, mark_lost: bool = False) -> Recovery:
    """Plan what `recover` will do; nothing is changed.

    Parameters
    ----------
    reader : TapeReader
        The recording as of its last commit.
    problems : sequence of Problem
        Everything that `recorder.keeping.verification` found wrong with this commit.
    mark_lost : bool
        Mark steps with damaged frames lost, each in its layer, instead of cutting all layers before them.
    """
    refuse_if_packed(reader)
    hopeless = tuple(p for p in problems if p.frame is None and not p.is_redundant)
    rewritten = tuple(p for p in problems if p.is_redundant)
    if hopeless:
        layers = tuple(LayerCut(name, layer.frames, layer.frames) for name, layer in reader.layers.items())
        return Recovery(None, layers, (), (), (), rewritten, hopeless)
    damaged: dict[_Part, list[tuple[int, int]]] = {}
    for problem in problems:
        if problem.frame is not None and problem.last_frame is not None:
            frames = problem.frame, problem.last_frame
            damaged.setdefault((problem.layer, problem.signal), []).append(frames)
    cut_step = min(
        (_first_step(_part(reader, *which), frames) for which, frames in damaged.items() if not mark_lost),
        default=None,
    )
    layers = tuple(
        LayerCut(name, layer.frames if cut_step is None else _frames_before(layer, cut_step), layer.frames)
        for name, layer in reader.layers.items()
    )
    kept = keys_of(reader, {layer.name: layer.frames for layer in layers}, cut_step)
    others = sorted(key for key in reader.store.keys() if key not in kept)  # noqa: SIM118 - no mapping
    return Recovery(
        cut_step=cut_step,
        layers=layers,
        lost=tuple(_loss(reader, *which, frames) for which, frames in damaged.items() if mark_lost),
        dropped=tuple(key for key in others if OURS.fullmatch(key)),
        foreign=tuple(key for key in others if not OURS.fullmatch(key)),
        rewritten=rewritten,
        problems=(),
    )


def recover(
    store: ByteStore, recovery: Recovery, commit_number: int, *, cut: bool = False, take_over: bool = False
) -> RecordingMetadata:
    """Carry out a plan of `plan_recovery`, and close the recording.

    Parameters
    ----------
    store : ByteStore
        Store of the recording.
    recovery : Recovery
        The plan.
    commit_number : int
        Number of the commit from which the plan was made.
    cut : bool
        Consent to cut off committed frames, if the plan says so.
    take_over : bool
        Take the lock also from a writer that cannot be seen, see `WriterLock.acquire`.

    Returns
    -------
    RecordingMetadata
        Commit record of the closed recording.

    Raises
    ------
    RecordingDamagedError
        If the plan cuts and ``cut`` is false, if there is damage that cannot be mended, or if the recording
        has had another commit since the plan. Nothing is changed then.
    RecordingInUseError
        If another writer holds the lock, or may hold it.
    """
    if recovery.problems:
        listed = "".join(f"\n  - {problem}" for problem in recovery.problems)
        raise RecordingDamagedError(
            f"{store.location} has damage that cannot be mended; nothing was changed:{listed}"
        )
    if recovery.cut_step is not None and not cut:
        raise RecordingDamagedError(
            f"{store.location} has damaged frames; nothing was changed. It can be cut before step "
            f"{recovery.cut_step}, which loses that step and all behind it, in all layers; or the steps that "
            "are damaged can be marked lost, each in its layer"
        )
    lock = WriterLock.acquire(store, take_over=take_over)
    try:
        reader = TapeReader.open(lock.store)
        if reader.metadata.commit_number != commit_number:
            raise RecordingDamagedError(f"{store.location} has gone on meanwhile; nothing was changed")
        reader = TapeReader(lock.store, _give_up(reader, recovery))
        for name, layer in reader.layers.items():
            if any(problem.layer == name for problem in recovery.rewritten):
                for bits in layer.bits:
                    _count_again(bits)
        tape = TapeWriter.go_on(reader, lock)
        progress = {name: tape.last_progress(name) for name in tape.resumed_layers()}
        metadata = tape.commit(progress, [], reader.metadata.trials.trials, close=True, keep_lock=True)
        # Deleted last: until the new record was written, the old record promised these keys.
        for key in recovery.dropped:
            tape.store.delete(key)
        tape.store.persist()
        tape.release()
        return metadata
    finally:
        lock.release()


def _count_again(layer: LayerReader) -> None:
    """Compute the counts of all whole blocks from their chunks, and write them again.

    Verification has found that the result has the checksums that the commit names, except for blocks with
    lost frames, whose counts are not promised.
    """
    plan = layer.plan
    table = TableWriter(layer.store, layer.tables.counts)
    for block in range(layer.frames // plan.block_frames):
        chunks = range(block * plan.block_chunks, (block + 1) * plan.block_chunks)
        spikes = sum(
            (count_per_neuron(layer.chunk_or_silence(chunk)) for chunk in chunks),
            np.zeros(plan.neurons, np.int64),
        )
        table.append(spikes.astype(np.uint32).reshape(1, *plan.neuron_shape))
    table.flush()


# Names of a layer and of one of its signals; no signal for its spikes, and no layer for operations.
_Part = tuple[str | None, str | None]


def _part(reader: TapeReader, layer: str | None, signal: str | None) -> LayerReader | SignalReader:
    return reader.layers[layer or ""] if signal is None else reader.series[layer, signal]


def _first_step(layer: LayerReader | SignalReader, damaged: Sequence[tuple[int, int]]) -> int:
    """Step of the first damaged frame."""
    segments = layer.segments()
    frames = np.array([min(damaged)[0]], np.int64)
    return int(segments.steps_of(frames, segments.segment_of(frames))[0])


def _loss(
    reader: TapeReader, name: str | None, signal: str | None, damaged: Sequence[tuple[int, int]]
) -> LayerLoss:
    """The steps that damaged frames lie in, and all frames that are lost with them."""
    layer = _part(reader, name, signal)
    segments = layer.segments()
    whole = segments.whole_steps(np.array(sorted({*damaged}), np.int64))
    ends = np.stack([whole[:, 0], whole[:, 1] - 1])
    first, last = segments.steps_of(ends, segments.segment_of(ends))
    lost = tuple((int(begin), int(end)) for begin, end in merge_ranges(np.concatenate([layer.lost, whole])))
    frames = sum(end - begin for begin, end in lost) - layer.commit.lost_frames
    steps = merge_ranges(np.stack([first, last + 1], axis=1)) - [0, 1]
    return LayerLoss(name, tuple((int(begin), int(end)) for begin, end in steps), frames, lost, signal)


def _give_up(reader: TapeReader, recovery: Recovery) -> RecordingMetadata:
    """Commit record without the frames that are cut off, or with frames marked lost."""
    if recovery.cut_step is not None:
        return _cut(reader, recovery)
    lost: dict[_Part, tuple[tuple[int, int], ...]]
    lost = {(loss.name, loss.signal): loss.lost for loss in recovery.lost}
    layers = (
        replace(
            layer,
            lost=lost.get((layer.name, None), layer.lost),
            signals=tuple(
                replace(signal, lost=lost.get((layer.name, signal.name), signal.lost))
                for signal in layer.signals
            ),
        )
        for layer in reader.metadata.layers
    )
    counted = reader.metadata.operations
    if counted is not None:
        counted = replace(counted, lost=lost.get((None, OPERATIONS), counted.lost))
    return replace(reader.metadata, layers=tuple(layers), operations=counted)


def _operations(counted: SignalReader | None, step: int) -> OperationsCommit | None:
    """Commit of the operations before a step."""
    frames = 0 if counted is None else counted.frames_before(step)
    return None if counted is None or frames == 0 else as_operations(counted.cut_to(frames))


def _frames_before(layer: LayerReader, step: int) -> int:
    """Frames of the steps before one; of counts those of whole segments, as these cannot be cut."""
    segments = layer.segments()
    if layer.commit.counts_only:
        return segments.select(segments.last_step <= step).frames
    return segments.select_steps(0, step).frames


def _cut(reader: TapeReader, recovery: Recovery) -> RecordingMetadata:
    """Commit record of the recording without the frames from the cut on."""
    step = recovery.cut_step or 0
    layers = tuple(
        replace(
            cut_layer(reader.layers[cut.name], cut.frames),
            signals=tuple(
                signal.cut_to(frames)
                for signal in reader.layers[cut.name].signals.values()
                if (frames := signal.frames_before(step))
            ),
        )
        for cut in recovery.layers
    )
    last_trial = max(
        (
            int(segments.trial.max())
            for name, layer in reader.layers.items()
            if len(segments := layer.segments().select_steps(0, recovery.cut_step or 0))
        ),
        default=-1,
    )
    columns = read_columns(reader.store, reader.metadata.trials)
    numbers = next((values for column, values in columns.items() if column.name == "trial"), np.empty(0))
    rows = int(np.count_nonzero(numbers <= last_trial))
    trials = TrialsCommit(
        trials=last_trial + 1,
        rows=rows,
        columns=tuple(
            replace(column, crc32c=rows_checksum(values[:rows])) for column, values in columns.items()
        ),
    )
    return replace(
        reader.metadata,
        layers=tuple(layer for layer in layers if layer.frames),
        trials=trials,
        operations=_operations(reader.operations, step),
    )
