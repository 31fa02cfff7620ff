"""The neurons of SpikingJelly, as in versions 0.0.0.0.14 and 2.0.0.

``cext`` needs a CUDA extension; its neurons are as in the source of version 0.0.0.0.4, and were never run.

SpikingJelly has time as the first axis; single-step neurons have no time axis. ``LIAFNode`` and
``NonSpiking*`` are not taken, because their output is analog. The ``rnn`` module is not taken either, as in
SpikingJelly's own monitors: the hidden state of an LSTM may be 2, and the reversed cells of a bidirectional
layer run backwards in time.
"""

from __future__ import annotations

from torch import nn

from recorder.frameworks.libraries.neuron_class import (
    STEP,
    STEP_TENSOR,
    STEPS,
    STEPS_TENSOR,
    STEPS_TUPLE,
    NeuronClass,
    NeuronClasses,
    alike,
)
from recorder.frameworks.outputs import SpikeOutput
from recorder.frameworks.potentials import SPIKINGJELLY

_SURROGATE = "SpikingJelly neurons put out 0 and 1 only while their surrogate_function.spiking is True"


def _steps_by_name(module: nn.Module) -> SpikeOutput:
    # In clock_driven and cext, only the name of a class says that it is multi-step; SpikingJelly's own
    # monitor looks at the name, too.
    multi_step = any(cls.__name__.startswith("MultiStep") for cls in type(module).__mro__)
    return STEPS_TENSOR if multi_step else STEP_TENSOR


def _steps_by_mode(module: nn.Module) -> SpikeOutput:
    # These layouts have item="first", because a neuron of SpikingJelly 2 may put out a tuple that begins with
    # its spikes (OTTTLIFNode in training).
    return STEPS if getattr(module, "step_mode", "s") == "m" else STEP


_BY_MODE = NeuronClass(_steps_by_mode, hint=_SURROGATE, potential=SPIKINGJELLY)
_SPIKINGJELLY_RNN = {
    "SpikingRNNCellBase": NeuronClass(STEP, spikes=False),
    "SpikingRNNBase": NeuronClass(STEPS_TUPLE, spikes=False),
}


NEURON_CLASSES: NeuronClasses = {
    "spikingjelly.clock_driven.neuron": {
        "BaseNode": NeuronClass(_steps_by_name, hint=_SURROGATE, potential=SPIKINGJELLY),
        "LIAFNode": NeuronClass(_steps_by_name, spikes=False),
    },
    "spikingjelly.clock_driven.layer": alike(
        NeuronClass(STEPS, spikes=False), "MultiStepContainer", "SeqToANNContainer"
    ),
    "spikingjelly.clock_driven.rnn": _SPIKINGJELLY_RNN,
    "spikingjelly.cext.neuron": {"BaseNode": NeuronClass(_steps_by_name, potential=SPIKINGJELLY)},
    "spikingjelly.activation_based.base": {
        "StepModule": NeuronClass(_steps_by_mode, spikes=False),
        "MultiStepModule": NeuronClass(STEPS, spikes=False),
    },
    "spikingjelly.activation_based.neuron": {
        **alike(_BY_MODE, "BaseNode", "SimpleBaseNode", "GatedLIFNode"),
        **alike(_BY_MODE, "MaskedPSN", "SlidingPSN", "ActivationAwareIFNode"),
        # These are always multi-step, and never set step_mode.
        **alike(NeuronClass(STEPS, hint=_SURROGATE), "PSN", "ILCBaseNode"),
        "NoisyBaseNode": NeuronClass(STEPS, hint="noisy neurons add noise to spikes while is_training"),
        "FlexSN": NeuronClass(
            _steps_by_mode, hint="FlexSN puts out what its core computes", potential=SPIKINGJELLY
        ),
        # Spike counts, -1 to 1, and spikes that are weighted.
        **alike(
            NeuronClass(_steps_by_mode, hint=_SURROGATE, is_graded=True, potential=SPIKINGJELLY),
            *("ILIFNode", "TernaryIFNode", "TernaryLIFNode"),
        ),
        **alike(
            NeuronClass(
                _steps_by_mode,
                hint="this neuron weights its spikes",
                is_graded=True,
                potential=SPIKINGJELLY,
            ),
            *("DSRIFNode", "DSRLIFNode", "FewSpikeNode", "STBIFNode"),
        ),
        "LIAFNode": NeuronClass(_steps_by_mode, spikes=False),
    },
    "spikingjelly.activation_based.rnn": _SPIKINGJELLY_RNN,
}
