"""Make spikes of values, and packed rows of spikes, in plain numpy.

`spikes_of` is the one place where values become bits.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.format.bits import Bools, Packed, pack_frames

_NUMBERS: Final = "biuf"
_FLOATS_OF_OTHERS: Final = ("bfloat16",)


class OtherValuesError(ValueError):
    """What is to be recorded holds values other than 0 and 1."""


def spikes_of(values: NDArray[Any], layer: str, first_step: int) -> Bools:
    """Where there are spikes.

    Parameters
    ----------
    values : array, shape [steps, samples, *neuron]
        Of booleans, integers or floats.
    layer : str
        Name of the layer, for errors.
    first_step : int
        Number of the first step, for errors.

    Returns
    -------
    bool array, same shape

    Raises
    ------
    OtherValuesError
        If a value is neither 0 nor 1; -0.0 is 0, and NaN is neither.
    """
    if values.dtype == np.bool_:
        # Of others' memory a boolean may be any byte.
        return np.not_equal(values.view(np.uint8), 0)
    if values.dtype.name in _FLOATS_OF_OTHERS:
        values = values.astype(np.float32)
    if values.dtype.kind not in _NUMBERS:
        raise OtherValuesError(
            f"layer {layer!r} has values of dtype {values.dtype}; expected booleans, integers or floats"
        )
    is_event: Bools = np.not_equal(values, 0)
    is_other: Bools = is_event & np.not_equal(values, 1)
    if is_other.any():
        raise _refused(values, is_other, layer, first_step)
    return is_event


def _refused(values: NDArray[Any], is_other: Bools, layer: str, first_step: int) -> OtherValuesError:
    step, sample, *neuron = (int(place[0]) for place in np.nonzero(is_other))
    shown = neuron[0] if len(neuron) == 1 else tuple(neuron)
    found = values[is_other]
    return OtherValuesError(
        f"layer {layer!r} has values other than 0 and 1, from {found.min()} to {found.max()} (dtype "
        f"{values.dtype}): {len(found)} of the {values.size} in steps {first_step} to "
        f"{first_step + len(values) - 1}, the first of them {found[0]}, of sample {sample}, neuron {shown}, "
        f"step {first_step + step}. Only spikes, 0 or 1, can be recorded so far: if a value counts as one "
        "spike from some height on, give `values >= height`; signals such as membrane potentials are none"
    )


class FramePacker:
    """Packs the frames of one layer to rows of eight, and keeps those that fill none for the next call.

    Parameters
    ----------
    pending : bool array, shape [fewer than 8, neurons]
        Frames that come before all others; they filled no row before.
    """

    def __init__(self, pending: Bools) -> None:
        self.pending = pending

    def pack(self, spikes: Bools) -> tuple[Packed, Bools]:
        """Pack frames behind the pending ones; changes nothing.

        Parameters
        ----------
        spikes : bool array, shape [frames, neurons]

        Returns
        -------
        uint8 array, shape [rows, neurons]
            Whole rows.
        bool array, shape [fewer than 8, neurons]
            What is pending then.
        """
        # As many frames as make the pending ones a row are packed apart: the others need not be copied.
        missing = min(-len(self.pending) % 8, len(spikes))
        first, rest = spikes[:missing], spikes[missing:]
        begun = np.concatenate([self.pending, first]) if len(self.pending) else first
        if len(begun) % 8:
            return np.empty((0, spikes.shape[1]), np.uint8), begun
        whole = len(rest) // 8 * 8
        rows = pack_frames(rest[:whole])
        if len(begun):
            rows = np.concatenate([pack_frames(begun), rows])
        return rows, rest[whole:].copy()
