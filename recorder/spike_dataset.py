"""The presentations of a recording as a dataset of torch, for probes, distillation and replays."""

from __future__ import annotations

import copy
import itertools
import math
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, get_worker_info

from recorder.format import RecordingFormatError
from recorder.format.bits import Packed, trains_to_rows
from recorder.format.columns import MISSING_INTEGER
from recorder.format.segments import Segments
from recorder.stores import StoreLike, open_store
from recorder.tape import LayerReader, TapeReader

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

    Only committed frames are there, as of the moment at which the dataset was made.

    Parameters
    ----------
    path : str, path or Zarr store
        The recording; of a distributed run, one rank (`torch.utils.data.ConcatDataset` joins them).
    layers : str or sequence of str, optional
        Layers by name; all by default.
    dtype : torch.dtype or mapping
        Of the spikes; of all layers, or by name, those left out being float32.
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
        If presentations are incomplete and ``incomplete`` is ``"error"``.
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
        given = dtype if isinstance(dtype, Mapping) else dict.fromkeys(names, dtype)
        self._single = layers if isinstance(layers, str) else None
        self._incomplete = incomplete
        self._columns = reader.trials()
        if not self._columns or len(self._columns["trial"]) == 0:
            raise RecordingFormatError(
                f"{store.location} has no trials, and so no presentations: record inside `with "
                "monitor.trial(label=y):`, or write_recording(..., labels=...)"
            )
        self._layers = {
            name: _PresentedLayer(reader.layers[name], given.get(name, torch.float32)) for name in names
        }
        self._cache = _ChunkCache(cache_bytes)
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
        is_whole = self._steps > 0
        for layer in self._layers.values():
            is_whole &= layer.kept_steps(trial, sample) == self._steps
        missing = np.flatnonzero(~is_whole)
        if self._incomplete == "mask" or len(missing) == 0:
            return np.arange(len(trial))
        if self._incomplete == "skip":
            return np.flatnonzero(is_whole)
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

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """Several items, as a `DataLoader` asks for them; read in the order in which they lie."""
        for index in indices:
            if not -len(self) <= index < len(self):
                raise IndexError(f"presentation {index} of {len(self)}")
        rows = self._rows[np.asarray(indices, np.int64)]
        lengths = self._steps[rows].tolist()
        # A batch at once, into which each item is written and of which it is a view.
        spikes = {
            name: _room((max(lengths, default=0), len(rows), *layer.shape), layer.dtype)
            for name, layer in self._layers.items()
        }
        items: list[Item | None] = [None] * len(rows)
        for place in np.argsort(rows, kind="stable").tolist():
            own = {name: batch[: lengths[place], place] for name, batch in spikes.items()}
            for batch in spikes.values():
                batch[lengths[place] :, place] = 0
            columns = self._read(int(rows[place]), own)
            items[place] = own if self._single is None else own[self._single], columns
        return _Batch(
            [item for item in items if item is not None],
            spikes if self._single is None else spikes[self._single],
        )

    def _read(self, row: int, spikes: Mapping[str, torch.Tensor]) -> Columns:
        """Read a presentation into tensors ``[T, *neuron]``; its columns."""
        columns: Columns = {name: _value(values[row]) for name, values in self._columns.items()}
        recorded = {
            name: layer.read(
                columns["trial"], columns["sample"], int(self._first[row]), spikes[name], self._cache
            )
            for name, layer in self._layers.items()
        }
        if self._incomplete == "mask":
            columns["recorded"] = recorded if self._single is None else recorded[self._single]
        return columns

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
        columns = [item[1] for item in items]
        joined: Columns = {
            name: _joined([one[name] for one in columns]) for name in columns[0] if name != "recorded"
        }
        if "recorded" in columns[0]:
            joined["recorded"] = _stacked([one["recorded"] for one in columns])
        spikes = [item[0] for item in items]
        lengths = [len(next(iter(one.values())) if isinstance(one, dict) else one) for one in spikes]
        joined["steps"] = torch.tensor(lengths)
        return items.spikes if isinstance(items, _Batch) else _stacked(spikes), joined


class _Batch(list[Item]):
    """Items whose spikes are views of a batch, ``[T, N, *neuron]``, that need not be made again."""

    def __init__(self, items: Sequence[Item], spikes: Spikes) -> None:
        super().__init__(items)
        self.spikes = spikes


class _PresentedLayer:
    """One layer, asked for presentations."""

    def __init__(self, reader: LayerReader, dtype: torch.dtype) -> None:
        self.reader, self.dtype = reader, dtype
        self.shape = reader.plan.neuron_shape
        self._stored, self._kept = (_by_trial(s) for s in (reader.segments(), reader.kept_segments()))
        self._kept_trials = np.ascontiguousarray(self._kept.trial)

    def extents(self, trial: Integers, sample: Integers) -> tuple[Integers, Integers]:
        """First step, and the one behind the last, of presentations, be they lost or not."""
        first = np.full(len(trial), np.iinfo(np.int64).max)
        last = np.zeros(len(trial), np.int64)
        for rows, segments in _matches(self._stored, trial, sample):
            np.minimum.at(first, rows, segments.first_step)
            np.maximum.at(last, rows, segments.last_step)
        return first, last

    def kept_steps(self, trial: Integers, sample: Integers) -> Integers:
        """Numbers of steps of presentations that are there."""
        steps = np.zeros(len(trial), np.int64)
        for rows, segments in _matches(self._kept, trial, sample):
            np.add.at(steps, rows, segments.steps)
        return steps

    def read(
        self, trial: int, sample: int, first: int, out: torch.Tensor, cache: _ChunkCache
    ) -> torch.Tensor:
        """Read spikes from step ``first`` on into ``out``, ``[steps, *neuron]``.

        Returns
        -------
        bool tensor, shape [steps]
            Which steps were recorded; others are zeros.
        """
        begin, end = np.searchsorted(self._kept_trials, [trial, trial + 1])
        out = out.view(len(out), self.reader.plan.neurons)
        recorded = torch.zeros(len(out), dtype=torch.bool)
        count = 0
        for first_frame, first_step, steps, batch, _ in self._kept.rows[begin:end].tolist():
            if batch > sample:
                place = slice(first_step - first, first_step - first + steps)
                self._read_frames(first_frame + sample + np.arange(steps) * batch, out[place], cache)
                recorded[place] = True
                count += steps
        if count < len(out):
            out[~recorded] = 0
        return recorded

    def _read_frames(self, frames: Integers, out: torch.Tensor, cache: _ChunkCache) -> None:
        """Read frames, in ascending order, into ``out``, ``[frames, neurons]``."""
        size = self.reader.plan.chunk_frames
        chunks = frames // size
        for begin, end in itertools.pairwise([0, *(np.flatnonzero(np.diff(chunks)) + 1), len(frames)]):
            chunk = int(chunks[begin])
            rows = cache.rows(self.reader, chunk)
            inside = frames[begin:end] - chunk * size
            bits = cache.scratch(len(inside), rows.shape[1])
            # All places are inside; what could raise would be buffered.
            rows.take(inside // 8, axis=0, out=bits, mode="clip")
            np.right_shift(bits, (7 - inside % 8).astype(np.uint8)[:, None], out=bits)
            np.bitwise_and(bits, 1, out=bits)
            out[begin:end] = torch.from_numpy(bits)


class _ChunkCache:
    """Decoded chunks, those that were used last; each process has its own."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._chunks: OrderedDict[tuple[str, int], Packed] = OrderedDict()
        self._readers: dict[str, LayerReader] = {}
        self._process = 0
        self._scratch = np.empty(0, np.uint8)

    def __reduce__(self) -> tuple[type[_ChunkCache], tuple[int]]:
        return _ChunkCache, (self._limit_bytes,)

    def scratch(self, frames: int, neurons: int) -> Packed:
        """Memory for a byte each slot, used again: the system has to clear fresh memory."""
        if self._scratch.size < frames * neurons:
            self._scratch = np.empty(frames * neurons, np.uint8)
        return self._scratch[: frames * neurons].reshape(frames, neurons)

    def rows(self, reader: LayerReader, chunk: int) -> Packed:
        """A chunk as rows of eight frames: uint8 [rows, neurons]."""
        key = reader.name, chunk
        found = self._chunks.get(key)
        if found is not None:
            self._chunks.move_to_end(key)
            return found
        if self._process != os.getpid():
            # Connections and open files of the store are not shared with the process that was forked.
            self._process, self._readers = os.getpid(), {}
        own = self._readers.get(reader.name)
        if own is None:
            own = self._readers[reader.name] = copy.deepcopy(reader)
        found = trains_to_rows(own.chunk(chunk))
        self._chunks[key] = found
        self._size_bytes += found.nbytes
        while self._size_bytes > self._limit_bytes and len(self._chunks) > 1:
            _, dropped = self._chunks.popitem(last=False)
            self._size_bytes -= dropped.nbytes
        return found


def _room(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Fresh memory for a batch; in a worker it is such that the process that loads need not copy it."""
    if get_worker_info() is None:
        size = math.prod(shape) * dtype.itemsize
        # Of numpy, which asks the system for large pages: it clears them in a fraction of the time.
        return torch.from_numpy(np.empty(size, np.uint8)).view(dtype).view(shape)
    # As torch's own default_collate does it.
    share: Any = torch.UntypedStorage._new_shared  # noqa: SLF001
    storage = share(math.prod(shape) * dtype.itemsize)
    room: torch.Tensor = torch.empty(0, dtype=dtype).set_(storage)
    return room.view(shape)


def _by_trial(segments: Segments) -> Segments:
    """Segments in trials, in the order of trials."""
    inside = segments.rows[segments.trial >= 0]
    return Segments(inside[np.argsort(inside[:, 4], kind="stable")])


def _matches(segments: Segments, trial: Integers, sample: Integers) -> list[tuple[Integers, Segments]]:
    """Pairs of rows of the table of trials, and of segments that these presentations are in.

    One pair for the first segment of each trial, one for the second, and so on, each of the same length.
    """
    pairs = []
    begin, end = (np.searchsorted(segments.trial, trial, side=side) for side in ("left", "right"))
    rows = np.arange(len(trial))
    while len(rows := rows[begin[rows] < end[rows]]):
        found = segments.rows[begin[rows]]
        has_sample = found[:, 3] > sample[rows]
        pairs.append((rows[has_sample], Segments(found[has_sample])))
        begin[rows] += 1
    return pairs


def _value(value: Any) -> Any:
    """A value of a column as Python has it; None if it is missing."""
    value = value.item() if isinstance(value, np.generic) else value
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
