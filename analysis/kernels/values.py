"""Frames as values: the function behind lazy arrays of what layers put out."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from analysis.kernels.booleans import read_spikes
from analysis.kernels.selecting.source import Source
from recorder.format.values import join_levels, scale_levels


def read_values(source: Source, block_frames: int, block_id: tuple[int, ...]) -> NDArray[Any]:
    """One block of the lazy array of values, in the layer's data type; otherwise as `read_spikes`."""
    dtype, values = source.commit.dtype, source.commit.values
    events = read_spikes(source, block_frames, block_id)
    if values is None:
        return scale_levels(events, 1, dtype)
    planes = {
        plane.name: read_spikes(source.of_bits((plane.name,)), block_frames, block_id)
        for plane in values.planes
    }
    return scale_levels(join_levels(events, planes), values.scale, dtype)
