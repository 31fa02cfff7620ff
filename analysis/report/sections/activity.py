"""Pictures of how much layers and neurons fire: the strip of layers, over time, and neuron by neuron."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from analysis.layer import Layer
from analysis.report.asked import Asked
from analysis.report.figures import Figures
from analysis.report.pictures import Answers, Picture, Section
from analysis.report.scope import MAX_TIMES, WINDOWS, Scope

SATURATED_FROM: Final = 0.9
RATE_EDGES: Final = (0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
# Figures that a map of layers and times may hold, and neurons whose rates are shown of all layers together.
MAP_FIGURES: Final = 25_000
MAP_NEURONS: Final = 200_000


def strip_of(scope: Scope) -> Section:
    """The layers in depth order."""
    picture = Picture(
        "strip",
        "strip",
        "Layers in depth order",
        "Bars are on one scale. Choose a layer: everything below is about it.",
        asked={
            "rate": Asked("firing_rate", ("layer",)),
            "silent": Asked("silent_ratio", ("layer",)),
            "saturated": Asked("saturated_ratio", ("layer",), {"threshold": SATURATED_FROM}),
            "operations": Asked("synaptic_operations", ("layer",), {"uncovered": "leave out"}),
        },
    )
    left_out = (
        f" {scope.left_out} of {scope.left_out + len(scope.names)} layers are left out; those shown are "
        "chosen evenly."
        if scope.left_out
        else ""
    )
    return Section("layers", "Layers", f"From input to output.{left_out}", [picture])


def activity_of(scope: Scope) -> Section:
    """Activity over time, and how it is spread over neurons."""
    return Section(
        "activity",
        "Activity",
        "How much layers fire, when, and how unequal their neurons are.",
        [_over_time(scope), _histogram()],
    )


def _over_time(scope: Scope) -> Picture:
    most = max(min(MAX_TIMES, MAP_FIGURES // max(len(scope.names), 1)), 1)
    together = scope.fewer_times(most) if scope.trials else None
    if scope.trials:
        asked = Asked("firing_rate", (("layer", "time"),), view=scope.timed_view, together=together)
        along = "steps within a trial"
    else:
        window = max(math.ceil(scope.recording.steps / min(most, 2 * WINDOWS)), 1)
        asked = Asked("firing_rate", (("layer", "window"),), {"window": window}, scope.timed_view)
        along = f"windows of {window} steps" if window > 1 else "steps"
    said = f", {together[1]} of them averaged" if together else ""
    return Picture(
        "time",
        "heat",
        "Layer × time",
        f"Firing rate of each layer over {along}{said}. A click chooses the layer.{scope.counted}",
        asked={"rate": asked},
    )


def _histogram() -> Picture:
    return Picture(
        "rates",
        "bars",
        "Distribution of neuron rates",
        "Neurons of the chosen layer by their firing rate; those that never fired are in the first bar.",
        asked={"neurons": Asked("rate_histogram", ([*RATE_EDGES],), {"per": "layer"})},
        about={"along": "rate_bin", "upto": "rate_bin_end"},
    )


def maps_of(scope: Scope) -> Picture:
    """Rates of the neurons of each layer, as they lie."""
    share = MAP_NEURONS // max(len(scope.names), 1)
    layers = [scope.recording[name] for name in scope.names]
    frames = {layer.name: layer.frames for layer in layers}
    axes = {layer.name: layer.dimensions for layer in layers}

    def finish(answers: Answers, name: str) -> dict[str, Figures]:
        return {"rate": Figures.of(answers["rate"].transpose(*axes[name]), divisor=frames[name])}

    return Picture(
        "maps",
        "maps",
        "Rate of each neuron",
        "Channels side by side, each as it lies; layers without space as one row of neurons.",
        of_layers={
            "rate": [
                Asked("firing_rate", ("neuron",), layer=layer.name, chosen=chosen_neurons(layer, share))
                for layer in layers
            ]
        },
        finish=finish,
    )


def chosen_neurons(layer: Layer, most: int) -> dict[str, Any]:
    """What to select of a layer so that so many neurons remain: channels evenly, or a stretch of neurons."""
    if layer.neurons <= most:
        return {}
    shape = layer.neuron_shape
    if len(shape) == 1:
        return {"neurons": slice(0, most)}
    of_channel = math.prod(shape[1:])
    if of_channel <= most:
        kept = np.unique(np.linspace(0, shape[0] - 1, most // of_channel).astype(int))
        return {"channels": kept.tolist()}
    # One channel, thinned along its axes until it fits.
    stride = 1
    while math.prod(-(-length // stride) for length in shape[1:]) > most:
        stride += 1
    return {"neurons": (0, *(slice(None, None, stride) for _ in shape[1:]))}
