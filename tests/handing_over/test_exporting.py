"""An export is there as a whole or not at all, whoever asks for it, and whoever writes its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import polars as pl
import pytest
from click.testing import CliRunner

import analysis
from analysis.arguments import QuestionError
from analysis.cli import clusters, commands
from analysis.export import parquet
from exported_events import read
from recorder.format import RecordingFormatError


def test_what_is_there_is_never_replaced(path: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(QuestionError, match=r"out exists, and an export never replaces anything"):
        analysis.open_recording(path).export(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_export_that_fails_leaves_nothing(path: Path, tmp_path: Path) -> None:
    next((path / "layers" / "features.3" / "spikes").rglob("c/1/0")).unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RecordingFormatError, match=r"features\.3"):
        analysis.open_recording(path).export(tmp_path / "out", digest=False)
    assert sorted(tmp_path.iterdir()) == before


def test_an_export_is_under_its_name_only_when_it_is_whole(path: Path, tmp_path: Path) -> None:
    seen = []

    def run(*tasks: Any) -> tuple[Any, ...]:
        seen.append([entry.name for entry in tmp_path.iterdir()])
        return dask.compute(*tasks)

    analysis.open_recording(path).export(tmp_path / "out", digest=False, run=run)
    (names,) = seen
    assert "out" not in names
    assert next(name for name in names if name.startswith("out.")).endswith(".partial")


def test_a_folder_that_workers_do_not_share_is_an_error(path: Path, tmp_path: Path) -> None:
    def elsewhere(*tasks: Any) -> tuple[Any, ...]:
        written = dask.compute(*tasks)
        for file in tmp_path.glob("out.*.partial/layer=1/*"):
            file.unlink()
        return written

    with pytest.raises(OSError, match="workers must write to the same folder"):
        analysis.open_recording(path).export(tmp_path / "out", digest=False, run=elsewhere)


@pytest.mark.parametrize("what", ["csv", ""])
def test_other_forms_are_refused(path: Path, tmp_path: Path, what: Any) -> None:
    with pytest.raises(QuestionError, match="expected 'parquet' or 'nwb'"):
        analysis.open_recording(path).export(tmp_path / "out", what)


def test_urls_are_refused(path: Path) -> None:
    with pytest.raises(QuestionError, match="is a URL; expected a path"):
        analysis.open_recording(path).export("s3://bucket/out")


def test_the_command_exports_the_part_that_is_chosen(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "out"
    arguments = ["export", str(path), str(out), "--layer", "1", "--where", "label=dog", "--time", "2:5"]
    result = CliRunner().invoke(commands.main, arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr.endswith("out: 1 layer(s), parquet\n")
    part = analysis.open_recording(path).select(layers="1", labels="dog", time=slice(2, 5))
    assert read(out, "1").height == int(part.spike_count("network"))
    again = CliRunner().invoke(commands.main, arguments)
    assert again.exit_code == 2
    assert "exists" in again.stderr


def test_workers_of_a_cluster_write_the_files_and_read_the_table(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "PART_BYTES", 512)
    recording = analysis.open_recording(path)
    here = recording.export(tmp_path / "here")
    with clusters.cluster("local:2"):
        there = recording.export(tmp_path / "there")
        table = recording["1"].events().compute()
    files = sorted(file.relative_to(here) for file in here.rglob("*.parquet"))
    assert files == sorted(file.relative_to(there) for file in there.rglob("*.parquet"))
    assert len(files) > 6
    for file in files:
        assert pl.read_parquet(here / file).equals(pl.read_parquet(there / file))
    counts = recording["1"].spike_count("neuron").compute().values.ravel()
    assert table.groupby("neuron").size().tolist() == counts.tolist()
