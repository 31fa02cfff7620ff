"""A forked child records nothing, refuses what it is asked, and never hangs."""

from __future__ import annotations

import gc
import os
import warnings
from pathlib import Path

import pytest

import analysis
from networks import network, on_store, run
from processes import finished, python

CLOSED_BY_A_CHILD = """
import os, sys, torch
from torch import nn
from recorder import Monitor, SpikeOutput
net = nn.Sequential(nn.ReLU())
with Monitor(net, store=sys.argv[1], layers={nn.ReLU: SpikeOutput("N")}) as monitor:
    net(torch.ones(2, 3))
    child = os.fork()
    if child == 0:
        for ask in (monitor.get_avg_firing_rate, monitor.enable):
            try:
                ask()
            except RuntimeError as error:
                assert "forked child" in str(error), error
            else:
                sys.exit("not refused")
        net(torch.ones(2, 3))
        monitor.flush()
        monitor.disable()
        sys.exit(0)  # through __exit__
    assert os.waitpid(child, 0)[1] == 0
    net(torch.ones(2, 3))
"""


def test_a_forked_child_may_close_its_monitor(tmp_path: Path) -> None:
    with python(CLOSED_BY_A_CHILD, tmp_path / "run.zarr") as process:
        finished(process, seconds=60)
    recording = analysis.open_recording(tmp_path / "run.zarr")
    assert (recording.state, recording["0"].frames) == ("closed", 4)


@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)  # from Python 3.12 on
def test_a_forked_child_records_nothing_and_does_not_hang(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        run(net, (2,))
        child = os.fork()
        if child == 0:
            try:
                run(net, (3, 3))
                del monitor
                gc.collect()
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        run(net, (4,))
        assert [len(step) for step in monitor.s["0"]] == [2, 4]


FORKED_WHILE_RECORDING = """
import os, sys, threading, time
from pathlib import Path
import torch
from torch import nn
from networks import Threshold
from recorder import Monitor

torch.set_num_threads(1)
net = nn.Sequential(Threshold(), Threshold())
monitor = Monitor(net, store=Path(sys.argv[1]) / "run.zarr", layers=[Threshold], durability="process")
monitor.enable()
step, stop = torch.ones(8, 100_000), threading.Event()

def record():
    with torch.no_grad():
        while not stop.is_set():
            net(step)

thread = threading.Thread(target=record)
thread.start()
time.sleep(0.05)
statuses = []
for number in range(20):
    child = os.fork()
    if child == 0:
        repr(monitor), monitor.layers, monitor.store
        net(step)
        for ask in (monitor.enable, monitor.step, monitor.reset, lambda: monitor.stats, lambda: monitor.plan,
                    lambda: monitor.s, monitor.get_avg_firing_rate, monitor.trial(1).__enter__):
            try:
                ask()
            except RuntimeError as error:
                assert "forked child" in str(error), error
            else:
                os._exit(3)
        monitor.flush()
        monitor.disable()
        monitor.close()
        os._exit(0)
    ends = time.monotonic() + 20
    while not (found := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > ends:
            os.kill(child, 9)
        time.sleep(0.001)
    statuses.append(os.waitstatus_to_exitcode(found[1]))
stop.set()
thread.join()
monitor.close()
print(*statuses)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks recording processes")
def test_nothing_hangs_in_a_child_that_is_forked_while_another_thread_records(tmp_path: Path) -> None:
    with python(FORKED_WHILE_RECORDING, tmp_path, environment={"PYTHONWARNINGS": "ignore"}) as process:
        assert finished(process).split() == ["0"] * 20
    recording = analysis.open_recording(tmp_path / "run.zarr")
    assert recording["0"].frames == recording["1"].frames > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(recording.firing_rate()) == 1
