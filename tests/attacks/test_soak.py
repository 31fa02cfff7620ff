"""However long a recording runs: memory, threads and open files stay as they are, files are as planned."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from processes import line, python
from recorder.stores import Folder
from recorder.tape import TapeReader

SAMPLES = 10
# What is free and not given back: how large that gets is up to the C library.
ALLOCATOR_BYTES = 16 * 2**20

# Records with many commits and trials, and says ten times what it holds of the machine.
RECORDER = """
from functools import partial
import json, os, sys, threading
import torch
from torch import nn
from recorder import Monitor, monitor as monitors
from recorder.session import layers

class Threshold(nn.Module):
    def forward(self, x):
        return (x > 0.95).float()

def held():
    resident = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "resident_bytes": resident,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }

path, steps, samples = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
monitors.QUEUE_LIMIT_BYTES = 2**20
layers.plan_chunks = partial(layers.plan_chunks, target_bytes=2**16)
net = nn.Sequential(Threshold(), nn.Dropout(), Threshold())
inputs = torch.rand(97, 4, 2048)
monitor = Monitor(net, store=path, layers=[Threshold], commit_interval=0.05, durability="process")
with monitor:
    for step in range(steps):
        if step % 20 == 0:
            trial = monitor.trial(label=[step % 7] * 4)
            trial.__enter__()
        net(inputs[step % 97])
        if step % 20 == 19:
            trial.__exit__(None, None, None)
        if (step + 1) % (steps // samples) == 0:
            print(json.dumps(held()), flush=True)
    plan = monitor.plan
    print(json.dumps({"host_bytes": plan.host_bytes_limit, "files": plan.files(steps)}), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what a process holds")
@pytest.mark.parametrize(
    "steps", [3_000, pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
def test_a_long_recording_holds_no_more_than_a_short_one(
    tmp_path: Path, steps: int, record_property: Callable[[str, object], None]
) -> None:
    path = tmp_path / "run.zarr"
    with python(RECORDER, path, steps, SAMPLES) as recorder:
        samples = [json.loads(line(recorder)) for _ in range(SAMPLES)]
        planned = json.loads(line(recorder))
        out, err = recorder.communicate(timeout=300)
        assert recorder.returncode == 0, out + err
    record_property("samples", samples)
    record_property("planned", planned)
    # Buffers have been filled once after the first tenth or two.
    early, late = samples[1], samples[2:]
    assert {sample["threads"] for sample in late} == {early["threads"]}
    # The background thread may be writing a file, and waiting for its folder.
    assert max(sample["descriptors"] for sample in late) <= early["descriptors"] + 2
    grown = max(sample["resident_bytes"] for sample in late) - early["resident_bytes"]
    limit = planned["host_bytes"] + ALLOCATOR_BYTES
    assert grown <= limit
    layers = TapeReader.open(Folder(path)).layers
    kept = steps * 4 * 2048 * len(layers)
    assert limit < kept / 8 or steps < 100_000, "else it would not be noticed if every spike was kept"
    chunks = [file for file in path.rglob("*") if file.is_file() and "/spikes/c/" in file.as_posix()]
    assert len(chunks) == planned["files"]
    others = sum(file.is_file() for file in path.rglob("*")) - len(chunks)
    assert others < 40 + len(chunks) / 20
    for layer in layers.values():
        assert layer.segments().last_step[-1] == steps
