"""Spikes in arrays of any library become the recording that a monitor would have made of them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.sparse
import torch
import zarr
from torch import nn

import analysis
import recorder
from recorder import Monitor
from recorder.elsewhere import writing
from recorder.stores import Folder
from recorder.tape import TapeReader

# Waiting for the disk takes longer than everything else.
write_recording = partial(recorder.write_recording, durability="process")

STEPS, SAMPLES = 13, 3
SHAPES = {"0": (5,), "1": (2, 3, 3)}


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


def made(seed: int = 0, steps: int = STEPS, samples: int = SAMPLES) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        f"layers.{name}": (random.random((steps, samples, *shape)) < 0.3).astype(np.float32)
        for name, shape in SHAPES.items()
    }


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


def frames(path: Path, layer: str) -> np.ndarray:
    reader = TapeReader.open(Folder(path)).layers[layer]
    return reader.frame_bits(0, reader.frames)


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


def as_h5(values: np.ndarray, path: Path) -> Any:
    file = h5py.File(path / "values.h5", "w")
    return file.create_dataset("values", data=values)


# A way to give [steps, samples, 5] of zeros and ones, the axes to be said, and the dtype that is kept.
WAYS: dict[str, tuple[Callable[[np.ndarray, Path], Any], str | None, str]] = {
    "numpy, bool": (lambda v, _: v > 0, None, "bool"),
    "numpy, uint8, not contiguous": (lambda v, _: np.asfortranarray(v.astype(np.uint8)), None, "uint8"),
    "numpy, big-endian": (lambda v, _: v.astype(">f8"), None, "float64"),
    "numpy, read-only memory map": (lambda v, p: np.load(saved(v, p), mmap_mode="r"), None, "float32"),
    "nested lists": (lambda v, _: v.astype(int).tolist(), "t n c", "int64"),
    "torch": (lambda v, _: torch.from_numpy(v), None, "float32"),
    "torch, with a gradient": (lambda v, _: torch.from_numpy(v).requires_grad_(), None, "float32"),
    "torch, bfloat16": (lambda v, _: torch.from_numpy(v).bfloat16(), None, "bfloat16"),
    "torch, sparse": (lambda v, _: torch.from_numpy(v).to_sparse(), None, "float32"),
    "torch, sparse, samples first": (
        lambda v, _: torch.from_numpy(v).transpose(0, 1).to_sparse(),
        "n t ...",
        "float32",
    ),
    "list of sparse tensors": (lambda v, _: [torch.from_numpy(s).to_sparse() for s in v], None, "float32"),
    "h5py": (as_h5, None, "float32"),
    "zarr": (lambda v, p: zarr.create_array(p / "values.zarr", data=v), None, "float32"),
    "samples first": (lambda v, _: v.transpose(1, 0, 2), "n t ...", "float32"),
    "steps last": (lambda v, _: v.transpose(1, 2, 0), "n c t", "float32"),
    "list of tensors, as snnTorch's tutorials make it": (
        lambda v, _: [torch.from_numpy(step) for step in v],
        None,
        "float32",
    ),
    "tuple of arrays": (lambda v, _: (*v,), "n ...", "float32"),
    "pieces": (lambda v, _: iter([v[:1], v[1:9], v[9:]]), None, "float32"),
    "list of pieces": (lambda v, _: [v[:6], v[6:]], "t n ...", "float32"),
    "iterator of steps": (lambda v, _: iter(v), "n ...", "float32"),
    "iterator of lists of tensors": (
        lambda v, _: ([torch.from_numpy(step) for step in part] for part in (v[:2], v[2:])),
        None,
        "float32",
    ),
}  # fmt: skip


def saved(values: np.ndarray, folder: Path) -> Path:
    np.save(folder / "values.npy", values)
    return folder / "values.npy"


@pytest.mark.parametrize("way", WAYS)
def test_arrays_of_every_library(tmp_path: Path, way: str) -> None:
    values = made()["layers.0"]
    give, axes, dtype = WAYS[way]
    write_recording(tmp_path / "run.zarr", {"0": give(values, tmp_path)}, axes=axes)
    reader = TapeReader.open(Folder(tmp_path / "run.zarr"))
    assert reader.layers["0"].segments().rows.tolist() == [[0, 0, STEPS, SAMPLES, -1]]
    assert (frames(tmp_path / "run.zarr", "0") == values.reshape(-1, 5)).all()
    assert reader.metadata.layers[0].dtype == dtype


# In a process of its own: once jax is imported, it warns of every fork.
JAX = """
import sys
import jax
import numpy as np
from recorder import write_recording
values = np.load(sys.argv[1])
write_recording(sys.argv[2], {"0": jax.numpy.asarray(values)})
write_recording(sys.argv[3], {"0": iter([jax.numpy.asarray(values, "bfloat16")])})
assert "torch" not in sys.modules
"""


def test_arrays_of_jax(tmp_path: Path) -> None:
    values = made()["layers.0"]
    stores = [tmp_path / "a.zarr", tmp_path / "b.zarr"]
    subprocess.run([sys.executable, "-P", "-c", JAX, saved(values, tmp_path), *stores], check=True)
    for store, dtype in zip(stores, ("float32", "bfloat16"), strict=True):
        assert (frames(store, "0") == values.reshape(-1, 5)).all()
        assert TapeReader.open(Folder(store)).metadata.layers[0].dtype == dtype


@pytest.mark.parametrize("make", ["csr_array", "csc_matrix", "coo_array", "lil_array", "dok_array"])
def test_sparse_arrays_are_steps_of_one_sample(tmp_path: Path, make: str) -> None:
    values = made()["layers.0"][:, 0]
    write_recording(tmp_path / "run.zarr", {"0": getattr(scipy.sparse, make)(values)})
    assert (frames(tmp_path / "run.zarr", "0") == values).all()
    steps = [getattr(scipy.sparse, make)(step) for step in made()["layers.0"]]
    write_recording(tmp_path / "steps.zarr", {"0": steps})
    assert (frames(tmp_path / "steps.zarr", "0") == made()["layers.0"].reshape(-1, 5)).all()


@pytest.mark.parametrize("axes", ["t n ...", "n t c", "c n t"])
def test_sparse_arrays_of_several_axes(tmp_path: Path, axes: str) -> None:
    values = made()["layers.0"]
    order = {"t n ...": (0, 1, 2), "n t c": (1, 0, 2), "c n t": (2, 1, 0)}[axes]
    array = scipy.sparse.coo_array(values.transpose(order))
    write_recording(tmp_path / "run.zarr", {"0": array}, axes=axes)
    assert (frames(tmp_path / "run.zarr", "0") == values.reshape(-1, 5)).all()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_two_entries_of_a_sparse_array_in_one_place_are_two(tmp_path: Path, dtype: type) -> None:
    array = scipy.sparse.coo_array((np.ones(3, dtype), ([0, 4, 4], [1, 2, 2])), shape=(6, 3))
    if dtype is bool:
        # Two are no boolean.
        with pytest.raises(ValueError, match="from 2"):
            write_recording(tmp_path / "run.zarr", {"0": array})
    else:
        write_recording(tmp_path / "run.zarr", {"0": array})
        assert analysis.open_recording(tmp_path / "run.zarr")["0"].values.values[4].tolist() == [0, 0, 2]
    assert array.nnz == 3  # of the user's array nothing was changed


def test_a_single_sample_and_a_single_neuron(tmp_path: Path) -> None:
    values = made()["layers.1"]
    write_recording(tmp_path / "a.zarr", {"1": values[:, 0]}, axes="t ...")
    assert (frames(tmp_path / "a.zarr", "1") == values[:, 0]).all()
    write_recording(tmp_path / "b.zarr", {"1": values[:, :, 0, 0, 0]}, axes={"1": "t n"})
    reader = TapeReader.open(Folder(tmp_path / "b.zarr")).layers["1"]
    assert reader.plan.neuron_shape == ()
    assert (frames(tmp_path / "b.zarr", "1") == values[:, :, 0, 0, 0].ravel()).all()
    write_recording(tmp_path / "c.zarr", {"1": values[0, 0]}, axes="...")
    assert (frames(tmp_path / "c.zarr", "1") == values[0, :1]).all()


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


def test_large_arrays_are_read_some_steps_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OnDisk:
        """An array of which more than a few steps at once are refused."""

        def __init__(self, values: np.ndarray) -> None:
            self.values, self.shape, self.dtype = values, values.shape, values.dtype

        def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
            read = self.values[key]
            assert read.size <= 5 * SAMPLES * 4
            return read

    monkeypatch.setattr(writing, "ROUND_SLOTS", 5 * SAMPLES * 4)
    values = made(steps=50)["layers.0"]
    write_recording(tmp_path / "run.zarr", {"0": OnDisk(values.transpose(1, 2, 0))}, axes="n c t")
    assert (frames(tmp_path / "run.zarr", "0") == values.reshape(-1, 5)).all()


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


def test_minus_zero_is_zero_and_a_boolean_of_any_byte_is_true(tmp_path: Path) -> None:
    odd = np.array([0, 1, 2, 255], np.uint8).view(np.bool_).reshape(1, 1, 4)
    write_recording(tmp_path / "a.zarr", {"1": odd, "2": np.array([[[-0.0, 0.0, 1.0]]])})
    assert frames(tmp_path / "a.zarr", "1").tolist() == [[False, True, True, True]]
    assert frames(tmp_path / "a.zarr", "2").tolist() == [[False, False, True]]


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
