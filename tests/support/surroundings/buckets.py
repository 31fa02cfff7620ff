"""Recordings in buckets, for tests: a small network, and what it records."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from recorder import Monitor
from recorder.stores import ByteStore, open_store
from recorder.tape import TapeReader

NEURONS = 33


class Threshold(nn.Module):
    """Spikes wherever its input exceeds 0.5."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0.5).to(x.dtype)


NET = nn.Sequential(Threshold(), nn.Linear(NEURONS, 7), Threshold())


def inputs(step: int) -> torch.Tensor:
    return torch.rand(5, NEURONS, generator=torch.Generator().manual_seed(step))


def record(monitor: Monitor, first: int, last: int) -> None:
    with torch.no_grad():
        for step in range(first, last):
            monitor._hooks._network(inputs(step))


def expected(steps: int) -> np.ndarray[Any, Any]:
    return (torch.cat([inputs(step) for step in range(steps)]) > 0.5).numpy()


def spikes_of(store: ByteStore) -> np.ndarray[Any, Any]:
    layer = TapeReader.open(store).layers["0"]
    return layer.frame_bits(0, layer.frames)


def monitor_of(url: str, storage_options: dict[str, Any], **arguments: Any) -> Monitor:
    return Monitor(NET, layers=[Threshold], store=url, storage_options=storage_options, **arguments)


def store_of(url: str, storage_options: dict[str, Any]) -> ByteStore:
    return open_store(url, read_only=False, storage_options=storage_options)
