"""Have neurons keep their membrane potential of every step, for the time of each of their forwards.

Multi-step neurons of SpikingJelly, norse and sinabs keep it only while an attribute of theirs says so. To
switch that on for good would cost memory, change what norse's neurons put out, and go on in copies of the
network. So the forward of such a module is replaced while it is monitored.
"""

from __future__ import annotations

from typing import Any

import torch

from recorder.frameworks import SpikeOutput, SpikingLayer
from recorder.frameworks.outputs import Layout
from recorder.frameworks.potentials import KEPT, Potential
from recorder.hooks.compiling import outside_graphs
from recorder.hooks.replacements import Replacement

Keeping = tuple[Potential, Layout]


class _KeepingForward(Replacement[Keeping]):
    name = "forward"

    @outside_graphs
    def __call__(self, *args: Any, **settings: Any) -> Any:
        """Run the forward with the states of each step kept, and leave the potential for the layer's hook."""
        module, (potential, layout) = self.module, self.kept[0]
        KEPT.pop(module, None)
        has_steps = (layout if isinstance(layout, SpikeOutput) else layout(module)).has_steps
        # An attribute that is not there, or that the user has switched on, is let be.
        if not has_steps or getattr(module, potential.switch, True):
            return self.call_replaced(*args, **settings)
        setattr(module, potential.switch, True)
        try:
            output = self.call_replaced(*args, **settings)
            found = potential.read(module, output, True)
            if isinstance(found, torch.Tensor):
                KEPT[module] = found.detach()
            return potential.forget(module, output)
        finally:
            setattr(module, potential.switch, False)


class KeptStates:
    """Keeps the states of each step of one module."""

    def __init__(self, forward: _KeepingForward, keeping: Keeping) -> None:
        self._forward = forward
        self._keeping = keeping

    @classmethod
    def on(cls, layer: SpikingLayer, potential: Potential) -> KeptStates:
        """Keep the states of a layer's module wherever its layout is one of several steps."""
        forward, keeping = _KeepingForward.of(layer.module), (potential, layer.layout)
        forward.kept.append(keeping)
        return cls(forward, keeping)

    def leave(self) -> None:
        """Keep them no longer."""
        module = self._forward.module_if_there
        if module is not None:
            KEPT.pop(module, None)
        self._forward.forget(self._keeping)
