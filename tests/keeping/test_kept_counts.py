"""Counts in place of bits: damaged rows are found, given up by whole segments, and never silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import analysis
from analysis.keeping import find_problems
from recorder.format import RecordingFormatError
from recorder.format.bits import pack_frames
from recorder.format.layout import plan_counts
from recorder.format.record.parts import LayerPart
from recorder.format.segments import SegmentLog
from recorder.keeping import pack_recording, plan_recovery, recover
from recorder.keeping.digest import digest_recording
from recorder.stores import Folder, open_store
from recorder.tape import LayerProgress, TapeReader, TapeWriter
from recorder.tape.layers.counts_reading import CountsReader
from tapes import Made, Run, Trial, write_recording

SHAPE = (3, 4)
RUNS = [Run(0, 10, 3, 0), Run(10, 5, 2, -1), Run(20, 8, 3, 1), Run(28, 4, 3, 2)]
TRIALS = [Trial(number, 3, {"label": [0, 1, 0]}) for number in range(3)]
FRAMES = sum(run.steps * run.batch for run in RUNS)
PART = LayerPart(SHAPE, counts_only=True)


def spikes() -> np.ndarray:
    return np.random.default_rng(5).random((FRAMES, *SHAPE)) < 0.4


def write(path: Path, *, close: bool = True) -> None:
    write_recording(
        path,
        {"a": spikes(), "b": spikes()[..., 0]},
        RUNS,
        TRIALS,
        parts={"a": PART},
        close=close,
        chunk_bytes=1,
    ).release()


def alter(path: Path, row: int) -> None:
    """Write another row of counts, in a chunk that is sound."""
    counts = zarr.open_group(str(path), mode="r+", use_consolidated=False)["layers/a/counts"]
    assert isinstance(counts, zarr.Array)
    counts[row] = np.full(SHAPE, 3, np.uint32)


def reader_of(path: Path) -> TapeReader:
    return TapeReader.open(open_store(path, read_only=True))


def recovered(path: Path, *, mark_lost: bool) -> None:
    reader = TapeReader.open(Folder(path))
    recovery = plan_recovery(reader, find_problems(reader), mark_lost=mark_lost)
    number = reader.metadata.commit_number
    recover(Folder(path, durability="process"), recovery, number, cut=not mark_lost)
    assert find_problems(reader_of(path)) == []


@pytest.mark.parametrize("row", [0, 4, 7, 10])
def test_a_row_that_was_altered_is_found_and_no_answer_has_it(tmp_path: Path, row: int) -> None:
    write(tmp_path / "run")
    alter(tmp_path / "run", row)
    (problem,) = find_problems(reader_of(tmp_path / "run"))
    segment = int(np.searchsorted([3, 5, 8, 11], row, side="right"))
    begins = np.cumsum([0, *(run.steps * run.batch for run in RUNS)])
    assert (problem.layer, problem.frame, problem.last_frame) == ("a", begins[segment], begins[segment + 1])
    assert "layers/a/counts" in str(problem)
    layer = analysis.open_recording(tmp_path / "run")["a"]
    with pytest.raises(RecordingFormatError, match="are not those the commit names"):
        layer.firing_rate().compute()
    if segment != 0:
        expected = spikes()[: begins[1]].sum(axis=0)
        np.testing.assert_array_equal(layer.select(trials=0).spike_count(per="neuron"), expected)


def test_a_segment_that_is_marked_lost_is_a_gap_packed_too(tmp_path: Path) -> None:
    write(tmp_path / "run")
    alter(tmp_path / "run", 6)
    recovered(tmp_path / "run", mark_lost=True)
    pack_recording(TapeReader.open(Folder(tmp_path / "run")), str(tmp_path / "packed.zip"))
    kept = np.ones(FRAMES, np.bool_)
    kept[40:64] = False
    for path in (tmp_path / "run", tmp_path / "packed.zip"):
        with pytest.warns(match="lost"):
            layer = analysis.open_recording(path)["a"]
        assert layer.lost_frames == 24
        assert float(layer.firing_rate()) == spikes()[kept].mean()
        np.testing.assert_array_equal(layer.spike_count(per="neuron"), spikes()[kept].sum(axis=0))
        by_trial = layer.firing_rate(per="trial").compute()
        assert by_trial.dropna("trial").trial.values.tolist() == [0, 2]
    digests = {digest_recording(reader_of(path)) for path in (tmp_path / "run", tmp_path / "packed.zip")}
    assert len(digests) == 1


def test_a_cut_leaves_whole_segments_of_counts(tmp_path: Path) -> None:
    write(tmp_path / "run")
    # The second chunk of the other layer begins with frame 64, which is step 28 there; the first is damaged.
    (tmp_path / "run/layers/b/spikes/c/0").rename(tmp_path / "gone")
    reader = reader_of(tmp_path / "run")
    recovery = plan_recovery(TapeReader(Folder(tmp_path / "run"), reader.metadata), find_problems(reader))
    assert recovery.cut_step == 0
    (tmp_path / "gone").rename(tmp_path / "run/layers/b/spikes/c/0")
    alter(tmp_path / "run", 6)
    recovered(tmp_path / "run", mark_lost=False)
    layers = reader_of(tmp_path / "run").layers
    # Trial 1 began with step 20, and frame 40.
    assert {name: layer.frames for name, layer in layers.items()} == {"a": 40, "b": 40}
    np.testing.assert_array_equal(layers["a"].totals()[1].reshape(SHAPE), spikes()[:40].sum(axis=0))


def test_a_cut_within_a_trial_gives_up_its_counts(tmp_path: Path) -> None:
    layers = {"a": spikes(), "b": np.ones((FRAMES, 2), np.float32) * spikes()[:, 0, 0, None]}
    made = {("b", "v"): Made(layers["b"])}
    write_recording(
        tmp_path / "run", {"a": spikes(), "b": spikes()[..., 0]}, RUNS, TRIALS, parts={"a": PART},
        signals=made, chunk_bytes=20,
    ).release()  # fmt: skip
    # Values of frames 0 and 1, 2 and 3, … : those of frame 46 are of step 22, in the midst of trial 1.
    chunk = 46 // reader_of(tmp_path / "run").layers["b"].signals["v"].plan.chunk_frames
    (tmp_path / f"run/layers/b/signals/v/values/c/{chunk}/0").unlink()
    recovered(tmp_path / "run", mark_lost=False)
    reader = reader_of(tmp_path / "run")
    assert reader.layers["b"].frames == 46
    assert reader.layers["a"].frames == 40
    np.testing.assert_array_equal(reader.layers["a"].totals()[1].reshape(SHAPE), spikes()[:40].sum(axis=0))


def test_an_interrupted_recording_is_closed_with_the_counts_of_its_commit(tmp_path: Path) -> None:
    write(tmp_path / "run", close=False)
    recovered(tmp_path / "run", mark_lost=True)
    layer = reader_of(tmp_path / "run").layers["a"]
    np.testing.assert_array_equal(layer.totals()[1].reshape(SHAPE), spikes().sum(axis=0))


steps_and_commits = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from([1, 2, 3, 8]), st.booleans(), st.booleans(), st.booleans()),
    min_size=1,
    max_size=9,
)


@given(steps_and_commits, st.integers(0, 2**32 - 1))
def test_whatever_comes_and_whenever_it_is_committed_it_is_counted_exactly(
    tmp_path_factory: pytest.TempPathFactory, given_runs: list[tuple[int, int, bool, bool, bool]], seed: int
) -> None:
    """Runs of steps and batches, with or without a gap before; commits and resumptions between steps."""
    path, random = tmp_path_factory.mktemp("counts") / "run", np.random.default_rng(seed)
    tape = TapeWriter.create(Folder(path, durability="process"), {})
    tape.add_layer("a", plan_counts((5,)), "float32", "Module", 0, LayerPart((5,), counts_only=True))
    log, pending, step = SegmentLog(), np.zeros((0, 5), np.bool_), 0
    every: list[np.ndarray] = []
    for steps, batch, gap, commits, resumes in given_runs:
        step += gap
        frames = random.random((steps * batch, 5)) < 0.4
        every.append(frames)
        log.extend(step, steps, batch)
        step += steps
        joined = np.concatenate([pending, frames])
        whole = len(joined) // 8 * 8
        tape.append("a", pack_frames(joined[:whole]))
        pending = joined[whole:]
        if not commits:
            # Of what may still be given up nothing is counted.
            tape.count("a", np.concatenate(log.look()), log.frames - steps * batch)
            continue
        row = pack_frames(pending)[0] if len(pending) else None
        tape.commit({"a": LayerProgress(len(pending), row, *log.look())}, [], 0, close=resumes)
        if resumes:
            tape = TapeWriter.resume(Folder(path, durability="process"))
            log, pending = SegmentLog(tape.resumed_layers()["a"][1]), tape.pending_frames("a")
        total = tape.totals("a") + np.count_nonzero(pending, axis=0)
        np.testing.assert_array_equal(total, np.concatenate(every).sum(axis=0))
    row = pack_frames(pending)[0] if len(pending) else None
    tape.commit({"a": LayerProgress(len(pending), row, *log.look())}, [], 0, close=True)
    reader = reader_of(path)
    layer = reader.layers["a"]
    assert find_problems(reader) == []
    assert isinstance(layer, CountsReader)
    frames = np.concatenate(every)
    for some, rows in layer.kept_rows(range(len(layer.segments()))):
        at = 0
        for first, _, steps, batch, _ in layer.segments().rows[some.start : some.stop].tolist():
            expected = frames[first : first + steps * batch].reshape(steps, batch, 5).sum(axis=0)
            np.testing.assert_array_equal(rows[at : at + batch], expected)
            at += batch
