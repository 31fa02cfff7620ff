"""Recordings for tests, made with the writer itself and without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.format import bits, plan_chunks
from recorder.format.connections import Connections, FanOut, InputReader, Reader
from recorder.format.layout import CHUNK_LIMIT_BYTES, CHUNK_TARGET_BYTES, COUNTS_SHARE, plan_counts
from recorder.format.planes.values import pack_levels, pending_rows
from recorder.format.record.extents import TableCommit
from recorder.format.record.metadata import ValuesCommit
from recorder.format.record.operations import operations_of
from recorder.format.record.parts import Kept, LayerPart, kept_indices, kept_shape
from recorder.format.record.signals import SignalCommit, plan_signal
from recorder.format.segments import SegmentLog
from recorder.stores import Folder, ZarrStore
from recorder.tape import LayerProgress, TapeWriter, writing
from recorder.tape.layers.signal_writing import SignalProgress


@dataclass
class Run:
    """Consecutive steps with one batch size and one trial."""

    first_step: int
    steps: int
    batch: int
    trial: int = -1


@dataclass
class Trial:
    """A trial and the columns of its samples."""

    number: int
    batch: int
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)


@dataclass
class Made:
    """A signal of a layer, given for each of the layer's frames, and what is kept of it."""

    values: NDArray[Any]
    every: int = 1
    samples: int | None = None
    neurons: Kept = None

    def kept(self, runs: Sequence[Run]) -> tuple[NDArray[Any], SegmentLog]:
        """The values that are kept, [frames, *neuron], and their segments."""
        log, pieces, first = SegmentLog(), [self.values[:0]], 0
        for run in runs:
            for step in range(run.first_step, run.first_step + run.steps):
                batch = min(run.batch, self.samples or run.batch)
                if step % self.every == 0:
                    pieces.append(self.values[first : first + batch])
                    log.extend(step, 1, batch, run.trial)
                first += run.batch
        values = np.concatenate(pieces)
        shape = values.shape[1:]
        flat = values.reshape(len(values), -1)[:, kept_indices(shape, self.neurons)]
        return flat.reshape(len(values), *kept_shape(shape, self.neurons)), log


@dataclass
class Counts:
    """Operations of weight layers, int64 [frames, weight layers, kinds]."""

    weight_layers: tuple[str, ...]
    values: NDArray[np.int64]
    uncounted: Mapping[str, str] = field(default_factory=dict)
    chunk_bytes: int = 0


def kept_frames(
    frames: NDArray[Any], runs: Sequence[Run], part: LayerPart | None
) -> tuple[NDArray[Any], SegmentLog]:
    """The frames that are kept of a whole layer, [frames, *neuron], and their segments."""
    log, pieces, first = SegmentLog(), [frames[:0]], 0
    part = part or LayerPart(frames.shape[1:])
    for run in runs:
        batch, size = min(run.batch, part.samples or run.batch), run.steps * run.batch
        if run.trial < 0 or run.trial % part.trials_every == 0:
            steps = frames[first : first + size].reshape(run.steps, run.batch, *frames.shape[1:])
            pieces.append(steps[:, :batch].reshape(-1, *frames.shape[1:]))
            log.extend(run.first_step, run.steps, batch, run.trial)
        first += size
    assert first == len(frames), f"the runs have {first} frames, the layer has {len(frames)}"
    kept = np.concatenate(pieces)
    flat = kept.reshape(len(kept), math.prod(part.shape))[:, kept_indices(part.shape, part.neurons)]
    return flat.reshape(len(kept), *part.kept_shape), log


# Layers of these tests, of shapes (3, 7) and (9,), and who reads them.
CONNECTIONS = Connections(
    {
        "1": (Reader("2", "Conv1d", (5, 3, 3), FanOut(5, (None, (2, 3, 3, 3, 3, 3, 2))), None),),
        "3": (Reader("4", "Linear", (4, 9), FanOut(4), FanOut(1, ((0, 4, 3, 4, 4, 1, 4, 4, 4),))),),
    },
    (InputReader("0", "Linear", 800, 700, 8, is_binary=False),),
)


def write_recording(
    store: str | Path | Folder | ZarrStore,
    layers: Mapping[str, NDArray[Any]],
    runs: Sequence[Run] | Mapping[str, Sequence[Run]],
    trials: Sequence[Trial] = (),
    *,
    close: bool = True,
    provenance: Mapping[str, Any] | None = None,
    chunk_bytes: int = CHUNK_TARGET_BYTES,
    trials_begun: int | None = None,
    limit_bytes: int = CHUNK_LIMIT_BYTES,
    counts_share: float = COUNTS_SHARE,
    scales: Mapping[str, float] | None = None,
    dtypes: Mapping[str, str] | None = None,
    signals: Mapping[tuple[str, str], Made] | None = None,
    connections: Connections | None = None,
    operations: Counts | None = None,
    parts: Mapping[str, LayerPart] | None = None,
) -> TapeWriter:
    """Write layers of bool [frames, *neuron]; ``chunk_bytes`` makes the chunks so small.

    Of integers, which are levels, values are written; ``scales`` has what they are multiples of by layer,
    and ``dtypes`` the data type of what it puts out where that is not float32.

    ``limit_bytes`` is the size from which a chunk is stored in parts, ``counts_share`` what counts may cost.
    ``signals`` are those of each layer, by the names of both; ``operations`` have the frames of ``runs``.
    ``parts`` says what is kept of layers.
    """
    target = Folder(store, durability="process") if isinstance(store, str | Path) else store
    writer = TapeWriter.create(target, provenance or {"made by": "tests"})
    kept_of, logs = {}, {}
    for position, (name, whole) in enumerate(layers.items()):
        part, of_layer = (parts or {}).get(name), runs[name] if isinstance(runs, Mapping) else runs
        kept_of[name], logs[name] = kept_frames(whole, of_layer, part)
        frames = kept_of[name]
        plan = plan_chunks(
            frames.shape[1:], target_bytes=chunk_bytes, limit_bytes=limit_bytes, counts_share=counts_share
        )
        if part and part.counts_only:
            plan = plan_counts(part.kept_shape)
        dtype = (dtypes or {}).get(name, "float32")
        writer.add_layer(name, plan, dtype, "torch.nn.modules.module.Module", position, part)
    progress = {}
    for name, frames in kept_of.items():
        log = logs[name]
        flat = frames.reshape(len(frames), math.prod(frames.shape[1:]))
        whole, pending = divmod(len(frames), 8)
        values = None
        if frames.dtype == np.bool_:
            writer.append(name, bits.pack_frames(flat[: whole * 8]))
        else:
            # Some rows at a time, so that planes begin where they are first needed.
            for first in range(0, whole * 8, 64):
                writer.append(name, pack_levels(flat[first : min(first + 64, whole * 8)]))
            ends = min(int(flat.min()), 0), max(int(flat.max()), 0)
            values = ValuesCommit((scales or {}).get(name, 1.0), *ends)
        row, planes = pending_rows(flat[whole * 8 :])
        of_signals = {}
        for (layer, signal), made in (signals or {}).items():
            if layer == name:
                kept, signal_log = made.kept(runs[name] if isinstance(runs, Mapping) else runs)
                shape, itemsize = kept.shape[1:], kept.dtype.itemsize
                sizes = {"target_bytes": chunk_bytes, "limit_bytes": limit_bytes}
                about = SignalCommit(
                    *(signal, kept.dtype.name, made.values.shape[1:], plan_signal(shape, itemsize, **sizes)),
                    *(0, TableCommit(), TableCommit()),
                    **{"neurons": made.neurons, "every": made.every, "samples": made.samples},
                )
                writer.add_signal(name, about)
                writer.append_signal(name, signal, kept.reshape(len(kept), -1))
                of_signals[signal] = SignalProgress(*signal_log.look())
        progress[name] = LayerProgress(pending, row, *log.look(), planes, values, of_signals)
    counted = None
    if operations is not None:
        assert not isinstance(runs, Mapping)
        kept, counted_log = Made(operations.values).kept(runs)
        shape = kept.shape[1:]
        target_bytes = operations.chunk_bytes or chunk_bytes
        plan = plan_signal(shape, 8, target_bytes=target_bytes, limit_bytes=limit_bytes)
        writer.add_operations(replace(operations_of(operations.weight_layers), plan=plan))
        writer.append_operations(kept.reshape(len(kept), -1))
        counted = SignalProgress(*counted_log.look())
    presented: writing.Presented = [
        (t.number, t.batch, {k: list(v) for k, v in t.columns.items()}) for t in trials
    ]
    begun = max((t.number + 1 for t in trials), default=0) if trials_begun is None else trials_begun
    uncounted = operations.uncounted if operations is not None else None
    writer.commit(
        *(progress, presented, begun),
        **{"connections": connections, "operations": counted, "uncounted": uncounted, "close": close},
    )
    return writer


def go_on(store: str | Path | Folder, layers: Mapping[str, NDArray[np.bool_]], run: Run) -> TapeWriter:
    """Resume a recording whose frames fill whole rows of eight, add such frames, and close it."""
    target = Folder(store, durability="process") if isinstance(store, str | Path) else store
    writer = TapeWriter.resume(target)
    progress = {}
    for name, (_, segment) in writer.resumed_layers().items():
        log = SegmentLog(segment)
        log.extend(run.first_step, run.steps, run.batch, run.trial)
        assert len(layers[name]) % 8 == 0
        writer.append(name, bits.pack_frames(layers[name].reshape(len(layers[name]), -1)))
        progress[name] = LayerProgress(0, None, *log.look())
    writer.commit(progress, [], 0, close=True)
    return writer
