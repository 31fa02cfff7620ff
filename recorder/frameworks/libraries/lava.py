"""The neurons of lava-dl's slayer.

lava-dl is in no package index: its classes are as in its repository, and only stand-ins of them were run.

slayer has time as the last axis. Blocks are not taken, but the neurons in them are; their output is recorded
before the delays of the block. Each kind of neuron has a Python module of its own, with a class ``Neuron``.
"""

from __future__ import annotations

from recorder.frameworks.libraries.neuron_class import NeuronClass, NeuronClasses
from recorder.frameworks.outputs import SpikeOutput

_TIME_LAST = SpikeOutput("n ... t", item=None)
_GRADED = "slayer neurons with graded_spike=True put out how far the threshold was passed"
_DELTA = "sigma-delta neurons put out differences, which are no spikes"

# The first entry that fits a module is used.
NEURON_CLASSES: NeuronClasses = {
    "lava.lib.dl.slayer.neuron.sigma_delta": {
        "Neuron": NeuronClass(_TIME_LAST, hint=_DELTA, is_always_batched=True)
    },
    "lava.lib.dl.slayer.neuron": {"Neuron": NeuronClass(_TIME_LAST, hint=_GRADED, is_always_batched=True)},
}
