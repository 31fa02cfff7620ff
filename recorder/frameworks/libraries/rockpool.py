"""rockpool's torch neurons. Read and run in 3.1.0.

rockpool puts the batch first and time second, also of a single sample. Its modules return states beside their
output, but what hooks see is the output alone. Not taken are rates, synapses and the ``UpDown`` encoder.
"""

from __future__ import annotations

from recorder.frameworks.libraries.neuron_class import NeuronClass, NeuronClasses, alike
from recorder.frameworks.outputs import SpikeOutput

_SPIKES = "rockpool's neurons put out several spikes per step by default: use max_spikes_per_dt=1"

NEURON_CLASSES: NeuronClasses = {
    "rockpool.nn.modules.torch": alike(
        NeuronClass(SpikeOutput("n t ...", item=None), hint=_SPIKES, is_always_batched=True),
        *("LIFBaseTorch", "LIFNeuronTorch"),
    ),
}
