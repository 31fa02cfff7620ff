"""Commands that run in somebody else's folder run nothing of it, in the command itself or in its children."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from processes import finished, python
from tapes import Run, write_recording

ROOT = Path(__file__).parents[2]

# What is imported by the command, by Dask, by workers, and by Python itself where it starts others.
NAMES = (
    "analysis", "cloudpickle", "dask", "distributed", "fsspec", "multiprocessing", "numcodecs", "numpy",
    "pandas", "queue", "random", "recorder", "signal", "sitecustomize", "socket", "spiketape_scheduler",
    "spiketape_worker", "ssl", "struct", "tempfile", "threading", "usercustomize", "xarray", "yaml", "zarr",
)  # fmt: skip
# Python itself has to find the package, and imports this and that before a line of it runs.
FOUND_BY_PYTHON = {"analysis"}

SCRIPT = "import sys\nfrom analysis.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n"


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A recording with files in it that say that they have been run."""
    path = tmp_path / "run.zarr"
    write_recording(path, {"1": np.ones((640, 3), np.bool_)}, [Run(0, 640, 1)])
    for name in NAMES:
        (path / f"{name}.py").write_text(
            f"import os\nos.open({str(tmp_path / 'ran-')!r} + {name!r}, os.O_CREAT)\nraise SystemExit(3)\n"
        )
    return path


def run(folder: Path, *command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    ran = sorted(path.name.removeprefix("ran-") for path in folder.parent.glob("ran-*"))
    assert ran == [], done.stderr
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def script(tmp_path: Path) -> str:
    """The command as it is installed: a file of a folder of its own."""
    path = tmp_path / "bin" / "spiketape"
    path.parent.mkdir()
    path.write_text(SCRIPT)
    return str(path)


def test_the_command_runs_nothing_of_the_recording_that_it_is_called_in(recording: Path, script: str) -> None:
    assert "640" in run(recording, script, "info", ".")
    assert (
        run(recording, script, "rates", ".", "--format", "csv")
        == "layer,firing_rate,silent_ratio\n1,1.0,0.0\n"
    )


def test_the_module_form_imports_nothing_of_the_recording_that_it_is_called_in(recording: Path) -> None:
    for name in FOUND_BY_PYTHON:
        (recording / f"{name}.py").unlink()
    for module in ("analysis.cli", "analysis.cli.__main__"):
        assert "640" in run(recording, "-m", module, "info", ".")


def test_the_module_form_works_in_the_folder_of_our_packages(tmp_path: Path) -> None:
    write_recording(tmp_path / "run.zarr", {"1": np.ones((640, 3), np.bool_)}, [Run(0, 640, 1)])
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")
    }
    command = [sys.executable, "-m", "analysis.cli", "info", str(tmp_path / "run.zarr")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert "640" in done.stdout, done.stderr


@pytest.mark.parametrize("form", ["script", "module"])
def test_workers_run_nothing_of_the_folder_that_the_command_is_called_in(
    recording: Path, script: str, form: str
) -> None:
    pytest.importorskip("cryptography")
    if form == "module":
        for name in FOUND_BY_PYTHON:
            (recording / f"{name}.py").unlink()
    command = [script] if form == "script" else ["-m", "analysis.cli"]
    asked = [*command, "rates", ".", "--per", "window", "--window", "64", "--format", "csv"]
    assert run(recording, *asked, "--cluster", "local:2") == run(recording, *asked)


# In a process of its own: dask-jobqueue leaves files with keys open, which others would be told of.
SUBMITTED = """
import sys
import dask
from dask_jobqueue.slurm import SLURMCluster
from analysis.cli import clusters

SLURMCluster.scale = lambda self, jobs: print(self.job_script())
settings = {
    "jobqueue.slurm.cores": 1,
    "jobqueue.slurm.memory": "300MB",
    "jobqueue.slurm.interface": "lo",
    "jobqueue.slurm.shared-temp-directory": sys.argv[1],
    "jobqueue.slurm.job-script-prologue": ["module load something"],
}
with dask.config.set(settings), clusters.cluster("slurm"):
    pass
"""


def test_jobs_of_slurm_are_told_to_leave_the_working_folder_out(tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue.slurm")
    pytest.importorskip("cryptography")
    with python(SUBMITTED, tmp_path) as process:
        lines = finished(process).splitlines()
    worker = next(place for place, line in enumerate(lines) if "dask_worker" in line)
    assert lines.index("module load something") < lines.index("export PYTHONSAFEPATH=1") < worker
