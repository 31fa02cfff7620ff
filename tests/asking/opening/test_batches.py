"""Many small recordings are counted some at a time, and each as if it were alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest

import analysis
from analysis.asking import graphs, planning
from analysis.asking.batches import SOURCE_BYTES
from analysis.kernels.counting.tasks import add_each
from made_recordings import lose_chunks
from tapes import Run, Trial, write_recording

QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("firing_rate", {}),
    ("silent_ratio", {}),
    ("spike_count", {}),
    ("saturated_ratio", {"threshold": 0.2}),
]
SHAPES = {"1": (3,), "2": (2, 4), "3": (1, 3, 3)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    for number in range(7):
        steps = 0 if number == 2 else 40 + 30 * number
        spikes = {name: rng.random((steps * 2, *shape)) < 0.05 for name, shape in SHAPES.items()}
        trials = [Trial(0, 2, {"label": [0, number]})]
        made = [Run(0, steps, 2, 0)] if steps else []
        write_recording(
            folder / f"run{number}.zarr",
            spikes,
            made,
            trials,
            chunk_bytes=1,
            close=number != 4,
            trials_begun=1,
        )
    return folder


def answers(recording: Any, name: str, more: dict[str, Any]) -> list[Any]:
    return [getattr(layer, name)(**more).values for layer in recording.layers.values()]


@pytest.mark.parametrize(("at_once", "use_counts"), [(2, True), (100, False)])
def test_each_recording_says_what_it_says_alone(
    runs: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, use_counts: bool
) -> None:
    monkeypatch.setattr(planning, "SMALL_TASK_BYTES", at_once * len(SHAPES) * SOURCE_BYTES)
    joint = analysis.open_recording(runs / "*.zarr", use_counts=use_counts)
    views = [joint, joint.select(steps=slice(3, 90)), joint.select(samples=1), joint.select(labels=[0, 3])]
    for view in views:
        for name, more in QUESTIONS:
            expected = np.array([answers(each, name, more) for each in view.recordings.values()])
            found = getattr(view, name)(per=("recording", "layer"), **more)
            np.testing.assert_array_equal(found, expected)
            alone = [getattr(each, name)(**more).values for each in view.recordings.values()]
            np.testing.assert_array_equal(getattr(view, name)(per="recording", **more), alone)


def test_recordings_are_pooled_as_one(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [("network", (name, more)) for name, more in QUESTIONS]
    asked += [("layer", (name, more)) for name, more in QUESTIONS]
    joint = analysis.open_recording(runs / "*.zarr")
    found = [getattr(joint, name)(per=per, **more).values for per, (name, more) in asked]
    monkeypatch.setattr(planning, "SMALL_TASK_BYTES", 1)  # nothing is small
    expected = [getattr(joint, name)(per=per, **more).values for per, (name, more) in asked]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_so_many_bytes_are_added_up_at_a_time(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joint = analysis.open_recording(runs / "*.zarr")
    expected = joint.silent_ratio().values
    monkeypatch.setattr(planning, "SMALL_TASK_BYTES", len(SHAPES) * SOURCE_BYTES)  # a recording a batch
    neurons = sum(int(np.prod(shape)) for shape in SHAPES.values())
    for fitting, together in ((100, 7), (3, 3), (0, 2)):
        monkeypatch.setattr(graphs, "_FAN_IN_BYTES", fitting * 8 * neurons)
        asked = joint.silent_ratio()
        sums = [task for task in dict(asked.__dask_graph__()).values() if calls(task, add_each)]
        assert max(len(task[1]) for task in sums) == together
        np.testing.assert_array_equal(asked, expected)


def test_damage_to_one_of_many_is_named(runs: Path, tmp_path: Path) -> None:
    def chunk(number: int) -> Path:
        return tmp_path / f"run{number}.zarr" / "layers" / "2" / "counts" / "c" / "0" / "0" / "0"

    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-5])

    def swap(path: Path) -> None:
        path.write_bytes(chunk(6).read_bytes())

    for damage, what in ((Path.unlink, "is missing"), (cut, "is damaged"), (swap, "altered or swapped")):
        shutil.rmtree(tmp_path)
        shutil.copytree(runs, tmp_path)
        damage(chunk(3))
        joint = analysis.open_recording(tmp_path / "*.zarr")
        for per in (("recording", "layer"), "layer"):
            with pytest.raises(analysis.RecordingFormatError, match=f"run3.zarr/layers/2/counts.*{what}"):
                joint.silent_ratio(per=per).compute()


def calls(task: Any, function: Any) -> bool:
    return isinstance(task, tuple) and getattr(task[0], "content", None) is function


def test_some_neurons_of_one_layer(runs: Path) -> None:
    joint = analysis.open_recording(runs / "*.zarr").select(layers="2", neurons=np.s_[:, 1::2])
    expected = [answers(each, "silent_ratio", {}) for each in joint.recordings.values()]
    np.testing.assert_array_equal(joint.silent_ratio(per=("recording", "layer")), expected)


def test_there_are_few_tasks_and_rates_and_silent_ratios_share_them(tmp_path: Path) -> None:
    spikes = {name: np.ones((16, *shape), np.bool_) for name, shape in SHAPES.items()}
    for number in range(200):
        write_recording(tmp_path / f"run{number:03}.zarr", spikes, [Run(0, 16, 1)])
    joint = analysis.open_recording(tmp_path / "*.zarr")
    rates, silent = (ask(per=("recording", "layer")) for ask in (joint.firing_rate, joint.silent_ratio))
    assert rates.shape == (200, 3)
    assert len(rates.__dask_graph__()) < 50
    assert len(silent.__dask_graph__()) < 50
    both = {*rates.__dask_graph__(), *silent.__dask_graph__()}
    counting = [key for key in both if str(key).startswith("('batch-")]
    assert 1 < len(counting) < 10
    found = dask.compute(rates, silent)
    assert (found[0] == 1).all()
    assert (found[1] == 0).all()


def test_lost_frames_are_in_no_figure(runs: Path, tmp_path: Path) -> None:
    # Rows of counts of blocks that were full before still hold the lost spikes; the last row is made anew.
    long = {name: np.random.default_rng(1).random((5000, *shape)) < 0.05 for name, shape in SHAPES.items()}
    write_recording(tmp_path / "run3.zarr", long, [Run(0, 5000, 1)], chunk_bytes=1)
    shutil.copytree(runs / "run5.zarr", tmp_path / "run5.zarr")
    lose_chunks(tmp_path / "run3.zarr", {"1": [0.1], "2": [], "3": []})
    with pytest.warns(analysis.LostFramesWarning):
        joint = analysis.open_recording(tmp_path / "*.zarr")
    assert joint["1"].lost_frames > 0
    for name, more in QUESTIONS:
        expected = [answers(each, name, more) for each in joint.recordings.values()]
        np.testing.assert_array_equal(getattr(joint, name)(per=("recording", "layer"), **more), expected)
