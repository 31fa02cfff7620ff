"""The benchmark runs: every section once, with tiny sizes. How fast, no test says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATH = os.pathsep.join([str(ROOT), str(ROOT / "scripts")])


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks", "--quick", *arguments]
    # More threads than cores are free wait for each other.
    environment = {**os.environ, "PYTHONPATH": PATH, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def test_every_section_prints_tables_and_writes_figures(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    printed = run("-o", str(output), "--cache", str(tmp_path))
    found = json.loads(output.read_text())
    for table in found["tables"]:
        assert table["title"] in printed
        assert table["rows"]
    measured = " ".join(figure["name"] for figure in found["figures"])
    for what in (
        "run time",
        "values 0 to 4",
        "processor time with v of conv2.spikes",
        "cost per call",
        "peak memory",
        "bits per slot",
        "each label",
        "intervals",
        "chunks",
        "worker",
        "recordings, seconds",
        "load presentations",
    ):
        assert what in measured
    assert found["skipped"] == []
    assert found["machine"]["torch"]


def test_sections_that_lack_their_device_are_skipped_visibly(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    printed = run("--device", "cuda", "--section", "recording", "--cache", str(tmp_path))
    assert "Not measured: recording: there is no CUDA device" in printed
