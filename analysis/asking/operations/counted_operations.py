"""Operations that were counted while recording: for which weight layers they stand, and their sums."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np

from analysis.asking.axes import FrameAxes
from analysis.asking.operations.fan_outs import (
    OperationsOf,
    Weights,
    connections_of,
    readers_of_some_frames,
    readers_of_the_rest,
    readers_of_values,
    uncovered_of,
)
from analysis.asking.signals import lazy_tally
from analysis.kernels.selecting.source import Source, frames_of
from analysis.kernels.signals.tallying import SignalTallied
from analysis.questions import Question
from recorder.format.record.operations import KINDS

Kind = Literal["all", "accumulates", "multiply_accumulates"]
# Columns of the series that add up to a kind of operations, with all weights or those that are not 0.
_COLUMNS: Final[dict[tuple[Weights, Kind], tuple[str, ...]]] = {
    ("all", "accumulates"): ("accumulates",),
    ("all", "multiply_accumulates"): ("multiply_accumulates",),
    ("all", "all"): ("accumulates", "multiply_accumulates"),
    ("nonzero", "accumulates"): ("nonzero_accumulates",),
    ("nonzero", "multiply_accumulates"): ("nonzero_multiply_accumulates",),
    ("nonzero", "all"): ("nonzero_accumulates", "nonzero_multiply_accumulates"),
}


@dataclass(frozen=True)
class Covering:
    """What tells the operations that spikes cause.

    Attributes
    ----------
    counted : tuple of str
        Weight layers whose fan-outs do not tell them, and whose operations were counted.
    missing : dict of str to str
        What neither tells, and why.
    of : {"events", "magnitude"}
        What is an operation for each weight.
    """

    counted: tuple[str, ...]
    missing: dict[str, str]
    of: OperationsOf


def covering_of(layers: Sequence[Sequence[Source]], of: OperationsOf) -> Covering:
    """What tells the operations of some layers, in recordings that are looked at together.

    Counts are those of all layers and neurons of a network together, and stand for no part of it.
    """
    missing = uncovered_of(connections_of(layers))
    missing |= readers_of_values(layers, of) | readers_of_the_rest(layers, of)
    if not missing or not layers or layers[0][0].operations is None:
        return Covering((), missing, of)
    hint = ""
    if of != "events":
        hint = "its operations were counted of events: ask with of='events'"
    elif not _is_whole(layers):
        hint = "its operations were counted for all layers together: ask the recording, with all of them"
    if hint:
        return Covering((), {name: f"{why}; {hint}" for name, why in missing.items()}, of)
    uncounted = _uncounted(layers)
    names = weight_layers_of(layers[0])
    counted = tuple(name for name in missing if name in names and name not in uncounted)
    if counted:
        # They are of all samples and trials: nothing else in the figure may be of some of these.
        further = [name for name in readers_of_some_frames(layers, of) if name not in missing]
        counted += tuple(name for name in further if name in names and name not in uncounted)
    left = {name: why for name, why in missing.items() if name not in counted}
    return Covering(
        counted,
        {name: f"{why}; {uncounted[name]}" if name in uncounted else why for name, why in left.items()},
        of,
    )


def weight_layers_of(sources: Iterable[Source]) -> tuple[str, ...]:
    """Weight layers whose operations were counted in each of some recordings, if they are the same in all."""
    every = {source.operations.weight_layers if source.operations else () for source in sources}
    return every.pop() if len(every) == 1 else ()


def _is_whole(layers: Sequence[Sequence[Source]]) -> bool:
    named = {layer[0].layer for layer in layers}
    every = {commit.name for source in layers[0] for commit in source.siblings}
    return named == every and all(layer[0].selection.neurons is None for layer in layers)


def _uncounted(layers: Sequence[Sequence[Source]]) -> dict[str, str]:
    """Weight layers whose operations were not counted in all frames, and why."""
    found: dict[str, str] = {}
    for place, source in enumerate(layers[0]):
        if source.operations is None:
            continue
        found |= {name: f"it {why}" for name, why in source.operations.uncounted.items()}
        step = _first_gap(source, [layer[place] for layer in layers])
        if step is not None:
            where = f"operations were not counted at step {step} of {source.store.location}"
            found |= {name: where for name in source.operations.weight_layers if name not in found}
    return found


def _first_gap(source: Source, layers: Sequence[Source]) -> int | None:
    """The first step at which a layer has frames, and there are no operations; None if there is none."""
    counted = frames_of(source.of_operations()).segments
    first, last = counted.first_step, counted.last_step
    gaps = []
    for layer in layers:
        segments = frames_of(layer).segments
        at = segments.first_step
        while len(at):
            # Segments of both may begin anywhere; from each step on, go where what covers it ends.
            row = np.searchsorted(first, at, side="right") - 1
            covered = (row >= 0) & (at < last[np.maximum(row, 0)]) if len(first) else np.zeros(len(at), bool)
            gaps += at[~covered].tolist()
            end = np.where(covered, last[np.maximum(row, 0)] if len(first) else 0, segments.last_step)
            going = end < segments.last_step
            segments, at = segments.select(going), end[going]
    return min(gaps, default=None)


def counted_sums(sources: Sequence[Source], question: Question, axes: FrameAxes) -> Any:
    """Operations in each group of frames.

    Parameters
    ----------
    sources : sequence of Source
        Operations of each recording, see `Source.of_operations`.
    question : Question
    axes : FrameAxes
        Of the question, for these and all layers.

    Returns
    -------
    dask array of int64, shape [recordings, *groups, weight layers, kinds]
        Without the first axis where recordings are not kept apart.
    """
    asked = replace(question, place="neuron", layers=False)
    sums, _, _ = lazy_tally(SignalTallied("total"), sources, asked, axes)
    return sums[..., 0]


def of_kind(sums: Any, weight_layer: int, weights: Weights, kind: Kind) -> Any:
    """Operations of one weight layer, of the sums of `counted_sums`."""
    columns = [sums[..., weight_layer, KINDS.index(column)] for column in _COLUMNS[weights, kind]]
    return columns[0] if len(columns) == 1 else columns[0] + columns[1]
