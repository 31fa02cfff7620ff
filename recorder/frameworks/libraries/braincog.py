"""The nodes of BrainCog, as in version 0.2.7.19.

A node puts out a single step, with two exceptions: with ``layer_by_layer``, time and batch are folded into
one axis, time slower; with groups, channels and time are folded into one axis. ``LIAFNode`` and the ``ReLU``
nodes are not taken, because their output is analog.
"""

from __future__ import annotations

import functools
from typing import Any

from recorder.frameworks.libraries.neuron_class import STEP, NeuronClass, NeuronClasses, alike
from recorder.frameworks.outputs import SpikeOutput
from recorder.frameworks.potentials import BRAINCOG
from recorder.frameworks.spiking_layer import SpikingLayerError


def _folded_or_not(module: Any) -> SpikeOutput:
    if module.groups != 1:
        return _folded("n (c t) ...", module.step)
    return _folded("(t n) ...", module.step) if module.layer_by_layer else STEP


@functools.lru_cache
def _folded(axes: str, steps: int) -> SpikeOutput:
    return SpikeOutput(axes, num_steps=steps)


def _refuse(module: Any) -> SpikeOutput:
    raise SpikingLayerError(
        f"{type(module).__name__} of BrainCog puts spikes and rates out in one tensor, one behind the other "
        "along the batch: leave it out with layers="
    )


NEURON_CLASSES: NeuronClasses = {
    "braincog.base.node.node": {
        "BaseNode": NeuronClass(_folded_or_not, potential=BRAINCOG),
        "BurstLIFNode": NeuronClass(
            _folded_or_not, hint="BurstLIFNode puts out bursts of several spikes", potential=BRAINCOG
        ),
        "BaseMCNode": NeuronClass(STEP),
        "OnlineLIFNode": NeuronClass(_refuse),
        **alike(NeuronClass(_folded_or_not, spikes=False), "ReLUNode", "BiasReLUNode", "LIAFNode"),
    },
}
