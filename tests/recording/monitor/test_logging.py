"""Scalars of a run go to TensorBoard, W&B or a function while it is recorded, and cost no spike."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from networks import Branching, Outputs, Threshold, on_store, run
from recorder.format import LogWriterWarning
from recorder.stores import Folder
from recorder.tape import LayerReader

Entries = list[tuple[int, dict[str, float]]]


def inputs(step: int) -> torch.Tensor:
    """Of which the first neurons are dead from step 20 on."""
    x = torch.rand(3, 10, generator=torch.Generator().manual_seed(step))
    if step >= 20:
        x[:, :4] = 0
    return x


def expected(first: int, last: int) -> tuple[float, float]:
    """Rate and dead share of a layer of thresholds in these steps, by numpy on unpacked spikes."""
    spikes = np.stack([inputs(step).numpy() > 0.5 for step in range(first, last)])
    return spikes.mean(), (~spikes.any((0, 1))).mean()


def test_a_summary_writer_gets_scalars_that_tensorboard_reads(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold())
    writer = SummaryWriter(str(tmp_path / "events"))
    with on_store(tmp_path, net) as monitor:
        monitor.log_to(writer, every=10)
        for step in range(45):
            net(inputs(step))
    writer.close()
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    names = ["dead/0", "rate", "rate/0", "steps_per_second", "waited"]
    assert sorted(events.Tags()["scalars"]) == [f"spiketape/{name}" for name in names]
    found = {name: events.Scalars(f"spiketape/{name}") for name in names}
    assert [scalar.step for scalar in found["rate/0"]] == [10, 20, 30, 40]
    for place, first in enumerate(range(0, 40, 10)):
        rate, dead = expected(first, first + 10)
        assert found["rate/0"][place].value == found["rate"][place].value == np.float32(rate)
        assert found["dead/0"][place].value == np.float32(dead)
    assert all(scalar.value > 0 for scalar in found["steps_per_second"])
    assert all(0 <= scalar.value < 1 for scalar in found["waited"])


def test_figures_are_of_the_steps_since_the_entry_before_in_each_layer(tmp_path: Path) -> None:
    net = Branching()
    kept = Outputs(net)
    entries: Entries = []
    with on_store(tmp_path, net) as monitor:
        monitor.log_to(lambda step, scalars: entries.append((step, scalars)), every=3)
        for step in range(9):
            # Where its second layer is left out, it has no figures.
            net.behaviour = "leave out" if 3 <= step < 6 else "normal"
            run(net, (2,))
    assert [step for step, _ in entries] == [3, 6, 9]
    assert "spiketape/rate/second" not in entries[1][1]
    first = torch.stack(kept.kept["first"]).numpy() > 0
    for step, scalars in entries:
        assert scalars["spiketape/rate/first"] == first[step - 3 : step].mean()
        assert scalars["spiketape/dead/first"] == (~first[step - 3 : step].any((0, 1))).mean()
    second = torch.stack(kept.kept["second"]).numpy() > 0
    third = torch.stack(kept.kept["third"]).numpy() > 0
    spikes = first[6:].sum() + second[3:].sum() + third[6:].sum()
    assert entries[2][1]["spiketape/rate"] == spikes / (first[6:].size + second[3:].size + third[6:].size)


class Run:
    """What of a run of W&B is used."""

    def __init__(self) -> None:
        self.defined: list[tuple[str, str]] = []
        self.logged: list[dict[str, float]] = []

    def define_metric(self, name: str, *, step_metric: str) -> None:
        self.defined.append((name, step_metric))

    def log(self, data: dict[str, float]) -> None:
        self.logged.append(data)


def test_a_run_of_wandb_gets_the_step_as_a_metric(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold())
    run_of_wandb = Run()
    with on_store(tmp_path, net) as monitor:
        monitor.log_to(run_of_wandb, every=4)
        for step in range(8):
            net(inputs(step))
    assert run_of_wandb.defined == [("spiketape/*", "spiketape/step")]
    assert [data["spiketape/step"] for data in run_of_wandb.logged] == [4, 8]
    assert run_of_wandb.logged[1]["spiketape/rate/0"] == expected(4, 8)[0]


def test_entries_are_written_when_flush_returns(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold())
    entries: Entries = []
    with on_store(tmp_path, net) as monitor:
        monitor.log_to(lambda step, scalars: entries.append((step, scalars)), every=2)
        for step in range(2):
            net(inputs(step))
        monitor.flush()
        assert [step for step, _ in entries] == [2]


def test_nothing_is_read_back_from_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(Threshold())
    entries: Entries = []

    def refuse(*_: Any) -> None:
        raise AssertionError("a chunk was read")

    with on_store(tmp_path, net) as monitor:
        monitor.log_to(lambda step, scalars: entries.append((step, scalars)), every=5)
        monkeypatch.setattr(LayerReader, "chunk", refuse)
        monkeypatch.setattr(Folder, "read", refuse)
        for step in range(10):
            net(inputs(step))
        monitor._session._writer.wait()
        monkeypatch.undo()
    assert len(entries) == 2


def test_a_writer_that_fails_is_told_of_and_loses_no_spike(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold())
    others: Entries = []

    asked: list[int] = []
    may_fail = threading.Event()

    def failing(step: int, scalars: dict[str, float]) -> None:
        asked.append(step)
        may_fail.wait(100)
        raise OSError("the disk of the logs is full")

    monitor = on_store(tmp_path, net)
    monitor.enable()
    monitor.log_to(failing, every=5)
    monitor.log_to(lambda step, scalars: others.append((step, scalars)), every=5)
    for step in range(10):
        net(inputs(step))
    may_fail.set()
    message = (
        r"function that monitor\.log_to was given has failed: OSError: the disk of the logs is full \(.*"
    )
    with pytest.warns(LogWriterWarning, match=message + re.escape("test_logging.py, line ")):
        monitor.flush()
    for step in range(10, 20):
        net(inputs(step))
    monitor.close()
    assert asked == [5]
    assert [step for step, _ in others] == [5, 10, 15, 20]
    assert len(monitor.s["0"]) == 20
    assert torch.equal(torch.as_tensor(monitor.s["0"][19]), (inputs(19) > 0.5).float())


def test_counting_goes_on_behind_what_is_there_already(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold())
    entries: Entries = []
    with on_store(tmp_path, net) as monitor:
        for step in range(13):
            net(inputs(step))
    with on_store(tmp_path, net, resume=True) as monitor:
        monitor.log_to(lambda step, scalars: entries.append((step, scalars)), every=10)
        for step in range(13, 30):
            net(inputs(step))
    assert [step for step, _ in entries] == [20, 30]
    assert entries[0][1]["spiketape/rate/0"] == expected(14, 20)[0]
    assert entries[1][1]["spiketape/rate/0"] == expected(20, 30)[0]
    assert entries[1][1]["spiketape/dead/0"] >= 0.4


def test_a_log_goes_on_after_a_reset(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold())
    entries: Entries = []
    with on_store(tmp_path, net) as monitor:
        monitor.log_to(lambda step, scalars: entries.append((step, scalars)), every=5)
        for step in range(7):
            net(inputs(step))
        monitor.reset()
        for step in range(30, 35):
            net(inputs(step))
    assert [step for step, _ in entries] == [5, 5]
    assert entries[1][1]["spiketape/rate/0"] == expected(30, 35)[0]


@pytest.mark.parametrize(
    ("writer", "every", "error", "message"),
    [
        (3, 10, TypeError, r"writer is 3 \(int\); expected a SummaryWriter of TensorBoard, a run of W&B"),
        (print, 0, ValueError, "every is 0; expected a positive whole number of steps"),
        (print, 2.5, ValueError, r"every is 2\.5; expected a positive"),
        (print, True, ValueError, "every is True"),
    ],
)
def test_mistakes_are_errors(
    tmp_path: Path, writer: Any, every: Any, error: type[Exception], message: str
) -> None:
    with on_store(tmp_path, nn.Sequential(Threshold())) as monitor, pytest.raises(error, match=message):
        monitor.log_to(writer, every=every)
