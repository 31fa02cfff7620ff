"""A spiking network that is presented with trials, and what a recording has of some of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import analysis
from analysis.keeping import find_problems
from recorder import Monitor
from recorder.stores import Folder
from recorder.tape import TapeReader

T, N = 5, 3


def spiking(step_mode: str = "s") -> nn.Sequential:
    torch.manual_seed(3)
    net = nn.Sequential(
        *(layer.Linear(7, 11), neuron.LIFNode(v_threshold=0.2)),
        *(layer.Linear(11, 6), neuron.IFNode(v_threshold=0.2)),
    )
    functional.set_step_mode(net, step_mode)
    return net


def inputs(trial: int) -> torch.Tensor:
    # Batches differ, so that trials end within a row of eight frames.
    return torch.rand(T, N + trial % 3, 7, generator=torch.Generator().manual_seed(trial)) * 3


def present(monitor: Monitor, net: nn.Module, trials: range, **columns: Any) -> None:
    with torch.no_grad():
        for trial in trials:
            given = inputs(trial)
            with monitor.trial(label=[f"{trial}.{sample}" for sample in range(given.shape[1])], **columns):
                for x in [given] if getattr(net[1], "step_mode", "s") == "m" else given:
                    net(x)
            functional.reset_net(net)


def recorded(path: Path, trials: list[int]) -> dict[str, Any]:
    """What a recording has of some trials: steps, samples, labels, spikes and signals of each layer."""
    recording = analysis.open_recording(path)
    assert find_problems(TapeReader.open(Folder(path))) == []
    found: dict[str, Any] = {}
    for trial in trials:
        for name in recording.layers:
            part = recording.select(trials=[trial])[name]
            arrays = {
                "spikes": part.spikes,
                **{which: series.values for which, series in part.signals.items()},
            }
            for which, array in arrays.items():
                kept = {each: array[each].values.tolist() for each in ("step", "sample", "trial", "label")}
                found[f"{trial} {name} {which}"] = {**kept, "values": array.values.tolist()}
    return found


def trials_in(path: Path) -> list[int]:
    return sorted(set(TapeReader.open(Folder(path)).trials().get("trial", np.empty(0)).tolist()))
