"""A reader of recordings that was written from FORMAT.md alone, with nothing of ours.

It needs the standard library, numpy, and bindings of zstd and crc32c. It reads whole recordings, and checks
whatever the commit record promises; what does not fit raises AssertionError.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

Array = NDArray[Any]

MISSING = -(2**63)


def crc32c(data: bytes) -> int:
    return int(google_crc32c.value(data))


def as_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def folder_of(name: str, *, apart: bool = False) -> str:
    """The name of a folder in keys ("Keys")."""
    kept = rb"[^0-9._-]" if apart else rb"[^A-Za-z0-9._-]"
    text = re.sub(kept, lambda found: b"=%02X" % found[0][0], name.encode()).decode()
    if text == "":
        return "="
    if text.startswith("__") or set(text) == {"."}:
        text = f"={ord(text[0]):02X}{text[1:]}"
    return text if len(text) <= 200 else f"{text[:167]}={sha256(name.encode())[:32]}"


class Keys:
    """Bytes by key, of a folder or an archive."""

    def __init__(self, path: Path) -> None:
        self._folder = path
        self._archive = zipfile.ZipFile(path) if path.suffix == ".zip" else None

    def get(self, key: str) -> bytes:
        if self._archive is None:
            return (self._folder / key).read_bytes()
        assert self._archive.getinfo(key).compress_type == zipfile.ZIP_STORED
        return self._archive.read(key)


class FormatReader:
    """A whole recording: ``record`` is its commit record, ``layers`` and ``columns`` what it holds."""

    def __init__(self, path: Path) -> None:
        self._keys = Keys(path)
        self.record = json.loads(self._keys.get("zarr.json"))["attributes"]["spiketape"]
        rest = {name: value for name, value in self.record.items() if name != "crc32c"}
        assert crc32c(as_json(rest)) == self.record["crc32c"]
        assert self.record["format_version"] in (1, 2, 3)
        self.shard_bytes = self.record.get("shard_bytes")
        self.layers = {layer["name"]: LayerFrames(self, layer) for layer in self.record["layers"]}
        self.columns = {column["name"]: self._column(column) for column in self.record["trials"]["columns"]}
        if self.shard_bytes:
            assert self.record["digest"] == self.digest()

    # -- stored chunks -----------------------------------------------------------------------------------

    def chunk(self, array: str, place: tuple[int, ...], grid: tuple[int, ...], decoded_bytes: int) -> bytes:
        """A stored chunk, by its place in the grid of chunks; alone, or out of a shard."""
        if not self.shard_bytes:
            return self._keys.get(f"{array}/c/" + "/".join(map(str, place)))
        others = math.prod(grid[1:])
        fitting = self.shard_bytes // (decoded_bytes * others)
        rows = max(1, min(fitting, 4096 // others, grid[0]))
        shard = self._keys.get(f"{array}/c/" + "/".join(map(str, [place[0] // rows, *[0] * len(place[1:])])))
        size = rows * others * 16
        index = shard[-size - 4 : -4]
        assert crc32c(index) == int.from_bytes(shard[-4:], "little")
        slot = int(np.ravel_multi_index((place[0] % rows, *place[1:]), (rows, *grid[1:])))
        offset, length = np.frombuffer(index, "<u8").reshape(-1, 2)[slot].tolist()
        assert offset != 2**64 - 1, "the chunk is not there"
        return shard[offset : offset + length]

    @staticmethod
    def decoded(stored: bytes) -> bytes:
        """What a stored chunk, a zstd frame and its crc32c, decompresses to."""
        assert crc32c(stored[:-4]) == int.from_bytes(stored[-4:], "little")
        return bytes(Zstd().decode(stored[:-4]))

    def table(self, array: str, dtype: str, rows: int, row: tuple[int, ...] = (), most: int = 4096) -> Array:
        """The first rows of a small array."""
        size = math.prod(row) * np.dtype(dtype).itemsize
        height = min(max(2**20 // size, 1), most)
        grid = (-(-rows // height), *[1] * len(row))
        chunks = [np.empty((0, *row), dtype)]
        for number in range(grid[0]):
            stored = self.chunk(array, (number, *[0] * len(row)), grid, height * size)
            chunks.append(np.frombuffer(self.decoded(stored), dtype).reshape(-1, *row))
            assert len(chunks[-1]) == height
        return np.concatenate(chunks)[:rows]

    def committed(self, array: str, dtype: str, promise: Any, row: tuple[int, ...] = ()) -> Array:
        """The rows of a small array that the commit promises."""
        rows = self.table(array, dtype, promise["rows"], row)
        assert crc32c(rows.tobytes()) == promise["crc32c"]
        return rows

    # -- trials -------------------------------------------------------------------------------------------

    def _column(self, column: Any) -> list[Any]:
        """Values of a column of the trials; None where they are missing."""
        rows, name = self.record["trials"]["rows"], column["name"]
        dtype = "<f8" if column["kind"] == "float64" else "<i8"
        array = f"trials/{folder_of(name)}"
        stored = self.committed(array, dtype, {"rows": rows, "crc32c": column["crc32c"]})
        if column["kind"] == "float64":
            return [None if math.isnan(value) else value for value in stored.tolist()]
        if column["kind"] == "int64":
            assert column["categories"] == []
            return [None if value == MISSING else value for value in stored.tolist()]
        categories = column["categories"]
        if isinstance(categories, dict):
            data = self.table(f"categories/{folder_of(name)}", "u1", categories["rows"], most=2**18).tobytes()
            assert crc32c(data) == categories["crc32c"]
            lines = data.decode().split("\n")
            assert lines.pop() == ""
            assert len(lines) == categories["count"]
            categories = [json.loads(line) for line in lines]
        return [None if place == -1 else categories[place] for place in stored.tolist()]

    # -- digest -------------------------------------------------------------------------------------------

    def digest(self) -> str:
        trials = self.record["trials"]
        kinds = {column["name"]: column["kind"] for column in trials["columns"]}
        columns = {name: self._hashed(kinds[name], values) for name, values in self.columns.items()}
        layers = [layer.hashed() for layer in self.layers.values()]
        found = {
            "spiketape_digest": 1,
            "layers": layers,
            "trials": {"trials": trials["trials"], "rows": trials["rows"], "columns": columns},
        }
        return sha256(as_json(found))

    @staticmethod
    def _hashed(kind: str, values: list[Any]) -> dict[str, str]:
        if kind == "category":
            data = as_json([value + 0.0 if isinstance(value, float) else value for value in values])
        elif kind == "int64":
            data = np.array([MISSING if value is None else value for value in values], "<i8").tobytes()
        else:
            present = np.array([0.0 if value is None else value + 0.0 for value in values], "<f8")
            bits = present.view("<u8").copy()
            bits[[value is None for value in values]] = 0x7FF8000000000000
            data = bits.tobytes()
        return {"kind": kind, "values": sha256(data)}


class LayerFrames:
    """The frames of a layer: ``frames`` is bool [frames, *neuron], silent where they are lost."""

    def __init__(self, reader: FormatReader, layer: Any) -> None:
        self._reader, self._layer = reader, layer
        self.name = layer["name"]
        self.shape = tuple(layer["neuron_shape"])
        self.folder = folder_of(self.name, apart="folder" in layer)
        assert layer.get("folder", self.folder) == self.folder
        self._array = f"layers/{self.folder}"
        count, size = layer["frames"], layer["chunk_frames"]
        rows = layer["part_rows"]
        self._parts = -(-self.shape[0] // rows) if self.shape else 1
        self._part_neurons = rows * math.prod(self.shape[1:])
        self.lost = [tuple(frames) for frames in layer.get("lost", [])]
        self.segments = self._read_segments(count)
        is_lost = np.zeros(count, bool)
        for first, last in self.lost:
            is_lost[first:last] = True
        chunks = -(-count // size)
        checksums = reader.committed(f"{self._array}/checksums", "<u4", layer["checksums"], (self._parts,))
        has_partial = reader.record["state"] == "closed" and count % size > 0
        assert len(checksums) == count // size + has_partial
        assert len(layer["tail"]) == (self._parts if count % size else 0)
        frames = [np.empty((0, math.prod(self.shape)), bool)]
        for chunk in range(chunks):
            if is_lost[chunk * size : (chunk + 1) * size].all():
                frames.append(np.zeros((size, math.prod(self.shape)), bool))
                continue
            parts = [self._part(chunk, part, chunks, checksums) for part in range(self._parts)]
            frames.append(np.unpackbits(np.concatenate(parts), axis=1).T.astype(bool))
        self._flat = np.concatenate(frames)[:count]
        self._flat[is_lost] = False
        self.frames = self._flat.reshape(count, *self.shape)
        self._check_counts(is_lost)

    def _read_segments(self, count: int) -> Array:
        segments = self._reader.table(
            f"{self._array}/segments", "<i8", self._layer["segments"]["rows"], (5,)
        ).copy()
        # The last promised row may have grown since.
        if len(segments):
            first, _, _, batch, _ = segments[-1].tolist()
            segments[-1, 2] = (count - first) // batch
        assert crc32c(segments.astype("<i8").tobytes()) == self._layer["segments"]["crc32c"]
        assert (segments[:, 0] == np.cumsum([0, *(segments[:, 2] * segments[:, 3])])[:-1]).all()
        return segments

    def _part(self, chunk: int, part: int, chunks: int, checksums: Array) -> Array:
        size, count = self._layer["chunk_frames"], self._layer["frames"]
        axes = len(self.shape)
        place = (chunk, *[part, *[0] * axes][:axes])
        grid = (chunks, *[self._parts, *[1] * axes][:axes])
        decoded_bytes = 1 + self._part_neurons * size // 8
        stored = self._reader.chunk(f"{self._array}/spikes", place, grid, decoded_bytes)
        is_full = (chunk + 1) * size <= count
        if is_full:
            assert int.from_bytes(stored[-4:], "little") == checksums[chunk, part]
        data = self._reader.decoded(stored)
        assert data[0] == 0
        trains = np.frombuffer(data, np.uint8, offset=1).reshape(self._part_neurons, size // 8)
        neurons = math.prod(self.shape)
        trains = trains[: min(self._part_neurons, neurons - part * self._part_neurons)]
        if not is_full:
            mask = np.packbits(np.arange(size) < count - chunk * size)
            trains = trains & mask
            assert crc32c(trains.tobytes()) == self._layer["tail"][part]
        return trains

    def _check_counts(self, is_lost: Array) -> None:
        names = self._reader.committed(
            f"{self._array}/counts_checksums", "<u4", self._layer["counts_checksums"]
        )
        counts = self._reader.table(f"{self._array}/counts", "<u4", len(names), self.shape)
        block = self._layer["chunk_frames"] * self._layer["block_chunks"]
        is_partial = self._reader.record["state"] == "closed" and len(self._flat) % block > 0
        assert len(names) == len(self._flat) // block + is_partial
        for number, row in enumerate(counts):
            inside = slice(number * block, (number + 1) * block)
            if not is_lost[inside].any():
                assert crc32c(row.tobytes()) == names[number]
                assert (row.reshape(-1) == self._flat[inside].sum(0)).all()

    def hashed(self) -> dict[str, Any]:
        """What of this layer enters the digest."""
        merged: list[list[int]] = []
        for row in self.segments.tolist():
            last = merged[-1] if merged else None
            if last and last[3:] == row[3:] and last[1] + last[2] == row[1]:
                last[2] += row[2]
            else:
                merged.append(row)
        count, neurons = self._flat.shape
        leaf = 64 * max(1, 4 * 2**20 * 8 // neurons // 64)
        padded = np.concatenate([self._flat, np.zeros((-count % 64, neurons), bool)])
        leaves = b"".join(
            hashlib.sha256(np.packbits(padded[first : first + leaf].T, axis=1).tobytes()).digest()
            for first in range(0, len(padded), leaf)
        )
        return {
            "name": self.name,
            "neuron_shape": [*self.shape],
            "frames": count,
            "segments": sha256(np.array(merged, "<i8").reshape(-1, 5).tobytes()),
            "spikes": sha256(leaves),
            **({"lost": [[*frames] for frames in self.lost]} if self.lost else {}),
        }
