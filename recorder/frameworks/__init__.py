"""Which modules of a network spike, and where the spikes are in what they put out: one file for each library.

No library is imported here. `recorder` and `recorder.capture` may enter; nothing in here knows of them.
"""

from recorder.frameworks.finding import LayerChoice, find_spiking_layers, refuse_unrecordable
from recorder.frameworks.outputs import SpikeOutput
from recorder.frameworks.spiking_layer import SpikingLayer, SpikingLayerError

__all__ = [
    "LayerChoice",
    "SpikeOutput",
    "SpikingLayer",
    "SpikingLayerError",
    "find_spiking_layers",
    "refuse_unrecordable",
]
