"""Wrappers that call a function of their neuron instead of the neuron, so that no hook on the neuron runs.

SpikingJelly 2 has two. Its ``memopt`` puts `torch`'s ``CheckpointWrapper`` around a module, and its import
from NIR puts ``_NIRStatefulModule`` around each neuron; both then call ``functional_forward``. They return
what the neuron would, so the neuron is recorded at its wrapper.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn


def wrappers_by_neuron(modules: Mapping[str, nn.Module]) -> dict[nn.Module, str]:
    """Find wrappers among the modules of a network.

    Parameters
    ----------
    modules : mapping
        Modules by name.

    Returns
    -------
    dict of nn.Module to str
        For each module whose output a wrapper returns, the name of the wrapper.
    """
    pairs = ((wrapped_neuron(module), name) for name, module in modules.items())
    return {wrapped: name for wrapped, name in pairs if wrapped is not None}


def wrapped_neuron(module: nn.Module) -> nn.Module | None:
    """Return the module whose output a wrapper returns; None for a module that is no such wrapper.

    Of a wrapped `nn.Sequential` this is its last module.
    """
    kinds = {cls.__name__ for cls in type(module).__mro__}
    if "CheckpointWrapper" in kinds:
        # Torch's own checkpoint functions call the module itself.
        checkpoint = getattr(module, "checkpoint_fn", None)
        is_functional = "functional_forward" in getattr(checkpoint, "keywords", {})
        wrapped = getattr(module, "_checkpoint_wrapped_module", None) if is_functional else None
    elif "_NIRStatefulModule" in kinds:
        wrapped = getattr(module, "module", None)
    else:
        return None
    while type(wrapped) is nn.Sequential and len(wrapped):
        wrapped = wrapped[-1]
    return wrapped if isinstance(wrapped, nn.Module) else None
