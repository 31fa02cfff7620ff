"""What is recorded and analysed: the trained network of the demo, and spikes drawn at random."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from spikingjelly.activation_based.functional import reset_net
from spikingjelly.activation_based.layer import SeqToANNContainer
from torch import Tensor, nn

from demonstration.network import STEPS, Digits, build_network, load_digits, show, train
from recorder import Monitor, SpikeOutput

BATCH = 64
DENSITIES = (0.001, 0.01, 0.05, 0.2, 0.5)
LABELS = 10
LAYER = "spikes"
WIDE_CHANNELS = {"cpu": (128, 256), "cuda": (1024, 1024)}


class Relay(nn.Module):
    """A spiking layer without neurons: puts out the spikes that it is given, in memory of their own."""

    def forward(self, spikes: Tensor) -> Tensor:
        """Copy, as a neuron's output is new memory at each call, too."""
        return spikes.clone()


def relay_network() -> nn.Sequential:
    """A network of one relay."""
    network = nn.Sequential()
    network.add_module(LAYER, Relay())
    return network


def trained_network(cache: Path, *, quick: bool = False) -> nn.Module:
    """The digits network of the demo, trained as there; its weights are kept in the cache."""
    weights = cache / f"digits-{'quick' if quick else 'trained'}.pt"
    network = build_network()
    if weights.is_file():
        network.load_state_dict(torch.load(weights, weights_only=True))
    else:
        torch.manual_seed(0)
        digits = load_digits()[0]
        train(network, Digits(*(part[: 2 * BATCH] for part in digits)) if quick else digits)
        cache.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), weights)
    return network.eval()


def wide_network(device: str, *, quick: bool = False) -> nn.Module:
    """The same network with more channels, untrained: more arithmetic for each spike, as in large networks.

    Its normalisation has seen some batches, so that neurons fire.
    """
    torch.manual_seed(0)
    network = build_network((8, 16) if quick else WIDE_CHANNELS[device]).to(device)
    with torch.no_grad():
        for images, _ in list(load_digits()[0].batches(BATCH))[:2]:
            show(network, images.to(device), 2)
    return network.eval()


def test_images(device: str) -> Tensor:
    """One batch of digits that the network was not trained with."""
    digits: Digits = load_digits()[1]
    return digits.images[:BATCH].to(device)


def multi_step(network: nn.Module) -> nn.Module:
    """A copy of such a network in SpikingJelly's multi-step mode: a call is all `STEPS` steps of a trial."""
    blocks = OrderedDict[str, nn.Module]()
    for name, block in deepcopy(network).named_children():
        *connections, spikes = block.children()
        spikes.step_mode = "m"
        parts = OrderedDict(connections=SeqToANNContainer(*connections), spikes=spikes)
        blocks[name] = nn.Sequential(parts)
    return nn.Sequential(blocks).eval()


def show_often(network: nn.Module, images: Tensor, trials: int) -> None:
    """Show one batch to the network again and again, `STEPS` steps each time, a step a call."""
    with torch.no_grad():
        for _ in range(trials):
            show(network, images)


def show_at_once(network: nn.Module, images: Tensor, trials: int) -> None:
    """As `show_often`, with all steps of a trial in one call."""
    steps = images.expand(STEPS, *images.shape).contiguous()
    with torch.no_grad():
        for _ in range(trials):
            network(steps)
            reset_net(network)


def draw_spikes(
    density: float, frames: int, neuron_shape: tuple[int, ...], seed: int = 0
) -> NDArray[np.bool_]:
    """Spikes of neurons that all fire alike and independently: only the density is there to exploit."""
    draw = np.random.default_rng(seed)
    spikes = np.empty((frames, *neuron_shape), np.bool_)
    for some in range(0, frames, 1024):  # bounds the memory of the random numbers
        part = spikes[some : some + 1024]
        np.less(draw.random(part.shape, dtype=np.float32), density, out=part)
    return spikes


class LongRun:
    """One layer's spikes over many trials, each a batch shown for some steps; the same few chunks repeat.

    Chunks are compressed one by one, so that repeating them changes neither sizes nor times.

    Parameters
    ----------
    trials : int
    neuron_shape : tuple of int
    density : float
    distinct_trials : int
        Trials that are drawn; the others repeat them.
    steps_per_trial : int

    Attributes
    ----------
    labels : int64 array, shape [frames]
        Of the sample that each frame belongs to.
    steps : int64 array, shape [frames]
    """

    def __init__(
        self,
        trials: int,
        neuron_shape: tuple[int, ...],
        density: float,
        distinct_trials: int = 64,
        steps_per_trial: int = STEPS,
    ) -> None:
        self.trials, self.neuron_shape, self.steps_per_trial = trials, neuron_shape, steps_per_trial
        self.frames_per_trial = steps_per_trial * BATCH
        self._distinct = min(distinct_trials, trials)
        self._drawn = draw_spikes(density, self._distinct * self.frames_per_trial, neuron_shape)
        self._labels = np.random.default_rng(1).integers(LABELS, size=(trials, BATCH))
        self.labels = np.repeat(self._labels, steps_per_trial, axis=0).reshape(-1)
        self.steps = np.repeat(np.arange(trials * steps_per_trial), BATCH)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.trials * self.frames_per_trial

    @property
    def slots(self) -> int:
        """Number of slots."""
        return self.frames * int(np.prod(self.neuron_shape))

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        """Frames of one trial after another, bool [frames, *neuron]."""
        for trial in range(self.trials):
            first = trial % self._distinct * self.frames_per_trial
            yield self._drawn[first : first + self.frames_per_trial]

    def record(self, store: Path) -> None:
        """Record it with the recorder, labels included."""
        network = relay_network()
        layers = {LAYER: SpikeOutput("TN", item=None)}
        with torch.no_grad(), Monitor(network, layers=layers, store=store, durability="process") as monitor:
            for frames, labels in zip(self, self._labels, strict=True):
                with monitor.trial(label=labels):
                    network(torch.from_numpy(frames).view(self.steps_per_trial, BATCH, *self.neuron_shape))

    def write_booleans(self, store: Path, chunk_frames: int) -> None:
        """Write it as a boolean Zarr array, compressed as Zarr does by default."""
        group = zarr.create_group(store)
        dimensions = ("frame", "channel", "height", "width")[: 1 + len(self.neuron_shape)]
        spikes = group.create_array(
            LAYER,
            shape=(self.frames, *self.neuron_shape),
            chunks=(chunk_frames, *self.neuron_shape),
            dtype=bool,
            dimension_names=dimensions,
        )
        trials = chunk_frames // self.frames_per_trial
        waiting: list[NDArray[np.bool_]] = []
        written = 0
        for number, frames in enumerate(self, 1):
            waiting.append(frames)
            if len(waiting) == trials or number == self.trials:
                block = np.concatenate(waiting)
                spikes[written : written + len(block)] = block
                written += len(block)
                waiting = []

    def in_memory(self) -> NDArray[np.bool_]:
        """Everything in one boolean array."""
        return np.concatenate(list(self))
