"""What is recorded beside the spikes is what the layer had, at the same steps, of what was asked for."""

from __future__ import annotations

import copy
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from torch import nn

from recorder import Monitor, Signal, SignalError, SpikeOutput
from recorder.capture import signal_recorder
from recorder.format import RecordingStoppedWarning
from recorder.session import telling
from recorder.stores import Folder
from recorder.tape import TapeReader
from recorder.tape.layers.signal_reading import SignalReader

N, NEURONS = 5, 7


class Neuron(nn.Module):
    """Integrates in place, as attributes of neurons are changed by later steps."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.v = torch.zeros(())
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.v.shape != x.shape:
            self.v = torch.zeros_like(x, dtype=self.dtype)
        self.v += x.to(self.dtype)
        spikes = self.v >= 1
        self.v[spikes] = 0
        return spikes.float()


class Wide(nn.Module):
    """Spikes of shape [N, C, H, W], with counts of steps."""

    def __init__(self) -> None:
        super().__init__()
        self.count = torch.zeros(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count = x * 100
        return (x > 0.5).float()


def inputs(steps: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(steps, *shape, generator=torch.Generator().manual_seed(seed))


def signal_of(store: Path, layer: str = "0", name: str = "v") -> SignalReader:
    return TapeReader.open(Folder(store)).layers[layer].signals[name]


def values_of(store: Path, layer: str = "0", name: str = "v") -> np.ndarray:
    signal = signal_of(store, layer, name)
    return signal.values(0, signal.frames)


def record(store: Path, net: nn.Module, steps: torch.Tensor, **options: Any) -> list[torch.Tensor]:
    """Record a network that is one neuron; its potential after each step."""
    seen = []
    with Monitor(net, store=store, layers=[type(net[0])], **options), torch.no_grad():  # type: ignore[index]
        for x in steps:
            net(x)
            seen.append(net[0].v.clone())  # type: ignore[index]
    return seen


def test_the_attribute_after_each_step_is_recorded_to_the_bit(tmp_path: Path) -> None:
    seen = record(tmp_path / "run", nn.Sequential(Neuron()), inputs(300, N, NEURONS), signals="v")
    expected = torch.cat(seen).numpy()
    np.testing.assert_array_equal(values_of(tmp_path / "run"), expected)
    layer = TapeReader.open(Folder(tmp_path / "run")).layers["0"]
    np.testing.assert_array_equal(layer.signals["v"].segments().rows, layer.segments().rows)
    stock = zarr.open_array(str(tmp_path / "run/layers/0/signals/v/values"), mode="r")
    assert stock.shape == (300 * N, NEURONS)
    np.testing.assert_array_equal(stock[:], expected)


def test_some_neurons_samples_and_steps_are_those_of_the_whole(tmp_path: Path) -> None:
    net, steps = nn.Sequential(Wide()), inputs(40, 3, 4, 6, 5)
    signals = [
        Signal("count", name="all"),
        Signal("count", name="grid", neurons=np.s_[:, ::2, 1:4]),
        Signal("count", name="first", neurons=np.s_[:2]),
        Signal("count", name="last axis", neurons=np.s_[..., -1]),
        Signal("count", name="flat", neurons=[3, 17, 5]),
        Signal("count", name="mixed", neurons=np.s_[:, [0, 5], 2]),
        Signal("count", name="few", samples=2, every=7),
        Signal("count", name="more than there are", samples=9),
    ]
    with Monitor(net, store=tmp_path / "run", layers=[Wide], signals=signals):
        for x in steps:
            net(x)
    whole = values_of(tmp_path / "run", name="all")
    np.testing.assert_array_equal(whole, (steps * 100).flatten(0, 1).numpy())
    np.testing.assert_array_equal(values_of(tmp_path / "run", name="grid"), whole[:, :, ::2, 1:4])
    np.testing.assert_array_equal(values_of(tmp_path / "run", name="first"), whole[:, :2])
    np.testing.assert_array_equal(values_of(tmp_path / "run", name="last axis"), whole[..., -1:])
    flat = whole.reshape(len(whole), -1)
    np.testing.assert_array_equal(values_of(tmp_path / "run", name="flat"), flat[:, [3, 5, 17]])
    at = np.ravel_multi_index(np.ix_(range(4), [0, 5], [2]), (4, 6, 5)).reshape(-1)
    np.testing.assert_array_equal(values_of(tmp_path / "run", name="mixed"), flat[:, at])
    assert signal_of(tmp_path / "run", name="mixed").commit.neurons == tuple(at.tolist())
    few = whole.reshape(40, 3, 4, 6, 5)[::7, :2].reshape(-1, 4, 6, 5)
    np.testing.assert_array_equal(values_of(tmp_path / "run", name="few"), few)
    segments = signal_of(tmp_path / "run", name="few").segments()
    assert segments.first_step.tolist() == list(range(0, 40, 7))
    assert set(segments.batch.tolist()) == {2}
    np.testing.assert_array_equal(values_of(tmp_path / "run", name="more than there are"), whole)


def test_inputs_outputs_and_functions_are_recorded(tmp_path: Path) -> None:
    def doubled(module: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        assert isinstance(module, Neuron)
        return given[0] + output * 2

    net, steps = nn.Sequential(Neuron()), inputs(9, N, NEURONS)
    signals = ["input", "output", doubled, Signal(lambda *seen: seen[2][:, :1], name="one")]
    with Monitor(net, store=tmp_path / "run", layers=[Neuron], signals=signals) as monitor:
        for x in steps:
            net(x)
    spikes = np.concatenate(list(monitor.s["0"]))
    given = steps.flatten(0, 1).numpy()
    np.testing.assert_array_equal(values_of(tmp_path / "run", name="input"), given)
    np.testing.assert_array_equal(values_of(tmp_path / "run", name="output"), spikes)
    np.testing.assert_array_equal(values_of(tmp_path / "run", name="doubled"), given + spikes * 2)
    np.testing.assert_array_equal(values_of(tmp_path / "run", name="one"), spikes[:, :1])


def test_nan_and_infinities_are_values_like_others(tmp_path: Path) -> None:
    steps = inputs(6, N, NEURONS)
    steps[1, 2, 3], steps[2, 0, 0], steps[3, 4, 6], steps[4, 1, 1] = math.nan, math.inf, -math.inf, -0.0
    net = nn.Sequential(Wide())
    with Monitor(net, store=tmp_path / "run", layers=[Wide], signals="input"):
        for x in steps:
            net(x)
    found = values_of(tmp_path / "run", name="input")
    np.testing.assert_array_equal(found.view(np.uint32), steps.flatten(0, 1).numpy().view(np.uint32))


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        (torch.float16, "float16"),
        (torch.bfloat16, "float32"),
        (torch.float64, "float64"),
        (torch.int8, "int8"),
        (torch.int64, "int64"),
        (torch.uint8, "uint8"),
        (torch.bool, "uint8"),
    ],
)
def test_values_are_stored_as_they_are_unless_another_data_type_is_asked_for(
    tmp_path: Path, dtype: torch.dtype, stored: str
) -> None:
    values = (inputs(8, N, NEURONS) * 5).to(dtype)
    net = nn.Sequential(Wide())
    asked = Signal("input", dtype="float16", name="small")
    with Monitor(net, store=tmp_path / "run", layers=[Wide], threshold=0.5, signals=["input", asked]):
        for x in values:
            net[0].__dict__.pop("count", None)
            net(x)
    signal = signal_of(tmp_path / "run", name="input")
    assert signal.commit.dtype == stored
    np.testing.assert_array_equal(
        signal.values(0, signal.frames).astype(np.float64), values.flatten(0, 1).double().numpy()
    )
    np.testing.assert_array_equal(
        values_of(tmp_path / "run", name="small"), values.flatten(0, 1).to(torch.float16).numpy()
    )


def test_a_wider_data_type_that_comes_later_is_refused_and_a_narrower_one_widened(tmp_path: Path) -> None:
    net = nn.Sequential(Wide())
    with Monitor(net, store=tmp_path / "run", layers=[Wide], signals="input"):
        net(inputs(1, N, NEURONS)[0])
        net(inputs(1, N, NEURONS, seed=1)[0].half())
        with pytest.raises(SignalError, match=r"dtype torch.float64 at step 2, but is stored as float32"):
            net(inputs(1, N, NEURONS)[0].double())
    found = values_of(tmp_path / "run", name="input")
    np.testing.assert_array_equal(found[N:], inputs(1, N, NEURONS, seed=1)[0].half().float().numpy())


def test_trials_samples_and_changing_batches_are_in_the_segments(tmp_path: Path) -> None:
    net = nn.Sequential(Neuron())
    monitor = Monitor(
        net, store=tmp_path / "run", layers=[Neuron], signals=["v", Signal("v", every=2, name="even")]
    )
    with monitor, torch.no_grad():
        for batch, steps in ((4, 3), (2, 5)):
            with monitor.trial(label=list(range(batch))):
                for x in inputs(steps, batch, NEURONS):
                    net(x)
        net(inputs(1, 3, NEURONS)[0])
    layer = TapeReader.open(Folder(tmp_path / "run")).layers["0"]
    np.testing.assert_array_equal(layer.signals["v"].segments().rows, layer.segments().rows)
    rows = layer.signals["even"].segments().rows[:, 1:].tolist()
    assert rows == [[0, 1, 4, 0], [2, 1, 4, 0], [4, 1, 2, 1], [6, 1, 2, 1], [8, 1, 3, -1]]


def test_a_multi_step_layer_records_each_of_its_steps(tmp_path: Path) -> None:
    class Steps(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.twice = x * 2
            return (x > 0.5).float()

    net, calls = nn.Sequential(Steps()), inputs(4, N, 6, NEURONS)  # [calls, N, T, neurons]
    signals = ["twice", Signal("twice", every=4, samples=3, name="some")]
    with Monitor(net, store=tmp_path / "run", layers={Steps: SpikeOutput("n t ...")}, signals=signals):
        for x in calls:
            net(x)
    expected = (calls * 2).transpose(1, 2).flatten(0, 1).numpy()  # [steps, N, neurons]
    np.testing.assert_array_equal(values_of(tmp_path / "run", name="twice"), expected.reshape(-1, NEURONS))
    np.testing.assert_array_equal(
        values_of(tmp_path / "run", name="some"), expected[::4, :3].reshape(-1, NEURONS)
    )
    assert signal_of(tmp_path / "run", name="some").segments().first_step.tolist() == list(range(0, 24, 4))


def test_single_samples_without_a_batch(tmp_path: Path) -> None:
    net, steps = nn.Sequential(Neuron()), inputs(5, NEURONS)
    seen = record(tmp_path / "run", net, steps, batched=False, signals="v")
    np.testing.assert_array_equal(values_of(tmp_path / "run"), torch.stack(seen).numpy())


def test_values_that_fill_many_stages_and_chunks_come_back_and_memory_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal_recorder, "STAGE_BYTES", 200)
    monkeypatch.setattr(
        signal_recorder, "plan_signal", lambda shape, size: plan_of(shape, size, target_bytes=999)
    )
    net = nn.Sequential(Neuron())
    seen = record(tmp_path / "run", net, inputs(100, N, NEURONS), signals="v", commit_interval=0.001)
    np.testing.assert_array_equal(values_of(tmp_path / "run"), torch.cat(seen).numpy())
    assert signal_of(tmp_path / "run").chunks > 10


def plan_of(*args: Any, **sizes: int) -> Any:
    from recorder.format.record.signals import plan_signal

    return plan_signal(*args, **sizes)


def test_a_resumed_recording_goes_on_with_its_signals(tmp_path: Path) -> None:
    net, steps = nn.Sequential(Neuron()), inputs(30, N, NEURONS)
    store = tmp_path / "run"
    seen = record(store, net, steps[:10], signals=["v", Signal("v", every=3, name="third")])
    seen += record(store, net, steps[10:20], resume=True)  # goes on without them
    seen += record(store, net, steps[20:], resume=True, signals=["v", Signal("v", every=3, name="third")])
    expected = torch.stack(seen)
    v = signal_of(store)
    steps_of = np.concatenate([np.arange(first, first + n) for _, first, n, _, _ in v.segments()])
    assert steps_of.tolist() == [*range(10), *range(20, 30)]
    np.testing.assert_array_equal(values_of(store), expected[steps_of].flatten(0, 1).numpy())
    third = signal_of(store, name="third")
    np.testing.assert_array_equal(
        values_of(store, name="third"), expected[third.segments().first_step].flatten(0, 1).numpy()
    )
    with pytest.raises(ValueError, match="recorded with every=3, and would go on with 2"):
        record(store, net, steps, resume=True, signals=[Signal("v", every=2, name="third")])
    with pytest.raises(ValueError, match="recorded with dtype='float32', and would go on with 'float16'"):
        record(store, net, steps, resume=True, signals=[Signal("v", dtype=np.float16)])


def test_a_layer_is_chosen_by_name_or_type(tmp_path: Path) -> None:
    net = nn.Sequential(Neuron(), Wide(), Neuron())
    signals = [Signal("v", layers=Neuron), Signal("count", layers=["1"])]
    with Monitor(net, store=tmp_path / "run", layers=[Neuron, Wide], signals=signals):
        net(inputs(1, N, NEURONS)[0])
    layers = TapeReader.open(Folder(tmp_path / "run")).layers
    assert {name: list(layer.signals) for name, layer in layers.items()} == {
        "0": ["v"],
        "1": ["count"],
        "2": ["v"],
    }


def test_names_that_differ_by_case_only_have_folders_of_their_own(tmp_path: Path) -> None:
    net = nn.Sequential(Wide())
    signals = [Signal("count", name="a/B"), Signal("input", name="A/b"), Signal("output", name="")]
    with Monitor(net, store=tmp_path / "run", layers=[Wide], signals=signals):
        net(inputs(1, N, NEURONS)[0])
    folders = [path.name for path in (tmp_path / "run/layers/0/signals").iterdir() if path.is_dir()]
    assert sorted(folders) == ["=41=2F=62", "a=2FB", "output"]
    x = inputs(1, N, NEURONS)[0]
    np.testing.assert_array_equal(values_of(tmp_path / "run", name="a/B"), (x * 100).numpy())
    np.testing.assert_array_equal(values_of(tmp_path / "run", name="A/b"), x.numpy())


def test_with_on_error_warn_a_signal_is_stopped_and_the_rest_goes_on(tmp_path: Path) -> None:
    net = nn.Sequential(Neuron())
    signals = ["v", Signal(lambda *seen: seen[2][: N - int(seen[2].sum() > 0)], name="odd")]
    monitor = Monitor(net, store=tmp_path / "run", layers=[Neuron], signals=signals, on_error="warn")
    with monitor, torch.no_grad():
        net(torch.zeros(N, NEURONS))
        with pytest.warns(RecordingStoppedWarning, match="signal 'odd' .*not recorded any more"):
            net(torch.ones(N, NEURONS))
        net(torch.ones(N, NEURONS))
    assert signal_of(tmp_path / "run").frames == 3 * N
    assert signal_of(tmp_path / "run", name="odd").frames == N


def test_a_copy_of_the_network_records_nothing_and_runs_as_it_did(tmp_path: Path) -> None:
    net = nn.Sequential(Neuron())
    with Monitor(net, store=tmp_path / "run", layers=[Neuron], signals="v"):
        net(inputs(1, N, NEURONS)[0])
        copied = copy.deepcopy(net)
        copied(inputs(1, N, NEURONS)[0])
    assert signal_of(tmp_path / "run").frames == N


def test_the_plan_counts_signals_and_a_high_rate_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, steps = nn.Sequential(Neuron()), inputs(12, N, NEURONS)
    monkeypatch.setattr(telling, "MUCH_PER_HOUR", 1.0)
    with (
        caplog.at_level(logging.WARNING, "recorder"),
        Monitor(
            net,
            store=tmp_path / "run",
            layers={Neuron: SpikeOutput("n ...")},
            signals=["v", Signal("v", neurons=np.s_[:2], samples=3, every=6, dtype="float16", name="w")],
        ) as monitor,
        torch.no_grad(),
    ):
        for x in steps:
            net(x)
        plan = monitor.plan
    assert plan.signal_bytes_per_step == N * NEURONS * 4 + 3 * 2 * 2 / 6
    assert plan.bytes_per_step == N * NEURONS / 8 + plan.signal_bytes_per_step
    assert plan.signal_bytes_per_hour == plan.signal_bytes_per_step * plan.steps_per_hour
    assert "2 signals of 0.1 kB a step" in str(plan)
    assert plan.host_bytes_limit > sum(signal.chunk_bytes for signal in plan.signals)
    assert [message for message in caplog.messages if "GB in an hour" in message] != []
    assert len([message for message in caplog.messages if "GB in an hour" in message]) == 1


def test_under_inference_mode_and_with_gradients(tmp_path: Path) -> None:
    net, steps = nn.Sequential(nn.Linear(NEURONS, NEURONS), Wide()), inputs(6, N, NEURONS)
    seen = []
    with Monitor(net, store=tmp_path / "run", layers=[Wide], signals=["input", "count"]):
        for number, x in enumerate(steps):
            with torch.inference_mode(mode=number % 2 == 0):
                net(x)
                seen.append(net[1].count.detach().clone())
    assert seen[1].requires_grad is False
    np.testing.assert_array_equal(values_of(tmp_path / "run", "1", "count"), torch.cat(seen).numpy())


def test_what_activation_checkpointing_runs_again_is_recorded_once(tmp_path: Path) -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(NEURONS, NEURONS), Wide())

        def forward(self, x: torch.Tensor) -> Any:
            return torch.utils.checkpoint.checkpoint(self.inner, x, use_reentrant=False)

    net = Checkpointed()
    with Monitor(net, store=tmp_path / "run", layers=[Wide], signals="input"):
        for x in inputs(3, N, NEURONS):
            (net(x).sum() + net.inner[0].weight.sum()).backward()
    assert signal_of(tmp_path / "run", "inner.1", "input").frames == 3 * N


def test_in_a_compiled_network_values_are_what_they_are_without(tmp_path: Path) -> None:
    net, steps = nn.Sequential(nn.Linear(NEURONS, NEURONS), Wide()), inputs(6, N, NEURONS)
    compiled = torch.compile(net, backend="eager")
    with Monitor(net, store=tmp_path / "run", layers=[Wide], signals=["count", "input"]), torch.no_grad():
        for x in steps:
            compiled(x)
    with torch.no_grad():
        expected = torch.cat([net[0](x) for x in steps])
    np.testing.assert_array_equal(values_of(tmp_path / "run", "1", "input"), expected.numpy())
    np.testing.assert_array_equal(values_of(tmp_path / "run", "1", "count"), (expected * 100).numpy())
