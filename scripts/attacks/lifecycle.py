"""Closes recordings at every moment of a forward: in signal handlers, by other threads, by SIGTERM.

Whatever the moment, all layers must have the same whole forwards, each with the values that were put out. The
functions raise AssertionError, which names the moment, where that is not so.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from analysis.keeping import find_problems
from recorder import Monitor, Signal, SpikeOutput
from recorder.stores import Folder
from recorder.tape import LayerReader, TapeReader

ROOT = Path(__file__).parents[2]
RECORDER = str(ROOT / "recorder")
# Outputs that are small, that have several steps, and that fill more memory than is kept for one layer.
SHAPES = {"small": (2, 3), "multi-step": (3, 2, 4), "large": (16, 2**16)}
FORWARDS_BEFORE = 3
EVERY = 10**6
SIGNALS = ("output", Signal("output", every=2, samples=1, name="second"))


class Threshold(nn.Module):
    """Spikes wherever its input exceeds 0.5."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Spikes of an input."""
        return (x > 0.5).to(x.dtype)


class EndedError(BaseException):
    """Raised by a handler to end the program, as sys.exit() does."""


def inputs(number: int, *shape: int) -> torch.Tensor:
    """Input of the forward of this number."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(number))


def check(folder: Path, forwards: list[torch.Tensor], where: str) -> None:
    """Check that all layers have exactly these forwards, in a recording without fault."""
    reader = TapeReader.open(Folder(folder))
    problems = find_problems(reader)
    assert problems == [], f"{where}: {problems}"
    expected = torch.cat([forward.reshape(-1, forward.shape[-1]) for forward in forwards]) > 0.5
    for name, layer in reader.layers.items():
        assert layer.frames == len(expected), f"{where}: layer {name} has {layer.frames} frames"
        found = torch.from_numpy(layer.frame_bits(0, layer.frames))
        assert torch.equal(found, expected), f"{where}: layer {name} has other values"
        check_signals(layer, found, f"{where}: layer {name}")


def check_signals(layer: LayerReader, spikes: torch.Tensor, where: str) -> None:
    """Check that the signals of a layer are its output, at the steps that its spikes have."""
    output, second = (layer.signals[name] for name in ("output", "second"))
    assert output.segments().rows.tolist() == layer.segments().rows.tolist(), f"{where}: other steps"
    found = torch.from_numpy(output.values(0, output.frames))
    assert torch.equal(found, spikes.float()), f"{where}: signal has other values"
    frames = [
        first + step * batch
        for first, first_step, steps, batch, _ in layer.segments()
        for step in range(steps)
        if (first_step + step) % 2 == 0
    ]
    assert second.frames == len(frames), f"{where}: every second step has {second.frames} frames"
    found = torch.from_numpy(second.values(0, second.frames))
    assert torch.equal(found, spikes[frames].float()), f"{where}: every second step has other values"


def frames_of(folder: Path, where: str) -> int:
    """Frames of the layers, which must be equal."""
    frames = [layer.frames for layer in TapeReader.open(Folder(folder)).layers.values()]
    assert len(set(frames)) == 1, f"{where}: layers have {frames} frames"
    return frames[0]


@contextmanager
def at_call(number: int, act: Callable[[], object]) -> Iterator[list[str]]:
    """Act at the call of this number among those of functions of the recorder, as a signal handler does.

    Yields the names of the functions that were called so far.
    """
    seen: list[str] = []
    # That of a debugger, or of what measures coverage.
    before = sys.gettrace()

    def look(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(RECORDER):
            seen.append(frame.f_code.co_name)
            if len(seen) == number + 1:
                sys.settrace(before)
                act()

    sys.settrace(look)
    try:
        yield seen
    finally:
        sys.settrace(before)


def monitored(folder: Path, kind: str) -> tuple[nn.Module, Monitor]:
    """A network of two layers, and its monitor, which has recorded some forwards."""
    net = nn.Sequential(Threshold(), Threshold())
    layers = {Threshold: SpikeOutput("t n ..." if kind == "multi-step" else "n ...")}
    monitor = Monitor(net, store=folder, layers=layers, durability="process", signals=SIGNALS)
    monitor.enable()
    with torch.no_grad():
        for number in range(FORWARDS_BEFORE):
            net(inputs(number, *SHAPES[kind]))
    return net, monitor


def calls_of(folder: Path, kind: str) -> list[str]:
    """Functions of the recorder that a forward calls."""
    net, monitor = monitored(folder, kind)
    with at_call(-2, lambda: None) as seen, torch.no_grad():
        net(inputs(FORWARDS_BEFORE, *SHAPES[kind]))
    monitor.close()
    return seen


def close_in_a_handler(folder: Path, kind: str, *, ends: bool, most: int = EVERY) -> None:
    """Close in a handler that runs at each call of a forward, or at as many of them as ``most`` says.

    With ``ends`` the handler ends the program, otherwise it returns.
    """
    calls = calls_of(folder / "calls", kind)
    given = [inputs(number, *SHAPES[kind]) for number in range(FORWARDS_BEFORE + 1)]
    for moment in range(0, len(calls), max(1, len(calls) // most)):
        place = folder / str(moment)
        where = f"{kind}, call {moment}, of {calls[moment]}"
        net, monitor = monitored(place, kind)

        def handler(monitor: Monitor = monitor) -> None:
            monitor.close()
            if ends:
                raise EndedError

        with at_call(moment, handler), torch.no_grad():
            try:
                net(given[-1])
            except EndedError:
                assert ends
        monitor.close()
        assert TapeReader.open(Folder(place)).metadata.state == "closed", where
        whole = FORWARDS_BEFORE * len(given[0].reshape(-1, given[0].shape[-1]))
        check(place, given[: FORWARDS_BEFORE + (frames_of(place, where) > whole)], where)


def close_in_a_thread(folder: Path, tries: int) -> None:
    """Close in another thread while forwards go on."""
    given = inputs(0, *SHAPES["small"])
    for number in range(tries):
        place = folder / str(number)
        net = nn.Sequential(Threshold(), Threshold(), Threshold())
        monitor = Monitor(net, store=place, layers=[Threshold], durability="process", signals=SIGNALS)
        monitor.enable()
        begun, stop = threading.Event(), threading.Event()

        def go_on(net: nn.Module = net, begun: threading.Event = begun, stop: threading.Event = stop) -> None:
            with torch.no_grad():
                while not stop.is_set():
                    net(given)
                    begun.set()

        thread = threading.Thread(target=go_on)
        thread.start()
        begun.wait()
        stop.wait(0.003 * number / tries)
        monitor.close()
        stop.set()
        thread.join()
        where = f"thread, try {number}"
        check(place, [given] * (frames_of(place, where) // len(given)), where)


# Imports once, and forks a process for each try.
NURSERY = """
import os, random, signal, sys, time
import torch
from torch import nn
from lifecycle import Monitor, SIGNALS, Threshold, inputs

torch.set_num_threads(1)
for request in sys.stdin:
    folder, seed, how = request.rstrip().split("|")
    child = os.fork()
    if child == 0:
        net = nn.Sequential(Threshold(), Threshold(), Threshold())
        monitor = Monitor(net, store=folder, layers=[Threshold], durability="process", signals=SIGNALS)
        monitor.enable()

        def end(*_):
            monitor.close()
            if how == "exit":
                sys.exit(7)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

        signal.signal(signal.SIGTERM, end)
        parent, given = os.getpid(), inputs(1, 4, 1000)
        with torch.no_grad():
            net(given)
            if os.fork() == 0:
                time.sleep(random.Random(int(seed)).random() * 0.05)
                os.kill(parent, signal.SIGTERM)
                os._exit(0)
            while True:
                net(given)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def close_on_sigterm(folder: Path, tries: int) -> None:
    """Have the handler of SIGTERM close, and then exit, or be killed by another SIGTERM."""
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    nursery = subprocess.Popen(
        [sys.executable, "-P", "-c", NURSERY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    given = inputs(1, 4, 1000)
    with nursery:
        for number in range(tries):
            place, how = folder / str(number), ("exit", "kill")[number % 2]
            print(place, number, how, sep="|", file=nursery.stdin, flush=True)
            status, where = int(nursery.stdout.readline()), f"SIGTERM, try {number}, {how}"
            assert status == (7 if how == "exit" else -signal.SIGTERM), f"{where}: status {status}"
            assert TapeReader.open(Folder(place)).metadata.state == "closed", where
            check(place, [given] * (frames_of(place, where) // 4), where)
        nursery.stdin.close()


def main() -> None:
    """Attack for minutes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=200, help="of closing by a thread, and on SIGTERM")
    tries = parser.parse_args().tries
    with tempfile.TemporaryDirectory() as folder:
        for kind in SHAPES:
            for ends in (False, True):
                close_in_a_handler(Path(folder, kind, str(ends)), kind, ends=ends)
        close_in_a_thread(Path(folder, "thread"), tries)
        close_on_sigterm(Path(folder, "SIGTERM"), tries)


if __name__ == "__main__":
    main()
