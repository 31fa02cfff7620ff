"""What recording costs a network: run time beside bare runs, work on its stream, and slots a second."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch import nn

from gpu_checks.devices import Device, Fire, Relay, layers_of
from gpu_checks.findings import Effort, Finding
from recorder import Monitor
from recorder.capture.device import packing

# Targets of run time ÷ bare: of any network, and of one that fills the device.
MOST, MOST_WHERE_FULL = 1.05, 1.02
STEPS = 16
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


def check_run_time(device: Device, effort: Effort) -> Iterator[Finding]:
    """Run time with recording ÷ bare, in turns, orders shuffled."""
    sizes = {"small": (4, 2, 8)} if effort.is_quick else {"small": (64, 64, 32), "full": (512, 128, 32)}
    rounds, trials = (2, 1) if effort.is_quick else (7, 10)
    for (size, (channels, batch, side)), has_steps in (
        (one, how) for one in sizes.items() for how in (False, True)
    ):
        net = _network(channels, has_steps=has_steps).to(device.torch)
        images = torch.rand(batch, 3, side, side, device=device.torch)
        given = images.expand(STEPS, *images.shape).contiguous() if has_steps else images

        def show(net: nn.Module = net, given: torch.Tensor = given, has_steps: bool = has_steps) -> None:
            for _ in range(trials if has_steps else trials * STEPS):
                net(given)
            device.synchronize()

        def record(
            net: nn.Module = net, show: Callable[[], None] = show, has_steps: bool = has_steps
        ) -> None:
            with Monitor(net, store=effort.store(), layers=layers_of(Fire, has_steps=has_steps)):
                show()

        with torch.inference_mode():
            times = _in_turns({"bare": show, "recorded": record}, rounds)
        ratios = [one / other for one, other in zip(times["recorded"], times["bare"], strict=True)]
        value = median(times["recorded"]) / median(times["bare"])
        limit = MOST_WHERE_FULL if size == "full" else MOST
        bare = f"bare {median(times['bare']):.2f} s"
        found = f"{value:.3f} ({min(ratios):.3f}–{max(ratios):.3f}), at most {limit}; {bare}"
        how = "multi-step" if has_steps else "single-step"
        # Where no GPU is, this is no GPU's time.
        is_right = value <= limit if device.is_real and not effort.is_quick else None
        yield Finding(f"run time ÷ bare, {size}, {how}, begin and end included", is_right, found)


def check_stream(device: Device, effort: Effort) -> Iterator[Finding]:
    """What a hook adds to the stream of the network: one kernel, or a copy of small outputs; nobody waits."""
    for size, neurons in (("large", 2**13 if effort.is_quick else 2**20), ("small", 100)):
        spikes = (torch.rand(8, neurons, device=device.torch) < 0.1).float()
        for found in _of_outputs(device, effort, spikes, is_small=size == "small"):
            yield replace(found, what=f"{found.what}, {size} outputs")


def _of_outputs(device: Device, effort: Effort, spikes: torch.Tensor, *, is_small: bool) -> Iterator[Finding]:
    # So few that all of it fits into the ring, for which nobody then waits.
    calls = 24
    # Small ones are packed eight at a time, then sixteen.
    packs = calls // 8 if is_small else calls
    net = nn.Sequential(Relay())
    with Monitor(net, store=effort.store(), layers=layers_of(Relay)) as monitor:
        for _ in range(16):  # compiled, and the ring is there
            net(spikes)
        device.synchronize()
        if device.is_real:
            yield from _profiled(net, spikes, calls, packs)
        else:
            layers = monitor._session.layers.called  # noqa: SLF001 - how often they pack, nobody else knows
            packers = [layer._packer for layer in layers]  # noqa: SLF001
            yield from _counted(device, packers, net, spikes, calls, packs)


def _profiled(net: nn.Module, spikes: torch.Tensor, calls: int, most_packs: int) -> Iterator[Finding]:
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profile:
        for _ in range(calls):
            net(spikes)
    torch.cuda.synchronize()
    events = {event.key: event for event in profile.key_averages()}
    packs = [event for key, event in events.items() if "_pack" in key and _device_time(event)]
    launched = sum(event.count for event in packs)
    is_right = 0 < launched <= most_packs
    yield Finding("kernels that pack, for each output", is_right, f"{launched / calls:.2f}")
    others = {
        key: event.count
        for key, event in events.items()
        if _device_time(event) and "_pack" not in key and not key.startswith(("Memcpy", "aten::", "cuda"))
    }
    # The copy that the relay makes is one, and that of a small output; verdicts of eight outputs share a
    # tensor, filled with zeros.
    copies = calls if most_packs == calls else 2 * calls
    most = copies + calls // packing.OUTPUTS_IN_A_ROW + 1
    yield Finding("other kernels, the relay's own copy included", sum(others.values()) <= most, f"{others}")
    # Behind the loop, the profiler itself waits once.
    waits = {name: events[name].count for name in WAITS if name in events}
    yield Finding(
        "waiting for the device", sum(waits.values()) <= 1, f"{waits or 'never'} in {calls} outputs"
    )
    microseconds = sum(_device_time(event) for event in packs) / max(launched, 1)
    speed = spikes.numel() / max(microseconds, 1e-9) / 1e3
    yield Finding(
        "time of the kernel",
        None,
        f"{microseconds:.1f} µs for {spikes.numel():.1e} slots, {speed:.0f} G slots/s",
    )


def _device_time(event: Any) -> float:
    """Microseconds on the device; torch has renamed it."""
    return float(getattr(event, "self_device_time_total", getattr(event, "self_cuda_time_total", 0.0)))


def _counted(
    device: Device, packers: Sequence[Any], net: nn.Module, spikes: torch.Tensor, calls: int, most_packs: int
) -> Iterator[Finding]:
    lane = device.lanes[-1]
    packed = waited = 0
    pack, arrival = packing.pack_with_torch, type(lane).copy

    def counting_pack(*arguments: Any) -> None:
        nonlocal packed
        packed += 1
        pack(*arguments)

    def counting_copy(*arguments: Any) -> Any:
        made = arrival(*arguments)
        synchronize = made.synchronize

        def counting_wait() -> None:
            nonlocal waited
            waited += made._asked < 3  # noqa: SLF001 - not what arrives by itself, when it is asked for the third time
            synchronize()

        made.synchronize = counting_wait
        return made

    for packer in packers:
        packer._pack = counting_pack  # noqa: SLF001 - likewise
    type(lane).copy = counting_copy  # type: ignore[method-assign]
    try:
        for _ in range(calls):
            net(spikes)
    finally:
        type(lane).copy = arrival  # type: ignore[method-assign]
    is_right = 0 < packed <= most_packs
    yield Finding("calls that pack, for each output", is_right, f"{packed / calls:.2f}, on the late device")
    yield Finding(
        "waiting for the device", waited == 0, f"{waited} times in {calls} outputs, on the late device"
    )
    yield Finding("time of the kernel", None, "no GPU")


def check_rate(device: Device, effort: Effort) -> Iterator[Finding]:
    """Slots a second that are recorded for a while, and up to which rate that is free."""
    seconds = 0.3 if effort.is_quick else 20.0
    neurons = 4096 if effort.is_quick else 2**20
    spikes = (torch.rand(16, neurons, device=device.torch) < 0.05).float()
    matrix = torch.rand(64 if effort.is_quick else 4096, 64 if effort.is_quick else 4096, device=device.torch)
    free, fastest = 0.0, 0.0
    for products in (0, 4) if effort.is_quick else (0, 1, 2, 4, 8, 16, 32):
        net = nn.Sequential(Relay(), _Work(matrix, products))
        with torch.inference_mode():
            bare = _rate(device, net, spikes, seconds / 4)
            began = time.monotonic()
            with Monitor(net, store=effort.store(), layers=layers_of(Relay), durability="process") as monitor:
                steps = 0
                while time.monotonic() < began + seconds:
                    net(spikes)
                    steps += 1
            recorded = steps * spikes.numel() / (time.monotonic() - began)
        stats = monitor.stats
        fastest = max(fastest, recorded)
        if recorded >= bare / MOST:
            free = max(free, bare)
        yield Finding(
            f"slots a second beside {products} products of matrices a step",
            None,
            f"bare {bare:.2e}, recorded {recorded:.2e}, waited {stats.seconds_waited:.1f} s, "
            f"{stats.hurried_chunks} of {stats.chunks} chunks hurried",
        )
    yield Finding("slots a second, sustained, until all is stored", None, f"{fastest:.2e}")
    yield Finding(
        "slots a second up to which recording is free", None, f"{free:.2e}" if free else "none of these rates"
    )


def _rate(device: Device, net: nn.Module, spikes: torch.Tensor, seconds: float) -> float:
    net(spikes)
    device.synchronize()
    began, steps = time.monotonic(), 0
    while time.monotonic() < began + seconds:
        for _ in range(8):
            net(spikes)
        # Else steps are counted that only wait in the queue of the device.
        device.synchronize()
        steps += 8
    return steps * spikes.numel() / (time.monotonic() - began)


class _Work(nn.Module):
    """Arithmetic beside a layer, as other parts of a network do."""

    def __init__(self, matrix: torch.Tensor, products: int) -> None:
        super().__init__()
        self.matrix, self.products = matrix, products

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        for _ in range(self.products):
            self.matrix @ self.matrix
        return spikes


def _network(channels: int, *, has_steps: bool) -> nn.Sequential:
    """Convolutions and neurons; in multi-step, the convolutions see steps and samples as one axis."""
    torch.manual_seed(0)
    blocks: list[nn.Module] = []
    width = 3
    for _ in range(3):
        convolution = nn.Conv2d(width, channels, 3, padding=1)
        blocks += [_Folded(convolution) if has_steps else convolution, Fire(has_steps=has_steps)]
        width = channels
    return nn.Sequential(*blocks)


class _Folded(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        made = self.inner(given.flatten(0, 1))
        return made.unflatten(0, given.shape[:2])


def _in_turns(competitors: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in competitors}
    order = random.Random(0)  # noqa: S311 - any will do, as long as it is the same again
    for competitor in competitors.values():
        competitor()
    for _ in range(rounds):
        for name in order.sample(list(competitors), len(competitors)):
            began = time.monotonic()
            competitors[name]()
            times[name].append(time.monotonic() - began)
    return times
