"""A recording process is killed at any moment: each acknowledged step is there, to the bit, and nothing else.

The process records steps that follow from their number, asks for commits, and notes in a file outside the
recording which steps were promised to it. The next round goes on with what it finds.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from processes import Process, forked, line
from recorder.format import RecordingNotFoundError
from recorder.stores import Folder
from recorder.tape import LayerReader, TapeReader
from recorder.tape.holding.beginning import is_unbegun

NEURONS = 11
NO_END = 10**9

# Imports once, and forks a process for each round.
NURSERY = """
from functools import partial
import os, sys
import numpy as np
import torch
from torch import nn
from recorder import Monitor, Signal
from recorder.capture import signal_recorder
from recorder.session import layers as recorded
from recorder.tape.reading import TapeReader
from recorder.stores.files.folder import Folder
from recorder.tape.holding.beginning import is_unbegun
from test_kill import inputs

class Threshold(nn.Module):
    def forward(self, x):
        return (x > 0.5).float()

class Turn(nn.Module):
    def forward(self, x):
        return 1 - x[:, :3]

def record(path, acknowledged, more):
    recorded.plan_chunks = partial(recorded.plan_chunks, target_bytes=1)
    signal_recorder.plan_signal = partial(signal_recorder.plan_signal, target_bytes=2000)
    signal_recorder.STAGE_BYTES = 300
    net = nn.Sequential(Threshold(), Turn(), Threshold())
    store = Folder(path)
    layers = {} if is_unbegun(store) else TapeReader.open(store).layers
    first = int(layers["0"].segments().last_step[-1]) if "0" in layers else 0
    monitor = Monitor(
        net, store=path, layers=[Threshold], resume=True, commit_interval=0.01, durability="process",
        signals=[Signal("input", layers="0"), Signal("output", every=3, samples=2)],
    )
    with monitor, open(acknowledged, "a") as file:
        for step in range(first, first + int(more)):
            net(torch.from_numpy(inputs(step)))
            if step % 7 == 0:
                monitor.flush()
                print(step + 1, file=file, flush=True)

torch.set_num_threads(1)
for request in sys.stdin:
    arguments = request.split()
    child = os.fork()
    if child == 0:
        try:
            record(*arguments)
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
        os._exit(1)
    print(child, flush=True)
    sys.stdin.readline()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def inputs(step: int) -> np.ndarray:
    return np.random.default_rng(step).random((step % 4 + 1, NEURONS), np.float32)


def expected(steps: int) -> dict[str, np.ndarray]:
    spikes = np.concatenate([inputs(step) > 0.5 for step in range(steps)])
    return {"0": spikes, "2": ~spikes[:, :3]}


@contextmanager
def recording_process(nursery: Process, *request: object) -> Iterator[int]:
    assert nursery.stdin is not None
    print(*request, file=nursery.stdin, flush=True)
    yield int(line(nursery))
    # Only now it is waited for: until then its number is its own, even if it has ended.
    print(file=nursery.stdin, flush=True)


def check(path: Path, acknowledged: Path) -> None:
    promised = [int(step) for step in acknowledged.read_text().split()] if acknowledged.exists() else []
    store = Folder(path)
    if not promised and is_unbegun(store):
        with pytest.raises(RecordingNotFoundError):
            TapeReader.open(store)
        return
    layers = TapeReader.open(store).layers
    steps = {name: layer.segments().last_step[-1] for name, layer in layers.items() if layer.frames}
    assert len(set(steps.values())) <= 1, "layers that ran together are committed together"
    recorded = int(max(steps.values(), default=0))
    assert recorded >= max(promised, default=0), "what was acknowledged is there"
    if recorded:
        for name, spikes in expected(recorded).items():
            assert np.array_equal(layers[name].frame_bits(0, layers[name].frames), spikes)
            blocks = layers[name].commit.counts_checksums.rows
            size = layers[name].plan.block_frames
            for block, counts in enumerate(layers[name].counts(0, blocks)):
                assert np.array_equal(counts, spikes[block * size : (block + 1) * size].sum(axis=0))
        check_signals(layers, recorded)


def check_signals(layers: dict[str, LayerReader], steps: int) -> None:
    """What is beside the spikes goes as far as they do."""
    given = layers["0"].signals["input"]
    assert np.array_equal(given.segments().rows, layers["0"].segments().rows)
    assert np.array_equal(
        given.values(0, given.frames), np.concatenate([inputs(step) for step in range(steps)])
    )
    for name, turn in (("0", lambda x: x > 0.5), ("2", lambda x: x[:, :3] <= 0.5)):
        output = layers[name].signals["output"]
        assert output.segments().first_step.tolist() == list(range(0, steps, 3))
        few = [turn(inputs(step)[:2]) for step in range(0, steps, 3)]
        assert np.array_equal(output.values(0, output.frames), np.concatenate(few))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks recording processes")
@pytest.mark.parametrize(
    "rounds", [12, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
def test_a_killed_recording_has_every_acknowledged_step_and_goes_on(
    tmp_path: Path, rounds: int, record_property: Callable[[str, object], None]
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    record_property("seed", seed)
    chance = random.Random(seed)  # noqa: S311 - when to kill is no secret
    recording = 0
    with forked(NURSERY, beside=__file__) as nursery:
        for _ in range(rounds):
            path, acknowledged = tmp_path / f"{recording}.zarr", tmp_path / f"{recording}.txt"
            more = chance.choice([NO_END, 30])
            with recording_process(nursery, path, acknowledged, more) as process:
                # Not to wait for something: this is the moment of the kill.
                time.sleep(chance.uniform(0, 0.25))
                os.kill(process, signal.SIGKILL)
            ended = line(nursery)
            assert ended == str(-signal.SIGKILL) or (ended == "0" and more != NO_END)
            check(path, acknowledged)
            if ended == "0" or chance.random() < 0.3:
                with recording_process(nursery, path, acknowledged, 20):
                    pass
                assert line(nursery) == "0"
                check(path, acknowledged)
                assert TapeReader.open(Folder(path)).metadata.state == "closed"
                recording += 1
