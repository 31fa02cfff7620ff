"""Pictures of when neurons fire, and of what labels have to do with it."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from analysis.layer import Layer
from analysis.report.asked import Asked
from analysis.report.figures import Figures
from analysis.report.pictures import Answers, Picture, Section
from analysis.report.scope import MAX_NEURONS, MAX_TIMES, Scope
from analysis.report.sections.activity import chosen_neurons

LONGEST: Final = 40
BLOCK_NEURONS: Final = 64
# Figures of label × neuron that all layers together may hold, and that may be made of one layer.
BLOCK_FIGURES: Final = 25_000
ASKED_FIGURES: Final = 2**22

NO_TRIALS: Final = (
    "Nothing was recorded in trials, so no step is the first one of a presentation; record each batch with "
    "`with monitor.trial(label=...):`."
)
NO_LABELS: Final = "No labels were recorded; record each batch with `with monitor.trial(label=...):`."


def timing_of(scope: Scope) -> Section:
    """When neurons fire, and what labels have to do with it."""
    said = "" if scope.whole else " All of it is about `part`, which is defined at the top."
    return Section(
        "timing",
        "When, and what for",
        f"Intervals and first spikes; neurons and labels; the answer of the network as time goes on.{said}",
        [_intervals(scope), _latency(scope), _labels(scope), _accuracy(scope)],
    )


def _intervals(scope: Scope) -> Picture:
    longest = min(LONGEST, max(scope.times - 1, 1)) if scope.times else LONGEST
    edge = {} if scope.trials else {"boundary": "none"}
    caption = "Steps from one spike of a neuron of the chosen layer to its next, within a presentation."
    if not scope.trials:
        caption = "Steps from one spike of a neuron of the chosen layer to its next; the run is one sequence."
    return Picture(
        "intervals",
        "bars",
        "Interspike intervals",
        caption + scope.counted,
        asked={
            "intervals": Asked("isi_histogram", ("layer",), {"longest": longest, **edge}, scope.view),
            "cv": Asked("isi_cv", ("layer",), edge, scope.view),
            "mean": Asked("isi_mean", ("layer",), edge, scope.view),
        },
        about={"along": "interval"},
    )


def _latency(scope: Scope) -> Picture:
    picture = {
        "name": "latency",
        "kind": "layers",
        "title": "First spikes",
        "caption": "Mean time of a neuron's first spike, in steps, of presentations in which it fired."
        + scope.counted,
    }
    if not scope.trials:
        return Picture(**picture, why_not=NO_TRIALS)  # type: ignore[arg-type]
    return Picture(
        **picture,  # type: ignore[arg-type]
        asked={
            "latency": Asked("latency", ("layer",), {}, scope.view),
            "without": Asked("latency_censored", ("layer",), {}, scope.view),
        },
    )


def _labels(scope: Scope) -> Picture:
    title = "Labels × neurons, by selectivity"
    if not scope.labels:
        return Picture("labels", "matrix", title, "", why_not=NO_LABELS)
    labels = len(scope.labels)
    layers = [scope.views[scope.view_of(name)][name] for name in scope.names]
    axes = {layer.name: layer.dimensions for layer in layers}
    most = max(min(BLOCK_NEURONS, BLOCK_FIGURES // (len(layers) * labels)), 4)
    kept = {"labels": list(scope.labels)} if scope.labels_left_out else {}

    def finish(answers: Answers, name: str) -> dict[str, Figures]:
        if not {"rate", "selectivity"} <= set(answers):
            return {}
        flat = np.ravel(answers["selectivity"].transpose(*axes[name]).values)
        rate = answers["rate"].transpose("label", *axes[name])
        # Of equals the one that fires most: there may be many that fired once.
        highest = np.nan_to_num(rate.values.reshape(len(rate), -1)).max(axis=0)
        order = np.lexsort((-highest, -np.nan_to_num(flat, nan=-1.0)))[:most]
        selectivity = answers["selectivity"].transpose(*axes[name])
        if "defined" in selectivity.coords:
            selectivity = selectivity.drop_vars("defined")
        return {
            "rate": Figures.of_neurons(rate, axes[name], order),
            "selectivity": Figures.of_neurons(selectivity, axes[name], order),
        }

    def chosen(layer: Layer) -> dict[str, object]:
        return {**chosen_neurons(layer, min(MAX_NEURONS, ASKED_FIGURES // labels)), **kept}

    asked = [(layer.name, chosen(layer)) for layer in layers]
    left_out = f" {scope.labels_left_out} more labels are left out." if scope.labels_left_out else ""
    return Picture(
        "labels",
        "matrix",
        title,
        f"Firing rate of the {most} most selective neurons of the chosen layer at each label, the most "
        f"selective first, of equals the one that fires most.{left_out}",
        of_layers={
            "rate": [
                Asked("firing_rate", (("label", "neuron"),), {}, scope.view_of(name), name, chosen=c)
                for name, c in asked
            ],
            "selectivity": [
                Asked("selectivity", ("neuron",), {}, scope.view_of(name), name, chosen=c)
                for name, c in asked
            ],
        },
        finish=finish,
        about={"rows": "label", "columns": "neuron"},
    )


def _accuracy(scope: Scope) -> Picture:
    title = "Accuracy over time"
    if not scope.labels:
        return Picture("accuracy", "lines", title, "", why_not=NO_LABELS)
    last = scope.recording[scope.names[-1]]
    whole = all(type(label) is int and 0 <= label < last.neurons for label in scope.labels)
    if not whole or len(last.neuron_shape) != 1 or math.prod(last.neuron_shape) != last.neurons:
        return Picture(
            "accuracy",
            "lines",
            title,
            "",
            why_not="The last layer is no output: it does not have one neuron for each label, which are "
            "whole numbers from 0 on.",
        )
    return Picture(
        "accuracy",
        "lines",
        title,
        "Presentations in which the right neuron of the last layer has fired most, of the spikes so far.",
        asked={
            "accuracy": Asked(
                "accuracy",
                (last.name,),
                {"per": "time"},
                scope.view_of(last.name),
                together=scope.fewer_times(MAX_TIMES),
            )
        },
        about={"along": "time", "least": 0, "most": 1},
    )
