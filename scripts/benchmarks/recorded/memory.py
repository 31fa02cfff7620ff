"""Peak memory of recording, after few and after 50 times as many steps, each in a fresh process."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from spikingjelly.activation_based.neuron import LIFNode

from benchmarks.data import show_often, test_images, trained_network
from benchmarks.harness import Options, Report, memory_bytes, run_child
from benchmarks.peers import BOOL_LIST, FLOAT_LIST, PEERS, SPIKETAPE
from demonstration.network import STEPS

FACTOR = 50
# Peers that keep every spike in memory, and bytes that they keep for each slot.
_BYTES_PER_SLOT = {FLOAT_LIST: 4, BOOL_LIST: 1}
_SLOTS_PER_TRIAL = STEPS * 64 * (2048 + 4096 + 10)


def measure_memory(options: Options, report: Report) -> None:
    """Peak resident memory after 50× the steps ÷ after 1×."""
    trained_network(options.cache, quick=options.quick)
    trials, factor = (1, 2) if options.quick else (10, FACTOR)
    peers = (SPIKETAPE,) if options.quick else tuple(PEERS)
    rows = []
    for peer in peers:
        needed = _BYTES_PER_SLOT.get(peer, 0) * _SLOTS_PER_TRIAL * trials * factor
        few = _peak(options, peer, trials)
        if needed > 0.7 * _available_bytes():
            rows.append(
                [peer, _mebibytes(few), "–", f"not run: would need {needed / 2**30:.1f} GiB for the spikes"]
            )
            continue
        many = _peak(options, peer, trials * factor)
        rows.append([peer, _mebibytes(few), _mebibytes(many), f"{many / few:.3f}"])
        if peer == SPIKETAPE:
            report.figure(f"peak memory: {factor}× the steps ÷ 1×", many / few, 1.05)
    steps = trials * STEPS
    report.table(
        "Peak resident memory of recording",
        ["kept by", f"{steps} steps", f"{steps * factor} steps", "ratio"],
        rows,
        "Digits network, batch 64; VmHWM of a fresh process, interpreter and torch included.",
    )


def _peak(options: Options, peer: str, trials: int) -> int:
    arguments = [peer, str(trials), str(options.cache), *(["--quick"] if options.quick else [])]
    return int(run_child("recorded.memory", *arguments)["peak_bytes"])


def _available_bytes() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def main() -> None:
    """In the fresh process: record, and say how much memory that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("trials", type=int)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    network = trained_network(arguments.cache, quick=arguments.quick)
    images = test_images("cpu")
    with tempfile.TemporaryDirectory() as scratch:
        with PEERS[arguments.peer](network, LIFNode, Path(scratch, "run")):
            show_often(network, images, arguments.trials)
            peak = memory_bytes("VmHWM")
        # Closing counts, too, where it takes more.
        peak = max(peak, memory_bytes("VmHWM"))
    print(json.dumps({"peak_bytes": peak}))


if __name__ == "__main__":
    main()
