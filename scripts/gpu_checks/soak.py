"""Record for minutes: memory of the device and of the host must stay as it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch
from torch import nn

from gpu_checks.devices import Device, Relay, layers_of
from gpu_checks.findings import Effort, Finding
from recorder import Monitor
from recorder.stores import Folder
from recorder.tape import TapeReader

# What allocators may keep more at the end than at the begin, as they round and reuse.
ALLOWED_SHARE, ALLOWED_BYTES = 1.05, 32 * 2**20
DENSITY = 0.001


def check_soak(device: Device, effort: Effort) -> Iterator[Finding]:
    """Record sparse spikes, and look at memory all the while."""
    shape = (8, 256) if effort.is_quick else (64, 65_536)
    net, store = nn.Sequential(Relay(), nn.Identity(), Relay()), effort.store()
    given = [(torch.rand(shape, device=device.torch) < DENSITY).float() for _ in range(7)]
    host: list[int] = []
    on_device: list[int] = []
    steps = 0
    began = time.monotonic()
    with Monitor(
        net, store=store, layers=layers_of(Relay), commit_interval=max(effort.soak_seconds / 20, 0.05)
    ) as monitor:
        looked_at = began
        while (now := time.monotonic()) < began + effort.soak_seconds:
            for spikes in given:
                net(spikes)
            steps += len(given)
            if now - looked_at >= effort.soak_seconds / 60:
                looked_at = now
                host.append(_resident_bytes())
                on_device.append(torch.cuda.memory_reserved() if device.is_real else 0)
    frames = TapeReader.open(Folder(store)).layers["2"].frames
    yield Finding("frames recorded", frames == steps * shape[0], f"{frames:,} of {steps * shape[0]:,}")
    slots = 2 * steps * shape[0] * shape[1]
    yield Finding(
        "how much",
        None,
        f"{slots:.2e} slots in {effort.soak_seconds:.0f} s, {monitor.stats.commits} commits, "
        f"the network waited {monitor.stats.seconds_waited:.1f} s",
    )
    yield _flat("memory of the host", host)
    if device.is_real:
        yield _flat("memory of the device", on_device)


def _flat(what: str, seen: list[int]) -> Finding:
    """Whether the last third is no more than the middle one; in the first, caches fill."""
    third = len(seen) // 3
    if not third:
        return Finding(what, False, f"looked at {len(seen)} times only")
    middle, last = median(seen[third : 2 * third]), median(seen[-third:])
    found = f"{middle / 2**20:,.0f} MiB, at the end {last / 2**20:,.0f} MiB"
    return Finding(what, last <= ALLOWED_SHARE * middle + ALLOWED_BYTES, found)


def _resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
