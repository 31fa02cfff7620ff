"""What needs no torch passes its tests where there is none, on this Python and with the newest Zarr."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
# Those that record with torch, and those that it is enough to pass once, which is elsewhere.
ELSEWHERE = (
    *("encoding", "links", "live", "lock", "lost", "pressure", "progress", "slurm", "verification"),
    *("batches", "command_help", "kept_counts", "pack", "packed_damage", "rearranging"),
    *("shards", "stats_command", "watching", "joint", "identity", "writing"),
)
FOLDERS = {
    # What users of an analysis begin with, on the oldest Python: the installed packages never miss torch.
    "SPIKETAPE_ANALYSIS_PYTHON": ("asking/command", "asking/opening"),
    # What meets Zarr itself: stores, layouts, archives.
    "SPIKETAPE_NEWEST_ZARR_PYTHON": ("keeping", "tape"),
}


def without_torch(folders: tuple[str, ...]) -> list[str]:
    return sorted(
        str(path)
        for folder in folders
        for path in (TESTS / folder).glob("test_*.py")
        if path.stem.removeprefix("test_") not in ELSEWHERE
    )


@pytest.mark.timeout(1200)  # a whole run of tests each
@pytest.mark.parametrize("variable", FOLDERS)
def test_what_needs_no_torch_passes_where_there_is_none(variable: str, tmp_path: Path) -> None:
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"{variable} names no interpreter of an environment without torch; scripts/test sets it")
    has_torch = subprocess.run([python, "-P", "-c", "import torch"], capture_output=True, check=False)
    assert has_torch.returncode != 0
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'tests'}"]
    with (tmp_path / "output").open("w+") as output:
        try:
            # -P: the installed packages are tested, not the folder that the tests are in.
            run = subprocess.run(
                [python, "-P", *command, *without_torch(FOLDERS[variable])],
                cwd=TESTS.parent,
                env={**os.environ, "PYTHONPATH": ""},
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        finally:
            output.seek(0)
            said = output.read()
            print(said[-20_000:])  # noqa: T201 - shown if this fails or hangs; what was skipped, with -rP
    assert run.returncode == 0
    assert int(re.search(r"(\d+) passed", said)[1]) > 100  # type: ignore[index]


def test_zarr_is_the_newest_where_it_should_be() -> None:
    python = os.environ.get("SPIKETAPE_NEWEST_ZARR_PYTHON")
    if not python:
        pytest.skip("SPIKETAPE_NEWEST_ZARR_PYTHON is not set: no Python 3.12 or newer was found")
    script = "import sys, zarr; print(sys.version_info >= (3, 12), zarr.__version__)"
    answer = subprocess.run([python, "-P", "-c", script], capture_output=True, text=True, check=True).stdout
    newer, version = answer.split()
    assert newer == "True"
    assert tuple(map(int, version.split(".")[:2])) >= (3, 4)


def test_an_environment_that_is_active_is_not_made_again() -> None:
    base = str(Path(sys._base_executable).with_name("python3"))  # type: ignore[attr-defined]
    names = {
        subprocess.run(
            ["bash", "-c", 'source scripts/environments.sh; echo "$python"'],  # noqa: S607 - as it is run
            cwd=TESTS.parent,
            env={**os.environ, "PYTHON": python},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for python in (sys.executable, base)
    }
    assert len(names) == 1
