"""Find the scale of which all values of an output are whole multiples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.format.values import MAX_LEVEL, scale_levels

# Of a scale that is no whole number, so many multiples at most: any few numbers are multiples of something,
# the sooner the fewer digits they have.
MAX_SCALED_LEVEL: Final = 255
_FEWER_LEVELS: Final = {"float16": 45, "bfloat16": 16}
# Values that differ from 0 and 1 by less than this do so by rounding, in half precision too.
ROUNDING: Final = 0.02


def find_scale(values: NDArray[Any], dtype: str) -> float | None:
    """The scale of which all values are whole multiples; None if there is none that tells anything.

    Whole numbers have the scale 1. Other values have the greatest scale that gives each of them back, by
    `scale_levels`, with at most 255 levels, or fewer in half precision. Zeros and ones but for rounding have
    none.

    Parameters
    ----------
    values : array
        Of booleans, integers or floats.
    dtype : str
        Data type of the layer's outputs, of which ``values`` may be a wider one.
    """
    numbers = np.unique(np.abs(values.astype(np.float64)))
    numbers = numbers[numbers != 0]
    if not np.isfinite(numbers).all() or not len(numbers):
        return None
    if (numbers == np.rint(numbers)).all():
        return 1.0 if numbers[-1] <= MAX_LEVEL else None
    most = _FEWER_LEVELS.get(dtype, MAX_SCALED_LEVEL)
    if len(numbers) > most or _is_rounding(numbers):
        return None
    for scale in _candidates(numbers):
        levels = np.rint(numbers / scale)
        if levels[-1] <= most and np.array_equal(scale_levels(levels, scale, dtype), numbers):
            return scale
    return None


def _is_rounding(numbers: NDArray[np.float64]) -> bool:
    """True if these are ones but for rounding, perhaps among zeros but for rounding."""
    near_one = np.abs(numbers - 1) < ROUNDING
    return bool(near_one.any() and (near_one | (numbers < ROUNDING)).all())


def _candidates(numbers: NDArray[np.float64]) -> Iterator[float]:
    """Scales of which ascending positive numbers may be multiples, the greatest first.

    Numbers that were rounded to their type are multiples of the unrounded scale: 1 / 3 and 2 / 3 in single
    precision are those of a third, which no float32 is. So the reciprocal of a whole number comes first.
    """
    least = float(numbers[0])
    for parts in range(1, MAX_SCALED_LEVEL + 1):
        scale = least / parts
        if round(1 / scale) >= 1 and abs(round(1 / scale) * scale - 1) < 1e-2:
            yield 1 / round(1 / scale)
        yield scale
