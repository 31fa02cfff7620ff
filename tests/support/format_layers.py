"""Layers of a recording, their values, signals and fan-outs, for `format_reader`; from FORMAT.md alone."""

from __future__ import annotations

import base64
import hashlib
import math
from typing import Any

import numpy as np

from format_arrays import Array, Stored, crc32c, decoded, folder_of, sha256

SMALL = ("checksums", "counts", "counts_checksums")


def fan_out(value: Any, shape: tuple[int, ...]) -> Array:
    """The fan-out of each neuron of a layer, in whichever form it is stored ("Connections")."""
    if isinstance(value, int):
        return np.full(shape, value)
    if "stored" in value:
        return np.frombuffer(decoded(base64.b64decode(value["stored"])), "<u4").reshape(shape)
    found = np.full(shape, value["times"])
    assert len(value["along"]) == len(shape)
    for axis, factors in enumerate(value["along"]):
        if factors is not None:
            assert len(factors) == shape[axis]
            found *= np.reshape(factors, [-1 if axis == other else 1 for other in range(len(shape))])
    return found


def merged_segments(segments: Array) -> bytes:
    """Rows of segments as they are hashed: rows that one could stand for are one."""
    merged: list[list[int]] = []
    for row in segments.tolist():
        last = merged[-1] if merged else None
        if last and last[3:] == row[3:] and last[1] + last[2] == row[1]:
            last[2] += row[2]
        else:
            merged.append(row)
    return np.array(merged, "<i8").reshape(-1, 5).tobytes()


def round_to(values: Array, dtype: str) -> Array:
    """Numbers of a data type, as float32 if it is bfloat16, which numpy lacks."""
    if dtype != "bfloat16":
        return values.astype(np.dtype(dtype).newbyteorder("<"))
    bits = values.astype("<f4").view("<u4")
    # Half of what is cut off, or a little less where the last bit that stays is even.
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype("<u4").view("<f4")


class Frames:
    """What the arrays of spikes, of a plane and of a signal have in common: frames × neurons in chunks.

    ``flat`` is [frames, neurons], booleans or values, false or 0 where frames are lost. ``promise`` is what
    the record says of the array itself, and ``about`` of its frames; of a plane the latter is its layer's.
    """

    def __init__(
        self,
        reader: Stored,
        array: str,
        checksums: str,
        promise: Any,
        about: Any,
        shape: tuple[int, ...],
        dtype: str = "bool",
        first_chunk: int = 0,
    ) -> None:
        self._reader, self._array, self._promise, self.shape = reader, array, promise, shape
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._is_bits = dtype == "bool"
        self._count, self._size = about["frames"], about["chunk_frames"]
        rows = about["part_rows"]
        self._parts = -(-shape[0] // rows) if shape else 1
        self._part_neurons = rows * math.prod(shape[1:])
        self.is_lost = np.zeros(self._count, bool)
        for first, last in about.get("lost", []):
            self.is_lost[first:last] = True
        count, size = self._count, self._size
        self._chunks = -(-count // size)
        self._checksums = reader.committed(checksums, "<u4", promise["checksums"], (self._parts,))
        has_partial = reader.is_closed and count % size > 0
        assert len(self._checksums) == count // size + has_partial
        assert (self._checksums[:first_chunk] == 0).all()
        assert len(promise["tail"]) == (self._parts if count % size else 0)
        silence = np.zeros((size, math.prod(shape)), self._dtype)
        frames = [silence[:0]]
        for chunk in range(self._chunks):
            is_there = chunk >= first_chunk and not self.is_lost[chunk * size : (chunk + 1) * size].all()
            frames.append(self._chunk(chunk) if is_there else silence)
        self.stored = np.concatenate(frames)[:count]
        self.flat = np.where(self.is_lost[:, None], np.zeros((), self._dtype), self.stored)

    def _chunk(self, chunk: int) -> Array:
        found = np.concatenate([self._part(chunk, part) for part in range(self._parts)])
        return found.T if not self._is_bits else np.unpackbits(found, axis=1).T.astype(bool)

    def _part(self, chunk: int, part: int) -> Array:
        """Trains of the neurons of a part: bytes of packed bits, or values."""
        size, count = self._size, self._count
        place, grid, length = self._place(chunk, part)
        stored = self._reader.chunk(self._array, place, grid, length)
        is_full = (chunk + 1) * size <= count
        if is_full:
            assert int.from_bytes(stored[-4:], "little") == self._checksums[chunk, part]
        data = decoded(stored)
        assert len(data) == length
        trains = self._trains(data, chunk, part)
        if not is_full:
            is_promised = np.arange(size) < count - chunk * size
            trains = trains & np.packbits(is_promised) if self._is_bits else np.where(is_promised, trains, 0)
            encoded = trains.astype(trains.dtype.newbyteorder("<")).tobytes()
            assert crc32c(encoded) == self._promise["tail"][part]
        return trains

    def _place(self, chunk: int, part: int) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """Where a part is in the grid of chunks, this grid, and how many bytes it decompresses to."""
        axes, size = len(self.shape), self._size
        row_bytes = size // 8 if self._is_bits else size * self._dtype.itemsize
        place = (chunk, *[part, *[0] * axes][:axes])
        grid = (self._chunks, *[self._parts, *[1] * axes][:axes])
        return place, grid, self._is_bits + self._part_neurons * row_bytes

    def _trains(self, data: bytes, chunk: int, part: int) -> Array:
        assert not self._is_bits or data[0] == 0
        trains = np.frombuffer(data, np.uint8 if self._is_bits else self._dtype, offset=int(self._is_bits))
        return trains.reshape(self._part_neurons, -1)[: self._neurons(part).stop - self._neurons(part).start]

    def _neurons(self, part: int) -> slice:
        """The neurons of the layer that a part has."""
        first = part * self._part_neurons
        return slice(first, min(first + self._part_neurons, math.prod(self.shape)))

    def check_counts(self, counts: str, checksums: str, block_chunks: int) -> None:
        """Compare the counts of each block with its bits."""
        names = self._reader.committed(checksums, "<u4", self._promise["counts_checksums"])
        block, count = self._size * block_chunks, self._count
        is_partial = self._reader.is_closed and count % block > 0
        assert len(names) == count // block + is_partial
        for number, row in enumerate(self._reader.table(counts, "<u4", len(names), self.shape)):
            inside = slice(number * block, (number + 1) * block)
            if not self.is_lost[inside].any():
                assert crc32c(row.tobytes()) == names[number]
                assert (row.reshape(-1) == self.flat[inside].sum(0)).all()

    def hashed(self) -> str:
        """The SHA-256 of those of the leaves ("Digest")."""
        neurons = self.flat.shape[1]
        if self._is_bits:
            leaf = 64 * max(1, 4 * 2**20 * 8 // neurons // 64)
            padded = np.concatenate([self.flat, np.zeros((-self._count % 64, neurons), bool)])
        else:
            leaf, padded = max(1, 4 * 2**20 // (neurons * self._dtype.itemsize)), self.flat
        leaves = [padded[first : first + leaf].T for first in range(0, len(padded), leaf)]
        pieces = [np.packbits(each, axis=1) if self._is_bits else each for each in leaves]
        return sha256(b"".join(hashlib.sha256(each.tobytes()).digest() for each in pieces))


class Plane(Frames):
    """A plane, of which the bits at events are stored, frame by frame."""

    def __init__(self, events: Frames, *arguments: Any) -> None:
        self._events = events
        super().__init__(*arguments)

    def _place(self, chunk: int, part: int) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        return (chunk, part, 0), (self._chunks, self._parts, 1), self._part_neurons * self._size // 8

    def _trains(self, data: bytes, chunk: int, part: int) -> Array:
        size = self._size
        events = self._events.stored[chunk * size : (chunk + 1) * size, self._neurons(part)]
        bits = np.unpackbits(np.frombuffer(data, np.uint8)).astype(bool)
        plane = np.zeros((size, events.shape[1]), bool)
        plane[: len(events)][events] = bits[: events.sum()]
        # Behind a chunk that is finished there is nothing; another one may have grown since the commit.
        assert chunk >= len(self._checksums) or not bits[events.sum() :].any()
        return np.packbits(plane.T, axis=1)


def read_segments(reader: Stored, array: str, about: Any) -> Array:
    """The promised rows of the segments of a layer or a signal."""
    segments = reader.table(array, "<i8", about["segments"]["rows"], (5,)).copy()
    # The last promised row may have grown since.
    if len(segments):
        first, _, _, batch, _ = segments[-1].tolist()
        segments[-1, 2] = (about["frames"] - first) // batch
    assert crc32c(segments.astype("<i8").tobytes()) == about["segments"]["crc32c"]
    ends = np.cumsum([0, *(segments[:, 2] * segments[:, 3])])
    assert (segments[:, 0] == ends[:-1]).all()
    assert ends[-1] == about["frames"]
    return segments


def kept_neurons(about: Any) -> Array:
    """The flat indices, in C order, of the neurons that the arrays of a layer or a signal have."""
    indices = np.arange(math.prod(about["neuron_shape"])).reshape(about["neuron_shape"])
    neurons = about.get("neurons")
    if neurons is None:
        return indices
    is_flat = not isinstance(neurons[0], list)
    return indices.reshape(-1)[neurons] if is_flat else indices[tuple(slice(*n) for n in neurons)]


class LayerFrames:
    """A layer: ``frames`` is bool [frames, *neuron], ``values`` what it put out; silent where it is lost.

    Of a layer of counts both are empty, and ``counts`` has a row for each sample of each segment, 0 where it
    is lost; otherwise it is None.

    ``neurons`` has the flat indices, in the whole layer, of the neurons that are kept.
    """

    def __init__(self, reader: Stored, layer: Any) -> None:
        self.about, self.name = layer, layer["name"]
        self.neurons = kept_neurons(layer)
        self.shape = self.neurons.shape
        self.folder = folder_of(self.name, apart="folder" in layer)
        assert layer.get("folder", self.folder) == self.folder
        self.lost = [tuple(frames) for frames in layer.get("lost", [])]
        array = f"layers/{self.folder}"
        self.segments = read_segments(reader, f"{array}/segments", layer)
        trials, batches = self.segments[:, 4], self.segments[:, 3]
        assert (trials[trials >= 0] % layer.get("trials_every", 1) == 0).all()
        assert (batches <= layer.get("samples", batches.max(initial=0))).all()
        self.dtype = layer["dtype"]
        self.signals = {about["name"]: Signal(reader, array, about) for about in layer.get("signals", [])}
        self.about_values = layer.get("values")
        self.counts = None
        if layer.get("keep") == "counts":
            assert not {"chunk_frames", "part_rows", "block_chunks", "checksums", "tail", "values"} & {*layer}
            self.counts = self._read_counts(reader, array)
            self.frames = self.values = np.zeros((0, *self.shape), bool)
            return

        block_chunks = layer["block_chunks"]
        small = [f"{array}/{table}" for table in SMALL]
        self._spikes = Frames(reader, f"{array}/spikes", small[0], layer, layer, self.shape)
        self._spikes.check_counts(small[1], small[2], block_chunks)

        def read(plane: Any) -> Frames:
            name, first_chunk = plane["name"], plane["first_chunk"]
            small = [f"{array}/plane_{table}/{name}" for table in SMALL]
            stored = reader, f"{array}/planes/{name}", small[0], plane, layer, self.shape, "bool", first_chunk
            found = Plane(self._spikes, *stored)
            found.check_counts(small[1], small[2], block_chunks)
            return found

        self.frames = self._spikes.flat.reshape(-1, *self.shape)
        values = self.about_values or {"scale": 1.0, "range": [0, 1], "planes": []}
        self._scale = float(values["scale"])
        self.planes = {plane["name"]: read(plane) for plane in values["planes"]}
        assert [*self.planes] == [*filter(self.planes.__contains__, [*map(str, range(15)), "sign"])]
        magnitude = sum((bits.flat << int(name) for name, bits in self.planes.items() if name != "sign"), 1)
        sign = 1 - 2 * self.planes["sign"].flat.astype(int) if "sign" in self.planes else 1
        levels = self._spikes.flat * magnitude * sign
        least, most = values["range"]
        assert ((least <= levels) & (levels <= most)).all()
        self.values = round_to(levels * np.float64(self._scale), self.dtype).reshape(self.frames.shape)

    def _read_counts(self, reader: Stored, array: str) -> Array:
        """Counts of each sample of each segment ("Parts"), uint32 [rows, *neuron]."""
        names = reader.committed(f"{array}/counts_checksums", "<u4", self.about["counts_checksums"])
        batches = self.segments[:, 3]
        assert len(names) == batches.sum()
        firsts, ends = self.segments[:, 0], self.segments[:, 0] + self.segments[:, 2] * batches
        is_lost = np.zeros(len(batches), bool)
        for first, last in self.lost:
            assert first in firsts
            assert last in ends
            is_lost |= (first <= firsts) & (firsts < last)
        lost_rows = np.repeat(is_lost, batches)
        counts = np.zeros((len(names), *self.shape), "<u4")
        if not lost_rows.all():
            counts = reader.table(f"{array}/counts", "<u4", len(names), self.shape).copy()
        counts[lost_rows] = 0
        for row, name in zip(counts[~lost_rows], names[~lost_rows], strict=True):
            assert crc32c(row.tobytes()) == name
        return counts

    def _hashed_counts(self) -> str:
        """The SHA-256 of those of the leaves of counts ("Digest")."""
        assert self.counts is not None
        leaves: list[Array] = []
        last, first_row = None, 0
        for _, first_step, steps, *batch_and_trial in self.segments.tolist():
            rows = self.counts[first_row : first_row + batch_and_trial[0]].astype("<u8")
            first_row += len(rows)
            if leaves and last == (first_step, *batch_and_trial):
                leaves[-1] = leaves[-1] + rows
            else:
                leaves.append(rows)
            last = first_step + steps, *batch_and_trial
        return sha256(b"".join(hashlib.sha256(leaf.tobytes()).digest() for leaf in leaves))

    def hashed(self) -> dict[str, Any]:
        """What of this layer enters the digest."""
        of_bits: dict[str, Any] = {}
        if self.counts is not None:
            of_bits["counts"] = self._hashed_counts()
        else:
            of_bits["spikes"] = self._spikes.hashed()
            planes = {name: bits.hashed() for name, bits in self.planes.items() if bits.flat.any()}
            if planes or self._scale != 1:
                of_bits["values"] = {"scale": self._scale, "planes": planes}
        return {
            "name": self.name,
            **{field: self.about[field] for field in ("neuron_shape", "neurons") if field in self.about},
            "frames": self.about["frames"],
            "segments": sha256(merged_segments(self.segments)),
            **of_bits,
            **({"lost": [[*frames] for frames in self.lost]} if self.lost else {}),
            **({"signals": [one.hashed() for one in self.signals.values()]} if self.signals else {}),
        }


class Series:
    """Values in frames of their own: ``values`` is [frames, *kept neuron], 0 where they are lost."""

    def __init__(self, reader: Stored, array: str, about: Any) -> None:
        self.about = about
        self.lost = [tuple(frames) for frames in about.get("lost", [])]
        self.neurons = indices = kept_neurons(about)
        self.segments = read_segments(reader, f"{array}/segments", about)
        steps, batches = self.segments[:, 1:3], self.segments[:, 3]
        every = about["every"]
        assert (steps[:, 0] % every == 0).all()
        assert every == 1 or (steps[:, 1] == 1).all()
        assert (batches <= about.get("samples", batches.max(initial=0))).all()
        arrays = f"{array}/values", f"{array}/checksums"
        self._frames = Frames(reader, *arrays, about, about, indices.shape, about["dtype"])
        self.values = self._frames.flat.reshape(-1, *indices.shape)

    def hashed_as(self, *fields: str) -> dict[str, Any]:
        """What of it enters the digest, these fields of the record among it."""
        about = self.about
        return {
            **{field: about[field] for field in (*fields, "frames")},
            "segments": sha256(merged_segments(self.segments)),
            "values": self._frames.hashed(),
            **{field: about[field] for field in ("neurons", "lost") if field in about},
        }


class Signal(Series):
    """A signal of a layer."""

    def __init__(self, reader: Stored, layer: str, about: Any) -> None:
        self.name = about["name"]
        self.folder = folder_of(self.name, apart="folder" in about)
        assert about.get("folder", self.folder) == self.folder
        super().__init__(reader, f"{layer}/signals/{self.folder}", about)

    def hashed(self) -> dict[str, Any]:
        """What of this signal enters the digest."""
        return self.hashed_as("name", "dtype", "neuron_shape")


class Operations(Series):
    """Operations that were counted."""

    def __init__(self, reader: Stored, about: Any) -> None:
        assert about["neuron_shape"] == [len(about["weight_layers"]), 6]
        assert {*about["uncounted"]} <= {*about["weight_layers"]}
        super().__init__(reader, "operations", {**about, "dtype": "int64", "every": 1})

    def hashed(self) -> dict[str, Any]:
        """What of them enters the digest."""
        return {**self.hashed_as("weight_layers"), "uncounted": sorted(self.about["uncounted"])}
