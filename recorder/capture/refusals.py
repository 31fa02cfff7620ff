"""Errors for outputs that cannot be recorded."""

from __future__ import annotations

import math

import torch

from recorder.format.record.metadata import DTYPES, MAX_RANK


class LayerError(ValueError):
    """A layer put out what cannot be recorded as its spikes.

    Attributes
    ----------
    layer : str
        Name of the layer.
    """

    def __init__(self, message: str, layer: str = "") -> None:
        super().__init__(message)
        self.layer = layer


class SpikeValueError(LayerError):
    """A layer put out values other than 0 and 1, and other than whole multiples of one scale."""


class NeuronShapeError(LayerError):
    """A layer put out frames of another shape than before, or of one that cannot be recorded."""


def no_values(layer: str) -> SpikeValueError:
    """Error for a layer that put out a tensor without values."""
    return SpikeValueError(
        f"layer {layer!r} put out a tensor on the meta device, which holds no values; disable() the monitor "
        "while shapes are tried out",
        layer,
    )


def other_shape(layer: str, shape: tuple[int, ...], known: tuple[int, ...], step: int) -> NeuronShapeError:
    """Error for a layer that put out frames of another shape than before."""
    return NeuronShapeError(
        f"layer {layer!r} put out frames of neuron shape {shape} at step {step}, but {known} before; a "
        "recording holds one shape for each layer. Record inputs of another size into another store",
        layer,
    )


def check_recordable(layer: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Raise unless frames of this neuron shape and data type can be recorded."""
    if math.prod(shape) < 1 or len(shape) > MAX_RANK:
        raise NeuronShapeError(
            f"layer {layer!r} put out frames of neuron shape {shape}; expected at least one neuron, "
            f"along at most {MAX_RANK} axes. Leave the layer out with layers=...",
            layer,
        )
    if str(dtype).removeprefix("torch.") not in DTYPES:
        raise SpikeValueError(
            f"layer {layer!r} put out dtype {dtype}; spikes can be recorded from {', '.join(DTYPES)}",
            layer,
        )
