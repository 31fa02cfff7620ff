"""Figures as the page carries them: exact, and in as few bytes as they take.

Arrays of numbers travel in base64: whole numbers in the fewest bytes that hold them, quotients of these as
such wherever the page can divide them again to the very same figure, all others as 64-bit floats. Names along
axes are kept once, however many arrays have them.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from analysis.display import printable

_LARGEST_EXACT: Final = 2**53
_UNSIGNED: Final = ("u1", "u2", "u4")
# Attributes of answers that say where their figures come from.
_NOTED: Final = ("formula", "source", "not_covered")


@dataclass(frozen=True, eq=False)
class Figures:
    """An answer in memory, flattened to what a table of it holds.

    Attributes
    ----------
    name, long_name, units : str
    dims : tuple of str
    coords : mapping of str to (tuple of str, list)
        Of dimensions, and of what lies along them.
    values : array, of as many axes as there are dimensions
    divisor : int
        If it is not 0, values are whole numbers divided by it.
    notes : tuple of (str, str)
        Where figures come from, such as a formula, with what kind of note it is.
    """

    name: str
    long_name: str
    units: str
    dims: tuple[str, ...]
    coords: Mapping[str, tuple[tuple[str, ...], list[Any]]]
    values: NDArray[Any]
    divisor: int = 0
    notes: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, answer: xr.DataArray, *, divisor: int = 0) -> Figures:
        """All of an answer."""
        dims = tuple(map(str, answer.dims))
        coords: dict[str, tuple[tuple[str, ...], list[Any]]] = {}
        for name in dims:
            values = answer.coords[name].values if name in answer.coords else np.arange(answer.sizes[name])
            coords[name] = ((name,), values.tolist())
        for key, coordinate in answer.coords.items():
            if str(key) not in dims:
                along = tuple(map(str, coordinate.dims))
                coords[str(key)] = (along, np.ravel(coordinate.values).tolist())
        about = answer.attrs
        names = (
            "" if answer.name is None else str(answer.name),
            str(about.get("long_name", "")),
            str(about.get("units", "1")),
        )
        noted = {"": answer.attrs, **{f", {name}": each.attrs for name, each in answer.coords.items()}}
        notes = [(key + of, each[key]) for of, each in noted.items() for key in _NOTED if each.get(key)]
        shown = [(key, "; ".join(text) if isinstance(text, list) else str(text)) for key, text in notes]
        return cls(*names, dims, coords, answer.values, divisor, tuple(shown))

    @classmethod
    def of_neurons(
        cls, answer: xr.DataArray, axes: Sequence[str], chosen: NDArray[np.int64] | None = None
    ) -> Figures:
        """An answer whose last axes are those of neurons, put into one: ``neuron``, by place there."""
        whole = Figures.of(answer)
        if not axes:  # of a layer that is one neuron
            coords = {**whole.coords, "neuron": (("neuron",), [0])}
            return replace(whole, dims=(*whole.dims, "neuron"), coords=coords, values=whole.values[..., None])
        if len(axes) == 1 and chosen is None:
            return whole
        shape = tuple(answer.sizes[axis] for axis in axes)
        count = math.prod(shape)
        places = np.arange(count) if chosen is None else chosen
        others = whole.dims[: len(whole.dims) - len(axes)]
        lead = whole.values.shape[: len(others)]
        coords = {name: whole.coords[name] for name in others}
        along = np.unravel_index(places, shape)
        if len(axes) > 1:
            coords["neuron"] = (("neuron",), places.tolist())
        for axis, place in zip(axes, along, strict=True):
            coords[axis] = (("neuron",), np.asarray(whole.coords[axis][1])[place].tolist())
        name = "neuron" if len(axes) > 1 else axes[0]
        coords = {
            key: (tuple(name if d in axes else d for d in dims), v) for key, (dims, v) in coords.items()
        }
        values = whole.values.reshape((*lead, count))[..., places]
        return cls(whole.name, whole.long_name, whole.units, (*others, name), coords, values)


@dataclass
class Pool:
    """Lists that several figures have in common, each kept once."""

    lists: list[list[Any]] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict)

    def place_of(self, values: list[Any]) -> int:
        """Where a list is kept."""
        shown = [_json_value(value) for value in values]
        key = json.dumps(shown)
        if key not in self._places:
            self._places[key] = len(self.lists)
            self.lists.append(shown)
        return self._places[key]

    def packed(self, figures: Figures) -> dict[str, Any]:
        """Figures as JSON values."""
        coords = {
            name: {"dims": list(dims), "list": self.place_of(values)}
            for name, (dims, values) in figures.coords.items()
        }
        return {
            "name": figures.name,
            "about": figures.long_name,
            "units": figures.units,
            "dims": list(figures.dims),
            "shape": list(figures.values.shape),
            "coords": coords,
            "notes": [[kind.replace("_", " "), printable(text)] for kind, text in figures.notes],
            **packed_numbers(figures.values, figures.divisor),
        }


def _json_value(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, int) and abs(value) > _LARGEST_EXACT:
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def packed_numbers(values: NDArray[Any], divisor: int = 0) -> dict[str, Any]:
    """Numbers in base64, little-endian, with their type; and what they are divided by, if that is exact."""
    flat = np.ravel(values)
    if flat.dtype == np.bool_:
        return {"type": "bits", "data": _base64(np.packbits(flat, bitorder="little"))}
    if divisor and flat.dtype.kind == "f":
        whole = np.nan_to_num(np.rint(flat * divisor), nan=-1.0)
        if len(whole) and whole.min() >= 0 and np.array_equal(whole / divisor, flat):
            return {**packed_numbers(whole.astype(np.int64)), "divisor": divisor}
    if flat.dtype.kind in "iu" and len(flat) and int(flat.min()) >= 0:
        for kind in _UNSIGNED:
            if int(flat.max()) <= np.iinfo(kind).max:
                return {"type": kind, "data": _base64(flat.astype(f"<{kind}"))}
    if flat.dtype.kind in "iu" and len(flat) and int(np.abs(flat).max()) > _LARGEST_EXACT:
        return {"type": "text", "data": [str(value) for value in flat.tolist()]}
    return {"type": "f8", "data": _base64(flat.astype("<f8"))}


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")
