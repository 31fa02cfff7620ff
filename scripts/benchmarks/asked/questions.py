"""Questions about sequences, neurons and pairs, beside numpy in memory, elephant and bare decoding.

What runs in one thread is given in seconds of the processor: other work on the machine leaves them alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import dask
import elephant.statistics
import numpy as np
from numpy.typing import NDArray

import analysis
from benchmarks.asked.answers import decompress, stored_chunks
from benchmarks.data import BATCH, LAYER, STEPS, LongRun
from benchmarks.harness import Options, Ratio, Report, Times, interleave, ratio, show_seconds

SPIKETAPE, NUMPY, ELEPHANT, BARE = "spiketape", "numpy", "elephant", "bare loop that decompresses"
PRODUCT = "one product of matrices"
# Lags of a short presentation, and of one of so many steps, as autocorrelations are usually looked at.
LAGS, MANY_LAGS, MANY_STEPS = 10, 100, 256
Bits = NDArray[np.bool_]


@dataclass(frozen=True)
class Asked:
    """A question as each asks it: of a layer, and of booleans [trials, steps, samples, neurons].

    ``wanted`` is what is to be reached: times the throughput of each of the others.
    """

    title: str
    spiketape: Callable[[analysis.Layer], Any]
    numpy: Callable[[Bits], Any]
    elephant: Callable[[Bits], Any] | None = None
    wanted: Mapping[str, float] = field(default_factory=lambda: {NUMPY: 10, ELEPHANT: 1000, BARE: 0.3})


def _intervals_numpy(bits: Bits) -> NDArray[np.int64]:
    """Histogram of intervals, a trial at a time: events in the order of lanes, differences within lanes."""
    steps = bits.shape[1]
    histogram = np.zeros(steps + 1, np.int64)
    for trial in bits:
        lanes = np.ascontiguousarray(trial.transpose(1, 2, 0)).reshape(-1, len(trial))
        lane, step = np.nonzero(lanes)
        intervals = np.diff(step)[np.diff(lane) == 0]
        histogram += np.bincount(intervals, minlength=steps + 1)
    return histogram[1:]


def _intervals_elephant(bits: Bits) -> NDArray[np.int64]:
    """The same, a spike train at a time."""
    steps = bits.shape[1]
    histogram = np.zeros(steps + 1, np.int64)
    for trial in bits:
        for lane in trial.reshape(len(trial), -1).T:
            intervals = elephant.statistics.isi(np.flatnonzero(lane))
            histogram += np.bincount(intervals, minlength=steps + 1)
    return histogram[1:]


def _latencies_numpy(bits: Bits) -> tuple[int, int]:
    total, fired = 0, 0
    for trial in bits:
        any_event, first = trial.any(axis=0), trial.argmax(axis=0)
        total, fired = total + int(first[any_event].sum()), fired + int(any_event.sum())
    return total, fired


def _lags_numpy(bits: Bits, lags: int) -> list[float]:
    sums = np.zeros((lags, 4))
    for trial in bits:
        for lag in range(1, lags + 1):
            one, other = trial[:-lag], trial[lag:]
            counted = [np.count_nonzero(part) for part in (one & other, one, other)]
            sums[lag - 1] += [one.size, *counted]
    n, both, first, second = sums.T
    spread = np.sqrt((n * first - first**2) * (n * second - second**2))
    return list((n * both - first * second) / spread)


def _fano_numpy(bits: Bits) -> float:
    counts = bits.sum(axis=1).reshape(-1, bits.shape[-1])
    return float(np.mean(counts.var(axis=0) / counts.mean(axis=0)))


def _asked_of_lags(lags: int) -> Asked:
    return Asked(
        f"Autocorrelation, {lags} lags",
        lambda layer: layer.autocorrelation(lags).values,
        partial(_lags_numpy, lags=lags),
        wanted={NUMPY: 10, BARE: 0.3} if lags == LAGS else {NUMPY: 10},
    )


QUESTIONS = (
    Asked(
        "Histogram of intervals",
        lambda layer: layer.isi_histogram(longest=STEPS).values,
        _intervals_numpy,
        _intervals_elephant,
    ),
    Asked("Latency", lambda layer: float(layer.latency()), _latencies_numpy),
    _asked_of_lags(LAGS),
    Asked(
        "Rate of each neuron for each label",
        lambda layer: layer.firing_rate(("label", "neuron")).values,
        lambda bits: bits.sum(axis=(0, 1, 2)),
        wanted={BARE: 0.5},
    ),
    Asked(
        "Fano factor of counts of presentations",
        lambda layer: float(layer.fano_factor(by=None)),
        _fano_numpy,
        wanted={},
    ),
)


def measure_questions(options: Options, report: Report) -> None:
    """Intervals, latencies, autocorrelations, tuning, booleans, comparisons and correlations."""
    quick = options.quick
    trials, neuron_shape = (8, (8, 4, 4)) if quick else (1024, (64, 8, 8))
    run = LongRun(trials, neuron_shape, 0.05)
    store = options.folder("recorded")
    run.record(store)
    rounds = 1 if quick else 3
    _measure_sequences(QUESTIONS, run, store, 16, rounds, report)
    long = LongRun(2 if quick else 64, neuron_shape, 0.05, 4, MANY_STEPS)
    long_store = options.folder("long")
    long.record(long_store)
    _measure_sequences([_asked_of_lags(MANY_LAGS)], long, long_store, 1, rounds, report)
    _measure_booleans(run, store, rounds, report)
    # Trials repeat others here, so that most slots may differ.
    other, other_store = LongRun(trials, neuron_shape, 0.05, min(63, trials - 1)), options.folder("other")
    other.record(other_store)
    _measure_comparison((run, other), (store, other_store), rounds, report)
    few = LongRun(2, (8,), 0.05) if quick else LongRun(64, (32, 8, 8), 0.05)
    _measure_correlation(few, options.folder("few"), rounds, report)


def _measure_sequences(
    questions: Sequence[Asked], run: LongRun, store: Path, in_memory: int, rounds: int, report: Report
) -> None:
    """Intervals, latencies, autocorrelations and tuning, with one thread; so many trials are in memory."""
    layer = analysis.open_recording(store)[LAYER]
    # More than fits the caches of a processor.
    some = np.stack(list(islice(run, in_memory)))
    some = some.reshape(len(some), run.steps_per_trial, BATCH, -1)
    _check_agreement(store, some[:1])
    # Others ask about a part of the spikes; what is compared is slots a second.
    shares = {SPIKETAPE: run.slots, BARE: run.slots, NUMPY: some.size, ELEPHANT: some[:1, ..., :16].size}
    files, size = stored_chunks(store, slice(0, run.frames))
    for asked in questions:
        # What is asked first is compiled; that is kept on disk.
        asked.spiketape(layer.select(trials=0))
        competitors: dict[str, Callable[[], Any]] = {
            SPIKETAPE: partial(asked.spiketape, layer),
            BARE: partial(decompress, files, size, 1),
            NUMPY: partial(asked.numpy, some),
        }
        if asked.elephant is not None:
            competitors[ELEPHANT] = partial(asked.elephant, some[:1, ..., :16])
        with dask.config.set(scheduler="synchronous"):
            times = interleave(competitors, rounds).cpu
        note = (
            f"{rounds} rounds; {run.slots / 1e9:.3g} G slots, 5 % random spikes, {run.steps_per_trial} steps,"
            f" batches of {BATCH}. numpy has its booleans in memory, and a part of them; elephant a part of"
            " those."
        )
        _report(report, asked, times, shares, note)


def _report(report: Report, asked: Asked, times: Times, shares: dict[str, int], note: str) -> None:
    """Times for as many slots as all of spiketape's, so that their ratios are those of throughputs."""
    scaled = {
        name: [taken * shares[SPIKETAPE] / shares[name] for taken in each] for name, each in times.items()
    }
    speed = {name: shares[name] / median(taken) / 1e9 for name, taken in times.items()}
    rows = [
        [name, show_seconds(times[name]), f"{speed[name]:.3g}", str(ratio(scaled, name, SPIKETAPE))]
        for name in times
    ]
    if NUMPY in asked.wanted:
        wanted = asked.wanted[NUMPY] * speed[NUMPY]
        note += (
            f" {asked.wanted[NUMPY]:g} times numpy would be {wanted:.3g} G slots/s,"
            f" {wanted / speed[BARE]:.2f} of what decompressing alone gives"
        )
        note += ": out of reach of whatever decompresses." if wanted > speed[BARE] else "."
    report.table(
        f"{asked.title}, one thread",
        ["", "processor time", "G slots/s", "time for the same slots ÷ spiketape"],
        rows,
        note,
    )
    for name, wanted in asked.wanted.items():
        if name in times:
            what = f"{asked.title}: throughput ÷ that of {name}"
            report.figure(what, ratio(scaled, name, SPIKETAPE), wanted, at_least=True)


def _measure_booleans(run: LongRun, store: Path, rounds: int, report: Report) -> None:
    """Spikes as lazy booleans, each block computed and let go of, with one thread."""
    spikes = analysis.open_recording(store)[LAYER].spikes.data
    corners = spikes.map_blocks(_corner, dtype=bool)
    times = _timed({SPIKETAPE: corners.compute}, [store], run.frames, rounds)
    _show(report, "Lazy booleans, one thread", times, run.slots, "Each block is computed and let go of.")
    speed = [run.slots / taken / 1e9 for taken in times[SPIKETAPE]]
    figure = Ratio(median(speed), min(speed), max(speed))
    report.figure("Lazy booleans: G slots/s, one thread", figure, 1.5, at_least=True)


def _timed(
    competitors: dict[str, Callable[[], Any]], stores: Sequence[Path], frames: int, rounds: int
) -> Times:
    """Times beside those of decompressing some recordings of so many frames, with one thread."""
    stored = [stored_chunks(store, slice(0, frames)) for store in stores]
    bare = [partial(decompress, *each, 1) for each in stored]
    with dask.config.set(scheduler="synchronous"):
        return interleave({**competitors, BARE: lambda: [decoded() for decoded in bare]}, rounds).cpu


def _show(report: Report, title: str, times: Times, slots: int, note: str) -> None:
    """A table of times and throughputs."""
    rows = [
        [
            name,
            show_seconds(taken),
            f"{slots / median(taken) / 1e9:.3g}",
            str(ratio(times, BARE, name)),
        ]
        for name, taken in times.items()
    ]
    report.table(title, ["", "processor time", "G slots/s", f"throughput ÷ {BARE}"], rows, note)


def _corner(block: Bits) -> Bits:
    return block[(slice(1),) * block.ndim]


def _measure_comparison(
    runs: tuple[LongRun, LongRun], stores: tuple[Path, Path], rounds: int, report: Report
) -> None:
    """Two recordings bit by bit, beside decoding both, with one thread."""
    one, other = (analysis.open_recording(store) for store in stores)
    slots = sum(run.slots for run in runs)
    times = _timed({SPIKETAPE: partial(analysis.compare, one, other)}, stores, runs[0].frames, rounds)
    note = "Slots of both recordings. Of 64 trials that repeat, one has 63 others: most trials differ."
    _show(report, "Comparison of two recordings, one thread", times, slots, note)
    what = f"Comparison: throughput ÷ that of {BARE}, both recordings"
    report.figure(what, ratio(times, BARE, SPIKETAPE), 0.4, at_least=True)


def _measure_correlation(run: LongRun, store: Path, rounds: int, report: Report) -> None:
    """Correlations of all pairs of neurons, beside one product of matrices, with as many threads of BLAS."""
    run.record(store)
    layer = analysis.open_recording(store)[LAYER]
    spikes = run.in_memory().reshape(run.frames, -1)
    counts = np.ascontiguousarray(spikes.T, np.float32)
    np.testing.assert_allclose(layer.correlation()[:8, :8], np.corrcoef(spikes[:, :8].T))
    with dask.config.set(scheduler="synchronous"):
        times = interleave(
            {SPIKETAPE: lambda: layer.correlation().values, PRODUCT: lambda: counts @ counts.T}, rounds
        ).times
    title = f"Correlations of {counts.shape[0]} neurons, {counts.shape[1]:,} frames"
    rows = [[name, show_seconds(taken), str(ratio(times, name, PRODUCT))] for name, taken in times.items()]
    note = "The product is of float32 in memory with its own transpose, of which BLAS computes one half."
    report.table(title, ["", "time", f"÷ {PRODUCT}"], rows, note)
    report.figure(f"{title}: time ÷ {PRODUCT}", ratio(times, SPIKETAPE, PRODUCT), 2)


def _check_agreement(store: Path, some: Bits) -> None:
    """Nobody is fast by answering something else."""
    layer = analysis.open_recording(store)[LAYER].select(trials=0)
    steps, lags = some.shape[1], min(MANY_LAGS, some.shape[1] - 1)
    np.testing.assert_array_equal(layer.isi_histogram(longest=steps).values, _intervals_numpy(some))
    np.testing.assert_array_equal(_intervals_elephant(some[..., :16]), _intervals_numpy(some[..., :16]))
    total, fired = _latencies_numpy(some)
    np.testing.assert_allclose(float(layer.latency()), total / fired)
    np.testing.assert_allclose(layer.autocorrelation(lags).values, _lags_numpy(some, lags))
    np.testing.assert_allclose(float(layer.fano_factor(by=None)), _fano_numpy(some))
