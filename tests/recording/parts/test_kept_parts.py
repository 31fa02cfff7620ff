"""A monitor keeps the neurons, samples and trials that it is told to, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import analysis
from analysis.keeping import find_problems
from networks import Threshold
from recorder import Monitor, NeuronShapeError, Signal, SpikeOutput, SpikeValueError
from recorder.format.record.parts import kept_indices
from recorder.stores import Folder, open_store
from recorder.tape import TapeReader
from recorder.tape.layers.levels import read_levels

SHAPE = (4, 5, 3)
NAME = "layer"
EVEN = {NAME: np.s_[:, ::2, 1:]}


class Network(nn.Module):
    """One layer that puts out what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def monitor_of(path: Path, *, axes: str = "n ...", **options: Any) -> tuple[Monitor, Network]:
    net = Network()
    layers = {NAME: SpikeOutput(axes)}
    return Monitor(net, layers=layers, store=path, durability="process", **options), net


def made(steps: int, samples: int, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return (torch.rand(steps, samples, *SHAPE) < 0.4).float()


def record(path: Path, trials: list[torch.Tensor], *, axes: str = "n ...", **options: Any) -> Monitor:
    monitor, net = monitor_of(path, axes=axes, **options)
    with monitor:
        for number, spikes in enumerate(trials):
            with monitor.trial(label=number):
                if axes == "n ...":
                    for step in spikes:
                        net(step)
                else:
                    net(spikes)
    return monitor


def stored(path: Path) -> np.ndarray:
    layer = TapeReader.open(Folder(path)).layers[NAME]
    return layer.frame_bits(0, layer.frames)


@pytest.mark.parametrize("axes", ["n ...", "t n ..."])
@pytest.mark.parametrize(
    "index",
    [
        np.s_[:, ::2, 1:],
        np.s_[1,],
        np.s_[1],
        np.s_[..., 0],
        np.s_[::-1, 2],
        [3, 17, 59],
        np.s_[[0, 3], 1:, :],
        np.array([3, 17, 59]),
        np.arange(np.prod(SHAPE)) % 7 == 0,
    ],
)
def test_the_neurons_are_those_that_numpy_takes_by_the_index(tmp_path: Path, index: Any, axes: str) -> None:
    spikes = made(7, 3)
    monitor = record(tmp_path / "run", [spikes], axes=axes, neurons={NAME: index})
    commit = TapeReader.open(Folder(tmp_path / "run")).layers[NAME].commit
    every = np.arange(spikes[0, 0].numel())
    chosen = np.unique((every.reshape(SHAPE) if isinstance(index, tuple | int) else every)[index])
    assert commit.shape == SHAPE
    assert commit.part is not None
    assert kept_indices(SHAPE, commit.part.neurons).tolist() == chosen.tolist()
    expected = spikes.numpy().astype(bool).reshape(21, -1)[:, chosen]
    assert (stored(tmp_path / "run").reshape(21, -1) == expected).all()
    assert monitor.get_avg_firing_rate() == expected.sum() / expected.size
    assert monitor.get_nonfire_ratio() == (expected.sum(0) == 0).mean()
    assert (np.stack(monitor.s[NAME][:]).reshape(21, -1) == expected).all()


def test_an_index_of_all_neurons_is_a_whole_layer(tmp_path: Path) -> None:
    record(tmp_path / "run", [made(3, 2)], neurons=np.s_[:, :, ::1], trials_every=1)
    assert TapeReader.open(Folder(tmp_path / "run")).metadata.format_version == 1


@pytest.mark.parametrize("axes", ["n ...", "t n ..."])
def test_the_first_samples_of_each_batch_are_kept_however_large_it_is(tmp_path: Path, axes: str) -> None:
    trials = [made(300, 5), made(4, 2, seed=1), made(4, 3, seed=2)]
    record(tmp_path / "run", trials, axes=axes, samples={NAME: 3})
    expected = np.concatenate([spikes[:, :3].reshape(-1, *SHAPE).numpy() for spikes in trials])
    assert (stored(tmp_path / "run") == expected).all()
    labels = analysis.open_recording(tmp_path / "run").trials
    assert labels.trial.values.tolist() == [0] * 5 + [1] * 2 + [2] * 3


def test_labels_of_samples_that_are_left_out_must_fit_too(tmp_path: Path) -> None:
    monitor, net = monitor_of(tmp_path / "run", samples=1)
    with monitor, monitor.trial(label=[1, 2, 3]):
        net(made(1, 3)[0])
        with pytest.raises(ValueError, match="has 3 values, but each step of the trial has a batch of 2"):
            net(made(1, 2)[0])


def test_every_kth_trial_is_kept_whole_and_what_is_outside_of_trials(tmp_path: Path) -> None:
    monitor, net = monitor_of(tmp_path / "run", trials_every={nn.Identity: 3})
    steps = made(5 * 2 + 2, 2)
    with monitor:
        for number in range(5):
            with monitor.trial(label=number):
                net(steps[2 * number])
                net(steps[2 * number + 1])
        net(steps[10])
        net(steps[11])
    layer = TapeReader.open(Folder(tmp_path / "run")).layers[NAME]
    assert layer.segments().rows.tolist() == [[0, 0, 2, 2, 0], [4, 6, 2, 2, 3], [8, 10, 2, 2, -1]]
    expected = steps[[0, 1, 6, 7, 10, 11]].reshape(-1, *SHAPE).numpy()
    assert (stored(tmp_path / "run") == expected).all()
    recording = analysis.open_recording(tmp_path / "run")
    assert recording.trials.label.values.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_signals_are_left_out_with_the_trials_of_their_layer(tmp_path: Path) -> None:
    steps = [made(4, 3), made(4, 3), made(4, 3)]
    signals = Signal("input", samples=2)
    record(tmp_path / "run", steps, trials_every=2, neurons=[1], samples=1, signals=signals)
    signal = TapeReader.open(Folder(tmp_path / "run")).layers[NAME].signals["input"]
    assert signal.segments().rows.tolist() == [[0, 0, 4, 2, 0], [8, 8, 4, 2, 2]]
    assert signal.commit.plan.neuron_shape == SHAPE


def test_a_part_is_resumed_and_another_one_refused(tmp_path: Path) -> None:
    path, spikes = tmp_path / "run", made(9, 2)
    options: dict[str, Any] = {"neurons": EVEN, "samples": 1, "trials_every": 2}
    record(path, [spikes], **options)
    for change in ({"neurons": {NAME: [3]}}, {"samples": None}, {"trials_every": 3}, {"keep": "counts"}):
        with pytest.raises(ValueError, match=r"was recorded with a part, .*would go on with"):
            monitor_of(path, resume=True, **{**options, **change})
    record(path, [spikes, spikes], resume=True, **options)
    once = spikes[:, :1].reshape(-1, *SHAPE).numpy()[:, :, ::2, 1:]
    # Trial 1 is left out.
    assert (stored(path) == np.concatenate([once, once])).all()
    assert not find_problems(TapeReader.open(open_store(path, read_only=True)))


@pytest.mark.parametrize("index", [np.s_[::2, 1:, :], [0, 3, 17, 59]])
def test_values_of_a_part_are_kept_as_those_of_a_whole_layer(
    tmp_path: Path, small_chunks: None, index: Any
) -> None:
    path = tmp_path / "run"
    # The second trial that is kept has more planes than the first, and the one after it more again.
    trials = [
        torch.randint(least, most + 1, (70, 4, *SHAPE), generator=torch.Generator().manual_seed(most)).float()
        for least, most in [(0, 1), (0, 9), (0, 3), (0, 2), (-6, 6), (0, 1)]
    ]
    options: dict[str, Any] = {"neurons": {NAME: index}, "samples": 3, "trials_every": 2}
    for begin in (0, 4):
        monitor, net = monitor_of(path, resume=begin > 0, **options)
        with monitor:
            for spikes in trials[begin : begin + 4]:
                with monitor.trial():
                    for step, each in enumerate(spikes):
                        net(each)
                        if step % 31 == 5:
                            monitor.flush()
    flat = np.concatenate([spikes[:, :3].reshape(-1, *SHAPE).numpy() for spikes in trials[::2]])
    kept = flat[:, *index] if isinstance(index, tuple) else flat.reshape(len(flat), -1)[:, index]
    layer = TapeReader.open(Folder(path)).layers[NAME]
    assert {*layer.planes} == {"0", "1", "2", "sign"}
    assert np.array_equal(read_levels(layer, 0, layer.frames), kept)
    assert np.array_equal(layer.totals()[1], np.count_nonzero(kept.reshape(len(kept), -1), axis=0))
    values = analysis.open_recording(path)[NAME].values
    assert np.array_equal(np.asarray(values).reshape(kept.shape), kept)
    assert not find_problems(TapeReader.open(open_store(path, read_only=True)))


def test_a_monitor_that_is_closed_enabled_and_reset_keeps_the_part(tmp_path: Path) -> None:
    monitor, net = monitor_of(tmp_path / "run", neurons=EVEN)
    steps = made(3, 2)
    for _ in range(2):
        monitor.enable()
        net(steps[0])
        monitor.close()
    monitor.enable()
    net(steps[1])
    assert len(monitor.s[NAME]) == 3
    monitor.reset()
    net(steps[2])
    monitor.close()
    assert (stored(tmp_path / "run") == steps[2].numpy()[:, :, ::2, 1:]).all()


def test_what_a_layer_never_puts_out_is_refused_at_its_first_call(tmp_path: Path) -> None:
    monitor, net = monitor_of(tmp_path / "run", neurons={NAME: np.s_[:, 9]})
    with monitor, pytest.raises(NeuronShapeError, match=r"does not fit layer 'layer', .*\(4, 5, 3\)"):
        net(made(1, 2)[0])
    monitor, net = monitor_of(tmp_path / "warned", neurons={NAME: [60]}, on_error="warn")
    with monitor, pytest.warns(match="does not fit layer 'layer'"):
        net(made(1, 2)[0])


def test_another_shape_is_refused_though_the_kept_neurons_are_there(tmp_path: Path) -> None:
    monitor, net = monitor_of(tmp_path / "run", neurons={NAME: [0, 1]})
    with monitor:
        net(made(1, 2)[0])
        with pytest.raises(NeuronShapeError, match=r"\(4, 5, 2\) at step 1, but \(4, 5, 3\) before"):
            net(made(1, 2)[0][..., :2])


def test_an_error_among_values_names_the_neuron_in_the_whole_layer(tmp_path: Path) -> None:
    monitor, net = monitor_of(tmp_path / "run", neurons=EVEN)
    values = made(1, 2)[0]
    values[1, 3, 1, 0] = 0.3  # not kept, and not looked at
    with monitor:
        net(values)
        values[1, 3, 4, 2] = 0.3
        with pytest.raises(SpikeValueError, match=r"sample 1, neuron \(3, 4, 2\)"):
            net(values)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"neurons": {"other": [0]}}, ValueError, "'other' is no recorded layer"),
        ({"samples": 0}, ValueError, "samples is 0; expected a whole number from 1 on"),
        ({"trials_every": 1.5}, ValueError, "trials_every is 1.5; expected a whole number"),
        ({"trials_every": True}, ValueError, "trials_every is True"),
        ({"keep": {NAME: "rates"}}, ValueError, "keep is 'rates'; expected 'spikes', or 'counts'"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_recorded(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        monitor_of(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_the_monitor_shows_and_plans_the_part(tmp_path: Path) -> None:
    monitor, net = monitor_of(tmp_path / "run", neurons=EVEN, samples=2, trials_every=4)
    with monitor, monitor.trial():
        net(made(1, 8)[0])
        kept = "24 of 60 neurons, samples 0 to 1 of each batch, one of 4 trials"
        assert f"kept in part: {kept}" in repr(monitor)
        assert monitor.plan.bytes_per_step == 24 * 2 / 8 / 4


def test_gathered_outputs_of_a_part_are_those_that_came(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold())
    steps = torch.rand(700, 4, 6)
    options: dict[str, Any] = {"neurons": np.s_[1::2], "samples": 3, "store": tmp_path / "run"}
    with Monitor(net, layers=[Threshold], durability="process", **options) as monitor:
        for step in steps:
            net(step)
    expected = (steps[:, :3, 1::2] > 0.5).reshape(-1, 3).numpy()
    layer = TapeReader.open(Folder(tmp_path / "run")).layers["0"]
    assert (layer.frame_bits(0, layer.frames) == expected).all()
    assert monitor.get_avg_firing_rate() == expected.mean()


def test_lists_of_several_axes_stand_for_all_combinations_as_in_select(tmp_path: Path) -> None:
    chosen = [0, -1], slice(None), [2, 0]
    record(tmp_path / "part", [made(3, 2)], neurons={NAME: chosen})
    record(tmp_path / "whole", [made(3, 2)])
    part = TapeReader.open(Folder(tmp_path / "part")).layers[NAME]
    every = np.arange(60).reshape(SHAPE)[np.ix_([0, 3], range(5), [0, 2])]
    np.testing.assert_array_equal(kept_indices(SHAPE, part.commit.part.neurons), every.ravel())
    kept = analysis.open_recording(tmp_path / "part").firing_rate().compute()
    selected = (
        analysis.open_recording(tmp_path / "whole").layers[NAME].select(neurons=([0, 3], slice(None), [0, 2]))
    )
    assert float(kept) == float(selected.firing_rate().compute())


@pytest.mark.parametrize("index", [([[0, 1], [1, 2]], [0, 1], 0), ([0, 9], [1, 2]), ([0], [1], [2], [0])])
def test_lists_that_stand_for_no_neurons_are_refused(tmp_path: Path, index: Any) -> None:
    monitor, net = monitor_of(tmp_path / "run", neurons={NAME: index})
    with (
        monitor,
        pytest.raises(NeuronShapeError, match=r"does not fit layer 'layer', whose neurons have the"),
    ):
        net(made(1, 2)[0])


@pytest.mark.filterwarnings("ignore::recorder.format.errors.UncalledLayersWarning")
@pytest.mark.parametrize("keep", ["spikes", "counts"])
def test_a_layer_first_called_in_a_trial_that_is_left_out_is_recorded_from_the_next_one_on(
    tmp_path: Path, keep: str
) -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.always, self.rarely = nn.Identity(), nn.Identity()

        def forward(self, x: torch.Tensor, *, rarely: bool) -> None:
            self.always(x)
            if rarely:
                self.rarely(x)

    net, x = Branches(), made(1, 3)[0]
    layers = {name: SpikeOutput("n ...") for name in ("always", "rarely")}
    path, options = tmp_path / "run", {"trials_every": 2, "neurons": [3, 17], "keep": keep}
    with Monitor(net, layers=layers, store=path, signals="output", **options) as monitor:
        for trial in range(4):
            with monitor.trial(label=trial):
                net(x, rarely=trial > 0)
            monitor.flush()
    recording = analysis.open_recording(path)
    assert recording["always"].spike_count("trial").trial.values.tolist() == [0, 2]
    counts = recording["rarely"].spike_count(("trial", "sample", "neuron"))
    assert counts.trial.values.tolist() == [2]
    assert np.array_equal(counts.values[0], x.flatten(1)[:, [3, 17]])
    assert recording["rarely"].signals["output"].values.step.values.tolist() == [2, 2, 2]
