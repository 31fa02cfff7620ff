"""The command `spiketape`, as scripts and people use it."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

import analysis
from analysis.cli import commands
from analysis.cli.tables.output import write_csv_for_spreadsheets
from analysis.display import printable
from tapes import Run, Trial, write_recording

EVIL = "=cmd|' /C calc'!A0"


@pytest.fixture
def path(tmp_path: Path) -> str:
    random = np.random.default_rng(5)
    layers = {
        "1": random.random((400, 3, 7)) < 0.2,
        EVIL: random.random((400, 9)) < 0.01,
        "\x1b[2J": np.zeros((400, 1), np.bool_),
    }
    trials = [Trial(0, 8, {"label": ["-a", "b"] * 4}), Trial(1, 8)]
    runs = [Run(0, 20, 8, 0), Run(20, 30, 8, 1)]
    write_recording(
        tmp_path / "run.zarr",
        layers,
        runs,
        trials,
        provenance={"host": "\x1b[31mred", "versions": {"torch": "2"}},
    )
    return str(tmp_path / "run.zarr")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(commands.main, arguments)


def done(*arguments: str) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def test_info_shows_what_is_inside(path: str) -> None:
    shown = done("info", path)
    assert "3 × 7" in shown
    assert "closed, last commit" in shown
    assert r"host         \x1b[31mred" in shown
    assert 'versions     {"torch": "2"}' in shown
    assert "\x1b" not in shown


def test_info_as_json(path: str) -> None:
    facts = json.loads(done("info", path, "--format", "json"))
    layer = facts["layers"][0]
    assert (layer["name"], layer["neuron_shape"], layer["steps"], layer["frames"]) == ("1", [3, 7], 50, 400)
    spikes = Path(path, "layers/1/spikes")
    assert layer["stored_bytes"] == sum(f.stat().st_size for f in spikes.rglob("*") if f.is_file())
    assert layer["bits_per_slot"] == layer["stored_bytes"] * 8 / (400 * 21)
    assert facts["provenance"]["versions"] == {"torch": "2"}


def test_info_where_a_store_cannot_list(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise NotImplementedError

    monkeypatch.setattr("recorder.stores.files.folder.Folder.size", refuse)
    assert "unknown" in done("info", path)
    assert json.loads(done("info", path, "--format", "json"))["stored_bytes"] is None


def test_rates_for_each_layer(path: str) -> None:
    recording = analysis.open_recording(path)
    rows = json.loads(done("rates", path, "--format", "json"))
    assert [row["layer"] for row in rows] == list(recording)
    assert [row["firing_rate"] for row in rows] == recording.firing_rate(per="layer").values.tolist()
    assert [row["silent_ratio"] for row in rows] == recording.silent_ratio(per="layer").values.tolist()


def test_a_table_aligns_and_escapes(path: str) -> None:
    lines = done("rates", path).splitlines()
    assert lines[0].split() == ["layer", "firing_rate", "silent_ratio"]
    assert lines[3].startswith(r"\x1b[2J")
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    ("options", "columns", "rows"),
    [
        (["--per", "network"], ["firing_rate", "silent_ratio"], 1),
        (["--per", "step", "--steps", "10:20"], ["step", "firing_rate", "silent_ratio"], 10),
        (["--per", "step", "--steps", "-5:"], ["step", "firing_rate", "silent_ratio"], 5),
        (["--per", "window", "--window", "20"], ["window", "firing_rate", "silent_ratio"], 3),
        (["--per", "layer,trial"], ["layer", "trial", "firing_rate", "silent_ratio"], 6),
        (["--per", "label"], ["label", "firing_rate", "silent_ratio"], 2),
        (["--per", "neuron", "--layer", "1"], ["channel", "length", "firing_rate", "silent_ratio"], 21),
        (["--layer", "1", "--layer", EVIL], ["layer", "firing_rate", "silent_ratio"], 2),
    ],
)
def test_rates_per_anything(path: str, options: list[str], columns: list[str], rows: int) -> None:
    table = pd.read_csv(io.StringIO(done("rates", path, *options, "--format", "csv")))
    assert list(table.columns) == columns
    assert len(table) == rows


def test_csv_that_is_safe_holds_no_formulas(path: str) -> None:
    rows = list(csv.reader(io.StringIO(done("rates", path, "--format", "csv", "--safe"))))
    assert rows[2][0] == f"'{EVIL}"
    labels = list(csv.reader(io.StringIO(done("rates", path, "--per", "label", "--format", "csv", "--safe"))))
    assert [row[0] for row in labels] == ["label", "'-a", "b"]


# What may be made of a cell by who parts lines at commas, at semicolons or at tabs, with quotes and without.
def cells_of(text: str) -> list[str]:
    quoted = [
        cell for mark in ",;\t" for row in csv.reader(io.StringIO(text), delimiter=mark) for cell in row
    ]
    bare = [cell for line in text.splitlines() for mark in ";\t" for cell in line.split(mark)]
    return [cell.strip(' "') for cell in quoted + bare]


@given(st.lists(st.text(st.sampled_from("=+-@;,\t\r\n\"' a1\uff1d"), max_size=9), min_size=1))
def test_csv_that_is_safe_holds_no_formulas_wherever_cells_are_parted(labels: list[str]) -> None:
    table = pd.DataFrame({"label": labels, "rate": [0.5] * len(labels), "other": labels})
    with tempfile.TemporaryDirectory() as folder:
        write_csv_for_spreadsheets(table, Path(folder) / "out.csv")
        text = (Path(folder) / "out.csv").read_bytes().decode()
    assert not [cell for cell in cells_of(text) if cell.startswith(("=", "+", "-", "@", "\uff1d"))]
    written = [row[0] for row in csv.reader(io.StringIO(text))][1:]
    assert [cell.replace("'", "") for cell in written] == [
        printable(label).replace("'", "") for label in labels
    ]


def test_nothing_to_divide_by(tmp_path: Path) -> None:
    write_recording(tmp_path / "run.zarr", {"1": np.zeros((0, 3), np.bool_)}, [])
    nothing = ["rates", str(tmp_path / "run.zarr"), "--per", "network"]
    assert json.loads(done(*nothing, "--format", "json")) == [{"firing_rate": None, "silent_ratio": None}]
    assert done(*nothing).splitlines()[1].split() == ["–", "–"]


def test_output_goes_to_a_file(path: str, tmp_path: Path) -> None:
    wanted = done("rates", path, "--format", "csv")
    assert done("rates", path, "--format", "csv", "-o", str(tmp_path / "out.csv")) == ""
    assert (tmp_path / "out.csv").read_bytes().decode() == wanted


def test_parquet(path: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    done("rates", path, "--per", "label", "--format", "parquet", "-o", str(tmp_path / "out.parquet"))
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert table.label.tolist() == ["-a", "b"]
    assert (
        table.firing_rate.tolist() == analysis.open_recording(path).firing_rate(per="label").values.tolist()
    )


def test_parquet_of_labels_of_several_kinds(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    trials = [Trial(0, 3, {"label": ["a", 2.5, False]})]
    write_recording(tmp_path / "a", {"1": np.ones((6, 2), np.bool_)}, [Run(0, 2, 3, 0)], trials)
    done(
        "rates",
        str(tmp_path / "a"),
        "--per",
        "label",
        "--format",
        "parquet",
        "-o",
        str(tmp_path / "out.parquet"),
    )
    assert pd.read_parquet(tmp_path / "out.parquet").label.tolist() == ["a", "2.5", "False"]


def test_parquet_without_pyarrow(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.cli.tables.output.find_spec", lambda name: None)
    result = call("rates", path, "--format", "parquet", "-o", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "needs pyarrow: pip install 'spiketape[analysis]'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["rates", "{path}", "--layer", "2"], 2, "no layer is named '2'; the layers are: '1'"),
        (["rates", "{path}", "--steps", "5"], 2, "'5' is no range of steps; expected A:B"),
        (["rates", "{path}", "--steps", "a:b"], 2, "'a:b' is no range of steps"),
        (["rates", "{path}", "--steps", "20:10"], 2, "'20:10' holds no step; expected A below B"),
        (["rates", "{path}", "--per", "layer, stepp"], 2, "'stepp' is unknown"),
        (["rates", "nope://bucket/run.zarr"], 1, "nope://bucket/run.zarr cannot be opened"),
        (["rates", "{path}", "--per", "neurons"], 2, "'neurons' is unknown"),
        (["rates", "{path}", "--per", "neuron"], 2, "needs one layer: choose it with --layer NAME"),
        (["rates", "{path}", "--per", "channel", "--layer", EVIL], 2, "has no channels"),
        (["rates", "{path}", "--per", "window"], 2, "needs the length of a window"),
        (["rates", "{path}", "--window", "5"], 2, "--window 5 was given, but --per layer; pass --per window"),
        (["rates", "{path}", "--steps", "50:"], 2, "nothing is left of what was recorded by --steps 50:"),
        (["rates", "{path}", "--format", "parquet"], 2, "say where with -o FILE"),
        (["rates", "{path}", "-o", "/nowhere/at/all.txt"], 1, "No such file or directory"),
        (["rates", "{path}/nothing"], 1, "no recording at"),
        (["info", "{path}/nothing"], 1, "no recording at"),
    ],
)
def test_mistakes_get_a_message_and_a_status(
    path: str, arguments: list[str], status: int, message: str
) -> None:
    result = call(*(argument.format(path=path) for argument in arguments))
    assert result.exit_code == status
    assert message in result.stderr
    assert "\x1b" not in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_damage_is_a_message(path: str) -> None:
    next(file for file in Path(path, "layers/1/counts/c").rglob("*") if file.is_file()).write_bytes(b"junk")
    result = call("rates", path)
    assert result.exit_code == 1
    assert "is damaged" in result.stderr


def test_a_missing_package_is_named_without_a_traceback() -> None:
    for package in ("click", "dask"):
        code = f"import sys; sys.modules['{package}'] = None; from analysis.cli import main; main()"
        command = [sys.executable, "-c", code, "info", "run.zarr"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 1
        assert run.stderr.startswith(f"spiketape: {package}")
        assert "pip install 'spiketape[analysis]'" in run.stderr
        assert "Traceback" not in run.stderr
