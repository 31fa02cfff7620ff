"""The neurons of norse, as in version 1.0.0.

norse has time as the first axis, and puts out tuples of spikes and state. Leaky integrators (``LI…``) are not
taken, because their output is analog; nor are encoders, which make the input of a network.
"""

from __future__ import annotations

from recorder.frameworks.neuron_class import (
    STEP_TUPLE,
    STEPS_TENSOR,
    STEPS_TUPLE,
    NeuronClass,
    NeuronClasses,
    alike,
)

NEURON_CLASSES: NeuronClasses = {
    "norse.torch.module": {
        **alike(NeuronClass(STEP_TUPLE), "SNNCell", "SNNRecurrentCell", "CobaLIFCell", "LIFCorrelation"),
        **alike(NeuronClass(STEPS_TUPLE), "SNN", "SNNRecurrent"),
        **alike(NeuronClass(STEP_TUPLE, spikes=False), "LICell", "LIBoxCell", "LILinearCell"),
        "LI": NeuronClass(STEPS_TUPLE, spikes=False),
        **alike(
            NeuronClass(STEPS_TENSOR, spikes=False),
            *("Lift", "ConstantCurrentLIFEncoder", "PoissonEncoder"),
            *("SpikeLatencyEncoder", "SpikeLatencyLIFEncoder"),
        ),
    },
}
