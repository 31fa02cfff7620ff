"""Frames as values: the function behind lazy arrays of what layers put out."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from analysis.kernels.booleans import read_bits, read_spikes
from analysis.kernels.selecting.source import Source, reader_of
from recorder.format.planes.values import join_levels, scale_levels


def read_values(source: Source, block_frames: int, block_id: tuple[int, ...]) -> NDArray[Any]:
    """One block of the lazy array of values, in the layer's data type; otherwise as `read_spikes`."""
    dtype, values, reader = source.commit.dtype, source.commit.values, reader_of(source)
    if values is None:
        return scale_levels(read_spikes(source, block_frames, block_id), 1, dtype)
    events, *planes = read_bits(source, block_frames, block_id, reader.bits_of_parts)
    levels = join_levels(events, dict(zip(reader.planes, planes, strict=True)))
    return scale_levels(levels, values.scale, dtype)
