"""Pieces of what is to be recorded: some steps of one layer, whatever library their values are of.

A piece is read some steps at a time, so that an array on a disk or a device need not fit into memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recorder.format.record.metadata import DTYPES
from recorder.patterns import AxesError, Pattern

Values = NDArray[Any]


class Piece(Protocol):
    """Steps of one layer that follow each other, with one batch size.

    Attributes
    ----------
    shape : tuple of int
        ``(steps, samples, *neuron)``.
    dtype : str
        One of those that recordings know.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102

    @property
    def dtype(self) -> str: ...  # noqa: D102

    def read(self, first: int, last: int) -> Values:
        """Steps ``first`` to ``last`` (exclusive) of the piece: ``[last - first, samples, *neuron]``.

        Of some pieces, steps can only be read in order, each once.
        """
        ...


class ArrayPiece:
    """A piece that is one array: of numpy, torch, jax, h5py, zarr, or another that is indexed alike.

    Parameters
    ----------
    array : array
    pattern : Pattern
        What its axes are; none is folded.
    """

    def __init__(self, array: Any, pattern: Pattern) -> None:
        least, most = pattern.ndims
        if not least <= len(array.shape) <= most:
            raise AxesError(
                f"has shape {list(array.shape)}, which is not {str(pattern)!r} ({pattern.show_shape()})"
            )
        self._array, self._pattern = array, pattern
        self._steps_axis = pattern.axes_of(len(array.shape))[0]
        self.dtype = dtype_of(array)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """``(steps, samples, *neuron)``."""
        # Of an array that takes no memory.
        shape = np.broadcast_to(np.empty(()), tuple(map(int, self._array.shape)))
        return self._pattern.arrange_array(shape).shape

    def read(self, first: int, last: int) -> Values:
        """Steps of the piece; see `Piece`."""
        array = self._array
        if self._steps_axis >= 0:
            array = array[(slice(None),) * self._steps_axis + (slice(first, last),)]
        return self._pattern.arrange_array(to_numpy(array))


class StepsPiece:
    """A piece that is a list of arrays, one for each step.

    Parameters
    ----------
    arrays : sequence of arrays
        All of one shape.
    pattern : Pattern
        What the axes of each are; none is steps.
    """

    def __init__(self, arrays: Sequence[Any], pattern: Pattern) -> None:
        shapes = {tuple(array.shape) for array in arrays}
        if len(shapes) > 1:
            shown = " and ".join(str(list(shape)) for shape in sorted(shapes)[:2])
            raise AxesError(
                f"is a list of arrays of different shapes, such as {shown}; a list holds one for each step. "
                "Give an iterator, such as iter(list), if they are pieces"
            )
        self._arrays, self._pattern = arrays, pattern
        self._one = ArrayPiece(arrays[0], pattern)
        self.dtype = self._one.dtype
        self.shape = (len(arrays), *self._one.shape[1:])

    def read(self, first: int, last: int) -> Values:
        """Steps of the piece; see `Piece`."""
        steps = (self._pattern.arrange_array(to_numpy(array)) for array in self._arrays[first:last])
        return np.concatenate([*steps])


class SparsePiece:
    """A piece that is a sparse array of scipy or torch; only the steps that are read become dense.

    Parameters
    ----------
    array : sparse array, matrix or tensor
    pattern : Pattern
        What its axes are; none is folded.
    """

    def __init__(self, array: Any, pattern: Pattern) -> None:
        as_dense = ArrayPiece(array, pattern)
        self.dtype, self.shape = as_dense.dtype, as_dense.shape
        coords, values = _entries(array)
        # Where each axis of the array is in [T, N, *neuron]: axes of size 1 that it has not are left out.
        axes = pattern.axes_of(len(array.shape))
        place = np.zeros(len(values), np.int64)
        for size, axis in zip(self.shape, axes, strict=True):
            place = place * size + (coords[axis] if axis >= 0 else 0)
        order = np.argsort(place, kind="stable")
        place, values = place[order], values[order]
        starts = np.flatnonzero(np.diff(place, prepend=-1))
        if len(starts) < len(place):
            # Entries of one place are added up, as scipy does it, but for two of True, which are two.
            values = np.add.reduceat(values.astype(np.int64) if values.dtype == bool else values, starts)
        self._places, self._values = place[starts], values

    def read(self, first: int, last: int) -> Values:
        """Steps of the piece; see `Piece`."""
        frame = int(np.prod(self.shape[1:], dtype=np.int64))
        begin, end = np.searchsorted(self._places, [first * frame, last * frame])
        dense = np.zeros((last - first) * frame, self._values.dtype)
        dense[self._places[begin:end] - first * frame] = self._values[begin:end]
        return dense.reshape(last - first, *self.shape[1:])


def is_sparse(array: Any) -> bool:
    """True for sparse arrays, matrices and tensors of scipy and torch, which need not be imported."""
    if hasattr(array, "detach"):
        return str(array.layout) != "torch.strided"
    return hasattr(array, "tocoo") and hasattr(array, "nnz")


def _entries(array: Any) -> tuple[Sequence[NDArray[Any]], Values]:
    """Places along each axis, and values, of the entries of a sparse array."""
    if hasattr(array, "detach"):
        entries = array.detach().cpu().to_sparse(len(array.shape)).coalesce()
        return entries.indices().numpy(), to_numpy(entries.values())
    entries = array.tocoo()
    places = entries.coords if hasattr(entries, "coords") else (entries.row, entries.col)
    return places, np.asarray(entries.data)


def dtype_of(array: Any) -> str:
    """Data type by the name that recordings have for it; ValueError if they have none."""
    name = str(array.dtype)
    if name.startswith("torch."):
        name = name.removeprefix("torch.")
    elif name not in DTYPES:
        name = np.dtype(array.dtype).name
    if name not in DTYPES:
        raise AxesError(f"has dtype {name}; spikes can be recorded from {', '.join(DTYPES)}")
    return name


def to_numpy(array: Any) -> Values:
    """The values of an array, in host memory."""
    if hasattr(array, "detach"):  # of torch, wherever it lies
        array = array.detach().cpu()
        array = array.to_dense() if is_sparse(array) else array
        # numpy has no bfloat16
        return np.asarray((array.float() if dtype_of(array) == "bfloat16" else array).numpy())
    return np.asarray(array.toarray() if is_sparse(array) else array)
