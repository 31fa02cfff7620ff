"""What more worker processes gain, what a task costs beside its work, and a terabyte on paper."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import dask
import numpy as np
from distributed import Client, LocalCluster

import analysis
from analysis.asking import planning
from benchmarks.data import LAYER, LongRun
from benchmarks.harness import Options, Report, interleave, ratio, show_seconds
from benchmarks.workers import measure_statistics
from recorder.format import plan_chunks
from recorder.session import layers

ONE, TWO = "one worker", "two workers"
TERABYTE = 1e12
PARTS = 6
SETTINGS: dict[str, Any] = {
    "host": "127.0.0.1",
    "threads_per_worker": 1,
    "dashboard_address": None,
    "silence_logs": logging.ERROR,
}


def measure_scaling(options: Options, report: Report) -> None:
    """One and two worker processes of dask.distributed, each with one thread."""
    # A cluster that ends gives its loggers the level back that they had when it began.
    logging.getLogger("distributed").setLevel(logging.ERROR)
    rounds = 1 if options.quick else 5
    run = LongRun(2, (8, 4, 4), 0.05) if options.quick else LongRun(1024, (64, 8, 8), 0.05)
    store = options.folder("scaling")
    run.record(store)
    with ExitStack() as stack:
        clients = {name: stack.enter_context(_workers(number)) for name, number in ((ONE, 1), (TWO, 2))}
        bytes_per_second = _measure_workers(store, run, clients, rounds, report)
        seconds_per_task = _measure_tasks(options, clients[ONE], rounds, report)
        measure_statistics(store, clients, rounds, report)
    _estimate_terabyte(store, run, bytes_per_second, seconds_per_task, report)


@contextmanager
def _workers(number: int) -> Iterator[Client]:
    with (
        LocalCluster(n_workers=number, **SETTINGS) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _measure_workers(
    store: Path, run: LongRun, clients: dict[str, Client], rounds: int, report: Report
) -> float:
    """Bytes of packed bits that one worker counts in a second."""

    def ask(client: Client) -> Any:
        layer = analysis.open_recording(store, use_counts=False)[LAYER]
        # So many that to begin and to end takes a small part of the time. No two share their counting.
        parts = [layer.select(steps=slice(first, None)).firing_rate(per="neuron") for first in range(PARTS)]
        return np.stack(client.gather(client.compute(parts)))

    race = interleave({name: partial(ask, client) for name, client in clients.items()}, rounds)
    np.testing.assert_array_equal(race.answers[ONE], race.answers[TWO])
    packed = PARTS * run.slots / 8
    report.table(
        "Worker processes (dask.distributed)",
        ["", "time", "packed bits", "one worker ÷ this"],
        [
            [
                name,
                show_seconds(taken),
                f"{packed / median(taken) / 1e9:.2f} GB/s",
                str(ratio(race.times, ONE, name)),
            ]
            for name, taken in race.times.items()
        ],
        f"{run.slots / 1e9:.2g} G slots; firing rate of each neuron, counts set aside, one thread each.",
    )
    report.figure("one worker process ÷ two", ratio(race.times, ONE, TWO), 1.7, at_least=True)
    return packed / median(race.times[ONE])


def _measure_tasks(options: Options, client: Client, rounds: int, report: Report) -> float:
    """Seconds that a task takes beside its work: many tiny ones, on a worker and without any."""
    run = LongRun(2 if options.quick else 32, (10,), 0.05)
    store = options.folder("tasks")
    kept = layers.plan_chunks, planning.SMALL_TASK_BYTES, planning.MANY_TASKS
    # A chunk is what a task decodes at least.
    smallest = partial(plan_chunks, target_bytes=1)
    layers.plan_chunks, planning.SMALL_TASK_BYTES, planning.MANY_TASKS = smallest, 1, 10**9
    try:
        run.record(store)
        asked = analysis.open_recording(store)[LAYER].spike_count(per="step")
    finally:
        layers.plan_chunks, planning.SMALL_TASK_BYTES, planning.MANY_TASKS = kept
    (optimized,) = dask.optimize(asked)
    tasks = len(optimized.__dask_graph__())
    competitors = {
        "this process": partial(asked.compute, scheduler="synchronous"),
        ONE: lambda: client.compute(asked).result(),
    }
    times = interleave(competitors, rounds).times
    beside = max(median(times[ONE]) - median(times["this process"]), 0.0) / tasks
    report.table(
        "Overhead per task (dask.distributed)",
        ["", "time", "each task"],
        [[name, show_seconds(taken), show_seconds([median(taken) / tasks])] for name, taken in times.items()],
        f"{tasks} tasks that read next to nothing; beside its work a task costs {show_seconds([beside])}.",
    )
    return beside


def _estimate_terabyte(
    store: Path, run: LongRun, bytes_per_second: float, seconds_per_task: float, report: Report
) -> None:
    """From the measured figures: nothing of this size was read."""
    stored = analysis.open_recording(store).stored_spike_bytes(LAYER) / (run.slots / 8)
    tasks = TERABYTE / planning.task_bytes(int(TERABYTE))
    counting = TERABYTE / bytes_per_second / 3600
    overhead = tasks * seconds_per_task / 3600
    report.table(
        "A terabyte of packed bits (8 T slots), on paper",
        ["", ""],
        [
            ["bytes to read, at the compression of this recording", f"{stored * 1e3:.0f} GB"],
            ["counting every spike", f"{counting:.2f} core hours"],
            [f"beside that, {tasks:,.0f} tasks", f"{overhead:.4f} core hours"],
            ["whole-recording questions, from counts: to read, at most", f"{0.02 * 1e3:.0f} GB"],
        ],
        "Files in the page cache; from a slower store, its bytes per second decide.",
    )
