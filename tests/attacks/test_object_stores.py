"""Recordings in a bucket of a real S3 server: made, read, disturbed, and never silently wrong."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest

import analysis
from analysis.keeping import find_problems
from buckets import NET, Threshold, expected, monitor_of, record, spikes_of, store_of
from object_store import BUCKET, ObjectStore, Proxy, options
from processes import finished, forked
from recorder import Monitor
from recorder.format import (
    RecordingExistsError,
    RecordingFormatError,
    RecordingInUseError,
    RecordingNotFoundError,
    RecordingWriteError,
    StoreAccessError,
    StoreError,
)
from recorder.stores import ByteStore, open_store
from recorder.tape.holding.lock import LOCK_KEY, WriterLock
from tapes import Run, write_recording


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    """A place in the bucket for this test alone."""
    return f"s3://{BUCKET}/{request.node.name.replace('[', '-').rstrip(']').replace(' ', '-')}/run.zarr"


def test_a_bucket_is_recorded_to_and_read_from(
    object_store: ObjectStore, url: str, small_chunks: None
) -> None:
    with monitor_of(url, object_store.options) as monitor:
        record(monitor, 0, 60)
        rate = monitor.get_avg_firing_rate(all=False, module_name="0")
    recording = analysis.open_recording(url, storage_options=object_store.options)
    assert recording.state == "closed"
    assert recording.location == url
    assert float(recording["0"].firing_rate()) == rate == expected(60).mean()
    assert np.array_equal(recording["0"].spikes.compute().to_numpy(), expected(60))
    assert recording.stored_bytes() > 0
    assert LOCK_KEY not in set(store_of(url, object_store.options).keys())


def test_a_recording_in_a_bucket_is_resumed_replaced_and_otherwise_refused(
    object_store: ObjectStore, url: str, small_chunks: None
) -> None:
    for first, how in ((0, {}), (20, {"resume": True})):
        with monitor_of(url, object_store.options, **how) as monitor:
            record(monitor, first, first + 20)
    assert np.array_equal(spikes_of(store_of(url, object_store.options)), expected(40))
    with pytest.raises(RecordingExistsError, match="already holds a recording"):
        monitor_of(url, object_store.options)
    with monitor_of(url, object_store.options, overwrite=True) as monitor:
        record(monitor, 0, 10)
    assert np.array_equal(spikes_of(store_of(url, object_store.options)), expected(10))


def test_a_missing_object_is_an_error_and_never_silence(
    object_store: ObjectStore, url: str, small_chunks: None
) -> None:
    with monitor_of(url, object_store.options) as monitor:
        record(monitor, 0, 60)
    store_of(url, object_store.options).delete("layers/0/spikes/c/2/0")
    recording = analysis.open_recording(url, storage_options=object_store.options, use_counts=False)
    with pytest.raises(RecordingFormatError, match=r"layers/0/spikes/c/2/0.*is missing"):
        recording.firing_rate().compute()


def test_a_second_writer_is_refused_also_when_both_begin_at_once(object_store: ObjectStore, url: str) -> None:
    with monitor_of(url, object_store.options), pytest.raises(RecordingInUseError, match="which runs"):
        monitor_of(url, object_store.options)
    stores = [store_of(f"{url}-2", object_store.options) for _ in range(8)]
    together = threading.Barrier(len(stores))
    locks: list[WriterLock] = []
    refused: list[RecordingInUseError] = []

    def acquire(store: ByteStore) -> None:
        together.wait()
        try:
            locks.append(WriterLock.acquire(store))
        except RecordingInUseError as error:
            refused.append(error)

    threads = [threading.Thread(target=acquire, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(locks), len(refused)) == (1, 7)
    locks[0].check()
    locks[0].release()


def test_the_lock_is_ours_where_the_answer_to_taking_it_was_lost(proxy: Proxy, url: str) -> None:
    drop_first(proxy, "PUT", "writer.lock")
    lock = WriterLock.acquire(store_of(url, options(proxy.port)))
    lock.check()
    assert [path for method, path in proxy.requests if method == "PUT"][1:], "it was tried again"
    lock.release()


def drop_first(proxy: Proxy, wanted: str, part: str) -> None:
    dropped: list[int] = []

    def disturb(number: int, method: str, path: str) -> str | None:
        if method == wanted and part in path and not dropped:
            dropped.append(number)
            return "drop"
        return None

    proxy.disturb = disturb


@pytest.mark.parametrize("what", ["503", "slow", "drop"])
def test_a_disturbed_way_changes_nothing_that_is_recorded(
    proxy: Proxy, url: str, small_chunks: None, what: str
) -> None:
    # Many requests, but never a second try.
    seen: set[tuple[str, str]] = set()

    def disturb(number: int, method: str, path: str) -> str | None:
        if number % 7 == 3 and (method, path) not in seen:
            seen.add((method, path))
            return what
        return None

    proxy.disturb = disturb
    with monitor_of(url, options(proxy.port)) as monitor:
        record(monitor, 0, 30)
        monitor.flush()
        record(monitor, 30, 60)
    assert seen
    recording = analysis.open_recording(url, storage_options=options(proxy.port), use_counts=False)
    assert float(recording["0"].firing_rate()) == expected(60).mean()
    assert find_problems(recording._readers[0]) == []


def test_what_lasts_reaches_the_user_and_what_was_committed_stays(
    proxy: Proxy, url: str, small_chunks: None
) -> None:
    broken = options(proxy.port, attempts=2)
    monitor = monitor_of(url, broken)
    monitor.enable()
    record(monitor, 0, 20)
    monitor.flush()
    proxy.disturb = lambda _, method, path: "503" if method == "PUT" else None
    record(monitor, 20, 30)
    with pytest.raises(RecordingWriteError, match=r"recording stopped.*run\.zarr.*") as failure:
        monitor.flush()
    assert isinstance(failure.value.__cause__, StoreAccessError)
    with pytest.raises(RecordingWriteError):
        monitor.close()
    proxy.disturb = lambda *_: None
    assert np.array_equal(spikes_of(store_of(url, broken)), expected(20))
    with monitor_of(url, broken, resume=True) as again:
        record(again, 20, 30)
    assert np.array_equal(spikes_of(store_of(url, broken)), expected(30))


def test_a_server_killed_and_started_again_costs_nothing(
    object_store: ObjectStore, url: str, small_chunks: None
) -> None:
    patient = options(object_store.port, attempts=12)
    with monitor_of(url, patient) as monitor:
        record(monitor, 0, 30)
        monitor.flush()
        object_store.kill()
        starting = threading.Thread(target=object_store.start)
        starting.start()
        try:
            record(monitor, 30, 60)
            monitor.flush()
        finally:
            starting.join()
        record(monitor, 60, 70)
    assert np.array_equal(spikes_of(store_of(url, patient)), expected(70))


def test_what_is_not_there_is_told_apart(object_store: ObjectStore, url: str) -> None:
    with pytest.raises(RecordingNotFoundError, match="no recording at s3://"):
        analysis.open_recording(url, storage_options=object_store.options)
    wrong = {**object_store.options, "secret": "wrong"}
    with pytest.raises(StoreAccessError, match=r"run\.zarr/zarr\.json: .*credentials"):
        analysis.open_recording(url, storage_options=wrong)
    with pytest.raises(RecordingWriteError, match=r"cannot record to s3://.*credentials"):
        monitor_of(url, wrong)


def test_counts_of_ten_thousand_chunks_take_few_requests(
    object_store: ObjectStore, proxy: Proxy, url: str
) -> None:
    spikes = np.random.default_rng(1).random((640_000, 1)) < 0.3
    store = _WithoutChunks(store_of(url, object_store.options))
    write_recording(store, {"a": spikes}, [Run(0, 640_000, 1)], chunk_bytes=1)
    recording = analysis.open_recording(url, storage_options=options(proxy.port))
    assert recording._readers[0].layers["a"].commit.checksums.rows == 10_000
    assert float(recording.firing_rate()) == spikes.mean()
    assert float(recording.silent_ratio()) == 0
    assert len(proxy.requests) <= 8
    assert not any("/spikes/" in path for _, path in proxy.requests)


class _WithoutChunks:
    """Leaves the chunks of spikes out, as nobody asks for them and there are 10 000."""

    def __init__(self, inner: ByteStore) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def of_writer(self, _: str) -> _WithoutChunks:
        return self

    def write(self, key: str, data: bytes) -> None:
        if "/spikes/c/" not in key:
            self._inner.write(key, data)


def test_many_chunks_are_on_their_way_at_once(
    object_store: ObjectStore, proxy: Proxy, url: str, small_chunks: None
) -> None:
    with monitor_of(url, object_store.options) as monitor:
        record(monitor, 0, 400)
    recording = analysis.open_recording(url, storage_options=options(proxy.port), use_counts=False)
    proxy.disturb = lambda _, __, path: "slow" if "/spikes/c/" in path else None
    counted = recording["0"].firing_rate().compute(scheduler="synchronous")
    assert float(counted) == expected(400).mean()
    assert proxy.most_at_once >= 8
    gets = [path for method, path in proxy.requests if "/0/spikes/c/" in path]
    assert len(gets) == len(set(gets)) == 2000 // 64 + 1


def test_stores_travel_to_other_processes(object_store: ObjectStore, url: str) -> None:
    store = store_of(url, object_store.options)
    store.write("a", b"x")
    assert pickle.loads(pickle.dumps(store)).read("a", 10) == b"x"  # noqa: S301 - our own


def test_the_command_line_takes_the_endpoint_from_the_environment(
    object_store: ObjectStore, url: str
) -> None:
    with monitor_of(url, object_store.options) as monitor:
        record(monitor, 0, 20)
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{object_store.port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    command = [
        sys.executable,
        "-m",
        "analysis.cli",
        "rates",
        url,
        "--layer",
        "0",
        "--format",
        "json",
    ]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)[0]["firing_rate"] == expected(20).mean()


@pytest.mark.parametrize("missing", ["s3fs", "fsspec"])
def test_a_missing_package_is_named_with_what_to_install(missing: str) -> None:
    script = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from recorder.stores import open_store\n"
        "open_store('s3://bucket/run.zarr', read_only=True)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "StoreError: s3://bucket/run.zarr cannot be opened" in run.stderr
    assert "pip install 'spiketape[remote]'" in run.stderr


# -- web servers ---------------------------------------------------------------------------------------------


def test_a_static_file_server_is_read(web: str, tmp_path: Path, small_chunks: None) -> None:
    with Monitor(NET, layers=[Threshold], store=tmp_path / "run.zarr") as monitor:
        record(monitor, 0, 60)
    for use_counts in (True, False):
        recording = analysis.open_recording(f"{web}/run.zarr", use_counts=use_counts)
        assert float(recording["0"].firing_rate()) == expected(60).mean()
    (tmp_path / "run.zarr/layers/0/spikes/c/2/0").unlink()
    with pytest.raises(RecordingFormatError, match="is missing"):
        recording.firing_rate().compute()
    with pytest.raises(RecordingNotFoundError, match="no recording at http://"):
        analysis.open_recording(f"{web}/other.zarr")


def test_a_web_server_is_not_recorded_to(web: str) -> None:
    with pytest.raises(StoreError, match=r"web servers are only read\. Write to a folder or a bucket"):
        monitor_of(f"{web}/run.zarr", {})


@pytest.mark.parametrize("what", ["503", "drop"])
def test_a_web_server_is_asked_again(web: str, tmp_path: Path, small_chunks: None, what: str) -> None:
    with Monitor(NET, layers=[Threshold], store=tmp_path / "run.zarr") as monitor:
        record(monitor, 0, 20)
    proxy = Proxy(int(web.rpartition(":")[2]))
    try:
        proxy.disturb = lambda number, *_: what if number in (0, 3) else None
        recording = analysis.open_recording(f"http://127.0.0.1:{proxy.port}/run.zarr", use_counts=False)
        assert float(recording["0"].firing_rate()) == expected(20).mean()
    finally:
        proxy.close()


def test_credentials_in_an_address_are_shown_to_nobody() -> None:
    store = open_store("http://me:secret@127.0.0.1:9/run.zarr?token=secret", read_only=True)
    assert store.location == "http://127.0.0.1:9/run.zarr"


def test_workers_in_other_processes_read_the_bucket_themselves(
    object_store: ObjectStore, url: str, small_chunks: None
) -> None:
    with monitor_of(url, object_store.options) as monitor:
        record(monitor, 0, 60)
    recording = analysis.open_recording(url, storage_options=object_store.options, use_counts=False)
    with dask.config.set(num_workers=1):
        rate = recording["0"].firing_rate().compute(scheduler="processes")
    assert float(rate) == expected(60).mean()


FORGETFUL = """
import json, sys
from test_object_stores import monitor_of, record
monitor = monitor_of(sys.argv[1], json.loads(sys.argv[2]))
monitor.enable()
record(monitor, 0, 30)
"""


def test_a_program_that_ends_without_closing_has_closed_its_recording(
    object_store: ObjectStore, url: str
) -> None:
    with forked(FORGETFUL, url, json.dumps(object_store.options), beside=__file__) as program:
        finished(program)
    recording = analysis.open_recording(url, storage_options=object_store.options)
    assert recording.state == "closed"
    assert recording["0"].frames == 150
    assert LOCK_KEY not in set(store_of(url, object_store.options).keys())


def test_a_killed_program_has_lost_nothing_that_was_committed(object_store: ObjectStore, url: str) -> None:
    killed = FORGETFUL + "monitor.flush()\nrecord(monitor, 30, 35)\nimport os\nos.kill(os.getpid(), 9)\n"
    with forked(killed, url, json.dumps(object_store.options), beside=__file__) as program:
        program.communicate(timeout=120)
    assert program.returncode == -9
    assert np.array_equal(spikes_of(store_of(url, object_store.options)), expected(30))
    with monitor_of(url, object_store.options, resume=True) as monitor:
        record(monitor, 30, 40)
    assert np.array_equal(spikes_of(store_of(url, object_store.options)), expected(40))
