"""Interrupted at any place, a recording loses no frame, misplaces none, and breaks no commit."""

from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from zarr.storage import MemoryStore

import analysis
from analysis.keeping import find_problems
from networks import Threshold, on_store
from processes import finished, forked
from recorder import Monitor, SpikeOutput, SpikeValueError
from recorder.capture.host import host_packing
from recorder.capture.host.host_packing import PUT_BYTES, SPARE_BYTES, STAGE_BYTES, HostPacker
from recorder.capture.signal_recorder import SignalRecorder
from recorder.format.segments import SegmentLog
from recorder.format.trials import TrialLog
from recorder.hooks.replacements import Replacement
from recorder.session import RecordingSession
from recorder.session.background import BackgroundWriter
from recorder.session.rows import CollectedRows
from recorder.session.signals import LayerSignals
from recorder.stores import Folder
from recorder.tape import TapeReader, TapeWriter


def interrupt(
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    place: str,
    *,
    after: bool = False,
    by: type[BaseException] = KeyboardInterrupt,
) -> None:
    """Have the next call interrupted, where it begins or just when it has ended."""
    original = getattr(owner, place)

    def interrupted(*arguments: Any, **named: Any) -> None:
        monkeypatch.setattr(owner, place, original)
        if after:
            original(*arguments, **named)
        raise by

    monkeypatch.setattr(owner, place, interrupted)


@pytest.mark.parametrize(
    ("owner", "place", "after", "batch"),
    [
        (CollectedRows, "take", False, 8),
        (RecordingSession, "_mark_dirty", False, 8),
        (CollectedRows, "take", False, 9),
        (TrialLog, "note", False, 9),
        (HostPacker, "push", True, 8),
        (HostPacker, "push", True, 9),
        (SegmentLog, "extend", False, 9),
        (RecordingSession, "_record_other", False, 9),
        (LayerSignals, "record", False, 9),
        (LayerSignals, "record", True, 9),
        (SignalRecorder, "_push", True, 9),
        (CollectedRows, "take_signals", False, 8),
    ],
)
def test_an_exception_from_outside_in_the_midst_of_recording_breaks_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, place: str, after: bool, batch: int
) -> None:
    net = nn.Sequential(Threshold())
    monitor = on_store(tmp_path, net, signals="output")
    monitor.enable()
    neurons = STAGE_BYTES // 8  # so that eight frames fill a stage
    steps = [torch.rand(8, neurons), torch.rand(batch, neurons), torch.rand(8, neurons)]
    net(steps[0])
    monitor.flush()
    interrupt(monkeypatch, owner, place, after=after)
    with pytest.raises(KeyboardInterrupt):
        net(steps[1])
    net(steps[2])
    monitor.close()
    monitor.enable()
    net(steps[2])
    monitor.close()
    recording = analysis.open_recording(tmp_path / "run.zarr")
    spikes = [int((step > 0.5).sum()) for step in steps]
    # The interrupted step is there or it is not.
    assert recording["0"].spike_count(per="step").values.tolist() in [
        [spikes[i] for i in one] for one in ([0, 1, 2, 2], [0, 2, 2])
    ]
    assert find_problems(TapeReader.open(Folder(tmp_path / "run.zarr"))) == []
    # Nor does a signal take a step for another: the interrupted one is in it or not.
    shown, output = recording["0"].spikes, recording["0"].signals["output"].values
    in_signal = np.isin(shown.step, output.step)
    assert len(np.unique(shown.step.values[~in_signal])) <= 1
    np.testing.assert_array_equal(output, shown[in_signal])


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("where", ["a step", "flush"])
def test_nothing_is_lost_if_waiting_for_a_slow_disk_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, again: bool
) -> None:
    monkeypatch.setattr("recorder.session.rows.PUT_BYTES", 2**16)  # so that every step is put, and may wait
    net = nn.Sequential(Threshold(), Threshold())
    steps = [torch.rand(8, STAGE_BYTES // 8) for _ in range(6)]
    with on_store(tmp_path, net) as monitor:
        for number, step in enumerate(steps):
            if number == 3:
                interrupt(monkeypatch, BackgroundWriter, "wait_for_room")
                with pytest.raises(KeyboardInterrupt):
                    monitor.flush() if where == "flush" else net(step)
                if again:
                    interrupt(monkeypatch, BackgroundWriter, "wait_for_room")
                    with pytest.raises(KeyboardInterrupt):
                        monitor.flush() if where == "flush" else net(step)
            with monitor.trial(number=number):
                net(step)
    layers = TapeReader.open(Folder(tmp_path / "run.zarr")).layers
    # Each forward that was cut short reached the first layer; the second has no frames at its step.
    cut = [3] * (1 + again) if where == "a step" else []
    expected = [0, 1, 2, *cut, 3, 4, 5]
    recording = analysis.open_recording(tmp_path / "run.zarr")
    for name, shown in (("0", expected), ("1", [0, 1, 2, 3, 4, 5])):
        counts = recording[name].spike_count(per="step").values.tolist()
        assert counts == [int((steps[number] > 0.5).sum()) for number in shown]
    of_steps = [
        [(row[1] + step, row[4]) for row in layers[name].segments() for step in range(row[2])]
        for name in ("0", "1")
    ]
    trials = [0, 1, 2, *([-1] * len(cut)), 3, 4, 5]
    assert of_steps[0] == list(enumerate(trials))
    assert of_steps[1] == [pair for pair in of_steps[0] if pair[1] >= 0]


def test_frames_that_were_cut_short_take_no_place_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nn.Sequential(Threshold())
    monitor = on_store(tmp_path, net)
    monitor.enable()
    steps = [torch.rand(batch, STAGE_BYTES // 8) for batch in (4, 8, 4)]
    net(steps[0])
    monitor.flush()
    interrupt(monkeypatch, HostPacker, "push", after=True)
    with pytest.raises(KeyboardInterrupt):
        net(steps[1])
    net(steps[2])
    assert monitor.get_avg_firing_rate() > 0
    monitor.close()
    counts = analysis.open_recording(tmp_path / "run.zarr")["0"].spike_count(per="step").values.tolist()
    assert counts == [int((steps[number] > 0.5).sum()) for number in (0, 2)]


def test_what_waits_for_a_slow_disk_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, append = threading.Event(), TapeWriter.append
    monkeypatch.setattr(TapeWriter, "append", lambda *arguments: disk.wait() and append(*arguments))
    net = nn.Sequential(Threshold())
    step = torch.rand(64, 4096)
    steps = 400
    with on_store(tmp_path, net) as monitor:
        tracemalloc.start()
        try:
            for _ in range(steps):
                net(step)
            waiting = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
            disk.set()
    packed = steps * 64 * 4096 // 8
    assert packed < waiting < packed + 3 * PUT_BYTES + SPARE_BYTES + 2 * STAGE_BYTES
    assert monitor.stats.seconds_waited == 0
    counts = analysis.open_recording(tmp_path / "run.zarr")["0"].spike_count(per="step").values
    assert (counts == int((step > 0.5).sum())).all()


@pytest.mark.parametrize(
    ("owner", "place", "after"),
    [(HostPacker, "push", False), (HostPacker, "push", True), (SegmentLog, "extend", False)],
)
def test_gathered_calls_are_noted_once_although_that_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, place: str, after: bool
) -> None:
    net = nn.Sequential(Threshold())
    monitor = on_store(tmp_path, net)
    monitor.enable()
    net(torch.rand(1, 3))
    monitor.flush()
    for _ in range(400):
        net(torch.ones(1, 3))
    interrupt(monkeypatch, owner, place, after=after)
    with pytest.raises(KeyboardInterrupt):
        monitor.flush()
    monitor.close()
    assert analysis.open_recording(tmp_path / "run.zarr")["0"].frames == 401


def test_a_trial_after_an_interrupted_one_keeps_its_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nn.Sequential(Threshold())
    with on_store(tmp_path, net) as monitor:
        interrupt(monkeypatch, TrialLog, "note")
        with pytest.raises(KeyboardInterrupt), monitor.trial(label="first"):
            net(torch.ones(4, 3))
        with monitor.trial(label="second"):
            for _ in range(3):
                net(torch.ones(4, 3))
    assert list(analysis.open_recording(tmp_path / "run.zarr").trials["label"]) == ["second"] * 4


INTERRUPTED_WHILE_COLLECTING = """
import gc, signal, time
from recorder.tape.holding import finalizing

def interrupted(*_):
    raise KeyboardInterrupt

gc.collect()
gc.disable()
garbage = [[] for _ in range(1_000_000)]
for one in garbage:
    one.append(one)
del one
signal.signal(signal.SIGALRM, interrupted)
try:
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    del garbage
    gc.collect()
    time.sleep(20)
except KeyboardInterrupt:
    print("interrupted", finalizing._is_collecting())
"""


def test_an_interrupt_while_garbage_is_collected_is_not_lost() -> None:
    with forked(INTERRUPTED_WHILE_COLLECTING) as process:
        assert finished(process) == "interrupted False\n"


@pytest.mark.parametrize("by", [KeyboardInterrupt, MemoryError])
def test_the_first_values_of_a_layer_may_be_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: type[BaseException]
) -> None:
    """While they are packed."""
    net = nn.Sequential(nn.Identity())
    ones = torch.ones(8, 1000)
    with Monitor(net, layers={nn.Identity: SpikeOutput("n ...")}, store=tmp_path / "run.zarr") as monitor:
        interrupt(monkeypatch, host_packing, "_pack_stage", after=True, by=by)
        with pytest.raises(by):
            net(torch.full((9000, 1000), 2.0))
        net(ones)
        net(3 * ones)
        monitor.flush()
    recorded = analysis.open_recording(tmp_path / "run.zarr")["0"].values.values
    np.testing.assert_array_equal(recorded.reshape(-1, 8, 1000), np.stack([ones, 3 * ones]))


def test_hooks_can_be_taken_away_again_after_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(nn.Identity())
    monitor = Monitor(net, layers={nn.Identity: SpikeOutput("n ...")}, store=MemoryStore())
    monitor.enable()
    net(torch.ones(8, 5))
    # Once it is kept no more, and before the method is back.
    interrupt(monkeypatch, Replacement, "forget", after=True)
    with pytest.raises(KeyboardInterrupt):
        monitor.close()
    monitor.close()
    assert type(net)._call_impl is net._call_impl.__func__
    assert not net[0]._forward_hooks


def test_close_can_be_called_again_after_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = BackgroundWriter.wait
    for moment in range(3):
        net = nn.Sequential(Threshold())
        monitor = Monitor(net, layers=[Threshold], store=tmp_path / f"{moment}.zarr")
        monitor.enable()
        net(torch.ones(3, 5))
        calls = iter(range(10))

        def interrupted(self: BackgroundWriter, moment: int = moment, calls: Any = calls) -> None:
            number = next(calls)
            if number == moment:
                raise KeyboardInterrupt
            wait(self)
            if number == moment - 1 == 1:
                raise KeyboardInterrupt  # once all is done

        monkeypatch.setattr(BackgroundWriter, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            monitor.close()
        monkeypatch.setattr(BackgroundWriter, "wait", wait)
        monitor.close()
        recording = analysis.open_recording(tmp_path / f"{moment}.zarr")
        assert (recording.state, recording["0"].frames) == ("closed", 3)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("owner", "place"), [(HostPacker, "drain"), (CollectedRows, "take"), (CollectedRows, "hand_over")]
)
def test_close_can_be_called_again_when_memory_is_free(
    owner: type, place: str, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nn.Sequential(Threshold(), Threshold())
    monitor = Monitor(net, layers=[Threshold], store=tmp_path / "run.zarr", commit_interval=3600)
    monitor.enable()
    given = torch.rand(3, 11, 5)
    for some in given:
        net(some)
    interrupt(monkeypatch, owner, place, after=after, by=MemoryError)
    with pytest.raises(MemoryError):
        monitor.close()
    monitor.close()
    recording = analysis.open_recording(tmp_path / "run.zarr")
    assert recording.state == "closed"
    np.testing.assert_array_equal(recording["0"].spikes.values, given.reshape(33, 5).numpy() > 0.5)
    assert find_problems(TapeReader.open(Folder(tmp_path / "run.zarr"))) == []


def test_a_tensor_without_values_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold())
    with on_store(tmp_path, net) as monitor:
        for _ in range(2):
            with pytest.raises(SpikeValueError, match=r"layer '0'.*meta device"):
                net(torch.ones(2, 3, device="meta"))
            net(torch.ones(2, 3))
        assert len(monitor.s["0"]) == 2
