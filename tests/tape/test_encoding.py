"""Work done in several threads is taken in order, its memory bounded and its errors told."""

from __future__ import annotations

import os
import platform
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import analysis
from processes import finished, python
from recorder import Monitor, SpikeOutput
from recorder.tape.threads.in_order import InOrder


@pytest.mark.parametrize("threads", [1, 3])
def test_results_are_taken_in_order(threads: int) -> None:
    in_order = InOrder(threads)
    first_may_end = threading.Event()
    taken: list[int] = []

    def work(number: int) -> int:
        # The first piece of work ends last.
        if number == 0 and threads > 1:
            first_may_end.wait()
        elif number == 2:
            first_may_end.set()
        return number

    for number in range(20):
        in_order.put(partial(work, number), taken.append)
        assert number + 1 - len(taken) <= threads + 1
    in_order.finish()
    assert taken == list(range(20))
    in_order.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_is_raised_at_its_turn(threads: int) -> None:
    in_order = InOrder(threads)
    taken: list[float] = []
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - which of them raises depends on the threads
        for divisor in (1, 2, 0, 4, 5, 6):
            in_order.put(lambda divisor=divisor: 1 / divisor, taken.append)
        in_order.finish()
    assert taken == [1, 0.5]
    in_order.close()


class Relay(nn.Module):
    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        return spikes


def test_chunks_encoded_in_several_threads_are_the_same(
    tmp_path: Path, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spikes = torch.rand(4000, 13) < 0.2
    files = {}
    # Whatever waits, all of them work.
    monkeypatch.setattr("recorder.tape.threads.pressure.Pressure.threads", lambda _, most: most)
    for threads in (1, 3):
        monkeypatch.setattr("recorder.tape.threads.in_order.ENCODING_THREADS", threads)
        store = tmp_path / f"{threads}.zarr"
        layers = {Relay: SpikeOutput("N")}
        with Monitor(Relay(), store=store, layers=layers, durability="process") as monitor:
            for number, some in enumerate(spikes.split(100)):
                monitor._hooks._network(some)
                if number % 10 == 5:
                    monitor.flush()
                    assert monitor.get_avg_firing_rate() == spikes[: (number + 1) * 100].double().mean()
        assert np.array_equal(analysis.open_recording(store)[""].spikes, spikes)
        chunks = sorted(path for path in store.glob("layers/*/spikes/c/**/*") if path.is_file())
        files[threads] = [path.read_bytes() for path in chunks]
    assert len(files[1]) > 5
    assert files[1] == files[3]


ENDING = """
from functools import partial
import sys, torch
from recorder.session import layers
from recorder.tape.threads import in_order
in_order.ENCODING_THREADS = 3
in_order.Pressure.threads = lambda _, most: most
layers.plan_chunks = partial(layers.plan_chunks, target_bytes=1)
from recorder import Monitor, SpikeOutput
net = torch.nn.ReLU()
monitor = Monitor(net, store=sys.argv[1], layers={torch.nn.ReLU: SpikeOutput("N")})
monitor.enable()
net(torch.ones(5000, 3))
"""


def test_a_recording_is_finished_as_the_interpreter_ends(tmp_path: Path) -> None:
    with python(ENDING, tmp_path / "run.zarr") as process:
        finished(process)
    recording = analysis.open_recording(tmp_path / "run.zarr")
    assert recording.state == "closed"
    assert recording.spike_count() == 15_000


FAULTS = """
import resource, sys
import numpy as np
from recorder.format import plan_chunks
from recorder.stores import Folder
from recorder.tape import TapeWriter

plan = plan_chunks((1024,))
rows = np.random.default_rng(0).integers(0, 256, (plan.chunk_bytes, plan.neurons), np.uint8)
tape = TapeWriter.create(Folder(sys.argv[1], "process"), {})
tape.add_layer("layer", plan, "bool", "Relay", 0)
tape._encoding._threads = 1


def faults(chunks):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(chunks):
        tape.append("layer", rows)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / chunks


faults(2)
print(faults(8), flush=True)
tape.release()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators keep memory, or never do")
def test_memory_of_a_chunk_is_used_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A cluster of Dask leaves settings in the environment with which glibc learns nothing.
    for name in os.environ:
        if name.startswith("MALLOC_"):
            monkeypatch.delenv(name)
    with python(FAULTS, tmp_path / "run.zarr") as process:
        faults = float(finished(process))
    # Bits as random as these do not become fewer: a chunk fills 1024 pages.
    assert faults < 256
