"""Time and memory to open a recording and to build a question, against the number of its chunks."""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import zarr

import analysis
from benchmarks.harness import Options, Report, memory_bytes, run_child, show_seconds
from recorder.format import plan_chunks
from recorder.format.segments import SegmentLog
from recorder.stores import Folder
from recorder.tape import LayerProgress, TapeWriter

LAYER = "spikes"
NEURONS = 8
CHUNK_FRAMES = 64
STEPS, BATCH = 16, 64
SPIKETAPE, DASK = "spiketape", "dask.from_zarr"
TARGET_SECONDS, TARGET_BYTES = 1.0, 200e6


class WithoutSpikes(Folder):
    """Keeps all of a recording but the spikes themselves: a million files say nothing about opening."""

    def write(self, key: str, data: bytes) -> None:
        """Store bytes, unless they are a chunk of spikes."""
        if "/spikes/c/" not in key:
            super().write(key, data)


def measure_opening(options: Options, report: Report) -> None:
    """Open and build, in a fresh process each time."""
    rows = []
    sizes = (1000,) if options.quick else (100, 1000, 10_000, 100_000, 1_000_000)
    for chunks in sizes:
        store, booleans = options.folder("recorded"), options.folder("booleans")
        write_recording(store, chunks)
        shape = (chunks * CHUNK_FRAMES, NEURONS)
        zarr.create_array(booleans, shape=shape, chunks=(CHUNK_FRAMES, NEURONS), dtype=bool)
        for name, path in ((SPIKETAPE, store), (DASK, booleans)):
            try:
                found = run_child("asked.opening", name, str(path))
            except subprocess.TimeoutExpired:
                rows.append([f"{chunks:,}", name, "given up", "–", "–", "–"])
                continue
            answered = found.get("answer_seconds")
            rows.append(
                [
                    f"{chunks:,}",
                    name,
                    show_seconds([found["seconds"]]),
                    f"{found['grown_bytes'] / 1e6:,.0f} MB",
                    f"{found['peak_bytes'] / 1e6:,.0f} MB",
                    show_seconds([answered]) if answered else "–",
                ]
            )
            if name == SPIKETAPE and chunks == sizes[-1]:
                report.figure(f"open and build, {chunks:,} chunks, seconds", found["seconds"], TARGET_SECONDS)
                grown = found["grown_bytes"] / 1e6
                report.figure(f"open and build, {chunks:,} chunks, MB", grown, TARGET_BYTES / 1e6)
    report.table(
        "Open a recording and build questions",
        ["chunks", "with", "time", "memory", "memory, with libraries", "then answer"],
        rows,
        "Firing rate of each neuron of the whole and of an unaligned part, as graphs ready to run. Memory: "
        "peak of a fresh process, above what it had after its imports. The recording has a labelled trial of "
        "1024 frames for each 16 chunks. Answer: the first of both questions, from counts.",
    )


def write_recording(path: Path, chunks: int) -> None:
    """Write a recording of many chunks of `CHUNK_FRAMES` frames, all in labelled trials."""
    store = WithoutSpikes(path, durability="process")
    tape = TapeWriter.create(store, {})
    plan = plan_chunks((NEURONS,), target_bytes=1)  # the smallest chunks that the format knows
    tape.add_layer(LAYER, plan, "float32", "torch.nn.Identity", 0)
    frames = chunks * CHUNK_FRAMES
    rows = np.random.default_rng(0).integers(256, size=(CHUNK_FRAMES // 8, NEURONS), dtype=np.uint8)
    for _ in range(chunks):
        tape.append(LAYER, rows)
    log, presented = SegmentLog(), []
    for trial, first in enumerate(range(0, frames, STEPS * BATCH)):
        steps = min(STEPS, (frames - first) // BATCH)
        log.extend(trial * STEPS, steps, BATCH, trial)
        presented.append((trial, BATCH, {"label": [trial % 10] * BATCH}))
    closed, growing = log.look()
    tape.commit({LAYER: LayerProgress(0, None, closed, growing)}, presented, len(presented), close=True)


def _build_spiketape(path: Path) -> list[Any]:
    layer = analysis.open_recording(path)[LAYER]
    steps = layer.select(steps=slice(layer.steps // 5 + 3, layer.steps // 5 * 4 - 4))
    return [layer.firing_rate(per="neuron"), steps.firing_rate(per="neuron")]


def _build_dask(path: Path) -> list[Any]:
    spikes = da.from_zarr(path)
    frames = len(spikes) // 5
    return [spikes.mean(axis=0), spikes[frames + 3 : 4 * frames - 4].mean(axis=0)]


BUILDERS: dict[str, Callable[[Path], list[Any]]] = {SPIKETAPE: _build_spiketape, DASK: _build_dask}


def main() -> None:
    """In the fresh process: open, build, and say what that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("builder", choices=BUILDERS)
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    before = memory_bytes("VmRSS")
    started = time.perf_counter()
    questions = BUILDERS[arguments.builder](arguments.path)
    graphs = [dict(question.__dask_graph__()) for question in questions]
    found = {"seconds": time.perf_counter() - started, "tasks": sum(map(len, graphs))}
    found |= {"peak_bytes": memory_bytes("VmHWM"), "grown_bytes": memory_bytes("VmHWM") - before}
    if arguments.builder == SPIKETAPE:
        started = time.perf_counter()
        questions[0].compute()
        found["answer_seconds"] = time.perf_counter() - started
    print(json.dumps(found))


if __name__ == "__main__":
    main()
