"""Find modules of unknown classes that look like neurons, and warn the user that they are not recorded.

A network that has both known and unknown neurons would otherwise be recorded in part without notice.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping

from torch import nn

_logger = logging.getLogger("recorder")
_LOOK = re.compile(r"LIF|Neuron|Spik|Node")
_OTHER = re.compile(r"Encoder|Decoder|Loss")
_NAMED = 10


def name_lookalikes(
    found: Mapping[str, nn.Module], modules: Mapping[str, nn.Module], is_known: Callable[[nn.Module], bool]
) -> None:
    """Log a warning with the names of modules that look like neurons and are not recorded.

    Parameters
    ----------
    found : mapping
        Name → module of the spiking layers.
    modules : mapping
        Name → module of all modules of the network.
    is_known : callable
        Function that says if the class of a module is known.
    """
    like = find_lookalikes(found, modules, is_known)
    if like:
        shown = [f"{name!r} ({type(modules[name]).__name__})" for name in like[:_NAMED]]
        more = f" and {len(like) - _NAMED} more" if len(like) > _NAMED else ""
        _logger.warning(
            "recording %d layers (%s); NOT recorded, as nothing is known of them, though their classes are "
            "named like neurons: %s%s. Choose all that is to be recorded with layers=",
            len(found),
            ", ".join(sorted({type(module).__name__ for module in found.values()})),
            ", ".join(shown),
            more,
        )


def find_lookalikes(
    found: Mapping[str, nn.Module], modules: Mapping[str, nn.Module], is_known: Callable[[nn.Module], bool]
) -> list[str]:
    """Names of modules whose class is named like a neuron; without known ones, and modules of ``found``."""
    # nn.Module.modules is called by its class, because rockpool overrides .modules().
    inside = {part for module in found.values() for part in nn.Module.modules(module)}
    like = {
        name: module
        for name, module in modules.items()
        if module not in inside and _is_named_like_a_neuron(type(module)) and not is_known(module)
    }
    neurons = {*found.values(), *like.values()}
    # A module that contains neurons is a block of neurons, and no neuron itself.
    return [name for name, module in like.items() if not neurons & ({*nn.Module.modules(module)} - {module})]


def _is_named_like_a_neuron(kind: type[nn.Module]) -> bool:
    name = kind.__name__
    return bool(_LOOK.search(name)) and not _OTHER.search(name) and not kind.__module__.startswith("torch.")
