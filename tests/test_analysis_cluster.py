"""Statistics on a real dask.distributed cluster, with worker processes in a folder of the user's."""

from __future__ import annotations

import os
import pickle
import pickletools
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from tapes import Run, Trial, write_recording

import analysis
import recorder.format
from analysis import planning

WORKERS = 2


@pytest.fixture(scope="module")
def spikes() -> np.ndarray:
    return np.random.default_rng(7).random((60_000, 5, 20)) < 0.1


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, spikes: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("cluster") / "run.zarr"
    runs = [Run(trial * 50, 50, 100, trial) for trial in range(12)]
    trials = [
        Trial(trial, 100, {"label": [(trial + sample) % 3 for sample in range(100)]}) for trial in range(12)
    ]
    write_recording(path, {"1": spikes}, runs, trials, chunk_bytes=8000)
    return path


def questions(recording: Any) -> list[Any]:
    layer = recording["1"]
    return [
        recording.firing_rate(),
        recording.silent_ratio(per="layer"),
        layer.spike_count(per="neuron"),
        layer.spike_count(per=("label", "neuron")),
        layer.silent_ratio(per="label"),
        layer.firing_rate(per="step"),
        layer.silent_ratio(per="trial"),
        layer.firing_rate(per=("window", "channel"), window=70),
        recording.select(steps=slice(3, 431), labels=[1]).firing_rate(per="layer"),
        layer.spikes[100:200],
        layer.spikes.label[:50],
    ]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, list[subprocess.Popen[bytes]]]]:
    distributed = pytest.importorskip("distributed")
    folder = tmp_path_factory.mktemp("analysis of the user")
    (folder / "analysis.py").write_text("raise ImportError('this is the analysis.py of the user')")
    environment = {**os.environ, "PYTHONPATH": str(Path(recorder.format.__file__).parents[2])}
    cluster = distributed.LocalCluster(n_workers=0, dashboard_address=None, host="127.0.0.1")
    workers = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address),
                *("--no-nanny", "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1"),
                *("--local-directory", str(folder / "scratch")),
            ],
            cwd=folder,
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(WORKERS)
    ]
    try:
        with distributed.Client(cluster) as client:
            client.wait_for_workers(WORKERS, timeout=60)
            yield client, workers
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        cluster.close()


@pytest.fixture
def many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "SMALL_TASK_BYTES", 80_000)
    monkeypatch.setattr(planning, "MANY_TASKS", 10**9)


def imported_by(pickled: bytes) -> set[str]:
    """Texts in a pickle that could be names of modules."""
    return {str(value) for _, value, _ in pickletools.genops(pickled) if isinstance(value, str)}


@pytest.mark.usefixtures("many_tasks")
def test_graphs_refer_to_nothing_of_this_package(path: Path) -> None:
    for result in questions(analysis.open_recording(path)):
        (optimised,) = dask.optimize(result.data)
        names = imported_by(pickle.dumps(dict(optimised.__dask_graph__())))
        assert not {name for name in names if name == "analysis" or name.startswith("analysis.")}
        assert any(name.startswith("recorder.format") for name in names)


@pytest.mark.usefixtures("many_tasks")
def test_every_statistic_is_exact_on_a_cluster(path: Path, cluster: tuple[Any, Any]) -> None:
    for use_counts in (True, False):
        asked = questions(analysis.open_recording(path, use_counts=use_counts))
        wanted = dask.compute(*asked, scheduler="synchronous")
        found = dask.compute(*asked)
        for one, other in zip(wanted, found, strict=True):
            np.testing.assert_array_equal(one.values, other.values)


@pytest.mark.usefixtures("many_tasks")
def test_a_worker_that_is_killed_changes_nothing(
    path: Path, cluster: tuple[Any, Any], spikes: np.ndarray
) -> None:
    client, workers = cluster
    layer = analysis.open_recording(path, use_counts=False)["1"]
    future = client.compute(layer.silent_ratio(per="step") + layer.firing_rate(per="step").sum())
    while not future.done() and not all(client.processing().values()):
        time.sleep(0.01)
    workers[0].kill()
    by_step = spikes.reshape(600, 100, 100)
    wanted = 1 - by_step.any(axis=1).mean(axis=1) + by_step.mean(axis=(1, 2)).sum()
    np.testing.assert_allclose(future.result(timeout=60).values, wanted, rtol=1e-12)
