"""What a second worker process gains where sequences, neurons and presentations are asked about.

On a machine with two cores a second worker shares them with the scheduler, the client and whatever else runs.
So besides the time that passes there is the processor time of the workers: twice what one takes alone,
divided by what two take together, is what the second gains where each has a core of its own and half of the
tasks. Which of them does how many tasks depends on what else runs.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from distributed import Client

import analysis
from benchmarks.data import LAYER
from benchmarks.harness import Ratio, Report, show_seconds

STATISTICS: dict[str, Callable[[analysis.Layer], Any]] = {
    "histogram of intervals": lambda layer: layer.isi_histogram(longest=16),
    "CV2 of each neuron": lambda layer: layer.isi_cv2("neuron"),
    "latency": lambda layer: layer.latency(),
    "autocorrelation, 10 lags": lambda layer: layer.autocorrelation(10),
    "correlation, 512 neurons": lambda layer: layer.correlation(sample=512, window=4),
    "Fano factor": lambda layer: layer.fano_factor(),
    "information": lambda layer: layer.information(),
}
TARGET = 1.7
# Of the recording so many; and so many laps of each worker for each round, as a lap is short.
TRIALS, LAPS = 256, 3


def measure_statistics(store: Path, clients: dict[str, Client], rounds: int, report: Report) -> None:
    """One worker and two, each with a thread, in turns.

    ``clients`` are of one worker and of two, in this order.
    """
    layer = analysis.open_recording(store, use_counts=False)[LAYER].select(trials=slice(0, TRIALS))
    one, two = clients
    laps_of_each = rounds * LAPS
    rows = []
    for name, ask in STATISTICS.items():
        answer = ask(layer)
        laps: dict[str, list[tuple[float, float]]] = {one: [], two: []}
        answers = [_warm_up(client, answer) for client in clients.values()]
        np.testing.assert_array_equal(*answers)
        order = random.Random(0)  # noqa: S311 - any will do, as long as it is the same again
        for _ in range(laps_of_each):
            for key in order.sample([one, two], 2):
                laps[key].append(_lap(clients[key], answer)[:2])
        passed = _gain([lap[0] for lap in laps[one]], [lap[0] for lap in laps[two]])
        shared = _gain([2 * lap[1] for lap in laps[one]], [lap[1] for lap in laps[two]])
        taken = [show_seconds([lap[0] for lap in laps[key]]) for key in (one, two)]
        rows.append([name, *taken, str(passed), str(shared)])
        what = f"{name}: two workers' gain by processor time"
        report.figure(what, shared, TARGET, at_least=True)
    report.table(
        "Worker processes, other statistics (dask.distributed)",
        ["", one, two, "one ÷ two", "2 × one ÷ two, processor time"],
        rows,
        f"Of the first {TRIALS} trials, counts set aside, one thread each; {laps_of_each} laps of each.",
    )


def _warm_up(client: Client, answer: Any) -> Any:
    """The answer, from each worker in turn, so that each has imported and compiled what it needs."""
    for worker in client.run(time.process_time):
        found = client.compute(answer, workers=[worker]).result()
    return found


def _lap(client: Client, answer: Any) -> tuple[float, float, Any]:
    """Seconds, seconds of processor time of all workers, and the answer."""
    before = client.run(time.process_time)
    started = time.perf_counter()
    found = client.compute(answer).result()
    passed = time.perf_counter() - started
    after = client.run(time.process_time)
    return passed, sum(after[worker] - before[worker] for worker in after), found


def _gain(one: list[float], two: list[float]) -> Ratio:
    single = [first / second for first, second in zip(one, two, strict=True)]
    return Ratio(median(one) / median(two), min(single), max(single))
