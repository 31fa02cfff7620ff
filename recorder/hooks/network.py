"""Hooks that the monitor puts on the user's modules while it is enabled, and takes away again.

Hooks reach the session through a link that the monitor empties when it is gone, so that they keep no monitor
alive, and turn inert when a network that carries them is copied or pickled.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from recorder.capture import LayerError
from recorder.format import RecordingWriteError
from recorder.frameworks import SpikingLayer, SpikingLayerError
from recorder.hooks.compiling import outside_graphs, refuse_unknown_compiler, untraced
from recorder.hooks.replacements import LastHooks, ObservedForward
from recorder.hooks.seeking import ConnectionSeeker
from recorder.hooks.session_link import Hook, SessionLink
from recorder.hooks.states import KeptStates
from recorder.hooks.unusual_runs import is_usual_run, refuse_unknown_torch, refuse_unusual_run
from recorder.hooks.watching import DATA_PARALLEL, Watch, running_forwards
from recorder.session import RecordingSession
from recorder.session.repeating import RepeatedCalls


def _explain_hidden_values(layer: SpikingLayer, output: Any, error: RuntimeError) -> None:
    """Raise SpikingLayerError if an output could not be recorded as it is no plain tensor."""
    spikes = layer.output.pick(output)
    # Those under torch.export, FakeTensor, DTensor, MaskedTensor; an ordinary subclass can be read.
    if spikes is not None and (
        spikes.is_nested or type(spikes).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__
    ):
        kind = "nested tensor" if spikes.is_nested else type(spikes).__name__
        raise SpikingLayerError(
            f"layer {layer.name!r} put out a {kind}, whose values cannot be read: disable() the monitor "
            "while torch.export or the like runs the network, or give it plain tensors"
        ) from error


class LayerHook(Hook):
    """Records what one spiking layer puts out, behind all that hooks of the user's have made of it."""

    def __init__(self, layer: SpikingLayer, link: SessionLink) -> None:
        super().__init__(link)
        self._layer = layer
        self._module = layer.module
        self._repeated: RepeatedCalls | None = None
        self._session: RecordingSession | None = None

    @untraced
    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Record ``output``; a shallow copy of the layer, which shares its hooks, is not recorded."""
        if "torch._dynamo" in sys.modules or not self._repeat(module, output):
            self._record(module, inputs, output)

    def _repeat(self, module: nn.Module, output: Any) -> bool:
        """Record ``output`` the short way, if it is like the one before."""
        repeated, link = self._repeated, self._link
        return (
            repeated is not None
            and link.session is self._session
            and link.is_enabled
            and module is self._module
            and is_usual_run()
            and repeated.take(output)
        )

    @outside_graphs
    def _record(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if module is not self._module:
            if getattr(module, "_is_replica", False):
                raise RuntimeError(DATA_PARALLEL)
            return
        session = self._link.records_to()
        if session is not None:
            refuse_unknown_compiler()
            if "torch._dynamo" in sys.modules and self._repeat(module, output):
                return
            refuse_unusual_run(self._layer.name)
            try:
                session.record(self._layer, output, inputs)
            except RecordingWriteError as failure:
                self._link.stop(failure)
            except LayerError as error:
                if not session.stop_layer(error):
                    raise
            except RuntimeError as error:
                _explain_hidden_values(self._layer, output, error)
                raise
            if session is not self._session or self._repeated is None:
                self._session, self._repeated = session, session.repeating.of(self._layer)


class WeightHook(Hook):
    """Counts what one weight layer does."""

    def __init__(self, name: str, module: nn.Module, link: SessionLink) -> None:
        super().__init__(link)
        self._name = name
        self._module = module

    @outside_graphs
    def __call__(self, module: nn.Module, inputs: Any, named: Any, output: Any) -> None:
        """Count the operations of a call; a shallow copy of the layer is not counted."""
        session = self._link.records_to()
        counter = None if session is None else session.layers.operations
        if session is None or counter is None or session.closed or module is not self._module:
            return
        refuse_unknown_compiler()
        refuse_unusual_run(self._name)
        given = inputs[0] if inputs else next(iter(named.values()), None)
        counter.see_call(self._name, module, given, output)


class NetworkHooks:
    """All hooks of one monitor.

    Parameters
    ----------
    network : torch.nn.Module
        Its forwards are the boundaries between steps.
    layers : iterable of SpikingLayer
    link : SessionLink
    states_of : collection of str
        Names of the layers whose membrane potential is recorded, and is to be kept for each step.
    weight_layers : mapping of str to torch.nn.Module, optional
        Weight layers whose operations are counted, by name.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Iterable[SpikingLayer],
        link: SessionLink,
        states_of: Collection[str] = (),
        weight_layers: Mapping[str, nn.Module] | None = None,
    ) -> None:
        self._network = network
        self._weight_layers = weight_layers or {}
        self._layers = tuple(layers)
        self._link = link
        self._handles: list[RemovableHandle] = []
        self._states_of = states_of
        self._replacements: list[LastHooks | ObservedForward | KeptStates | Watch] = []
        self._seeker = ConnectionSeeker(network, self._layers, link.records_to)

    @property
    def in_place(self) -> bool:
        """True if the hooks are on the modules."""
        return bool(self._replacements)

    def put(self) -> None:
        """Put the hooks on the modules, once.

        What torch.compile has made before is forgotten and made again at the next call: it does not look
        whether hooks have come since.
        """
        if self.in_place:
            return
        refuse_unknown_torch()
        refuse_unknown_compiler()
        compiler = sys.modules.get("torch._dynamo")
        if compiler is not None:
            compiler.reset()
        self._link.is_enabled = True
        self._replacements.append(Watch(self._network, self._link))
        for layer in self._layers:
            if layer.potential and layer.potential.switch and layer.name in self._states_of:
                self._replacements.append(KeptStates.on(layer, layer.potential))
            hook = LayerHook(layer, self._link)
            if layer.kept_in:
                self._replacements.append(ObservedForward.on(layer.module, hook, layer.kept_in))
            else:
                self._put_last(layer.module, layer.module.register_forward_hook(hook))
        for name, module in self._weight_layers.items():
            counted = WeightHook(name, module, self._link)
            self._handles.append(module.register_forward_hook(counted, with_kwargs=True))
        self.seek_connections()

    def seek_connections(self) -> None:
        """Find out, in the next forward, which weight layers read the layers, if hooks are in place."""
        if self.in_place:
            self._seeker.seek()

    def _put_last(self, module: nn.Module, handle: RemovableHandle) -> None:
        self._handles.append(handle)
        self._replacements.append(LastHooks.on(module, handle.id))

    def remove(self) -> None:
        """Take every hook away again."""
        self.removal()()

    def removal(self) -> Callable[[], None]:
        """Function that takes every hook away, whenever it is called, and refers to no module.

        The network may refer to the monitor: what is done when both are forgotten must keep neither.
        """
        return partial(_remove, self._handles, self._replacements, self._link, self._seeker.replaced.leave)

    def refuse_in_forward(self, what: str) -> None:
        """Raise RuntimeError, which names a call that is refused, while any thread runs a forward."""
        count = self.running_forwards
        # As in `running_forwards`. Hooks may not be in place, so that no call is watched.
        if any(count(thread, by_hand=True) for thread in sys._current_frames()):  # noqa: SLF001
            raise RuntimeError(
                f"{what} cannot be done inside a forward of the monitored network: some of its layers have "
                "been called, and others have not. Call it between two forwards"
            )

    @property
    def running_forwards(self) -> Callable[..., int]:
        """Says how many forwards of the network a thread runs; it refers to no module, see `removal`."""
        return partial(running_forwards, weakref.ref(self._network), self._link)


def _remove(
    handles: list[RemovableHandle],
    replacements: list[LastHooks | ObservedForward | KeptStates | Watch],
    link: SessionLink,
    stop_seeking: Callable[[], None],
) -> None:
    stop_seeking()
    while replacements:
        replacements[-1].leave()
        replacements.pop()
    while handles:
        handles[-1].remove()
        handles.pop()
    link.is_enabled = False
