"""The fuzz targets of scripts/fuzz still run, for a moment each; scripts/fuzz itself takes its time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "scripts/attacks/fuzz.py"
# Each process takes seconds to begin: the others are left to `-m long`.
FEW = ("metadata", "damaged_chunk", "values", "shard")
OTHERS = ("stored_chunk", "spikes", "segments", "trials", "categories", "archive", "lock")


@pytest.mark.parametrize(
    "targets", [FEW, pytest.param(OTHERS, marks=pytest.mark.long)], ids=["few", "others"]
)
def test_no_target_finds_anything_in_a_moment(targets: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python or machine")
    environment = {**os.environ, "PYTHONPATH": str(FUZZ.parents[2])}
    processes = {
        target: subprocess.Popen(
            [sys.executable, FUZZ, target, "--runs", "500"],
            cwd=tmp_path,  # where it leaves what it finds
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for target in targets
    }
    printed = {target: process.communicate()[0] for target, process in processes.items()}
    for target, process in processes.items():
        assert process.returncode == 0, f"{target}: {printed[target]}"
        assert "number_of_executed_units: 500" in printed[target]
