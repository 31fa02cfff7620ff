"""Spikes in arrays of any library become the recording that a monitor would have made of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import analysis
from given_arrays import SAMPLES, SHAPES, STEPS, frames, made, write_recording
from recorder import Monitor
from recorder.elsewhere import writing


class Given(nn.Module):
    """Puts out what it is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Network(nn.Module):
    """Runs its layers on spikes that are there already."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Given() for _ in SHAPES)

    def forward(self, spikes: dict[str, torch.Tensor]) -> None:
        for layer, values in zip(self.layers, spikes.values(), strict=True):
            layer(values)


def monitored(path: Path, trials: list[dict[str, np.ndarray]], labels: list[Any] | None = None) -> str:
    """Digest of what a monitor records of these spikes."""
    net = Network()
    with Monitor(net, layers=[Given], store=path, durability="process") as monitor:
        for number, spikes in enumerate(trials):
            steps = [
                {name: torch.from_numpy(values[step]) for name, values in spikes.items()}
                for step in range(len(spikes["layers.0"]))
            ]
            if labels is None:
                for step in steps:
                    net(step)
            else:
                with monitor.trial(label=labels[number], epoch=number // 2):
                    for step in steps:
                        net(step)
    return analysis.open_recording(path).digest()


def test_the_digest_is_that_of_the_monitor(tmp_path: Path) -> None:
    spikes = made()
    path = tmp_path / "written.zarr"
    assert write_recording(path, spikes) == str(path)
    written = analysis.open_recording(path)
    assert written.digest() == monitored(tmp_path / "recorded.zarr", [spikes])
    for name, values in spikes.items():
        assert (frames(path, name) == values.reshape(-1, *values.shape[2:])).all()


@pytest.mark.parametrize(
    ("factor", "dtype"), [(3, "int16"), (-1, "float32"), (0.25, "float32"), (1 / 3, "float16")]
)
def test_values_are_those_of_the_monitor(tmp_path: Path, factor: float, dtype: str) -> None:
    """Rounds of one step each, so that they begin as zeros and ones, or grow."""
    random = np.random.default_rng(0)
    spikes = {name: values * random.integers(1, 5, values.shape) for name, values in made().items()}
    for values in spikes.values():
        values[0, 0].flat[0] = 1
        if factor == 3:
            values[:4] = values[:4] > 0
    spikes = {name: (values * factor).astype(dtype) for name, values in spikes.items()}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(writing, "ROUND_SLOTS", 1)
        write_recording(tmp_path / "written.zarr", spikes)
    written = analysis.open_recording(tmp_path / "written.zarr")
    for name, values in spikes.items():
        layer = written[name]
        assert layer.values.dtype == dtype
        np.testing.assert_array_equal(layer.values.values.reshape(values.shape), values)
    assert written.digest() == monitored(tmp_path / "monitored.zarr", [spikes])
    half = {name: values[: STEPS // 2] for name, values in spikes.items()}
    write_recording(tmp_path / "two.zarr", half)
    rest = {name: values[STEPS // 2 :] for name, values in spikes.items()}
    write_recording(tmp_path / "two.zarr", rest, append=True)
    assert analysis.open_recording(tmp_path / "two.zarr").digest() == written.digest()


def test_the_digest_is_that_of_the_monitor_with_trials_and_labels(tmp_path: Path) -> None:
    trials = [made(seed, steps=seed + 3, samples=seed % 2 + 2) for seed in range(5)]
    labels = [["a", "b"], [None, "a", 1], "c", [True, 1, 1.0], ["b", "b"]]
    path = tmp_path / "written.zarr"
    write_recording(
        path,
        {name: iter([trial[name] for trial in trials]) for name in trials[0]},
        labels=iter(labels),
        trials=({"epoch": number // 2} for number in range(5)),
    )
    assert analysis.open_recording(path).digest() == monitored(tmp_path / "recorded.zarr", trials, labels)


def test_one_array_with_labels_is_one_trial(tmp_path: Path) -> None:
    spikes = made()
    path = tmp_path / "written.zarr"
    write_recording(path, spikes, labels=np.arange(SAMPLES), trials={"epoch": 0})
    assert analysis.open_recording(path).digest() == monitored(
        tmp_path / "recorded.zarr", [spikes], [np.arange(SAMPLES)]
    )


def test_what_is_kept_with_the_recording(tmp_path: Path) -> None:
    write_recording(
        tmp_path / "run.zarr",
        made(),
        dt=0.5,
        dt_unit="ms",
        licence="MIT",
        citation="Doe",
        metadata={"chip": 3},
    )
    kept = analysis.open_recording(tmp_path / "run.zarr").provenance
    facts = {"dt": 0.5, "dt_unit": "ms", "licence": "MIT", "citation": "Doe", "metadata": {"chip": 3}}
    assert {name: kept[name] for name in facts} == facts
    assert "network" not in kept


def test_layers_in_pieces_of_different_lengths_are_never_ahead_of_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spikes = made(steps=60)
    at = dict.fromkeys(spikes, 0)
    ahead = []

    def pieces(name: str, length: int) -> Any:
        for first in range(0, 60, length):
            at[name] = first
            ahead.append(max(at.values()) - min(at.values()))
            yield spikes[name][first : first + length]

    monkeypatch.setattr(writing, "ROUND_SLOTS", 100)
    path = tmp_path / "run.zarr"
    write_recording(path, {"layers.0": pieces("layers.0", 4), "layers.1": pieces("layers.1", 15)})
    assert max(ahead) <= 15
    assert analysis.open_recording(path).digest() == monitored(tmp_path / "recorded.zarr", [spikes])


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape)


@pytest.mark.parametrize(
    ("layers", "options", "error", "message"),
    [
        ({"1": zeros(3, 2)}, {}, ValueError, r"layer '1' is an array of shape \[3, 2\].*axes='t \.\.\.'"),
        ({"1": [zeros(3, 2, 2)] * 2}, {}, ValueError, "one step each, or several.*axes='n ...'"),
        ({"1": iter([zeros(2, 2)])}, {}, ValueError, r"shape \[2, 2\], and which of its axes"),
        ({"1": [zeros(3, 2), zeros(2, 2)]}, {}, ValueError, r"shapes, such as \[2, 2\] and \[3, 2\]"),
        ({"1": zeros(3, 2, 2)}, {"axes": "n t"}, ValueError, r"shape \[3, 2, 2\], which is not 'n t'"),
        ({"1": zeros(3, 2, 2)}, {"axes": "(t n) ..."}, ValueError, "reshape the array first"),
        ({"1": zeros(3, 2, 2)}, {"axes": {"2": "t n ..."}}, ValueError, "axes names '2'"),
        ({"1": zeros(3, 0, 2)}, {}, ValueError, "3 steps of 0 samples"),
        ({"1": zeros(3, 2, 2).astype("U1")}, {}, ValueError, "layer '1' has dtype str"),
        ({"1": zeros(3, 2, 2).astype(np.uint32)}, {}, ValueError, "has dtype uint32; spikes can be recorded"),
        ({"1": "abc"}, {}, TypeError, "layer '1' is a str; expected an array"),
        ({"1": 3}, {}, TypeError, "layer '1' is a int"),
        ({"1": iter([3])}, {}, TypeError, "has a piece that is a int"),
        ({"1": {"step": [0]}}, {}, TypeError, r"give EventTable\(table, neurons="),
        ({}, {}, TypeError, "expected a mapping from names"),
        (zeros(3, 2, 2), {}, TypeError, "expected a mapping from names"),
        ({"1": iter([zeros(1, 1, 2), zeros(1, 1, 3)])}, {}, ValueError, r"neuron shape \(3,\), but \(2,\)"),
        ({"1": zeros(3, 2, 2), "2": zeros(4, 2, 2)}, {}, ValueError, "'1' has no more steps, but layer '2'"),
        ({"1": zeros(3, 2, 2)}, {"labels": [1, 2, 3]}, ValueError, "3 values, but each step .* batch of 2"),
        ({"1": iter([zeros(3, 2, 2)] * 2)}, {"labels": [[1, 2]]}, ValueError, "labels has 1 items"),
        ({"1": iter([zeros(3, 2, 2)])}, {"labels": [[1, 2], 3]}, ValueError, "labels has more items"),
        ({"1": iter([zeros(3, 2, 2)])}, {"labels": 3}, TypeError, "an item for each piece"),
        ({"1": iter([zeros(3, 2, 2)])}, {"trials": {"a": 3}}, TypeError, "iterable of mappings"),
        ({"1": iter([zeros(3, 2, 2)])}, {"trials": [3]}, TypeError, "trials holds 3; expected mappings"),
        (
            {"1": iter([zeros(3, 2, 2)]), "2": zeros(3, 2, 2)}, {"labels": [1]}, ValueError,
            "layer '1' is given in pieces, which are trials, and layer '2' as one array",
        ),
        (
            {"1": iter([zeros(3, 2, 2)] * 2), "2": iter([zeros(2, 2, 2), zeros(4, 2, 2)])}, {"trials": True},
            ValueError, "different lengths at trial 0, in steps: '1' 3, '2' 2",
        ),
        ({"1": zeros(3, 2, 2)}, {"overwrite": True, "resume": True}, ValueError, "choose one"),
        ({"1": zeros(3, 2, 2)}, {"commit_interval": 0}, ValueError, "positive number of seconds"),
        ({"1": zeros(3, 2, 2)}, {"dt": 1}, ValueError, "a duration needs both"),
        ({"x" * 2000: zeros(3, 2, 2)}, {}, ValueError, "has 2000 characters"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, layers: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        write_recording(tmp_path / "run.zarr", layers, **options)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(40_000, "40000.0"), (0.618034, "0.618034"), (-0.7301, "-0.7301"), (np.nan, "nan"), (np.inf, "inf")],
)
def test_other_values_are_an_error_that_says_where(tmp_path: Path, value: float, shown: str) -> None:
    values = made()["layers.1"].astype(np.float64)
    values[7, 2, 1, 0, 2] = value
    expected = f"the first of them {shown}, of sample 2, neuron (1, 0, 2), step 7. If a value counts as one"
    with pytest.raises(ValueError, match=re.escape(expected)):
        write_recording(tmp_path / "run.zarr", {"layers.1": values})


def test_the_lists_of_a_tutorial_of_snntorch(tmp_path: Path) -> None:
    import snntorch

    class Net(nn.Module):
        """As in the tutorials: the spikes of each layer in a list, step by step."""

        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.lif1 = nn.Linear(7, 9), snntorch.Leaky(beta=0.9)
            self.fc2, self.lif2 = nn.Linear(9, 4), snntorch.Leaky(beta=0.8)

        def forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
            mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
            spk1_rec, spk2_rec = [], []
            for _ in range(STEPS):
                spk1, mem1 = self.lif1(self.fc1(x), mem1)
                spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
                spk1_rec.append(spk1)
                spk2_rec.append(spk2)
            return spk1_rec, spk2_rec

    torch.manual_seed(0)
    net = Net()
    targets = torch.tensor([3, 1, 2, 0])
    monitor = Monitor(net, store=tmp_path / "recorded.zarr", durability="process")
    with monitor, monitor.trial(label=targets):
        spk1_rec, spk2_rec = net(torch.rand(4, 7) * 4)
    assert sum(spikes.sum() for spikes in spk2_rec) > 0
    write_recording(tmp_path / "written.zarr", {"lif1": spk1_rec, "lif2": spk2_rec}, labels=targets)
    one, other = (analysis.open_recording(tmp_path / f"{name}.zarr") for name in ("recorded", "written"))
    assert one.digest() == other.digest()
