"""What cannot be recorded, and the errors that say so."""

from __future__ import annotations

import math

import torch

from recorder.format.metadata import DTYPES, MAX_RANK


class SpikeValueError(ValueError):
    """A layer put out values other than 0 and 1."""


class NeuronShapeError(ValueError):
    """A layer put out frames of another shape than before, or of one that cannot be recorded."""


def check_recordable(layer: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Raise unless frames of this neuron shape and data type can be recorded."""
    if math.prod(shape) < 1 or len(shape) > MAX_RANK:
        raise NeuronShapeError(
            f"layer {layer!r} put out frames of neuron shape {shape}; expected at least one neuron, "
            f"along at most {MAX_RANK} axes. Leave the layer out with layers=..."
        )
    if str(dtype).removeprefix("torch.") not in DTYPES:
        raise SpikeValueError(
            f"layer {layer!r} put out dtype {dtype}; spikes can be recorded from {', '.join(DTYPES)}"
        )
