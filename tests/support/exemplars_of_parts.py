"""Small recordings of which parts of layers were kept, for `exemplars`, with what is in them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from unittest import mock

import numpy as np
import zarr

from analysis.keeping import find_problems
from recorder.format.bits import pack_frames
from recorder.format.record.parts import LayerPart
from recorder.keeping import pack_recording, plan_recovery, recover
from recorder.stores import Folder
from recorder.tape import LayerProgress, TapeReader
from tapes import Made, Run, Trial, kept_frames
from written_exemplars import TRIALS, Written, levels, numbers

RUNS = [Run(0, 40, 3, 0), Run(40, 50, 2, 1), Run(95, 30, 2, -1), Run(130, 7, 3, 2)]
FRAMES = 301
WIDE, FLAT = (5, 3, 2), (13,)
PARTS = {
    "slices": LayerPart(WIDE, (range(1, 5, 2), range(0, 3), range(1, 2))),
    "flat": LayerPart(WIDE, (0, 7, 8, 29), samples=2),
    "graded": LayerPart(FLAT, (range(0, 13, 3),), trials_every=2),
    "some": LayerPart((), samples=1, trials_every=2),
    "counted": LayerPart(WIDE, counts_only=True),
    "few": LayerPart(FLAT, (2, 3, 12), samples=2, trials_every=2, counts_only=True),
    "single": LayerPart((), counts_only=True),
}


def make_all(folder: Path) -> dict[str, Written]:
    """Write all of these recordings into a folder; what each holds."""
    return {**_parts(folder), **_growing(folder), **_lost(folder)}


def _parts(folder: Path) -> dict[str, Written]:
    """Every part that may be kept, beside a whole layer, of bits, values and counts."""
    trials = [*TRIALS, Trial(2, 3, {"label": ["c", "a", "b"]})]
    layers = {name: levels(FRAMES, part.shape, [(0, 0, 1)]) > 0 for name, part in PARTS.items()}
    layers["graded"] = levels(FRAMES, FLAT, [(0, 0, 3)])
    layers["whole"] = levels(FRAMES, (3,), [(0, 0, 1)]) > 0
    signals = {("few", "v"): Made(numbers(FRAMES, FLAT, "float32"), every=20, samples=1)}
    written = Written(layers, *(RUNS, trials), signals=signals, parts=PARTS)
    written.write(folder / "kept.zarr")
    pack_recording(TapeReader.open(Folder(folder / "kept.zarr")), str(folder / "kept.zip"), shard_bytes=600)
    return {"kept.zarr": written, "kept.zip": written}


def _growing(folder: Path) -> dict[str, Written]:
    """As a kill leaves it in the midst of its second commit, which falls into a trial."""
    runs, later = [Run(0, 50, 3, 0)], [Run(0, 60, 3, 0), Run(60, 50, 2, 1)]
    parts = {
        "bits": LayerPart(WIDE, (range(1, 5, 2), range(0, 3), range(0, 2))),
        "counts": LayerPart(FLAT, (1, 2, 5), counts_only=True),
    }
    whole = {name: levels(280, part.shape, [(0, 0, 1)]) > 0 for name, part in parts.items()}
    first = {name: frames[:150] for name, frames in whole.items()}
    written = Written(first, runs, [Trial(0, 3, {"label": ["a", "b", "a"]})], parts=parts)
    path = folder / "growing-kept.zarr"
    tape = written.write(path, close=False)
    progress = {}
    for name, part in parts.items():
        kept, log = kept_frames(whole[name], later, part)
        flat = kept.reshape(len(kept), -1)
        # The frames that filled no byte come again.
        tape.append(name, pack_frames(flat[144:]))
        progress[name] = LayerProgress(0, None, *log.look())

    class KilledError(Exception):
        """Stands for the end of the process."""

    with mock.patch.object(tape._records, "write", side_effect=KilledError), suppress(KilledError):
        tape.commit(progress, [(1, 2, {"label": ["c", "c"]})], 2)
    tape.release()
    return {path.name: written}


def _lost(folder: Path) -> dict[str, Written]:
    """Segments of counts that are marked lost: one of several, and all of a layer, whose counts are gone."""
    parts = {"a": LayerPart(FLAT, (range(0, 13, 2),), counts_only=True), "b": PARTS["counted"]}
    layers = {name: levels(FRAMES, part.shape, [(0, 0, 1)]) > 0 for name, part in parts.items()}
    lost = {("a", ""): [[120, 220]], ("b", ""): [[0, FRAMES]]}
    trials = [*TRIALS, Trial(2, 3, {"label": ["c", "a", "b"]})]
    written = Written(layers, *(RUNS, trials), lost=lost, parts=parts)
    path = folder / "lost-counts.zarr"
    written.write(path)
    # The first sample of the second segment.
    counts = zarr.open_group(str(path), mode="r+", use_consolidated=False)["layers/a/counts"]
    assert isinstance(counts, zarr.Array)
    counts[3] = np.full(counts.shape[1:], 7, np.uint32)
    (path / "layers/b/counts/c/0/0/0/0").unlink()
    reader = TapeReader.open(Folder(path))
    recovery = plan_recovery(reader, find_problems(reader), mark_lost=True)
    recover(Folder(path, durability="process"), recovery, reader.metadata.commit_number)
    pack_recording(TapeReader.open(Folder(path)), str(folder / "lost-counts.zip"))
    return {path.name: written, "lost-counts.zip": written}
