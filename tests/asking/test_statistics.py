"""Every statistic, however it is asked for, equals plain numpy over the unpacked bits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from analysis import planning
from analysis.keeping import find_problems
from analysis.kernels import counting, tallying
from recorder.format.layout import COUNTS_SHARE, spikes_chunk_key
from recorder.keeping import plan_recovery, recover
from recorder.stores import Folder
from recorder.tape import LayerReader, TapeReader
from tapes import Run, Trial, write_recording

NEURON_SHAPES = [(), (1,), (7,), (8,), (9,), (31,), (33,), (257,), (3, 5), (2, 3, 4)]
LABELS = ["cat", "dog", "=cmd", "eel"]
STATISTICS = ("firing_rate", "silent_ratio", "spike_count", "saturated_ratio")
THRESHOLDS = (1.0, 0.9, 0.5, 1 / 3, Fraction(1, 7), 0.001)


@dataclass
class Example:
    """A recording and everything that was written to it, one row for each frame."""

    path: Path
    layers: dict[str, np.ndarray]
    steps: dict[str, np.ndarray]
    trials: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    label_values: list[Any]


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """Runs of steps with awkward batches, gaps between them and trials in some of them."""
    shapes = draw(st.lists(st.sampled_from(NEURON_SHAPES), min_size=1, max_size=2))
    runs: list[Run] = []
    trials: list[Trial] = []
    step = draw(st.integers(0, 3))
    kind = draw(st.sampled_from(["text", "whole", "none"]))
    for _ in range(draw(st.integers(1, 7))):
        batch = draw(st.sampled_from([1, 3, 8, 70]))
        steps = draw(st.sampled_from([1, 2, 5, 16, 40, 150]))
        if draw(st.booleans()):
            number = len(trials) if not trials else trials[-1].number + draw(st.integers(1, 2))
            runs.append(Run(step, steps, batch, number))
            columns: dict[str, list[Any]] = {}
            if kind != "none":
                uniform = draw(st.booleans())
                chosen = [draw(st.sampled_from(LABELS))] * batch if uniform else None
                given_labels = chosen or draw(
                    st.lists(st.sampled_from(LABELS), min_size=batch, max_size=batch)
                )
                columns["label"] = (
                    given_labels
                    if kind == "text"
                    else [LABELS.index(label) * 3 - 1 for label in given_labels]
                )
            trials.append(Trial(number, batch, columns))
        else:
            runs.append(Run(step, steps, batch))
        step += steps + draw(st.sampled_from([0, 0, 0, 3]))
    return {
        "shapes": shapes,
        "runs": runs,
        "trials": trials,
        "second_starts_at": draw(st.integers(0, len(runs) - 1)),
        "close": draw(st.booleans()),
        "chunk_bytes": draw(st.sampled_from([8, 64, 600, 4096])),
        "counts_share": draw(st.sampled_from([COUNTS_SHARE, 0.25, 100])),
        "missing_trials": draw(st.integers(0, 1)),
        "seed": draw(st.integers(0, 2**32)),
        # A chunk of each layer, as a share of its frames, that is damaged and marked lost.
        "lost": draw(st.lists(st.floats(0, 1), max_size=2)),
        "density": draw(st.sampled_from([0.0, 0.002, 0.1, 0.9, 1.0])),
    }


def make_example(path: Path, plan: dict[str, Any]) -> Example:
    """Write the recording that a plan describes."""
    random = np.random.default_rng(plan["seed"])
    presented = plan["trials"][: len(plan["trials"]) - plan["missing_trials"]]
    by_number = {trial.number: trial for trial in presented}
    layers, runs_of, steps, trials, labels = {}, {}, {}, {}, {}
    for position, shape in enumerate(plan["shapes"]):
        name = ["1", "features.3"][position]
        runs = plan["runs"][plan["second_starts_at"] if position else 0 :]
        frames = sum(run.steps * run.batch for run in runs)
        rates = random.random(shape) * 2 * plan["density"] if plan["density"] < 0.5 else plan["density"]
        layers[name] = random.random((frames, *shape)) < rates
        runs_of[name] = runs
        steps[name] = np.concatenate(
            [np.repeat(np.arange(run.first_step, run.first_step + run.steps), run.batch) for run in runs]
        )
        trials[name] = np.concatenate([np.full(run.steps * run.batch, run.trial) for run in runs])
        labels[name] = np.concatenate([_labels(run, by_number) for run in runs])
    write_recording(
        path,
        layers,
        runs_of,
        presented,
        close=plan["close"],
        chunk_bytes=plan["chunk_bytes"],
        counts_share=plan["counts_share"],
        trials_begun=max((run.trial for run in plan["runs"]), default=-1) + 1,
    )
    lost = lose_chunks(path, {name: plan["lost"][position:] for position, name in enumerate(layers)})
    for name, frames in lost.items():
        steps_lost = np.isin(steps[name], np.unique(steps[name][frames]))
        for column in (layers, steps, trials, labels):
            column[name] = column[name][~steps_lost]
    listed = list(itertools.chain.from_iterable(trial.columns.get("label", ()) for trial in presented))
    values = list(dict.fromkeys(listed))
    if values and not isinstance(values[0], str):
        values.sort()
    return Example(path, layers, steps, trials, labels, values)


def lose_chunks(path: Path, shares: Mapping[str, Sequence[float]]) -> dict[str, np.ndarray]:
    """Delete chunks of a recording and mark their steps lost; which frames they held."""
    reader = TapeReader.open(Folder(path))
    lost = {}
    for name, layer in reader.layers.items():
        size = layer.plan.chunk_frames
        chunks = {int(share * (layer.frames - 1)) // size for share in shares[name]}
        lost[name] = np.isin(np.arange(layer.frames) // size, list(chunks))
        for chunk in chunks:
            (path / spikes_chunk_key(layer.folder, layer.plan, chunk, 0)).unlink()
    recovery = plan_recovery(reader, find_problems(reader), mark_lost=True)
    if recovery.lost:
        recover(Folder(path, durability="process"), recovery, reader.metadata.commit_number)
        assert find_problems(TapeReader.open(Folder(path))) == []
    return lost


def _labels(run: Run, trials: Mapping[int, Trial]) -> np.ndarray:
    known = trials.get(run.trial)
    of_samples = list(known.columns.get("label", [None] * run.batch)) if known else [None] * run.batch
    out = np.empty(run.steps * run.batch, object)
    out[:] = of_samples * run.steps
    return out


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
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
        patch.setattr("analysis.planning.RESULT_BLOCK_BYTES", data.draw(st.sampled_from([64, 2**20])))
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
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
    monkeypatch.setattr("analysis.planning.RESULT_BLOCK_BYTES", result_bytes)
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
