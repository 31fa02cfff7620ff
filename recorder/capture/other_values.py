"""Describe values that cannot be recorded in an error: one of them, its place, how many, what helps."""

from __future__ import annotations

import math

import numpy as np
import torch

from recorder.capture.device.packing import Verdict
from recorder.format.planes.scales import ROUNDING
from recorder.format.planes.values import MAX_LEVEL
from recorder.format.record.parts import LayerPart, indices_along

_BUT_FOR_ROUNDING = (
    "It puts out 0 and 1 but for rounding, as h + x - x.detach() does: Monitor(..., threshold=0.5) takes "
    "what is nearer to 1 for a spike"
)
_BY_HEIGHT = (
    "If a value counts as one spike from some height on, say which: Monitor(..., threshold=...); with "
    'signals="output" the analog values are recorded beside these spikes, too'
)


_OF_COUNTS = "Counts are kept of zeros and ones only: record other values without keep='counts'"


def describe_others(
    what: str,
    found: torch.Tensor | Verdict,
    steps: range,
    shape: tuple[int, ...],
    hint: str,
    scale: float | None = None,
    dtype: str = "",
    part: LayerPart | None = None,
) -> str:
    """Text about an output that cannot be recorded, to follow "the layer put out".

    Parameters
    ----------
    what : str
        The range and type of these values.
    found : tensor, shape [T, N, *neuron] or [N, *neuron], or Verdict
        The output, in host memory; or what has come of it to the host.
    steps : range
        Which steps the output is, T of them.
    shape : tuple of int
        ``(N, *neuron)``.
    hint : str
        What is known of the layer's class.
    scale : float, optional
        Of a layer with other values than 0 and 1: of what its values were whole multiples so far.
    dtype : str, optional
        Data type of the layer's first output, in which values are given back.
    part : LayerPart, optional
        The part of a layer that the output is.
    """
    known_scale = "" if scale is None else f", {scale:g} so far"
    if isinstance(found, torch.Tensor):
        values = found.detach().reshape(-1)
        is_other = (values != 0) & (values != 1) if scale is None else _is_no_multiple(values, scale, dtype)
        first = int(is_other.view(torch.uint8).argmax())
        others, which = int(is_other.sum()), f"such as {_value_text(values[first])}"
    else:
        values, is_other = torch.tensor([found.value]), torch.tensor([True])
        others, first, which = found.others, found.first, "the first of them"
    size = len(steps) * math.prod(shape)
    place = f"{others} of these {size} values are not, {which} {_place_text(first, steps, shape, part)}"
    where = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"
    advice = _advice(values.double(), is_other)
    if part and part.counts_only:
        advice = f"{_OF_COUNTS}. {advice}".removesuffix(". ")
    changed = _of_other_type(found, dtype) if isinstance(found, torch.Tensor) else ""
    known = "".join(f"{sentence}. " for sentence in (hint, advice) if sentence)
    return (
        f"{what}, at {where}; spikes are 0 or 1, or whole multiples of one scale{known_scale}, and {place}. "
        f"{changed}{'' if changed else known}If this is not a spiking layer, leave it out with layers=..."
    )


def _is_no_multiple(values: torch.Tensor, scale: float, dtype: str) -> torch.Tensor:
    wide = values.double()
    given_back: torch.Tensor = (torch.round(wide / scale) * scale).to(getattr(torch, dtype))
    return (given_back.double() != wide) | ~(wide.abs() / scale <= MAX_LEVEL)


def _of_other_type(values: torch.Tensor, dtype: str) -> str:
    """Sentence about an output of another data type than the layer's first one; empty of the same."""
    if str(values.dtype).removeprefix("torch.") == dtype or not dtype:
        return ""
    return (
        f"The layer's first output was {dtype}, in which values are given back, and this one is "
        f"{str(values.dtype).removeprefix('torch.')}: let it put out one data type. "
    )


def _place_text(place: int, steps: range, shape: tuple[int, ...], part: LayerPart | None) -> str:
    step, *index = map(int, np.unravel_index(place, (len(steps), *shape)))
    along = indices_along(part.neurons) if part else None
    sample, neuron = index[0], tuple(index[1:])
    if along is not None:
        neuron = tuple(axis[at] for axis, at in zip(along, neuron, strict=True))
    return f"of sample {sample}, neuron {neuron[0] if len(neuron) == 1 else neuron}, step {steps[step]}"


def _advice(values: torch.Tensor, is_other: torch.Tensor) -> str:
    others = values[is_other]
    if not bool(others.isfinite().all()):
        return ""
    if bool((torch.minimum(others.abs(), (others - 1).abs()) < ROUNDING).all()):
        return _BUT_FOR_ROUNDING
    return _BY_HEIGHT


def _value_text(value: torch.Tensor) -> str:
    """A value with all digits that tell it from its neighbours."""
    return str((value.float() if value.dtype == torch.bfloat16 else value).numpy())
