"""The batch file in scripts/slurm, run by a real SLURM: from sbatch to figures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import slurm_node
from tapes import Run, write_recording

pytest.importorskip("dask_jobqueue")
pytest.importorskip("cryptography")

BATCH_FILE = Path(__file__).parents[2] / "scripts" / "slurm" / "rates.sbatch"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    missing = slurm_node.missing()
    if missing is not None:
        pytest.skip(missing)
    with slurm_node.one_node(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def test_the_batch_file_leads_from_sbatch_to_figures(tmp_path: Path, environment: Mapping[str, str]) -> None:
    spikes = np.random.default_rng(3).random((4000, 30)) < 0.1
    write_recording(tmp_path / "run.zarr", {"1": spikes}, [Run(0, 400, 10)])
    for name in ("analysis", "recorder"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('this is the {name}.py of the user')")
    # What a user would adapt in the file.
    adapted = {
        "SPIKETAPE_JOBS": "2",
        "DASK_JOBQUEUE__SLURM__CORES": "1",
        "DASK_JOBQUEUE__SLURM__MEMORY": "300MB",
        "DASK_JOBQUEUE__SLURM__INTERFACE": "lo",
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
    }
    options = ["--per", "window", "--window", "100", "--format", "csv", "-o", "rates.csv"]
    sbatch = str(shutil.which("sbatch"))
    done = subprocess.run(
        [sbatch, "--wait", "--mem=200M", str(BATCH_FILE), "run.zarr", *options],
        cwd=tmp_path,
        env={**environment, **adapted, "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    logs = {log.name: log.read_text() for log in tmp_path.glob("*.[lo][ou]*")}
    assert done.returncode == 0, (done, logs)
    table = pd.read_csv(tmp_path / "rates.csv")
    windows = spikes.reshape(4, 1000, 30)
    assert table.window.tolist() == [0, 100, 200, 300]
    assert table.firing_rate.tolist() == [window.sum() / window.size for window in windows]
    assert table.silent_ratio.tolist() == [0.0] * 4
    assert not list(tmp_path.glob(".dask-jobqueue*"))
