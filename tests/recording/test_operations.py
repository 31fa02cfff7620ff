"""Operations of weight layers are counted in the frames that they belong to, or said not to be counted."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import analysis
from analysis.arguments import QuestionError
from analysis.cli.commands import main
from analysis.keeping import find_problems
from damage import edit_record
from networks import Threshold, on_store
from recorder import Monitor, SpikeOutput
from recorder.capture.signal_recorder import SignalRecorder
from recorder.format.errors import UncountedOperationsWarning
from recorder.keeping import pack_recording, plan_recovery, recover
from recorder.keeping.digest import digest_recording
from recorder.stores import Folder
from recorder.tape import TapeReader

T, N, F = 4, 3, 5


def inputs(*shape: int) -> torch.Tensor:
    found = torch.rand(*shape, generator=torch.Generator().manual_seed(2))
    found[found < 0.5] = 0
    return found


class Net(nn.Module):
    """A linear layer whose input is not what a recorded layer has put out; runs as a function says."""

    def __init__(self, run: Callable[[Net, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.fc, self.spikes, self._run = nn.Linear(F, 2), Threshold(), run

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._run(self, x)


def loop(net: Net, x: torch.Tensor) -> torch.Tensor:
    return torch.stack([net.spikes(net.fc(each)) for each in x])


def before_the_loop(net: Net, x: torch.Tensor) -> torch.Tensor:
    return torch.stack([net.spikes(each) for each in net.fc(x)])


def twice(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.spikes(net.fc(x) + net.fc(x))


def whole(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.spikes(net.fc(x))


def folded(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.spikes(net.fc(x.flatten(0, 1)).unflatten(0, x.shape[:2]))


# The run, the axes of the spikes, and what the network is given to have steps, samples and values.
LAYOUTS: dict[str, tuple[Any, str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "steps, samples": (whole, "t n ...", lambda x: x),
    "samples, steps": (whole, "n t ...", lambda x: x.transpose(0, 1)),
    "folded": (folded, "t n ...", lambda x: x),
    "folded, samples first": (folded, "n t ...", lambda x: x.transpose(0, 1)),
    "a loop over time": (loop, "n ...", lambda x: x),
    "before a loop": (before_the_loop, "n ...", lambda x: x),
    "called twice": (twice, "t n ...", lambda x: x),
    "more axes": (whole, "t n ...", lambda x: x[:, :, None].expand(-1, -1, 2, -1)),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_operations_lie_in_the_frames_of_the_layers(tmp_path: Path, name: str) -> None:
    run, axes, make = LAYOUTS[name]
    x, net = inputs(T, N, F), Net(run)
    with torch.no_grad():
        net.fc.weight[0, 1:3] = 0
    options: dict[str, Any] = {"operations": True, "layers": {"spikes": SpikeOutput(axes)}}
    with on_store(tmp_path, net, **options) as monitor, torch.no_grad(), monitor.trial(label="a"):
        net(make(x))
        net(make(x.flip(0)))
    found = analysis.open_recording(monitor.store).counted_operations(("time", "sample"))
    times = 2 if name in ("called twice", "more axes") else 1
    events = (torch.cat([x, x.flip(0)]) != 0).numpy()
    assert np.array_equal(
        found.sel(weight_layer="fc", kind="multiply_accumulates"), events.sum(-1) * 2 * times
    )
    nonzero = events @ np.array([2, 1, 1, 2, 2]) * times
    assert np.array_equal(found.sel(weight_layer="fc", kind="nonzero_multiply_accumulates"), nonzero)
    assert (found.sel(weight_layer="fc", kind="dense_multiply_accumulates") == 2 * F * times).all()


def test_a_single_sample_needs_no_axis(tmp_path: Path) -> None:
    x, net = inputs(T, F), Net(whole)
    with on_store(tmp_path, net, batched=False, operations=True, layers=[Threshold]) as monitor:
        for each in x:
            net(each)
    found = analysis.open_recording(monitor.store).counted_operations("step")
    assert np.array_equal(found.sel(weight_layer="fc", kind="multiply_accumulates"), (x != 0).sum(1) * 2)


def test_what_belongs_to_no_frame_for_sure_is_warned_of_and_not_covered(tmp_path: Path) -> None:
    net = Net(before_the_loop)
    with on_store(tmp_path, net, operations=True, layers=[Threshold]) as monitor:
        with pytest.warns(
            UncountedOperationsWarning, match=r"'fc' are not counted any more.*\[3, 3\].*3 steps"
        ):
            net(inputs(3, 3, F))
        net(inputs(3, 3, F))
    recording = analysis.open_recording(monitor.store)
    counted = recording.counted_operations()
    assert counted.sizes["weight_layer"] == 0
    assert "which belong to which is not known" in counted.attrs["not_counted"][0]
    assert recording["spikes"].frames == 18  # spikes are recorded as ever


class Pooled(nn.Module):
    """A weight layer behind pooling, which can be skipped, and a layer that may raise."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Threshold(), Threshold()
        self.fc = nn.Linear(2, 3)
        self.skips = self.raises = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = nn.functional.max_pool1d(self.first(x), 2)
        if self.raises:
            raise KeyError("on purpose")
        return self.second(pooled.repeat(1, 2)[:, :3] if self.skips else self.fc(pooled))


def synaptic_operations(store: str) -> int:
    return int(analysis.open_recording(store).synaptic_operations())


def test_a_layer_that_is_not_called_has_done_nothing(tmp_path: Path) -> None:
    net, x = Pooled(), inputs(N, 4)
    with on_store(tmp_path, net, operations=True, layers=[Threshold]) as monitor, torch.no_grad():
        net(x)
        net.skips = True
        net(x)
    events = int(nn.functional.max_pool1d((x > 0.5).float(), 2).sum())
    assert synaptic_operations(monitor.store) == events * 3
    steps = analysis.open_recording(monitor.store).counted_operations("step").sel(kind="accumulates")
    assert steps.values.ravel().tolist() == [events * 3, 0]


def test_a_forward_that_raises_has_none_and_no_figure_takes_that_for_zero(tmp_path: Path) -> None:
    net, x = Pooled(), inputs(N, 4)
    with on_store(tmp_path, net, operations=True, layers=[Threshold]) as monitor, torch.no_grad():
        net(x)
        net.raises = True
        with pytest.raises(KeyError):
            net(x)
        net.raises = False
        net(x)
    with pytest.raises(QuestionError, match="operations were not counted at step 1"):
        synaptic_operations(monitor.store)
    recording = analysis.open_recording(monitor.store)
    assert int(recording.select(steps=slice(2, None)).synaptic_operations()) > 0
    assert recording.counted_operations("step").step.values.tolist() == [0, 2]
    assert find_problems(TapeReader.open(Folder(monitor.store))) == []


def test_steps_by_hand_count_where_they_are_marked(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(F, 2), Threshold(), nn.Linear(2, 2), Threshold())

    def run(monitor: Monitor, *, marks: bool) -> None:
        for each in inputs(3, N, F):
            x = each
            for module in net:
                x = module(x)
            if marks:
                monitor.step()

    with on_store(tmp_path, net, operations=True, layers=[Threshold]) as monitor, torch.no_grad():
        monitor.step()
        run(monitor, marks=True)
    counts = analysis.open_recording(monitor.store).counted_operations("step")
    assert (counts.sel(weight_layer="0", kind="dense_multiply_accumulates") == N * F * 2).all()
    assert counts.sizes["step"] == 3
    monitor = Monitor(net, store=tmp_path / "other.zarr", operations=True, layers=[Threshold])
    with monitor, pytest.warns(UncountedOperationsWarning, match="outside of a forward"), torch.no_grad():
        run(monitor, marks=False)
    assert analysis.open_recording(monitor.store).counted_operations().sizes["weight_layer"] == 0


def test_they_go_on_after_a_pause_a_close_and_a_resume(tmp_path: Path) -> None:
    net, x = Pooled(), inputs(N, 4)
    monitor = Monitor(net, store=tmp_path / "run.zarr", operations=True, layers=[Threshold])
    for pause in (monitor.disable, monitor.close, monitor.close):
        monitor.enable()
        net(x)
        pause()
    options: dict[str, Any] = {"resume": True, "layers": [Threshold]}
    with Monitor(net, store=tmp_path / "run.zarr", operations=True, **options):
        net(x)
    counts = analysis.open_recording(tmp_path / "run.zarr").counted_operations("step").sel(kind="accumulates")
    assert counts.sizes["step"] == 4
    assert len({*counts.values.ravel().tolist()}) == 1
    other = Pooled()
    other.fc = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(ValueError, match=r"operations of the weight layers \('fc',\)"):
        Monitor(other, store=tmp_path / "run.zarr", operations=True, **options)
    with Monitor(net, store=tmp_path / "run.zarr", **options):
        net(x)
    with pytest.raises(QuestionError, match="operations were not counted at step 4"):
        synaptic_operations(str(tmp_path / "run.zarr"))
    assert find_problems(TapeReader.open(Folder(tmp_path / "run.zarr"))) == []


def test_a_close_in_a_forward_leaves_it_out(tmp_path: Path) -> None:
    net, x = Pooled(), inputs(N, 4)
    with on_store(tmp_path, net, operations=True, layers=[Threshold]) as monitor, torch.no_grad():
        net(x)
        net.second.register_forward_hook(lambda *_: monitor.close())
        net(x)
    recording = analysis.open_recording(monitor.store)
    assert recording["first"].frames == N
    assert recording.counted_operations("step").sizes["step"] == 1
    assert synaptic_operations(monitor.store) > 0


def test_weights_are_looked_at_in_each_call(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(F, 2), Threshold())
    with on_store(tmp_path, net, operations=True, layers=[Threshold]) as monitor, torch.no_grad():
        net(torch.ones(N, F))
        net[0].weight.data[:, 1:] = 0  # torch counts no version of this
        net(torch.ones(N, F))
    counts = analysis.open_recording(monitor.store).counted_operations("step")
    assert counts.sel(weight_layer="0", kind="nonzero_accumulates").values.tolist() == [N * F * 2, N * 2]
    assert counts.sel(weight_layer="0", kind="accumulates").values.tolist() == [N * F * 2, N * F * 2]


def test_copies_and_pickles_count_nothing(tmp_path: Path) -> None:
    net, x = Pooled(), inputs(N, 4)
    with on_store(tmp_path, net, operations=True, layers=[Threshold]) as monitor, torch.no_grad():
        net(x)
        copy.deepcopy(net)(x)
        pickle.loads(pickle.dumps(net))(x)  # noqa: S301 - our own
        net(x)
    assert analysis.open_recording(monitor.store).counted_operations("step").sizes["step"] == 2
    assert not net.fc._forward_hooks


def test_training_is_counted_once_and_not_again_in_its_backward_pass(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(F, 2), Threshold())

    def run(x: torch.Tensor) -> torch.Tensor:
        return torch.utils.checkpoint.checkpoint(net, x, use_reentrant=False)

    with on_store(tmp_path, net, operations=True, layers=[Threshold]) as monitor:
        (run(inputs(N, F).requires_grad_()) + net[0](torch.ones(1, F)).sum() * 0).sum().backward()
    counts = analysis.open_recording(monitor.store).counted_operations()
    assert counts.sel(weight_layer="0", kind="dense_multiply_accumulates") == N * F * 2


def test_the_digest_is_the_same_packed_and_damage_can_be_cut_or_marked_lost(tmp_path: Path) -> None:
    net, x = Pooled(), inputs(N, 4)
    with on_store(tmp_path, net, operations=True, layers=[Threshold]) as monitor, torch.no_grad():
        for _ in range(3):
            net(x)
    reader = TapeReader.open(Folder(monitor.store))
    digest = digest_recording(reader)
    pack_recording(reader, str(tmp_path / "run.zip"))
    assert analysis.open_recording(tmp_path / "run.zip").digest() == digest
    (Path(monitor.store) / "operations/values/c/0/0/0").write_bytes(b"gone")
    with pytest.raises(analysis.RecordingFormatError, match="chunk of the operations with frames 0 to 8"):
        analysis.open_recording(monitor.store).counted_operations().compute()
    said = CliRunner().invoke(main, ["recover", monitor.store, "--mark-lost"]).output
    assert "mark 9 frames of operations lost: steps 0 to 2" in said
    reader = TapeReader.open(Folder(monitor.store))
    recovery = plan_recovery(reader, find_problems(reader), mark_lost=True)
    recover(Folder(monitor.store, durability="process"), recovery, reader.metadata.commit_number)
    reader = TapeReader.open(Folder(monitor.store))
    assert find_problems(reader) == []
    assert digest_recording(reader) != digest
    with pytest.raises(QuestionError, match="operations were not counted at step 0"):
        synaptic_operations(monitor.store)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("weight_layers", ["fc", "fc"], "expected one at least, and none twice"),
        ("weight_layers", [], "expected one at least, and none twice"),
        ("weight_layers", [["fc"]], r"hold \['fc'\], expected text"),
        ("weight_layers", ["fc", "more"], r"neuron_shape is \(1, 6\), expected \(2, 6\)"),
        ("uncounted", {"other": "why"}, "names 'other', which is none of the weight layers"),
        ("uncounted", {"fc": 1}, "hold 1, expected text"),
        ("neuron_shape", [1, 5], r"neuron_shape is \(1, 5\), expected \(1, 6\)"),
        ("frames", 10**9, "frames"),
        ("checksums", None, "checksums"),
    ],
)
def test_malformed_records_of_operations_are_refused(
    tmp_path: Path, field: str, value: Any, said: str
) -> None:
    net = Pooled()
    with on_store(tmp_path, net, operations=True, layers=[Threshold]) as monitor, torch.no_grad():
        net(inputs(N, 4))

    def edit(record: Any) -> None:
        record["operations"][field] = value

    edit_record(Path(monitor.store), edit)
    with pytest.raises(analysis.RecordingFormatError, match=said):
        analysis.open_recording(monitor.store)


def test_an_interrupt_while_they_are_recorded_is_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x = Pooled(), inputs(N, 4)
    original = SignalRecorder._push

    def interrupted(self: SignalRecorder, values: torch.Tensor) -> None:
        monkeypatch.setattr(SignalRecorder, "_push", original)
        original(self, values)
        raise KeyboardInterrupt

    with on_store(tmp_path, net, operations=True, layers=[Threshold]) as monitor, torch.no_grad():
        net(x)
        monkeypatch.setattr(SignalRecorder, "_push", interrupted)
        with pytest.raises(KeyboardInterrupt):
            net(x)
        net(x)
    counted = analysis.open_recording(monitor.store).counted_operations("step")
    assert counted.step.values.tolist() == [0, 2]
    assert len({*counted.sel(kind="dense_accumulates").values.ravel().tolist()}) == 1
    assert find_problems(TapeReader.open(Folder(monitor.store))) == []


def test_a_network_without_weight_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="linear layers and convolutions do, and a Threshold has none"):
        Monitor(Threshold(), store=tmp_path / "run.zarr", layers=[Threshold], operations=True)
