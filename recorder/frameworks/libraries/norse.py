"""The neurons of norse, as in version 1.0.0.

norse puts time first, and puts out tuples of spikes and state. Not taken are leaky integrators (``LI…``),
whose output is analog, and encoders, which are the input of a network rather than part of it.
"""

from __future__ import annotations

from recorder.frameworks.libraries.neuron_class import (
    STEP_TUPLE,
    STEPS_TENSOR,
    STEPS_TUPLE,
    NeuronClass,
    NeuronClasses,
    alike,
)
from recorder.frameworks.potentials import NORSE

NEURON_CLASSES: NeuronClasses = {
    "norse.torch.module": {
        **alike(
            NeuronClass(STEP_TUPLE, potential=NORSE),
            "SNNCell",
            "SNNRecurrentCell",
            "CobaLIFCell",
            "LIFCorrelation",
        ),
        **alike(NeuronClass(STEPS_TUPLE, potential=NORSE), "SNN", "SNNRecurrent"),
        **alike(NeuronClass(STEP_TUPLE, spikes=False), "LICell", "LIBoxCell", "LILinearCell"),
        "LI": NeuronClass(STEPS_TUPLE, spikes=False),
        **alike(
            NeuronClass(STEPS_TENSOR, spikes=False),
            *("Lift", "ConstantCurrentLIFEncoder", "PoissonEncoder"),
            *("SpikeLatencyEncoder", "SpikeLatencyLIFEncoder"),
        ),
    },
}
