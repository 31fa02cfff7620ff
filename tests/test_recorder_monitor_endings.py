"""However a recording ends, what was committed stays good, and the next monitor can go on."""

from __future__ import annotations

import gc
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from processes import line, python
from torch import nn
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from recorder import Monitor, SpikeOutput
from recorder.format.errors import RecordingInUseError
from recorder.format.lock import LOCK_KEY
from recorder.format.reading import TapeReader
from recorder.format.stores import Folder, open_store


class Threshold(nn.Module):
    """Spikes wherever its input exceeds 0.5."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0.5).to(x.dtype)


def monitor_of(tmp_path: Path, net: nn.Module, **options: object) -> Monitor:
    return Monitor(net, layers=[Threshold], store=tmp_path / "run.zarr", **options)  # type: ignore[arg-type]


def test_a_second_monitor_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold())
    with monitor_of(tmp_path, net) as monitor:
        for how in ({"resume": True}, {"overwrite": True}, {"resume": True, "take_over": True}):
            with pytest.raises(RecordingInUseError, match="which runs"):
                monitor_of(tmp_path, net, **how)
        monitor.reset()
        with pytest.raises(RecordingInUseError, match="which runs"):
            monitor_of(tmp_path, net, resume=True)
        net(torch.rand(3, 2))
    assert not (tmp_path / "run.zarr" / LOCK_KEY).exists()
    second = monitor_of(tmp_path, net, resume=True)
    with pytest.raises(RecordingInUseError, match="which runs"):
        monitor.enable()
    second.close()
    monitor.enable()
    monitor.close()


# Imports once, and forks a process for each ending.
NURSERY = """
import os, signal, sys
import torch
from pathlib import Path
from torch import nn
from recorder.format.stores import Folder, open_store
from test_recorder_monitor_endings import Threshold, monitor_of

torch.set_num_threads(1)

def interrupt_close(monitor):
    write = Folder.write
    def interrupting(*arguments):
        Folder.write = write
        os.kill(os.getpid(), signal.SIGINT)
        write(*arguments)
    Folder.write = interrupting
    try:
        monitor.close()
    except KeyboardInterrupt:
        os._exit(3)

def end(ending, folder):
    net = nn.Sequential(Threshold())
    monitor = monitor_of(Path(folder), net)
    monitor.enable()
    for _ in range(10):
        net(torch.ones(2, 3))
    monitor.flush()
    net(torch.ones(2, 3))
    if ending == "SIGTERM":
        os.kill(os.getpid(), signal.SIGTERM)
    elif ending == "sys.exit":
        sys.exit(3)
    elif ending == "exception":
        raise RuntimeError("unhandled")
    elif ending == "SIGINT during close":
        interrupt_close(monitor)
    elif ending == "SIGINT":
        os.kill(os.getpid(), signal.SIGINT)

for request in sys.stdin:
    ending, folder = request.strip().split("|")
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        end(ending, folder)
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

# Exit status; whether the recording is closed then, with every step, or as of its last commit.
ENDINGS = {
    "the script ends": (0, True),
    "sys.exit": (3, True),
    "exception": (1, True),
    "SIGINT": (-signal.SIGINT, True),
    "SIGINT during close": (3, True),
    "SIGTERM": (-signal.SIGTERM, False),
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks recording processes")
def test_however_a_process_ends_its_recording_is_good_and_goes_on(tmp_path: Path) -> None:
    with python(NURSERY) as nursery:
        for number, (ending, (status, is_closed)) in enumerate(ENDINGS.items()):
            folder = tmp_path / str(number)
            assert nursery.stdin is not None
            print(f"{ending}|{folder}", file=nursery.stdin, flush=True)
            assert line(nursery) == str(status), ending
            reader = TapeReader.open(Folder(folder / "run.zarr"))
            assert (reader.metadata.state == "closed") == is_closed, ending
            assert reader.layers["0"].frames == (22 if is_closed else 20), ending
            assert reader.layers["0"].frame_bits(0, 20).all()
            assert (folder / "run.zarr" / LOCK_KEY).exists() != is_closed, ending
            net = nn.Sequential(Threshold())
            with monitor_of(folder, net, resume=True):
                net(torch.ones(2, 3))


@pytest.mark.parametrize("where", ["event loop", "encoder", "main"])
def test_a_forgotten_monitor_is_finished_whatever_thread_collects_it(
    where: str, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Garbage is collected in any thread, so also in those that finishing waits for."""
    monkeypatch.setattr("recorder.format.encoding.ENCODING_THREADS", 2)
    store = MemoryStore()
    net = nn.Sequential(nn.ReLU())
    monitor = Monitor(net, store=store, layers={nn.ReLU: SpikeOutput("N")})
    monitor.enable()
    net(torch.ones(500, 3))
    forgotten = [monitor]
    forgotten.append(forgotten)  # a cycle, which only garbage collection ends
    session = monitor._session
    gc.disable()
    try:
        del monitor, forgotten
        if where == "event loop":

            async def collect() -> None:
                gc.collect()

            sync(collect())
        elif where == "encoder":
            with ThreadPoolExecutor(1, "spiketape-encoder") as threads:
                threads.submit(gc.collect).result()
        else:
            gc.collect()
    finally:
        gc.enable()
    for thread in threading.enumerate():
        if thread.name == "spiketape-finish":
            thread.join()
    assert session.closed
    assert TapeReader.open(open_store(store, read_only=True)).metadata.state == "closed"
