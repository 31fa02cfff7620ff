"""Bit for bit the same as a plain hook keeps: every data type, layout, stream, graph and compiler."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gpu_checks.devices import Device, Overwrite, Relay, layers_of
from gpu_checks.findings import Effort, Finding
from recorder import Monitor
from recorder.capture.device.packing import VERDICT_NUMBERS, PackFrames, pack_with_torch
from recorder.frameworks import SpikingLayerError
from recorder.stores import Folder
from recorder.tape import TapeReader

DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
)
Layout = Callable[[torch.Tensor], torch.Tensor]
LAYOUTS: dict[str, Layout] = {
    "contiguous": lambda spikes: spikes,
    "channels last": lambda spikes: spikes.transpose(-1, -2).contiguous().transpose(-1, -2),
    "every second": lambda spikes: torch.stack([spikes, spikes], -1)[..., 0],
}
SHAPE = (5, 3, 13)
_GRAPH = "a CUDA graph that is captured is refused, and recording goes on"


class Kept:
    """A plain hook: a copy of every output, before anything behind the layer can change it."""

    def __init__(self, layer: nn.Module) -> None:
        self.outputs: list[NDArray[np.bool_]] = []
        self._handle = layer.register_forward_hook(torch.compiler.disable(self._keep))

    def _keep(self, module: nn.Module, inputs: object, output: torch.Tensor) -> None:  # noqa: ARG002
        self.outputs.append((output.detach().double() != 0).cpu().numpy())

    def differences(self, store: Path, name: str) -> str:
        """What the recording has otherwise; empty where it is the same, bit for bit."""
        self._handle.remove()
        expected = np.concatenate([output.reshape(-1, *SHAPE[1:]) for output in self.outputs])
        layer = TapeReader.open(Folder(store)).layers[name]
        if layer.frames != len(expected):
            return f"{layer.frames} frames, {len(expected)} expected"
        different = int((layer.frame_bits(0, layer.frames) != expected).sum())
        return f"{different} of {expected.size} bits differ" if different else ""


def network() -> nn.Sequential:
    """Two layers, each of which is overwritten by what comes behind it."""
    return nn.Sequential(Relay(), Overwrite(), Relay(), Overwrite())


def inputs(
    device: Device, steps: int, dtype: torch.dtype, layout: Layout, lead: tuple[int, ...] = ()
) -> Iterator[torch.Tensor]:
    """Spikes of so many calls."""
    generator = torch.Generator().manual_seed(steps)
    for _ in range(steps):
        spikes = torch.rand(*lead, *SHAPE, generator=generator) < 0.3
        yield layout(spikes.to(device.torch, dtype))


def check_exactness(device: Device, effort: Effort) -> Iterator[Finding]:
    """Compare what was recorded with what a plain hook kept."""
    steps = 11 if effort.is_quick else 203
    for dtype, has_steps in product(DTYPES, (False, True)):
        wrong = []
        for name, layout in LAYOUTS.items():
            net, store = network(), effort.store()
            kept = Kept(net[0])
            lead = (4,) if has_steps else ()
            with Monitor(net, store=store, layers=layers_of(Relay, has_steps=has_steps)):
                for spikes in inputs(device, steps, dtype, layout, lead):
                    net(spikes)
            wrong += [f"{name}: {found}" for found in [kept.differences(store, "0")] if found]
        how = "multi-step" if has_steps else "single-step"
        shown = f"{str(dtype).removeprefix('torch.')}, {how}, overwritten in place"
        yield Finding(shown, not wrong, "; ".join(wrong) or f"{len(LAYOUTS)} layouts, {steps} calls each")
    yield from _kernel(device)
    yield _changing_streams(device, effort, steps)
    yield _two_networks(device, effort, steps)
    yield _graph(device, effort)
    yield _compiled(device, effort, steps)


def _kernel(device: Device) -> Iterator[Finding]:
    """The kernel beside plain torch, which the late device uses; interpreted where there is no GPU."""
    how = "compiled" if device.is_real else "by Triton's interpreter"
    if find_spec("triton") is None:
        yield Finding("the kernel", None if not device.is_real else False, "Triton is not installed")
        return
    from recorder.capture.device.kernel import pack_with_triton  # noqa: PLC0415 - imports Triton

    for dtype in DTYPES:
        wrong = 0
        for waiting, count, neurons, outputs in (
            (0, 8, 1, 1),
            (5, 2, 33, 2),
            (3, 14, 1025, 1),
            (6, 21, 70, 7),
        ):
            frames = (torch.rand(count, neurons, device=device.torch) < 0.3).to(dtype)
            if dtype.is_floating_point:
                frames[0, 0] = 0.5  # no spike, which both tell
            before = torch.full((neurons,), 128, dtype=torch.uint8, device=device.torch)
            packs = pack_with_triton, pack_with_torch
            one, other = (_packed(pack, frames, waiting, before, outputs) for pack in packs)
            wrong += not all(map(torch.equal, one, other))
        yield Finding(f"the kernel on {str(dtype).removeprefix('torch.')}", not wrong, how)


def _packed(
    pack: PackFrames, frames: torch.Tensor, waiting: int, before: torch.Tensor, outputs: int
) -> list[torch.Tensor]:
    whole, rest = divmod(waiting + len(frames), 8)
    rows = torch.zeros((whole, len(before)), dtype=torch.uint8, device=frames.device)
    after = torch.zeros_like(before)
    verdicts = torch.zeros((outputs, VERDICT_NUMBERS), dtype=torch.int64, device=frames.device)
    pack(frames, waiting, before, rows, after, verdicts)
    return [rows, after if rest else torch.zeros_like(before), verdicts]


def _changing_streams(device: Device, effort: Effort, steps: int) -> Finding:
    net, store = network(), effort.store()
    kept = Kept(net[0])
    with Monitor(net, store=store, layers=layers_of(Relay)):
        for spikes in inputs(device, steps, torch.float32, LAYOUTS["contiguous"]):
            device.synchronize()
            with device.on_stream():
                net(spikes)
    found = kept.differences(store, "0")
    return Finding("a network that is on another stream at each step", not found, found or f"{steps} steps")


def _two_networks(device: Device, effort: Effort, steps: int) -> Finding:
    found: dict[int, str] = {}
    stores = [effort.scratch / "first.zarr", effort.scratch / "second.zarr"]

    def run(number: int) -> None:
        net = network()
        kept = Kept(net[0])
        with device.on_stream(), Monitor(net, store=stores[number], layers=layers_of(Relay)):
            for spikes in inputs(device, steps + number, torch.float32, LAYOUTS["contiguous"]):
                net(spikes)
        found[number] = kept.differences(stores[number], "0")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wrong = [f"network {number}: {found.get(number, 'ended by an error')}" for number in range(2)]
    is_right = found == {0: "", 1: ""}
    return Finding(
        "two networks on two streams", is_right, f"{steps} steps each" if is_right else "; ".join(wrong)
    )


def _graph(device: Device, effort: Effort) -> Finding:
    net, store = network(), effort.store()
    given = next(inputs(device, 1, torch.float32, LAYOUTS["contiguous"]))
    net(given.clone())
    device.synchronize()
    kept = Kept(net[0])
    message = ""
    with Monitor(net, store=store, layers=layers_of(Relay)):
        net(given.clone())
        try:
            if device.is_real:
                with torch.cuda.graph(torch.cuda.CUDAGraph()):
                    net(given)
            else:
                with (
                    patch.object(torch.cuda, "is_initialized", lambda: True),
                    patch.object(torch.cuda, "is_current_stream_capturing", lambda: True),
                ):
                    net(given)
        except SpikingLayerError as error:
            message = str(error)
        refused = len(kept.outputs) - 1
        del kept.outputs[1:]
        net(given.clone())
    if "a CUDA graph is captured" not in message:
        return Finding(_GRAPH, False, f"not refused; {message or 'no error'}; {refused} outputs seen")
    found = kept.differences(store, "0")
    return Finding(_GRAPH, not found, found or ("" if device.is_real else "capture was pretended"))


def _compiled(device: Device, effort: Effort, steps: int) -> Finding:
    backend = "inductor" if device.is_real else "eager"
    net, store = network(), effort.store()
    kept = Kept(net[0])
    with Monitor(net, store=store, layers=layers_of(Relay)):
        compiled = torch.compile(net, backend=backend)
        for spikes in inputs(device, steps, torch.float32, LAYOUTS["contiguous"]):
            compiled(spikes)
    found = kept.differences(store, "0")
    return Finding(f"a network under torch.compile, backend {backend}", not found, found or f"{steps} steps")
