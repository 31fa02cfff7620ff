"""The one forward in which it is found out which weight layers read which layers.

The network's ``forward`` is replaced until that is known, and as it was from then on. A hook would not do: of
a forward that Ctrl-C leaves torch tells no hook, and what looks on would go on looking.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn

from recorder.connections import ForwardGraph
from recorder.frameworks import SpikingLayer, SpikingLayerError
from recorder.hooks.replacements import Replacement
from recorder.session import RecordingSession

Look = Callable[..., Any]
UNSCRIPTABLE = (
    "torch.jit.script cannot script a monitored network, and torch.jit.trace runs the network once, for a "
    "graph that has no hooks: disable() the monitor first"
)
_is_tracing = torch._C._is_tracing  # noqa: SLF001 - its public name is not typed


class _SoughtForward(Replacement[Look]):
    name = "forward"

    @property
    def __wrapped__(self) -> Any:
        # What asks for the signature of the forward is told that of the network's own.
        return self._before or MethodType(type(self.module).forward, self.module)

    def __getattr__(self, name: str) -> Any:
        # So is what asks for its code, as torch.export does.
        if name.startswith("__") and name not in ("__wrapped__", "__func__"):
            return getattr(self.__wrapped__, name)
        raise AttributeError(name)

    @property
    def _torchscript_modifier(self) -> Any:
        # The first thing that torch.jit.script and torch.jit.trace ask a forward for.
        raise SpikingLayerError(UNSCRIPTABLE)

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        """Run the forward, and look on; a compiler finds the forward itself."""
        if torch.compiler.is_compiling() or _is_tracing():
            return self.call_replaced(*arguments, **settings)
        forward = self.call_replaced
        for look in self.kept:
            forward = partial(look, forward)
        return forward(*arguments, **settings)


class ConnectionSeeker:
    """Finds the connections of a network in the first forward that is recorded.

    Parameters
    ----------
    network : torch.nn.Module
    layers : iterable of SpikingLayer
    records_to : callable
        Returns the session that a hook has to tell now, or None.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Iterable[SpikingLayer],
        records_to: Callable[[], RecordingSession | None],
    ) -> None:
        self._network = network
        self._layers = tuple(layers)
        self._records_to = records_to
        self._is_looking = False
        # The network must not be kept by what takes the replacement away, see `NetworkHooks.removal`.
        own = weakref.WeakMethod(self._look)

        def look(forward: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
            method = own()
            return (partial(method, forward) if method else forward)(*arguments, **settings)

        self.replaced = _Replaced(look)

    def seek(self) -> None:
        """Look on in the next forward, if the connections of the recording are not known."""
        self.replaced.put(self._network)

    def _look(self, forward: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
        session = self._records_to()
        if session is None or self._is_looking or _has_compiled(self._network):
            return forward(*arguments, **settings)
        if session.layers.connections is not None:
            self.replaced.leave()
            return forward(*arguments, **settings)
        graph = ForwardGraph(self._network, self._layers, session.layers.thresholded)
        self._is_looking = True
        try:
            result = graph.run(forward, arguments, settings)
        finally:
            self._is_looking = False
        found = graph.connections()
        if found is not None:
            session.layers.connections = found
            self.replaced.leave()
        return result


class _Replaced:
    """A forward that is replaced, or not; it keeps no module."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._forward: _SoughtForward | None = None

    def put(self, network: nn.Module) -> None:
        if self._forward is None:
            self._forward = _SoughtForward.of(network)
            self._forward.kept.append(self._look)

    def leave(self) -> None:
        """Let the network have its own forward again."""
        if self._forward is not None:
            self._forward.forget(self._look)
            self._forward = None


def _has_compiled(network: nn.Module) -> bool:
    """True if a part of a network is compiled, which to look into would have it compiled again."""
    return any(
        type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None
        for module in network.modules()
    )
