"""Findings in words: what somebody who knows such networks would point at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, TypeGuard

import numpy as np
import xarray as xr

from analysis.display import printable
from analysis.report.scope import Scope
from analysis.report.sections.activity import SATURATED_FROM
from analysis.report.wording import named, quoted

# A layer is named where so many of its neurons never fired, or fired nearly always.
MOSTLY_SILENT: Final = 0.5
SOME_SATURATED: Final = 0.05
# Activity dies with depth if it falls to less than this from its highest.
FADED: Final = 0.1
MOSTLY_FALLING: Final = 0.8
# The rate drifts if the first and the last fifth of the recording differ by this share.
DRIFTED: Final = 0.2
FEW_FRAMES: Final = 100
FEW_PRESENTATIONS: Final = 5

# The answer of a picture under a key, if there is one.
Answer = Callable[[str, str], xr.DataArray | None]


def findings_of(scope: Scope, answer: Answer) -> list[tuple[str, str]]:
    """Sentences, each with what kind it is: ``"bad"``, ``"watch"`` or ``"good"``."""
    if not scope.names:
        return [("watch", "Nothing has been committed yet: there are no layers to show.")]
    every = [
        *_silent(scope, answer("strip", "silent")),
        *_saturated(scope, answer("strip", "saturated")),
        *_fading(scope, answer("strip", "rate")),
        *_drifting(answer("drift", "rate")),
        *_few(scope),
        *_gone(scope),
    ]
    if not every:
        every = [("good", _fine(scope, answer))]
    return [(kind, printable(text)) for kind, text in every]


def _fine(scope: Scope, answer: Answer) -> str:
    if len(scope.names) > 1:
        fine, it = "No layer is dead or saturated, activity does not die with depth", "and it does not drift"
    else:
        fine, it = "The layer is neither dead nor saturated", "and its activity does not drift"
    # Of counts in place of spikes, or of a few windows, nobody knows.
    if not _can_drift(answer("drift", "rate")):
        return f"{fine}. Whether activity drifts cannot be told from this."
    return f"{fine}, {it}."


def _by_layer(answer: xr.DataArray | None) -> Mapping[str, float]:
    if answer is None:
        return {}
    return dict(zip(answer.layer.values.tolist(), answer.values.tolist(), strict=True))


def _silent(scope: Scope, answer: xr.DataArray | None) -> Iterator[tuple[str, str]]:
    silent = _by_layer(answer)
    dead = [name for name in scope.names if silent.get(name, 0) == 1]
    if dead:
        yield "bad", f"Dead: no neuron of {named(dead)} fired even once."
    mostly = [name for name in scope.names if MOSTLY_SILENT <= silent.get(name, 0) < 1]
    if mostly:
        worst = max(mostly, key=silent.__getitem__)
        yield (
            "watch",
            f"Mostly silent: half or more of the neurons of {named(mostly)} never fired; of {quoted(worst)} "
            f"{silent[worst]:.0%}.",
        )


def _saturated(scope: Scope, answer: xr.DataArray | None) -> Iterator[tuple[str, str]]:
    saturated = _by_layer(answer)
    many = [name for name in scope.names if saturated.get(name, 0) >= SOME_SATURATED]
    if many:
        worst = max(many, key=saturated.__getitem__)
        yield (
            "watch",
            f"Saturated: neurons of {named(many)} fired in at least {SATURATED_FROM:.0%} of their slots; of "
            f"{quoted(worst)} {saturated[worst]:.0%} of them.",
        )


def _fading(scope: Scope, answer: xr.DataArray | None) -> Iterator[tuple[str, str]]:
    rates = _by_layer(answer)
    known = [name for name in scope.names if not np.isnan(rates.get(name, np.nan))]
    if len(known) < 2:
        return
    highest = max(known, key=lambda name: rates[name])
    behind = known[known.index(highest) :]
    lowest = min(behind, key=lambda name: rates[name])
    between = [rates[name] for name in behind[: behind.index(lowest) + 1]]
    # Nearly every layer fires less than the one before: a layer that is low by itself is no trend.
    falls = sum(after <= before for before, after in pairwise(between))
    if rates[lowest] < FADED * rates[highest] and falls >= MOSTLY_FALLING * (len(between) - 1):
        yield (
            "bad" if rates[lowest] == 0 else "watch",
            f"Activity dies with depth: from {rates[highest]:.3g} spikes per neuron and step in "
            f"{quoted(highest)} it falls, layer by layer, to {rates[lowest]:.3g} in {quoted(lowest)}.",
        )


def _can_drift(answer: xr.DataArray | None) -> TypeGuard[xr.DataArray]:
    """Whether there are rates enough to tell the beginning from the end."""
    return answer is not None and answer.ndim == 2 and answer.shape[1] >= 5


def _drifting(answer: xr.DataArray | None) -> Iterator[tuple[str, str]]:
    if not _can_drift(answer):
        return
    along = str(answer.dims[1])
    fifth = answer.shape[1] // 5
    changed: list[tuple[float, str, float, float]] = []
    for name, rates in zip(answer.layer.values.tolist(), answer.values, strict=True):
        known = rates[~np.isnan(rates)]
        if len(known) < 5:
            continue
        begin, end = known[:fifth], known[-fifth:]
        before, after = float(begin.mean()), float(end.mean())
        # Of a recording that is level, fifths differ by chance: windows vary from one to the next, too.
        noise = float(np.abs(np.diff(known)).mean()) / np.sqrt(fifth)
        if abs(after - before) > max(DRIFTED * max(before, after), 3 * noise):
            changed.append((abs(after - before) / max(before, after), name, before, after))
    if changed:
        _, worst, before, after = max(changed)
        names = [name for _, name, _, _ in changed]
        yield (
            "watch",
            f"Drift: the rate of {named(names)} is not level over {along}s; of {quoted(worst)} it goes from "
            f"{before:.3g} in the first fifth to {after:.3g} in the last.",
        )


def _few(scope: Scope) -> Iterator[tuple[str, str]]:
    layers = scope.recording.layers
    few = [name for name, layer in layers.items() if layer.frames < FEW_FRAMES]
    if few:
        least = min(few, key=lambda name: layers[name].frames)
        yield (
            "watch",
            f"Too few slots to say much: of {named(few)} there are fewer than {FEW_FRAMES} frames "
            f"({layers[least].frames} of {quoted(least)}), so that a rate is known to "
            f"{1 / max(layers[least].frames, 1):.1g} at best, and a silent neuron may just not have "
            "fired yet.",
        )
    if scope.labels:
        of_each = _counts(scope.table["label"])
        seldom = [label for label, number in of_each.items() if number < FEW_PRESENTATIONS]
        if seldom:
            yield (
                "watch",
                f"Too few presentations to say what neurons select: {len(seldom)} of {len(of_each)} labels "
                f"have fewer than {FEW_PRESENTATIONS}.",
            )


def _counts(labels: Sequence[Any]) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for label in labels:
        if label is not None and label == label:  # noqa: PLR0124 - NaN
            counts[str(label)] = counts.get(str(label), 0) + 1
    return counts


def _gone(scope: Scope) -> Iterator[tuple[str, str]]:
    members = scope.recording.recordings.values()
    uncalled = [name for member in members for name in member.metadata.uncalled]
    if uncalled:
        yield "watch", f"Monitored, and not called at the end: {named(list(dict.fromkeys(uncalled)))}."
    lost = [name for name, layer in scope.recording.layers.items() if layer.lost_frames]
    if lost:
        yield "watch", f"Frames of {named(lost)} were damaged and are marked lost; no figure has them."
    if scope.recording.state != "closed":
        yield (
            "watch",
            "The recording is not closed: it grows, or was interrupted. This is what was committed so far.",
        )
