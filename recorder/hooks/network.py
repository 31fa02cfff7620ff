"""Hooks that the monitor puts on the user's modules while it is enabled, and takes away again.

Hooks reach the session through a link that the monitor empties when it is gone, so that they keep no monitor
alive, and turn inert when a network that carries them is copied or pickled.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from recorder.capture import LayerError
from recorder.format import RecordingWriteError
from recorder.frameworks import SpikingLayer, SpikingLayerError
from recorder.hooks.compiling import outside_graphs, refuse_unknown_compiler
from recorder.hooks.replacements import LastHooks, ObservedForward
from recorder.hooks.seeking import ConnectionSeeker
from recorder.hooks.session_link import Hook, SessionLink
from recorder.hooks.states import KeptStates
from recorder.hooks.unusual_runs import refuse_unknown_torch, refuse_unusual_run


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

    @outside_graphs
    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Record ``output``; a shallow copy of the layer, which shares its hooks, is not recorded."""
        if module is not self._module:
            if getattr(module, "_is_replica", False):
                raise RuntimeError(
                    "the network runs inside torch.nn.DataParallel, whose replicas come and go with each "
                    "call; use DistributedDataParallel with one monitor in each process instead"
                )
            return
        session = self._link.records_to()
        if session is not None:
            refuse_unknown_compiler()
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


class _BeginHook(Hook):
    @outside_graphs
    def __call__(self, *_: Any) -> None:
        session = self._link.records_to()
        if session is not None:
            refuse_unknown_compiler()
            try:
                session.begin_forward()
            except RecordingWriteError as failure:
                self._link.stop(failure)
            if not session.steps.is_nested:
                self._link.handled_error = sys.exception()


class _EndHook(Hook):
    @outside_graphs
    def __call__(self, *_: Any) -> None:
        session = self._link.records_to()
        if session is not None:
            # Torch calls hooks while it handles the exception that a forward has raised; the network may also
            # be called by somebody who handles another one.
            error = sys.exception()
            try:
                session.end_forward(succeeded=error is None or error is self._link.handled_error)
            except RecordingWriteError as failure:
                # Another hook of this forward may have told it; torch would warn of a second exception.
                if error is self._link.handled_error or not isinstance(error, RecordingWriteError):
                    self._link.stop(failure)
            if not session.steps.is_in_forward:
                self._link.handled_error = None


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
        self._replacements: list[LastHooks | ObservedForward | KeptStates] = []
        self._seeker = ConnectionSeeker(network, self._layers, link.records_to)

    @property
    def in_place(self) -> bool:
        """True if the hooks are on the modules."""
        return bool(self._handles)

    def put(self) -> None:
        """Put the hooks on the modules, once.

        What torch.compile has made before is forgotten and made again at the next call: it does not look
        whether hooks have come since.
        """
        if self._handles:
            return
        refuse_unknown_torch()
        refuse_unknown_compiler()
        compiler = sys.modules.get("torch._dynamo")
        if compiler is not None:
            compiler.reset()
        self._link.is_enabled = True
        self._handles.append(self._network.register_forward_pre_hook(_BeginHook(self._link)))
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
        # Behind the hook of a layer that is the network itself.
        self._put_last(
            self._network, self._network.register_forward_hook(_EndHook(self._link), always_call=True)
        )
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
        return functools.partial(
            _remove, self._handles, self._replacements, self._link, self._seeker.replaced.leave
        )

    def refuse_in_forward(self, what: str) -> None:
        """Raise RuntimeError, which names a call that is refused, while any thread runs a forward."""
        count = self.running_forwards
        # As in `_running_forwards`.
        if any(count(thread) for thread in sys._current_frames()):  # noqa: SLF001
            raise RuntimeError(
                f"{what} cannot be done inside a forward of the monitored network: some of its layers have "
                "been called, and others have not. Call it between two forwards"
            )

    @property
    def running_forwards(self) -> Callable[..., int]:
        """Says how many forwards of the network a thread runs; it refers to no module, see `removal`."""
        return functools.partial(_running_forwards, weakref.ref(self._network))


def _remove(
    handles: list[RemovableHandle],
    replacements: list[LastHooks | ObservedForward | KeptStates],
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


def _running_forwards(network: weakref.ref[nn.Module], thread: int, *, by_hand: bool = False) -> int:
    """Number of forwards of the network that are on the stack of a thread.

    `torch.nn.Module` tells its hooks about the end of a forward, except when it is left by a
    KeyboardInterrupt, and not of a ``network.forward()`` by hand. ``by_hand`` counts those, too.
    """
    # Underscored, but documented; there is no other way to look at another thread's stack.
    frame = sys._current_frames().get(thread)  # noqa: SLF001
    running, watched = 0, network()
    forward = getattr(getattr(type(watched), "forward", None), "__code__", None)
    while frame is not None and watched is not None:
        is_forward = frame.f_code is forward if by_hand else frame.f_code.co_name == "_call_impl"
        if is_forward and frame.f_locals.get(frame.f_code.co_varnames[0]) is watched:
            running += 1
        frame = frame.f_back
    return running
