"""Counts of presentations, taken slot by slot from unpacked spikes, and figures of neurons averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

import analysis
from analysis.asking import planning
from analysis.statistics import presentations, similarity
from analysis.statistics.answers import averaging
from made_recordings import Example, make_example

few = settings(
    max_examples=5, phases=[Phase.generate], deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
lost = pytest.mark.filterwarnings("ignore::recorder.format.errors.LostFramesWarning")


class Presented:
    """What a layer did in each presentation of which it has frames, in the order of trials and samples.

    ``counts`` has shape [presentations, *neurons]; ``at`` gives the spikes of a presentation by its times;
    ``places`` what it has along every axis.
    """

    def __init__(self, layer: analysis.Layer, starts: Sequence[Mapping[int, int]]) -> None:
        spikes = layer.spikes.compute()
        columns = {
            name: each.values.tolist() for name, each in spikes.coords.items() if each.dims == ("frame",)
        }
        names = [*layer.members.names]
        members = [names.index(name) for name in columns.get("recording", [names[0]] * len(spikes))]
        keys = [*zip(members, columns["trial"], columns["sample"], strict=True)]
        self.keys = sorted({key for key in keys if key[1] >= 0})
        place = {key: number for number, key in enumerate(self.keys)}
        self.counts = np.zeros((len(self.keys), *spikes.shape[1:]), np.int64)
        self.lengths = np.zeros(len(self.keys), np.int64)
        self.at: list[dict[int, np.ndarray]] = [{} for _ in self.keys]
        self.places: dict[str, list[Any]] = {
            "recording": [names[member] for member, _, _ in self.keys],
            "trial": [trial for _, trial, _ in self.keys],
            "sample": [sample for _, _, sample in self.keys],
            "label": [None] * len(self.keys),
            "epoch": [None] * len(self.keys),
        }
        for frame, key in enumerate(keys):
            if key not in place:
                continue
            row, bits = place[key], spikes.values[frame]
            self.counts[row] += bits
            self.lengths[row] += 1
            self.at[row][columns["step"][frame] - starts[key[0]][key[1]]] = bits
            for column in ("label", "epoch"):
                value = columns.get(column, [None] * len(keys))[frame]
                self.places[column][row] = None if pd.isna(value) else value

    def rows(self, along: Sequence[str], key: Sequence[Any]) -> np.ndarray:
        """Presentations at these places."""
        kept = [
            all(self.places[word][row] == value for word, value in zip(along, key, strict=True))
            for row in range(len(self.keys))
        ]
        return np.flatnonzero(kept)

    def labels(self, rows: np.ndarray, by: str | None) -> list[Any]:
        """The label of each of some presentations, the same for all if there is no column."""
        return [0 if by is None else self.places[by][row] for row in rows]


def starts_of(example: Example) -> dict[int, int]:
    """First step of each trial, in any layer."""
    starts: dict[int, int] = {}
    for runs in example.runs.values():
        for run in runs:
            starts[run.trial] = min(starts.get(run.trial, run.first_step), run.first_step)
    return starts


def opened(
    data: st.DataObject, tmp: Any, plans: Sequence[dict[str, Any]]
) -> tuple[analysis.Recording, str, list[dict[int, int]]]:
    """Recordings that plans describe, opened as one; a layer of it; the first steps of the trials."""
    examples = []
    for number, plan in enumerate(plans):
        plan["shapes"] = plans[0]["shapes"]
        examples.append(make_example(tmp / f"{number}.zarr", plan))
    recording = analysis.open_recording([example.path for example in examples])
    name = data.draw(st.sampled_from([*examples[0].layers]), "layer")
    return recording, name, [starts_of(example) for example in examples]


def has_presentations(layer: analysis.Layer, ask: Any) -> bool:
    """Whether there are presentations to ask about; if not, asking says how to record them."""
    if layer.frames and (layer.spikes["trial"].values >= 0).any():
        return True
    with pytest.raises(analysis.QuestionError, match=r"record each batch with `with monitor\.trial"):
        ask(layer)
    return False


@contextmanager
def cut_small(data: st.DataObject) -> Iterator[None]:
    """Blocks, tasks and sums of awkward sizes."""
    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="synchronous"):
        patch.setattr(
            planning, "SMALL_TASK_BYTES", data.draw(st.sampled_from([40, 700, 2**24]), "task bytes")
        )
        patch.setattr(planning, "MANY_TASKS", 10**9)
        patch.setattr(planning, "RESULT_BLOCK_BYTES", data.draw(st.sampled_from([64, 2**20]), "result bytes"))
        size = data.draw(st.sampled_from([100, 3000, 2**25]), "bytes of sums")
        for module in (averaging, presentations, similarity):
            patch.setattr(module, "SUM_BYTES", size, raising=False)
        yield


Figure = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def check_averages(
    found: xr.DataArray, table: Presented, along: Sequence[str], place: str, figure: Figure
) -> None:
    """Compare with the figures of neurons, and how many things each is made of, in every group."""
    assert found.dims[: len(along)] == tuple(along)
    assert dask.is_dask_collection(found)
    assert found.coords["defined"].chunks is not None
    found = found.compute()
    of_words = [found[word].values.tolist() for word in along]
    left = {tuple(table.places[word][row] for word in along) for row in range(len(table.keys))}
    left = {key for key in left if None not in key}
    for at in np.ndindex(*found.shape[: len(along)]):
        key = tuple(axis[index] for axis, index in zip(of_words, at, strict=True))
        left.discard(key)
        values, defined = figure(table.rows(along, key))
        axes = {"all": None, "channel": tuple(range(1, values.ndim)), "neuron": ()}[place]
        there = ~np.isnan(values)
        number = there.sum(axis=axes)
        wanted = np.where(there, values, 0).sum(axis=axes) / np.where(number > 0, number, np.nan)
        np.testing.assert_allclose(found.values[at], wanted, rtol=1e-10, atol=1e-12, err_msg=str(key))
        np.testing.assert_array_equal(found["defined"].values[at], defined.sum(axis=axes))
    assert not left, "groups that have presentations are left out"


def some_per(
    data: st.DataObject, table: Presented, dimensions: Sequence[str], recordings: int
) -> tuple[list[str], str]:
    """Some groups to keep apart, and places."""
    words = ["sample", *(["recording"] if recordings > 1 else ["trial"])]
    words += [name for name in ("label", "epoch") if any(value is not None for value in table.places[name])]
    along = data.draw(st.lists(st.sampled_from(words), max_size=2, unique=True), "along")
    # Recordings come first in every result.
    along = sorted(along, key=lambda word: word != "recording")
    place = data.draw(
        st.sampled_from(["all", "neuron", *(["channel"] if len(dimensions) > 1 else [])]), "place"
    )
    return along, place
