"""What recording costs the network: of its run time, and for each call of a tiny layer."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import product
from statistics import median

import numpy as np
import torch
from spikingjelly.activation_based.neuron import LIFNode
from torch import Tensor, nn

from benchmarks.data import (
    BATCH,
    Relay,
    multi_step,
    relay_network,
    show_at_once,
    show_often,
    test_images,
    trained_network,
    wide_network,
)
from benchmarks.harness import (
    Competitor,
    Lap,
    Options,
    Race,
    Ratio,
    Report,
    Times,
    interleave,
    ratio,
    show_seconds,
)
from benchmarks.peers import BARE, PEERS, RAW, SPIKETAPE, Peer
from demonstration.network import STEPS
from recorder.capture.host.host_packing import StagePool
from recorder.capture.host.native_packing import NativePacker
from recorder.native.loading import PASS

NEURONS = 100

Show = Callable[[nn.Module, Tensor, int], None]
SHOWN: dict[str, Show] = {"single-step": show_often, "multi-step": show_at_once}


def measure_run_time(options: Options, report: Report) -> None:
    """Run time with recording ÷ bare run, from before the first hook is put until everything is stored."""
    device = options.device
    networks = {"wide": wide_network(device, quick=options.quick)}
    if device == "cpu":
        networks = {"digits": trained_network(options.cache, quick=options.quick), **networks}
    # Some five seconds each.
    trials = {"digits": 1 if options.quick else 60, "wide": 1 if options.quick else 10}
    rounds = 1 if options.quick else 5
    limit = 1.10 if device == "cpu" else 1.05
    before = torch.get_num_threads()
    for threads in options.threads:
        torch.set_num_threads(threads)
        for (name, network), (how, show) in product(networks.items(), SHOWN.items()):
            race = _race(options, network, show, trials[name], rounds)
            times = race.times
            where = f"{name} network, {how}, {_on(device, threads)}"
            report.table(
                f"Run time with recording ÷ bare run: {where}",
                ["kept by", "run", "÷ nothing kept", "÷ spiketape", "processor time ÷ nothing kept"],
                _rows(race),
                f"{trials[name]} trials of T = {STEPS} steps, batch {BATCH}, {_slots(network, device):,} "
                f"slots a step, {rounds} rounds. All is inside: making files, the run, the last byte stored.",
            )
            report.figure(f"run time, {where}: spiketape ÷ bare", ratio(times, SPIKETAPE, BARE), limit)
            for raw in RAW:
                report.figure(f"run time, {where}: spiketape ÷ {raw}", ratio(times, SPIKETAPE, raw), 1)
    torch.set_num_threads(before)


def measure_calls(options: Options, report: Report) -> None:
    """Cost of each call of a small layer: a relay, so that nothing is timed but keeping spikes."""
    calls, rounds = (200, 1) if options.quick else (20_000, 9)
    # A difference of microseconds drowns in what else a machine does, unless only this thread's time counts.
    clock = time.thread_time if options.device == "cpu" else time.perf_counter
    network = relay_network()
    inputs = (torch.rand(64, 1, NEURONS, device=options.device) < 0.1).float().unbind()

    def run(peer: Peer) -> Competitor:
        def record() -> object:
            with torch.no_grad(), peer(network, Relay, options.folder("calls")) as kept:
                started = clock()
                for call in range(calls):
                    network(inputs[call % 64])
                seconds = clock() - started
            return Lap(seconds, kept)

        return record

    times = interleave({name: run(peer) for name, peer in PEERS.items()}, rounds, options.device).times
    costs = {
        name: [(one - bare) / calls for one, bare in zip(times[name], times[BARE], strict=True)]
        for name in times
        if name != BARE
    }
    report.table(
        f"Cost per call: {NEURONS} neurons, batch 1, single-step, {options.device}",
        ["kept by", "cost per call", "range", "÷ spiketape"],
        [
            [
                name,
                show_seconds(cost),
                f"{min(cost) * 1e6:.1f}–{max(cost) * 1e6:.1f} µs",
                f"{median(cost) / median(costs[SPIKETAPE]):.2f}",
            ]
            for name, cost in costs.items()
        ],
        f"{calls:,} calls, {rounds} rounds, opening and closing left out; "
        f"{'processor time of the calling thread' if options.device == 'cpu' else 'time'}, less what the "
        f"bare network takes: {show_seconds([median(times[BARE]) / calls])} a call.",
    )
    for raw in RAW:
        report.figure(f"cost per call: spiketape ÷ {raw}", _paired(costs, SPIKETAPE, raw), 1)
    if options.device == "cpu":
        _measure_large_outputs(options, report)


def _measure_large_outputs(options: Options, report: Report) -> None:
    """Checking and packing of outputs that no cache holds, by the compiled pass, beside reading them."""
    rows = []
    for name in ("bool", "float16", "float32", "int64", "float64"):
        PASS.load(name)
        for frames, neurons in ((8, 64),) if options.quick else ((64, 8192), (64, 2048), (1, 65_536)):
            some = (torch.rand(frames, neurons) < 0.1).to(getattr(torch, name))
            outputs = [some.clone() for _ in range(2 if options.quick else 2**28 // some.nbytes)]
            packer = NativePacker(np.zeros((0, neurons), np.bool_), StagePool(), PASS, name)

            def pack(output: Tensor, packer: NativePacker = packer) -> None:
                packer.push(output)
                packer.undo = None
                packer.ready.clear()

            # Words, as numpy adds up halves and booleans by way of others.
            ways = {"pack": pack, "read": lambda output: np.sum(output.numpy().view(f"u{output.itemsize}"))}
            times: Times = {way: [] for way in ways}
            for way, do in list(ways.items()) * 3:
                for output in outputs:
                    started = time.thread_time()
                    do(output)
                    times[way].append((time.thread_time() - started) / some.numel() * 1e9)
            packed, read = median(times["pack"]), median(times["read"])
            rows.append(
                [name, f"{frames} x {neurons}", f"{packed:.2f}", f"{read:.2f}", f"{packed / read:.2f}"]
            )
            if name in ("int64", "float64"):
                report.figure(f"{name}, {frames} x {neurons}: packing ÷ reading", packed / read, 1.2)
    report.table(
        "Large outputs, nanoseconds a slot of the network's thread",
        ["data type", "frames x neurons", "checked and packed", "np.sum", "÷"],
        rows,
        "Processor time, medians; outputs take turns in 256 MiB, so that they come from memory.",
    )


def _race(options: Options, network: nn.Module, show: Show, trials: int, rounds: int) -> Race:
    images = test_images(options.device)
    if show is show_at_once:
        network = multi_step(network)

    def run(peer: Peer) -> Competitor:
        def record() -> object:
            with peer(network, LIFNode, options.folder("run")) as kept:
                show(network, images, trials)
            return kept

        return record

    return interleave({name: run(peer) for name, peer in PEERS.items()}, rounds, options.device)


def _rows(race: Race) -> list[list[str]]:
    return [
        [
            name,
            show_seconds(times),
            str(ratio(race.times, name, BARE)),
            str(ratio(race.times, name, SPIKETAPE)),
            str(ratio(race.cpu, name, BARE)),
        ]
        for name, times in race.times.items()
    ]


def _paired(costs: Times, of: str, to: str) -> Ratio:
    """As `ratio`, without rounds so disturbed that a cost, a difference of times, is not above zero."""
    single = [one / other for one, other in zip(costs[of], costs[to], strict=True) if other > 0]
    value = median(costs[of]) / median(costs[to]) if median(costs[to]) > 0 else float("nan")
    return Ratio(value, min(single, default=value), max(single, default=value))


def _slots(network: nn.Module, device: str) -> int:
    """Slots that all spiking layers have in a step."""
    sizes: list[int] = []
    handles = [
        module.register_forward_hook(lambda _module, _inputs, spikes: sizes.append(spikes.numel()))
        for module in network.modules()
        if isinstance(module, LIFNode)
    ]
    images = test_images(device)
    with torch.no_grad():
        network(images)
    for handle in handles:
        handle.remove()
    for module in network.modules():
        if isinstance(module, LIFNode):
            module.reset()
    return sum(sizes)


def _on(device: str, threads: int) -> str:
    return "CUDA" if device == "cuda" else f"{threads} thread{'s' if threads > 1 else ''} of torch"
