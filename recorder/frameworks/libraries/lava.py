"""The neurons of lava-dl's slayer.

Read in its repository, as it is in no package index; what was run are stand-ins of the same shape.

slayer puts time last. Blocks are not taken, but the neurons in them, before the delays of the block. Each
kind of neuron has a Python module of its own, in which its class is called ``Neuron``.
"""

from __future__ import annotations

from recorder.frameworks.libraries.neuron_class import NeuronClass, NeuronClasses
from recorder.frameworks.outputs import SpikeOutput

_TIME_LAST = SpikeOutput("n ... t", item=None)
_GRADED = "slayer neurons with graded_spike=True put out how far the threshold was passed"
_DELTA = "sigma-delta neurons put out differences, which are no spikes"

# In order: the first that fits counts.
NEURON_CLASSES: NeuronClasses = {
    "lava.lib.dl.slayer.neuron.sigma_delta": {
        "Neuron": NeuronClass(_TIME_LAST, hint=_DELTA, is_always_batched=True)
    },
    "lava.lib.dl.slayer.neuron": {"Neuron": NeuronClass(_TIME_LAST, hint=_GRADED, is_always_batched=True)},
}
