"""Says what the recording that ``record`` made holds, and draws it. Needs no torch, and no network."""

from __future__ import annotations

import argparse
from pathlib import Path

import dask
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

import analysis

ROW = "{:<14}{:>14}{:>9}{:>14}{:>15}{:>16}"


def print_table(recording: analysis.Recording) -> None:
    """Print a line for each layer, and one for the network."""
    # Nothing is read before compute, which gets all the answers at once.
    rates, silent_ratios, rate, silent_ratio = dask.compute(
        recording.firing_rate(per="layer"),
        recording.silent_ratio(per="layer"),
        recording.firing_rate(),
        recording.silent_ratio(),
    )
    print(ROW.format("layer", "neuron shape", "frames", "firing rate", "silent ratio", "bits per slot"))
    for name, layer in recording.layers.items():
        slots = layer.frames * layer.neurons
        print(
            ROW.format(
                name,
                " × ".join(map(str, layer.neuron_shape)),
                layer.frames,
                f"{rates.sel(layer=name):.4f}",
                f"{silent_ratios.sel(layer=name):.4f}",
                f"{8 * recording.stored_spike_bytes(name) / slots:.3f}",
            )
        )
    print(ROW.format("all", "", "", f"{rate:.4f}", f"{silent_ratio:.4f}", ""))


def print_potentials(recording: analysis.Recording, layer: str) -> None:
    """Print how the membrane potentials of a layer lie, and what they are before and behind a spike."""
    potential = recording[layer].signals["v"]
    mean, deviation, around = dask.compute(
        potential.mean(), potential.std(), potential.spike_triggered_average(2, 1)
    )
    lags = ", ".join(
        f"{value:.2f} at step {int(lag):+d}" for lag, value in zip(around.lag, around, strict=True)
    )
    print(f"Membrane potential of {layer}: {mean:.2f} ± {deviation:.2f}; around spikes {lags}")


def draw_potentials(axes: Axes, recording: analysis.Recording, layer: str) -> None:
    """Draw the membrane potentials of a layer at the first image of each trial."""
    potentials = recording.select(samples=[0])[layer].signals["v"].values.compute()
    axes.plot(potentials["step"], potentials, linewidth=1)
    axes.set_title(f"Membrane potential of each neuron of {layer} after each step")
    axes.set(xlabel="step", ylabel="potential (1: threshold)")


def main() -> None:
    """Read ``digits.zarr`` in the folder named on the command line, and draw ``digits.png`` beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the recording is")
    folder = parser.parse_args().folder

    recording = analysis.open_recording(folder / "digits.zarr")
    print_table(recording)
    print_potentials(recording, "output.spikes")

    mpl.use("Agg")  # no screen needed
    figure, (above, between, below) = plt.subplots(3, figsize=(10, 11), sharex=True, layout="constrained")
    first_trials = recording.select(trials=slice(0, 4))
    # Of every fourth row and second column of the images' neurons, at the first image of each trial.
    neurons = first_trials["conv2.spikes"].select(samples=0, neurons=np.s_[:, ::4, ::2])
    neurons.plot.raster(above).set_title(
        "Spikes of neurons of conv2.spikes, at one digit after another", pad=20
    )
    draw_potentials(between, first_trials, "output.spikes")
    first_trials.plot.rates("step", below).set_title(
        "Firing rate of each layer, over all images of the batch"
    )
    figure.savefig(folder / "digits.png", dpi=150)
    print(f"Saved {folder / 'digits.png'}")
    page = recording.report(folder / "digits.html")
    print(f"A page to look at, in any browser: {page.resolve().as_uri()}")


if __name__ == "__main__":
    main()
