"""Peak memory of a process that asks about presentations of few steps, and of 50 times as many."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import dask
import numpy as np

import analysis
from benchmarks.harness import Options, Report, memory_bytes, run_child
from recorder.format import plan_chunks
from recorder.format.bits import pack_frames
from recorder.format.segments import SegmentLog
from recorder.stores import Folder
from recorder.tape import LayerProgress, TapeWriter

LAYER, NEURONS, BATCH, LABELS, TRIALS = "spikes", 256, 64, 8, 2
STEPS, FACTOR = 1024, 50
# Chunks of this many bytes: the shorter recording fills several, too, and no task less than it would.
CHUNK_BYTES: Final = 2**18

STATISTICS: dict[str, Callable[[analysis.Layer], Any]] = {
    "rate of each neuron": lambda layer: layer.firing_rate("neuron"),
    "histogram of intervals": lambda layer: layer.isi_histogram(longest=100),
    "CV2 of each neuron": lambda layer: layer.isi_cv2("neuron"),
    "latency": lambda layer: layer.latency(),
    "autocorrelation, 10 lags": lambda layer: layer.autocorrelation(10),
    "synchrony": lambda layer: layer.synchrony(),
    "correlation of neurons": lambda layer: layer.correlation(window=16),
    "Fano factor": lambda layer: layer.fano_factor(),
    "participation ratio": lambda layer: layer.participation_ratio(),
    "information": lambda layer: layer.information(),
}
LIMIT = 1.05


def measure_answer_memory(options: Options, report: Report) -> None:
    """Peak resident memory of asking about 50× the steps ÷ about 1×."""
    steps, factor = (64, 2) if options.quick else (STEPS, FACTOR)
    stores = {}
    for times in (1, factor):
        stores[times] = options.folder("steps")
        write_recording(stores[times], steps * times)
    rows = []
    for name in list(STATISTICS)[: 2 if options.quick else None]:
        few, many = (run_child("asked.answer_memory", name, str(stores[times])) for times in (1, factor))
        ratio = many["peak_bytes"] / few["peak_bytes"]
        shown = [
            f"{each[key] / 2**20:,.0f} MiB" for key in ("peak_bytes", "grown_bytes") for each in (few, many)
        ]
        rows.append([name, *shown, f"{ratio:.3f}"])
        report.figure(f"{name}: peak memory, {factor}× the steps ÷ 1×", ratio, LIMIT)
    report.table(
        "Peak resident memory of answers",
        ["", f"{steps} steps", f"{steps * factor:,} steps", "above what it had", "likewise", "ratio"],
        rows,
        f"{TRIALS} trials of so many steps, batch {BATCH}, {NEURONS} neurons, 5 % random spikes; one thread. "
        "VmHWM of a fresh process, libraries included, and how far above its memory once it has asked "
        "about a few steps.",
    )


def write_recording(path: Path, steps: int) -> None:
    """Write trials of so many steps; the same few spikes repeat."""
    draw = np.random.default_rng(0)
    rows = pack_frames(draw.random((1024 * BATCH, NEURONS), dtype=np.float32) < 0.05)
    tape = TapeWriter.create(Folder(path, durability="process"), {})
    tape.add_layer(
        LAYER, plan_chunks((NEURONS,), target_bytes=CHUNK_BYTES), "float32", "torch.nn.Identity", 0
    )
    log, presented = SegmentLog(), []
    for trial in range(TRIALS):
        left = steps * BATCH // 8
        while left:
            tape.append(LAYER, rows[:left])
            left -= min(left, len(rows))
        log.extend(trial * steps, steps, BATCH, trial)
        presented.append((trial, BATCH, {"label": [sample % LABELS for sample in range(BATCH)]}))
    tape.commit({LAYER: LayerProgress(0, None, *log.look())}, presented, len(presented), close=True)


def main() -> None:
    """In the fresh process: ask, and say how much memory that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("statistic", choices=STATISTICS)
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    ask = STATISTICS[arguments.statistic]
    layer = analysis.open_recording(arguments.path, use_counts=False)[LAYER]
    with dask.config.set(scheduler="synchronous"):
        # What it asks first imports libraries and compiles loops.
        ask(layer.select(time=slice(0, 32))).compute()
        before = memory_bytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): the peak begins anew
        answer = ask(layer).compute()
    peak = memory_bytes("VmHWM")
    if not np.isfinite(answer.values).any():
        raise SystemExit(f"{arguments.statistic} gave {answer}")
    print(json.dumps({"peak_bytes": peak, "grown_bytes": peak - before}))


if __name__ == "__main__":
    main()
