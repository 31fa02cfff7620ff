"""A recording is known by its content, its place and how it is reached: nothing else answers in its stead."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest

import analysis
from analysis.keeping import find_problems
from recorder.format import StoreAccessError
from recorder.keeping import pack_recording
from recorder.stores import Folder, open_store
from recorder.tape import TapeReader
from scripts import script
from tapes import Run, go_on, write_recording
from web import Files, serving

STEPS, NEURONS = 160, 12


def frames_of(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).random((STEPS, NEURONS)) < 0.05 * (seed + 1)


@pytest.fixture
def branches(tmp_path: Path) -> tuple[Path, Path]:
    """A recording and a copy of its folder; then both went on, in other steps, with other spikes."""
    one, other = tmp_path / "one.zarr", tmp_path / "other.zarr"
    write_recording(one, {"1": frames_of(0)}, [Run(0, STEPS, 1)], chunk_bytes=1)
    shutil.copytree(one, other)
    go_on(one, {"1": frames_of(1)}, Run(STEPS, STEPS, 1))
    go_on(other, {"1": frames_of(2)}, Run(STEPS, STEPS // 2, 2))
    records = [TapeReader.open(Folder(path)).metadata for path in (one, other)]
    assert records[0].recording_id == records[1].recording_id
    assert records[0].commit_number == records[1].commit_number
    return one, other


def put_back(backup: Path, place: Path) -> None:
    if place.exists():
        shutil.rmtree(place)
    shutil.copytree(backup, place)


def questions(recording: Any) -> list[Any]:
    layer = recording["1"]
    return [
        layer.spike_count(),
        layer.spike_count(per="neuron"),
        layer.firing_rate(per="step"),
        layer.silent_ratio(per=("window", "neuron"), window=9),
        recording.select(steps=slice(100, 230)).firing_rate(),
        layer.spikes,
        layer.spikes.step,
    ]


def wanted(path: Path) -> list[np.ndarray[Any, Any]]:
    """What plain numpy makes of a branch."""
    seed, batch = {"one.zarr": (1, 1), "other.zarr": (2, 2)}[path.name]
    spikes = np.concatenate([frames_of(0), frames_of(seed)])
    step = np.concatenate([np.arange(STEPS), STEPS + np.repeat(np.arange(STEPS // batch), batch)])
    steps = int(step[-1]) + 1
    windows = [spikes[step // 9 == window] for window in range(-(-steps // 9))]
    return [
        spikes.sum(),
        spikes.sum(axis=0),
        np.array([spikes[step == one].mean() for one in range(steps)]),
        np.array([~window.any(axis=0) for window in windows]),
        spikes[(step >= 100) & (step < 230)].mean(),
        spikes,
        step,
    ]


def check(found: Any, path: Path) -> None:
    for one, other in zip(found, wanted(path), strict=True):
        np.testing.assert_array_equal(one.values, other)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as started,
        distributed.Client(started) as client,
    ):
        yield client


def test_a_branch_put_in_place_of_another_answers_for_itself(
    branches: tuple[Path, Path], tmp_path: Path
) -> None:
    place = tmp_path / "run.zarr"
    for branch in (*branches, *branches):
        put_back(branch, place)
        recording = analysis.open_recording(place)
        check(dask.compute(*questions(recording)), branch)
        assert find_problems(TapeReader.open(Folder(place))) == []


def test_a_cluster_does_not_take_one_branch_for_another(
    branches: tuple[Path, Path], tmp_path: Path, cluster: Any
) -> None:
    place = tmp_path / "run.zarr"
    held = []
    for branch in branches:
        put_back(branch, place)
        # As long as results are held, the scheduler gives them to whoever asks for tasks of their names.
        held.append(dask.persist(*questions(analysis.open_recording(place))))
        check(dask.compute(*held[-1]), branch)
        asked = questions(analysis.open_recording(branch))
        assert not {key for one in asked for key in one.data.dask} & {
            key for results in held for one in results for key in one.data.dask
        }
        check(dask.compute(*asked), branch)


def test_the_same_question_twice_is_one_task(branches: tuple[Path, Path]) -> None:
    keys = [
        [one.data.__dask_keys__() for one in questions(analysis.open_recording(branches[0]))] for _ in "ab"
    ]
    assert keys[0] == keys[1]


class Guarded(Files):
    """Gives files to whoever shows the password of the day."""

    password: str

    def send_head(self) -> Any:
        if self.headers["Authorization"] != self.password:
            self.send_error(403)
            return None
        return super().send_head()


class Hidden(str):
    """A text that does not show itself, as settings libraries have for passwords."""

    def __repr__(self) -> str:
        return "Hidden('***')"

    __str__ = __repr__


@pytest.mark.parametrize("kind", [str, Hidden])
def test_new_credentials_take_effect(
    branches: tuple[Path, Path], kind: type[str], request: pytest.FixtureRequest
) -> None:
    pytest.importorskip("aiohttp")
    options: dict[str, Any] = {"client_kwargs": {"headers": {}}}
    client = request.getfixturevalue("cluster") if kind is str else None
    with serving(branches[0].parent, Guarded) as web:
        held = []
        for Guarded.password in ("first", "second"):
            options["client_kwargs"]["headers"]["Authorization"] = kind(Guarded.password)
            recording = analysis.open_recording(f"{web}/one.zarr", storage_options=options)
            check(dask.compute(*questions(recording), scheduler="synchronous"), branches[0])
            if client is not None:
                held.append(recording["1"].firing_rate(per="step").persist())
                np.testing.assert_array_equal(held[-1].values, wanted(branches[0])[2])
        options["client_kwargs"]["headers"]["Authorization"] = kind("first")
        with pytest.raises(StoreAccessError, match="403"):
            analysis.open_recording(f"{web}/one.zarr", storage_options=options)


def test_a_bucket_is_asked_through_the_endpoint_that_is_named_now(object_store: Any, proxy: Any) -> None:
    from object_store import options

    url = "s3://runs/endpoints/run.zarr"
    spikes = frames_of(3)
    target: Any = open_store(url, read_only=False, storage_options=object_store.options)
    write_recording(target, {"1": spikes}, [Run(0, STEPS, 1)])
    for endpoint in (options(proxy.port, attempts=1), object_store.options):
        layer = analysis.open_recording(url, storage_options=endpoint)["1"]
        np.testing.assert_array_equal(layer.spike_count(per="neuron"), spikes.sum(axis=0))
        np.testing.assert_array_equal(layer.spikes.step, np.arange(STEPS))
        proxy.disturb = lambda *_: "503"


def test_credentials_of_the_environment_are_those_of_now(
    object_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, spikes = "s3://runs/environment/run.zarr", frames_of(3)
    target: Any = open_store(url, read_only=False, storage_options=object_store.options)
    write_recording(target, {"1": spikes}, [Run(0, STEPS, 1)])
    options = {name: given for name, given in object_store.options.items() if name not in ("key", "secret")}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    held = []
    for secret, is_right in (("wrong", False), ("secret", True), ("wrong", False), ("secret", True)):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        if not is_right:
            with pytest.raises(StoreAccessError):
                analysis.open_recording(url, storage_options=options)
            continue
        held.append(analysis.open_recording(url, storage_options=options)["1"].spike_count(per="neuron"))
        found = held[-1].compute(scheduler="synchronous")  # workers have an environment of their own
        np.testing.assert_array_equal(found, spikes.sum(axis=0))
    assert held[0].data.name == held[1].data.name


def test_an_archive_that_was_made_anew_is_read_as_it_is_now(
    branches: tuple[Path, Path], tmp_path: Path
) -> None:

    place = tmp_path / "kept.zip"
    for branch in branches:
        packed = tmp_path / f"{branch.name}.zip"
        pack_recording(TapeReader.open(Folder(branch)), str(packed))
        packed.replace(place)
        check(dask.compute(*questions(analysis.open_recording(place))), branch)
    # The same shards under the same commit record, in another order.

    with zipfile.ZipFile(place) as archive, zipfile.ZipFile(tmp_path / "again.zip", "w") as again:
        for name in reversed(archive.namelist()):
            again.writestr(name, archive.read(name))
    (tmp_path / "again.zip").replace(place)
    check(dask.compute(*questions(analysis.open_recording(place))), branches[1])


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 12))])
def test_recordings_in_each_others_place_answer_for_themselves(tmp_path: Path, seed: int) -> None:
    pytest.importorskip("torch", reason="records with a monitor")
    script("attacks/identity").put_in_place_of_each_other(tmp_path, seed, 8 if seed == 0 else 60)
