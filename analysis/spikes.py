"""The spikes themselves, as a lazy boolean array with the step, sample, trial and label of each frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from numpy.typing import NDArray

from analysis.arguments import QuestionError
from analysis.kernels.booleans import (
    COORDINATES,
    column_dtype,
    column_values,
    exact_dtype,
    kept_blocks,
    read_column,
    read_coordinate,
    read_spikes,
    show_missing,
)
from analysis.kernels.selecting.source import Source, stored_places
from analysis.kernels.values import read_values
from analysis.questions import shown_name
from recorder.format import ChunkPlan
from recorder.format.columns import KEYS
from recorder.format.layout import neuron_dimensions
from recorder.format.record.metadata import ColumnCommit
from spiketape_worker import Parcel

# Booleans in a block, and frames in one: coordinates have an element for each.
BLOCK_BYTES: Final = 64 * 2**20
BLOCK_FRAMES: Final = 2**21
# A lazy array costs some hundred bytes for each of its blocks.
MAX_BLOCKS: Final = 2**22

_LONG_NAMES = {"step": "time step", "sample": "sample of the batch", "trial": "trial, -1 for none"}


def lazy_values(sources: Sequence[Source], names: Sequence[str]) -> xr.DataArray:
    """Values of the selected frames of a layer, as its module put them out; otherwise as `lazy_spikes`.

    In the data type of the output; float32 in place of bfloat16, which numpy lacks. Of several recordings in
    the type that holds all of theirs.
    """
    return lazy_frames(sources, names, _laid_values)


def lazy_spikes(sources: Sequence[Source], names: Sequence[str]) -> xr.DataArray:
    """Spikes of the selected frames of a layer, recording after recording.

    Parameters
    ----------
    sources : sequence of Source
        The layer in each recording.
    names : sequence of str
        Names of the recordings, for the coordinate ``recording``, which there is where they are several.

    Returns
    -------
    xarray.DataArray
        Lazy (dask) booleans, dimensions ``("frame", <neuron dimensions>)``. Coordinates ``step``,
        ``sample``, ``trial`` and one for each column of the trials (``label``) lie on ``frame``, lazy too.
        Whole numbers that some frame lacks become float64 with NaN, or objects (ints and None) where float64
        does not have all of them; columns of different kinds in several recordings become objects. A column
        whose name is taken, such as ``step``, is ``trial_step``, as in all answers. They are no indexes; to
        narrow them without reading, use ``recording.select``.
    """
    return lazy_frames(sources, names, _laid)


@dataclass(frozen=True)
class Laid:
    """How the frames of a source lie in a lazy array.

    Attributes
    ----------
    name, long_name : str
    dtype : dtype
    task : callable
        Reads a block: given ``source``, ``block_frames`` and ``block_id``.
    block_frames : int
        Frames of the layer, or signal, for which a block stands.
    frames : int
        All of its frames.
    dimensions : tuple of str
        Names of the neuron axes.
    lengths : tuple of tuple of int
        Lengths of the blocks along each of them.
    coordinates : mapping of str to array
        Indices in the whole layer along neuron axes, where not all are there.
    kept : mapping of str to array, optional
        Places along neuron axes, where some of what the task gives are to be kept.
    """

    name: str
    long_name: str
    dtype: np.dtype[Any]
    task: Callable[..., Any]
    block_frames: int
    frames: int
    dimensions: tuple[str, ...]
    lengths: tuple[tuple[int, ...], ...]
    coordinates: Mapping[str, Any] = field(default_factory=dict)
    kept: Mapping[str, Any] | None = None


def lazy_frames(
    sources: Sequence[Source], names: Sequence[str], lay: Callable[[Source], Laid]
) -> xr.DataArray:
    """Something of the selected frames, recording after recording, with what belongs to each frame."""
    parts = [_of_one(source, _columns_shown(source), lay(source)) for source in sources]
    if len(parts) == 1:
        return parts[0]
    frames = [part.sizes["frame"] for part in parts]
    coordinates: dict[str, tuple[str, Any, dict[str, Any]]] = {
        name: ("frame", da.concatenate([part.coords[name].data for part in parts]), {"long_name": long_name})
        for name, long_name in _LONG_NAMES.items()
    }
    stored = [_columns_shown(source) for source in sources]
    for name in dict.fromkeys(name for columns in stored for name in columns):
        columns = [part.coords.get(name) for part in parts]
        dtype = _joint_dtype(sources, [each.get(name) for each in stored], columns)
        coordinates[name] = ("frame", _join(columns, frames, dtype), {})
    which = [
        da.full(length, name, dtype=object, chunks=-1) for name, length in zip(names, frames, strict=True)
    ]
    coordinates["recording"] = ("frame", da.concatenate(which), {"long_name": "recording"})
    joined = da.concatenate([part.data for part in parts])
    first = parts[0]
    along = {name: first.coords[name].variable for name in first.dims if name in first.coords}
    coordinates |= {str(name): index for name, index in along.items()}
    return xr.DataArray(joined, dims=first.dims, name=first.name, attrs=first.attrs, coords=coordinates)


def _columns_shown(source: Source) -> dict[str, ColumnCommit]:
    """Attached columns by the names of their coordinates."""
    attached = (column for column in source.trials.columns if column.name not in KEYS)
    return {shown_name(column.name): column for column in attached}


def _joint_dtype(
    sources: Sequence[Source], stored: Sequence[ColumnCommit | None], columns: Sequence[xr.DataArray | None]
) -> np.dtype[Any]:
    """Data type that holds a column of several recordings, every value as it is in its own."""
    kinds = {column.kind for column in stored if column is not None}
    if kinds != {"int64"}:
        return np.dtype(np.float64 if kinds == {"float64"} else object)
    if all(column is not None and column.dtype == np.int64 for column in columns):
        return np.dtype(np.int64)
    shown = {
        exact_dtype(column_values(source, column.name), has_missing=True)
        for source, column in zip(sources, stored, strict=True)
        if column is not None
    }
    return np.dtype(object) if np.dtype(object) in shown else np.dtype(np.float64)


def _join(columns: Sequence[xr.DataArray | None], frames: Sequence[int], dtype: np.dtype[Any]) -> Any:
    """A coordinate of several recordings; where one lacks it, so many missing values."""
    missing = None if dtype.kind == "O" else np.nan
    return da.concatenate(
        [
            da.full(length, missing, dtype=dtype, chunks=-1)
            if column is None
            else column.data.map_blocks(Parcel(show_missing), dtype, dtype=dtype, meta=np.empty(0, dtype))
            for column, length in zip(columns, frames, strict=True)
        ]
    )


def _laid(source: Source) -> Laid:
    """How spikes lie in a lazy array: all stored neurons are read, of which some may be selected."""
    plan, stored = source.commit.plan, source.commit.along
    dimensions = neuron_dimensions(plan.neuron_shape)
    lengths: tuple[tuple[int, ...], ...] = tuple((length,) for length in plan.neuron_shape)
    if plan.parts > 1:
        slices = [plan.part_slice(part) for part in range(plan.parts)]
        lengths = (tuple((s.stop - s.start) // plan.row_neurons for s in slices), *lengths[1:])
    places = None
    if source.selection.neurons is not None:
        places = dict(zip(dimensions, stored_places(source), strict=True))
        stored = stored or tuple(map(range, plan.neuron_shape))
    along = zip(dimensions, stored, strict=True) if stored else ()
    return Laid(
        name="spikes",
        long_name=f"spikes of layer {source.layer}",
        dtype=np.dtype(np.bool_),
        task=read_spikes,
        block_frames=frames_in_block(plan),
        frames=source.commit.frames,
        dimensions=dimensions,
        lengths=lengths,
        coordinates={name: np.array(indices) for name, indices in along},
        kept=places,
    )


def _laid_values(source: Source) -> Laid:
    """How values lie in a lazy array: as spikes do."""
    dtype = np.dtype(source.commit.dtype.replace("bfloat16", "float32"))
    long_name = f"values of layer {source.layer}"
    return replace(_laid(source), name="values", long_name=long_name, dtype=dtype, task=read_values)


def _of_one(source: Source, columns: Mapping[str, ColumnCommit], laid: Laid) -> xr.DataArray:
    block_frames = laid.block_frames
    if laid.frames // block_frames > MAX_BLOCKS:
        raise QuestionError(
            f"layer {source.layer!r} has {laid.frames} frames of {laid.name}, too many for one lazy array; "
            "statistics of them can be asked for all the same"
        )
    chunks = tuple(kept_blocks(source, block_frames)[1].tolist())
    selection = source.selection if laid.kept is None else replace(source.selection, neurons=None)
    of_signal = [source.signal] if source.signal else []
    token = tokenize(source.identity, source.layer, selection.token(), *of_signal)

    def lazy(what: str, dtype: Any, task: Any, rest: tuple[tuple[int, ...], ...], **arguments: Any) -> Any:
        shape = (0,) * (1 + len(rest))
        if not chunks:
            return da.from_array(np.empty((0, *map(sum, rest)), dtype), chunks=-1)
        meta: NDArray[Any] = np.empty(shape, dtype)
        return da.map_blocks(
            Parcel(task),
            source=Parcel(replace(source, selection=selection)),
            block_frames=block_frames,
            chunks=(chunks, *rest),
            dtype=dtype,
            meta=meta,
            name=f"{what}-{token}",
            **arguments,
        )

    shown = xr.DataArray(
        lazy(laid.task.__name__ if source.signal else laid.name, laid.dtype, laid.task, laid.lengths),
        dims=("frame", *laid.dimensions),
        name=laid.name,
        attrs={"long_name": laid.long_name},
        coords=dict(laid.coordinates),
    )
    coordinates: dict[str, tuple[str, Any, dict[str, Any]]] = {}
    for name in COORDINATES:
        values = lazy(f"frame-{name}", np.int64, read_coordinate, (), coordinate=name)
        coordinates[name] = ("frame", values, {"long_name": _LONG_NAMES[name]})
    for name, column in columns.items():
        what = f"frame-column-{tokenize(column.name)}"
        values = lazy(what, column_dtype(source, column.name), read_column, (), column=column.name)
        coordinates[name] = ("frame", values, {})
    shown = shown.assign_coords(coordinates)
    return shown if laid.kept is None else shown.isel(laid.kept)


def frames_in_block(plan: ChunkPlan) -> int:
    """Frames in a block of the lazy array: whole chunks where they fit, a multiple of 64 in any case."""
    fitting = min(BLOCK_BYTES // plan.part_neurons, BLOCK_FRAMES)
    unit = plan.chunk_frames if fitting >= plan.chunk_frames else 64
    return max(fitting // unit, 1) * unit
