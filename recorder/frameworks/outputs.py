"""Describe the layout of a spiking module's output, and bring every output to one form.

Libraries order the axes of time and batch differently, and some put out tuples. The output of every spiking
module becomes a tensor ``[T, N, *neuron]``.
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
    """The spiking layers of a network, or the spikes in the output of a layer, cannot be determined."""


@dataclass(frozen=True)
class SpikeOutput:
    """The layout of a module's output: the item that holds the spikes, and the axes of steps and samples.

    The output is a tensor, or a tuple or list of which one item is the tensor of spikes (``item``). The first
    axes of this tensor are steps (T) and samples (N), as ``axes`` says; all other axes are neurons.

    Nothing is guessed: a tensor is never indexed as if it were a tuple, and an output that does not have the
    described form is an error.

    Parameters
    ----------
    axes : {"N", "TN", "NT", "N*T"}
        Axes before the neuron axes. ``"N"`` is a single step. ``"N*T"`` is one axis in which steps and
        samples are folded: all steps of the first sample come first.
    item : int, None or "first"
        ``k``: the output is a tuple or list, and item ``k`` is the tensor of spikes. ``None``: the output is
        the tensor of spikes. ``"first"``: the output is the tensor of spikes, or a tuple or list whose first
        item is.
    batch_size, num_steps : int or None
        Sizes of N and T. ``"N*T"`` needs at least one of them; the other values of ``axes`` use none.

    Raises
    ------
    ValueError
        If a parameter has another value than these.

    Examples
    --------
    The layout of a module that puts out ``(membrane, spikes)``, both of shape ``[N, T, *neuron]``:

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
    """One spiking module of a network: its name, the module, and the layout of its output.

    It reads the spikes from every output of the module as ``[T, N, *neuron]``. The layout is determined anew
    at each call, because settings such as SpikingJelly's ``step_mode`` may change between calls.

    Parameters
    ----------
    name : str
        PyTorch module name in the network; ``""`` for a network that is itself one neuron module.
    module : nn.Module
        The module.
    layout : SpikeOutput or callable
        Layout of the output, or a function that returns it for the module in its present state.
    hint : str
        Explanation for a user whose layer puts out values other than 0 and 1; ``""`` if nothing is known.
    """

    name: str
    module: nn.Module
    layout: Layout = SpikeOutput()
    hint: str = ""

    @property
    def output(self) -> SpikeOutput:
        """Layout of the output under the present settings of the module."""
        return self.layout if isinstance(self.layout, SpikeOutput) else self.layout(self.module)

    def read_spikes(self, output: object) -> torch.Tensor:
        """Read the spikes from an output of the module, in one form for all modules.

        Parameters
        ----------
        output : object
            The output, as a forward hook receives it.

        Returns
        -------
        torch.Tensor
            Shape ``[T, N, *neuron]``, with T = 1 for a single step; dtype and device of the output. It is a
            detached view of the output: this copies nothing, waits for no device, and checks no value.

        Raises
        ------
        SpikingLayerError
            If the output does not have the expected layout. The message names the layer, the output found,
            and what to do.
        """
        expected = self.output
        spikes = self.pick(output, expected).detach()
        return spikes.unsqueeze(0) if expected.axes == "N" else self.steps_first(spikes, expected)

    def pick(self, output: object, expected: SpikeOutput) -> torch.Tensor:
        """Tensor of spikes in an output of the module, unchanged; errors as in `read_spikes`."""
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
        """View a tensor of several steps, from `pick`, as ``[T, N, *neuron]``; errors as in `read_spikes`."""
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
