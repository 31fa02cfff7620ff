"""What is in a report: the numbers of the public statistics, said in lines that anybody can run."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import analysis
from analysis.cli import commands
from analysis.report import report_text
from reported import data_of, make_recording, numbers_of

ROOT = Path(__file__).parents[3]
ASSETS = ROOT / "analysis" / "report" / "assets"


def test_each_line_gives_the_figures_that_it_stands_under(
    recording: analysis.Recording, report: Path
) -> None:
    data = data_of(report.read_text())
    checked = 0
    for picture in data["pictures"]:
        if picture["kind"] in ("raster", "matrix"):  # some neurons of the answer
            continue
        for table in picture["tables"].values():
            for number, layer in enumerate(data["layers"]):
                figure = table["layers"][0][number] if "layers" in table else table["data"][0]
                if figure is None:
                    continue
                (line,) = table["lines"]
                line = line if isinstance(line, str) else line[number]
                answer = eval(line.replace("⟨layer⟩", layer["literal"]), {"recording": recording})  # noqa: S307
                assert answer.name == figure["name"]
                np.testing.assert_array_equal(numbers_of(figure), answer.values)
                checked += 1
    assert checked > 40


def test_the_same_recording_gives_the_same_bytes_wherever_it_lies(report: Path, tmp_path: Path) -> None:
    elsewhere = analysis.open_recording(make_recording(tmp_path / "run.zarr"))
    again = elsewhere.report(tmp_path / "again.html").read_text()
    # Recordings are told apart by when they were made; all else is the same.
    when = re.compile(r"20\d\d-\d\d-\d\dT[\d:.+]+|\b[0-9a-f]{64}\b")
    assert when.sub("", again) == when.sub("", report.read_text())
    assert elsewhere.report(tmp_path / "once more.html").read_text() == again


def test_a_page_that_would_be_too_large_leaves_out_what_is_of_one_layer(
    recording: analysis.Recording, report: Path
) -> None:
    whole = len(report.read_bytes())
    text = report_text([recording], limit_bytes=whole - 1)
    assert len(text.encode()) < whole
    pictures = {picture["name"]: picture for picture in data_of(text)["pictures"]}
    rate = pictures["maps"]["tables"]["rate"]
    assert [figure is None for figure in rate["layers"][0]] == [False, True, False]
    assert "page stays small" in rate["said"][0][1]
    assert pictures["time"]["tables"]["rate"]["data"][0]["shape"] == [3, 10]


def test_the_policy_allows_what_is_in_the_page_by_its_hash_and_nothing_else(report: Path) -> None:
    text = report.read_text()
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="(.*?)">', text)
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives["default-src"] == "'none'"
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        inline = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in inline]
        assert directives[directive] == " ".join(f"'sha256-{each}'" for each in hashes)
    assert not re.search(r"""(src|href)=["'](?!#)|url\(|@import|\son\w+=["']""", text.split("<script")[0])


def test_uplot_is_the_one_that_was_vendored_and_has_its_licence() -> None:
    expected = (ROOT / "scripts" / "vendored" / "uplot.sha256").read_text()
    found = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted((ASSETS / "uplot").iterdir())
    ]
    assert "".join(found) == expected
    assert "MIT License" in (ASSETS / "uplot" / "LICENSE").read_text()


def test_the_wheel_has_all_that_a_report_holds(tmp_path: Path) -> None:
    python = os.environ.get("SPIKETAPE_ANALYSIS_PYTHON")
    if not python:
        pytest.skip("SPIKETAPE_ANALYSIS_PYTHON names no environment with the wheel; scripts/test sets it")
    # Where the package lies there, without the seconds that its import takes.
    script = (
        "import importlib.util; print(importlib.util.find_spec('analysis').submodule_search_locations[0])"
    )
    environment = {**os.environ, "PYTHONPATH": ""}
    command = [python, "-P", "-c", script]
    told = subprocess.run(command, check=True, env=environment, cwd=tmp_path, capture_output=True, text=True)
    installed = Path(told.stdout.strip()) / "report" / "assets"
    assert installed != ASSETS
    held = {path.relative_to(ASSETS): path.read_bytes() for path in ASSETS.rglob("*") if path.is_file()}
    assert {place: (installed / place).read_bytes() for place in held} == held


def test_command_writes_what_the_method_writes(
    recording: analysis.Recording, report: Path, tmp_path: Path
) -> None:
    output = tmp_path / "told.html"
    outcome = CliRunner().invoke(commands.main, ["report", recording.location, "-o", str(output)])
    assert outcome.exit_code == 0, outcome.output
    assert output.read_bytes() == report.read_bytes()


def test_damage_is_an_error_that_names_it_and_leaves_no_file(tmp_path: Path) -> None:
    path = make_recording(tmp_path / "run.zarr")
    next(each for each in (path / "layers" / "1" / "spikes" / "c").rglob("0") if each.is_file()).unlink()
    with pytest.raises(analysis.RecordingFormatError, match="1"):
        analysis.open_recording(path).report(tmp_path / "report.html")
    assert not list(tmp_path.glob("*report*"))
