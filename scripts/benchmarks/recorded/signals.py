"""What it costs to record membrane potentials beside the spikes: of a small layer, and of a large one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from spikingjelly.activation_based.neuron import LIFNode
from torch import nn

from benchmarks.data import BATCH, multi_step, test_images, trained_network
from benchmarks.harness import Competitor, Options, Report, interleave, ratio, show_seconds
from benchmarks.peers import BARE, PEERS, SPIKETAPE, Peer
from benchmarks.recorded.recording import SHOWN
from demonstration.network import STEPS
from recorder import Monitor, Signal

# A small layer, and the largest, of which a step is a megabyte; and what they may cost.
LAYERS = {"output.spikes": 1.25, "conv2.spikes": 2.5}


def record_potential(layer: str) -> Peer:
    """Record as the README shows, and the membrane potentials of one layer."""

    @contextmanager
    def record(network: nn.Module, spiking: type[nn.Module], folder: Path) -> Iterator[Any]:
        with Monitor(network, layers=spiking, store=folder, signals=Signal("v", layers=layer)) as monitor:
            yield monitor

    return record


def measure_signals(options: Options, report: Report) -> None:
    """Run time with the potentials of one layer ÷ bare run, and bytes of a value as stored."""
    network = trained_network(options.cache, quick=options.quick).to(options.device)
    trials, rounds = (1, 1) if options.quick else (20, 5)
    images = test_images(options.device)
    peers = {BARE: PEERS[BARE], SPIKETAPE: PEERS[SPIKETAPE]}
    peers |= {f"{SPIKETAPE}, v of {layer}": record_potential(layer) for layer in LAYERS}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for how, show in SHOWN.items():
        shown = multi_step(network) if how == "multi-step" else network

        def run(peer: Peer, show: Any = show, shown: nn.Module = shown) -> Competitor:
            def record() -> object:
                with peer(shown, LIFNode, options.folder("signals")) as kept:
                    show(shown, images, trials)
                return kept

            return record

        race = interleave({name: run(peer) for name, peer in peers.items()}, rounds, options.device)
        where = f"digits network, {how}, one thread of torch, {options.device}"
        report.table(
            f"Run time with membrane potentials ÷ bare run: {where}",
            ["recorded", "run", "÷ nothing kept", "processor time ÷ nothing kept"],
            [
                [
                    name,
                    show_seconds(times),
                    str(ratio(race.times, name, BARE)),
                    str(ratio(race.cpu, name, BARE)),
                ]
                for name, times in race.times.items()
            ],
            f"{trials} trials of T = {STEPS} steps, batch {BATCH}, {rounds} rounds; 10 neurons in "
            f"output.spikes, 4096 in conv2.spikes.",
        )
        for layer, limit in LAYERS.items():
            name = f"{SPIKETAPE}, v of {layer}"
            report.figure(
                f"processor time with v of {layer} ÷ bare, {where}", ratio(race.cpu, name, BARE), limit
            )
    torch.set_num_threads(before)
