"""Stops a writer at any moment, records in its place, and wakes it: it may write not one byte more.

A function raises AssertionError, which names what was done, where the sleeper has written, or where the other
recording is not what was recorded.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from analysis.keeping import find_problems
from recorder import Monitor
from recorder.stores import Folder
from recorder.tape import TapeReader
from recorder.tape.holding.fence import TRUSTED_SECONDS

ROOT = Path(__file__).parents[2]
WAYS = ("overwritten", "resumed", "removed")
STEPS = 100
# Records until it is told that it must not, in chunks so small that it writes all the time.
SLEEPER = """
import itertools, socket, sys
from functools import partial
socket.gethostname = lambda: "asleep"  # so that nobody can see whether this process runs
import torch
from recorder.session import layers
from recorder.format import RecordingWriteError
from fencing import Monitor, Threshold, inputs
layers.plan_chunks = partial(layers.plan_chunks, target_bytes=1)
net = torch.nn.Sequential(Threshold())
monitor = Monitor(net, layers=[Threshold], store=sys.argv[1], commit_interval=0.02, durability="process")
monitor.enable()
net(inputs(0, 1))
monitor.flush()
print("recording", flush=True)
try:
    for step in itertools.count(1):
        net(inputs(step, 1))
    monitor.flush()
except RecordingWriteError as error:
    print(type(error.__cause__).__name__, flush=True)
try:
    monitor.close()
except RecordingWriteError:
    print("told again", flush=True)
"""


class Threshold(nn.Module):
    """Spikes wherever its input exceeds 0.5."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Spikes of an input."""
        return (x > 0.5).to(x.dtype)


def inputs(step: int, seed: int) -> torch.Tensor:
    """Input of a step."""
    return torch.rand(8, 33, generator=torch.Generator().manual_seed(10**6 * seed + step))


def contents(folder: Path) -> dict[str, bytes]:
    """Everything in a folder."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def wake_in_anothers_place(folder: Path, way: str, seed: int) -> None:
    """Stop a writer after a random time, record in its place in one of `WAYS`, and wake it."""
    place, where = folder / "run.zarr", f"{way}, seed {seed}"
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    sleeper = subprocess.Popen(
        [sys.executable, "-P", "-c", SLEEPER, str(place)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert sleeper.stdout is not None
    with sleeper:
        assert sleeper.stdout.readline() == "recording\n", where
        time.sleep(random.Random(seed).random() * 0.3)
        sleeper.send_signal(signal.SIGSTOP)
        time.sleep(TRUSTED_SECONDS)
        kept = TapeReader.open(Folder(place)).layers["0"].frames // 8 if way == "resumed" else 0
        if way == "removed":
            shutil.rmtree(place)
        net = nn.Sequential(Threshold())
        options = {"overwritten": {"overwrite": True}, "resumed": {"resume": True}, "removed": {}}[way]
        monitor = Monitor(net, layers=[Threshold], store=place, take_over=way != "removed", **options)
        monitor.enable()
        for step in range(STEPS):
            net(inputs(step, 2))
        monitor.flush()
        before = contents(place)
        sleeper.send_signal(signal.SIGCONT)
        said = sleeper.stdout.read()
    assert said == "RecordingInUseError\ntold again\n", f"{where}: the sleeper said {said!r}"
    assert contents(place) == before, f"{where}: the sleeper has written"
    monitor.close()
    reader = TapeReader.open(Folder(place))
    problems = find_problems(reader)
    assert problems == [], f"{where}: {problems}"
    given = [*(inputs(step, 1) for step in range(kept)), *(inputs(step, 2) for step in range(STEPS))]
    layer = reader.layers["0"]
    assert layer.frames == 8 * len(given), where
    found = torch.from_numpy(layer.frame_bits(0, layer.frames))
    assert torch.equal(found, torch.cat(given) > 0.5), f"{where}: other values"


def main() -> None:
    """Attack for minutes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            for way in WAYS:
                wake_in_anothers_place(Path(folder, f"{way}-{seed}"), way, seed)


if __name__ == "__main__":
    main()
