"""Which modules spike, and where batch, time and the spikes are in what they put out.

The frameworks disagree about both. SpikingJelly, norse and snnTorch's parallel neurons put time first, sinabs
puts it second or folds it into the batch; single-step neurons have no time axis. norse puts out tuples, and
snnTorch does so depending on settings. This module holds what is known about each of them, and turns whatever
a spiking module puts out into one form: a tensor ``[T, N, *neuron]``.

A framework is recognised by the names of a module's classes and of the Python modules that define them, in
order of inheritance. So no framework is ever imported, and a subclass counts as what it extends.

Not taken, unless chosen with ``layers=``:

- leaky integrators and neurons with analog output (norse ``LI``, sinabs ``ExpLeak``, snnTorch's state-space
  neurons with ``output=False``, SpikingJelly ``LIAFNode`` and ``NonSpiking*``);
- encoders, which are the input of a network rather than part of it;
- SpikingJelly's ``rnn`` module, as in SpikingJelly's own monitors: an LSTM's hidden state may be 2, and the
  reversed cells of a bidirectional one run backwards in time.

Neurons that spike with values other than 0 and 1 *are* taken, so that none is left out unnoticed: recording
them fails, and `SpikingLayer.hint` says why. A layer that cannot fire (``v_threshold=inf``) is taken: silent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

__all__ = ["SpikeOutput", "SpikingLayer", "SpikingLayerError", "find_spiking_layers", "refuse_unrecordable"]

_SHAPES = {
    "N": "[N, *neuron]",
    "TN": "[T, N, *neuron]",
    "NT": "[N, T, *neuron]",
    "N*T": "[N*T, *neuron]",
}
_LEAST_AXES = {"N": 1, "TN": 2, "NT": 2, "N*T": 1}


class SpikingLayerError(ValueError):
    """The spiking layers of a network, or the spikes in what a layer put out, cannot be told."""


@dataclass(frozen=True)
class SpikeOutput:
    """Where batch, time and spikes are in what a module puts out.

    A tensor is never indexed to get at its "first item" (that would be sample 0), and a tuple is never taken
    for a tensor: `item` says which of them is expected.

    Parameters
    ----------
    axes : {"N", "TN", "NT", "N*T"}
        The axes before the neuron axes: T steps, N samples. ``"N"`` is a single step. In ``"N*T"`` both are
        folded into one axis, all steps of the first sample first.
    item : int, None or "first"
        ``k``: the output is a tuple or list, and its item ``k`` is the spikes. ``None``: the output itself is
        the tensor of spikes. ``"first"``: it is that, or a tuple or list whose first item is.
    batch_size, num_steps : int or None
        Sizes of N and T, of which ``"N*T"`` needs at least one; not used otherwise.

    Raises
    ------
    ValueError
        If a field has another value than these.

    Examples
    --------
    A module that puts out ``(membrane, spikes)``, both ``[N, T, *neuron]``:

    >>> SpikeOutput("NT", item=1)
    SpikeOutput(axes='NT', item=1, batch_size=None, num_steps=None)
    """

    axes: str = "N"
    item: int | Literal["first"] | None = "first"
    batch_size: int | None = None
    num_steps: int | None = None

    def __post_init__(self) -> None:
        if self.axes not in _SHAPES:
            raise ValueError(f"axes is {self.axes!r}, expected one of {', '.join(map(repr, _SHAPES))}")
        if not (self.item in (None, "first") or (type(self.item) is int and self.item >= 0)):
            raise ValueError(f"item is {self.item!r}, expected None, 'first' or an index of a tuple, from 0")
        for field, size in (("batch_size", self.batch_size), ("num_steps", self.num_steps)):
            if size is not None and size < 1:
                raise ValueError(f"{field} is {size}, expected at least 1, or None if it is not known")
        if self.axes == "N*T" and self.batch_size is None and self.num_steps is None:
            raise ValueError(
                "axes 'N*T' cannot be unfolded without sizes: give batch_size, num_steps or both"
            )

    def __str__(self) -> str:
        which = "" if self.item is None else f"a tuple whose item {self.item} is "
        which = "(a tuple whose first item is) " if self.item == "first" else which
        sizes = f" with N = {self.batch_size or 'any'}, T = {self.num_steps or 'any'}"
        return f"{which}a tensor of shape {_SHAPES[self.axes]}" + (sizes if self.axes == "N*T" else "")


Layout: TypeAlias = SpikeOutput | Callable[[Any], SpikeOutput]
LayerChoice: TypeAlias = (
    str
    | type[nn.Module]
    | Iterable[str | type[nn.Module]]
    | Mapping[Any, SpikeOutput | None]
    | Callable[[str, nn.Module], bool]
)


@dataclass(frozen=True)
class SpikingLayer:
    """One spiking module of a network.

    Parameters
    ----------
    name : str
        PyTorch module name in the network; ``""`` for a network that is itself one neuron module.
    module : nn.Module
        The module.
    layout : SpikeOutput or callable
        Where the spikes are, or a function of the module that says so. It is asked at each call, because
        settings like SpikingJelly's ``step_mode`` may be switched at any time.
    hint : str
        What to tell a user whose layer put out values other than 0 and 1; ``""`` if nothing is known.
    """

    name: str
    module: nn.Module
    layout: Layout = SpikeOutput()
    hint: str = ""

    @property
    def output(self) -> SpikeOutput:
        """Where the spikes are, under the present settings of the module."""
        return self.layout if isinstance(self.layout, SpikeOutput) else self.layout(self.module)

    def read_spikes(self, output: object) -> torch.Tensor:
        """Spikes in what the module put out, in one form for all modules.

        Parameters
        ----------
        output : object
            What the module returned, as a forward hook is given it.

        Returns
        -------
        torch.Tensor
            ``[T, N, *neuron]`` in logical order, T = 1 for a single step; dtype and device as put out. A
            detached view: nothing is copied or waited for, no gradient graph is kept, no value looked at.

        Raises
        ------
        SpikingLayerError
            If the module put out something else than expected. Names the layer, what came and what to do.
        """
        expected = self.output
        spikes = self.pick(output, expected).detach()
        return spikes.unsqueeze(0) if expected.axes == "N" else self.steps_first(spikes, expected)

    def pick(self, output: object, expected: SpikeOutput) -> torch.Tensor:
        """The tensor of spikes in what the module put out, as it is; errors as in `read_spikes`."""
        spikes = output
        if isinstance(output, (tuple, list)) and expected.item is not None:
            index = 0 if expected.item == "first" else expected.item
            spikes = output[index] if index < len(output) else None
        elif isinstance(expected.item, int):
            spikes = None
        if not isinstance(spikes, torch.Tensor) or spikes.ndim < _LEAST_AXES[expected.axes]:
            raise self._unexpected(output, expected)
        if spikes.layout is not torch.strided:
            raise SpikingLayerError(
                f"{self._described()} put out a tensor of layout {spikes.layout}, expected torch.strided: "
                "give the layer dense input, or make its output dense with .to_dense()"
            )
        return spikes

    def steps_first(self, spikes: torch.Tensor, expected: SpikeOutput) -> torch.Tensor:
        """View what was picked from an output of several steps as ``[T, N, *neuron]``."""
        if expected.axes == "N*T":
            batch_size = expected.batch_size or len(spikes) // (expected.num_steps or 1)
            num_steps = expected.num_steps or len(spikes) // batch_size
            if batch_size * num_steps != len(spikes):
                raise self._unexpected(spikes, expected)
            spikes = spikes.view(batch_size, num_steps, *spikes.shape[1:])
        return spikes if expected.axes == "TN" else spikes.transpose(0, 1)

    def _described(self) -> str:
        return f"layer {self.name!r} ({type(self.module).__name__})"

    def _unexpected(self, output: object, expected: SpikeOutput) -> SpikingLayerError:
        return SpikingLayerError(
            f"{self._described()} put out {_describe(output)}, expected {expected}: "
            f"say where its spikes are, e.g. layers={{{self.name!r}: SpikeOutput('TN', item=None)}}, "
            "or leave it out by choosing other layers"
        )


def _describe(output: object) -> str:
    if isinstance(output, torch.Tensor):
        return f"a tensor of shape {list(output.shape)}"
    if isinstance(output, (tuple, list)):
        return f"a {type(output).__name__} of {len(output)} ({', '.join(map(_describe, output))})"
    return f"an object of type {type(output).__name__}"


# --- What is known about the frameworks ---------------------------------------------------------------------


@dataclass(frozen=True)
class _NeuronClass:
    """What is known about a class of a framework, and so about its subclasses."""

    layout: Layout
    spikes: bool | Callable[[Any], bool] = True
    hint: str = ""


def _steps_by_name(module: nn.Module) -> SpikeOutput:
    # clock_driven and cext mark multi-step modules by nothing but their name; so does their own monitor.
    multi_step = any(cls.__name__.startswith("MultiStep") for cls in type(module).__mro__)
    return _STEPS_TENSOR if multi_step else _STEP_TENSOR


def _steps_by_mode(module: nn.Module) -> SpikeOutput:
    # "first": a neuron of SpikingJelly 2 may have more outputs after its spikes (OTTTLIFNode in training).
    return _STEPS if getattr(module, "step_mode", "s") == "m" else _STEP


def _squeezed_or_not(module: Any) -> SpikeOutput:
    if not any(cls.__name__ == "SqueezeMixin" for cls in type(module).__mro__):
        return SpikeOutput("NT", item=None)
    # sinabs puts -1 for the one that is not given.
    sizes = (size if size > 0 else None for size in (module.batch_size, module.num_timesteps))
    return SpikeOutput("N*T", None, *sizes)


_SURROGATE = "SpikingJelly neurons put out 0 and 1 only while their surrogate_function.spiking is True"
_GRADED = "snnTorch multiplies spikes by graded_spikes_factor: only layers whose factor is 1 can be recorded"
_MULTI_SPIKE = (
    "sinabs' IAF and LIF put out several spikes per step by default (spike_fn=MultiSpike): "
    "use spike_fn=sinabs.activation.SingleSpike"
)
_STEP, _STEPS = SpikeOutput("N"), SpikeOutput("TN")
_STEP_TENSOR, _STEPS_TENSOR = SpikeOutput("N", item=None), SpikeOutput("TN", item=None)
_STEP_TUPLE, _STEPS_TUPLE = SpikeOutput("N", item=0), SpikeOutput("TN", item=0)


def _same(known: _NeuronClass, *names: str) -> dict[str, _NeuronClass]:
    return dict.fromkeys(names, known)


_BY_MODE = _NeuronClass(_steps_by_mode, hint=_SURROGATE)
_SPIKINGJELLY_RNN = {
    "SpikingRNNCellBase": _NeuronClass(_STEP, spikes=False),
    "SpikingRNNBase": _NeuronClass(_STEPS_TUPLE, spikes=False),
}

# Python module or package → class name → what is known. Read and run in SpikingJelly 0.0.0.0.14 and 2.0.0
# (cext: read in 0.0.0.0.4, as it needs a CUDA extension), snnTorch 1.0.0, norse 1.0.0 and sinabs 3.1.3.
_NEURON_CLASSES: dict[str, dict[str, _NeuronClass]] = {
    "spikingjelly.clock_driven.neuron": {
        "BaseNode": _NeuronClass(_steps_by_name, hint=_SURROGATE),
        "LIAFNode": _NeuronClass(_steps_by_name, spikes=False),
    },
    "spikingjelly.clock_driven.layer": _same(
        _NeuronClass(_STEPS, spikes=False), "MultiStepContainer", "SeqToANNContainer"
    ),
    "spikingjelly.clock_driven.rnn": _SPIKINGJELLY_RNN,
    "spikingjelly.cext.neuron": {"BaseNode": _NeuronClass(_steps_by_name)},
    "spikingjelly.activation_based.base": {
        "StepModule": _NeuronClass(_steps_by_mode, spikes=False),
        "MultiStepModule": _NeuronClass(_STEPS, spikes=False),
    },
    "spikingjelly.activation_based.neuron": {
        **_same(_BY_MODE, "BaseNode", "SimpleBaseNode", "GatedLIFNode"),
        **_same(_BY_MODE, "MaskedPSN", "SlidingPSN", "ActivationAwareIFNode"),
        # Multi-step only, and step_mode is never set.
        **_same(_NeuronClass(_STEPS, hint=_SURROGATE), "PSN", "ILCBaseNode"),
        "NoisyBaseNode": _NeuronClass(_STEPS, hint="noisy neurons add noise to spikes while is_training"),
        "FlexSN": _NeuronClass(_steps_by_mode, hint="FlexSN puts out what its core computes"),
        "ILIFNode": _NeuronClass(_steps_by_mode, hint="ILIFNode puts out spike counts"),
        **_same(
            _NeuronClass(_steps_by_mode, hint="ternary neurons put out -1, 0 and 1"),
            *("TernaryIFNode", "TernaryLIFNode"),
        ),
        **_same(
            _NeuronClass(_steps_by_mode, hint="this neuron weights its spikes"),
            *("DSRIFNode", "DSRLIFNode", "FewSpikeNode", "STBIFNode"),
        ),
        "LIAFNode": _NeuronClass(_steps_by_mode, spikes=False),
    },
    "spikingjelly.activation_based.rnn": _SPIKINGJELLY_RNN,
    "snntorch._neurons": {
        "SpikingNeuron": _NeuronClass(_STEP, hint=_GRADED),
        # A tensor from StateLeaky or LinearLeaky is the membrane: so it must be a tuple.
        "StateLeaky": _NeuronClass(_STEPS_TUPLE, lambda module: module.output, _GRADED),
        # With a projection the spikes stay inside, and what comes out is analog.
        "AssociativeLeaky": _NeuronClass(
            _STEPS_TENSOR, lambda module: module.output and not module.use_q_projection, _GRADED
        ),
        **_same(_NeuronClass(_STEPS_TENSOR, hint=_GRADED), "LeakyParallel", "LeakyKernel"),
    },
    "norse.torch.module": {
        **_same(_NeuronClass(_STEP_TUPLE), "SNNCell", "SNNRecurrentCell", "CobaLIFCell", "LIFCorrelation"),
        **_same(_NeuronClass(_STEPS_TUPLE), "SNN", "SNNRecurrent"),
        **_same(_NeuronClass(_STEP_TUPLE, spikes=False), "LICell", "LILinearCell"),
        "LI": _NeuronClass(_STEPS_TUPLE, spikes=False),
        **_same(
            _NeuronClass(_STEPS_TENSOR, spikes=False),
            *("Lift", "ConstantCurrentLIFEncoder", "PoissonEncoder"),
            *("SpikeLatencyEncoder", "SpikeLatencyLIFEncoder"),
        ),
    },
    "sinabs.layers": {
        "StatefulLayer": _NeuronClass(_squeezed_or_not, lambda module: module.does_spike, _MULTI_SPIKE)
    },
}


def _neuron_class(module: nn.Module) -> _NeuronClass | None:
    for cls in type(module).__mro__:
        for package, classes in _NEURON_CLASSES.items():
            if cls.__name__ in classes and f"{cls.__module__}.".startswith(f"{package}."):
                return classes[cls.__name__]
    return None


def _spikes(module: nn.Module) -> bool:
    known = _neuron_class(module)
    if known is None:
        return False
    return known.spikes if isinstance(known.spikes, bool) else bool(known.spikes(module))


# --- Finding layers -----------------------------------------------------------------------------------------


def refuse_unrecordable(net: nn.Module) -> None:
    """Refuse a network in which forward hooks are skipped or shared between threads.

    Parameters
    ----------
    net : nn.Module
        The network.

    Raises
    ------
    SpikingLayerError
        If it is or contains an `nn.DataParallel`, or a scripted or traced module. Gives name and reason.
    """
    for name, module in net.named_modules():
        where = f"module {name!r} ({type(module).__name__})"
        if isinstance(module, nn.DataParallel):
            raise SpikingLayerError(
                f"{where}: the replicas of nn.DataParallel share hooks and run in several threads at once. "
                "Use DistributedDataParallel with one recording per rank, or record the module it wraps"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise SpikingLayerError(
                f"{where} is scripted or traced: TorchScript skips forward hooks, spikes would be missed. "
                "Record the network as it was before torch.jit, or only the part that is not scripted"
            )


def find_spiking_layers(net: nn.Module, layers: LayerChoice | None = None) -> dict[str, SpikingLayer]:
    """Spiking layers of a network, in the order of ``net.named_modules()``.

    Parameters
    ----------
    net : nn.Module
        The network, on any device, in any mode. It is not changed, and no framework is imported.
    layers : optional
        Which modules to take. Default: the neurons of SpikingJelly, snnTorch, norse and sinabs, and what
        extends them. Else one or several module names and types; a predicate ``(name, module) -> bool``; or a
        mapping from names and types to `SpikeOutput`, or to None where that is known or the default. A name
        counts before a type, a nearer type before a farther one. A module of no known framework is by default
        a single step, ``[N, *neuron]``, put out as a tensor or first in a tuple.

    Returns
    -------
    dict of str to SpikingLayer
        Layers by name. A module that is in the network under several names is there once, under the first.

    Raises
    ------
    SpikingLayerError
        If none is found, a name or type is not in the network, or a neuron module contains another; also as
        `refuse_unrecordable`.
    TypeError
        If an argument is of none of these types.

    Examples
    --------
    >>> list(find_spiking_layers(nn.Sequential(nn.Linear(2, 3), nn.Threshold(0.5, 0)), layers=["1"]))
    ['1']
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net is of type {type(net).__name__}, expected torch.nn.Module")
    refuse_unrecordable(net)
    modules = dict(net.named_modules())
    chosen = _neurons(modules) if layers is None else dict(_chosen(modules, layers, net))
    if not chosen:
        seen = Counter(type(module).__name__ for module in modules.values())
        raise SpikingLayerError(
            f"no spiking layer found in {type(net).__name__}, but "
            + ", ".join(f"{count} {kind}" for kind, count in seen.most_common())
            + ". Known are the neurons of SpikingJelly, snnTorch, norse and sinabs; "
            "choose others with layers=, by name, type or a predicate (name, module) -> bool"
        )
    return {name: _layer(name, modules[name], output) for name, output in chosen.items()}


def _layer(name: str, module: nn.Module, output: SpikeOutput | None) -> SpikingLayer:
    known = _neuron_class(module) or _NeuronClass(_STEP)
    return SpikingLayer(name, module, output or known.layout, known.hint)


def _neurons(modules: Mapping[str, nn.Module]) -> dict[str, None]:
    neurons = {name: module for name, module in modules.items() if _spikes(module)}
    for name, module in neurons.items():
        # No framework's neuron contains another one; in a user's, both may well put out the same spikes.
        inside = {*module.modules()} - {module}
        inner = [repr(other) for other, other_module in neurons.items() if other_module in inside]
        if inner:
            raise SpikingLayerError(
                f"neuron module {name!r} ({type(module).__name__}) contains {', '.join(inner)}, maybe the "
                "same spikes twice: choose which to record with layers=, by name"
            )
    return dict.fromkeys(neurons)


def _chosen(
    modules: Mapping[str, nn.Module], layers: LayerChoice, net: nn.Module
) -> Iterator[tuple[str, SpikeOutput | None]]:
    if isinstance(layers, nn.Module):
        raise TypeError(f"layers is a module ({type(layers).__name__}), expected names, types or a predicate")
    if isinstance(layers, (str, type)):
        layers = [layers]
    if isinstance(layers, Iterable):
        outputs = dict(layers) if isinstance(layers, Mapping) else dict.fromkeys(layers)
        _check_choice(modules, outputs, net)
        for name, module in modules.items():
            for key in (name, *type(module).__mro__):
                if key in outputs:
                    yield name, outputs[key]
                    break
    elif callable(layers):
        yield from ((name, None) for name, module in modules.items() if layers(name, module))
    else:
        raise TypeError(f"layers is of type {type(layers).__name__}, expected names, types or a predicate")


def _check_choice(modules: Mapping[str, nn.Module], outputs: Mapping[Any, Any], net: nn.Module) -> None:
    for key, output in outputs.items():
        if not (output is None or isinstance(output, SpikeOutput)):
            raise TypeError(f"layers[{key!r}] is a {type(output).__name__}, expected SpikeOutput or None")
        if isinstance(key, type):
            if not any(isinstance(module, key) for module in modules.values()):
                kinds = sorted({type(module).__name__ for module in modules.values()})
                raise SpikingLayerError(
                    f"no {key.__name__} in the network, expected one of {', '.join(kinds)}"
                )
        elif not isinstance(key, str):
            raise TypeError(f"layers contains a {type(key).__name__}, expected names or types of modules")
        elif key not in modules:
            aliased = dict(net.named_modules(remove_duplicate=False)).get(key)
            for name, module in modules.items():
                if module is aliased:
                    raise SpikingLayerError(f"module {key!r} is the same as {name!r}: choose it by that name")
            names = ", ".join(repr(name) for name in modules if name)
            raise SpikingLayerError(f"no module {key!r} in the network, expected one of {names}")
