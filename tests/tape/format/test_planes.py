"""Values are events and planes: written, read by stock Zarr, resumed, cut, verified, recovered, packed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import zarr
from hypothesis import strategies as st
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

import recorder.format
from packed_levels import assert_joined, assert_packed
from recorder.format import RecordingFormatError
from recorder.format.planes.at_events import join_bits
from recorder.format.planes.values import join_levels, pack_levels, pending_rows
from recorder.format.segments import SegmentLog
from recorder.keeping import plan_recovery, recover
from recorder.keeping.digest import digest_recording
from recorder.keeping.pack import pack
from recorder.keeping.verification import check_blocks, check_documents, check_tables, count_blocks
from recorder.stores import Folder
from recorder.tape import LayerProgress, LayerReader, TapeReader, TapeWriter
from recorder.tape.layers.levels import read_levels, sum_levels
from tapes import Run, write_recording

FORMAT = Path(recorder.format.__file__).with_name("FORMAT.md").read_text("utf-8")
zarr_warns = pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")


@st.composite
def levels_of_a_run(draw: st.DrawFn) -> NDArray[np.int16]:
    """Levels whose range grows now and then, of a few chunks of 64 frames."""
    frames, neurons = draw(st.integers(1, 400)), draw(st.integers(1, 9))
    seed, density = draw(st.integers(0, 2**32)), draw(st.sampled_from([0, 0.05, 0.5, 1]))
    random = np.random.default_rng(seed)
    levels = (random.random((frames, neurons)) < density).astype(np.int16)
    for _ in range(draw(st.integers(0, 3))):
        begin, most = (
            draw(st.integers(0, frames)),
            draw(st.sampled_from([1, 2, 3, 4, 5, 100, 127, 128, 32767])),
        )
        least = -most if draw(st.booleans()) else 0
        levels[begin:] = random.integers(least, most + 1, levels[begin:].shape)
    return levels


def problems_of(reader: TapeReader) -> list[Any]:
    found = check_documents(reader)
    for bits in (bits for layer in reader.layers.values() for bits in layer.bits):
        found += check_tables(bits, reader.metadata.trials.trials)
        found += check_blocks(bits, 0, count_blocks(bits.commit))
    return found


def write(path: Path, levels: NDArray[Any], **options: Any) -> TapeReader:
    writer = write_recording(path, {"1": levels}, [Run(0, len(levels), 1)], chunk_bytes=1, **options)
    writer.release()
    return TapeReader.open(Folder(path))


@hypothesis.given(levels_of_a_run())
@hypothesis.settings(max_examples=60, deadline=None)
def test_levels_become_planes_and_levels_again(levels: NDArray[np.int16]) -> None:
    packed, events = pack_levels(levels), levels != 0
    assert_packed(packed, levels)
    planes = {name: np.zeros_like(events) for name in packed.planes}
    # As the format has it: plane k is bit k of |level| - 1.
    for name, plane in planes.items():
        expected = levels < 0 if name == "sign" else (np.abs(levels) - 1 >> int(name)) & 1 & events
        plane[events] = np.unpackbits(packed.planes[name].bits, count=packed.events)
        np.testing.assert_array_equal(plane, expected.astype(np.bool_))
    np.testing.assert_array_equal(join_levels(events, planes), levels)


@hypothesis.given(levels_of_a_run(), st.data())
@hypothesis.settings(max_examples=60, deadline=None)
def test_packed_levels_are_cut_at_any_row(levels: NDArray[np.int16], data: st.DataObject) -> None:
    packed = pack_levels(levels)
    row = data.draw(st.integers(0, len(packed)))
    before, behind = packed.split(row)
    assert_packed(before, levels[: 8 * row])
    assert_packed(behind, levels[8 * row :])


@hypothesis.given(st.lists(st.tuples(st.integers(0, 40), st.booleans())), st.integers(0, 3))
def test_pieces_of_bits_are_joined_in_order(lengths: list[tuple[int, bool]], more: int) -> None:
    assert_joined(join_bits, lengths, more)


def levels_by_stock_zarr(path: Path, layer: LayerReader) -> NDArray[np.int16]:
    """Levels of a layer as FORMAT.md says that stock Zarr gives them."""
    root, plan = zarr.open_group(path, mode="r")["layers/1"], layer.plan
    (code,) = re.findall(r"```python\n(frames, rows = .+?)```", FORMAT, re.DOTALL)
    events = root["spikes"][:]
    planes = {name: np.zeros_like(events) for name in layer.planes}
    for name, whole in planes.items():
        for chunk, part in np.ndindex(root[f"planes/{name}"].shape[:2]):
            told = {"np": np, "layer": root, "chunk": chunk, "part": part}
            told |= {"chunk_frames": plan.chunk_frames, "part_rows": plan.part_rows}
            exec(code.replace('"0"', repr(name)), told)  # noqa: S102 - what the page tells people to do
            whole[told["frames"], told["rows"]] = told["plane"]
    return join_levels(events, planes)


@zarr_warns
@hypothesis.given(levels_of_a_run(), st.booleans(), st.sampled_from([1, 0.25]))
@hypothesis.settings(max_examples=25, deadline=None)
def test_a_recording_of_values_reads_back_and_is_sound(
    tmp_path_factory: pytest.TempPathFactory, levels: NDArray[np.int16], close: bool, scale: float
) -> None:
    path = tmp_path_factory.mktemp("planes") / "run.zarr"
    reader = write(path, levels, close=close, scales={"1": scale})
    layer = reader.layers["1"]
    np.testing.assert_array_equal(read_levels(layer, 0, len(levels)), levels)
    assert sum_levels(layer) == levels.sum(dtype=np.int64)
    assert layer.commit.values is not None
    assert (layer.commit.values.scale, reader.metadata.format_version) == (scale, 3)
    assert problems_of(reader) == []
    np.testing.assert_array_equal(levels_by_stock_zarr(path, layer), levels)
    if close:
        packed = pack(reader, Folder(path.with_name("packed.zarr")), shard_bytes=4096)
        read = TapeReader.open(Folder(path.with_name("packed.zarr"))).layers["1"]
        np.testing.assert_array_equal(read_levels(read, 0, len(levels)), levels)
        assert packed.digest == digest_recording(reader)
        np.testing.assert_array_equal(levels_by_stock_zarr(path.with_name("packed.zarr"), layer), levels)


def test_a_plane_begins_with_the_chunk_that_needs_it(tmp_path: Path) -> None:
    levels = np.ones((64 * 40, 3), np.int8)
    levels[64 * 30 + 5, 1] = 4
    path = tmp_path / "run.zarr"
    reader = write(path, levels)
    stored = sorted(int(folder.name) for folder in (path / "layers/1/planes/1/c").iterdir())
    assert stored == [*range(30, 40)]
    assert [plane.first_chunk for plane in reader.layers["1"].planes.values()] == [30, 30]
    np.testing.assert_array_equal(read_levels(reader.layers["1"], 0, len(levels)), levels)
    (path / "layers/1/planes/1/c/35/0/0").unlink()
    with pytest.raises(RecordingFormatError, match=r"planes/1/c/35/0/0: the chunk of .* with frames 2240"):
        read_levels(reader.layers["1"], 2230, 2250)
    assert [(problem.layer, problem.frame) for problem in problems_of(reader)] == [("1", 2240)]


def progress_of(levels: NDArray[Any], log: SegmentLog, values: Any = None) -> LayerProgress:
    whole = len(levels) // 8 * 8
    row, planes = pending_rows(levels[whole:])
    return LayerProgress(len(levels) - whole, row, *log.look(), planes, values)


@hypothesis.given(levels_of_a_run(), levels_of_a_run(), st.data())
@hypothesis.settings(max_examples=25, deadline=None)
def test_a_writer_goes_on_with_values_and_cuts_them(
    tmp_path_factory: pytest.TempPathFactory,
    first: NDArray[np.int16],
    second: NDArray[np.int16],
    data: st.DataObject,
) -> None:
    neurons = min(first.shape[1], second.shape[1])
    first, second = first[:, :neurons], second[:, :neurons]
    path = tmp_path_factory.mktemp("planes") / "run.zarr"
    write(path, first)
    tape = TapeWriter.resume(Folder(path, durability="process"))
    commit, segment = tape.resumed_layers()["1"]
    pending = tape.pending_frames("1")
    np.testing.assert_array_equal(pending, first[len(first) // 8 * 8 :])
    levels = np.concatenate([pending, second])
    tape.append("1", pack_levels(levels[: len(levels) // 8 * 8]))
    log = SegmentLog(segment)
    log.extend(len(first), len(second), 1)
    everything = np.concatenate([first, second])
    kept = data.draw(st.integers(1, len(everything)))
    cut = {"1": kept} if kept < len(everything) else {}
    progress = progress_of(levels, log, commit.values)
    tape.commit({"1": progress}, [], 0, cut=cut, close=data.draw(st.booleans()))
    tape.release()
    reader = TapeReader.open(Folder(path))
    np.testing.assert_array_equal(read_levels(reader.layers["1"], 0, kept), everything[:kept])
    assert problems_of(reader) == []
    assert sum_levels(reader.layers["1"]) == everything[:kept].sum(dtype=np.int64)


def test_a_damaged_plane_is_cut_or_marked_lost_like_spikes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    levels = random.integers(-3, 4, (64 * 5 + 20, 3)).astype(np.int16)
    for mark_lost in (False, True):
        path = tmp_path / f"{mark_lost}.zarr"
        reader = write(path, levels)
        (path / "layers/1/planes/sign/c/2/0/0").unlink()
        recovery = plan_recovery(reader, problems_of(reader), mark_lost=mark_lost)
        number = reader.metadata.commit_number
        recover(Folder(path, durability="process"), recovery, number, cut=not mark_lost)
        layer = TapeReader.open(Folder(path)).layers["1"]
        assert problems_of(TapeReader.open(Folder(path))) == []
        kept = levels[:128] if not mark_lost else np.delete(levels, np.s_[128:192], axis=0)
        assert sum_levels(layer) == kept.sum()
        assert layer.frames == (128 if not mark_lost else len(levels))


def test_counts_of_a_plane_are_written_again(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(-3, 4, (64 * 60, 3)).astype(np.int16)
    path = tmp_path / "run.zarr"
    reader = write(path, levels)
    before = {file: file.read_bytes() for file in (path / "layers/1").rglob("*") if file.is_file()}
    (path / "layers/1/plane_counts/0/c/0/0").write_bytes(b"damaged")
    problems = problems_of(reader)
    assert problems
    assert all(problem.is_redundant for problem in problems)
    recover(
        Folder(path, durability="process"), plan_recovery(reader, problems), reader.metadata.commit_number
    )
    assert {file: file.read_bytes() for file in before} == before


def test_the_digest_is_of_values_not_of_how_they_came(tmp_path: Path) -> None:
    levels = (np.random.default_rng(0).random((300, 4)) < 0.3).astype(np.int16)

    def digest(name: str, frames: NDArray[Any], **options: Any) -> str:
        return digest_recording(write(tmp_path / name, frames, **options))

    zeros_and_ones = digest("a", levels != 0)
    assert digest("b", levels) == zeros_and_ones
    graded = levels * np.arange(1, 5, dtype=np.int16)
    found = digest("c", graded)
    halves = digest("d", graded, scales={"1": 0.5})
    assert len({zeros_and_ones, found, halves, digest("e", -graded)}) == 4
    # A plane that has become silent, because what it said was cut off, tells nothing.
    longer = np.concatenate([graded, np.full((8, 4), 99, np.int16)])
    assert digest("f", longer) != found
    tape = TapeWriter.resume(Folder(tmp_path / "f", durability="process"))
    progress = tape.last_progress("1")
    tape.commit({"1": progress}, [], 0, cut={"1": 300}, close=True)
    assert digest_recording(TapeReader.open(Folder(tmp_path / "f"))) == found


def test_the_worked_example_of_the_format_is_true(tmp_path: Path) -> None:
    example = FORMAT[FORMAT.index("Levels of neuron 0 in nine frames are") :]
    text = example[: example.index("```text")].replace("\N{MINUS SIGN}", "-").replace("\n", " ")
    trains = [
        [int(number) for number in re.findall(r"-?\d+", listed)]
        for listed in re.findall(r"are ((?:-?\d+, )+-?\d+)", text)
    ]
    levels = np.array(trains[:2], np.int16).T
    reader = write(tmp_path / "run.zarr", levels)
    at_events = re.search(r"frame by frame, ([-\d, ]+)\.", text)
    assert at_events is not None
    assert [int(level) for level in at_events[1].split(",")] == levels[levels != 0].tolist()
    assert reader.layers["1"].plan.chunk_frames == 64
    shown = re.findall(r"^(00|  )  ((?:[0-9a-f]{2} +){16}) +(\w+):", example, re.MULTILINE)
    found = {}
    for _, _, array in shown:
        key = "spikes/c/0/0" if array == "spikes" else f"planes/{array}/c/0/0/0"
        stored = (tmp_path / "run.zarr/layers/1" / key).read_bytes()
        found[array] = Zstd().decode(stored[:-4])
    assert found.keys() == {"spikes", "0", "1", "sign"}
    assert {array: bytes.fromhex(header + train) for header, train, array in shown} == found


def test_reading_needs_no_more_than_the_planes_there_are(tmp_path: Path) -> None:
    reader = write(tmp_path / "run.zarr", np.ones((100, 2), np.bool_))
    assert isinstance(reader.layers["1"], LayerReader)
    assert reader.layers["1"].planes == {}
    assert reader.metadata.format_version == 1
    np.testing.assert_array_equal(read_levels(reader.layers["1"], 0, 100), 1)


@pytest.mark.parametrize("scale", [0, -1, True, "1", None, 1e308, 10**400])
def test_a_scale_that_gives_no_values_is_refused(tmp_path: Path, scale: object) -> None:
    write(tmp_path / "run.zarr", np.full((70, 3), 2, np.int8), scales={"1": 0.5})
    document = tmp_path / "run.zarr/zarr.json"
    root = json.loads(document.read_text())
    (layer,) = root["attributes"]["spiketape"]["layers"]
    assert layer["values"]["scale"] == 0.5
    layer["values"]["scale"] = scale
    document.write_text(json.dumps(root))
    with pytest.raises(
        RecordingFormatError, match=r"scale is .*, expected a positive number whose multiples are finite"
    ):
        TapeReader.open(Folder(tmp_path / "run.zarr"))
