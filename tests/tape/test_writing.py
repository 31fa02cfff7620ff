"""What is written to a tape is read back to the last bit: by us at any commit, and by stock Zarr."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
import zarr.storage
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.format import RecordingExistsError, RecordingFormatError, RecordingNotFoundError, plan_chunks
from recorder.format.layout import layer_folder
from recorder.format.segments import SegmentLog
from recorder.stores import Folder, ZarrStore
from recorder.tape import LayerProgress, TapeReader, TapeWriter
from recorder.tape.holding.beginning import is_unbegun
from writer_logs import Recording, check_layer

SHAPES = {"one": (), "7": (7,), "a/b": (3, 3), "features.0": (2, 3, 5)}

actions = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.integers(1, 30), st.sampled_from([1, 3, 8, 64])),
        st.sampled_from([("commit",), ("close",), ("resume",)]),
    ),
    max_size=12,
)


@settings(max_examples=50)
@given(actions, st.integers(0, 99))
def test_every_commit_reads_back_whatever_came_before(actions: list[Any], seed: int) -> None:
    recording = Recording(ZarrStore(zarr.storage.MemoryStore()), SHAPES)
    for action, *arguments in [*actions, ("commit",)]:
        if action == "record":
            recording.record(*arguments, seed)
        else:
            recording.commit(close=action in ("close", "resume"))
            recording.check()
            if action in ("close", "resume"):
                recording.resume()
                recording.check()
    recording.check_totals()


def test_many_blocks_and_a_split_layer_read_back() -> None:
    shapes: dict[str, tuple[int, ...]] = {"wide": (7, 2), "narrow": (2,)}
    recording = Recording(ZarrStore(zarr.storage.MemoryStore()), shapes, limit_bytes=40)
    for seed in range(6):
        recording.record(90, 7, seed)
        recording.commit()
        recording.check()
    recording.commit(close=True)
    recording.check()
    plan = TapeReader.open(recording.store).layers["wide"].plan
    assert (plan.part_rows, plan.parts) == (1, 7)
    recording.resume()
    recording.record(100, 9, 7)
    recording.commit(close=True)
    recording.check()


def test_chunks_are_kept_unless_they_may_pass() -> None:
    recording = Recording(ZarrStore(zarr.storage.MemoryStore()), {"7": (7,)})
    recording.record(90, 7, 0)
    recording.commit(close=True)
    layer = TapeReader.open(recording.store).layers["7"]
    numbers = range(layer.plan.chunk_count(layer.frames))
    one_by_one = [layer.chunk(number) for number in numbers]
    assert len(numbers) > 3
    assert np.array_equal(list(layer.chunks(numbers)), one_by_one)
    assert np.array_equal([chunk.copy() for chunk in layer.chunks(numbers, passing=True)], one_by_one)
    first, second, *_ = layer.chunks(numbers, passing=True)
    assert np.shares_memory(first, second)


def test_an_older_reader_still_sees_its_commit_after_later_ones() -> None:
    recording = Recording(ZarrStore(zarr.storage.MemoryStore()), {"1": (5,)})
    recording.record(30, 3, 0)
    recording.commit()
    older, frames = TapeReader.open(recording.store), recording.frames["1"]
    recording.record(60, 3, 1)
    recording.commit()
    check_layer(older, "1", frames)


def test_frames_written_after_the_last_commit_are_not_seen() -> None:
    recording = Recording(ZarrStore(zarr.storage.MemoryStore()), {"1": (5,)})
    recording.record(30, 3, 0)
    recording.commit()
    frames = recording.frames["1"]
    recording.record(500, 3, 1)
    check_layer(TapeReader.open(recording.store), "1", frames)


@pytest.mark.parametrize("neuron_shape", [(), (1,), (7,), (31,), (3, 3), (257,), (2, 3, 5)])
@pytest.mark.parametrize("frames", [1, 8, 63, 64, 65, 333])
def test_stock_zarr_reads_the_recorded_bits(
    tmp_path: Path, neuron_shape: tuple[int, ...], frames: int
) -> None:
    recording = Recording(Folder(tmp_path / "run.zarr", "process"), {"layer": neuron_shape})
    recording.record(frames, 1, 0)
    recording.commit(close=True)
    with warnings.catch_warnings():
        # Zarr says that numcodecs.packbits is in no specification yet.
        warnings.simplefilter("ignore")
        group = zarr.open_group(tmp_path / "run.zarr", mode="r")
        layer: Any = group["layers"]["layer"]
        spikes = layer["spikes"]
        assert spikes.dtype == np.bool_
        assert spikes.metadata.dimension_names[0] == "frame"
        assert np.array_equal(spikes[...], recording.frames["layer"])
        assert layer["segments"][...].tolist() == [[0, 0, frames, 1, -1]]
        assert np.array_equal(layer["counts"][...].sum(axis=0), recording.frames["layer"].sum(axis=0))
        assert layer["checksums"].shape == (-(-frames // 64), 1)


def test_consolidated_metadata_is_there_once_closed_and_only_then(tmp_path: Path) -> None:
    recording = Recording(Folder(tmp_path), SHAPES)
    recording.record(10, 3, 0)

    def members() -> dict[str, Any] | None:
        consolidated = zarr.open_group(tmp_path, mode="r").metadata.consolidated_metadata
        return consolidated and dict(consolidated.flattened_metadata)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recording.commit()
        assert members() is None
        recording.commit(close=True)
        found = members()
        assert found is not None
        assert {f"{layer_folder(name)}/spikes" for name in SHAPES} <= found.keys()
        recording.resume()
        assert members() is None


def test_silent_chunks_are_written_too(tmp_path: Path) -> None:
    recording = Recording(Folder(tmp_path), {"1": (5,)})
    recording.record(130, 1, 0, density=0)
    recording.commit()
    assert sorted(path.name for path in (tmp_path / "layers/1/spikes/c").iterdir()) == ["0", "1", "2"]


@pytest.mark.parametrize("chunk", [0, 2])
def test_a_missing_or_foreign_chunk_is_an_error_that_names_it(tmp_path: Path, chunk: int) -> None:
    recording = Recording(Folder(tmp_path), {"1": (5,)})
    recording.record(150, 1, 0)
    recording.commit()
    path = tmp_path / f"layers/1/spikes/c/{chunk}/0"
    where = rf"{path}: the chunk of layer '1' with frames {chunk * 64} to {min(chunk * 64 + 63, 149)}"
    path.write_bytes((tmp_path / "layers/1/spikes/c/1/0").read_bytes())
    with pytest.raises(RecordingFormatError, match=where):
        TapeReader.open(recording.store).layers["1"].chunk(chunk)
    path.write_bytes(b"")
    with pytest.raises(RecordingFormatError, match=where):
        TapeReader.open(recording.store).layers["1"].chunk(chunk)
    path.unlink()
    with pytest.raises(RecordingFormatError, match=f"{where} is missing; absent spikes are not silence"):
        TapeReader.open(recording.store).layers["1"].chunk(chunk)


@pytest.mark.parametrize("array", ["counts", "segments", "checksums", "counts_checksums"])
def test_small_arrays_that_the_commit_does_not_name_are_refused(tmp_path: Path, array: str) -> None:
    recording = Recording(Folder(tmp_path), {"1": (5,), "2": (5,)})
    recording.record(1700, 1, 0)
    recording.record(1700, 2, 1)
    recording.commit()
    stored = next((tmp_path / f"layers/1/{array}/c").rglob("0"))
    while stored.is_dir():
        stored /= "0"
    other = tmp_path / "layers/2" / stored.relative_to(tmp_path / "layers/1")
    for damage in ("replace", "truncate", "remove"):
        if damage == "replace" and array != "segments":  # the two layers have the same segments
            stored.write_bytes(other.read_bytes())
        elif damage == "truncate":
            stored.write_bytes(stored.read_bytes()[:-1])
        elif damage == "remove":
            stored.unlink()
        else:
            continue
        layer = TapeReader.open(recording.store).layers["1"]
        with pytest.raises(RecordingFormatError, match=f"layers/1/{array}"):
            {
                "counts": lambda layer=layer: layer.sum_counts(0, 3),
                "segments": layer.segments,
                "checksums": lambda layer=layer: layer.chunk(0),
                "counts_checksums": lambda layer=layer: layer.counts(0, 1),
            }[array]()


def test_a_recording_is_replaced_only_when_asked_for(tmp_path: Path) -> None:
    store = Folder(tmp_path / "run.zarr")
    first = TapeWriter.create(store, {}).metadata.recording_id
    with pytest.raises(RecordingExistsError, match="resume=True to go on with it, overwrite=True"):
        TapeWriter.create(store, {})
    assert TapeWriter.create(store, {}, overwrite=True).metadata.recording_id != first


def test_what_is_no_recording_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RecordingExistsError, match="is not a recording; nothing was touched"):
        TapeWriter.create(Folder(tmp_path), {}, overwrite=True)
    with pytest.raises(RecordingExistsError, match="is not a recording"):
        TapeWriter.create(Folder(tmp_path / "thesis.tex"), {}, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_a_group_that_only_names_us_is_not_a_recording(tmp_path: Path) -> None:
    attributes = {"recorded_with": "spiketape", "deeper": {"spiketape": 1}}
    zarr.open_group(tmp_path / "run.zarr", mode="w", attributes=attributes)
    with pytest.raises(RecordingExistsError, match="is not a recording; nothing was touched"):
        TapeWriter.create(Folder(tmp_path / "run.zarr"), {}, overwrite=True)


def test_replacing_a_recording_leaves_other_files_in_its_folder(tmp_path: Path) -> None:
    store = Folder(tmp_path / "run.zarr")
    TapeWriter.create(store, {}).release()
    (tmp_path / "run.zarr/mine").mkdir()
    (tmp_path / "run.zarr/mine/notes.txt").touch()
    TapeWriter.create(store, {}, overwrite=True).release()
    assert (tmp_path / "run.zarr/mine/notes.txt").exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_recording_that_lost_its_root_document_is_not_taken_for_one_that_never_began(
    tmp_path: Path, resume: bool
) -> None:
    recording = Recording(Folder(tmp_path), {"1": (5,)})
    recording.record(100, 1, 0)
    recording.commit()
    recording.tape.release()
    (tmp_path / "zarr.json").unlink()
    (tmp_path / "writer.lock").touch()
    before = sorted(tmp_path.rglob("*"))
    begin = TapeWriter.resume if resume else TapeWriter.create
    with pytest.raises((RecordingExistsError, RecordingFormatError, OSError)):
        begin(Folder(tmp_path), *([] if resume else [{}]), take_over=True)  # type: ignore[operator]
    assert [path for path in before if path.exists() or path.name == "writer.lock"] == before
    assert not is_unbegun(Folder(tmp_path))


def test_a_damaged_recording_can_be_replaced(tmp_path: Path) -> None:
    store = Folder(tmp_path / "run.zarr")
    TapeWriter.create(store, {})
    document = tmp_path / "run.zarr/zarr.json"
    document.write_text(document.read_text().replace('"recording"', '"recordinG"'))
    TapeWriter.create(store, {}, overwrite=True)


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    TapeWriter.create(Folder(tmp_path), {})


def test_there_is_nothing_to_open_or_resume_where_nothing_is(tmp_path: Path) -> None:
    for open_it in (TapeReader.open, TapeWriter.resume):
        with pytest.raises(RecordingNotFoundError, match=r"no recording at .*: it has no zarr\.json"):
            open_it(Folder(tmp_path / "nowhere"))


def test_leftovers_of_a_kill_are_removed_on_resume(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    TapeWriter.create(store, {})
    (tmp_path / "layers/zarr.json.0123456789abcdef.partial").touch()
    TapeWriter.resume(store)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_writer_killed_while_it_takes_the_lock_leaves_room_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", kill)
        patched.setattr(os, "unlink", lambda *_, **__: None)  # who is dead cleans nothing up
        with pytest.raises(Killed):
            TapeWriter.create(Folder(tmp_path), {})
    assert list(tmp_path.glob("writer.lock.*.partial"))
    assert is_unbegun(Folder(tmp_path))
    TapeWriter.create(Folder(tmp_path), {})
    assert not list(tmp_path.rglob("*.partial"))


def test_trials_read_back_with_their_columns(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    tape = TapeWriter.create(store, {})
    tape.commit({}, [(0, 2, {"label": [3, 4], "weather": ["sun", "rain"]})], 1)
    tape.release()
    tape = TapeWriter.resume(store)
    tape.commit(
        {}, [(2, 1, {"label": [3], "weather": ["snow"], "contrast": [0.5]}), (3, 2, {"label": [1, 2]})], 4
    )
    reader = TapeReader.open(store)
    trials = reader.trials()
    assert reader.metadata.trials.trials == 4
    assert trials["trial"].tolist() == [0, 0, 2, 3, 3]
    assert trials["sample"].tolist() == [0, 1, 0, 0, 1]
    assert trials["label"].tolist() == [3, 4, 3, 1, 2]
    assert trials["weather"].tolist() == ["sun", "rain", "snow", None, None]
    assert np.array_equal(trials["contrast"], [np.nan, np.nan, 0.5, np.nan, np.nan], equal_nan=True)


def test_a_category_that_is_not_in_the_list_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Folder(tmp_path)
    tape = TapeWriter.create(store, {})
    monkeypatch.setattr(tape._trials, "_encode", lambda name, values: np.full(len(values), 7))
    tape.commit({}, [(0, 2, {"label": ["a", "b"]})], 1)
    with pytest.raises(RecordingFormatError, match="trials column 'label' is malformed"):
        TapeReader.open(store).trials()


def test_a_record_that_no_reader_would_accept_is_not_written(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    tape = TapeWriter.create(store, {})
    tape.add_layer("1", plan_chunks((3,)), "complex64", "Neuron", 0)
    with pytest.raises(RecordingFormatError, match="dtype is 'complex64'"):
        tape.commit({"1": LayerProgress(0, None, *SegmentLog().look())}, [], 0)
    assert TapeReader.open(store).layers == {}
