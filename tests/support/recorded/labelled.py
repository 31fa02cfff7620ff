"""Recordings for tests with labels, and labels with their types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

import analysis
from recorder import Monitor


class Spikes(nn.Module):
    """Puts out ones where its input is positive."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0).float()


def monitored(store: Path, **options: Any) -> tuple[nn.Module, Monitor]:
    net = nn.Sequential(Spikes())
    monitor = Monitor(net, store=store, layers=[Spikes], durability="process", **options)
    monitor.enable()
    return net, monitor


def record(store: Path, *trials: dict[str, Any], batch: int = 2, **options: Any) -> analysis.Recording:
    """Record a step for each trial, in which sample s has s + 1 spikes; commit after each."""
    net, monitor = monitored(store, **options)
    x = torch.tril(torch.ones(batch, batch))
    with monitor:
        for attached in trials:
            with monitor.trial(**attached):
                net(x)
            monitor.flush()
    return analysis.open_recording(store)


def exactly(values: Any) -> list[tuple[type, Any]]:
    """Values with their types; None for what is missing, however it is shown."""
    listed = np.asarray(values, object).tolist()
    return [(type(None), None) if pd.isna(value) else (type(value), value) for value in listed]


def kept(recording: analysis.Recording, column: str = "label") -> list[Any]:
    return [value for _, value in exactly(recording.trials[column].values)]
