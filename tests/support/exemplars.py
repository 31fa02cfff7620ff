"""Makes the small recordings that exercise the whole format, and their right answers.

For whoever writes another reader: ``python tests/support/exemplars.py FOLDER`` writes recordings and
``answers.json``. What is committed in ``tests/recordings`` was made so. Answers follow from what was written,
and not from what our reader makes of it; digests are ours, and compared with those of a reader written from
FORMAT.md alone.

In the answers, ``sha256`` of a layer is of its events, a byte for each slot; of its values and signals of all
numbers, little-endian, in C order, 0 in lost frames, and of bfloat16 as float32. Of a layer of counts it is
that of ``counts``, uint32, in the same way; ``spikes`` are those that were not lost.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

import exemplars_of_parts
import exemplars_of_values
from made_recordings import lose_chunks
from recorder.format import plan_chunks
from recorder.format.bits import pack_frames
from recorder.format.layout import folder_name
from recorder.keeping import pack_recording
from recorder.keeping.digest import digest_recording, join_recordings
from recorder.stores import Folder, open_store
from recorder.tape import LayerProgress, TapeReader, TapeWriter, trial_columns

Frames = NDArray[np.bool_]
Rows = Sequence[Sequence[int]]
# Texts of more characters stand in the answers by their SHA-256.
LONG_TEXT = 1000

Presented = list[tuple[int, int, dict[str, list[Any]]]]


def spikes(seed: int, frames: int, shape: tuple[int, ...] = ()) -> Frames:
    """Spikes that any language can make: neuron n fires at frame f where (7f + 3n² + f·n + seed) % 5 is 0."""
    frame, neuron = np.ogrid[:frames, : int(np.prod(shape))]
    return ((frame * 7 + neuron * neuron * 3 + frame * neuron + seed) % 5 == 0).reshape(frames, *shape)


def write(
    path: Path,
    layers: Mapping[str, tuple[Frames, Rows]],
    presented: Presented,
    *,
    provenance: Mapping[str, Any] | None = None,
    close: bool = True,
    uncalled: Mapping[str, int] | None = None,
    sizes: Mapping[str, Any] | None = None,
) -> TapeWriter:
    """Write frames of each layer with these rows of segments; chunks are as small as can be."""
    tape = TapeWriter.create(
        Folder(path, durability="process"), {"made by": "tests/support/exemplars.py", **(provenance or {})}
    )
    progress = {}
    for position, (name, (frames, segments)) in enumerate(layers.items()):
        plan = plan_chunks(frames.shape[1:], **{"target_bytes": 1, **(sizes or {})})
        tape.add_layer(name, plan, "float32", "recorder.write_recording", position)
        progress[name] = append(tape, name, frames, segments)
    begun = max((number + 1 for number, _, _ in presented), default=0)
    tape.commit(progress, presented, begun, close=close, uncalled=uncalled)
    return tape


def append(tape: TapeWriter, name: str, frames: Frames, segments: Rows) -> LayerProgress:
    """Append frames to a layer that ends with a whole row; what there is to say of them at a commit."""
    flat = frames.reshape(len(frames), -1)
    whole, pending = divmod(len(flat), 8)
    tape.append(name, pack_frames(flat[: whole * 8]))
    row = pack_frames(flat[whole * 8 :])[0] if pending else None
    rows = np.array(segments, np.int64).reshape(-1, 5)
    return LayerProgress(pending, row, rows[:-1], rows[-1:])


def make_all(folder: Path) -> dict[str, Any]:
    """Write all recordings into a folder; the right answers of each."""
    answers: dict[str, Any] = {}
    for make in (_parts, _trials, _names, _growing, _ranks):
        answers |= make(folder)
    further = exemplars_of_values.make_all(folder) | exemplars_of_parts.make_all(folder)
    for name, written in further.items():
        answer = _answer(folder / name, written.events(), written.columns, len(written.trials))
        more = {layer: written.answers(layer) for layer in answer["layers"]}
        answers[name] = answer | {"layers": {layer: answer["layers"][layer] | more[layer] for layer in more}}
        answers[name] |= written.counted()
        if written.connections is not None:
            answers[name]["fan_outs"] = exemplars_of_values.fan_out_answers()
    return answers


def _answer(
    path: Path, layers: Mapping[str, tuple[Frames, Rows]], columns: Mapping[str, list[Any]], trials: int
) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = TapeReader.open(open_store(path, read_only=True))
    record = reader.metadata
    lost = {layer.name: layer.lost for layer in record.layers}
    found = {}
    for name, (frames, segments) in layers.items():
        kept = frames.copy()
        for first, last in lost[name]:
            kept[first:last] = False
        is_apart = any(layer.name == name and layer.is_apart for layer in record.layers)
        found[name] = {
            "folder": folder_name(name, apart=is_apart),
            "shape": [*frames.shape],
            "segments": [[*map(int, row)] for row in segments],
            "lost": [[*frames] for frames in lost[name]],
            "spikes": int(kept.sum()),
            # Of a byte for each slot, 0 or 1, in C order.
            "sha256": hashlib.sha256(kept.astype(np.uint8).tobytes()).hexdigest(),
        }
    return {
        "format_version": record.format_version,
        "state": record.state,
        "packed": bool(record.shard_bytes),
        "digest": digest_recording(reader),
        "layers": found,
        "trials": trials,
        "columns": {name: [*map(_short, values)] for name, values in columns.items()},
        "uncalled": dict(record.uncalled),
    }


def _short(value: Any) -> Any:
    """The value itself; of a long text its SHA-256."""
    if isinstance(value, str) and len(value) > LONG_TEXT:
        return {"sha256": hashlib.sha256(value.encode()).hexdigest()}
    return value


def _parts(folder: Path) -> dict[str, Any]:
    """Split axes with padding, several chunks and blocks, a single neuron, gaps; the same in shards."""
    layers = {
        "wide": (spikes(0, 337, (5, 3, 2)), [[0, 0, 67, 5, -1], [335, 70, 2, 1, -1]]),
        "one": (spikes(1, 337), [[0, 0, 100, 3, -1], [300, 100, 37, 1, -1]]),
        "full": (spikes(2, 128, (9,)), [[0, 3, 16, 8, -1]]),
    }
    sizes = {"target_bytes": 100, "limit_bytes": 100, "counts_share": 0.25}
    write(folder / "parts.zarr", layers, [], sizes=sizes)
    reader = TapeReader.open(Folder(folder / "parts.zarr"))
    pack_recording(reader, str(folder / "parts-packed.zarr"), shard_bytes=600)
    return {name: _answer(folder / name, layers, {}, 0) for name in ("parts.zarr", "parts-packed.zarr")}


def _trials(folder: Path) -> dict[str, Any]:
    """Columns of every kind, values missing; no trial, changing batches, lost frames, layers not called."""
    frames = spikes(3, 64 * 3 + 13, (3,))
    # The first two rows of segments are one run of steps, as after a cut; the batch changes within trial 1.
    rows = [
        [0, 0, 10, 4, 0], [40, 10, 10, 4, 0], [80, 21, 20, 3, 1], [140, 41, 20, 2, 1], [180, 61, 20, 1, -1],
        [200, 90, 5, 1, 2],
    ]  # fmt: skip
    layers = {"a": (frames, rows), "b": (~frames, rows)}
    columns: dict[str, list[Any]] = {
        "label": ["cat", True, 1, None, 1.0, "1", 'a "naïve"\nlabel\U0001f63a', None],
        "count": [3, None, -(2**62), 2**53 + 1, 0, None, 7, 8],
        "weight": [0.5, None, -0.0, 1e300, 1e-300, 0.1, 2.0, None],
        "nothing": [None] * 8,
        "trial_trial": [5] * 8,
        "a/b": ["x"] * 8,
    }
    batches = [4, 3, 1]
    presented: Presented = []
    first = 0
    for number, batch in enumerate(batches):
        presented.append(
            (number, batch, {name: values[first : first + batch] for name, values in columns.items()})
        )
        first += batch
    keys = {
        "trial": [number for number, batch in enumerate(batches) for _ in range(batch)],
        "sample": [sample for batch in batches for sample in range(batch)],
    }
    path = folder / "trials.zarr"
    write(path, layers, presented, uncalled={"gone": 12, "never": 0})
    # A chunk in the midst of one layer, and the last one, which is not full, of the other.
    lose_chunks(path, {"a": [0.4], "b": [1.0]})
    pack_recording(TapeReader.open(Folder(path)), str(folder / "trials.zip"))
    return {name: _answer(folder / name, layers, keys | columns, 3) for name in (path.name, "trials.zip")}


def _names(folder: Path) -> dict[str, Any]:
    """Names that are escaped, cut or set apart; categories in an array, more than fill a chunk of it."""
    names = ["", "__x", "..", "a/b=c", "Ä ☃", "x" * 300, "é" * 60, "lif", "LIF", "Lif.1", "lif.1"]
    layers = {name: (spikes(place, 20, (2,)), [[0, 0, 10, 2, 0]]) for place, name in enumerate(names)}
    labels = [f"{'long ' * 3000}{sample}" for sample in range(20)]
    presented: Presented = [(0, 20, {"label": labels, "Label 2": [True] * 20})]
    columns = {"trial": [0] * 20, "sample": [*range(20)], "label": labels, "Label 2": [True] * 20}
    with mock.patch.object(trial_columns, "MAX_RECORDED_BYTES", 1000):
        _write_packed(folder / "names.zip", layers, presented)
    return {"names.zip": _answer(folder / "names.zip", layers, columns, 1)}


def _growing(folder: Path) -> dict[str, Any]:
    """A recording as a kill leaves it in the midst of its second commit: more is stored than is promised."""
    whole = spikes(4, 320, (3,))
    presented: Presented = [(0, 4, {"label": ["a", "b", "a", None]})]
    path = folder / "growing.zarr"
    tape = write(path, {"a": (whole[:96], [[0, 0, 24, 4, 0]])}, presented, close=False)
    progress = append(tape, "a", whole[96:], [[0, 0, 50, 4, 0], [200, 60, 40, 3, 1]])
    later: Presented = [(1, 3, {"label": ["d", "d", "d"]})]

    class KilledError(Exception):
        """Stands for the end of the process."""

    with mock.patch.object(tape._records, "write", side_effect=KilledError), suppress(KilledError):
        tape.commit({"a": progress}, later, 2)
    tape.release()
    columns = {"trial": [0] * 4, "sample": [*range(4)], "label": ["a", "b", "a", None]}
    return {path.name: _answer(path, {"a": (whole[:96], [[0, 0, 24, 4, 0]])}, columns, 1)}


def _write_packed(path: Path, *given: Any, **options: Any) -> None:
    """Write a recording elsewhere, and pack it to ``path``."""
    with tempfile.TemporaryDirectory() as place:
        write(Path(place) / "run.zarr", *given, **options)
        pack_recording(TapeReader.open(Folder(Path(place) / "run.zarr")), str(path))


def _ranks(folder: Path) -> dict[str, Any]:
    """Two ranks of a distributed run, which have one digest together."""
    answers, digests = {}, []
    for rank in range(2):
        layers = {"fc": (spikes(5 + rank, 30, (4,)), [[0, 0, 10, 3, -1]])}
        run = {"run": "0123456789abcdef", "rank": rank, "ranks": 2}
        name = f"run.rank-{rank:05}-of-00002.zip"
        _write_packed(folder / name, layers, [], provenance={"distributed": run})
        answers[name] = _answer(folder / name, layers, {}, 0)
        digests.append(answers[name]["digest"])
    return {**answers, "run": {"digest": join_recordings(digests)}}


def main() -> None:
    """Write everything into the folder that is named on the command line."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(make_all(folder), indent=1, ensure_ascii=True, sort_keys=True)
    (folder / "answers.json").write_text(f"{text}\n")


if __name__ == "__main__":
    main()
