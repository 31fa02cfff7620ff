"""Statistics on a real dask.distributed cluster, with worker processes in a folder of the user's."""

from __future__ import annotations

import ast
import os
import pickle
import pickletools
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from click.testing import CliRunner

import analysis
import recorder.format
from analysis.asking import planning
from analysis.cli import clusters, commands, progress
from analysis.keeping import find_problems
from analysis.kernels.counting.tasks import add_up
from recorder.format.connections import Connections, FanOut, InputReader, Reader
from recorder.stores import Folder
from recorder.tape import TapeReader
from spiketape_worker import Parcel
from tapes import Made, Run, Trial, write_recording

WORKERS = 2


@pytest.fixture(scope="module")
def spikes() -> np.ndarray:
    return np.random.default_rng(7).random((30_000, 5, 20)) < 0.1


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, spikes: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("cluster") / "run.zarr"
    runs = [Run(trial * 50, 50, 100, trial) for trial in range(6)]
    trials = [
        Trial(trial, 100, {"label": [(trial + sample) % 3 for sample in range(100)]}) for trial in range(6)
    ]
    borders = FanOut(2, (None, (2, *[3] * 18, 2)))
    readers = (Reader("2", "Conv1d", (2, 5, 3), borders, None),)
    inputs = (InputReader("0", "Linear", 800, 700, 8, is_binary=False),)
    connections = Connections({"1": readers}, inputs)
    signals = {("1", "v"): Made(np.cumsum(spikes, axis=0) * 0.5, every=7, samples=9)}
    beside = {"connections": connections, "signals": signals}
    write_recording(path, {"1": spikes}, runs, trials, chunk_bytes=8000, **beside)
    return path


@pytest.fixture(scope="module")
def graded_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Levels from -3 to 3, negative and large ones from a later chunk on, quartered."""
    random = np.random.default_rng(8)
    levels = random.integers(0, 2, (6000, 3, 7), np.int8)
    levels[2000:] = random.integers(-3, 4, (4000, 3, 7), np.int8)
    path = tmp_path_factory.mktemp("graded") / "run.zarr"
    runs = [Run(trial * 50, 50, 40, trial) for trial in range(3)]
    trials = [Trial(trial, 40, {"label": [sample % 3 for sample in range(40)]}) for trial in range(3)]
    write_recording(path, {"1": levels}, runs, trials, chunk_bytes=400, scales={"1": 0.25})
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
        layer.saturated_ratio(per="label", threshold=0.1),
        layer.firing_rate(per=("window", "channel"), window=70),
        recording.select(steps=slice(3, 231), labels=[1]).firing_rate(per="layer"),
        layer.firing_rate(("time", "label", "channel")),
        layer.spike_count("presentation"),
        layer.select(time=slice(3, 9), samples=[0, 2], channels=0).silent_ratio("sample"),
        layer.isi_histogram("label", longest=7),
        layer.isi_cv("presentation"),
        layer.isi_cv2("neuron"),
        recording.isi_lv(boundary="none"),
        layer.latency("trial"),
        recording.latency_censored("layer"),
        layer.autocorrelation(3, "label"),
        recording.rate_histogram(4, "layer"),
        layer.synchrony("label"),
        layer.active_histogram(),
        layer.correlation(window=5),
        layer.fano_factor("neuron"),
        recording.features("1"),
        recording.fano_factor("layer"),
        layer.sparseness(),
        layer.sparseness("neuron", over="presentations"),
        layer.participation_ratio(("label", "time")),
        recording.synaptic_operations("layer"),
        layer.synaptic_operations(("label", "channel")),
        recording.energy("trial"),
        recording.energy("trial").input_layer,
        layer.select(trials=[0], samples=slice(0, 50)).participation_ratio(),
        layer.selectivity("neuron"),
        layer.select(neurons=np.s_[:1, :]).selectivity(),
        layer.information(correction="miller-madow"),
        layer.information(kind="skaggs"),
        recording.similarity(),
        layer.similarity(layer.select(neurons=np.s_[:2, ::3])),
        layer.signals["v"].mean(("label", "channel")),
        layer.signals["v"].std("step"),
        layer.signals["v"].max("presentation"),
        layer.signals["v"].histogram([0, 0.25, 1], "trial"),
        layer.signals["v"].spike_triggered_average(3, 3),
        layer.signals["v"].values[100:200],
        layer.signals["v"].values.label[:50],
        layer.spikes[100:200],
        layer.spikes.label[:50],
    ]


def questions_of_values(recording: Any) -> list[Any]:
    layer = recording["1"]
    return [
        recording.firing_rate(of="sum"),
        layer.firing_rate(("label", "channel"), of="sum"),
        layer.spike_count("step", of="magnitude"),
        layer.select(steps=slice(20, 131)).firing_rate("neuron", of="sum"),
        layer.values[1900:2300],
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where scheduler and workers are started: files of the user's own are called as our packages are."""
    folder = tmp_path_factory.mktemp("work of the user")
    for name in ("analysis", "recorder"):
        (folder / f"{name}.py").write_text(f"raise ImportError('this is the {name}.py of the user')")
    return folder


@contextmanager
def cluster_in(
    folder: Path, workers: int, *options: str
) -> Iterator[tuple[Any, list[subprocess.Popen[bytes]]]]:
    """A client of a cluster whose processes were started in a folder, and the processes of its workers."""
    distributed = pytest.importorskip("distributed")
    environment = {**os.environ, "PYTHONPATH": str(Path(recorder.format.__file__).parents[2])}
    contact = folder / "scheduler.json"

    def start(what: str, *options: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", f"distributed.cli.dask_{what}"),
                *("--scheduler-file", str(contact), "--host", "127.0.0.1", *options),
            ],
            cwd=folder,
            env=environment,
            stderr=subprocess.DEVNULL,
        )

    processes = [start("scheduler", "--port", "0", "--dashboard-address", "127.0.0.1:0")]
    # Nannies start their workers anew; what is killed below has none.
    alone = ("--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder / "scratch"))
    processes += [start("worker", *alone, *options) for _ in range(workers)]
    try:
        with distributed.Client(scheduler_file=str(contact), timeout=60) as client:
            client.wait_for_workers(workers, timeout=60)
            yield client, processes[1:]
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[tuple[Any, list[subprocess.Popen[bytes]]]]:
    with cluster_in(folder, WORKERS) as started:
        yield started


@pytest.fixture
def many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "SMALL_TASK_BYTES", 80_000)
    monkeypatch.setattr(planning, "MANY_TASKS", 10**9)


def modules_named_by(pickled: bytes) -> list[str]:
    """Texts in a pickle that could be names of modules, in the order in which they are met."""
    return [str(value) for _, value, _ in pickletools.genops(pickled) if isinstance(value, str)]


@pytest.mark.usefixtures("many_tasks")
def test_graphs_name_what_is_ours_only_inside_parcels(path: Path, graded_path: Path) -> None:
    asked = questions(analysis.open_recording(path))
    for result in asked + questions_of_values(analysis.open_recording(graded_path)):
        (optimised,) = dask.optimize(result.data)
        names = modules_named_by(pickle.dumps(dict(optimised.__dask_graph__())))
        roots = {name.partition(".")[0] for name in names}
        assert "spiketape_worker" in roots
        assert not roots & {"analysis", "recorder"}


@pytest.mark.usefixtures("many_tasks")
def test_every_statistic_is_exact_on_a_cluster(
    path: Path, graded_path: Path, cluster: tuple[Any, Any]
) -> None:
    for use_counts in (True, False):
        asked = questions(analysis.open_recording(path, use_counts=use_counts))
        asked += questions_of_values(analysis.open_recording(graded_path, use_counts=use_counts))
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
    by_step = spikes.reshape(300, 100, 100)
    wanted = 1 - by_step.any(axis=1).mean(axis=1) + by_step.mean(axis=(1, 2)).sum()
    np.testing.assert_allclose(future.result(timeout=60).values, wanted, rtol=1e-12)


def test_verification_runs_on_a_cluster(path: Path, cluster: tuple[Any, Any]) -> None:
    assert find_problems(TapeReader.open(Folder(path))) == []


def test_a_report_is_the_same_on_a_cluster(cluster: tuple[Any, Any], tmp_path: Path) -> None:
    write_recording(tmp_path / "run.zarr", {"1": np.arange(120).reshape(40, 3) % 7 == 0}, [Run(0, 10, 4)])
    recording = analysis.open_recording(tmp_path / "run.zarr")
    there = recording.report(tmp_path / "there.html").read_bytes()
    with dask.config.set(scheduler="synchronous"):
        here = recording.report(tmp_path / "here.html").read_bytes()
    assert there == here


def python_in(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(recorder.format.__file__).parents[2])}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_what_a_parcel_holds_is_ours_wherever_it_is_opened(folder: Path) -> None:
    parcel = Parcel(add_up)
    assert parcel([np.array([1]), np.array([2])]).tolist() == [3]
    opened = f"parcel = pickle.loads({pickle.dumps(parcel)!r}); print(parcel, parcel.content)"
    run = python_in(folder, f"import pickle; {opened}")
    assert run.stdout.startswith("Parcel(add_up) <function add_up"), run.stderr


def test_a_parcel_that_nobody_has_opened_is_handed_on(folder: Path) -> None:
    handed_on = f"pickle.dumps(pickle.loads({pickle.dumps(Parcel(add_up))!r}))"
    run = python_in(folder, f"import pickle, sys; print({handed_on}); assert 'recorder' not in sys.modules")
    assert run.returncode == 0, run.stderr
    assert pickle.loads(ast.literal_eval(run.stdout)).content is add_up  # noqa: S301 - our own


@pytest.mark.parametrize("name", ["recorder", "analysis"])
def test_a_worker_that_has_imported_a_file_of_the_user_says_so_at_once(
    path: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / f"{name}.py").write_text("its_own = True")
    with cluster_in(tmp_path, 1, "--preload", name) as (client, workers):
        future = client.compute(analysis.open_recording(path).firing_rate())
        with pytest.raises(ImportError, match="PYTHONSAFEPATH=1") as caught:
            future.result(timeout=30)
        assert str(tmp_path / f"{name}.py") in str(caught.value)
        assert workers[0].poll() is None
        assert client.submit(abs, -1).result(timeout=30) == 1


@pytest.mark.usefixtures("many_tasks")
def test_the_command_line_computes_where_it_is_told(
    path: Path, folder: Path, cluster: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[tuple[int, int]] = []
    count = progress.Progress.__call__
    monkeypatch.setattr(
        progress.Progress, "__call__", lambda work, *at: counted.append(at) or count(work, *at)
    )
    client = cluster[0]
    wanted = CliRunner().invoke(commands.main, ["rates", str(path), "--per", "step", "--format", "csv"])
    tasks = counted[-1][1]
    for where in (client.scheduler.address, str(folder / "scheduler.json")):
        options = ["--per", "step", "--format", "csv", "--cluster", where]
        found = CliRunner().invoke(commands.main, ["rates", str(path), *options])
        assert found.stdout == wanted.stdout
        assert counted[-1] == (tasks, tasks)
    verified = CliRunner().invoke(commands.main, ["verify", str(path), "--cluster", where])
    assert verified.exit_code == 0
    assert "sound" in verified.stderr


def listening() -> set[Any]:
    """Where this process and its children accept connections."""
    import psutil

    this = psutil.Process()
    found = [each for process in (this, *this.children(recursive=True)) for each in process.net_connections()]
    return {each.laddr for each in found if each.status == psutil.CONN_LISTEN}


def test_a_cluster_of_this_machine_is_reached_from_it_alone(path: Path) -> None:
    pytest.importorskip("cryptography")
    from distributed import default_client

    recording = analysis.open_recording(path)
    before = listening()
    with clusters.cluster("local:2"):
        client = default_client()
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        workers = client.scheduler_info()["workers"]
        assert [worker.startswith("tls://127.0.0.1:") for worker in workers] == [True, True]
        assert {address.ip for address in listening() - before} == {"127.0.0.1"}
        on_cluster = recording.firing_rate(per="layer").compute()
    np.testing.assert_array_equal(on_cluster, recording.firing_rate(per="layer").compute(scheduler="threads"))


def test_a_cluster_with_certificates_is_reached_as_dask_is_configured(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from distributed import LocalCluster, Security, default_client

    made = Security.temporary()
    settings: dict[str, Any] = {"distributed.comm.require-encryption": True}
    for role in ("client", "scheduler", "worker"):
        for what, text in made.get_tls_config_for_role(role).items():
            file = tmp_path / f"{role}-{what}.pem"
            file.write_text(text or "")
            place = "ca-file" if what == "ca_file" else f"{role}.{what}"
            if what in ("ca_file", "cert", "key"):
                settings[f"distributed.comm.tls.{place}"] = str(file)
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=1,
            processes=False,
            host="127.0.0.1",
            protocol="tls://",
            security=Security(),
            dashboard_address="127.0.0.1:0",
        ) as started,
        clusters.cluster(started.scheduler_address),
    ):
        assert default_client().scheduler.address.startswith("tls://")
        assert analysis.open_recording(path).firing_rate().compute() > 0


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nowhere", "'nowhere' is no cluster; expected local, local:N"),
        ("local:0", "is no cluster"),
        ("slurm:2", "DASK_JOBQUEUE__SLURM__CORES=4"),
    ],
)
def test_a_cluster_that_cannot_be_is_a_message(path: Path, where: str, message: str) -> None:
    if where.startswith("slurm"):
        pytest.importorskip("dask_jobqueue")
    found = CliRunner().invoke(commands.main, ["rates", str(path), "--cluster", where])
    assert found.exit_code == 1
    assert message in found.stderr
    assert "Traceback" not in found.output


def test_what_a_cluster_needs_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    found = CliRunner().invoke(commands.main, ["rates", str(path), "--cluster", "local"])
    assert found.exit_code == 1
    assert "pip install 'spiketape[cluster]'" in found.stderr
