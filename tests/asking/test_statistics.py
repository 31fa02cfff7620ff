"""Every statistic, however it is asked for, equals plain numpy over the unpacked bits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import analysis
from analysis.asking import planning
from analysis.kernels.counting import tallying
from analysis.kernels.counting import tasks as counting
from made_recordings import Example, make_example, plans
from recorder.tape import LayerReader
from tapes import Run, Trial, write_recording

STATISTICS = ("firing_rate", "silent_ratio", "spike_count", "saturated_ratio")
THRESHOLDS = (1.0, 0.9, 0.5, 1 / 3, Fraction(1, 7), 0.001)


def expected(
    example: Example,
    statistic: str,
    per: Sequence[str],
    window: int,
    selected: Mapping[str, np.ndarray],
    anchor: int,
    threshold: float | Fraction,
) -> np.ndarray:
    """The same statistic, counted one by one."""
    names = list(selected)
    keys = {
        "step": example.steps,
        "window": {name: (example.steps[name] - anchor) // window for name in names},
        "trial": example.trials,
        "label": example.labels,
    }
    time = next((word for word in per if word in keys), None)
    if time is None:
        groups: list[Any] = [None]
    elif time == "label":
        groups = example.label_values
    else:
        every = np.concatenate([keys[time][name][selected[name]] for name in names])
        groups = [key for key in np.unique(every) if not (time == "trial" and key < 0)]
    layer_groups = [[name] for name in names] if "layer" in per else [names]
    out = []
    for layer_group in layer_groups:
        per_group = []
        for group in groups:
            part, whole = 0, 0
            for name in layer_group:
                rows = selected[name] if time is None else selected[name] & (keys[time][name] == group)
                bits = example.layers[name][rows]
                flat = bits.reshape(len(bits), math.prod(bits.shape[1:]))
                values = flat.sum(axis=0)
                if statistic == "silent_ratio":
                    values = ~flat.any(axis=0) & bool(len(flat))
                if statistic == "saturated_ratio":
                    enough = math.ceil(Fraction(threshold).limit_denominator(1000) * len(flat))
                    values = (flat.sum(axis=0) >= enough) & bool(len(flat))
                looked_at = bool(len(flat)) if statistic.endswith("ratio") else len(flat)
                weights = np.full(flat.shape[1], looked_at, np.int64)
                kept_axes = bits.ndim if "neuron" in per else 2 if "channel" in per else 1
                places = bits.shape[1:kept_axes]
                part = part + values.reshape(*places, -1).sum(axis=-1)
                whole = whole + weights.reshape(*places, -1).sum(axis=-1)
            if statistic == "spike_count":
                per_group.append(np.asarray(part))
            else:
                with np.errstate(invalid="ignore"):
                    per_group.append(np.true_divide(part, whole))
        if time is not None:
            shape = () if not per_group else None
            out.append(np.stack(per_group) if shape is None else np.empty((0,)))
        else:
            out.append(per_group[0])
    return np.stack(out) if "layer" in per else out[0]


def check(found: xr.DataArray, wanted: np.ndarray, about: object) -> None:
    assert isinstance(found.data, da.Array), f"{about} is not lazy"
    assert found.dtype == found.compute().dtype
    if wanted.size == 0:
        assert found.size == 0, about
        return
    assert found.shape == wanted.shape, about
    np.testing.assert_array_equal(found.values, wanted, err_msg=str(about))


QUESTIONS: list[tuple[str, ...]] = [
    (),
    ("layer",),
    ("step",),
    ("window",),
    ("trial",),
    ("label",),
    ("layer", "step"),
    ("layer", "label"),
    ("layer", "window"),
]
LAYER_QUESTIONS: list[tuple[str, ...]] = [
    *itertools.product(["step", "window", "trial", "label"], ["neuron", "channel"]),
    ("neuron",),
    ("channel",),
]


@pytest.mark.filterwarnings("ignore::recorder.format.errors.LostFramesWarning")
@given(plan=plans(), window=st.sampled_from([1, 3, 20, 10**6]), data=st.data())
@settings(max_examples=14, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_statistic_equals_numpy_on_the_unpacked_bits(
    tmp_path_factory: pytest.TempPathFactory, plan: dict[str, Any], window: int, data: st.DataObject
) -> None:
    example = make_example(tmp_path_factory.mktemp("run") / "run.zarr", plan)
    recording = analysis.open_recording(example.path, use_counts=data.draw(st.booleans(), "use counts"))
    selection: dict[str, Any] = {}
    selected = {name: np.ones(len(frames), np.bool_) for name, frames in example.layers.items()}
    last_step = recording.steps
    anchor = 0
    if data.draw(st.booleans(), "select steps"):
        anchor, end = sorted(data.draw(st.tuples(st.integers(0, last_step), st.integers(0, last_step + 5))))
        selection["steps"] = slice(anchor, end)
        for name, steps in example.steps.items():
            selected[name] &= (steps >= anchor) & (steps < end)
    if data.draw(st.booleans(), "select trials") and recording.metadata.trials.trials:
        numbers = data.draw(st.lists(st.integers(0, recording.metadata.trials.trials - 1), max_size=3))
        selection["trials"] = numbers
        for name, trials in example.trials.items():
            selected[name] &= np.isin(trials, numbers)
    values = example.label_values
    if data.draw(st.booleans(), "select labels") and values:
        chosen = data.draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
        selection["labels"] = chosen
        example = replace(example, label_values=[value for value in values if value in chosen])
        for name, labels in example.labels.items():
            selected[name] &= np.array([label in chosen for label in labels], np.bool_)
    narrowed = recording.select(**selection)
    questions = [(narrowed, per, selected) for per in QUESTIONS]
    for name in example.layers:
        questions += [(narrowed[name], per, {name: selected[name]}) for per in LAYER_QUESTIONS]
    threshold = data.draw(st.sampled_from(THRESHOLDS), "threshold")
    chosen_questions = data.draw(st.lists(st.sampled_from(range(len(questions))), min_size=1, max_size=4))
    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="synchronous"):
        # Small enough that questions about these small recordings are cut into several tasks and slices.
        patch.setattr(
            planning, "SMALL_TASK_BYTES", data.draw(st.sampled_from([40, 700, 2**24]), "task bytes")
        )
        patch.setattr(planning, "MANY_TASKS", 10**9)
        patch.setattr("analysis.asking.planning.RESULT_BLOCK_BYTES", data.draw(st.sampled_from([64, 2**20])))
        patch.setattr(counting, "SLICE_FRAMES", data.draw(st.sampled_from([64, 192, 2**18])))
        patch.setattr(tallying, "SLAB_ELEMENTS", data.draw(st.sampled_from([1, 300, 2**22])))
        for statistic, question in itertools.product(STATISTICS, chosen_questions):
            asked, per, frames = questions[question]
            impossible = ("label" in per and not values) or ("channel" in per and len(asked.neuron_shape) < 2)
            if not impossible:
                ask = getattr(asked, statistic)
                options: dict[str, Any] = {"window": window} if "window" in per else {}
                options |= {"threshold": threshold} if statistic == "saturated_ratio" else {}
                found = ask(per=per, **options)
                wanted = expected(example, statistic, per, window, frames, anchor, threshold)
                check(found, wanted, (statistic, per, selection, threshold))


@pytest.mark.filterwarnings("ignore::recorder.format.errors.LostFramesWarning")
@given(plan=plans(), data=st.data())
@settings(max_examples=14, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_spikes_and_their_coordinates_are_the_recorded_ones(
    tmp_path_factory: pytest.TempPathFactory, plan: dict[str, Any], data: st.DataObject
) -> None:
    example = make_example(tmp_path_factory.mktemp("run") / "run.zarr", plan)
    recording = analysis.open_recording(example.path)
    selected = {name: np.ones(len(frames), np.bool_) for name, frames in example.layers.items()}
    selection: dict[str, Any] = {}
    if data.draw(st.booleans(), "select steps"):
        first, last = sorted(data.draw(st.tuples(st.integers(0, 50), st.integers(0, 200))))
        selection["steps"] = slice(first, last)
        for name, steps in example.steps.items():
            selected[name] &= (steps >= first) & (steps < last)
    if example.label_values and data.draw(st.booleans(), "select labels"):
        selection["labels"] = example.label_values[0]
        for name, labels in example.labels.items():
            selected[name] &= np.array([label == example.label_values[0] for label in labels], np.bool_)
    narrowed = recording.select(**selection)
    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="synchronous"):
        patch.setattr("analysis.spikes.BLOCK_BYTES", data.draw(st.sampled_from([64, 5000, 2**26])))
        patch.setattr("analysis.spikes.BLOCK_FRAMES", data.draw(st.sampled_from([64, 2**21])))
        for name, frames in example.layers.items():
            spikes = narrowed[name].spikes
            assert isinstance(spikes.data, da.Array)
            assert spikes.dtype == np.bool_
            assert spikes.dims == ("frame", *narrowed[name].dimensions)
            assert all(isinstance(coordinate.data, da.Array) for coordinate in spikes.coords.values())
            np.testing.assert_array_equal(spikes.values, frames[selected[name]])
            np.testing.assert_array_equal(spikes.step.values, example.steps[name][selected[name]])
            np.testing.assert_array_equal(spikes.trial.values, example.trials[name][selected[name]])
            assert len(narrowed[name].spikes) == narrowed[name].frames
            if example.label_values:
                wanted = example.labels[name][selected[name]]
                if not isinstance(example.label_values[0], str):
                    complete = not any(label is None for label in wanted)
                    wanted = np.array([np.nan if label is None else label for label in wanted])
                    assert spikes.label.dtype in (np.int64, np.float64) if complete else np.float64
                np.testing.assert_array_equal(spikes.label.values, wanted)


@pytest.mark.parametrize("result_bytes", [8, 100, 2**25])
def test_many_labels_are_cut_into_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result_bytes: int
) -> None:
    spikes = np.random.default_rng(2).random((600, 3, 4)) < 0.05
    labels = [(7 * sample) % 13 for sample in range(20)]
    trials = [Trial(0, 20, {"label": labels})]
    write_recording(tmp_path / "a", {"1": spikes}, [Run(0, 30, 20, 0)], trials, chunk_bytes=100)
    monkeypatch.setattr("analysis.asking.planning.RESULT_BLOCK_BYTES", result_bytes)
    monkeypatch.setattr(planning, "SMALL_TASK_BYTES", 200)
    layer = analysis.open_recording(tmp_path / "a")["1"]
    of_frame = np.tile(labels, 30)
    counts = np.stack([spikes[of_frame == label].sum(axis=0) for label in range(13)])
    neuron = layer.spike_count(per=("label", "neuron"))
    assert (neuron.data.numblocks[0] > 1) == (result_bytes < 2**25)
    np.testing.assert_array_equal(neuron, counts)
    np.testing.assert_array_equal(layer.spike_count(per=("label", "channel")), counts.sum(axis=2))
    np.testing.assert_array_equal(layer.spike_count(per="label"), counts.sum(axis=(1, 2)))
    np.testing.assert_array_equal(layer.silent_ratio(per="label"), (counts == 0).mean(axis=(1, 2)))
    selected = layer.select(labels=[3, 12]).spike_count(per=("label", "neuron"))
    assert selected["label"].values.tolist() == [3, 12]
    np.testing.assert_array_equal(selected, counts[[3, 12]])


def test_rates_and_silent_ratios_of_labels_read_every_chunk_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spikes = np.random.default_rng(2).random((600, 3, 4)) < 0.05
    labels = [sample % 3 for sample in range(20)]
    write_recording(
        tmp_path / "a", {"1": spikes}, [Run(0, 30, 20, 0)], [Trial(0, 20, {"label": labels})], chunk_bytes=100
    )
    read = []
    chunks = LayerReader.chunks

    def noted(self: LayerReader, wanted: Sequence[int], **how: bool) -> Iterator[np.ndarray]:
        read.extend(wanted)
        return chunks(self, wanted, **how)

    monkeypatch.setattr(LayerReader, "chunks", noted)
    layer = analysis.open_recording(tmp_path / "a")["1"]
    dask.compute(layer.firing_rate(per="label"), layer.silent_ratio(per="label"), scheduler="synchronous")
    assert len(read) > 3
    assert len(read) == len(set(read))
