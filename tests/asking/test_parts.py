"""What was kept of a layer is answered as the same part of the whole; what was not is an error."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from click.testing import CliRunner

import analysis
import recorder
from analysis.arguments import QuestionError
from analysis.cli import commands
from analysis.glimpses import rates_at_a_glance
from networks import Threshold
from recorder import SpikeDataset

write_recording = partial(recorder.write_recording, durability="process")

SHAPE = (4, 5, 3)
TRIALS, STEPS, SAMPLES = 6, 7, 4
SLICES, FLAT = np.s_[1:, ::2, 1], [0, 7, 8, 31, 59]
CHOSEN = {"slices": SLICES, "flat": FLAT}
LABELS = [[trial % 3, 1, 2, 0] for trial in range(TRIALS)]

Ask = Callable[[Any], Any]


def spikes() -> list[np.ndarray]:
    random = np.random.default_rng(7)
    driven = random.random(SHAPE) < 0.8
    return [(random.random((STEPS, SAMPLES, *SHAPE)) < 0.3) & driven for _ in range(TRIALS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same spikes, whole and in parts."""
    folder = tmp_path_factory.mktemp("parts")
    for name, part in {
        "whole": {},
        "slices": {"neurons": SLICES},
        "flat": {"neurons": {"a": FLAT}},
        "samples": {"samples": {"a": 3}},
        "trials": {"trials_every": 2},
        "all": {"neurons": SLICES, "samples": 2, "trials_every": 2},
    }.items():
        write_recording(folder / name, {"a": iter(spikes())}, labels=LABELS, **part)
    return folder


def opened(path: Path) -> Any:
    return analysis.open_recording(path)["a"]


STATISTICS: dict[str, Ask] = {
    "rate": lambda layer: layer.firing_rate(per=("label", "neuron")),
    "silent": lambda layer: layer.silent_ratio(per="trial"),
    "saturated": lambda layer: layer.saturated_ratio(),
    "count": lambda layer: layer.spike_count(per=("step", "neuron")),
    "total": lambda layer: layer.spike_count(per="presentation"),
    "intervals": lambda layer: layer.isi_mean(per="neuron"),
    "latency": lambda layer: layer.latency(per="neuron"),
    "fano": lambda layer: layer.fano_factor(per="neuron"),
    "synchrony": lambda layer: layer.synchrony(),
    "information": lambda layer: layer.information(per="neuron"),
    "selectivity": lambda layer: layer.selectivity(per="neuron"),
    "dimension": lambda layer: layer.participation_ratio(),
    "correlation": lambda layer: layer.correlation(),
    "spikes": lambda layer: layer.spikes,
    "values": lambda layer: layer.values,
}


@pytest.mark.parametrize("name", STATISTICS)
def test_a_layer_kept_in_part_is_asked_like_that_part_of_the_whole(folder: Path, name: str) -> None:
    ask = STATISTICS[name]
    whole = opened(folder / "whole")
    for kept, part in {
        "slices": whole.select(neurons=SLICES),
        "samples": whole.select(samples=slice(3)),
        "trials": whole.select(trials=slice(None, None, 2)),
        "all": whole.select(neurons=SLICES, samples=[0, 1], trials=[0, 2, 4]),
    }.items():
        found, expected = (ask(layer).compute() for layer in (opened(folder / kept), part))
        xr.testing.assert_identical(found, expected)


def test_flat_indices_are_the_coordinates_of_neurons_along_one_axis(folder: Path) -> None:
    layer = opened(folder / "flat")
    expected = np.stack(spikes()).reshape(-1, np.prod(SHAPE))[:, FLAT]
    found = layer.firing_rate(per="neuron").compute()
    assert found.neuron.values.tolist() == FLAT
    np.testing.assert_array_equal(found, expected.sum(0) / len(expected))
    np.testing.assert_array_equal(layer.spikes.compute(), expected)
    assert layer.spikes.neuron.values.tolist() == FLAT
    some = layer.select(neurons=slice(5, 40))
    assert some.firing_rate(per="neuron").neuron.values.tolist() == [7, 8, 31]
    np.testing.assert_array_equal(some.spikes.compute(), expected[:, 1:4])


def test_neurons_are_selected_by_their_indices_in_the_whole_layer(folder: Path) -> None:
    chosen = opened(folder / "slices").select(neurons=np.s_[2, :, 1])
    expected = np.stack(spikes()).reshape(-1, *SHAPE)[:, 2:3, ::2, 1:2]
    np.testing.assert_array_equal(chosen.spikes.compute(), expected)
    assert chosen.spikes.height.values.tolist() == [0, 2, 4]
    assert opened(folder / "slices").select(channels=[1, 3]).neuron_shape == (2, 3, 1)
    rates = chosen.firing_rate(per="neuron")
    np.testing.assert_array_equal(rates, expected.sum(0) / len(expected))
    assert rates.compute().coords["channel"].values.tolist() == [2]


@pytest.mark.parametrize(
    ("kept", "ask", "message"),
    [
        ("slices", lambda layer: layer.select(neurons=np.s_[0, 0, 0]), "no neuron .* 9 neurons were kept"),
        ("slices", lambda layer: layer.select(channels=0), r"of which 9 neurons were kept, \[1:4:1, 0:5:2"),
        ("flat", lambda layer: layer.firing_rate(per="channel"), "kept, .* as flat indices in C order"),
        ("flat", lambda layer: layer.select(neurons=np.s_[0, 0, 0]), "5 neurons were kept, .* as flat"),
        ("trials", lambda layer: layer.select(trials=[0, 3]).isi_mean(), "trial 3 .* is a multiple of 2"),
        ("trials", lambda layer: layer.select(trials=slice(3, 4)).spikes, "trial 3 .* is a multiple of 2"),
        ("samples", lambda layer: layer.select(samples=slice(3, 4)).firing_rate(), None),
        ("slices", lambda layer: layer.accuracy(), "takes all neurons .* 9 neurons were kept"),
    ],
)
def test_what_was_not_kept_is_an_error_that_says_what_was(
    folder: Path, kept: str, ask: Ask, message: str | None
) -> None:
    if message is None:
        # Three samples are there, and none of them is selected: there is nothing to be said.
        assert np.isnan(float(ask(opened(folder / kept))))
        return
    with pytest.raises(QuestionError, match=message):
        ask(opened(folder / kept))


def test_layers_of_which_other_neurons_were_kept_are_neither_compared_nor_joined(folder: Path) -> None:
    whole, part = (analysis.open_recording(folder / name) for name in ("whole", "slices"))
    with pytest.raises(QuestionError, match="not the same neurons"):
        analysis.compare(whole, part)
    with pytest.raises(ValueError, match="9 of 60 neurons in the second"):
        analysis.open_recording([folder / "whole", folder / "slices"])


def test_differences_between_parts_are_named_by_real_indices(folder: Path, tmp_path: Path) -> None:
    changed = spikes()
    changed[1][3, 2, 3, 4, 1] ^= True
    write_recording(tmp_path / "other", {"a": iter(changed)}, labels=LABELS, neurons=SLICES)
    found = analysis.compare(
        analysis.open_recording(folder / "slices"), analysis.open_recording(tmp_path / "other")
    )
    assert found.first is not None
    assert (found.first.trial, found.first.time, found.first.sample) == (1, 3, 2)
    assert found.first.neuron == (3, 4, 1)
    differing = found.layers["a"].only_a + found.layers["a"].only_b
    assert int(differing.sel(channel=3, height=4, width=1)) == 1


def test_presentations_that_were_left_out_are_no_items_of_a_dataset(folder: Path) -> None:
    dataset = SpikeDataset(folder / "all", layers="a")
    assert [(c["trial"], c["sample"]) for _, c in dataset] == [(t, s) for t in (0, 2, 4) for s in (0, 1)]
    for found, columns in dataset:
        expected = spikes()[columns["trial"]][:, columns["sample"]][:, *SLICES][..., None]
        assert torch.equal(found, torch.from_numpy(expected.astype(np.float32)))


def test_recordings_say_what_was_kept(folder: Path) -> None:
    text = "9 of 60 neurons, samples 0 to 1 of each batch, one of 2 trials"
    recording = analysis.open_recording(folder / "all")
    for shown in (
        repr(recording),
        repr(recording["a"]),
        recording._repr_html_(),
        recording["a"]._repr_html_(),
    ):
        assert text in shown
    assert text in CliRunner().invoke(commands.main, ["info", str(folder / "all")]).output
    part = recording["a"].part
    assert part is not None
    assert (part.shape, part.kept_shape, part.samples, part.trials_every) == (SHAPE, (3, 3, 1), 2, 2)


# -- counts alone -----------------------------------------------------------------------------------------


COUNTED: dict[str, Ask] = {
    **{
        f"{what} per {per}": lambda layer, what=what, per=per: getattr(layer, what)(per=per)
        for what in ("firing_rate", "silent_ratio", "saturated_ratio", "spike_count")
        for per in ("trial", "sample", "presentation", "label", "neuron", "channel", ("label", "neuron"),
                    ("trial", "sample", "channel"))
    },
    "rates": lambda layer: layer.rate_histogram(),
    "fano": lambda layer: layer.fano_factor(per="neuron"),
    "information": lambda layer: layer.information(per="neuron"),
    "selectivity": lambda layer: layer.selectivity(per="neuron"),
    "sparseness": lambda layer: layer.sparseness(),
    "dimension": lambda layer: layer.participation_ratio(),
    "features": lambda layer: layer.features(),
    "of some": lambda layer: layer.select(
        trials=[1, 2, 5], samples=[0, 3], neurons=np.s_[1:, ::2], labels=[0, 1]
    ).firing_rate(per=("label", "neuron")),
    "of samples": lambda layer: layer.select(samples=2).silent_ratio(per="trial"),
}  # fmt: skip


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The same spikes, as bits and as counts."""
    folder = tmp_path_factory.mktemp("counts")
    for name, keep in {"bits": "spikes", "counts": "counts"}.items():
        given = (frames[..., 0] for frames in spikes())
        write_recording(folder / name, {"a": given}, labels=LABELS, keep=keep)
    return opened(folder / "bits"), opened(folder / "counts")


@pytest.mark.parametrize("name", COUNTED)
def test_counts_answer_as_bits_do(counted: tuple[Any, Any], name: str) -> None:
    bits, counts = (COUNTED[name](layer).compute() for layer in counted)
    xr.testing.assert_identical(counts, bits)


@pytest.mark.parametrize(
    "ask",
    [
        lambda layer: layer.isi_mean(),
        lambda layer: layer.isi_histogram(longest=4),
        lambda layer: layer.latency(),
        lambda layer: layer.autocorrelation(),
        lambda layer: layer.synchrony(),
        lambda layer: layer.active_histogram(),
        lambda layer: layer.correlation(),
        lambda layer: layer.spikes,
        lambda layer: layer.values,
        lambda layer: layer.firing_rate(per="step"),
        lambda layer: layer.firing_rate(per="window", window=3),
        lambda layer: layer.silent_ratio(per="time"),
        lambda layer: layer.select(steps=slice(0, 3)).firing_rate(),
        lambda layer: layer.select(time=slice(0, 3)).firing_rate(),
        lambda layer: analysis.compare(layer, layer),
    ],
)
def test_what_counts_do_not_tell_is_an_error_that_says_what_was_kept(
    counted: tuple[Any, Any], ask: Ask
) -> None:
    with pytest.raises(QuestionError, match=r"of layer 'a' counts were kept: how often each neuron fired"):
        ask(counted[1])


def test_a_network_is_asked_for_layers_of_bits_and_of_counts_together(tmp_path: Path) -> None:
    layers = {"a": spikes()[0], "b": spikes()[1][..., 0]}
    write_recording(tmp_path / "bits", layers, trials=True, dt=1, dt_unit="ms")
    write_recording(tmp_path / "mixed", layers, trials=True, keep={"a": "counts"}, dt=1, dt_unit="ms")
    bits, mixed = (analysis.open_recording(tmp_path / name) for name in ("bits", "mixed"))
    for per in ("network", "layer", "trial", ("layer", "presentation")):
        found = analysis.compute(mixed.firing_rate(per=per), mixed.silent_ratio(per=per))
        expected = analysis.compute(bits.firing_rate(per=per), bits.silent_ratio(per=per))
        for one, other in zip(found, expected, strict=True):
            xr.testing.assert_identical(one, other)
    some = mixed.select(layers="b").firing_rate(per="step")
    xr.testing.assert_identical(some.compute(), bits.select(layers="b").firing_rate(per="step").compute())
    with pytest.raises(QuestionError, match="of layer 'a' counts were kept"):
        mixed.firing_rate(per="step")


def test_operations_are_told_from_counts_and_of_kept_neurons(tmp_path: Path) -> None:
    def recorded(name: str, **options: Any) -> Any:
        torch.manual_seed(1)
        net = torch.nn.Sequential(
            Threshold(), torch.nn.Conv2d(2, 3, 3, padding=1), Threshold(), torch.nn.Flatten(),
            torch.nn.Linear(75, 4),
        )  # fmt: skip
        path = tmp_path / name
        with recorder.Monitor(
            net, store=path, layers=[Threshold], durability="process", **options
        ) as monitor:
            for number in range(3):
                with torch.no_grad(), monitor.trial(label=number):
                    net(torch.rand(4, 2, 5, 5))
        return analysis.open_recording(path)

    whole, counts = recorded("whole"), recorded("counts", keep="counts")
    for per in ("layer", "label", ("layer", "trial")):
        found = counts.synaptic_operations(per=per, uncovered="leave out").compute()
        xr.testing.assert_identical(
            found, whole.synaptic_operations(per=per, uncovered="leave out").compute()
        )
    index = np.s_[:, ::2, 1]
    part = recorded("part", neurons={"0": index})
    with pytest.raises(QuestionError, match=r"'1' \(reads all of layer '0', of which 6 neurons were kept"):
        part["0"].synaptic_operations()
    expected = whole["0"].select(neurons=index).synaptic_operations(uncovered="leave out").compute()
    with pytest.warns(analysis.UncoveredOperationsWarning, match="'0', of which 6 neurons were kept"):
        assert part["0"].synaptic_operations(uncovered="leave out").compute().values == expected.values
    chosen = part["0"].select(neurons=np.s_[1, :, :]).synaptic_operations(uncovered="leave out")
    whole_chosen = whole["0"].select(neurons=np.s_[1, ::2, 1]).synaptic_operations(uncovered="leave out")
    assert int(chosen) == int(whole_chosen)


def test_the_small_picture_of_a_layer_of_counts_has_its_rates(counted: tuple[Any, Any]) -> None:
    rates, why = rates_at_a_glance([counted[1].sources])
    each = counted[1].firing_rate(per="presentation").compute().values
    assert why == ""
    # 24 presentations of one length, each of which has a place.
    np.testing.assert_allclose(rates["a"], each)


def test_neurons_kept_by_slices_and_by_flat_indices_are_compared(tmp_path: Path) -> None:
    one, other = (trials[0] for trials in (spikes(), spikes()))
    other = other ^ (np.random.default_rng(1).random(other.shape) < 0.1)
    chosen = np.arange(60).reshape(SHAPE)[SLICES].ravel().tolist()
    for name, values, neurons in (("a", one, SLICES), ("b", other, chosen), ("c", other, chosen[:-1])):
        write_recording(tmp_path / name, {"1": values}, neurons={"1": neurons})
    a, b, c = (analysis.open_recording(tmp_path / name) for name in "abc")
    differ = (one ^ other)[..., *SLICES]
    for pair in ((a, b), (b, a)):
        found = analysis.compare(*pair)
        assert found.layers["1"].differing == np.count_nonzero(differ)
        assert found.first is not None
        first = found.first
        neuron = first.neuron[0] if len(first.neuron) == 1 else np.ravel_multi_index(first.neuron, SHAPE)
        assert (one ^ other).reshape(STEPS, SAMPLES, -1)[first.step, first.sample, neuron]
    with pytest.raises(QuestionError, match="which are not the same neurons"):
        analysis.compare(a, c)


@pytest.mark.parametrize("part", [{"samples": {"a": 2}}, {"trials_every": {"a": 2}}])
def test_pooled_layers_of_which_other_frames_were_kept_are_warned_of(
    tmp_path: Path, part: dict[str, Any]
) -> None:
    path = tmp_path / "run"
    write_recording(path, {"a": iter(spikes()), "b": iter(spikes())}, labels=LABELS, **part)
    recording = analysis.open_recording(path)
    for ask in (recording.firing_rate, recording.spike_count, recording.isi_mean):
        with pytest.warns(analysis.PooledPartsWarning, match="of 'a'; all of 'b'.*per='layer'"):
            ask(per="label")
        ask(per=("layer", "label"))
    for selected in (
        recording.select(layers="a"),
        recording.select(samples=[0, 1], trials=[0, 2, 4]),
        recording.select(samples=slice(0, 2), trials=range(0, 6, 2)),
    ):
        selected.firing_rate()
    printed = CliRunner().invoke(commands.main, ["stats", str(path), "--per", "label"])
    assert printed.exit_code == 0
    assert "not the same samples or trials" in printed.stderr


def test_layers_of_which_the_same_frames_were_kept_are_pooled(tmp_path: Path) -> None:
    layers = {"a": iter(spikes()), "b": iter(spikes())}
    part = {"samples": 2, "trials_every": 2, "neurons": {"a": FLAT}}
    write_recording(tmp_path / "run", layers, labels=LABELS, **part)
    recording = analysis.open_recording(tmp_path / "run")
    assert recording.firing_rate().compute() > 0
