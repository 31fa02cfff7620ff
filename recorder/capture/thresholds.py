"""From what height on a layer's value is a spike, where it puts out others than 0 and 1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import torch
from torch import nn

from recorder.format import RecordingMetadata
from recorder.format.record.metadata import DTYPES
from recorder.frameworks import SpikingLayer, SpikingLayerError

_KNOWN = tuple(getattr(torch, name) for name in DTYPES)


class Threshold:
    """Makes ones of the values that reach a height, and zeros of the others; NaN stays NaN, for an error.

    Values and height are compared as the real numbers that they are: 0.7 as a float32 is 0.699999988 and does
    not reach 0.7.

    Parameters
    ----------
    height : int or float
    """

    def __init__(self, height: float) -> None:
        self.height = height
        self._least: dict[torch.dtype, Any] = {}

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Ones and zeros on the device and of the data type of ``values``; nobody waits for them."""
        dtype = values.dtype
        if dtype not in _KNOWN:
            return values  # refused where it is recorded
        values = values.detach()
        if dtype not in self._least:
            self._least[dtype] = _least(self.height, dtype)
        least = self._least[dtype]
        if least is None:
            return torch.zeros_like(values)
        if not dtype.is_floating_point:
            return torch.ge(values, least).to(dtype)
        spikes: torch.Tensor = (values >= least).to(dtype)
        return torch.where(values.isnan(), values, spikes)


def _least(height: float, dtype: torch.dtype) -> float | int | bool | None:
    """The least number of a data type that reaches a height, None if there is none; torch would round it."""
    if dtype == torch.bool:
        return None if height > 1 else height > 0
    if not dtype.is_floating_point:
        info = torch.iinfo(dtype)
        return None if height > info.max else max(math.ceil(height), info.min)
    up, down = torch.tensor(math.inf, dtype=dtype), torch.tensor(-math.inf, dtype=dtype)
    least = torch.tensor(float(height), dtype=torch.float64).to(dtype)
    while least.item() < height:
        least = torch.nextafter(least, up)
    while (below := torch.nextafter(least, down)).item() >= height and below != least:
        least = below
    return least.item()


class Thresholds(dict[str, Threshold]):
    """The threshold of each layer that has one, by name."""

    @classmethod
    def parse(cls, threshold: Any, layers: Mapping[str, SpikingLayer]) -> Thresholds:
        """Read what a user passed as ``threshold``.

        Parameters
        ----------
        threshold : None, number, or mapping
            For all layers, or from names and types of layers to numbers; a name counts before a type,
            a nearer type before a farther one.
        layers : mapping
            The layers that are recorded.

        Raises
        ------
        TypeError, ValueError
            If a threshold is no finite number.
        SpikingLayerError
            If a name or type is not among the layers.
        """
        if threshold is None:
            return cls()
        if not isinstance(threshold, Mapping):
            height = _parse_height(threshold)
            return cls({name: Threshold(height) for name in layers})
        heights = {key: _parse_height(given) for key, given in threshold.items()}
        keys = {name: _key_of(name, layer.module, heights) for name, layer in layers.items()}
        unknown = [key for key in heights if key not in keys.values()]
        if unknown:
            raise SpikingLayerError(
                f"threshold: {unknown[0]!r} is no recorded layer, nor the nearest type of one; the layers: "
                + ", ".join(f"{name!r} ({type(layer.module).__name__})" for name, layer in layers.items())
            )
        return cls({name: Threshold(heights[key]) for name, key in keys.items() if key is not None})

    def to_provenance(self) -> dict[str, Any]:
        """JSON values that tell readers of the recording about the threshold."""
        return {"thresholds": {name: each.height for name, each in self.items()}} if self else {}

    def refuse_others(self, recorded: RecordingMetadata, layers: Mapping[str, SpikingLayer]) -> None:
        """Raise ValueError if a recording was made with other thresholds for these layers."""
        known = recorded.provenance.get("thresholds")
        before = known if isinstance(known, dict) else {}
        for name in layers.keys() & {layer.name for layer in recorded.layers}:
            now = self[name].height if name in self else None
            if before.get(name) != now:
                raise ValueError(
                    f"layer {name!r} was recorded with threshold={before.get(name)}, and would go on with "
                    f"threshold={now}: a spike would not mean the same. Resume with what it was, or record "
                    "to another store"
                )


def _key_of(name: str, module: nn.Module, heights: Mapping[Any, float]) -> Any:
    """Key of a mapping that applies to a layer: its name, else the most derived type, else None."""
    return next((key for key in (name, *type(module).__mro__) if key in heights), None)


def _parse_height(given: Any) -> int | float:
    if isinstance(given, torch.Tensor) and given.ndim == 0:
        given = given.item()
    if isinstance(given, bool) or not isinstance(given, Real):
        raise TypeError(
            f"threshold is {given!r} ({type(given).__name__}); expected a number, or a mapping from names or "
            "types of layers to numbers"
        )
    if not math.isfinite(given):
        raise ValueError(f"threshold is {given!r}; expected a finite number")
    # Whole numbers as they are: not each is a float.
    return int(given) if isinstance(given, Integral) else float(given)
