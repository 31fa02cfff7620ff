"""Whatever is kept apart and selected together, figures equal those counted slot by slot."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import analysis
from analysis.asking import planning
from analysis.kernels.counting import tasks as counting
from made_recordings import Example, make_example, plans
from slots import Slots, keys_of
from tapes import Run, Trial, write_recording

WORDS = ("step", "window", "time", "trial", "sample", "presentation", "label", "epoch")
PLACES = ("all", "channel", "neuron")


def counted(statistic: str, bits: np.ndarray, place: str, threshold: float) -> np.ndarray:
    """A statistic of some frames, shape [frames, *neurons]: of all places of a layer."""
    spikes = bits.sum(axis=0)
    if statistic == "silent_ratio":
        values, whole = spikes == 0, np.ones(spikes.shape)
    elif statistic == "saturated_ratio":
        enough = -(-Fraction(threshold).limit_denominator(1000) * len(bits) // 1)
        values, whole = spikes >= max(enough, 1), np.ones(spikes.shape)
    else:
        values, whole = spikes, np.full(spikes.shape, len(bits))
    axes = {"all": tuple(range(spikes.ndim)), "channel": tuple(range(1, spikes.ndim)), "neuron": ()}[place]
    summed = values.sum(axis=axes)
    return summed if statistic == "spike_count" else summed / whole.sum(axis=axes)


def check(found: xr.DataArray, slots: Slots, statistic: str, along: Sequence[str], place: str) -> None:
    assert found.dims[: len(along)] == tuple(along)
    assert dask.is_dask_collection(found)
    values = found.compute().values
    groups = slots.groups(along)
    for key, at in keys_of(found, along):
        frames = groups.pop(key, None)
        if frames is None:
            empty = 0 if statistic == "spike_count" else np.nan
            np.testing.assert_array_equal(values[at], np.full(values[at].shape, empty), err_msg=str(key))
        else:
            wanted = counted(statistic, frames, place, 0.5)
            np.testing.assert_array_equal(values[at], wanted, err_msg=str(key))
    assert not groups, "groups that have frames are left out"


def selections(data: st.DataObject, example: Example, layer: analysis.Layer) -> dict[str, Any]:
    """Some selection, and nothing that is not there."""
    chosen: dict[str, Any] = {}
    batch = max((run.batch for run in example.runs[layer.name]), default=1)
    if data.draw(st.booleans(), "select samples"):
        chosen["samples"] = data.draw(st.sampled_from([slice(1, None, 2), 0, slice(0, 5)]))
        if batch > 2 and data.draw(st.booleans()):
            chosen["samples"] = [0, 2]
    if example.presented and data.draw(st.booleans(), "select times"):
        chosen["time"] = data.draw(st.sampled_from([slice(1, 4), slice(0, 2), slice(2, None), slice(5, 5)]))
    epochs = sorted({value for trial in example.presented for value in trial.columns.get("epoch", ())})
    if epochs and data.draw(st.booleans(), "select where"):
        chosen["where"] = {"epoch": data.draw(st.sampled_from([epochs[0], epochs, epochs[-1:]]))}
        if example.label_values and data.draw(st.booleans()):
            chosen["where"]["label"] = data.draw(st.lists(st.sampled_from(example.label_values), min_size=1))
    if layer.neuron_shape and data.draw(st.booleans(), "select neurons"):
        halves = tuple(slice(length // 2 % 2, None, 2) for length in layer.neuron_shape)
        chosen["neurons"] = data.draw(
            st.sampled_from([halves, tuple([0] for _ in halves), tuple(slice(None) for _ in halves)])
        )
    return chosen


def is_selected(slots: Slots, chosen: dict[str, Any]) -> list[bool]:
    samples = chosen.get("samples", slice(None))
    numbers = range(10**6)[samples] if isinstance(samples, slice) else [samples] if samples == 0 else samples
    times = range(10**6)[chosen["time"]] if "time" in chosen else None
    where = {
        name: [*map(str, value)] if isinstance(value, list) else [str(value)]
        for name, value in chosen.get("where", {}).items()
    }
    kept = [sample in numbers for sample in slots.places["sample"]]
    if times is not None:
        kept = [
            one and time is not None and time in times
            for one, time in zip(kept, slots.places["time"], strict=True)
        ]
    for name, values in where.items():
        column = slots.places[name]
        shown = [None if v is None else str(int(v)) if isinstance(v, float) else str(v) for v in column]
        kept = [one and value in values for one, value in zip(kept, shown, strict=True)]
    return kept


@pytest.mark.filterwarnings("ignore::recorder.format.errors.LostFramesWarning")
@given(plan=plans(), window=st.sampled_from([1, 3, 20]), data=st.data())
@settings(
    max_examples=15, phases=[Phase.generate], deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
def test_products_of_axes_and_selections_equal_plain_counting(
    tmp_path_factory: pytest.TempPathFactory, plan: dict[str, Any], window: int, data: st.DataObject
) -> None:
    example = make_example(tmp_path_factory.mktemp("run") / "run.zarr", plan)
    recording = analysis.open_recording(example.path)
    name = data.draw(st.sampled_from([*example.layers]))
    layer = recording[name]
    starts: dict[int, int] = {}
    for runs in example.runs.values():
        for run in runs:
            starts[run.trial] = min(starts.get(run.trial, run.first_step), run.first_step)
    starts.pop(-1, None)
    slots = Slots(layer, starts, window)
    chosen = selections(data, example, layer)
    slots.select(is_selected(slots, chosen))
    if "neurons" in chosen:
        slots.bits = slots.bits[
            np.ix_(
                range(len(slots.bits)),
                *(np.arange(n)[s] for n, s in zip(slots.bits.shape[1:], chosen["neurons"], strict=True)),
            )
        ]
    narrowed = layer.select(**chosen)
    there = [
        word
        for word in WORDS
        if word in slots.places
        and (word not in ("time", "presentation") or any(n is not None for n in slots.places["trial"]))
    ]
    along = data.draw(st.lists(st.sampled_from(there), max_size=3, unique=True))
    if {"step", "window"} <= {*along}:
        along.remove("window")
    if "presentation" in along:
        along = [word for word in along if word not in ("trial", "sample")]
    place = data.draw(st.sampled_from(PLACES if len(narrowed.dimensions) > 1 else ["all", "neuron"]))
    per = [*along, *([place] if place != "all" else [])]
    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="synchronous"):
        patch.setattr(
            planning, "SMALL_TASK_BYTES", data.draw(st.sampled_from([40, 700, 2**24]), "task bytes")
        )
        patch.setattr(planning, "MANY_TASKS", 10**9)
        patch.setattr(planning, "RESULT_BLOCK_BYTES", data.draw(st.sampled_from([64, 2**20])))
        patch.setattr(counting, "SLICE_FRAMES", data.draw(st.sampled_from([64, 192, 2**18])))
        for statistic in ("firing_rate", "silent_ratio", "spike_count", "saturated_ratio"):
            options: dict[str, Any] = {"window": window} if "window" in along else {}
            options |= {"threshold": 0.5} if statistic == "saturated_ratio" else {}
            found = getattr(narrowed, statistic)(per, **options)
            check(found, slots, statistic, along, place)
    spikes = narrowed.spikes
    np.testing.assert_array_equal(spikes.compute().values, slots.bits)


def test_selections_without_trials_are_no_recordings_without_trials(tmp_path: Path) -> None:
    spikes, runs = np.ones((12, 3), np.bool_), [Run(0, 4, 2, 0), Run(4, 2, 2)]
    write_recording(tmp_path / "a.zarr", {"1": spikes}, runs, [Trial(0, 2, {})])
    recording = analysis.open_recording(tmp_path / "a.zarr")
    for part in (recording.select(steps=slice(4, 6)), recording.select(time=slice(0, 0))):
        with pytest.raises(analysis.QuestionError, match="trials were recorded: select some"):
            part.firing_rate("time")
