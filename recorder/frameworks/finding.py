"""Find the spiking modules of a network.

Neurons whose spikes have values other than 0 and 1 are found too, so that no layer is left out unnoticed.
Recording such a layer fails, and `SpikingLayer.hint` says why. A layer that can never fire
(``v_threshold=inf``) is found like any other.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from recorder.frameworks import lookalikes
from recorder.frameworks.libraries import (
    bindsnet,
    braincog,
    lava,
    matterhorn,
    norse,
    rockpool,
    sinabs,
    snntorch,
    spikingjelly,
)
from recorder.frameworks.libraries.neuron_class import STEP, NeuronClass, NeuronClasses
from recorder.frameworks.outputs import Layout, SpikeOutput
from recorder.frameworks.spiking_layer import SpikingLayer, SpikingLayerError
from recorder.frameworks.wrappers import wrapped_neuron, wrappers_by_neuron

_LIBRARIES = "SpikingJelly, snnTorch, norse, sinabs, BrainCog, BindsNET, rockpool, lava-dl and matterhorn"
_KNOWN: NeuronClasses = {
    **spikingjelly.NEURON_CLASSES,
    **snntorch.NEURON_CLASSES,
    **norse.NEURON_CLASSES,
    **sinabs.NEURON_CLASSES,
    **braincog.NEURON_CLASSES,
    **bindsnet.NEURON_CLASSES,
    **rockpool.NEURON_CLASSES,
    **lava.NEURON_CLASSES,
    **matterhorn.NEURON_CLASSES,
}

LayerChoice: TypeAlias = (
    str
    | type[nn.Module]
    | Iterable[str | type[nn.Module]]
    | Mapping[Any, SpikeOutput | None]
    | Callable[[str, nn.Module], bool]
)


def refuse_unrecordable(net: nn.Module) -> None:
    """Raise for a network whose forward hooks are skipped, or called by several threads at once.

    Parameters
    ----------
    net : nn.Module
        The network.

    Raises
    ------
    SpikingLayerError
        If the network is or contains an `nn.DataParallel`, or a scripted or traced module. The message gives
        the module's name and the reason.
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


def find_spiking_layers(
    net: nn.Module, layers: LayerChoice | None = None, *, batched: bool = True
) -> dict[str, SpikingLayer]:
    """Spiking layers of a network, in the order of ``net.named_modules()``.

    Parameters
    ----------
    net : nn.Module
        The network, on any device, in any mode. It is not changed, and no library is imported.
    layers : optional
        Which modules to take. Default: the neurons of SpikingJelly, snnTorch, norse, sinabs, BrainCog,
        BindsNET, rockpool, lava-dl and matterhorn, and what extends them. Else one or several module names
        and types; a predicate ``(name, module) -> bool``; or a mapping from names and types to `SpikeOutput`,
        or to None where that is known or the default. A name counts before a type, a nearer type before a
        farther one. A module of no known framework is by default a single step, ``[N, *neuron]``, put out as
        a tensor or first in a tuple.
    batched : bool
        Whether outputs have an axis of samples. If not, what is known or assumed of a module is taken without
        one, except for libraries that always have one; a `SpikeOutput` in ``layers`` is taken as it is.

    Returns
    -------
    dict of str to SpikingLayer
        Layers by name. A module that has several names in the network is listed once, under the first.

    Raises
    ------
    SpikingLayerError
        If no layer is found, a name or type is not in the network, or a neuron module contains another one;
        also for the reasons of `refuse_unrecordable`.
    TypeError
        If an argument has none of these types.

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
            + f". Known are the neurons of {_LIBRARIES}; "
            "choose others with layers=, by name, type or a predicate (name, module) -> bool"
        )
    wrappers = wrappers_by_neuron(modules)
    if wrappers:
        chosen = {wrappers.get(modules[name], name): output for name, output in chosen.items()}
        chosen = {name: chosen[name] for name in modules if name in chosen}
    if layers is None:
        found = {name: wrapped_neuron(modules[name]) or modules[name] for name in chosen}
        lookalikes.name_lookalikes(found, modules, lambda module: _known_class(module) is not None)
    return {name: _layer(name, modules[name], output, batched) for name, output in chosen.items()}


def known_neurons(net: nn.Module) -> dict[str, nn.Module]:
    """All modules of a network, by name, that are neurons of the libraries that are known."""
    return {name: module for name, module in net.named_modules() if _spikes(module)}


def _layer(name: str, module: nn.Module, output: SpikeOutput | None, batched: bool) -> SpikingLayer:
    neuron = wrapped_neuron(module)
    found = _known_class(neuron or module)
    known = found or NeuronClass(STEP)
    origin: Literal["user", "library", "assumption"] = (
        "user" if output is not None else "assumption" if found is None else "library"
    )
    layout: Layout = output or known.layout
    if neuron is not None and callable(layout):
        layout = functools.partial(_ask_for, layout, neuron)
    if output is None and not batched and not known.is_always_batched:
        layout = _without_batch(layout)
    # What wraps a neuron calls a function of it, which leaves no potential in the module.
    potential = known.potential if neuron is None else None
    return SpikingLayer(name, module, layout, known.hint, origin, known.kept_in, known.is_graded, potential)


def _ask_for(layout: Callable[[Any], SpikeOutput], neuron: nn.Module, _: nn.Module) -> SpikeOutput:
    return layout(neuron)


def _without_batch(layout: Layout) -> Layout:
    if isinstance(layout, SpikeOutput):
        return layout.without_batch()
    return functools.partial(_ask_without_batch, layout)


def _ask_without_batch(layout: Callable[[Any], SpikeOutput], module: nn.Module) -> SpikeOutput:
    return layout(module).without_batch()


def _neurons(modules: Mapping[str, nn.Module]) -> dict[str, None]:
    neurons = {name: module for name, module in modules.items() if _spikes(module)}
    for name, module in neurons.items():
        # No framework's neuron contains another one; in a user's, both may well put out the same spikes.
        inside = {*nn.Module.modules(module)} - {module}  # rockpool's method of that name is another
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


def _known_class(module: nn.Module) -> NeuronClass | None:
    for cls in type(module).__mro__:
        for package, classes in _KNOWN.items():
            # Somewhere in the name: copies of a library are kept inside other packages.
            if cls.__name__ in classes and f".{package}." in f".{cls.__module__}.":
                return classes[cls.__name__]
    return None


def _spikes(module: nn.Module) -> bool:
    known = _known_class(module)
    if known is None:
        return False
    return known.spikes if isinstance(known.spikes, bool) else bool(known.spikes(module))
