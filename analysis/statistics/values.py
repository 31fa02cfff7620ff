"""Sums of values of layers that put out others than 0 and 1, from counts of their events and planes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from analysis.arguments import check_choice
from analysis.asking.graphs import add_together, count_layer
from analysis.asking.planning import LayerCuts, Plan
from recorder.format.planes.values import SIGN
from recorder.format.record.metadata import ValuesCommit

Of = Literal["events", "magnitude", "sum"]
_MEANINGS: Final = {"events": "spikes", "magnitude": "magnitude of values", "sum": "sum of values"}


def check_of(of: str) -> None:
    """Raise QuestionError unless this is something that can be counted of values."""
    check_choice(of, "of", _MEANINGS)


def meaning(of: Of) -> str:
    """What is counted, in words."""
    return _MEANINGS[of]


def count_values(plan: Plan, layer: Sequence[LayerCuts], of: Of) -> Any:
    """What is counted of one layer in the recordings of a pool; shape as from `count_layer`.

    Returns
    -------
    dask array
        Of int64; or of float64 where a scale is not 1, as whole numbers times the scale.
    """
    if of == "events":
        return count_layer(plan, layer)
    sums: dict[float, list[Any]] = {}
    for cuts in layer:
        values = cuts.source.commit.values
        for weight, bits in _terms(values, of):
            counted = count_layer(plan, [replace(cuts, source=cuts.source.of_bits(bits))])
            sums.setdefault(values.scale if values else 1.0, []).append(counted * weight)
    scaled = [
        levels if scale == 1 else levels * scale
        for scale, levels in ((scale, add_together(terms)) for scale, terms in sums.items())
    ]
    total = scaled[0]
    for other in scaled[1:]:
        total = total + other
    return total


def _terms(values: ValuesCommit | None, of: Of) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Weights of the counts of bits of which the sum of levels, or of their magnitudes, is made.

    |level| = event + Σ 2ᵏ plane k; what is negative counts twice less in the sum of levels. Bits are given by
    the planes of which all are true; by none, they are events.
    """
    planes = [plane.name for plane in values.planes] if values else []
    magnitudes = [(1, ())] + [(1 << int(name), (name,)) for name in planes if name != SIGN]
    yield from magnitudes
    if of == "sum" and SIGN in planes:
        yield from ((-2 * weight, (*bits, SIGN)) for weight, bits in magnitudes)
