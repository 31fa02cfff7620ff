"""Recordings for tests, made with the writer itself and without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.format import bits, plan_chunks
from recorder.format.layout import CHUNK_LIMIT_BYTES, CHUNK_TARGET_BYTES, COUNTS_SHARE
from recorder.format.metadata import ValuesCommit
from recorder.format.segments import SegmentLog
from recorder.format.values import pack_levels, pending_rows
from recorder.stores import Folder, ZarrStore
from recorder.tape import LayerProgress, TapeWriter, writing


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
) -> TapeWriter:
    """Write layers of bool [frames, *neuron]; ``chunk_bytes`` makes the chunks so small.

    Of integers, which are levels, values are written; ``scales`` has what they are multiples of, by layer.

    ``limit_bytes`` is the size from which a chunk is stored in parts, ``counts_share`` what counts may cost.
    """
    target = Folder(store, durability="process") if isinstance(store, str | Path) else store
    writer = TapeWriter.create(target, provenance or {"made by": "tests"})
    for position, (name, frames) in enumerate(layers.items()):
        plan = plan_chunks(
            frames.shape[1:], target_bytes=chunk_bytes, limit_bytes=limit_bytes, counts_share=counts_share
        )
        writer.add_layer(name, plan, "float32", "torch.nn.modules.module.Module", position)
    progress = {}
    for name, frames in layers.items():
        log = SegmentLog()
        for run in runs[name] if isinstance(runs, Mapping) else runs:
            log.extend(run.first_step, run.steps, run.batch, run.trial)
        assert log.frames == len(frames), f"the runs have {log.frames} frames, layer {name} has {len(frames)}"
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
        progress[name] = LayerProgress(pending, row, *log.look(), planes, values)
    presented: writing.Presented = [
        (t.number, t.batch, {k: list(v) for k, v in t.columns.items()}) for t in trials
    ]
    begun = max((t.number + 1 for t in trials), default=0) if trials_begun is None else trials_begun
    writer.commit(progress, presented, begun, close=close)
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
