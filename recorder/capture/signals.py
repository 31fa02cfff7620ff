"""What a user wants recorded beside the spikes, and how it is read from a module after its forward."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from recorder.format import RecordingMetadata
from recorder.format.columns import is_text
from recorder.format.record.metadata import MAX_NAME_LENGTH, MAX_ROWS
from recorder.format.record.parts import Kept
from recorder.frameworks import SpikingLayer, layers_named
from recorder.frameworks.outputs import AxesError, SpikeOutput, follow
from recorder.frameworks.potentials import KEPT
from recorder.parts import PartError, choose_neurons

POTENTIAL: Final = "v"
DTYPES_TO_ASK_FOR: Final = ("float16", "float32", "float64")

What = str | Callable[[Any, tuple[Any, ...], Any], torch.Tensor]


class SignalError(ValueError):
    """A signal of a layer is not there, or cannot be recorded.

    Attributes
    ----------
    layer, signal : str
        Their names.
    """

    def __init__(self, message: str, layer: str = "", signal: str = "") -> None:
        super().__init__(message)
        self.layer = layer
        self.signal = signal


@dataclass(frozen=True)
class Signal:
    """A series that is recorded beside the spikes of a layer, at the same steps.

    Its values have the axes of the layer's output: steps and samples where the output has them; the others
    are neurons.

    Parameters
    ----------
    what : str or callable
        ``"v"``: the membrane potential after the step. ``"input"``: the first argument of the layer's
        forward. ``"output"``: its output, before any threshold. Any other text: the attribute of this name
        after the forward; with dots, names in names. A function is given the module, its inputs as a tuple,
        and its output, and returns a tensor.
    layers : str, type, or several, optional
        Names or types of the recorded layers that have it; all of them if left out.
    neurons : optional
        Which neurons are recorded: an index of the neuron axes as numpy takes it, such as ``np.s_[:4]`` or
        ``np.s_[:, ::2, ::2]``; or a list of flat indices in C order, such as ``[3, 17]``. All if left out.
    samples : int, optional
        How many samples of each batch are recorded, the first ones; all if left out.
    every : int
        Only steps whose number is a multiple of this are recorded.
    dtype : {"float16", "float32", "float64"}, optional
        Data type to store, whatever is lost by it. Left out, values are stored as they are; bfloat16 as
        float32, which holds it exactly, booleans as uint8.
    name : str, optional
        Name in the recording; by default ``what``, or the name of the function.

    Raises
    ------
    TypeError, ValueError
        If a parameter has another value than these.
    """

    what: What
    layers: Any = None
    neurons: Any = None
    samples: int | None = None
    every: int = 1
    dtype: str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.what == "" or not isinstance(self.what, str | Callable):
            raise TypeError(
                f"a signal is {self.what!r}; expected 'v', 'input', 'output', the name of an attribute, or a "
                "function of (module, inputs, output)"
            )
        named = self.name or (self.what if isinstance(self.what, str) else _function_name(self.what))
        if not isinstance(named, str) or len(named) > MAX_NAME_LENGTH or not is_text(named):
            raise ValueError(
                f"the name of a signal is {named!r:.80}; expected text of at most {MAX_NAME_LENGTH} "
                "characters, without halves of any"
            )
        object.__setattr__(self, "name", named)
        for what, number in (("every", self.every), ("samples", self.samples)):
            if number is None and what == "samples":
                continue
            object.__setattr__(self, what, _positive(what, number, named))
        dtype = _dtype_name(self.dtype)
        if dtype not in (None, *DTYPES_TO_ASK_FOR):
            raise ValueError(
                f"dtype of signal {named!r} is {self.dtype!r}; expected one of {DTYPES_TO_ASK_FOR}, or None "
                "to store values as they are"
            )
        object.__setattr__(self, "dtype", dtype)

    def read(
        self, layer: SpikingLayer, inputs: tuple[Any, ...], output: object, expected: SpikeOutput
    ) -> torch.Tensor:
        """Values after a forward of the module, ``[T, N, *neuron]``; ``[N, *neuron]`` of a single step.

        Raises
        ------
        SignalError
            If there are none, or their axes are not those of the layer's output.
        """
        found, axes = self._find(layer, inputs, output, expected)
        if not isinstance(found, torch.Tensor) or found.layout is not torch.strided or found.is_meta:
            advice = self.advice(type(layer.module).__name__)
            raise self._error(layer, f"is {_shown(found)}; expected a tensor{advice}")
        try:
            return axes.arrange(found.detach() if found.requires_grad else found)
        except (AxesError, RuntimeError):
            raise self._error(
                layer, f"has the shape {tuple(found.shape)}; expected {axes.pattern.show_shape()}"
            ) from None

    def _find(
        self, layer: SpikingLayer, inputs: tuple[Any, ...], output: object, expected: SpikeOutput
    ) -> tuple[Any, SpikeOutput]:
        what, module = self.what, layer.module
        if not isinstance(what, str):
            return what(module, inputs, output), expected
        if what == "output":
            return layer.pick(output, expected), expected
        if what == "input":
            return (inputs[0] if inputs else None), expected
        potential = layer.potential
        if what == POTENTIAL and potential is not None:
            kept = KEPT.get(module)
            found = potential.read(module, output, expected.has_steps) if kept is None else kept
            return found, potential.axes or expected
        return follow(module, tuple(what.split("."))), expected

    def advice(self, kind: str = "this layer") -> str:
        """What to do where values are not those of each step, to follow what is wrong with them."""
        if self.what == POTENTIAL:
            return (
                f". No membrane potential of each step is known of {kind} as it is set: give the name of an "
                "attribute, or a function of (module, inputs, output)"
            )
        if self.what == "input":
            return ", the first argument of the layer's forward, by position"
        return ""

    def _error(self, layer: SpikingLayer, what: str) -> SignalError:
        kind = type(layer.module).__name__
        text = f"signal {self.name!r} of layer {layer.name!r} ({kind}) {what}"
        return SignalError(
            f"{text}. Or choose other layers for it: Signal(..., layers=...)", layer.name, self.name
        )

    def chosen(self, layer: str, shape: tuple[int, ...]) -> Kept:
        """Which neurons are kept of values whose frames have this shape; None for all of them.

        Raises
        ------
        SignalError
            If they are none, or too many to be listed.
        """
        if self.neurons is None:
            return None
        try:
            return choose_neurons(self.neurons, shape, f"layer {layer!r}")
        except PartError as error:
            raise SignalError(f"signal {self.name!r}: {error}", layer, self.name) from error


class Signals(dict[str, tuple[Signal, ...]]):
    """The signals of each layer that has any, by name."""

    @classmethod
    def parse(cls, signals: Any, layers: Mapping[str, SpikingLayer]) -> Signals:
        """Read what a user passed as ``signals``.

        Parameters
        ----------
        signals : None, str, callable, Signal, or several of these
        layers : mapping
            The layers that are recorded.

        Raises
        ------
        TypeError, ValueError
            If one is none of these, or two of a layer have the same name.
        SpikingLayerError
            If a name or type is not among the layers.
        """
        if signals is None:
            return cls()
        alone = isinstance(signals, str | Signal) or callable(signals)
        if not alone and not isinstance(signals, Iterable):
            raise TypeError(
                f"signals is {signals!r}; expected names such as 'v', functions, or Signal(...), in a list"
            )
        wanted = [signals] if alone else list(signals)
        chosen: dict[str, list[Signal]] = {}
        for each in wanted:
            signal = each if isinstance(each, Signal) else Signal(each)
            for name in _layers_of(signal, layers):
                if any(signal.name == other.name for other in chosen.get(name, ())):
                    raise ValueError(
                        f"two signals of layer {name!r} are named {signal.name!r}; give one of them another "
                        "name: Signal(..., name=...)"
                    )
                chosen.setdefault(name, []).append(signal)
        return cls({name: tuple(chosen[name]) for name in layers if name in chosen})

    @property
    def with_potential(self) -> frozenset[str]:
        """Names of the layers whose membrane potential is recorded."""
        return frozenset(
            name for name, signals in self.items() if any(each.what == POTENTIAL for each in signals)
        )

    def refuse_others(self, recorded: RecordingMetadata) -> None:
        """Raise ValueError if a recording has a signal of the same name of other steps, samples or type."""
        for layer in recorded.layers:
            known = {signal.name: signal for signal in layer.signals}
            for signal in self.get(layer.name, ()):
                before = known.get(signal.name)
                if before is None:
                    continue
                kept = signal.chosen(layer.name, before.shape)
                now: dict[str, Any] = {"every": signal.every, "samples": signal.samples, "neurons": kept}
                was: dict[str, Any] = {
                    "every": before.every,
                    "samples": before.samples,
                    "neurons": before.neurons,
                }
                if signal.dtype is not None:
                    now["dtype"], was["dtype"] = signal.dtype, before.dtype
                for field, value in now.items():
                    if value != was[field]:
                        raise ValueError(
                            f"signal {signal.name!r} of layer {layer.name!r} was recorded with {field}="
                            f"{was[field]!r:.80}, and would go on with {value!r:.80}. Resume with what it "
                            "was, give the signal another name, or record to another store"
                        )


def _layers_of(signal: Signal, layers: Mapping[str, SpikingLayer]) -> list[str]:
    """Names of the layers that a signal is recorded of."""
    if signal.layers is None:
        return list(layers)
    keys = [signal.layers] if isinstance(signal.layers, str | type) else list(signal.layers)
    found = {name for key in keys for name in layers_named(layers, f"signal {signal.name!r}", key)}
    return [name for name in layers if name in found]


def _function_name(function: Any) -> Any:
    name = getattr(function, "__name__", type(function).__name__)
    if name == "<lambda>":
        raise ValueError("a signal that is a lambda has no name: pass Signal(..., name=...)")
    return name


def _dtype_name(given: Any) -> str | None:
    """Name of a data type of numpy or torch, or of its name; whatever is none, as text."""
    if given is None:
        return None
    return np.dtype(given).name if isinstance(given, type | np.dtype) else str(given).removeprefix("torch.")


def _positive(what: str, number: Any, signal: str) -> int:
    try:
        value = 0 if isinstance(number, bool) else operator.index(number)
    except TypeError:
        value = 0
    if not 1 <= value <= MAX_ROWS:
        raise ValueError(f"{what} of signal {signal!r} is {number!r}; expected a whole number from 1 on")
    return value


def _shown(found: object) -> str:
    if found is None:
        return "not there"
    if isinstance(found, torch.Tensor):
        return f"a tensor of layout {found.layout} on {found.device}"
    return f"a {type(found).__name__}"
