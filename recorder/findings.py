"""What is wrong with the steps of a network, told to its user: once, by name, with what helps."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Mapping, Sequence

from torch import nn

from recorder.format import StepsWarning, UncalledLayersWarning
from recorder.frameworks import SpikingLayer
from recorder.steps import STOPPED_AFTER_FORWARDS, Findings

_UNCALLED = (
    "No hook of theirs runs: the network leaves them out, or its code calls their .forward() or a function "
    "of theirs instead of the module. Call the modules, leave them out with layers=..., or choose the module "
    "around them: layers={'name': SpikeOutput(...)}"
)


class FindingsTeller:
    """Warns of what `Steps` finds.

    Parameters
    ----------
    network : torch.nn.Module
    layers : mapping
        Monitored layers by name.
    """

    def __init__(self, network: nn.Module, layers: Mapping[str, SpikingLayer]) -> None:
        self._network = weakref.ref(network)
        self._modules = {name: weakref.ref(layer.module) for name, layer in layers.items()}
        self._kind = type(network).__name__

    def tell(self, findings: Findings) -> None:
        """Warn of findings; a layer that a forward may well leave out is told of only if it was replaced."""
        if findings.guessed is not None:
            again, missing = findings.guessed
            _warn(
                f"layer {again!r} was called again before {_listed(missing)}, and {self._kind} itself is not "
                "called. The second call is taken for the next step; layers that were not called in between "
                "have a gap. If that is wrong, call monitor.step() after enable() and after each step, or "
                "record inside `with monitor.trial():`, which begins and ends with a step, too",
                StepsWarning,
            )
        if findings.uneven:
            _warn(
                f"{_listed(findings.uneven)} made fewer steps in a forward than layers that made as many "
                "before: there is a gap behind the last of them. Which step is missing cannot be told",
                StepsWarning,
            )
        if findings.stopped:
            _warn(
                f"not called in the newest {STOPPED_AFTER_FORWARDS} forwards, as it was before: "
                f"{_listed(findings.stopped)}. {_UNCALLED}",
                UncalledLayersWarning,
            )
        told = set(findings.guessed[1]) if findings.guessed else set()
        replaced = self._replaced([*findings.never_called, *findings.left_out])
        never_called = [name for name in findings.never_called if name not in (*replaced, *told)]
        if replaced:
            _warn(
                f"the network has other modules now at {_listed(replaced)} than when the monitor was made: "
                "these are not monitored. Make a new monitor",
                UncalledLayersWarning,
            )
        if never_called:
            _warn(f"monitored, but not called: {_listed(never_called)}. {_UNCALLED}", UncalledLayersWarning)

    def _replaced(self, names: Sequence[str]) -> list[str]:
        network = self._network()
        modules = dict(network.named_modules(remove_duplicate=False)) if network is not None else {}
        return [name for name in names if modules.get(name) is not self._modules[name]()]


def _listed(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _warn(message: str, category: type[Warning]) -> None:
    warnings.warn(message, category, stacklevel=2)
