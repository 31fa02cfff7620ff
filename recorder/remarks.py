"""What is said once about axes, where they had to be assumed or contradict each other.

Time and batch are never guessed in silence. What a pattern cannot tell by itself is told to the user by the
logger ``recorder``, at level WARNING, once for each monitor: nothing is refused, as each of these may be
meant.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from recorder.frameworks import SpikingLayer
from recorder.steps import LayerSteps

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
