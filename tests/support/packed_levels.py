"""What packed values stand for, by plain numpy."""

from __future__ import annotations

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
