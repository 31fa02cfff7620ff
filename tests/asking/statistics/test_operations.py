"""Synaptic operations and their energy are those of plain sums over spikes and fan-outs."""

from __future__ import annotations

import copy
import json
from fractions import Fraction
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
from analysis.questions import UncoveredOperationsWarning
from networks import Outputs, Threshold
from recorder import Monitor
from recorder.format import RecordingFormatError
from recorder.format.connections import Connections, FanOut, Reader
from tapes import Run, write_recording

STEPS, BATCH, TRIALS = 7, 3, 4
SHAPES = {"1": (4, 7, 6), "3": (6, 4, 3), "6": (5,)}


def make_network() -> nn.Sequential:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        Threshold(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        Threshold(),
        nn.Flatten(),
        nn.Linear(72, 5),
        Threshold(),
    )
    with torch.no_grad():
        for place in (0, 2, 5):
            net[place].weight.mul_(8)
            net[place].weight[torch.rand_like(net[place].weight) < 0.3] = 0
    return net


class Recorded:
    """A recording, and what was recorded: for each layer its spikes, a row for each frame."""

    def __init__(self, store: Path, net: nn.Sequential, seed: int = 0) -> None:
        self.net, self.store = net, store
        outputs = Outputs(net)
        generator = torch.Generator().manual_seed(seed)
        with Monitor(net, store=store, layers=[Threshold], durability="process") as monitor, torch.no_grad():
            for trial in range(TRIALS):
                with monitor.trial(label=[trial % 2, 5, 5], epoch=trial // 2):
                    for _ in range(STEPS):
                        net(torch.rand(BATCH, 2, 7, 6, generator=generator))
        self.spikes = {name: torch.cat(each).long().numpy() for name, each in outputs.kept.items()}
        step, self.sample = np.divmod(np.arange(TRIALS * STEPS * BATCH), BATCH)
        self.step, self.trial, self.time = step, step // STEPS, step % STEPS
        self.label = np.where(self.sample == 0, self.trial % 2, 5)
        self.epoch = self.trial // 2

    def opened(self) -> analysis.Recording:
        return analysis.open_recording(self.store)

    def operations(self, layer: str, *, nonzero: bool = False) -> np.ndarray:
        """Operations of each neuron in each frame."""
        fan_out = np.zeros((1, *SHAPES[layer]), np.int64)
        if layer != "6":
            reader = self.net[int(layer) + 1 if layer == "1" else 5]
            fan_out = fan_out_by_gradient(reader, SHAPES[layer], nonzero=nonzero)
        return self.spikes[layer] * fan_out

    def all_operations(self, **options: bool) -> np.ndarray:
        """Operations of each frame."""
        return sum(self.operations(layer, **options).sum(axis=_neurons(layer)) for layer in SHAPES)  # type: ignore[return-value]


def _neurons(layer: str) -> tuple[int, ...]:
    return tuple(range(1, 1 + len(SHAPES[layer])))


def fan_out_by_gradient(reader: nn.Module, shape: tuple[int, ...], *, nonzero: bool = False) -> np.ndarray:
    """What the sum of outputs gains from each place of the input where all weights are 1."""
    counting = copy.deepcopy(reader).double()
    with torch.no_grad():
        counting.weight.copy_((counting.weight != 0) if nonzero else torch.ones_like(counting.weight))
    spikes = torch.zeros(1, *shape, dtype=torch.float64, requires_grad=True)
    given = spikes.flatten(1) if isinstance(reader, nn.Linear) else spikes
    (gradient,) = torch.autograd.grad(counting(given).sum(), spikes)
    return gradient.long().numpy()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return Recorded(tmp_path_factory.mktemp("operations") / "run.zarr", make_network())


def grouped(values: np.ndarray, *keys: np.ndarray) -> np.ndarray:
    """Sums of frames by one or two keys, whose values ascend."""
    places = [np.unique(key, return_inverse=True) for key in keys]
    total = np.zeros((*(len(found) for found, _ in places), *values.shape[1:]), np.int64)
    np.add.at(total, tuple(place for _, place in places), values)
    return total


@pytest.mark.parametrize("nonzero", [False, True])
def test_operations_are_spikes_times_fan_out_whatever_is_kept_apart(
    recorded: Recorded, nonzero: bool
) -> None:
    recording, weights = recorded.opened(), "nonzero" if nonzero else "all"

    def ask(per: Any, **options: Any) -> np.ndarray:
        result = recording.synaptic_operations(per, weights=weights, **options)
        assert result.dtype == np.int64
        return result.values

    frames = recorded.all_operations(nonzero=nonzero)
    assert ask(None) == frames.sum() > 0
    layers = [recorded.operations(layer, nonzero=nonzero) for layer in SHAPES]
    assert ask("layer").tolist() == [int(each.sum()) for each in layers]
    assert ask("layer")[-1] == 0  # nothing reads the last layer
    for word in ("step", "trial", "time", "sample", "label", "epoch"):
        expected = grouped(frames, getattr(recorded, word))
        assert np.array_equal(ask(word), expected), word
        each = np.stack(
            [grouped(one.sum(axis=tuple(range(1, one.ndim))), getattr(recorded, word)) for one in layers]
        )
        assert np.array_equal(ask(("layer", word)), each), word
    assert np.array_equal(ask(("label", "time")), grouped(frames, recorded.label, recorded.time))
    assert np.array_equal(ask("window", window=5), grouped(frames, recorded.step // 5))
    assert np.array_equal(ask("presentation"), grouped(frames, recorded.trial, recorded.sample).ravel())


@pytest.mark.parametrize("layer", SHAPES)
def test_operations_of_neurons_and_channels_of_a_layer(recorded: Recorded, layer: str) -> None:
    asked, frames = recorded.opened()[layer], recorded.operations(layer)
    assert asked.synaptic_operations().values == frames.sum()
    assert asked.synaptic_operations().layer == layer
    assert np.array_equal(asked.synaptic_operations("neuron"), frames.sum(axis=0))
    per_label = asked.synaptic_operations(("label", "neuron"))
    assert np.array_equal(per_label, grouped(frames, recorded.label))
    if layer != "6":
        expected = grouped(frames.sum(axis=(2, 3)), recorded.trial)
        assert np.array_equal(asked.synaptic_operations(("trial", "channel")), expected)


def test_selections_of_neurons_steps_and_samples_have_their_operations(recorded: Recorded) -> None:
    layer, frames = recorded.opened()["1"], recorded.operations("1")
    chosen = layer.select(neurons=np.s_[1:, ::2, [0, 3]], time=slice(2, 5), samples=[0, 2])
    rows = (recorded.time >= 2) & (recorded.time < 5) & (recorded.sample != 1)
    expected = frames[rows][:, 1:, ::2][..., [0, 3]]
    assert chosen.synaptic_operations().values == expected.sum()
    assert np.array_equal(chosen.synaptic_operations("neuron"), expected.sum(axis=0))
    assert np.array_equal(chosen.synaptic_operations("channel"), expected.sum(axis=(0, 2, 3)))
    assert layer.select(steps=slice(0, 0)).synaptic_operations().values == 0


def test_recordings_whose_fan_outs_differ_are_weighted_each_by_its_own(
    tmp_path: Path, recorded: Recorded
) -> None:
    net = make_network()
    with torch.no_grad():
        net[2].weight[0] = 0
        net[5].weight[:3] = 1
    other = Recorded(tmp_path / "other.zarr", net, seed=9)
    both = analysis.open_recording([recorded.store, other.store])
    for weights, nonzero in (("all", False), ("nonzero", True)):
        each = [one.all_operations(nonzero=nonzero) for one in (recorded, other)]
        per_recording = both.synaptic_operations("recording", weights=weights)  # type: ignore[arg-type]
        assert per_recording.values.tolist() == [int(one.sum()) for one in each]
        assert both.synaptic_operations(weights=weights).values == sum(one.sum() for one in each)  # type: ignore[arg-type]
        by_label = sum(grouped(one, recorded.label) for one in each)
        assert np.array_equal(both.synaptic_operations("label", weights=weights), by_label)  # type: ignore[arg-type]
    assert np.allclose(both.energy().input_layer, 2 * recorded.opened().energy().input_layer)


def test_energy_is_so_much_for_each_operation_with_formula_and_source(recorded: Recorded) -> None:
    recording, operations = recorded.opened(), int(recorded.all_operations().sum())
    energy = recording.energy()
    assert energy.values == operations * 9 / 10
    assert energy.attrs["units"] == "pJ"
    assert "arithmetic only" in energy.attrs["formula"]
    assert "0.9 pJ × synaptic operations" in energy.attrs["formula"]
    assert "Horowitz 2014" in energy.attrs["source"]
    assert recording.energy(preset="7nm").values == operations * 38 / 100
    own = recording.energy(accumulate=Fraction(1, 3), multiply_accumulate=2.0)
    assert own.values == operations / 3
    assert own.attrs["source"] == "energies given"
    per_layer = recording.energy("layer")
    assert np.array_equal(per_layer, recording.synaptic_operations("layer").values * 9 / 10)
    assert "input_layer" not in per_layer.coords
    assert "input_layer" not in recording["1"].energy().coords
    assert np.array_equal(
        recording.energy("step", weights="nonzero"),
        recording.synaptic_operations("step", weights="nonzero").values * 9 / 10,
    )


def test_the_input_layer_is_apart_with_all_of_its_operations(recorded: Recorded) -> None:
    recording = recorded.opened()
    dense = int(fan_out_by_gradient(recorded.net[0], (2, 7, 6)).sum())
    apart = recording.energy().input_layer
    assert apart.values == dense * STEPS * TRIALS * BATCH * 46 / 10
    assert "4.6 pJ × MACs of '0'" in apart.attrs["formula"]
    assert "arithmetic only" in apart.attrs["formula"]
    per_step = recording.energy("step").input_layer
    assert per_step.dims == ("step",)
    assert np.array_equal(per_step, np.full(STEPS * TRIALS, dense * BATCH * 46 / 10))
    present = int(fan_out_by_gradient(recorded.net[0], (2, 7, 6), nonzero=True).sum())
    nonzero = recording.energy("label", weights="nonzero").input_layer
    assert np.allclose(nonzero, np.bincount(recorded.label)[[0, 1, 5]] * present * 4.6, rtol=1e-15)


def test_inputs_of_zeros_and_ones_are_accumulated(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(6, 3), Threshold())
    with Monitor(net, store=tmp_path / "a", layers=[Threshold]), torch.no_grad():
        net(torch.ones(4, 6))
    apart = analysis.open_recording(tmp_path / "a").energy().input_layer
    assert apart.values == 4 * 18 * 9 / 10
    assert "0.9 pJ × accumulates of '0'" in apart.attrs["formula"]


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = Threshold(), Threshold(), Threshold()
        self.pool, self.direct, self.behind = nn.MaxPool1d(2), nn.Linear(8, 8), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.b(self.direct(self.a(x)))
        return self.c(self.behind(self.pool(x[:, None])[:, 0]))


def test_what_is_not_covered_is_refused_by_name_or_left_out_with_a_warning_and_never_zero(
    tmp_path: Path,
) -> None:
    net = Pooled()
    with Monitor(net, store=tmp_path / "a", layers=[Threshold]), torch.no_grad():
        net(torch.rand(5, 8))
    recording = analysis.open_recording(tmp_path / "a")
    for ask in (recording.synaptic_operations, recording.energy, recording["b"].synaptic_operations):
        with pytest.raises(
            QuestionError, match=r"'behind' \(reads what no recorded layer has put out\).*leave out"
        ):
            ask()
    spikes = int(recording["a"].spike_count())
    with pytest.warns(UncoveredOperationsWarning, match="'behind'.*layers 'b' and 'c'"):
        left = recording.synaptic_operations("layer", uncovered="leave out")
    assert left.layer.values.tolist() == ["a"]
    assert left.values.tolist() == [spikes * 8]
    assert left.attrs["not_covered"] == ["behind: reads what no recorded layer has put out"]
    assert left.attrs["layers_left_out"] == ["b", "c"]
    with pytest.warns(UncoveredOperationsWarning):
        assert recording.energy(uncovered="leave out").values == spikes * 8 * 9 / 10
    with pytest.raises(QuestionError, match="no weight layer is known that reads 'b' directly"):
        recording["b"].synaptic_operations(uncovered="leave out")


def test_recordings_without_connections_say_what_to_do(tmp_path: Path) -> None:
    write_recording(tmp_path / "a", {"1": np.ones((10, 3), bool)}, [Run(0, 10, 1)])
    for ask in ("synaptic_operations", "energy"):
        with pytest.raises(QuestionError, match=r"does not know which weight layers.*Record a forward"):
            getattr(analysis.open_recording(tmp_path / "a"), ask)()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"preset": "3nm"}, QuestionError),
        ({"accumulate": -1}, QuestionError),
        ({"accumulate": float("nan")}, QuestionError),
        ({"multiply_accumulate": "4.6"}, TypeError),
        ({"accumulate": True}, TypeError),
        ({"weights": "some"}, QuestionError),
        ({"uncovered": "ignore"}, QuestionError),
        ({"per": "neuron"}, QuestionError),
    ],
)
def test_parameters_that_make_no_sense_are_refused(
    recorded: Recorded, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        recorded.opened().energy(**options)


def test_the_command_line_tells_both_with_the_input_layer_beside(recorded: Recorded, tmp_path: Path) -> None:
    run = CliRunner()
    what = ["stats", str(recorded.store), "--what", "synaptic_operations,energy", "--format", "json"]
    result = run.invoke(main, [*what, "--per", "trial", "--set", "weights=nonzero"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.output)
    expected = grouped(recorded.all_operations(nonzero=True), recorded.trial)
    assert [row["synaptic_operations"] for row in rows] == expected.tolist()
    assert [row["energy"] for row in rows] == (expected * 9 / 10).tolist()
    assert all(row["energy_input_layer"] > 0 for row in rows)
    parts = [tmp_path / f"{shard}.npz" for shard in range(2)]
    for shard, part in enumerate(parts):
        made = run.invoke(main, [*what[:4], "--per", "layer,step", "--shard", f"{shard}/2", "-o", str(part)])
        assert made.exit_code == 0, made.output
    table = run.invoke(main, ["merge", *map(str, parts), "--format", "json"])
    assert table.exit_code == 0, table.output
    whole = run.invoke(main, [*what, "--per", "layer,step"])
    assert json.loads(table.output) == json.loads(whole.output)


def test_what_is_not_covered_is_a_line_on_the_command_line(tmp_path: Path) -> None:
    net = Pooled()
    with Monitor(net, store=tmp_path / "a", layers=[Threshold]), torch.no_grad():
        net(torch.rand(5, 8))
    what = ["stats", str(tmp_path / "a"), "--what", "energy"]
    refused = CliRunner().invoke(main, what)
    assert refused.exit_code == 2
    assert "'behind'" in refused.output
    told = CliRunner().invoke(main, [*what, "--set", "uncovered=leave out"])
    assert told.exit_code == 0, told.output
    assert "left out" in told.stderr
    assert "'behind'" in told.stderr


def test_what_a_stranger_claims_of_connections_is_checked(tmp_path: Path) -> None:
    layers = {"1": np.ones((16, 3, 7), bool), "3": np.ones((16, 9), bool)}
    for name, fan_out in (
        ("axes", FanOut(2, ((1, 2, 3),))),
        ("length", FanOut(2, (None, (1, 2)))),
        ("stored", FanOut.of_array(np.array([3, 5, 8, 9, 1]).repeat(1000))),
    ):
        assert fan_out is not None
        connections = Connections({"1": (Reader("2", "Conv1d", (5, 3, 3), fan_out, None),)})
        write_recording(tmp_path / name, layers, [Run(0, 4, 4)], connections=connections)
        with pytest.raises(RecordingFormatError, match=f"{name}.*layer '1'"):
            analysis.open_recording(tmp_path / name).synaptic_operations()
    kept = Connections({"1": (Reader("2", "Conv1d", (5, 3, 3), FanOut(2), None),)})
    write_recording(tmp_path / "kept", layers, [Run(0, 4, 4)], connections=kept)
    with pytest.raises(QuestionError, match='ask with weights="all"'):
        analysis.open_recording(tmp_path / "kept").synaptic_operations(weights="nonzero")


def test_layers_that_turn_to_values_later_are_refused_by_name(tmp_path: Path) -> None:
    """The first forward saw zeros and ones; what the recording holds is looked at, too."""
    spikes = np.ones((64, 3), np.int16)
    spikes[40:] = 3
    readers = (Reader("2", "Linear", (4, 3), FanOut(4), None),)
    write_recording(
        tmp_path / "run.zarr", {"1": spikes}, [Run(0, 64, 1)], connections=Connections({"1": readers}, ())
    )
    recording = analysis.open_recording(tmp_path / "run.zarr")
    with pytest.raises(
        QuestionError, match=r"'2' \(reads layer '1', which puts out other values than 0 and 1\)"
    ):
        recording.synaptic_operations()
    with pytest.raises(QuestionError, match="no weight layer is known that reads '1' directly"):
        recording.energy(uncovered="leave out")
