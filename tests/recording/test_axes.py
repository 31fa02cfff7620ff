"""Axes: what is steps, samples and neurons in what a layer puts out, said by the user or assumed aloud."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from frameworks import framework
from recorder import Monitor, SpikeOutput
from recorder.frameworks import SpikingLayerError, find_spiking_layers

# Awkward on purpose: all sizes differ, so that no transposition goes unnoticed.
T, N, C, H = 4, 3, 5, 2


def spikes(*shape: int, rate: float = 0.3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(shape) + sum(shape))
    return (torch.rand(*shape, generator=generator) < rate).float()


class Teller(nn.Module):
    """A module of no known framework that puts out what it is given."""

    def forward(self, x: Any) -> Any:
        return x


def read(output: Any, where: SpikeOutput) -> torch.Tensor:
    return find_spiking_layers(Teller(), {"": where})[""].read_spikes(output)


def record(path: Path, outputs: list[Any], where: SpikeOutput | None, **options: Any) -> Monitor:
    """Record a module that puts out each of these in a forward of its own."""
    net = Teller()
    monitor = Monitor(net, store=path / "run.zarr", layers={"": where}, **options)
    with monitor:
        for output in outputs:
            net(output)
    return monitor


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]


# -- patterns ----------------------------------------------------------------------------------------


ARRANGED = spikes(T, N, C, H)
PATTERNS: list[tuple[str, dict[str, int], torch.Tensor, torch.Tensor]] = [
    ("n ...", {}, ARRANGED[0], ARRANGED[:1]),
    ("t n ...", {}, ARRANGED, ARRANGED),
    ("n t ...", {}, ARRANGED.transpose(0, 1), ARRANGED),
    ("n ... t", {}, ARRANGED.permute(1, 2, 3, 0), ARRANGED),
    ("(t n) ...", {"num_steps": T}, ARRANGED.flatten(0, 1), ARRANGED),
    ("(t n) ...", {"batch_size": N}, ARRANGED.flatten(0, 1), ARRANGED),
    ("(n t) ...", {"batch_size": N}, ARRANGED.transpose(0, 1).flatten(0, 1), ARRANGED),
    ("(n t) ...", {"num_steps": T}, ARRANGED.transpose(0, 1).flatten(0, 1), ARRANGED),
    ("t c n ...", {}, ARRANGED.transpose(1, 2), ARRANGED),
    ("c n ...", {}, ARRANGED[0].transpose(0, 1), ARRANGED[:1]),
    ("... n", {}, ARRANGED[0].permute(1, 2, 0), ARRANGED[:1]),
    ("...", {}, ARRANGED[0, 0], ARRANGED[:1, :1]),
    ("t ...", {}, ARRANGED[:, 0], ARRANGED[:, :1]),
    ("... t", {}, ARRANGED[:, 0].permute(1, 2, 0), ARRANGED[:, :1]),
    ("t n c h", {}, ARRANGED, ARRANGED),
    ("h t c n", {}, ARRANGED.permute(3, 0, 2, 1), ARRANGED.permute(0, 1, 3, 2)),
    ("n (c t) ...", {"num_steps": T}, ARRANGED.permute(1, 2, 0, 3).flatten(1, 2), ARRANGED),
    ("N", {}, ARRANGED[0], ARRANGED[:1]),
    ("TN", {}, ARRANGED, ARRANGED),
    ("NT", {}, ARRANGED.transpose(0, 1), ARRANGED),
    ("N*T", {"batch_size": N}, ARRANGED.transpose(0, 1).flatten(0, 1), ARRANGED),
]


@pytest.mark.parametrize(("axes", "sizes", "output", "expected"), PATTERNS, ids=lambda value: str(value)[:12])
def test_a_pattern_says_which_axes_are_steps_samples_and_neurons(
    tmp_path: Path, axes: str, sizes: dict[str, int], output: torch.Tensor, expected: torch.Tensor
) -> None:
    where = SpikeOutput(axes, **sizes)
    assert torch.equal(read(output, where), expected)
    monitor = record(tmp_path, [output, output], where)
    recorded = np.stack(monitor.s[""][:])
    assert np.array_equal(recorded, torch.cat([expected, expected]).numpy())
    silent = (expected.flatten(0, 1).sum(0) == 0).float().mean()
    assert monitor.get_nonfire_ratio() == pytest.approx(float(silent))


@pytest.mark.parametrize(
    ("axes", "problem"),
    [
        ("", "no axis is named"),
        ("NTC", "'NTC' is no name in small letters"),
        ("t n n", "'n' occurs twice"),
        ("t ... n ...", "'...' occurs twice"),
        ("(t n ...", "brackets do not match"),
        ("t) n", "brackets do not match"),
        ("(t (n c))", "brackets do not match"),
        ("t () n", "a bracket is empty"),
        ("t (n ...)", "'...' is in a bracket"),
        ("t, n", "'t,' is no name in small letters"),
    ],
)
def test_a_bad_pattern_is_one_error_that_shows_good_ones(axes: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)) as error:
        SpikeOutput(axes)
    assert repr(axes) in str(error.value)
    for example in ("'n ...'", "'n ... t'", "'(t n) ...'"):
        assert example in str(error.value)


@pytest.mark.parametrize(
    ("axes", "sizes"), [("(t n) ...", {}), ("(c h t) n", {"num_steps": 2}), ("(n c) t", {})]
)
def test_brackets_need_all_sizes_but_one(axes: str, sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"cannot be unfolded without sizes.*give batch_size"):
        SpikeOutput(axes, **sizes)


def test_how_a_pattern_is_spelled_makes_no_difference() -> None:
    assert SpikeOutput("TN") == SpikeOutput("t n ...") == SpikeOutput(" t  n ...")
    assert hash(SpikeOutput("NT")) == hash(SpikeOutput("n t ..."))
    assert SpikeOutput("TN") != SpikeOutput("NT")
    assert repr(SpikeOutput("n t ...", item=1)) == "SpikeOutput('n t ...', item=1)"


@pytest.mark.parametrize("folded", ["(n t) ...", "(t n) ..."])
def test_a_folded_axis_that_is_no_multiple_is_refused(folded: str) -> None:
    with pytest.raises(SpikingLayerError, match=r"shape \[7, 5\].*expected.*a tensor of shape"):
        read(spikes(7, 5), SpikeOutput(folded, num_steps=2))


def test_batch_on_a_later_axis_with_smaller_last_batches(tmp_path: Path) -> None:
    batches = [spikes(T, C, n, H) for n in (N, N, 1, N)]
    monitor = record(tmp_path, batches, SpikeOutput("t c n h"))
    expected = [step for batch in batches for step in batch.transpose(1, 2).numpy()]
    recorded = monitor.s[""][:]
    assert [step.shape for step in recorded] == [step.shape for step in expected]
    assert all(np.array_equal(one, other) for one, other in zip(recorded, expected, strict=True))


# -- items -------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    membrane: torch.Tensor
    spikes: Any


@dataclass
class Answer:
    loss: float
    logits: Any


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


BATCH = spikes(N, C)
MEMBRANE = torch.full((N, C), 0.3)
NESTED: list[tuple[Any, Any]] = [
    ("spikes", {"membrane": MEMBRANE, "spikes": BATCH}),
    ("spikes", OrderedDict(membrane=MEMBRANE, spikes=BATCH)),
    ("spikes", Pair(MEMBRANE, BATCH)),
    (1, Pair(MEMBRANE, BATCH)),
    ("logits", Answer(0.1, BATCH)),
    ("logits.spikes", Answer(0.1, Pair(MEMBRANE, BATCH))),
    ("logits.spikes", {"logits": {"spikes": BATCH}}),
    (("out", 0), {"out": [BATCH, MEMBRANE, None]}),
    ((1, 0), (MEMBRANE, (BATCH, MEMBRANE))),
    (("a.b",), {"a.b": BATCH}),
    ((7,), {7: BATCH}),
    ("state.s", Plain(state=Plain(s=BATCH))),
]


@pytest.mark.parametrize(("item", "output"), NESTED, ids=lambda value: str(value)[:12])
def test_spikes_may_lie_anywhere_in_what_is_put_out(item: Any, output: Any) -> None:
    assert torch.equal(read(output, SpikeOutput("n ...", item=item)), BATCH[None])


def test_a_path_never_leads_into_a_tensor() -> None:
    for item in ("T", "data", (0, 0), ("0",)):
        with pytest.raises(SpikingLayerError, match="expected"):
            read((spikes(N, C), MEMBRANE) if item == (0, 0) else spikes(N, C), SpikeOutput(item=item))


@pytest.mark.parametrize("item", ["", "a..b", (), (0, -1), True, 1.5, ["a"], ("a", None)])
def test_a_bad_item_is_refused(item: Any) -> None:
    with pytest.raises(ValueError, match=r"item is .*expected None, 'first', an index"):
        SpikeOutput(item=item)


@pytest.mark.parametrize(
    ("where", "wrap"),
    [
        (SpikeOutput("t n ...", item=None), lambda steps: steps),
        (SpikeOutput("t n ...", item=None), tuple),
        (SpikeOutput("t n ...", item="out"), lambda steps: {"out": steps}),
        (SpikeOutput("t n ...", item=1), lambda steps: (None, steps)),
    ],
)
def test_a_list_of_steps_is_all_its_steps(
    tmp_path: Path, where: SpikeOutput, wrap: Callable[[Any], Any]
) -> None:
    steps = list(spikes(T, N, C))
    monitor = record(tmp_path, [wrap(steps)], where)
    assert np.array_equal(np.stack(monitor.s[""][:]), torch.stack(steps).numpy())


@pytest.mark.parametrize("where", [None, SpikeOutput("t n ...")])
def test_a_list_that_may_be_steps_or_spikes_and_states_is_refused_with_both_ways_out(
    tmp_path: Path, where: SpikeOutput | None
) -> None:
    steps = list(spikes(T, N, C))
    with pytest.raises(SpikingLayerError, match=r"Are these 4 steps.*item=0 if the first") as error:
        record(tmp_path, [steps], where)
    assert torch.equal(read(steps, hinted(error.value)), torch.stack(steps))
    assert read(steps, SpikeOutput(item=0)).shape == (1, N, C)


# -- hints -------------------------------------------------------------------------------------------


def hinted(error: Exception) -> SpikeOutput:
    """The output that an error proposes."""
    found = re.search(r"layers=\{'': (SpikeOutput\(.*?\))\}", str(error))
    assert found, str(error)
    return eval(found[1], {"SpikeOutput": SpikeOutput})  # noqa: S307 - this is what a user would paste


FITTING: list[tuple[SpikeOutput, Any]] = [
    (SpikeOutput("t n ..."), spikes(C)),
    (SpikeOutput("t n ...", item=0), spikes(T, N, C)),
    (SpikeOutput("n ...", item=None), (BATCH, MEMBRANE)),
    (SpikeOutput("n ...", item=None), (MEMBRANE, BATCH)),
    (SpikeOutput(), {"membrane": MEMBRANE, "spikes": BATCH}),
    (SpikeOutput(), Answer(0.1, Pair(MEMBRANE, BATCH))),
    (SpikeOutput(), ((MEMBRANE, (BATCH,)),)),
    (SpikeOutput(), {"first": BATCH}),
    (SpikeOutput(), {"a.b": BATCH}),
    (SpikeOutput(), Plain(s=BATCH)),
    (SpikeOutput("(n t) ...", num_steps=2), spikes(7, C)),
    (SpikeOutput("n t c h w", item=None), BATCH),
    (SpikeOutput("n ..."), spikes(1)[0]),
    (SpikeOutput("t n ...", item="out"), {"in": list(spikes(T, N, C))}),
]


@pytest.mark.parametrize(("where", "output"), FITTING, ids=lambda value: str(value)[:12])
def test_a_hint_names_what_works_for_that_very_output(
    tmp_path: Path, where: SpikeOutput, output: Any
) -> None:
    with pytest.raises(SpikingLayerError) as error:
        read(output, where)
    proposed = hinted(error.value)
    assert set(read(output, proposed).unique().tolist()) <= {0, 1}, "a membrane is proposed where spikes are"
    record(tmp_path, [output], proposed)


@pytest.mark.parametrize("output", [None, 1.0, (), "spikes", {"loss": 0.5}, torch.ones(2, 2).to_sparse()])
def test_where_nothing_fits_no_hint_pretends_so(output: Any) -> None:
    with pytest.raises(SpikingLayerError) as error:
        read(output, SpikeOutput("t n ..."))
    assert "SpikeOutput(" not in str(error.value)


# -- no batch ----------------------------------------------------------------------------------------


def spikingjelly_network() -> tuple[nn.Module, list[str], Callable[[nn.Module], None]]:
    neuron = framework("spikingjelly.activation_based.neuron")
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3), neuron.IFNode(), nn.Flatten(0), nn.Linear(6 * 4, 7), neuron.LIFNode()
    )

    def show(net: nn.Module) -> None:
        for _ in range(T):
            net(torch.rand(1, 4, 4) * 3)

    return net, ["1", "4"], show


def spikingjelly_multi_step_network() -> tuple[nn.Module, list[str], Callable[[nn.Module], None]]:
    neuron = framework("spikingjelly.activation_based.neuron")
    nodes = neuron.IFNode(step_mode="m"), neuron.LIFNode(step_mode="m")
    net = nn.Sequential(nn.Linear(8, 9), nodes[0], nn.Linear(9, 7), nodes[1])
    return net, ["1", "3"], lambda net: net(torch.rand(T, 8) * 4)


def snntorch_network() -> tuple[nn.Module, list[str], Callable[[nn.Module], None]]:
    snn = framework("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.lif1 = nn.Linear(8, 9), snn.Leaky(beta=0.9)
            self.fc2, self.lif2 = nn.Linear(9, 7), snn.Leaky(beta=0.9)

        def forward(self, x: torch.Tensor) -> None:
            first, second = self.lif1.init_leaky(), self.lif2.init_leaky()
            for step in x:
                spk, first = self.lif1(self.fc1(step), first)
                _, second = self.lif2(self.fc2(spk), second)

    return Net(), ["lif1", "lif2"], lambda net: net(torch.rand(T, 8) * 3)


def norse_network() -> tuple[nn.Module, list[str], Callable[[nn.Module], None]]:
    norse = framework("norse.torch")
    parameters = norse.LIFParameters(v_th=torch.tensor(0.1))
    net = norse.SequentialState(
        nn.Linear(8, 9), norse.LIFCell(parameters), nn.Linear(9, 7), norse.LIFCell(parameters)
    )

    def show(net: nn.Module) -> None:
        state = None
        for _ in range(12):
            _, state = net(torch.rand(8) * 9, state)

    return net, ["1", "3"], show


def norse_multi_step_network() -> tuple[nn.Module, list[str], Callable[[nn.Module], None]]:
    norse = framework("norse.torch")
    net = norse.SequentialState(nn.Linear(8, 9), norse.LIF(norse.LIFParameters(v_th=torch.tensor(0.1))))
    return net, ["1"], lambda net: net(torch.rand(12, 8) * 9)


def sinabs_network() -> tuple[nn.Module, list[str], Callable[[nn.Module], None]]:
    layers, activation = framework("sinabs.layers"), framework("sinabs.activation")
    single = {"spike_fn": activation.SingleSpike}
    # The first takes one sample as [T, …], the second always wants an axis of samples.
    net = nn.Sequential(
        nn.Linear(8, 9),
        layers.IAFSqueeze(batch_size=1, **single),
        nn.Unflatten(0, (1, T)),
        nn.Linear(9, 7),
        layers.LIF(tau_mem=20.0, **single),
    )
    return net, ["1", "4"], lambda net: net(torch.rand(T, 8) * 6)


NETWORKS = [
    spikingjelly_network,
    spikingjelly_multi_step_network,
    snntorch_network,
    norse_network,
    norse_multi_step_network,
    sinabs_network,
]


@pytest.mark.parametrize("make", NETWORKS)
def test_a_network_on_single_samples_has_the_right_silent_ratios(
    tmp_path: Path, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(1)
    net, names, show = make()
    fired: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _inputs: Any, output: Any) -> None:
            out = output[0] if isinstance(output, tuple) else output
            neurons = 7 if name == names[-1] and len(names) > 1 else 9
            neuron_axes = 3 if out.shape[-2:] == (2, 2) else 1
            counts = out.detach().reshape(-1, *out.shape[out.ndim - neuron_axes :]).sum(0)
            assert neuron_axes == 3 or counts.shape == (neurons,)
            fired[name] = fired.get(name, torch.zeros_like(counts)) + counts

        return hook

    for name in names:
        net.get_submodule(name).register_forward_hook(keep(name))
    with Monitor(net, store=tmp_path / "run.zarr", batched=False) as monitor, torch.no_grad():
        show(net)
    assert sorted(fired) == sorted(names)
    for name, counts in fired.items():
        silent = float((counts == 0).float().mean())
        assert monitor.get_nonfire_ratio(False, name) == pytest.approx(silent)
        assert monitor.s[name][0].shape == (1, *counts.shape)
    assert any(bool((counts == 0).any()) for counts in fired.values()), "a ratio of 0 shows nothing"
    assert not said(caplog)


def test_batched_leaves_alone_what_the_user_says(tmp_path: Path) -> None:
    monitor = record(tmp_path, [spikes(N, C)], SpikeOutput("n ..."), batched=False)
    assert monitor.s[""][0].shape == (N, C)
    where = find_spiking_layers(Teller(), [Teller], batched=False)[""].output
    assert where == SpikeOutput("...")


# -- what is said once -------------------------------------------------------------------------------


def test_layers_that_do_not_agree_about_the_batch_are_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net, _, show = spikingjelly_network()
    with Monitor(net, store=tmp_path / "run.zarr"):
        show(net)
        show(net)
    batch, neurons = sorted(said(caplog))
    assert "'1' is [6, 2, 2], taken for 6 samples, that of '4' is [7], taken for 7" in batch
    assert "batched=False" in batch
    assert "'4' (LIFNode), of shape [7], has no axis of neurons" in neurons


def test_an_only_axis_is_named_once_and_not_where_the_user_says_what_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net, _, show = snntorch_network()
    with Monitor(net, store=tmp_path / "run.zarr", layers=["lif1"]):
        show(net)
    (only,) = said(caplog)
    assert "'lif1' (Leaky), of shape [9], has no axis of neurons" in only
    assert "one step of 9 samples" in only
    proposed = re.search(r"layers=(\{.*?\})", only)
    assert proposed
    caplog.clear()
    layers = eval(proposed[1], {"SpikeOutput": SpikeOutput})  # noqa: S307 - what a user would paste
    with Monitor(net, store=tmp_path / "again.zarr", layers=layers) as monitor:
        show(net)
    assert not said(caplog)
    assert monitor.s["lif1"][0].shape == (9,)


def test_batches_are_not_remarked_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    neuron = framework("spikingjelly.activation_based.neuron")
    functional = framework("spikingjelly.activation_based.functional")
    net = nn.Sequential(nn.Linear(8, 9), neuron.IFNode(), nn.Linear(9, 1), neuron.IFNode())
    with Monitor(net, store=tmp_path / "run.zarr"):
        for batch in (16, 16, 5, 16, 1):
            functional.reset_net(net)
            net(torch.rand(batch, 8))
    assert not said(caplog)


class LIFSpike(nn.Module):
    """As in TET: time second."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.output


def test_what_is_assumed_of_an_unknown_class_is_said_once_with_the_shape(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = torch.zeros(8, 10, 3)
    output[:, :, :2] = spikes(8, 10, 2, rate=0.2)
    net = nn.Sequential(LIFSpike(output), LIFSpike(output))
    with Monitor(net, store=tmp_path / "assumed.zarr", layers=[LIFSpike]) as monitor:
        net(output)
        net(output)
    (assumed,) = said(caplog)
    assert "LIFSpike" in assumed
    assert "shape [8, 10, 3] (layer '0') is taken for one step of 8 samples ('n ...')" in assumed
    assert monitor.get_nonfire_ratio() > 0.33 + 0.01
    caplog.clear()
    where = SpikeOutput("n t ...")
    with Monitor(net, store=tmp_path / "said.zarr", layers={LIFSpike: where}) as monitor:
        net(output)
    assert not said(caplog)
    assert monitor.get_nonfire_ratio() == pytest.approx(1 / 3)


def test_what_was_said_is_not_said_again_behind_close_or_reset(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = Teller()
    monitor = Monitor(net, store=tmp_path / "run.zarr", layers=[Teller])
    for _ in range(2):
        monitor.enable()
        net(spikes(N, C))
        monitor.reset()
        net(spikes(N, C))
        monitor.close()
    assert len(said(caplog)) == 1


# -- hooks of the user's -----------------------------------------------------------------------------


def lesion(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros_like(output[:, :2]), output[:, 2:]], 1)


class Listener(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.heard.append(x.clone())
        return x


def listening() -> tuple[nn.Sequential, Listener]:
    listener = Listener()
    return nn.Sequential(Teller(), listener), listener


def assert_heard(monitor: Monitor, listener: Listener, steps: int) -> None:
    assert np.array_equal(np.stack(monitor.s["0"][:]), torch.stack(listener.heard).numpy())
    assert len(listener.heard) == steps


@pytest.mark.parametrize("when", ["before the monitor", "before enable", "after enable", "while recording"])
@pytest.mark.parametrize(
    "settings", [{}, {"always_call": True}, {"prepend": True}, {"with_kwargs": True}], ids=str
)
def test_what_is_recorded_is_what_the_next_layer_gets_whenever_a_hook_came(
    tmp_path: Path, when: str, settings: dict[str, bool]
) -> None:
    net, listener = listening()

    def add() -> None:
        hook: Any = lesion
        if "with_kwargs" in settings:
            hook = lambda module, inputs, _settings, output: lesion(module, inputs, output)  # noqa: E731
        net[0].register_forward_hook(hook, **settings)

    if when == "before the monitor":
        add()
    monitor = Monitor(net, store=tmp_path / "run.zarr", layers={"0": SpikeOutput()})
    if when == "before enable":
        add()
    monitor.enable()
    if when == "after enable":
        add()
    for step in range(4):
        if when == "while recording" and step == 2:
            add()
        net(torch.ones(N, C))
    monitor.close()
    assert_heard(monitor, listener, 4)
    recorded = np.stack(monitor.s["0"][:])
    assert not recorded[-1, :, :2].any()
    assert "register_forward_hook" not in net[0].__dict__
    assert not any("recorder" in type(hook).__module__ for hook in net[0]._forward_hooks.values())


def test_a_hook_that_removes_itself_and_one_that_adds_another(tmp_path: Path) -> None:
    net, listener = listening()
    with Monitor(net, store=tmp_path / "run.zarr", layers={"0": SpikeOutput()}) as monitor:

        def once(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            handle.remove()
            module.register_forward_hook(lesion)
            return output * 0

        handle = net[0].register_forward_hook(once)
        for _ in range(3):
            net(torch.ones(N, C))
    assert_heard(monitor, listener, 3)
    recorded = np.stack(monitor.s["0"][:])
    assert recorded.sum(axis=(1, 2)).tolist() == [0, N * (C - 2), N * (C - 2)]


def test_a_global_hook_is_seen(tmp_path: Path) -> None:
    net, listener = listening()

    def of_all(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor | None:
        return lesion(module, inputs, output) if module is net[0] else None

    with Monitor(net, store=tmp_path / "run.zarr", layers={"0": SpikeOutput()}) as monitor:
        net(torch.ones(N, C))
        with torch.nn.modules.module.register_module_forward_hook(of_all):
            net(torch.ones(N, C))
    assert_heard(monitor, listener, 2)
    assert np.stack(monitor.s["0"][:]).sum(axis=(1, 2)).tolist() == [N * C, N * (C - 2)]


def test_a_hook_on_a_network_that_is_itself_a_layer_leaves_its_forwards_whole(tmp_path: Path) -> None:
    net = Teller()
    with Monitor(net, store=tmp_path / "run.zarr", layers={"": SpikeOutput()}) as monitor:
        net(torch.ones(N, C))
        net.register_forward_hook(lesion)
        net(torch.ones(N, C))
        monitor.flush()  # refused inside a forward
        assert monitor.stats.steps == 2
    assert np.stack(monitor.s[""][:]).sum(axis=(1, 2)).tolist() == [N * C, N * (C - 2)]


@pytest.mark.parametrize("first_to_go", [0, 1])
def test_two_monitors_leave_a_module_as_it_was(tmp_path: Path, first_to_go: int) -> None:
    net, listener = listening()
    monitors = [Monitor(net, store=tmp_path / f"{n}.zarr", layers={"0": SpikeOutput()}) for n in range(2)]
    for monitor in monitors:
        monitor.enable()
    net[0].register_forward_hook(lesion)
    net(torch.ones(N, C))
    for place in (first_to_go, 1 - first_to_go):
        monitors[place].close()
        assert_heard(monitors[place], listener, 1)
    assert "register_forward_hook" not in net[0].__dict__
    assert len(net[0]._forward_hooks) == 1


def test_copies_of_a_monitored_network_add_hooks_of_their_own(tmp_path: Path) -> None:
    import copy
    import pickle

    net, listener = listening()
    with Monitor(net, store=tmp_path / "run.zarr", layers={"0": SpikeOutput()}) as monitor:
        net(torch.ones(N, C))
        for made in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):  # noqa: S301 - our own
            handle = made[0].register_forward_hook(lesion)
            assert handle.id in made[0]._forward_hooks
            assert handle.id not in net[0]._forward_hooks
            assert not made(torch.ones(N, C))[:, :2].any()
            copy.deepcopy(made)(torch.ones(N, C))
    assert_heard(monitor, listener, 1)
