"""What `compare` finds between two recordings, in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from analysis.arguments import QuestionError
from analysis.comparison import Comparison, LayerComparison, compare
from analysis.display import printable
from analysis.recording import Recording
from analysis.report.scope import counted_layers, without
from analysis.report.wording import named, quoted, sentence


def differences(
    one: Recording, other: Recording, run: Callable[..., tuple[Any, ...]]
) -> list[tuple[str, str]]:
    """Sentences about two recordings, each with what kind it is, as from `findings_of`."""
    counted = list(dict.fromkeys([*counted_layers(one), *counted_layers(other)]))
    try:
        found = compare(without(one, counted), without(other, counted), run=run)
    except QuestionError as error:
        return [("watch", printable(f"The two cannot be compared slot by slot: {sentence(str(error))}"))]
    said = [f"Not compared, as only counts were kept of them: {named(counted)}."] if counted else []
    if not found.equal:
        said = [*_sentences(found), *said]
    elif not counted:
        return [("good", "The two are equal: no slot of any layer differs.")]
    else:
        said = ["No slot of any other layer differs.", *said]
    return [("watch", printable(text)) for text in said]


def _sentences(found: Comparison) -> list[str]:
    said = [
        f"Only in {name}: {named(layers)}."
        for name, layers in zip(("the first", "the second"), found.only_in, strict=True)
        if layers
    ]
    if found.first is not None:
        first = found.first
        where = f"step {first.step}" if first.trial is None else f"trial {first.trial} at time {first.time}"
        neuron = f", neuron {first.neuron}" if first.neuron else ""
        said.append(
            f"The first difference of the two: layer {quoted(first.layer)}, {where}, "
            f"sample {first.sample}{neuron}."
        )
    differing = [layer for layer in found.layers.values() if layer.differing]
    if differing:
        worst = max(differing, key=lambda layer: layer.differing / layer.slots)
        said.append(
            f"Slots differ in {len(differing)} of {len(found.layers)} layers, most in {quoted(worst.name)}: "
            f"{worst.differing:,} of {worst.slots:,} ({worst.differing / worst.slots:.2%}){_agreeing(worst)}."
        )
    unmatched = [layer for layer in found.layers.values() if layer.unmatched != (0, 0)]
    if unmatched:
        most = max(unmatched, key=lambda layer: sum(layer.unmatched))
        said.append(
            f"Frames of {named([layer.name for layer in unmatched])} are in one of the two alone: of "
            f"{quoted(most.name)} {most.unmatched[0]:,} in the first, and {most.unmatched[1]:,} in the "
            "second."
        )
    return said


def _agreeing(layer: LayerComparison) -> str:
    agreement = layer.agreement
    return "" if math.isnan(agreement) else f"; of the spikes of both {agreement:.1%} are in the other, too"
