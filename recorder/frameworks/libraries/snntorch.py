"""The neurons of snnTorch, as in version 1.0.0.

Parallel neurons have time as the first axis. The settings of a neuron decide if it puts out a tuple.
State-space neurons with ``output=False`` are not taken, because their output is analog.
"""

from __future__ import annotations

from recorder.frameworks.libraries.neuron_class import (
    STEP,
    STEPS_TENSOR,
    STEPS_TUPLE,
    NeuronClass,
    NeuronClasses,
    alike,
)
from recorder.frameworks.potentials import SNNTORCH

_GRADED = "snnTorch multiplies spikes by graded_spikes_factor: only layers whose factor is 1 can be recorded"

NEURON_CLASSES: NeuronClasses = {
    "snntorch._neurons": {
        "SpikingNeuron": NeuronClass(STEP, hint=_GRADED, potential=SNNTORCH),
        # Where StateLeaky or LinearLeaky put out a tensor and no tuple, it is the membrane potential.
        "StateLeaky": NeuronClass(STEPS_TUPLE, lambda module: module.output, _GRADED, potential=SNNTORCH),
        # With use_q_projection, the spikes stay inside the module, and its output is analog.
        "AssociativeLeaky": NeuronClass(
            STEPS_TENSOR, lambda module: module.output and not module.use_q_projection, _GRADED
        ),
        **alike(NeuronClass(STEPS_TENSOR, hint=_GRADED), "LeakyParallel", "LeakyKernel"),
    },
}
