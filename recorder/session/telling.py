"""Tell the user, once and by name, of uncalled layers, guessed steps and assumed axes.

Steps that had to be guessed and layers that are not called are warnings, as something is missing in the
recording. What had to be assumed about axes is said by the logger ``recorder``, at level WARNING: nothing is
refused, as each of these may be meant.
"""

from __future__ import annotations

import logging
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from torch import nn

from recorder.format import StepsWarning, UncalledLayersWarning
from recorder.format.record.parts import LayerPart
from recorder.frameworks import SpikingLayer, known_neurons
from recorder.plan import RecordingPlan
from recorder.session.steps import STOPPED_AFTER_FORWARDS, Findings, LayerSteps

_UNCALLED = (
    "No hook of theirs runs: the network leaves them out, or its code calls their .forward() or a function "
    "of theirs instead of the module. Call the modules, leave them out with layers=..., or choose the module "
    "around them: layers={'name': SpikeOutput(...)}"
)


# Bytes of signals in an hour from which on there is a warning: a disk of a terabyte is full in ten hours.
MUCH_PER_HOUR: Final = 100e9


class Teller:
    """Warns of what `Steps` finds; `remarks` says what there is to say of axes.

    Parameters
    ----------
    network : torch.nn.Module
    layers : mapping
        Monitored layers by name.
    are_all : bool
        Whether these are meant to be all neurons of the network, so that others come unexpected.
    """

    def __init__(
        self, network: nn.Module, layers: Mapping[str, SpikingLayer], *, are_all: bool = False
    ) -> None:
        self._network = weakref.ref(network)
        self._neurons = weakref.WeakSet(known_neurons(network).values()) if are_all else None
        self._modules = {name: weakref.ref(layer.module) for name, layer in layers.items()}
        self._kind = type(network).__name__
        self.remarks = Remarks()

    def tell(self, findings: Findings) -> None:
        """Warn of findings; a layer that a forward may well leave out is told of only if it was replaced."""
        if findings.is_first_forward:
            self._tell_new()
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
        told = set(findings.guessed[1]) if findings.guessed else set()
        replaced = self._replaced([*findings.never_called, *findings.left_out, *findings.stopped])
        never_called = [name for name in findings.never_called if name not in (*replaced, *told)]
        stopped = [name for name in findings.stopped if name not in replaced]
        if replaced:
            _warn(
                f"the network has other modules now at {_listed(replaced)} than when the monitor was made: "
                "these are not monitored. Make a new monitor",
                UncalledLayersWarning,
            )
        if stopped:
            _warn(
                f"not called in the newest {STOPPED_AFTER_FORWARDS} forwards, as it was before: "
                f"{_listed(stopped)}. {_UNCALLED}",
                UncalledLayersWarning,
            )
        if never_called:
            _warn(f"monitored, but not called: {_listed(never_called)}. {_UNCALLED}", UncalledLayersWarning)

    def _tell_new(self) -> None:
        """Warn of neurons that came after the monitor, but for those in the place of a monitored one."""
        network = self._network()
        if network is None or self._neurons is None:
            return
        neurons = known_neurons(network).items()
        new = [name for name, module in neurons if module not in self._neurons and name not in self._modules]
        if new:
            _warn(
                f"the network has neurons now that it had not when the monitor was made: {_listed(new)}. "
                "They are not monitored. Make the monitor when the network has all of its layers",
                UncalledLayersWarning,
            )

    def _replaced(self, names: Sequence[str]) -> list[str]:
        network = self._network()
        modules = dict(network.named_modules(remove_duplicate=False)) if network is not None else {}
        return [name for name in names if modules.get(name) is not self._modules[name]()]


def _listed(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _warn(message: str, category: type[Warning]) -> None:
    warnings.warn(message, category, stacklevel=2)


_logger = logging.getLogger("recorder")

_UNBATCHED = "If outputs have no axis of samples, say Monitor(..., batched=False)"


class Remarks:
    """Looks at the axes of outputs that are not like the ones before; see the text of the module."""

    def __init__(self) -> None:
        # Of the last output of each layer.
        self._batches: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._said: set[str] = set()

    def look(
        self, layer: SpikingLayer, steps: Mapping[str, LayerSteps], shape: tuple[int, ...], batch: int
    ) -> None:
        """Say what there is to say of an output.

        Parameters
        ----------
        layer : SpikingLayer
        steps : mapping
            Where each layer is.
        shape : tuple of int
            Of the output: ``[N, *neuron]``, or ``[T, N, *neuron]``.
        batch : int
            N.
        """
        if self._batches.get(layer.name) == batch:
            return
        is_new = layer.name not in self._batches
        self._batches[layer.name], self._shapes[layer.name] = batch, shape
        if is_new:
            self._look_at_new(layer, shape, batch)
        if "batch" not in self._said:
            self._compare(layer, steps, batch)

    def tell_plan(self, location: str, plan: RecordingPlan) -> None:
        """Say once what a recording costs, and once, if it is so, that its signals are very many bytes."""
        if self._is_first("plan"):
            _logger.info("recording to %s: %s", location, plan)
        # False for NaN, before there is a pace.
        if plan.signal_bytes_per_hour > MUCH_PER_HOUR and self._is_first("rate"):
            _logger.warning(
                "the signals of %s are %.0f GB in an hour at the pace so far, before compression. "
                "Signal(..., every=, samples=, neurons=, layers=) record less of them, dtype='float16' half "
                "as many bytes",
                *(location, plan.signal_bytes_per_hour / 1e9),
            )

    def _look_at_new(self, layer: SpikingLayer, shape: tuple[int, ...], batch: int) -> None:
        kind = f"{type(layer.module).__module__}.{type(layer.module).__qualname__}"
        pattern = str(layer.output.pattern)
        has_neuron_axes = len(shape) > 1 + layer.output.has_steps
        if layer.origin == "assumption" and self._is_first(f"class {kind}"):
            _logger.warning(
                "nothing is known of %s, and layers= says no more of it: its output of shape %s (layer %r) "
                "is taken for %s. If that is right, say layers={%r: SpikeOutput(%r)}; if not, say another "
                "pattern, such as 'n t ...'",
                *(kind, list(shape), layer.name, _in_words(layer, batch), layer.name, pattern),
            )
        elif layer.origin != "user" and not has_neuron_axes and batch > 1 and self._is_first("neuron axes"):
            _logger.warning(
                "the output of layer %r (%s), of shape %s, has no axis of neurons: it is taken for %s, "
                "each of one neuron. %s; if this is right, say layers={%r: SpikeOutput(%r)}",
                *(layer.name, type(layer.module).__name__, list(shape), _in_words(layer, batch)),
                *(_UNBATCHED, layer.name, pattern),
            )

    def _compare(self, layer: SpikingLayer, steps: Mapping[str, LayerSteps], batch: int) -> None:
        forward = steps[layer.name].forward
        for other, known in self._batches.items():
            if known != batch and steps[other].forward == forward and self._is_first("batch"):
                _logger.warning(
                    "layers of one forward do not agree about the batch: the output of %r is %s, taken for "
                    "%d samples, that of %r is %s, taken for %d. %s; if their axes are others, say "
                    "layers={name: SpikeOutput(...)}",
                    *(other, list(self._shapes[other]), known),
                    *(layer.name, list(self._shapes[layer.name]), batch, _UNBATCHED),
                )
                return

    def _is_first(self, what: str) -> bool:
        if what in self._said:
            return False
        self._said.add(what)
        return True


def _in_words(layer: SpikingLayer, batch: int) -> str:
    expected = layer.output
    samples = f"{batch} samples" if batch != 1 else "one sample"
    return f"{'several steps' if expected.has_steps else 'one step'} of {samples} ({str(expected.pattern)!r})"


def warn_of_unused(location: str) -> None:
    """Warn that a monitor is gone which was enabled and has recorded nothing."""
    _warn(
        f"the monitor that records to {location} is gone, enabled, before a layer was called: nothing was "
        "recorded. Keep the monitor in a variable for as long as it is to record",
        UncalledLayersWarning,
    )


def layer_lines(
    kinds: Mapping[str, str],
    recorded: Mapping[str, tuple[int, tuple[int, ...], str]],
    uncalled: Sequence[str],
    stopped: Sequence[str],
    parts: Mapping[str, LayerPart],
) -> Iterator[str]:
    """A line for each monitored layer: its class, and what is recorded of it."""
    for name, kind in kinds.items():
        what = "nothing recorded yet"
        if name in recorded:
            frames, shape, dtype = recorded[name]
            what = f"{frames} frames of {shape} {dtype}"
        state = ", stopped" if name in stopped else ", not called" if name in uncalled else ""
        part = f", kept in part: {parts[name]}" if name in parts else ""
        yield f"  {name or '(the network itself)'}: {kind}, {what}{part}{state}"
