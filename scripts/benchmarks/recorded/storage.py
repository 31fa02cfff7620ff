"""Bits on disk for each slot, and how near that is to what the firing rates allow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numcodecs
import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from torch import nn

import analysis
from benchmarks.data import (
    BATCH,
    DENSITIES,
    LAYER,
    draw_spikes,
    relay_network,
    trained_network,
)
from benchmarks.harness import Options, Report
from demonstration.network import load_digits, show
from recorder import Monitor, SpikeOutput

Frames = NDArray[np.bool_]

ENTROPY = "entropy of the rates"
ZARR_DEFAULT = "Zarr, booleans"
PACKED_ZSTD = "np.packbits by rows, zstd"
NEAR_ENTROPY = 1.25
_CHUNK_BYTES = 4 * 2**20


def measure_storage(options: Options, report: Report) -> None:
    """Bits per slot of the digits network's layers and of random spikes."""
    rows = []
    for name, frames, stored_bits in _activity(options):
        bits = {"spiketape": stored_bits}
        bits |= {
            how: write(options.folder("stored"), frames) / frames.size for how, write in _FORMATS.items()
        }
        bits[ENTROPY] = rate_entropy(frames)
        density = np.count_nonzero(frames) / frames.size
        rows.append([name, f"{density:.2%}", *(f"{value:.3f}" for value in bits.values())])
        if name.startswith("conv"):
            share = bits["spiketape"] / bits[ZARR_DEFAULT]
            report.figure(f"bits per slot, {name}: spiketape ÷ {ZARR_DEFAULT}", share, 0.5)
        if name != "output.spikes":
            share = bits["spiketape"] / bits[ENTROPY]
            report.figure(f"bits per slot, {name}: spiketape ÷ {ENTROPY}", share, NEAR_ENTROPY)
    report.table(
        "Bits per slot on disk",
        ["spikes", "density", "spiketape", *_FORMATS, ENTROPY],
        rows,
        "The entropy is what neurons cost at least that fire independently of time and of each other, each "
        "at its own rate. Random spikes: all neurons alike, only the density is there to exploit.",
    )


def rate_entropy(frames: Frames) -> float:
    """Mean over neurons of H(p), in bits, p being the neuron's firing rate."""
    rates = frames.reshape(len(frames), -1).mean(axis=0)
    rates = rates[(rates > 0) & (rates < 1)]
    entropy = -(rates * np.log2(rates) + (1 - rates) * np.log2(1 - rates))
    return float(entropy.sum() / math.prod(frames.shape[1:]))


def _activity(options: Options) -> list[tuple[str, Frames, float]]:
    """Spikes of each kind, and the bits per slot that a recording of them takes."""
    network = trained_network(options.cache, quick=options.quick)
    store = options.folder("recorded")
    train_digits, test_digits = load_digits()
    with torch.no_grad(), Monitor(network, store=store) as monitor:
        for digits in (test_digits,) if options.quick else (train_digits, test_digits):
            for images, labels in digits.batches(BATCH):
                with monitor.trial(label=labels):
                    show(network, images)
    found = []
    recording = analysis.open_recording(store)
    for name, layer in recording.layers.items():
        found.append((name, layer.spikes.values, _stored_bits(recording, name)))
    frames, shape = (1024, (4, 8, 8)) if options.quick else (2**16, (16, 8, 8))
    for density in DENSITIES:
        spikes = draw_spikes(density, frames, shape)
        found.append((f"random, {density:.1%}", spikes, _recorded_bits(options, relay_network(), spikes)))
    return found


def _recorded_bits(options: Options, network: nn.Module, spikes: Frames) -> float:
    store = options.folder("recorded")
    with torch.no_grad(), Monitor(network, layers={LAYER: SpikeOutput("N", item=None)}, store=store):
        for part in torch.from_numpy(spikes).split(BATCH):
            network(part)
    return _stored_bits(analysis.open_recording(store), LAYER)


def _stored_bits(recording: analysis.Recording, name: str) -> float:
    layer = recording[name]
    return 8 * recording.stored_spike_bytes(name) / (layer.frames * layer.neurons)


def _zarr_default(path: Path, frames: Frames) -> int:
    zarr.create_array(path, data=frames)
    return _bits_below(path)


def _packed_zstd(_: Path, frames: Frames) -> int:
    packed = np.packbits(frames.reshape(len(frames), -1), axis=1)
    compressor = numcodecs.Zstd()
    step = max(_CHUNK_BYTES // packed.shape[1], 1)
    chunks = (packed[first : first + step] for first in range(0, len(packed), step))
    return 8 * sum(len(compressor.encode(np.ascontiguousarray(chunk))) for chunk in chunks)


def _h5py_gzip(path: Path, frames: Frames) -> int:
    return _h5py(path, frames)


def _h5py_packed_gzip(path: Path, frames: Frames) -> int:
    return _h5py(path, np.packbits(frames.reshape(len(frames), -1), axis=1))


def _h5py(path: Path, values: NDArray[np.generic]) -> int:
    with h5py.File(path, "w") as file:
        file.create_dataset("spikes", data=values, compression="gzip", chunks=True)
    return 8 * path.stat().st_size


_FORMATS: Mapping[str, Callable[[Path, Frames], int]] = {
    ZARR_DEFAULT: _zarr_default,
    PACKED_ZSTD: _packed_zstd,
    "h5py gzip, booleans": _h5py_gzip,
    "h5py gzip, packed bits": _h5py_packed_gzip,
}


def _bits_below(folder: Path) -> int:
    return 8 * sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
