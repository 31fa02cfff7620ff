"""What the monitor puts on the user's modules while it is enabled, and takes away again.

Hooks reach the session through a link that the monitor empties when it is gone, so that they keep no monitor
alive, and turn inert when a network that carries them is copied or pickled.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
import weakref
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from recorder.format.errors import RecordingStoppedWarning, RecordingWriteError
from recorder.session import RecordingSession
from recorder.spiking_layers import SpikingLayer


class SessionLink:
    """What hooks record into, if anything: the monitor fills it, and empties it when it is gone."""

    def __init__(self, *, warn_of_failures: bool = False) -> None:
        self.session: RecordingSession | None = None
        self._warn_of_failures = warn_of_failures
        _links.add(self)

    def stop(self, failure: RecordingWriteError) -> None:
        """Record nothing more as writing has failed; raises ``failure``, or warns where that was chosen."""
        if not self._warn_of_failures:
            raise failure
        if self.session is not None:
            self.session = None
            warnings.warn(
                f"{failure} The network runs on and is not recorded any more.",
                RecordingStoppedWarning,
                stacklevel=2,
            )


_links: weakref.WeakSet[SessionLink] = weakref.WeakSet()


def _empty_links_in_child() -> None:
    # A forked child, such as a worker of a DataLoader, has no writer thread and must not write.
    for link in _links:
        link.session = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_empty_links_in_child)


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

    def __init__(self, layer: SpikingLayer, link: SessionLink) -> None:
        self._layer = layer
        self._module = layer.module
        self._link = link

    def __call__(self, module: nn.Module, _: Any, output: Any) -> None:
        """Record ``output``; a shallow copy of the layer, which shares its hooks, is not recorded."""
        if module is not self._module:
            if getattr(module, "_is_replica", False):
                raise RuntimeError(
                    "the network runs inside torch.nn.DataParallel, whose replicas come and go with each "
                    "call; use DistributedDataParallel with one monitor in each process instead"
                )
            return
        session = self._link.session
        if session is not None:
            try:
                session.record(self._layer, output)
            except RecordingWriteError as failure:
                self._link.stop(failure)


class _ForwardHook(_Hook):
    def __init__(self, link: SessionLink, forwards: NetworkHooks) -> None:
        self._link = link
        self._forwards = weakref.ref(forwards)


class _BeginHook(_ForwardHook):
    def __call__(self, *_: Any) -> None:
        session, forwards = self._link.session, self._forwards()
        if session is not None and forwards is not None:
            forwards.thread_id = threading.get_ident()
            forwards.handled_error = sys.exc_info()[1]
            try:
                session.begin_forward()
            except RecordingWriteError as failure:
                self._link.stop(failure)


class _EndHook(_ForwardHook):
    def __call__(self, *_: Any) -> None:
        session, forwards = self._link.session, self._forwards()
        if session is not None and forwards is not None:
            # Torch calls hooks while it handles the exception that a forward has raised; the network may also
            # be called by somebody who handles another one.
            error = sys.exc_info()[1]
            try:
                session.end_forward(succeeded=error is None or error is forwards.handled_error)
            except RecordingWriteError as failure:
                self._link.stop(failure)
            forwards.handled_error = None


class NetworkHooks:
    """All hooks of one monitor.

    Parameters
    ----------
    network : torch.nn.Module
        Its forwards are the boundaries between steps.
    layers : iterable of SpikingLayer
    link : SessionLink
    """

    def __init__(self, network: nn.Module, layers: Iterable[SpikingLayer], link: SessionLink) -> None:
        self._network = network
        self._layers = tuple(layers)
        self._link = link
        self._handles: list[RemovableHandle] = []
        self.thread_id = 0
        self.handled_error: BaseException | None = None

    @property
    def in_place(self) -> bool:
        """Whether the hooks are on the modules."""
        return bool(self._handles)

    def put(self) -> None:
        """Put the hooks on the modules, once."""
        if self._handles:
            return
        begin, end = _BeginHook(self._link, self), _EndHook(self._link, self)
        self._handles = [
            self._network.register_forward_pre_hook(begin),
            *(layer.module.register_forward_hook(LayerHook(layer, self._link)) for layer in self._layers),
            self._network.register_forward_hook(end, always_call=True),
        ]

    def remove(self) -> None:
        """Take every hook away again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def running_forwards(self) -> int:
        """How many forwards of the network are on the stack of the thread that ran it last.

        `torch.nn.Module` tells its hooks about the end of a forward, except when it is left by a
        KeyboardInterrupt.
        """
        # Underscored, but documented; there is no other way to look at another thread's stack.
        frame = sys._current_frames().get(self.thread_id)  # noqa: SLF001
        running = 0
        while frame is not None:
            if frame.f_code.co_name == "_call_impl" and frame.f_locals.get("self") is self._network:
                running += 1
            frame = frame.f_back
        return running
