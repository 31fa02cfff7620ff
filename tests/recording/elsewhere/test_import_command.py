"""The command `spiketape import` makes recordings of files of other tools."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result

import analysis
import recorder
from analysis.cli.commands import main

write_recording = partial(recorder.write_recording, durability="process")
STEPS, SAMPLES = 12, 2
SHAPES = {"conv": (2, 3, 3), "out": (4,)}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["import", *map(str, arguments)])


def done(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    return result.stderr


def failed(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit)
    return " ".join(result.stderr.split())


@pytest.fixture
def spikes() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.random((STEPS, SAMPLES, *shape)) < 0.3 for name, shape in SHAPES.items()}


def digest(path: Path) -> str:
    return analysis.open_recording(path).digest()


@pytest.fixture
def expected(spikes: dict[str, np.ndarray], tmp_path: Path) -> str:
    write_recording(tmp_path / "expected.zarr", spikes)
    return digest(tmp_path / "expected.zarr")


def events(values: np.ndarray) -> dict[str, np.ndarray]:
    step, sample, *axes = np.nonzero(values)
    return {"step": step, "sample": sample, "neuron": np.ravel_multi_index(axes, values.shape[2:])}


@pytest.mark.parametrize("kind", ["npy", "npz", "pt", "pt of lists", "axes"])
def test_arrays(spikes: dict[str, np.ndarray], expected: str, tmp_path: Path, kind: str) -> None:
    run, options = tmp_path / "run.zarr", []
    if kind == "npy":
        files = [tmp_path / "conv.npy", f"out={tmp_path / 'a=b.npy'}"]
        np.save(files[0], spikes["conv"])
        np.save(tmp_path / "a=b.npy", spikes["out"])
    elif kind == "npz":
        files = [tmp_path / "both.npz"]
        np.savez(files[0], **spikes)
    elif kind == "axes":
        files = [tmp_path / "conv.npy", tmp_path / "out.npy"]
        np.save(files[0], np.moveaxis(spikes["conv"], 0, -1))
        np.save(files[1], spikes["out"].transpose(1, 0, 2))
        options = ["--axes", "n t ...", "--axes", "conv=n ... t"]
    else:
        files = [tmp_path / "both.pt"]
        tensors = {name: torch.from_numpy(values) for name, values in spikes.items()}
        lists = {"conv": tensors["conv"], "out": [*tensors["out"]]}
        torch.save(lists if kind == "pt of lists" else tensors, files[0])
    assert done(*files, "-o", run, *options).endswith("run.zarr: 2 layer(s), closed\n")
    assert digest(run) == expected


NEURONS = ("--neurons", "conv=2,3,3", "--neurons", "out=4")


@pytest.mark.parametrize("kind", ["npz", "parquet"])
@pytest.mark.parametrize("joined", [False, True])
def test_tables(
    spikes: dict[str, np.ndarray], expected: str, tmp_path: Path, kind: str, joined: bool
) -> None:
    tables = {name: events(values) for name, values in spikes.items()}
    if joined:
        parts = [{**table, "layer": np.full(len(table["step"]), name)} for name, table in tables.items()]
        together = {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}
        order = np.argsort(together["step"], kind="stable")
        tables = {"events": {column: values[order] for column, values in together.items()}}
    files = []
    for name, table in tables.items():
        files.append(tmp_path / f"{name}.{kind}")
        if kind == "npz":
            np.savez(files[-1], **table)
        else:
            pq.write_table(pa.table(table), files[-1], row_group_size=5)
    run = tmp_path / "run.zarr"
    done(*files, "-o", run, "--steps", STEPS, "--samples", SAMPLES, *NEURONS)
    assert digest(run) == expected


def test_trials_labels_and_facts(tmp_path: Path) -> None:
    table = {"trial": [0, 0, 2], "time": [1, 3, 0], "neuron": [2, 0, 1]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    (tmp_path / "labels.txt").write_text("cat\ndog\n=cmd\n")
    run = tmp_path / "run.zarr"
    done(
        tmp_path / "a.parquet", "-o", run, "--neurons", 3, "--steps", 4, "--trials", 3,
        "--labels", tmp_path / "labels.txt", "--dt", 0.5, "--dt-unit", "ms", "--licence", "MIT",
        "--citation", "Doe",
    )  # fmt: skip
    recording = analysis.open_recording(run)
    counts = recording["a"].spike_count(per=("label", "time")).compute()
    assert counts.sel(label="cat").values.tolist() == [0, 1, 0, 1]
    assert counts.sel(label="=cmd").values.tolist() == [1, 0, 0, 0]
    assert [recording.provenance[name] for name in ("dt", "dt_unit", "licence", "citation")] == [
        0.5, "ms", "MIT", "Doe"
    ]  # fmt: skip


def test_labels_of_samples(spikes: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.save(tmp_path / "out.npy", spikes["out"])
    np.save(tmp_path / "labels.npy", np.array([7, 3]))
    done(tmp_path / "out.npy", "-o", tmp_path / "run.zarr", "--labels", tmp_path / "labels.npy")
    write_recording(tmp_path / "array.zarr", {"out": spikes["out"]}, labels=[7, 3])
    assert digest(tmp_path / "run.zarr") == digest(tmp_path / "array.zarr")


def test_what_is_there_stays_unless_it_is_to_be_replaced_or_gone_on_with(
    spikes: dict[str, np.ndarray], tmp_path: Path
) -> None:
    file, run = tmp_path / "out.npy", tmp_path / "run.zarr"
    np.save(file, spikes["out"])
    done(file, "-o", run)
    assert "already holds a recording" in failed(file, "-o", run)
    done(file, "-o", run, "--resume")
    assert analysis.open_recording(run)["out"].steps == STEPS
    done(file, "-o", run, "--append")
    assert analysis.open_recording(run)["out"].steps == 2 * STEPS
    done(file, "-o", run, "--overwrite")
    assert analysis.open_recording(run)["out"].steps == STEPS


def test_errors_say_what_to_do(spikes: dict[str, np.ndarray], tmp_path: Path) -> None:
    array, table, both = (tmp_path / name for name in ("out.npy", "a.parquet", "both.parquet"))
    np.save(array, spikes["out"].astype(int) * 40_000)
    pq.write_table(pa.table({"step": [1, 0], "neuron": [0, 0]}), table)
    pq.write_table(pa.table({"layer": ["x"], "step": [1], "neuron": [0]}), both)
    (tmp_path / "broken.npy").write_bytes(b"nothing")
    (tmp_path / "broken.parquet").write_bytes(b"nothing")
    (tmp_path / "a.csv").write_text("step,neuron\n")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    for number, (arguments, message) in enumerate(
        (
            ([array], "values other than 0 and 1, or whole multiples of one scale: from 40000 to 40000"),
            ([tmp_path / "none.npy"], "No such file"),
            ([tmp_path / "a.csv"], "no file of a known kind; expected one of .npy, .npz, .parquet"),
            ([tmp_path / "broken.npy"], "cannot be read as a file of numpy"),
            ([tmp_path / "objects.npy"], "cannot be read as a file of numpy"),
            ([tmp_path / "broken.parquet"], "cannot be read as Parquet"),
            ([array, f"out={table}", "--neurons", 1, "--steps", 2], "layer 'out' is in another file, too"),
            ([table], "--neurons SHAPE --steps N"),
            ([table, "--neurons", "x=1", "--steps", 2], "--neurons SHAPE --steps N"),
            ([table, "--neurons", 1, "--steps", 1], "has step 1; expected 0 to 0"),
            ([both, "--neurons", 1, "--steps", 2], "has a column layer, of which the neurons are not said"),
            ([both, "--neurons", "y=1", "--steps", 2], "has events of layer 'x'"),
            ([table, "--neurons", "two", "--steps", 2], "'two' is no shape"),
            ([table, "--neurons", "a=1", "--neurons", "a=1", "--steps", 2], "each layer once"),
            ([array, "--axes", "b=t n c"], "there is no layer 'b', only ['out']"),
            ([array, "--steps", 2], "are of tables, and there is none"),
            ([array, "--several", "once"], "are of tables, and there is none"),
            ([array, "--overwrite", "--append"], "choose one of them"),
        )
    ):
        assert message in failed(*arguments, "-o", tmp_path / f"{number}.zarr")


def test_a_table_that_does_not_ascend_is_refused_where_it_is_read_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recorder.elsewhere import files

    monkeypatch.setattr(files, "_ROWS_READ", 1)
    pq.write_table(pa.table({"step": [1, 0], "neuron": [0, 0]}), tmp_path / "a.parquet")
    message = failed(tmp_path / "a.parquet", "-o", tmp_path / "run.zarr", "--neurons", 1, "--steps", 2)
    assert "step 0 come behind a table that ended with step 1: sort the events" in message


@pytest.mark.parametrize("kind", [".npz", ".parquet"])
def test_several_events_in_one_step_are_counted_or_one_where_that_is_said(tmp_path: Path, kind: str) -> None:
    file, run = tmp_path / f"out{kind}", tmp_path / "run.zarr"
    columns = {"step": [0, 0, 0, 2], "neuron": [1, 1, 0, 2]}
    pq.write_table(pa.table(columns), file) if kind == ".parquet" else np.savez(file, **columns)
    sizes = ("--neurons", 3, "--steps", 3)
    assert "2 events are of neuron 1 in step 0" in (message := failed(file, "-o", run, *sizes))
    assert "--several count" in message
    for several, number in (("count", 2), ("once", 1)):
        done(file, "-o", run, *sizes, "--overwrite", "--several", several)
        values = np.asarray(analysis.open_recording(run)["out"].values)
        assert np.array_equal(values, [[1, number, 0], [0, 0, 0], [0, 0, 1]])
