"""The demo runs: a network is trained, recorded and, in another process, analysed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATH = os.pathsep.join([str(ROOT), str(ROOT / "scripts")])


def run(module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"demonstration.{module}", *arguments]
    environment = {**os.environ, "PYTHONPATH": PATH}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def test_demo_records_and_reports(tmp_path: Path) -> None:
    # One epoch is enough to see that it learns; chance is 10 %.
    recorded = run("record", str(tmp_path), "--epochs=1")
    assert (tmp_path / "digits.zarr" / "zarr.json").is_file()
    percent = float(recorded.rpartition("%")[0].rpartition(" ")[2])
    assert percent > 50

    reported = run("report", str(tmp_path))
    for layer in ("conv1.spikes", "conv2.spikes", "output.spikes"):
        assert layer in reported
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")
