"""Recordings of several generations at one place: never pooled, chosen or followed silently."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import analysis
from analysis.cli import commands
from analysis.keeping import find_problems
from recorder.keeping import pack_recording, plan_recovery, recover
from recorder.stores import Folder, open_store
from recorder.stores.rank_names import RankRecord, rank_location
from recorder.tape import TapeReader
from tapes import Run, go_on, write_recording

STEPS, NEURONS = 16, 5


def frames_of(seed: int, steps: int = STEPS) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).random((steps, NEURONS)) < 0.4


def write(store: Any, seed: int = 0, provenance: dict[str, Any] | None = None) -> None:
    write_recording(store, {"1": frames_of(seed)}, [Run(0, STEPS, 1)], provenance=provenance)


def write_ranks(run: str, ids: tuple[str | None, ...], ranks: int | None = None) -> list[Path]:
    """A rank for each identifier of a run; None for a recording that says nothing of ranks."""
    paths = []
    for rank, name in enumerate(ids):
        ranks = ranks or len(ids)
        paths.append(Path(rank_location(run, rank, ranks)))
        write(paths[-1], rank, None if name is None else RankRecord(name, rank, ranks).to_provenance())
    return paths


def opened(path: Any) -> int:
    return len(analysis.open_recording(path).recordings)


def called(*arguments: str) -> Callable[[Any], str]:
    """A command on a path; its message if it fails."""

    def call(path: Any) -> str:
        more = [f"{path}.packed"] if arguments == ("pack",) else []
        found = CliRunner().invoke(commands.main, [*arguments, str(path), *more])
        if found.exit_code:
            raise analysis.JointRecordingError(found.output)
        return found.output

    return call


ASKED = pytest.mark.parametrize(
    "ask", [opened, called("verify"), called("digest"), called("pack"), called("info")]
)


@ASKED
def test_a_name_of_a_recording_and_of_a_run_is_an_error(tmp_path: Path, ask: Any) -> None:
    run = tmp_path / "run.zarr"
    write(run)
    ask(run)
    write_ranks(str(run), ("a", "a"))
    with pytest.raises(
        analysis.JointRecordingError,
        match=r"(?s)run\.zarr stands for two: .*rank-00000-of-.*run\.zar\[r\] or",
    ):
        ask(run)
    assert opened([run]) == 1
    assert opened(str(tmp_path / "run.zar[r]")) == 1
    assert opened(str(tmp_path / "run.rank-*-of-*.zarr")) == 2
    assert opened(tmp_path / "run.rank-00001-of-00002.zarr") == 1


def test_a_name_of_a_recording_and_of_a_run_in_a_bucket(object_store: Any) -> None:
    url, options = "s3://runs/generations/run.zarr", object_store.options
    write(open_store(url, read_only=False, storage_options=options))
    assert len(analysis.open_recording(url, storage_options=options).recordings) == 1
    for rank in range(2):
        place = open_store(rank_location(url, rank, 2), read_only=False, storage_options=options)
        write(place, rank, RankRecord("a", rank, 2).to_provenance())
    with pytest.raises(analysis.JointRecordingError, match="stands for two"):
        analysis.open_recording(url, storage_options=options)
    assert len(analysis.open_recording([url], storage_options=options).recordings) == 1


@ASKED
@pytest.mark.parametrize("ids", [("a", "b"), ("a", ""), ("a", None), (None, None)])
def test_ranks_of_several_runs_are_not_pooled_by_their_names(
    tmp_path: Path, ids: tuple[str | None, ...], ask: Any
) -> None:
    run = tmp_path / "run.zarr"
    paths = write_ranks(str(run), ids)
    for asked in (run, str(tmp_path / "*.zarr")):
        with pytest.raises(
            analysis.JointRecordingError, match=r"(?s)run\.zarr: its recordings are named like"
        ):
            ask(asked)
    assert opened(paths) == 2
    with pytest.raises(analysis.QuestionError, match="not the ranks of one run"):
        analysis.open_recording(paths).firing_rate(per="step")


def test_the_runs_that_were_mixed_are_named(tmp_path: Path) -> None:
    write_ranks(str(tmp_path / "run.zarr"), ("a", "b"))
    with pytest.raises(analysis.JointRecordingError, match="some are of run 'a'; some are of run 'b'"):
        analysis.open_recording(tmp_path / "run.zarr")
    one, other = write_ranks(str(tmp_path / "swapped.zarr"), ("a", "a"))
    one.rename(tmp_path / "aside")
    other.rename(one)
    (tmp_path / "aside").rename(other)
    with pytest.raises(analysis.JointRecordingError, match="rank 0 of 2 is rank 1 of 2 of run 'a'"):
        analysis.open_recording(tmp_path / "swapped.zarr")


def test_what_a_run_of_fewer_ranks_has_left_is_an_error(tmp_path: Path) -> None:
    run = str(tmp_path / "run.zarr")
    write_ranks(run, ("a", "a"))
    write_ranks(run, ("b", "b", "b"))
    with pytest.raises(analysis.RecordingNotFoundError, match="one of 2 ranks and one of 3 ranks"):
        analysis.open_recording(run)
    assert opened(str(tmp_path / "run.rank-*-of-00003.zarr")) == 3


def test_ranks_that_know_no_identifier_are_one_run_by_their_names_with_a_warning(tmp_path: Path) -> None:
    paths = write_ranks(str(tmp_path / "run.zarr"), ("", ""))
    with pytest.warns(analysis.UnknownRunWarning, match="known by their names only"):
        recording = analysis.open_recording(tmp_path / "run.zarr")
    assert recording.firing_rate(per="step").shape == (STEPS,)
    others = write_ranks(str(tmp_path / "other.zarr"), ("", ""))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixed = analysis.open_recording([paths[0], others[1]])
    with pytest.raises(analysis.QuestionError, match="not the ranks of one run"):
        mixed.firing_rate(per="step")


@pytest.fixture
def growing(tmp_path: Path) -> tuple[Path, Path]:
    """A recording, and a copy of its folder with which somebody has gone on."""
    path, copy = tmp_path / "run.zarr", tmp_path / "copy.zarr"
    write(path)
    shutil.copytree(path, copy)
    go_on(copy, {"1": frames_of(1)}, Run(STEPS, STEPS, 1))
    return path, copy


def replace(path: Path, by: Path) -> None:
    shutil.rmtree(path)
    shutil.copytree(by, path)


def test_refreshing_goes_on_with_the_same_recording(growing: tuple[Path, Path]) -> None:
    path, copy = growing
    recording = analysis.open_recording(path)
    assert recording.refresh().steps == STEPS
    replace(path, copy)
    assert recording.refresh().steps == 2 * STEPS
    go_on(path, {"1": frames_of(1)}, Run(2 * STEPS, STEPS, 1))
    assert recording.refresh().steps == 3 * STEPS


def test_another_recording_is_not_followed(growing: tuple[Path, Path]) -> None:
    path, copy = growing
    write(copy.with_name("other.zarr"), 3)
    recording = analysis.open_recording(path)
    replace(path, copy.with_name("other.zarr"))
    with pytest.raises(
        analysis.RecordingReplacedError, match=r"commit 1 .*there is recording .*open it again"
    ):
        recording.refresh()
    assert recording.steps == STEPS


def test_an_earlier_commit_is_not_followed(growing: tuple[Path, Path]) -> None:
    path, copy = growing
    backup = shutil.copytree(path, path.with_name("backup.zarr"))
    replace(path, copy)
    recording = analysis.open_recording(path)
    replace(path, backup)
    with pytest.raises(analysis.RecordingReplacedError, match="an earlier one"):
        recording.refresh()


@pytest.mark.parametrize("commits", [1, 2])
def test_another_branch_is_not_followed(growing: tuple[Path, Path], commits: int) -> None:
    path, copy = growing
    for commit in range(commits):
        go_on(path, {"1": frames_of(2)}, Run(STEPS * (commit + 1), STEPS, 1))
    recording = analysis.open_recording(copy)
    replace(copy, path)
    with pytest.raises(analysis.RecordingReplacedError, match=f"{'another' if commits == 1 else 'a'} commit"):
        recording.refresh()


def test_what_was_recovered_or_packed_is_followed(growing: tuple[Path, Path], tmp_path: Path) -> None:
    _, path = growing
    recording = analysis.open_recording(path)
    packed = tmp_path / "packed.zarr"
    pack_recording(TapeReader.open(Folder(path)), str(packed))
    backup = shutil.copytree(path, tmp_path / "backup.zarr")
    replace(path, packed)
    assert recording.refresh().spike_count() == frames_of(0).sum() + frames_of(1).sum()
    replace(path, backup)
    assert recording.refresh().steps == 2 * STEPS
    chunk = next(file for file in (path / "layers/1/spikes/c").rglob("*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-5])
    # Nothing says that it was replaced; whoever asks for the spikes is told of the damage.
    assert recording.refresh().steps == 2 * STEPS
    reader = TapeReader.open(Folder(path))
    recovery = plan_recovery(reader, find_problems(reader), mark_lost=True)
    recover(Folder(path), recovery, reader.metadata.commit_number)
    assert recording.refresh()["1"].lost_frames == 2 * STEPS
