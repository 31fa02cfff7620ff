"""What cannot be a signal, or be recorded as one, is an error that says why and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from recorder import Monitor, Signal, SignalError, SpikeOutput
from recorder.frameworks import SpikingLayerError

N, NEURONS = 5, 7


class Neuron(nn.Module):
    """Spikes at 1, with its input for a potential."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.v = x
        return (x >= 1).float()


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (Signal("w"), SignalError, "layer '0' \\(Neuron\\) is not there; expected a tensor"),
        (Signal("training"), SignalError, "is a bool; expected a tensor"),
        (Signal(lambda *seen: seen[2][0, 0], name="f"), SignalError, r"has the shape \(\); expected \[N, "),
        (Signal(lambda *seen: seen[2][1:], name="f"), SignalError, "T = 1 and N = 5"),
        (Signal(lambda *seen: seen[2][:, :0], name="f"), SignalError, "expected at least one"),
        (Signal(lambda *seen: seen[2] * 1j, name="f"), SignalError, "dtype torch.complex64"),
        (Signal("v", neurons=np.s_[:, 0]), SignalError, r"does not fit layer '0'.*shape \(7,\)"),
        (Signal("v", neurons=[7]), SignalError, "does not fit layer '0'"),
        (Signal("v", neurons=np.s_[7:]), SignalError, "are 0 neurons"),
    ],
)
def test_what_cannot_be_recorded_is_an_error_that_says_why(
    tmp_path: Path, given: Signal, error: type[Exception], text: str
) -> None:
    net = nn.Sequential(Neuron())
    with Monitor(net, store=tmp_path / "run", layers=[Neuron], signals=[given]) as monitor:
        with pytest.raises(error, match=text):
            net(torch.rand(N, NEURONS))
        assert monitor.s["0"][0].shape == (N, NEURONS)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Signal("v", every=0), ValueError, "every of signal 'v' is 0"),
        (lambda: Signal("v", samples=True), ValueError, "samples of signal 'v' is True"),
        (lambda: Signal("v", dtype="int8"), ValueError, "dtype of signal 'v' is 'int8'"),
        (lambda: Signal(3), TypeError, "a signal is 3"),
        (lambda: Signal(""), TypeError, "a signal is ''"),
        (lambda: Signal(lambda *_: None), ValueError, "lambda has no name"),
        (lambda: Signal("v", name="\ud800"), ValueError, "halves"),
        (lambda: Monitor(nn.Sequential(Neuron()), layers=[Neuron], signals=3), TypeError, "signals is 3"),
        (
            lambda: Monitor(nn.Sequential(Neuron()), layers=[Neuron], signals=["v", Signal("v", every=2)]),
            ValueError,
            "two signals of layer '0' are named 'v'",
        ),
        (
            lambda: Monitor(nn.Sequential(Neuron()), layers=[Neuron], signals=[Signal("v", layers="9")]),
            SpikingLayerError,
            r"'9' is no recorded layer.*'0' \(Neuron\)",
        ),
    ],
)
def test_bad_signals_are_refused_by_name(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()


def test_a_potential_that_is_not_kept_for_each_step_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    class MultiStep(Neuron):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([super(MultiStep, self).forward(step) for step in x])

    net = nn.Sequential(MultiStep())
    monitor = Monitor(net, store=tmp_path / "run", layers={"0": SpikeOutput("t n ...")}, signals="v")
    text = r"expected T = 3 and N = 5.*No membrane potential of each step"
    with monitor, pytest.raises(SignalError, match=text):
        net(torch.rand(3, N, NEURONS))
