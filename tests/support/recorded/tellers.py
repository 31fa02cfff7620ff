"""Modules that put out what they are given, and monitors that record what they put out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from recorder import Monitor, SpikeOutput

# Awkward on purpose: all sizes differ, so that no transposition goes unnoticed.
T, N, C, H = 4, 3, 5, 2


def spikes(*shape: int, rate: float = 0.3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(shape) + sum(shape))
    return (torch.rand(*shape, generator=generator) < rate).float()


class Teller(nn.Module):
    """A module of no known framework that puts out what it is given."""

    def forward(self, x: Any) -> Any:
        return x


def record(path: Path, outputs: list[Any], where: SpikeOutput | None, **options: Any) -> Monitor:
    """Record a module that puts out each of these in a forward of its own."""
    net = Teller()
    monitor = Monitor(net, store=path / "run.zarr", layers={"": where}, **options)
    with monitor:
        for output in outputs:
            net(output)
    return monitor


# -- two layers ----------------------------------------------------------------------------------------


class Pair(nn.Module):
    """Two layers with an input each."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = Teller(), Teller()

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> None:
        self.a(a)
        self.b(b)


def monitor_of(net: nn.Module, store: Path, **options: Any) -> Monitor:
    return Monitor(net, store=store, durability="process", **{"layers": [Teller], **options})
