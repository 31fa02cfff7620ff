"""However a recording ends, what was committed stays good, and the next monitor can go on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from recorder import Monitor
from recorder.format.errors import RecordingInUseError
from recorder.format.lock import LOCK_KEY


class Threshold(nn.Module):
    """Spikes wherever its input exceeds 0.5."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0.5).to(x.dtype)


def monitor_of(tmp_path: Path, net: nn.Module, **options: object) -> Monitor:
    return Monitor(net, layers=[Threshold], store=tmp_path / "run.zarr", **options)  # type: ignore[arg-type]


def test_a_second_monitor_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold())
    with monitor_of(tmp_path, net) as monitor:
        for how in ({"resume": True}, {"overwrite": True}, {"resume": True, "take_over": True}):
            with pytest.raises(RecordingInUseError, match="which runs"):
                monitor_of(tmp_path, net, **how)
        monitor.reset()
        with pytest.raises(RecordingInUseError, match="which runs"):
            monitor_of(tmp_path, net, resume=True)
        net(torch.rand(3, 2))
    assert not (tmp_path / "run.zarr" / LOCK_KEY).exists()
    second = monitor_of(tmp_path, net, resume=True)
    with pytest.raises(RecordingInUseError, match="which runs"):
        monitor.enable()
    second.close()
    monitor.enable()
    monitor.close()
