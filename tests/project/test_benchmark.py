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


# Sections that take some seconds; the others are left to `-m long`.
QUICK = ("calls", "short")
FIGURES = {
    "recording": "run time",
    "values": "values 0 to 4",
    "signals": "processor time with v of conv2.spikes",
    "calls": "cost per call",
    "short": "short recording",
    "encoding": "spiketape ÷ zstd alone",
    "memory": "peak memory",
    "storage": "bits per slot",
    "analysis": "each label",
    "questions": "intervals",
    "opening": "chunks",
    "scaling": "worker",
    "many recordings": "recordings, seconds",
    "elsewhere": "load presentations",
}


@pytest.mark.parametrize("sections", [QUICK, pytest.param((), marks=pytest.mark.long)], ids=["quick", "all"])
def test_sections_print_tables_and_write_figures(sections: tuple[str, ...], tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    chosen = [argument for section in sections for argument in ("--section", section)]
    printed = run(*chosen, "-o", str(output), "--cache", str(tmp_path))
    found = json.loads(output.read_text())
    for table in found["tables"]:
        assert table["title"] in printed
        assert table["rows"]
    measured = " ".join(figure["name"] for figure in found["figures"])
    for section, what in FIGURES.items():
        assert what in measured or (sections and section not in sections)
    assert found["skipped"] == []
    assert found["machine"]["torch"]


def test_sections_that_lack_their_device_are_skipped_visibly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from benchmarks.__main__ import main

    arguments = ["--quick", "--device", "cuda", "--section", "recording", "--cache", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])
    main()
    assert "Not measured: recording: there is no CUDA device" in capsys.readouterr().out


def test_simulated_encoders_gain_what_the_lock_and_the_writing_thread_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from benchmarks.recorded.simulated_encoding import ChunkCosts, simulate

    free = ChunkCosts(append=0.0, free=1.0, locked=0.0, write=0.0)
    assert simulate(free, 1) == pytest.approx(1)
    assert simulate(free, 7, chunks=7000) == pytest.approx(7)
    # One lock, or one thread that appends, lets so many through, however many encoders there are.
    assert simulate(free._replace(locked=0.5), 7) == pytest.approx(2, rel=0.01)
    assert simulate(free._replace(append=0.25), 7) == pytest.approx(4, rel=0.01)
    assert simulate(free._replace(write=1.0), 2) == pytest.approx(1, rel=0.01)
