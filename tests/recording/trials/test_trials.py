"""Trials label samples, are counted on, and are refused where they mean nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from networks import network, on_store, run, steps_of
from recorder import Monitor
from recorder.stores import Folder
from recorder.tape import TapeReader


def trials_of(monitor: Monitor) -> dict[str, list[Any]]:
    monitor.flush()
    return {name: values.tolist() for name, values in TapeReader.open(Folder(monitor.store)).trials().items()}


def test_trials_label_samples(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        with monitor.trial(label=torch.tensor([7, 8, 9, 7]), epoch=2):
            run(net, (4, 4))
        run(net, (4,))
        with monitor.trial(label=5, weather=["sun", "rain"]):
            run(net, (2,))
        with monitor.trial():
            run(net, (1,))
        trials = trials_of(monitor)
    assert trials["trial"] == [0, 0, 0, 0, 1, 1, 2]
    assert trials["sample"] == [0, 1, 2, 3, 0, 1, 0]
    assert trials["label"][:6] == [7, 8, 9, 7, 5, 5]
    assert trials["weather"][4:6] == ["sun", "rain"]
    assert trials["epoch"][:4] == [2, 2, 2, 2]
    segments = TapeReader.open(Folder(monitor.store)).layers["2"].segments()
    assert segments.rows.tolist() == [[0, 0, 2, 4, 0], [8, 2, 1, 4, -1], [12, 3, 1, 2, 1], [14, 4, 1, 1, 2]]


def test_trials_are_counted_on_after_resuming(tmp_path: Path) -> None:
    net = network()
    for label in ("a", "b"):
        with on_store(tmp_path, net, resume=True) as monitor, monitor.trial(label=label):
            run(net, (2,))
    assert trials_of(monitor)["trial"] == [0, 0, 1, 1]
    assert trials_of(monitor)["label"] == ["a", "a", "b", "b"]


def test_a_trial_without_frames_leaves_no_trace(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        with monitor.trial(label=[1, 2, 3]):
            pass
        with monitor.trial(label=1):
            run(net, (1,))
        assert trials_of(monitor)["trial"] == [0]


def test_the_label_of_an_open_trial_is_committed_with_its_frames(tmp_path: Path) -> None:
    net = network()
    monitor = on_store(tmp_path, net)
    monitor.enable()
    with monitor.trial(label=7, epoch=1):
        run(net, (2, 3))
        assert trials_of(monitor) == {
            "trial": [0] * 3,
            "sample": [0, 1, 2],
            "label": [7] * 3,
            "epoch": [1] * 3,
        }
        run(net, (4,))
        monitor.close()
        run(net, (5,))
    monitor.enable()
    run(net, (5,))
    monitor.close()
    assert trials_of(monitor)["label"] == [7] * 4


def test_a_recording_is_not_reset_inside_a_trial(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        with monitor.trial(label=7):
            run(net, (2,))
            with pytest.raises(RuntimeError, match="trial 0 is still open; reset the recording outside"):
                monitor.reset()
            run(net, (2,))
        assert len(monitor.s["0"]) == 2


def test_wrong_trials_are_refused(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        with (
            pytest.raises(ValueError, match=r"trial 0, layer '0', step 0: label has 3 values.* a batch of 4"),
            monitor.trial(label=[1, 2, 3]),
        ):
            run(net, (4,))
        with pytest.raises(RuntimeError, match=r"trial 0 is still open"), monitor.trial(), monitor.trial():
            pass
        with (
            pytest.raises(TypeError, match=r"label holds \{\} \(dict\); expected text"),
            monitor.trial(label={}),
        ):
            pass
        with monitor.trial(label=1):
            run(net, (4,))
        kinds = r"label is 'x', a value of kind category.*holds kind int64"
        with pytest.raises(TypeError, match=kinds), monitor.trial(label="x"):
            pass
        assert len(monitor.s["0"]) == 1


class Experts(nn.Module):
    """A layer for all samples, and one that is given some of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.expert = nn.Threshold(0.5, 0), nn.Threshold(0.5, 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.expert(self.stem(x)[::2])  # type: ignore[no-any-return]


def test_labels_of_a_batch_of_which_a_layer_gets_a_part_are_refused(tmp_path: Path) -> None:
    net, ones = Experts(), torch.ones(4, 3)
    with on_store(tmp_path, net, layers=nn.Threshold) as monitor:
        label = "'expert', step 0: label has 4 values.* batch of 2.*leave that layer out with layers="
        with pytest.raises(ValueError, match=label), monitor.trial(label=range(4)):
            net(ones)
        with monitor.trial(label=7):
            net(ones)
    with on_store(tmp_path, net, layers="stem", overwrite=True) as monitor, monitor.trial(label=range(4)):
        net(ones)


def test_another_task_of_asyncio_cannot_run_in_a_trial(tmp_path: Path) -> None:
    net = network()

    async def forward() -> None:
        run(net, (4,))

    async def label(monitor: Monitor) -> None:
        with monitor.trial(label=1):
            run(net, (4,))
            await asyncio.create_task(forward(), name="started inside")
            await asyncio.sleep(0)  # the other one has its turn
            run(net, (4,))

    async def both(monitor: Monitor) -> None:
        labelling = asyncio.create_task(label(monitor), name="labelling")
        other = asyncio.create_task(forward(), name="other")
        with pytest.raises(RuntimeError, match=r"task 'other' .* trial 0, which task 'labelling' .*not left"):
            await other
        await labelling
        await forward()

    with on_store(tmp_path, net) as monitor:
        asyncio.run(both(monitor))
        assert steps_of(monitor, "2") == [0, 1, 2, 3]
    rows = TapeReader.open(Folder(monitor.store)).layers["2"].segments().rows.tolist()
    assert [row[-1] for row in rows] == [0, -1]


def test_a_trial_that_a_task_has_left_open_is_that_of_the_next(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        trial = monitor.trial(label=1)

        async def cell(what: Callable[[], object]) -> None:
            what()

        for what in (trial.__enter__, lambda: run(net, (4,)), lambda: trial.__exit__(None, None, None)):
            asyncio.run(cell(what))
        assert trials_of(monitor)["label"] == [1] * 4
