"""The somata of matterhorn, as in version 2.0.0.

A soma puts out all steps. Time is the first axis, or the second with ``batch_first``. If a soma is asked for
its states, it puts out a tuple of spikes and states. ``LIAF`` is not taken, because its output is analog.
"""

from __future__ import annotations

from typing import Any

from recorder.frameworks.libraries.neuron_class import STEPS, NeuronClass, NeuronClasses
from recorder.frameworks.outputs import SpikeOutput

_BATCH_FIRST = SpikeOutput("n t ...")
_COUNTS = "matterhorn's spiking functions Floor, Ceil and Round put out several spikes per step"


def _batch_first_or_not(module: Any) -> SpikeOutput:
    return _BATCH_FIRST if module.batch_first else STEPS


_SOMATA = {
    "Soma": NeuronClass(_batch_first_or_not, hint=_COUNTS),
    "LIAF": NeuronClass(_batch_first_or_not, spikes=False),
}
NEURON_CLASSES: NeuronClasses = {
    f"matterhorn_pytorch.snn.{kind}": _SOMATA for kind in ("soma", "soma_cpp", "soma_cuda", "soma_functional")
}
