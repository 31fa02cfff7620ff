"""Small networks to record, the monitors that record them, and what these should hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from recorder import Monitor
from recorder.stores import Folder
from recorder.tape import TapeReader


class Threshold(nn.Module):
    """Spikes wherever its input exceeds 0.5."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0.5).to(x.dtype)


def network(neurons: int = 9) -> nn.Sequential:
    return nn.Sequential(Threshold(), nn.Linear(neurons, 5), Threshold())


class Branching(nn.Module):
    """Fails, or leaves its second layer out, when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = Threshold(), Threshold(), Threshold()
        self.behaviour = "normal"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        if self.behaviour == "interrupt":
            raise KeyboardInterrupt
        if self.behaviour == "fail":
            raise ArithmeticError("half way")
        if self.behaviour != "leave out":
            x = self.second(x)
        return self.third(x)


class Spiker(nn.Module):
    """A module of no known framework that puts out what it is told."""

    def __init__(self, output: Any = None) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: torch.Tensor) -> Any:
        return (x > 4).float() if self.output is None else self.output


class Outputs:
    """What each spiking layer put out, kept in memory."""

    def __init__(self, net: nn.Module, kind: type[nn.Module] = Threshold) -> None:
        self.kept: dict[str, list[torch.Tensor]] = {}
        for name, module in net.named_modules():
            if isinstance(module, kind):
                module.register_forward_hook(self.keep(name))

    def keep(self, name: str) -> Any:
        return lambda _module, _input, output: self.kept.setdefault(name, []).append(output.detach().clone())

    def check(self, monitor: Monitor) -> None:
        assert list(monitor.s) == list(self.kept)
        for name, outputs in self.kept.items():
            recorded = monitor.s[name]
            assert len(recorded) == len(outputs)
            for step, output in enumerate(outputs):
                assert torch.equal(torch.as_tensor(recorded[step]), output)
                assert torch.as_tensor(recorded[step]).dtype == output.dtype
        slots = [torch.cat([o.flatten(1) for o in outputs]).bool() for outputs in self.kept.values()]
        spikes = sum(int(s.sum()) for s in slots)
        assert_ratio(monitor.get_avg_firing_rate(), spikes, sum(s.numel() for s in slots))
        silent = sum(int((~s.any(0)).sum()) for s in slots)
        assert_ratio(monitor.get_nonfire_ratio(), silent, sum(s.shape[1] for s in slots))
        for name, s in zip(self.kept, slots, strict=True):
            assert_ratio(monitor.get_avg_firing_rate(False, name), int(s.sum()), s.numel())
            assert_ratio(monitor.get_nonfire_ratio(False, name), int((~s.any(0)).sum()), s.shape[1])


def assert_ratio(found: Any, numerator: int, denominator: int) -> None:
    """Exact; a tensor has torch's default precision."""
    exact = numerator / denominator
    assert found == (torch.tensor(exact) if isinstance(found, torch.Tensor) else exact)


def on_store(tmp_path: Path, net: nn.Module, **options: Any) -> Monitor:
    return Monitor(net, **{"store": tmp_path / "run.zarr", "layers": [Threshold], **options})


def run(net: nn.Module, batches: tuple[int, ...] = (4, 4, 4, 3), neurons: int = 9) -> None:
    with torch.no_grad():
        for batch in batches:
            net(torch.rand(batch, neurons))


def steps_of(monitor: Monitor, name: str) -> list[int]:
    monitor.flush()
    segments = TapeReader.open(Folder(monitor.store)).layers[name].segments()
    return [
        step
        for first, last in zip(segments.first_step, segments.last_step, strict=True)
        for step in range(first, last)
    ]
