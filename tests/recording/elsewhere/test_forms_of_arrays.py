"""Arrays of any library, with axes in any order, sparse or in pieces, are recorded as what they hold."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.sparse
import torch
import zarr

import analysis
from given_arrays import SAMPLES, STEPS, frames, made, write_recording
from recorder.elsewhere import writing
from recorder.stores import Folder
from recorder.tape import TapeReader


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


def test_minus_zero_is_zero_and_a_boolean_of_any_byte_is_true(tmp_path: Path) -> None:
    odd = np.array([0, 1, 2, 255], np.uint8).view(np.bool_).reshape(1, 1, 4)
    write_recording(tmp_path / "a.zarr", {"1": odd, "2": np.array([[[-0.0, 0.0, 1.0]]])})
    assert frames(tmp_path / "a.zarr", "1").tolist() == [[False, True, True, True]]
    assert frames(tmp_path / "a.zarr", "2").tolist() == [[False, False, True]]
