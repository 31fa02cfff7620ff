"""What packed values stand for, by plain numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.format.planes.values import PackedValues


def levels_of(packed: PackedValues) -> NDArray[np.int64]:
    """Levels of packed rows, [8 * rows, neurons]; what they are said to hold is looked at, too."""
    events = np.unpackbits(packed.spikes, axis=0).view(np.bool_)
    assert packed.events == np.count_nonzero(events)
    levels, signs = events.astype(np.int64), np.ones(packed.events, np.int64)
    for name, plane in packed.planes.items():
        assert len(plane.bits) == -(-packed.events // 8)
        each = np.unpackbits(plane.bits)
        assert not each[packed.events :].any()
        each = each[: packed.events].astype(np.int64)
        whole = np.zeros_like(levels)
        whole[events] = each
        np.testing.assert_array_equal(whole.sum(axis=0), plane.counts)
        assert each.any()
        if name == "sign":
            signs -= 2 * each
        else:
            levels[events] += each << int(name)
    levels[events] *= signs
    return levels


def assert_packed(packed: PackedValues, levels: NDArray[Any]) -> None:
    """Fail if packed values are not these levels, [frames, neurons], and silence up to whole rows."""
    found = levels_of(packed)
    np.testing.assert_array_equal(found[: len(levels)], levels)
    assert not found[len(levels) :].any()


def pieces_of_bits(
    lengths: list[tuple[int, bool]],
) -> tuple[list[tuple[NDArray[np.uint8] | None, int]], NDArray[np.bool_]]:
    """Pieces of so many bits, of which some say nothing, and all their bits one behind the other."""
    random = np.random.default_rng(0)
    pieces = [random.random(count) < (0.5 if is_there else 0) for count, is_there in lengths]
    packed: list[tuple[NDArray[np.uint8] | None, int]] = [
        # A piece may come with bytes behind its own.
        (np.append(np.packbits(piece), np.uint8(0)) if is_there else None, count)
        for piece, (count, is_there) in zip(pieces, lengths, strict=True)
    ]
    return packed, np.concatenate([np.empty(0, np.bool_), *pieces])


def assert_joined(
    join: Callable[[list[tuple[NDArray[np.uint8] | None, int]], NDArray[np.uint8]], int],
    lengths: list[tuple[int, bool]],
    more: int,
) -> None:
    """Pieces of bits are joined into memory that has so many bytes more."""
    pieces, whole = pieces_of_bits(lengths)
    out = np.full(-(-len(whole) // 8) + more, 255, np.uint8)
    assert join(pieces, out) == len(whole)
    np.testing.assert_array_equal(np.unpackbits(out), np.pad(whole, (0, 8 * len(out) - len(whole))))
