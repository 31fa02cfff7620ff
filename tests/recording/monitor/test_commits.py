"""Steps stay aligned whatever a forward leaves out; commits come in time, and their cost is told."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from torch import nn

from networks import Branching, Outputs, Threshold, network, on_store, run, steps_of
from recorder.format import RecordingFormatError, RecordingWriteError
from recorder.spike_sequence import NothingRecordedError
from recorder.stores import Folder
from recorder.tape import TapeReader


@pytest.mark.parametrize("behaviour", ["fail", "interrupt", "leave out"])
def test_a_layer_that_a_forward_did_not_reach_misses_that_step_only(tmp_path: Path, behaviour: str) -> None:
    net = Branching()
    with on_store(tmp_path, net) as monitor:
        for net.behaviour in ("normal", behaviour, "normal"):
            try:
                run(net, (2,))
            except (ArithmeticError, KeyboardInterrupt):
                assert net.behaviour == behaviour
        assert steps_of(monitor, "first") == [0, 1, 2]
        assert steps_of(monitor, "second") == [0, 2]
        assert steps_of(monitor, "third") == ([0, 1, 2] if behaviour == "leave out" else [0, 2])


def test_a_recording_that_ends_in_an_exception_is_finished(tmp_path: Path) -> None:
    net = Branching()
    monitor = on_store(tmp_path, net)

    def interrupted() -> None:
        with monitor:
            run(net, (2,))
            net.behaviour = "interrupt"
            run(net, (2,))

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert TapeReader.open(Folder(monitor.store)).metadata.state == "closed"
    assert len(monitor.s["first"]) == 2


def test_layers_called_on_their_own_are_recorded(tmp_path: Path) -> None:
    net = nn.ModuleList([Threshold(), Threshold()])
    with on_store(tmp_path, net) as monitor:
        for _ in range(3):
            net[1](net[0](torch.rand(2, 3)))
        assert [steps_of(monitor, name) for name in ("0", "1")] == [[0, 1, 2]] * 2


def test_a_commit_inside_a_forward_is_refused(tmp_path: Path) -> None:
    net = Branching()
    with on_store(tmp_path, net) as monitor:
        net.third.register_forward_pre_hook(lambda *_: monitor.flush())
        with pytest.raises(RuntimeError, match="inside a forward of the monitored network"):
            run(net, (2,))


def test_frames_are_committed_while_the_network_runs_and_when_it_rests(tmp_path: Path) -> None:
    net = network()
    monitor = on_store(tmp_path, net, commit_interval=0.05)
    monitor.enable()
    store = Folder(tmp_path / "run.zarr")

    def committed() -> int:
        layers = TapeReader.open(store).layers
        assert len({layer.frames for layer in layers.values()}) <= 1
        return layers["0"].frames if layers else 0

    for _ in range(3):
        before = committed()
        run(net, (4,))
        deadline = time.monotonic() + 20
        while committed() < before + 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert committed() == before + 4
    monitor.close()


def test_flush_commits(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net, commit_interval=1e6) as monitor:
        run(net, (3,))
        assert TapeReader.open(Folder(monitor.store)).layers == {}
        monitor.flush()
        assert TapeReader.open(Folder(monitor.store)).layers["0"].frames == 3


def test_a_commit_record_too_large_for_readers_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network()
    monitor = on_store(tmp_path, net, commit_interval=1e6)
    monitor.enable()
    run(net, (2,))
    monitor.flush()
    root = tmp_path / "run.zarr/zarr.json"
    before = root.read_bytes()
    # As large as it would take days to reach.
    for module in ("documents", "parsing.record"):
        monkeypatch.setattr(f"recorder.format.{module}.MAX_DOCUMENT_BYTES", len(before) + 1000)
    with monitor.trial(label=[f"{place}: {'a long text ' * 50}" for place in range(2)]):
        run(net, (2,))
    with pytest.raises(
        RecordingWriteError, match=r"zarr\.json would have \d+ bytes.* are the categories of the trials"
    ) as failure:
        monitor.flush()
    assert isinstance(failure.value.__cause__, RecordingFormatError)
    with pytest.raises(RecordingWriteError):
        run(net, (2,))
    with pytest.raises(RecordingWriteError):
        monitor.close()
    assert root.read_bytes() == before
    layer = TapeReader.open(Folder(monitor.store)).layers["0"]
    assert layer.frames == len(layer.frame_bits(0, 2)) == 2


def test_many_chunks_are_written_and_read_back(tmp_path: Path, small_chunks: None) -> None:
    net = network()
    outputs = Outputs(net)
    with on_store(tmp_path, net) as monitor:
        for _ in range(20):
            run(net, (7, 64, 33))
        outputs.check(monitor)
    outputs.check(monitor)


def test_the_plan_is_known_and_logged_from_the_first_step_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = network()
    caplog.set_level("INFO", "recorder")
    with on_store(tmp_path, net) as monitor:
        with pytest.raises(NothingRecordedError):
            _ = monitor.plan
        run(net, (16,))
        logged = monitor.plan
        run(net, (16,))
        plan = monitor.plan
    assert plan.bytes_per_step == 16 * (9 + 5) / 8
    assert plan.files(10**6) == -(-16 * 10**6 // plan.layers[0].chunks.chunk_frames) + -(
        -16 * 10**6 // plan.layers[1].chunks.chunk_frames
    )
    assert plan.host_bytes_limit > plan.queue_limit_bytes + 2 * 4_000_000
    assert plan.device_bytes_limit == 0
    assert plan.steps_per_hour > 0
    assert plan.bytes_per_hour == plan.steps_per_hour * plan.bytes_per_step
    assert plan.files_per_hour == plan.files(round(plan.steps_per_hour))
    said = [record.getMessage() for record in caplog.records if record.levelname == "INFO"]
    assert said == [f"recording to {monitor.store}: {logged}"]
    assert str(plan).startswith("2 layers, 224 slots a step: at most 0.0 kB a step, 0.0 GB and ")


def test_stats_say_what_was_recorded(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        run(net, (16, 16))
        monitor.flush()
        stats = monitor.stats
    assert (stats.steps, stats.frames, stats.packed_bytes) == (2, {"0": 32, "2": 32}, 4 * (9 + 5))
    assert stats.commits >= 1
    assert stats.seconds_waited == 0
