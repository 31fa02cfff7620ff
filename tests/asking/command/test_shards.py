"""`spiketape stats --shard` and `spiketape merge`: an answer made in parts is that of one run."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import analysis
from analysis.asking import planning
from analysis.asking.rounds import calls_in
from analysis.asking.shards import Sharded
from analysis.cli import commands
from analysis.cli.tables import asking
from analysis.cli.tables.asking import Asked
from analysis.cli.tables.parts import Part, PartError
from tapes import CONNECTIONS, Run, Trial, write_recording

# What statistics that are of one layer, or of no axis of others, are asked for.
SPECIAL: dict[str, list[str]] = {
    "accuracy": ["--per", "time", "--layer", "3"],
    "similarity": ["--per", "time"],
    "selectivity": ["--per", "layer,epoch"],
    "information": ["--per", "layer,epoch"],
    "correlation": ["--layer", "3"],
    "features": ["--layer", "3"],
}
SEVERAL = [
    "--what",
    "firing_rate,silent_ratio,isi_mean,latency,sparseness",
    "--per",
    "layer,label",
    "--where",
    "epoch=[0,1,2]",
]


@pytest.fixture(autouse=True)
def many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "SMALL_TASK_BYTES", 64)
    monkeypatch.setattr(planning, "TASK_BYTES", 64)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    random = np.random.default_rng(7)
    layers = {"1": random.random((880, 3, 7)) < 0.2, "3": random.random((880, 9)) < 0.1}
    trials = [Trial(trial, 8, {"label": [0, 3] * 4, "epoch": [trial % 4] * 8}) for trial in range(10)]
    runs = [Run(11 * trial, 11, 8, trial) for trial in range(10)]
    write_recording(tmp_path / "run.zarr", layers, runs, trials, chunk_bytes=64, connections=CONNECTIONS)
    return tmp_path / "run.zarr"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(commands.main, [*map(str, arguments)])


def succeed(*arguments: object) -> Result:
    result = call(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def parts_of(path: Path, question: list[str], shards: int = 3, name: str = "part") -> list[Path]:
    parts = [path.parent / f"{name}-{shard}.npz" for shard in range(shards)]
    for shard, part in enumerate(parts):
        succeed("stats", path, *question, "--shard", f"{shard}/{shards}", "-o", part)
    return parts


def refused(*arguments: object) -> str:
    result = call("merge", *arguments)
    assert result.exit_code == 1, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


@pytest.mark.parametrize("name", asking.statistics())
def test_every_statistic_is_that_of_one_run(path: Path, name: str) -> None:
    question = ["--what", name, *SPECIAL.get(name, ["--per", "layer,label"])]
    whole = succeed("stats", path, *question, "--format", "csv").stdout
    parts = parts_of(path, question)
    assert all(Part.read(part).results for part in parts)
    assert succeed("merge", *parts[::-1], "--format", "csv").stdout == whole


@pytest.mark.parametrize("shards", [1, 2, 7, 40])
def test_several_statistics_in_any_number_of_shards(path: Path, shards: int) -> None:
    whole = succeed("stats", path, *SEVERAL, "--format", "json").stdout
    assert succeed("merge", *parts_of(path, SEVERAL, shards), "--format", "json").stdout == whole


@pytest.mark.parametrize(
    "question",
    [
        ["--what", "firing_rate,silent_ratio,saturated_ratio", "--per", "trial,neuron", "--layer", "1"],
        ["--what", "isi_histogram", "--per", "trial", "--set", "longest=5"],
        ["--what", "isi_cv2,isi_lv", "--per", "neuron", "--layer", "3", "--boundary", "none"],
        ["--what", "spike_count", "--per", "presentation", "--time", "2:9"],
        ["--per", "network"],
        ["--per", "window", "--window", "7", "--neurons", ":2"],
    ],
)  # fmt: skip
def test_other_questions(path: Path, question: list[str]) -> None:
    layer = [] if "--neurons" not in question else ["--layer", "3"]
    whole = succeed("stats", path, *question, *layer, "--format", "csv").stdout
    assert succeed("merge", *parts_of(path, [*question, *layer], 4), "--format", "csv").stdout == whole


def test_several_recordings(path: Path) -> None:
    layers = {"1": np.ones((80, 3, 7), np.bool_), "3": np.zeros((80, 9), np.bool_)}
    trials = [Trial(0, 8, {"label": [3, 5] * 4, "epoch": [0] * 8})]
    write_recording(path.parent / "other.zarr", layers, [Run(0, 10, 8, 0)], trials)
    pattern = path.parent / "*.zarr"
    question = ["--per", "recording,label"]
    whole = succeed("stats", pattern, *question).stdout
    assert succeed("merge", *parts_of(pattern, question, 2)).stdout == whole


# A trial is so large that it has tasks of its own, and sums of its own.
@pytest.mark.parametrize("per", ["layer", "trial"])
@pytest.mark.parametrize("name", ["firing_rate", "isi_mean"])
def test_shards_read_about_as_many_frames_each(path: Path, name: str, per: str) -> None:
    answer = Asked((name,), (per,)).of(analysis.open_recording(path, use_counts=False))
    sharded = Sharded.of(answer, 3)
    frames: Counter[Any] = Counter()
    for call in calls_in(sharded.graph):
        frames[call.key] += call.last - call.first
    assert len(frames) > 20
    graphs = [sharded.results(shard).__dask_graph__() for shard in range(3)]
    read = [sum(frames[key] for key in graph if key in frames) for graph in graphs]
    assert sum(read) == frames.total()
    assert min(read) > max(read) / 2


def test_sums_within_a_shard_are_added_up_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.asking.graphs._FAN_IN", 2)
    answer = Asked(("firing_rate", "isi_mean"), ("layer",)).of(analysis.open_recording(path))
    sharded = Sharded.of(answer, 3)
    reading = {call.key for call in calls_in(sharded.graph)}
    assert sum(len(sharded.keys(shard)) for shard in range(3)) < len(reading)


def test_merging_reads_no_spikes(path: Path) -> None:
    parts = parts_of(path, SEVERAL)
    whole = succeed("stats", path, *SEVERAL).stdout
    for spikes in path.glob("**/spikes/c"):
        shutil.rmtree(spikes)
    assert succeed("merge", *parts).stdout == whole
    assert call("stats", path, *SEVERAL).exit_code == 1


def test_parts_of_a_copy_elsewhere_are_merged(path: Path, tmp_path: Path) -> None:
    parts = parts_of(path, SEVERAL)
    whole = succeed("stats", path, *SEVERAL).stdout
    (tmp_path / "mount").mkdir()
    moved = path.rename(tmp_path / "mount" / "moved.zarr")
    assert "say where the recording is with --recording PATH" in refused(*parts)
    assert succeed("merge", *parts, "--recording", moved).stdout == whole


def test_the_table_is_written_as_asked(path: Path, tmp_path: Path) -> None:
    parts = parts_of(path, SEVERAL)
    assert succeed("merge", *parts, "-o", tmp_path / "table.csv").output == ""
    succeed("stats", path, *SEVERAL, "-o", tmp_path / "whole.csv")
    assert (tmp_path / "table.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_shards_that_are_missing_or_doubled_are_named(path: Path) -> None:
    parts = parts_of(path, SEVERAL, 5)
    assert "of 5 shards, 1, 3 are missing" in refused(parts[0], parts[2], parts[4])
    assert "of 5 shards, 4 is missing" in refused(*parts[:4])
    assert "both shard 2; give each once" in refused(*parts, parts[2])


def test_parts_of_other_answers_are_refused(path: Path, tmp_path: Path) -> None:
    parts = parts_of(path, SEVERAL)
    other = parts_of(path, [*SEVERAL, "--steps", "5:"], name="steps")
    assert "steps-1.npz answers another question than" in refused(parts[0], other[1], parts[2])
    other = parts_of(path, SEVERAL, 4, name="four")
    assert "four-1.npz is one of 4 shards, not of 3 as" in refused(parts[0], other[1], parts[2])
    write_recording(tmp_path / "second.zarr", {"1": np.zeros((80, 3), np.bool_)}, [Run(0, 10, 8)])
    other = parts_of(tmp_path / "second.zarr", ["--per", "layer"], name="second")
    assert "second-1.npz is about another recording" in refused(parts[0], other[1], parts[2])
    assert "is another one than that of the parts" in refused(*parts, "--recording", tmp_path / "second.zarr")


def test_a_recording_that_has_grown_is_refused(path: Path, tmp_path: Path) -> None:
    parts = parts_of(path, SEVERAL)
    succeed("pack", path, tmp_path / "packed.zarr")
    assert "is not as it was when the parts were made" in refused(
        *parts, "--recording", tmp_path / "packed.zarr"
    )


@pytest.mark.parametrize("shard", ["3/3", "-1/3", "0/0", "1", "a/b", "1/2/3", "0/10000000", "٣/٤"])
def test_shards_out_of_range_are_refused(path: Path, tmp_path: Path, shard: str) -> None:
    result = call("stats", path, "--shard", shard, "-o", tmp_path / "part.npz")
    assert result.exit_code == 2
    assert "expected the number of a shard, from 0 on" in result.stderr


@pytest.mark.parametrize("options", [[], ["-o", "a.csv", "--format", "csv"], ["-o", "a.csv", "--safe"]])
def test_a_shard_is_no_table(path: Path, options: list[str]) -> None:
    result = call("stats", path, "--shard", "0/2", *options)
    assert result.exit_code == 2
    assert "give it -o FILE, and no format" in result.stderr


def test_what_fails_leaves_the_part_that_was_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (part,) = parts_of(path, SEVERAL, 1)
    before = part.read_bytes()

    def fail(file: Any, **arrays: Any) -> None:
        file.write(b"some")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", fail)
    assert call("stats", path, "--shard", "0/2", "-o", part).exit_code == 1
    assert part.read_bytes() == before
    assert sorted(each.name for each in part.parent.iterdir()) == ["part-0.npz", "run.zarr"]


def test_a_result_of_unknown_type_is_named(tmp_path: Path) -> None:
    for value, name in [
        (Fraction(1, 2), "fractions.Fraction"),
        (np.array([None]), "numpy.ndarray of object"),
    ]:
        part = Part(0, 1, Asked(("firing_rate",), ()), (), "run.zarr", {"a": value})
        with pytest.raises(PartError, match=f"a task gave {name}, which a part of an answer cannot hold"):
            part.write(tmp_path / "part.npz")
    assert not [*tmp_path.iterdir()]


def forge(part: Path, change: Callable[[dict[str, Any], dict[str, Any]], None], **options: Any) -> None:
    """Write a part again with another header or other arrays."""
    with np.load(part) as file:
        arrays: dict[str, Any] = {name: file[name] for name in file.files}
    header = json.loads(arrays.pop("header").tobytes())
    change(header, arrays)
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    options.get("save", np.savez)(part, header=text, **arrays)


def _first(header: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(result[kind] for result in header["results"].values() if kind in result)


FORGED: dict[str, Callable[[dict[str, Any], dict[str, Any]], Any]] = {
    "format": lambda header, _: header.update(format="spiketape part 2"),
    "shard": lambda header, _: header.update(shard=7),
    "shards": lambda header, _: header.update(shards=True),
    "count": lambda header, _: header.update(shards=10**12),
    "nothing": lambda header, _: header.clear(),
    "question": lambda header, _: header["question"].update(what="firing_rate"),
    "word": lambda header, _: header["question"].update(__class__="x"),
    "number": lambda header, _: header["question"].update(steps=5),
    "commits": lambda header, _: header["commits"][0].update(number="5"),
    "type": lambda header, _: header["results"].update(a={"Popen": {"args": "true"}}),
    "two": lambda header, _: header["results"].update(a={"array": 0, "number": 0}),
    "place": lambda header, _: header["results"].update(a={"array": 10**6}),
    "text": lambda header, _: header["results"].update(a="some"),
    "scalar": lambda header, _: header["results"].update(a={"number": 0}),
    "field": lambda header, _: _first(header, "IntervalSums").update(more=None),
    "kind": lambda header, _: _first(header, "IntervalSums").update(kind="lags"),
    "edge": lambda header, _: _first(header, "IntervalSums").update(edge={"array": 0}),
    "sums": lambda header, _: _first(header, "IntervalSums").pop("sums"),
    "pickle": lambda _, arrays: arrays.update({"0": np.array([{}], object)}),
}


@pytest.mark.parametrize("name", FORGED)
def test_malformed_parts_are_one_clear_error(path: Path, name: str) -> None:
    parts = parts_of(path, SEVERAL)
    forge(parts[1], FORGED[name])
    assert "part-1.npz is no part of an answer, or is damaged" in refused(*parts)


def test_results_of_other_tasks_are_refused(path: Path) -> None:
    parts = parts_of(path, SEVERAL)
    forge(parts[1], lambda header, _: header["results"].popitem())
    assert "part-1.npz holds results of other tasks than shard 1 has here" in refused(*parts)


def test_results_of_another_shape_are_one_clear_error(path: Path) -> None:
    parts = parts_of(path, SEVERAL)
    forge(parts[1], lambda _, arrays: arrays.update({name: np.zeros((3, 5, 1), np.int64) for name in arrays}))
    assert "do not fit together" in refused(*parts)


def test_damaged_and_foreign_files_are_one_clear_error(path: Path, tmp_path: Path) -> None:
    parts = parts_of(path, SEVERAL)
    whole = parts[1].read_bytes()
    damaged = bytearray(whole)
    damaged[whole.rindex(b"NUMPY") + 40] ^= 1
    for content in (whole[: len(whole) // 2], whole[:-1], bytes(damaged), b"", b"layer,firing_rate\n"):
        parts[1].write_bytes(content)
        assert "part-1.npz is no part of an answer, or is damaged" in refused(*parts)
    parts[1].write_bytes(whole)
    forge(parts[1], lambda *_: None, save=np.savez_compressed)
    assert "it is compressed" in refused(*parts)
    assert "absent.npz: No such file" in refused(parts[0], tmp_path / "absent.npz")
    assert "directory" in refused(tmp_path)


def test_an_array_that_claims_to_be_huge_takes_no_memory(path: Path) -> None:
    parts = parts_of(path, SEVERAL)
    with zipfile.ZipFile(parts[1]) as file:
        entries = {entry.filename: file.read(entry) for entry in file.infolist()}
    magic = np.lib.format.magic(1, 0)
    text = "{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }\n"
    entries["0.npy"] = magic + len(text).to_bytes(2, "little") + text.encode()
    with zipfile.ZipFile(parts[1], "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    assert "an array of int64 (1000000000000,) in 0 bytes" in refused(*parts)


def test_an_address_in_a_part_is_not_opened_unasked(path: Path) -> None:
    parts = parts_of(path, SEVERAL)
    for part in parts:
        forge(part, lambda header, _: header.update(location="http://127.0.0.1:9/run.zarr"))
    result = call("merge", *parts)
    assert result.exit_code == 2
    assert "say where it is with --recording PATH" in result.stderr
