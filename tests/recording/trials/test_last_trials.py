"""The newest trials wait in memory, and those that are kept are recorded as any trial is."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional
from torch import nn

import analysis
from analysis.keeping import find_problems
from devices import LateLane
from held_trials import N, T, inputs, present, recorded, spiking, trials_in
from networks import Threshold, on_store, run
from recorder import Monitor, SpikeOutput
from recorder.capture.device.transfer import TransferRing, TransferRings
from recorder.capture.held_rows import HeldRows
from recorder.capture.packers import Packers
from recorder.format import RecordingStoppedWarning
from recorder.spike_sequence import NothingRecordedError
from recorder.stores import Folder
from recorder.tape import TapeReader


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_kept_trials_are_as_those_of_a_whole_recording(tmp_path: Path, step_mode: str) -> None:
    options: dict[str, Any] = {"signals": ["v"], "durability": "process"}
    for name, last in (("whole", None), ("kept", 3)):
        net = spiking(step_mode)
        if step_mode == "m":
            for module in (net[1], net[3]):
                module.store_v_seq = True
        with Monitor(net, store=tmp_path / name, last_trials=last, **options) as monitor:
            present(monitor, net, range(7), epoch=1)
            if last:
                monitor.keep("loss is NaN")
    assert trials_in(tmp_path / "kept") == [4, 5, 6]
    assert recorded(tmp_path / "kept", [4, 5, 6]) == recorded(tmp_path / "whole", [4, 5, 6])
    columns = TapeReader.open(Folder(tmp_path / "kept")).trials()
    assert set(columns["kept_because"].tolist()) == {"loss is NaN"}
    assert set(columns["epoch"].tolist()) == {1}
    segments = TapeReader.open(Folder(tmp_path / "kept")).layers["1"].segments().rows
    assert segments[:, 1].tolist() == [4 * T, 5 * T, 6 * T]


def test_fewer_trials_than_are_held_have_the_digest_of_a_recording_of_them(tmp_path: Path) -> None:
    rates = []
    for name, last, more in (("whole", None, {"kept_because": "end"}), ("kept", 100, {})):
        net = spiking()
        with Monitor(net, store=tmp_path / name, last_trials=last, durability="process") as monitor:
            present(monitor, net, range(4), **more)
            if last:
                monitor.keep("end")
            rates.append((monitor.get_avg_firing_rate(), monitor.get_nonfire_ratio()))
    assert rates[0] == rates[1]
    digests = [analysis.open_recording(tmp_path / name).digest() for name in ("whole", "kept")]
    assert digests[0] == digests[1]


def test_keeping_again_writes_newer_trials_behind(tmp_path: Path) -> None:
    net = spiking()
    with Monitor(net, store=tmp_path / "whole", durability="process") as monitor:
        present(monitor, net, range(9))
    net = spiking()
    with Monitor(net, store=tmp_path / "kept", last_trials=2, durability="process") as monitor:
        present(monitor, net, range(3))
        monitor.keep("first")
        monitor.keep("nothing has come since")
        assert trials_in(tmp_path / "kept") == [1, 2]
        present(monitor, net, range(3, 4))
        monitor.keep("second")
        present(monitor, net, range(4, 9))
        monitor.keep("third")
    assert trials_in(tmp_path / "kept") == [1, 2, 3, 7, 8]
    kept = [1, 2, 3, 7, 8]
    assert recorded(tmp_path / "kept", kept) == recorded(tmp_path / "whole", kept)
    recording = analysis.open_recording(tmp_path / "kept")
    by_reason = recording.spike_count(per="kept_because").compute()
    assert by_reason["kept_because"].values.tolist() == ["first", "second", "third"]
    assert int(by_reason.sum()) == int(recording.spike_count(per="recording").compute().sum())


class Graded(nn.Module):
    """Puts out zeros, from then on halves, from then on many and negative ones."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize("options", [{}, {"neurons": np.s_[::2]}, {"samples": 2}, {"trials_every": 2}])
def test_values_and_parts_are_kept_too(tmp_path: Path, options: dict[str, Any]) -> None:
    trials = [torch.zeros(3, 3, 9), *(torch.rand(3, 3, 9).round() / 2 for _ in range(2))]
    trials += [torch.randint(-300, 301, (3, 3, 9)) / 2 for _ in range(2)]
    for name, last in (("whole", None), ("kept", 4)):
        net = nn.Sequential(Graded())
        layers = {"0": SpikeOutput("n ...")}
        with Monitor(
            net, store=tmp_path / name, layers=layers, last_trials=last, durability="process", **options
        ) as monitor:
            for trial in trials:
                with monitor.trial(label=1):
                    for x in trial:
                        net(x)
            if last:
                monitor.keep("end")
    kept = [2, 4] if "trials_every" in options else [1, 2, 3, 4]
    assert recorded(tmp_path / "kept", kept) == recorded(tmp_path / "whole", kept)
    values = [analysis.open_recording(tmp_path / name)["0"].values.values for name in ("whole", "kept")]
    assert values[1].dtype == np.float32
    assert np.array_equal(values[0][-len(values[1]) :], values[1])


def test_counts_and_operations_are_kept_too(tmp_path: Path) -> None:
    for name, last in (("whole", None), ("kept", 3)):
        net = spiking()
        options = {"keep": {"1": "counts"}, "operations": True, "durability": "process"}
        with Monitor(net, store=tmp_path / name, last_trials=last, **options) as monitor:
            present(monitor, net, range(5))
            with torch.no_grad():
                net(inputs(9)[0])
            functional.reset_net(net)
            present(monitor, net, range(5, 7))
            if last:
                monitor.keep("end")
    figures = []
    for name in ("whole", "kept"):
        assert find_problems(TapeReader.open(Folder(tmp_path / name))) == []
        chosen = analysis.open_recording(tmp_path / name).select(trials=[4, 5, 6])
        counts = chosen["1"].spike_count(per=("trial", "neuron")).compute().values
        figures.append((counts.tolist(), chosen.synaptic_operations(per="trial").compute().values.tolist()))
    assert figures[0] == figures[1]


def test_what_runs_outside_of_trials_is_a_gap_that_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = spiking()
    with Monitor(net, store=tmp_path / "run", last_trials=2, durability="process") as monitor:
        with pytest.raises(RuntimeError, match="no trial to keep"):
            monitor.keep("too early")
        with torch.no_grad():
            net(inputs(0)[0])
            net(inputs(0)[0])
        with pytest.raises(RuntimeError, match=r"no trial to keep.*monitor\.trial"):
            monitor.keep("no trials")
        present(monitor, net, range(1))
        monitor.keep("end")
    told = [record.message for record in caplog.records if "is left out" in record.message]
    assert len(told) == 1
    segments = TapeReader.open(Folder(tmp_path / "run")).layers["1"].segments().rows
    assert segments.tolist() == [[0, 2, T, N, 0]]


def held_bytes() -> int:
    gc.collect()
    held = (each for each in gc.get_objects() if type(each) is HeldRows)
    return sum(rows._spikes.nbytes for rows in held)


def test_memory_does_not_grow_with_the_number_of_trials(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold())
    before = held_bytes()
    with on_store(tmp_path, net, last_trials=3) as monitor:
        a_trial, after = 2 * 64 // 8 * 100, {}
        for number in range(12):
            with monitor.trial(label=f"label {number}"):
                run(net, (64, 64), neurons=100)
            if number in (1, 3, 11):
                after[number] = held_bytes() - before
        assert after == {1: 2 * a_trial, 3: 3 * a_trial, 11: 3 * a_trial}
        assert 4 * a_trial <= monitor.plan.held_bytes < 5 * a_trial
        assert "held trials" in str(monitor.plan)
        assert len(monitor._session.trials._categories) == 0
        monitor.keep("end")
        assert held_bytes() == before


def test_closing_without_keeping_writes_no_trial_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = spiking()
    with (
        caplog.at_level(logging.INFO, "recorder"),
        Monitor(net, store=tmp_path / "run", last_trials=2) as monitor,
    ):
        present(monitor, net, range(5))
        assert "2 of 2 trials held" in repr(monitor)
        monitor.flush()
    monitor.close()
    told = [record.message for record in caplog.records if "without the 2 trials" in record.message]
    assert len(told) == 1
    reader = TapeReader.open(Folder(tmp_path / "run"))
    assert find_problems(reader) == []
    assert trials_in(tmp_path / "run") == []
    assert reader.layers == {}
    with pytest.raises(RuntimeError, match="is closed"):
        monitor.keep("too late")


def test_getters_answer_about_what_was_kept(tmp_path: Path) -> None:
    net = spiking()
    with Monitor(net, store=tmp_path / "run", last_trials=2) as monitor:
        present(monitor, net, range(3))
        for ask in (monitor.get_avg_firing_rate, monitor.get_nonfire_ratio, lambda: monitor.s):
            with pytest.raises(NothingRecordedError, match=r"no trial has been kept yet.*2 are held"):
                ask()
        monitor.keep("now")
        assert len(monitor.s["1"]) == 2 * T
        rate = monitor.get_avg_firing_rate()
        present(monitor, net, range(3, 4))
        assert monitor.get_avg_firing_rate() == rate


def test_keep_is_refused_in_words_where_it_means_nothing(tmp_path: Path) -> None:
    net = spiking()
    with Monitor(net, store=tmp_path / "all") as monitor, pytest.raises(RuntimeError, match="last_trials=N"):
        monitor.keep("why")
    with pytest.raises(ValueError, match="last_trials is 0"):
        Monitor(net, store=tmp_path / "none", last_trials=0)
    with Monitor(net, store=tmp_path / "run", last_trials=2) as monitor:
        present(monitor, net, range(1))
        with pytest.raises(TypeError, match="reason is None"):
            monitor.keep(None)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="reason is empty"):
            monitor.keep(" ")
        with pytest.raises(ValueError, match="Choose another name"), monitor.trial(kept_because="mine"):
            pass
        functional.reset_net(net)
        refused = net[2].register_forward_hook(lambda *_: monitor.keep("in a forward"))
        with pytest.raises(RuntimeError, match="inside a forward"), torch.no_grad():
            net(inputs(1)[0])
        refused.remove()
        monitor.keep("in order")
    assert trials_in(tmp_path / "run") == [0]


def test_steps_and_trials_go_on_behind_what_was_not_kept(tmp_path: Path) -> None:
    net = spiking()
    monitor = Monitor(net, store=tmp_path / "run", last_trials=1)
    with monitor:
        present(monitor, net, range(2))
        monitor.keep("once")
        present(monitor, net, range(2, 4))
    monitor.enable()
    present(monitor, net, range(4, 5))
    monitor.keep("twice")
    monitor.close()
    with Monitor(net, store=tmp_path / "run", last_trials=1, resume=True) as monitor:
        present(monitor, net, range(5, 6))
        monitor.keep("thrice")
    segments = TapeReader.open(Folder(tmp_path / "run")).layers["1"].segments().rows
    assert segments[:, [1, 4]].tolist() == [[T, 1], [4 * T, 4], [5 * T, 5]]
    assert find_problems(TapeReader.open(Folder(tmp_path / "run"))) == []


def test_trials_that_come_from_an_accelerator_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = spiking()
    with Monitor(net, store=tmp_path / "whole", durability="process") as monitor:
        present(monitor, net, range(5))
    on_device = [True]
    monkeypatch.setattr(Packers, "is_on_host", lambda *_: not on_device[0])
    monkeypatch.setattr(TransferRings, "of", lambda *_: TransferRing(LateLane()))
    net = spiking()
    with Monitor(net, store=tmp_path / "kept", last_trials=2, durability="process") as monitor:
        present(monitor, net, range(5))
        on_device[0] = False
        monitor.keep("end")
    assert recorded(tmp_path / "kept", [3, 4]) == recorded(tmp_path / "whole", [3, 4])


def test_a_layer_that_puts_out_no_spikes_is_stopped_and_others_are_kept(tmp_path: Path) -> None:
    net = nn.Sequential(Graded(), Threshold())
    layers = {"0": SpikeOutput("n ..."), "1": SpikeOutput("n ...")}
    with Monitor(net, store=tmp_path / "run", layers=layers, last_trials=2, on_error="warn") as monitor:
        for number in range(3):
            with monitor.trial(label=number):
                net(torch.ones(2, 4))
        with monitor.trial(label=3), pytest.warns(RecordingStoppedWarning, match="layer '0'"):
            net(torch.full((2, 4), 0.7123))
        with monitor.trial(label=4):
            net(torch.ones(2, 4))
        monitor.keep("end")
    layers_read = TapeReader.open(Folder(tmp_path / "run")).layers
    assert list(layers_read) == ["1"]
    assert layers_read["1"].segments().rows[:, 4].tolist() == [3, 4]
