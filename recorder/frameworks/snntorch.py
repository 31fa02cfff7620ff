"""snnTorch's neurons. Read and run in 1.0.0.

Parallel neurons put time first; whether a neuron puts out a tuple depends on its settings. Not taken are
state-space neurons with ``output=False``, whose output is analog.
"""

from __future__ import annotations

from recorder.frameworks.neuron_class import (
    STEP,
    STEPS_TENSOR,
    STEPS_TUPLE,
    NeuronClass,
    NeuronClasses,
    alike,
)

_GRADED = "snnTorch multiplies spikes by graded_spikes_factor: only layers whose factor is 1 can be recorded"

NEURON_CLASSES: NeuronClasses = {
    "snntorch._neurons": {
        "SpikingNeuron": NeuronClass(STEP, hint=_GRADED),
        # A tensor from StateLeaky or LinearLeaky is the membrane: so it must be a tuple.
        "StateLeaky": NeuronClass(STEPS_TUPLE, lambda module: module.output, _GRADED),
        # With a projection the spikes stay inside, and what comes out is analog.
        "AssociativeLeaky": NeuronClass(
            STEPS_TENSOR, lambda module: module.output and not module.use_q_projection, _GRADED
        ),
        **alike(NeuronClass(STEPS_TENSOR, hint=_GRADED), "LeakyParallel", "LeakyKernel"),
    },
}
