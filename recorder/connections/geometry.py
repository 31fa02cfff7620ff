"""How many weights of a layer each place of its input meets: exact at borders, with stride and dilation.

Along one axis of a convolution, the place ``i`` of the input meets the place ``k`` of the kernel once for
each place of the output that both make up: ``o * stride + k * dilation == i + padding``. Axes are
independent, so that the operations of a place are a sum of products; where no weight counts for nothing, a
product of sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Uses = NDArray[np.int64]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
WEIGHT_LAYERS = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)
# What F.pad calls the modes of a convolution, and what numpy calls them.
_PADDING = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class Weights(NamedTuple):
    """The operations that each place of an input causes, and what they were made of.

    Attributes
    ----------
    operations, nonzero : int64 array
        Along the last axes of the input: operations of a place that is not 0, all weights counted or only
        those that are not 0. An axis has length 1 where all of its places cause as many.
    kind : str
    stride, dilation : tuple of int
    padding : tuple of (int, int)
    padding_mode : str
    groups : int
    """

    operations: Uses
    nonzero: Uses
    kind: str
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    padding_mode: str = "zeros"
    dilation: tuple[int, ...] = ()
    groups: int = 1


@dataclass(frozen=True)
class _Axis:
    """One spatial axis of a convolution: sizes of input and output, and its settings."""

    size: int
    output: int
    kernel: int
    stride: int
    dilation: int
    before: int
    behind: int


def weights_of(module: nn.Module, shape: torch.Size, output_shape: torch.Size) -> Weights | None:
    """The operations of a weight layer, given the shapes of one input and its output.

    Returns
    -------
    Weights or None
        None where the shapes are not those that a module of its kind makes, as where a subclass does
        something else.
    """
    if isinstance(module, nn.Linear):
        if not _fits_linear(module, shape, output_shape):
            return None
        nonzero = _numbers(torch.count_nonzero(module.weight.detach(), dim=0))
        return Weights(np.array([module.out_features], np.int64), reduced(nonzero), "Linear")
    axes = _spatial_axes(module, shape, output_shape)
    return None if axes is None else _convolution(module, axes)


def uses_of(module: nn.Module, shape: torch.Size, output_shape: torch.Size) -> list[Uses] | None:
    """For each spatial axis, how often each place of an input meets each place of the kernel.

    Returns
    -------
    list of int64 array, shape [size, kernel], or None
        None where the shapes are not those that a module of its kind makes, as `weights_of`; empty for a
        linear one.
    """
    if isinstance(module, nn.Linear):
        return [] if _fits_linear(module, shape, output_shape) else None
    axes = _spatial_axes(module, shape, output_shape)
    return None if axes is None else _uses_along(module, axes)


def _fits_linear(module: nn.Linear, shape: torch.Size, output_shape: torch.Size) -> bool:
    if len(shape) == 0 or shape[:-1] != output_shape[:-1]:
        return False
    return shape[-1] == module.in_features and output_shape[-1] == module.out_features


def _spatial_axes(module: Any, shape: torch.Size, output_shape: torch.Size) -> list[_Axis] | None:
    spatial = len(module.kernel_size)
    if len(shape) <= spatial or len(shape) != len(output_shape):
        return None
    if shape[-spatial - 1] != module.in_channels or output_shape[-spatial - 1] != module.out_channels:
        return None
    if shape[: -spatial - 1] != output_shape[: -spatial - 1]:
        return None
    return _axes_of(module, shape[-spatial:], output_shape[-spatial:])


def _uses_along(module: Any, axes: list[_Axis]) -> list[Uses]:
    if isinstance(module, TRANSPOSED):
        return [_transposed_uses(axis) for axis in axes]
    return [_uses(axis, module.padding_mode) for axis in axes]


def _axes_of(module: Any, sizes: torch.Size, outputs: torch.Size) -> list[_Axis] | None:
    """The spatial axes of a convolution; None if its output has other sizes than they make."""
    axes = []
    for axis, (size, output) in enumerate(zip(sizes, outputs, strict=True)):
        kernel, stride, dilation = module.kernel_size[axis], module.stride[axis], module.dilation[axis]
        reach = dilation * (kernel - 1)
        if module.padding == "same":
            before, behind = reach // 2, reach - reach // 2
        elif module.padding == "valid":
            before = behind = 0
        else:
            before = behind = module.padding[axis]
        if isinstance(module, TRANSPOSED):
            least = (size - 1) * stride - before - behind + reach + 1
            if not least <= output < least + max(stride, dilation):
                return None
        elif output != (size + before + behind - reach - 1) // stride + 1:
            return None
        axes.append(_Axis(size, output, kernel, stride, dilation, before, behind))
    return axes


def _convolution(module: Any, axes: list[_Axis]) -> Weights:
    transposed = isinstance(module, TRANSPOSED)
    each = _uses_along(module, axes)
    total = reduce(np.multiply.outer, (uses.sum(axis=1) for uses in each))
    operations = module.out_channels // module.groups * total[None]
    return Weights(
        reduced(operations),
        reduced(_nonzero_operations(module, each, transposed)),
        ("ConvTranspose" if transposed else "Conv") + f"{len(axes)}d",
        tuple(axis.stride for axis in axes),
        tuple((axis.before, axis.behind) for axis in axes),
        module.padding_mode,
        tuple(axis.dilation for axis in axes),
        module.groups,
    )


def _uses(axis: _Axis, mode: str) -> Uses:
    """How often each place of an input meets each place of the kernel: int64 [size, kernel]."""
    # For each place behind padding, the place of the input that lies there; -1 where there is a 0.
    places = np.arange(axis.size)
    if mode == "zeros":
        padded = np.pad(places, (axis.before, axis.behind), constant_values=-1)
    else:
        padded = np.pad(places, (axis.before, axis.behind), _PADDING[mode])  # type: ignore[call-overload]
    met = np.arange(axis.output)[:, None] * axis.stride + np.arange(axis.kernel) * axis.dilation
    uses = np.zeros((axis.size, axis.kernel), np.int64)
    for kernel in range(axis.kernel):
        found = padded[met[:, kernel]]
        np.add.at(uses[:, kernel], found[found >= 0], 1)
    return uses


def _transposed_uses(axis: _Axis) -> Uses:
    places = np.arange(axis.size)[:, None] * axis.stride + np.arange(axis.kernel) * axis.dilation
    reached = places - axis.before
    return ((reached >= 0) & (reached < axis.output)).astype(np.int64)


def _nonzero_operations(module: Any, each: list[Uses], transposed: bool) -> Uses:
    """Operations of each place, weights of 0 left out: int64 [channels, *sizes]."""
    found = _numbers(nonzero_weights(module, transposed=transposed))
    if (found == found.flat[0]).all() and len(found):
        found = found[:1]
    for uses in each:
        # The kernel axis in front goes, the spatial axis comes last.
        found = np.tensordot(found, uses, axes=([1], [1]))
    return found


def nonzero_weights(module: Any, *, transposed: bool) -> torch.Tensor:
    """Weights of a convolution that are not 0 and meet an input channel: int64 [in_channels, *kernel]."""
    present: torch.Tensor = module.weight.detach() != 0
    groups, in_channels = module.groups, module.in_channels
    kernel = present.shape[2:]
    if transposed:  # [in, out / groups, *kernel]
        return present.sum(dim=1)
    # [out, in / groups, *kernel]
    apart = present.reshape(groups, module.out_channels // groups, in_channels // groups, *kernel)
    return apart.sum(dim=1).reshape(in_channels, *kernel)


def _numbers(tensor: torch.Tensor) -> Uses:
    return tensor.to("cpu", torch.int64).numpy()


def reduced(array: Uses) -> Uses:
    """The same with length 1 along each axis along which all values are equal."""
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if (array == first).all():
            array = first
    return array


def total_operations(weights: Uses, shape: torch.Size) -> int:
    """Operations of an input of ones of this shape."""
    ones = [1 if kept > 1 else size for kept, size in zip(weights.shape, shape[-weights.ndim :], strict=True)]
    return int(weights.sum()) * math.prod(ones) * math.prod(shape[: len(shape) - weights.ndim])
