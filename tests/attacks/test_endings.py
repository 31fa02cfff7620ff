"""However a recording ends, what was committed stays good, and the next monitor can go on."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn
from zarr.core.sync import sync
from zarr.storage import MemoryStore

import analysis
from networks import Threshold, on_store
from processes import collect_garbage, finished, forked
from recorder import Monitor, SpikeOutput
from recorder.format import RecordingInUseError
from recorder.session import RecordingSession
from recorder.stores import Folder, open_store
from recorder.tape import TapeReader
from recorder.tape.holding.lock import LOCK_KEY


def test_a_second_monitor_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold())
    with on_store(tmp_path, net) as monitor:
        for how in ({}, {"take_over": True}):
            with pytest.raises(RecordingInUseError, match="which runs"):
                on_store(tmp_path, net, **how)
        monitor.reset()
        with pytest.raises(RecordingInUseError, match="which runs"):
            on_store(tmp_path, net)
        net(torch.rand(3, 2))
    assert not (tmp_path / "run.zarr" / LOCK_KEY).exists()
    second = on_store(tmp_path, net, resume=True)
    with pytest.raises(RecordingInUseError, match="which runs"):
        monitor.enable()
    second.close()
    monitor.enable()
    monitor.close()


ENDS = """
import os, signal, sys
import torch
from pathlib import Path
from torch import nn
from recorder.stores.files.folder import Folder
from recorder.stores import open_store
from networks import Threshold, on_store

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
    monitor = on_store(Path(folder), net)
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

# Whoever runs tests may have had it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
end(*sys.argv[1:])
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
    for number, (ending, (status, is_closed)) in enumerate(ENDINGS.items()):
        folder = tmp_path / str(number)
        with forked(ENDS, ending, folder) as process:
            assert process.wait(120) == status, ending
        reader = TapeReader.open(Folder(folder / "run.zarr"))
        assert (reader.metadata.state == "closed") == is_closed, ending
        assert reader.layers["0"].frames == (22 if is_closed else 20), ending
        assert reader.layers["0"].frame_bits(0, 20).all()
        assert (folder / "run.zarr" / LOCK_KEY).exists() != is_closed, ending
        net = nn.Sequential(Threshold())
        with on_store(folder, net, resume=True):
            net(torch.ones(2, 3))


@pytest.mark.parametrize("where", ["event loop", "encoder", "main", "main, needed by the event loop"])
def test_a_forgotten_monitor_is_finished_whatever_thread_collects_it(
    where: str, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Garbage is collected in any thread, so also in those that finishing waits for."""
    monkeypatch.setattr("recorder.tape.threads.in_order.ENCODING_THREADS", 2)
    monkeypatch.setattr("recorder.tape.threads.pressure.Pressure.threads", lambda _, most: most)
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
        elif where == "main":
            gc.collect()
        else:
            # As inside a request to a store, whose result is handed over under a lock.
            needed = threading.Lock()

            async def running() -> asyncio.AbstractEventLoop:
                return asyncio.get_running_loop()

            async def need() -> bool:
                return needed.acquire(timeout=30)

            with needed:
                waiting = asyncio.run_coroutine_threadsafe(need(), sync(running()))
                gc.collect()
            assert waiting.result(), "what was collected waited for the event loop, which waited for it"
    finally:
        gc.enable()
    collect_garbage()
    assert session.closed
    assert TapeReader.open(open_store(store, read_only=True)).metadata.state == "closed"


def test_a_monitor_that_a_notebook_deletes_has_finished_its_recording(tmp_path: Path) -> None:
    """The cells of a notebook run within an event loop."""

    async def cell() -> None:
        net = nn.Sequential(Threshold())
        monitor = on_store(tmp_path, net)
        monitor.enable()
        net(torch.ones(2, 3))
        del monitor
        assert TapeReader.open(Folder(tmp_path / "run.zarr")).metadata.state == "closed"

    asyncio.run(cell())


def test_a_recording_that_was_just_forgotten_can_be_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nn.Sequential(Threshold())
    monitor = on_store(tmp_path, net)
    monitor.enable()
    net(torch.ones(4, 3))
    close = RecordingSession.close

    def close_slowly(self: RecordingSession) -> None:
        time.sleep(0.3)
        close(self)

    monkeypatch.setattr(RecordingSession, "close", close_slowly)
    forgotten = [monitor]
    forgotten.append(forgotten)
    del monitor, forgotten
    gc.collect()
    with on_store(tmp_path, net, resume=True):
        net(torch.ones(4, 3))
    assert analysis.open_recording(tmp_path / "run.zarr")["0"].frames == 8


FORGETS_AT_THE_END = """
import gc, time
from recorder.tape.holding.finalizing import finish_when_gone
from concurrent.futures import ThreadPoolExecutor

class Owner:
    pass

def work():
    time.sleep(0.3)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(print, "finished").result()

owner = Owner()
owner.itself = owner
finish_when_gone(owner, work)
del owner
gc.collect()
"""


def test_what_is_forgotten_last_is_finished_before_the_interpreter_ends() -> None:
    with forked(FORGETS_AT_THE_END) as process:
        assert finished(process) == "finished\n"
