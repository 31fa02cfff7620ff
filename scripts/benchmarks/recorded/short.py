"""What it costs to begin, commit and end a recording: short runs, one recording each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from torch import nn

from benchmarks.data import Relay
from benchmarks.harness import Competitor, Options, Report, interleave, show_seconds
from benchmarks.peers import H5PY_BITS, PEERS, SPIKETAPE, ZARR_BOOLS
from recorder import Monitor, SpikeOutput

NEURONS, BATCH, STEPS = 20, 8, 4
LIMITS: dict[Literal["process", "power"], float] = {"process": 15, "power": 40}
BARE = "the network alone"


def measure_short(options: Options, report: Report) -> None:
    """Milliseconds of a short recording: files made, a few steps, a commit, closed."""
    inputs = (torch.rand(STEPS, BATCH, NEURONS) < 0.1).float().unbind()
    repeated, rounds = (2, 1) if options.quick else (10, 15)
    rows = []
    for layers in (1, 3):
        network = nn.Sequential(*(Relay() for _ in range(layers)))
        run = partial(_run, network, inputs)
        names = {durability: f'{SPIKETAPE}, durability="{durability}"' for durability in LIMITS}
        recorded = {name: partial(_record, network, run, durability) for durability, name in names.items()}
        peers = {name: partial(_keep, name, network, run) for name in (ZARR_BOOLS, H5PY_BITS)}
        every: dict[str, Callable[[Path], None]] = {BARE: lambda _, run=run: run(), **recorded, **peers}
        race = interleave({name: _several(one, options, repeated) for name, one in every.items()}, rounds)
        taken = {name: [lap / repeated for lap in laps] for name, laps in race.times.items()}
        for name, laps in taken.items():
            cpu = median(race.cpu[name]) / repeated
            rows.append(
                [str(layers), name, show_seconds(laps), show_seconds([min(laps)]), show_seconds([cpu])]
            )
        for durability, limit in LIMITS.items():
            report.figure(
                f'short recording, layers: {layers}, "{durability}", milliseconds',
                median(taken[names[durability]]) * 1e3,
                limit,
            )
    report.table(
        "Short recordings",
        ["layers", "kept by", "a recording takes", "in the fastest round", "processor time"],
        rows,
        f"{NEURONS} neurons a layer, {STEPS} steps of {BATCH} samples; {rounds} rounds of {repeated} "
        "recordings, each in a folder of its own. Making files, the run, and closing are inside.",
    )


def _several(one: Callable[[Path], None], options: Options, repeated: int) -> Competitor:
    def record() -> None:
        folder = options.folder("short")
        folder.mkdir()
        for number in range(repeated):
            one(folder / str(number))

    return record


def _run(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    with torch.no_grad():
        for given in inputs:
            network(given)


def _record(
    network: nn.Module, run: Callable[[], None], durability: Literal["process", "power"], folder: Path
) -> None:
    with Monitor(network, layers={Relay: SpikeOutput("n ...")}, store=folder, durability=durability):
        run()


def _keep(peer: str, network: nn.Module, run: Callable[[], None], folder: Path) -> Any:
    with PEERS[peer](network, Relay, folder):
        run()
