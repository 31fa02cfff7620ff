"""Operations that were counted while recording equal what others count, and plain sums over what is read."""

from __future__ import annotations

import copy
import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import analysis
from analysis.arguments import QuestionError
from analysis.cli.commands import main
from analysis.questions import UncoveredOperationsWarning
from frameworks import framework
from networks import Threshold
from recorder import Monitor
from recorder.format.record.operations import KINDS

N, T = 3, 4
pytestmark = pytest.mark.filterwarnings("ignore:nothing is known of")


class Residual(nn.Module):
    """A layer that is read through pooling, one that is read through a sum, one that is read directly.

    Parameters
    ----------
    spiking : callable
        Makes a spiking layer.
    of : module
        Has Conv2d, Linear, Flatten, MaxPool2d, AvgPool2d.
    """

    def __init__(self, spiking: Any, of: Any = nn) -> None:
        super().__init__()
        self.first, self.spikes = of.Conv2d(2, 4, 3, padding=1), spiking()
        self.pool = of.MaxPool2d(2)
        self.inner, self.more = of.Conv2d(4, 4, 3, padding=1, groups=2, bias=False), spiking()
        self.direct, self.third = of.Conv2d(4, 4, 1), spiking()
        self.summed, self.fourth = of.Conv2d(4, 5, (3, 2), stride=(1, 2), padding=1), spiking()
        self.mean, self.flat, self.last = of.AvgPool2d(2), of.Flatten(), of.Linear(5 * 2 * 1, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.pool(self.spikes(self.first(x)))
        more = self.more(self.inner(pooled))
        third = self.third(self.direct(more))
        return self.last(self.flat(self.mean(self.fourth(self.summed(third + pooled)))))


def thinned(net: nn.Module) -> nn.Module:
    """Strong weights, a good part of which is 0."""
    torch.manual_seed(3)
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            with torch.no_grad():
                module.weight.copy_(torch.randn_like(module.weight) * 2)
                module.weight.mul_(torch.rand_like(module.weight) > 0.3)
    return net.eval()


def images(*, binary: bool = False) -> torch.Tensor:
    found = torch.rand(T, N, 2, 9, 8, generator=torch.Generator().manual_seed(5))
    found[found < 0.2] = 0
    return (found > 0.5).float() if binary else found


def recorded(path: Path, net: nn.Module, inputs: Any, **options: Any) -> analysis.Recording:
    options = {"operations": True, "durability": "process", "layers": [Threshold], **options}
    with Monitor(net, store=path, **options) as monitor, torch.no_grad(), monitor.trial(label=[5, 6, 5]):
        for given in inputs:
            net(given)
    return analysis.open_recording(path)


# -- plain sums ---------------------------------------------------------------------------------------------


def expected(net: nn.Module, inputs: torch.Tensor) -> dict[str, np.ndarray]:
    """Of each weight layer, its operations [frames, kinds], by the layer itself with weights of 1."""
    seen: dict[str, list[np.ndarray]] = {}

    def look(name: str) -> Any:
        def hook(module: nn.Module, given: Any, _: Any) -> None:
            (x,) = given
            counting = copy.deepcopy(module).double()
            counting._forward_hooks.clear()
            columns = []
            for is_nonzero, values in ((0, x != 0), (1, x != 0), (0, torch.ones_like(x))):
                with torch.no_grad():
                    weights = (module.weight != 0) if is_nonzero else torch.ones_like(module.weight)
                    counting.weight.copy_(weights)
                    if counting.bias is not None:
                        counting.bias.zero_()
                    columns.append(counting(values.double()).flatten(1).sum(1))
            binary = bool(((x == 0) | (x == 1)).all())
            each = [column * kept for column in columns for kept in (binary, not binary)]
            seen.setdefault(name, []).append(torch.stack(each, 1).long().numpy())

        return hook

    handles = [
        module.register_forward_hook(look(name))
        for name, module in net.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    with torch.no_grad():
        for given in inputs:
            net(given)
    for handle in handles:
        handle.remove()
    return {name: np.concatenate(rows) for name, rows in seen.items()}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[analysis.Recording, dict[str, np.ndarray]]:
    net = thinned(Residual(Threshold))
    recording = recorded(tmp_path_factory.mktemp("plain") / "run.zarr", net, images())
    return recording, expected(net, images())


def test_counts_are_those_of_each_weight_layer_with_weights_of_one(plain: Any) -> None:
    recording, counts = plain
    found = recording.counted_operations(("time", "sample"))
    assert found.dims == ("time", "sample", "weight_layer", "kind")
    assert found.dtype == np.int64
    assert found.weight_layer.values.tolist() == ["first", "inner", "direct", "summed", "last"]
    assert found.kind.values.tolist() == [*KINDS]
    for name, rows in counts.items():
        assert np.array_equal(found.sel(weight_layer=name).values, rows.reshape(T, N, 6)), name
    total = recording.counted_operations()
    assert np.array_equal(total.sel(weight_layer="summed").values, counts["summed"].sum(0))
    by_label = recording.counted_operations("label").sel(weight_layer="inner").values
    assert np.array_equal(by_label[0], counts["inner"].reshape(T, N, 6)[:, [0, 2]].sum((0, 1)))


def test_the_command_line_lists_them_by_weight_layer_and_kind(plain: Any) -> None:
    recording, counts = plain
    for per, rows in (((), 5 * 6), (("--per", "sample"), 5 * 6 * N)):
        asked = ["stats", recording.location, "--what", "counted_operations", "--format", "csv", *per]
        result = CliRunner().invoke(main, asked)
        assert result.exit_code == 0, result.output
        table = pd.read_csv(io.StringIO(result.stdout))
        assert len(table) == rows
        for name, of_layer in counts.items():
            found = table[table.weight_layer == name].groupby("kind", sort=False).counted_operations.sum()
            assert found.to_dict() == dict(zip(KINDS, of_layer.sum(0).tolist(), strict=True))
    assert "\ncounted_operations " in CliRunner().invoke(main, ["stats", "--list"]).stdout


@pytest.mark.parametrize("weights", ["all", "nonzero"])
@pytest.mark.parametrize("per", [(), "time", "sample", ("label", "step"), "presentation", "recording"])
def test_what_fan_outs_do_not_tell_is_taken_from_counts(plain: Any, weights: str, per: Any) -> None:
    recording, counts = plain
    first = 2 if weights == "nonzero" else 0
    frames = {name: rows.reshape(T, N, 6)[..., first : first + 2] for name, rows in counts.items()}
    wanted = sum(rows for name, rows in frames.items() if name != "first")
    ways: dict[Any, Any] = {
        (): lambda x: x.sum(),
        "time": lambda x: x.sum(1),
        "sample": lambda x: x.sum(0),
        ("label", "step"): lambda x: np.stack([x[:, [0, 2]].sum(1), x[:, 1]]),
        "presentation": lambda x: x.sum(0),
        "recording": lambda x: [x.sum()],
    }
    for kind, place in (("accumulates", 0), ("multiply_accumulates", 1)):
        found = recording.synaptic_operations(per, weights=weights, kind=kind)
        assert np.array_equal(found.values, ways[per](wanted[..., place])), kind
        assert found.dtype == np.int64
    whole = recording.synaptic_operations(per, weights=weights)
    assert np.array_equal(whole.values, ways[per](wanted.sum(-1)))
    assert whole.attrs["counted"] == ["inner", "summed", "last"]
    assert "not_covered" not in whole.attrs
    energy = recording.energy(per, weights=weights, accumulate=1, multiply_accumulate=3)
    assert np.array_equal(energy.values, ways[per](wanted[..., 0] + 3 * wanted[..., 1]))


def test_weight_layers_follow_behind_the_layers_that_are_read_directly(plain: Any) -> None:
    recording, counts = plain
    found = recording.synaptic_operations(("layer", "time"))
    assert found.layer.values.tolist() == ["more", "inner", "summed", "last"]
    read = {"more": "direct", "inner": "inner", "summed": "summed", "last": "last"}
    for layer, name in read.items():
        rows = counts[name].reshape(T, N, 6)[..., :2].sum((1, 2))
        assert np.array_equal(found.sel(layer=layer).values, rows), layer


@pytest.mark.parametrize("per", [(), "trial", "sample", "label", ("trial", "sample")])
def test_layers_of_which_some_frames_were_kept_cost_what_the_whole_network_did(
    tmp_path: Path, per: Any
) -> None:
    net, answers = thinned(Residual(Threshold)), []
    for name, part in {
        "whole": {},
        "part": {"samples": {"spikes": 1, "more": 2}, "trials_every": {"third": 2, "spikes": 2}},
    }.items():
        with Monitor(net, store=tmp_path / name, layers=[Threshold], operations=True, **part) as monitor:
            for _ in range(2):
                with torch.no_grad(), monitor.trial(label=[5, 6, 7]):
                    for given in images():
                        net(given)
        answers.append(analysis.open_recording(tmp_path / name).energy(per).compute())
    whole, part = answers
    assert float(whole.input_layer.min()) > 0
    assert np.array_equal(part.input_layer.values, whole.input_layer.values)
    assert np.array_equal(part.values, whole.values)


def test_input_layers_are_asked_of_a_layer_that_has_all_frames(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 4), Threshold(), nn.Linear(4, 2), Threshold())
    part = {"samples": {"1": 1}, "trials_every": {"1": 2}}
    with Monitor(net, store=tmp_path / "run", layers=[Threshold], **part) as monitor, torch.no_grad():
        for _ in range(2):
            with monitor.trial():
                net(torch.rand(5, 3))
    energy = analysis.open_recording(tmp_path / "run").energy("trial", multiply_accumulate=1)
    assert energy.input_layer.values.tolist() == [5 * 12, 5 * 12]


def test_counts_stand_for_no_part_of_a_network(plain: Any) -> None:
    recording, _ = plain
    for asked in (recording["more"], recording.select(layers=["more", "third"])):
        with pytest.raises(QuestionError, match="counted for all layers together"):
            asked.synaptic_operations()
    with pytest.raises(QuestionError, match="keeps layers or neurons apart"):
        recording.counted_operations("layer")
    with pytest.warns(UncoveredOperationsWarning, match="'inner'"):
        alone = recording["more"].synaptic_operations(uncovered="leave out")
    assert int(alone) > 0
    some = recording.select(time=slice(1, 3), samples=[2])
    counts = recording.counted_operations(("time", "sample")).isel(time=slice(1, 3), sample=2).sum("time")
    assert np.array_equal(some.counted_operations().values, counts.values)


def test_the_command_line_has_them(plain: Any) -> None:
    recording, counts = plain
    command = [
        "stats",
        recording.location,
        "--what",
        "synaptic_operations",
        "--per",
        "time",
        "--format",
        "csv",
    ]
    run = CliRunner().invoke(main, command)
    assert run.exit_code == 0, run.output
    rows = sum(rows.reshape(T, N, 6)[..., :2].sum((1, 2)) for name, rows in counts.items() if name != "first")
    assert [int(line.split(",")[-1]) for line in run.output.splitlines()[1:]] == rows.tolist()


# -- SpikingJelly 2 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("binary", [False, True])
def test_jelly_counter_of_pooling_and_sums(tmp_path: Path, step_mode: str, binary: bool) -> None:
    try:
        counter = importlib.import_module("spikingjelly.activation_based.op_counter")
    except ModuleNotFoundError:
        pytest.skip("this SpikingJelly counts no operations")
    from spikingjelly.activation_based import functional, layer, neuron

    net = thinned(Residual(neuron.IFNode, layer))
    functional.set_step_mode(net, step_mode)
    given = images(binary=binary)
    synops = counter.SynOpCounter()
    with counter.DispatchCounterMode([synops]):
        recording = recorded(tmp_path / "run.zarr", net, [given] if step_mode == "m" else given, layers=None)
    operations = int(recording.synaptic_operations(kind="accumulates"))
    inputs = recording.counted_operations().sel(weight_layer="first", kind="accumulates")
    assert (int(inputs) > 0) == binary
    assert operations + int(inputs) == synops.get_total() > 0
    assert int(recording.synaptic_operations(kind="multiply_accumulates")) > 0


def test_counting_is_advised_where_it_would_help(tmp_path: Path) -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = Threshold(), nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            spikes = self.first(x)
            return self.second(spikes) @ self.second(spikes).T

    for counts in (False, True):
        net, path = Product(), tmp_path / str(counts)
        with torch.no_grad(), Monitor(net, store=path, layers=[Threshold], operations=counts):
            net(torch.rand(5, 3))
        with pytest.raises(QuestionError, match="'matmul'") as caught:
            analysis.open_recording(path).synaptic_operations()
        assert ("counted with Monitor(..., operations=True)" in str(caught.value)) is not counts


# -- NeuroBench and sinabs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [False, True])
def test_counts_equal_those_of_neurobench(tmp_path: Path, binary: bool) -> None:
    models, workload = framework("neurobench.models"), framework("neurobench.metrics.workload")
    net = thinned(Residual(Threshold))
    model, metric = models.TorchModel(net), workload.SynapticOperations()
    model.register_hooks()
    given = images(binary=binary)
    with torch.no_grad(), Monitor(net, store=tmp_path / "run.zarr", layers=[Threshold], operations=True):
        outputs = [model(step) for step in given]
    with torch.no_grad():
        found = metric(model, outputs, (given[0], torch.zeros(N)))
    recording = analysis.open_recording(tmp_path / "run.zarr")
    counts = recording.counted_operations().sum("weight_layer")
    for kind, theirs in (("accumulates", "Effective_ACs"), ("multiply_accumulates", "Effective_MACs")):
        assert counts.sel(kind=f"nonzero_{kind}") == round(found[theirs] * N) > 0, kind
        first = recording.counted_operations().sel(weight_layer="first", kind=f"nonzero_{kind}")
        mine = recording.synaptic_operations(weights="nonzero", kind=kind)
        assert int(mine) + int(first) == round(found[theirs] * N)
    dense = counts.sel(kind="dense_accumulates") + counts.sel(kind="dense_multiply_accumulates")
    assert dense == round(found["Dense"] * N)


@pytest.mark.filterwarnings("ignore:SNNAnalyzer is deprecated:DeprecationWarning")
def test_counts_equal_the_analyser_of_sinabs(tmp_path: Path) -> None:
    layers, activation = framework("sinabs.layers"), framework("sinabs.activation")
    synops, hooks = framework("sinabs.synopcounter"), framework("sinabs.hooks")

    def spiking() -> nn.Module:
        return layers.IAFSqueeze(batch_size=N, spike_fn=activation.SingleSpike)

    net = thinned(
        nn.Sequential(
            *(nn.Conv2d(2, 4, 3, padding=1), spiking(), nn.MaxPool2d(2)),
            *(nn.Conv2d(4, 6, 3, stride=2, groups=2, padding=1), spiking(), nn.MaxPool2d(2, 1)),
            *(nn.Flatten(), nn.Linear(6, 5), spiking()),
        )
    )
    analyser = synops.SNNAnalyzer(net)
    hooks.register_synops_hooks(net)
    given = images(binary=True).transpose(0, 1).flatten(0, 1)
    recording = recorded(tmp_path / "run.zarr", net, [given], layers=None)
    found = recording.counted_operations(("time", "sample")).sel(kind="accumulates")
    assert found.shape == (T, N, 3)
    statistics = analyser.get_layer_statistics()["parameter"]
    for name in ("0", "3", "7"):
        operations = int(found.sel(weight_layer=name).sum())
        assert operations > 0
        # A mean of float32 over samples.
        np.testing.assert_allclose(float(statistics[name]["synops"]) * N, operations, rtol=1e-6)
        per_frame = net.hook_data["synops_per_timestep"][int(name)]
        np.testing.assert_allclose(float(per_frame) * N * T, operations, rtol=1e-6)
