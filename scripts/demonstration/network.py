"""A small convolutional spiking network that learns to read handwritten digits in a quarter of a minute."""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import sklearn.datasets
import torch
from rich.progress import track
from sklearn.model_selection import train_test_split
from spikingjelly.activation_based.functional import reset_net
from spikingjelly.activation_based.neuron import LIFNode
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS = 16  # for which each image is shown


class Digits(NamedTuple):
    """Images, float ``(sample, 1, 8, 8)`` between 0 and 1, and the digit that each of them shows."""

    images: Tensor
    labels: Tensor

    def batches(self, size: int, *, shuffle: bool = False) -> Iterator[Digits]:
        """Yield all samples, `size` at a time; the last batch may be smaller."""
        samples = torch.randperm(len(self.labels)) if shuffle else torch.arange(len(self.labels))
        for chosen in samples.split(size):
            yield Digits(self.images[chosen], self.labels[chosen])


def load_digits(test_size: int = 360, seed: int = 0) -> tuple[Digits, Digits]:
    """Return the digits to train with and those to test with; all 1797 come with scikit-learn."""
    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    images = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    split = train_test_split(
        images, torch.tensor(labels), test_size=test_size, random_state=seed, stratify=labels
    )
    train_images, test_images, train_labels, test_labels = split
    return Digits(train_images, train_labels), Digits(test_images, test_labels)


def build_network(channels: tuple[int, int] = (32, 64)) -> nn.Sequential:
    """Return the untrained network: a call is one step, and its spiking layers are called ``*.spikes``."""

    def layer(*connections: nn.Module) -> nn.Sequential:
        block = nn.Sequential(*connections)
        block.add_module("spikes", LIFNode(detach_reset=True))
        return block

    first, second = channels
    return nn.Sequential(
        OrderedDict(
            conv1=layer(nn.Conv2d(1, first, 3, padding=1, bias=False), nn.BatchNorm2d(first)),
            conv2=layer(nn.Conv2d(first, second, 3, padding=1, bias=False), nn.BatchNorm2d(second)),
            output=layer(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(second * 4 * 4, 10)),
        )
    )


def show(network: nn.Module, images: Tensor, steps: int = STEPS) -> Tensor:
    """Show one batch to the network, and return how often each of its ten output neurons fired per step."""
    rates = sum(network(images) for _ in range(steps)) / steps
    reset_net(network)  # the next batch finds the membrane potentials at rest
    return rates


def train(network: nn.Module, digits: Digits, epochs: int = 3) -> None:
    """Train until the output neuron of the right digit fires at every step and the others never do."""
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    network.train()
    for epoch in range(1, epochs + 1):
        losses = []
        batches = [*digits.batches(64, shuffle=True)]
        # A line that changes in place is for people; logs get a line an epoch.
        is_seen = sys.stdout.isatty()
        for images, labels in track(batches, f"Epoch {epoch}", disable=not is_seen, transient=True):
            target = nn.functional.one_hot(labels, 10).float()
            loss = nn.functional.mse_loss(show(network, images), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"Epoch {epoch} of {epochs}: loss {sum(losses) / len(losses):.3f}", flush=True)
