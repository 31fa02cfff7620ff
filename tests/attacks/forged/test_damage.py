"""Whatever happens to a file of a recording: every statistic is the true one, or an error, never another."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest

import analysis
from analysis.keeping import find_problems
from analysis.kernels.selecting import source as sources
from damage import damages, write
from recorder.format import RecordingFormatError
from recorder.keeping import plan_recovery
from recorder.stores import Folder
from recorder.tape import TapeReader


def signals(recording: analysis.Recording) -> np.ndarray:
    """Every value of every signal of both layers."""
    every = [signal for name in ("1", "wide") for signal in recording[name].signals.values()]
    return np.concatenate([signal.values.values.ravel() for signal in every])


BITS = ["1", "wide", "graded", "part"]
QUESTIONS: dict[str, Callable[[analysis.Recording], Any]] = {
    "signals": signals,
    "operations": lambda r: r.counted_operations(),
    "from counts": lambda r: r.spike_count(per="layer"),
    "from bits": lambda r: r.select(layers=BITS).firing_rate(per=("layer", "window"), window=15),
    "trials": lambda r: r.trials.label,
    "values": lambda r: r.spike_count(per="layer", of="sum"),
}


MORE_QUESTIONS: dict[str, Callable[[analysis.Recording], Any]] = {
    "silent": lambda r: r.select(layers=BITS, steps=slice(3, 210)).silent_ratio(per="layer"),
    "in trials": lambda r: r.silent_ratio(per=("layer", "presentation")),
    "counted": lambda r: r["counted"].firing_rate(per=("label", "neuron")),
    "per label": lambda r: r.spike_count(per="label"),
    "spikes": lambda r: r["wide"].spikes.data.sum(axis=0),
    "magnitudes": lambda r: r["graded"].firing_rate(per="neuron", of="magnitude"),
    "each value": lambda r: r["graded"].values.data.sum(axis=0),
    "around spikes": lambda r: r["wide"].signals["v"].spike_triggered_average(1, 2),
    "values per label": lambda r: r["wide"].signals["v"].std(("label", "neuron")),
}


def answers(path: Path, thorough: bool) -> dict[str, Any]:
    """The answer to each question: its values, or the error that came instead."""
    for cache in (sources._reader, sources._column, sources._rows, sources.frames_of):
        cache.cache_clear()
    found: dict[str, Any] = {}
    for name, ask in (QUESTIONS | MORE_QUESTIONS if thorough else QUESTIONS).items():
        try:
            found[name] = np.asarray(ask(analysis.open_recording(path)))
        except RecordingFormatError as error:
            found[name] = error
    return found


def is_noticed(path: Path) -> bool:
    try:
        return bool(find_problems(TapeReader.open(Folder(path))))
    except RecordingFormatError:
        return True


@pytest.mark.parametrize(
    ("state", "thorough"),
    [
        ("interrupted", False),
        pytest.param("closed", False, marks=pytest.mark.long),
        pytest.param("closed", True, marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
        pytest.param("interrupted", True, marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_no_damage_changes_an_answer_and_verification_finds_all_of_it(
    tmp_path: Path, state: str, thorough: bool
) -> None:
    sound, damaged = tmp_path / "sound.zarr", tmp_path / "damaged.zarr"
    write(sound, state, with_values=True)
    shutil.copytree(sound, damaged)
    wrong, unseen, refused = [], [], 0
    with dask.config.set(scheduler="synchronous"):
        true = answers(sound, thorough)
        assert not any(isinstance(answer, Exception) for answer in true.values())
        reader = TapeReader.open(Folder(sound))
        assert find_problems(reader) == []
        uncommitted = set(plan_recovery(reader, []).dropped)
        assert bool(uncommitted) == (state == "interrupted")
        for damage in damages(sound, thorough):
            changed = damage.do(damaged, tmp_path / "outside")
            for name, answer in answers(damaged, thorough).items():
                if isinstance(answer, Exception):
                    refused += 1
                elif not np.array_equal(answer, true[name]):
                    wrong.append((damage, name))
            if not uncommitted.issuperset(changed) and not is_noticed(damaged):
                unseen.append(damage)
            for key in changed:
                (damaged / key).unlink(missing_ok=True)
                shutil.copy(sound / key, damaged / key)
    assert not wrong
    assert not unseen
    assert refused > 20
