"""Questions to a recording of billions of slots, asked by spiketape and by what people use without it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from numcodecs import zstd
from numpy.typing import NDArray

import analysis
from benchmarks.data import LABELS, LAYER, LongRun
from benchmarks.harness import Options, Race, Report, interleave, ratio, show_seconds

SPIKETAPE = "spiketape"
POPCOUNTS = "spiketape, counts set aside"
DASK = "dask over booleans"
XARRAY = "xarray over booleans"
NUMPY = "numpy, booleans in memory"
BARE_LOOP = "bare loop that decompresses"


@dataclass(frozen=True)
class Data:
    """The same spikes in every form.

    Attributes
    ----------
    store : Path
        The recording.
    booleans : Path
        A Zarr group: ``spikes``, bool (frame, *neuron).
    memory : bool array, shape [frames, *neuron]
    labels : int64 array, shape [frames]
    steps : slice
        A part that begins and ends within chunks and blocks.
    frames : slice
        The frames of these steps.
    """

    store: Path
    booleans: Path
    memory: NDArray[np.bool_]
    labels: NDArray[np.int64]
    steps: slice
    frames: slice

    def recording(self, *, use_counts: bool = True) -> analysis.Recording:
        """Open the recording."""
        return analysis.open_recording(self.store, use_counts=use_counts)

    def dask(self) -> da.Array:
        """Open the booleans with dask."""
        return da.from_zarr(self.booleans / LAYER)

    def xarray(self) -> xr.Dataset:
        """Open the booleans with xarray."""
        return xr.open_zarr(self.booleans, consolidated=False)


Question = Mapping[str, Callable[[Data], Any]]


def _spiketape_whole(data: Data, *, use_counts: bool = True) -> Any:
    recording = data.recording(use_counts=use_counts)
    return dask.compute(recording.firing_rate(), recording.silent_ratio())


def _dask_whole(data: Data) -> Any:
    spikes = data.dask()
    return dask.compute(spikes.mean(), 1 - spikes.any(axis=0).mean())


def _xarray_whole(data: Data) -> Any:
    spikes = data.xarray()[LAYER]
    return dask.compute(spikes.mean(), 1 - spikes.any("frame").mean())


def _numpy_whole(data: Data) -> Any:
    return np.count_nonzero(data.memory) / data.memory.size, 1 - data.memory.any(axis=0).mean()


def _spiketape_part(data: Data, *, use_counts: bool = True) -> Any:
    layer = data.recording(use_counts=use_counts)[LAYER]
    return layer.select(steps=data.steps).firing_rate(per="neuron").values


def _dask_part(data: Data) -> Any:
    return data.dask()[data.frames].mean(axis=0).compute()


def _xarray_part(data: Data) -> Any:
    return data.xarray()[LAYER].isel(frame=data.frames).mean("frame").values


def _numpy_part(data: Data) -> Any:
    return data.memory[data.frames].mean(axis=0)


def _spiketape_labels(data: Data) -> Any:
    layer = data.recording()[LAYER]
    return dask.compute(layer.firing_rate(per="label"), layer.silent_ratio(per="label"))


def _dask_labels(data: Data) -> Any:
    """As a product of matrices, which reads the spikes once for all labels."""
    spikes = data.dask().reshape(len(data.labels), -1)
    chosen = da.from_array(np.eye(LABELS, dtype=np.float32)[data.labels], chunks=(spikes.chunks[0], -1))
    return _rates_and_silence(data, da.tensordot(chosen, spikes.astype(np.float32), axes=(0, 0)).compute())


def _xarray_labels(data: Data) -> Any:
    """The same with named axes; `groupby` takes over ten times as long, flox installed."""
    spikes = data.xarray()[LAYER]
    chosen = xr.DataArray(np.eye(LABELS, dtype=np.float32)[data.labels], dims=("frame", "chosen"))
    chosen = chosen.chunk(frame=spikes.chunksizes["frame"])
    counts = xr.dot(chosen, spikes.astype(np.float32), dim="frame").values
    return _rates_and_silence(data, counts.reshape(LABELS, -1))


def _numpy_labels(data: Data) -> Any:
    """Again a product of matrices, a part at a time, as it needs floats."""
    spikes = data.memory.reshape(len(data.labels), -1)
    counts = np.zeros((LABELS, spikes.shape[1]), np.float32)
    for first in range(0, len(spikes), 4096):
        some = slice(first, first + 4096)
        counts += np.eye(LABELS, dtype=np.float32)[data.labels[some]].T @ spikes[some].astype(np.float32)
    return _rates_and_silence(data, counts)


def _rates_and_silence(data: Data, counts: NDArray[np.float32]) -> Any:
    return counts.mean(axis=1) / np.bincount(data.labels, minlength=LABELS), (counts == 0).mean(axis=1)


WHOLE: Question = {
    SPIKETAPE: _spiketape_whole,
    POPCOUNTS: partial(_spiketape_whole, use_counts=False),
    DASK: _dask_whole,
    XARRAY: _xarray_whole,
    NUMPY: _numpy_whole,
}
PART: Question = {
    SPIKETAPE: _spiketape_part,
    POPCOUNTS: partial(_spiketape_part, use_counts=False),
    DASK: _dask_part,
    XARRAY: _xarray_part,
    NUMPY: _numpy_part,
}
PER_LABEL: Question = {
    SPIKETAPE: _spiketape_labels,
    DASK: _dask_labels,
    XARRAY: _xarray_labels,
    NUMPY: _numpy_labels,
}


def measure_analysis(options: Options, report: Report) -> None:
    """Rates and silent ratios of a whole recording, of a part of it, per label."""
    run = LongRun(2, (8, 4, 4), 0.05) if options.quick else LongRun(1024, (64, 8, 8), 0.05)
    data = _write(options, run)
    rounds = 1 if options.quick else 3
    note = f"{_size(run)}; {rounds} rounds, {os.cpu_count()} threads; files in the page cache."
    for title, question, wanted in (
        ("Firing rate and silent ratio, whole recording", WHOLE, 100),
        ("Firing rate of each neuron, unaligned part", PART, 10),
        ("Firing rate and silent ratio of each label", PER_LABEL, 5),
    ):
        race = interleave({name: partial(ask, data) for name, ask in question.items()}, rounds)
        _check_agreement(race)
        rows = [
            [
                name,
                show_seconds([race.first[name]]),
                show_seconds(times),
                str(ratio(race.times, name, SPIKETAPE)),
            ]
            for name, times in race.times.items()
        ]
        report.table(title, ["asked of", "first time", "later", "÷ spiketape"], rows, note)
        speed = ratio(race.times, DASK, SPIKETAPE)
        report.figure(f"{title}: {DASK} ÷ spiketape", speed, wanted, at_least=True)
    _measure_popcounts(data, rounds, report)
    _measure_booleans(data, run, rounds, report)


def _blocks(spikes: da.Array) -> Any:
    """Every block as booleans in memory, of which only the length is kept."""

    def length(block: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.full((1,) * block.ndim, len(block), np.int64)

    one = tuple((1,) * blocks for blocks in spikes.numblocks)
    return spikes.map_blocks(length, chunks=one, dtype=np.int64).compute()


def _measure_booleans(data: Data, run: LongRun, rounds: int, report: Report) -> None:
    """The lazy array of spikes: blocks as booleans in memory, and what dask makes of them."""
    spikes = data.recording()[LAYER].spikes.data
    asked = {
        "blocks of booleans": partial(_blocks, spikes),
        "any()": lambda: spikes.any().compute(),
        "sum()": lambda: spikes.sum().compute(),
    }
    race = interleave(asked, rounds)
    if int(race.answers["sum()"]) != np.count_nonzero(data.memory):
        raise SystemExit(f"the booleans have {race.answers['sum()']} spikes")
    rows = []
    for name in asked:
        per_second, per_cpu = (
            [run.slots / taken / 1e9 for taken in laps] for laps in (race.times[name], race.cpu[name])
        )
        rows.append(
            [name, show_seconds(race.times[name]), f"{median(per_second):.2f}", f"{max(per_cpu):.2f}"]
        )
        report.figure(f"lazy booleans, {name}, G slots/s", max(per_second), 1.5, at_least=True)
    report.table(
        f"The lazy array of spikes, {os.cpu_count()} threads",
        ["", "time", "G slots/s", "at best, G slots in a second of one core"],
        rows,
        f"{_size(run)}; {rounds} rounds. Blocks are made and let go of; of sum(), numpy takes a third.",
    )


def _measure_popcounts(data: Data, rounds: int, report: Report) -> None:
    """Counting bits, beside only decompressing the same chunks."""
    chunks, size = stored_chunks(data.store, data.frames)
    for threads in (1, os.cpu_count() or 1):
        # With one thread, dask starts none.
        scheduler = {"scheduler": "synchronous"} if threads == 1 else {"num_workers": threads}
        with dask.config.set(scheduler):
            asked = {
                BARE_LOOP: partial(decompress, chunks, size, threads),
                POPCOUNTS: partial(_spiketape_part, data, use_counts=False),
            }
            times = interleave(asked, 3 * rounds).times
        packed = len(chunks) * (size - 1)
        share = ratio(times, BARE_LOOP, POPCOUNTS)
        report.table(
            f"Popcounts beside a bare loop that decompresses, {threads} thread{'s' if threads > 1 else ''}",
            ["", "time", "packed bits", "÷ bare loop, in throughput"],
            [
                [
                    name,
                    show_seconds(taken),
                    f"{packed / median(taken) / 1e9:.2f} GB/s",
                    str(ratio(times, BARE_LOOP, name)),
                ]
                for name, taken in times.items()
            ],
            "Firing rate of each neuron of the unaligned part. The loop reads and decompresses the chunks "
            "that it lies in, and does not check them.",
        )
        report.figure(
            f"popcounts, {threads} thread{'s' if threads > 1 else ''}: throughput ÷ {BARE_LOOP}",
            share,
            0.7,
            at_least=True,
        )


def _write(options: Options, run: LongRun) -> Data:
    store, booleans = options.folder("recorded"), options.folder("booleans")
    run.record(store)
    # Chunks of 16 MiB: dask's advice is that few large ones are better than many small.
    run.write_booleans(booleans, run.frames_per_trial * (1 if options.quick else 4))
    last = int(run.steps[-1])
    steps = slice(last // 5 + 3, last // 5 * 4 - 4)
    first_frame, last_frame = np.searchsorted(run.steps, [steps.start, steps.stop])
    return Data(store, booleans, run.in_memory(), run.labels, steps, slice(int(first_frame), int(last_frame)))


def _check_agreement(race: Race) -> None:
    """Nobody is fast by answering something else."""
    expected, *others = (
        [
            np.asarray(part, np.float64).ravel()
            for part in (answer if isinstance(answer, tuple) else (answer,))
        ]
        for answer in race.answers.values()
    )
    for other in others:
        for part, wanted in zip(other, expected, strict=True):
            np.testing.assert_allclose(part, wanted, rtol=1e-5)


def stored_chunks(store: Path, frames: slice) -> tuple[list[Path], int]:
    """Files of the chunks that some frames lie in, and the size of a chunk when decompressed."""
    plan = analysis.open_recording(store).metadata.layers[0].plan
    folder = store / "layers" / LAYER / "spikes" / "c"
    rest = "/0" * max(len(plan.neuron_shape), 1)
    numbers = range(frames.start // plan.chunk_frames, -(-frames.stop // plan.chunk_frames))
    return [Path(f"{folder}/{number}{rest}") for number in numbers], 1 + plan.neurons * plan.chunk_bytes


def decompress(files: list[Path], size: int, threads: int) -> None:
    """Read and decompress stored chunks into one buffer, each thread its share."""

    def decompress(share: list[Path]) -> None:
        buffer = np.empty(size, np.uint8)
        for file in share:
            zstd.decompress(file.read_bytes()[:-4], buffer)  # behind the last four bytes is the checksum

    if threads == 1:
        decompress(files)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(decompress, [files[thread::threads] for thread in range(threads)]))


def _size(run: LongRun) -> str:
    neurons = int(np.prod(run.neuron_shape))
    return f"{run.slots / 1e9:.3g} G slots ({run.frames:,} frames of {neurons:,} neurons), 5 % random spikes"
