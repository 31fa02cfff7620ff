"""Packed recordings: few files, the same bits, the same answers; whole, or not there."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

import analysis
from analysis.cli.commands import main
from analysis.keeping import find_problems
from packs import (
    FRAMES,
    SHARD_BYTES,
    answers,
    bytes_of,
    check_stock_zarr,
    files,
    packed_at,
    reader_of,
    write,
)
from recorder.format import (
    RecordingExistsError,
    RecordingFormatError,
    RecordingInUseError,
    RecordingUnfinishedError,
    StoreAccessError,
    StoreError,
)
from recorder.format.layout import spikes_chunk_key
from recorder.keeping import pack as packing
from recorder.keeping import pack_recording
from recorder.keeping.digest import digest_recording
from recorder.keeping.pack import pack
from recorder.stores import Folder, open_store
from recorder.stores.rank_names import RankRecord
from recorder.tape import TapeWriter
from tapes import CONNECTIONS, Made, Run, Trial, write_recording
from web import Files, serving


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")
def test_every_form_gives_the_same_answers(source: Path, tmp_path: Path) -> None:
    expected = answers(source)
    folder = packed_at(source, tmp_path / "kept.zarr")
    archive = packed_at(source, tmp_path / "kept.zip")
    again = packed_at(archive, tmp_path / "again.zarr")
    for form in (folder, archive, again):
        assert answers(form) == expected
        assert find_problems(reader_of(form)) == []
    assert hashlib.sha256(b"".join(sorted(map(bytes_of, files(folder))))).digest() == (
        hashlib.sha256(b"".join(sorted(map(bytes_of, files(again))))).digest()
    )
    check_stock_zarr(folder)
    with zarr.storage.ZipStore(archive, mode="r") as store:
        check_stock_zarr(store)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "again.zarr", "kept.zarr", "kept.zip", "run.zarr",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore::recorder.format.errors.LostFramesWarning")
def test_lost_frames_stay_lost_in_every_form(source: Path, tmp_path: Path) -> None:
    whole = analysis.open_recording(source).digest()
    for name in ("a/b", "wide"):
        layer = reader_of(source).layers[name]
        (source / spikes_chunk_key(layer.folder, layer.plan, 1, 0)).unlink()
    recovered = CliRunner().invoke(main, ["recover", str(source), "--mark-lost", "--apply"])
    assert recovered.exit_code == 0, recovered.output
    expected = answers(source)
    assert expected[-1] != whole
    folder, archive = packed_at(source, tmp_path / "kept.zarr"), packed_at(source, tmp_path / "kept.zip")
    for form in (folder, archive, packed_at(archive, tmp_path / "again.zarr")):
        assert answers(form) == expected
        assert find_problems(reader_of(form)) == []
        layer = analysis.open_recording(form)["a/b"]
        assert 0 < layer.lost_frames < FRAMES
        assert layer.frames == FRAMES - layer.lost_frames


def test_progress_of_an_archive_is_told_byte_by_byte(source: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    pack_recording(
        reader_of(source), str(tmp_path / "kept.zip"), archiving=lambda *counts: told.append(counts)
    )
    with zipfile.ZipFile(tmp_path / "kept.zip") as archive:
        total = sum(entry.file_size for entry in archive.infolist())
    assert told[0] == (0, total)
    assert told[-1] == (total, total)
    assert sorted(told) == told


def test_chunks_are_copied_byte_for_byte_into_few_files(source: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.zarr"
    pack_recording(reader_of(source), str(kept))
    found = [path for path in files(kept / "layers") if "spikes/c" in path.as_posix()]
    shards = {path.relative_to(kept).as_posix(): path.read_bytes() for path in found}
    assert sorted(shards) == [
        "layers/a=2Fb/spikes/c/0/0", "layers/one/spikes/c/0", "layers/wide/spikes/c/0/0/0/0",
    ]  # fmt: skip
    chunks = sorted(source.glob("layers/wide/spikes/c/**/*"))
    chunks = [path for path in chunks if path.is_file()]
    assert len(chunks) > 20
    for path in chunks:
        assert path.read_bytes() in shards["layers/wide/spikes/c/0/0/0/0"]


def test_a_bucket_is_packed_to(source: Path, object_store: Any, request: pytest.FixtureRequest) -> None:
    url = f"s3://runs/{request.node.name}/kept.zarr"
    options = {"storage_options": object_store.options}
    pack_recording(reader_of(source), url, shard_bytes=SHARD_BYTES, **options)
    assert answers(url, **options) == answers(source)
    assert find_problems(reader_of(url, **options)) == []
    assert packing.MARKER not in set(open_store(url, read_only=True, **options).keys())
    back = source.with_name("back.zip")
    pack_recording(reader_of(url, **options), str(back))
    assert answers(back) == answers(source)
    with pytest.raises(RecordingExistsError, match="archives are made on a disk"):
        pack_recording(reader_of(source), "s3://runs/x.zip", **options)


@pytest.mark.parametrize("name", ["kept.zarr", "kept.zip"])
def test_packed_recordings_are_read_from_a_web_server(
    source: Path, tmp_path: Path, web: str, name: str
) -> None:
    pytest.importorskip("aiohttp")
    packed_at(source, tmp_path / name)
    assert float(analysis.open_recording(f"{web}/{name}").firing_rate()) == float(
        analysis.open_recording(source).firing_rate()
    )


def test_only_closed_recordings_are_packed(tmp_path: Path) -> None:
    write(tmp_path / "run.zarr", close=False)
    with pytest.raises(RecordingUnfinishedError, match=r"spiketape recover .*run\.zarr --apply"):
        packed_at(tmp_path / "run.zarr", tmp_path / "kept.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["run.zarr"]


def test_packed_recordings_are_neither_resumed_nor_recovered(source: Path, tmp_path: Path) -> None:
    kept = packed_at(source, tmp_path / "kept.zarr")
    with pytest.raises(RecordingFormatError, match="is packed for keeping"):
        TapeWriter.resume(Folder(kept))
    result = CliRunner().invoke(main, ["recover", str(kept)])
    assert result.exit_code == 1
    assert "is packed for keeping" in result.stderr
    archive = packed_at(source, tmp_path / "kept.zip")
    with pytest.raises(StoreError, match="is an archive, and only read"):
        open_store(archive, read_only=False)


def test_nothing_is_overwritten(source: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "kept.zarr", tmp_path / "kept.zip"):
        place.write_text("precious")
        with pytest.raises(RecordingExistsError, match="exists; nothing was touched"):
            packed_at(source, place)
        assert place.read_text() == "precious"
    other = tmp_path / "other.zarr.partial" / "recording"
    other.mkdir(parents=True)
    (other / "precious").touch()
    with pytest.raises(RecordingExistsError, match="holds something else"):
        packed_at(source, tmp_path / "other.zarr")
    write(tmp_path / "second.zarr")
    with pytest.raises(RecordingExistsError, match="holds something already"):
        pack(reader_of(source), Folder(tmp_path / "second.zarr"))


def test_archives_and_packed_stores_travel_to_other_processes(source: Path, tmp_path: Path) -> None:
    reader = reader_of(packed_at(source, tmp_path / "kept.zip"))
    travelled = pickle.loads(pickle.dumps(reader))  # noqa: S301 - our own
    assert digest_recording(travelled) == digest_recording(reader)


def test_the_digest_is_the_same_for_other_chunks_and_other_for_another_recording(tmp_path: Path) -> None:
    frames = np.random.default_rng(3).random((1000, 9)) < 0.3

    def digest(name: str, frames: Any = frames, **options: Any) -> str:
        runs = options.pop("runs", [Run(0, 1000, 1)])
        write_recording(tmp_path / name, {options.pop("layer", "a"): frames}, runs, **options)
        return digest_recording(reader_of(tmp_path / name))

    expected = digest("a")
    assert digest("b", chunk_bytes=100) == expected
    assert digest("c", provenance={"made by": "somebody else"}, close=False) == expected
    other = frames.copy()
    other[999, 8] ^= True
    different = {
        digest("d", other),
        digest("e", layer="b"),
        digest("f", runs=[Run(0, 500, 2)]),
        digest("g", runs=[Run(1, 1000, 1)]),
        digest("h", frames.reshape(1000, 3, 3)),
        digest("i", trials_begun=1),
        digest("j", runs=[Run(0, 1000, 1, 0)], trials=[Trial(0, 1, {"label": [3]})]),
        digest("k", runs=[Run(0, 1000, 1, 0)], trials=[Trial(0, 1, {"label": [3.0]})]),
        digest("l", runs=[Run(0, 1000, 1, 0)], trials=[Trial(0, 1, {"label": ["3"]})]),
    }
    assert len(different | {expected}) == 10


def test_the_digest_is_as_the_format_defines_it(tmp_path: Path) -> None:
    """Computed once more from plain booleans, as FORMAT.md says, without a line of ours."""
    frames = np.random.default_rng(3).random((150, 9)) < 0.3
    write_recording(tmp_path / "run.zarr", {"a": frames}, [Run(0, 75, 2)], chunk_bytes=100)

    def sha256(data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    padded = np.zeros((192, 9), np.bool_)
    padded[:150] = frames
    leaf = hashlib.sha256(np.packbits(padded.T, axis=1).tobytes()).digest()
    segments = np.array([[0, 0, 75, 2, -1]], "<i8").tobytes()
    layer = {
        "name": "a", "neuron_shape": [9], "frames": 150,
        "segments": sha256(segments), "spikes": sha256(leaf),
    }  # fmt: skip
    whole = {
        "spiketape_digest": 1,
        "layers": [layer],
        "trials": {"trials": 0, "rows": 0, "columns": {}},
    }
    expected = sha256(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode())
    assert analysis.open_recording(tmp_path / "run.zarr").digest() == expected


@pytest.mark.parametrize("chunk_bytes", [100, 5000, 2**22])
def test_the_digest_of_signals_is_as_the_format_defines_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr("recorder.keeping.digest.LEAF_BYTES", 1000)
    values = np.random.default_rng(3).normal(size=(150, 9)).astype(np.float32)
    values[3, 4] = np.nan
    made = Made(values, every=3, samples=1, neurons=(range(1, 8, 3),))
    write_recording(
        tmp_path / "run.zarr",
        {"a": values > 0},
        [Run(0, 75, 2)],
        chunk_bytes=chunk_bytes,
        signals={("a", "v"): made},
    )

    def sha256(data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    kept = values[::6, 1:8:3].astype("<f4")
    frames = 1000 // (3 * 4)
    leaves = b"".join(
        hashlib.sha256(kept[first : first + frames].T.tobytes()).digest() for first in range(0, 25, frames)
    )
    rows = np.array([[number, 3 * number, 1, 1, -1] for number in range(25)], "<i8")
    signal = {
        "name": "v", "dtype": "float32", "neuron_shape": [9], "neurons": [[1, 8, 3]], "frames": 25,
        "segments": sha256(rows.tobytes()), "values": sha256(leaves),
    }  # fmt: skip
    padded = np.zeros((192, 9), np.bool_)
    padded[:150] = values > 0
    trains = np.packbits(padded.T, axis=1)
    spikes = hashlib.sha256(trains.tobytes()).digest()  # in one leaf
    layer = {
        "name": "a", "neuron_shape": [9], "frames": 150, "signals": [signal],
        "segments": sha256(np.array([[0, 0, 75, 2, -1]], "<i8").tobytes()), "spikes": sha256(spikes),
    }  # fmt: skip
    whole = {
        "spiketape_digest": 1,
        "layers": [layer],
        "trials": {"trials": 0, "rows": 0, "columns": {}},
    }
    expected = sha256(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode())
    assert analysis.open_recording(tmp_path / "run.zarr").digest() == expected
    other = Made(values * 2, every=3, samples=1, neurons=made.neurons)
    write_recording(tmp_path / "o", {"a": values > 0}, [Run(0, 75, 2)], signals={("a", "v"): other})
    assert analysis.open_recording(tmp_path / "o").digest() != expected


def test_the_commands_pack_digest_and_verify(source: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    digest = run(main, ["digest", str(source)]).stdout.strip()
    packed = run(main, ["pack", str(source), str(tmp_path / "kept.zip")])
    assert packed.stdout.strip() == digest
    assert packed.exit_code == 0
    for path in (source, tmp_path / "kept.zip"):
        assert run(main, ["verify", str(path), "--digest", digest.upper()]).exit_code == 0
        wrong = run(main, ["verify", str(path), "--digest", "0" * 64])
        assert wrong.exit_code == 1
        assert f"has the digest {digest}, expected 000" in wrong.stdout
    refused = run(main, ["pack", str(source), str(tmp_path / "kept.zip")])
    assert refused.exit_code == 1
    assert "exists; nothing was touched" in refused.stderr


@pytest.mark.parametrize("form", ["kept.zarr", "kept.zip"])
def test_a_second_packer_to_the_same_place_is_refused(source: Path, tmp_path: Path, form: str) -> None:
    tried = []

    def second(_done: int, _total: int) -> None:
        if not tried:
            with pytest.raises(RecordingInUseError, match="is being packed by somebody else"):
                packed_at(source, tmp_path / form)
            tried.append(True)

    place = packed_at(source, tmp_path / form, progress=second)
    assert tried
    assert answers(place) == answers(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, form])


def test_packing_leaves_what_somebody_else_keeps_there(source: Path, tmp_path: Path) -> None:
    others = [tmp_path / "kept.zip.partial.zip", tmp_path / "kept.zip.partial" / "mine"]
    others[1].parent.mkdir()
    for other in others:
        other.write_text("mine")
    packed_at(source, tmp_path / "kept.zip")
    assert [other.read_text() for other in others] == ["mine", "mine"]
    with pytest.raises(RecordingExistsError, match="lies inside"):
        packed_at(source, source / "inner.zarr")


def test_an_archive_that_only_we_can_read_is_not_sound(source: Path, tmp_path: Path) -> None:
    place = packed_at(source, tmp_path / "kept.zip")
    data = bytearray(place.read_bytes())
    data[data.index(b"layers/") + 2] ^= 1  # in the header of an entry
    place.write_bytes(data)
    assert answers(place) == answers(source)
    assert ["kept.zip" in str(problem) for problem in find_problems(reader_of(place))] == [True]


def test_the_ranks_of_a_run_are_packed_beside_each_other(tmp_path: Path) -> None:
    for rank in range(2):
        provenance = RankRecord("id", rank, 2).to_provenance()
        write(tmp_path / f"run.rank-{rank:05}-of-00002.zarr", provenance=provenance)
    result = CliRunner().invoke(main, ["pack", str(tmp_path / "run.zarr"), str(tmp_path / "kept.zip")])
    assert result.exit_code == 0, result.output
    packed = analysis.open_recording(tmp_path / "kept.zip")
    assert len(packed.recordings) == 2
    assert packed.digest() == analysis.open_recording(tmp_path / "run.zarr").digest()
    assert result.stdout == f"{packed.digest()}\n"


class _Busy(Files):
    """Answers that it is busy, or refuses, before it answers."""

    answers: list[int]

    def send_head(self) -> Any:
        if self.answers:
            self.send_error(self.answers.pop(0))
            return None
        return super().send_head()


@pytest.mark.parametrize(("statuses", "is_read"), [([503, 503], True), ([403] * 9, False)])
def test_a_web_server_that_is_busy_is_asked_again_and_one_that_refuses_is_named(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statuses: list[int], is_read: bool
) -> None:
    pytest.importorskip("aiohttp")
    monkeypatch.setattr("recorder.stores.zarr_stores._WEB_WAITS", (0.0, 0.0, 0.0, 0.0))
    packed_at(source, tmp_path / "kept.zip")
    _Busy.answers = statuses
    with serving(tmp_path, _Busy) as web:
        if is_read:
            assert analysis.open_recording(f"{web}/kept.zip").firing_rate() > 0
        else:
            with pytest.raises(StoreAccessError, match="403"):
                analysis.open_recording(f"{web}/kept.zip")


def test_connections_stay_and_are_no_part_of_what_a_digest_is_of(tmp_path: Path) -> None:
    layers = {"1": np.ones((16, 3, 7), bool), "3": np.ones((16, 9), bool)}
    for name, connections in (("with", CONNECTIONS), ("without", None)):
        write_recording(tmp_path / name, layers, [Run(0, 4, 4)], connections=connections)
    packed = reader_of(packed_at(tmp_path / "with", tmp_path / "packed.zip"))
    assert packed.metadata.connections == CONNECTIONS
    assert packed.metadata.digest == digest_recording(reader_of(tmp_path / "without"))
    recording = analysis.open_recording(tmp_path / "packed.zip")
    assert recording["3"].synaptic_operations().values == 16 * 9 * 4
