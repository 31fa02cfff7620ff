"""A disk that fails in earnest: the user is told, or warned once, and what was committed stays good."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from processes import collect_garbage, forked
from recorder import Monitor
from recorder.format import RecordingStoppedWarning, RecordingWriteError
from recorder.stores import Folder
from recorder.tape import TapeReader

NEURONS = 4001


class Threshold(nn.Module):
    """Spikes wherever its input exceeds 0.5."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0.5).to(x.dtype)


def inputs(step: int) -> torch.Tensor:
    # Noise, which takes as much room when compressed.
    return torch.rand(8, NEURONS, generator=torch.Generator().manual_seed(step))


def monitor_of(path: Path, **options: Any) -> Monitor:
    return Monitor(nn.Sequential(Threshold()), layers=[Threshold], store=path, **options)


def record(monitor: Monitor, first: int, last: int, every: int = 5) -> int:
    """Record steps, committing now and then; the steps that were promised."""
    promised = first
    for step in range(first, last):
        monitor._hooks._network(inputs(step))
        if (step + 1) % every == 0:
            monitor.flush()
            promised = step + 1
    return promised


def check(path: Path, least: int, most: int = 10**6) -> int:
    """The committed steps: at least so many, each as it was recorded."""
    layer = TapeReader.open(Folder(path)).layers["0"]
    steps = layer.frames // 8
    assert least <= steps <= most
    expected = torch.cat([inputs(step) for step in range(steps)]) > 0.5
    assert np.array_equal(layer.frame_bits(0, layer.frames), expected.numpy())
    return steps


def run(*command: object) -> None:
    subprocess.run(list(map(str, command)), check=True, capture_output=True)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts file systems; skips where that is not allowed."""
    mounted: list[Path] = []

    def mount(*arguments: object) -> Path:
        place = tmp_path / f"mounted-{len(mounted)}"
        place.mkdir()
        try:
            run("mount", *arguments, place)
        except (subprocess.CalledProcessError, OSError) as error:
            pytest.skip(f"mounting needs root and its devices: {getattr(error, 'stderr', error)!r}")
        mounted.append(place)
        return place

    yield mount
    collect_garbage()
    for place in mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=False, capture_output=True)  # noqa: S607


BROKEN: dict[str, tuple[str, str | None, str, int]] = {
    "the disk is full": ("size=512k", None, "size=64m", errno.ENOSPC),
    "no inode is left": ("nr_inodes=28", None, "nr_inodes=1000", errno.ENOSPC),
    "the disk turns read-only": ("size=64m", "remount,ro", "rw", errno.EROFS),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_disk_is_told_and_when_it_is_mended_recording_goes_on(
    mount: Callable[..., Path], small_chunks: None, what: str
) -> None:
    options, breaking, mending, number = BROKEN[what]
    disk = mount("-t", "tmpfs", "-o", options, "tmpfs")
    path = disk / "run.zarr"
    monitor = monitor_of(path)
    monitor.enable()
    promised = record(monitor, 0, 5)
    if breaking:
        run("mount", "-o", breaking, disk)

    def go_on() -> None:
        nonlocal promised
        for step in range(5, 1000, 5):
            promised = record(monitor, step, step + 5)

    with pytest.raises(RecordingWriteError, match="recording stopped") as failure:
        go_on()
    assert isinstance(failure.value.__cause__, OSError)
    assert failure.value.__cause__.errno == number
    check(path, promised, promised)
    with pytest.raises(RecordingWriteError):
        monitor.close()
    run("mount", "-o", f"remount,{mending}", disk)
    with monitor_of(path, resume=True) as again:
        record(again, promised, promised + 30)
    assert check(path, promised + 30) == promised + 30


def test_a_folder_deleted_while_recording_is_told_and_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    monitor = monitor_of(path)
    monitor.enable()
    record(monitor, 0, 5)
    shutil.rmtree(path)
    with pytest.raises(RecordingWriteError, match="removed"):
        record(monitor, 5, 10)
    with pytest.raises(RecordingWriteError):
        monitor.close()
    assert not path.exists()


LIMITED = """
from functools import partial
import resource, sys, torch
from pathlib import Path
from test_failing_disks import monitor_of, record
from recorder.session import layers
from recorder.format.errors import RecordingWriteError
layers.plan_chunks = partial(layers.plan_chunks, target_bytes=64 * 4001)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
monitor = monitor_of(Path(sys.argv[1]))
monitor.enable()
promised = 0
try:
    for step in range(0, 1000, 5):
        promised = record(monitor, step, step + 5)
except RecordingWriteError as error:
    print(promised, type(error.__cause__).__name__, error.__cause__.errno)
"""


def test_a_limit_on_the_size_of_files_is_told(tmp_path: Path) -> None:
    with forked(LIMITED, tmp_path / "run.zarr", beside=__file__) as limited:
        out, _ = limited.communicate(timeout=120)
    promised, cause, number = out.split()
    assert (cause, int(number)) == ("OSError", errno.EFBIG)
    assert check(tmp_path / "run.zarr", int(promised)) > 0


def test_with_a_warning_the_network_runs_on_unrecorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.zarr"
    monitor = monitor_of(path, on_error="warn")
    net = monitor._hooks._network
    monitor.enable()
    record(monitor, 0, 5)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(Folder, "write", fail)
        with pytest.warns(
            RecordingStoppedWarning, match="No space left on device.*The network runs on"
        ) as told:
            record(monitor, 5, 10)
        assert len(told) == 1
        assert torch.equal(net(inputs(0)), (inputs(0) > 0.5).float())
        monitor.flush()
        monitor.disable()
        assert len(monitor.s["0"]) == 5
        with pytest.raises(RecordingWriteError, match="No space left"):
            monitor.get_avg_firing_rate()
        monitor.close()
    check(path, 5, 5)
    monitor.enable()
    record(monitor, 5, 8)
    monitor.close()
    assert check(path, 8) == 8


def test_enabling_a_monitor_that_has_stopped_says_so_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = monitor_of(tmp_path / "run.zarr", on_error="warn")
    monitor.enable()
    record(monitor, 0, 5)
    with monkeypatch.context() as broken:
        broken.setattr(Folder, "persist", lambda _: os.fsync(-1))
        with pytest.warns(RecordingStoppedWarning):
            record(monitor, 5, 10)
    monitor.disable()
    with pytest.raises(RecordingWriteError, match=r"close\(\) it, then enable\(\) it again"):
        monitor.enable()
    monitor.close()


def test_on_error_has_two_values(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on_error is 'ignore'; expected 'raise' or 'warn'"):
        monitor_of(tmp_path / "run.zarr", on_error="ignore")


# The request of ext4 that stops a file system at once, without writing out its journal, as a power cut does.
EXT4_SHUTDOWN, WITHOUT_JOURNAL = 0x8004587D, (2).to_bytes(4, "little")


@pytest.mark.parametrize("durability", ["power", "process"])
def test_a_power_cut_takes_no_committed_step(
    mount: Callable[..., Path], tmp_path: Path, small_chunks: None, durability: str
) -> None:
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(64 * 2**20)
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    run("mkfs.ext4", "-q", "-F", image)
    disk = mount("-o", "loop", image)
    monitor = monitor_of(disk / "run.zarr", durability=durability)
    monitor.enable()
    promised = record(monitor, 0, 40)
    record(monitor, 40, 45, every=1000)
    descriptor = os.open(disk, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, EXT4_SHUTDOWN, WITHOUT_JOURNAL)
    except OSError as error:
        pytest.skip(f"the file system cannot be shut down: {error}")
    finally:
        os.close(descriptor)
    with pytest.raises(RecordingWriteError):
        monitor.close()
    del monitor
    collect_garbage()
    run("umount", disk)
    again = mount("-o", "loop", image)
    if durability == "process":
        # What the promise is worth is seen by what happens without it.
        assert (
            not (again / "run.zarr/zarr.json").exists() or not (again / "run.zarr/zarr.json").stat().st_size
        )
        return
    check(again / "run.zarr", promised)
    with monitor_of(again / "run.zarr", resume=True) as resumed:
        record(resumed, promised, promised + 10)
    assert check(again / "run.zarr", promised + 10) == promised + 10
