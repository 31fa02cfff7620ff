"""Make packed rows of spikes and values, in plain numpy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.format.bits import Bools, Packed, pack_frames
from recorder.format.planes.scales import find_scale
from recorder.format.planes.values import MAX_LEVEL, PackedValues, Pending, pack_levels, scale_levels
from recorder.format.record.metadata import ValuesCommit

_NUMBERS: Final = "biuf"
_FLOATS_OF_OTHERS: Final = ("bfloat16",)


class OtherValuesError(ValueError):
    """What is to be recorded holds values that are no spikes, nor whole multiples of one scale."""


@dataclass(frozen=True)
class LayerState:
    """A layer between two packings.

    Attributes
    ----------
    pending : bool array, or array of levels, shape [fewer than 8, neurons]
        Frames that fill no row yet.
    dtype : str
        Data type of the layer, in which values are given back.
    values : ValuesCommit or None
        Scale and range of levels so far, of a layer that has had other values than 0 and 1.
    has_fired : bool
        Whether there was anything but silence.
    """

    pending: Pending
    dtype: str
    values: ValuesCommit | None = None
    has_fired: bool = False


def pack_values(
    values: NDArray[Any], state: LayerState, layer: str, first_step: int
) -> tuple[Packed | PackedValues, LayerState]:
    """Pack values behind those that are pending; the one place where values become bits.

    Parameters
    ----------
    values : array, shape [steps, samples, *neuron]
        Of booleans, integers or floats.
    state : LayerState
    layer : str
        Name of the layer, for errors.
    first_step : int
        Number of the first step, for errors.

    Returns
    -------
    uint8 array, shape [rows, neurons], or PackedValues
        Whole rows.
    LayerState
        Of the layer then.

    Raises
    ------
    OtherValuesError
        If values are no whole multiples of one scale; -0.0 is 0, and NaN is no number.
    """
    values = _as_numbers(values, layer)
    is_event: Bools = np.not_equal(values, 0)
    is_other: Bools = is_event & np.not_equal(values, 1)
    neurons = state.pending.shape[1]
    has_fired = state.has_fired or bool(is_event.any())
    if state.values is None and not is_other.any():
        rows, pending = _pack_spikes(state.pending, is_event.reshape(-1, neurons))
        return rows, replace(state, pending=pending, has_fired=has_fired)
    known = state.values
    if known is None:
        scale = find_scale(values[is_event], state.dtype)
        if scale is None or (scale != 1 and state.has_fired):
            raise _refused(values, is_other, layer, first_step, None, state.dtype)
        known = ValuesCommit(scale, 0, int(state.has_fired))
    levels = _levels_of(values, known.scale, state.dtype, layer, first_step).reshape(-1, neurons)
    ends = min(known.least, int(levels.min())), max(known.most, int(levels.max()))
    frames = np.concatenate([state.pending.astype(np.int16), levels])
    whole = len(frames) // 8 * 8
    known = ValuesCommit(known.scale, *ends)
    return pack_levels(frames[:whole]), LayerState(frames[whole:].copy(), state.dtype, known, has_fired)


def _as_numbers(values: NDArray[Any], layer: str) -> NDArray[Any]:
    if values.dtype == np.bool_:
        # Of others' memory a boolean may be any byte.
        return np.not_equal(values.view(np.uint8), 0)
    if values.dtype.name in _FLOATS_OF_OTHERS:
        values = values.astype(np.float32)
    if values.dtype.kind not in _NUMBERS:
        raise OtherValuesError(
            f"layer {layer!r} has values of dtype {values.dtype}; expected booleans, integers or floats"
        )
    return values


def _levels_of(
    values: NDArray[Any], scale: float, dtype: str, layer: str, first_step: int
) -> NDArray[np.int16]:
    with np.errstate(invalid="ignore", over="ignore"):
        multiples = np.rint(np.divide(values, scale, dtype=np.float64))
        is_other = ~(np.abs(multiples) <= MAX_LEVEL)
        levels = np.where(is_other, 0, multiples).astype(np.int16)
    is_other |= scale_levels(levels, scale, dtype) != values
    if is_other.any():
        raise _refused(values, is_other, layer, first_step, scale, dtype)
    return levels


def _refused(
    values: NDArray[Any], is_other: Bools, layer: str, first_step: int, scale: float | None, dtype: str
) -> OtherValuesError:
    step, sample, *neuron = (int(place[0]) for place in np.nonzero(is_other))
    shown = neuron[0] if len(neuron) == 1 else tuple(neuron)
    found = values[is_other]
    expected = "0 and 1, or whole multiples of one scale" + ("" if scale is None else f", {scale:g} so far")
    kept = "" if values.dtype.name == dtype else f" Values of the layer are kept as {dtype}, as its first."
    return OtherValuesError(
        f"layer {layer!r} has values other than {expected}: from {found.min()} to {found.max()} (dtype "
        f"{values.dtype}), {len(found)} of the {values.size} in steps {first_step} to "
        f"{first_step + len(values) - 1}, the first of them {found[0]}, of sample {sample}, neuron {shown}, "
        f"step {first_step + step}.{kept} If a value counts as one spike from some height on, give "
        "`values >= height`; analog values such as membrane potentials are no spikes"
    )


def _pack_spikes(pending: Bools, spikes: Bools) -> tuple[Packed, Bools]:
    """Pack booleans, [frames, neurons], behind pending ones: whole rows, and what is pending then."""
    # As many frames as make the pending ones a row are packed apart: the others need not be copied.
    missing = min(-len(pending) % 8, len(spikes))
    first, rest = spikes[:missing], spikes[missing:]
    begun = np.concatenate([pending, first]) if len(pending) else first
    if len(begun) % 8:
        return np.empty((0, spikes.shape[1]), np.uint8), begun
    whole = len(rest) // 8 * 8
    rows = pack_frames(rest[:whole])
    if len(begun):
        rows = np.concatenate([pack_frames(begun), rows])
    return rows, rest[whole:].copy()
