"""Read ``monitor.s`` back lazily, and compute the rates and ratios that a monitor answers with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from recorder.format.bits import Counts, Packed
from recorder.format.planes.values import scale_levels
from recorder.tape import LayerReader
from recorder.tape.layers.levels import read_levels

# Number of frames of a layer, and number of spikes of each of its neurons, int64 [neurons].
Totals = tuple[int, Counts]


class UnknownLayerError(KeyError, ValueError):
    """No layer of this name is monitored."""

    def __str__(self) -> str:
        return str(self.args[0])


class NothingRecordedError(RuntimeError):
    """Spikes were asked for before any frame was recorded."""


def refuse_nothing(recorded: Collection[str], *, is_enabled: bool, held: int | None = None) -> None:
    """Raise NothingRecordedError if nothing is recorded; ``held`` trials wait in memory, None if none do."""
    if not recorded and held is not None and is_enabled:
        raise NothingRecordedError(
            f"no trial has been kept yet, and answers are about those that were: {held} are held in memory, "
            "and monitor.keep(reason) writes them"
        )
    if not recorded:
        missing = (
            "the monitor is enabled, but none of its layers has been called"
            if is_enabled
            else "call enable(), then run the network"
        )
        raise NothingRecordedError(f"nothing has been recorded yet: {missing}")


def refuse_unknown(name: str | None, layers: Collection[str], recorded: Collection[str]) -> None:
    """Raise UnknownLayerError if a layer is not monitored, NothingRecordedError if it has no frames."""
    if name not in layers:
        raise UnknownLayerError(
            f"module_name is {name!r}; the monitored layers are {', '.join(map(repr, layers))}"
        )
    if name not in recorded:
        raise NothingRecordedError(f"layer {name!r} has not been called since recording began")


def firing_rate(totals: Mapping[str, Totals], sums: Mapping[str, float]) -> np.float64:
    """Spikes ÷ slots of all layers together, by name; NaN if there are no slots.

    Of layers with other values than 0 and 1, ``sums`` has what counts in place of spikes: their values' sum.
    """
    spikes: float = 0
    slots = 0
    for name, (frames, counts) in totals.items():
        spikes += sums[name] if name in sums else int(counts.sum())
        slots += frames * len(counts)
    return _ratio(spikes, slots)


def silent_ratio(totals: Iterable[Totals]) -> np.float64:
    """Neurons that never fired ÷ neurons of all layers together; NaN if there are no frames."""
    silent = neurons = 0
    for frames, counts in totals:
        if frames == 0:
            continue  # all frames of this layer are marked lost, which is not silence
        silent += int(np.count_nonzero(counts == 0))
        neurons += len(counts)
    return _ratio(silent, neurons)


def _ratio(numerator: float, denominator: int) -> np.float64:
    return np.float64(numerator / denominator if denominator else np.nan)


Convert = Callable[[NDArray[Any], str], Any]


# A step may straddle two chunks; going through the steps in order then decodes each chunk once.
_CHUNKS_KEPT = 2


class SpikeSequence(Sequence[Any]):
    """The recorded steps of one layer, oldest first.

    An item is the spikes of one step, ``[batch, *neuron]``, in the data type of the layer's output. It is
    read when it is asked for. A slice is a list of items, so that ``torch.stack(monitor.s["1"][:])`` works. A
    layer that was called several times in a step has an item for each call; a step marked lost has none.
    """

    def __init__(self, layer: LayerReader, convert: Convert) -> None:
        self._layer = layer
        self._convert = convert
        segments = layer.kept_segments()
        self._segments = segments
        self._first_item = np.concatenate([[0], np.cumsum(segments.steps)])
        self._read_chunk: Callable[[int], Packed] = functools.lru_cache(_CHUNKS_KEPT)(layer.chunk)
        self._read_bits = functools.lru_cache(_CHUNKS_KEPT)(layer.bits_of_chunk)

    def __len__(self) -> int:
        return int(self._first_item[-1])

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[item] for item in range(*index.indices(len(self)))]
        item = index + len(self) if index < 0 else index
        if not 0 <= item < len(self):
            raise IndexError(
                f"step {index} of layer {self._layer.name!r}, which has {len(self)} recorded steps"
            )
        segment = int(np.searchsorted(self._first_item, item, side="right")) - 1
        batch = int(self._segments.batch[segment])
        first = int(self._segments.first_frame[segment]) + (item - int(self._first_item[segment])) * batch
        dtype = self._layer.commit.dtype
        if self._layer.commit.values is None:
            return self._convert(self._layer.frame_bits(first, first + batch, self._read_chunk), dtype)
        levels = read_levels(self._layer, first, first + batch, self._read_bits)
        return self._convert(scale_levels(levels, self._layer.commit.values.scale, dtype), dtype)

    def __repr__(self) -> str:
        shape = ", ".join(["batch", *map(str, self._layer.plan.neuron_shape)])
        return f"<{len(self)} steps of layer {self._layer.name!r}, each [{shape}] {self._layer.commit.dtype}>"


class SpikeMapping(Mapping[str, SpikeSequence]):
    """A mapping from layer names to `SpikeSequence`, in network order."""

    def __init__(
        self, layers: Mapping[str, LayerReader], convert: Convert, check_name: Callable[[str], None]
    ) -> None:
        self._layers = layers
        self._convert = convert
        self._check_name = check_name

    def __getitem__(self, name: str) -> SpikeSequence:
        self._check_name(name)
        if name not in self._layers:
            raise NothingRecordedError(
                f"layer {name!r} had not been called when this was asked for; ask `monitor.s` again"
            )
        return SpikeSequence(self._layers[name], self._convert)

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {self[name]!r}" for name in self) + "}"


def to_tensor(device: torch.device) -> Convert:
    """Return a function that converts booleans or values to a tensor on ``device``."""

    def convert(bits: NDArray[Any], dtype: str) -> torch.Tensor:
        return torch.from_numpy(bits).to(device=device, dtype=getattr(torch, dtype))

    return convert


def to_numpy(bits: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Convert booleans or values to an array of type ``dtype``; float32 for bfloat16, which numpy lacks."""
    return bits.astype("float32" if dtype == "bfloat16" else dtype)


def as_answer(backend: str, device: torch.device, ratio: np.float64) -> Any:
    """A ratio as a getter gives it: itself, or a 0-d tensor of torch's default dtype on ``device``."""
    if backend == "numpy":
        return ratio
    return torch.tensor(float(ratio), dtype=torch.get_default_dtype(), device=device)
