"""Find the scale of which all values of an output are whole multiples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.format.planes.values import MAX_LEVEL, scale_levels

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
    signed = _unlike_zero(values)
    numbers = np.unique(np.abs(signed))
    if not np.isfinite(numbers).all() or not len(numbers):
        return None
    if (numbers == np.rint(numbers)).all():
        return 1.0 if numbers[-1] <= MAX_LEVEL and _are_given_back(signed, 1.0, dtype) else None
    most = _FEWER_LEVELS.get(dtype, MAX_SCALED_LEVEL)
    if len(numbers) > most or _is_rounding(numbers):
        return None
    for scale in _candidates(numbers):
        if round(numbers[-1] / scale) <= most and _are_given_back(signed, scale, dtype):
            return scale
    return None


def refine_scale(values: NDArray[Any], dtype: str, known: float, least: int, most: int) -> float | None:
    """A scale that is the known one but for rounding, and has these values among its multiples, too.

    A first output that holds one level tells the scale no better than its data type rounds: 1 / 7 in single
    precision is a seventh and a float32, and of the two only one has what comes next.

    Parameters
    ----------
    values, dtype
        As of `find_scale`.
    known : float
        The scale so far.
    least, most : int
        Range of the levels so far, which the new scale gives back as the known one does.

    Returns
    -------
    float, or None
    """
    signed = _unlike_zero(values)
    if known == 1 or not np.isfinite(signed).all() or most - least > MAX_SCALED_LEVEL:
        return None
    before = np.arange(least, most + 1)
    given = scale_levels(before, known, dtype)
    levels = np.maximum(np.rint(np.abs(signed) / known), 1)
    for scale in [float(scale_levels(np.ones(1), known, dtype)[0]), *np.abs(signed) / levels]:
        whole = 1 / max(round(1 / scale), 1)
        for candidate in (scale, whole):
            is_near = abs(candidate / known - 1) < 1e-2
            if (
                is_near
                and np.array_equal(scale_levels(before, candidate, dtype), given)
                and _are_given_back(signed, candidate, dtype)
            ):
                return float(candidate)
    return None


def _unlike_zero(values: NDArray[Any]) -> NDArray[np.float64]:
    """All different values but 0, ascending; most slots are silent, and need not be sorted."""
    others = values[values != 0]
    # Small whole numbers are counted, and need not be sorted either.
    with np.errstate(invalid="ignore", over="ignore"):
        small = others.astype(np.int8)
    if np.array_equal(small, others):
        return (np.flatnonzero(np.bincount(small.astype(np.int64) + 128)) - 128).astype(np.float64)
    # Of their own type, which is the sooner sorted the smaller it is.
    return np.unique(others).astype(np.float64)


def _are_given_back(values: NDArray[np.float64], scale: float, dtype: str) -> bool:
    """True if the levels of values give these back."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.array_equal(scale_levels(np.rint(values / scale), scale, dtype), values)


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
