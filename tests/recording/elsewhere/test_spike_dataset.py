"""A dataset of presentations has exactly what was recorded, in any order, in workers too."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import recorder
from made_recordings import Example, make_example, plans
from packs import packed_at
from recorder import SpikeDataset
from recorder.elsewhere import writing
from recorder.format import RecordingFormatError, plan_chunks
from recorder.format.bits import rows_to_trains, trains_to_rows
from recorder.tape import LayerReader
from tapes import Run, Trial
from tapes import write_recording as write_tape

write_recording = partial(recorder.write_recording, durability="process")

lost = pytest.mark.filterwarnings("ignore::recorder.format.errors.LostFramesWarning")


class Expected:
    """What each presentation of an example is, taken frame by frame from what was written."""

    def __init__(self, example: Example) -> None:
        self.keys = [(trial.number, sample) for trial in example.presented for sample in range(trial.batch)]
        self.labels = [
            trial.columns.get("label", [None] * trial.batch)[sample]
            for trial in example.presented
            for sample in range(trial.batch)
        ]
        self.extents = [self._extent(example, *key) for key in self.keys]
        self.spikes: list[dict[str, np.ndarray]] = []
        self.recorded: list[dict[str, np.ndarray]] = []
        for (trial, sample), (first, last) in zip(self.keys, self.extents, strict=True):
            spikes, recorded = {}, {}
            for name, frames in example.layers.items():
                steps = example.steps[name]
                samples = np.arange(len(steps)) - np.searchsorted(steps, steps)
                mine = np.flatnonzero((example.trials[name] == trial) & (samples == sample))
                spikes[name] = np.zeros((last - first, *frames.shape[1:]), bool)
                spikes[name][steps[mine] - first] = frames[mine]
                recorded[name] = np.isin(np.arange(first, last), steps[mine])
            self.spikes.append(spikes)
            self.recorded.append(recorded)

    @staticmethod
    def _extent(example: Example, trial: int, sample: int) -> tuple[int, int]:
        runs = [
            run
            for of_layer in example.runs.values()
            for run in of_layer
            if run.trial == trial and run.batch > sample
        ]
        first = min((run.first_step for run in runs), default=0)
        return first, max((run.first_step + run.steps for run in runs), default=0)

    def is_whole(self, row: int) -> bool:
        first, last = self.extents[row]
        return last > first and all(values.all() for values in self.recorded[row].values())


def check_batch(masked: SpikeDataset, expected: Expected, rows: list[int]) -> None:
    """Neighbours are read together; a batch has zeros behind the end of shorter ones."""
    items = masked.__getitems__(rows)
    for row, (spikes, columns) in zip(rows, items, strict=True):
        for name, values in expected.spikes[row].items():
            assert (spikes[name].numpy() == values).all()
            assert (columns["recorded"][name].numpy() == expected.recorded[row][name]).all()
    if rows:
        batch, joined = SpikeDataset.collate(items)
        again, _ = SpikeDataset.collate([*items])
        for name, values in batch.items():
            assert torch.equal(values, again[name])
            assert values.sum() == sum(expected.spikes[row][name].sum() for row in rows)
            recorded = sum(expected.recorded[row][name].sum() for row in rows)
            assert joined["recorded"][name].sum() == recorded


@lost
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans(most_steps=16, most_neurons=33), order=st.randoms(use_true_random=False))
def test_every_presentation_is_what_was_recorded(
    tmp_path_factory: pytest.TempPathFactory, plan: dict[str, Any], order: Any
) -> None:
    path = tmp_path_factory.mktemp("example") / "run.zarr"
    example = make_example(path, plan)
    if not example.presented:
        with pytest.raises(RecordingFormatError, match="has no trials"):
            SpikeDataset(path)
        return
    expected = Expected(example)
    whole = [row for row in range(len(expected.keys)) if expected.is_whole(row)]
    if len(whole) < len(expected.keys):
        with pytest.raises(
            ValueError, match=f"{len(expected.keys) - len(whole)} of {len(expected.keys)} pres"
        ):
            SpikeDataset(path)
    masked = SpikeDataset(path, incomplete="mask", cache_bytes=plan["chunk_bytes"])
    skipping = SpikeDataset(path, incomplete="skip", dtype=torch.uint8)
    assert (len(masked), len(skipping)) == (len(expected.keys), len(whole))
    rows = [*range(len(masked))]
    order.shuffle(rows)
    for row in rows:
        spikes, columns = masked[row]
        assert (columns["trial"], columns["sample"]) == expected.keys[row]
        assert columns.get("label") == expected.labels[row]
        for name, values in expected.spikes[row].items():
            assert spikes[name].dtype == torch.float32
            assert (spikes[name].numpy() == values).all()
            assert spikes[name].shape == values.shape
            assert (columns["recorded"][name].numpy() == expected.recorded[row][name]).all()
    for asked in (rows, sorted(rows), sorted(rows)[::2], sorted(rows)[1:3]):
        check_batch(masked, expected, asked)
    for place, row in enumerate(whole):
        spikes, columns = skipping[place]
        assert (columns["trial"], columns["sample"]) == expected.keys[row]
        for name, values in expected.spikes[row].items():
            assert spikes[name].dtype == torch.uint8
            assert (spikes[name].numpy() == values).all()


STEPS, BATCH = 10, 4


def spikes(seed: int = 0, trials: int = 6, shape: tuple[int, ...] = (2, 5)) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.random((STEPS + trial % 3, BATCH, *shape)) < 0.3 for trial in range(trials)]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(writing, "plan_chunks", partial(plan_chunks, target_bytes=1))
    labels = [[f"{trial}/{sample}" for sample in range(BATCH)] for trial in range(6)]
    columns = [{"epoch": trial, "weight": [0.5, None, 1.5, float("inf")]} for trial in range(6)]
    write_recording(
        tmp_path / "run.zarr",
        {"a": iter(spikes()), "b": iter(spikes(1, shape=(3,)))},
        labels=labels,
        trials=columns,
    )
    return tmp_path / "run.zarr"


def check(dataset: SpikeDataset, batches: list[Any]) -> None:
    """Check batches of two presentations each, in order, of layers a and b."""
    assert len(batches) * 2 == len(dataset)
    for number, (values, columns) in enumerate(batches):
        for place in range(2):
            trial, sample = divmod(2 * number + place, BATCH)
            assert (int(columns["trial"][place]), int(columns["sample"][place])) == (trial, sample)
            assert columns["label"][place] == f"{trial}/{sample}"
            for name, expected in (("a", spikes()[trial]), ("b", spikes(1, shape=(3,))[trial])):
                steps = len(expected)
                assert int(columns["steps"][place]) == steps
                assert (values[name][:steps, place].numpy() == expected[:, sample]).all()
                assert not values[name][steps:, place].any()


@pytest.mark.parametrize("context", [None, "fork", "spawn", "forkserver"])
def test_loaders_with_workers(path: Path, context: str | None) -> None:
    dataset = SpikeDataset(path, dtype={"a": torch.bool})
    dataset[3]  # what is decoded is there before the fork
    loader = DataLoader(
        dataset,
        batch_size=2,
        collate_fn=SpikeDataset.collate,
        num_workers=0 if context is None else 1,
        multiprocessing_context=context,
    )
    batches = [*loader]
    check(dataset, batches)
    assert (batches[0][0]["a"].dtype, batches[0][0]["b"].dtype) == (torch.bool, torch.float32)


@pytest.mark.parametrize("strategy", ["file_descriptor", "file_system"])
@pytest.mark.parametrize("layers", ["a", ["a", "b"]])
@pytest.mark.parametrize("collate", [SpikeDataset.collate, list])
def test_a_worker_hands_over_what_the_process_itself_would_have(
    path: Path, strategy: str, layers: Any, collate: Any
) -> None:
    dataset = SpikeDataset(path, layers, incomplete="mask")
    before = torch.multiprocessing.get_sharing_strategy()
    torch.multiprocessing.set_sharing_strategy(strategy)
    try:
        here, there = (
            [*DataLoader(dataset, batch_size=5, collate_fn=collate, num_workers=workers, shuffle=False)]
            for workers in (0, 1)
        )
    finally:
        torch.multiprocessing.set_sharing_strategy(before)
    assert len(here) == len(there) == 5
    assert same(here, there)


def same(one: Any, other: Any) -> bool:
    """True if two nested results are equal, with the same types of values."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


def test_workers_read_archives_behind_a_web_server_after_a_fork(path: Path, tmp_path: Path, web: str) -> None:
    packed_at(path, tmp_path / "run.zip")
    dataset = SpikeDataset(f"{web}/run.zip")
    dataset[0]
    loader = DataLoader(
        dataset, batch_size=2, collate_fn=dataset.collate, num_workers=2, multiprocessing_context="fork"
    )
    check(dataset, [*loader])


def test_one_layer_by_its_name_is_a_tensor(path: Path) -> None:
    dataset = SpikeDataset(path, layers="b", dtype=torch.int64)
    values, columns = dataset[-1]
    assert values.dtype == torch.int64
    assert (values.numpy() == spikes(1, shape=(3,))[5][:, 3]).all()
    assert columns == {
        "trial": 5, "sample": 3, "label": "5/3", "epoch": 5, "weight": float("inf")
    }  # fmt: skip
    assert dataset[1][1]["weight"] is None
    batch, joined = SpikeDataset.collate([dataset[0], dataset[5], dataset[11]])
    assert batch.shape == (12, 3, 3)
    assert (batch[:, 2].numpy() == spikes(1, shape=(3,))[2][:, 3]).all()
    assert joined["steps"].tolist() == [10, 11, 12]
    assert joined["epoch"].tolist() == [0, 1, 2]
    assert joined["weight"] == [0.5, None, float("inf")]
    with pytest.raises(IndexError, match="presentation 24 of 24"):
        dataset[24]


def test_items_may_be_asked_for_in_any_order_and_twice(path: Path) -> None:
    dataset = SpikeDataset(path, layers=["b"])
    rows = [7, 3, 23, 3, 0]
    for row, (values, columns) in zip(rows, dataset.__getitems__(rows), strict=True):
        assert (columns["trial"], columns["sample"]) == divmod(row, BATCH)
        assert (values["b"].numpy() == spikes(1, shape=(3,))[row // BATCH][:, row % BATCH]).all()


def test_chunks_are_decoded_once_where_they_fit_and_forgotten_where_not(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    bits_of_chunk = LayerReader.bits_of_chunk

    def noted(reader: LayerReader, number: int) -> list[np.ndarray]:
        decoded.append(number)
        return bits_of_chunk(reader, number)

    monkeypatch.setattr(LayerReader, "bits_of_chunk", noted)
    dataset = SpikeDataset(path, layers="a")
    for row in [*range(24), *reversed(range(24))]:
        dataset[row]
    assert sorted(decoded) == [*range(dataset._layers["a"].reader.plan.chunk_count(264))]
    decoded.clear()
    small = SpikeDataset(path, layers="a", cache_bytes=1)
    for row in (0, 23, 0):
        small[row]
    assert len(decoded) >= 3
    assert small._cache._size_bytes <= 2 * 80


def test_what_was_decoded_is_not_pickled(path: Path) -> None:
    dataset = SpikeDataset(path)
    fresh = len(pickle.dumps(dataset))
    for row in range(24):
        dataset[row]
    assert len(pickle.dumps(dataset)) == fresh
    copied = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - our own
    assert (copied[4][0]["a"] == dataset[4][0]["a"]).all()


def test_what_comes_later_is_not_seen(tmp_path: Path) -> None:
    def growing(fails: bool) -> Any:
        yield from spikes()[:3]
        if fails:
            raise ConnectionError
        yield from spikes()[3:]

    path = tmp_path / "run.zarr"
    with pytest.raises(ConnectionError):
        write_recording(path, {"a": growing(True)}, trials=True)
    dataset = SpikeDataset(path, "a")
    write_recording(path, {"a": growing(False)}, trials=True, resume=True)
    assert (len(dataset), len(SpikeDataset(path))) == (12, 24)
    for row, (values, _) in enumerate(dataset):
        assert (values.numpy() == spikes()[row // BATCH][:, row % BATCH]).all()


def test_damage_is_an_error(path: Path) -> None:
    dataset = SpikeDataset(path)
    (path / "layers/a/spikes/c/0/0/0").unlink()
    with pytest.raises(RecordingFormatError, match="missing; absent spikes are not silence"):
        dataset[0]


def test_a_layer_that_was_not_called_in_a_trial(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).random((30, 3)) < 0.5
    runs = {"a": [Run(0, 10, 1, 0), Run(10, 20, 1, 1)], "b": [Run(0, 10, 1, 0), Run(12, 20, 1, 2)]}
    trials = [Trial(number, 1, {"label": [number]}) for number in range(3)]
    write_tape(tmp_path / "run.zarr", {"a": frames, "b": frames}, runs, trials)
    with pytest.raises(ValueError, match=r"2 of 3 .*sample 0 of trial 1, in layer 'b'.*incomplete='skip'"):
        SpikeDataset(tmp_path / "run.zarr")
    with pytest.raises(ValueError, match=r"1 of 3 pres.*sample 0 of trial 2, in layer 'a'"):
        SpikeDataset(tmp_path / "run.zarr", layers="a")
    assert [item[1]["label"] for item in SpikeDataset(tmp_path / "run.zarr", "b", incomplete="skip")] == [
        0,
        2,
    ]
    values, columns = SpikeDataset.collate([*SpikeDataset(tmp_path / "run.zarr", "a", incomplete="mask")])
    assert columns["steps"].tolist() == [10, 20, 0]
    assert columns["recorded"].sum(0).tolist() == [10, 20, 0]
    assert (values[:20, 1].numpy() == frames[10:]).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layers": "c"}, KeyError, r"has no layer 'c'; it has \['a', 'b'\]"),
        ({"dtype": {"c": torch.bool}}, KeyError, "no layer 'c'"),
        ({"incomplete": "zeros"}, ValueError, "expected 'error', 'skip' or 'mask'"),
        ({"layers": []}, ValueError, r"layers is empty; expected some of"),
    ],
)
def test_what_cannot_be_asked_for(path: Path, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SpikeDataset(path, **options)


@pytest.mark.parametrize("shape", [(1, 8), (3, 24), (7, 3), (4097, 8), (5000, 64), (2, 80_000), (0, 8)])
def test_trains_are_turned_to_rows_and_back(shape: tuple[int, int]) -> None:
    trains = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    assert (trains_to_rows(trains) == trains.T).all()
    assert (rows_to_trains(trains_to_rows(trains)) == trains).all()


def test_values_are_given_as_they_were_put_out(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-3, 4, (7, 5, 2, 3)) * np.float32(0.5)
    write_recording(tmp_path / "run.zarr", {"1": values}, labels=[0, 1, 2, 3, 4])
    dataset = SpikeDataset(tmp_path / "run.zarr", "1")
    for sample, (spikes, columns) in enumerate(dataset):
        assert columns["label"] == sample
        np.testing.assert_array_equal(spikes, values[:, sample])
    whole = SpikeDataset(tmp_path / "run.zarr", dtype=torch.float64)
    batch, _ = next(iter(DataLoader(whole, batch_size=5, collate_fn=SpikeDataset.collate)))
    np.testing.assert_array_equal(batch["1"], values)
    for dtype in (torch.bool, torch.int8, torch.int64):
        with pytest.raises(
            ValueError, match=r"has put out -3 to 3 times 0\.5, which torch\..* does not have"
        ):
            SpikeDataset(tmp_path / "run.zarr", dtype=dtype)
    write_recording(tmp_path / "whole.zarr", {"1": (values * 200).astype(np.int16)}, labels=0)
    with pytest.raises(ValueError, match=r"torch\.int8 does not have"):
        SpikeDataset(tmp_path / "whole.zarr", dtype=torch.int8)
    spikes, _ = SpikeDataset(tmp_path / "whole.zarr", "1", dtype=torch.int16)[0]
    np.testing.assert_array_equal(spikes, values[:, 0] * 200)
