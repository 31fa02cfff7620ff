"""Pictures of what neurons do together, what changes in the course of a recording, and what spikes cost."""

from __future__ import annotations

import math
from typing import Final

from analysis.report.asked import Asked
from analysis.report.pictures import Picture, Section
from analysis.report.scope import WINDOWS, Scope

CORRELATED: Final = 40
# Coefficients that all layers together may hold, steps of a signal, and signals.
COEFFICIENTS: Final = 25_000
SIGNAL_STEPS: Final = 25_000
MAX_SIGNALS: Final = 4
SEED: Final = 0


def together_of(scope: Scope) -> Section:
    """What neurons do together."""
    return Section(
        "together",
        "Together",
        "Whether neurons fire in the same frames, and which of them.",
        [_synchrony(scope), _correlation(scope)],
    )


def course_of(scope: Scope) -> Section:
    """What changes, what was recorded besides, and what it costs."""
    return Section(
        "course",
        "In the course of it, and at what cost",
        "Drift over the recording, signals beside the spikes, operations and their energy.",
        [drift_of(scope), *_signals(scope), *_operations()],
    )


def _synchrony(scope: Scope) -> Picture:
    return Picture(
        "synchrony",
        "layers",
        "Synchrony χ²",
        "1 if all neurons of a layer fire in the same frames, near 0 if they are independent."
        + scope.counted,
        asked={"synchrony": Asked("synchrony", ("layer",), {}, scope.view)},
    )


def _correlation(scope: Scope) -> Picture:
    number = max(min(CORRELATED, math.isqrt(COEFFICIENTS // max(len(scope.names), 1))), 4)
    keywords = {"sample": number, "seed": SEED, **({} if scope.trials else {"boundary": "none"})}
    return Picture(
        "correlation",
        "matrix",
        "Correlation of neurons",
        f"Pearson correlation of at most {number} neurons of the chosen layer, drawn by chance, step by "
        "step.",
        of_layers={
            "correlation": [
                Asked("correlation", (), keywords, scope.view_of(name), name) for name in scope.names
            ]
        },
        about={"rows": "neuron", "columns": "other", "least": -1, "most": 1},
    )


def drift_of(scope: Scope) -> Picture:
    """Rates in the course of the recording."""
    asked, along, said = _course(scope)
    return Picture(
        "drift",
        "lines",
        "Drift",
        f"Firing rate over {said}: the chosen layer, and behind it the others."
        f"{scope.counted if asked.view != 'recording' else ''}",
        asked={"rate": asked},
        about={"along": along, "apart": "layer", "least": 0},
    )


def _course(scope: Scope) -> tuple[Asked, str, str]:
    """Rates over epochs, where there are several, or trials; or over windows where these are too many."""
    if 1 < len(set(map(str, scope.table.get("epoch", [])))) <= 2 * WINDOWS:
        return Asked("firing_rate", (("layer", "epoch"),)), "epoch", "epochs"
    trials = len(set(scope.table.get("trial", [])))
    if 2 < trials <= 2 * WINDOWS:
        return Asked("firing_rate", (("layer", "trial"),)), "trial", "trials"
    steps = scope.recording.steps
    # Whole trials, where they are of one length, as each has its ups and downs.
    unit = steps // trials if trials and steps % trials == 0 and steps // trials * WINDOWS <= steps else 1
    window = max(math.ceil(steps / WINDOWS / unit), 1) * unit
    said = f"windows of {window} steps" if window > 1 else "the steps of the recording"
    asked = Asked("firing_rate", (("layer", "window"),), {"window": window}, scope.timed_view)
    return asked, "window", said


def _signals(scope: Scope) -> list[Picture]:
    layers = [scope.recording[name] for name in scope.names]
    names = list(dict.fromkeys(name for layer in layers for name in layer.signals))
    if not names:
        return [
            Picture(
                "signals",
                "lines",
                "Signals",
                "",
                why_not='Nothing was recorded beside the spikes; `Monitor(net, signals=["v"])` records '
                "membrane potentials.",
            )
        ]
    most = max(SIGNAL_STEPS // (len(layers) * min(len(names), MAX_SIGNALS) * 2), 8)
    fewer = scope.fewer_times(most) if scope.trials else None
    per, along, keywords = ("time", "time", {}) if scope.trials else ("window", "window", _window(scope))
    pictures = []
    for number, name in enumerate(names[:MAX_SIGNALS]):
        each = [name in layer.signals for layer in layers]
        of_layers = {
            what: [
                Asked(what, (per,), keywords, layer=layer.name, signal=name, together=fewer)
                if there
                else None
                for layer, there in zip(layers, each, strict=True)
            ]
            for what in ("mean", "std")
        }
        caption = (
            f"Mean of all neurons of the chosen layer over {along}, and one standard deviation to either "
            "side."
        )
        if len(names) > MAX_SIGNALS and number == MAX_SIGNALS - 1:
            caption += f" {len(names) - MAX_SIGNALS} more signals are left out."
        pictures.append(
            Picture(
                f"signal-{number}",
                "lines",
                f"Signal {name}",
                caption,
                of_layers=of_layers,
                about={"along": along, "around": True},
            )
        )
    return pictures


def _window(scope: Scope) -> dict[str, int]:
    return {"window": max(math.ceil(scope.recording.steps / WINDOWS), 1)}


def _operations() -> list[Picture]:
    leave_out = {"uncovered": "leave out"}
    return [
        Picture(
            "operations",
            "layers",
            "Synaptic operations",
            "Each spike counts once for each weight that it meets in the layers that read its own.",
            asked={"operations": Asked("synaptic_operations", ("layer",), leave_out)},
        ),
        Picture(
            "energy",
            "energy",
            "Energy",
            "Arithmetic only: it serves to compare networks, and does not predict what a chip draws.",
            asked={"energy": Asked("energy", (), leave_out)},
        ),
    ]
