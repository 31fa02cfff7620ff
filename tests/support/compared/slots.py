"""The frames of a layer, one by one, with the place of each along every axis."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import analysis


class Slots:
    """The frames of a layer, selected or not, and the place of each along every axis."""

    def __init__(self, layer: analysis.Layer, starts: dict[int, int], window: int) -> None:
        spikes = layer.spikes.compute()
        self.bits = spikes.values
        step, trial, sample = (spikes[name].values for name in ("step", "trial", "sample"))
        start = np.array([starts.get(number, -1) for number in trial.tolist()], np.int64)
        self.places: dict[str, list[Any]] = {
            "step": step.tolist(),
            "window": (step // window * window).tolist(),
            "time": [None if s < 0 else t - s for t, s in zip(step.tolist(), start.tolist(), strict=True)],
            "trial": [None if number < 0 else number for number in trial.tolist()],
            "sample": sample.tolist(),
            "presentation": [
                None if t < 0 else (t, s) for t, s in zip(trial.tolist(), sample.tolist(), strict=True)
            ],
        }
        for column in ("label", "epoch"):
            if column in spikes.coords:
                values = spikes[column].values.tolist()
                self.places[column] = [None if pd.isna(value) else value for value in values]

    def select(self, kept: Sequence[bool]) -> None:
        self.bits = self.bits[np.array(kept, np.bool_)]
        self.places = {name: list(itertools.compress(values, kept)) for name, values in self.places.items()}

    def groups(self, along: Sequence[str]) -> dict[tuple[Any, ...], np.ndarray]:
        """The frames of every group that has some."""
        found = defaultdict(list)
        for frame in range(len(self.bits)):
            key = tuple(self.places[word][frame] for word in along)
            if None not in key:
                found[key].append(frame)
        return {key: self.bits[frames] for key, frames in found.items()}


def keys_of(found: xr.DataArray, along: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], tuple[int, ...]]]:
    """Every group of an answer, and where it is."""
    values = []
    for word in along:
        if word == "presentation":
            pairs = zip(found["trial"].values.tolist(), found["sample"].values.tolist(), strict=True)
            values.append(list(pairs))
        else:
            values.append(found[word].values.tolist())
    for place in np.ndindex(*(len(each) for each in values)):
        yield tuple(each[index] for each, index in zip(values, place, strict=True)), place
