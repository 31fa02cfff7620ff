"""What cannot be recorded, and what is asked wrongly, is refused by name, with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from networks import Branching, Outputs, Threshold, network, on_store, run
from recorder import Monitor, NeuronShapeError, SpikeValueError
from recorder.format import RecordingWriteError, UncalledLayersWarning
from recorder.spike_sequence import NothingRecordedError, UnknownLayerError
from recorder.stores import Folder
from recorder.tape import TapeReader


def test_a_network_without_spiking_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?s)no spiking layer.*Linear"):
        Monitor(nn.Sequential(nn.Linear(2, 2)), store=tmp_path / "run.zarr")
    assert not (tmp_path / "run.zarr").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backend": "jax"}, ValueError, "backend is 'jax'; expected 'numpy' or 'torch'"),
        ({"device": "abacus"}, ValueError, "device is 'abacus'; expected None, a torch.device or a name"),
        ({"device": 1.5}, ValueError, "device is 1.5"),
        ({"device": "meta:7x"}, ValueError, "device is 'meta:7x'"),
        ({"commit_interval": 0}, ValueError, "commit_interval is 0; expected a positive number of seconds"),
        ({"commit_interval": "a"}, ValueError, "commit_interval is 'a'; expected a positive number"),
        ({"durability": "hope"}, ValueError, "durability is 'hope'; expected 'power' or 'process'"),
        ({"store": 3}, TypeError, "store is 3"),
        ({"metadata": {"a": object()}}, TypeError, r"metadata\['a'\] is <object"),
        ({"layers": ["9"]}, ValueError, "'9'"),
    ],
)
def test_wrong_options_are_refused_by_name(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        on_store(tmp_path, network(), **options)
    assert not (tmp_path / "run.zarr").exists()


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(TypeError, match=r"net is 'net' \(str\); expected a torch\.nn\.Module"):
        Monitor("net")  # type: ignore[arg-type]


def test_questions_before_anything_was_recorded(tmp_path: Path) -> None:
    net = Branching()
    monitor = on_store(tmp_path, net)
    with pytest.raises(NothingRecordedError, match=r"nothing has been recorded yet: call enable\(\)"):
        monitor.get_avg_firing_rate()
    with pytest.raises(NothingRecordedError):
        _ = monitor.s
    monitor.enable()
    with pytest.raises(
        NothingRecordedError, match="the monitor is enabled, but none of its layers has been called"
    ):
        monitor.get_nonfire_ratio()
    assert "nothing recorded yet" in repr(monitor)
    net.behaviour = "leave out"
    with pytest.warns(UncalledLayersWarning, match="'second'"):
        run(net, (2,))
    with pytest.raises(NothingRecordedError, match="layer 'second' has not been called"):
        monitor.get_avg_firing_rate(all=False, module_name="second")
    assert monitor.get_avg_firing_rate() >= 0
    monitor.close()


def test_unknown_layers_are_named_with_the_valid_ones(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        run(net)
        for ask in (
            lambda: monitor.get_avg_firing_rate(all=False, module_name="1"),
            lambda: monitor.get_nonfire_ratio(all=False),
            lambda: monitor.s["1"],
        ):
            with pytest.raises(
                UnknownLayerError, match=r"module_name is .*; the monitored layers are '0', '2'"
            ):
                ask()


@pytest.mark.parametrize(
    ("value", "range_"),
    [(0.5, "values from 0.5 to 0.5"), (40_000, "values from 40000 to 40000"), (float("nan"), "NaN")],
)
def test_other_values_are_refused_with_layer_step_range_and_dtype(
    tmp_path: Path, value: float, range_: str
) -> None:
    class Graded(nn.Module):
        value = 0.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(x > 2, x, torch.tensor(self.value))

    net = nn.Sequential(nn.Identity(), Graded())
    with on_store(tmp_path, net, layers=[Graded]) as monitor:
        net[1].value = 1.0
        net(torch.zeros(2, 3))
        net[1].value = value
        message = rf"layer '1' \(.*Graded\) put out {range_}.* dtype float32, at step 1; spikes are 0 or 1"
        with pytest.raises(SpikeValueError, match=message):
            net(torch.zeros(2, 3))
        net[1].value = 0.0
        net(torch.zeros(2, 3))
        assert [step.tolist() for step in monitor.s["1"]] == [[[1] * 3] * 2, [[0] * 3] * 2]


def test_what_cannot_be_recorded_is_refused_at_the_first_step(tmp_path: Path) -> None:
    class Odd(nn.Module):
        output: torch.Tensor

        def forward(self, _: torch.Tensor) -> torch.Tensor:
            return self.output

    net = nn.Sequential(Odd())
    with on_store(tmp_path, net, layers=[Odd]) as monitor:
        for output, error, message in [
            (torch.zeros(2, 3, dtype=torch.complex64), SpikeValueError, "put out dtype torch.complex64"),
            (torch.zeros(2, 0), NeuronShapeError, r"neuron shape \(0,\); expected at least one neuron"),
            (torch.zeros(2, *[1] * 17), NeuronShapeError, "at most 16 axes"),
        ]:
            net[0].output = output
            with pytest.raises(error, match=message):
                net(torch.zeros(1))
        net[0].output = torch.zeros(0, 3)
        net(torch.zeros(1))
        net[0].output = torch.ones(1, 3)
        net(torch.zeros(1))
        assert [step.tolist() for step in monitor.s["0"]] == [[[1] * 3]]


def test_a_neuron_shape_that_changes_is_refused(tmp_path: Path) -> None:
    net = Threshold()
    with on_store(tmp_path, net) as monitor:
        run(net, (2, 2))
        with pytest.raises(
            NeuronShapeError, match=r"layer '' put out frames of neuron shape \(4,\) at step 2, but \(9,\)"
        ):
            run(net, (2,), neurons=4)
        run(net, (2,))
        assert len(monitor.s[""]) == 3


def test_a_store_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecordingWriteError, match=r"cannot record to .*file/run\.zarr.*choose another store"):
        on_store(tmp_path, network(), store=tmp_path / "file" / "run.zarr")


def test_a_failing_disk_is_told_at_the_next_step_and_at_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network()
    outputs = Outputs(net)
    monitor = on_store(tmp_path, net)
    monitor.enable()
    run(net)
    monitor.flush()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Folder, "write", fail)
    run(net, (1,))
    with pytest.raises(RecordingWriteError, match="No space left on device"):
        monitor.flush()
    with pytest.raises(RecordingWriteError, match="No space left on device"):
        run(net, (100_000,))
    with pytest.raises(RecordingWriteError, match="No space left on device"):
        monitor.close()
    monitor.close()
    monkeypatch.undo()
    assert (
        TapeReader.open(Folder(monitor.store)).layers["0"].frames
        == 15
        == sum(map(len, outputs.kept["0"][:4]))
    )
    with on_store(tmp_path, net, resume=True) as monitor:
        run(net)
        assert len(monitor.s["0"]) == 8


def test_data_parallel_replicas_are_refused(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        replica = net[0]._replicate_for_data_parallel()
        with pytest.raises(RuntimeError, match="DistributedDataParallel"):
            replica(torch.rand(1, 9))
        with pytest.raises(NothingRecordedError):
            monitor.get_avg_firing_rate()


def test_a_monitor_whose_first_forward_fails_is_closed_all_the_same(tmp_path: Path) -> None:
    net = Branching()
    net.behaviour = "fail"
    monitor = Monitor(net, store=tmp_path / "run", layers=[Threshold])
    monitor.enable()
    with pytest.raises(ArithmeticError):
        net(torch.rand(2, 4))
    monitor.close()
    assert TapeReader.open(Folder(tmp_path / "run")).layers["first"].frames == 2
