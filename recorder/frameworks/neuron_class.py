"""The record of what is known about one class of neurons of a library.

The file of each library has a table ``NEURON_CLASSES``: Python module or package → class name →
`NeuronClass`. A neuron is looked up by the names of its classes, and of the Python modules that define them,
in the order of inheritance. So no library is ever imported. A subclass is treated like the class that it
extends, and so is a copy of a library inside another package
(``my_project.spikingjelly.activation_based.neuron``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from recorder.frameworks.outputs import Layout, SpikeOutput

STEP, STEPS = SpikeOutput("n ..."), SpikeOutput("t n ...")
STEP_TENSOR, STEPS_TENSOR = SpikeOutput("n ...", item=None), SpikeOutput("t n ...", item=None)
STEP_TUPLE, STEPS_TUPLE = SpikeOutput("n ...", item=0), SpikeOutput("t n ...", item=0)


@dataclass(frozen=True)
class NeuronClass:
    """Facts about one class of a library, which also hold for its subclasses.

    Attributes
    ----------
    layout : SpikeOutput or callable
        Layout of the output, as in `SpikingLayer`.
    spikes : bool or callable
        True if modules of the class spike, or a function that says it for a module.
    hint : str
        Explanation of values other than 0 and 1, as in `SpikingLayer`.
    kept_in : str
        Attribute in which a module keeps its spikes, as in `SpikingLayer`.
    is_always_batched : bool
        True if every output has an axis of samples, also when the network runs without a batch.
    """

    layout: Layout
    spikes: bool | Callable[[Any], bool] = True
    hint: str = ""
    kept_in: str = ""
    is_always_batched: bool = False


NeuronClasses: TypeAlias = Mapping[str, Mapping[str, NeuronClass]]


def alike(known: NeuronClass, *names: str) -> dict[str, NeuronClass]:
    """Table entries for several classes about which the same is known."""
    return dict.fromkeys(names, known)
