"""What is known about a library's class of neurons.

Each library has a file with its ``NEURON_CLASSES``: Python module or package → class name → what is known. A
library is recognised by the names of a module's classes and of the Python modules that define them, in order
of inheritance. So no library is ever imported, and a subclass counts as what it extends.
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
    """What is known about a class of a library, and so about its subclasses.

    Attributes
    ----------
    layout : SpikeOutput or callable
        As of `SpikingLayer`.
    spikes : bool or callable
        Whether modules of the class spike, or a function of the module that says so.
    hint : str
        As of `SpikingLayer`.
    """

    layout: Layout
    spikes: bool | Callable[[Any], bool] = True
    hint: str = ""


NeuronClasses: TypeAlias = Mapping[str, Mapping[str, NeuronClass]]


def alike(known: NeuronClass, *names: str) -> dict[str, NeuronClass]:
    """Classes of which the same is known."""
    return dict.fromkeys(names, known)
