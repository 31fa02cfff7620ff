"""A digest is the same for what is the same, and is printed of what was read back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr.storage
from click.testing import CliRunner

from analysis.cli.commands import main
from recorder.format import RecordingExistsError, RecordingFormatError
from recorder.keeping.digest import digest_recording
from recorder.keeping.pack import pack
from recorder.stores import Folder, ZarrStore
from recorder.tape import TapeReader
from tapes import Run, Trial, write_recording

STEPS = 70
OLD = {
    "version-1.zarr": "bd6ea5c3d0af7cc402ef67c06f5093270638e4ed51fe170eace77b89bdebb5e8",
    "version-2.zarr": "b07caa5bb206dfcf8819fcff5b9230c68f053f77a1a4ad5672249245463d6c6c",
    "version-3-signals.zarr": "4d8e4189d02bf364dce7703778944e7a91478403ea5d0bbf26327689fa27447d",
    "version-3.zarr": "418c1e4879f9d5f30b12ac7a4aaccc8cca5da366ed6800a339f6003ef6cab591",
}


def write(store: Any, seed: int = 0, label: Any = 1.0) -> None:
    spikes = np.random.default_rng(seed).random((STEPS, 6)) < 0.3
    write_recording(store, {"1": spikes}, [Run(0, STEPS, 1, 0)], [Trial(0, 1, {"label": [label]})])


def digest(path: Path, label: Any) -> str:
    write(path, label=label)
    return digest_recording(TapeReader.open(Folder(path)))


def nan(bits: int) -> float:
    return float(np.array(bits, np.uint64).view(np.float64))


def test_two_zeros_and_all_nans_have_one_digest(tmp_path: Path) -> None:
    zero = digest(tmp_path / "zero", 0.0)
    assert digest(tmp_path / "minus zero", -0.0) == zero
    missing = digest(tmp_path / "nan", float("nan"))
    others = [nan(bits) for bits in (0xFFF8_0000_0000_0000, 0x7FF8_0000_0000_0001, 0x7FF0_0000_0000_0001)]
    assert {digest(tmp_path / f"nan {number}", other) for number, other in enumerate(others)} == {missing}
    assert len({zero, missing, digest(tmp_path / "one", 1.0), digest(tmp_path / "whole", 0)}) == 4


def test_two_zeros_among_categories_have_one_digest(tmp_path: Path) -> None:
    digests = []
    for zero in (0.0, -0.0, 0):
        path = tmp_path / f"{zero!r}.zarr"
        spikes = np.ones((STEPS * 2, 3), np.bool_)
        trials = [Trial(0, 2, {"label": ["text", zero]})]
        write_recording(path, {"1": spikes}, [Run(0, STEPS, 2, 0)], trials)
        digests.append(digest_recording(TapeReader.open(Folder(path))))
    assert digests[0] == digests[1] != digests[2]


def test_the_digests_of_old_recordings_are_what_they_were() -> None:
    old = Path(__file__).parents[1] / "recordings"
    found = {
        path.name: digest_recording(TapeReader.open(Folder(path))) for path in (old / name for name in OLD)
    }
    assert found == OLD


@pytest.mark.parametrize("given", ["", " ", "0" * 63, "0" * 65, "g" * 64, "sha256:" + "0" * 64])
def test_what_is_no_digest_is_not_taken_for_one(tmp_path: Path, given: str) -> None:
    write(tmp_path / "run.zarr")
    found = CliRunner().invoke(main, ["verify", str(tmp_path / "run.zarr"), "--digest", given])
    assert found.exit_code == 2
    assert f"{given!r} is no digest; expected the 64 hexadecimal digits" in found.stderr


@pytest.fixture
def reader(tmp_path: Path) -> TapeReader:
    write(tmp_path / "run.zarr")
    return TapeReader.open(Folder(tmp_path / "run.zarr"))


@pytest.fixture
def target() -> ZarrStore:
    """A place in a store where, as in a bucket, nothing is made aside and renamed."""
    return ZarrStore(zarr.storage.MemoryStore())


def test_what_is_packed_already_is_read_before_its_digest_is_told(
    reader: TapeReader, target: ZarrStore
) -> None:
    digest = pack(reader, target).digest
    assert pack(reader, target).digest == digest == digest_recording(reader)
    key = "layers/1/spikes/c/0/0"
    shard = target.read(key, 2**20) or b""
    target.write(key, shard[:9] + bytes([shard[9] ^ 1]) + shard[10:])
    with pytest.raises(RecordingFormatError, match="layer '1' with frames 0 to"):
        pack(reader, target)
    target.delete(key)
    with pytest.raises(RecordingFormatError, match="is missing"):
        pack(reader, target)


def test_another_digest_than_is_stated_is_not_told(reader: TapeReader, target: ZarrStore) -> None:
    digest = pack(reader, target, find_digest=lambda _: "1" * 64).digest
    assert digest == "1" * 64
    with pytest.raises(RecordingFormatError, match=f"states the digest {digest}, and what it holds has [^1]"):
        pack(reader, target)


def test_the_command_reads_what_is_there_before_it_prints_a_digest(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    write(tmp_path / "run.zarr")
    place = f"memory://{tmp_path.name}/kept.zarr"
    arguments = ["pack", str(tmp_path / "run.zarr"), place]
    for _ in range(2):
        found = CliRunner().invoke(main, arguments)
        assert (found.exit_code, re.fullmatch("[0-9a-f]{64}\n", found.stdout) is not None) == (0, True)
    fsspec.filesystem("memory").pipe_file(f"{place}/layers/1/spikes/c/0/0", bytes(100))
    found = CliRunner().invoke(main, arguments)
    assert (found.exit_code, found.stdout) == (1, "")
    assert "layers/1/spikes/c" in found.stderr


@pytest.mark.parametrize("place", ["memory", "folder"])
def test_somebody_who_was_faster_is_noticed(
    reader: TapeReader, target: ZarrStore, tmp_path: Path, place: str
) -> None:
    """The digest is found last; meanwhile another recording is packed to the same place."""
    write(tmp_path / "other.zarr", seed=1)
    other = TapeReader.open(Folder(tmp_path / "other.zarr"))
    there: Any = target if place == "memory" else Folder(tmp_path / "there")

    def overtaken(found: TapeReader) -> str:
        aside = Folder(tmp_path / "aside")
        pack(other, aside)
        there.write("zarr.json", aside.read("zarr.json", 2**20) or b"")
        return digest_recording(found)

    with pytest.raises(RecordingExistsError, match="holds something already"):
        pack(reader, there, find_digest=overtaken)
    assert TapeReader.open(there).metadata.recording_id == other.metadata.recording_id


def test_two_who_pack_the_same_recording_agree(reader: TapeReader, target: ZarrStore) -> None:
    def overtaken(found: TapeReader) -> str:
        if target.read("zarr.json", 2**20) is None:
            pack(reader, target)
        return digest_recording(found)

    assert pack(reader, target, find_digest=overtaken).digest == digest_recording(reader)
    assert "packing.json" not in set(target.keys())
