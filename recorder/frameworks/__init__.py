"""Knowledge about SNN libraries, one file each: their spiking modules, and the layout of the modules' output.

`recorder` and `recorder.capture` may enter; no library is imported here, and nothing of theirs.
"""

from recorder.frameworks.finding import (
    LayerChoice,
    find_spiking_layers,
    known_neurons,
    refuse_unrecordable,
)
from recorder.frameworks.outputs import SpikeOutput
from recorder.frameworks.spiking_layer import SpikingLayer, SpikingLayerError, layers_named

__all__ = [
    "LayerChoice",
    "SpikeOutput",
    "SpikingLayer",
    "SpikingLayerError",
    "find_spiking_layers",
    "known_neurons",
    "layers_named",
    "refuse_unrecordable",
]
