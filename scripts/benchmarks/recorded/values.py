"""What it costs to record values other than 0 and 1, beside zeros and ones with the same events."""

from __future__ import annotations

import time
from itertools import chain
from pathlib import Path

import torch
from torch import nn

from benchmarks.harness import Competitor, Options, Report, interleave, ratio, show_seconds
from recorder import Monitor, SpikeOutput
from recorder.native import planes, values
from recorder.native.loading import PASS

DENSITY, LARGEST = 0.1, 4
ONES = "zeros and ones"


class Given(nn.Module):
    """Puts out what it is given."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """The values."""
        return values


def entropy(values: torch.Tensor) -> float:
    """Bits that a slot has of independent values with these shares."""
    _, counts = values.unique(return_counts=True)
    shares = counts.double() / values.numel()
    return float(-(shares * shares.log2()).sum())


def stored_bits(path: Path, slots: int) -> float:
    """Bits of files for each slot."""
    return 8 * sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / slots


def measure_values(options: Options, report: Report) -> None:
    """Time of recording ÷ that of zeros and ones; bits of a slot as stored, beside its entropy."""
    steps, batch, neurons, rounds = (4, 8, 512, 1) if options.quick else (64, 64, 16_384, 15)
    # The same values several times over, as they take 4 bytes of memory each.
    times_each = 1 if options.quick else 4
    random = torch.Generator().manual_seed(0)
    shape = steps, batch, neurons
    ones = (torch.rand(shape, generator=random) < DENSITY).float()
    kinds = {
        ONES: ones,
        "-1, 0 and 1": ones * (torch.randint(0, 2, shape, generator=random) * 2 - 1),
        f"0 to {LARGEST}": ones * torch.randint(1, LARGEST + 1, shape, generator=random),
    }
    net = nn.Sequential(Given())
    # As in a recording that has gone on for a while; until then numpy does the same.
    values.LOOPS.load()
    planes.LOOPS.load()
    PASS.load("float32")
    paths: dict[str, Path] = {}
    of_network: dict[str, list[float]] = {name: [] for name in kinds}

    def run(name: str, outputs: torch.Tensor) -> Competitor:
        def record() -> None:
            paths[name] = options.folder("values") / "run.zarr"
            with Monitor(net, layers={Given: SpikeOutput("n ...")}, store=paths[name]):
                began = time.thread_time()
                for output in chain.from_iterable([outputs] * times_each):
                    net(output)
                of_network[name].append(time.thread_time() - began)

        return record

    race = interleave({name: run(name, outputs) for name, outputs in kinds.items()}, rounds)
    # Without the round that is not counted.
    of_network = {name: seconds[1:] for name, seconds in of_network.items()}
    slots = times_each * ones.numel()
    bits = {name: stored_bits(path, slots) for name, path in paths.items()}
    report.table(
        "Values, recorded by one layer",
        [
            *("values", "run", "time of the network's thread ÷ zeros and ones", "processor time ÷ them"),
            *("bits of a slot as stored", "entropy"),
        ],
        [
            [
                name,
                show_seconds(times),
                str(ratio(of_network, name, ONES)),
                str(ratio(race.cpu, name, ONES)),
                f"{bits[name]:.3f}",
                f"{entropy(kinds[name]):.3f}",
            ]
            for name, times in race.times.items()
        ],
        f"{slots:,} slots of independent values, {DENSITY:.0%} of them events; {rounds} rounds.",
    )
    for what, times in (("time of the network's thread", of_network), ("processor time", race.cpu)):
        name = f"0 to {LARGEST}"
        report.figure(f"{what}, values {name} ÷ zeros and ones", ratio(times, name, ONES), 1.5)
    for kind, outputs in kinds.items():
        report.figure(f"bits of a slot as stored ÷ entropy, {kind}", bits[kind] / entropy(outputs), 1.2)
