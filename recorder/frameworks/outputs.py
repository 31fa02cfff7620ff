"""Where batch, time and spikes are in what a module puts out, and how all of it is brought to one form.

Libraries disagree about both, and some put out tuples. Whatever a spiking module puts out becomes a tensor
``[T, N, *neuron]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

_SHAPES = {
    "N": "[N, *neuron]",
    "TN": "[T, N, *neuron]",
    "NT": "[N, T, *neuron]",
    "N*T": "[N*T, *neuron]",
}
_LEAST_AXES = {"N": 1, "TN": 2, "NT": 2, "N*T": 1}


class SpikingLayerError(ValueError):
    """The spiking layers of a network, or the spikes in what a layer put out, cannot be told."""


@dataclass(frozen=True)
class SpikeOutput:
    """Where batch, time and spikes are in what a module puts out.

    A tensor is never indexed to get at its "first item" (that would be sample 0), and a tuple is never taken
    for a tensor: `item` says which of them is expected.

    Parameters
    ----------
    axes : {"N", "TN", "NT", "N*T"}
        The axes before the neuron axes: T steps, N samples. ``"N"`` is a single step. In ``"N*T"`` both are
        folded into one axis, all steps of the first sample first.
    item : int, None or "first"
        ``k``: the output is a tuple or list, and its item ``k`` is the spikes. ``None``: the output itself is
        the tensor of spikes. ``"first"``: it is that, or a tuple or list whose first item is.
    batch_size, num_steps : int or None
        Sizes of N and T, of which ``"N*T"`` needs at least one; not used otherwise.

    Raises
    ------
    ValueError
        If a field has another value than these.

    Examples
    --------
    A module that puts out ``(membrane, spikes)``, both ``[N, T, *neuron]``:

    >>> SpikeOutput("NT", item=1)
    SpikeOutput(axes='NT', item=1, batch_size=None, num_steps=None)
    """

    axes: str = "N"
    item: int | Literal["first"] | None = "first"
    batch_size: int | None = None
    num_steps: int | None = None

    def __post_init__(self) -> None:
        if self.axes not in _SHAPES:
            raise ValueError(f"axes is {self.axes!r}, expected one of {', '.join(map(repr, _SHAPES))}")
        if not (self.item in (None, "first") or (type(self.item) is int and self.item >= 0)):
            raise ValueError(f"item is {self.item!r}, expected None, 'first' or an index of a tuple, from 0")
        for field, size in (("batch_size", self.batch_size), ("num_steps", self.num_steps)):
            if size is not None and size < 1:
                raise ValueError(f"{field} is {size}, expected at least 1, or None if it is not known")
        if self.axes == "N*T" and self.batch_size is None and self.num_steps is None:
            raise ValueError(
                "axes 'N*T' cannot be unfolded without sizes: give batch_size, num_steps or both"
            )

    def __str__(self) -> str:
        which = "" if self.item is None else f"a tuple whose item {self.item} is "
        which = "(a tuple whose first item is) " if self.item == "first" else which
        sizes = f" with N = {self.batch_size or 'any'}, T = {self.num_steps or 'any'}"
        return f"{which}a tensor of shape {_SHAPES[self.axes]}" + (sizes if self.axes == "N*T" else "")


Layout: TypeAlias = SpikeOutput | Callable[[Any], SpikeOutput]


@dataclass(frozen=True)
class SpikingLayer:
    """One spiking module of a network.

    Parameters
    ----------
    name : str
        PyTorch module name in the network; ``""`` for a network that is itself one neuron module.
    module : nn.Module
        The module.
    layout : SpikeOutput or callable
        Where the spikes are, or a function of the module that says so. It is asked at each call, because
        settings like SpikingJelly's ``step_mode`` may be switched at any time.
    hint : str
        What to tell a user whose layer put out values other than 0 and 1; ``""`` if nothing is known.
    """

    name: str
    module: nn.Module
    layout: Layout = SpikeOutput()
    hint: str = ""

    @property
    def output(self) -> SpikeOutput:
        """Where the spikes are, under the present settings of the module."""
        return self.layout if isinstance(self.layout, SpikeOutput) else self.layout(self.module)

    def read_spikes(self, output: object) -> torch.Tensor:
        """Spikes in what the module put out, in one form for all modules.

        Parameters
        ----------
        output : object
            What the module returned, as a forward hook is given it.

        Returns
        -------
        torch.Tensor
            ``[T, N, *neuron]`` in logical order, T = 1 for a single step; dtype and device as put out. A
            detached view: nothing is copied or waited for, no gradient graph is kept, no value looked at.

        Raises
        ------
        SpikingLayerError
            If the module put out something else than expected. Names the layer, what came and what to do.
        """
        expected = self.output
        spikes = self.pick(output, expected).detach()
        return spikes.unsqueeze(0) if expected.axes == "N" else self.steps_first(spikes, expected)

    def pick(self, output: object, expected: SpikeOutput) -> torch.Tensor:
        """The tensor of spikes in what the module put out, as it is; errors as in `read_spikes`."""
        spikes = output
        if isinstance(output, (tuple, list)) and expected.item is not None:
            index = 0 if expected.item == "first" else expected.item
            spikes = output[index] if index < len(output) else None
        elif isinstance(expected.item, int):
            spikes = None
        if not isinstance(spikes, torch.Tensor) or spikes.ndim < _LEAST_AXES[expected.axes]:
            raise self._unexpected(output, expected)
        if spikes.layout is not torch.strided:
            raise SpikingLayerError(
                f"{self._described()} put out a tensor of layout {spikes.layout}, expected torch.strided: "
                "give the layer dense input, or make its output dense with .to_dense()"
            )
        return spikes

    def steps_first(self, spikes: torch.Tensor, expected: SpikeOutput) -> torch.Tensor:
        """View what was picked from an output of several steps as ``[T, N, *neuron]``."""
        if expected.axes == "N*T":
            batch_size = expected.batch_size or len(spikes) // (expected.num_steps or 1)
            num_steps = expected.num_steps or len(spikes) // batch_size
            if batch_size * num_steps != len(spikes):
                raise self._unexpected(spikes, expected)
            spikes = spikes.view(batch_size, num_steps, *spikes.shape[1:])
        return spikes if expected.axes == "TN" else spikes.transpose(0, 1)

    def _described(self) -> str:
        return f"layer {self.name!r} ({type(self.module).__name__})"

    def _unexpected(self, output: object, expected: SpikeOutput) -> SpikingLayerError:
        return SpikingLayerError(
            f"{self._described()} put out {_describe(output)}, expected {expected}: "
            f"say where its spikes are, e.g. layers={{{self.name!r}: SpikeOutput('TN', item=None)}}, "
            "or leave it out by choosing other layers"
        )


def _describe(output: object) -> str:
    if isinstance(output, torch.Tensor):
        return f"a tensor of shape {list(output.shape)}"
    if isinstance(output, (tuple, list)):
        return f"a {type(output).__name__} of {len(output)} ({', '.join(map(_describe, output))})"
    return f"an object of type {type(output).__name__}"
