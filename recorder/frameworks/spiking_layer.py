"""One spiking module of a network, and how the spikes in what it puts out are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from recorder.frameworks.hints import describe, propose
from recorder.frameworks.outputs import AxesError, Layout, SpikeOutput, are_steps


class SpikingLayerError(ValueError):
    """The spiking layers of a network, or the spikes in what a layer put out, cannot be told."""


_STEP = SpikeOutput()


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
    origin : {"user", "library", "assumption"}
        Who says where the spikes are: the user, what is known of the library, or nobody.
    kept_in : str
        Name of the attribute in which the module keeps its spikes, where it puts nothing out and its library
        calls its ``forward`` itself; otherwise ``""``.
    """

    name: str
    module: nn.Module
    layout: Layout = _STEP
    hint: str = ""
    origin: Literal["user", "library", "assumption"] = "user"
    kept_in: str = ""

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
            detached view: nothing is copied (but for a list of steps), nothing is waited for, no gradient
            graph is kept, no value looked at.

        Raises
        ------
        SpikingLayerError
            If the module put out something else than expected. Names the layer, what came and what to do.
        """
        expected = self.output
        spikes = self.arrange(self.pick(output, expected).detach(), expected)
        return spikes if expected.has_steps else spikes.unsqueeze(0)

    def pick(self, output: object, expected: SpikeOutput) -> torch.Tensor:
        """The tensor of spikes in what the module put out, as it is; errors as in `read_spikes`."""
        spikes: torch.Tensor | None
        # This runs at each call, and most put out a tensor.
        if isinstance(output, torch.Tensor) and not expected.path:
            spikes = output
        else:
            if type(output) is list and self.origin != "library" and expected.item == "first":
                self._refuse_list(output, expected)
            spikes = expected.pick(output)
        if spikes is None or not expected.least_axes <= spikes.ndim <= expected.most_axes:
            raise self._unexpected(output, expected)
        if spikes.layout is not torch.strided:
            raise SpikingLayerError(
                f"{self._described()} put out a tensor of layout {spikes.layout}, expected torch.strided: "
                "give the layer dense input, or make its output dense with .to_dense()"
            )
        return spikes

    def arrange(self, spikes: torch.Tensor, expected: SpikeOutput) -> torch.Tensor:
        """View what was picked as ``[T, N, *neuron]``, or ``[N, *neuron]`` where there are no steps."""
        try:
            return expected.arrange(spikes)
        except AxesError:
            raise self._unexpected(spikes, expected) from None

    def _described(self) -> str:
        return f"layer {self.name!r} ({type(self.module).__name__})"

    def _refuse_list(self, output: list[object], expected: SpikeOutput) -> None:
        """Refuse a list of tensors that may be steps, or spikes and what goes with them."""
        if len(output) < 2 or not are_steps(output):
            return
        steps = f"{{{self.name!r}: SpikeOutput('{expected.pattern.with_steps_first()}', item=None)}}"
        raise SpikingLayerError(
            f"{self._described()} put out {describe(output)}. Are these {len(output)} steps, or spikes and "
            f"something else? Say which: layers={steps} for a step each, item=0 if the first is the spikes"
        )

    def _unexpected(self, output: object, expected: SpikeOutput) -> SpikingLayerError:
        fitting = propose(output, expected)
        way_out = (
            "nothing in it can be read as spikes: leave it out by choosing other layers"
            if fitting is None
            else f"say where its spikes are, e.g. layers={{{self.name!r}: {fitting!r}}}, or leave it out by "
            "choosing other layers"
        )
        return SpikingLayerError(
            f"{self._described()} put out {describe(output)}, expected {expected}: {way_out}"
        )
