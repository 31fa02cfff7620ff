"""Values other than 0 and 1 as bits: whole multiples of one scale become planes beside the events, and back.

A *level* is a value ÷ the scale of its layer, a whole number. Events are the slots whose level is not 0.
Plane ``k`` is bit ``k`` of |level| - 1, and the plane ``sign`` is true where a level is negative. So a layer
of zeros and ones has no planes, one of levels -1, 0 and 1 has ``sign`` only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recorder.format.bits import Bools, Packed, blocks_of_rows, count_bits, pack_frames, pack_whole_rows
from recorder.format.planes.at_events import PlaneAtEvents, neurons_of_events

SIGN: Final = "sign"
# Planes of magnitude at most, so that a level is a 16-bit number.
MAX_PLANES: Final = 15
MAX_LEVEL: Final = 2**MAX_PLANES - 1
PLANES: Final = (*map(str, range(MAX_PLANES)), SIGN)

# int8 where all levels fit, else int16.
Levels: TypeAlias = NDArray[np.signedinteger[Any]]
# Frames that fill no row: booleans, or levels of a layer with values.
Pending: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class PackedValues:
    """Packed rows of a layer, which may have values.

    Attributes
    ----------
    spikes : uint8 array, shape [rows, neurons]
        Events.
    planes : mapping of str to PlaneAtEvents
        The planes that are not silent in these rows, by name.
    counted : int or None
        Number of events, where they were counted.
    """

    spikes: Packed
    planes: Mapping[str, PlaneAtEvents] = field(default_factory=dict)
    counted: int | None = None

    @classmethod
    def of(cls, rows: Packed | PackedValues) -> PackedValues:
        """Rows of zeros and ones, or of values, as the latter."""
        return rows if isinstance(rows, cls) else cls(rows)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.spikes)

    @cached_property
    def events(self) -> int:
        """Number of events."""
        return count_bits(self.spikes) if self.counted is None else self.counted

    @property
    def nbytes(self) -> int:
        """Bytes of rows and planes."""
        size_bytes = self.spikes.nbytes
        for bits, counts in self.planes.values():
            size_bytes += bits.nbytes + counts.nbytes
        return size_bytes

    def split(self, row: int) -> tuple[PackedValues, PackedValues]:
        """The first so many rows, and all others; what is all of them is not copied."""
        if row >= len(self):
            return self, PackedValues(self.spikes[row:])
        before, behind = PackedValues(self.spikes[:row]), PackedValues(self.spikes[row:])
        if not self.planes:
            return before, behind
        first, neurons = before.events, self.spikes.shape[1]
        of_events = neurons_of_events(before.spikes)
        planes: tuple[dict[str, PlaneAtEvents], dict[str, PlaneAtEvents]] = {}, {}
        for name, plane in self.planes.items():
            each = np.unpackbits(plane.bits, count=self.events).view(np.bool_)
            bits = each[:first], each[first:]
            counts = np.bincount(of_events[bits[0]], minlength=neurons).astype(plane.counts.dtype)
            for some, at_events, ones in zip(planes, bits, (counts, plane.counts - counts), strict=True):
                if ones.any():
                    some[name] = PlaneAtEvents(np.packbits(at_events), ones)
        return replace(before, planes=planes[0]), replace(behind, planes=planes[1])


def level_dtype(most: int) -> np.dtype[Any]:
    """Data type in which levels up to ``most`` wait to be packed."""
    return np.dtype(np.int8 if most <= np.iinfo(np.int8).max else np.int16)


def planes_of(least: int, most: int) -> int:
    """Number of planes that levels of this range need."""
    return max(max(most, -least) - 1, 0).bit_length() + (least < 0)


def pack_levels(levels: Levels) -> PackedValues:
    """Pack frames of levels, [frames, neurons], into rows of eight, the last row padded with silence."""
    least, most = int(levels.min(initial=0)), int(levels.max(initial=0))
    names = [*map(str, range(planes_of(0, max(most, -least)))), *((SIGN,) if least < 0 else ())]
    frames, neurons = levels.shape
    rows = np.empty((-(-frames // 8), neurons), np.uint8)
    counts, found = np.zeros((len(names), neurons), np.int64), [levels[:0, :0].reshape(-1)]
    for some_rows in blocks_of_rows(len(rows), neurons):
        some = levels[8 * some_rows.start : 8 * some_rows.stop]
        are_events = some != 0
        rows[some_rows] = (pack_frames if len(some) % 8 else pack_whole_rows)(are_events)
        if names:
            of_events = np.flatnonzero(are_events)
            at_events = some.reshape(-1)[of_events]
            of_events %= neurons
            found.append(at_events)
            for place, name in enumerate(names):
                counts[place] += np.bincount(of_events[_plane_of(at_events, name)], minlength=neurons)
    at_events = np.concatenate(found)
    return PackedValues(
        rows,
        {
            name: PlaneAtEvents(np.packbits(_plane_of(at_events, name)), of_neurons(count, frames))
            for name, count in zip(names, counts, strict=True)
            if count.any()
        },
    )


def _plane_of(levels: Levels, name: str) -> Bools:
    """What a plane says of levels that are not 0."""
    is_true: Bools = levels < 0 if name == SIGN else ((np.abs(levels) - 1) & (1 << int(name))) != 0
    return is_true


def of_neurons(counts: NDArray[Any], frames: int) -> NDArray[np.unsignedinteger[Any]]:
    """Counts of each neuron in so many frames, of the smallest data type that holds them."""
    return counts.astype(_count_dtype(frames), copy=False)


@cache
def _count_dtype(most: int) -> np.dtype[Any]:
    return np.min_scalar_type(most)


def pending_rows(frames: Pending) -> tuple[Packed | None, Mapping[str, PlaneAtEvents]]:
    """Frames that fill no row, as one packed row of events, and their planes; None if there are none.

    Parameters
    ----------
    frames : bool array, or array of levels, shape [fewer than 8, neurons]
    """
    if len(frames) == 0:
        return None, {}
    if frames.dtype == np.bool_:
        return np.packbits(frames, axis=0)[0], {}
    packed = pack_levels(frames)
    return packed.spikes[0], packed.planes


def join_levels(events: Bools, planes: Mapping[str, Bools]) -> NDArray[np.int16]:
    """Levels from events and planes, all of one shape; planes are of no meaning where there is no event."""
    levels = events.astype(np.int16)
    for name, plane in planes.items():
        if name != SIGN:
            levels += (plane & events).astype(np.int16) << np.int16(name)
    if SIGN in planes:
        np.negative(levels, out=levels, where=planes[SIGN])
    return levels


def scale_levels(levels: NDArray[Any], scale: float, dtype: str) -> NDArray[Any]:
    """Values of these levels, or booleans, in a data type; float32 for bfloat16, which numpy lacks.

    A product is rounded once, from float64. So it is the number that the layer put out: capture accepts a
    value only if this gives it back.
    """
    values = levels if scale == 1 else levels * np.float64(scale)
    return _round_to_bfloat16(values.astype(np.float32)) if dtype == "bfloat16" else values.astype(dtype)


def _round_to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest numbers of half the bits, ties to even; as float32."""
    bits = values.view(np.uint32)
    rounded: NDArray[np.uint32] = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)


def in_order(planes: Iterable[str]) -> list[str]:
    """Names of planes in the order in which they are listed: by place, ``sign`` last."""
    return sorted(planes, key=PLANES.index)
