"""The connections that were recorded of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from networks import on_store
from recorder import Monitor
from recorder.format.connections import Connections
from recorder.stores import Folder
from recorder.tape import TapeReader


def found(monitor: Monitor) -> Connections:
    monitor.flush()
    connections = TapeReader.open(Folder(monitor.store)).metadata.connections
    assert connections is not None
    return connections


def recorded(path: Path, net: nn.Module, *inputs: torch.Tensor, **options: Any) -> Connections:
    with on_store(path, net, durability="process", **options) as monitor, torch.no_grad():
        net(*inputs)
    return found(monitor)


def readers(connections: Connections) -> dict[str, list[str]]:
    return {layer: [reader.name for reader in each] for layer, each in connections.layers.items()}
