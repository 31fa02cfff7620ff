"""What it costs to keep a part of a layer, or counts alone, beside the whole of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.harness import Competitor, Options, Report, interleave, ratio, show_seconds
from benchmarks.recorded.values import Given
from recorder import Monitor, SpikeOutput
from recorder.native.loading import PASS

DENSITY = 0.1
WHOLE = "everything"
# What is kept; and what processor time and bytes may be of those of the whole. A quarter of the slots takes a
# quarter of the bytes, and of the time but for what a call and a commit cost whatever is kept. Every other
# neuron lies in every line of the cache, which is read for it. Counts must take less than bits.
PARTS: dict[str, tuple[dict[str, Any], float, float]] = {
    WHOLE: ({}, 1.0, 1.0),
    "a quarter of the neurons": ({"neurons": np.s_[:, ::2, ::2]}, 0.6, 0.27),
    "a quarter of the samples": ({"samples": 16}, 0.5, 0.27),
    "a quarter of the trials": ({"trials_every": 4}, 0.5, 0.27),
    "counts": ({"keep": "counts"}, 1.0, 0.5),
}


def measure_parts(options: Options, report: Report) -> None:
    """Processor time and bytes on disk of a part ÷ those of the whole layer."""
    trials, steps, batch, side, rounds = (4, 2, 8, 4, 1) if options.quick else (8, 32, 64, 8, 15)
    random = torch.Generator().manual_seed(0)
    shape = trials, steps, batch, 64, side, side
    outputs = (torch.rand(shape, generator=random) < DENSITY).float()
    net = nn.Sequential(Given())
    # As in a recording that has gone on for a while.
    PASS.load("float32")
    paths: dict[str, Path] = {}

    def run(name: str, part: dict[str, Any]) -> Competitor:
        def record() -> None:
            paths[name] = options.folder("parts") / "run.zarr"
            with Monitor(net, layers={Given: SpikeOutput("n ...")}, store=paths[name], **part) as monitor:
                for trial in outputs:
                    with monitor.trial():
                        for output in trial:
                            net(output)

        return record

    race = interleave({name: run(name, part) for name, (part, _, _) in PARTS.items()}, rounds)
    sizes = {name: _size(path) for name, path in paths.items()}
    report.table(
        "Parts of one layer",
        ["kept", "run", "processor time ÷ everything", "bytes on disk", "÷ everything"],
        [
            [
                name,
                show_seconds(times),
                str(ratio(race.cpu, name, WHOLE)),
                f"{sizes[name]:,}",
                f"{sizes[name] / sizes[WHOLE]:.3f}",
            ]
            for name, times in race.times.items()
        ],
        f"{outputs.numel():,} independent slots, {DENSITY:.0%} of them spikes: {trials} trials of {steps} "
        f"steps of {batch} samples, 64 × {side} × {side} neurons; {rounds} rounds.",
    )
    for name, (_, time_limit, size_limit) in PARTS.items():
        if name != WHOLE:
            report.figure(f"processor time, {name} ÷ everything", ratio(race.cpu, name, WHOLE), time_limit)
            report.figure(f"bytes on disk, {name} ÷ everything", sizes[name] / sizes[WHOLE], size_limit)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
