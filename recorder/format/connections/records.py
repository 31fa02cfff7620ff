"""Which weight layers read the output of a recorded layer, and the fan-out of each neuron: records and JSON.

A fan-out is how many weights one event of a neuron meets in a layer that reads it. It stands in the commit
record as one number, as a product of numbers along the neuron axes (of a convolution, whose borders differ),
or, where it is neither, as a compressed array. FORMAT.md, section "Connections", says how.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.format.chunks import decode_rows, encode_rows
from recorder.format.errors import RecordingFormatError

MAX_FAN_OUT: Final = 2**32 - 1
# Text of one array in the commit record, which every commit writes again.
MAX_STORED_CHARACTERS: Final = 2**20
# Factors along one axis that are listed; a recorder stores fan-outs with more of them as an array.
MAX_FACTORS: Final = 2**12


@dataclass(frozen=True)
class FanOut:
    """The fan-out of each neuron of a layer in one of its readers.

    Attributes
    ----------
    times : int
        What every neuron has; the number itself where there is nothing else.
    along : tuple of tuple of int or None
        For each neuron axis, factors by index, or None where they are all 1. Empty where no axis has any.
    stored : str
        Where fan-outs are no such product: base64 of a stored chunk, as of a small array, of uint32, in C
        order. Otherwise empty.
    """

    times: int = 1
    along: tuple[tuple[int, ...] | None, ...] = ()
    stored: str = ""

    @classmethod
    def of_array(cls, array: NDArray[np.int64]) -> FanOut | None:
        """What stands for the fan-outs of all neurons, int64 in their shape; None if it would be too long."""
        if array.size == 0 or array.min() < 0 or array.max() > MAX_FAN_OUT:
            return None
        if (array == array.flat[0]).all():
            return cls(int(array.flat[0]))
        product = _as_product(array)
        if product is not None:
            return product
        rows = array.astype(np.uint32).ravel()
        text = base64.b64encode(encode_rows(rows, len(rows))).decode("ascii")
        return cls(stored=text) if len(text) <= MAX_STORED_CHARACTERS else None

    @property
    def is_constant(self) -> bool:
        """True if it is ``times`` for every neuron."""
        return not self.along and not self.stored

    def array(self, neuron_shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Fan-out of each neuron, int64 in the shape of the neurons.

        Raises
        ------
        RecordingFormatError
            If what is stored is not of this shape, or damaged.
        """
        if self.stored:
            neurons = math.prod(neuron_shape)
            try:
                stored = base64.b64decode(self.stored, validate=True)
            except (binascii.Error, ValueError) as error:
                raise RecordingFormatError(f"a stored fan-out is no base64: {error}") from error
            rows = decode_rows(stored, neurons, (), "uint32")
            return rows.astype(np.int64).reshape(neuron_shape)
        array = np.full(neuron_shape, self.times, np.int64)
        if self.along and len(self.along) != len(neuron_shape):
            raise RecordingFormatError(f"a fan-out is along {len(self.along)} axes, not {len(neuron_shape)}")
        for axis, factors in enumerate(self.along):
            if factors is not None:
                if len(factors) != neuron_shape[axis]:
                    raise RecordingFormatError(
                        f"a fan-out has {len(factors)} factors along an axis of {neuron_shape[axis]} neurons"
                    )
                shape = [-1 if other == axis else 1 for other in range(len(neuron_shape))]
                array = array * np.array(factors, np.int64).reshape(shape)
        return array

    def to_json(self) -> Any:
        """The value in the commit record."""
        if self.stored:
            return {"stored": self.stored}
        if self.is_constant:
            return self.times
        return {"times": self.times, "along": [None if each is None else [*each] for each in self.along]}


def _as_product(array: NDArray[np.int64]) -> FanOut | None:
    """A number times one factor for each index along the axes, if the array is such a product."""
    place = tuple(map(int, np.unravel_index(int(array.argmax()), array.shape)))
    slices = []
    for axis in range(array.ndim):
        through: Any = (*place[:axis], slice(None), *place[axis + 1 :])
        slices.append(array[through])
    # Of a product of whole numbers, each slice through one place is a multiple of the factors along its axis.
    along = [each // max(int(np.gcd.reduce(each)), 1) for each in slices]
    at_place = math.prod(int(factors[index]) for factors, index in zip(along, place, strict=True))
    if max(array.shape) > MAX_FACTORS:
        return None
    kept = tuple(None if (each == 1).all() else tuple(map(int, each)) for each in along)
    product = FanOut(int(array[place]) // at_place, kept)
    return product if (product.array(array.shape) == array).all() else None


@dataclass(frozen=True)
class Reader:
    """One weight layer, as it was in the forward that showed what it reads.

    Attributes
    ----------
    name : str
        PyTorch module name.
    kind : str
        ``"Linear"``, ``"Conv2d"``, ``"ConvTranspose2d"`` and so on, whatever library it is of.
    weight_shape : tuple of int
    stride, dilation : tuple of int
        One for each spatial axis; empty for ``Linear``, as the next.
    padding : tuple of (int, int)
        Before and behind.
    padding_mode : str
    groups : int
    fan_out : FanOut
        Of the neurons of the layer that it reads.
    nonzero_fan_out : FanOut, optional
        The same with weights that were 0 left out; None if it would be too long to keep.
    """

    name: str
    kind: str
    weight_shape: tuple[int, ...]
    fan_out: FanOut
    nonzero_fan_out: FanOut | None
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    padding_mode: str = "zeros"
    dilation: tuple[int, ...] = ()
    groups: int = 1

    def to_json(self) -> dict[str, Any]:
        """The reader as JSON values."""
        nonzero = None if self.nonzero_fan_out is None else self.nonzero_fan_out.to_json()
        return {
            "name": self.name,
            "kind": self.kind,
            "weight_shape": [*self.weight_shape],
            "stride": [*self.stride],
            "padding": [[*each] for each in self.padding],
            "padding_mode": self.padding_mode,
            "dilation": [*self.dilation],
            "groups": self.groups,
            "fan_out": self.fan_out.to_json(),
            "nonzero_fan_out": nonzero,
        }


@dataclass(frozen=True)
class InputReader:
    """A weight layer that reads the input of the network.

    Attributes
    ----------
    name, kind : str
        As of a `Reader`.
    operations, frames : int
        It does ``operations`` in a forward whose layers have so many ``frames``, each input and each weight
        counted, whatever their values.
    nonzero_operations : int
        The same, with weights that were 0 left out.
    is_binary : bool
        Whether its input held nothing but 0 and 1.
    """

    name: str
    kind: str
    operations: int
    nonzero_operations: int
    frames: int
    is_binary: bool

    def to_json(self) -> dict[str, Any]:
        """The reader as JSON values."""
        return {
            "name": self.name,
            "kind": self.kind,
            "operations": self.operations,
            "nonzero_operations": self.nonzero_operations,
            "frames": self.frames,
            "is_binary": self.is_binary,
        }


@dataclass(frozen=True)
class Connections:
    """What one forward has shown of who reads whom.

    Attributes
    ----------
    layers : mapping of str to tuple of Reader
        Recorded layers that were called, and the weight layers that read their output directly.
    inputs : tuple of InputReader
        Weight layers that read the input of the network.
    uncovered : mapping of str to str
        Weight layers that read anything else, and products that no weight layer makes, such as those of
        attention: what they read, or what they are. No count of spikes says how many operations they do.
    """

    layers: Mapping[str, tuple[Reader, ...]] = field(default_factory=dict)
    inputs: tuple[InputReader, ...] = ()
    uncovered: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The value in the commit record."""
        return {
            "layers": {name: [one.to_json() for one in readers] for name, readers in self.layers.items()},
            "inputs": [reader.to_json() for reader in self.inputs],
            "uncovered": dict(self.uncovered),
        }
