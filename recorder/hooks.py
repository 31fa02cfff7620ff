"""What the monitor puts on the user's modules while it is enabled, and takes away again.

Hooks refer to the monitor weakly, so that they keep nothing alive, and turn inert when a network that carries
them is copied or pickled.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from recorder.session import RecordingSession
from recorder.spiking_layers import SpikingLayer

SessionReference = Callable[[], RecordingSession | None]


class InertHook:
    """What a hook becomes in a copy of the network: it does nothing."""

    def __call__(self, *_: Any) -> None:
        """Do nothing."""


class _Hook:
    def __deepcopy__(self, _: dict[int, Any]) -> InertHook:
        return InertHook()

    def __reduce__(self) -> tuple[type[InertHook], tuple[()]]:
        return InertHook, ()


class LayerHook(_Hook):
    """Records what one spiking layer puts out."""

    def __init__(self, layer: SpikingLayer, session: SessionReference) -> None:
        self._layer = layer
        self._session = session

    def __call__(self, module: nn.Module, _: Any, output: Any) -> None:
        """Record ``output``; a shallow copy of the layer, which shares its hooks, is not recorded."""
        if module is not self._layer.module:
            if getattr(module, "_is_replica", False):
                raise RuntimeError(
                    "the network runs inside torch.nn.DataParallel, whose replicas come and go with each "
                    "call; use DistributedDataParallel with one monitor in each process instead"
                )
            return
        session = self._session()
        if session is not None:
            session.record(self._layer.name, self._layer.read_spikes(output), self._layer.hint)


class _ForwardHook(_Hook):
    def __init__(self, session: SessionReference, forwards: NetworkHooks) -> None:
        self._session = session
        self._forwards = weakref.ref(forwards)


class _BeginHook(_ForwardHook):
    def __call__(self, *_: Any) -> None:
        session, forwards = self._session(), self._forwards()
        if session is not None and forwards is not None:
            forwards.thread_id = threading.get_ident()
            forwards.has_returned = False
            session.begin_forward()


class _ReturnHook(_ForwardHook):
    def __call__(self, *_: Any) -> None:
        forwards = self._forwards()
        if forwards is not None:
            forwards.has_returned = True


class _EndHook(_ForwardHook):
    def __call__(self, *_: Any) -> None:
        session, forwards = self._session(), self._forwards()
        if session is not None and forwards is not None:
            session.end_forward(succeeded=forwards.has_returned)


class NetworkHooks:
    """All hooks of one monitor.

    Parameters
    ----------
    network : torch.nn.Module
        Its forwards are the boundaries between steps.
    layers : iterable of SpikingLayer
    session : callable
        Gives the session to record into, or None.
    """

    def __init__(self, network: nn.Module, layers: Iterable[SpikingLayer], session: SessionReference) -> None:
        self._network = network
        self._layers = tuple(layers)
        self._session = session
        self._handles: list[RemovableHandle] = []
        self.thread_id = 0
        self.has_returned = False

    @property
    def in_place(self) -> bool:
        """Whether the hooks are on the modules."""
        return bool(self._handles)

    def put(self) -> None:
        """Put the hooks on the modules, once."""
        if self._handles:
            return
        begin, returned, end = (kind(self._session, self) for kind in (_BeginHook, _ReturnHook, _EndHook))
        self._handles = [
            self._network.register_forward_pre_hook(begin),
            *(layer.module.register_forward_hook(LayerHook(layer, self._session)) for layer in self._layers),
            self._network.register_forward_hook(returned),
            self._network.register_forward_hook(end, always_call=True),
        ]

    def remove(self) -> None:
        """Take every hook away again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def forward_is_running(self) -> bool:
        """Whether the forward seen last is still on its thread's stack.

        `torch.nn.Module` tells its hooks about the end of a forward, except when it is left by a
        KeyboardInterrupt.
        """
        # Underscored, but documented; there is no other way to look at another thread's stack.
        frame = sys._current_frames().get(self.thread_id)  # noqa: SLF001
        while frame is not None:
            if frame.f_code.co_name == "_call_impl" and frame.f_locals.get("self") is self._network:
                return True
            frame = frame.f_back
        return False
