"""Labels of which each sample has its own: they lie in an array, and nothing else tells where they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import zarr
from torch import nn

import analysis
from analysis.keeping import find_problems
from recorder import Monitor
from recorder.format import RecordingFormatError, columns
from recorder.format.documents import encode_document
from recorder.format.parsing.record import parse_document
from recorder.format.record.metadata import MAX_CATEGORY_BYTES
from recorder.keeping.digest import digest_recording
from recorder.keeping.pack import pack_recording
from recorder.keeping.recovery import plan_recovery, recover
from recorder.stores import Folder, open_store
from recorder.tape import TapeReader, TapeWriter

Batches = Sequence[Sequence[Any]]

# Of every type, and such as look alike.
MIXED: list[Any] = [True, 1, 1.0, "1", None, False, 0, -0.5, 2**62, "a\nb", '"', "ü\u2028\x85", "", "1"]


def unique(first: int, last: int) -> list[str]:
    return [f"sample-{number}" for number in range(first, last)]


def write(
    path: Path, *batches: Sequence[Any], tape: TapeWriter | None = None, close: bool = True
) -> TapeWriter:
    """Write trials with these labels, a commit for each."""
    tape = tape or TapeWriter.create(Folder(path, durability="process"), {})
    first = tape.metadata.trials.trials
    for number, labels in enumerate(batches, first):
        is_last = number == first + len(batches) - 1
        tape.commit({}, [(number, len(labels), {"label": list(labels)})], number + 1, close=close and is_last)
    return tape


def labels_of(path: Path) -> list[Any]:
    return TapeReader.open(open_store(path, read_only=True)).trials()["label"].tolist()


def exactly(values: Sequence[Any]) -> list[tuple[type, Any]]:
    return [(type(value), value) for value in values]


@pytest.fixture
def few_in_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little data makes an array."""
    limit_the_record(monkeypatch, 500)


def limit_the_record(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("recorder.tape.trial_columns.MAX_RECORDED_BYTES", size)


def version(path: Path) -> int:
    return TapeReader.open(Folder(path)).metadata.format_version


def test_a_million_labels_take_no_room_in_the_record(tmp_path: Path) -> None:
    size = 100_000
    write(tmp_path / "a.zarr", *(unique(first, first + size) for first in range(0, 10 * size, size)))
    assert (tmp_path / "a.zarr/zarr.json").stat().st_size < 2**14
    assert labels_of(tmp_path / "a.zarr") == unique(0, 10 * size)


def test_a_commit_writes_again_only_the_end_of_what_there_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = write(tmp_path / "a.zarr", unique(0, 100_000), close=False)
    written: list[int] = []
    original = Folder.write
    monkeypatch.setattr(
        Folder, "write", lambda self, key, data: (written.append(len(data)), original(self, key, data))[1]
    )
    write(tmp_path / "a.zarr", unique(100_000, 100_100), tape=tape)
    # All labels take more than a megabyte.
    assert sum(written) < 2**17


def test_few_labels_are_stored_as_they_ever_were(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr", unique(0, 1000), MIXED)
    document = json.loads((tmp_path / "a.zarr/zarr.json").read_bytes())
    record = document["attributes"]["spiketape"]
    assert record["format_version"] == 1
    (label,) = (column for column in record["trials"]["columns"] if column["name"] == "label")
    assert label["categories"] == [*unique(0, 1000), *(value for value in MIXED[:-1] if value is not None)]
    assert not (tmp_path / "a.zarr/categories").exists()


@pytest.mark.usefixtures("few_in_the_record")
def test_categories_are_the_same_wherever_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [MIXED, unique(0, 40), [*MIXED, *unique(20, 60)], [None, None], unique(0, 3)]
    write(tmp_path / "array.zarr", *batches)
    limit_the_record(monkeypatch, columns.MAX_RECORDED_BYTES)
    write(tmp_path / "record.zarr", *batches)
    assert [version(tmp_path / name) for name in ("array.zarr", "record.zarr")] == [3, 1]
    expected = exactly([label for batch in batches for label in batch])
    for name in ("array.zarr", "record.zarr"):
        assert exactly(labels_of(tmp_path / name)) == expected
    in_array, in_record = (TapeReader.open(Folder(tmp_path / name)) for name in ("array.zarr", "record.zarr"))
    assert digest_recording(in_array) == digest_recording(in_record)
    stored = [
        [read.trials[column].values.tolist() for column in ("trial", "sample")]
        for read in (analysis.open_recording(tmp_path / name) for name in ("array.zarr", "record.zarr"))
    ]
    assert stored[0] == stored[1]
    assert find_problems(in_array) == []


@pytest.mark.usefixtures("few_in_the_record")
def test_stock_zarr_reads_the_labels_line_by_line(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr", MIXED, unique(0, 40))
    lines = bytes(zarr.open_group(tmp_path / "a.zarr", mode="r")["categories"]["label"][:]).split(b"\n")[:-1]  # type: ignore[index,arg-type]
    places = zarr.open_group(tmp_path / "a.zarr", mode="r")["trials"]["label"][:]  # type: ignore[index]
    categories = [*(json.loads(line) for line in lines), None]
    assert exactly([categories[place] for place in places]) == exactly([*MIXED, *unique(0, 40)])  # type: ignore[union-attr]


@pytest.mark.parametrize("before", [10, 30])
def test_a_resumed_recording_goes_on_whether_its_labels_were_in_an_array_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    limit_the_record(monkeypatch, 500)
    path = tmp_path / "a.zarr"
    write(path, unique(0, before))
    assert version(path) == (1 if before == 10 else 3)
    for first in range(before, 60, 10):
        write(path, unique(first - 5, first + 10), tape=TapeWriter.resume(Folder(path)))
    assert version(path) == 3
    expected = [*unique(0, before)]
    for first in range(before, 60, 10):
        expected += unique(first - 5, first + 10)
    assert labels_of(path) == expected
    assert find_problems(TapeReader.open(Folder(path))) == []


@pytest.mark.usefixtures("few_in_the_record")
def test_a_monitor_records_resumes_and_answers_by_label(tmp_path: Path) -> None:
    class Threshold(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x > 0.5).to(x.dtype)

    path, labels = tmp_path / "a.zarr", [f"a label that is long {number}" for number in range(40)]
    spikes = torch.rand(40, 7)
    for first, how in ((0, {}), (20, {"resume": True})):
        net = nn.Sequential(Threshold())
        with Monitor(net, layers=[Threshold], store=path, **how) as monitor:
            for at in range(first, first + 20, 10):
                with monitor.trial(label=labels[at : at + 10]):
                    net(spikes[at : at + 10])
    recording = analysis.open_recording(path)
    assert recording.metadata.format_version == 3
    rates = recording.firing_rate(per="label")
    assert dict(zip(rates.label.values.tolist(), rates.values.tolist(), strict=True)) == dict(
        zip(labels, (spikes > 0.5).double().mean(1).tolist(), strict=True)
    )
    chosen = recording.select(labels=[labels[31]])
    assert float(chosen.firing_rate()) == (spikes[31] > 0.5).double().mean()
    assert recording["0"].spikes.label.values.tolist() == labels


@pytest.mark.usefixtures("few_in_the_record")
@pytest.mark.parametrize("name", ["packed.zarr", "packed.zip"])
def test_packed_labels_are_the_same(tmp_path: Path, name: str) -> None:
    write(tmp_path / "a.zarr", MIXED, unique(0, 100))
    reader = TapeReader.open(Folder(tmp_path / "a.zarr"))
    packed = pack_recording(reader, str(tmp_path / name))
    assert packed.digest == digest_recording(reader)
    assert exactly(labels_of(tmp_path / name)) == exactly([*MIXED, *unique(0, 100)])
    assert find_problems(TapeReader.open(open_store(tmp_path / name, read_only=True))) == []


@pytest.mark.usefixtures("few_in_the_record")
@pytest.mark.parametrize("committed", [10, 30])
def test_recovery_keeps_what_was_committed_and_drops_the_rest(tmp_path: Path, committed: int) -> None:
    path = tmp_path / "a.zarr"
    tape = write(path, unique(0, committed), close=False)
    # A commit that is cut short before its record is written.
    tape._trials.append([(1, 50, {"label": unique(committed, committed + 50)})])
    tape._trials.flush(2)
    place = tape._commits.ready("categories/zarr.json", encode_document({"node_type": "group"}))
    tape._commits.finish()
    place()
    tape.release()
    reader = TapeReader.open(Folder(path))
    recovery = plan_recovery(reader, find_problems(reader))
    recover(Folder(path), recovery, reader.metadata.commit_number)
    assert recovery.foreign == ()
    assert labels_of(path) == unique(0, committed)
    assert find_problems(TapeReader.open(Folder(path))) == []
    keys = [key for key in Folder(path).keys() if key.startswith("categories")]  # noqa: SIM118 - no mapping
    assert len(keys) == (0 if committed == 10 else 3)


@pytest.mark.usefixtures("few_in_the_record")
@pytest.mark.parametrize(
    "harm",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes((file.parents[2] / "other/c/0").read_bytes()),
    ],
    ids=["missing", "cut short", "of another column"],
)
def test_damaged_labels_are_an_error_that_names_them(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    path = tmp_path / "a.zarr"
    labels = {"label": unique(0, 50), "other": unique(50, 100)}
    TapeWriter.create(Folder(path), {}).commit({}, [(0, 50, dict(labels))], 1, close=True)  # type: ignore[arg-type]
    harm(path / "categories/label/c/0")
    with pytest.raises(RecordingFormatError, match="categories/label"):
        TapeReader.open(Folder(path)).trials()
    assert any("categories/label" in str(problem) for problem in find_problems(TapeReader.open(Folder(path))))


def test_labels_that_stand_there_twice_are_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_the_record(monkeypatch, 0)
    monkeypatch.setattr(
        "recorder.tape.trial_columns.encode_categories", lambda values: b'"a"\n' * len(values)
    )
    write(tmp_path / "a.zarr", ["a", "b"])
    assert labels_of(tmp_path / "a.zarr") == ["a", "a"]
    with pytest.raises(RecordingFormatError, match="column 'label' has a category twice"):
        TapeWriter.resume(Folder(tmp_path / "a.zarr"))


def test_a_recording_without_its_array_of_labels_still_opens_and_counts(tmp_path: Path) -> None:
    """Nobody reads the labels who does not ask about them."""
    write(tmp_path / "a.zarr", unique(0, 20_000))
    (tmp_path / "a.zarr/categories/label/c/0").unlink()
    recording = analysis.open_recording(tmp_path / "a.zarr")
    assert recording.metadata.trials.rows == 20_000


@pytest.mark.parametrize(
    ("stored", "count"),
    [
        (b'"a"', 1),
        (b'"a"\n', 2),
        (b'"a"\n"b"\n', 1),
        (b'"a","b"\n', 1),
        (b"\xff\n", 1),
        (b"\n", 1),
        (b"null\n", 1),
        (b"[]\n", 1),
        (b"Infinity\n", 1),
        (b'"\\ud800"\n', 1),
        (b"[" * 100_000 + b"\n", 1),
        (b"1" * 5000 + b"\n", 1),
        (b"1]\n[1\n", 2),
        (b'1,2\n"a\n b"\n', 3),
        (b"[1\n2]\n", 2),
    ],
)
def test_what_is_no_table_of_labels_is_refused(stored: bytes, count: int) -> None:
    with pytest.raises(RecordingFormatError, match=r"the categories (are|hold)"):
        columns.decode_categories(stored, count)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"categories": {"count": 6, "rows": 10, "crc32c": 1}}, "count is 6, expected 0 to 5"),
        ({"categories": {"count": 1, "rows": MAX_CATEGORY_BYTES + 1, "crc32c": 1}}, "bytes of categories"),
        ({"categories": {"count": 1}}, "categories.rows is missing"),
        ({"kind": "int64"}, "those of kind 'int64' have none"),
        ({"categories": []}, "format_version is 3, expected 1"),
    ],
)
@pytest.mark.usefixtures("few_in_the_record")
def test_a_record_that_declares_what_cannot_be_is_refused(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    write(tmp_path / "a.zarr", unique(0, 50))
    document = json.loads((tmp_path / "a.zarr/zarr.json").read_bytes())
    document["attributes"]["spiketape"]["trials"]["columns"][-1].update(changes)
    with pytest.raises(RecordingFormatError, match=problem):
        parse_document(json.dumps(document).encode(), "here")
