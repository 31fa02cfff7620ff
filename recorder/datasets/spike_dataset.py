"""The presentations of a recording as a dataset of torch, for probes, distillation and replays."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, get_worker_info

from recorder.datasets.presented_layer import ChunkCache, PresentedLayer, check_dtype
from recorder.format import RecordingFormatError
from recorder.format.columns import MISSING_INTEGER
from recorder.stores import StoreLike, open_store
from recorder.tape import TapeReader
from recorder.tape.layers.counts_reading import CountsReader

CACHE_BYTES: Final = 256 * 2**20

Integers = NDArray[np.int64]
Incomplete = Literal["error", "skip", "mask"]
Columns: TypeAlias = dict[str, Any]
Spikes: TypeAlias = torch.Tensor | dict[str, torch.Tensor]
Item: TypeAlias = tuple[Spikes, Columns]


class SpikeDataset(Dataset[Item]):
    """The presentations of a recording: one sample of one trial each, from its first step to its last.

    An item is ``(spikes, columns)``. ``spikes`` is a tensor ``[T, *neuron]`` of zeros and ones for each
    layer, by name; the tensor itself if ``layers`` is one name. ``columns`` holds what the table of trials
    has of the presentation: ``trial``, ``sample``, ``label`` and whatever else was attached, None where it is
    missing. All layers have the same T; presentations may have different ones, and `collate` makes batches of
    them.

    Any item can be had at any time. Chunks are decoded once and kept, packed, up to ``cache_bytes``: a
    recording that fits is read once, in any order. Of a larger one, random order reads a chunk for each
    presentation; shuffle trials, or shuffle within a buffer, to read less. It works in the workers of a
    `torch.utils.data.DataLoader`, forked and spawned; each has a cache of its own.

    Of a layer that was kept in part, ``*neuron`` are the neurons that were kept; trials and samples that were
    left out in one of the layers, by ``trials_every`` or ``samples``, are no items.

    Only committed frames are there, as of the moment at which the dataset was made.

    Parameters
    ----------
    path : str, path or Zarr store
        The recording; of a distributed run, one rank (`torch.utils.data.ConcatDataset` joins them).
    layers : str or sequence of str, optional
        Layers by name; all by default.
    dtype : torch.dtype or mapping
        Of the spikes, or values; of all layers, or by name, those left out being float32.
    incomplete : {"error", "skip", "mask"}
        What to do with presentations of which a layer lacks steps: frames that are marked lost, steps in
        which it was not called, or all of them. Raise, leave them out, or have zeros there and say where:
        ``columns`` then has ``recorded``, bool ``[T]`` for each layer (the tensor itself if ``layers`` is one
        name), for every presentation.
    cache_bytes : int
        Memory for decoded chunks of each process.
    storage_options : dict, optional
        Credentials, endpoint and so on, for a URL.

    Raises
    ------
    RecordingFormatError
        If the recording has no trials, or is damaged; `__getitem__` too.
    KeyError
        If there is no such layer.
    ValueError
        If presentations are incomplete and ``incomplete`` is ``"error"``, or a data type does not have the
        values of a layer, or only counts were kept of it.
    """

    def __init__(
        self,
        path: StoreLike,
        layers: str | Sequence[str] | None = None,
        *,
        dtype: torch.dtype | Mapping[str, torch.dtype] = torch.float32,
        incomplete: Incomplete = "error",
        cache_bytes: int = CACHE_BYTES,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        if incomplete not in ("error", "skip", "mask"):
            raise ValueError(f"incomplete is {incomplete!r}; expected 'error', 'skip' or 'mask'")
        store = open_store(path, read_only=True, storage_options=storage_options)
        reader = TapeReader.open(store)
        names = [*reader.layers] if layers is None else [layers] if isinstance(layers, str) else [*layers]
        for name in [*names, *(dtype if isinstance(dtype, Mapping) else ())]:
            if name not in reader.layers:
                raise KeyError(f"{store.location} has no layer {name!r}; it has {[*reader.layers]}")
        if not names:
            raise ValueError(f"layers is empty; expected some of {[*reader.layers]}, or None for all")
        given = dtype if isinstance(dtype, Mapping) else dict.fromkeys(names, dtype)
        self._single = layers if isinstance(layers, str) else None
        self._incomplete = incomplete
        self._columns = reader.trials()
        if not self._columns or len(self._columns["trial"]) == 0:
            raise RecordingFormatError(
                f"{store.location} has no trials, and so no presentations: record inside `with "
                "monitor.trial(label=y):`, or write_recording(..., labels=...)"
            )
        for name in names:
            layer = reader.layers[name]
            if isinstance(layer, CountsReader):
                raise layer.no_bits()
            check_dtype(layer, given.get(name, torch.float32))
        self._layers = {
            name: PresentedLayer(reader.layers[name], given.get(name, torch.float32)) for name in names
        }
        self._cache = ChunkCache(cache_bytes)
        self._first, self._steps = self._extents()
        self._rows = self._chosen(store.location)

    def _extents(self) -> tuple[Integers, Integers]:
        """First step, and number of steps, of each row of the table of trials, over all layers."""
        trial, sample = self._columns["trial"], self._columns["sample"]
        first = np.full(len(trial), np.iinfo(np.int64).max)
        last = np.zeros(len(trial), np.int64)
        for layer in self._layers.values():
            begin, end = layer.extents(trial, sample)
            np.minimum(first, begin, out=first)
            np.maximum(last, end, out=last)
        return first, np.maximum(last - first, 0)

    def _chosen(self, location: str) -> Integers:
        """Rows of the table of trials that are items."""
        trial, sample = self._columns["trial"], self._columns["sample"]
        is_kept = np.ones(len(trial), np.bool_)
        for layer in self._layers.values():
            is_kept &= layer.is_kept(trial, sample)
        is_whole = self._steps > 0
        for layer in self._layers.values():
            is_whole &= layer.kept_steps(trial, sample) == self._steps
        missing = np.flatnonzero(is_kept & ~is_whole)
        if self._incomplete == "mask" or len(missing) == 0:
            return np.flatnonzero(is_kept)
        if self._incomplete == "skip":
            return np.flatnonzero(is_kept & is_whole)
        row = int(missing[0])
        lacking = [
            name
            for name, layer in self._layers.items()
            if layer.kept_steps(trial[[row]], sample[[row]])[0] != self._steps[row] or self._steps[row] == 0
        ]
        raise ValueError(
            f"{location}: {len(missing)} of {len(trial)} presentations lack steps, as layers were not called "
            f"or frames are marked lost: the first is sample {sample[row]} of trial {trial[row]}, in layer "
            f"{lacking[0]!r}. incomplete='skip' leaves them out, incomplete='mask' has zeros there and says "
            "where"
        )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Item:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Item]:
        """Several items, as a `DataLoader` asks for them; read in the order in which they lie."""
        for index in indices:
            if not -len(self._rows) <= index < len(self._rows):
                raise IndexError(f"presentation {index} of {len(self)}")
        rows = self._rows[np.asarray(indices, np.int64)]
        lengths = self._steps[rows].tolist()
        # A batch at once, into which each item is written and of which it is a view.
        shape = max(lengths, default=0), len(rows)
        spikes = {name: _room((*shape, *layer.shape), layer.dtype) for name, layer in self._layers.items()}
        is_masked = self._incomplete == "mask"
        recorded = {name: torch.zeros(shape, dtype=torch.bool) for name in self._layers if is_masked}
        for places in self._runs(rows):
            steps, row = lengths[places.start], rows[places.start]
            key = int(self._columns["trial"][row]), int(self._columns["sample"][row]), int(self._first[row])
            for name, layer in self._layers.items():
                spikes[name][steps:, places] = 0
                is_read = layer.read(*key, spikes[name][:steps, places], self._cache)
                if is_masked:
                    recorded[name][:steps, places] = is_read
        columns = {name: [*map(_value, values[rows].tolist())] for name, values in self._columns.items()}
        if self._single is not None:
            return _Batch(spikes[self._single], columns, lengths, recorded.get(self._single))
        return _Batch(spikes, columns, lengths, recorded or None)

    def _runs(self, rows: Integers) -> list[slice]:
        """Places of neighbours of one trial and length, in the order in which they lie in the recording."""
        if len(rows) == 0:
            return []
        alike = np.stack([self._columns["trial"], self._columns["sample"] - np.arange(len(self._first))])
        alike = np.concatenate([alike[:, rows], [self._first[rows], self._steps[rows]]])
        is_next = (np.diff(rows) == 1) & (np.diff(alike, axis=1) == 0).all(axis=0)
        begins = np.flatnonzero(np.concatenate([[True], ~is_next]))
        ends = np.append(begins[1:], len(rows))
        order = np.argsort(rows[begins], kind="stable")
        return [slice(int(begins[at]), int(ends[at])) for at in order]

    def __repr__(self) -> str:
        layers = ", ".join(f"{name!r} {layer.shape}" for name, layer in self._layers.items())
        return f"<SpikeDataset of {len(self)} presentations: {layers}>"

    @staticmethod
    def collate(items: Sequence[Item]) -> tuple[Spikes, Columns]:
        """Make a batch of items, steps first, as SNN libraries take it: ``DataLoader(collate_fn=...)``.

        Parameters
        ----------
        items : sequence of items

        Returns
        -------
        spikes
            ``[T, N, *neuron]`` for each layer, with zeros behind the end of shorter presentations.
        columns : dict
            For each column a tensor ``[N]`` if all of its values are numbers of one type or booleans, else a
            list. ``steps`` has the T of each presentation, int64 ``[N]``; ``recorded`` is ``[T, N]``.
        """
        if isinstance(items, _Batch):
            return _each(_handed_over, items.spikes), items.joined_columns()
        columns = {name: [item[1][name] for item in items] for name in items[0][1]}
        recorded = _stacked(columns.pop("recorded")) if "recorded" in columns else None
        spikes = [item[0] for item in items]
        lengths = [len(next(iter(one.values())) if isinstance(one, dict) else one) for one in spikes]
        return _stacked(spikes), _joined_columns(columns, lengths, recorded)


class _Batch(Sequence[Item]):
    """Items that are views of a batch, ``[T, N, *neuron]``, made when they are asked for.

    `SpikeDataset.collate` takes the batch as it is.
    """

    def __init__(self, spikes: Spikes, columns: Columns, lengths: list[int], recorded: Spikes | None) -> None:
        self.spikes, self._columns, self._lengths, self._recorded = spikes, columns, lengths, recorded

    def joined_columns(self) -> Columns:
        """Columns of the batch, as `SpikeDataset.collate` returns them."""
        return _joined_columns(self._columns, self._lengths, self._recorded)

    def __len__(self) -> int:
        return len(self._lengths)

    @overload
    def __getitem__(self, place: int) -> Item: ...

    @overload
    def __getitem__(self, place: slice) -> list[Item]: ...

    def __getitem__(self, place: int | slice) -> Item | list[Item]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        length = self._lengths[place]
        columns = {name: values[place] for name, values in self._columns.items()}
        if self._recorded is not None:
            columns["recorded"] = _each(lambda batch: batch[:length, place], self._recorded)
        return _each(lambda batch: batch[:length, place], self.spikes), columns


class _Columns(dict[str, Any]):
    """Columns of a batch, which go to another process as bytes and arrive there as a plain dict.

    torch sends a tensor as an open file; to hand it over takes both processes 0.4 ms, for 32 numbers too.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _columns_of, ({name: _each(_as_array, column) for name, column in self.items()},)


def _columns_of(arrays: Columns) -> Columns:
    return {name: _each(_as_tensor, column) for name, column in arrays.items()}


def _as_array(column: Any) -> Any:
    return column.numpy() if isinstance(column, torch.Tensor) else column


def _as_tensor(column: Any) -> Any:
    return torch.from_numpy(column) if isinstance(column, np.ndarray) else column


def _joined_columns(columns: Columns, lengths: list[int], recorded: Spikes | None) -> _Columns:
    """Columns of a batch, as `SpikeDataset.collate` returns them, from the list of values of each."""
    joined = _Columns({name: _joined(values) for name, values in columns.items()})
    if recorded is not None:
        joined["recorded"] = recorded
    joined["steps"] = torch.tensor(lengths)
    return joined


def _each(change: Callable[[Any], Any], values: Any) -> Any:
    """What a function makes of each value of a dict by layers, or of the value of a single layer."""
    if isinstance(values, dict):
        return {name: change(one) for name, one in values.items()}
    return change(values)


def _room(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Fresh memory, of numpy: it asks for large pages, which the system clears in a fraction of the time."""
    if math.prod(shape) == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.from_numpy(np.empty(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)


def _handed_over(batch: torch.Tensor) -> torch.Tensor:
    """A batch as a worker hands it over: in memory that the process that loads maps, and need not copy.

    torch shares a tensor by itself where this cannot be done. It maps the memory before it copies, and the
    system then clears each page and is entered for it; to write to the file behind it takes half as long.
    """
    if get_worker_info() is None or batch.numel() == 0 or not hasattr(os, "memfd_create"):
        return batch
    with os.fdopen(os.memfd_create("spikes"), "wb") as file:
        file.write(batch.view(torch.uint8).numpy().data)
        file.flush()
        # As torch maps it in the process that loads.
        storages: Any = torch.UntypedStorage
        storage = storages._new_shared_fd_cpu(file.fileno(), batch.nbytes)  # noqa: SLF001
    shared: torch.Tensor = torch.empty(0, dtype=batch.dtype).set_(storage)
    return shared.view(batch.shape)


def _value(value: Any) -> Any:
    """A value of a column, as Python has it; None if it is missing."""
    if value == MISSING_INTEGER or (isinstance(value, float) and math.isnan(value)):
        return None
    return value


def _joined(values: list[Any]) -> Any:
    kinds = {*map(type, values)}
    return torch.tensor(values) if len(kinds) == 1 and kinds <= {bool, int, float} else values


def _stacked(items: Sequence[Spikes]) -> Spikes:
    """Tensors ``[T, ...]`` of different T, or dicts of them, as ``[T, N, ...]``."""
    tensors = [item for item in items if isinstance(item, torch.Tensor)]
    if not tensors:
        mappings = [item for item in items if isinstance(item, dict)]
        return {name: _padded([item[name] for item in mappings]) for name in mappings[0]}
    return _padded(tensors)


def _padded(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    first, longest = tensors[0], max(map(len, tensors))
    out = first.new_zeros(longest, len(tensors), *first.shape[1:])
    for place, tensor in enumerate(tensors):
        out[: len(tensor), place] = tensor
    return out
