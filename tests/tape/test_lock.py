"""A recording has one writer: a second is refused by name, a dead one is taken over."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zarr.storage

from processes import collect_garbage, finished, line, python
from recorder.format import RecordingExistsError, RecordingInUseError
from recorder.stores import ByteStore, Folder, ZarrStore
from recorder.tape import TapeReader, TapeWriter, writing
from recorder.tape.holding import lock
from recorder.tape.holding.holder import Holder
from recorder.tape.holding.lock import LOCK_KEY, WriterLock, read_holder

WRITER = """
import sys
from recorder.stores.files.folder import Folder
from recorder.tape.writing import TapeWriter
writer = TapeWriter.create(Folder(sys.argv[1]), {}, overwrite=True)
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ByteStore:
    if request.param == "memory":
        return ZarrStore(zarr.storage.MemoryStore())
    return Folder(tmp_path / "run.zarr")


EARLIER_START = {"boot": "an earlier start of this host", "since": "2020-01-01T00:00:00+00:00"}


def leave_lock(store: ByteStore, **changes: Any) -> Holder:
    """A recording and the lock of another writer; as old as that, if it is of an earlier start."""
    with pytest.MonkeyPatch.context() as patched:
        if "boot" in changes and "since" in changes:
            patched.setattr(writing, "now", lambda: changes["since"])
        TapeWriter.create(store, {}).release()
    holder = replace(Holder.this_process(), **changes)
    store.write(LOCK_KEY, json.dumps(vars(holder)).encode())
    return holder


def test_a_second_writer_in_the_same_process_is_refused(store: ByteStore) -> None:
    writer = TapeWriter.create(store, {})
    for begin in (
        lambda: TapeWriter.resume(store),
        lambda: TapeWriter.create(store, {}),
        lambda: TapeWriter.create(store, {}, overwrite=True),
        lambda: TapeWriter.resume(store, take_over=True),
    ):
        with pytest.raises(
            RecordingInUseError, match=rf"process {os.getpid()} on host .*seconds ago.*which runs"
        ):
            begin()
    writer.commit({}, [], 0, close=True)
    assert LOCK_KEY not in set(store.keys())
    TapeWriter.resume(store)


def test_a_writer_in_another_process_is_named_and_once_killed_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    for again in (TapeWriter.resume, lambda store: TapeWriter.create(store, {}, overwrite=True)):
        with python(WRITER, path) as other:
            assert line(other) == "ready"
            with pytest.raises(RecordingInUseError, match=f"process {other.pid} on host"):
                again(Folder(path))
            other.kill()
            other.wait()
            again(Folder(path)).release()


def test_a_writer_that_has_ended_but_is_not_waited_for_is_dead(tmp_path: Path) -> None:
    with python(WRITER, tmp_path / "run.zarr") as other:
        line(other)
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        TapeWriter.resume(Folder(tmp_path / "run.zarr"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads the identifiers as Linux has them")
@pytest.mark.parametrize("form", ["hashed", "of earlier versions"])
def test_a_lock_shows_no_identifier_of_the_host_and_one_that_does_is_understood(
    tmp_path: Path, form: str
) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    machine = Path("/etc/machine-id").read_text().strip() if Path("/etc/machine-id").exists() else ""
    store = Folder(tmp_path / "run.zarr")
    with python(WRITER, store.location) as other:
        line(other)
        stored = (tmp_path / "run.zarr" / LOCK_KEY).read_text()
        for identifier in filter(None, (boot, machine)):
            assert identifier not in stored
            assert identifier.replace("-", "") not in stored
        if form == "of earlier versions":
            fields = json.loads(stored) | {"boot": boot, "machine": machine}
            store.write(LOCK_KEY, json.dumps(fields).encode())
        with pytest.raises(RecordingInUseError, match="which runs"):
            TapeWriter.resume(store)
        other.kill()
        other.wait()
        TapeWriter.resume(store)


def test_the_lock_is_given_back_at_the_end_of_the_interpreter(tmp_path: Path) -> None:
    with python(WRITER, tmp_path / "run.zarr") as other:
        line(other)
        finished(other)
    assert not (tmp_path / "run.zarr" / LOCK_KEY).exists()


def test_the_lock_of_a_forgotten_writer_is_given_back(store: ByteStore) -> None:
    writer = TapeWriter.create(store, {})
    del writer
    collect_garbage()
    assert LOCK_KEY not in set(store.keys())


def test_of_many_writers_that_begin_together_one_succeeds(tmp_path: Path) -> None:
    stores = [Folder(tmp_path / "run.zarr") for _ in range(8)]
    for state in ("no lock", "dead lock"):
        if state == "dead lock":
            leave_lock(stores[0], **EARLIER_START)
        together = threading.Barrier(len(stores))
        taken: list[WriterLock] = []

        def begin(store: Folder, together: threading.Barrier = together, taken: Any = taken) -> None:
            together.wait()
            with contextlib.suppress(RecordingInUseError):
                taken.append(WriterLock.acquire(store))

        threads = [threading.Thread(target=begin, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 1, state
        taken[0].check()
        taken[0].release()
    assert not list(tmp_path.rglob("*.partial"))


def test_a_file_system_without_links_has_locks_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    writer = TapeWriter.create(Folder(tmp_path), {})
    assert not Folder(tmp_path).write_new(LOCK_KEY, b"")
    with pytest.raises(RecordingInUseError):
        TapeWriter.resume(Folder(tmp_path))
    writer.release()


@pytest.mark.parametrize(
    "changes",
    [
        EARLIER_START,
        {"process_started": "1"},
        {"process": 2**22 + 1},
        {"owner": "left in this very process"},
    ],
)
def test_a_writer_that_is_seen_to_be_dead_is_taken_over(store: ByteStore, changes: Any) -> None:
    leave_lock(store, **changes)
    TapeWriter.resume(store)


@pytest.mark.skipif(sys.platform != "linux", reason="starts of the host are told apart as Linux does")
@pytest.mark.parametrize("newer", ["since", "commit"])
def test_a_machine_of_the_same_image_cannot_be_seen(store: ByteStore, newer: str) -> None:
    """It has the same name and number, and another start; but it has written since this one was started."""
    holder = leave_lock(store, **EARLIER_START)
    if newer == "since":
        since = Holder.this_process().since
        store.write(LOCK_KEY, json.dumps(vars(replace(holder, since=since))).encode())
    else:
        document = store.read("zarr.json", 10**6)
        assert document is not None
        store.write(
            "zarr.json", document.replace(holder.since.encode(), Holder.this_process().since.encode())
        )
    with pytest.raises(RecordingInUseError, match=r"cannot be seen from this host.*take_over=True"):
        TapeWriter.create(store, {}, overwrite=True)
    TapeWriter.create(store, {}, overwrite=True, take_over=True)


@pytest.mark.parametrize("moment", ["", "yesterday", "9999-12-31T23:59:59-23:59"])
def test_a_lock_of_unknown_age_is_of_no_earlier_start(store: ByteStore, moment: str) -> None:
    holder = leave_lock(store, **EARLIER_START)
    assert replace(holder, since=moment or "?").state() == "unknown"
    assert replace(holder, since="2020-01-01T00:00:00+00:00").state(moment) == (
        "unknown" if moment else "dead"
    )


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"machine": "x"}, {"namespace": "pid:[1]"}])
def test_a_writer_that_cannot_be_seen_is_taken_over_only_when_told_to(store: ByteStore, changes: Any) -> None:
    leave_lock(store, **changes, since="2020-01-01T00:00:00+00:00")
    for begin in (
        TapeWriter.resume,
        lambda store, **how: TapeWriter.create(store, {}, overwrite=True, **how),
    ):
        with pytest.raises(RecordingInUseError, match=r"\d{4} days ago.*take_over=True, or delete the file"):
            begin(store)
    TapeWriter.resume(store, take_over=True)


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b"[" * 3000, b'{"owner": 3}'])
def test_a_lock_that_cannot_be_understood_is_no_licence_to_write(store: ByteStore, document: bytes) -> None:
    leave_lock(store)
    store.write(LOCK_KEY, document)
    with pytest.raises(RecordingInUseError, match="may be in use"):
        TapeWriter.resume(store)
    TapeWriter.resume(store, take_over=True)


@pytest.mark.parametrize(
    "changes",
    [{"since": 3}, {"process": 1.5}, {"process": True}, {"process": "1"}, {"process": 0}, {"process": -1}],
)
def test_wrong_values_in_a_lock_are_not_understood(store: ByteStore, changes: Any) -> None:
    holder = leave_lock(store)
    store.write(LOCK_KEY, json.dumps({**vars(holder), **changes}).encode())
    with pytest.raises(RecordingInUseError, match="cannot be understood"):
        TapeWriter.resume(store)


def test_a_writer_that_was_taken_over_stops_at_its_next_commit(store: ByteStore) -> None:
    writer = TapeWriter.create(store, {})
    before = TapeReader.open(store).metadata
    thief = replace(Holder.this_process(), host="elsewhere")
    store.write(LOCK_KEY, json.dumps(vars(thief)).encode())
    with pytest.raises(RecordingInUseError, match=r"belongs to process .* on host elsewhere"):
        writer.commit({}, [], 0)
    writer.release()
    assert read_holder(store) == thief
    store.delete(LOCK_KEY)
    with pytest.raises(RecordingInUseError, match="is gone"):
        writer.commit({}, [], 0)
    assert TapeReader.open(store).metadata == before


def test_what_was_killed_before_its_first_commit_is_begun_anew(tmp_path: Path) -> None:
    store = Folder(tmp_path / "run.zarr")
    leave_lock(store, **EARLIER_START)
    (tmp_path / "run.zarr/zarr.json").unlink()
    TapeWriter.create(store, {})


def test_nothing_is_locked_where_something_else_lies(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RecordingExistsError):
        TapeWriter.create(Folder(tmp_path), {}, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_forked_child_never_gives_the_lock_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Folder(tmp_path)
    writer = TapeWriter.create(store, {})
    monkeypatch.setattr(lock.os, "getpid", lambda: 1)
    writer.release()
    assert read_holder(store) is not None
