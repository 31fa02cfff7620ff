"""Values other than 0 and 1 as bits: whole multiples of one scale become planes beside the events, and back.

A *level* is a value ÷ the scale of its layer, a whole number. Events are the slots whose level is not 0.
Plane ``k`` is bit ``k`` of |level| - 1, and the plane ``sign`` is true where a level is negative. So a layer
of zeros and ones has no planes, one of levels -1, 0 and 1 has ``sign`` only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recorder.format.bits import Bools, Packed, blocks_of_rows, pack_frames, pack_whole_rows

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
    """Packed rows of a layer with values.

    Attributes
    ----------
    spikes : uint8 array, shape [rows, neurons]
        Events.
    planes : mapping of str to uint8 array, shape [rows, neurons]
        The planes that are not silent in these rows, by name.
    """

    spikes: Packed
    planes: Mapping[str, Packed]

    def __len__(self) -> int:
        return len(self.spikes)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self.spikes.nbytes * (1 + len(self.planes))


def level_dtype(most: int) -> np.dtype[Any]:
    """Data type in which levels up to ``most`` wait to be packed."""
    return np.dtype(np.int8 if most <= np.iinfo(np.int8).max else np.int16)


def planes_of(least: int, most: int) -> int:
    """Number of planes that levels of this range need."""
    return max(max(most, -least) - 1, 0).bit_length() + (least < 0)


def pack_levels(levels: Levels) -> PackedValues:
    """Pack frames of levels, [frames, neurons], into rows of eight, the last row padded with silence."""
    least, most = int(levels.min(initial=0)), int(levels.max(initial=0))
    planes = planes_of(0, max(most, -least))
    frames, neurons = levels.shape
    rows = np.empty((planes + 2, -(-frames // 8), neurons), np.uint8)
    for some_rows in blocks_of_rows(rows.shape[1], neurons):
        some = levels[8 * some_rows.start : 8 * some_rows.stop]
        pack = pack_frames if len(some) % 8 else pack_whole_rows
        events, *of_planes, signs = rows[:, some_rows]
        are_events = some != 0
        events[...] = pack(are_events)
        signs[...] = pack(some < 0) if least < 0 else 0
        above = np.abs(some) - are_events
        for plane, out in enumerate(of_planes):
            out[...] = pack((above & (1 << plane)) != 0)
    names = *map(str, range(planes)), SIGN
    events, *rows_of_planes = rows
    found = {name: plane for name, plane in zip(names, rows_of_planes, strict=True) if plane.any()}
    return PackedValues(events, found)


def pending_rows(frames: Pending) -> tuple[Packed | None, Mapping[str, Packed]]:
    """Frames that fill no row, as one packed row each of events and of planes; None if there are none.

    Parameters
    ----------
    frames : bool array, or array of levels, shape [fewer than 8, neurons]
    """
    if len(frames) == 0:
        return None, {}
    if frames.dtype == np.bool_:
        return np.packbits(frames, axis=0)[0], {}
    packed = pack_levels(frames.astype(np.int16))
    return packed.spikes[0], {name: rows[0] for name, rows in packed.planes.items()}


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
