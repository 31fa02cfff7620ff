"""Damaged frames that are marked lost are a gap: in no figure, never silence, and nothing else is touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

import analysis
from analysis.arguments import QuestionError
from analysis.cli import commands
from analysis.keeping import find_problems
from damage import FRAMES, layers, write
from faults import DiskError, FaultyStore
from recorder.format import LayerCommit, RecordingFormatError
from recorder.format.bits import pack_frames
from recorder.format.segments import SegmentLog
from recorder.keeping import plan_recovery, recover
from recorder.stores import Folder
from recorder.tape import LayerProgress, TapeReader, TapeWriter
from recorder.tape.holding.lock import LOCK_KEY
from tapes import Run, write_recording

pytestmark = pytest.mark.filterwarnings("ignore::recorder.format.errors.LostFramesWarning")

# Frames 192 to 255 of layer "wide" lie in this chunk, and in the steps 19 to 25, which are frames 190 to 259.
CHUNK = "layers/wide/spikes/c/3/1/0"
LOST = slice(190, 260)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(commands.main, list(map(str, arguments)))


@pytest.fixture
def synchronous() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def mark_lost(path: Path) -> None:
    reader = TapeReader.open(Folder(path))
    recovery = plan_recovery(reader, find_problems(reader), mark_lost=True)
    recover(Folder(path, durability="process"), recovery, reader.metadata.commit_number)
    assert find_problems(TapeReader.open(Folder(path))) == []


def kept(name: str = "wide", lost: slice = LOST) -> NDArray[np.bool_]:
    remains = np.ones(FRAMES, np.bool_)
    remains[lost] = False
    return layers()[name][remains]


def layer_of(path: Path) -> analysis.Layer:
    return analysis.open_recording(path)["1"]


def check(path: Path, name: str, spikes: NDArray[np.bool_]) -> None:
    """Figures of the whole layer are those of these frames, from counts and from bits."""
    for use_counts in (True, False):
        layer = analysis.open_recording(path, use_counts=use_counts)[name]
        assert layer.frames == len(spikes)
        np.testing.assert_array_equal(layer.spike_count(per="neuron"), spikes.sum(axis=0))
        assert float(layer.firing_rate()) == spikes.sum() / spikes.size
        np.testing.assert_array_equal(layer.silent_ratio(per="neuron"), ~spikes.any(axis=0))
        np.testing.assert_array_equal(layer.spikes, spikes)


@pytest.mark.parametrize("state", ["closed", "interrupted"])
def test_damaged_steps_are_marked_lost_only_when_asked_for(tmp_path: Path, state: str) -> None:
    path = tmp_path / "run.zarr"
    write(path, state)
    (path / CHUNK).unlink()
    before = files(path)
    shown = call("recover", path, "--mark-lost")
    assert shown.exit_code == 1
    assert "mark 70 frames of layer 'wide' lost: steps 19 to 25\n" in shown.stdout
    assert f"keep {FRAMES} frames of layer '1'\n" in shown.stdout
    assert "with --mark-lost" in call("recover", path).stdout
    assert "can be marked lost" in call("recover", path, "--apply").stderr
    assert call("recover", path, "--apply", "--cut", "--mark-lost").exit_code == 2
    assert files(path) == before
    applied = call("recover", path, "--apply", "--mark-lost")
    assert applied.exit_code == 0, applied.output
    assert "closed and sound" in applied.stderr
    check(path, "wide", kept())
    check(path, "1", layers()["1"])
    after = files(path)
    rewritten = {key for key in after if "/spikes/c/" in key and after[key] != before[key]}
    assert rewritten <= {
        "layers/1/spikes/c/3/0",
        "layers/wide/spikes/c/30/0/0",
        "layers/wide/spikes/c/30/1/0",
    }
    assert call("recover", path, "--mark-lost").stdout.count("lost") == 0


def test_lost_frames_are_shown_wherever_a_recording_is(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    write(path, "closed")
    assert "frames lost" not in repr(analysis.open_recording(path))
    (path / CHUNK).unlink()
    mark_lost(path)
    with pytest.warns(analysis.LostFramesWarning, match="70 frames were damaged .* in layers 'wide'"):
        recording = analysis.open_recording(path)
    assert (recording["wide"].lost_frames, recording["1"].lost_frames) == (70, 0)
    assert "frames lost, and left out of all figures: 70 of layer 'wide'" in repr(recording)
    assert "70 of layer" in recording._repr_html_()
    assert f"{FRAMES - 70} frames, 70 frames lost" in repr(recording["wide"])
    assert "70 of layer" in recording["wide"]._repr_html_()
    shown = call("info", path)
    assert "lost         70 frames of layer 'wide'; no figure has them" in shown.stdout
    assert [
        layer["lost_frames"] for layer in json.loads(call("info", path, "--format", "json").stdout)["layers"]
    ]
    assert "70 frames were damaged and are marked lost" in call("rates", path).stderr
    assert f"{2 * FRAMES} frames of which 70 are marked lost" in call("verify", path).stderr


def test_a_step_of_which_frames_are_lost_is_a_gap_and_no_silence(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    write(path, "closed")
    (path / CHUNK).unlink()
    mark_lost(path)
    recording = analysis.open_recording(path)
    rates = recording.firing_rate(per=("layer", "step")).sel(layer="wide")
    assert np.isnan(rates.sel(step=slice(19, 25))).all()
    assert not np.isnan(rates.sel(step=[18, 26])).any()
    per_step = recording["wide"].spike_count(per="step")
    assert set(range(19, 26)).isdisjoint(per_step.step.values)
    assert recording["wide"].select(steps=slice(19, 26)).frames == 0
    both = int(layers()["1"][LOST].sum())
    pooled = recording.select(steps=slice(19, 26))
    assert float(pooled.firing_rate()) == both / layers()["1"][LOST].size
    assert float(pooled.silent_ratio()) == (~layers()["1"][LOST].any(axis=0)).mean()
    with pytest.raises(RecordingFormatError, match="layer 'wide' with frames 192 to 255 is marked lost"):
        TapeReader.open(Folder(path)).layers["wide"].chunk(3)


def test_the_number_of_steps_recorded_does_not_change_when_the_last_are_lost(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    write(path, "closed")
    steps, late = analysis.open_recording(path).steps, slice(-3, None)
    (path / "layers/wide/spikes/c/30/0/0").unlink()
    mark_lost(path)
    recording = analysis.open_recording(path)
    assert recording.steps == recording.select(layers=["wide"]).steps == steps == 578
    np.testing.assert_array_equal(recording["1"].select(steps=late).spikes, layers()["1"][-3:])
    assert recording["wide"].select(steps=late).frames == 0
    check(path, "wide", layers()["wide"][:1920])


@pytest.mark.parametrize("is_closed", [False, True])
@pytest.mark.parametrize("share", [0, 0.8, 1])
def test_a_recording_goes_on_behind_lost_frames(tmp_path: Path, share: float, is_closed: bool) -> None:
    """Whether the lost chunk lies in a counted block, behind it, or is the last one, not full."""
    path = tmp_path / "run.zarr"
    random = np.random.default_rng(5)
    frames, more = 6 * 397, 6 * 340
    spikes = random.random((frames + more, 5)) < 0.4
    write_recording(path, {"1": spikes[:frames]}, [Run(0, 397, 6)], chunk_bytes=1, close=is_closed)
    layer = TapeReader.open(Folder(path)).layers["1"]
    lost = int(share * (frames - 1)) // 64
    (path / f"layers/1/spikes/c/{lost}/0").write_bytes(b"x")
    mark_lost(path)
    steps = np.arange(frames + more) // 6
    damaged = steps[lost * 64 : min((lost + 1) * 64, frames)]
    is_kept = ~np.isin(steps, damaged)
    check(path, "1", spikes[:frames][is_kept[:frames]])

    tape = TapeWriter.resume(Folder(path))
    commit, last = tape.resumed_layers()["1"]
    assert commit.lost_frames == 6 * len(np.unique(damaged))
    log = SegmentLog(last)
    log.extend(397, 340, 6)
    pending = tape.pending_frames("1")
    given = np.concatenate([pending, spikes[frames:]])
    whole = len(given) // 8 * 8
    tape.append("1", pack_frames(given[:whole]))
    raw = tape.totals("1") + given[whole:].sum(axis=0)
    np.testing.assert_array_equal(raw, spikes[is_kept].sum(axis=0))
    row = pack_frames(given[whole:])[0] if whole < len(given) else None
    for close in (False, True):
        tape.commit({"1": LayerProgress(len(given) - whole, row, *log.look())}, [], 0, close=close)
        assert find_problems(TapeReader.open(Folder(path))) == []
        check(path, "1", spikes[is_kept])
    assert layer.plan == TapeReader.open(Folder(path)).layers["1"].plan


def test_counts_that_are_damaged_together_with_their_chunks_are_given_up_with_them(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    write(path, "interrupted")
    (path / CHUNK).unlink()
    next(file for file in (path / "layers/wide/counts/c").rglob("*") if file.is_file()).unlink()
    mark_lost(path)
    check(path, "wide", kept())
    TapeWriter.resume(Folder(path)).commit({}, [], 2, close=True)


def test_more_can_be_lost_later_and_lost_frames_be_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    write(path, "closed")
    for chunk, lost in ((3, LOST), (4, slice(190, 320)), (1, slice(190, 320))):
        (path / f"layers/wide/spikes/c/{chunk}/0/0").write_bytes(b"")
        mark_lost(path)
        if chunk != 1:
            check(path, "wide", kept(lost=lost))
    frames = np.ones(FRAMES, np.bool_)
    frames[60:130] = frames[190:320] = False
    check(path, "wide", layers()["wide"][frames])
    (path / "layers/wide/spikes/c/5/0/0").unlink()
    assert call("recover", path, "--apply", "--cut").exit_code == 0
    assert TapeReader.open(Folder(path)).layers["wide"].commit.lost == ((60, 130), (190, 320))
    check(path, "wide", layers()["wide"][:320][frames[:320]])
    (path / "layers/1/spikes/c/0/0").unlink()
    assert call("recover", path, "--apply", "--cut").exit_code == 0
    assert TapeReader.open(Folder(path)).metadata.format_version == 1


def test_the_cut_may_fall_among_lost_frames(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    write(path, "closed")
    (path / CHUNK).unlink()
    mark_lost(path)
    reader = TapeReader.open(Folder(path))
    recovery = plan_recovery(reader, [])
    layers_cut = tuple(replace(layer, frames=220) for layer in recovery.layers)
    recovery = replace(recovery, cut_step=22, layers=layers_cut)
    recover(Folder(path), recovery, reader.metadata.commit_number, cut=True)
    assert TapeReader.open(Folder(path)).layers["wide"].commit.lost == ((190, 220),)
    assert find_problems(TapeReader.open(Folder(path))) == []
    check(path, "wide", layers()["wide"][:190])


@pytest.mark.usefixtures("synchronous")
def test_marking_can_fail_at_any_write_and_be_done_again(tmp_path: Path) -> None:
    lost = 26  # the last chunk, not full: it is written again
    spikes = np.random.default_rng(8).random((6 * 278, 5)) < 0.4
    is_kept = ~np.isin(np.arange(len(spikes)) // 6, np.arange(len(spikes))[lost * 64 : lost * 64 + 64] // 6)
    fails_at = 0
    while True:
        fails_at += 1
        path = tmp_path / f"{fails_at}.zarr"
        write_recording(path, {"1": spikes}, [Run(0, 278, 6)], chunk_bytes=1, close=False).release()
        (path / f"layers/1/spikes/c/{lost}/0").unlink()
        reader = TapeReader.open(Folder(path))
        recovery = plan_recovery(reader, find_problems(reader), mark_lost=True)
        store = FaultyStore(
            Folder(path, durability="process"), lambda number, *_, fails_at=fails_at: number >= fails_at
        )
        try:
            recover(store, recovery, reader.metadata.commit_number)
        except DiskError:
            layer = layer_of(path)
            if layer.lost_frames == 0:
                with pytest.raises(RecordingFormatError, match="is missing"):
                    layer.spikes.compute()
            else:
                np.testing.assert_array_equal(layer.spikes, spikes[is_kept])
            # What the broken disk did not let go of any more.
            (path / LOCK_KEY).unlink(missing_ok=True)
            mark_lost(path)
            np.testing.assert_array_equal(layer_of(path).spikes, spikes[is_kept])
            assert int(layer_of(path).spike_count()) == spikes[is_kept].sum()
        else:
            break
    assert fails_at > 15


def test_everything_may_be_lost(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    write_recording(path, {"1": np.ones((10, 3), np.bool_), "2": np.ones((10, 3), np.bool_)}, [Run(0, 10, 1)])
    (path / "layers/1/spikes/c/0/0").unlink()
    mark_lost(path)
    recording = analysis.open_recording(path)
    assert np.isnan(recording["1"].firing_rate())
    assert np.isnan(recording["1"].silent_ratio())
    assert float(recording.silent_ratio()) == 0
    assert recording["1"].spikes.shape == (0, 3)
    with pytest.raises(QuestionError):
        recording.spike_count(per="label")


def test_steps_lost_in_part_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    write(path, "closed")
    (path / CHUNK).unlink()
    mark_lost(path)
    reader = TapeReader.open(Folder(path))
    for lost in ((191, 260), (190, 259)):
        commit: LayerCommit = replace(reader.layers["wide"].commit, lost=(lost,))
        layer = type(reader.layers["wide"])(reader.store, commit)
        with pytest.raises(RecordingFormatError, match="layer 'wide' are marked lost, but they do not begin"):
            layer.kept_segments()
