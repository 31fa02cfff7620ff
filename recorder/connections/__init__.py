"""Which weight layers read the spikes of which layer, found in one forward, and each neuron's fan-out.

The monitor's hooks enter, with the network and its recorded layers; they get a record for the commit, and
have the operations of single calls counted, where they are to be.
"""

from recorder.connections.counting import WeightLayerCounter, weight_layers_of
from recorder.connections.forward_graph import ForwardGraph

__all__ = ["ForwardGraph", "WeightLayerCounter", "weight_layers_of"]
