"""Small recordings that exercise values, signals and connections, for `exemplars`, with what is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from analysis.keeping import find_problems
from recorder.format import plan_chunks
from recorder.format.connections import Connections, FanOut, InputReader, Reader
from recorder.format.record.parts import LayerPart, kept_indices
from recorder.format.segments import SegmentLog
from recorder.format.values import pack_levels, scale_levels
from recorder.keeping import pack_recording, plan_recovery, recover
from recorder.stores import Folder
from recorder.tape import LayerProgress, TapeReader
from recorder.tape.layers.signal_writing import SignalProgress
from tapes import Counts, Made, Run, Trial, kept_frames, write_recording

Levels = NDArray[np.integer[Any]]
# What is written so small that there are many chunks, parts and blocks.
SIZES: dict[str, Any] = {"chunk_bytes": 100, "limit_bytes": 100, "counts_share": 0.25}
MADE_BY = {"made by": "tests/support/exemplars.py"}
TRIALS = [Trial(0, 3, {"label": ["a", "b", "a"]}), Trial(1, 2, {"label": ["b", "c"]})]


@dataclass
class Written:
    """What was written to a recording, and what of it was lost since."""

    layers: Mapping[str, NDArray[Any]]
    runs: Sequence[Run]
    trials: Sequence[Trial] = ()
    scales: Mapping[str, float] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    signals: Mapping[tuple[str, str], Made] = field(default_factory=dict)
    connections: Connections | None = None
    operations: Counts | None = None
    # Ranges of frames, by layer and signal; of the layer itself "".
    lost: Mapping[tuple[str, str], list[list[int]]] = field(default_factory=dict)
    parts: Mapping[str, LayerPart] = field(default_factory=dict)

    def write(self, path: Path, **options: Any) -> Any:
        """Write all of it."""
        return write_recording(
            *(path, self.layers, self.runs, self.trials),
            **{"scales": self.scales, "dtypes": self.dtypes, "signals": self.signals},
            **{"connections": self.connections, "operations": self.operations, "parts": self.parts},
            **{"provenance": MADE_BY},
            **{**SIZES, **options},
        )

    @property
    def columns(self) -> dict[str, list[Any]]:
        """Columns of the trials."""
        keys = [(trial.number, sample) for trial in self.trials for sample in range(trial.batch)]
        labels = [label for trial in self.trials for label in trial.columns["label"]]
        trials, samples = ([key[place] for key in keys] for place in range(2))
        return {"trial": trials, "sample": samples, **({"label": labels} if labels else {})}

    def events(self) -> dict[str, tuple[NDArray[np.bool_], list[list[int]]]]:
        """Events that were kept of each layer, and its segments."""
        found = {}
        for name, levels in self.layers.items():
            kept, log = kept_frames(levels, self.runs, self.parts.get(name))
            found[name] = kept != 0, _rows(log)
        return found

    def answers(self, name: str) -> dict[str, Any]:
        """What the answers have about values and signals of a layer, if it has any."""
        levels, found = self.layers[name], {}
        if name in self.parts:
            found |= self._part(name)
        if levels.dtype != np.bool_:
            found["values"] = self._values(name)
        signals = {signal: self._signal(*key) for key in self.signals for signal in key[1:] if key[0] == name}
        return {**found, **({"signals": signals} if signals else {})}

    def counted(self) -> dict[str, Any]:
        """What the answers have about operations."""
        counts = self.operations
        if counts is None:
            return {}
        found = {
            "weight_layers": [*counts.weight_layers],
            "uncounted": dict(counts.uncounted),
            "shape": [*counts.values.shape],
            "segments": _rows(_log(self.runs)),
            "lost": self.lost.get(("", "operations"), []),
            **_described(self._kept(counts.values, "", "operations")),
        }
        return {"operations": found}

    def _part(self, name: str) -> dict[str, Any]:
        """What is kept of a layer, and of counts these, with 0 where they are lost."""
        part, (events, rows) = self.parts[name], self.events()[name]
        found: dict[str, Any] = {
            "part": {
                "shape": [*part.shape],
                # In C order.
                "neurons": kept_indices(part.shape, part.neurons).tolist(),
                "samples": part.samples,
                "trials_every": part.trials_every,
            }
        }
        if not part.counts_only:
            return found
        counts = [np.zeros((0, *part.kept_shape), np.uint32)]
        lost = self.lost.get((name, ""), [])
        for first, _, steps, batch, _ in rows:
            is_lost = any(begin <= first < end for begin, end in lost)
            frames = events[first : first + steps * batch] & (not is_lost)
            counts.append(frames.reshape(steps, batch, *part.kept_shape).sum(0, dtype=np.uint32))
        joined = np.concatenate(counts)
        # Of its bits nothing is there.
        return {**found, "sha256": None, "counts": {"rows": len(joined), **_described(joined)}}

    def _values(self, name: str) -> dict[str, Any]:
        kept_levels, _ = kept_frames(self.layers[name], self.runs, self.parts.get(name))
        levels, scale = kept_levels.astype(np.int64), self.scales.get(name, 1.0)
        dtype = self.dtypes.get(name, "float32")
        above, is_negative = np.abs(levels) - 1, levels < 0
        planes = {str(bit): (above > 0) & (above >> bit & 1 == 1) for bit in range(15)}
        chunk_frames = plan_chunks(levels.shape[1:], target_bytes=SIZES["chunk_bytes"]).chunk_frames
        first = {
            plane: int(np.flatnonzero(frames)[0]) // frames[0].size // chunk_frames
            for plane, frames in {**planes, "sign": is_negative}.items()
            if frames.any()
        }
        kept = self._kept(scale_levels(levels, scale, dtype), name, "")
        return {
            "scale": scale,
            "range": [min(int(levels.min()), 0), max(int(levels.max()), 0)],
            "dtype": dtype,
            # The chunk that each begins with.
            "planes": first,
            **_described(kept),
        }

    def _signal(self, layer: str, signal: str) -> dict[str, Any]:
        made = self.signals[layer, signal]
        values, log = made.kept(self.runs)
        flat = np.arange(made.values[0].size).reshape(made.values.shape[1:])
        if made.neurons is not None:
            is_flat = isinstance(made.neurons[0], int)
            flat = flat.ravel()[[*made.neurons]] if is_flat else flat[np.ix_(*made.neurons)]
        return {
            "dtype": values.dtype.name,
            "shape": [*values.shape],
            # In C order, of all that there are at a frame.
            "neurons": flat.ravel().tolist(),
            "segments": _rows(log),
            "lost": self.lost.get((layer, signal), []),
            **_described(self._kept(values, layer, signal)),
        }

    def _kept(self, values: NDArray[Any], layer: str, signal: str) -> NDArray[Any]:
        kept = values.copy()
        for first, last in self.lost.get((layer, signal), []):
            kept[first:last] = 0
        return kept


def _described(values: NDArray[Any]) -> dict[str, Any]:
    """The SHA-256 of values, little-endian, in C order."""
    encoded = values.astype(values.dtype.newbyteorder("<")).tobytes()
    return {"sha256": hashlib.sha256(encoded).hexdigest()}


def _log(runs: Sequence[Run]) -> SegmentLog:
    log = SegmentLog()
    for run in runs:
        log.extend(run.first_step, run.steps, run.batch, run.trial)
    return log


def _rows(log: SegmentLog) -> list[list[int]]:
    rows: list[list[int]] = np.concatenate(log.look()).tolist()
    return rows


def levels(frames: int, shape: tuple[int, ...], ends: Sequence[tuple[int, int, int]]) -> NDArray[np.int16]:
    """Levels that any language can make: from each of some frames on between two ends.

    With (first, least, most), neuron n has at frame f the level
    least + (7f + 3n² + f·n) % (most - least + 1) if f + n is no multiple of 3, and else 0.
    """
    frame, neuron = np.ogrid[:frames, : int(np.prod(shape))]
    mixed = frame * 7 + neuron * neuron * 3 + frame * neuron
    found = np.zeros(mixed.shape, np.int16)
    for first, least, most in ends:
        drawn = least + mixed % (most - least + 1)
        found[first:] = np.where((frame + neuron) % 3 == 0, 0, drawn)[first:]
    return found.reshape(frames, *shape)


def numbers(frames: int, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Levels from 0 to 10 as values: of signed types less 5, of floats less 5 and halved."""
    found = levels(frames, shape, [(0, 0, 10)]).astype(np.int64)
    kind = np.dtype(dtype).kind
    return (found / 2 - 2.5 if kind == "f" else found - 5 * (kind == "i")).astype(dtype)


def make_all(folder: Path) -> dict[str, Written]:
    """Write all of these recordings into a folder; what each holds."""
    made: dict[str, Written] = {}
    for make in (_values, _signals, _growing, _lost, _operations):
        made |= make(folder)
    return made


def _pack(path: Path, packed: Path, **options: Any) -> None:
    pack_recording(TapeReader.open(Folder(path)), str(packed), **options)


def _values(folder: Path) -> dict[str, Written]:
    """Layers of every kind of values; planes that begin later, or with frames that fill no byte."""
    runs = [Run(0, 40, 3, 0), Run(40, 50, 2, 1), Run(95, 30, 2, -1), Run(130, 7, 3, -1)]
    count = 301
    far = levels(count, (7,), [(0, 0, 1)])
    far[150, 1] = 16385
    late = levels(count, (), [(0, 0, 1)])
    late[-2:] = -3, 5
    written = Written(
        {
            "grows": levels(count, (5, 3, 2), [(0, 0, 1), (100, 0, 3), (210, -6, 6)]),
            "ternary": levels(count, (9,), [(0, -1, 1)]),
            "quarters": levels(count, (9,), [(0, 0, 1), (140, 0, 3)]),
            "late": late,
            "far": far,
            "ones": levels(count, (7,), [(0, 0, 1)]),
            "plain": levels(count, (7,), [(0, 0, 1)]) > 0,
        },
        *(runs, TRIALS),
        scales={"quarters": 0.25, "late": 0.1},
        dtypes={"quarters": "float16", "late": "bfloat16", "far": "int64", "ternary": "int8"},
    )
    written.write(folder / "values.zarr")
    _pack(folder / "values.zarr", folder / "values-packed.zarr", shard_bytes=600)
    return {"values.zarr": written, "values-packed.zarr": written}


def _signals(folder: Path) -> dict[str, Written]:
    """Signals of many data types and parts of layers, and who reads these layers."""
    runs = [Run(0, 12, 3, 0), Run(12, 10, 2, 1), Run(25, 9, 2, -1)]
    count = 74
    floats = numbers(count, (2, 3), "float32")
    floats[3:8, 1, 1] = np.nan, np.inf, -np.inf, -0.0, 1e-45
    long = numbers(count, (), "int64")
    long[:2] = -(2**63), 2**63 - 1
    neuron = range(1, 2), range(0, 3, 2)
    written = Written(
        {name: levels(count, shape, [(0, 0, 1)]) > 0 for name, shape in SHAPES.items()},
        *(runs, TRIALS),
        signals={
            ("a", "v"): Made(floats),
            ("a", "V"): Made(numbers(count, (2, 3), "float16"), every=2, samples=2, neurons=neuron),
            ("a", "some/neurons"): Made(numbers(count, (2, 3), "float64"), every=3, neurons=(1, 2, 4)),
            ("a", "input"): Made(numbers(count, (7,), "int16"), samples=1),
            ("wide", "v"): Made(numbers(count, (5, 3, 2), "float32"), every=8),
            ("one", "count"): Made(long, every=5),
            ("one", "byte"): Made(numbers(count, (), "uint8")),
        },
        connections=_connections(),
    )
    written.write(folder / "signals.zarr")
    _pack(folder / "signals.zarr", folder / "signals.zip", shard_bytes=600)
    return {"signals.zarr": written, "signals.zip": written}


SHAPES = {"a": (2, 3), "wide": (5, 3, 2), "one": ()}


def fan_outs() -> dict[str, dict[str, tuple[NDArray[Any], NDArray[Any] | None]]]:
    """Fan-outs by layer and reader; those of weights that were not 0 beside them."""
    mixed = levels(30, (), [(0, 0, 50)]).reshape(5, 3, 2)
    along = np.multiply.outer(np.full(2, 6), [2, 3, 2])
    return {
        "a": {"b": (along, along // 6), "c": (np.full((2, 3), 4), None)},
        "wide": {"d": (np.full((5, 3, 2), 60), mixed)},
        "one": {},
    }


def fan_out_answers() -> dict[str, Any]:
    """All of these, by layer and reader, in C order: of all weights, and of those that were not 0."""
    return {
        layer: {
            reader: [None if each is None else each.ravel().tolist() for each in arrays]
            for reader, arrays in readers.items()
        }
        for layer, readers in fan_outs().items()
    }


def _connections() -> Connections:
    def form(array: NDArray[Any] | None) -> FanOut | None:
        return None if array is None else FanOut.of_array(array.astype(np.int64))

    found = fan_outs()
    geometry: dict[str, Any] = {"stride": (1,), "padding": ((1, 1),), "dilation": (1,)}
    of = {
        "b": ("Conv1d", (6, 2, 3), geometry),
        "c": ("Linear", (4, 6), {}),
        "d": ("Linear", (60, 30), {}),
    }
    readers = {
        layer: tuple(
            Reader(name, *of[name][:2], *map(form, arrays), **of[name][2])  # type: ignore[arg-type]
            for name, arrays in readers.items()
        )
        for layer, readers in found.items()
    }
    # As where all frames of a layer were cut away.
    readers["gone"] = (Reader("e", "Linear", (4, 6), FanOut(4), FanOut(4)),)
    inputs = (InputReader("first", "Linear", 800, 700, 8, is_binary=False),)
    return Connections(readers, inputs, {"attention: matmul": "a product that no weight layer makes"})


def _growing(folder: Path) -> dict[str, Written]:
    """As a kill leaves it in the midst of its second commit: more planes and values than are promised."""
    runs, later = [Run(0, 40, 4, 0)], [Run(0, 40, 4, 0), Run(50, 70, 4, -1)]
    whole = levels(440, (13,), [(0, 0, 1), (70, 0, 2), (90, 0, 3), (200, -9, 9)])
    values = numbers(440, (3,), "float64")

    def made(frames: int) -> dict[tuple[str, str], Made]:
        return {("a", "v"): Made(values[:frames], every=3), ("a", "w"): Made(values[:frames, :1], samples=1)}

    written = Written(
        {"a": whole[:160]}, runs, [Trial(0, 4, {"label": ["a", "b", "a", "c"]})], signals=made(160)
    )
    path = folder / "growing-values.zarr"
    tape = written.write(path, close=False)
    tape.append("a", pack_levels(whole[160:]))
    signals = {}
    for (layer, name), each in made(440).items():
        kept, log = each.kept(later)
        promised = len(written.signals[layer, name].kept(runs)[0])
        tape.append_signal(layer, name, kept[promised:].reshape(len(kept) - promised, -1))
        signals[name] = SignalProgress(*log.look())
    progress = LayerProgress(0, None, *_log(later).look(), signals=signals)

    class KilledError(Exception):
        """Stands for the end of the process."""

    with mock.patch.object(tape._records, "write", side_effect=KilledError), suppress(KilledError):
        tape.commit({"a": progress}, [], 1)
    tape.release()
    return {path.name: written}


def _operations(folder: Path) -> dict[str, Written]:
    """Operations of weight layers, in parts; one of which not all were counted, and lost frames."""
    runs = [Run(0, 4, 3, 0), Run(4, 3, 2, 1), Run(9, 3, 2, -1)]
    count = 24
    values = numbers(count, (3, 6), "int64") + 5
    values[0, 1] = 2**62, 0, 2**53 + 1, 0, 2**62 + 1, 0
    counts = Counts(("conv", "a/b", ""), values, {"a/b": "is given a table"})
    layers = {"a": levels(count, (2, 3), [(0, 0, 1)]) > 0}
    written = Written(
        layers, *(runs, TRIALS), operations=counts, lost={("", "operations"): [[0, 3], [14, 18]]}
    )
    path = folder / "operations.zarr"
    written.write(path)
    for chunk in (0, 15, 16):
        (path / f"operations/values/c/{chunk}/1/0").unlink()
    reader = TapeReader.open(Folder(path))
    recovery = plan_recovery(reader, find_problems(reader), mark_lost=True)
    recover(Folder(path, durability="process"), recovery, reader.metadata.commit_number)
    _pack(path, folder / "operations.zip", shard_bytes=600)
    return {path.name: written, "operations.zip": written}


def _lost(folder: Path) -> dict[str, Written]:
    """Lost frames of signals and of a layer with values, in which one plane is true only in these."""
    runs = [Run(0, 40, 3, 0), Run(40, 50, 2, 1), Run(95, 30, 2, -1)]
    count = 280
    made = levels(count, (13,), [(0, 0, 2), (130, -2, 2), (140, 0, 5), (180, 0, 2)])
    signals = {
        ("a", "v"): Made(numbers(count, (3,), "float32"), every=2),
        ("a", "w"): Made(numbers(count, (3,), "int32"), samples=1, every=10),
    }
    # Chunk 2 of the plane has frames 128 to 191: steps 44 to 75. Of the signals, 8 frames make a chunk.
    lost = {("a", ""): [[128, 192]], ("a", "v"): [[6, 18], [136, 140]], ("a", "w"): [[8, 12]]}
    written = Written({"a": made, "b": made}, *(runs, TRIALS), signals=signals, lost=lost)
    path = folder / "lost.zarr"
    written.write(path)
    of_signals = (f"signals/{chunk}" for chunk in ("v/values/c/1", "v/values/c/17", "w/values/c/1"))
    for chunk in ("planes/2/c/2/0", *of_signals):
        (path / "layers/a" / chunk / "0").unlink()
    reader = TapeReader.open(Folder(path))
    recovery = plan_recovery(reader, find_problems(reader), mark_lost=True)
    recover(Folder(path, durability="process"), recovery, reader.metadata.commit_number)
    _pack(path, folder / "lost.zip")
    return {path.name: written, "lost.zip": written}
