"""Several answers computed together read each chunk once, and are what they are one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

import analysis
from analysis.asking import planning, populations
from analysis.asking.rounds import calls_in, graph_of, join_rounds
from analysis.kernels import rounds
from recorder.tape import LayerReader
from tapes import Run, Trial, write_recording

STATISTICS = ("firing_rate", "silent_ratio", "saturated_ratio", "spike_count")
Read = list[tuple[str, int]]


@pytest.fixture
def recording(tmp_path: Path) -> analysis.Recording:
    random = np.random.default_rng(2)
    spikes = {"1": random.random((2000, 3, 4)) < 0.05, "3": random.random((2000, 7)) < 0.5}
    trials = [
        Trial(trial, 20, {"label": [sample % 3 for sample in range(20)], "epoch": [trial % 2] * 20})
        for trial in range(10)
    ]
    runs = [Run(trial * 10, 10, 20, trial) for trial in range(10)]
    write_recording(tmp_path / "a", spikes, runs, trials, chunk_bytes=100, counts_share=0.25)
    return analysis.open_recording(tmp_path / "a")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[Read]:
    """The chunks that are read, in order."""
    seen: Read = []
    chunks = LayerReader.chunks

    def noted(self: LayerReader, wanted: Sequence[int], **how: bool) -> Iterator[np.ndarray]:
        wanted = list(wanted)
        seen.extend((self.name, chunk) for chunk in wanted)
        return chunks(self, wanted, **how)

    monkeypatch.setattr(LayerReader, "chunks", noted)
    with dask.config.set(scheduler="synchronous"):
        yield seen


def answers_of(recording: Any, *pers: Any, **options: Any) -> list[xr.DataArray]:
    return [getattr(recording, name)(per=per, **options) for per in pers for name in STATISTICS]


def read_twice(read: Read) -> set[tuple[str, int]]:
    assert len(read) > 3
    return {chunk for chunk in read if read.count(chunk) > 1}


@pytest.mark.parametrize(
    "per", ["layer", "network", "label", "epoch", ("layer", "label"), ("epoch", "label")]
)
def test_rates_ratios_and_counts_are_one_pass_for_whoever_computes_them(
    recording: analysis.Recording, read: Read, per: Any
) -> None:
    recording = recording.select(steps=slice(1, 99))  # so that some blocks are counted from their bits
    for together in (dask.compute, analysis.compute):
        read.clear()
        together(*answers_of(recording, per))
        assert read_twice(read) == set()
    read.clear()
    xr.Dataset({answer.name: answer for answer in answers_of(recording, per)}).compute()
    assert read_twice(read) == set()


PERS = (("layer", "label"), ("layer", "step"), ("layer", "trial"), ("layer", "time", "epoch"), "layer")


def test_whatever_is_kept_apart_is_one_pass_of_compute(recording: analysis.Recording, read: Read) -> None:
    answers = answers_of(recording, *PERS)
    dask.compute(*answers)
    assert read_twice(read) != set()  # or there is nothing to show
    read.clear()
    found = analysis.compute(*answers)
    assert read_twice(read) == set()
    for answer, value in zip(answers, found, strict=True):
        xr.testing.assert_identical(answer.compute(), value)


def test_rounds_of_a_long_recording_share_no_more_than_chunks_at_their_borders(
    recording: analysis.Recording, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "SMALL_TASK_BYTES", 1200)
    answers = answers_of(recording, *PERS)
    found = analysis.compute(*answers)
    chunks = 2 * -(-2000 // 64)
    assert {layer.sources[0].commit.plan.chunk_frames for layer in recording.layers.values()} == {64}
    assert len(set(read)) == chunks
    assert max(map(read.count, read)) == 2
    assert len(read_twice(read)) < chunks / 5
    for answer, value in zip(answers, found, strict=True):
        xr.testing.assert_identical(answer.compute(), value)


@pytest.mark.parametrize("kept_bytes", [0, 150, 1000])
def test_what_does_not_fit_a_round_is_read_again(
    recording: analysis.Recording, read: Read, monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    monkeypatch.setattr(rounds, "KEPT_BYTES", kept_bytes)
    answers = answers_of(recording, "step", "label")
    found = analysis.compute(*answers)
    assert read_twice(read) != set()
    for answer, value in zip(answers, found, strict=True):
        xr.testing.assert_identical(answer.compute(), value)


def test_selections_of_neurons_and_samples_share_what_they_read(
    recording: analysis.Recording, read: Read
) -> None:
    layer = recording["1"]
    parts = [layer.select(samples=sample, channels=channel) for sample in (0, 5) for channel in (0, 2)]
    answers = [part.spike_count(per=("trial", "neuron")) for part in parts]
    found = analysis.compute(*answers)
    assert read_twice(read) == set()
    for answer, value in zip(answers, found, strict=True):
        xr.testing.assert_identical(answer.compute(), value)


def test_correlations_share_what_they_read(
    recording: analysis.Recording, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = recording["1"]
    answers = [layer.isi_cv(), layer.correlation(), layer.correlation(window=3), layer.spike_count("trial")]
    found = analysis.compute(*answers)
    assert read_twice(read) == set()
    for answer, value in zip(answers, found, strict=True):
        xr.testing.assert_identical(answer.compute(), value)
    # Alone, its tasks have nothing to share, and stay as many as they are.
    monkeypatch.setattr(populations, "TASK_PRODUCTS", 1000 * 12**2)
    graph = graph_of([layer.correlation()])
    assert len(list(calls_in(graph))) > 1
    assert join_rounds(graph).keys() <= graph.keys()


def test_anything_that_dask_computes_may_be_among_the_answers(recording: analysis.Recording) -> None:
    rate, ones = recording.firing_rate(per="step"), da.ones(3)
    both = xr.Dataset({"silent": recording.silent_ratio(per="step"), "rate": rate})
    found = analysis.compute(both, ones, "nothing lazy", rate.data, rate, scheduler="threads")
    xr.testing.assert_identical(found[0], both.compute())
    assert found[1].tolist() == [1.0] * 3
    assert found[2] == "nothing lazy"
    np.testing.assert_array_equal(found[3], rate.values)
    xr.testing.assert_identical(found[4], rate.compute())


def test_nothing_is_kept_when_a_round_has_ended(recording: analysis.Recording) -> None:
    with dask.config.set(scheduler="synchronous"):
        analysis.compute(*answers_of(recording, "step"))
    assert rounds._kept.trains is None


def test_an_error_in_a_round_is_that_of_its_task(recording: analysis.Recording, tmp_path: Path) -> None:
    next(file for file in (tmp_path / "a/layers/1/spikes/c").rglob("*") if file.is_file()).unlink()
    with dask.config.set(scheduler="synchronous"):
        with pytest.raises(analysis.RecordingFormatError, match="is missing; absent spikes are not silence"):
            analysis.compute(*answers_of(recording, "step", "label"))
        assert rounds._kept.trains is None
