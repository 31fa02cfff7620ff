"""The record of what is known about one class of neurons of a library.

The file of each library has a table ``NEURON_CLASSES``: Python module or package → class name →
`NeuronClass`. A neuron is looked up by the names of its classes, and of the Python modules that define them,
in the order of inheritance. So no library is ever imported, and a subclass is treated like the class that it
extends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from recorder.frameworks.outputs import Layout, SpikeOutput

STEP, STEPS = SpikeOutput("N"), SpikeOutput("TN")
STEP_TENSOR, STEPS_TENSOR = SpikeOutput("N", item=None), SpikeOutput("TN", item=None)
STEP_TUPLE, STEPS_TUPLE = SpikeOutput("N", item=0), SpikeOutput("TN", item=0)


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
    """

    layout: Layout
    spikes: bool | Callable[[Any], bool] = True
    hint: str = ""


NeuronClasses: TypeAlias = Mapping[str, Mapping[str, NeuronClass]]


def alike(known: NeuronClass, *names: str) -> dict[str, NeuronClass]:
    """Table entries for several classes about which the same is known."""
    return dict.fromkeys(names, known)
