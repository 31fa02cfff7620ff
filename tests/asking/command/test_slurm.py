"""The batch files in scripts/slurm, run by a real SLURM: from sbatch to figures."""

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
from numpy.typing import NDArray

import slurm_node
from tapes import Run, write_recording

pytest.importorskip("dask_jobqueue")
pytest.importorskip("cryptography")

BATCH_FILES = Path(__file__).parents[3] / "scripts" / "slurm"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    missing = slurm_node.missing()
    if missing is not None:
        pytest.skip(missing)
    with slurm_node.one_node(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


@pytest.fixture
def spikes(tmp_path: Path) -> NDArray[np.bool_]:
    """Spikes of a recording ``run.zarr``, beside which lie files of the user that are called as we are."""
    spikes = np.random.default_rng(3).random((4000, 30)) < 0.1
    write_recording(tmp_path / "run.zarr", {"1": spikes}, [Run(0, 400, 10)], chunk_bytes=1000)
    for name in ("analysis", "recorder"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('this is the {name}.py of the user')")
    return spikes


def run(folder: Path, environment: Mapping[str, str], command: str, *arguments: str) -> None:
    done = subprocess.run(
        [str(shutil.which(command, path=environment["PATH"])), *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    logs = {log.name: log.read_text() for log in folder.glob("*.[lo][ou]*")}
    assert done.returncode == 0, (done, logs)


def test_the_batch_file_leads_from_sbatch_to_figures(
    tmp_path: Path, environment: Mapping[str, str], spikes: NDArray[np.bool_]
) -> None:
    # What a user would adapt in the file.
    adapted = {
        "SPIKETAPE_JOBS": "2",
        "DASK_JOBQUEUE__SLURM__CORES": "1",
        "DASK_JOBQUEUE__SLURM__MEMORY": "300MB",
        "DASK_JOBQUEUE__SLURM__INTERFACE": "lo",
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
    }
    options = ["--per", "window", "--window", "100", "--format", "csv", "-o", "rates.csv"]
    batch = ["--wait", "--mem=200M", str(BATCH_FILES / "rates.sbatch")]
    run(tmp_path, {**environment, **adapted}, "sbatch", *batch, "run.zarr", *options)
    table = pd.read_csv(tmp_path / "rates.csv")
    windows = spikes.reshape(4, 1000, 30)
    assert table.window.tolist() == [0, 100, 200, 300]
    assert table.firing_rate.tolist() == [window.sum() / window.size for window in windows]
    assert table.silent_ratio.tolist() == [0.0] * 4
    assert not list(tmp_path.glob(".dask-jobqueue*"))


def test_a_job_array_makes_the_parts_of_a_table(
    tmp_path: Path, environment: Mapping[str, str], spikes: NDArray[np.bool_]
) -> None:
    adapted = {**environment, "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"}
    question = ["run.zarr", "--what", "firing_rate,silent_ratio", "--per", "window", "--window", "100"]
    batch = ["--wait", "--mem=400M", "--cpus-per-task=1", str(BATCH_FILES / "stats.sbatch")]
    run(tmp_path, adapted, "sbatch", "--array=0-2", *batch, *question)
    # One of them again, by itself.
    parts = [tmp_path / f"part-{shard}.npz" for shard in range(3)]
    parts[1].unlink()
    run(tmp_path, {**adapted, "SPIKETAPE_SHARDS": "3"}, "sbatch", "--array=1", *batch, *question)
    run(tmp_path, adapted, "spiketape", "merge", *map(str, parts), "-o", "table.csv")
    table = pd.read_csv(tmp_path / "table.csv")
    assert table.firing_rate.tolist() == [each.sum() / each.size for each in spikes.reshape(4, 1000, 30)]
    assert sorted(each.name for each in tmp_path.glob("part*")) == [part.name for part in parts]
