"""Frames, steps and samples are arithmetic within segments."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from recorder.format import RecordingFormatError
from recorder.format.arrays import layer_tables
from recorder.format.layout import plan_chunks
from recorder.format.segments import SegmentLog, Segments, check_segments, clip_segments
from recorder.stores import ZarrStore
from recorder.tape.layers.segments_writing import SegmentsWriter

# Skipped steps, steps, batch, trial.
runs = st.lists(
    st.tuples(st.sampled_from([0, 0, 3]), st.integers(1, 4), st.integers(1, 3), st.integers(-1, 1)),
    max_size=12,
)


def logged(extensions: list[tuple[int, int, int, int]]) -> tuple[SegmentLog, list[tuple[int, int, int]]]:
    """A log and, for each frame, (step, sample, trial)."""
    log, frames, step = SegmentLog(), [], 0
    for skipped, steps, batch, trial in extensions:
        step += skipped
        log.extend(step, steps, batch, trial)
        frames += [(step + t, sample, trial) for t in range(steps) for sample in range(batch)]
        step += steps
    return log, frames


def rows_of(log: SegmentLog) -> np.ndarray:
    return np.concatenate(log.look())


@given(runs)
def test_each_frame_has_the_step_sample_and_trial_it_was_recorded_at(extensions: list) -> None:
    log, frames = logged(extensions)
    segments = check_segments(rows_of(log), len(frames), "test")
    assert segments.frames == log.frames == len(frames)
    numbers = np.arange(len(frames))
    segment = segments.segment_of(numbers) if len(frames) else numbers
    found = zip(
        segments.steps_of(numbers, segment),
        segments.samples_of(numbers, segment),
        segments.trial[segment],
        strict=True,
    )
    assert list(found) == frames


@given(runs, st.integers(0, 20), st.integers(0, 20))
def test_selecting_steps_keeps_their_frames(extensions: list, first: int, last: int) -> None:
    log, frames = logged(extensions)
    segments = Segments(rows_of(log)).select_steps(first, max(first, last))
    kept = [
        f
        for begin, end in zip(segments.first_frame, segments.last_frame, strict=True)
        for f in range(begin, end)
    ]
    assert kept == [f for f, (step, _, _) in enumerate(frames) if first <= step < last]


def test_equal_steps_cost_no_new_row() -> None:
    log = SegmentLog()
    for step in range(10_000):
        log.extend(step, 1, 8)
    closed, growing = log.look()
    assert len(closed) == 0
    assert growing.tolist() == [[0, 0, 10_000, 8, -1]]


def test_rows_that_somebody_keeps_are_forgotten() -> None:
    log = SegmentLog()
    log.extend(0, 1, 8)
    log.extend(1, 1, 5)
    assert [len(rows) for rows in log.look()] == [1, 1]
    log.forget(1)
    assert [len(rows) for rows in log.look()] == [0, 1]


def test_a_log_knows_the_first_frame_of_a_step() -> None:
    log = SegmentLog()
    log.extend(2, 3, 8)
    log.extend(7, 2, 5)
    assert [log.frame_at(step) for step in range(10)] == [0, 0, 0, 8, 16, 24, 24, 24, 29, 34]


def test_a_log_goes_on_from_its_last_row() -> None:
    log = SegmentLog(np.array([[16, 2, 3, 8, -1]]))
    log.extend(5, 1, 8)
    assert rows_of(log).tolist() == [[16, 2, 4, 8, -1]]
    assert log.frames == 48


def test_longer_rows_of_a_later_commit_are_cut() -> None:
    rows = np.array([[0, 0, 5, 8, -1], [40, 5, 9, 2, -1]])
    assert clip_segments(rows, 44).tolist() == [[0, 0, 5, 8, -1], [40, 5, 2, 2, -1]]
    assert clip_segments(rows, 40).tolist() == [[0, 0, 5, 8, -1]]
    assert clip_segments(rows, 0).tolist() == []


def test_rows_of_strangers_may_be_too_far_apart_for_64_bits() -> None:
    rows = clip_segments(np.array([[-(2**63), 0, 2**63 - 1, 1, -1]]), 2**53)
    with pytest.raises(RecordingFormatError, match="does not continue"):
        check_segments(rows, 2**53, "here")


@pytest.mark.parametrize(
    ("lost", "kept"),
    [
        ([], [[0, 0, 5, 8, 0], [40, 7, 4, 3, -1]]),
        ([[0, 8]], [[8, 1, 4, 8, 0], [40, 7, 4, 3, -1]]),
        ([[8, 16], [24, 32]], [[0, 0, 1, 8, 0], [16, 2, 1, 8, 0], [32, 4, 1, 8, 0], [40, 7, 4, 3, -1]]),
        ([[32, 43]], [[0, 0, 4, 8, 0], [43, 8, 3, 3, -1]]),
        ([[0, 40]], [[40, 7, 4, 3, -1]]),
        ([[43, 52]], [[0, 0, 5, 8, 0], [40, 7, 1, 3, -1]]),
        ([[0, 52]], []),
    ],
)
def test_whole_steps_can_be_left_out(lost: list[list[int]], kept: list[list[int]]) -> None:
    segments = Segments(np.array([[0, 0, 5, 8, 0], [40, 7, 4, 3, -1]]))
    assert segments.without(np.array(lost, np.int64).reshape(-1, 2)).rows.tolist() == kept


def test_frames_are_widened_to_the_steps_that_they_lie_in() -> None:
    segments = Segments(np.array([[0, 0, 5, 8, 0], [40, 7, 4, 3, -1]]))
    frames = np.array([[0, 1], [8, 16], [9, 17], [39, 41], [51, 52]])
    whole = [[0, 8], [8, 16], [8, 24], [32, 43], [49, 52]]
    assert segments.whole_steps(frames).tolist() == whole
    for part in (frames[0], frames[3]):
        with pytest.raises(ValueError, match="do not begin and end with steps"):
            segments.without(part[None])


@pytest.mark.parametrize(
    "rows",
    [
        [[1, 0, 5, 8, -1]],  # does not begin at frame 0
        [[0, 0, 5, 8, -1], [39, 5, 1, 8, -1]],  # overlaps
        [[0, 0, 5, 8, -1], [40, 4, 1, 8, -1]],  # steps go back
        [[0, 0, 5, 0, -1]],  # no samples
        [[0, 0, 0, 8, -1]],  # no steps
        [[0, -1, 5, 8, -1]],  # negative step
        [[0, 0, 5, 8, -2]],  # no such trial
    ],
)
def test_rows_that_do_not_follow_each_other_are_refused(rows: list) -> None:
    with pytest.raises(RecordingFormatError, match=r"segment \d is \{'first_frame'"):
        check_segments(np.array(rows), 40, "here")


def test_rows_that_cover_other_frames_are_refused() -> None:
    with pytest.raises(RecordingFormatError, match="cover 40 frames, but 48 are committed"):
        check_segments(np.array([[0, 0, 5, 8, -1]]), 48, "here")


def test_frames_between_the_rows_of_a_selection_belong_to_none() -> None:
    segments = Segments(np.array([[8, 1, 1, 8, -1], [24, 3, 1, 8, -1]]))
    assert segments.segment_of(np.array([0, 8, 15, 16, 24, 32])).tolist() == [-1, 0, 0, -1, 1, -1]
    assert [row[1] for row in segments] == [1, 3]
    assert segments.select(np.array([False, True])).rows.tolist() == [[24, 3, 1, 8, -1]]


def test_a_step_that_is_there_twice_is_refused_each_time() -> None:
    tables = layer_tables("1", plan_chunks((3,)))
    writer = SegmentsWriter(ZarrStore(zarr.storage.MemoryStore()), tables.segments, "layer '1'")
    closed, growing = np.array([[0, 0, 5, 2, -1]], np.int64), np.array([[10, 4, 1, 2, -1]], np.int64)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="layer '1' and their steps do not fit"):
            writer.append(closed, growing, 12)
