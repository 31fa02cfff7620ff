"""The nodes of BindsNET, as in version 0.3.4.

A node returns nothing: it keeps the spikes of the step in ``s``, ``[N, *neuron]``. The network calls the
``forward`` of its nodes directly, so that hooks do not run, and its own method is ``run``, not ``forward``.
Therefore a step ends when a node is called again. ``Input`` is not taken, because it holds the input.
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
