"""Many recordings are opened side by side, and say what one after the other would have said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analysis
from recorder.stores import open_store
from tapes import Run, write_recording

MANY = 40


def write(store: Any, spikes: int) -> None:
    frames = np.zeros((64, 3), np.bool_)
    frames[:spikes, 1] = True
    write_recording(store, {"1": frames}, [Run(0, 64, 1)])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for number in range(MANY):
        write(folder / f"run{number:02}.zarr", number)
    return folder


def test_many_recordings_stay_in_their_order(runs: Path) -> None:
    backwards = sorted(runs.glob("*.zarr"), reverse=True)
    for asked, expected in ((runs / "*.zarr", range(MANY)), (backwards, range(MANY - 1, -1, -1))):
        recording = analysis.open_recording(asked)
        assert recording.spike_count(per="recording").values.tolist() == list(expected)
        assert recording.refresh().spike_count(per="recording").values.tolist() == list(expected)


def test_a_list_may_hold_patterns_among_paths(runs: Path) -> None:
    recording = analysis.open_recording([runs / "run30.zarr", runs / "run0[3-5].zarr", runs / "run01.zarr"])
    assert recording.spike_count(per="recording").values.tolist() == [30, 3, 4, 5, 1]


def test_of_several_errors_the_first_in_order_is_told(runs: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.zarr"
    damaged.mkdir()
    (damaged / "zarr.json").write_text("{")
    wrong: list[tuple[Any, type[Exception], str]] = [
        (tmp_path / "absent.zarr", analysis.RecordingNotFoundError, "no recording at .*absent"),
        (damaged, analysis.RecordingFormatError, "is not JSON"),
        (3, TypeError, "expected a path"),
    ]
    paths = sorted(runs.glob("*.zarr"))
    for turn in range(len(wrong)):
        first, second, third = (*wrong[turn:], *wrong[:turn])
        for _ in range(5):
            with pytest.raises(first[1], match=first[2]):
                analysis.open_recording([*paths[:20], first[0], second[0], third[0], *paths[20:]])


def test_recordings_in_a_bucket_are_opened_side_by_side_with_a_request_each(
    object_store: Any, proxy: Any
) -> None:
    from object_store import options

    for number in range(12):
        url = f"s3://runs/many/run{number:02}.zarr"
        write(open_store(url, read_only=False, storage_options=object_store.options), number)
    proxy.disturb = lambda _, method, path: "slow" if method == "GET" and "zarr.json" in path else None
    recording = analysis.open_recording("s3://runs/many/*.zarr", storage_options=options(proxy.port))
    roots = [path for method, path in proxy.requests if "zarr.json" in path]
    assert len(roots) == len(set(roots)) == 1 + 12, "the pattern might be a name"
    assert proxy.most_at_once > 6
    assert recording.spike_count(per="recording").values.tolist() == list(range(12))
