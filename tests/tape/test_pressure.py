"""While more waits, more threads encode, and then faster; nothing of it changes what is recorded."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import analysis
from recorder import Monitor, SpikeOutput
from recorder.format.layout import ZSTD_LEVEL
from recorder.tape.threads.in_order import InOrder
from recorder.tape.threads.pressure import BYTES_EACH, Backlog, Pressure, Written

LIMIT = 64 * BYTES_EACH


def pressed(waiting_bytes: int) -> Pressure:
    pressure = Pressure()
    pressure.backlog = lambda: Backlog(waiting_bytes, LIMIT)
    return pressure


@pytest.mark.parametrize(
    ("waiting_bytes", "threads"),
    [
        (0, 1),  # the thread that writes does it itself
        (BYTES_EACH - 1, 1),
        (BYTES_EACH, 2),
        (3 * BYTES_EACH, 4),
        (LIMIT, 7),  # all there are
    ],
)
def test_as_many_threads_work_as_the_backlog_needs(waiting_bytes: int, threads: int) -> None:
    assert pressed(waiting_bytes).threads(7) == threads


def test_a_source_that_can_wait_has_all_threads_and_the_usual_level() -> None:
    assert (Pressure().threads(7), Pressure().level()) == (7, ZSTD_LEVEL)


@pytest.mark.parametrize(
    ("share", "level"),
    [(0, ZSTD_LEVEL), (0.49, ZSTD_LEVEL), (0.5, -20), (0.74, -20), (0.75, -1000), (1, -1000)],
)
def test_chunks_are_compressed_faster_before_the_network_waits(share: float, level: int) -> None:
    pressure = pressed(int(share * LIMIT))
    pressure.note(Written(ZSTD_LEVEL, 10, encoding_seconds=2.0, writing_seconds=1.0))
    assert pressure.level() == level


def test_a_disk_that_is_slower_than_compression_is_not_given_larger_chunks() -> None:
    pressure = pressed(LIMIT)
    for _ in range(9):
        pressure.note(Written(ZSTD_LEVEL, 10, encoding_seconds=1.0, writing_seconds=2.0))
    assert pressure.level() == ZSTD_LEVEL
    for _ in range(9):
        pressure.note(Written(ZSTD_LEVEL, 10, encoding_seconds=3.0, writing_seconds=2.0))
    assert pressure.level() < 0


def test_threads_are_taken_as_the_backlog_grows_and_given_back_as_it_shrinks() -> None:
    waiting = [0]
    pressure = Pressure()
    pressure.backlog = lambda: Backlog(waiting[0] * BYTES_EACH, LIMIT)
    in_order = InOrder(4, pressure)
    gate, begun = threading.Event(), threading.Semaphore(0)
    names: list[str] = []

    def work() -> str:
        begun.release()
        gate.wait(30)
        return threading.current_thread().name

    waiting[0] = 2
    for _ in range(3):
        in_order.put(work, names.append)
    for _ in range(3):  # all three are at work at the same time
        assert begun.acquire(timeout=30)
    gate.set()
    waiting[0] = 0
    in_order.put(work, names.append)
    assert len({*names[:3]}) == 3
    assert names[3] == threading.current_thread().name
    in_order.close()


class Relay(nn.Module):
    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        return spikes


def test_chunks_that_were_hurried_are_larger_and_read_the_same(
    tmp_path: Path, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spikes = torch.rand(4000, 13, generator=torch.Generator().manual_seed(1)) < 0.05
    # Small files take longer to write than to compress, which shall change nothing here.
    monkeypatch.setattr("recorder.tape.threads.pressure._SHARE", 0)
    stored = {}
    for share in (0.0, 0.6, 0.9):
        monkeypatch.setattr(
            "recorder.session.background.BackgroundWriter.backlog",
            lambda _, share=share: Backlog(int(share * 100), 100),
        )
        path = tmp_path / f"{share}.zarr"
        with Monitor(Relay(), store=path, layers={Relay: SpikeOutput("N")}, durability="process") as monitor:
            for some in spikes.split(500):
                monitor._hooks._network(some)
        stats = monitor.stats
        assert stats.chunks == 4000 // 64
        assert stats.hurried_chunks == (stats.chunks if share else 0)
        stored[share] = stats.stored_bytes
        assert np.array_equal(analysis.open_recording(path)[""].spikes, spikes)
    assert stored[0.0] < stored[0.6] <= stored[0.9]


def test_chunks_of_planes_are_counted_though_they_are_written_with_their_events(
    tmp_path: Path, small_chunks: None
) -> None:
    levels = torch.arange(640 * 3).reshape(640, 3) % 3
    with Monitor(
        Relay(), store=tmp_path / "run", layers={Relay: SpikeOutput("N")}, durability="process"
    ) as monitor:
        monitor._hooks._network(levels)
    # Events, and the plane that tells 2 from 1.
    assert monitor.stats.chunks == 2 * 640 // 64
    chunks = [path for kind in ("spikes", "planes") for path in tmp_path.rglob(f"{kind}/**/c/**/*")]
    assert monitor.stats.stored_bytes == sum(path.stat().st_size for path in chunks if path.is_file())
