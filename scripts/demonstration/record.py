"""Trains a network on handwritten digits, and records every spike of it while it reads the test images.

Beside the spikes it records the membrane potentials of the output layer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from demonstration.network import STEPS, build_network, load_digits, show, train
from recorder import Monitor, Signal


def main() -> None:
    """Write ``digits.zarr`` into the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the recording goes")
    parser.add_argument("--epochs", type=int, default=2, help="of training")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    # A second thread gains little in a network so small, and loses much if other work keeps it waiting.
    torch.set_num_threads(1)
    train_digits, test_digits = load_digits()
    network = build_network()
    print(f"Training on {len(train_digits.labels)} digits, {STEPS} steps each")
    train(network, train_digits, arguments.epochs)

    store = arguments.folder / "digits.zarr"
    network.eval()
    correct = 0
    # Beside the spikes, the membrane potentials of the layer that answers.
    potentials = Signal("v", layers="output.spikes")
    monitor = Monitor(network, store=store, dt=1.0, dt_unit="ms", signals=potentials, overwrite=True)
    with torch.no_grad(), monitor:
        for images, labels in test_digits.batches(60):
            with monitor.trial(label=labels):
                rates = show(network, images)
            correct += int((rates.argmax(1) == labels).sum())
    count = len(test_digits.labels)
    print(f"Recorded {count} other digits to {store}: {correct / count:.1%} of them were read correctly")


if __name__ == "__main__":
    main()
