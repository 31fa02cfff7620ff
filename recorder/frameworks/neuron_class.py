"""What is known about a library's class of neurons.

Each library has a file with its ``NEURON_CLASSES``: Python module or package → class name → what is known. A
library is recognised by the names of a module's classes and of the Python modules that define them, in order
of inheritance. So no library is ever imported, a subclass counts as what it extends, and so does a copy that
somebody keeps inside a package of their own (``my_project.spikingjelly.activation_based.neuron``).
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
    """What is known about a class of a library, and so about its subclasses.

    Attributes
    ----------
    layout : SpikeOutput or callable
        As of `SpikingLayer`.
    spikes : bool or callable
        Whether modules of the class spike, or a function of the module that says so.
    hint, kept_in : str
        As of `SpikingLayer`.
    is_always_batched : bool
        Whether there is an axis of samples in every output, also where a network runs without a batch.
    """

    layout: Layout
    spikes: bool | Callable[[Any], bool] = True
    hint: str = ""
    kept_in: str = ""
    is_always_batched: bool = False


NeuronClasses: TypeAlias = Mapping[str, Mapping[str, NeuronClass]]


def alike(known: NeuronClass, *names: str) -> dict[str, NeuronClass]:
    """Classes of which the same is known."""
    return dict.fromkeys(names, known)
