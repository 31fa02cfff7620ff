"""What stands beside exported events: of which recordings they are, and the digest of these."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import analysis
from analysis.cli.commands import main
from analysis.export import parquet
from committed_recordings import RECORDINGS
from recorder.keeping import digest
from tapes import Run, Trial, write_recording

RUNS = [Run(0, 20, 8, 0), Run(20, 15, 8, 1), Run(40, 15, 8)]
TRIALS = [Trial(0, 8, {"label": ["cat"] * 8}), Trial(1, 8, {"label": ["dog", None] * 4})]
STEP = {"dt": 0.5, "dt_unit": "ms"}


def spikes(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).random((400, *shape)) < 0.2


def test_metadata_says_what_was_exported(tmp_path: Path) -> None:
    layers = {"1": spikes(3, 4, 5), "features.3": spikes(9)}
    write_recording(tmp_path / "run.zarr", layers, RUNS, TRIALS, chunk_bytes=256, provenance=STEP)
    recording = analysis.open_recording(tmp_path / "run.zarr")
    recording.export(tmp_path / "out")
    document = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert [document[name] for name in ("digest", "dt", "dt_unit")] == [recording.digest(), 0.5, "ms"]
    assert document["recordings"][0]["recording_id"] == recording.metadata.recording_id
    assert document["layers"][0]["neuron_shape"] == [3, 4, 5]
    for file in (document["layers"][1]["files"][0]["file"], "trials.parquet", "neurons.parquet"):
        about = json.loads(pq.read_schema(tmp_path / "out" / file).metadata[b"spiketape"])
        assert about["recordings"] == document["recordings"]
        # Files of events are there before the digest is known.
        assert about["digest"] == (None if file.startswith("layer=") else document["digest"])
    assert document["selected"] == {}
    recording.select(layers="1", steps=slice(3, 30), labels="dog").export(tmp_path / "part")
    document = json.loads((tmp_path / "part" / "metadata.json").read_text())
    assert document["digest"] is None
    assert document["selected"] == {"steps": [3, 30], "labels": ["dog"]}


@pytest.mark.filterwarnings("ignore::recorder.format.errors.LostFramesWarning")
@pytest.mark.parametrize("name", ["values.zarr", "lost.zarr", "signals.zarr", "parts.zarr"])
def test_the_digest_is_found_while_events_are_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "PART_BYTES", 64)
    recording = analysis.open_recording(shutil.copytree(RECORDINGS / name, tmp_path / "run.zarr"))
    out = recording.export(tmp_path / "out")
    assert json.loads((out / "metadata.json").read_text())["digest"] == recording.digest()


@pytest.mark.filterwarnings("ignore::recorder.format.errors.LostFramesWarning")
def test_the_digest_has_lost_frames_at_the_beginning_and_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "LEAF_BYTES", 64 * 9 // 8)
    monkeypatch.setattr(parquet, "PART_BYTES", 250)
    write_recording(tmp_path / "run.zarr", {"1": spikes(9)}, RUNS, TRIALS, chunk_bytes=72)
    chunks = sorted((tmp_path / "run.zarr/layers/1/spikes/c").rglob("*"), key=lambda path: path.name.zfill(9))
    files = [path for path in chunks if path.is_file()]
    for chunk in (files[0], files[-1]):
        chunk.unlink()
    told = CliRunner().invoke(main, ["recover", str(tmp_path / "run.zarr"), "--mark-lost", "--apply"])
    assert told.exit_code == 0, told.output
    recording = analysis.open_recording(tmp_path / "run.zarr")
    assert recording["1"].lost_frames > 64
    out = recording.export(tmp_path / "out")
    assert json.loads((out / "metadata.json").read_text())["digest"] == recording.digest()


def test_the_digest_of_several_recordings_and_of_leaves_in_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Leaves of 128 frames, chunks of 64, files of 192 and 256.
    monkeypatch.setattr(digest, "LEAF_BYTES", 128 * 9 // 8)
    monkeypatch.setattr(parquet, "PART_BYTES", 250)
    for name in "ab":
        layers = {"1": np.roll(spikes(9), ord(name), axis=0)}
        write_recording(tmp_path / name, layers, RUNS, TRIALS, chunk_bytes=72)
    recording = analysis.open_recording([tmp_path / "a", tmp_path / "b"])
    out = recording.export(tmp_path / "out")
    document = json.loads((out / "metadata.json").read_text())
    assert len(document["layers"][0]["files"]) > 2
    assert document["digest"] == recording.digest()
