"""Spikes from elsewhere on their way in, and presentations on their way out to a loader of torch."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness import Options, Report
from recorder import SpikeDataset, write_recording

LAYER, NEURONS, BATCH, STEPS = "1", 1024, 32, 100
TARGET = 0.5
DTYPES = (torch.bool, torch.uint8, torch.float32)


def measure_elsewhere(options: Options, report: Report) -> None:
    """Write trials of one layer from arrays; load all presentations, in this process and in one worker."""
    trials, laps = (2, 1) if options.quick else (200, 3)
    slots = trials * STEPS * BATCH * NEURONS
    spikes = np.random.default_rng(0).random((STEPS, BATCH, NEURONS)) < 0.1
    store = options.folder("written")
    rows = []
    for dtype in (np.bool_, np.uint8, np.float32):
        values = spikes.astype(dtype)

        def write(values: np.ndarray = values) -> None:
            pieces = {LAYER: (values for _ in range(trials))}
            write_recording(store, pieces, trials=True, overwrite=True, durability="process")

        rows.append([np.dtype(dtype).name, *_rates(write, slots, laps)])
    report.table("Write a recording from arrays", ["values", "Gslots/s of CPU", "Gslots/s"], rows, _NOTE)
    rows = []
    for dtype in DTYPES:
        for workers in (0, 1):
            dataset = SpikeDataset(store, LAYER, dtype=dtype)
            loader = DataLoader(
                dataset, batch_size=BATCH, collate_fn=dataset.collate, num_workers=workers
            )  # fmt: skip

            def load(loader: DataLoader[object] = loader) -> None:
                for _ in loader:
                    pass

            of_cpu, by_clock = _rates(load, slots, laps, in_children=workers > 0)
            rows.append([str(dtype), str(workers), of_cpu, by_clock])
            if workers and dtype is torch.uint8:
                report.figure(
                    "load presentations, one worker, Gslots/s of its CPU",
                    float(of_cpu),
                    TARGET,
                    at_least=True,
                )
    ones = DataLoader(Ones(trials), batch_size=None, num_workers=1)

    def load_ones() -> None:
        for _ in ones:
            pass

    rows.append(["uint8 ones, nothing read", "1", *_rates(load_ones, slots, laps, in_children=True)])
    report.table(
        "Load presentations into torch", ["values", "workers", "Gslots/s of CPU", "Gslots/s"], rows, _NOTE
    )


class Ones(Dataset[torch.Tensor]):
    """Batches that take no work: what is left is what a worker's way to the loader costs."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.ones(STEPS, BATCH, NEURONS, dtype=torch.uint8)


_NOTE = (
    f"Trials of {STEPS} steps, {BATCH} samples, {NEURONS} neurons, a tenth of them firing. The best of some "
    "laps. CPU is that of the process that does the work; a worker starts, decodes every chunk, and ends."
)


def _rates(work: Callable[[], None], slots: int, laps: int, *, in_children: bool = False) -> list[str]:
    """Most slots a second of CPU time, and by the clock, of some laps; in units of 10⁹."""
    who = resource.RUSAGE_CHILDREN if in_children else resource.RUSAGE_SELF
    of_cpu, by_clock = 0.0, 0.0
    for _ in range(laps):
        before, started = _cpu(who), time.perf_counter()
        work()
        by_clock = max(by_clock, slots / (time.perf_counter() - started) / 1e9)
        of_cpu = max(of_cpu, slots / max(_cpu(who) - before, 1e-9) / 1e9)
    return [f"{of_cpu:.2f}", f"{by_clock:.2f}"]


def _cpu(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime
