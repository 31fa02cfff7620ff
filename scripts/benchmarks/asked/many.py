"""Time to open many small recordings as one, and to ask them questions that keep each layer of each apart."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import distributed  # noqa: F401 - Dask imports it with the first answer, which is no part of that
import numpy as np

import analysis
from benchmarks.harness import Options, Report, memory_bytes, run_child, show_seconds
from recorder.format import plan_chunks
from recorder.format.bits import pack_frames
from recorder.format.segments import SegmentLog
from recorder.stores import Folder
from recorder.tape import LayerProgress, TapeWriter

RECORDINGS, LAYERS, NEURONS = 1000, 20, 256
STEPS, BATCH, LABELS = 16, 32, 10
PER = ("recording", "layer")
OPEN = "open"
TARGET_SECONDS = {OPEN: 2.0, "firing_rate": 5.0, "silent_ratio": 5.0}
# Twice the recordings may take twice the time, and what laps of one size differ by.
MOST_GROWTH = 2.2

T = TypeVar("T")


def measure_many(options: Options, report: Report) -> None:
    """Open and ask half of the recordings and all of them, in a fresh process each time."""
    folder = options.folder("many")
    recordings, rounds = (20, 1) if options.quick else (RECORDINGS, 3)
    started = time.perf_counter()
    _write_side_by_side(folder, recordings)
    written = time.perf_counter() - started
    half = recordings // 2
    # In turns, so that what slows down the machine for a while slows down both.
    laps = [(_ask(folder, half), _ask(folder, recordings)) for _ in range(rounds)]
    sizes = dict(zip((half, recordings), zip(*laps, strict=True), strict=True))
    rows = []
    for size, found in sizes.items():
        for what in TARGET_SECONDS:
            taken, cpu = ([lap[kind][what] for lap in found] for kind in ("seconds", "cpu"))
            rows.append([f"{size:,}", what, *map(show_seconds, (taken, [min(taken)], cpu))])
    peak = max(lap["peak_bytes"] for lap in sizes[recordings]) / 2**20
    report.table(
        "Many recordings opened as one",
        ["recordings", "what", "time", "fastest", "processor time"],
        rows,
        f"Of {LAYERS} layers of {NEURONS} neurons, {STEPS} steps of {BATCH} samples, closed; on a local disk "
        f"and in its cache, written in {show_seconds([written])}. Questions go to recordings opened anew, "
        f"per {PER}; {rounds} rounds. Peak memory, libraries included: {peak:,.0f} MiB.",
    )
    for what, limit in TARGET_SECONDS.items():
        fastest, of_half = (min(lap["seconds"][what] for lap in sizes[size]) for size in (recordings, half))
        report.figure(f"{what} of {recordings:,} recordings, seconds", fastest, limit)
        report.figure(f"{what}: {recordings:,} recordings ÷ {half:,}", fastest / of_half, MOST_GROWTH)


def _ask(folder: Path, recordings: int) -> dict[str, Any]:
    return run_child("asked.many", str(folder), "0", str(recordings))


def _write_side_by_side(folder: Path, recordings: int) -> None:
    """Write recordings in as many processes as there are cores."""
    processes = os.cpu_count() or 1
    bounds = [recordings * part // processes for part in range(processes + 1)]
    with ThreadPoolExecutor(processes) as pool:
        for written in [
            pool.submit(run_child, "asked.many", str(folder), str(first), str(last), "--write")
            for first, last in pairwise(bounds)
        ]:
            written.result()


def write_recordings(folder: Path, first: int, last: int) -> None:
    """Write recordings of one labelled trial, with the writer itself and without torch."""
    draw = np.random.default_rng(0)
    rates = np.where(np.arange(NEURONS) % 8, 0.05, 0.0)  # an eighth is silent
    spikes = pack_frames(draw.random((STEPS * BATCH, NEURONS), dtype=np.float32) < rates)
    labels = draw.integers(LABELS, size=BATCH).tolist()
    plan = plan_chunks((NEURONS,))
    log = SegmentLog()
    log.extend(0, STEPS, BATCH, 0)
    for number in range(first, last):
        tape = TapeWriter.create(Folder(folder / f"run{number:05}.zarr", durability="process"), {})
        progress = {}
        for position in range(LAYERS):
            name = f"features.{position}"
            tape.add_layer(name, plan, "float32", "torch.nn.Identity", position)
            # Others fire in each, so that no two files are alike.
            tape.append(name, np.roll(spikes, number + 7 * position, axis=1))
            progress[name] = LayerProgress(0, None, *log.look())
        tape.commit(progress, [(0, BATCH, {"label": labels})], 1, close=True)


def _timed(what: str, call: Callable[[], T], seconds: dict[str, float], cpu: dict[str, float]) -> T:
    started, cpu_started = time.perf_counter(), time.process_time()
    answer = call()
    seconds[what], cpu[what] = time.perf_counter() - started, time.process_time() - cpu_started
    return answer


def ask_recordings(folder: Path, recordings: int) -> dict[str, Any]:
    """Open and ask so many of the recordings, and say what that took."""
    paths = sorted(folder.glob("*.zarr"))[:recordings]
    seconds: dict[str, float] = {}
    cpu: dict[str, float] = {}
    _timed(OPEN, lambda: analysis.open_recording(paths), seconds, cpu)
    answers = {}
    for name in TARGET_SECONDS:
        if name != OPEN:
            # Opened anew, as one question finds what another has made.
            ask = getattr(analysis.open_recording(paths), name)
            answers[name] = _timed(name, lambda ask=ask: ask(per=PER).compute(), seconds, cpu)
    # Nobody is fast by answering something else.
    alone = float(analysis.open_recording(paths[0]).firing_rate())
    np.testing.assert_array_equal(answers["firing_rate"], np.full((recordings, LAYERS), alone))
    np.testing.assert_array_equal(answers["silent_ratio"], np.full((recordings, LAYERS), 1 / 8))
    return {"seconds": seconds, "cpu": cpu, "peak_bytes": memory_bytes("VmHWM")}


def main() -> None:
    """In the fresh process: write some recordings, or ask them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if arguments.write:
        write_recordings(arguments.folder, arguments.first, arguments.last)
        print(json.dumps({}))
    else:
        analysis.open_recording  # noqa: B018 - imports what it needs
        print(json.dumps(ask_recordings(arguments.folder, arguments.last)))


if __name__ == "__main__":
    main()
