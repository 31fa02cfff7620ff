"""Small recordings that exercise values, signals and connections, for `exemplars`, with what is in them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from analysis.keeping import find_problems
from recorder.format.connections import Connections, FanOut, InputReader, Reader
from recorder.format.planes.values import pack_levels
from recorder.keeping import pack_recording, plan_recovery, recover
from recorder.stores import Folder
from recorder.tape import LayerProgress, TapeReader
from recorder.tape.layers.signal_writing import SignalProgress
from tapes import Counts, Made, Run, Trial
from written_exemplars import TRIALS, Written, levels, log_of, numbers


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
    progress = LayerProgress(0, None, *log_of(later).look(), signals=signals)

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
