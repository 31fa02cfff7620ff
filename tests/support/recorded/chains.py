"""A chain of layers, of which some may be left out, given nothing, called more than once, or raise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recorder import Monitor
from recorder.stores import Folder
from recorder.tape import TapeReader


class Spiking(nn.Module):
    """Fires where its input is positive."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0).float()


class Chain(nn.Module):
    """Three layers, of which some may be left out, given nothing, called more than once, or raise."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = Spiking(), Spiking(), Spiking()

    def forward(self, x: torch.Tensor, calls: str = "abc") -> torch.Tensor:
        for name in calls:
            if name == "!":
                raise ArithmeticError("half way")
            layer = getattr(self, name.lower())
            layer(x[:0] if name.isupper() else x)
        return x


def monitored(path: Path, net: nn.Module, **options: Any) -> Monitor:
    return Monitor(net, store=path / "run.zarr", layers=[Spiking], durability="process", **options)


def steps_of(monitor: Monitor) -> dict[str, list[int]]:
    layers = TapeReader.open(Folder(monitor.store)).layers
    return {
        name: [step for row in layer.segments() for step in range(row[1], row[1] + row[2])]
        for name, layer in layers.items()
    }


X = torch.ones(2, 3)


def run(call: Callable[[str], object], forwards: list[str]) -> None:
    for calls in forwards:
        try:
            call(calls)
        except ArithmeticError:
            assert "!" in calls
