"""Bring an interrupted recording to a closed one, and say exactly what is dropped on the way.

Behind the last commit lie chunks that were never promised; they are dropped. Damage before it is another
matter: nothing is done about it unless asked for. Then either the recording is cut before the first step
whose frames, in any layer, cannot be trusted; or the steps that such frames lie in are marked lost, in their
layer only. What was lost is never counted as silence: steps behind the cut are gone, for all layers together,
and lost ones are a gap, as if the layer had not been called.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recorder.format import LayerCommit, RecordingDamagedError, RecordingMetadata
from recorder.format.arrays import SPIKES, LayerTables
from recorder.format.bits import count_per_neuron, mask_trains, pack_frames, range_mask
from recorder.format.chunks import checksum
from recorder.format.documents import all_keys, plain_documents
from recorder.format.layout import ROOT_DOCUMENT
from recorder.format.metadata import TableCommit, TrialsCommit
from recorder.format.segments import Rows, SegmentLog, clip_segments, merge_ranges
from recorder.keeping.verification import Problem
from recorder.stores import ByteStore
from recorder.tape import LayerProgress, LayerReader, TapeReader, TapeWriter
from recorder.tape.lock import LOCK_KEY, WriterLock
from recorder.tape.reading import refuse_if_packed
from recorder.tape.tables import TableWriter, rows_checksum
from recorder.tape.trial_columns import read_columns

_ARRAYS = "|".join([SPIKES, *LayerTables._fields])
_OURS = re.compile(
    rf"layers/[^/]+/({ROOT_DOCUMENT}|({_ARRAYS})/({ROOT_DOCUMENT}|c(/[0-9]+)*))"
    rf"|trials/[^/]+/({ROOT_DOCUMENT}|c/[0-9]+)|.+\.[0-9a-f]{{16}}\.partial"
)


@dataclass(frozen=True)
class LayerCut:
    """What recovery keeps of a layer: ``frames`` of the ``committed`` ones."""

    name: str
    frames: int
    committed: int


@dataclass(frozen=True)
class LayerLoss:
    """What recovery marks lost of a layer.

    Attributes
    ----------
    name : str
    steps : tuple of (int, int)
        First and last step of each run of frames that follow each other.
    frames : int
        Frames that are not lost yet.
    lost : tuple of (int, int)
        All frames of the layer that are lost then, as `LayerCommit` has them.
    """

    name: str
    steps: tuple[tuple[int, int], ...]
    frames: int
    lost: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Recovery:
    """What recovering a recording means.

    Attributes
    ----------
    cut_step : int or None
        Step before which the recording is cut; None if nothing that was committed is lost.
    layers : tuple of LayerCut
    lost : tuple of LayerLoss
        Layers of which frames are marked lost.
    dropped : tuple of str
        Keys of what lies behind the last commit, or behind the cut, and is removed.
    foreign : tuple of str
        Keys that no recording has; they are left alone.
    rewritten : tuple of Problem
        Damage to what follows from the rest, and is written again.
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
    """Say what `recover` would do, given everything that `verification` found wrong; nothing is changed.

    Parameters
    ----------
    reader : TapeReader
    problems : sequence of Problem
    mark_lost : bool
        Mark the steps of damaged frames lost, layer by layer, instead of cutting all layers before them.
    """
    refuse_if_packed(reader)
    hopeless = tuple(p for p in problems if p.frame is None and not p.is_redundant)
    rewritten = tuple(p for p in problems if p.is_redundant)
    if hopeless:
        layers = tuple(LayerCut(name, layer.frames, layer.frames) for name, layer in reader.layers.items())
        return Recovery(None, layers, (), (), (), rewritten, hopeless)
    damaged: dict[str, list[tuple[int, int]]] = {}
    for problem in problems:
        if problem.layer is not None and problem.frame is not None and problem.last_frame is not None:
            damaged.setdefault(problem.layer, []).append((problem.frame, problem.last_frame))
    cut_step = min(
        (_first_step(reader.layers[name], frames) for name, frames in damaged.items() if not mark_lost),
        default=None,
    )
    layers = tuple(
        LayerCut(name, layer.frames if cut_step is None else _frames_before(layer, cut_step), layer.frames)
        for name, layer in reader.layers.items()
    )
    kept = _keys_of(reader, {layer.name: layer.frames for layer in layers})
    others = sorted(key for key in reader.store.keys() if key not in kept)  # noqa: SIM118 - no mapping
    return Recovery(
        cut_step=cut_step,
        layers=layers,
        lost=tuple(_loss(reader.layers[name], frames) for name, frames in damaged.items() if mark_lost),
        dropped=tuple(key for key in others if _OURS.fullmatch(key)),
        foreign=tuple(key for key in others if not _OURS.fullmatch(key)),
        rewritten=rewritten,
        problems=(),
    )


def recover(
    store: ByteStore, recovery: Recovery, commit_number: int, *, cut: bool = False, take_over: bool = False
) -> RecordingMetadata:
    """Do what `plan_recovery` said of a recording as of its commit ``commit_number``.

    Returns
    -------
    RecordingMetadata
        Of the closed recording.

    Raises
    ------
    RecordingDamagedError
        If committed frames would be lost and ``cut`` is false, if there is damage that cutting cannot
        mend, or if the recording has gone on meanwhile. Nothing is changed then.
    RecordingInUseError
        If a writer is at work.
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
        reader = TapeReader.open(store)
        if reader.metadata.commit_number != commit_number:
            raise RecordingDamagedError(f"{store.location} has gone on meanwhile; nothing was changed")
        reader = TapeReader(store, _give_up(reader, recovery))
        for name, layer in reader.layers.items():
            if any(problem.layer == name for problem in recovery.rewritten):
                _count_again(layer)
        tape = TapeWriter.go_on(reader, lock)
        progress = {
            name: _last_progress(tape, name, segment) for name, (_, segment) in tape.resumed_layers().items()
        }
        metadata = tape.commit(progress, [], reader.metadata.trials.trials, close=True)
        # Only now, as what lies behind the cut is promised by the record that has just been replaced.
        for key in recovery.dropped:
            store.delete(key)
        store.persist()
        return metadata
    finally:
        lock.release()


def _last_progress(tape: TapeWriter, name: str, segment: Rows) -> LayerProgress:
    pending = tape.pending_frames(name)
    row = pack_frames(pending)[0] if len(pending) else None
    return LayerProgress(len(pending), row, *SegmentLog(segment).take())


def _count_again(layer: LayerReader) -> None:
    """Write the counts of whole blocks anew.

    Each was found to have the checksum that the commit names, but for those with lost frames, of which
    nothing is promised.
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


def _first_step(layer: LayerReader, damaged: Sequence[tuple[int, int]]) -> int:
    """Step of the first damaged frame."""
    segments = layer.segments()
    frames = np.array([min(damaged)[0]], np.int64)
    return int(segments.steps_of(frames, segments.segment_of(frames))[0])


def _loss(layer: LayerReader, damaged: Sequence[tuple[int, int]]) -> LayerLoss:
    """The steps that damaged frames lie in, and all frames that are lost with them."""
    segments = layer.segments()
    whole = segments.whole_steps(np.array(sorted({*damaged}), np.int64))
    ends = np.stack([whole[:, 0], whole[:, 1] - 1])
    first, last = segments.steps_of(ends, segments.segment_of(ends))
    lost = tuple((int(begin), int(end)) for begin, end in merge_ranges(np.concatenate([layer.lost, whole])))
    frames = sum(end - begin for begin, end in lost) - layer.commit.lost_frames
    steps = merge_ranges(np.stack([first, last + 1], axis=1)) - [0, 1]
    return LayerLoss(layer.name, tuple((int(begin), int(end)) for begin, end in steps), frames, lost)


def _give_up(reader: TapeReader, recovery: Recovery) -> RecordingMetadata:
    """The commit record without what is cut off, and with what is marked lost."""
    if recovery.cut_step is not None:
        return _cut(reader, recovery)
    lost = {loss.name: loss.lost for loss in recovery.lost}
    layers = (replace(layer, lost=lost.get(layer.name, layer.lost)) for layer in reader.metadata.layers)
    return replace(reader.metadata, layers=tuple(layers))


def _frames_before(layer: LayerReader, step: int) -> int:
    return layer.segments().select_steps(0, step).frames


def _cut(reader: TapeReader, recovery: Recovery) -> RecordingMetadata:
    """The commit record of the recording without the frames behind the cut."""
    layers = tuple(_cut_layer(reader.layers[cut.name], cut.frames) for cut in recovery.layers)
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
    return replace(reader.metadata, layers=tuple(layer for layer in layers if layer.frames), trials=trials)


def _cut_layer(layer: LayerReader, frames: int) -> LayerCommit:
    plan = layer.plan
    chunks, blocks = frames // plan.chunk_frames, frames // plan.block_frames
    segments = clip_segments(layer.segments().rows, frames)
    tail: tuple[int, ...] = ()
    if frames % plan.chunk_frames:
        trains = mask_trains(
            layer.chunk_or_silence(chunks), range_mask(plan.chunk_frames, 0, frames % plan.chunk_frames)
        )
        tail = tuple(checksum(trains[plan.part_slice(part)].tobytes()) for part in range(plan.parts))
    return replace(
        layer.commit,
        frames=frames,
        segments=TableCommit(len(segments), rows_checksum(segments)),
        checksums=TableCommit(chunks, rows_checksum(layer.checksums()[:chunks])),
        counts_checksums=TableCommit(blocks, rows_checksum(layer.counts_checksums()[:blocks])),
        tail=tail,
        lost=tuple((begin, min(end, frames)) for begin, end in layer.commit.lost if begin < frames),
    )


def _keys_of(reader: TapeReader, frames: dict[str, int]) -> set[str]:
    """Every key of the recording, closed, with so many frames of each layer."""
    kept = (_closed(layer, frames[name]) for name, layer in reader.layers.items() if frames[name])
    documents = plain_documents(replace(reader.metadata, layers=tuple(kept)))
    return {ROOT_DOCUMENT, LOCK_KEY, *all_keys(documents)}


def _closed(layer: LayerReader, frames: int) -> LayerCommit:
    """What a commit says of the extent of a layer that is closed with so many frames."""
    plan, segments = layer.plan, len(clip_segments(layer.segments().rows, frames))
    return replace(
        layer.commit,
        frames=frames,
        counts_checksums=TableCommit(-(-frames // plan.block_frames)),
        checksums=TableCommit(plan.chunk_count(frames)),
        segments=TableCommit(segments),
    )
