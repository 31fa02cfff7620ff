"""The torch neurons of rockpool, as in version 3.1.0.

rockpool has the batch as the first axis and time as the second, also for a single sample. Its modules return
states beside their output, but hooks receive the output alone. Rate neurons, synapses and the ``UpDown``
encoder are not taken.
"""

from __future__ import annotations

from recorder.frameworks.libraries.neuron_class import NeuronClass, NeuronClasses, alike
from recorder.frameworks.outputs import SpikeOutput

NEURON_CLASSES: NeuronClasses = {
    "rockpool.nn.modules.torch": alike(
        # Several spikes a step by default.
        NeuronClass(SpikeOutput("n t ...", item=None), is_always_batched=True, is_graded=True),
        *("LIFBaseTorch", "LIFNeuronTorch"),
    ),
}
