"""How fast packed rows become stored chunks: by one thread, beside zstd, and by more cores than here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
from numcodecs import zstd
from numpy.typing import NDArray

from benchmarks.data import draw_spikes
from benchmarks.harness import Options, Report, interleave, ratio
from benchmarks.recorded.simulated_encoding import ChunkCosts, simulate
from recorder.format import ChunkPlan, plan_chunks
from recorder.format.bits import pack_frames, rows_to_trains
from recorder.format.chunks import checksum
from recorder.format.layout import ZSTD_LEVEL
from recorder.stores import Folder
from recorder.tape import TapeWriter
from recorder.tape.threads.pressure import HURRIED_LEVELS
from recorder.tape.threads.rearranging import REARRANGING

Packed = NDArray[np.uint8]

LAYERS = {"16 × 8 × 8": (16, 8, 8), "64 × 32 × 32": (64, 32, 32)}
DENSITIES = (0.05, 0.2)
CORES = (2, 4, 8, 16, 32)
WRITTEN, ALONE = "spiketape", "zstd alone"


def measure_encoding(options: Options, report: Report) -> None:
    """Speed of the encoder, and how it grows with cores."""
    chunks, rounds = (1, 1) if options.quick else (24, 7)
    if not options.quick:
        REARRANGING.load()
    stages, sustained, grown = [], [], []
    for (shown, shape), density in ((layer, density) for layer in LAYERS.items() for density in DENSITIES):
        plan = plan_chunks(shape)
        rows = _chunk_of_rows(plan, density)
        costs = _stages(rows, options.folder("stages"), rounds)
        kind = f"{shown}, {density:.0%}"
        stages.append([kind, *(f"{1e3 * seconds:.1f} ms" for seconds in costs.values())])
        payload = rows_to_trains(rows).tobytes()
        race = interleave(
            {
                WRITTEN: lambda plan=plan, rows=rows: _write(options.folder("tape"), plan, rows, chunks),
                ALONE: lambda payload=payload: [zstd.compress(payload, ZSTD_LEVEL) for _ in range(chunks)],
            },
            rounds,
        )
        share = ratio(race.cpu, ALONE, WRITTEN)
        speed = chunks * len(payload) / median(race.cpu[WRITTEN]) / 1e9
        sustained.append([kind, f"{speed:.2f}", str(share)])
        report.figure(f"packed bits a second, {kind}: spiketape ÷ zstd alone", share, 0.8, at_least=True)
        trace = _trace(costs)
        single = simulate(trace, 1)
        gains = {cores: simulate(trace, cores - 1) / single / (cores - 1) for cores in CORES}
        grown.append([kind, *(f"{gain:.2f}" for gain in gains.values())])
        report.figure(
            f"packed bits a second by {CORES[-2] - 1} threads ÷ as many times one, simulated, {kind}",
            gains[CORES[-2]],
            0.8,
            at_least=True,
        )
    report.table(
        "Where a chunk of 4 MiB spends its time in one thread",
        ["neurons, density", *costs],
        stages,
        f"Processor time, median of {rounds}. All but the last two run without the interpreter lock.",
    )
    report.table(
        "Packed bits from a source that never waits, one thread",
        ["neurons, density", "GB a second of processor time", f"÷ {ALONE}"],
        sustained,
        f"{chunks} chunks at a time, in turns; what is spent on making files is inside.",
    )
    report.table(
        "Packed bits a second of all but one core ÷ as many times that of one, simulated",
        ["neurons, density", *(f"{cores} cores" for cores in CORES)],
        grown,
        "By the times above; of the interpreter lock and the thread that appends rows there is one each.",
    )
    report.table(
        "What a faster level gives",
        ["level", *(f"{density:.0%}" for density in DENSITIES)],
        _levels(rounds),
        "GB of packed bits a second of processor time, and stored bits for each.",
    )


def _chunk_of_rows(plan: ChunkPlan, density: float) -> Packed:
    frames = draw_spikes(density, min(plan.chunk_frames, 2**15), plan.neuron_shape)
    some = pack_frames(frames.reshape(len(frames), -1))
    return np.resize(some, (plan.chunk_bytes, plan.neurons))


def _stages(rows: Packed, folder: Path, rounds: int) -> dict[str, float]:
    """Processor time of each stage of a chunk; the last two hold the interpreter lock."""
    store = Folder(folder, "process")
    memory, trains = np.empty_like(rows), rows_to_trains(rows)
    payload = trains.tobytes()
    stored = zstd.compress(payload, ZSTD_LEVEL)
    steps: dict[str, Callable[[], object]] = {
        "append rows": lambda: np.copyto(memory, rows),
        "rearrange, count": lambda: REARRANGING.rearrange(rows, trains),
        "compress": lambda: zstd.compress(payload, ZSTD_LEVEL),
        "write": lambda: store.write("chunk", stored),
        "checksum": lambda: stored + checksum(stored).to_bytes(4, "little"),
    }
    seconds = {name: median(_seconds(step) for _ in range(rounds)) for name, step in steps.items()}
    # A chunk of 64 bytes takes what is the same for every chunk: Python code, which holds the lock.
    tiny = plan_chunks((8,), target_bytes=1)
    with _tape(folder / "tape.zarr", tiny) as tape:
        some = np.zeros((tiny.chunk_bytes, 8), np.uint8)
        python = median(_seconds(lambda: tape.append("layer", some)) for _ in range(10 * rounds))
    return seconds | {"Python": python}


def _trace(costs: dict[str, float]) -> ChunkCosts:
    free = costs["rearrange, count"] + costs["compress"]
    return ChunkCosts(costs["append rows"], free, costs["checksum"] + costs["Python"], costs["write"])


def _levels(rounds: int) -> Iterator[list[str]]:
    payloads = [np.packbits(draw_spikes(density, 2**15, (1024,))).tobytes() for density in DENSITIES]
    for level in (ZSTD_LEVEL, *(level for _, level in reversed(HURRIED_LEVELS))):
        row = [str(level)]
        for payload in payloads:
            seconds = median(
                _seconds(lambda payload=payload, level=level: zstd.compress(payload, level))
                for _ in range(rounds)
            )
            size = len(zstd.compress(payload, level)) / len(payload)
            row.append(f"{len(payload) / seconds / 1e9:.2f}, {size:.2f}")
        yield row


@contextmanager
def _tape(path: Path, plan: ChunkPlan) -> Iterator[TapeWriter]:
    tape = TapeWriter.create(Folder(path, "process"), {})
    tape._encoding._threads = 1  # noqa: SLF001 - one thread, on whatever machine
    try:
        tape.add_layer("layer", plan, "bool", "benchmark", 0)
        yield tape
    finally:
        tape.release()


def _write(path: Path, plan: ChunkPlan, rows: Packed, chunks: int) -> None:
    with _tape(path, plan) as tape:
        for _ in range(chunks):
            tape.append("layer", rows)


def _seconds(step: Callable[[], object]) -> float:
    began = time.thread_time()
    step()
    return time.thread_time() - began
