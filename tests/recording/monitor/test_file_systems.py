"""File systems that fail for a moment, or cannot do what Linux can."""

from __future__ import annotations

import errno
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import analysis
from one_layer import monitor_of, rate, write
from recorder.format import DurabilityWarning, RecordingWriteError
from recorder.keeping import pack_recording
from recorder.stores import Folder
from recorder.stores.files import folder, syncing, trying
from recorder.tape import TapeReader

# -- file systems --------------------------------------------------------------------------------------------


def fail_first(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, times: int = 1, after: bool = False
) -> list[int]:
    """Have the first calls, from the third on, fail with an error of this number; those that did."""
    original: Callable[..., Any] = getattr(owner, name)
    calls: list[int] = []

    def failing(*arguments: Any, **named: Any) -> Any:
        calls.append(0)
        if 3 <= len(calls) < 3 + times:
            if after:
                original(*arguments, **named)
            raise OSError(number, os.strerror(number))
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, failing)
    return calls


PASSING = ["EACCES", "EAGAIN", "ESTALE", "EINTR", "EBUSY"]


@pytest.mark.parametrize("name", PASSING)
@pytest.mark.parametrize("operation", ["replace", "open", "fsync"])
def test_one_error_that_passes_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, name: str
) -> None:
    calls = fail_first(monkeypatch, os, operation, getattr(errno, name))
    with monitor_of(tmp_path / "run.zarr") as monitor:
        for _ in range(3):
            monitor._hooks._network(torch.ones(2, 3))
            monitor.flush()
    assert len(calls) > 3
    monkeypatch.undo()
    recording = analysis.open_recording(tmp_path / "run.zarr")
    assert (recording["0"].frames, float(recording.firing_rate())) == (6, 1)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_stale_file_is_opened_again_by_whoever_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "run.zarr")
    calls = fail_first(monkeypatch, os, "open", errno.ESTALE)
    assert rate(tmp_path / "run.zarr", use_counts=False) == 1
    assert len(calls) > 3


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EIO, errno.ENOSPC])
def test_what_lasts_is_raised_and_what_cannot_pass_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(trying, "time", SimpleNamespace(sleep=waited.append))
    store = Folder(tmp_path / "a")
    store.write("key", b"old")

    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        store.write("key", b"new")
    assert sum(waited) == pytest.approx(sum(trying.WAITS) if number == errno.EBUSY else 0)
    assert sum(trying.WAITS) < 5
    assert store.read("key", 10) == b"old"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["key"]


def test_a_folder_that_is_not_ours_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    # As for root no folder is.
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "mkdir", denied)
    began = time.monotonic()
    with pytest.raises(RecordingWriteError, match=r"Permission denied.*Make it writable"):
        monitor_of(tmp_path / "new" / "run.zarr")
    assert time.monotonic() - began < 2


def test_a_link_whose_answer_was_lost_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Folder(tmp_path)
    link = os.link
    calls: list[int] = []

    def lost(source: Any, target: Any) -> None:
        link(source, target)
        calls.append(0)
        if len(calls) == 1:
            raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "link", lost)
    assert store.write_new("key", b"mine") is True
    assert store.write_new("key", b"another") is False
    assert store.read("key", 10) == b"mine"


def no_folder_fsync(monkeypatch: pytest.MonkeyPatch, number: int) -> list[Path]:
    """A file system that has no fsync of folders, as some of FUSE and of networks."""
    fsync = os.fsync
    synced: list[Path] = []

    def refuse(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_dir():
            raise OSError(number, os.strerror(number))
        synced.append(path)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    return synced


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks what a descriptor is of")
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_where_folders_have_no_fsync_it_is_recorded_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    synced = no_folder_fsync(monkeypatch, number)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with monitor_of(tmp_path / "run.zarr") as monitor:
            for _ in range(3):
                monitor._hooks._network(torch.ones(2, 3))
                monitor.flush()
    assert [warning.category for warning in told] == [DurabilityWarning]
    assert "run.zarr: this file system" in str(told[0].message)
    assert synced, "files are synchronized all the same"
    assert rate(tmp_path / "run.zarr") == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor_of(tmp_path / "other.zarr", durability="process").close()
    with pytest.warns(DurabilityWarning):
        pack_recording(TapeReader.open(Folder(tmp_path / "run.zarr")), str(tmp_path / "run.zip"))


def test_as_on_windows_folders_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def open_files_only(path: Any, *arguments: Any, **named: Any) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *arguments, **named)

    monkeypatch.setattr(os, "open", open_files_only)
    for module in (folder, syncing):
        monkeypatch.setattr(module, "fcntl", None)
        monkeypatch.setattr(module, "HAS_LOCKS", False)
    began = time.monotonic()
    with pytest.warns(DurabilityWarning), monitor_of(tmp_path / "run.zarr") as monitor:
        monitor._hooks._network(torch.ones(2, 3))
    assert time.monotonic() - began < 20
    assert rate(tmp_path / "run.zarr") == 1


def test_as_on_macos_the_drive_is_asked_to_empty_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    mac = SimpleNamespace(
        F_FULLFSYNC=51, LOCK_EX=2, flock=lambda *_: None, fcntl=lambda _, what: asked.append(what)
    )
    monkeypatch.setattr(syncing, "fcntl", mac)
    store = Folder(tmp_path)
    store.write("key", b"x")
    store.persist()
    assert asked == [51, 51]  # the file, and its folder
