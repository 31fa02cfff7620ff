"""Signals of two recordings are compared value by value, at the frames that stand for each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from click.testing import CliRunner

import analysis
from analysis.cli.commands import main
from analysis.keeping import find_problems
from recorder.keeping import plan_recovery, recover
from recorder.stores import Folder
from recorder.tape import TapeReader
from tapes import Made, Run, Trial, write_recording

RUNS = [Run(0, 9, 3, 0), Run(9, 7, 2, 1), Run(20, 5, 2, -1)]
FRAMES = 51
TRIALS = [Trial(0, 3, {"image": ["a", "b", "c"]}), Trial(1, 2, {"image": ["d", "e"]})]
SHAPE = (2, 3)


def values(dtype: str = "float32") -> np.ndarray:
    found = np.random.default_rng(3).normal(size=(FRAMES, *SHAPE)) * 50
    return found.astype(dtype)


def write(
    path: Path, made: dict[str, Made], runs: list[Run] = RUNS, trials: Any = TRIALS
) -> analysis.Recording:
    spikes = np.random.default_rng(1).random((FRAMES, *SHAPE)) < 0.3
    signals = {("1", name): each for name, each in made.items()}
    write_recording(path, {"1": spikes}, runs, trials, chunk_bytes=100, signals=signals)
    return analysis.open_recording(path)


@pytest.fixture(autouse=True)
def synchronous() -> Any:
    with dask.config.set(scheduler="synchronous"):
        yield


def compared(tmp_path: Path, one: dict[str, Made], other: dict[str, Made], **options: Any) -> Any:
    a, b = write(tmp_path / "a.zarr", one), write(tmp_path / "b.zarr", other)
    return analysis.compare(a, b, **options)


def test_equal_signals_are_equal_and_nan_equals_nan(tmp_path: Path) -> None:
    same = values()
    same[3, 0, 1] = np.nan
    same[4, 1, 1] = np.inf
    found = compared(tmp_path, {"v": Made(same)}, {"v": Made(same.copy())})
    assert found.equal
    signal = found.signals["1", "v"]
    assert (signal.frames, signal.values, signal.differing, signal.first) == (FRAMES, FRAMES * 6, 0, None)
    assert np.isnan(signal.largest)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8"])
def test_differences_are_those_of_numpy(tmp_path: Path, dtype: str) -> None:
    one = values(dtype) if dtype != "uint8" else np.abs(values()).astype("uint8")
    other = one.copy()
    other[30, 1, 2] += 3
    other[31, 0, 0] = 7
    other[40] = one[39]
    if dtype == "int64":
        one[31, 0, 0], other[31, 0, 0] = -(2**63), 2**63 - 1
    found = compared(tmp_path, {"v": Made(one)}, {"v": Made(other)})
    signal = found.signals["1", "v"]
    assert not found.equal
    assert found.layers["1"].equal  # the spikes are
    assert found.first is None
    assert signal.differing == np.count_nonzero(one != other)
    far = max(abs(int(a) - int(b)) if dtype[0] != "f" else abs(float(a) - float(b))
              for a, b in zip(one.ravel(), other.ravel(), strict=True))  # fmt: skip
    assert signal.largest == float(far)
    first = signal.first
    assert (first.trial, first.time, first.sample, first.neuron) == (1, 1, 1, (1, 2))
    assert (first.step, first.layer) == (10, "1")
    assert "first difference of signal 'v' of layer '1': trial 1, time 1, sample 1, neuron (1, 2)" in str(
        found
    )


def test_nan_against_a_number_differs_and_has_no_size(tmp_path: Path) -> None:
    one, other = values(), values()
    other[5, 0, 0] = np.nan
    signal = compared(tmp_path, {"v": Made(one)}, {"v": Made(other)}).signals["1", "v"]
    assert signal.differing == 1
    assert np.isnan(signal.largest)


def test_other_types_neurons_and_signals_are_said(tmp_path: Path) -> None:
    one = {"v": Made(values()), "w": Made(values()), "x": Made(values()), "only": Made(values())}
    other = {
        "v": Made(values().astype("float64")),
        "w": Made(values(), neurons=(1, 2)),
        "x": Made(values()[:, :1]),
        "more": Made(values()),
    }
    found = compared(tmp_path, one, other)
    assert not found.equal
    said = str(found)
    for text in (
        "not compared: signal 'v' of layer '1', float32 in a, float64 in b",
        "not compared: signal 'w' of layer '1', of other neurons in a than in b",
        "not compared: signal 'x' of layer '1', values of 2 × 3 in a, of 1 × 3 in b",
        "signals only in a",
        "'only' of layer '1'",
        "'more' of layer '1'",
    ):
        assert text in said
    assert found.signals_only_in == ((("1", "only"),), (("1", "more"),))


def test_frames_pair_by_trial_and_time_by_a_column_and_within_a_selection(tmp_path: Path) -> None:
    kept = values()
    write(tmp_path / "a.zarr", {"v": Made(kept, every=2)})
    later = [Run(3, 9, 3, 0), Run(12, 7, 2, 1), Run(20, 5, 2, -1)]
    b = write(tmp_path / "b.zarr", {"v": Made(kept)}, later)
    a = analysis.open_recording(tmp_path / "a.zarr")
    signal = analysis.compare(a, b).signals["1", "v"]
    every = Made(kept, every=2).kept(RUNS)[1].frames
    assert signal.frames == every
    assert signal.unmatched == (0, FRAMES - every)
    assert signal.differing == 0
    # Samples 0 and 1 of trial 1 in another order.
    order = np.arange(FRAMES)
    order[27:41] = order[27:41].reshape(7, 2)[:, ::-1].ravel()
    spikes = np.random.default_rng(1).random((FRAMES, *SHAPE)) < 0.3
    trials = [TRIALS[0], Trial(1, 2, {"image": ["e", "d"]})]
    made = {("1", "v"): Made(kept[order])}
    write_recording(tmp_path / "c.zarr", {"1": spikes[order]}, RUNS, trials, chunk_bytes=100, signals=made)
    write(tmp_path / "d.zarr", {"v": Made(kept)})
    c, d = (analysis.open_recording(tmp_path / name) for name in ("c.zarr", "d.zarr"))
    assert not analysis.compare(d, c).equal
    assert analysis.compare(d, c, by="image").equal
    other = kept.copy()
    other[0] += 1
    e = write(tmp_path / "e.zarr", {"v": Made(other)})
    assert not analysis.compare(d["1"], e["1"]).equal
    assert analysis.compare(d.select(time=slice(1, None)), e.select(time=slice(1, None))).equal
    other[:, 0, 0] += 1
    f = write(tmp_path / "f.zarr", {"v": Made(other - (np.arange(FRAMES) == 0)[:, None, None])})
    assert not analysis.compare(d, f).equal
    some = {"neurons": np.s_[1, :]}
    assert analysis.compare(d.select(**some), f.select(**some)).signals["1", "v"].values == FRAMES * 3


def test_lost_frames_are_as_if_they_had_not_been_recorded(tmp_path: Path) -> None:
    a = write(tmp_path / "a.zarr", {"v": Made(values())})
    write(tmp_path / "b.zarr", {"v": Made(values())})
    (tmp_path / "b.zarr/layers/1/signals/v/values/c/1/0/0").unlink()
    reader = TapeReader.open(Folder(tmp_path / "b.zarr"))
    recovery = plan_recovery(reader, find_problems(reader), mark_lost=True)
    recover(Folder(tmp_path / "b.zarr", durability="process"), recovery, reader.metadata.commit_number)
    signal = analysis.compare(a, analysis.open_recording(tmp_path / "b.zarr")).signals["1", "v"]
    assert signal.differing == 0
    assert signal.unmatched[0] > 0
    assert signal.unmatched[1] == 0


def test_the_command_exits_with_1_and_tells_where(tmp_path: Path) -> None:
    other = values()
    other[30, 1, 2] = np.inf
    write(tmp_path / "a.zarr", {"v": Made(values())})
    write(tmp_path / "b.zarr", {"v": Made(other)})
    paths = [str(tmp_path / name) for name in ("a.zarr", "b.zarr")]
    run = CliRunner().invoke(main, ["compare", *paths])
    assert run.exit_code == 1
    assert "first difference of signal 'v' of layer '1'" in run.output
    run = CliRunner().invoke(main, ["compare", *paths, "--format", "json"])
    assert run.exit_code == 1
    (signal,) = json.loads(run.output)["signals"]
    assert (signal["differing"], signal["largest"], signal["first"]["neuron"]) == (1, None, [1, 2])
    assert CliRunner().invoke(main, ["compare", paths[0], paths[0]]).exit_code == 0
