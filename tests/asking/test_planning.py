"""How work is cut into tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import analysis
from analysis.asking import planning
from analysis.kernels.counting.quantities import FIRED, SPIKES
from analysis.kernels.selecting.grouping import Grouping
from analysis.kernels.selecting.selected_frames import SelectedFrames
from analysis.kernels.selecting.selection import Selection
from analysis.questions import parse_question
from analysis.recording import Recording
from recorder.format import LayerCommit, RecordingMetadata, plan_chunks
from recorder.format.arrays import layer_tables
from recorder.format.record.extents import TableCommit
from recorder.format.segments import Segments
from recorder.stores import Folder
from recorder.tape import TapeReader
from recorder.tape.tables import TableWriter
from tapes import Run, write_recording

MIB = 2**20
TIB = 2**40


@pytest.mark.parametrize(
    ("total", "wanted"),
    [
        (0, 16 * MIB),  # nothing to read
        (512 * MIB, 16 * MIB),  # small: 32 tasks for the cores of a laptop
        (2048 * MIB, 32 * MIB),  # 64 tasks
        (16 * 1024 * MIB, 64 * MIB),  # 256 tasks
        (4 * TIB, 1024 * MIB),  # 4096 tasks, never more
    ],
)
def test_tasks_read_more_where_there_is_more(total: int, wanted: int) -> None:
    assert planning.task_bytes(total) == wanted


def frames_of(*rows: tuple[int, int, int, int, int], steps: tuple[int, int] | None = None) -> SelectedFrames:
    return SelectedFrames(Segments(np.array(rows, np.int64).reshape(-1, 5)), Selection(steps))


@pytest.mark.parametrize(
    ("rows", "limits", "tasks", "unit", "wanted"),
    [
        ([(0, 0, 1000, 1, -1)], (0, 1000), 4, 1, [0, 250, 500, 750, 1000]),
        ([(0, 0, 1000, 1, -1)], (0, 1000), 4, 64, [0, 192, 448, 704, 1000]),  # on multiples of 64
        ([(0, 0, 1000, 1, -1)], (10, 20), 4, 64, [10, 20]),  # less than a unit is not cut
        ([(0, 0, 100, 1, -1), (900, 900, 100, 1, -1)], (0, 1000), 2, 1, [0, 900, 1000]),  # gaps do not count
        ([(0, 0, 10, 1, -1)], (0, 10), 1, 1, [0, 10]),
        ([], (0, 0), 5, 1, [0, 0]),
        ([(0, 0, 2**50, 8, -1)], (0, 2**53), 4, 2**20, [0, 2**51, 2**52, 3 * 2**51, 2**53]),  # no overflow
    ],
)
def test_frames_are_cut_evenly(rows: list, limits: tuple, tasks: int, unit: int, wanted: list[int]) -> None:
    assert planning.cut_frames(frames_of(*rows), *limits, tasks, unit) == wanted


@pytest.mark.parametrize(
    ("rows", "grouping", "tasks", "most", "wanted"),
    [
        ([(0, 0, 100, 1, -1)], Grouping("steps"), 4, 1000, [0, 25, 50, 75, 100]),
        ([(0, 0, 100, 1, -1)], Grouping("steps"), 1, 30, [0, 30, 60, 90, 100]),  # a result of bounded size
        ([(0, 0, 100, 1, -1)], Grouping("steps", 30), 4, 1000, [0, 1, 2, 4]),
        # The large trial has a block to itself, to be cut along frames.
        (
            [(0, 0, 10, 1, 0), (10, 10, 980, 1, 1), (990, 990, 10, 1, 2)],
            Grouping("trial"),
            10,
            99,
            [0, 1, 2, 3],
        ),
    ],
)
def test_groups_are_cut_evenly(
    rows: list, grouping: Grouping, tasks: int, most: int, wanted: list[int]
) -> None:
    frames = frames_of(*rows)
    ranges = grouping.ranges_of(frames.segments)
    assert planning.cut_groups(ranges, grouping, frames, tasks, most) == wanted


def test_whole_blocks_cost_their_counts_and_edges_their_bits() -> None:
    plan = plan_chunks((1024,))
    size = plan.block_frames
    everything = frames_of((0, 0, 10 * size, 1, -1))
    assert planning.counted_bytes(plan, everything, 10) == 10 * 1024 * 4
    assert planning.counted_bytes(plan, everything, 0) == 10 * size * 1024 // 8
    part = frames_of((0, 0, 10 * size, 1, -1), steps=(1, 9 * size + 1))
    assert planning.counted_bytes(plan, part, 10) == 8 * 1024 * 4 + size * 1024 // 8


def recording_of(path: Path, chunks: int) -> Recording:
    """A recording of so many chunks of 4 MiB of packed bits, of which there is only the table of segments."""
    store = Folder(path, durability="process")
    plan = plan_chunks((64, 16, 16))
    frames = chunks * plan.chunk_frames
    table = TableWriter(store, layer_tables("1", plan).segments)
    trial = np.arange(frames // 2048, dtype=np.int64)
    rows = np.stack(
        [trial * 2048, trial * 16, np.full(len(trial), 16), np.full(len(trial), 128), trial], axis=1
    )
    table.append(rows)
    segments = table.flush()
    layer = LayerCommit(
        "1", "LIF", "float32", plan, frames, TableCommit(chunks, 0), segments, TableCommit(chunks, 0), ()
    )
    metadata = RecordingMetadata("closed", "0" * 32, "2026", "2026", 1, (layer,))
    return Recording([TapeReader(store, metadata)])


@pytest.mark.parametrize("use_counts", [True, False])
def test_graphs_do_not_grow_with_the_number_of_chunks(
    tmp_path: Path, use_counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "MAX_TASKS", 128)
    for name in ("SMALL_TASK_BYTES", "TASK_BYTES"):  # would make a task of each chunk
        monkeypatch.setattr(planning, name, 2**20)
    many = recording_of(tmp_path / "many", 20 * planning.MAX_TASKS)
    recording = Recording(many._readers, use_counts=use_counts)
    layer = recording["1"]
    for result in (
        recording.firing_rate(),
        layer.silent_ratio(per="neuron"),
        recording.select(steps=slice(1000, -1000)).firing_rate(),
        recording.select(trials=slice(5, 5000)).silent_ratio(per="layer"),
        layer.firing_rate(per="step"),
        layer.silent_ratio(per="window", window=1000),
        layer.firing_rate(per=("window", "channel"), window=10**6),
        layer.silent_ratio(per="trial"),
    ):
        assert len(dict(result.__dask_graph__())) < 8 * planning.MAX_TASKS


def test_a_large_group_is_counted_by_several_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spikes = np.random.default_rng(0).random((2100, 40)) < 0.1
    runs = [Run(0, 50, 1, 0), Run(50, 2000, 1, 1), Run(2050, 50, 1, 2)]
    write_recording(tmp_path / "a", {"1": spikes}, runs, chunk_bytes=320, trials_begun=3)
    monkeypatch.setattr(planning, "SMALL_TASK_BYTES", 2000)
    layer = analysis.open_recording(tmp_path / "a", use_counts=False)["1"]
    for ask, wanted in [
        (layer.spike_count, [spikes[:50].sum(), spikes[50:2050].sum(), spikes[2050:].sum()]),
        (layer.silent_ratio, [1 - s.any(axis=0).mean() for s in np.split(spikes, [50, 2050])]),
    ]:
        result = ask(per="trial")
        parts = [key for key in result.__dask_graph__() if "-part" in str(key)]
        assert len(parts) > 4
        np.testing.assert_allclose(result, wanted, rtol=1e-15)


def test_a_plan_says_what_each_task_reads_and_tells_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [Run(0, 50, 1, 0), Run(50, 2000, 1, 1), Run(2050, 50, 1, 2)]
    write_recording(
        tmp_path / "a", {"1": np.zeros((2100, 8, 5), np.bool_)}, runs, chunk_bytes=320, trials_begun=3
    )
    monkeypatch.setattr(planning, "SMALL_TASK_BYTES", 4000)
    recording = analysis.open_recording(tmp_path / "a", use_counts=False)
    asked = parse_question(("trial", "channel"), None)
    made = planning.plan_answer(FIRED, recording._sources(), asked, recording._members)
    ((layer,),) = made.pools
    cuts = [(cut.bounds, cut.place, cut.quantity, cut.shared) for cut in layer[0].cuts]
    assert made.bounds == (0, 1, 2, 3)
    assert cuts == [
        ((0, 50), "channel", FIRED, False),
        ((50, 704, 1344, 2050), "neuron", SPIKES, True),  # a large trial: spikes first
        ((2050, 2100), "channel", FIRED, False),
    ]


def test_the_lazy_spikes_of_a_million_chunks(tmp_path: Path) -> None:
    spikes = recording_of(tmp_path / "huge", 10**6)["1"].spikes
    assert spikes.sizes["frame"] == 10**6 * 2048
    assert spikes.step.sizes["frame"] == 10**6 * 2048
    first = spikes[5 * 2048 : 6 * 2048, 0]
    assert len(first.data.dask.cull(first.__dask_keys__()).to_dict()) < 10


def test_a_lazy_block_is_whole_chunks_where_they_fit() -> None:
    from analysis.spikes import BLOCK_BYTES, BLOCK_FRAMES, frames_in_block

    for shape in [(), (100,), (16384,), (2**19,), (2**23,)]:
        plan = plan_chunks(shape)
        frames = frames_in_block(plan)
        assert frames % 64 == 0
        assert frames <= BLOCK_FRAMES
        assert frames * plan.part_neurons <= max(BLOCK_BYTES, 64 * plan.part_neurons)
        assert frames % plan.chunk_frames == 0 or frames < plan.chunk_frames


def test_layers_stored_in_parts_are_read_in_parts(tmp_path: Path) -> None:
    spikes = np.random.default_rng(0).random((300, 7, 5)) < 0.3
    write_recording(tmp_path / "a", {"1": spikes}, [Run(0, 100, 3)], chunk_bytes=64, limit_bytes=64)
    recording = analysis.open_recording(tmp_path / "a", use_counts=False)
    lazy = recording["1"].spikes
    assert lazy.data.numblocks[1] == 7
    np.testing.assert_array_equal(lazy.values, spikes)
    np.testing.assert_array_equal(recording["1"].firing_rate(per="neuron"), spikes.mean(axis=0))
