"""Where the neurons of a library keep their membrane potential, after the step and for each step.

Single-step neurons have that of the step in an attribute, or put it out beside the spikes. Multi-step neurons
have that of all steps only while a switch is on, which costs memory; `recorder.hooks.states` switches it on
for the time of a forward.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch

from recorder.frameworks.outputs import SpikeOutput

# Where the potentials of a module lie between its forward and the next one, or until it is not recorded any
# more. Not in the module, whose copies and pickles would have them, too.
KEPT: Final[weakref.WeakKeyDictionary[Any, torch.Tensor]] = weakref.WeakKeyDictionary()

Read = Callable[[Any, Any, bool], Any]


@dataclass(frozen=True)
class Potential:
    """Where the membrane potential of a neuron class is.

    Attributes
    ----------
    read : callable
        Given the module, its output, and whether it has an axis of steps: the potential, or None.
    switch : str
        Attribute that is True while the potential of every step is kept; empty if there is none.
    axes : SpikeOutput, optional
        Axes of the potential, where they are not those of the spikes.
    forget : callable, optional
        Given the module and its output of a forward in which only the recorder had switched it on: the output
        as it is otherwise, with nothing left in the module.
    """

    read: Read
    switch: str = ""
    axes: SpikeOutput | None = None
    forget: Callable[[Any, Any], Any] = lambda _module, output: output


def _read_spikingjelly(module: Any, _output: Any, has_steps: bool) -> Any:
    return getattr(module, "v_seq" if has_steps else "v", None)


def _forget_spikingjelly(module: Any, output: Any) -> Any:
    module.v_seq = None
    return output


def _read_snntorch(module: Any, output: Any, has_steps: bool) -> Any:
    if isinstance(output, tuple):
        last = output[-1]
        return last[0] if isinstance(last, tuple) else last
    return None if has_steps else getattr(module, "mem", None)


def _read_norse(_module: Any, output: Any, _has_steps: bool) -> Any:
    state = output[1] if isinstance(output, tuple) and len(output) > 1 else None
    return getattr(getattr(state, "lif", state), "v", None)


def _forget_norse(_module: Any, output: Any) -> Any:
    return output[0], _last(output[1])


def _last(state: Any) -> Any:
    """The state after the last step, of states with an axis of steps in front; tuples may lie in tuples."""
    if isinstance(state, torch.Tensor):
        return state[-1]
    return type(state)(*(_last(part) for part in state))


def _read_sinabs(module: Any, _output: Any, _has_steps: bool) -> Any:
    return getattr(module, "recordings", {}).get("v_mem")


def _forget_sinabs(module: Any, output: Any) -> Any:
    module.recordings = {}
    return output


def _read_braincog(module: Any, _output: Any, has_steps: bool) -> Any:
    return None if has_steps else module.mem


SPIKINGJELLY: Final = Potential(_read_spikingjelly, "store_v_seq", forget=_forget_spikingjelly)
SNNTORCH: Final = Potential(_read_snntorch)
NORSE: Final = Potential(_read_norse, "record_states", forget=_forget_norse)
SINABS: Final = Potential(
    _read_sinabs, "record_states", SpikeOutput("n t ...", item=None), forget=_forget_sinabs
)
BRAINCOG: Final = Potential(_read_braincog)
