"""One spiking module of a network, which reads the spikes from the module's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from recorder.frameworks.hints import describe, propose
from recorder.frameworks.outputs import AxesError, Layout, SpikeOutput, are_steps
from recorder.frameworks.potentials import Potential


class SpikingLayerError(ValueError):
    """The spiking layers of a network, or the spikes in the output of a layer, cannot be determined."""


_STEP = SpikeOutput()


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
    origin : {"user", "library", "assumption"}
        Source of the layout: the user, what is known of the library, or the default.
    kept_in : str
        Name of the attribute in which the module keeps its spikes, if it returns nothing and its library
        calls its ``forward`` without hooks; otherwise ``""``.
    is_graded : bool
        Whether modules of its class put out other values than 0 and 1 by design.
    potential : Potential, optional
        Where the module's membrane potential is; None where that is not known.
    """

    name: str
    module: nn.Module
    layout: Layout = _STEP
    hint: str = ""
    origin: Literal["user", "library", "assumption"] = "user"
    kept_in: str = ""
    is_graded: bool = False
    potential: Potential | None = None

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
            detached view of the output: this copies nothing (except a list of steps), waits for no device,
            and checks no value.

        Raises
        ------
        SpikingLayerError
            If the output does not have the expected layout. The message names the layer, the output found,
            and what to do.
        """
        expected = self.output
        spikes = self.arrange(self.pick(output, expected).detach(), expected)
        return spikes if expected.has_steps else spikes.unsqueeze(0)

    def pick(self, output: object, expected: SpikeOutput) -> torch.Tensor:
        """Tensor of spikes in an output of the module, unchanged; errors as in `read_spikes`."""
        spikes: torch.Tensor | None
        # A short way for the usual output, a tensor, because this runs at each call.
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
        """View a picked tensor as ``[T, N, *neuron]``; as ``[N, *neuron]`` if the layout has no steps."""
        try:
            return expected.arrange(spikes)
        except AxesError:
            raise self._unexpected(spikes, expected) from None

    def _described(self) -> str:
        return f"layer {self.name!r} ({type(self.module).__name__})"

    def _refuse_list(self, output: list[object], expected: SpikeOutput) -> None:
        """Raise for a list of tensors of one shape: they may be steps, or spikes and other values."""
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


def layers_named(layers: Mapping[str, SpikingLayer], what: str, key: object) -> list[str]:
    """Names of the layers that a name or a type stands for; SpikingLayerError, about ``what``, if none is."""
    if isinstance(key, type):
        found = [name for name, layer in layers.items() if isinstance(layer.module, key)]
    else:
        found = [name for name in layers if name == key]
    if not found:
        raise SpikingLayerError(
            f"{what}: {key!r} is no recorded layer, nor the type of one; the layers: "
            + ", ".join(f"{name!r} ({type(layer.module).__name__})" for name, layer in layers.items())
        )
    return found
