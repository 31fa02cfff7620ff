"""Questions about sequences and neurons, beside numpy on booleans in memory, elephant and bare decoding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dask
import elephant.statistics
import numpy as np
from numpy.typing import NDArray

import analysis
from benchmarks.answers import decompress, stored_chunks
from benchmarks.data import BATCH, LAYER, STEPS, LongRun
from benchmarks.harness import Options, Report, Times, interleave, ratio, show_seconds

SPIKETAPE, NUMPY, ELEPHANT, BARE = "spiketape", "numpy", "elephant", "bare loop that decompresses"
LAGS = 10
Bits = NDArray[np.bool_]


@dataclass(frozen=True)
class Asked:
    """A question as each asks it: of a layer, and of booleans [trials, steps, samples, neurons]."""

    title: str
    spiketape: Callable[[analysis.Layer], Any]
    numpy: Callable[[Bits], Any]
    elephant: Callable[[Bits], Any] | None = None
    least: float = 10


def _intervals_numpy(bits: Bits) -> NDArray[np.int64]:
    """Histogram of intervals, a trial at a time: events in the order of lanes, differences within lanes."""
    histogram = np.zeros(STEPS + 1, np.int64)
    for trial in bits:
        lanes = np.ascontiguousarray(trial.transpose(1, 2, 0)).reshape(-1, len(trial))
        lane, step = np.nonzero(lanes)
        intervals = np.diff(step)[np.diff(lane) == 0]
        histogram += np.bincount(intervals, minlength=STEPS + 1)
    return histogram[1:]


def _intervals_elephant(bits: Bits) -> NDArray[np.int64]:
    """The same, a spike train at a time."""
    histogram = np.zeros(STEPS + 1, np.int64)
    for trial in bits:
        for lane in trial.reshape(len(trial), -1).T:
            intervals = elephant.statistics.isi(np.flatnonzero(lane))
            histogram += np.bincount(intervals, minlength=STEPS + 1)
    return histogram[1:]


def _latencies_numpy(bits: Bits) -> tuple[int, int]:
    total, fired = 0, 0
    for trial in bits:
        any_event, first = trial.any(axis=0), trial.argmax(axis=0)
        total, fired = total + int(first[any_event].sum()), fired + int(any_event.sum())
    return total, fired


def _lags_numpy(bits: Bits) -> list[float]:
    sums = np.zeros((LAGS, 4))
    for trial in bits:
        for lag in range(1, LAGS + 1):
            one, other = trial[:-lag], trial[lag:]
            counted = [np.count_nonzero(part) for part in (one & other, one, other)]
            sums[lag - 1] += [one.size, *counted]
    n, both, first, second = sums.T
    spread = np.sqrt((n * first - first**2) * (n * second - second**2))
    return list((n * both - first * second) / spread)


QUESTIONS = (
    Asked(
        "Histogram of intervals",
        lambda layer: layer.isi_histogram(longest=STEPS).values,
        _intervals_numpy,
        _intervals_elephant,
    ),
    Asked("Latency", lambda layer: float(layer.latency()), _latencies_numpy),
    Asked(f"Autocorrelation, {LAGS} lags", lambda layer: layer.autocorrelation(LAGS).values, _lags_numpy),
    Asked(
        "Rate of each neuron for each label",
        lambda layer: layer.firing_rate(("label", "neuron")).values,
        lambda bits: bits.sum(axis=(0, 1, 2)),
        least=1,
    ),
)


def measure_questions(options: Options, report: Report) -> None:
    """Intervals, latencies, autocorrelations and tuning, with one thread."""
    quick = options.quick
    run = LongRun(8 if quick else 1024, (8, 4, 4) if quick else (64, 8, 8), 0.05)
    store = options.folder("recorded")
    run.record(store)
    layer = analysis.open_recording(store)[LAYER]
    some = next(iter(run)).reshape(1, STEPS, BATCH, -1)
    _check_agreement(store, some)
    # Others ask about a part of the spikes; what is compared is slots a second.
    shares = {SPIKETAPE: run.slots, BARE: run.slots, NUMPY: some.size, ELEPHANT: some[..., :16].size}
    files, size = stored_chunks(store, slice(0, run.frames))
    rounds = 1 if quick else 3
    for asked in QUESTIONS:
        # What is asked first is compiled; that is kept on disk.
        asked.spiketape(layer.select(trials=0))
        competitors: dict[str, Callable[[], Any]] = {
            SPIKETAPE: partial(asked.spiketape, layer),
            BARE: partial(decompress, files, size, 1),
            NUMPY: partial(asked.numpy, some),
        }
        if asked.elephant is not None:
            competitors[ELEPHANT] = partial(asked.elephant, some[..., :16])
        with dask.config.set(scheduler="synchronous"):
            times = interleave(competitors, rounds).times
        _report(report, asked, times, shares, rounds)


def _report(report: Report, asked: Asked, times: Times, shares: dict[str, int], rounds: int) -> None:
    """Times for as many slots as all of spiketape's, so that their ratios are those of throughputs."""
    scaled = {
        name: [taken * shares[SPIKETAPE] / shares[name] for taken in each] for name, each in times.items()
    }
    rows = [
        [
            name,
            show_seconds(times[name]),
            f"{shares[name] / sorted(times[name])[len(times[name]) // 2] / 1e9:.3g}",
            str(ratio(scaled, name, SPIKETAPE)),
        ]
        for name in times
    ]
    report.table(
        f"{asked.title}, one thread",
        ["", "time", "G slots/s", "time for the same slots ÷ spiketape"],
        rows,
        f"{rounds} rounds; 5 % random spikes, {STEPS} steps, batches of {BATCH}. numpy has its booleans in "
        "memory, and a part of them; elephant a part of those.",
    )
    wanted = {NUMPY: asked.least, ELEPHANT: 1000, BARE: 0.5 if asked.least == 1 else 0.3}
    for name in times:
        if name != SPIKETAPE:
            what = f"{asked.title}: throughput ÷ that of {name}"
            report.figure(what, ratio(scaled, name, SPIKETAPE), wanted[name], at_least=True)


def _check_agreement(store: Path, some: Bits) -> None:
    """Nobody is fast by answering something else."""
    layer = analysis.open_recording(store)[LAYER].select(trials=0)
    np.testing.assert_array_equal(layer.isi_histogram(longest=STEPS).values, _intervals_numpy(some))
    np.testing.assert_array_equal(_intervals_elephant(some), _intervals_numpy(some))
    total, fired = _latencies_numpy(some)
    np.testing.assert_allclose(float(layer.latency()), total / fired)
    np.testing.assert_allclose(layer.autocorrelation(LAGS).values, _lags_numpy(some))
