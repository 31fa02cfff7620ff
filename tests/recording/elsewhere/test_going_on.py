"""What is written is committed as it comes: cut short, it goes on; two writers are one too many."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import analysis
import recorder
from analysis.keeping import find_problems
from processes import finished, forked, line, python
from recorder import EventTable, Monitor
from recorder.elsewhere import writing
from recorder.format import RecordingExistsError, RecordingInUseError, RecordingWriteError, plan_chunks
from recorder.stores import Folder
from recorder.tape import TapeReader

write_recording = partial(recorder.write_recording, durability="process")

TRIALS, STEPS, SAMPLES, NEURONS = 6, 9, 3, 5


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little data is many chunks and many rounds, and each round a commit."""
    monkeypatch.setattr(writing, "plan_chunks", partial(plan_chunks, target_bytes=1))
    monkeypatch.setattr(writing, "ROUND_SLOTS", 4 * SAMPLES * NEURONS)


def made(trial: int) -> np.ndarray:
    return np.random.default_rng(trial).random((STEPS, SAMPLES, NEURONS)) < 0.3


def labels(trials: int = TRIALS) -> list[list[Any]]:
    return [[f"image {trial}", trial, None] for trial in range(trials)]


def pieces(fails_at: int = -1) -> Iterator[np.ndarray]:
    for trial in range(TRIALS):
        if trial == fails_at:
            raise ConnectionError("the chip is gone")
        yield made(trial)


def read(path: Path) -> np.ndarray:
    reader = TapeReader.open(Folder(path))
    assert find_problems(reader) == []
    layer = reader.layers["1"]
    return layer.frame_bits(0, layer.frames)


def digest(path: Path) -> str:
    return analysis.open_recording(path).digest()


@pytest.fixture
def whole(tmp_path: Path) -> str:
    """Digest of everything, written at once."""
    write_recording(tmp_path / "whole.zarr", {"1": pieces(), "2": pieces()}, labels=labels())
    return digest(tmp_path / "whole.zarr")


def test_a_source_that_fails_leaves_what_it_gave_and_is_gone_on_with(tmp_path: Path, whole: str) -> None:
    path = tmp_path / "run.zarr"
    with pytest.raises(ConnectionError, match="the chip is gone"):
        write_recording(path, {"1": pieces(), "2": pieces(fails_at=4)}, labels=labels())
    reader = TapeReader.open(Folder(path))
    assert reader.metadata.state == "recording"
    assert [layer.frames for layer in reader.metadata.layers] == [4 * STEPS * SAMPLES] * 2
    assert reader.trials()["label"].tolist() == [value for values in labels(4) for value in values]
    write_recording(path, {"1": pieces(), "2": pieces()}, labels=labels(), resume=True)
    assert digest(path) == whole
    assert (read(path) == np.concatenate([*pieces()]).reshape(-1, NEURONS)).all()


@pytest.mark.parametrize("step", [0, 3, 4, 11, 18, 26, 53])
def test_a_value_that_is_none_leaves_the_rounds_before(tmp_path: Path, whole: str, step: int) -> None:
    path = tmp_path / "run.zarr"
    trials = [made(trial).astype(np.float32) for trial in range(TRIALS)]
    trials[step // STEPS][step % STEPS, 1, 2] = np.nan
    with pytest.raises(ValueError, match=f"neuron 2, step {step}"):
        write_recording(path, {"1": pieces(), "2": iter(trials)}, labels=labels())
    first = step // STEPS * STEPS + step % STEPS // 4 * 4
    if first:
        layers = TapeReader.open(Folder(path)).metadata.layers
        assert [layer.frames for layer in layers] == [first * SAMPLES] * 2
    else:
        assert [*path.iterdir()] == []
    write_recording(path, {"1": pieces(), "2": pieces()}, labels=labels(), resume=True)
    assert digest(path) == whole
    assert find_problems(TapeReader.open(Folder(path))) == []


def test_what_is_whole_is_gone_on_with_as_it_is(tmp_path: Path, whole: str) -> None:
    path = tmp_path / "whole.zarr"
    write_recording(path, {"1": pieces(), "2": pieces()}, labels=labels(), resume=True)
    assert digest(path) == whole
    assert TapeReader.open(Folder(path)).metadata.trials.trials == TRIALS


def test_arrays_and_tables_are_gone_on_with_in_the_midst(tmp_path: Path) -> None:
    values = made(0).astype(np.uint8)
    step, sample, neuron = np.nonzero(values)
    events = {"step": step, "sample": sample, "neuron": neuron}
    broken = values.astype(np.float32)
    broken[7, 0, 0] = np.nan

    def table() -> EventTable:
        parts = (
            {name: column[first : first + 3] for name, column in events.items()} for first in range(0, 99, 3)
        )
        return EventTable(parts, neurons=NEURONS, steps=STEPS, samples=SAMPLES)

    with pytest.raises(ValueError, match="step 7"):
        write_recording(tmp_path / "run.zarr", {"1": table(), "2": broken}, labels=[0, 1, 2])
    write_recording(tmp_path / "run.zarr", {"1": table(), "2": values}, labels=[0, 1, 2], resume=True)
    write_recording(tmp_path / "whole.zarr", {"1": values, "2": values}, labels=[0, 1, 2])
    assert digest(tmp_path / "run.zarr") == digest(tmp_path / "whole.zarr")


def test_append_puts_everything_behind(tmp_path: Path, whole: str) -> None:
    path = tmp_path / "run.zarr"
    for first, last in ((0, 2), (2, 3), (3, 6)):
        some = [made(trial) for trial in range(first, last)]
        write_recording(path, {"1": iter(some), "2": iter(some)}, labels=labels()[first:last], append=True)
    assert digest(path) == whole


def test_resume_and_append_begin_where_there_is_nothing(tmp_path: Path, whole: str) -> None:
    for option in ("resume", "append"):
        path = tmp_path / f"{option}.zarr"
        write_recording(path, {"1": pieces(), "2": pieces()}, labels=labels(), **{option: True})
        assert digest(path) == whole


def test_fewer_steps_than_there_are_cannot_be_gone_on_with(tmp_path: Path) -> None:
    write_recording(tmp_path / "run.zarr", {"1": made(0)})
    before = digest(tmp_path / "run.zarr")
    with pytest.raises(ValueError, match=r"4 steps are given, but .* has 9 already.*append=True"):
        write_recording(tmp_path / "run.zarr", {"1": made(0)[:4]}, resume=True)
    assert digest(tmp_path / "run.zarr") == before


def test_what_is_there_is_neither_replaced_nor_mixed(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    write_recording(path, {"1": made(0)}, dt=1.0, dt_unit="ms")
    before = digest(path)
    with pytest.raises(RecordingExistsError, match="overwrite=True"):
        write_recording(path, {"1": made(1)})
    for option in ({"resume": True}, {"append": True}):
        with pytest.raises(ValueError, match=r"has the layers \['1'\], and \['2'\] are given"):
            write_recording(path, {"2": made(1)}, **option)
        with pytest.raises(ValueError, match=r"has 1\.0 as its dt, and this call says dt=2\.0"):
            write_recording(path, {"1": made(1)}, dt=2.0, dt_unit="ms", **option)
    with pytest.raises(ValueError, match=r"neuron shape \(5, 1\), but the recording has \(5,\)"):
        write_recording(path, {"1": made(1)[..., None]}, append=True)
    assert digest(path) == before
    write_recording(path, {"1": made(1)}, overwrite=True)
    assert (read(path) == made(1).reshape(-1, NEURONS)).all()


def test_a_recording_of_a_monitor_is_not_gone_on_with_nor_the_other_way_round(tmp_path: Path) -> None:
    class Threshold(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lif = Threshold()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lif(x)

    path = tmp_path / "run.zarr"
    with Monitor(net := Network(), layers=[Threshold], store=path) as _:
        net(torch.ones(3, 5))
    with pytest.raises(RecordingExistsError, match=r"by a monitor: its layer 'lif' is a .*Threshold"):
        write_recording(path, {"lif": made(0)}, append=True)
    write_recording(path, {"lif": made(0)}, overwrite=True)
    with pytest.raises(ValueError, match=r"'lif' of .* was recorded of a recorder\.write_recording"):
        Monitor(net, layers=[Threshold], store=path, resume=True)


SLOWLY = """
import sys, time
import numpy as np
from functools import partial
from recorder import write_recording
from recorder.elsewhere import writing
from recorder.format import plan_chunks
from test_going_on import labels, pieces, small

writing.plan_chunks = partial(plan_chunks, target_bytes=1)
writing.ROUND_SLOTS = 4 * 3 * 5

def slowly():
    for number, piece in enumerate(pieces()):
        if number == int(sys.argv[2]):
            print("there", flush=True)
            sys.stdin.readline()
        yield piece

write_recording(
    sys.argv[1], {"1": pieces(), "2": slowly()}, labels=labels(), resume=True, commit_interval=1e-9
)
"""


@pytest.mark.parametrize("trial", [0, 1, 4])
def test_a_killed_writer_loses_nothing_and_another_goes_on(tmp_path: Path, whole: str, trial: int) -> None:
    path = tmp_path / "run.zarr"
    with forked(SLOWLY, path, trial, beside=__file__) as process:
        assert line(process) == "there"
        with pytest.raises(RecordingInUseError, match=str(process.pid)):
            write_recording(path, {"1": pieces(), "2": pieces()}, labels=labels(), resume=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
    reader = TapeReader.open(Folder(path))
    assert [layer.frames for layer in reader.metadata.layers] == [trial * STEPS * SAMPLES] * (
        2 if trial else 0
    )
    assert find_problems(reader) == []
    with forked(SLOWLY, path, -1, beside=__file__) as process:
        finished(process)
    assert digest(path) == whole


def test_a_writer_that_is_interrupted_keeps_what_it_was_given(tmp_path: Path) -> None:
    def interrupted() -> Iterator[np.ndarray]:
        yield made(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_recording(tmp_path / "run.zarr", {"1": interrupted()})
    assert (read(tmp_path / "run.zarr") == made(0).reshape(-1, NEURONS)).all()


def test_commits_come_as_often_as_they_are_asked_for(tmp_path: Path) -> None:
    commits = {}
    for interval in (1e-9, 1000.0):
        write_recording(tmp_path / f"{interval}.zarr", {"1": pieces()}, commit_interval=interval)
        commits[interval] = TapeReader.open(Folder(tmp_path / f"{interval}.zarr")).metadata.commit_number
    rounds = TRIALS * 3
    assert commits == {1e-9: rounds + 1, 1000.0: 1}


def test_a_failure_to_write_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingWriteError, match="cannot record to"):
        write_recording(tmp_path / "file" / "run.zarr", {"1": made(0)})


def test_eight_times_as_much_takes_no_more_memory(tmp_path: Path) -> None:
    grown = []
    for steps in (2_000, 16_000):
        file = tmp_path / "values.npy"
        np.lib.format.open_memmap(file, "w+", np.uint8, (steps, 8, 1000)).flush()
        with python(MEASURED, file, tmp_path / f"{steps}.zarr") as process:
            grown.append(int(finished(process)))
        file.unlink()
    assert grown[1] < grown[0] + 40e6  # of 112 MB more


MEASURED = """
import sys
import numpy as np
from recorder import write_recording

class File:
    def __init__(self, path):
        self.path = path
        array = np.load(path, mmap_mode="r")
        self.shape, self.dtype = array.shape, array.dtype
    def __getitem__(self, key):
        return np.array(np.load(self.path, mmap_mode="r")[key])

def private_bytes():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

before = private_bytes()
write_recording(sys.argv[2], {"1": File(sys.argv[1])}, durability="process")
print(private_bytes() - before)
"""
