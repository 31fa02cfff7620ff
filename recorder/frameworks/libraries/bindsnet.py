"""BindsNET's nodes. Read and run in 0.3.4.

Nodes put nothing out: they keep the spikes of the step in ``s``, ``[N, *neuron]``. The network calls their
``forward`` itself, past all hooks, and is not called either (its method is ``run``), so that what its nodes
do between two calls of the same one is a step. Not taken is ``Input``, which holds what the network is shown.
"""

from __future__ import annotations

from recorder.frameworks.libraries.neuron_class import STEP_TENSOR, NeuronClass, NeuronClasses

NEURON_CLASSES: NeuronClasses = {
    "bindsnet.network.nodes": {
        "Nodes": NeuronClass(STEP_TENSOR, kept_in="s", is_always_batched=True),
        "AbstractInput": NeuronClass(STEP_TENSOR, spikes=False, kept_in="s", is_always_batched=True),
        "Input": NeuronClass(STEP_TENSOR, spikes=False, kept_in="s", is_always_batched=True),
    },
}
