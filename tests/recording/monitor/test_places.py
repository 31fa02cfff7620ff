"""Places as users name them: brackets, homes, archives; and file systems that answer as real ones do."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import zarr.storage
from click.testing import CliRunner

import analysis
from analysis.cli import commands
from analysis.cli.tables import output
from one_layer import monitor_of, rate, write
from recorder.format import RecordingNotFoundError, StoreError
from recorder.keeping import pack_recording
from recorder.stores import Folder, open_store
from recorder.stores.rank_names import rank_location
from recorder.tape import TapeReader
from tapes import Run, Trial, write_recording

# -- names that look like patterns ---------------------------------------------------------------------------

# What each would match as a pattern.
NAMES = {
    "run[lr=0.1].zarr": "runl.zarr",
    "run[1].zarr": "run1.zarr",
    "a?.zarr": "ab.zarr",
    "a*.zarr": "abc.zarr",
    "b].zarr": "b.zarr",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_itself_first_and_a_pattern_only_where_nothing_has_it(tmp_path: Path, name: str) -> None:
    write(tmp_path / NAMES[name], fires=False)
    write(tmp_path / name)
    assert rate(str(tmp_path / name)) == 1
    assert list(analysis.open_recording(str(tmp_path / name)).recordings) == [name]


@pytest.mark.parametrize("name", NAMES)
def test_ranks_of_a_name_that_looks_like_a_pattern_are_found(tmp_path: Path, name: str) -> None:
    write(tmp_path / NAMES[name], fires=False)
    for rank in range(2):
        distributed = {"distributed": {"run": "x", "rank": rank, "ranks": 2}}
        write(rank_location(str(tmp_path / name), rank, 2), provenance=distributed)
    assert rate(str(tmp_path / name)) == 1
    assert len(analysis.open_recording(tmp_path / name).recordings) == 2


def test_a_damaged_store_is_not_replaced_by_what_its_name_would_match(tmp_path: Path) -> None:
    write(tmp_path / "run1.zarr")
    write(tmp_path / "run[1].zarr")
    (tmp_path / "run[1].zarr" / "zarr.json").unlink()
    with pytest.raises(RecordingNotFoundError, match=r"run\[1\]\.zarr: it has no zarr\.json"):
        analysis.open_recording(tmp_path / "run[1].zarr")


def test_patterns_go_on_to_match(tmp_path: Path) -> None:
    write(tmp_path / "run1.zarr")
    write(tmp_path / "run2.zarr", fires=False)
    assert rate(str(tmp_path / "run[12].zarr")) == 0.5


def test_a_bucket_has_names_that_look_like_patterns_too(object_store: Any) -> None:
    options = object_store.options
    place = "s3://runs/patterns"
    for name, fires in (("run1.zarr", False), ("run[1].zarr", True)):
        write(open_store(f"{place}/{name}", read_only=False, storage_options=options), fires)
    again = open_store(f"{place}/run[1].zarr", read_only=False, storage_options=options)
    again.delete("writer.lock")
    again.clear(["layers", "trials"])
    left = list(again.keys())
    assert not any(key.startswith(("layers", "trials", "zarr.json", "writer.lock")) for key in left), (
        "what is there by that very name goes"
    )
    assert rate(f"{place}/run1.zarr", storage_options=options) == 0, "what the name would match stays"


# -- homes ---------------------------------------------------------------------------------------------------


def test_a_tilde_is_home_wherever_a_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with monitor_of("~/run.zarr") as monitor:
        monitor._hooks._network(torch.ones(2, 3))
    assert monitor.store == str(tmp_path / "run.zarr")
    assert rate("~/run.zarr") == rate(Path("~/run.zarr")) == rate("~/r*.zarr") == 1
    call("pack", "~/run.zarr", "~/run.zip")
    call("rates", "~/run.zip", "-o", "~/rates.csv")
    assert {"run.zip", "rates.csv"} <= {path.name for path in tmp_path.iterdir()}
    assert not (tmp_path / "~").exists()
    write(tmp_path / "plain")
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store("nope://~/run.zarr", read_only=True)


# -- archives ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run.zip", "RUN.ZIP"])
def test_a_new_recording_in_an_archive_is_refused_with_the_way_to_get_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError) as refused:
        monitor_of(tmp_path / name)
    folder_name = tmp_path / f"{name[:-4]}.zarr"
    assert f"`spiketape pack {folder_name} {tmp_path / name}`" in str(refused.value)
    assert list(tmp_path.iterdir()) == []
    with monitor_of(folder_name) as monitor:
        monitor._hooks._network(torch.ones(2, 3))
    call("pack", str(folder_name), str(tmp_path / name))
    assert rate(tmp_path / name) == 1
    with pytest.raises(StoreError, match="spiketape pack"):
        monitor_of(tmp_path / name, overwrite=True)


@pytest.mark.parametrize("mode", ["r", "a", "w"])
def test_a_zip_store_that_was_never_opened_is_read_and_never_truncated(tmp_path: Path, mode: Any) -> None:
    write(tmp_path / "run.zarr")
    pack_recording(TapeReader.open(Folder(tmp_path / "run.zarr")), str(tmp_path / "run.zip"))
    before = (tmp_path / "run.zip").read_bytes()
    store = zarr.storage.ZipStore(tmp_path / "run.zip", mode=mode)
    assert rate(store) == 1
    with pytest.raises(StoreError, match=r"only read.*`spiketape pack .*run\.zarr .*run\.zip`"):
        monitor_of(store)
    assert (tmp_path / "run.zip").read_bytes() == before
    with pytest.raises(RecordingNotFoundError, match="there is no such archive"):
        analysis.open_recording(zarr.storage.ZipStore(tmp_path / "other.zip", mode=mode))


# -- tables --------------------------------------------------------------------------------------------------


def call(*arguments: str) -> str:
    result = CliRunner().invoke(commands.main, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


LABELS = [
    "=1+1",
    "-a",
    "@x",
    "+1",
    "a,b",
    'say "x"',
    "two\nlines",
    "\ttab",
    "back\rhere",
    " blank ",
    "\x1b[31m",
    "",
]


@pytest.fixture
def labelled(tmp_path: Path) -> str:
    trials = [Trial(0, len(LABELS), {"label": LABELS})]
    spikes = np.ones((2 * len(LABELS), 3), np.bool_)
    write_recording(tmp_path / "run.zarr", {"a": spikes}, [Run(0, 2, len(LABELS), 0)], trials)
    return str(tmp_path / "run.zarr")


@pytest.mark.parametrize("name", ["x.csv", "x.CSV", "x.json", "x.parquet", "x.txt"])
def test_the_name_of_the_file_says_the_format(labelled: str, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert call("rates", labelled, "-o", str(path)) == ""
    read: dict[str, Callable[[Path], Any]] = {
        ".csv": lambda path: pd.read_csv(path).firing_rate.item(),
        ".json": lambda path: json.loads(path.read_text())[0]["firing_rate"],
        ".parquet": lambda path: pd.read_parquet(path).firing_rate.item(),
        ".txt": lambda path: float(path.read_text().split()[-2]),
    }
    assert read[path.suffix.lower()](path) == 1.0


def test_what_is_asked_for_goes_before_the_name(labelled: str, tmp_path: Path) -> None:
    call("rates", labelled, "-o", str(tmp_path / "x.csv"), "--format", "json")
    assert json.loads((tmp_path / "x.csv").read_text())[0]["firing_rate"] == 1


@pytest.mark.parametrize("name", ["x.xlsx", "rates", "x.csv.gz"])
def test_a_name_that_says_no_format_is_refused_with_those_that_do(
    labelled: str, tmp_path: Path, name: str
) -> None:
    result = CliRunner().invoke(commands.main, ["rates", labelled, "-o", str(tmp_path / name)])
    assert result.exit_code == 2
    assert ".csv, .json, .parquet, .txt" in " ".join(result.stderr.split())
    assert not (tmp_path / name).exists()


def test_csv_keeps_labels_exactly_as_they_are(labelled: str, tmp_path: Path) -> None:
    written = call("rates", labelled, "--per", "label", "--format", "csv")
    call("rates", labelled, "--per", "label", "-o", str(tmp_path / "x.csv"))
    for text in (written, (tmp_path / "x.csv").read_bytes().decode()):
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        assert sorted(row["label"] for row in rows) == sorted(LABELS)


def test_csv_on_a_terminal_does_nothing_to_it(labelled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "sys", SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True)))
    assert "\x1b" not in call("rates", labelled, "--per", "label", "--format", "csv")


def test_csv_that_is_safe_has_no_formula(labelled: str, tmp_path: Path) -> None:
    call("rates", labelled, "--per", "label", "--safe", "-o", str(tmp_path / "x.csv"))
    labels = pd.read_csv(tmp_path / "x.csv", keep_default_na=False).label
    assert not labels.str.startswith(("=", "+", "-", "@", "\t", "\r")).any()
    assert "'=1+1" in set(labels)
    result = CliRunner().invoke(commands.main, ["rates", labelled, "--safe", "--format", "json"])
    assert (result.exit_code, "--safe is for CSV" in result.stderr) == (2, True)
