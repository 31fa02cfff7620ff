"""Trials that are being kept are recorded whole, whatever kills, closes or interrupts the program."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from held_trials import T, inputs, present, recorded, spiking, trials_in
from processes import forked, line
from recorder import Monitor
from recorder.capture.holding_recorder import HoldingRecorder
from recorder.format.segments import SegmentLog


def test_a_trial_in_which_keep_is_called_is_kept_when_it_ends(tmp_path: Path) -> None:
    net = spiking()
    with (  # noqa: PT012 - what the error ends is the last trial
        pytest.raises(FloatingPointError),
        Monitor(net, store=tmp_path / "run", last_trials=2) as monitor,
    ):
        present(monitor, net, range(4))
        with torch.no_grad(), monitor.trial(label="bad"):
            net(inputs(4)[0])
            monitor.keep("loss is NaN")
            assert trials_in(tmp_path / "run") == []
            net(inputs(4)[1])
            raise FloatingPointError
    assert trials_in(tmp_path / "run") == [3, 4]
    assert len(monitor.s["1"]) == T + 2


KILLED = """
import sys
from held_trials import present, spiking
from recorder import Monitor
net = spiking()
monitor = Monitor(net, store=sys.argv[1], last_trials=2, commit_interval=1000)
monitor.enable()
present(monitor, net, range(4))
monitor.keep("it is about to die")
present(monitor, net, range(4, 6))
print("kept", flush=True)
input()
"""


def test_kept_trials_outlive_a_kill(tmp_path: Path) -> None:
    with forked(KILLED, tmp_path / "killed") as process:
        assert line(process) == "kept"
        process.send_signal(signal.SIGKILL)
        process.wait()
    net = spiking()
    with Monitor(net, store=tmp_path / "whole") as monitor:
        present(monitor, net, range(4))
    assert trials_in(tmp_path / "killed") == [2, 3]
    assert recorded(tmp_path / "killed", [2, 3]) == recorded(tmp_path / "whole", [2, 3])


def test_a_handler_that_closes_while_trials_are_kept_has_them_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = spiking()
    with Monitor(net, store=tmp_path / "run", last_trials=2) as monitor:
        present(monitor, net, range(3))
        original = HoldingRecorder.put_back

        def interrupted(*arguments: Any) -> None:
            monitor.close()
            original(*arguments)

        monkeypatch.setattr(HoldingRecorder, "put_back", interrupted)
        monitor.keep("end")
        assert "closed" in repr(monitor)
    assert trials_in(tmp_path / "run") == [1, 2]
    assert {len(steps) for steps in monitor.s.values()} == {2 * T}


@pytest.mark.parametrize("place", [1, 4, 7])
def test_keeping_goes_on_where_an_interruption_has_ended_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    options: dict[str, Any] = {"signals": ["v"], "durability": "process"}
    net = spiking()
    with Monitor(net, store=tmp_path / "whole", **options) as monitor:
        present(monitor, net, range(4))
    net = spiking()
    with Monitor(net, store=tmp_path / "kept", last_trials=2, **options) as monitor:
        present(monitor, net, range(4))
        left, original = [place], SegmentLog.extend

        def interrupted(*arguments: Any) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            original(*arguments)

        monkeypatch.setattr(SegmentLog, "extend", interrupted)
        with pytest.raises(KeyboardInterrupt):
            monitor.keep("end")
        monitor.flush()
        monitor.keep("end")
    assert recorded(tmp_path / "kept", [2, 3]) == recorded(tmp_path / "whole", [2, 3])
