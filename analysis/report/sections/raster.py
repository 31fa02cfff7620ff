"""Spikes of some neurons at a few presentations, for the page to draw: which, and their bits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from analysis.layer import Layer
from analysis.report.asked import LAYER, Asked
from analysis.report.figures import Pool, packed_numbers
from analysis.report.pictures import LEFT_OUT, same_for_all
from analysis.report.scope import Scope
from analysis.report.sections.activity import chosen_neurons

NEURONS: Final = 96
PRESENTATIONS: Final = 12
STEPS: Final = 512
# Bits that all layers together may take, and slots that are read of one layer to choose neurons from.
BITS: Final = 4_000_000
READ_SLOTS: Final = 2**25


@dataclass(frozen=True, eq=False)
class Raster:
    """What is drawn of each layer: spikes of the same presentations.

    Attributes
    ----------
    scope : Scope
    asked : sequence of Asked
        Of each layer.
    """

    scope: Scope
    asked: Sequence[Asked]

    @classmethod
    def of(cls, scope: Scope) -> Raster:
        """Choose presentations, and neurons to read."""
        chosen, presentations, steps = _presentations(scope)
        most = max(READ_SLOTS // max(presentations * steps, 1), 1)
        layers = [scope.recording[name] for name in scope.names]
        return cls(
            scope,
            [
                Asked("spikes", layer=layer.name, chosen={**chosen, **chosen_neurons(layer, most)})
                for layer in layers
            ],
        )

    def lazy(self) -> list[xr.DataArray]:
        """The spikes of the layers that have any there, lazily."""
        return [answer for answer, _ in self._answers().values() if answer is not None]

    def _answers(self) -> dict[str, tuple[xr.DataArray | None, str]]:
        every = zip(self.scope.names, self.asked, strict=True)
        return {name: self.scope.ask(asked) for name, asked in every}

    def packed(
        self, computed: Sequence[xr.DataArray], layers: Sequence[str], pool: Pool, shown: Collection[str]
    ) -> dict[str, Any]:
        """The lines of Python behind the spikes of some layers, and these as JSON values."""
        asked, answers = dict(zip(self.scope.names, self.asked, strict=True)), self._answers()
        there = [name for name, (answer, _) in answers.items() if answer is not None]
        spikes = dict(zip(there, computed, strict=True))
        return {
            "lines": same_for_all(
                [asked[name].line(self.scope.called, LAYER) if name in asked else "" for name in layers]
            ),
            "said": [
                LEFT_OUT if name not in shown else answers[name][1] if name in answers else ""
                for name in layers
            ],
            "layers": [
                _packed(spikes[name], self.scope.recording[name], len(layers), pool)
                if name in spikes and name in shown
                else None
                for name in layers
            ],
        }


def _presentations(scope: Scope) -> tuple[dict[str, Any], int, int]:
    """What to select so that a few presentations remain, of many labels; how many these are, and their steps.

    They are samples of one trial, or the first sample of several trials, whichever has more labels.
    """
    share = BITS // max(len(scope.names) * NEURONS, 1)
    longest = max((layer.steps for layer in scope.recording.layers.values()), default=1)
    if not scope.trials:
        return {"steps": slice(0, min(share, STEPS)), "samples": [0]}, 1, min(longest, share, STEPS)
    trial, sample = scope.table["trial"], scope.table["sample"]
    label = scope.table.get("label", [None] * len(trial))
    steps = max(longest // max(len(set(trial)), 1), 1)
    number = max(min(PRESENTATIONS, share // min(steps, STEPS)), 1)
    of_one = [row for row in range(len(trial)) if trial[row] == trial[0]]
    of_many = [row for row in range(len(trial)) if sample[row] == 0]
    kept = max(
        (_varied(rows, label, number) for rows in (of_one, of_many)), key=lambda rows: _labels(rows, label)
    )
    chosen: dict[str, Any] = {
        "trials": sorted({trial[row] for row in kept}),
        "samples": sorted({sample[row] for row in kept}),
    }
    if steps > STEPS:
        chosen["time"] = slice(0, STEPS)
    return chosen, len(kept), min(steps, STEPS)


def _varied(rows: Sequence[int], label: Sequence[Any], number: int) -> list[int]:
    """Some rows, first one of each label, then the others in order."""
    first = {str(label[row]): row for row in reversed(rows)}
    ordered = [*sorted(first.values()), *(row for row in rows if row not in set(first.values()))]
    return sorted(ordered[:number])


def _labels(rows: Sequence[int], label: Sequence[Any]) -> tuple[int, int]:
    return len({str(label[row]) for row in rows}), len(rows)


def _packed(spikes: xr.DataArray, layer: Layer, layers: int, pool: Pool) -> dict[str, Any] | None:
    if not spikes.size:
        return None
    flat = spikes.values.reshape(len(spikes), -1)
    share = max(min(NEURONS, BITS // max(layers * len(spikes), 1)), 8)
    chosen = _chosen(flat, share)
    shape = layer.sources[0].commit.plan.neuron_shape
    indices = _indices(spikes, shape, layer.dimensions)[chosen]
    label = spikes.coords["label"].values.tolist() if "label" in spikes.coords else []
    presentations: dict[tuple[int, int], list[int]] = {}
    keys = zip(spikes.coords["trial"].values.tolist(), spikes.coords["sample"].values.tolist(), strict=True)
    for frame, key in enumerate(keys):
        presentations.setdefault(key, []).append(frame)
    step = spikes.coords["step"].values
    return {
        "neurons": pool.place_of(indices.tolist()),
        "presentations": [
            {
                "trial": trial,
                "sample": sample,
                "label": pool.place_of([label[frames[0]]]) if label else None,
                "steps": pool.place_of(step[frames].tolist()),
                "bits": packed_numbers(flat[frames][:, chosen])["data"],
            }
            for (trial, sample), frames in presentations.items()
        ],
        "shape": list(shape),
    }


def _chosen(flat: NDArray[np.bool_], most: int) -> NDArray[np.int64]:
    """Places of neurons: evenly among those that fire there, then among the others."""
    if flat.shape[1] <= most:
        return np.arange(flat.shape[1])
    fired = flat.any(axis=0)
    active, silent = np.flatnonzero(fired), np.flatnonzero(~fired)
    taken = active[np.unique(np.linspace(0, len(active) - 1, min(most, len(active))).astype(np.int64))]
    missing = most - len(taken)
    if missing:
        taken = np.concatenate([taken, silent[np.linspace(0, len(silent) - 1, missing).astype(np.int64)]])
    return np.sort(taken)


def _indices(spikes: xr.DataArray, shape: tuple[int, ...], axes: Sequence[str]) -> NDArray[np.int64]:
    """Flat indices in the whole layer, whose shape is given, of the neurons that were read."""
    if not shape:
        return np.zeros(1, np.int64)
    along = [
        spikes.coords[name].values if name in spikes.coords else np.arange(length)
        for name, length in zip(axes, shape, strict=True)
    ]
    places = np.meshgrid(*along, indexing="ij")
    flat: NDArray[np.int64] = np.ravel_multi_index([place.ravel() for place in places], shape)
    return flat
