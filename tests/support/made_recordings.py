"""Recordings of every awkward kind, made by hypothesis, with everything that was written to them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from analysis.keeping import find_problems
from recorder.format.layout import COUNTS_SHARE, spikes_chunk_key
from recorder.keeping import plan_recovery, recover
from recorder.stores import Folder
from recorder.tape import TapeReader
from tapes import Run, Trial, write_recording

NEURON_SHAPES = [(), (1,), (7,), (8,), (9,), (31,), (33,), (257,), (3, 5), (2, 3, 4)]
LABELS = ["cat", "dog", "=cmd", "eel"]


@dataclass
class Example:
    """A recording and everything that was written to it, one row for each frame."""

    path: Path
    layers: dict[str, np.ndarray]
    steps: dict[str, np.ndarray]
    trials: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    label_values: list[Any]
    runs: dict[str, list[Run]]
    presented: list[Trial]


@st.composite
def plans(draw: st.DrawFn, most_steps: int = 150, most_neurons: int = 257) -> dict[str, Any]:
    """Runs of steps with awkward batches, gaps between them and trials in some of them."""
    allowed = [shape for shape in NEURON_SHAPES if math.prod(shape) <= most_neurons]
    shapes = draw(st.lists(st.sampled_from(allowed), min_size=1, max_size=2))
    runs: list[Run] = []
    trials: list[Trial] = []
    step = draw(st.integers(0, 3))
    kind = draw(st.sampled_from(["text", "whole", "none"]))
    for _ in range(draw(st.integers(1, 7))):
        batch = draw(st.sampled_from([1, 3, 8, 70] if most_steps > 16 else [1, 2, 5, 9]))
        steps = draw(st.sampled_from([n for n in (1, 2, 5, 16, 40, 150) if n <= most_steps]))
        if draw(st.booleans()):
            number = len(trials) if not trials else trials[-1].number + draw(st.integers(1, 2))
            runs.append(Run(step, steps, batch, number))
            if draw(st.booleans()):
                # The trial goes on, at once or behind a gap.
                step += steps + draw(st.integers(0, 2))
                steps = draw(st.sampled_from([1, 3, 16]))
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
            columns["epoch"] = [draw(st.integers(0, 2))] * batch
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
    return Example(path, layers, steps, trials, labels, values, runs_of, presented)


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
