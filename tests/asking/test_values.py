"""Rates, counts and lazy arrays of layers with other values than 0 and 1 are those of plain numpy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import analysis
from analysis.arguments import QuestionError
from analysis.cli import commands
from recorder.keeping import plan_recovery, recover
from recorder.stores import Folder
from recorder.tape import TapeReader
from tapes import Run, Trial, write_recording

RUNS = [Run(0, 40, 5, 0), Run(40, 3, 7, -1), Run(50, 60, 3, 1)]
TRIALS = [Trial(0, 5, {"label": [0, 1, 0, 1, 2]}), Trial(1, 3, {"label": [1, 1, 0]})]
FRAMES = sum(run.steps * run.batch for run in RUNS)
SHAPE = (3, 4)


def frames_table() -> dict[str, NDArray[Any]]:
    rows: dict[str, list[int]] = {"step": [], "trial": [], "sample": [], "label": []}
    labels = {trial.number: trial.columns["label"] for trial in TRIALS}
    for run in RUNS:
        for step in range(run.first_step, run.first_step + run.steps):
            for sample in range(run.batch):
                label = labels[run.trial][sample] if run.trial >= 0 else -1
                for name, value in zip(rows, (step, run.trial, sample, label), strict=True):
                    rows[name].append(value)
    return {name: np.array(values) for name, values in rows.items()}


def made_of(values: NDArray[Any], of: str) -> NDArray[Any]:
    return {"events": values != 0, "magnitude": np.abs(values), "sum": values}[of]


def levels(seed: int, least: int, most: int, begin: int = 0) -> NDArray[np.int16]:
    random = np.random.default_rng(seed)
    drawn = random.integers(0, 2, (FRAMES, *SHAPE)).astype(np.int16)
    drawn[begin:] = random.integers(least, most + 1, drawn[begin:].shape)
    return drawn


def write(path: Path, made: NDArray[np.int16], scale: float = 1.0) -> None:
    scales = {"1": scale}
    write_recording(path, {"1": made}, RUNS, TRIALS, chunk_bytes=200, limit_bytes=90, scales=scales).release()


@given(
    seed=st.integers(0, 99),
    ends=st.sampled_from([(0, 2), (-1, 1), (0, 5), (-4, 4), (-1, 300)]),
    begin=st.integers(0, FRAMES),
    scale=st.sampled_from([1.0, 0.25]),
    use_counts=st.booleans(),
)
@settings(max_examples=5, deadline=None)
def test_sums_of_values_are_numpys_whatever_is_kept_apart(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    ends: tuple[int, int],
    begin: int,
    scale: float,
    use_counts: bool,
) -> None:
    path = tmp_path_factory.mktemp("values") / "run.zarr"
    made = levels(seed, *ends, begin)
    write(path, made, scale)
    values, table = made * scale, frames_table()
    with dask.config.set(scheduler="synchronous"):
        layer = analysis.open_recording(path, use_counts=use_counts)["1"]
        np.testing.assert_array_equal(layer.values, values.astype(np.float32))
        for of in ("events", "magnitude", "sum"):
            each = made_of(values, of)
            assert float(layer.spike_count(of=of)) == each.sum()
            assert float(layer.firing_rate(of=of)) == each.sum() / each.size
            np.testing.assert_array_equal(layer.spike_count("neuron", of=of), each.sum(axis=0))
            np.testing.assert_array_equal(layer.spike_count("channel", of=of), each.sum(axis=(0, 2)))
            per_step = layer.spike_count(("step", "neuron"), of=of).compute()
            for step in per_step.step.values:
                expected = each[table["step"] == step].sum(axis=0)
                np.testing.assert_array_equal(per_step.sel(step=step), expected)
            per_label = layer.firing_rate(("label", "channel"), of=of).compute()
            for label in per_label.label.values:
                expected = each[table["label"] == label].mean(axis=(0, 2))
                np.testing.assert_allclose(per_label.sel(label=label), expected, rtol=1e-12)
            chosen = layer.select(steps=slice(10, 55), where={"label": [1]}, neurons=np.s_[1:, ::2])
            kept = (table["step"] >= 10) & (table["step"] < 55) & (table["label"] == 1)
            expected = each[kept][:, 1:, ::2]
            np.testing.assert_array_equal(chosen.spike_count("neuron", of=of), expected.sum(axis=0))
            np.testing.assert_array_equal(chosen.values, values[kept][:, 1:, ::2].astype(np.float32))


def test_layers_and_recordings_of_different_scales_are_pooled(tmp_path: Path) -> None:
    """One recording has more planes than the other, and one layer no values at all."""
    made = {"a": levels(1, -3, 9), "b": levels(2, 0, 1)}
    spikes = levels(3, 0, 1).astype(np.bool_)
    scales = {"a": 0.5, "b": 2.0}
    for name, each in made.items():
        write_recording(
            tmp_path / f"{name}.zarr",
            {"1": each, "2": spikes},
            RUNS,
            TRIALS,
            chunk_bytes=200,
            scales={"1": scales[name]},
        ).release()
    recording = analysis.open_recording([tmp_path / f"{name}.zarr" for name in made])
    values = {name: made[name] * scales[name] for name in made}
    for of in ("events", "magnitude", "sum"):
        of_first = [made_of(each, of) for each in values.values()]
        total = sum(each.sum() for each in of_first) + 2 * spikes.sum()
        assert float(recording.spike_count("network", of=of)) == total
        assert float(recording.firing_rate("network", of=of)) == total / (4 * spikes.size)
        per_layer = recording.firing_rate(("recording", "layer"), of=of)
        expected = [[each.mean(), spikes.mean()] for each in of_first]
        np.testing.assert_allclose(per_layer, expected, rtol=1e-12)
        np.testing.assert_array_equal(recording["1"].spike_count("neuron", of=of), sum(of_first).sum(axis=0))
    joined = np.concatenate([each.astype(np.float32) for each in values.values()])
    np.testing.assert_array_equal(recording["1"].values, joined)
    assert recording["2"].values.dtype == np.float32
    with pytest.raises(QuestionError, match="of='size'; expected 'events', 'magnitude' or 'sum'"):
        recording.firing_rate(of="size")


def test_other_questions_are_about_events(tmp_path: Path) -> None:
    made = levels(5, -2, 2)
    write(tmp_path / "graded.zarr", made)
    write_recording(tmp_path / "spikes.zarr", {"1": made != 0}, RUNS, TRIALS, chunk_bytes=200).release()
    graded, spikes = (analysis.open_recording(tmp_path / f"{name}.zarr") for name in ("graded", "spikes"))
    for ask in (
        lambda recording: recording.silent_ratio(("layer", "step")),
        lambda recording: recording["1"].isi_mean("neuron"),
        lambda recording: recording["1"].latency("label"),
        lambda recording: recording["1"].spikes,
    ):
        np.testing.assert_array_equal(ask(graded), ask(spikes))


def test_lost_values_are_in_no_sum(tmp_path: Path) -> None:
    from analysis.keeping import find_problems

    made, path = levels(7, -3, 3), tmp_path / "run.zarr"
    write(path, made)
    (path / "layers/1/planes/sign/c/2/0/0").unlink()
    reader = TapeReader.open(Folder(path))
    recovery = plan_recovery(reader, find_problems(reader), mark_lost=True)
    recover(Folder(path, durability="process"), recovery, reader.metadata.commit_number)
    with pytest.warns(analysis.LostFramesWarning):
        layer = analysis.open_recording(path)["1"]
    (first, last), *more = layer.sources[0].commit.lost
    assert not more
    kept = np.delete(made, np.s_[first:last], axis=0)
    for of in ("events", "magnitude", "sum"):
        np.testing.assert_array_equal(layer.spike_count("neuron", of=of), made_of(kept, of).sum(axis=0))
    np.testing.assert_array_equal(layer.values, kept)


def test_the_command_line_takes_it(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from analysis.cli.commands import main

    made = levels(9, 0, 3)
    write(tmp_path / "run.zarr", made)
    path = str(tmp_path / "run.zarr")
    arguments = ["stats", path, "--what", "spike_count", "--set", "of=magnitude", "--format", "csv"]
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code == 0, found.stderr
    assert found.stdout.splitlines()[1].split(",")[-1] == str(made.sum())


def test_scale_and_range_are_told(tmp_path: Path) -> None:
    made = np.zeros((FRAMES, *SHAPE), np.int16)
    made[5], made[-1] = 3, -2
    write(tmp_path / "graded", made, scale=0.25)
    write(tmp_path / "plain", np.abs(made) // 2)
    graded, plain = (analysis.open_recording(tmp_path / name) for name in ("graded", "plain"))
    assert (graded["1"].value_range, graded["1"].value_scale) == ((-0.5, 0.75), 0.25)
    assert (plain["1"].value_range, plain["1"].value_scale) == ((0, 1), 1)
    told = "values from -0.5 to 0.75, multiples of 0.25"
    for shown in (repr(graded), graded._repr_html_(), repr(graded["1"]), graded["1"]._repr_html_()):
        assert told in shown
    assert "values" not in repr(plain) + repr(plain["1"])
    shown = info_of(tmp_path / "graded")
    assert "values       of 1: from -0.5 to 0.75, multiples of 0.25" in shown
    facts = json.loads(info_of(tmp_path / "graded", "--format", "json"))["layers"][0]
    assert (facts["value_range"], facts["value_scale"]) == ([-0.5, 0.75], 0.25)
    assert "values" not in info_of(tmp_path / "plain")


def info_of(path: Path, *options: str) -> str:
    return CliRunner().invoke(commands.main, ["info", str(path), *options], catch_exceptions=False).stdout
