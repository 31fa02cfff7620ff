"""`spiketape verify` lists what is wrong; `spiketape recover` says what it would drop, and asks first."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from analysis.cli import commands
from analysis.keeping import find_problems
from damage import FRAMES, layers, write
from recorder.format import RecordingDamagedError
from recorder.format.bits import count_per_neuron
from recorder.format.chunks import encode_rows, encode_spikes, encode_values
from recorder.keeping import plan_recovery, recover
from recorder.stores import Folder
from recorder.tape import TapeReader, TapeWriter
from recorder.tape.holding.lock import LOCK_KEY


def call(*arguments: object) -> Result:
    return CliRunner().invoke(commands.main, list(map(str, arguments)))


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    write(tmp_path / "run.zarr", "interrupted")
    return tmp_path / "run.zarr"


def check(path: Path, frames: dict[str, int]) -> None:
    reader = TapeReader.open(Folder(path))
    assert reader.metadata.state == "closed"
    assert {name: layer.frames for name, layer in reader.layers.items()} == frames
    for name, layer in reader.layers.items():
        assert np.array_equal(layer.frame_bits(0, layer.frames), layers()[name][: layer.frames])
    assert find_problems(reader) == []
    assert not list(path.rglob("*.partial"))


@pytest.mark.parametrize("state", ["closed", "interrupted"])
def test_a_sound_recording_passes(tmp_path: Path, state: str) -> None:
    write(tmp_path / "run.zarr", state)
    result = call("verify", tmp_path / "run.zarr")
    assert (result.exit_code, result.stdout) == (0, "")
    assert (
        f"sound (2 layers, {2 * FRAMES} frames, {'closed' if state == 'closed' else 'recording'}"
        in result.stderr
    )


@pytest.mark.parametrize("state", ["closed", "interrupted"])
def test_every_chunk_is_read_once(tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "run.zarr", state)
    read: list[str] = []
    whole = Folder.read

    def counting(self: Folder, key: str, limit_bytes: int) -> bytes | None:
        read.append(key)
        return whole(self, key, limit_bytes)

    monkeypatch.setattr(Folder, "read", counting)
    reader = TapeReader.open(Folder(tmp_path / "run.zarr"))
    assert find_problems(reader) == []
    chunks = [key for key in read if "/spikes/c/" in key]
    committed = [layer.plan.chunk_count(layer.frames) * layer.plan.parts for layer in reader.layers.values()]
    assert len(chunks) == len(set(chunks)) == sum(committed) > 10


def test_every_problem_is_listed(interrupted: Path) -> None:
    first, second = interrupted / "layers/1/spikes/c/1/0", interrupted / "layers/wide/spikes/c/3/1/0"
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    (interrupted / "layers/wide/counts/zarr.json").write_text("{}")
    (interrupted / "trials/label/c/0").write_bytes(b"")
    result = call("verify", interrupted)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    for place in (
        first,
        second,
        interrupted / "layers/wide/counts/zarr.json",
        interrupted / "trials/label/c/0",
    ):
        assert sum(str(place) in line for line in lines) == 1
    assert "4 problem(s)" in result.stderr


def test_what_is_no_recording_is_told_apart_from_wrong_use(tmp_path: Path) -> None:
    assert call("verify", tmp_path / "nothing").exit_code == 1
    assert call("recover", tmp_path / "nothing").exit_code == 1
    assert call("verify").exit_code == 2
    assert call("recover", tmp_path, "--everything").exit_code == 2


def test_counts_and_padding_are_checked_against_the_spikes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that counts or pads wrongly leaves all checksums right."""

    def wrong_padding(trains: np.ndarray, *_: object) -> bytes:
        return encode_spikes(np.concatenate([trains[:-1], np.full_like(trains[:1], 255)]))

    def wrong_rows(rows: np.ndarray, chunk_rows: int) -> bytes:
        return encode_rows(rows, chunk_rows)

    path = tmp_path / "run.zarr"
    with monkeypatch.context() as patched:
        patched.setattr("recorder.tape.layers.bits_writing.encode_spikes", wrong_padding)
        write(path, "closed")
    found = call("verify", path).stdout
    assert "holds spikes of neurons that the layer does not have" in found
    shutil.rmtree(path)
    with monkeypatch.context() as patched:
        for module in ("layers.bits_writing", "threads.rearranging"):
            patched.setattr(
                f"recorder.tape.{module}.count_per_neuron", lambda trains: count_per_neuron(trains) + 1
            )
        write(path, "closed")
    found = call("verify", path).stdout
    assert "block 0 of layer '1' has" in found
    assert "block 1 of layer 'wide' has" in found
    assert "5 neurons differ" in found


def test_verification_runs_on_a_cluster(interrupted: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        assert find_problems(TapeReader.open(Folder(interrupted))) == []


def test_recovering_is_a_dry_run_unless_applied(interrupted: Path) -> None:
    before = files(interrupted)
    result = call("recover", interrupted)
    assert result.exit_code == 0
    assert f"keep {FRAMES} frames of layer '1'\n" in result.stdout
    assert "drop layers/1/spikes/c/4/0" in result.stdout
    assert "drop layers/1/spikes/c/99.0123456789abcdef.partial" in result.stdout
    assert "nothing was changed" in result.stderr
    assert files(interrupted) == before


def test_an_interrupted_recording_is_closed_without_touching_what_was_committed(interrupted: Path) -> None:
    (interrupted / "notes.txt").write_text("mine")
    before = files(interrupted)
    result = call("recover", interrupted, "--apply")
    assert result.exit_code == 0, result.output
    assert "leave notes.txt, which is no part of a recording" in result.stdout
    check(interrupted, {"1": FRAMES, "wide": FRAMES})
    after = files(interrupted)
    dropped = {line.removeprefix("drop ") for line in result.stdout.splitlines() if line.startswith("drop ")}
    assert dropped == before.keys() - after.keys()
    assert after["notes.txt"] == b"mine"
    # Whole chunks and everything else that was promised for good is as it was.
    rewritten = {key for key in after if "/spikes/c/" in key and after[key] != before[key]}
    assert rewritten <= {
        "layers/1/spikes/c/3/0",
        "layers/wide/spikes/c/30/0/0",
        "layers/wide/spikes/c/30/1/0",
    }
    assert call("recover", interrupted).stdout.count("drop") == 0


def test_damaged_frames_are_cut_off_only_when_asked_for(interrupted: Path) -> None:
    # Frames 192 to 255 of layer "wide", which lie in steps 19 to 25.
    (interrupted / "layers/wide/spikes/c/3/1/0").unlink()
    before = files(interrupted)
    shown = call("recover", interrupted)
    assert shown.exit_code == 1
    assert "cut before step 19, as frames from there on are damaged" in shown.stdout
    assert f"keep 190 frames of layer '1', drop {FRAMES - 190}" in shown.stdout
    refused = call("recover", interrupted, "--apply")
    assert refused.exit_code == 1
    assert "It can be cut before step 19" in refused.stderr
    assert files(interrupted) == before
    assert call("recover", interrupted, "--apply", "--cut").exit_code == 0
    check(interrupted, {"1": 190, "wide": 190})
    trials = TapeReader.open(Folder(interrupted)).trials()
    assert trials["label"].tolist() == ["a", "b"] * 5
    writer = TapeWriter.resume(Folder(interrupted))
    assert writer.metadata.trials.trials == 1


def test_damaged_values_are_cut_off_with_all_behind_them_in_every_layer(interrupted: Path) -> None:
    before = signals_of(interrupted)
    # Frames 60 to 79 of the signal, which has ten of every tenth step: those of steps 60 and 70.
    (interrupted / "layers/1/signals/v/values/c/3/0").write_bytes(b"cut short")
    found = call("verify", interrupted)
    assert "the chunk of signal 'v' of layer '1' with frames 60 to 79" in found.stdout
    assert "cut before step 60" in call("recover", interrupted).stdout
    assert call("recover", interrupted, "--apply", "--cut").exit_code == 0
    check(interrupted, {"1": 600, "wide": 600})
    after = signals_of(interrupted)
    assert after["1", "v"].shape == (60, 5)
    assert len(after["wide", "v"]) == 2 * len(range(0, 60, 16))
    for which, values in after.items():
        assert np.array_equal(values, before[which][: len(values)])
    keys = {key for key in files(interrupted) if "layers/1/signals/v/values/c/" in key}
    assert keys == {f"layers/1/signals/v/values/c/{chunk}/0" for chunk in range(3)}


def test_damaged_values_are_marked_lost_in_their_signal_alone(interrupted: Path) -> None:
    before = signals_of(interrupted)
    (interrupted / "layers/1/signals/v/values/c/3/0").unlink()
    result = call("recover", interrupted, "--apply", "--mark-lost")
    assert "mark 20 frames of signal 'v' of layer '1' lost: steps 60 to 70" in result.stdout
    check(interrupted, {"1": FRAMES, "wide": FRAMES})
    signal = TapeReader.open(Folder(interrupted)).layers["1"].signals["v"]
    assert signal.commit.lost == ((60, 80),)
    assert np.array_equal(signal.values(0, 60), before["1", "v"][:60])
    assert np.array_equal(signal.values(80, signal.frames), before["1", "v"][80:])


def test_padding_of_values_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that pads wrongly leaves all checksums right."""

    def wrong_padding(trains: np.ndarray, *_: object) -> bytes:
        trains = trains.copy()
        trains[-1, -1] = -0.0 if trains.dtype.kind == "f" else 1
        return encode_values(trains)

    monkeypatch.setattr("recorder.tape.layers.signal_writing.encode_values", wrong_padding)
    write(tmp_path / "run.zarr", "closed")
    found = call("verify", tmp_path / "run.zarr").stdout
    assert "holds values of neurons that the signal does not have" in found
    assert "holds values behind its last frame" in found


def signals_of(path: Path) -> dict[tuple[str, str], np.ndarray]:
    layers = TapeReader.open(Folder(path)).layers
    return {
        (name, signal): values.values(0, values.frames)
        for name, layer in layers.items()
        for signal, values in layer.signals.items()
    }


def test_a_recording_may_be_cut_to_nothing(interrupted: Path) -> None:
    (interrupted / "layers/1/spikes/c/0/0").unlink()
    assert call("recover", interrupted, "--apply", "--cut").exit_code == 0
    check(interrupted, {})


def test_counts_and_documents_are_written_again_from_the_rest(interrupted: Path) -> None:
    (interrupted / "layers/1/counts/c/0/0").unlink()
    (interrupted / "layers/wide/zarr.json").write_text("?")
    (interrupted / "layers/wide/spikes/zarr.json").unlink()
    result = call("recover", interrupted, "--apply")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("write again from the rest") == 3
    check(interrupted, {"1": FRAMES, "wide": FRAMES})


@pytest.mark.parametrize("array", ["segments", "checksums", "counts_checksums"])
def test_what_cannot_be_mended_is_left_alone(interrupted: Path, array: str) -> None:
    next(path for path in (interrupted / f"layers/1/{array}/c").rglob("*") if path.is_file()).unlink()
    before = files(interrupted)
    result = call("recover", interrupted, "--apply", "--cut")
    assert result.exit_code == 1
    assert f"damaged, and not to be mended: {interrupted}/layers/1/{array}" in result.stdout
    assert "nothing was changed" in result.stderr
    assert files(interrupted) == before


def test_a_recording_at_work_is_not_recovered(tmp_path: Path) -> None:
    store = Folder(tmp_path / "run.zarr")
    writer = TapeWriter.create(store, {})
    result = call("recover", tmp_path / "run.zarr", "--apply")
    assert result.exit_code == 1
    assert "is being recorded by process" in result.stderr
    writer.commit({}, [], 0, close=True)


def test_a_plan_that_is_out_of_date_is_refused(interrupted: Path) -> None:
    store = Folder(interrupted)
    reader = TapeReader.open(store)
    recovery = plan_recovery(reader, find_problems(reader))
    TapeWriter.resume(store).release()
    with pytest.raises(RecordingDamagedError, match="has gone on meanwhile"):
        recover(store, recovery, reader.metadata.commit_number)
    assert LOCK_KEY not in files(interrupted)


def test_recovery_lets_nobody_in_before_all_is_deleted(
    interrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked: dict[str, bool] = {}
    delete = Folder.delete

    def look(self: Folder, key: str) -> None:
        locked[key] = (interrupted / LOCK_KEY).exists()
        delete(self, key)

    monkeypatch.setattr(Folder, "delete", look)
    reader = TapeReader.open(Folder(interrupted))
    recovery = plan_recovery(reader, find_problems(reader))
    recover(Folder(interrupted), recovery, reader.metadata.commit_number)
    assert recovery.dropped
    assert all(locked[key] for key in recovery.dropped)


def test_the_exit_status_reaches_scripts(interrupted: Path) -> None:
    command = [sys.executable, "-P", "-m", "analysis.cli", "verify", str(interrupted)]
    (interrupted / "layers/1/spikes/c/0/0").unlink()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
