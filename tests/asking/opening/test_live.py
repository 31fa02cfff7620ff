"""Somebody reads while another process records: ever more whole commits, every figure that of a prefix."""

from __future__ import annotations

import select
import sys
from pathlib import Path

import dask
import numpy as np
import pytest
from numpy.typing import NDArray

import analysis
from processes import Process, forked, line

PHASES, STEPS, NEURONS = 5, 130, 11

# Runs so many steps at each line it is given, commits all the while, and says when they are recorded.
RECORDER = """
from functools import partial
import sys
import torch
from torch import nn
from recorder import Monitor
from recorder.session import layers
from test_live import PHASES, STEPS, inputs

class Threshold(nn.Module):
    def forward(self, x):
        return (x > 0.5).float()

class Turn(nn.Module):
    def forward(self, x):
        return 1 - x[:, :3]

torch.set_num_threads(1)
layers.plan_chunks = partial(layers.plan_chunks, target_bytes=1)
net = nn.Sequential(Threshold(), Turn(), Threshold())
with Monitor(
    net, store=sys.argv[1], layers=[Threshold], commit_interval=0.004, durability="process"
) as monitor:
    print("begun", flush=True)
    for step in range(PHASES * STEPS):
        if step % STEPS == 0:
            sys.stdin.readline()
        net(torch.from_numpy(inputs(step)))
        if step % STEPS == STEPS - 1:
            print(step + 1, flush=True)
            sys.stdin.readline()
            monitor.flush()
            print("committed", flush=True)
"""


def inputs(step: int) -> NDArray[np.float32]:
    return np.random.default_rng(step).random((step % 4 + 1, NEURONS), np.float32)


class Oracle:
    """What has been recorded after any number of steps."""

    def __init__(self) -> None:
        every = [inputs(step) > 0.5 for step in range(PHASES * STEPS)]
        self.frames = np.concatenate([[0], np.cumsum([len(spikes) for spikes in every])])
        spikes = np.concatenate(every)
        self.layers = {"0": spikes, "2": ~spikes[:, :3]}

    def check(self, recording: analysis.Recording) -> int:
        """Every figure is that of the steps that are there; how many these are."""
        if not recording.layers:
            return 0
        assert list(recording.layers) == list(self.layers), "layers that ran together appear together"
        steps = recording["0"].steps
        assert recording.steps == recording["2"].steps == steps
        for name, layer in recording.layers.items():
            expected = self.layers[name][: self.frames[steps]]
            assert layer.frames == len(expected)
            spikes = expected.sum(axis=0)
            np.testing.assert_array_equal(layer.spike_count(per="neuron"), spikes)
            assert float(layer.firing_rate()) == spikes.sum() / expected.size
            assert float(layer.silent_ratio()) == np.mean(spikes == 0)
            np.testing.assert_array_equal(layer.spikes[-100:], expected[-100:])
        return steps


def has_spoken(process: Process) -> bool:
    return bool(select.select([process.stdout], [], [], 0)[0])


def tell(process: Process) -> None:
    assert process.stdin is not None
    print(file=process.stdin, flush=True)


@pytest.mark.skipif(sys.platform == "win32", reason="asks pipes whether there is something to read")
def test_a_live_reader_sees_whole_commits_and_ever_more_of_them(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="records with the monitor")
    oracle = Oracle()
    seen: list[int] = [0]
    with (
        forked(RECORDER, tmp_path / "run.zarr", beside=__file__) as recorder,
        dask.config.set(scheduler="synchronous"),
    ):
        assert line(recorder) == "begun"
        recording = analysis.open_recording(tmp_path / "run.zarr")
        for phase in range(PHASES):
            tell(recorder)
            while not has_spoken(recorder):
                seen.append(oracle.check(recording.refresh()))
            recorded = int(line(recorder))
            assert recorded == (phase + 1) * STEPS
            seen.append(oracle.check(recording.refresh()))
            assert seen == sorted(seen)
            assert seen[-1] <= recorded
            before, layer = seen[-1], recording.layers.get("0")
            tell(recorder)
            assert line(recorder) == "committed"
            # What was taken before stays as it was, although its last chunk has grown since.
            if layer is not None:
                assert layer.steps == before
                np.testing.assert_array_equal(layer.spikes, oracle.layers["0"][: oracle.frames[before]])
            seen.append(oracle.check(recording.refresh()))
            assert seen[-1] == recorded
        recorder.wait()
    assert oracle.check(recording.refresh()) == PHASES * STEPS
    assert recording.state == "closed"
