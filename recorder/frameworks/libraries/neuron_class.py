"""The record of what is known about one class of neurons of a library.

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
from recorder.frameworks.potentials import Potential

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
        Whether modules of the class spike, or a function of the module that says so.
    hint, kept_in : str
        As of `SpikingLayer`.
    is_always_batched : bool
        Whether there is an axis of samples in every output, also where a network runs without a batch.
    is_graded : bool
        As of `SpikingLayer`.
    potential : Potential, optional
        Where the membrane potential is; None where that is not known.
    """

    layout: Layout
    spikes: bool | Callable[[Any], bool] = True
    hint: str = ""
    kept_in: str = ""
    is_always_batched: bool = False
    is_graded: bool = False
    potential: Potential | None = None


NeuronClasses: TypeAlias = Mapping[str, Mapping[str, NeuronClass]]


def alike(known: NeuronClass, *names: str) -> dict[str, NeuronClass]:
    """Table entries for several classes about which the same is known."""
    return dict.fromkeys(names, known)
