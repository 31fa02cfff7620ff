"""Puts recordings in each other's place, in one process, and asks each: no answer may be that of another.

Copies of a recording branch: they have one identifier, and commits of one number, and go on to other frames.
Backups are restored over what came later. A function raises AssertionError, which names the moves, where an
answer is not that of plain numpy on what was recorded.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import analysis
from recorder import Monitor, SpikeOutput

NEURONS = 5
PLACES = ("a", "b", "c")


def record(place: Path, frames: np.ndarray, *, resume: bool) -> None:
    """Record frames, each as a step of one sample, in a trial; ``resume`` goes on behind earlier ones."""
    net = nn.Identity()
    way = {"resume": True} if resume else {"overwrite": True}
    monitor = Monitor(net, store=place, layers={"": SpikeOutput()}, durability="process", **way)
    with monitor, monitor.trial(label=int(frames.sum())):
        for frame in frames:
            net(torch.from_numpy(frame[None]))


def check(place: Path, expected: np.ndarray, moves: list[str]) -> None:
    """Ask a recording for its spikes, rates and labels."""
    recording = analysis.open_recording(place)
    layer = recording[""]
    np.testing.assert_array_equal(layer.spikes.values, expected, str(moves))
    rates = layer.firing_rate(per="neuron").values
    np.testing.assert_array_equal(rates, expected.sum(0) / len(expected), str(moves))
    by_label = layer.spike_count(per="label")
    assert int(by_label.sum()) == expected.sum(), moves


def put_in_place_of_each_other(folder: Path, seed: int, moves_made: int) -> None:
    """Make random moves, and ask a random place after each."""
    chance, numbers = random.Random(seed), np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    held: dict[str, np.ndarray] = {}
    moves: list[str] = [f"seed {seed}"]

    def some() -> np.ndarray:
        return numbers.random((8, NEURONS)) < 0.5

    for name in PLACES:
        held[name] = some()
        record(folder / name, held[name], resume=False)
    for _ in range(moves_made):
        move, (one, other) = (
            chance.choice(("new", "go on", "branch", "swap", "restore")),
            chance.sample(PLACES, 2),
        )
        moves.append(f"{move} {one} {other}")
        if move == "new":
            held[one] = some()
            record(folder / one, held[one], resume=False)
        elif move == "go on":
            more = some()
            held[one] = np.concatenate([held[one], more])
            record(folder / one, more, resume=True)
        elif move == "branch":
            # Two copies of one recording go on to as many commits, of other frames.
            shutil.rmtree(folder / other)
            shutil.copytree(folder / one, folder / other)
            before = held[one]
            for name in (one, other):
                more = some()
                held[name] = np.concatenate([before, more])
                record(folder / name, more, resume=True)
        elif move == "swap":
            (folder / one).rename(folder / "aside")
            (folder / other).rename(folder / one)
            (folder / "aside").rename(folder / other)
            held[one], held[other] = held[other], held[one]
        else:
            shutil.copytree(folder / one, folder / "backup")
            record(folder / one, some(), resume=True)
            check_one = analysis.open_recording(folder / one)
            assert check_one[""].frames == len(held[one]) + 8, moves
            shutil.rmtree(folder / one)
            (folder / "backup").rename(folder / one)
        for name in chance.sample(PLACES, 2):
            check(folder / name, held[name], moves)


def main() -> None:
    """Attack for minutes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--moves", type=int, default=40)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seeds):
            put_in_place_of_each_other(Path(folder, str(seed)), seed, arguments.moves)


if __name__ == "__main__":
    main()
