"""Ways to keep the spikes of a running network: spiketape, and what people do without it.

Each is written as somebody would who knows the library well: files are written in chunks of about 4 MiB, from
a buffer, as a write at each call would rewrite a chunk each time. None of them but spiketape checks that the
values are 0 and 1, waits for the disk (fsync), or can be read after a crash.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import zarr
from numpy.typing import NDArray
from torch import Tensor, nn

from recorder import Monitor

Peer = Callable[[nn.Module, type[nn.Module], Path], AbstractContextManager[Any]]
Frames = NDArray[np.bool_]

CHUNK_SLOTS = 4 * 2**20

BARE = "nothing"
SPIKETAPE = "spiketape"
FLOAT_LIST = "OutputMonitor, float in memory"
BOOL_LIST = "OutputMonitor, .bool() in memory"
ZARR_BOOLS = "hook, booleans to Zarr"
H5PY_BITS = "hook, packed bits to HDF5 (h5py)"


def record_nothing(*_: Any) -> AbstractContextManager[None]:
    """Let the network run alone."""
    return nullcontext()


@contextmanager
def record_spiketape(network: nn.Module, spiking: type[nn.Module], folder: Path) -> Iterator[Monitor]:
    """Record as the README shows, with every default: committed frames survive a loss of power."""
    with Monitor(network, layers=spiking, store=folder) as monitor:
        yield monitor


def record_list(convert: Callable[[Tensor], Tensor]) -> Peer:
    """SpikingJelly's monitor, which keeps what it converts in a Python list."""

    @contextmanager
    def record(network: nn.Module, spiking: type[nn.Module], _: Path) -> Iterator[Any]:
        monitor = _output_monitor()(network, spiking, convert)
        try:
            yield monitor
        finally:
            monitor.remove_hooks()

    return record


def record_zarr(network: nn.Module, spiking: type[nn.Module], folder: Path) -> AbstractContextManager[None]:
    """Booleans appended to a Zarr array for each layer, compressed as Zarr does by default."""
    group = zarr.create_group(folder)

    def create(name: str, neuron_shape: tuple[int, ...], chunk_frames: int) -> Callable[[Frames], Any]:
        array = group.create_array(
            name, shape=(0, *neuron_shape), chunks=(chunk_frames, *neuron_shape), dtype=bool
        )
        return array.append

    return _hooked(network, spiking, create)


@contextmanager
def record_h5py(network: nn.Module, spiking: type[nn.Module], folder: Path) -> Iterator[None]:
    """Frames packed to bits and appended to an HDF5 dataset for each layer, uncompressed."""
    with h5py.File(folder.with_suffix(".h5"), "w") as file:

        def create(name: str, neuron_shape: tuple[int, ...], chunk_frames: int) -> Callable[[Frames], Any]:
            width = -(-math.prod(neuron_shape) // 8)
            dataset = file.create_dataset(
                name, (0, width), np.uint8, chunks=(chunk_frames, width), maxshape=(None, width)
            )

            def append(frames: Frames) -> None:
                first = len(dataset)
                dataset.resize(first + len(frames), axis=0)
                dataset[first:] = np.packbits(frames.reshape(len(frames), -1), axis=1)

            return append

        with _hooked(network, spiking, create):
            yield


# In the order in which they take turns.
PEERS: Mapping[str, Peer] = {
    BARE: record_nothing,
    SPIKETAPE: record_spiketape,
    FLOAT_LIST: record_list(lambda spikes: spikes),
    BOOL_LIST: record_list(lambda spikes: spikes.bool()),
    ZARR_BOOLS: record_zarr,
    H5PY_BITS: record_h5py,
}
# Those that keep raw spikes, in whatever form.
RAW = (FLOAT_LIST, BOOL_LIST, ZARR_BOOLS, H5PY_BITS)


@contextmanager
def _hooked(
    network: nn.Module,
    spiking: type[nn.Module],
    create: Callable[[str, tuple[int, ...], int], Callable[[Frames], Any]],
) -> Iterator[None]:
    """Put a buffering hook on each spiking layer; what is left in the buffers is written at the end."""
    buffers = {
        module: _Buffer(name, create)
        for name, module in network.named_modules()
        if isinstance(module, spiking)
    }
    handles = [module.register_forward_hook(buffer) for module, buffer in buffers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for buffer in buffers.values():
            buffer.flush()


class _Buffer:
    """Collects the frames of a layer until they fill a chunk."""

    def __init__(
        self, name: str, create: Callable[[str, tuple[int, ...], int], Callable[[Frames], Any]]
    ) -> None:
        self._name, self._create = name, create
        self._append: Callable[[Frames], Any] | None = None
        self._chunk_frames = self._waiting = 0
        self._calls: list[Frames] = []

    def __call__(self, _module: nn.Module, _inputs: Any, spikes: Tensor) -> None:
        frames = spikes.bool().cpu().numpy()
        if self._append is None:
            self._chunk_frames = max(CHUNK_SLOTS // math.prod(frames.shape[1:]), 1)
            self._append = self._create(self._name, frames.shape[1:], self._chunk_frames)
        self._calls.append(frames)
        self._waiting += len(frames)
        if self._waiting >= self._chunk_frames:
            self.flush()

    def flush(self) -> None:
        if self._append is not None and self._calls:
            self._append(np.concatenate(self._calls))
            self._calls, self._waiting = [], 0


def _output_monitor() -> Any:
    """SpikingJelly's class, whose module imports tensorboard for the sake of another one."""
    try:
        import torch.utils.tensorboard  # noqa: F401, PLC0415
    except ModuleNotFoundError:
        absent = ModuleType("torch.utils.tensorboard")
        absent.SummaryWriter = None  # type: ignore[attr-defined]
        sys.modules[absent.__name__] = absent
    from spikingjelly.activation_based.monitor import OutputMonitor  # noqa: PLC0415

    return OutputMonitor
