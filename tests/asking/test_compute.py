"""Several answers computed together read each chunk once, and are what they are one by one."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.array.optimization import optimize
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

import analysis
from analysis.asking import planning, populations
from analysis.asking.rounds import calls_in, graph_of, join_rounds
from analysis.kernels import rounds
from recorder.tape import LayerReader
from spiketape_scheduler import SpikeLayer, overlapping
from tapes import Run, Trial, write_recording

STATISTICS = ("firing_rate", "silent_ratio", "saturated_ratio", "spike_count")
Read = list[tuple[str, int]]


def trials() -> list[Trial]:
    labels = [sample % 3 for sample in range(20)]
    return [Trial(trial, 20, {"label": labels, "epoch": [trial % 2] * 20}) for trial in range(10)]


def runs() -> list[Run]:
    return [Run(trial * 10, 10, 20, trial) for trial in range(10)]


@pytest.fixture
def recording(tmp_path: Path) -> analysis.Recording:
    random = np.random.default_rng(2)
    spikes = {"1": random.random((2000, 3, 4)) < 0.05, "3": random.random((2000, 7)) < 0.5}
    write_recording(tmp_path / "a", spikes, runs(), trials(), chunk_bytes=100, counts_share=0.25)
    return analysis.open_recording(tmp_path / "a")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[Read]:
    """The chunks that are read, in order."""
    seen: Read = []
    chunks = LayerReader.chunks

    def noted(self: LayerReader, wanted: Sequence[int], **how: bool) -> Iterator[np.ndarray]:
        wanted = list(wanted)
        seen.extend((self.name, chunk) for chunk in wanted)
        return chunks(self, wanted, **how)

    monkeypatch.setattr(LayerReader, "chunks", noted)
    with dask.config.set(scheduler="synchronous"):
        yield seen


def answers_of(recording: Any, *pers: Any, **options: Any) -> list[xr.DataArray]:
    return [getattr(recording, name)(per=per, **options) for per in pers for name in STATISTICS]


def read_twice(read: Read) -> set[tuple[str, int]]:
    assert len(read) > 3
    return {chunk for chunk in read if read.count(chunk) > 1}


@pytest.mark.parametrize(
    "per", ["layer", "network", "label", "epoch", ("layer", "label"), ("epoch", "label")]
)
def test_rates_ratios_and_counts_are_one_pass_for_whoever_computes_them(
    recording: analysis.Recording, read: Read, per: Any
) -> None:
    recording = recording.select(steps=slice(1, 99))  # so that some blocks are counted from their bits
    for together in (dask.compute, analysis.compute):
        read.clear()
        together(*answers_of(recording, per))
        assert read_twice(read) == set()
    read.clear()
    xr.Dataset({answer.name: answer for answer in answers_of(recording, per)}).compute()
    assert read_twice(read) == set()


PERS = (("layer", "label"), ("layer", "step"), ("layer", "trial"), ("layer", "time", "epoch"), "layer")


@pytest.mark.parametrize("together", [dask.compute, dask.persist, analysis.compute])
def test_whatever_is_kept_apart_is_one_pass_for_whoever_computes_it(
    recording: analysis.Recording, read: Read, together: Any
) -> None:
    answers = answers_of(recording, *PERS)
    dask.compute(*answers, optimize_graph=False)
    assert read_twice(read) != set()  # or there is nothing to show
    read.clear()
    found = together(*answers)
    assert read_twice(read) == set()
    for answer, value in zip(answers, found, strict=True):
        xr.testing.assert_identical(answer.compute(), value.compute())


def different_kinds(recording: analysis.Recording) -> list[Any]:
    layer = recording["1"]
    return [
        recording.firing_rate("layer"),
        recording.silent_ratio("time"),
        layer.isi_cv("neuron"),
        layer.isi_histogram("label", longest=5),
        layer.latency("trial"),
        layer.autocorrelation(3),
        layer.correlation(),
    ]


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_statistics_of_different_kinds_are_one_pass_of_dask(
    tmp_path: Path, read: Read, scheduler: str
) -> None:
    write_recording(
        tmp_path / "a",
        {"1": np.random.default_rng(3).random((2000, 3, 4)) < 0.2},
        runs(),
        trials(),
        chunk_bytes=100,
    )
    recording = analysis.open_recording(tmp_path / "a", use_counts=False)
    answers = different_kinds(recording)
    alone = [answer.compute() for answer in answers]
    assert read_twice(read) != set()
    read.clear()
    for value, wanted in zip(dask.compute(*answers, scheduler=scheduler), alone, strict=True):
        xr.testing.assert_identical(value, wanted)
    assert read_twice(read) == set()
    read.clear()
    named = xr.Dataset({f"answer {number}": answer.data.sum() for number, answer in enumerate(answers)})
    named.compute(scheduler=scheduler)
    assert read_twice(read) == set()


def test_workers_of_a_cluster_read_each_chunk_once(recording: analysis.Recording) -> None:
    distributed = pytest.importorskip("distributed")
    answers = answers_of(recording, *PERS)
    with dask.config.set(scheduler="synchronous"):
        alone = [answer.compute() for answer in answers]
    counted = """
import spiketape_worker
spiketape_worker.claim_packages()
from recorder.tape import LayerReader
chunks, spiketape_worker.read = LayerReader.chunks, []
def noted(self, wanted, **how):
    wanted = list(wanted)
    spiketape_worker.read.extend((self.name, int(chunk)) for chunk in wanted)
    return chunks(self, wanted, **how)
LayerReader.chunks = noted
"""
    where = {"host": "127.0.0.1", "dashboard_address": None, "n_workers": 2, "threads_per_worker": 1}
    with distributed.LocalCluster(**where) as cluster, distributed.Client(cluster) as client:
        client.run(exec, counted, {})
        found = dask.compute(*answers)
        read = [
            chunk
            for seen in client.run(eval, "__import__('spiketape_worker').read").values()
            for chunk in seen
        ]
    assert read_twice(read) == set()
    for value, wanted in zip(found, alone, strict=True):
        xr.testing.assert_identical(value, wanted)


def test_schedulers_join_tasks_without_our_packages(recording: analysis.Recording, tmp_path: Path) -> None:
    folder = tmp_path / "work of the user"
    folder.mkdir()
    for name in ("analysis", "recorder"):
        (folder / f"{name}.py").write_text(f"raise ImportError('this is the {name}.py of the user')")
    answers = answers_of(recording, *PERS)
    graph = HighLevelGraph.merge(*(answer.data.dask for answer in answers))
    keys = [*flatten([answer.data.__dask_keys__() for answer in answers])]
    (folder / "graph").write_bytes(pickle.dumps((graph, keys)))
    prepare = (
        "import pickle, sys\n"
        "from pathlib import Path\n"
        "from dask.array.optimization import optimize\n"
        "graph = dict(optimize(*pickle.loads(Path('graph').read_bytes())))\n"
        "assert not {'analysis', 'recorder'} & sys.modules.keys()\n"
        "print(sorted(key for key in graph if str(key).startswith('round-')))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(analysis.__file__).parents[1])}
    command = [sys.executable, "-c", prepare]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    here = optimize(graph, keys)
    rounds_here = sorted(key for key in here if str(key).startswith("round-"))
    assert len(rounds_here) == 2
    assert run.stdout.strip() == str(rounds_here)


@pytest.mark.parametrize("answer", range(7))
def test_the_tasks_of_one_answer_stay_as_they_are(
    recording: analysis.Recording, monkeypatch: pytest.MonkeyPatch, answer: int
) -> None:
    monkeypatch.setattr(planning, "SMALL_TASK_BYTES", 1200)
    data = different_kinds(recording)[answer].data
    layers = dict(data.dask.layers)
    ours = {name: layer for name, layer in layers.items() if isinstance(layer, SpikeLayer)}
    assert ours
    plain = HighLevelGraph(
        layers | {name: MaterializedLayer(layer.mapping) for name, layer in ours.items()},
        data.dask.dependencies,
    )
    assert {*optimize(data.dask, data.__dask_keys__())} == {*optimize(plain, data.__dask_keys__())}


def test_users_may_keep_dask_from_preparing_tasks(recording: analysis.Recording, read: Read) -> None:
    answers = answers_of(recording, *PERS)
    wanted = dask.compute(*answers)
    assert "array_optimize" not in dask.config.config
    for how in ({"array_optimize": None}, {"optimization.fuse.active": False}):
        read.clear()
        with dask.config.set(how):
            found = dask.compute(*answers)
        assert bool(read_twice(read)) is ("array_optimize" in how)
        for one, other in zip(wanted, found, strict=True):
            xr.testing.assert_identical(one, other)


def test_each_layer_of_a_culled_graph_has_the_rounds_it_takes_from(recording: analysis.Recording) -> None:
    answers = answers_of(recording, "step", "label")
    keys = {*flatten([answer.data.__dask_keys__() for answer in answers])}
    whole = HighLevelGraph.merge(*(answer.data.dask for answer in answers))
    # Culled twice over the same keys: the second time, nothing of the first one is joined.
    whole.cull({next(iter(keys))})
    culled = [layer for layer in whole.cull(keys).layers.values() if type(layer) is not MaterializedLayer]
    of_rounds = 0
    for layer in culled:
        tasks = dict(pickle.loads(pickle.dumps(layer)))  # noqa: S301 - our own
        taking = [key for key, task in tasks.items() if "result_of" in repr(task)]
        dask.get(tasks, [key for key in taking if isinstance(key, tuple) and "part" in key[0]])
        of_rounds += any(str(key).startswith("round-") for key in tasks)
    assert of_rounds > 1


def test_ranges_that_overlap_others_are_found() -> None:
    random = np.random.default_rng(4)
    for _ in range(300):
        ends = [(int(first), int(first + length)) for first, length in random.integers(1, 9, (5, 2))]
        wanted = {
            one
            for one, (first, last) in enumerate(ends)
            for other, (begin, end) in enumerate(ends)
            if one != other and first < end and begin < last
        }
        assert overlapping(ends) == wanted


def test_rounds_of_a_long_recording_share_no_more_than_chunks_at_their_borders(
    recording: analysis.Recording, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "SMALL_TASK_BYTES", 1200)
    answers = answers_of(recording, *PERS)
    found = analysis.compute(*answers)
    chunks = 2 * -(-2000 // 64)
    assert {layer.sources[0].commit.plan.chunk_frames for layer in recording.layers.values()} == {64}
    assert len(set(read)) == chunks
    assert max(map(read.count, read)) == 2
    assert len(read_twice(read)) < chunks / 5
    for answer, value in zip(answers, found, strict=True):
        xr.testing.assert_identical(answer.compute(), value)


@pytest.mark.parametrize("kept_bytes", [0, 150, 1000])
def test_what_does_not_fit_a_round_is_read_again(
    recording: analysis.Recording, read: Read, monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    monkeypatch.setattr(rounds, "KEPT_BYTES", kept_bytes)
    answers = answers_of(recording, "step", "label")
    found = analysis.compute(*answers)
    assert read_twice(read) != set()
    for answer, value in zip(answers, found, strict=True):
        xr.testing.assert_identical(answer.compute(), value)


def test_selections_of_neurons_and_samples_share_what_they_read(
    recording: analysis.Recording, read: Read
) -> None:
    layer = recording["1"]
    parts = [layer.select(samples=sample, channels=channel) for sample in (0, 5) for channel in (0, 2)]
    answers = [part.spike_count(per=("trial", "neuron")) for part in parts]
    found = analysis.compute(*answers)
    assert read_twice(read) == set()
    for answer, value in zip(answers, found, strict=True):
        xr.testing.assert_identical(answer.compute(), value)


def test_correlations_share_what_they_read(
    recording: analysis.Recording, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = recording["1"]
    answers = [layer.isi_cv(), layer.correlation(), layer.correlation(window=3), layer.spike_count("trial")]
    found = analysis.compute(*answers)
    assert read_twice(read) == set()
    for answer, value in zip(answers, found, strict=True):
        xr.testing.assert_identical(answer.compute(), value)
    # Alone, its tasks have nothing to share, and stay as many as they are.
    monkeypatch.setattr(populations, "TASK_PRODUCTS", 1000 * 12**2)
    graph = graph_of([layer.correlation()])
    assert len(list(calls_in(graph))) > 1
    assert join_rounds(graph).keys() <= graph.keys()


def test_anything_that_dask_computes_may_be_among_the_answers(recording: analysis.Recording) -> None:
    rate, ones = recording.firing_rate(per="step"), da.ones(3)
    both = xr.Dataset({"silent": recording.silent_ratio(per="step"), "rate": rate})
    found = analysis.compute(both, ones, "nothing lazy", rate.data, rate, scheduler="threads")
    xr.testing.assert_identical(found[0], both.compute())
    assert found[1].tolist() == [1.0] * 3
    assert found[2] == "nothing lazy"
    np.testing.assert_array_equal(found[3], rate.values)
    xr.testing.assert_identical(found[4], rate.compute())


def test_nothing_is_kept_when_a_round_has_ended(recording: analysis.Recording) -> None:
    with dask.config.set(scheduler="synchronous"):
        analysis.compute(*answers_of(recording, "step"))
    assert rounds._kept.trains is None


def test_an_error_in_a_round_is_that_of_its_task(recording: analysis.Recording, tmp_path: Path) -> None:
    next(file for file in (tmp_path / "a/layers/1/spikes/c").rglob("*") if file.is_file()).unlink()
    with dask.config.set(scheduler="synchronous"):
        with pytest.raises(analysis.RecordingFormatError, match="is missing; absent spikes are not silence"):
            analysis.compute(*answers_of(recording, "step", "label"))
        assert rounds._kept.trains is None
