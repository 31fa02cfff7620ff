"""A network that does something in the middle of a forward, and what must be recorded of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import analysis
from analysis.keeping import find_problems
from networks import Threshold
from recorder import Monitor, Signal
from recorder.stores import Folder
from recorder.tape import TapeReader


class Halting(nn.Module):
    """Three layers; does something in the middle of a forward when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = Threshold(), Threshold(), Threshold()
        self.halfway: Callable[[], object] = lambda: None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.b(self.a(x))
        self.halfway()
        return self.c(x)


def inputs(number: int, *shape: int) -> torch.Tensor:
    return torch.rand(*(shape or (2, 3)), generator=torch.Generator().manual_seed(number))


def monitored(path: Path, net: nn.Module, **options: Any) -> Monitor:
    signals = ["output", Signal("output", every=3, samples=1, name="third")]
    options = {"layers": [Threshold], "durability": "process", "signals": signals, **options}
    return Monitor(net, store=path / "run.zarr", **options)


def check_whole(path: Path, steps: list[torch.Tensor], layers: str = "abc") -> None:
    """Check that each layer has exactly these steps, in a recording without fault."""
    reader = TapeReader.open(Folder(path / "run.zarr"))
    assert find_problems(reader) == []
    recording = analysis.open_recording(path / "run.zarr")
    expected = torch.cat([step.reshape(-1, step.shape[-1]) for step in steps]).numpy() > 0.5
    for name in layers:
        np.testing.assert_array_equal(recording[name].spikes.values, expected)
        assert int(recording[name].spike_count()) == expected.sum()
        check_signals(recording[name])


def check_signals(layer: analysis.Layer) -> None:
    """Check that the signals of a layer are its output at the steps of its spikes."""
    if not layer.signals:
        return
    spikes, output, third = layer.spikes, layer.signals["output"].values, layer.signals["third"].values
    for name in ("step", "sample", "trial"):
        np.testing.assert_array_equal(output[name], spikes[name])
    np.testing.assert_array_equal(output, spikes)
    few = spikes[((spikes.step % 3 == 0) & (spikes["sample"] == 0)).values]
    np.testing.assert_array_equal(third.step, few.step)
    np.testing.assert_array_equal(third, few)
