"""A writer that falls asleep, and wakes when its recording is another's: it writes not one byte more."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from torch import nn

from processes import finished, forked, line
from recorder import Monitor
from recorder.format import RecordingInUseError
from recorder.stores import ByteStore, Folder, open_store
from recorder.tape import TapeReader
from recorder.tape.holding.fence import TRUSTED_SECONDS
from recorder.tape.holding.holder import Holder
from recorder.tape.holding.lock import LOCK_KEY, WriterLock
from scripts import script

fencing = script("attacks/fencing")

NEURONS = 33


class Threshold(nn.Module):
    """Spikes wherever its input exceeds 0.5."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0.5).to(x.dtype)


def inputs(step: int, seed: int) -> torch.Tensor:
    return torch.rand(8, NEURONS, generator=torch.Generator().manual_seed(1000 * seed + step))


def record(monitor: Monitor, first: int, last: int, seed: int) -> None:
    for step in range(first, last):
        monitor._hooks._network(inputs(step, seed))


def monitor_of(place: str, storage_options: dict[str, Any], **arguments: Any) -> Monitor:
    net = nn.Sequential(Threshold())
    return Monitor(net, layers=[Threshold], store=place, storage_options=storage_options, **arguments)


SLEEPER = """
import json, socket, sys
from functools import partial
socket.gethostname = lambda: "asleep"  # so that it cannot be seen whether this process runs
from test_sleeping_writers import monitor_of, record
from recorder.session import layers
from recorder.format import RecordingWriteError
layers.plan_chunks = partial(layers.plan_chunks, target_bytes=1)
monitor = monitor_of(sys.argv[1], json.loads(sys.argv[2]), commit_interval=3600)
monitor.enable()
record(monitor, 0, 20, seed=1)
monitor.flush()
record(monitor, 20, 30, seed=1)
print("ready", flush=True)
sys.stdin.readline()
try:
    record(monitor, 30, 400, seed=1)
    monitor.flush()
except RecordingWriteError as error:
    print(type(error.__cause__).__name__, error, flush=True)
try:
    monitor.close()
except RecordingWriteError:
    print("told again", flush=True)
"""


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Address of a recording, and ``storage_options``."""
    if request.param == "folder":
        yield str(tmp_path / "run.zarr"), {}
        return
    server = request.getfixturevalue("object_store")
    yield f"s3://runs/{request.node.name.replace('[', '-').rstrip(']')}/run.zarr", server.options


def store_of(place: tuple[str, dict[str, Any]]) -> ByteStore:
    return open_store(place[0], read_only=False, storage_options=place[1] or None)


def contents(store: ByteStore) -> dict[str, bytes | None]:
    return {key: store.read(key, 2**28) for key in store.keys()}  # noqa: SIM118 - no mapping


def remove(place: tuple[str, dict[str, Any]]) -> None:
    if not place[1]:
        shutil.rmtree(place[0])
        return
    files = fsspec.filesystem("s3", **place[1], skip_instance_cache=True, use_listings_cache=False)
    # The server keeps folders, deepest last, which other buckets do not have.
    for path in sorted(files.find(place[0], withdirs=True), reverse=True):
        files.call_s3("delete_object", Bucket="runs", Key=path.partition("/")[2])
        files.call_s3("delete_object", Bucket="runs", Key=path.partition("/")[2] + "/")
    files.call_s3("delete_object", Bucket="runs", Key=place[0].removeprefix("s3://runs/") + "/")


def replace_lock(store: ByteStore) -> None:
    store.write(LOCK_KEY, json.dumps(vars(Holder.this_process())).encode())


def go_on_elsewhere(place: tuple[str, dict[str, Any]], how: str) -> Monitor | None:
    """Record in the place of the writer that sleeps; None where only its lock is replaced."""
    if how == "lock replaced":
        replace_lock(store_of(place))
        return None
    if how == "removed":
        remove(place)
        monitor = monitor_of(*place)
    elif how == "overwritten":
        monitor = monitor_of(*place, overwrite=True, take_over=True)
    else:
        monitor = monitor_of(*place, resume=True, take_over=True)
    monitor.enable()
    record(monitor, 20 if how == "resumed" else 0, 300, seed=2)
    monitor.flush()
    return monitor


@pytest.mark.parametrize("how", ["overwritten", "resumed", "removed", "lock replaced"])
def test_a_writer_that_wakes_writes_nothing_more_and_is_told_who_does(
    place: tuple[str, dict[str, Any]], small_chunks: None, how: str
) -> None:
    with forked(SLEEPER, place[0], json.dumps(place[1] or None), beside=__file__) as sleeper:
        assert line(sleeper) == "ready"
        sleeper.send_signal(signal.SIGSTOP)
        other = go_on_elsewhere(place, how)
        time.sleep(TRUSTED_SECONDS)
        before = contents(store_of(place))
        sleeper.send_signal(signal.SIGCONT)
        said = finished(sleeper)
    assert contents(store_of(place)) == before
    assert "RecordingInUseError" in said
    assert f"belongs to process {Holder.this_process().process} on host {Holder.this_process().host}" in said
    assert "told again" in said
    if other is not None:
        other.close()
        layer = TapeReader.open(store_of(place)).layers["0"]
        steps = [inputs(step, 1 if how == "resumed" and step < 20 else 2) for step in range(300)]
        assert np.array_equal(layer.frame_bits(0, layer.frames), (torch.cat(steps) > 0.5).numpy())


def test_a_recording_removed_and_not_replaced_is_not_made_again(
    place: tuple[str, dict[str, Any]], small_chunks: None
) -> None:
    with forked(SLEEPER, place[0], json.dumps(place[1] or None), beside=__file__) as sleeper:
        assert line(sleeper) == "ready"
        remove(place)
        time.sleep(TRUSTED_SECONDS)
        said = finished(sleeper)
    assert "the lock writer.lock of this writer is gone" in said
    assert store_of(place).is_empty()


def take_over(folder: Folder) -> WriterLock:
    return WriterLock.acquire(folder, take_over=True)


def put_another(folder: Folder) -> WriterLock:
    shutil.rmtree(folder.location)
    return WriterLock.acquire(Folder(folder.location))


@pytest.mark.parametrize("what", [take_over, put_another])
def test_in_a_folder_a_write_that_has_begun_comes_to_nothing(
    tmp_path: Path, what: Callable[[Folder], WriterLock]
) -> None:
    folder = Folder(tmp_path / "run.zarr")
    lock = WriterLock.acquire(folder)
    lock.store.write("layers/0/spikes/c/0/0", b"ours")
    # So that it is taken over while it can still be seen to run.
    lock.leave()

    others: list[WriterLock] = []

    def pieces() -> Iterator[bytes]:
        yield b"a chunk "
        others.append(what(folder))
        yield b"of the writer that slept"

    with pytest.raises((FileNotFoundError, RecordingInUseError)):
        lock.store.write_pieces("layers/0/spikes/c/0/0", pieces())
    kept = {"layers/0/spikes/c/0/0": b"ours"} if what is take_over else {}
    found = contents(folder)
    assert found.pop(LOCK_KEY)
    assert found == kept
    others[0].check()


def test_in_a_bucket_a_writer_that_runs_has_ended_before_the_next_one_begins(object_store: Any) -> None:
    place = "s3://runs/running/run.zarr", object_store.options
    lock = WriterLock.acquire(store_of(place))
    # So that it is taken over while it can still be seen to run.
    lock.leave()
    errors: list[RecordingInUseError] = []

    def write() -> None:
        while not errors:
            try:
                lock.store.write("key", b"the first")
            except RecordingInUseError as error:
                errors.append(error)

    writing = threading.Thread(target=write)
    writing.start()
    other = WriterLock.acquire(store_of(place))
    other.store.write("key", b"the second")
    writing.join()
    assert other.store.read("key", 100) == b"the second"
    other.release()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 9))])
@pytest.mark.parametrize("way", fencing.WAYS)
def test_a_writer_that_is_stopped_at_any_moment_writes_nothing_more(
    tmp_path: Path, way: str, seed: int
) -> None:
    fencing.wake_in_anothers_place(tmp_path, way, seed)
