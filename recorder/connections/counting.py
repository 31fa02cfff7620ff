"""Count the operations of one call of a weight layer, where it runs: nobody waits for an accelerator."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any, Final

import torch
from torch import nn

from recorder.connections.forward_graph import storable
from recorder.connections.geometry import TRANSPOSED, WEIGHT_LAYERS, nonzero_weights, uses_of

# Inputs of which a mask is made at once.
_MASK_ELEMENTS: Final = 2**21
_MOST_GEOMETRIES: Final = 64


def weight_layers_of(network: nn.Module) -> dict[str, nn.Module]:
    """The weight layers of a network by the names that a recording has for them, in network order.

    Raises
    ------
    ValueError
        If it has none.
    """
    found: dict[str, nn.Module] = {
        storable(name): module
        for name, module in network.named_modules()
        if isinstance(module, WEIGHT_LAYERS)
    }
    if not found:
        raise ValueError(
            f"operations=True counts what linear layers and convolutions do, and a "
            f"{type(network).__name__} has none. Leave it out"
        )
    return found


class WeightLayerCounter:
    """Counts what one weight layer does.

    An operation is one weight that meets one value of the input, borders, stride, dilation and groups
    included; no bias counts. It is *effective* where the value is not 0. All operations of a call are
    accumulates if its input is 0 and 1, and multiply-accumulates otherwise.

    It keeps no module, as it may outlive the network.
    """

    def __init__(self) -> None:
        # By shapes and device, as shapes seldom change.
        self._geometries: OrderedDict[Any, list[torch.Tensor] | None] = OrderedDict()

    def count(self, module: nn.Module, given: torch.Tensor, output: torch.Tensor) -> torch.Tensor | None:
        """The operations of a call.

        Parameters
        ----------
        module : torch.nn.Module
            One of `recorder.connections.geometry.WEIGHT_LAYERS`, always the same.
        given, output : tensor
            What the layer was given, and has put out.

        Returns
        -------
        int64 tensor, shape [*leading, kinds], or None
            One for each place along the axes in front of channels, or features; kinds as in
            `recorder.format.record.operations.KINDS`. None where the shapes are not those that a layer of its
            kind makes.
        """
        uses = self._uses(module, given, output)
        if uses is None:
            return None
        with torch.inference_mode(mode=False), torch.no_grad():
            return self._count(module, given.detach(), uses)

    def _count(self, module: Any, given: torch.Tensor, uses: list[torch.Tensor]) -> torch.Tensor:
        spatial = len(uses)
        places = given.shape[given.ndim - spatial - 1 :]
        leading = given.shape[: given.ndim - spatial - 1]
        outputs = (
            module.out_features if isinstance(module, nn.Linear) else module.out_channels // module.groups
        )
        # How many weights each place meets, whatever the channel.
        met = torch.full((), outputs, dtype=torch.int64, device=given.device)
        for axis in uses:
            met = met.unsqueeze(-1) * axis.sum(1)
        present = torch.count_nonzero(given, dim=given.ndim - spatial - 1)
        effective = (present * met).reshape(*leading, -1).sum(-1)
        nonzero = _nonzero(module, given.reshape(-1, math.prod(places)), uses).reshape(leading)
        dense = (met.sum() * places[0]).expand(leading)
        binary = ((given == 0) | (given == 1)).all()
        kinds = [
            count * (binary if accumulates else ~binary)
            for count in (effective, nonzero, dense)
            for accumulates in (True, False)
        ]
        return torch.stack(kinds, dim=-1)

    def _uses(
        self, module: nn.Module, given: torch.Tensor, output: torch.Tensor
    ) -> list[torch.Tensor] | None:
        key = given.shape, output.shape, given.device
        if key not in self._geometries:
            uses = uses_of(module, given.shape, output.shape)
            here = None if uses is None else [torch.from_numpy(axis).to(given.device) for axis in uses]
            self._geometries[key] = here
            if len(self._geometries) > _MOST_GEOMETRIES:
                self._geometries.popitem(last=False)
        return self._geometries[key]


def _nonzero(module: Any, rows: torch.Tensor, uses: list[torch.Tensor]) -> torch.Tensor:
    """Effective operations of each row with weights that are not 0.

    By sums, and not by a product of matrices, which users' own counters of operations would see as one.
    """
    if isinstance(module, nn.Linear):
        weights = torch.count_nonzero(module.weight.detach(), dim=0)
    else:
        weights = nonzero_weights(module, transposed=isinstance(module, TRANSPOSED))
        for axis in uses:
            # The kernel axis in front goes, the spatial axis comes last.
            weights = (weights.movedim(1, -1).unsqueeze(-2) * axis).sum(-1)
    weights = weights.reshape(-1)
    found = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
    step = max(_MASK_ELEMENTS // max(rows.shape[1], 1), 1)
    for first in range(0, len(rows), step):
        found[first : first + step] = ((rows[first : first + step] != 0) * weights).sum(1)
    return found
