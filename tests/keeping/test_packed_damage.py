"""Packing that is cut short or disturbed, damaged shards, hostile archives."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr

import analysis
from analysis.keeping import find_problems
from faults import DiskError, FaultyStore
from packs import (
    SHARD_BYTES,
    answers,
    files,
    packed_at,
    reader_of,
)
from recorder.format import (
    RecordingFormatError,
)
from recorder.format.chunks import checksum
from recorder.format.documents import plain_documents
from recorder.format.shards import plan_shards
from recorder.keeping import pack as packing
from recorder.keeping.digest import digest_recording
from recorder.keeping.pack import pack
from recorder.stores import Folder, ZarrStore
from recorder.tape import TapeReader


@pytest.mark.parametrize("every", [15, pytest.param(1, marks=pytest.mark.long)])
def test_packing_cut_short_anywhere_leaves_no_recording_and_goes_on(source: Path, every: int) -> None:
    """At operations on the store, one after the other: nothing there looks like a recording until all is."""
    reader, expected = reader_of(source), digest_recording(reader_of(source))
    for number in range(1, 1000, every):
        inner = ZarrStore(zarr.storage.MemoryStore())
        store = FaultyStore(inner, lambda count, *_, number=number: count == number)
        try:
            pack(reader, store, shard_bytes=SHARD_BYTES)
        except DiskError:
            has_root = inner.read("zarr.json", 2**20) is not None
        else:
            break
        writes: list[str] = []
        again = FaultyStore(inner, lambda _, kind, key, writes=writes: bool(writes.append(key)))
        assert pack(reader, again, shard_bytes=SHARD_BYTES).digest == expected
        if has_root:
            assert not any("/c/" in key for key in writes)
        result = TapeReader.open(inner)
        assert find_problems(result) == []
        assert packing.MARKER not in set(inner.keys())
    assert number > 50


def test_packing_goes_on_where_it_was_cut_short(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept.zip"

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        packed_at(source, kept, progress=stop)
    assert not kept.exists()
    partial = tmp_path / "kept.zip.partial" / "recording"
    shards = {path.relative_to(partial).as_posix() for path in files(partial) if "/c/" in path.as_posix()}
    written = []
    real = Folder.write_pieces
    monkeypatch.setattr(
        Folder, "write_pieces", lambda self, key, pieces: (written.append(key), real(self, key, pieces))[1]
    )
    seen = []
    packed_at(source, kept, progress=lambda done, total: seen.append(done / total))
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert len(shards) > 5
    assert not shards & set(written)
    assert answers(kept) == answers(source)


@pytest.mark.parametrize("what", ["altered", "missing", "swapped", "counts"])
def test_damage_is_found_while_packing_and_nothing_gets_the_name(
    source: Path, tmp_path: Path, what: str
) -> None:
    chunk, other = source / "layers/a=2Fb/spikes/c/2/0", source / "layers/a=2Fb/spikes/c/3/0"
    if what == "altered":
        chunk.write_bytes(chunk.read_bytes()[:-5] + b"x" + chunk.read_bytes()[-4:])
    elif what == "missing":
        chunk.unlink()
    elif what == "swapped":
        shutil.copy(other, chunk)
    else:
        shutil.copytree(
            source / "layers/wide/checksums/c", source / "layers/a=2Fb/counts/c", dirs_exist_ok=True
        )
        shutil.copy(source / "layers/wide/counts/c/0/0/0/0", source / "layers/a=2Fb/counts/c/0/0")
    for name in ("kept.zarr", "kept.zip"):
        with pytest.raises(RecordingFormatError, match="layers/a=2Fb"):
            packed_at(source, tmp_path / name)
        assert not (tmp_path / name).exists()


def test_damage_to_shards_is_an_error_and_never_silence(source: Path, tmp_path: Path) -> None:
    kept = packed_at(source, tmp_path / "kept.zarr")
    shard = kept / "layers/a=2Fb/spikes/c/1/0"
    sound = shard.read_bytes()
    altered = [bytes([*sound[:at], sound[at] ^ 4, *sound[at + 1 :]]) for at in (40, len(sound) - 9)]
    for damaged in (sound[:-1], sound[:10], b"", *altered):
        shard.write_bytes(damaged)
        with pytest.raises(RecordingFormatError, match=r"layers/a=2Fb/spikes/c/"):
            digest_recording(reader_of(kept))
        assert find_problems(reader_of(kept))
    shard.unlink()
    with pytest.raises(RecordingFormatError, match="is missing"):
        digest_recording(reader_of(kept))


@pytest.mark.parametrize(
    ("method", "message"), [(zipfile.ZIP_DEFLATED, "is compressed or encrypted"), (None, "is no zip archive")]
)
def test_hostile_archives_are_refused(source: Path, tmp_path: Path, method: int | None, message: str) -> None:
    archive = tmp_path / "kept.zip"
    if method is None:
        archive.write_bytes(b"PK" + bytes(500))
    else:
        with zipfile.ZipFile(archive, "w", method) as made:
            made.writestr("zarr.json", bytes(2**20))
    with pytest.raises(RecordingFormatError, match=message):
        analysis.open_recording(archive)


@pytest.mark.parametrize(
    "entry", [(2**63 - 1, 50), (2**63, 50), (0, 2**62), (10**6, 50), (0, 0), (3, 50)], ids=str
)
def test_an_index_that_was_made_up_is_refused(source: Path, tmp_path: Path, entry: tuple[int, int]) -> None:
    kept = packed_at(source, tmp_path / "kept.zarr")
    shard = kept / "layers/a=2Fb/spikes/c/1/0"
    stored = shard.read_bytes()
    plan = plan_shards(plain_documents(reader_of(kept).metadata)["layers/a=2Fb/spikes"], SHARD_BYTES)
    index = np.frombuffer(stored[-plan.index_bytes : -4], "<u8").copy()
    index[:2] = entry
    made_up = index.tobytes()
    shard.write_bytes(stored[: -plan.index_bytes] + made_up + checksum(made_up).to_bytes(4, "little"))
    with pytest.raises(RecordingFormatError, match=r"layers/a=2Fb/spikes/c/"):
        digest_recording(reader_of(kept))


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "kept.zip", "w") as made:
        made.writestr("zarr.json", "{}")
        with pytest.warns(UserWarning, match="Duplicate name"):
            made.writestr("zarr.json", "[]")
    with pytest.raises(RecordingFormatError, match="two entries of the same name"):
        analysis.open_recording(tmp_path / "kept.zip")
