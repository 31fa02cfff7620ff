"""What runs inside tasks: counting intervals, groups of frames, selected frames, and the tasks themselves."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from analysis.kernels import booleans as frames
from analysis.kernels.counting import ranges as intervals
from analysis.kernels.counting import tasks as counting
from analysis.kernels.counting.quantities import SPIKES
from analysis.kernels.selecting.grouping import (
    Grouping,
    Groups,
    count_up,
    keys_of,
    positions_of,
    range_keys,
    range_size,
    slice_ranges,
    unite_ranges,
)
from analysis.kernels.selecting.selected_frames import SelectedFrames
from analysis.kernels.selecting.selection import Labels, Selection
from analysis.kernels.selecting.source import Source, frames_of, reader_of
from analysis.kernels.selecting.trial_table import ColumnCodes, TrialRows
from recorder.format import RecordingFormatError, bits
from recorder.format.record.metadata import ColumnCommit, TrialsCommit
from recorder.format.segments import Segments, check_segments, merge_ranges
from recorder.stores import Folder
from recorder.tape import TapeWriter
from recorder.tape.trial_columns import TrialsWriter
from tapes import Run, Trial, write_recording

WORDS = 3
FRAMES = WORDS * 64


@st.composite
def cut_trains(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    neurons = draw(st.sampled_from([1, 7, 8, 9, 31, 33, 257]))
    spikes = draw(npst.arrays(np.bool_, (FRAMES, neurons), elements=st.booleans(), fill=st.booleans()))
    cuts = draw(st.lists(st.integers(0, FRAMES), min_size=2, max_size=20, unique=True).map(sorted))
    begin, end = np.array(cuts[:-1]), np.array(cuts[1:])
    kept = np.array(draw(st.lists(st.booleans(), min_size=len(begin), max_size=len(begin))))
    kept[0] = True
    return spikes, begin[kept], end[kept]


@given(cut_trains())
@settings(max_examples=60, deadline=None)
def test_spikes_between_cuts(given_trains: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    spikes, begin, end = given_trains
    trains = bits.rows_to_trains(bits.pack_frames(spikes))
    wanted = np.stack([spikes[b:e].sum(axis=0) for b, e in zip(begin, end, strict=True)])
    np.testing.assert_array_equal(intervals.count_per_neuron_between(trains, begin, end), wanted.T)
    np.testing.assert_array_equal(intervals.count_between(trains, begin, end), wanted.sum(axis=1))
    mask = intervals.interval_mask(FRAMES, begin, end)
    masks = np.stack([mask, ~mask])
    inside = wanted.sum(axis=0)
    np.testing.assert_array_equal(
        intervals.count_per_neuron_in(trains, masks), [inside, spikes.sum(axis=0) - inside]
    )
    # A slice of wider trains is as good as trains of its own.
    wider = np.concatenate([~trains, trains, ~trains], axis=1)[:, trains.shape[1] : 2 * trains.shape[1]]
    np.testing.assert_array_equal(intervals.count_per_neuron_between(wider, begin, end), wanted.T)
    np.testing.assert_array_equal(intervals.count_between(wider, begin, end), wanted.sum(axis=1))


@pytest.mark.parametrize(("neurons", "words"), [(1, 1), (300, 1), (513, 1), (700, 2), (1100, 3), (256, 600)])
def test_spikes_of_each_frame(neurons: int, words: int) -> None:
    spikes = np.random.default_rng(neurons).random((words * 64, neurons)) < 0.9
    trains = bits.rows_to_trains(bits.pack_frames(spikes))
    np.testing.assert_array_equal(bits.count_per_frame(trains), spikes.sum(axis=1))
    begin = np.arange(words * 64)
    np.testing.assert_array_equal(intervals.count_between(trains, begin, begin + 1), spikes.sum(axis=1))


ranges_strategy = st.lists(st.tuples(st.integers(-5, 40), st.integers(1, 8)), max_size=6).map(
    lambda pairs: np.array([(first, first + length) for first, length in pairs], np.int64).reshape(-1, 2)
)


@given(ranges_strategy, ranges_strategy, st.data())
def test_ranges_are_sets_of_keys(one: np.ndarray, other: np.ndarray, data: st.DataObject) -> None:
    keys = sorted(
        {key for first, last in np.concatenate([one, other]).tolist() for key in range(first, last)}
    )
    united = unite_ranges([merge_ranges(one), merge_ranges(other)])
    assert range_keys(united).tolist() == keys
    assert range_size(united) == len(keys)
    assert (united[1:, 0] > united[:-1, 1]).all()
    if keys:
        np.testing.assert_array_equal(positions_of(united, np.array(keys)), np.arange(len(keys)))
        assert keys_of(united, np.arange(len(keys))).tolist() == keys
        absent = np.array([key for key in range(-6, 60) if key not in keys])
        np.testing.assert_array_equal(positions_of(united, absent), np.searchsorted(keys, absent))
    first, last = sorted(data.draw(st.tuples(st.integers(0, len(keys)), st.integers(0, len(keys)))))
    assert range_keys(slice_ranges(united, first, last)).tolist() == keys[first:last]


def segments_of(*rows: tuple[int, int, int, int, int]) -> Segments:
    return Segments(np.array(rows, np.int64).reshape(-1, 5))


SEGMENTS = segments_of((0, 2, 5, 3, -1), (15, 7, 2, 4, 1), (23, 12, 9, 1, 1), (32, 21, 1, 8, 4))
ALL_FRAMES = np.arange(40)
STEP_OF = np.concatenate([np.repeat(np.arange(r[1], r[1] + r[2]), r[3]) for r in SEGMENTS])
TRIAL_OF = np.concatenate([np.full(r[2] * r[3], r[4]) for r in SEGMENTS])


@pytest.mark.parametrize(
    ("grouping", "keys"),
    [
        (Grouping(), np.zeros(40, np.int64)),
        (Grouping("steps"), STEP_OF),
        (Grouping("steps", 4, 2), (STEP_OF - 2) // 4),
        (Grouping("steps", 7), STEP_OF // 7),
        (Grouping("trial"), TRIAL_OF),
    ],
)
def test_groups_of_frames(grouping: Grouping, keys: np.ndarray) -> None:
    present = np.unique(keys[keys >= 0])
    assert range_keys(grouping.ranges_of(SEGMENTS)).tolist() == present.tolist()
    np.testing.assert_array_equal(grouping.keys_at(SEGMENTS, ALL_FRAMES), keys)
    selected = SelectedFrames(SEGMENTS, Selection())
    for first in range(0, 40, 3):
        for last in range(first, 41, 5):
            begin, end, key = selected.intervals(first, last, grouping)
            found = np.full(40, -1)
            for b, e, k in zip(begin, end, key, strict=True):
                found[b:e] = k
            wanted = np.where((first <= ALL_FRAMES) & (last > ALL_FRAMES), keys, -1)
            np.testing.assert_array_equal(found, wanted)
    first, last = grouping.frames_of(SEGMENTS, present, present + 1)
    for key, begins, ends in zip(present, first, last, strict=True):
        assert np.flatnonzero(keys == key).tolist() == list(range(begins, ends))
    if grouping.kind != "all":
        absent = np.setdiff1d(np.arange(50), present)
        first, last = grouping.frames_of(SEGMENTS, absent, absent + 1)
        assert (first == last).all()
    first, last = grouping.frames_of(segments_of(), present, present + 1)
    assert (first == last).all()


@pytest.mark.parametrize(
    "row", [(0, 0, 2**32, 2**32, -1), (0, 0, 2**62, 4, -1), (0, 2**62, 1, 1, -1), (0, 0, 1, 1, 2**63 - 1)]
)
def test_segments_whose_numbers_would_overflow_are_refused(row: tuple[int, int, int, int, int]) -> None:
    with pytest.raises(RecordingFormatError, match="segment 0 is"):
        check_segments(np.array([row], np.int64), 1, "here")


def test_trials_must_ascend() -> None:
    with pytest.raises(RecordingFormatError, match="not in ascending order"):
        Grouping("trial").ranges_of(segments_of((0, 0, 1, 1, 3), (1, 1, 1, 1, 2)))


@pytest.mark.parametrize("samples", [None, range(0, 10**9, 2), (1, 3)])
def test_selected_frames_are_counted_without_listing_them(samples: Any) -> None:
    rows = TrialRows(np.array([1, 1, 1, 4, 4, 4, 4, 4]))
    labels = ColumnCodes(Labels(["a", "b"]), np.array([0, 1, 0, 1, 1, -1, 0, 0], np.int32))
    for chosen in (None, ("a",), ("b",), ("a", "b"), ("none of them",)):
        where = () if chosen is None else (("label", Labels(chosen)),)
        columns = [labels.recoded(values) for _, values in where]
        selected = SelectedFrames(SEGMENTS, Selection(where=where, samples=samples), rows, columns)
        listed = selected.selected_frames(0, 40)
        assert selected.frames == len(listed)
        at = np.arange(45)
        np.testing.assert_array_equal(selected.frames_before(at), np.searchsorted(listed, at))
    assert SelectedFrames(segments_of(), Selection(), rows).frames_before(np.array([3])).tolist() == [0]


def test_count_up() -> None:
    assert count_up(np.array([], np.int64)).tolist() == []
    assert count_up(np.array([1, 3])).tolist() == [0, 0, 1, 2]


def source_of(path: Path, layer: str = "1", **changes: object) -> Source:
    from recorder.tape import TapeReader

    reader = TapeReader.open(Folder(path))
    source = Source(
        identity=reader.identity,
        layer=layer,
        selection=Selection(),
        use_counts=True,
        store=reader.store,
        commit=reader.layers[layer].commit,
        trials=reader.metadata.trials,
    )
    return replace(source, **changes)


@pytest.fixture
def spikes() -> np.ndarray:
    return np.random.default_rng(1).random((4000, 33)) < 0.2


@pytest.fixture
def path(tmp_path: Path, spikes: np.ndarray) -> Path:
    write_recording(tmp_path / "a", {"1": spikes}, [Run(0, 500, 8)], chunk_bytes=600)
    return tmp_path / "a"


def count(source: Source, first: int, last: int) -> np.ndarray:
    ranges = Grouping().ranges_of(frames_of(source).segments)
    return counting.count_spikes(source, Groups(Grouping(), ranges), first, last, "neuron", SPIKES)[0]


@given(first=st.integers(0, 4000), last=st.integers(0, 4000))
@settings(max_examples=40, deadline=None)
def test_counts_and_bits_agree_to_the_last_spike(
    tmp_path_factory: pytest.TempPathFactory, first: int, last: int
) -> None:
    first, last = sorted([first, last])
    path = tmp_path_factory.getbasetemp() / "agree"
    spikes = np.random.default_rng(1).random((4000, 33)) < 0.2
    if not path.exists():
        write_recording(path, {"1": spikes}, [Run(0, 500, 8)], chunk_bytes=600)
    for use_counts in (True, False):
        found = count(source_of(path, use_counts=use_counts), first, last)
        np.testing.assert_array_equal(found, spikes[first:last].sum(axis=0))


@pytest.mark.parametrize("close", [True, False])
def test_whole_blocks_are_not_decoded(tmp_path: Path, spikes: np.ndarray, close: bool) -> None:
    write_recording(tmp_path / "a", {"1": spikes}, [Run(0, 500, 8)], chunk_bytes=600, close=close)
    source = source_of(tmp_path / "a")
    plan = source.commit.plan
    assert 4000 % plan.block_frames, "there is a last block that is not full"
    decoded: list[int] = []
    reader = reader_of(source)
    original = reader._decode
    reader._decode = lambda chunk, *rest: (decoded.append(chunk), original(chunk, *rest))[1]  # type: ignore[method-assign]
    np.testing.assert_array_equal(count(source, 0, 4000), spikes.sum(axis=0))
    uncounted = range(4000 // plan.block_frames * plan.block_chunks, plan.chunk_count(4000))
    assert decoded == ([] if close else list(uncounted))
    decoded.clear()
    count(source, 1, 2 * plan.block_frames)
    assert decoded == list(range(plan.block_chunks))


def test_blocks_with_unselected_blocks_between_them(tmp_path: Path) -> None:
    block_frames = 1664
    spikes = np.random.default_rng(1).random((5 * block_frames, 33)) < 0.2
    runs = [Run(208 * trial, 208, 8, trial) for trial in range(5)]
    write_recording(tmp_path / "a", {"1": spikes}, runs, chunk_bytes=600, trials_begun=5)
    source = source_of(tmp_path / "a", selection=Selection(trials=(0, 2, 3)))
    assert source.commit.plan.block_frames == block_frames
    found = count(source, 0, 5 * block_frames)
    by_trial = spikes.reshape(5, block_frames, 33).sum(axis=1)
    np.testing.assert_array_equal(found, by_trial[[0, 2, 3]].sum(axis=0))
    groups = Groups(Grouping("trial"), np.array([[0, 1], [2, 4]]))
    for place, wanted in [("neuron", by_trial), ("all", by_trial.sum(axis=1, keepdims=True))]:
        found = counting.count_spikes(source, groups, 0, 5 * block_frames, place, SPIKES)
        np.testing.assert_array_equal(found, wanted[[0, 2, 3]])


def test_blocks_of_which_some_samples_are_selected_are_decoded(tmp_path: Path, spikes: np.ndarray) -> None:
    trials = [Trial(0, 8, {"label": [0, 1] * 4}), Trial(1, 8, {"label": [1] * 8})]
    runs = [Run(0, 250, 8, 0), Run(250, 250, 8, 1)]
    write_recording(tmp_path / "a", {"1": spikes}, runs, trials, chunk_bytes=600, counts_share=100)
    of_frame = np.concatenate([np.tile([0, 1] * 4, 250), np.ones(2000)])
    for label in (0, 1):
        source = source_of(tmp_path / "a", selection=Selection(where=(("label", Labels([label])),)))
        assert source.commit.plan.block_chunks == 1
        np.testing.assert_array_equal(count(source, 0, 4000), spikes[of_frame == label].sum(axis=0))


def test_sources_are_equal_if_they_stand_for_the_same_frames(path: Path) -> None:
    source = source_of(path)
    assert source == source_of(path)
    assert hash(source) == hash(source_of(path))
    assert pickle.loads(pickle.dumps(source)) == source  # noqa: S301
    assert len(pickle.dumps(source)) < 2000
    for change in (
        {"identity": "7"},
        {"use_counts": False},
        {"selection": Selection((0, 3))},
        {"layer": "x"},
    ):
        assert replace(source, **change) != source


def test_tables_are_read_once_in_a_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = Folder.read
    monkeypatch.setattr(
        Folder, "read", lambda self, key, limit: (read.append(key), original(self, key, limit))[1]
    )
    sources = [pickle.loads(pickle.dumps(source_of(path, use_counts=False))) for _ in range(4)]  # noqa: S301
    for source in sources:
        count(source, 0, 1000)
    for table in ("segments", "checksums"):
        assert len([key for key in read if key.startswith(f"layers/1/{table}/c/")]) == 1


def test_a_damaged_row_of_counts_is_named(path: Path) -> None:
    source = source_of(path)
    next(file for file in (path / "layers/1/counts/c").rglob("*") if file.is_file()).unlink()
    with pytest.raises(RecordingFormatError, match=r"layers/1/counts/c/0/0 is missing"):
        count(source, 0, 4000)
    assert count(replace(source, use_counts=False), 0, 4000).sum() > 0


def test_ratio_of_nothing_is_nan() -> None:
    found = counting.ratio(np.array([[1, 0], [3, 0]]), np.array([2, 0]))
    np.testing.assert_array_equal(found, [[0.5, np.nan], [1.5, np.nan]])


def labels_written(path: Path, trials: list[Trial]) -> tuple[Folder, TrialsCommit]:
    writer: TapeWriter = write_recording(path, {"1": np.ones((1, 1), np.bool_)}, [Run(0, 1, 1)], trials)
    return Folder(path), writer.metadata.trials


@pytest.mark.parametrize(
    ("given", "values", "codes"),
    [
        (["b", "a", "b"], ("b", "a"), [0, 1, 0, -1]),
        ([7, -2], (-2, 7), [1, 0, -1]),
        ([0.5, 0.25], (0.25, 0.5), [1, 0, -1]),
    ],
)
def test_columns_keep_their_kind(tmp_path: Path, given: list[Any], values: Any, codes: list[int]) -> None:
    written = labels_written(tmp_path / "a", [Trial(0, len(given), {"label": given}), Trial(1, 1)])
    column = ColumnCodes.read(*written, "label")
    assert column.values == values
    assert column.code.tolist() == codes
    assert TrialRows.read(*written).trial.tolist() == [0] * len(given) + [1]
    absent = ColumnCodes.read(*written, "epoch")
    assert absent.values == ()
    assert absent.code.tolist() == [-1] * len(codes)


def test_tables_of_trials_that_make_no_sense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append = TrialsWriter.append

    def in_any_order(writer: TrialsWriter, presented: Any) -> None:
        for trial in presented:
            writer._last_trial = -1
            append(writer, [trial])

    monkeypatch.setattr(TrialsWriter, "append", in_any_order)
    store, commit = labels_written(
        tmp_path / "a", [Trial(1, 2, {"label": [1, 2]}), Trial(0, 1, {"label": [3]})]
    )
    with pytest.raises(RecordingFormatError, match="the rows of trials are not in order"):
        TrialRows.read(store, commit)
    store, commit = labels_written(tmp_path / "b", [Trial(0, 2, {"label": ["x", "y"]})])
    without_keys = replace(commit, columns=tuple(c for c in commit.columns if c.name == "label"))
    with pytest.raises(RecordingFormatError, match="lack whole numbers of trial and sample"):
        TrialRows.read(store, without_keys)
    shorter = ColumnCommit("label", "category", commit.columns[2].crc32c, ("x",))
    malformed = replace(commit, columns=(*commit.columns[:2], shorter))
    with pytest.raises(RecordingFormatError, match="trials column 'label' is malformed"):
        ColumnCodes.read(store, malformed, "label")
    source = source_of(tmp_path / "b", trials=malformed)
    with pytest.raises(RecordingFormatError, match="trials column 'label' is malformed"):
        frames.column_values(source, "label")
