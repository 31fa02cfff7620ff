"""Parse what a commit record says of the part that is kept of a layer, or of a signal."""

from __future__ import annotations

import math
from typing import Any

from recorder.format.parsing.fields import Fields, short
from recorder.format.record.metadata import MAX_ROWS
from recorder.format.record.parts import COUNTS, MAX_FLAT_NEURONS, Kept, LayerPart


def parse_part(fields: Fields, shape: tuple[int, ...]) -> LayerPart | None:
    """The part that is kept of a layer of this neuron shape; None where it is the whole."""
    record = fields.record
    if not {"neurons", "samples", "trials_every", "keep"} & record.keys():
        return None
    if record.get("keep", COUNTS) != COUNTS:
        fields.problem("keep", f"is {short(record['keep'])}, expected {COUNTS!r}")
    return LayerPart(
        shape,
        neurons=parse_neurons(fields, shape) if "neurons" in record else None,
        samples=fields.integer("samples", 1, MAX_ROWS) if "samples" in record else None,
        trials_every=fields.integer("trials_every", 2, MAX_ROWS) if "trials_every" in record else 1,
        counts_only="keep" in record,
    )


def parse_neurons(fields: Fields, shape: tuple[int, ...]) -> Kept:
    """Which neurons are kept: begin, end and stride along each axis, or flat indices, ascending."""
    items = fields.items("neurons", MAX_FLAT_NEURONS)
    if items and all(isinstance(item, list) for item in items):
        return _parse_ranges(fields, items, shape)
    flat: list[int] = []
    for index, item in enumerate(items):
        least = flat[-1] + 1 if flat else 0
        flat.append(fields.item_integer("neurons", index, item, least, max(math.prod(shape) - 1, least)))
    if not flat or flat[-1] >= math.prod(shape):
        fields.problem("neurons", f"are {short(items)}, expected some of {math.prod(shape)}")
        return None
    return tuple(flat)


def _parse_ranges(fields: Fields, items: list[list[Any]], shape: tuple[int, ...]) -> Kept:
    if len(items) != len(shape):
        fields.problem("neurons", f"are along {len(items)} axes, expected {len(shape)}")
        return None
    ranges = []
    for axis, (item, length) in enumerate(zip(items, shape, strict=True)):
        if len(item) != 3 or not all(type(number) is int for number in item):
            fields.problem(f"neurons[{axis}]", f"is {short(item)}, expected begin, end and stride")
            return None
        begin, end, stride = item
        if not (0 <= begin < end <= length and 1 <= stride <= length):
            fields.problem(f"neurons[{axis}]", f"is {short(item)}, expected places among {length}")
            return None
        ranges.append(range(begin, end, stride))
    return tuple(ranges)
