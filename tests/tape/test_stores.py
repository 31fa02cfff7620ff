"""Folders and Zarr stores keep bytes by key; folders let nothing in from outside."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import zarr.storage

from recorder.format import RecordingFormatError, StoreError
from recorder.stores import ByteStore, Folder, ZarrStore, open_store


@pytest.fixture(params=["folder", "folder without fsync", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ByteStore:
    if request.param == "memory":
        return ZarrStore(zarr.storage.MemoryStore())
    return Folder(tmp_path / "run.zarr", "process" if "without" in request.param else "power")


def test_bytes_are_kept_by_key(store: ByteStore) -> None:
    assert store.is_empty()
    store.write("a/b/c", b"one")
    store.write("a/b/d", b"three")
    store.write("a/b/c", b"two!")
    store.persist()
    assert store.read("a/b/c", 100) == b"two!"
    assert store.read("a/b/x", 100) is None
    assert sorted(store.keys()) == ["a/b/c", "a/b/d"]
    assert store.size("a") == store.size("") == 9
    assert store.size("a/x") == 0
    store.delete("a/b/d")
    assert list(store.keys()) == ["a/b/c"]
    assert not store.is_empty()
    for key in ("zarr.json", "b", "ab/c"):
        store.write(key, b"")
    store.clear(["a", "c"])
    assert sorted(store.keys()) == ["ab/c", "b"]
    store.write("a/b/c", b"again")
    assert store.read("a/b/c", 100) == b"again"


def test_more_bytes_than_expected_are_refused(store: ByteStore) -> None:
    store.write("a", b"12345")
    with pytest.raises(RecordingFormatError, match="5 bytes, at most 4 were expected"):
        store.read("a", 4)


def test_only_leftovers_of_exactly_that_form_are_removed(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    kept = ["c/0", "c/0.partial", "c/0.0123456789abcde.partial", "notes.txt"]
    for key in [*kept, "c/0.0123456789abcdef.partial"]:
        store.write(key, b"")
    store.remove_leftovers()
    assert sorted(store.keys()) == sorted(kept)


def test_a_failed_write_leaves_the_old_bytes_and_no_leftover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Folder(tmp_path)
    store.write("a", b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        store.write("a", b"new")
    assert store.read("a", 10) == b"old"
    assert list(store.keys()) == ["a"]


def test_every_file_and_folder_is_synced_before_it_is_relied_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), real(fd))[1]
    )
    store = Folder(tmp_path / "run.zarr")
    store.write("a/b", b"x")
    assert [Path(path).name.split(".")[0] for path in synced] == ["b"]
    store.persist()
    # Side by side, in any order.
    assert sorted(synced[1:]) == [str(tmp_path), str(tmp_path / "run.zarr"), str(tmp_path / "run.zarr/a")]
    synced.clear()
    store.persist()
    assert synced == []


@pytest.mark.parametrize("tells_paths", [True, False])
def test_nothing_outside_the_folder_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tells_paths: bool
) -> None:
    if not tells_paths:  # as on systems other than Linux
        monkeypatch.setattr("recorder.stores.files.regular._OPENED", "")
    (tmp_path / "secret").write_bytes(b"secret")
    inside = tmp_path / "run.zarr"
    (inside / "c").mkdir(parents=True)
    (inside / "c/0").symlink_to(tmp_path / "secret")
    (inside / "d").symlink_to(tmp_path)
    os.mkfifo(inside / "c/1")
    store = Folder(inside)
    with pytest.raises(RecordingFormatError, match="is a symbolic link"):
        store.read("c/0", 100)
    with pytest.raises(RecordingFormatError, match="through a symbolic link"):
        store.read("d/secret", 100)
    with pytest.raises(RecordingFormatError, match="through a symbolic link"):
        store.read("d/absent", 100)
    with pytest.raises(RecordingFormatError, match="not a regular file"):
        store.read("c/1", 100)
    with pytest.raises(RecordingFormatError, match="not a regular file"):
        store.read("c", 100)


def test_the_recording_itself_may_be_reached_through_a_link(tmp_path: Path) -> None:
    Folder(tmp_path / "real").write("a/b", b"x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert Folder(tmp_path / "link").read("a/b", 10) == b"x"


def test_other_failures_to_open_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Folder(tmp_path)
    store.write("a", b"x")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError):
        store.read("a", 10)


def test_stores_are_named_by_path_url_or_store(tmp_path: Path) -> None:
    for given in (tmp_path, str(tmp_path), f"file://{tmp_path}", zarr.storage.LocalStore(tmp_path)):
        assert open_store(given, read_only=False).location == str(tmp_path)
    in_memory = open_store("memory://bucket/run.zarr", read_only=False)
    in_memory.write("a", b"x")
    assert in_memory.location == "memory://bucket/run.zarr"
    assert open_store("memory://bucket/run.zarr", read_only=True).read("a", 10) == b"x"
    assert isinstance(open_store(zarr.storage.MemoryStore(), read_only=False), ZarrStore)


def test_anything_else_is_no_store() -> None:
    with pytest.raises(TypeError, match=r"store is 3 \(int\); expected a path, a URL"):
        open_store(3, read_only=True)  # type: ignore[arg-type]


def test_folders_travel_to_other_processes(tmp_path: Path) -> None:
    store = Folder(tmp_path, "process")
    store.write("a", b"x")
    travelled = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own
    assert travelled.read("a", 10) == b"x"


def test_a_link_in_place_of_a_group_is_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/precious").touch()
    store = Folder(tmp_path / "run.zarr")
    store.write("zarr.json", b"")
    (tmp_path / "run.zarr/layers").symlink_to(tmp_path / "elsewhere")
    store.clear(["layers"])
    assert (tmp_path / "elsewhere/precious").exists()
    assert store.is_empty()


@pytest.mark.parametrize(
    ("store", "message"),
    [
        (zarr.storage.MemoryStore(read_only=True), "read-only, or cannot replace what it holds"),
        ("", "store is empty"),
        ("nope://bucket/run.zarr", "nope://bucket/run.zarr cannot be opened: Protocol not known"),
    ],
)
def test_stores_that_cannot_be_recorded_to_are_refused(store: Any, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        open_store(store, read_only=False)


def test_local_and_zip_stores_keep_what_they_allow(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="read-only"):
        open_store(zarr.storage.LocalStore(tmp_path, read_only=True), read_only=False)
    with pytest.raises(StoreError, match="cannot replace"):
        open_store(zarr.storage.ZipStore(tmp_path / "run.zip", mode="w"), read_only=False)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(zarr.storage.FsspecStore, "from_url", missing)
    with pytest.raises(StoreError, match=r"Install s3fs.*pip install 'spiketape\[remote\]'"):
        open_store("s3://bucket/run.zarr", read_only=True)


def test_a_folder_remembers_a_bounded_number_of_folders_and_syncs_all_of_them(tmp_path: Path) -> None:
    store = Folder(tmp_path / "run.zarr")
    for chunk in range(1500):
        store.write(f"c/{chunk}/0", b"x")
    assert len(store._known_folders) <= 1001
    assert len(store._unsynced_folders) > 1500
    assert len(list(store.keys())) == 1500


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "trials").symlink_to(tmp_path / "victim")
    for key in ("trials/zarr.json", "trials/label/zarr.json"):
        with pytest.raises(RecordingFormatError, match="symbolic link"):
            Folder(tmp_path / "run").write(key, b"{}")
    assert list((tmp_path / "victim").iterdir()) == []
