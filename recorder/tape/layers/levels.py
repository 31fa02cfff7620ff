"""Read the levels of a layer, of which its values are made, from its events and planes; and add them up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from recorder.format.bits import Packed, count_per_neuron, unpack_trains
from recorder.format.planes.values import SIGN, join_levels
from recorder.tape.layers.layer_reading import LayerReader


def read_levels(
    layer: LayerReader, first: int, last: int, read: Callable[[int], Sequence[Packed]] | None = None
) -> NDArray[np.int16]:
    """Levels of frames ``first`` to ``last`` (exclusive), shape [frames, *neuron].

    `recorder.format.planes.values` says what levels are. ``read``, if given, is called instead of
    `LayerReader.bits_of_chunk`.
    """
    size = layer.plan.chunk_frames
    levels = np.empty((last - first, layer.plan.neurons), np.int16)
    for chunk in range(first // size, -(-last // size)):
        begin, end = max(first, chunk * size), min(last, (chunk + 1) * size)
        inside = begin - chunk * size, end - chunk * size
        trains = (read or layer.bits_of_chunk)(chunk)
        events, *planes = (unpack_trains(each, *inside) for each in trains)
        levels[begin - first : end - first] = join_levels(
            events, dict(zip(layer.planes, planes, strict=True))
        )
    return levels.reshape(last - first, *layer.plan.neuron_shape)


def sum_values(layer: LayerReader) -> float:
    """Sum of the values of all committed slots of a layer, without those marked lost.

    A whole number where all values are.
    """
    scale = layer.commit.values.scale if layer.commit.values else 1
    levels = sum_levels(layer)
    return levels if scale == 1 else levels * scale


def sum_levels(layer: LayerReader) -> int:
    """Sum of the levels of all committed slots of a layer, without those marked lost.

    `recorder.format.planes.values` says what levels are. Counts are enough, but where some levels are
    negative and some larger than 1: then chunks are read.
    """
    total = count_bits(layer)
    sign = layer.planes.get(SIGN)
    if sign is not None:
        total -= 2 * count_bits(sign)
    for name, plane in layer.planes.items():
        if name != SIGN:
            negative = 0 if sign is None else _count_both(plane, sign)
            total += (count_bits(plane) - 2 * negative) << int(name)
    return total


def count_bits(layer: LayerReader) -> int:
    """Number of bits of events or a plane that are true, without those in frames marked lost."""
    plan, rows = layer.plan, layer.commit.counts_checksums.rows
    chunks = range(rows * plan.block_chunks, plan.chunk_count(layer.frames))
    behind = sum(int(count_per_neuron(trains).sum()) for trains in layer.kept_chunks(chunks))
    return int(layer.sum_counts(0, rows).sum()) + behind


def _count_both(one: LayerReader, other: LayerReader) -> int:
    """Number of slots in which bits of both are true."""
    first = max(one.first_chunk, other.first_chunk)
    chunks = range(first, one.plan.chunk_count(one.frames))
    both = zip(one.kept_chunks(chunks), other.kept_chunks(chunks), strict=True)
    return sum(int(count_per_neuron(trains & others).sum()) for trains, others in both)
