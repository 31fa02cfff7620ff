"""The smallest recording: one layer, written by hand or by a monitor, and asked for its rate."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

import analysis
from recorder import Monitor, SpikeOutput
from tapes import Run, write_recording


def write(store: Any, fires: bool = True, **options: Any) -> None:
    write_recording(store, {"a": np.full((20, 3), fires)}, [Run(0, 20, 1)], **options)


def rate(store: Any, **options: Any) -> float:
    return float(analysis.open_recording(store, **options).firing_rate())


def monitor_of(store: Any, **options: Any) -> Monitor:
    net = nn.Sequential(nn.ReLU())
    return Monitor(net, store=store, layers={nn.ReLU: SpikeOutput("N")}, **options)
