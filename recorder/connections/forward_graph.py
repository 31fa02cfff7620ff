"""What one forward of a network shows: which weight layers read what recorded layers put out.

Nothing is guessed. A weight layer reads a recorded layer if it is given the memory that this layer has put
its spikes into, unchanged since, or a copy of it that was made by a function which only changes shape or
dtype. What a layer reads is known by strides (`axes`), what it does with it by its geometry (`geometry`), and
both together must give each neuron the same fan-out in every frame. Whatever is not known that way is listed
by name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from recorder.connections.axes import Memory
from recorder.connections.changes import state_of
from recorder.connections.fan_outs import fan_out_of
from recorder.connections.functions import PRODUCTS, REARRANGED, SAME_ELEMENTS
from recorder.connections.geometry import WEIGHT_LAYERS, Uses, Weights, total_operations, weights_of
from recorder.format.columns import is_text
from recorder.format.connections import Connections, FanOut, InputReader, Reader
from recorder.frameworks import SpikingLayer, SpikingLayerError

_IRREGULAR: Final = "with fan-outs that are too irregular to be kept"
_MOST_NAMES: Final = 10_000
_MOST_CHARACTERS: Final = 1000
# Of all stored fan-outs together, in a record that each commit writes again.
_MOST_STORED: Final = 2**24


@dataclass
class _Output:
    """One output of a recorded layer."""

    layer: str
    shape: tuple[int, ...]
    # Of each weight layer that has read it, how often it causes which operations.
    reads: dict[str, list[_Read]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Read:
    """What a weight layer made of an output: operations of each neuron, in all and where no weight is 0."""

    weights: Weights
    weight_shape: tuple[int, ...]
    fan_out: Uses
    nonzero: Uses


@dataclass
class _Traced:
    """A memory that holds an output, and the state in which it does."""

    output: _Output
    memory: Memory
    dtype: torch.dtype
    state: object


@dataclass
class _Calls:
    """The calls of one weight layer."""

    kind: str
    all: int = 0
    of_input: int = 0
    operations: int = 0
    nonzero_operations: int = 0
    is_binary: bool = True
    others: set[str] = field(default_factory=set)


class ForwardGraph:
    """Looks on while a network runs once.

    Parameters
    ----------
    network : torch.nn.Module
    layers : iterable of SpikingLayer
        Its recorded layers.
    thresholded : collection of str
        Names of those whose spikes are what a threshold makes of their values.
    """

    def __init__(
        self, network: nn.Module, layers: Iterable[SpikingLayer], thresholded: Collection[str] = ()
    ) -> None:
        self._names = {module: name for name, module in network.named_modules()}
        self._layers = {layer.module: layer for layer in layers if not layer.kept_in}
        # What a neuron computes inside is no synapse, but for weight layers that it may have.
        self._neurons = frozenset(
            inside
            for layer in self._layers.values()
            if layer.origin == "library"
            for inside in layer.module.modules()
            if not isinstance(inside, WEIGHT_LAYERS)
        )
        self._outputs: list[_Output] = []
        # Layers whose events are not what others read, and why. What the events of layers with other values
        # than 0 and 1 cost is for those to say who read the recording, which has the values.
        self._thresholded = dict.fromkeys(
            thresholded, "whose spikes are what a threshold makes of its values"
        )
        self._memories: dict[StorageWeakRef, _Traced] = {}
        self._inputs: dict[StorageWeakRef, object] = {}
        self._calls: dict[str, _Calls] = {}
        self._products: dict[str, str] = {}
        self._known: dict[Any, _Read | None] = {}

    def run(self, forward: Callable[..., Any], arguments: Sequence[Any], settings: Mapping[str, Any]) -> Any:
        """Run a forward and look on; returns what it returns, and raises what it raises."""
        for tensor in tree_leaves((arguments, settings)):
            reference = _memory_of(tensor)
            if reference is not None:
                self._inputs[reference] = state_of(tensor)
        handles = []
        try:
            for module in self._names:
                if module in self._layers:
                    handles.append(module.register_forward_hook(self._see_spikes))
                elif isinstance(module, WEIGHT_LAYERS):
                    handles.append(module.register_forward_hook(self._see_weights, with_kwargs=True))
            with _Watching(self._see_function):
                return forward(*arguments, **settings)
        finally:
            for handle in handles:
                handle.remove()

    # -- while it runs -------------------------------------------------------------------------------------

    def _see_spikes(self, module: nn.Module, _: Any, output: Any) -> None:
        layer = self._layers.get(module)
        if layer is None:
            return
        try:
            spikes = layer.read_spikes(output)
        except (SpikingLayerError, RuntimeError):
            return  # what records the layer reads it likewise, behind this hook, and tells of it
        reference = _memory_of(spikes)
        if reference is None or spikes.numel() == 0:
            return
        made, memory = _Output(layer.name, tuple(spikes.shape)), Memory.of_spikes(spikes)
        self._outputs.append(made)
        if memory is not None:
            self._memories[reference] = _Traced(made, memory, spikes.dtype, state_of(spikes))

    def _see_weights(self, module: nn.Module, arguments: Any, settings: Any, output: Any) -> None:
        name = self._names.get(module)
        if name is None:
            return
        given = arguments[0] if arguments else next(iter(settings.values()), None)
        calls = self._calls.setdefault(name, _Calls(type(module).__name__))
        calls.all += 1
        if not isinstance(given, torch.Tensor) or not isinstance(output, torch.Tensor):
            calls.others.add("is not given a tensor")
            return
        reference = _memory_of(given)
        traced = None if reference is None else self._memories.get(reference)
        if traced is not None:
            self._see_read(module, name, calls, traced, given, output)
        elif reference in self._inputs and self._inputs[reference] == state_of(given):
            self._see_input(module, calls, given, output)
        else:
            calls.others.add("reads what no recorded layer has put out")

    def _see_read(
        self,
        module: nn.Module,
        name: str,
        calls: _Calls,
        traced: _Traced,
        given: torch.Tensor,
        output: torch.Tensor,
    ) -> None:
        layer = traced.output.layer
        if traced.dtype != given.dtype or traced.state != state_of(given):
            calls.others.add(f"reads what was made of layer {layer!r} in place")
            return
        shapes = traced.output.shape, tuple(given.shape), tuple(output.shape)
        key = name, traced.memory, given.storage_offset(), given.stride(), shapes
        if key not in self._known:
            self._known[key] = _read(module, traced, given, output)
        read = self._known[key]
        if read is None:
            calls.others.add(
                f"reads layer {layer!r} in a way that differs from frame to frame, or is not known"
            )
        else:
            traced.output.reads.setdefault(name, []).append(read)

    def _see_input(self, module: nn.Module, calls: _Calls, given: torch.Tensor, output: torch.Tensor) -> None:
        weights = weights_of(module, given.shape, output.shape)
        if weights is None:
            calls.others.add("has an output of other sizes than its weights make")
            return
        calls.of_input += 1
        calls.kind = weights.kind
        calls.operations += total_operations(weights.operations, given.shape)
        calls.nonzero_operations += total_operations(weights.nonzero, given.shape)
        calls.is_binary &= _is_binary(given)

    def _see_function(self, function: Any, arguments: Sequence[Any], result: Any) -> None:
        name = getattr(function, "__name__", "")
        if name in PRODUCTS:
            self._see_product(name)
            return
        if name not in SAME_ELEMENTS and name not in REARRANGED:
            return
        source = arguments[0] if arguments else None
        made = _memory_of(result)
        if made is None:
            return
        if name in SAME_ELEMENTS and isinstance(source, torch.Tensor):
            reference = _memory_of(source)
            traced = None if reference is None else self._memories.get(reference)
            if traced is not None and reference != made:
                self._see_copy(traced, source, made, result)
        sources = [_memory_of(each) for each in tree_leaves(source) if isinstance(each, torch.Tensor)]
        if sources and all(each is not None and each in self._inputs for each in sources):
            self._inputs.setdefault(made, state_of(result))

    def _see_copy(
        self, traced: _Traced, source: torch.Tensor, made: StorageWeakRef, result: torch.Tensor
    ) -> None:
        if traced.dtype != source.dtype or traced.state != state_of(source):
            return
        memory = traced.memory.copied(source, result)
        if memory is not None:
            self._memories[made] = _Traced(traced.output, memory, result.dtype, state_of(result))

    def _see_product(self, name: str) -> None:
        module = self._running(sys._getframe(1))  # noqa: SLF001 - what runs is on the stack, and nowhere else
        if module is None:
            return
        owner = self._names[module]
        if isinstance(module, WEIGHT_LAYERS) or module in self._neurons:
            return
        what = f"{owner}: {name}" if owner else name
        self._products.setdefault(what, f"a product in {type(module).__name__} that no weight layer makes")

    def _running(self, frame: FrameType | None) -> nn.Module | None:
        """The innermost module of the network whose call is on the stack."""
        while frame is not None:
            if frame.f_code.co_name == "_call_impl":
                module = frame.f_locals.get(frame.f_code.co_varnames[0])
                if isinstance(module, nn.Module) and module in self._names:
                    return module
            frame = frame.f_back
        return None

    # -- what it shows -------------------------------------------------------------------------------------

    @property
    def frames(self) -> int:
        """Most frames that a recorded layer has put out."""
        frames: dict[str, int] = {}
        for output in self._outputs:
            frames[output.layer] = frames.get(output.layer, 0) + output.shape[0] * output.shape[1]
        return max(frames.values(), default=0)

    def connections(self) -> Connections | None:
        """Who reads whom; None if no recorded layer has put anything out."""
        if not self._outputs:
            return None
        uncovered = {
            name: "; ".join(sorted(calls.others)) for name, calls in self._calls.items() if calls.others
        }
        layers: dict[str, dict[str, Reader]] = {}
        room = _MOST_STORED
        for layer in dict.fromkeys(output.layer for output in self._outputs):
            outputs = [output for output in self._outputs if output.layer == layer]
            layers[layer] = {}
            for name in dict.fromkeys(name for output in outputs for name in output.reads):
                reader = self._thresholded.get(layer) or _reader_of(
                    name, [output.reads.get(name, []) for output in outputs]
                )
                if isinstance(reader, Reader):
                    reader, room = _fitted(reader, room)
                if isinstance(reader, str):
                    uncovered[name] = f"reads layer {layer!r} {reader}"
                else:
                    layers[layer][name] = reader
        inputs = tuple(
            InputReader(
                storable(name),
                calls.kind,
                calls.operations,
                calls.nonzero_operations,
                self.frames,
                calls.is_binary,
            )
            for name, calls in self._calls.items()
            if calls.of_input and name not in uncovered
        )
        # A weight layer that is covered in part is not covered: no figure has a part of it.
        covered = {
            layer: tuple(reader for name, reader in readers.items() if name not in uncovered)
            for layer, readers in layers.items()
        }
        named = [(storable(name), storable(why)) for name, why in (uncovered | self._products).items()]
        return Connections(covered, inputs, dict(named[:_MOST_NAMES]))


class _Watching(TorchFunctionMode):
    """Tells of each function of torch that was called, when it has returned."""

    def __init__(self, see: Callable[[Any, Sequence[Any], Any], None]) -> None:
        super().__init__()
        self._see = see

    def __torch_function__(
        self, function: Any, _: Any, arguments: Sequence[Any] = (), settings: Mapping[str, Any] | None = None
    ) -> Any:
        result = function(*arguments, **(settings or {}))
        self._see(function, arguments, result)
        return result


def _read(module: nn.Module, traced: _Traced, given: torch.Tensor, output: torch.Tensor) -> _Read | None:
    axes = traced.memory.axes_of(given)
    weights = weights_of(module, given.shape, output.shape)
    if axes is None or weights is None:
        return None
    every = fan_out_of(axes, weights.operations, traced.output.shape)
    nonzero = fan_out_of(axes, weights.nonzero, traced.output.shape)
    if every is None or nonzero is None:
        return None
    return _Read(weights, tuple(module.weight.shape), every, nonzero)  # type: ignore[arg-type]


def _reader_of(name: str, reads: Sequence[Sequence[_Read]]) -> Reader | str:
    """The reader of all outputs of a layer, given what it made of each; or what keeps it from being one."""
    if any(len(each) != len(reads[0]) for each in reads):
        return "at some of its steps only, as it is fed back, or left out"
    first = reads[0][0]
    totals = [(sum(read.fan_out for read in each), sum(read.nonzero for read in each)) for each in reads]
    if any(not np.array_equal(every, totals[0][0]) for every, _ in totals):
        return "with another fan-out at each step"
    fan_out = FanOut.of_array(np.asarray(totals[0][0]))
    if fan_out is None:
        return _IRREGULAR
    weights = first.weights
    return Reader(
        name=storable(name),
        kind=weights.kind,
        weight_shape=first.weight_shape,
        fan_out=fan_out,
        nonzero_fan_out=FanOut.of_array(np.asarray(totals[0][1])),
        stride=weights.stride,
        padding=weights.padding,
        padding_mode=weights.padding_mode,
        dilation=weights.dilation,
        groups=weights.groups,
    )


def _fitted(reader: Reader, room: int) -> tuple[Reader | str, int]:
    """A reader with what there is room for, in characters, and the room that is left."""
    room -= len(reader.fan_out.stored)
    if room < 0:
        return _IRREGULAR, room + len(reader.fan_out.stored)
    nonzero = len(reader.nonzero_fan_out.stored) if reader.nonzero_fan_out is not None else 0
    return (replace(reader, nonzero_fan_out=None), room) if nonzero > room else (reader, room - nonzero)


def _is_binary(values: torch.Tensor) -> bool:
    return values.dtype == torch.bool or bool(((values == 0) | (values == 1)).all())


def _memory_of(value: Any) -> StorageWeakRef | None:
    """What tells the memory of a tensor from any other, without keeping it; None for what has none."""
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
        return None
    if value.is_nested or value.is_meta:
        return None
    if type(value).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return None
    try:
        return StorageWeakRef(value.untyped_storage())  # type: ignore[no-untyped-call]
    except NotImplementedError:  # those of torch.func, and others that wrap tensors
        return None


def storable(name: str) -> str:
    """A name as a commit record can hold it."""
    text = name if is_text(name) else name.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"
